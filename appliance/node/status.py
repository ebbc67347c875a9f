"""What nodes hold and run, by their own signed word; the node's half is ``remote/inventory.py``."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

from appliance.bundle.documents import read_plain
from appliance.definition.partition import served_units
from appliance.errors import (
    ApplianceError,
    InventoryInvalid,
    KeyRefused,
    NodeInventoryInvalid,
    NodeUnreachable,
    PreflightFailed,
)
from appliance.node.audit.asking import HOME, RECHECK_SECONDS, SECONDS
from appliance.node.question import BrokenOffError, Said, question_line, run_program
from appliance.node.script import load_script
from appliance.node.site import host_key_name, pinned_keys, select_nodes
from appliance.trust.keys import PublicKey, parse_public
from appliance.trust.node_inventory import (
    MAX_BYTES,
    NodeInventory,
    judge_inventory,
    parse_inventory,
)

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from appliance.definition.inventory import Inventory, NodeEntry
    from appliance.node.connection import Connection
    from appliance.node.patching.switch import Waits

_PATIENCE: Final = 20
#: An inventory in a JSON text, where each quotation mark takes two bytes.
_ANSWER: Final = 2 * MAX_BYTES


@dataclass(frozen=True)
class Place:
    """Where a node keeps its state, and the keys it is known by."""

    home: str = HOME
    keys: str = "/etc/ssh"


USUAL: Final = Place()


@dataclass(frozen=True)
class NodeStatus:
    """What became of asking one node.

    ``data`` is its inventory as it was signed.  ``key``: the fingerprint of the pinned key that signed it;
    None for a node whose key nobody pinned (connection: local).  ``waits`` is what the node waits for,
    if it was asked: no part of what it signs.
    """

    node: str
    inventory: NodeInventory | None = None
    data: bytes = b""
    key: str | None = None
    trouble: ApplianceError | None = None
    waits: Waits | None = None


def ask_nodes(
    site: Inventory, nodes: Sequence[NodeEntry], *, recheck: bool = False, short: bool = False
) -> list[NodeStatus]:
    """Ask nodes, all at the same time; one that cannot be asked has its ``trouble`` set.

    Args:
        site: the site.
        nodes: those to ask.
        recheck: read the whole of every copy.
        short: without the paths and digests of files.
    """
    from appliance.node.connection import open_connections
    from appliance.node.patching.switch import waits
    from appliance.node.private import private_folder

    with private_folder() as private:
        connections = open_connections(site, nodes, private)

        def one(connection: Connection) -> NodeStatus:
            node = connection.node
            try:
                data = ask(connection, site.site, recheck=recheck, short=short)
                status = read_status(data, node, keys_of(site, node), site=site.site)
                return replace(status, waits=waits(connection))
            except ApplianceError as trouble:
                return NodeStatus(node.name, trouble=trouble)
            finally:
                connection.close()

        with ThreadPoolExecutor(max_workers=min(16, len(connections))) as pool:
            return list(pool.map(one, connections.values()))


def read_exported(site: Inventory, file: Path) -> NodeStatus:
    """What a file says that was exported, checked with the key the site pins for its node.

    Raises:
        NodeInventoryInvalid: it is malformed, or was not signed by the node it names.
        InventoryInvalid: the site has no node of that name.
        BundleUntrusted: the file cannot be read.
    """
    data = read_plain(file, MAX_BYTES)
    try:
        node = select_nodes(site, (parse_inventory(data).node,))[0]
    except InventoryInvalid as fault:
        fault.hint = "name the folder of the site that this node belongs to"
        raise
    return read_status(data, node, keys_of(site, node), site=site.site)


def read_status(data: bytes, node: NodeEntry, keys: Sequence[PublicKey], *, site: str) -> NodeStatus:
    """An inventory and who signed it; without ``keys`` only a local node's is taken.

    Raises:
        NodeInventoryInvalid: it is malformed, of another node or site, or was not signed by the node.
    """
    inventory = parse_inventory(data)
    if (inventory.site, inventory.node) != (site, node.name):
        raise NodeInventoryInvalid(
            f"{node.name} answers as another",
            found=f"{inventory.node} of {inventory.site}",
            wanted=f"{node.name} of {site}",
            hint="ask the node again; look for a second entry of known_hosts with its key",
        )
    if not keys and node.connection == "local":
        return NodeStatus(node.name, inventory, data)
    return NodeStatus(node.name, inventory, data, judge_inventory(inventory, keys).fingerprint)


def keys_of(site: Inventory, node: NodeEntry) -> list[PublicKey]:
    """The host keys that are pinned for a node and that could sign an inventory."""
    if site.ssh is None or node.connection == "local":
        return []
    found = []
    pinned = dict(pinned_keys(site.ssh.known_hosts).lookup(host_key_name(node)) or {})
    for kind, key in pinned.items():
        try:
            found.append(parse_public(f"{kind} {key.get_base64()}"))
        except KeyRefused:  # RSA: good enough for SSH, but signs nothing of ours
            continue
    return found


def ask(
    connection: Connection, site: str, *, recheck: bool = False, short: bool = False, place: Place = USUAL
) -> bytes:
    """The inventory of one node, as the node signed it.

    Raises:
        NodeUnreachable: it does not answer, or the connection broke.
        PreflightFailed: it cannot tell, or has nothing to sign with.
    """
    name = connection.node.name
    request = {
        "home": place.home,
        "keys": place.keys,
        "unit": " ".join(served_units(connection.node)),
        "site": site,
        "node": name,
        "recheck": recheck,
        "short": short,
        "patience": _PATIENCE,
    }
    script = load_script("inventory", "two_slots", "file_state", "staged_copy", "copy_state")
    limit = RECHECK_SECONDS if recheck else SECONDS
    try:
        said = run_program(connection, script, "inventory", question_line(request), seconds=limit)
    except BrokenOffError as broken:
        raise _unreachable(name, str(broken)) from None
    text, trouble = _answer(said)
    if text is not None:
        return text
    raise PreflightFailed(
        f"{name} cannot say what it holds",
        found=trouble,
        wanted="root or password-less sudo, python3, ssh-keygen, and a host key of Ed25519 or ECDSA",
        hint="put that right and run the same command again; nothing was changed",
    )


def _answer(said: Said) -> tuple[bytes | None, str]:
    """What the node's half printed: the inventory, or why there is none; not to be believed yet."""
    if len(said.printed) > _ANSWER:
        return None, f"an answer of {len(said.printed):,} bytes, more than any node has to say"
    try:
        answer = said.answer()
        if "error" in answer:
            return None, str(answer.get("text") or answer["error"])
        return answer["text"].encode(), ""
    except UnicodeEncodeError:
        return None, "an answer that is no text"
    except ValueError as none:
        return None, str(none)
    except (LookupError, TypeError, AttributeError) as fault:
        return None, f"not what was asked for: {type(fault).__name__}"


def _unreachable(name: str, found: str) -> NodeUnreachable:
    return NodeUnreachable(
        f"{name} did not say what it holds",
        found=found,
        wanted="a connection",
        hint="run the same command again",
    )
