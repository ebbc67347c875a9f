"""The manifest of a bundle, format 1: what is in it, where each file comes from, how it is cut.

``manifest.json`` is canonical JSON (RFC 8785).  ``parse_manifest`` accepts only what
``manifest_bytes`` writes, so a manifest that was read is complete, consistent and safe to print.
The fields are described in docs/format.md.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from appliance.bundle.paths import slice_path
from appliance.trust.canonical import canonical_bytes

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from appliance.hardware.needs import HardwareNeeds

FORMAT: Final = 1
#: Files over this many bytes are cut: under FAT's limit and under the 2 GB where scanners stop looking.
SLICE_SIZE: Final = 1 << 30
#: The kind of the one component that says how a patch is applied; no whole bundle has it.
PATCH: Final = "patch"
#: What a payload file's permissions shall be where it is used; format 1 knows no other.
FILE_MODE: Final = "0644"


@dataclass(frozen=True, slots=True)
class Target:
    """The system a bundle is for; ``python`` is the node's, as "major.minor"."""

    distribution: str
    suite: str
    architecture: str
    python: str


@dataclass(frozen=True, slots=True)
class Inference:
    """What the node serves: ``file`` of component ``model``, by component ``engine``, as ``name``.

    The rest is how, where the definition says so: tokens of a request, requests at a time, what weights
    are computed in, and whether nothing is compiled on the node; ``task``: what clients ask for, if it is
    not a chat.
    """

    engine: str
    model: str
    file: str
    name: str
    context: int | None = None
    sequences: int | None = None
    precision: str | None = None
    eager: bool = False
    task: str | None = None


@dataclass(frozen=True, slots=True)
class Build:
    """What the bundle was built from: SHA-256 (hex) of the definition and of the lock's canonical JSON."""

    definition: str
    lock: str


@dataclass(frozen=True, slots=True)
class Base:
    """The bundle that a patch starts from: its digest (hex), and what it said of itself."""

    bundle: str
    version: str
    sequence: int


@dataclass(frozen=True, slots=True)
class ListedFile:
    """A file as it lies in the bundle: digest (lower-case hex) and size in bytes."""

    sha256: str
    size: int


@dataclass(frozen=True, slots=True)
class PayloadFile:
    """One file of a component.

    ``path`` is relative to the bundle.  If ``slices`` is not empty, nothing lies at ``path`` itself:
    its bytes are those of ``slices`` one after another, at ``slice_path(path, 0)`` and so on.
    ``origin`` says by names where the file comes from; it always has ``kind``.
    """

    path: str
    size: int
    sha256: str
    name: str
    version: str
    licence: str
    origin: Mapping[str, str]
    mode: str = FILE_MODE
    slices: tuple[ListedFile, ...] = ()

    def parts(self) -> Iterator[tuple[str, ListedFile]]:
        """The files that really lie in the bundle: the slices, or the file itself."""
        if not self.slices:
            yield self.path, ListedFile(self.sha256, self.size)
        for number, part in enumerate(self.slices):
            yield slice_path(self.path, number), part


@dataclass(frozen=True, slots=True)
class Component:
    """A folder under ``payload/``: its kind, and its files sorted by path.

    ``packages`` are those its definition asked for by name, sorted; the rest of the files is what
    these need.  Empty for kinds that are installed whole.
    """

    kind: str
    files: Sequence[PayloadFile]
    packages: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Manifest:
    """Everything a bundle says about itself.

    ``components`` is sorted by name.  ``files`` are the files outside the payload, except the
    manifest itself, the list, the signatures and provenance.  ``created`` is RFC 3339, UTC, to the
    second, and so is ``expires``, None for never.  ``build`` is None where the builder did not say, and
    ``hardware`` where the definition asks for no particular machine.

    Of a patch, ``requires`` is the one bundle that it starts from, and ``makes`` the digest of the bundle
    that comes of it; ``product``, ``version``, ``sequence``, ``target`` and ``inference`` are that one's.
    A whole bundle has neither.
    """

    product: str
    version: str
    sequence: int
    created: str
    target: Target
    inference: Inference
    components: Mapping[str, Component]
    files: Mapping[str, ListedFile]
    requires: tuple[Base, ...] = field(default=())
    build: Build | None = None
    expires: str | None = None
    hardware: HardwareNeeds | None = None
    makes: str | None = None

    def payload(self) -> Iterator[PayloadFile]:
        """Every payload file, in manifest order: components by name, files by path."""
        for component in self.components.values():
            yield from component.files

    def listed(self) -> dict[str, ListedFile]:
        """Every file that must be in SHA256SUMS, except the manifest itself."""
        parts = {path: part for file in self.payload() for path, part in file.parts()}
        return {**self.files, **parts}


def manifest_bytes(manifest: Manifest) -> bytes:
    """The manifest in its one spelling."""
    return canonical_bytes(manifest_values(manifest))


def manifest_values(manifest: Manifest) -> dict[str, object]:
    """The manifest as JSON values, not judged by any rule."""
    build = (
        {"definition": manifest.build.definition, "lock": manifest.build.lock} if manifest.build else None
    )
    hardware = _hardware_values(manifest.hardware) if manifest.hardware else None
    optional = {
        "build": build,
        "expires": manifest.expires,
        "hardware": hardware,
        "makes": manifest.makes,
    }
    return {key: value for key, value in optional.items() if value is not None} | {
        "format": FORMAT,
        "product": manifest.product,
        "version": manifest.version,
        "sequence": manifest.sequence,
        "created": manifest.created,
        "target": {
            "distribution": manifest.target.distribution,
            "suite": manifest.target.suite,
            "architecture": manifest.target.architecture,
            "python": manifest.target.python,
        },
        "inference": {
            "engine": manifest.inference.engine,
            "model": manifest.inference.model,
            "file": manifest.inference.file,
            "name": manifest.inference.name,
            **{
                key: value
                for key in ("context", "eager", "precision", "sequences", "task")
                if (value := getattr(manifest.inference, key))
            },
        },
        "requires": [
            {"bundle": base.bundle, "version": base.version, "sequence": base.sequence}
            for base in manifest.requires
        ],
        "components": {
            name: _component_values(component) for name, component in manifest.components.items()
        },
        "files": [
            {"path": path, "size": file.size, "sha256": file.sha256}
            for path, file in sorted(manifest.files.items())
        ],
    }


def parse_manifest(data: bytes) -> Manifest:
    """Read a manifest.

    Raises:
        BundleMalformed: anything else than what ``manifest_bytes`` writes for a consistent bundle.
    """
    from appliance.bundle.manifest_reader import read_manifest

    return read_manifest(data)


def _hardware_values(needs: HardwareNeeds) -> dict[str, object]:
    values: dict[str, object] = {
        "firmware": list(needs.firmware),
        "gpu": needs.gpu,
        "gpus": needs.gpus,
        "memory_gib": needs.memory_gib,
        "nvswitches": needs.nvswitches,
        "patch_gb": needs.patch_gb,
        "tensor_parallel": needs.tensor_parallel,
    }
    if needs.mig:
        values["mig"] = needs.mig
    asked = {"disk_gb": needs.disk_gb, "driver": needs.driver, "nic_gbps": needs.nic_gbps}
    values |= {key: number for key, number in asked.items() if number}
    return values


def _component_values(component: Component) -> dict[str, object]:
    values: dict[str, object] = {
        "kind": component.kind,
        "files": [file_values(file) for file in component.files],
    }
    if component.packages:
        values["packages"] = list(component.packages)
    return values


def file_values(file: PayloadFile) -> dict[str, object]:
    """A payload file as JSON values, not judged by any rule."""
    values: dict[str, object] = {
        "path": file.path,
        "size": file.size,
        "sha256": file.sha256,
        "mode": file.mode,
        "name": file.name,
        "version": file.version,
        "licence": file.licence,
        "origin": dict(file.origin),
    }
    if file.slices:
        values["slices"] = [{"size": part.size, "sha256": part.sha256} for part in file.slices]
    return values
