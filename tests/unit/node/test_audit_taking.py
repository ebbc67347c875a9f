"""A baseline is taken when an installation is proven, kept with its records, compared with the last one."""

from __future__ import annotations

import json
from dataclasses import replace
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import pytest

from appliance.definition.host import Host
from appliance.definition.inventory import Inventory, Management, NodeEntry
from appliance.node.audit import taking
from appliance.node.audit.asking import Facts
from appliance.node.audit.baseline import baseline_bytes, digest_of, parse_baseline
from appliance.node.audit.taking import keep_baseline, newest, taken_over
from appliance.node.connection import LocalConnection
from appliance.node.qualification.clock import Reading
from appliance.node.runs import Identity, Run, Stage

NODE = NodeEntry("gpu-01", "local", ip_address("10.20.0.11"), 22, ())
SITE = Inventory(Path("inventory.yml"), "clinic", Management((), (), ()), None, (NODE,))
IDENTITY = Identity("b" * 64, "5" * 64, "1.0")


class Station:
    """A station that installs one node again and again; ``users`` is what the node says."""

    def __init__(self, state: Path) -> None:
        self.state, self.users = state, {"root": "uid 0"}
        self.run = Run(state, IDENTITY.bundle, SITE.site)
        self.asked: list[str | None] = []

    def ask(self, connection: object, commands: object, *, bundle: str | None) -> Facts:
        self.asked.append(bundle)
        staged = {"list": bundle, "mark": "c" * 64, "files": 1, "wrong": {}}
        return Facts({}, {"users": dict(self.users)}, {}, "lxc", None, staged, Reading(0, 0, 0))

    def install(self) -> taking.Taken:
        with self.run.stage(Stage.RECORD, {"gpu-01": IDENTITY}) as entries:
            taken = keep_baseline(LocalConnection(NODE), IDENTITY, self.run, self.state, SITE)
            entries["gpu-01"].update(taken.as_dict())
        return taken


@pytest.fixture
def station(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Station:
    station = Station(tmp_path)
    monkeypatch.setattr(taking, "ask", station.ask)
    return station


def test_what_the_node_is_is_kept_with_its_digest_in_the_record(station: Station) -> None:
    taken = station.install()
    folder = station.run.node("gpu-01")
    assert (folder / "baseline.json").read_bytes() == taken.data
    record: dict[str, Any] = json.loads((folder / "record.json").read_text())
    assert record["details"] == {"baseline": digest_of(taken.data), "taken_over": []}
    kept = parse_baseline(taken.data)
    assert (kept.node, kept.bundle, kept.settings, kept.toolkit) == ("gpu-01", "b" * 64, "5" * 64, "1.0")
    assert (kept.container, kept.mark, station.asked) == ("lxc", "c" * 64, ["b" * 64])
    assert kept.state["users"] == {"root": "uid 0"}
    assert taken.notes == ()


def test_what_nobody_declared_is_not_taken_over_in_silence(station: Station) -> None:
    station.install()
    station.users["evil"] = "uid 0"
    taken = station.install()
    assert taken.taken_over == ("users evil",)
    assert taken.notes[0].endswith(": users evil")
    assert json.loads((station.run.node("gpu-01") / "record.json").read_text())["details"]["taken_over"]
    assert station.install().taken_over == (), "and then it is as it was"


def test_of_many_differences_a_note_names_the_first(station: Station) -> None:
    station.install()
    station.users.update({f"user{number:02}": "uid 1" for number in range(11)})
    taken = station.install()
    assert len(taken.taken_over) == 11
    assert taken.notes[0].endswith("users user07; and 3 more")


def test_other_runs_of_that_site_count_too_and_what_cannot_be_read_does_not(station: Station) -> None:
    baseline = parse_baseline(station.install().data)
    runs = {
        "f" * 12 + "-clinic": baseline_bytes(replace(baseline, time="2999-01-01T00:00:00Z", node="later")),
        "e" * 12 + "-other": baseline_bytes(replace(baseline, time="2999-02-01T00:00:00Z", node="other")),
        "d" * 12 + "-clinic": b"{}",
    }
    for run, data in runs.items():
        folder = station.state / "runs" / run / "gpu-01"
        folder.mkdir(parents=True)
        (folder / "baseline.json").write_bytes(data)
    found = newest(station.state, "clinic", "gpu-01")
    assert found is not None
    assert found.node == "later"
    assert newest(station.state, "clinic", "gpu-02") is None
    assert taken_over(None, baseline, Host()) == taken_over(baseline, baseline, Host()) == []
