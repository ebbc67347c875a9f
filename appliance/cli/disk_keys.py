"""What commands for enrolled drives share: whose drive, to whom, by which keys, and who does it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from appliance.errors import SettingsInvalid

if TYPE_CHECKING:
    from appliance.definition.escrow import Escrow
    from appliance.definition.inventory import Inventory, NodeEntry
    from appliance.disk.tcg import Keeper
    from appliance.node.connection import Connection

Identities = Annotated[
    list[Path] | None,
    typer.Option("--identity", metavar="FILE", help="A key of age that opens it; repeatable."),
]
Shares = Annotated[
    list[Path] | None,
    typer.Option("--share", metavar="FILE", help="A share that its holder decrypted; repeatable."),
]


def whose(inventory: Path, name: str | None) -> tuple[Inventory, NodeEntry]:
    """The inventory, and the node that is meant: the only one, if none is named.

    Raises:
        Usage: there are several.
        InventoryInvalid: the inventory is wrong, or has no such node.
    """
    from appliance.node.site import load_inventory, select_node

    site = load_inventory(inventory)
    return site, select_node(site, name)


def recipients(site: Inventory) -> Escrow:
    """To whom keys are sealed.

    Raises:
        SettingsInvalid: the inventory does not say.
    """
    if site.escrow is None:
        raise SettingsInvalid(
            "the inventory says nobody who could open the keys of a drive",
            wanted="escrow: {recipients: {NAME: age1…}}",
            hint="each holder makes a key with age-keygen and gives its public half; docs/disk.md",
        )
    return site.escrow


def now() -> str:
    """The time, RFC 3339 UTC, whole seconds."""
    import datetime as dt

    return dt.datetime.now(dt.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def keeper(connection: Connection) -> Keeper:
    """Who does things to drives of a node."""
    from appliance.disk.reading import reading_program
    from appliance.disk.tcg import Keeper
    from appliance.node.drives import ask_node_drive, ask_node_drives

    return Keeper(
        lambda command, given: connection.run(command, stdin=given, timeout=None),
        lambda: ask_node_drives(connection, reading_program()),
        lambda request: ask_node_drive(connection, request),
    )
