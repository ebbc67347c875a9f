"""Who decides what a node should be: this station before a digest that was brought, and the node last."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from appliance.errors import PreflightFailed
from appliance.node.audit.asking import APART, LOGIN_FILES, TREES
from appliance.node.audit.baseline import (
    FORMAT,
    Baseline,
    Reference,
    baseline_bytes,
    choose,
    digest_of,
    parse_baseline,
)
from appliance.node.audit.kept import kept_here

if TYPE_CHECKING:
    from pathlib import Path

STATE = {"users": {"root": "uid 0"}, "files": {"/odd\udcff": "file"}}
BASELINE = Baseline(
    "gpu-01", "b" * 64, "5" * 64, "7" * 64, "1.0", "2026-11-29T12:00:00Z", "", "c" * 64, STATE
)
DATA = baseline_bytes(BASELINE)
DIGEST = digest_of(DATA)
OTHER = baseline_bytes(replace(BASELINE, state={"users": {"root": "uid 0", "evil": "uid 0"}}))


def test_a_baseline_is_kept_whole_and_has_one_spelling() -> None:
    assert parse_baseline(DATA) == BASELINE
    assert baseline_bytes(parse_baseline(DATA)) == DATA
    assert hashlib.sha256(DATA).hexdigest() == DIGEST


def broken(**changes: Any) -> bytes:
    return json.dumps({**json.loads(DATA), **changes}).encode()


@pytest.mark.parametrize(
    "data",
    [b"", b"[]", b"{}", b"\xff", broken(format=2), broken(more=1), broken(state={"users": 1}), DATA[:-9]],
)
def test_what_is_no_baseline_is_refused(data: bytes) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - one kind of refusal
        parse_baseline(data)


def test_what_is_looked_at_belongs_to_the_format() -> None:
    """Whoever changes one of these lists gives baselines another number, and this line another digest.

    Not for what is set apart and was never there when a baseline of this number was taken.
    """
    lists = json.dumps([TREES, APART, LOGIN_FILES], sort_keys=True).encode()
    assert (FORMAT, hashlib.sha256(lists).hexdigest()[:16]) == (1, "5b5c1eb6ad4bc886")


# --- who decides -----------------------------------------------------------------------------------


def test_this_stations_copy_decides_whatever_the_node_keeps() -> None:
    chosen = choose("gpu-01", DATA, DIGEST, None, OTHER.decode())
    assert chosen == Reference("station", BASELINE, DIGEST, DIGEST)


def test_a_copy_that_the_record_does_not_name_is_not_believed() -> None:
    """Then the node's may be the right one: its digest decides."""
    chosen = choose("gpu-01", OTHER, DIGEST, None, DATA.decode())
    assert (chosen.source, chosen.digest) == ("digest", DIGEST)
    with pytest.raises(PreflightFailed) as caught:
        choose("gpu-01", OTHER, DIGEST, None, None)
    assert caught.value.wanted == f"SHA-256 {DIGEST}"


def test_the_digest_in_the_record_is_enough() -> None:
    assert choose("gpu-01", None, DIGEST, None, DATA.decode()).source == "digest"


def test_a_node_that_rewrote_its_baseline_is_refused_where_a_digest_is_known() -> None:
    for recorded, typed in ((DIGEST, None), ("", DIGEST)):
        with pytest.raises(PreflightFailed) as caught:
            choose("gpu-01", None, recorded, typed, OTHER.decode())
        assert digest_of(OTHER) in str(caught.value.found)


def test_a_digest_that_was_brought_counts_before_this_stations() -> None:
    chosen = choose("gpu-01", DATA, DIGEST, digest_of(OTHER), OTHER.decode())
    assert (chosen.source, chosen.digest) == ("digest", digest_of(OTHER))


def test_where_nobody_else_knows_the_node_vouches_for_itself_and_that_is_said() -> None:
    assert choose("gpu-01", None, "", None, DATA.decode()).source == "node"


@pytest.mark.parametrize("text", [None, "{}"])
def test_a_node_without_a_baseline_has_none(text: str | None) -> None:
    assert choose("gpu-01", None, "", None, text) == Reference("none")


# --- what this station keeps -----------------------------------------------------------------------


def record(state: Path, run: str, ended: str, data: bytes | None, **changes: Any) -> None:
    folder = state / "runs" / run / "gpu-01"
    folder.mkdir(parents=True)
    values = {"result": "done", "ended": ended, "details": {"baseline": digest_of(data or b"")}, **changes}
    (folder / "record.json").write_text(json.dumps(values))
    if data:
        (folder / "baseline.json").write_bytes(data)


NEWEST, OLDER = f"{'a' * 12}-clinic", f"{'f' * 12}-clinic"


def test_the_newest_installation_of_that_site_counts(tmp_path: Path) -> None:
    assert kept_here(tmp_path, "clinic", "gpu-01") == (None, "")
    record(tmp_path, OLDER, "2026-01-01T00:00:00Z", OTHER)
    record(tmp_path, NEWEST, "2026-02-01T00:00:00Z", DATA)
    record(tmp_path, f"{'b' * 12}-other", "2026-03-01T00:00:00Z", OTHER)
    assert kept_here(tmp_path, "clinic", "gpu-01") == (DATA, DIGEST)
    assert kept_here(tmp_path, "clinic", "gpu-02") == (None, "")


@pytest.mark.parametrize(
    "changes",
    [{"result": "failed"}, {"details": {}}, {"details": None}, {"result": "running"}],
)
def test_an_installation_that_did_not_end_well_does_not_count(tmp_path: Path, changes: Any) -> None:
    record(tmp_path, OLDER, "2026-01-01T00:00:00Z", OTHER)
    record(tmp_path, NEWEST, "2026-02-01T00:00:00Z", DATA, **changes)
    assert kept_here(tmp_path, "clinic", "gpu-01") == (OTHER, digest_of(OTHER))


def test_a_copy_that_was_lost_leaves_its_digest(tmp_path: Path) -> None:
    record(tmp_path, NEWEST, "2026-02-01T00:00:00Z", DATA)
    (tmp_path / "runs" / NEWEST / "gpu-01/baseline.json").unlink()
    assert kept_here(tmp_path, "clinic", "gpu-01") == (None, DIGEST)
