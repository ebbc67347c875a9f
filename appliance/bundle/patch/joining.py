"""A base and a patch joined to the bundle that the patch makes: at a review desk, to see what it brings.

Nothing is left behind but the whole bundle: it is made in a hidden folder beside its place, every file is
compared with the list whose digest the patch's holders signed, and then it is renamed.
"""

from __future__ import annotations

import os
from contextlib import ExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING

from appliance.bundle.durable import (
    FOLDER_MODE,
    free_bytes,
    sync_file_system,
    sync_folder,
    writing_under,
)
from appliance.bundle.judging import judge_list
from appliance.bundle.opening import open_tree
from appliance.bundle.patch.applying import check, require_bases
from appliance.bundle.patch.fitting import kept_files, read_target, require_base, require_sound
from appliance.bundle.patch.holdings import open_bundle, whole_files
from appliance.bundle.patch.making import BLOCKS_PATH, Making, is_payload, recipe_lines
from appliance.bundle.patch.recovery import remake_parity, sets_to_remake
from appliance.bundle.patch.whole import WholeFile
from appliance.bundle.verify import verify_bundle
from appliance.bundle.writer import exists_already, partial_folder, require_new
from appliance.errors import DigestMismatch, SpaceExhausted

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from appliance.progress import Progress
    from appliance.trust.documents import SignedDocument


@dataclass(frozen=True)
class Joined:
    """A bundle that was made.

    ``made`` files came of the recipe, ``carried`` lay whole in the patch, ``kept`` are the base's.
    ``signers`` are those whose signatures as release came with the patch and count; ``release``: they are
    enough.
    """

    folder: Path
    digest: str
    version: str
    made: int
    carried: int
    kept: int
    signers: tuple[str, ...]
    release: bool


def join_patch(
    base: Path | Sequence[Path],
    patch: Path | Sequence[Path],
    out: Path,
    root: bytes,
    *,
    progress: Progress,
    revocations: Sequence[SignedDocument] = (),
) -> Joined:
    """Make the bundle that ``patch`` makes of ``base``, as the new folder ``out``.

    Args:
        base: where the base lies; its list must be signed as release.
        patch: where the patch lies; it is verified, signed as patch.
        out: must not exist; the folder it lies in must.
        root: the bytes of the root that is trusted.
        progress: told of each file.
        revocations: what was taken back, brought by another way.  By these the patch is judged, and what it
            makes, but not the base: that it was taken back may be why there is a patch.

    Raises:
        BundleRevoked: patch or bundle were taken back, by these or by what base, patch or bundle bring.
        BundleUntrusted: patch or base is not signed as it should be, or a file is not what it should be.
        RecipeInvalid: the recipe breaks a rule, or makes another bundle than the patch says.
        PatchUnfit: this is not the base that the patch requires, or it lacks what the patch needs.
        Usage, SpaceExhausted, PreflightFailed: ``out`` exists, or cannot be written.
    """
    require_new(out)
    verified = verify_bundle(patch, root, progress=progress, role="patch", revocations=revocations)
    with ExitStack() as stack:
        old = open_bundle(stack.enter_context(open_tree(base)))
        judged = judge_list(old.tree, old.signed, root, "release")
        judged.verdict.require()
        judged.revocation.require_bundle(str(verified.manifest.makes))
        require_base(old, verified.manifest)
        new = open_bundle(stack.enter_context(open_tree(patch)))
        if new.digest != verified.digest:
            raise DigestMismatch("the patch was changed after it was verified", hint="start again")
        carried = whole_files(new)
        blocks = carried.get(BLOCKS_PATH)
        held = whole_files(old)
        by_digest = {file.sha256: file for file in held.values()}
        checked = check(recipe_lines(new.tree, carried), blocks=blocks.size if blocks else 0)
        require_bases(checked, {file.sha256: file.size for file in held.values()})
        require_sound(checked, carried)
        stack.enter_context(writing_under(out.parent))
        folder, fd = stack.enter_context(partial_folder(out))
        join = Making(
            folder,
            checked,
            open_base=lambda digest: WholeFile(old.tree, (it := by_digest[digest]).path, it.parts),
            open_carried=lambda path: WholeFile(new.tree, path, carried[path].parts),
            progress=progress,
        )
        opened = stack.enter_context(WholeFile(new.tree, blocks.path, blocks.parts)) if blocks else None
        outside = checked.made.keys() - checked.remade - {*filter(is_payload, checked.made)}
        _require_room(out, sum(checked.made[path].size for path in outside))
        join.make(recipe_lines(new.tree, carried), opened, outside.__contains__)
        target = read_target(folder, checked, verified.manifest)
        sets_to_remake(target.manifest, checked.remade)  # refused now, not after hours
        kept = kept_files(target, checked, by_digest)
        _require_room(out, sum(file.size for file in target.files.values()))
        join.target = target
        progress.begin("join", len(target.files), sum(file.size for file in target.files.values()))
        join.make(recipe_lines(new.tree, carried), opened, is_payload)
        for file in kept:
            join.keep(file)
        progress.end()
        if checked.remade:
            remake_parity(folder, target.manifest, checked.remade, progress)
            join.prove_remade(checked.remade)
        for inner, _, _ in os.walk(folder):
            os.chmod(inner, FOLDER_MODE)  # noqa: PTH101 - os.walk gives text
        with open_tree(folder) as tree:
            made = open_bundle(tree)
            judged = judge_list(tree, made.signed, root, "release", revocations)
        sync_file_system(fd)
        try:
            folder.rename(out)
        except OSError as fault:
            raise exists_already(out) from fault
        sync_folder(out.parent)
    return Joined(
        out,
        target.digest,
        made.manifest.version,
        made=len(checked.made) - len(checked.taken),
        carried=len(checked.taken),
        kept=len(kept),
        signers=tuple(one.holder for one in judged.verdict.signers),
        release=judged.verdict.accepted,
    )


def _require_room(out: Path, wanted: int) -> None:
    if (free := free_bytes(out.parent)) < wanted:
        raise SpaceExhausted(
            f"too little room under {out.parent}",
            found=f"{free:,} bytes free",
            wanted=f"{wanted:,} bytes",
            hint="free some space or name another folder with --out; nothing was kept",
        )
