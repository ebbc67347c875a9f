"""The walls of the line, as values: the file, the rules, the program, what is made of the kernel's word."""

from __future__ import annotations

import json
import os
import struct
from dataclasses import replace
from ipaddress import IPv4Address
from typing import TYPE_CHECKING, Any

import pytest

from appliance.errors import ExportLineDown, SettingsInvalid
from appliance.export.exporter import Moment
from appliance.export.line import raising, xdp
from appliance.export.line.card import driver, find_card
from appliance.export.line.ruleset import SETTINGS, ruleset
from appliance.export.line.settings import DEVICE, Line, line_text, read_line
from appliance.export.line.walls import Walls, barrier_faults, faults, keeps_out, rules_in
from appliance.export.line.watched import STALE, Watched

if TYPE_CHECKING:
    from pathlib import Path

LINE = Line(
    "02:00:00:00:00:0e", "", IPv4Address("192.0.2.1"), IPv4Address("192.0.2.2"), "02:00:00:00:00:0f", 5514
)
VALUES: dict[str, Any] = json.loads(line_text(LINE))


def test_a_file_says_the_line_it_was_written_for() -> None:
    assert read_line(line_text(LINE).encode(), "file") == LINE
    other = replace(LINE, mac="", pci="0000:5e:00.0")
    assert read_line(line_text(other).encode(), "file") == other
    assert other.stamp != LINE.stamp


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"format": 2}, "another format"),
        ({"match": {}}, "recognised by one thing"),
        ({"match": {"mac": "02:00:00:00:00:0e", "pci": "0000:5e:00.0"}}, "recognised by one thing"),
        ({"match": {"mac": "03:00:00:00:00:0e"}}, "mac is misspelled"),
        ({"match": {"pci": "5e:00.0"}}, "pci is misspelled"),
        ({"address": "fd60::9"}, "no IPv4 address"),
        ({"receiver": {**VALUES["receiver"], "port": 0}}, "no port"),
        ({"receiver": {**VALUES["receiver"], "port": 65536}}, "no port"),
        ({"receiver": {**VALUES["receiver"], "mac": "x"}}, "mac is misspelled"),
        ({"receiver": {"address": "192.0.2.2", "port": 1}}, "keys are missing"),
        ({"gateway": "192.0.2.2"}, "unknown keys"),
    ],
)
def test_a_file_that_says_no_line_is_refused(changed: dict[str, Any], message: str) -> None:
    with pytest.raises(SettingsInvalid, match=message):
        read_line(json.dumps({**VALUES, **changed}).encode(), "file")


@pytest.mark.parametrize("data", [b"", b"[]", b"{", b" " * 5000])
def test_what_is_no_such_file_is_refused(data: bytes) -> None:
    with pytest.raises(SettingsInvalid):
        read_line(data, "file")


def test_the_rules_let_one_kind_of_datagram_out_and_nothing_in() -> None:
    rules = ruleset(LINE)
    assert rules.count("accept") == 1
    (out,) = (line for line in rules.splitlines() if "accept" in line)
    for part in (
        "ether daddr 02:00:00:00:00:0f",
        "ip saddr 192.0.2.1",
        "ip daddr 192.0.2.2",
        "udp dport 5514",
        "ip frag-off & 0x3fff == 0",
    ):
        assert part in out
    assert rules.count("policy drop") == 4
    assert "ct state" not in rules, "an answer to the exporter is a frame that comes in"


def test_the_program_is_two_instructions_that_drop() -> None:
    """RFC 9669: opcode 0xb7 moves an immediate into r0, 0x95 leaves with it; 1 is XDP_DROP."""
    assert xdp.program().hex() == "b700000001000000" + "9500000000000000"
    assert xdp.tags() == {"57cd311f2e27366b", "b11459a0e11ca14c"}


def test_a_driver_that_does_not_count_what_it_drops_gets_the_program_behind_it() -> None:
    assert xdp.modes("mlx5_core") == (xdp.GENERIC,)
    assert xdp.modes("i40e") == xdp.modes("") == (xdp.NATIVE, xdp.GENERIC)


def test_the_program_goes_where_the_driver_wants_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the card at hand calls itself decides; a refusal of one place is no refusal of the next."""
    asked: list[bytes] = []

    def ask(_: object, message: bytes) -> None:
        asked.append(message)
        if message == b"%d" % xdp.NATIVE:
            raise OSError(95, "Operation not supported")

    monkeypatch.setattr(xdp, "load", lambda: os.dup(0))
    monkeypatch.setattr(xdp, "_ask", ask)
    monkeypatch.setattr(xdp, "setlink_message", lambda _, __, mode: b"%d" % mode)
    for name, modes in (("mlx5_core", [xdp.GENERIC]), ("veth", [xdp.NATIVE, xdp.GENERIC])):
        asked.clear()
        monkeypatch.setattr(xdp, "driver", lambda _, name=name: name)
        xdp.attach("lo")
        assert asked == [b"%d" % each for each in modes]


def test_a_card_is_given_back_without_a_program_in_either_place(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    asked = []

    def inside(_: str, *command: str) -> str:
        asked.append(" ".join(command))
        return json.dumps([{"ifname": DEVICE}])

    (tmp_path / raising.NAMESPACE).touch()
    monkeypatch.setattr(raising, "NAMES", tmp_path)
    monkeypatch.setattr(raising, "inside", inside)
    monkeypatch.setattr(raising, "run", lambda *_: "")
    monkeypatch.setattr(raising, "RAISED", tmp_path / "raised.json")
    monkeypatch.setattr(raising, "WATCHED", tmp_path / "watched.json")
    assert raising.lower_line("eno3")
    for where in ("xdp", "xdpgeneric"):
        assert f"ip link set dev {DEVICE} {where} off" in asked


def test_a_card_s_driver_is_asked_for_its_name() -> None:
    assert driver("lo") == ""
    assert driver("nothing-such") == ""


def test_the_request_names_card_and_program() -> None:
    message = xdp.setlink_message(7, 3, xdp.NATIVE)
    length, kind, flags = struct.unpack_from("=IHH", message)
    assert (length, kind, flags) == (len(message), 19, 5)
    assert struct.unpack_from("=i", message, 20) == (7,)
    assert struct.unpack_from("=HHHHiHHI", message, 32) == (20, 0x802B, 8, 1, 3, 8, 3, 4)


def link(name: str, mac: str, **more: Any) -> dict[str, Any]:
    return {"ifname": name, "address": mac, "link_type": "ether", **more}


LINKS = [
    link("eno1", "02:00:00:00:00:01"),
    link("eno2", "02:00:00:00:00:0e"),
    link("br0", "02:00:00:00:00:0e", linkinfo={"info_kind": "bridge"}),
    link("bonded", "02:00:00:00:00:01", permaddr="02:00:00:00:00:77"),
]


@pytest.mark.parametrize(
    ("line", "name"),
    [
        (LINE, "eno2"),
        (replace(LINE, mac="02:00:00:00:00:77"), "bonded"),
        (replace(LINE, mac="", pci="0000:5e:00.0"), "eno1"),
    ],
)
def test_the_card_is_found_by_what_it_is_and_not_by_what_borrows_its_address(line: Line, name: str) -> None:
    assert find_card(line, LINKS, {"eno1": "0000:5e:00.0"}) == name


@pytest.mark.parametrize(
    ("links", "count"), [(LINKS[:1], 0), ([*LINKS, link("twin", "02:00:00:00:00:0e")], 2)]
)
def test_no_card_and_two_cards_are_refused(links: list[dict[str, Any]], count: int) -> None:
    with pytest.raises(ExportLineDown, match=f"{count} cards have MAC address"):
        find_card(LINE, links, {})


CHAIN = {
    "chain": {
        "family": "netdev",
        "table": "t",
        "name": "in",
        "hook": "ingress",
        "dev": DEVICE,
        "policy": "drop",
    }
}


def rule(*verbs: str, chain: str = "in", family: str = "netdev") -> dict[str, Any]:
    return {
        "rule": {"family": family, "table": "t", "chain": chain, "expr": [{verb: None} for verb in verbs]}
    }


def changed(**more: str) -> dict[str, Any]:
    return {"chain": {**CHAIN["chain"], **more}}


@pytest.mark.parametrize(
    ("parts", "out"),
    [
        ([CHAIN], True),
        ([CHAIN, rule("counter", "drop")], True),
        ([CHAIN, rule("accept", chain="out"), rule("accept", family="inet")], True),
        ([{"chain": {key: value for key, value in CHAIN["chain"].items() if key != "dev"}}], True),
        ([], False),
        ([CHAIN, rule("accept")], False),
        ([CHAIN, rule("match", "accept")], False),
        ([CHAIN, rule("jump")], False),
        ([changed(policy="accept"), rule("drop")], False),
        ([changed(hook="egress")], False),
        ([changed(dev="lo")], False),
        ([changed(family="inet")], False),
    ],
)
def test_only_a_chain_that_drops_everything_keeps_out(parts: list[dict[str, Any]], out: bool) -> None:
    assert keeps_out(parts) is out


def test_what_passes_makes_no_other_rules() -> None:
    one = {"rule": {"handle": 3, "expr": [{"counter": {"packets": 5, "bytes": 60}}, {"drop": None}]}}
    two = {"rule": {"handle": 9, "expr": [{"counter": {"packets": 6, "bytes": 99}}, {"drop": None}]}}
    three = {"rule": {"handle": 3, "expr": [{"counter": {"packets": 5, "bytes": 60}}, {"accept": None}]}}
    told = [list(rules_in([{"metainfo": {}}, each])) for each in (one, two, three)]
    assert told[0] == told[1] != told[2]


STANDING = Walls(
    rules=(json.dumps(CHAIN),),
    counted={},
    xdp={"mode": "native", "name": "appliance_drop", "tag": "57cd311f2e27366b"},
    settings=SETTINGS,
    flags=frozenset({"UP", "NOARP"}),
    addresses=("192.0.2.1/32",),
    routes=(f"192.0.2.2 dev {DEVICE}",),
    neighbours=("192.0.2.2 02:00:00:00:00:0f PERMANENT",),
    received=0,
)


def test_walls_that_stand_have_no_fault() -> None:
    assert faults(STANDING, LINE, STANDING.rules) == []
    before = replace(STANDING, addresses=(), routes=(), neighbours=())
    assert barrier_faults(before) == [], "what must stand before the link is on"


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"flags": frozenset({"UP"})}, f"{DEVICE} speaks ARP"),
        ({"xdp": {}}, f"no XDP program is at {DEVICE}"),
        ({"rules": ()}, f"no chain of nftables drops what comes in at {DEVICE}"),
        ({"addresses": ("192.0.2.1/24",)}, "addresses: 192.0.2.1/24, not 192.0.2.1/32"),
        (
            {"routes": ("default via 192.0.2.2",)},
            f"routes: default via 192.0.2.2, not 192.0.2.2 dev {DEVICE}",
        ),
        ({"neighbours": ()}, "neighbours: none, not 192.0.2.2 02:00:00:00:00:0f PERMANENT"),
    ],
)
def test_each_wall_that_does_not_stand_is_named(changed: dict[str, Any], said: str) -> None:
    assert said in faults(replace(STANDING, **changed), LINE)


def test_a_kernel_without_ipv6_needs_no_setting_of_it() -> None:
    four = {path: value for path, value in SETTINGS.items() if not path.startswith("ipv6")}
    assert barrier_faults(replace(STANDING, settings=four)) == []
    assert barrier_faults(replace(STANDING, settings={**SETTINGS, "ipv6/conf/all/disable_ipv6": "0"}))


@pytest.mark.parametrize("name", ["ruleset", "xdp", "sysctl"])
def test_each_wall_has_a_digest_of_its_own(name: str) -> None:
    other = {
        "ruleset": replace(STANDING, rules=()),
        "xdp": replace(STANDING, xdp={}),
        "sysctl": replace(STANDING, settings={}),
    }[name]
    was, now = STANDING.digests, other.digests
    assert {each for each in was if was[each] != now[each]} == {name}
    assert replace(STANDING, received=9, counted={"netdev in": (9,)}).digests == was


def watched(*looks: tuple[float, object]) -> tuple[Watched, list[dict[str, Any]]]:
    """What is told over several looks, each a steady time and the file's content."""
    contents = [json.dumps(each).encode() if each is not None else b"" for _, each in looks]
    made = Watched(iter(contents).__next__)
    told = [made.look(Moment(at, 1000)) for at, _ in looks]
    return made, [json.loads(each)["fields"] for records in told for each in records]


def seen(time: int, received: int = 0, faults: tuple[str, ...] = ()) -> dict[str, object]:
    return {"time": time, "digests": {"xdp": "a" * 64}, "received": received, "faults": list(faults)}


def test_nothing_is_told_where_nothing_happens() -> None:
    made, told = watched((0, seen(1)), (2, seen(2)), (4, seen(3)))
    assert (told, made.digests) == ([], {"xdp": "a" * 64})
    assert made.status == {"received": 0, "faults": [], "watched": True}


def test_frames_that_came_in_are_told_once_and_not_again_at_once() -> None:
    made, told = watched((0, seen(1, 3)), (2, seen(2, 9)), (9, seen(3, 9)), (11, seen(4, 12)))
    assert [(each["event"], each["count"], each["total"]) for each in told] == [
        ("received", 3, 3),
        ("received", 9, 12),
    ]
    assert made.received == 12


def test_a_wall_that_falls_and_stands_again_is_told_both_times() -> None:
    _, told = watched((0, seen(1)), (2, seen(2, faults=("no XDP program",))), (4, seen(3)))
    assert [each["event"] for each in told] == ["amiss", "stands"]
    assert "no XDP program" in told[0]["MESSAGE"]


@pytest.mark.parametrize(("age", "events"), [(3600, ["unwatched"]), (STALE - 2, []), (-3600, [])])
def test_what_was_written_long_before_a_start_is_not_believed(age: float, events: list[str]) -> None:
    """A sender that starts again beside a watcher that ended: hours old is not new."""
    made = Watched(lambda: json.dumps(seen(10_000_000 - int(age * 1000))).encode())
    told = made.look(Moment(7.0, 10_000_000))
    assert [json.loads(each)["fields"]["event"] for each in told] == events
    assert bool(made.digests) is not bool(events)


def test_what_nobody_writes_anew_is_not_believed() -> None:
    """By the steady clock, whatever the wall's does; digests go, so that the checkpoints say it too."""
    made, told = watched((0, seen(1)), (STALE - 1, seen(1)))
    assert (told, bool(made.digests)) == ([], True)
    made, told = watched((0, seen(1)), (STALE + 1, seen(1)), (STALE + 9, seen(1)))
    assert [each["event"] for each in told] == ["unwatched"]
    assert (made.digests, made.status["watched"]) == ({}, False)
    made, _ = watched((0, seen(1)), (STALE + 1, seen(1)), (STALE + 2, seen(2)))
    assert made.digests


@pytest.mark.parametrize("content", [None, "text", [], {"faults": 3}])
def test_a_file_that_is_none_is_nobody_watching(content: object) -> None:
    made, _ = watched((0, content))
    assert made.digests == {}
