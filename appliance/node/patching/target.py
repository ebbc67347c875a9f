"""The bundle that a patch leads to, as a station knows it that has the patch and a node with its base.

What lies outside the payload is made here, of the patch and of what the node has; list and manifest among
it, so that the digests of all the rest are known before anything on a node changes.  Of the payload it is
said where each file comes from: the node's own copy, the patch, or parts of both.
"""

from __future__ import annotations

from array import array
from contextlib import ExitStack
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from appliance.bundle.fileset import ListedFiles
from appliance.bundle.lists import parse_lists
from appliance.bundle.manifest import ListedFile
from appliance.bundle.opening import opened_again
from appliance.bundle.patch.applying import check
from appliance.bundle.patch.fitting import kept_files, read_target, require_sound
from appliance.bundle.patch.holdings import open_bundle, whole_files
from appliance.bundle.patch.making import BLOCKS_PATH, Making, is_payload, recipe_lines
from appliance.bundle.patch.whole import WholeFile
from appliance.bundle.paths import MANIFEST_PATH
from appliance.bundle.reader import read_signed
from appliance.bundle.tree import Tree
from appliance.bundle.wording import some
from appliance.errors import DigestMismatch, PatchUnfit
from appliance.node.patching.base import is_document
from appliance.node.patching.parts import file_parts
from appliance.node.sent import files_of

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from appliance.bundle.manifest import Manifest
    from appliance.bundle.patch.holdings import HeldFile
    from appliance.bundle.verify import VerifiedBundle
    from appliance.node.patching.base import NodeBase
    from appliance.node.patching.parts import FileParts
    from appliance.node.sent import SentFile
    from appliance.progress import Progress
    from appliance.trust.node_inventory import HeldCopy


@dataclass(frozen=True)
class Target:
    """A bundle that is to be made on nodes, of their copies of another one.

    Attributes:
        bundle: what it is; who vouches for it are the signers of the patch.
        documents: the folder in which everything outside its payload lies.
        files: all that a copy of it has, each with where its bytes are the same in the copy of ``base``.
        without: recovery data that the copy will lack.
        parts: of each payload file that is made, by path; what is neither here nor the same travels whole.
        bases: paths in the copy of ``base`` of the files that parts read, in the recipe's order.
        needs: SHA-256 (hex) by path of the payload that the copy of ``base`` has to have.
        keys_alone: it differs from the base in nothing that nodes run by.
    """

    bundle: VerifiedBundle
    documents: Path
    base: str
    files: Sequence[SentFile]
    without: Sequence[str]
    parts: Mapping[str, FileParts]
    bases: Sequence[str]
    needs: Mapping[str, str]
    keys_alone: bool = False

    @property
    def size(self) -> int:
        """Bytes of the copy."""
        return sum(file.size for file in self.files)

    @property
    def room(self) -> int:
        """Bytes that are written on a node at the most."""
        return sum(file.size for file in self.files if not file.same)


def make_target(
    verified: VerifiedBundle, base: NodeBase, held: HeldCopy, folder: Path, *, progress: Progress
) -> Target:
    """Make the documents, and find out where the payload comes from.

    Args:
        verified: the patch.
        base: what it starts from, on a node.
        held: what that node said of its copy.
        folder: an empty folder for the documents.
        progress: told of each document.

    Raises:
        RecipeInvalid: the recipe breaks a rule, or makes another bundle than was signed.
        PatchUnfit: neither patch nor base has some files.
        DigestMismatch: the patch was changed after it was verified, or a document of the base.
        MediumFailed: the patch's medium was pulled.
    """
    with ExitStack() as stack:
        new = open_bundle(stack.enter_context(opened_again(verified.folders)))
        if new.digest != verified.digest:
            raise DigestMismatch("the patch was changed after it was verified", hint="start again")
        carried = whole_files(new)
        blocks = carried.get(BLOCKS_PATH)
        size = blocks.size if blocks else 0
        checked = check(recipe_lines(new.tree, carried), blocks=size)
        require_sound(checked, carried)
        by_digest = base.by_digest()
        wanted = {each.sha256: by_digest.get(each.sha256) for each in checked.bases}
        if lacking := [digest for digest, file in wanted.items() if file is None]:
            raise PatchUnfit(
                "the patch reads files that its base never had",
                found=f"nothing with sha256 {some(lacking)}",
                wanted="the bundle that the patch requires",
                hint="build the patch again",
            )
        making = Making(
            folder,
            checked,
            open_base=lambda digest: base.open(by_digest[digest]),
            open_carried=lambda path: WholeFile(new.tree, path, carried[path].parts),
            progress=progress,
        )
        opened = stack.enter_context(WholeFile(new.tree, blocks.path, blocks.parts)) if blocks else None
        documents = {path for path in checked.made.keys() - checked.remade if is_document(path)}
        making.make(recipe_lines(new.tree, carried), opened, documents.__contains__)
        target = making.target = read_target(folder, checked, verified.manifest)
        kept = kept_files(target, checked, by_digest)
        for pair in kept:
            if is_document(pair[0].path):
                making.keep(pair)
        made = checked.made.keys() - checked.taken - checked.remade
        bases, parts = file_parts(
            recipe_lines(new.tree, carried), size, lambda path: is_payload(path) and path in made
        )
    sources = [by_digest[each.sha256] for each in bases]
    same = {file.path: source for file, source in kept}
    bundle = _as_bundle(verified, folder, target.manifest, target.digest)
    with Tree(folder) as tree:
        files = files_of(tree, target.manifest, bundle.files)
    made_of = _target(bundle, folder, base.digest, files, same, parts, sources, held)
    return replace(made_of, keys_alone=is_keys_alone(target.manifest, base.manifest))


def _target(  # noqa: PLR0917 - what it is made of
    bundle: VerifiedBundle,
    folder: Path,
    base: str,
    files: Sequence[SentFile],
    same: Mapping[str, HeldFile],
    parts: Mapping[str, FileParts],
    sources: Sequence[HeldFile],
    held: HeldCopy,
) -> Target:
    found, without = [], []
    needs = {source.path: source.sha256 for source in sources if is_payload(source.path)}
    for file in files:
        if is_document(file.path):
            found.append(file)
        elif is_payload(file.path):
            source = same.get(file.path)
            found.append(replace(file, same=source.path) if source else file)
            needs |= {source.path: source.sha256} if source else {}
        elif (source := same.get(file.path)) and held.holds.get(source.path) == file.sha256:
            found.append(replace(file, same=source.path))
        else:
            without.append(file.path)
    paths = [source.path for source in sources]
    return Target(bundle, folder, base, found, without, parts, paths, needs)


def _as_bundle(verified: VerifiedBundle, folder: Path, manifest: Manifest, digest: str) -> VerifiedBundle:
    """The bundle that was made, vouched for by who signed the patch, which names its digest."""
    listed = listed_files(folder, manifest)
    return replace(verified, folders=(folder,), digest=digest, manifest=manifest, files=listed, upstream=())


def is_keys_alone(target: Manifest, base: Manifest) -> bool:
    """Whether two bundles have other keys, and else nothing that a node runs by."""
    same = ("product", "components", "inference", "target", "hardware", "expires")
    if any(getattr(target, each) != getattr(base, each) for each in same):
        return False
    return _trust(target) != _trust(base)


def _trust(manifest: Manifest) -> dict[str, ListedFile]:
    return {path: file for path, file in manifest.files.items() if path.startswith("trust/")}


def listed_files(folder: Path, manifest: Manifest) -> ListedFiles:
    """What a bundle lists, of which the documents lie in a folder."""
    with Tree(folder) as tree:
        lists = parse_lists(read_signed(tree))
    files = manifest.listed()
    files[MANIFEST_PATH] = ListedFile(lists.index[MANIFEST_PATH], (folder / MANIFEST_PATH).stat().st_size)
    return ListedFiles(lists, array("q", (files[path].size for path in lists.index)))


def require_needs(target: Target, node: str, held: HeldCopy | None) -> None:
    """Refuse a node whose copy lacks what the patch is made against; nothing was changed then.

    Raises:
        PatchUnfit: naming the files, and what is wrong with them.
    """
    holds = held.holds if held else {}
    missing = sorted(path for path, digest in target.needs.items() if holds.get(path) != digest)
    if not missing:
        return
    faults = held.faults if held else {}
    raise PatchUnfit(
        f"{node} lacks {len(missing):,} files that the patch is made against; nothing was changed",
        found=some([f"{path} ({faults.get(path, 'not there')})" for path in missing]),
        wanted=f"the copy of {target.base}, as it was staged",
        hint=f"appliance status --limit {node} --export DIR, and build a patch from that; "
        "or install the whole bundle",
    )
