"""What a base holds, and where its bytes can be read: a bundle at hand, or what a node said it has."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Final, Protocol

from appliance.bundle.manifest import Base
from appliance.bundle.patch.whole import FolderFiles, WholeFile
from appliance.bundle.paths import LIST_PATH, MANIFEST_PATH
from appliance.bundle.reader import read_contents, read_signed
from appliance.errors import PatchUnfit

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from appliance.bundle.manifest import Manifest
    from appliance.bundle.opening import BundleTree
    from appliance.bundle.patch.whole import Opens
    from appliance.bundle.reader import Contents, Signed
    from appliance.trust.node_inventory import HeldCopy, NodeInventory, Running

#: Of what lies outside components.
OUTSIDE: Final = ""


@dataclass(frozen=True, slots=True)
class HeldFile:
    """A file of a bundle, whole.

    ``parts``: path and size of what it lies in, in order.  Of what is not payload, ``component`` is
    ``OUTSIDE``, and ``name`` the path.
    """

    path: str
    sha256: str
    size: int
    component: str
    name: str
    parts: tuple[tuple[str, int], ...]


@dataclass(frozen=True)
class Holdings:
    """What a base holds.

    ``files`` are those whose bytes are at hand, by path; ``opens`` opens their parts.  ``digests`` are of
    everything the base holds, at hand or not.
    """

    base: Base
    product: str
    files: Mapping[str, HeldFile]
    opens: Opens
    digests: frozenset[str]

    def open(self, file: HeldFile) -> WholeFile:
        """One of ``files``."""
        return WholeFile(self.opens, file.path, file.parts)

    @cached_property
    def by_name(self) -> Mapping[tuple[str, str], Sequence[HeldFile]]:
        """Those of ``files`` that are payload, by component and name."""
        found: dict[tuple[str, str], list[HeldFile]] = {}
        for file in self.files.values():
            if file.component != OUTSIDE and file.size:
                found.setdefault((file.component, file.name), []).append(file)
        return found

    def longer_than(self, size: int, component: str) -> list[HeldFile]:
        """Those of ``files`` that are a component's, and have more bytes."""
        return [file for file in self.files.values() if file.component == component and file.size > size]


class Store(Protocol):
    """Where bytes may be at hand by their digest (``appliance.sources.store.Store``)."""

    def path(self, sha256: str) -> Path:
        """Where a file with this digest would lie."""


@dataclass(frozen=True)
class OpenBundle:
    """A bundle as far as its list, its manifest and its set of files go; ``digest`` is its identity."""

    tree: BundleTree
    signed: Signed
    contents: Contents
    unlisted: Mapping[str, bytes] = field(default_factory=dict)

    @property
    def digest(self) -> str:
        return self.signed.digest

    @property
    def manifest(self) -> Manifest:
        return self.contents.manifest


def open_bundle(tree: BundleTree) -> OpenBundle:
    """Read what a bundle says of itself; no signature and no byte of the payload is judged.

    Raises:
        BundleUntrusted: the bundle breaks the format, or other files lie there than it lists.
    """
    signed = read_signed(tree)
    return OpenBundle(tree, signed, read_contents(tree, signed), signed.unlisted)


def whole_files(bundle: OpenBundle) -> dict[str, HeldFile]:
    """Every file of a bundle by path, also those that no list names, sorted by path."""
    found = []
    listed = bundle.contents.files[MANIFEST_PATH]
    for path, file in {**bundle.manifest.files, MANIFEST_PATH: listed}.items():
        found.append(HeldFile(path, file.sha256, file.size, OUTSIDE, path, ((path, file.size),)))
    for path, data in bundle.unlisted.items():
        digest = hashlib.sha256(data).hexdigest()
        found.append(HeldFile(path, digest, len(data), OUTSIDE, path, ((path, len(data)),)))
    for name, component in bundle.manifest.components.items():
        for each in component.files:
            parts = tuple((path, part.size) for path, part in each.parts())
            found.append(HeldFile(each.path, each.sha256, each.size, name, each.name, parts))
    return {file.path: file for file in sorted(found, key=lambda file: file.path)}


def bundle_holdings(bundle: OpenBundle) -> Holdings:
    """What whoever has this bundle holds.

    Raises:
        PatchUnfit: it is a patch, and nobody has what that leads to by it alone.
    """
    files = whole_files(bundle)
    manifest = bundle.manifest
    if manifest.makes is not None:
        raise PatchUnfit(
            "what the patch should start from is a patch itself",
            found=bundle.digest,
            wanted="a whole bundle",
            hint="join it with its base first: appliance patch join",
        )
    return Holdings(
        base=Base(bundle.digest, manifest.version, manifest.sequence),
        product=manifest.product,
        files=files,
        opens=bundle.tree,
        digests=frozenset(file.sha256 for file in files.values()),
    )


def node_holdings(
    inventory: NodeInventory, *, bundle: OpenBundle | None = None, store: Store | None = None
) -> Holdings:
    """What a node holds of the bundle that is installed on it.

    Args:
        inventory: what the node says; in the short form, ``bundle`` has to say what the files are.
        bundle: the node's bundle, if it is at hand.
        store: where files may be at hand.

    Raises:
        PatchUnfit: nothing is installed on the node, its copy is not whole and which files are wrong is not
            known, or ``bundle`` is another.
    """
    running = inventory.installed
    copy = inventory.copy(running.bundle) if running else None
    if running is None or copy is None:
        raise PatchUnfit(
            f"{inventory.node} has no bundle that a patch could start from",
            found="nothing installed" if running is None else f"no copy of {running.bundle}",
            wanted="a node on which a bundle was installed, with its staged copy",
            hint="install the whole bundle",
        )
    if bundle is not None and bundle.digest != running.bundle:
        raise PatchUnfit(
            f"{inventory.node} has another bundle than the one named for it",
            found=bundle.digest,
            wanted=running.bundle,
            hint="name the bundle that is installed there",
        )
    if bundle is not None:
        _require_same(running, bundle.manifest, inventory.node)
    base = Base(running.bundle, running.version, running.sequence)
    holds = _held(copy, bundle, inventory.node)
    digests = frozenset(holds.values())
    if bundle is not None:
        files = {path: file for path, file in whole_files(bundle).items() if holds.get(path) == file.sha256}
        return Holdings(base, running.product, files, bundle.tree, digests)
    files = _in_store(holds, store) if store else {}
    return Holdings(base, running.product, files, FolderFiles(), digests)


def _require_same(running: Running, manifest: Manifest, node: str) -> None:
    """Refuse an inventory that calls a bundle otherwise than the bundle itself does."""
    said = (running.product, running.version, running.sequence)
    if said != (manifest.product, manifest.version, manifest.sequence):
        raise PatchUnfit(
            f"the inventory of {node} calls its bundle otherwise than the bundle does",
            found="{} {}, sequence {}".format(*said),
            wanted=f"{manifest.product} {manifest.version}, sequence {manifest.sequence}",
            hint="fetch the inventory from the node again, and check who signed it: -i SITE",
        )


def _held(copy: HeldCopy, bundle: OpenBundle | None, node: str) -> Mapping[str, str]:
    """SHA-256 by path of what the node has and is right; its list is what the copy is named for."""
    if copy.holds:
        return copy.holds if LIST_PATH in copy.faults else {**copy.holds, LIST_PATH: copy.bundle}
    if bundle is None or not copy.whole:
        raise PatchUnfit(
            f"the inventory of {node} does not say which files it holds",
            found="the short form" + ("" if copy.whole else f", {copy.wrong} wrong files"),
            wanted="the whole inventory; or the short one of a whole copy, and its bundle with --base",
            hint="appliance status --export on the node, without --short",
        )
    return {path: file.sha256 for path, file in whole_files(bundle).items()}


def _in_store(holds: Mapping[str, str], store: Store) -> dict[str, HeldFile]:
    found = {}
    for path, digest in holds.items():
        place = store.path(digest)
        if place.is_file():
            size = place.stat().st_size
            component = path.split("/")[1] if path.startswith("payload/") else OUTSIDE
            found[path] = HeldFile(path, digest, size, component, path, ((str(place), size),))
    return found
