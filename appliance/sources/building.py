"""From a lock to a bundle: fetch what is named, then write a complete bundle or none."""

from __future__ import annotations

import hashlib
import shutil
from dataclasses import dataclass
from typing import TYPE_CHECKING

from appliance.definition.lock import Lock, read_lock_bytes
from appliance.definition.lock_records import sizes
from appliance.definition.renumbering import renumbered
from appliance.errors import DigestMismatch, LockInvalid, RootInvalid, SpaceExhausted, Usage
from appliance.sources.definition_files import default_lock_path, open_definition
from appliance.sources.fetching import fetch_locked

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from appliance.definition.bundle_definition import ReadDefinition
    from appliance.sources.station import Station


@dataclass(frozen=True)
class Built:
    """A finished bundle; ``digest`` is the SHA-256 of its trust/SHA256SUMS, its identity."""

    folder: Path
    digest: str
    lock: Lock


def read_lock(path: Path, read: ReadDefinition) -> Lock:
    """The lock in ``path``, if it belongs to the definition.

    Raises:
        LockInvalid: it is not there, malformed, or was made from another text.
    """
    lock = _parsed(path)
    if lock.definition != read.digest:
        raise LockInvalid(
            "the lock does not belong to this definition",
            found=f"a lock of sha256 {lock.definition}",
            wanted=f"sha256 {read.digest}",
            hint="the definition was changed after it was locked: lock again, and review what changed",
        )
    return lock


def renumbered_lock(definition: Path, keep: Path) -> Lock:
    """What another lock pinned, for a definition that has other numbers since.

    Raises:
        LockInvalid, DefinitionInvalid: as of ``read_lock``, ``open_definition`` and ``renumbered``.
    """
    read = open_definition(definition)
    return renumbered(definition.read_bytes(), read, _parsed(keep))


def _parsed(path: Path) -> Lock:
    try:
        return read_lock_bytes(path.read_bytes())
    except (FileNotFoundError, IsADirectoryError, NotADirectoryError) as fault:
        raise LockInvalid(
            "the definition is not locked", found=f"no file {path}", hint="run appliance lock first"
        ) from fault
    except UnicodeDecodeError as fault:
        raise LockInvalid(f"{path} is not UTF-8 text", found=str(fault)) from fault


def read_any_lock(path: Path) -> Lock:
    """The lock in a file, or, for a definition, the one beside it.

    Raises:
        LockInvalid, DefinitionInvalid: as of ``read_lock`` and ``open_definition``.
    """
    if path.suffix in {".yaml", ".yml"}:
        return read_lock(default_lock_path(path), open_definition(path))
    return _parsed(path)


def read_root(path: Path) -> bytes:
    """The bytes of a root file; whether it is one, the bundle's writer finds out.

    Raises:
        RootInvalid: there is no such file.
    """
    try:
        return path.read_bytes()
    except (FileNotFoundError, IsADirectoryError, NotADirectoryError) as fault:
        raise RootInvalid(f"no root file {path}", found=fault.strerror) from fault


def build_bundle(
    lock: Lock,
    out: Path,
    root: bytes | None,
    station: Station,
    documents: Mapping[str, bytes] | None = None,
) -> Built:
    """Write the bundle that ``lock`` describes to the new folder ``out``.

    Raises:
        Usage: ``out`` exists.
        SpaceExhausted: the store's disk or that of ``out`` is too small.
        and the errors of ``fetch_locked`` and ``write_bundle``.
    """
    from appliance.bundle.parity.creating import parity_companion, parity_room
    from appliance.bundle.sbom.document import add_sbom
    from appliance.bundle.writer import write_bundle

    if out.exists() or out.is_symlink():
        raise Usage(
            f"{out} exists already", wanted="a new folder", hint="remove it, or name another with --out"
        )
    room = parity_room(_sizes(lock), lock.parity)
    _check_room(lock, out, room)
    with station.store.in_use():
        fetch_locked(lock, station)
        try:
            write_bundle(
                out,
                lock,
                station.store,
                root=root,
                documents=documents,
                progress=station.progress,
                companions=[add_sbom, parity_companion(lock.parity)],
                companion_bytes=room,
            )
        except DigestMismatch as fault:
            if _sweep(lock, station):
                fault.hint = "run the build again: what was removed is fetched anew"
            raise
    digest = hashlib.sha256((out / "trust" / "SHA256SUMS").read_bytes()).hexdigest()
    return Built(out, digest, lock)


def _sizes(lock: Lock) -> list[int]:
    """The sizes in bytes of all files that will lie in the bundle."""
    return [size for component in lock.components.values() for size in sizes(component.artefacts)]


def _check_room(lock: Lock, out: Path, beside: int) -> None:
    """Refuse before fetching gigabytes what could not be written out afterwards."""
    if not out.parent.is_dir():
        raise Usage(f"{out.parent} is not a folder", wanted="an existing folder to build into")
    free = shutil.disk_usage(out.parent).free
    if free < lock.size + beside:
        raise SpaceExhausted(
            f"the bundle does not fit the disk of {out.parent}",
            found=f"{free:,} bytes free",
            wanted=f"{lock.size + beside:,} bytes",
            hint="free some space, or name another folder with --out",
        )


def _sweep(lock: Lock, station: Station) -> bool:
    """Remove what has gone bad in the store, so that the next build fetches it anew; whether any had."""
    removed = False
    for component in lock.components.values():
        for artefact in component.artefacts:
            if station.store.holds(artefact.sha256, artefact.size) and not station.store.check(
                artefact.sha256
            ):
                station.progress.note(f"removed from the store, its bytes had changed: {artefact.path}")
                removed = True
    return removed
