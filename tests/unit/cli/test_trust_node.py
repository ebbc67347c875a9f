"""``appliance trust node``: what is shown of each node; asking real ones is for tests/node."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from appliance.errors import JournalLost
from appliance.node import asking
from appliance.node.journal import Kept
from appliance.trust.counter import Counter
from appliance.trust.journal import Journal, KnownRoot
from appliance.trust.revocation import Revocation
from appliance.trust.statements import Release

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from appliance.definition.inventory import Inventory
    from tests.unit.cli.conftest import Outcome

EXAMPLE = Path(__file__).resolve().parents[3] / "inventory.example"
JOURNAL = Journal(
    "5" * 32,
    KnownRoot(2, "a" * 64),
    count=9,
    products={"demo": Release(7, "b" * 64)},
    revocation=Revocation(3, ("c" * 64,)),
    floor="2026-01-31T12:00:00Z",
    nonces=("1" * 64,),
    tpm=41,
)
KEPT = Kept(JOURNAL, None, True, 9, "d" * 64, Counter(41, kept=True), False, 0.0)
NEW = replace(KEPT, journal=None, was_installed=False)
LOST = replace(KEPT, journal=None, trouble=JournalLost("its journal is gone"), notes=("odd",))


@pytest.fixture
def show(monkeypatch: pytest.MonkeyPatch, appliance: Callable[..., Outcome]) -> Callable[..., str]:
    """What is printed of a node that keeps this; with these options."""

    def shown(kept: Kept, *options: str) -> str:
        asked: list[Sequence[str]] = []

        def read(inventory: Inventory, limit: Sequence[str]) -> dict[str, Kept]:
            assert inventory.site == "example-hospital"
            asked.append(limit)
            return {"gpu-01": kept}

        monkeypatch.setattr(asking, "read_journals", read)
        done = appliance("trust", "node", "-i", EXAMPLE, *options)
        assert done.code == 0
        assert list(asked[0]) == (["gpu-01"] if "--limit" in options else [])
        return done.out

    return shown


def test_all_that_statements_name_is_shown(show: Callable[..., str]) -> None:
    lines = [line.split(maxsplit=1) for line in show(KEPT).splitlines()]
    assert lines[0] == ["gpu-01"]
    assert dict(lines[1:]) == {  # type: ignore[arg-type] # two each
        "journal": "5" * 32,
        "count": "9, counter 41 of the TPM",
        "root": f"version 2, fingerprint {'a' * 64}",
        "product": f"demo 7:{'b' * 64}",
        "revocation": "3",
        "floor": "2026-01-31T12:00:00Z",
        "nonces": "1 used",
    }


def test_as_json(show: Callable[..., str]) -> None:
    values = json.loads(show(KEPT, "--json", "--limit", "gpu-01"))["nodes"]["gpu-01"]
    assert values == {
        "installed": True,
        "unfinished": False,
        "notes": [],
        "trouble": None,
        "journal": "5" * 32,
        "count": 9,
        "root": {"version": 2, "sha256": "a" * 64},
        "products": {"demo": {"sequence": 7, "digest": "b" * 64}},
        "revocation": 3,
        "floor": "2026-01-31T12:00:00Z",
        "nonces": ["1" * 64],
        "tpm": 41,
    }


def test_a_new_node_and_one_that_forgot_are_told_apart(show: Callable[..., str]) -> None:
    assert "begins with the first installation" in show(NEW)
    text = show(LOST)
    assert "begins with" not in text
    assert "trouble     its journal is gone" in text
    assert "note        odd" in text
    values = json.loads(show(LOST, "--json"))["nodes"]["gpu-01"]
    assert values["journal"] is None
    assert values["trouble"]["error"] == "JournalLost"


def test_a_commit_that_was_cut_off_is_said(show: Callable[..., str]) -> None:
    assert "was cut off" in show(replace(KEPT, unfinished=True))
