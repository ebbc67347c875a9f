"""What changed from one bundle to another: packages by name, and what the medium must carry anew.

Packages are matched by component, kind and name; their versions, licences, origins, sizes and bytes
are compared.  Licences are compared by meaning, not by spelling.  Nothing is read here: both bundles'
manifests say it all, as truly as they were verified.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from itertools import zip_longest
from typing import TYPE_CHECKING

from appliance.bundle.upstream import makers_signatures
from appliance.bundle.versions import is_older

if TYPE_CHECKING:
    from collections.abc import Iterator

    from appliance.bundle.inspection import Inspection
    from appliance.bundle.manifest import Manifest
    from appliance.bundle.packages import Package


#: Origins whose versions stand for certain bytes; those of generated files are their generator's.
_RELEASED = frozenset({"debian", "huggingface", "oci", "python", "toolkit"})


@dataclass(frozen=True, slots=True)
class Fact:
    """Something both bundles say of themselves, and that differs."""

    name: str
    old: str
    new: str


@dataclass(frozen=True, slots=True)
class FileCounts:
    """How many files, by path, are there anew, no longer, with other bytes."""

    added: int = 0
    removed: int = 0
    changed: int = 0


@dataclass(frozen=True, slots=True)
class Replaced:
    """A file that has other bytes than before: both digests (SHA-256, hex)."""

    path: str
    old: str
    new: str


@dataclass(frozen=True, slots=True)
class ChangedPackage:
    """A package that both bundles have, not the same."""

    old: Package
    new: Package
    files: FileCounts

    @property
    def what(self) -> tuple[str, ...]:
        """Which of version, licence, origin and bytes differ.

        A version that went back is a downgrade too; one that was kept with other bytes is said.
        """
        found = []
        if self.old.version != self.new.version:
            found.append("version")
            if is_older(self.new.kind, self.new.version, self.old.version):
                found.append("downgrade")
        elif any((self.files.added, self.files.removed, self.files.changed)):
            is_release = self.new.kind in _RELEASED and self.new.version
            found.append("same version, other bytes" if is_release else "files")
        if self.old.licence_names != self.new.licence_names:
            found.append("licence")
        if _lasting(self.old) != _lasting(self.new):
            found.append("origin")
        return tuple(found)

    @property
    def replaced(self) -> tuple[Replaced, ...]:
        """The files whose bytes were exchanged under one version; none where the version is another."""
        if self.old.version != self.new.version:
            return ()
        old, new = _digests(self.old), _digests(self.new)
        if len(old) == len(new) == 1:  # a package of one file is that file, whatever its path
            old = dict.fromkeys(new, next(iter(old.values())))
        return tuple(
            Replaced(path, old[path], digest)
            for path, digest in new.items()
            if old.get(path, digest) != digest
        )


@dataclass(frozen=True)
class Comparison:
    """What differs between ``old`` and ``new``; packages in the order of the manifests.

    ``new_bytes``: of the files and slices of ``new`` whose bytes do not lie in ``old`` anywhere,
    each content counted once: what a medium that holds ``old`` lacks.
    """

    old: Inspection
    new: Inspection
    facts: tuple[Fact, ...]
    added: tuple[Package, ...]
    removed: tuple[Package, ...]
    changed: tuple[ChangedPackage, ...]
    files: FileCounts
    new_bytes: int

    @property
    def direction(self) -> str:
        """Where the sequence goes; a node refuses to go back."""
        if self.old.manifest.product != self.new.manifest.product:
            return "another product"
        before, after = self.old.manifest.sequence, self.new.manifest.sequence
        if before == after:
            return "the same sequence" if self.old.digest != self.new.digest else "the same bundle"
        return "forward" if after > before else "BACK: nodes refuse an older sequence"


def compare(old: Inspection, new: Inspection) -> Comparison:
    """What changed from ``old`` to ``new``."""
    added: list[Package] = []
    removed: list[Package] = []
    changed: list[ChangedPackage] = []
    for before, after in _matched(old.packages, new.packages):
        if before is None and after is not None:
            added.append(after)
        elif after is None and before is not None:
            removed.append(before)
        elif before is not None and after is not None:
            pair = ChangedPackage(before, after, _file_counts(_digests(before), _digests(after)))
            if pair.what:
                changed.append(pair)
    return Comparison(
        old=old,
        new=new,
        facts=tuple(_facts(old, new)),
        added=tuple(added),
        removed=tuple(removed),
        changed=tuple(changed),
        files=_file_counts(
            {file.path: file.sha256 for file in old.manifest.payload()},
            {file.path: file.sha256 for file in new.manifest.payload()},
        ),
        new_bytes=_new_bytes(old.manifest, new.manifest),
    )


def _matched(
    old: tuple[Package, ...], new: tuple[Package, ...]
) -> Iterator[tuple[Package | None, Package | None]]:
    """Pairs of packages of one name; of several (a wheel for each Python) the same ones first."""
    sides: dict[tuple[str, str, str], tuple[list[Package], list[Package]]] = defaultdict(lambda: ([], []))
    for side, contents in enumerate((old, new)):
        for package in contents:
            # A set of files is named after its only file, if it has one; it is the component's set.
            name = package.name if package.version or package.kind != "file" else ""
            sides[package.component, package.kind, name][side].append(package)
    for _, (before, after) in sorted(sides.items()):
        held = {frozenset(_digests(package).values()): package for package in after}
        for package in list(before):
            twin = held.pop(frozenset(_digests(package).values()), None)
            if twin is not None:
                before.remove(package)
                after.remove(twin)
                yield package, twin
        yield from zip_longest(before, after)


def _facts(old: Inspection, new: Inspection) -> Iterator[Fact]:
    for name, before, after in zip(_FACTS, _said(old), _said(new), strict=True):
        if before != after:
            yield Fact(name, before, after)


_FACTS = (
    *("product", "version", "sequence", "target", "serves", "makers"),
    *("definition", "lock", "root", "parity"),
)


def _said(seen: Inspection) -> tuple[str, ...]:
    manifest, served, target = seen.manifest, seen.manifest.inference, seen.manifest.target
    build = manifest.build
    return (
        manifest.product,
        manifest.version,
        str(manifest.sequence),
        f"{target.distribution} {target.suite} {target.architecture}, Python {target.python}",
        f"{served.name}: {served.model}/{served.file} by {served.engine}",
        _makers(manifest),
        build.definition if build else "not stated",
        build.lock if build else "not stated",
        f"version {seen.root.version}, {seen.root.fingerprint}" if seen.root else "none",
        f"{seen.parity[1]:,} bytes",
    )


def _makers(manifest: Manifest) -> str:
    """Whose keys signed which component's model, as far as that was checked when it was locked."""
    said = [
        f"{name}: key {file.origin['signed_by']}" if "signed_by" in file.origin else f"{name}: not checked"
        for name, component in manifest.components.items()
        for file in makers_signatures(component)
    ]
    return ", ".join(said) or "no signature by makers"


def _digests(package: Package) -> dict[str, str]:
    return {file.path: file.sha256 for file in package.files}


def _file_counts(old: dict[str, str], new: dict[str, str]) -> FileCounts:
    both = old.keys() & new.keys()
    return FileCounts(
        added=len(new) - len(both),
        removed=len(old) - len(both),
        changed=sum(old[path] != new[path] for path in both),
    )


def _new_bytes(old: Manifest, new: Manifest) -> int:
    held = {part.sha256 for file in old.payload() for _, part in file.parts()}
    wanted = {part.sha256: part.size for file in new.payload() for _, part in file.parts()}
    return sum(size for sha256, size in wanted.items() if sha256 not in held)


def _lasting(package: Package) -> dict[str, str]:
    """What of an origin does not change by itself from version to version."""
    passing = {"revision", "image", "upstream", "source_version", "pythons"}
    return {key: value for key, value in package.origin.items() if key not in passing}
