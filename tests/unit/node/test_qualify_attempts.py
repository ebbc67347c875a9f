"""What was tried, judged: start from a node that keeps everything in, let one thing out."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

import pytest

from appliance.node.probe import Attempt, Endpoint, NameLookup, OutboundProbe
from appliance.node.qualification import escapes

if TYPE_CHECKING:
    from appliance.node.qualification.finding import Finding

STATION = {"v4": "10.77.1.1", "v6": "fd77:1::1"}
OWN = {"v4": "10.77.1.11", "v6": "fd77:1::11"}
FOREIGN = "10.77.1.200"


def attempt(target: str, protocol: str, address: str, port: int, who: str, **changed: Any) -> Attempt:
    values: dict[str, Any] = {"outcome": "denied", "detail": "EPERM", "milliseconds": 1, "arrived": False}
    return Attempt(target, protocol, address, port, who, **(values | changed))  # type: ignore[arg-type]


def qualified() -> OutboundProbe:
    """A probe of a node that keeps every promise."""
    attempts = []
    for who in ("root", "user", "unit"):
        for address in STATION.values():
            attempts += [
                attempt("listener", "tcp", address, 40000, who, outcome="silent", detail=""),
                attempt("listener", "udp", address, 40001, who),
                attempt("listener", "icmp", address, 0, who),
                attempt("dns", "udp", address, 53, who),
            ]
        attempts += [
            attempt("elsewhere", "udp", "198.51.100.1", 53, who, outcome="no-route", arrived=None),
            attempt("wire", "udp", "224.0.0.251", 5353, who, arrived=None),
        ]
        for address in OWN.values():
            reached = {"outcome": "reached", "detail": "echo came back", "arrived": True}
            attempts.append(
                attempt("own", "udp", address, 30000, who, **({} if who == "unit" else reached))
            )
    doors = [
        attempt("own", "udp", OWN["v4"], 30000, "station 10.77.1.1", outcome="silent"),
        attempt("port", "tcp", OWN["v4"], 8000, "station 10.77.1.1", outcome="silent", arrived=None),
        attempt("ssh", "tcp", OWN["v4"], 22, "station 10.77.1.1", outcome="reached", detail="SSH answers"),
        attempt("ssh", "tcp", OWN["v4"], 22, f"station {FOREIGN}", outcome="silent", arrived=None),
    ]
    return OutboundProbe(
        time="2030-01-01T00:00:00Z",
        endpoints=tuple(
            Endpoint("listener", protocol, address, port, witnessed=True, alive=True)  # type: ignore[arg-type]
            for address in STATION.values()
            for protocol, port in (("tcp", 40000), ("udp", 40001), ("icmp", 0))
        ),
        attempts=tuple(attempts),
        names=(NameLookup("root", "example.com", (), "no answer"),),
        inbound=tuple(doors),
        parties={"root": "", "user": "", "unit": ""},
    )


def judged(probe: OutboundProbe) -> dict[str, Finding]:
    findings = {
        f"{protocol}-{family}": escapes.judge_listener(probe, protocol, family, local=False)
        for protocol in ("tcp", "udp", "icmp")
        for family in ("v4", "v6")
    }
    return findings | {
        "listeners": escapes.judge_witness(probe, local=False),
        "services": escapes.judge_services(probe),
        "elsewhere": escapes.judge_elsewhere(probe),
        "wire": escapes.judge_wire(probe),
        "names": escapes.judge_names(probe),
        "user": escapes.judge_party(probe, "user"),
        "unit": escapes.judge_party(probe, "unit"),
        "denies": escapes.judge_own_denial(probe),
        "closed": escapes.judge_doors(probe, "own", local=False, wanted=""),
        "ports": escapes.judge_doors(probe, "port", local=False, wanted=""),
        "management": escapes.judge_ssh(probe, ["10.77.1.1"], open_=True, wanted="", why_not="none"),
        "foreign": escapes.judge_ssh(probe, [FOREIGN], open_=False, wanted="", why_not="none"),
    }


def broken(probe: OutboundProbe) -> set[str]:
    return {name for name, each in judged(probe).items() if not each.kept and not each.reason}


def unproven(probe: OutboundProbe) -> set[str]:
    return {name for name, each in judged(probe).items() if each.reason}


def change(what: dict[str, Any], *, inbound: bool = False, **to: Any) -> OutboundProbe:
    """The qualified probe with the attempts that match ``what`` changed."""
    probe = qualified()
    field = "inbound" if inbound else "attempts"
    changed = tuple(
        dataclasses.replace(each, **to)
        if all(getattr(each, name) == value for name, value in what.items())
        else each
        for each in getattr(probe, field)
    )
    assert changed != getattr(probe, field), "nothing was changed"
    return dataclasses.replace(probe, **{field: changed})


def test_a_node_that_keeps_everything_in_is_qualified() -> None:
    assert not broken(qualified())
    assert not unproven(qualified())


@pytest.mark.parametrize("family", ["v4", "v6"])
@pytest.mark.parametrize("protocol", ["tcp", "udp", "icmp"])
@pytest.mark.parametrize("leak", [{"outcome": "reached"}, {"outcome": "sent"}, {"arrived": True}])
def test_one_way_out_breaks_the_promise_that_names_it(
    protocol: str, family: str, leak: dict[str, Any]
) -> None:
    what = {"target": "listener", "who": "root", "protocol": protocol, "address": STATION[family]}
    assert broken(change(what, **leak)) == {f"{protocol}-{family}"}


@pytest.mark.parametrize(
    ("what", "promise"),
    [
        ({"target": "dns", "who": "root"}, "services"),
        ({"target": "elsewhere", "who": "root"}, "elsewhere"),
        ({"target": "wire", "who": "root"}, "wire"),
        ({"target": "dns", "who": "user"}, "user"),
        ({"target": "wire", "who": "user"}, "user"),
        ({"target": "listener", "who": "unit"}, "unit"),
        ({"target": "elsewhere", "who": "unit"}, "unit"),
        ({"target": "own", "who": "unit"}, "denies"),
    ],
)
def test_what_another_party_or_target_lets_out_breaks_its_own_promise(
    what: dict[str, Any], promise: str
) -> None:
    assert broken(change(what, outcome="sent")) == {promise}


@pytest.mark.parametrize(
    ("what", "to", "promise"),
    [
        ({"target": "own"}, {"outcome": "reached"}, "closed"),
        ({"target": "own"}, {"arrived": True}, "closed"),
        ({"target": "port"}, {"outcome": "reached"}, "ports"),
        ({"target": "ssh", "who": f"station {FOREIGN}"}, {"outcome": "reached"}, "foreign"),
        ({"target": "ssh", "who": "station 10.77.1.1"}, {"outcome": "silent", "detail": ""}, "management"),
        ({"target": "ssh", "who": "station 10.77.1.1"}, {"detail": "connected"}, "management"),
    ],
)
def test_one_way_in_breaks_the_promise_that_names_it(
    what: dict[str, Any], to: dict[str, Any], promise: str
) -> None:
    assert broken(change(what, inbound=True, **to)) == {promise}


def test_a_refused_door_is_closed() -> None:
    assert not broken(change({"target": "port"}, inbound=True, outcome="denied"))


def test_a_name_that_is_resolved_is_found() -> None:
    names = (NameLookup("user", "example.com", ("192.0.2.7",), ""),)
    assert broken(dataclasses.replace(qualified(), names=names)) == {"names"}


def test_without_its_witness_silence_proves_nothing() -> None:
    """A listener that does not work is a broken promise of its own; what leans on it is not proven."""
    probe = qualified()
    dead = tuple(
        dataclasses.replace(each, alive=each.protocol != "tcp" or ":" in each.address)
        for each in probe.endpoints
    )
    probe = dataclasses.replace(probe, endpoints=dead)
    assert broken(probe) == {"listeners"}
    assert unproven(probe) == {"tcp-v4"}


def test_a_party_that_could_not_try_proves_nothing() -> None:
    probe = dataclasses.replace(qualified(), parties={"root": "", "user": "", "unit": "no such process"})
    assert not broken(probe)
    assert unproven(probe) == {"unit", "denies"}


def test_the_units_denial_needs_its_control() -> None:
    """If root cannot reach the server on the node either, that the unit cannot says nothing."""
    probe = change({"target": "own", "who": "root"}, outcome="silent")
    assert unproven(probe) == {"denies", "closed"}


def test_a_door_that_nobody_was_behind_proves_nothing() -> None:
    probe = change({"target": "own", "who": "root"}, arrived=None)
    assert "closed" in unproven(probe)


@pytest.mark.parametrize("outcome", ["error", "no-route"])
def test_a_door_the_station_could_not_knock_at_proves_nothing(outcome: str) -> None:
    assert unproven(change({"target": "port"}, inbound=True, outcome=outcome)) == {"ports"}
    foreign = {"target": "ssh", "who": f"station {FOREIGN}"}
    assert unproven(change(foreign, inbound=True, outcome=outcome)) == {"foreign"}


def test_ssh_need_not_answer_the_operator_on_interfaces_that_are_not_for_management() -> None:
    """It may not either: nothing is judged there, and an unanswered management address still is."""
    other = attempt("ssh", "tcp", "10.78.1.11", 22, "station 10.77.1.1", outcome="silent", detail="")
    probe = qualified()
    probe = dataclasses.replace(probe, inbound=(*probe.inbound, other))
    given = {"open_": True, "wanted": "", "why_not": "none"}
    assert escapes.judge_ssh(probe, ["10.77.1.1"], at=list(OWN.values()), **given).kept  # type: ignore[arg-type]
    assert not escapes.judge_ssh(probe, ["10.77.1.1"], at=["10.78.1.11"], **given).kept  # type: ignore[arg-type]
    assert not escapes.judge_ssh(probe, ["10.77.1.1"], **given).kept  # type: ignore[arg-type]


def test_without_a_foreign_address_its_promise_is_not_run() -> None:
    finding = escapes.judge_ssh(qualified(), [], open_=False, wanted="", why_not="no foreign address")
    assert finding.reason == "no foreign address"


def test_a_family_the_station_does_not_have_is_not_run() -> None:
    probe = qualified()
    only4 = tuple(each for each in probe.endpoints if "." in each.address)
    probe = dataclasses.replace(probe, endpoints=only4)
    assert unproven(probe) == {"tcp-v6", "udp-v6", "icmp-v6"}


def before(**to: Any) -> OutboundProbe:
    probe = qualified()
    reached = {"outcome": "reached", "arrived": True} | to
    attempts = tuple(dataclasses.replace(each, **reached) for each in probe.attempts)
    return dataclasses.replace(probe, attempts=attempts)


def test_the_comparison_needs_a_path_that_was_open() -> None:
    assert escapes.judge_before(before(), local=False).kept
    assert escapes.judge_before(None, local=False).reason.startswith("no record from before")
    assert "not open either" in escapes.judge_before(before(outcome="denied"), local=False).reason
    empty = dataclasses.replace(qualified(), attempts=())
    assert "nothing was tried" in escapes.judge_before(empty, local=False).reason


def test_a_node_that_tests_itself_proves_nothing_of_outside() -> None:
    probe = qualified()
    for finding in (
        escapes.judge_witness(probe, local=True),
        escapes.judge_before(None, local=True),
        escapes.judge_listener(probe, "tcp", "v4", local=True),
        escapes.judge_doors(probe, "own", local=True, wanted=""),
    ):
        assert finding.reason
        assert not finding.kept
