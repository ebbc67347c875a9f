"""Signatures that models bring from their makers, checked again from the bundle alone.

Nothing is hashed for it: a signature names files by SHA-256, and so does the manifest, which is signed and
compared with the list.  Only the signature's own few kilobytes are read.  What contradicts the manifest
refuses the bundle; what holds counts for no threshold.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from appliance.bundle.files_on_medium import FilesOnMedium
from appliance.bundle.paths import PAYLOAD_FOLDER
from appliance.bundle.reader import read_listed
from appliance.errors import UpstreamSignatureInvalid
from appliance.trust.upstream import MAX_BYTES
from appliance.trust.upstream_claim import MARKS, judge_again

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from appliance.bundle.manifest import Component, PayloadFile
    from appliance.bundle.opening import BundleTree
    from appliance.bundle.reader import Contents
    from appliance.trust.upstream_claim import Judged

_NAMED: Final = 4  # files named in a line before "and others"


@dataclass(frozen=True, slots=True)
class UpstreamFinding:
    """One signature by a model's makers.

    ``path`` is that of the signature file in the bundle.  ``outside`` are files of the component that lie
    outside the folder it speaks of; sorted.
    """

    path: str
    component: str
    judged: Judged
    outside: tuple[str, ...] = ()

    @property
    def text(self) -> str:
        """What was found, in a line."""
        coverage = self.judged.coverage
        name = self.path.removeprefix(f"{PAYLOAD_FOLDER}/")
        if coverage is None:
            return f"{name}: NOT CHECKED: {self.judged.unchecked}"
        parts = [f"{name}: {coverage.covered} files are signed by key {self.judged.signed_by}"]
        for what, names in (
            ("not covered", (*coverage.uncovered, *self.outside)),
            ("signed but not carried", coverage.absent),
        ):
            if names:
                others = f" and {len(names) - _NAMED} others" if len(names) > _NAMED else ""
                parts.append(f"{what}: {', '.join(names[:_NAMED])}{others}")
        return "; ".join(parts)

    @property
    def values(self) -> dict[str, object]:
        """The same as JSON values."""
        coverage = self.judged.coverage
        return {
            "file": self.path,
            "component": self.component,
            "method": self.judged.method,
            "checked": coverage is not None,
            "unchecked_because": self.judged.unchecked,
            "signed_by": self.judged.signed_by,
            "covered": coverage.covered if coverage else 0,
            "uncovered": [*coverage.uncovered, *self.outside] if coverage else [],
            "not_carried": list(coverage.absent) if coverage else [],
        }


def check_upstream(tree: BundleTree, contents: Contents) -> tuple[UpstreamFinding, ...]:
    """Check every signature by makers of models that the manifest speaks of.

    Raises:
        UpstreamSignatureInvalid: one is not what the manifest says of it, or not for these files.
        DigestMismatch, FileMissing, FileUnexpected: a signature's file is not the listed one.
    """
    found = []
    for name, component in contents.manifest.components.items():
        marked = tuple(makers_signatures(component))
        if len(marked) > 1:
            raise UpstreamSignatureInvalid(
                f"component {name} has several signatures by its makers",
                found=", ".join(file.path for file in marked[:_NAMED]),
                wanted="at most one",
                hint="obtain the bundle again; its builder made a mistake",
            )
        found += [_check(tree, contents, name, component, file) for file in marked]
    return tuple(found)


def makers_signatures(component: Component) -> Iterable[PayloadFile]:
    """The files of a component of which the manifest says that they are signatures by a model's makers."""
    if isinstance(component.files, FilesOnMedium):
        return component.files.with_origin(MARKS)
    return (file for file in component.files if any(mark in file.origin for mark in MARKS))


def _check(
    tree: BundleTree, contents: Contents, name: str, component: Component, file: PayloadFile
) -> UpstreamFinding:
    if file.size > MAX_BYTES or file.slices:
        raise UpstreamSignatureInvalid(
            f"{file.path} is too large for a signature",
            found=f"{file.size:,} bytes",
            wanted=f"at most {MAX_BYTES:,}, in one piece",
            hint="obtain the bundle again; its builder made a mistake",
        )
    data = read_listed(tree, contents.files.lists, file.path, limit=MAX_BYTES)
    folder, _, own = file.path.rpartition("/")
    outside: list[str] = []

    def within() -> Iterator[tuple[str, str]]:
        for each in component.files:
            if each.path.startswith(folder + "/"):
                yield each.path.removeprefix(folder + "/"), each.sha256
            else:
                outside.append(each.path.removeprefix(f"{PAYLOAD_FOLDER}/{name}/"))

    try:
        judged = judge_again(data, file.origin, within(), own)
    except UpstreamSignatureInvalid as fault:
        fault.message = f"{file.path}: {fault.message}"
        raise
    return UpstreamFinding(file.path, name, judged, tuple(outside))
