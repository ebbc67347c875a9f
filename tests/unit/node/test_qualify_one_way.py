"""Judging the line of a node: one thing changed of a line that is right, and the promise that breaks."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any

import pytest

from appliance.definition.inventory_schema import parse_inventory
from appliance.node.qualification import one_way
from tests.unit.definition.test_inventory_export import PATH, VALID

if TYPE_CHECKING:
    from collections.abc import Callable

INVENTORY, _ = parse_inventory(VALID, PATH)
EXPORT = INVENTORY.node("gpu-01").export
STATUS = (
    "Name:\tappliance\nUid:\t990\t990\t990\t990\nCapBnd:\t0000000000000000\nNoNewPrivs:\t1\nSeccomp:\t2\n"
)
#: An unfragmented datagram from 10.60.0.9 to 10.60.0.10 port 5514, its beginning.
DATAGRAM = "02000000000f02000000000e08004500003000014000401100000a3c00090a3c000a9c40158a001c0000"
FOUND: dict[str, Any] = {
    "members": [
        [77, "appliance", "0::/system.slice/appliance-export.service"],
        [78, "nft", "0::/system.slice/appliance-export-watch.service"],
        [80, "journalctl", "0::/system.slice/appliance-export.service"],
    ],
    "units": {
        name: {"ActiveState": "active", "UnitFileState": "enabled", "MainPID": str(pid)}
        for name, pid in zip(one_way.UNITS, (0, 66, 77), strict=True)
    },
    "status": STATUS,
    "card": [
        {"name": "pause", "state": "off", "detail": ""},
        {"name": "roce", "state": "not there", "detail": ""},
    ],
    "rules": {
        "nftables": [
            {"chain": {"family": "netdev", "name": "in", "hook": "ingress", "policy": "drop"}},
            {"rule": {"chain": "in", "expr": [{"counter": {}}, {"drop": None}]}},
            {"rule": {"chain": "out", "expr": [{"match": {}}, {"counter": {}}, {"accept": None}]}},
        ]
    },
    "link": [
        {
            "flags": ["NOARP", "UP"],
            "xdp": {"mode": 1, "prog": {"tag": "57cd311f2e27366b"}},
            "stats64": {"rx": {"packets": 4}},
        }
    ],
    "addresses": [{"addr_info": []}, {"addr_info": [{"local": "10.60.0.9", "prefixlen": 32}]}],
    "routes": [{"dst": "10.60.0.10"}],
    "neighbours": [{"dst": "10.60.0.10", "lladdr": "02:00:00:00:00:0f", "state": ["PERMANENT"]}],
    "tries": {"said": {"TCP to the receiver's port": "timed out"}, "left": [DATAGRAM]},
}


def changed(change: Callable[[dict[str, Any]], object]) -> dict[str, Any]:
    found = copy.deepcopy(FOUND)
    change(found)
    return found


def test_a_line_as_it_should_be_keeps_every_promise() -> None:
    assert EXPORT
    assert one_way.judge_running(FOUND).kept
    walls = one_way.judge_walls(FOUND, EXPORT)
    assert walls.kept
    assert "4 frames came in" in walls.found
    assert one_way.judge_out(FOUND, EXPORT).kept
    assert one_way.judge_card(FOUND).kept


@pytest.mark.parametrize(
    ("change", "word"),
    [
        (lambda found: found["units"][one_way.UNITS[0]].update(ActiveState="failed"), "failed, enabled"),
        (
            lambda found: found["units"][one_way.UNITS[1]].update(UnitFileState="disabled"),
            "active, disabled",
        ),
        (lambda found: found["units"].update({one_way.UNITS[2]: {}}), "absent, no file"),
        (lambda found: found.update(status=STATUS.replace("990", "0")), "runs as root"),
        (lambda found: found.update(status=STATUS.replace("CapBnd:\t00", "CapBnd:\t01")), "capabilities"),
        (
            lambda found: found.update(status=STATUS.replace("Seccomp:\t2", "Seccomp:\t0")),
            "gain privileges",
        ),
        (
            lambda found: found["members"].append([79, "nc", "0::/user.slice"]),
            "nc (79) is in the namespace",
        ),
        (lambda found: found["members"].clear(), "not in the namespace"),
    ],
)
def test_a_sender_that_is_not_held_is_told(change: Callable[[dict[str, Any]], object], word: str) -> None:
    judged = one_way.judge_running(changed(change))
    assert not judged.kept
    assert word in judged.found


def rules(found: dict[str, Any]) -> list[dict[str, Any]]:
    listed: list[dict[str, Any]] = found["rules"]["nftables"]
    return listed


@pytest.mark.parametrize(
    ("change", "word"),
    [
        (lambda found: found.update(link=[]), "no card"),
        (lambda found: found.update(rules=[]), "no chain of nftables"),
        (lambda found: rules(found)[0]["chain"].update(policy="accept"), "no chain of nftables"),
        (
            lambda found: rules(found)[1]["rule"]["expr"].append({"accept": None}),
            "lets through: accept in in",
        ),
        (lambda found: rules(found).append(rules(found)[2]), "not just one rule"),
        (lambda found: rules(found).pop(), "not just one rule"),
        (lambda found: found["link"][0].pop("xdp"), "no XDP program"),
        (lambda found: found["link"][0]["xdp"]["prog"].update(tag="0" * 16), "another XDP program"),
        (lambda found: found["link"][0].update(flags=["UP"]), "speaks ARP"),
        (
            lambda found: found["addresses"][1]["addr_info"][0].update(prefixlen=24),
            "addresses: 10.60.0.9/24",
        ),
        (
            lambda found: found["addresses"][0]["addr_info"].append({"local": "fe80::1", "prefixlen": 64}),
            "fe80::1",
        ),
        (
            lambda found: found["routes"].append({"dst": "default", "gateway": "10.60.0.10"}),
            "default 10.60.0.10",
        ),
        (lambda found: found["neighbours"][0].update(state=["REACHABLE"]), "REACHABLE"),
    ],
)
def test_a_wall_that_does_not_stand_is_told(change: Callable[[dict[str, Any]], object], word: str) -> None:
    assert EXPORT
    judged = one_way.judge_walls(changed(change), EXPORT)
    assert not judged.kept
    assert word in judged.found


@pytest.mark.parametrize(
    ("was", "becomes"),
    [
        ("02000000000f0200", "0200000000aa0200"),  # another station
        ("080045", "86dd60"),
        ("000140004011", "000120004011"),  # a fragment
        ("4011", "4006"),  # TCP
        ("0a3c000a", "0a3c000b"),
        ("158a", "158b"),
    ],
)
def test_a_frame_that_leaves_and_is_no_export_is_told(was: str, becomes: str) -> None:
    assert EXPORT
    assert DATAGRAM.count(was) == 1
    found = changed(lambda found: found["tries"]["left"].append(DATAGRAM.replace(was, becomes)))
    assert not one_way.judge_out(found, EXPORT).kept


def test_what_could_not_be_tried_is_not_kept() -> None:
    assert EXPORT
    assert not one_way.judge_out(changed(lambda found: found.update(tries=None)), EXPORT).kept


@pytest.mark.parametrize("card", [[], [{"name": "roce", "state": "on", "detail": "mlx5_0"}]])
def test_a_card_that_does_something_by_itself_is_told(card: list[dict[str, str]]) -> None:
    assert not one_way.judge_card({"card": card}).kept
