"""The network of a node and the settings of its SSH server, saved into a folder.

The rules:

* Saved are files (with owner, mode and links), the state of network services, which links there are and
  their packet sizes, live addresses and routes, kernel settings, and the live packet filter.
* A snapshot is complete and on the disk, or it is not there.  What cannot be read is not taken for empty.
"""

from __future__ import annotations

import json
import os
import time
from typing import TYPE_CHECKING, Any

import lasting_files
import network_state
from network_state import PATHS, RFC3339, SSH_UNITS, told

if TYPE_CHECKING:
    from pathlib import Path

    from network_state import Node

#: Kept free for the way back, beside the room of the snapshot itself: the disk may be full by then.
SPARE_BYTES = 1 << 20


def save(node: Node, folder: Path) -> None:
    """Make ``folder`` a snapshot, completely or not at all."""
    draft = folder.with_name(f"{folder.name}.new")
    lasting_files.remove(draft)
    try:
        _fill(node, draft)
        lasting_files.settle_tree(draft)
    except BaseException:
        lasting_files.remove(draft)  # where the disk is full, it was this that filled it
        raise
    lasting_files.rename(draft, folder)


def _fill(node: Node, draft: Path) -> None:
    (draft / "files").mkdir(parents=True, mode=0o700)
    record = {
        "saved": time.strftime(RFC3339, time.gmtime()),
        "files": save_files(node, draft / "files"),
        "units": network_state.unit_states(node),
        "ssh": [
            unit for unit, state in network_state.unit_states(node, SSH_UNITS).items() if state["active"]
        ],
        "settings": network_state.live_settings(node),
        "links": network_state.live_links(node),
        "addresses": network_state.live_addresses(node),
        "routes": network_state.live_routes(node),
        "tables": network_state.nft_tables(node) if node.has("nft") else [],
    }
    for name, program in network_state.filters(node).items():
        (draft / name).write_text(told(node, f"{program}-save"))
    if node.has("nft"):
        (draft / "rules.nft").write_text(nft_rules(node, record["tables"]))
    (draft / "state.json").write_text(json.dumps(record, indent=1, sort_keys=True))
    reserve(draft)


def reserve(folder: Path) -> None:
    """Keep room free in which all of a snapshot can be written once more."""
    size = sum(each.lstat().st_size for each in folder.rglob("*") if each.name != "spare")
    with (folder / "spare").open("wb") as spare:
        os.posix_fallocate(spare.fileno(), 0, size + SPARE_BYTES)


def save_files(node: Node, folder: Path) -> list[str]:
    """Copy every path of PATHS that exists; return the list of those."""
    kept = []
    for name in PATHS:
        source = node.root / name
        if source.is_symlink() or source.exists():
            lasting_files.copy(source, folder / name)
            kept.append(name)
    return kept


def nft_rules(node: Node, tables: list[tuple[str, str]]) -> str:
    """Tables of nftables' own, as text that makes each of them what it is now."""
    text = ""
    for family, name in tables:
        listing = told(node, "nft", "list", "table", family, name)
        text += f"table {family} {name}\ndelete table {family} {name}\n{listing}"
    return text


def read(folder: Path) -> dict[str, Any]:
    """What was saved beside the files.

    Raises:
        OSError, ValueError: the record is not there, or damaged.
    """
    record = json.loads((folder / "state.json").read_text())
    if not isinstance(record, dict):
        raise ValueError("it is no record")  # noqa: TRY004 - damaged data, not a wrong call
    return record


def saved_at(folder: Path) -> str:
    """When the snapshot was made; a damaged one does not say."""
    try:
        return str(read(folder)["saved"])
    except (OSError, ValueError, KeyError):
        return "unknown"
