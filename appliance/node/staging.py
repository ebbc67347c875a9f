"""The stage ``stage``: a bundle onto several nodes at once, each through its own receiver."""

from __future__ import annotations

from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING

from appliance.errors import ApplianceError
from appliance.node.sent import files_to_send
from appliance.node.transfer import Transfer

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from appliance.bundle.verify import VerifiedBundle
    from appliance.node.connection import Connection
    from appliance.progress import Progress


@dataclass(frozen=True)
class Staged:
    """What staging did on one node.  ``removed``: files that lay in the copy and are not the bundle's."""

    files: int
    size: int
    removed: tuple[str, ...] = ()
    error: ApplianceError | None = None

    def as_dict(self) -> dict[str, object]:
        values: dict[str, object] = {
            "files": self.files,
            "bytes": self.size,
            "removed": list(self.removed),
        }
        return values | ({"error": self.error.as_dict()} if self.error else {})


def stage_copies(
    bundle: VerifiedBundle,
    connections: Mapping[str, Connection],
    *,
    progress: Progress,
    recheck: bool = False,
) -> dict[str, Staged]:
    """Bring the whole bundle onto every node; a node's failure does not stop the others.

    Args:
        bundle: the verified bundle.
        connections: by node name.
        progress: told of bytes and files over all nodes.
        recheck: hash again what nodes already have, even where nothing seems touched.

    Returns:
        by node name what was copied, with the error where it failed.
    """
    files = files_to_send(bundle)

    def begin(connection: Connection) -> Transfer:
        return Transfer.begin(
            connection, bundle.folders, bundle.digest, files, progress=progress, recheck=recheck
        )

    return send_copies(connections, begin, progress=progress)


def send_copies(
    connections: Mapping[str, Connection], begin: Callable[[Connection], Transfer], *, progress: Progress
) -> dict[str, Staged]:
    """Begin a transfer to every node, and send what each lacks; as ``stage_copies``."""
    transfers: dict[str, Transfer] = {}
    staged: dict[str, Staged] = {}
    with ThreadPoolExecutor(max_workers=min(16, len(connections))) as pool:
        try:
            begun = {name: pool.submit(begin, connection) for name, connection in connections.items()}
            for name, future in begun.items():
                _collect(name, future, transfers, staged)
            items = sum(len(transfer.want) for transfer in transfers.values())
            size = sum(transfer.size for transfer in transfers.values())
            progress.begin("stage", items, size)
            sending = {name: pool.submit(transfer.send, progress) for name, transfer in transfers.items()}
            for name, sent in sending.items():
                staged[name] = _outcome(transfers[name], sent)
        finally:
            for transfer in transfers.values():
                transfer.abandon()
            progress.end()
    return staged


def _collect(
    name: str, future: Future[Transfer], transfers: dict[str, Transfer], staged: dict[str, Staged]
) -> None:
    try:
        transfers[name] = future.result()
    except ApplianceError as error:
        staged[name] = Staged(0, 0, error=error)


def _outcome(transfer: Transfer, sent: Future[None]) -> Staged:
    removed = tuple(transfer.removed)
    try:
        sent.result()
    except ApplianceError as error:
        return Staged(0, 0, removed, error)
    return Staged(len(transfer.want), transfer.size, removed)
