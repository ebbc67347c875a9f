"""``appliance disk rotate``: an enrolled drive gets a new PIN and a new passphrase."""

from __future__ import annotations

from pathlib import Path  # noqa: TC003 - Typer reads it at run time
from typing import TYPE_CHECKING, Annotated, Any

import typer

from appliance.cli.console import print_result
from appliance.cli.disk_confirm import Confirm, Confirming, confirmed
from appliance.cli.disk_keys import Identities, Shares, keeper, now, recipients, whose
from appliance.cli.options import AsJson, InventoryFolder  # noqa: TC001 - likewise

if TYPE_CHECKING:
    from appliance.disk.rotation import Standing


def rotate(
    drive: Annotated[str, typer.Argument(metavar="DRIVE", help="The device node, or the serial number.")],
    *,
    inventory: InventoryFolder,
    escrow: Annotated[Path, typer.Option("--escrow", metavar="DIR", help="Where its keys are kept.")],
    node: Annotated[
        str | None, typer.Option("--node", metavar="NAME", help="Whose drive; the only one if left out.")
    ] = None,
    identity: Identities = None,
    share: Shares = None,
    next_share: Annotated[
        list[Path] | None,
        typer.Option("--next-share", metavar="FILE", help="Of the new keys, if a rotation was begun."),
    ] = None,
    confirm: Confirm = None,
    look: Annotated[
        bool, typer.Option("--look", help="Only say which keys open what; needs no key, tries no PIN.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Give an enrolled drive a new PIN and a new passphrase, which are in the escrow first.

    The drive may be in use, and stays so. New keys are sealed, read back and
    opened; then owner, administrator and LUKS volume get them, one after the
    other, the old passphrase goes, and the new header follows into the
    escrow. Run it again after any interruption: it looks what the drive has,
    without a PIN, and goes on. What was encrypted stays as it is: see
    docs/disk.md for what an old header with an old passphrase still opens.

    \b
    Examples:
      appliance disk rotate /dev/nvme1n1 -i my-site --escrow /media/escrow \\
          --identity safe.key
      appliance disk rotate /dev/nvme1n1 -i my-site --escrow /media/escrow --look
      appliance disk rotate S6CVNG0T1 -i my-site --escrow /media/escrow \\
          --share ana.txt --share bo.txt --confirm S6CVNG0T1

    \b
    Exit codes:
      2  nobody confirmed, or another drive was meant; the escrow lies in
         memory or on the node itself; a key file is no such thing
      3  the inventory is wrong, or names no recipients
      4  a record of the drive in the escrow is damaged
      5  the drive's keys may not be changed; the keys at hand do not open
         the escrow; or the escrow does not give back
      6  the node cannot be reached
      7  the drive or cryptsetup refused
    """  # noqa: D301 - \b is Typer's mark for "do not wrap"
    from appliance.disk.escrow.medium import refuse_medium
    from appliance.disk.escrow.opening import read_openers
    from appliance.disk.rotating import Request
    from appliance.disk.rotating import look as look_at
    from appliance.disk.rotating import rotate as change
    from appliance.disk.rotation import standing
    from appliance.node.connection import open_connections
    from appliance.node.private import private_folder

    site, chosen = whose(inventory, node)
    to = recipients(site)
    refuse_medium(escrow, local=chosen.connection == "local")
    openers = read_openers(identity or [], share or [])
    with private_folder() as private:
        connection = open_connections(site, (chosen,), private)[chosen.name]
        try:
            doer = keeper(connection)
            seen = look_at(doer, drive, escrow)
            if not look:
                asked = Confirming(inventory, confirm)
                meant, _ = confirmed(
                    asked, seen.drive, connection, "will get new keys", lost="What is on it stays."
                )
                request = Request(
                    path=seen.drive.path,
                    typed=meant.typed,
                    folder=escrow,
                    escrow=to,
                    openers=openers,
                    next_openers=read_openers(identity or [], next_share or []),
                )
                change(
                    doer,
                    request,
                    now=now,
                    told=lambda line: typer.echo(line, err=True),
                )
                seen = look_at(doer, seen.drive.path, escrow)
        finally:
            connection.close()
    text, values = _told(seen.drive.serial, standing(seen))
    print_result(text, {"node": chosen.name} | values, as_json=as_json)


def _told(serial: str, stands: Standing) -> tuple[str, dict[str, Any]]:
    """Which generation opens what, for people and for programs."""
    phrases = " and ".join(str(one) for one in stands.passphrases)
    owner = (
        "the one that everybody can read, until the rotation is ended"
        if stands.owner is None
        else f"of keys {stands.owner}"
    )
    lines = [
        f"{serial}: which keys of the escrow open what",
        f"  passphrase of the volume        of keys {phrases}",
    ]
    values: dict[str, Any] = {"serial": serial, "passphrases": list(stands.passphrases)}
    if stands.administrator is not None:
        lines += [
            f"  PIN of the administrator        of keys {stands.administrator}, as {stands.which}",
            f"  PIN of the owner (SID)          {owner}",
        ]
        values["administrator"] = {"keys": stands.administrator, "name": stands.which}
        values["owner"] = stands.owner
    return "\n".join(lines), values
