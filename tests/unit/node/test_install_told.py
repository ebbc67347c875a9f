"""What an installation tells people: where it goes on, and in the node's history how it ended."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING

import pytest

from appliance.errors import ApplyFailed, QualificationFailed
from appliance.node.install import Installation
from appliance.node.patching.installing import Switching
from appliance.node.request import Request
from appliance.node.runs import Stage
from tests.unit.node.patching.test_going_back import Says, Told, went_back

if TYPE_CHECKING:
    from appliance.errors import ApplianceError


@pytest.mark.parametrize(("kind", "said"), [(Installation, ["one: going on"]), (Switching, [])])
def test_where_a_run_goes_on_is_said_once_nothing_refuses_it(
    kind: type[Installation], said: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of a switch it is said for all groups of nodes together."""
    work = object.__new__(kind)
    work.request = Request((), b"", tmp_path, tmp_path, until=Stage.STAGE)
    work.connections, work.progress, work.goes_on = {}, Told(), {}
    work.outcome = SimpleNamespace(applied=None)  # type: ignore[assignment]
    monkeypatch.setattr(
        Installation, "_resume", lambda self: self.goes_on.update({"one": "one: going on"}) or set()
    )
    monkeypatch.setattr(Installation, "_note_done", lambda *_: None)
    monkeypatch.setattr(Installation, "_stage", lambda *_: None)
    work.bundle, work.inventory = SimpleNamespace(signers=()), SimpleNamespace(path="")  # type: ignore[assignment]
    monkeypatch.setattr(Installation, "_preflight", lambda *_: None)
    Installation.go(work)
    assert work.progress.notes == said

    def refuse(_: Installation) -> None:
        raise ApplyFailed("refused")

    work.progress, work.goes_on = Told(), {}
    monkeypatch.setattr(Installation, "_preflight", refuse)
    with pytest.raises(ApplyFailed):
        Installation.go(work)
    assert work.progress.notes == []


def failed_installation(fault: ApplianceError, monkeypatch: pytest.MonkeyPatch) -> dict[str, Says]:
    """An installation on five nodes that failed in its last stage: a change, none, gone, deaf, recorded."""
    work = object.__new__(Installation)
    nodes = {name: Says(went_back, name) for name in ("one", "same", "gone", "deaf", "recorded")}
    nodes["deaf"].status = 255
    work.connections, work.progress, work.goes_on = nodes, Told(), {}  # type: ignore[assignment]
    work.recorded = {"recorded"}
    work.request = Request((), b"", Path(), Path())
    bundle = SimpleNamespace(
        manifest=SimpleNamespace(product="demo", version="2", sequence=2),
        digest="b" * 64,
        role="release",
        signers=(),
        folders=(Path("/media/usb/demo-2"),),
    )
    work.bundle, work.inventory = bundle, SimpleNamespace(path="")  # type: ignore[assignment]
    hosts = {
        name: SimpleNamespace(changed=int(name != "same"), unreachable=name == "gone") for name in nodes
    }
    before = {"installed": {"digest": "a" * 64, "version": "1", "sequence": 1, "settings": "s"}}
    looked = [SimpleNamespace(node=node.node, facts=before) for node in nodes.values()]
    work.outcome = SimpleNamespace(applied=SimpleNamespace(hosts=hosts), preflight=looked)  # type: ignore[assignment]

    def fail(_: Installation) -> None:
        raise fault

    for stage in ("_note_done", "_preflight", "_stage", "_plan", "_apply", "_record"):
        monkeypatch.setattr(Installation, stage, lambda *_: None)
    monkeypatch.setattr(Installation, "_resume", lambda _: set())
    monkeypatch.setattr(Installation, "_qualify", fail)
    with pytest.raises(type(fault)):
        work.go()
    assert work.progress.notes == [  # type: ignore[attr-defined]
        "deaf: its history does not say so: the connection to deaf broke"
    ]
    return nodes


def test_an_installation_that_fails_after_it_changed_something_is_in_the_history(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    fault = QualificationFailed("not kept", found="egress\nmore")
    nodes = failed_installation(fault, monkeypatch)
    assert [name for name, node in nodes.items() if node.asked] == ["one"]
    (asked,) = nodes["one"].asked
    line = asked["record"]
    assert (asked["do"], line["action"], line["result"]) == ("note", "install", "failed")
    assert line["reason"] == "QualificationFailed: not kept (egress)"
    assert (line["from"]["sequence"], line["to"]["sequence"]) == (1, 2)
    assert line["medium"] == ["/media/usb/demo-2"]
