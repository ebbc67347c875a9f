"""Recovery data does not travel: it is computed again, and compared as all else."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from appliance.bundle.manifest import parse_manifest
from appliance.bundle.parity.creating import parity_companion
from appliance.bundle.patch import joining, recovery
from appliance.bundle.patch.applying import check
from appliance.bundle.patch.recipe import HEAD
from appliance.bundle.patch.recovery import parity_sets, sets_to_remake
from appliance.errors import DigestMismatch, RecipeInvalid
from tests.unit.bundle.patch.conftest import Station, files_of, new_contents, old_contents

if TYPE_CHECKING:
    from pathlib import Path

PARITY = "parity/set-0000.par2"


def with_parity(station: Station, name: str, sequence: int, percent: int = 5) -> Path:
    contents = old_contents() if sequence == 1 else new_contents()
    options = {"companions": [parity_companion(percent)]}
    return station.bundle(name, contents, sequence=sequence, **options)  # type: ignore[arg-type]


def test_parity_is_made_again(station: Station) -> None:
    old, new = with_parity(station, "old", 1), with_parity(station, "new", 2)
    built = station.build(old, new)
    how = {entry.path: entry for entry in built.entries}
    assert (how[PARITY].carried, how[PARITY].why) == (0, "recovery data, computed again")
    assert how[PARITY].size > 10_000
    station.maker.sign(built.folder, "carol", "mallory", role="patch")
    assert files_of(station.join(old, built.folder).folder) == files_of(new)


@pytest.mark.parametrize("percent", range(1, 11))
def test_how_much_was_asked_for_shows_by_the_sizes(station: Station, percent: int) -> None:
    bundle = with_parity(station, "bundle", 1, percent)
    sets = parity_sets(parse_manifest((bundle / "manifest.json").read_bytes()))
    assert sets.keys() == {PARITY}


def test_what_comes_out_otherwise_is_refused(station: Station, monkeypatch: pytest.MonkeyPatch) -> None:
    old, new = with_parity(station, "old", 1), with_parity(station, "new", 2)
    patch = station.patch(old, new)
    real = joining.remake_parity

    def other(folder: Path, *arguments: object) -> None:
        real(folder, *arguments)  # type: ignore[arg-type]
        place = folder / PARITY
        place.write_bytes(place.read_bytes()[:-1] + b"x")

    monkeypatch.setattr(joining, "remake_parity", other)
    with pytest.raises(DigestMismatch, match="came out otherwise"):
        station.join(old, patch)
    assert not (station.folder / "joined").exists()


def test_parity_of_others_is_no_set_of_ours(station: Station) -> None:
    """Which nobody could compute again: cut short by its builder, say."""
    bundle = with_parity(station, "bundle", 1)
    manifest = parse_manifest((bundle / "manifest.json").read_bytes())
    short = replace(manifest.files[PARITY], size=7)
    assert parity_sets(replace(manifest, files={**manifest.files, PARITY: short})) == {}


def test_recovery_data_that_nobody_could_compute_is_refused_before_the_payload_is_made(
    station: Station, monkeypatch: pytest.MonkeyPatch
) -> None:
    old, new = with_parity(station, "old", 1), with_parity(station, "new", 2)
    patch = station.patch(old, new)
    manifest = parse_manifest((new / "manifest.json").read_bytes())
    assert [each.path for each in sets_to_remake(manifest, {PARITY})] == [PARITY]
    assert sets_to_remake(manifest, ()) == []
    with pytest.raises(RecipeInvalid, match="no builder makes so") as raised:
        sets_to_remake(manifest, {PARITY, "parity/set-0001.par2"})
    assert raised.value.found == "parity/set-0001.par2"
    monkeypatch.setattr(recovery, "parity_sets", lambda _: {})
    monkeypatch.setattr(joining, "kept_files", lambda *_: pytest.fail("it went on"))
    with pytest.raises(RecipeInvalid, match="no builder makes so"):
        station.join(old, patch)
    assert not (station.folder / "joined").exists()


def test_only_recovery_data_is_made_again() -> None:
    lines = [HEAD, b"file %s 7 payload/model/x\n" % (b"a" * 64), b"par2\n"]
    with pytest.raises(RecipeInvalid, match="no recovery data"):
        check(lines, blocks=0)
    lines[1] = lines[1].replace(b"payload/model/x", PARITY.encode())
    assert check(lines, blocks=0).remade == {PARITY}
