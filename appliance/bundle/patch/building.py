"""Building a patch: what the base does not hold is made of it, or travels; the rest is left out."""

from __future__ import annotations

import hashlib
import shutil
from contextlib import ExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from appliance.bundle.durable import writing_under
from appliance.bundle.opening import open_tree
from appliance.bundle.patch.choosing import bases_for
from appliance.bundle.patch.encoding import Encoder
from appliance.bundle.patch.holdings import open_bundle, whole_files
from appliance.bundle.patch.packing import WORTH
from appliance.bundle.patch.recipe import (
    BLOCKS,
    HEAD,
    RECIPE,
    BaseFile,
    MadeFile,
    Part,
    Range,
    Remade,
    Taken,
    item_line,
)
from appliance.bundle.patch.recovery import parity_sets
from appliance.bundle.patch.result import BuiltPatch, Entry
from appliance.bundle.patch.whole import WholeFile
from appliance.bundle.patch.writing import write_patch
from appliance.bundle.paths import PAYLOAD_FOLDER
from appliance.bundle.writer import require_new
from appliance.errors import DigestMismatch, PatchUnfit, PatchUseless

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path
    from typing import BinaryIO

    from appliance.bundle.patch.holdings import HeldFile, Holdings, OpenBundle
    from appliance.bundle.writer import Companion
    from appliance.progress import Progress

_WORK: Final = ".{}.patch"


@dataclass(frozen=True, slots=True)
class _Recipe:
    """A recipe in the making: its parts, with the numbers that base files get in the order they are met."""

    lines: BinaryIO
    blocks: BinaryIO
    numbers: dict[str, int]
    bases: list[BaseFile]

    def number(self, base: HeldFile) -> int:
        """The number of a base file; a new one if it has none yet."""
        if base.sha256 not in self.numbers:
            self.numbers[base.sha256] = len(self.bases)
            self.bases.append(BaseFile(base.sha256, base.size))
        return self.numbers[base.sha256]


def build_patch(
    holdings: Holdings,
    to: Path | Sequence[Path],
    out: Path,
    *,
    progress: Progress,
    companions: Sequence[Companion] = (),
) -> BuiltPatch:
    """Write the patch that makes of ``holdings`` the bundle ``to``, to the new folder ``out``.

    Neither bundle's signatures are judged: who signs the patch vouches for both.  Every byte that is used
    is hashed, so that a base or a bundle that has decayed here gives no patch.

    Args:
        holdings: the base, open.
        to: where the bundle lies.
        out: must not exist; the folder it lies in must.
        progress: told of each file.
        companions: as of ``write_bundle``.

    Raises:
        PatchUnfit: the bundle is not a later one of the same product, or is a patch itself.
        PatchUseless: the patch would save nothing.
        DigestMismatch: a file of either is damaged.
        BundleUntrusted: the bundle breaks the format.
        Usage, SpaceExhausted, PreflightFailed: ``out`` exists, or cannot be written.
    """
    require_new(out)
    work = out.with_name(_WORK.format(out.name))
    with ExitStack() as stack:
        tree = stack.enter_context(open_tree(to))
        target = open_bundle(tree)
        _check_order(holdings, target)
        stack.enter_context(writing_under(out.parent))
        shutil.rmtree(work, ignore_errors=True)
        work.mkdir(mode=0o700)
        stack.callback(shutil.rmtree, work, ignore_errors=True)
        entries = _make(holdings, target, work, progress)
        _check_use(entries, work)
        taken = {each.path for each in entries if each.how == "whole"}
        write_patch(out, holdings, target, taken, work, progress=progress, companions=companions)
    digest = hashlib.sha256((out / "trust/SHA256SUMS").read_bytes()).hexdigest()
    size = sum(path.stat().st_size for path in out.rglob("*") if path.is_file())
    return BuiltPatch(out, digest, size, holdings.base, target.digest, target.manifest.version, entries)


def _check_order(holdings: Holdings, target: OpenBundle) -> None:
    manifest, base = target.manifest, holdings.base
    if manifest.makes is not None:
        raise PatchUnfit(
            "what the patch should lead to is a patch itself",
            found=target.digest,
            wanted="a whole bundle",
            hint="join it with its base first: appliance patch join",
        )
    if manifest.product != holdings.product or manifest.sequence <= base.sequence:
        raise PatchUnfit(
            "a patch leads to a later bundle of the same product",
            found=f"from {holdings.product} {base.version}, sequence {base.sequence}, "
            f"to {manifest.product} {manifest.version}, sequence {manifest.sequence}",
            wanted=f"a bundle of {holdings.product} after sequence {base.sequence}",
            hint="raise the sequence in the definition, lock and build again; "
            "an earlier bundle needs a permit, not a patch",
        )


def _check_use(entries: Sequence[Entry], work: Path) -> None:
    """Refuse to pretend: a patch that carries as much as the bundle is none."""
    whole = sum(each.size for each in entries)
    carried = sum(each.carried for each in entries) + (work / RECIPE).stat().st_size
    if carried > whole * WORTH:
        raise PatchUseless(
            "the patch would be as large as the bundle: the two have next to nothing in common",
            found=f"{carried:,} bytes would travel",
            wanted=f"well under {whole:,} bytes, the size of the bundle",
            hint="carry the bundle itself; a model that was trained anew shares no bytes with the old one",
        )


def _make(holdings: Holdings, target: OpenBundle, work: Path, progress: Progress) -> list[Entry]:
    """Write blocks and recipe into ``work``; what became of every file."""
    files = whole_files(target)
    missing = [file for file in files.values() if file.sha256 not in holdings.digests]
    entries = [
        Entry(file.path, file.size, 0, "held", "the base has it")
        for file in files.values()
        if file.sha256 in holdings.digests
    ]
    progress.begin("patch", len(missing), sum(file.size for file in missing))
    body = work / "parts"
    with body.open("wb") as lines, (work / BLOCKS).open("wb") as blocks:
        recipe = _Recipe(lines, blocks, {}, [])
        parity = parity_sets(target.manifest)
        for file in missing:
            if file.path in parity:
                lines.write(item_line(MadeFile(file.sha256, file.size, file.path)) + item_line(Remade()))
                entries.append(Entry(file.path, file.size, 0, "made", "recovery data, computed again"))
            else:
                entries.append(_one(recipe, holdings, target, file))
            progress.advance(file.size)
            progress.item(file.path)
    progress.end()
    _finish(work / RECIPE, body, recipe.bases)
    return sorted(entries, key=lambda each: each.path)


def _one(recipe: _Recipe, holdings: Holdings, target: OpenBundle, file: HeldFile) -> Entry:
    """Make one file's part of the recipe; taken back if the file itself is no larger."""
    chosen = bases_for(file, holdings)
    start, mark, known = recipe.blocks.tell(), recipe.lines.tell(), len(recipe.bases)
    recipe.lines.write(item_line(MadeFile(file.sha256, file.size, file.path)))
    head = recipe.lines.tell()
    digest = hashlib.sha256()
    copied = 0
    with ExitStack() as stack:
        opened = stack.enter_context(WholeFile(target.tree, file.path, file.parts))
        bases = [stack.enter_context(holdings.open(base)) for base in chosen]
        wanted = [base.sha256 for base in chosen]
        encoder = Encoder(recipe.blocks.write, digest.update)
        for found in _joined(encoder.parts(opened, bases, wanted)):
            source = found.source
            part = _numbered(found, recipe.number(chosen[source.base])) if source is not None else found
            if not part.packed:
                copied += part.length
            recipe.lines.write(item_line(part))
        for each in (opened, *bases):
            each.require_unchanged()
    if digest.hexdigest() != file.sha256:
        raise DigestMismatch(
            f"{file.path} is not what its bundle says",
            found=f"sha256 {digest.hexdigest()}",
            wanted=f"sha256 {file.sha256}",
            hint="build the bundle again",
        )
    carried = recipe.blocks.tell() - start
    cost = carried + recipe.lines.tell() - head
    if len(file.parts) == 1 and file.path.startswith(PAYLOAD_FOLDER) and cost > file.size * WORTH:
        recipe.blocks.seek(start)
        recipe.blocks.truncate()
        recipe.lines.seek(head)
        recipe.lines.truncate()
        recipe.lines.write(item_line(Taken()))
        for base in recipe.bases[known:]:
            del recipe.numbers[base.sha256]
        del recipe.bases[known:]
        why = f"nothing in common with {chosen[0].path}" if chosen else "new"
        return Entry(file.path, file.size, file.size, "whole", why)
    why = _why(file, chosen, copied)
    return Entry(file.path, file.size, carried + recipe.lines.tell() - mark, "made", why)


def _why(file: HeldFile, chosen: Sequence[HeldFile], copied: int) -> str:
    if not chosen:
        return "new, packed"
    source = chosen[0].path if len(chosen) == 1 else f"{len(chosen)} files"
    same = f"{copied:,} bytes copied" if copied else "packed against it"
    return same if source == file.path else f"{same}, from {source}"


def _joined(parts: Iterator[Part]) -> Iterator[Part]:
    """Copies that go on where the one before ended become one."""
    last: Part | None = None
    for part in parts:
        if last and last.source and part.source and not last.packed and not part.packed:
            one, other = last.source, part.source
            if one.base == other.base and one.offset + one.length == other.offset:
                last = Part(
                    last.length + part.length, source=Range(one.base, one.offset, one.length + other.length)
                )
                continue
        if last:
            yield last
        last = part
    if last:
        yield last


def _numbered(part: Part, number: int) -> Part:
    source = part.source
    if source is None:
        raise ValueError("only a part with a source has a base")
    return Part(
        part.length, part.packed, Range(number, source.offset, source.length), compressed=part.compressed
    )


def _finish(path: Path, body: Path, bases: Sequence[BaseFile]) -> None:
    """The recipe: base files in order of their digests, then the parts with the numbers that follow."""
    order = sorted(range(len(bases)), key=lambda number: bases[number].sha256)
    numbers = {b"%d" % old: b"%d" % new for new, old in enumerate(order)}
    with path.open("wb") as out, body.open("rb") as lines:
        out.write(HEAD)
        out.writelines(item_line(bases[number]) for number in order)
        for line in lines:
            words = line.split(b" ")
            if words[0] == b"copy":
                words[1] = numbers[words[1]]
            elif words[0] == b"delta":
                words[3] = numbers[words[3]]
            out.write(b" ".join(words))
    body.unlink()
