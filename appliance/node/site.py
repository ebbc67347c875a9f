"""Reading an inventory and the files it names: the private key, and the pinned host keys."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import TYPE_CHECKING

from appliance.errors import InventoryInvalid, Usage

if TYPE_CHECKING:
    from collections.abc import Sequence

    from paramiko import HostKeys

    from appliance.definition.document import Document
    from appliance.definition.inventory import Inventory, NodeEntry


def load_inventory(path: Path) -> Inventory:
    """Read an inventory, and look at the files by which its nodes are reached.

    Raises:
        GatewayForbidden: it would give a node a way out.
        InventoryInvalid: it is missing, malformed or contradicts itself, a file it names is missing or
            readable by others, or its pinned host keys do not cover a node.
    """
    inventory, document = _read(path)
    _check_key(inventory, document)
    _check_known_hosts(inventory, document)
    return inventory


def read_inventory(path: Path) -> Inventory:
    """Read an inventory for somebody who only looks, and may have no keys.

    Raises:
        GatewayForbidden: it would give a node a way out.
        InventoryInvalid: it is missing, malformed or contradicts itself.
    """
    return _read(path)[0]


def _read(path: Path) -> tuple[Inventory, Document]:
    """An inventory from its file, or from ``inventory.yml`` in a folder."""
    from appliance.definition.inventory_schema import parse_inventory

    file = Path(os.path.abspath(path / "inventory.yml" if path.is_dir() else path))  # noqa: PTH100 - keep links
    try:
        text = file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as fault:
        raise InventoryInvalid(
            f"cannot read the inventory: {fault}",
            found=str(file),
            wanted="a folder with inventory.yml, or that file",
            hint="see inventory.example/ for a complete one",
        ) from fault
    return parse_inventory(text, file)


def select_nodes(inventory: Inventory, limit: Sequence[str]) -> tuple[NodeEntry, ...]:
    """The nodes named by ``limit``, in inventory order; all of them when it is empty."""
    known = [node.name for node in inventory.nodes]
    if unknown := [name for name in limit if name not in known]:
        raise InventoryInvalid(
            f"the inventory has no node {', '.join(unknown)}",
            found=", ".join(unknown),
            wanted=f"of: {', '.join(known)}",
            hint="spell --limit as in the inventory",
        )
    return tuple(node for node in inventory.nodes if not limit or node.name in limit)


def select_node(inventory: Inventory, name: str | None) -> NodeEntry:
    """The node of that name; the only one where none is named.

    Raises:
        Usage: there are several, and none is named.
        InventoryInvalid: there is none of that name.
    """
    if name is None and len(inventory.nodes) > 1:
        raise Usage(
            "whose drive?", found=f"{len(inventory.nodes)} nodes in the inventory", wanted="--node NAME"
        )
    return select_nodes(inventory, () if name is None else (name,))[0]


def pinned_keys(known_hosts: Path) -> HostKeys:
    """The host keys of a known_hosts file."""
    from paramiko import HostKeys

    keys = HostKeys()
    keys.load(str(known_hosts))
    return keys


def host_key_name(node: NodeEntry) -> str:
    """How known_hosts spells a node: its address, in brackets with the port unless that is 22 (sshd(8))."""
    return str(node.address) if node.port == 22 else f"[{node.address}]:{node.port}"  # noqa: PLR2004 - SSH's own


def _check_key(inventory: Inventory, document: Document) -> None:
    key = inventory.ssh.key if inventory.ssh else None
    if key is None:
        return
    where = document.where(("ssh", "key"))
    try:
        status = key.stat()
    except OSError as fault:
        raise InventoryInvalid(
            f"the private key cannot be read: {fault.strerror}",
            found=str(key),
            wanted="a private key file; or leave ssh.key out to use ssh-agent",
            hint="paths are relative to the inventory's folder",
            where=where,
        ) from fault
    if not stat.S_ISREG(status.st_mode) or status.st_mode & 0o077:
        raise InventoryInvalid(
            "the private key must be a file only its owner can read: SSH refuses it otherwise",
            found=f"{key}, mode {status.st_mode & 0o7777:04o}",
            wanted="mode 0600",
            hint=f"chmod 600 {key}",
            where=where,
        )


def _check_known_hosts(inventory: Inventory, document: Document) -> None:
    if inventory.ssh is None:
        return
    known_hosts = inventory.ssh.known_hosts
    where = document.where(("ssh", "known_hosts"))
    try:
        keys = pinned_keys(known_hosts)
    except (OSError, UnicodeDecodeError) as fault:
        raise InventoryInvalid(
            f"the pinned host keys cannot be read: {fault}",
            found=str(known_hosts),
            wanted="a known_hosts file (sshd(8)) with a key for every node",
            hint="paths are relative to the inventory's folder",
            where=where,
        ) from fault
    for node in inventory.nodes:
        name = host_key_name(node)
        if node.connection == "ssh" and not keys.lookup(name):
            raise InventoryInvalid(
                f"no host key is pinned for {node.name}",
                found=f"{known_hosts} has no line for {name}",
                wanted="the node's host key, read from its console; keys are never learnt over the network",
                hint=f"'{name} ' and then the content of /etc/ssh/ssh_host_ed25519_key.pub on the node",
                where=where,
            )
