"""Recovery data of a bundle that a patch makes: computed again, and not carried.

Whatever changes in a bundle changes its parity nearly everywhere: carried, it would be a twentieth of
the bundle for a patch of one line.  But it follows from the other files alone
(``appliance.bundle.parity``), the same bytes everywhere, and is compared with the signed list like
everything else.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Final

from appliance.bundle.parity.creating import make_parity
from appliance.bundle.parity.sets import covered, divide
from appliance.bundle.paths import parity_number
from appliance.errors import RecipeInvalid

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping
    from pathlib import Path

    from appliance.bundle.manifest import Manifest
    from appliance.bundle.parity.sets import ParitySet
    from appliance.progress import Progress

#: What a definition may ask for (``parity:``).
_MOST_PERCENT: Final = 10
#: A recovery block's packet has so many bytes besides (PAR2 2.0, "Recovery Slice packet").
_PACKET: Final = 68


def parity_sets(manifest: Manifest) -> Mapping[str, ParitySet]:
    """The sets whose files a bundle has, by path; empty if these are none that its builder makes.

    A manifest does not say how many per cent were asked for; the sizes of the files do.
    """
    sizes = {path: file.size for path, file in manifest.files.items() if parity_number(path) is not None}
    rest = {path: file for path, file in manifest.files.items() if path not in sizes}
    members = tuple(covered(replace(manifest, files=rest)))
    for percent in range(1, _MOST_PERCENT + 1):
        sets = {each.path: each for each in divide(members, percent)}
        if sets.keys() == sizes.keys() and all(_fits(each, sizes[path]) for path, each in sets.items()):
            return sets
    return {}


def _fits(each: ParitySet, size: int) -> bool:
    return each.recovery * (each.block_size + _PACKET) <= size <= each.parity_size


def sets_to_remake(manifest: Manifest, paths: Collection[str]) -> list[ParitySet]:
    """The sets of these parity files.

    Raises:
        RecipeInvalid: their builder made one otherwise, so it cannot be computed again.
    """
    sets = parity_sets(manifest)
    if unknown := sorted(set(paths) - sets.keys()):
        raise RecipeInvalid(
            "the recipe computes recovery data that no builder makes so",
            found=", ".join(unknown[:5]),
            wanted="sets as the sizes of the bundle's files give them",
            hint="do not use this patch; ask who signed it",
        )
    return [each for path, each in sets.items() if path in paths]


def remake_parity(folder: Path, manifest: Manifest, paths: Collection[str], progress: Progress) -> None:
    """Make these parity files in ``folder``, where every file that they cover lies.

    Raises:
        RecipeInvalid: as ``sets_to_remake``.
        ToolMissing, SpaceExhausted, ParityFailed: as ``make_parity``.
    """
    make_parity(folder, sets_to_remake(manifest, paths), progress)
