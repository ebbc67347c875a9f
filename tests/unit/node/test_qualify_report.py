"""The report in its three forms."""

from __future__ import annotations

import dataclasses
import json
from xml.etree import ElementTree as ET

import pytest

from appliance.node.probe import Attempt, OutboundProbe
from appliance.node.report import Item, Provenance, QualificationReport
from appliance.node.report_junit import render_junit
from appliance.node.report_table import inbound_rows, outbound_rows
from appliance.node.report_text import WIDTH, render_text

KEPT = Item("network.no-route-out", "No route leads off the wire", "passed", "none", "none", seconds=0.5)
BROKEN = Item("firewall.out", "No rule lets anything out", "failed", "policy ACCEPT\nrule 2", "DROP")
NOT_RUN = Item("inbound.ssh-elsewhere", "SSH is silent", "not-run", "", "no answer", reason="no address")


def attempt(
    target: str, who: str, outcome: str, *, port: int = 40000, arrived: bool | None = False
) -> Attempt:
    return Attempt(target, "udp", "10.77.1.1", port, who, outcome, "", 1, arrived)  # type: ignore[arg-type]


def probe(*attempts: Attempt, inbound: tuple[Attempt, ...] = ()) -> OutboundProbe:
    return OutboundProbe("2030-01-01T00:00:00Z", (), attempts, (), inbound, {"root": ""})


SIGNED = f"trust/SHA384SUMS, sha384 {'1f' * 48}"
BEFORE = probe(
    attempt("listener", "root", "reached", port=1), inbound=(attempt("own", "station 10.0.0.1", "reached"),)
)
AFTER = probe(
    attempt("listener", "root", "denied", port=2),
    attempt("listener", "user", "denied", port=2),
    inbound=(attempt("own", "station 10.0.0.1", "silent"),),
)


def report(*items: Item) -> QualificationReport:
    return QualificationReport(
        node="gpu-01",
        site="example-hospital",
        product="demo",
        version="1.0.0",
        sequence=3,
        digest="ab" * 32,
        toolkit="appliance 0.1.0",
        started="2030-01-01T00:00:00Z",
        finished="2030-01-01T00:00:04Z",
        seconds=4.0,
        items=items,
        before=BEFORE,
        after=AFTER,
        provenance=Provenance(("alice", "bob"), 2, "cd" * 32, solo=False, signed=SIGNED),
        ruleset="ef" * 32,
    )


@pytest.mark.parametrize(
    ("items", "verdict", "summary"),
    [
        ((KEPT,), "passed", "1 passed, 0 failed, 0 not run"),
        ((KEPT, NOT_RUN), "passed", "1 passed, 0 failed, 1 not run"),
        ((KEPT, BROKEN), "failed", "1 passed, 1 failed, 0 not run"),
        ((NOT_RUN,), "failed", "0 passed, 0 failed, 1 not run"),
        ((), "failed", "0 passed, 0 failed, 0 not run"),
    ],
)
def test_only_what_was_proven_counts(items: tuple[Item, ...], verdict: str, summary: str) -> None:
    assert report(*items).verdict == verdict
    assert report(*items).summary == summary


def test_the_text_begins_with_the_verdict_and_who_vouches() -> None:
    text = render_text(report(KEPT, BROKEN, NOT_RUN))
    head = text.partition("BROKEN PROMISES")[0]
    for words in (
        "gpu-01",
        "FAILED",
        "example-hospital",
        "demo 1.0.0, sequence 3",
        "ab" * 32,
        "alice, bob",
    ):
        assert words in head
    assert "cd" * 32 in head
    assert "".join(SIGNED.split()) in "".join(head.split())
    assert "one person" not in head
    assert max(map(len, text.splitlines())) <= WIDTH


def test_what_is_broken_and_what_was_not_run_comes_first_with_reasons() -> None:
    text = render_text(report(KEPT, BROKEN, NOT_RUN))
    broken, _, rest = text.partition("BROKEN PROMISES")[2].partition("NOT RUN (and therefore not proven)")
    assert "firewall.out" in broken
    assert "found:   policy ACCEPT\n                 rule 2" in broken
    assert "wanted:  DROP" in broken
    assert "network.no-route-out" not in broken
    assert "not run: no address" in rest.partition("THE WAY OUT")[0]


def test_a_report_without_trouble_has_no_such_headings() -> None:
    text = render_text(report(KEPT))
    assert "BROKEN" not in text
    assert "NOT RUN" not in text
    assert text.splitlines()[0].endswith("PASSED")


def test_a_root_of_one_person_is_said_to_be_one() -> None:
    solo = dataclasses.replace(
        report(KEPT), provenance=Provenance(("eve",), 1, "cd" * 32, solo=True, signed=SIGNED)
    )
    assert "one person holds every key" in render_text(solo)


def test_before_and_after_stand_side_by_side_though_the_ports_differ() -> None:
    (row,) = outbound_rows(BEFORE, AFTER)
    assert row.label == "UDP to 10.77.1.1, a listener of the station"
    assert row.cells == ("REACHED", "denied", "denied", "-")
    (row,) = inbound_rows(BEFORE, AFTER)
    assert row.cells == ("reached", "no answer")
    assert "REACHED  denied" in render_text(report(KEPT))


def test_without_a_record_from_before_its_column_is_not_shown() -> None:
    text = render_text(dataclasses.replace(report(KEPT), before=None))
    assert "before: not measured" in text
    assert "REACHED" not in text


def test_the_worst_of_several_attempts_is_shown() -> None:
    (row,) = outbound_rows(
        None,
        probe(attempt("listener", "root", "denied"), attempt("listener", "root", "sent", arrived=True)),
    )
    assert row.cells[1] == "LEFT THE NODE, ARRIVED"
    (row,) = inbound_rows(
        None, probe(inbound=(attempt("own", "station 10.0.0.1", "silent", arrived=True),))
    )
    assert row.cells[1] == "GOT IN"


def test_json_has_everything() -> None:
    values = json.loads(json.dumps(report(KEPT, BROKEN).as_dict()))
    assert values["format"] == 1
    assert values["verdict"] == "failed"
    assert values["counts"] == {"passed": 1, "failed": 1, "not-run": 0}
    assert values["items"][1]["found"] == "policy ACCEPT\nrule 2"
    assert OutboundProbe.from_dict(values["after"]) == AFTER


def test_junit_has_a_case_per_item() -> None:
    suite = ET.fromstring(render_junit(report(KEPT, BROKEN, NOT_RUN)).encode())  # noqa: S314 - our own
    assert (suite.get("tests"), suite.get("failures"), suite.get("skipped")) == ("3", "1", "1")
    cases = {case.get("name"): case for case in suite.iter("testcase")}
    assert cases["network.no-route-out"].find("failure") is None
    assert "policy ACCEPT" in (cases["firewall.out"].find("failure").text or "")  # type: ignore[union-attr]
    assert cases["inbound.ssh-elsewhere"].find("skipped").get("message") == "no address"  # type: ignore[union-attr]
    properties = {each.get("name"): each.get("value") for each in suite.iter("property")}
    assert properties["digest"] == "ab" * 32


@pytest.fixture
def hostile() -> QualificationReport:
    """A compromised node chooses what it answers."""
    return report(dataclasses.replace(BROKEN, found="\x00\x1b[2J\x9b\ud800 ]]> <failure/>"))


def test_the_text_carries_no_control_character_to_a_terminal(hostile: QualificationReport) -> None:
    text = render_text(hostile)
    assert all(each.isprintable() or each == "\n" for each in text)
    assert "[2J" in text


def test_junit_survives_what_xml_cannot_carry(hostile: QualificationReport) -> None:
    suite = ET.fromstring(render_junit(hostile).encode())  # noqa: S314 - our own
    assert len(list(suite.iter("failure"))) == 1


def test_the_report_says_which_controls_a_promise_serves_and_whose_they_are() -> None:
    serving = dataclasses.replace(KEPT, controls=("CM-7", "SC-7"))
    one = dataclasses.replace(report(serving, NOT_RUN), catalogue="NIST SP 800-53 Rev. 5")
    text = render_text(one)
    assert "Controls   what a promise serves is named as in NIST SP 800-53 Rev. 5" in text
    assert text.count("        serves:  CM-7, SC-7\n") == 1
    assert text.count("serves:") == 1
    values = json.loads(json.dumps(one.as_dict()))
    assert (values["catalogue"], values["items"][0]["controls"]) == (
        "NIST SP 800-53 Rev. 5",
        ["CM-7", "SC-7"],
    )
