"""``appliance history``, ``patch apply`` and ``rollback``: what they say; real nodes are for tests/node."""

from __future__ import annotations

from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

from appliance.bundle import roots
from appliance.errors import NodeUnreachable
from appliance.node.patching import apply, history, rollback
from appliance.node.patching.apply import Applied
from appliance.node.patching.history import NodeHistory
from appliance.node.patching.rollback import RolledBack
from appliance.node.patching.switch import Waits, WentBack
from appliance.node.request import Outcome as Installed
from appliance.node.runs import Stage
from tests.unit.cli.inventories import EXAMPLE

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.unit.cli.conftest import Outcome

LINE = {
    "time": "2026-02-01T12:00:00Z",
    "action": "patch",
    "product": "demo",
    "from": {"version": "1.0.0", "sequence": 1, "digest": "a" * 64},
    "to": {"version": "2.0.0", "sequence": 2, "digest": "b" * 64},
    "by": "root at desk",
    "medium": ["/media/usb/p"],
    "signers": ["carol"],
    "result": "went back",
    "reason": "it failed",
}


@pytest.fixture
def answer(monkeypatch: pytest.MonkeyPatch) -> list[NodeHistory]:
    """What nodes answer."""
    said: list[NodeHistory] = []
    monkeypatch.setattr(history, "read_histories", lambda *_: said)
    return said


def test_who_when_from_which_medium_and_with_which_result(
    answer: list[NodeHistory], appliance: Callable[..., Outcome]
) -> None:
    answer.append(NodeHistory("gpu-01", [LINE], Waits(LINE)))
    done = appliance("history", "-i", EXAMPLE)
    assert done.code == 0
    told = done.out.splitlines()
    step = f"demo 1.0.0 (sequence 1) to 2.0.0 (sequence 2, {'b' * 12})"
    assert told[1] == f"  2026-02-01T12:00:00Z  patch     {step}: went back: it failed"
    assert told[2:4] == ["    by root at desk, signed by carol", "    from /media/usb/p"]
    assert told[4] == f"  not proven yet: {step}; it goes back by itself"
    values = appliance("history", "-i", EXAMPLE, "--json").json
    assert values["nodes"]["gpu-01"] == {"pending": LINE, "restart": None, "history": [LINE]}


FORMER = "the version before, which is installed again,"


@pytest.mark.parametrize(
    ("waits", "said", "when"),
    [
        (
            Waits(LINE, ("linux-image-7",), reboot=False),
            "pending restart: the new version counts from then on (linux-image-7); restart it",
            "its time begins with the restart",
        ),
        (
            Waits(LINE, ("a", "b"), reboot=True),
            "pending restart: the new version counts from then on (a, b); it restarts by itself",
            "it goes back by itself",
        ),
        (
            Waits(None, ("a",), reboot=False, former=True),
            f"pending restart: {FORMER} counts from then on (a); restart it",
            "",
        ),
    ],
)
def test_a_restart_that_is_waited_for_is_said(
    waits: Waits, said: str, when: str, answer: list[NodeHistory], appliance: Callable[..., Outcome]
) -> None:
    answer.append(NodeHistory("gpu-01", [], waits))
    told = appliance("history", "-i", EXAMPLE).out.splitlines()[1:]
    assert told[0] == f"  {said}"
    assert [line.rpartition("; ")[2] for line in told[1:]] == ([when] if when else [])
    values = appliance("history", "-i", EXAMPLE, "--json").json["nodes"]["gpu-01"]
    restart = {"late": list(waits.late), "reboot": waits.reboot, "former": waits.former}
    assert (values["pending"], values["restart"]) == (waits.pending, restart)


def test_a_new_node_has_none_and_one_that_is_gone_is_the_exit_code(
    answer: list[NodeHistory], appliance: Callable[..., Outcome]
) -> None:
    answer += [NodeHistory("gpu-01"), NodeHistory("gpu-02", trouble=NodeUnreachable("gone"))]
    done = appliance("history", "-i", EXAMPLE)
    assert done.code == NodeUnreachable.exit_code
    assert done.out.splitlines() == ["gpu-01: nothing was done yet", "gpu-02: gone"]
    told = appliance("history", "-i", EXAMPLE, "--json").json["nodes"]
    assert told["gpu-02"]["error"] == "NodeUnreachable"


def test_lines_that_make_no_sense_are_told_all_the_same(
    answer: list[NodeHistory], appliance: Callable[..., Outcome]
) -> None:
    odd: Any = {"from": "x", "to": 3, "action": {}, "signers": 3, "medium": {"a": 1}, "by": "\x1b[2J"}
    answer += [NodeHistory("gpu-01", [odd], Waits({"to": []})), NodeHistory("gpu-02", [LINE])]
    done = appliance("history", "-i", EXAMPLE)
    assert done.code == 0
    assert "\x1b" not in done.out
    assert "gpu-02:" in done.out


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """What the commands ask for, of two groups of nodes."""
    manifest = SimpleNamespace(product="demo", version="2.0.0", sequence=2)
    bundle: Any = SimpleNamespace(manifest=manifest, digest="b" * 64)
    nodes: Any = [SimpleNamespace(name=name) for name in ("gpu-01", "gpu-02")]
    groups = [Installed(bundle, Stage.RECORD, check=False, nodes=(node,)) for node in nodes]
    done = Applied(bundle, groups, ("gpu-00",))
    seen: dict[str, Any] = {}

    def apply_patch(request: Any, **options: Any) -> Applied:
        seen.update(request=request, **options)
        return done

    def roll_back(request: Any, **options: Any) -> RolledBack:
        seen.update(request=request, **options)
        return RolledBack({"gpu-03": WentBack(True, ("x does not run",))}, ("gpu-04",), done)

    monkeypatch.setattr(apply, "apply_patch", apply_patch)
    monkeypatch.setattr(rollback, "roll_back", roll_back)
    monkeypatch.setattr(roots, "load_root", lambda *_: b"root")
    return seen


def test_a_patch_is_told_of_all_groups_of_nodes(
    asked: dict[str, Any], appliance: Callable[..., Outcome]
) -> None:
    values = appliance(
        "patch", "apply", "/media/p", "-i", EXAMPLE, "--within", "60", "--check", "--json"
    ).json
    assert list(values["nodes"]) == ["gpu-01", "gpu-02"]
    assert values["already"] == ["gpu-00"]
    assert (asked["within"], asked["request"].check, str(asked["request"].bundle[0])) == (
        60,
        True,
        "/media/p",
    )
    assert "gpu-00: applied already" in appliance("patch", "apply", "/media/p", "-i", EXAMPLE).out


@pytest.mark.parametrize("names", [("gpu-01",), ("gpu-01", "gpu-02")])
def test_where_every_node_has_the_patch_there_is_nothing_to_do(
    names: tuple[str, ...], appliance: Callable[..., Outcome], monkeypatch: pytest.MonkeyPatch
) -> None:
    manifest = SimpleNamespace(product="demo", version="2.0.0", sequence=2, makes="c" * 64)
    patch: Any = SimpleNamespace(manifest=manifest, digest="b" * 64)
    monkeypatch.setattr(apply, "apply_patch", lambda *_, **__: Applied(patch, already=names))
    monkeypatch.setattr(roots, "load_root", lambda *_: b"root")
    done = appliance("patch", "apply", "/media/p", "-i", EXAMPLE)
    assert done.code == 0
    assert done.out.splitlines()[-1] == "nothing to do: every node has demo 2.0.0 already"
    said = appliance("patch", "apply", "/media/p", "-i", EXAMPLE, "--json").json
    assert (said["digest"], said["already"], said["nodes"]) == ("c" * 64, list(names), {})


def test_a_patch_of_keys_alone_says_what_stays_installed(
    appliance: Callable[..., Outcome], monkeypatch: pytest.MonkeyPatch
) -> None:
    manifest = SimpleNamespace(product="demo", version="2.0.0", sequence=2)
    bundle: Any = SimpleNamespace(manifest=manifest, digest="b" * 64)
    learnt = [Installed(bundle, Stage.RECORD, False)]
    done = Applied(bundle, learnt, stays={"gpu-01": LINE["from"]})  # type: ignore[dict-item]  # a line of a history has what is shown
    monkeypatch.setattr(apply, "apply_patch", lambda *_, **__: done)
    monkeypatch.setattr(roots, "load_root", lambda *_: b"root")
    told = appliance("patch", "apply", "/media/p", "-i", EXAMPLE).out
    assert told.splitlines()[0] == "gpu-01: keys alone; 1.0.0 (sequence 1) stays installed"
    said = appliance("patch", "apply", "/media/p", "-i", EXAMPLE, "--json").json
    assert said["stays"] == {"gpu-01": LINE["from"]}


def test_going_back_names_a_version_by_how_its_digest_begins(
    asked: dict[str, Any], appliance: Callable[..., Outcome]
) -> None:
    done = appliance("rollback", "-i", EXAMPLE, "--to", "3f2a", "--limit", "gpu-01")
    assert (asked["to"], asked["request"].limit, asked["request"].bundle) == ("3f2a", ("gpu-01",), ())
    assert "gpu-03: went back from a version that was not proven, but x does not run" in done.out
    assert "gpu-04: left as it is" in done.out
    said = appliance("rollback", "-i", EXAMPLE, "--json").json
    assert (said["undone"], said["ill"]) == (["gpu-03"], {"gpu-03": ["x does not run"]})


@pytest.mark.parametrize("seconds", ["9", "86401"])
def test_the_time_for_a_proof_has_bounds(seconds: str, appliance: Callable[..., Outcome]) -> None:
    assert appliance("patch", "apply", "p", "-i", EXAMPLE, "--within", seconds).code == 2
