"""What the commands on a node's volumes have in common: whose, which, and by which passphrase."""

from __future__ import annotations

import sys
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from appliance.errors import SettingsInvalid, Usage

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from appliance.definition.disks import Disk
    from appliance.definition.inventory import NodeEntry
    from appliance.disk.cryptsetup import Cryptsetup
    from appliance.disk.secret import Secret
    from appliance.disk.volumes import Volume
    from appliance.node.connection import Connection

Names = Annotated[
    list[str] | None,
    typer.Argument(metavar="[VOLUME]...", help="Names below disks: in the inventory; all if left out."),
]
OfNode = Annotated[
    str | None, typer.Option("--node", metavar="NAME", help="Whose; the only one if left out.")
]
Escrow = Annotated[
    Path | None,
    typer.Option("--escrow", metavar="DIR", help="Take passphrases from there; else they are asked for."),
]


def chosen_disks(node: NodeEntry, names: Sequence[str]) -> tuple[Disk, ...]:
    """The drives that are named, in the order of the inventory.

    Raises:
        SettingsInvalid: the node has none.
        Usage: one of that name is not there.
    """
    if not node.disks:
        raise SettingsInvalid(
            f"the inventory names no encrypted drive of {node.name}",
            wanted=f"nodes: {{{node.name}: {{disks: …}}}}",
            hint="docs/disk.md",
        )
    known = {disk.name for disk in node.disks}
    for name in names:
        if name not in known:
            raise Usage(
                f"{node.name} has no volume {ascii(name)[1:-1]}",
                wanted=f"one of: {', '.join(sorted(known))}",
            )
    return tuple(disk for disk in node.disks if not names or disk.name in names)


@dataclass(frozen=True)
class AtNode:
    """A node of an inventory, a connection to it, and cryptsetup there."""

    node: NodeEntry
    connection: Connection
    client: Cryptsetup

    def volumes(self, disks: Sequence[Disk]) -> tuple[Volume, ...]:
        """The volumes on these drives, as they are now.

        Raises:
            DriveUnsuitable: a drive is not there, or is not what it has to be.
        """
        from appliance.disk.state import read_state
        from appliance.disk.volumes import find_volumes

        return find_volumes(disks, read_state(self.client.read())[1], node=self.node.name)


@contextmanager
def at_node(inventory: Path, name: str | None) -> Iterator[AtNode]:
    """Connect to a node; a command that is slow there is not cut off."""
    from appliance.disk.cryptsetup import Cryptsetup
    from appliance.disk.reading import reading_program
    from appliance.node.connection import open_connections
    from appliance.node.drives import ask_node_drives
    from appliance.node.private import private_folder
    from appliance.node.site import load_inventory, select_node

    site = load_inventory(inventory)
    node = select_node(site, name)
    with private_folder() as private:
        connection = open_connections(site, (node,), private)[node.name]
        try:
            client = Cryptsetup(
                lambda command, given: connection.run(command, stdin=given, timeout=None),
                lambda: ask_node_drives(connection, reading_program()),
            )
            yield AtNode(node, connection, client)
        finally:
            connection.close()


def passphrases(
    escrow: Path | None, identities: Sequence[Path], shares: Sequence[Path]
) -> Callable[[Volume], Secret]:
    """Where passphrases come from: the escrow, or whoever sits at this terminal.

    Raises:
        Usage: keys without an escrow, an escrow without keys, a file that is no key, or no terminal.
    """
    if escrow is None and (identities or shares):
        raise Usage("keys of which escrow?", wanted="--escrow DIR beside --identity and --share")
    if escrow is None:
        if not (sys.stdin.isatty() and sys.stderr.isatty()):
            raise Usage(
                "no terminal to ask for a passphrase on",
                wanted="--escrow DIR with --identity FILE or --share FILE, or a terminal",
            )
        return _typed
    if not identities and not shares:
        raise Usage("nothing opens the escrow", wanted="--identity FILE, or --share FILE several times")
    from appliance.disk.escrow.opening import read_openers
    from appliance.disk.opening import escrowed_passphrase

    openers = read_openers(identities, shares)
    return lambda volume: escrowed_passphrase(escrow, volume, openers)


def _typed(volume: Volume) -> Secret:
    from getpass import getpass

    from appliance.disk.secret import Secret

    return Secret(getpass(f"passphrase of {volume.disk.name} ({volume.disk.serial}): ").strip().encode())
