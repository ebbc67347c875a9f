"""Records tell the truth at any moment, and a rerun goes on where the last one stopped."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from appliance.errors import ApplyFailed, InProgress
from appliance.node.resume import resume
from appliance.node.runs import Identity, Record, Result, Run, Stage, lock_state, other_runs

if TYPE_CHECKING:
    from pathlib import Path

DIGEST = "ab" * 32
IDENTITY = Identity(DIGEST, "cd" * 32, "0.1.0")


@pytest.fixture
def run(tmp_path: Path) -> Run:
    return Run(tmp_path, DIGEST, "site")


def test_a_stage_is_running_until_it_is_done(run: Run) -> None:
    with run.stage(Stage.STAGE, {"gpu-01": IDENTITY}) as details:
        assert run.read("gpu-01")[Stage.STAGE].result == "running"
        details["gpu-01"]["bytes"] = 7
    record = run.read("gpu-01")[Stage.STAGE]
    assert (record.result, record.identity, record.details) == ("done", IDENTITY, {"bytes": 7})
    assert record.ended is not None
    assert record.ended >= record.started


def test_a_failed_stage_keeps_its_error(run: Run) -> None:
    with pytest.raises(ApplyFailed), run.stage(Stage.APPLY, {"gpu-01": IDENTITY}):
        raise ApplyFailed("no", found="this", hint="that")
    record = run.read("gpu-01")[Stage.APPLY]
    assert record.result == "failed"
    assert record.details["error"]["error"] == "ApplyFailed"


def test_a_stage_cut_off_by_the_operator_is_interrupted(run: Run) -> None:
    with pytest.raises(KeyboardInterrupt), run.stage(Stage.APPLY, {"gpu-01": IDENTITY}):
        raise KeyboardInterrupt
    assert run.read("gpu-01")[Stage.APPLY].result == "interrupted"


def test_nodes_of_one_stage_may_end_differently(run: Run) -> None:
    both = {"gpu-01": IDENTITY, "gpu-02": IDENTITY}

    def apply() -> None:
        with run.stage(Stage.APPLY, both) as details:
            details["gpu-01"]["result"] = "done"
            details["gpu-02"]["result"] = "failed"
            raise ApplyFailed("gpu-02")

    with pytest.raises(ApplyFailed):
        apply()
    assert run.read("gpu-01")[Stage.APPLY].result == "done"
    assert run.read("gpu-02")[Stage.APPLY].result == "failed"


def test_events_are_lines_with_times(run: Run) -> None:
    run.event({"event": "one"})
    run.event({"event": "two", "text": "ü"})
    lines = [json.loads(line) for line in (run.folder / "events.jsonl").read_text().splitlines()]
    assert [line["event"] for line in lines] == ["one", "two"]
    assert all(line["time"].endswith("Z") for line in lines)


def test_a_damaged_record_counts_as_none(run: Run) -> None:
    (run.node("gpu-01") / "apply.json").write_text('{"node": ')
    (run.node("gpu-01") / "plan.json").write_text('{"identity": {"x": 1}}')
    assert run.read("gpu-01") == {}


def test_records_are_for_their_owner_alone(run: Run) -> None:
    assert run.folder.stat().st_mode & 0o077 == 0
    assert run.node("gpu-01").stat().st_mode & 0o077 == 0


def test_one_installation_at_a_time(tmp_path: Path) -> None:
    with lock_state(tmp_path), pytest.raises(InProgress) as caught, lock_state(tmp_path):
        pass
    assert caught.value.exit_code == 5
    with lock_state(tmp_path):
        pass


def test_other_bundles_on_the_same_node_are_known(tmp_path: Path, run: Run) -> None:
    for digest, site in (("12" * 32, "site"), ("34" * 32, "my-site"), ("56" * 32, "site")):
        other = Run(tmp_path, digest, site)
        if digest != "56" * 32:
            other.write(Record("gpu-01", Stage.APPLY, IDENTITY, "done", "t"))
    assert other_runs(tmp_path, "site", run, "gpu-01") == ["121212121212"]


# --- where a rerun goes on -------------------------------------------------------------------------


def records(*results: Result) -> dict[Stage, Record]:
    """Records of the first stages, in order."""
    return {
        stage: Record("gpu-01", stage, IDENTITY, result, "t")
        for stage, result in zip(Stage, results, strict=False)
    }


DONE: tuple[Result, ...] = ("done",) * 5


@pytest.mark.parametrize(
    ("kept", "skip", "words"),
    [
        ((), False, "first run"),
        (("done", "done", "running"), False, "going on at preflight, which was cut off"),
        (DONE, False, "going on at apply, which was not reached"),
        ((*DONE, "running"), False, "going on at apply, which was cut off"),
        ((*DONE, "failed"), False, "going on at apply, which ended 'failed'"),
        ((*DONE, "interrupted"), False, "going on at apply"),
        ((*DONE, "done"), True, "going on at qualify"),
        ((*DONE, "done", "running"), True, "going on at qualify"),
        ((*DONE, "done", "interrupted"), True, "going on at qualify"),
        ((*DONE, "done", "failed"), False, "going on at qualify, which ended 'failed'"),
        ((*DONE, "done", "done", "running"), True, "going on at record"),
        ((*DONE, "done", "done", "done"), False, "proving it again"),
    ],
)
def test_a_rerun_goes_on_where_the_last_one_stopped(
    kept: tuple[Result, ...], skip: bool, words: str
) -> None:
    decision = resume("gpu-01", records(*kept), IDENTITY)
    assert decision.skip_apply is skip
    assert words in decision.text


@pytest.mark.parametrize(
    ("field", "words"),
    [("bundle", "the bundle"), ("settings", "the settings"), ("toolkit", "this program")],
)
def test_what_changed_since_starts_over_and_is_said(field: str, words: str) -> None:
    other = replace(IDENTITY, **{field: "other"})
    decision = resume("gpu-01", records(*DONE, "done"), other)
    assert not decision.skip_apply
    assert decision.text == f"gpu-01: {words} changed since the last run: starting over"


def test_an_earlier_bundle_is_named() -> None:
    assert "before: 121212121212" in resume("gpu-01", {}, IDENTITY, ["121212121212"]).text
