"""What a station does about packages that count from a node's next start on, and about keys alone."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import replace
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

from appliance.errors import ApplianceError, ApplyFailed, InProgress, NodeUnreachable, RestartPending
from appliance.node.install import Installation
from appliance.node.patching import installing, keys, restarting, switch
from appliance.node.patching.apply import learn_keys
from appliance.node.patching.installing import Change, Switching
from appliance.node.patching.keys import Learning
from appliance.node.patching.restarting import brings_packages, wait_until_restarted
from appliance.node.patching.switch import Restarting, Waits
from appliance.node.patching.target import is_keys_alone
from appliance.node.runs import Stage
from appliance.progress import Silent
from tests.unit.node.patching.test_going_back import BEFORE, Says, failing, switching, went_back

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.unit.node.patching.conftest import Bundles, NodeHere

TO = {"to": {"version": "2.0.0"}}
WAITS = {"pending": TO, "restart": {"late": ["driver"], "reboot": True, "for": "new"}}


@pytest.fixture(autouse=True)
def _no_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(restarting, "PAUSE", 0)


def over_a_restart(
    node: Says, monkeypatch: pytest.MonkeyPatch, *, reboot: bool = True
) -> tuple[Switching, list[str]]:
    """A switch that brings packages, whose playbooks are told and not run."""
    done: list[str] = []
    work = switching({"one": node})
    work.change = replace(work.change, restarting=Restarting(packages=True, reboot=reboot), within=5)
    work.request = SimpleNamespace(check=False)  # type: ignore[assignment]
    work.bundle = SimpleNamespace(manifest=SimpleNamespace(version="2.0.0"))  # type: ignore[assignment]
    work.outcome = SimpleNamespace(plan="plan")  # type: ignore[assignment]
    work.inventory, work.private = SimpleNamespace(revert_after=1), None  # type: ignore[assignment]
    work.run = SimpleNamespace(log="log")  # type: ignore[assignment]
    monkeypatch.setattr(work.progress, "note", done.append, raising=False)
    monkeypatch.setattr(Switching, "_line", lambda *_: {"from": {"version": "1.0.0"}})
    monkeypatch.setattr(installing, "apply", lambda *_, playbook, **__: done.append(playbook))
    monkeypatch.setattr(installing, "judge", lambda *_, **__: done.append("judged"))
    monkeypatch.setattr(Installation, "_apply", lambda *_: done.append("all roles"))
    return work, done


def test_packages_come_first_then_the_restart_then_all_roles(monkeypatch: pytest.MonkeyPatch) -> None:
    answers = iter([WAITS, {"pending": TO}])

    def answer(asked: dict[str, Any]) -> dict[str, Any]:
        match asked["do"]:
            case "restart":
                return {"late": ["driver"]}
            case "status":
                return next(answers)
        return {"pending": None}

    node = Says(answer)
    work, done = over_a_restart(node, monkeypatch)
    work._apply(set())
    assert [asked["do"] for asked in node.asked] == ["arm", "restart", "status", "status"]
    assert (node.asked[0]["packages"], node.asked[0]["reboot"]) == (True, True)
    assert done[:2] == ["packages.yml", "judged"]
    assert "driver" in done[2]
    assert done[3:] == ["one: has restarted; not proven yet", "all roles"]
    assert node.closed == 2, "what is open since before the restart leads nowhere"


def test_where_no_package_is_late_all_roles_follow_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    node = Says(lambda asked: {"late": []} if asked["do"] == "restart" else {"pending": None})
    work, done = over_a_restart(node, monkeypatch)
    work._apply(set())
    assert done == ["packages.yml", "judged", "all roles"]


def test_a_restart_that_is_somebody_elses_ends_the_run_and_nothing_goes_back(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    node = Says(lambda asked: {"late": ["driver"]} if asked["do"] == "restart" else {"pending": None})
    work, done = over_a_restart(node, monkeypatch, reboot=False)
    with pytest.raises(RestartPending, match="one needs a restart") as raised:
        work._apply(set())
    assert (raised.value.exit_code, work.armed) == (InProgress.exit_code, [])
    assert node.asked[0]["reboot"] is False
    assert "all roles" not in done
    failing(raised.value, monkeypatch)
    with pytest.raises(RestartPending):
        work.go()
    assert [asked["do"] for asked in node.asked] == ["arm", "restart"]


@pytest.mark.parametrize(
    ("answer", "error", "said"),
    [
        (lambda _: WAITS, NodeUnreachable, "it answers, and has not restarted"),
        (lambda _: {"pending": None}, ApplyFailed, "the version before"),
    ],
    ids=["it does not go down", "it went back"],
)
def test_a_node_that_does_not_come_back_as_it_should_is_named(
    answer: Callable[[Any], dict[str, Any]], error: type[ApplianceError], said: str
) -> None:
    with pytest.raises(error) as raised:
        wait_until_restarted(Says(answer), 1)  # type: ignore[arg-type]
    assert said in str(raised.value.found)


def test_a_node_that_is_cut_off_in_its_answer_as_it_goes_down_is_asked_again() -> None:
    """Programs are ended as the node goes down; through sudo that is no broken connection."""
    answers = iter([{"error": "failed", "text": "exit status 143"}, {"pending": TO}])
    node = Says(lambda _: next(answers))
    wait_until_restarted(node, 5)  # type: ignore[arg-type]
    assert len(node.asked) == 2


def test_a_node_that_is_not_there_again_in_time_is_named() -> None:
    with pytest.raises(NodeUnreachable, match="did not come back within 1 s") as raised:
        wait_until_restarted(Says(went_back, status=255), 1)  # type: ignore[arg-type]
    assert raised.value.found == "gone"
    assert "goes back by itself" in str(raised.value.hint)


@pytest.mark.parametrize("odd", [{"restart": 3}, {"restart": {"late": 3}}, {"late": 3}, {"late": None}])
def test_odd_answers_about_restarts_are_that_nodes_own_trouble(odd: dict[str, Any]) -> None:
    ask = switch.waits if "restart" in odd else lambda node: switch.restart(node, "run")
    with pytest.raises(ApplyFailed):
        ask(Says(lambda _: odd))  # type: ignore[arg-type]


def test_a_node_that_went_back_says_that_it_has_to_restart() -> None:
    left = {"late": ["driver"], "reboot": True, "for": "former"}
    back = switch.go_back(Says(lambda _: {"restored": True, "restart": left}), "why")  # type: ignore[arg-type]
    assert str(back).startswith("; pending restart: the version before")
    assert Waits().late == ()
    assert str(Waits()) == ""


def test_whether_packages_come_is_told_by_what_is_not_the_same(node: NodeHere) -> None:
    target = node.target()
    kinds = {name: each.kind for name, each in target.bundle.manifest.components.items()}
    assert kinds == {"engine": "python", "model": "tiny-gguf"}
    assert not brings_packages(target)
    components = dict(target.bundle.manifest.components)

    def bringing(name: str) -> bool:
        changed = {**components, name: replace(components[name], kind="debian")}
        manifest = replace(target.bundle.manifest, components=changed)
        return brings_packages(replace(target, bundle=replace(target.bundle, manifest=manifest)))

    assert bringing("engine")
    same = [replace(file, same=file.same or file.path) for file in target.files]
    target = replace(target, files=same)
    assert not bringing("engine")


def test_bundles_that_differ_in_their_keys_alone_are_told(bundles: Bundles) -> None:
    old = bundles.old.manifest
    files = dict(old.files)
    (root,) = [path for path in files if path.startswith("trust/root.1.json")]
    rotated = replace(old, files={**files, "trust/root.2.json": files[root]}, sequence=9, version="9")
    assert is_keys_alone(rotated, old)
    assert not is_keys_alone(replace(old, sequence=9, version="9"), old), "nothing to be learnt"
    assert not is_keys_alone(bundles.new.manifest, old)


def learning(
    node: Says, monkeypatch: pytest.MonkeyPatch, *, check: bool, known: bool, breaks: bool = False
) -> list[str]:
    """What is done when a node learns keys, and what is told."""
    done: list[str] = []
    state = SimpleNamespace(root=SimpleNamespace(version=2), revocation=SimpleNamespace(serial=3))
    answer = SimpleNamespace(decision=SimpleNamespace(now=state), commits_now=not known)

    def learn(work: Learning, _: object) -> None:
        done.append("learnt")
        work.kept["one"] = None
        if breaks:
            raise NodeUnreachable("another node is gone")

    class Told(Silent):
        def note(self, text: str) -> None:
            done.append(text)

    def prepare(work: Installation, *given: Any) -> None:
        work.request, work.bundle, work.progress, work.outcome = given[0], given[1], given[6], given[7]
        work.identities, work.connections = {}, {"one": node}  # type: ignore[assignment, dict-item]
        work.run = SimpleNamespace(stage=lambda *_: switch_off())  # type: ignore[assignment]
        work.kept = {}
        work.outcome.answers["one"] = answer  # type: ignore[assignment]

    class switch_off:  # noqa: N801 - stands for a record
        def __enter__(self) -> dict[str, Any]:
            return {}

        def __exit__(self, *_: object) -> None:
            done.append("recorded")

    monkeypatch.setattr(Installation, "__init__", prepare)
    monkeypatch.setattr(Learning, "_ask", lambda *_: done.append("asked"))
    monkeypatch.setattr(Learning, "_learn", learn)
    monkeypatch.setattr(keys.switch, "record_of", lambda action, *_: {"action": action, "from": None})
    change = Change("patch", SimpleNamespace(bundle=None), BEFORE)  # type: ignore[arg-type]
    groups: Any = SimpleNamespace(
        request=SimpleNamespace(until=Stage.RECORD, check=check), nodes=[], inventory=None, private=None
    )
    applied: Any = SimpleNamespace(outcomes=[])
    with pytest.raises(NodeUnreachable) if breaks else nullcontext():
        learn_keys(groups, change, None, applied, progress=Told())  # type: ignore[arg-type]
    assert len(applied.outcomes) == 1
    assert applied.stays == BEFORE
    assert node.closed == 1
    return done


def test_keys_are_learnt_by_the_journal_and_written_down_with_what_stays_installed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    node = Says(went_back)
    done = learning(node, monkeypatch, check=False, known=False)
    told = "one: knows root 2, revocation 3 now; what serves was not touched"
    assert done == ["asked", "recorded", "learnt", "recorded", told]
    (asked,) = node.asked
    assert asked["do"] == "note"
    assert asked["record"]["to"] == BEFORE["one"]
    assert asked["record"]["reason"] == "it knows root 2, revocation 3"


def test_keys_that_are_known_are_not_written_down_again(monkeypatch: pytest.MonkeyPatch) -> None:
    node = Says(went_back)
    done = learning(node, monkeypatch, check=False, known=True)
    assert done[-1] == "one: knows root 2, revocation 3 already"
    assert node.asked == []


def test_what_one_node_learnt_is_written_down_though_the_next_one_is_gone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    node = Says(went_back)
    done = learning(node, monkeypatch, check=False, known=False, breaks=True)
    assert "one: knows root 2, revocation 3 now; what serves was not touched" in done
    assert [asked["do"] for asked in node.asked] == ["note"]


def test_a_check_asks_and_has_nothing_learnt(monkeypatch: pytest.MonkeyPatch) -> None:
    node = Says(went_back)
    assert learning(node, monkeypatch, check=True, known=False) == ["asked"]
    assert node.asked == []


def test_keys_wait_for_a_switch_too(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []
    monkeypatch.setattr(Installation, "_refuse_pending", lambda _: asked.append("refused"))
    object.__new__(Learning)._refuse_pending()
    object.__new__(Switching)._refuse_pending()
    assert asked == ["refused"]
