"""Writing a bundle from a lock and a store: a complete bundle or none."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from appliance.bundle.manifest import SLICE_SIZE

if TYPE_CHECKING:
    from pathlib import Path

    from appliance.definition.lock import Lock
    from appliance.progress import Progress


class Store(Protocol):
    """Where the bytes of the artefacts are kept (``appliance.sources.store.Store``)."""

    def path(self, sha256: str) -> Path:
        """The file with this digest."""


def write_bundle(
    out: Path,
    lock: Lock,
    store: Store,
    *,
    root: bytes | None,
    progress: Progress,
    slice_size: int = SLICE_SIZE,
) -> Path:
    """Write the bundle that ``lock`` describes to the new folder ``out``; returns ``out``.

    Raises:
        Usage: ``out`` exists already.
        InProgress: another build is writing to ``out``.
        LockInvalid: the lock asks for what no bundle can hold.
        RootInvalid: ``root`` is malformed.
        FileMissing: the store lacks an artefact.
        DigestMismatch: an artefact in the store differs from the lock.
        SpaceExhausted: not enough room; nothing is left behind.
    """
    raise NotImplementedError
