"""What a station does about nodes that have begun: one alone first, and back when something fails."""

from __future__ import annotations

import json
import subprocess
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

from appliance.errors import (
    ApplianceError,
    ApplyFailed,
    InProgress,
    NodeUnreachable,
    QualificationFailed,
)
from appliance.node.install import Installation
from appliance.node.patching import apply, switch
from appliance.node.patching.apply import Applied, Groups, refuse_pending, run_groups
from appliance.node.patching.installing import Change, Switching
from appliance.node.request import Request
from appliance.node.runs import Stage
from appliance.progress import Silent

if TYPE_CHECKING:
    from collections.abc import Callable

    from appliance.progress import Progress

BEFORE = {name: {"version": "1.0.1", "sequence": 1, "digest": "a" * 64} for name in ("one", "two", "three")}


@dataclass
class Says:
    """A connection to a node whose program answers so; ``asked`` is what it was told."""

    answer: Callable[[dict[str, Any]], dict[str, Any]]
    name: str = "one"
    status: int = 0
    kind: str = "ssh"
    asked: list[dict[str, Any]] = field(default_factory=list)
    closed: int = 0

    @property
    def node(self) -> Any:
        return SimpleNamespace(name=self.name, connection=self.kind)

    def run(self, _: str, *, stdin: bytes, timeout: float | None) -> Any:
        if self.status:
            return subprocess.CompletedProcess([], self.status, b"", b"gone")
        self.asked.append(json.loads(stdin.splitlines()[-1]))
        said = json.dumps(self.answer(self.asked[-1])).encode()
        return subprocess.CompletedProcess([], 0, b"a login message\n" + said + b"\n", b"")

    def close(self) -> None:
        self.closed += 1


class Told(Silent):
    """Keeps what it is told."""

    def __init__(self) -> None:
        self.notes: list[str] = []

    def note(self, text: str) -> None:
        self.notes.append(text)


def went_back(_: dict[str, Any]) -> dict[str, Any]:
    return {"pending": None, "last": None, "restored": True, "confirmed": True, "removed": []}


def switching(connections: dict[str, Says], *armed: str) -> Switching:
    made = object.__new__(Switching)
    made.change = Change("patch", None, BEFORE, within=77)  # type: ignore[arg-type] - it is not looked at
    made.name, made.armed, made.progress = "run", list(armed), Silent()
    made.before = {}
    made.bundle = SimpleNamespace(digest="b" * 64)  # type: ignore[assignment]
    made.connections = connections  # type: ignore[assignment]
    return made


def failing(fault: BaseException, monkeypatch: pytest.MonkeyPatch) -> None:
    def go(_: Installation) -> None:
        raise fault

    monkeypatch.setattr(Installation, "go", go)


def test_whoever_has_begun_goes_back_and_the_others_are_not_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    failing(QualificationFailed("not kept", found="egress\nmore", hint="read the report"), monkeypatch)
    nodes = {name: Says(went_back, name) for name in ("one", "two", "three")}
    with pytest.raises(QualificationFailed) as raised:
        switching(nodes, "one", "two").go()
    told = [f"{name} went back to 1.0.1, which ran before" for name in ("one", "two")]
    assert raised.value.hint == "; ".join([*told, "read the report"])
    reason = "QualificationFailed: not kept (egress)"
    back, kept = nodes["one"].asked
    assert back == {"do": "back", "reason": reason, "run": "run"}
    assert (kept["bundle"], kept["back"]) == ("b" * 64, True), "what it went back from before goes"
    assert [node.closed for node in nodes.values()] == [2, 2, 0]
    assert nodes["three"].asked == []


def test_what_cannot_be_removed_afterwards_hides_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    failing(ApplyFailed("it broke"), monkeypatch)

    def answer(asked: dict[str, Any]) -> dict[str, Any]:
        return went_back(asked) if "do" in asked else {"error": "failed", "text": "no space"}

    with pytest.raises(ApplyFailed, match="it broke") as raised:
        switching({"one": Says(answer)}, "one").go()
    assert raised.value.hint == "one went back to 1.0.1, which ran before"


def test_a_node_that_restarts_is_asked_for_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    failing(ApplyFailed("it broke"), monkeypatch)
    owed = {"late": ["driver"], "reboot": True, "for": "former"}
    node = Says(lambda asked: {**went_back(asked), "restart": owed})
    with pytest.raises(ApplyFailed, match="it broke"):
        switching({"one": node}, "one").go()
    assert [asked["do"] for asked in node.asked] == ["back"]


def test_a_node_that_cannot_be_told_goes_back_by_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    failing(ApplyFailed("it broke"), monkeypatch)
    nodes = {"one": Says(went_back, status=255), "two": Says(went_back, "two")}
    with pytest.raises(ApplyFailed) as raised:
        switching(nodes, "one", "two").go()
    assert raised.value.hint == (
        "one goes back to 1.0.1 by itself within 77 s, or when it restarts; which one it runs says: "
        "appliance history --limit one; "
        "two went back to 1.0.1, which ran before"
    )


def test_a_person_who_interrupts_leads_back_too(monkeypatch: pytest.MonkeyPatch) -> None:
    failing(KeyboardInterrupt(), monkeypatch)
    nodes = {"one": Says(went_back)}
    with pytest.raises(KeyboardInterrupt):
        switching(nodes, "one").go()
    assert nodes["one"].asked[0]["reason"] == "Interrupted: Ctrl-C at the station"


def test_a_person_who_does_not_wait_is_told_that_the_node_goes_back_by_itself(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    failing(KeyboardInterrupt(), monkeypatch)

    def press(_: dict[str, Any]) -> dict[str, Any]:
        raise KeyboardInterrupt

    work = switching({"one": Says(press), "two": Says(went_back, "two")}, "one", "two")
    told: list[str] = []
    monkeypatch.setattr(work.progress, "note", told.append, raising=False)
    with pytest.raises(KeyboardInterrupt):
        work.go()
    assert [each[:45] for each in told] == [
        "one goes back to 1.0.1 by itself within 77 s,",
        "two went back to 1.0.1, which ran before",
    ]


def test_the_first_node_goes_alone_and_its_failure_spares_the_others(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    seen: list[tuple[str, list[str]]] = []
    broken = {""}

    class Recorded:
        def __init__(self, *shared: Any) -> None:
            self.until, self.names = shared[1].until, [node.name for node in shared[4]]
            self.progress: Progress = shared[6]
            self.goes_on = {name: f"{name}: going on" for name in self.names}

        def go(self) -> None:
            seen.append((str(self.until), self.names))
            for name in self.names:
                self.progress.note(f"{name}: back from 2 to 1 by permit")
            if self.until is Stage.RECORD and broken & {*self.names}:
                raise ApplyFailed("it broke", hint="mend it")

    monkeypatch.setattr(apply, "Switching", Recorded)
    request = Request((), b"", Path(), Path())
    nodes = [SimpleNamespace(name=name) for name in ("one", "two", "three")]
    groups = Groups(request, None, nodes, Path())  # type: ignore[arg-type] - neither is looked at
    bundle = SimpleNamespace(manifest=SimpleNamespace(version="2.0.0"))
    change = Change("patch", SimpleNamespace(bundle=bundle), BEFORE)  # type: ignore[arg-type] - likewise
    told = Told()
    run_groups(groups, change, None, Applied(None), progress=told)  # type: ignore[arg-type] - likewise
    everyone = ["one", "two", "three"]
    permits = [f"{name}: back from 2 to 1 by permit" for name in everyone]
    assert told.notes == [*permits, *(f"{name}: going on" for name in everyone)], "each once"
    assert seen == [
        ("preflight", everyone),
        ("record", ["one"]),
        ("stage", ["two", "three"]),
        ("record", ["two"]),
        ("record", ["three"]),
    ]
    seen.clear()
    broken.add("two")
    with pytest.raises(ApplyFailed) as raised:
        run_groups(groups, change, None, Applied(None), progress=Silent())  # type: ignore[arg-type] - likewise
    assert raised.value.hint == "one: on 2.0.0, proven; three: as before; mend it"
    assert seen[-1] == ("record", ["two"])
    seen.clear()
    broken.add("one")
    with pytest.raises(ApplyFailed):
        run_groups(groups, change, None, Applied(None), progress=Silent())  # type: ignore[arg-type] - likewise
    assert seen == [("preflight", everyone), ("record", ["one"])]


def test_it_is_said_what_does_not_run_afterwards(monkeypatch: pytest.MonkeyPatch) -> None:
    failing(ApplyFailed("it broke"), monkeypatch)
    said = {"restored": True, "ill": ["a.service does not run"]}
    work = switching({"one": Says(lambda _: said)}, "one")
    work.before["one"] = {"version": "2.0.0"}
    with pytest.raises(ApplyFailed) as raised:
        work.go()
    assert raised.value.hint == ("one went back to 2.0.0, which ran before, but a.service does not run")


@pytest.mark.parametrize("odd", [[], 3, {"pending": 1}, {"pending": {}}, {"error": "pending"}, {"ill": 3}])
def test_odd_answers_are_that_nodes_own_trouble(odd: object, monkeypatch: pytest.MonkeyPatch) -> None:
    node = Says(lambda _: odd)  # type: ignore[arg-type, return-value]
    for ask in (switch.read_history, switch.confirm, switch.keep_two):
        with pytest.raises(ApplianceError):
            ask(node, "run") if ask is not switch.read_history else ask(node)  # type: ignore[call-arg, operator]
    failing(ApplyFailed("it broke"), monkeypatch)
    nodes = {"one": node, "two": Says(went_back, "two")}
    with pytest.raises(ApplyFailed, match="it broke") as raised:
        switching(nodes, "one", "two").go()
    assert "two went back" in str(raised.value.hint)


def test_an_installation_asks_before_and_again_just_before_it_changes_anything() -> None:
    waits = {"to": {"digest": "b" * 64, "version": "2", "sequence": 2}}

    def answer(asked: dict[str, Any]) -> dict[str, Any]:
        return {"error": "pending", **waits} if asked["do"] == "begin" else {"pending": waits}

    work = object.__new__(Installation)
    node = Says(answer)
    work.connections = {"one": node}  # type: ignore[dict-item]
    with pytest.raises(InProgress):
        work._ask({})
    work.request, work.outcome = SimpleNamespace(check=False), SimpleNamespace(plan="a plan")  # type: ignore[assignment]
    with pytest.raises(InProgress):
        work._apply(set())
    assert [asked["do"] for asked in node.asked] == ["status", "begin"]


def test_another_version_that_waits_for_its_proof_is_in_the_way() -> None:
    waits = {"to": {"digest": "b" * 64, "version": "2", "sequence": 2}}
    nodes = {"one": Says(lambda _: {"pending": waits, "last": None})}
    refuse_pending(nodes, ["one"], "b" * 64)  # type: ignore[arg-type]
    with pytest.raises(InProgress, match="one waits for the proof of another version"):
        refuse_pending(nodes, ["one"], "c" * 64)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        ({"error": "pending", "to": {"digest": "b"}}, InProgress),
        ({"error": "failed", "text": "no systemd"}, ApplyFailed),
    ],
)
def test_a_node_that_cannot_switch_says_why(answer: dict[str, Any], error: type[ApplianceError]) -> None:
    with pytest.raises(error):
        switch.arm(Says(lambda _: answer), "run", 60, {})  # type: ignore[arg-type]


def test_a_proof_that_the_node_does_not_take_fails_the_run() -> None:
    node = Says(lambda _: {"confirmed": False, "why": "it went back before"})
    with pytest.raises(ApplyFailed) as raised:
        switch.confirm(node, "run")  # type: ignore[arg-type]
    assert raised.value.found == "it went back before"


def test_a_node_that_is_gone_is_unreachable() -> None:
    with pytest.raises(NodeUnreachable) as raised:
        switch.pending(Says(went_back, status=255))  # type: ignore[arg-type]
    assert raised.value.found == "gone"


def test_nodes_are_armed_before_any_change_and_told_to_stay_after_their_proof(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    done: list[str] = []
    for stage in ("_apply", "_qualify", "_record"):
        monkeypatch.setattr(Installation, stage, lambda *_, stage=stage: done.append(stage))
    for verb in ("arm", "confirm"):

        def tell(node: Says, *_: object, verb: str = verb) -> switch.Armed:
            done.append(f"{verb} {node.name}")
            return switch.Armed({"version": "by its own word"}, "root at another")

        monkeypatch.setattr(switch, verb, tell)

    def keep_two(node: Says, _: str, *, back: bool) -> list[str]:
        assert not back
        done.append(f"keep {node.name}")
        return []

    monkeypatch.setattr(switch, "keep_two", keep_two)
    nodes = {name: Says(went_back, name) for name in ("one", "two")}
    work = switching(nodes)
    work.request, work.bundle = SimpleNamespace(check=False), SimpleNamespace(digest="b" * 64)  # type: ignore[assignment]
    monkeypatch.setattr(Switching, "_line", lambda *_: {})
    told: list[str] = []
    monkeypatch.setattr(work.progress, "note", told.append, raising=False)
    work._apply({"one"})
    assert "one: takes over the run of root at another, which is not proven" in told
    assert work.armed == ["one", "two"]
    assert work.before["two"]["version"] == "by its own word"
    work._qualify()
    assert work.armed == []
    work._record()
    assert done == [
        *("arm one", "arm two", "_apply"),
        *("_qualify", "confirm one", "confirm two"),
        *("keep one", "keep two", "_record"),
    ]


def test_a_check_arms_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Installation, "_apply", lambda *_: None)
    work = switching({"one": Says(went_back)})
    work.request = SimpleNamespace(check=True)  # type: ignore[assignment]
    work._apply(set())
    assert work.armed == []


def test_what_was_applied_before_an_interruption_is_applied_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """It went back since, or may have."""
    monkeypatch.setattr(Installation, "_resume", lambda _: {"one"})
    work = switching({"one": Says(went_back)})
    work.goes_on = {"one": "one: applied before; going on at record"}
    assert work._resume() == set()
    assert work.goes_on == {"one": "one: applied before, and not recorded; it is applied and proven again"}
