"""``appliance disk unlock``: a node's volumes are opened over SSH, and what waited for them starts."""

from __future__ import annotations

from typing import TYPE_CHECKING

import typer

from appliance.cli.console import print_result
from appliance.cli.disk_keys import Identities, Shares  # noqa: TC001 - Typer reads them at run time
from appliance.cli.disk_volumes import Escrow, Names, OfNode  # noqa: TC001 - as above
from appliance.cli.options import AsJson, InventoryFolder  # noqa: TC001 - as above
from appliance.errors import ApplyFailed

if TYPE_CHECKING:
    from appliance.node.volumes import Mounted


def unlock(
    names: Names = None,
    *,
    inventory: InventoryFolder,
    node: OfNode = None,
    escrow: Escrow = None,
    identity: Identities = None,
    share: Shares = None,
    as_json: AsJson = False,
) -> None:
    """Open a node's encrypted volumes over SSH, mount what lies on them, and start what waited.

    For nodes that open nothing by themselves (unlock: ssh), for those whose
    TPM is gone or measures something else since (unlock: tpm2), and before
    the first installation. A volume that is open stays as it is. Each
    passphrase is tried once, and a wrong one costs the drive nothing.

    \b
    Examples:
      appliance disk unlock -i my-site --node gpu-01 --escrow /media/escrow --identity safe.key
      appliance disk unlock data -i my-site --node gpu-01 --escrow /media/escrow --share ana --share bo
      appliance disk unlock -i my-site --node gpu-01                   # asks for each passphrase

    \b
    Exit codes:
      2  there is no such volume, or nothing to open the escrow with
      3  the inventory is wrong, or names no encrypted drive of the node
      4  a record of the escrow is damaged
      5  a drive is not there or has another header, the keys at hand do not
         open the escrow, or the passphrase is not the one
      6  the node cannot be reached
      7  something could not be opened, mounted or started
    """  # noqa: D301 - \b is Typer's mark for "do not wrap"
    from appliance.cli.disk_volumes import at_node, chosen_disks, passphrases
    from appliance.disk.opening import open_volume
    from appliance.node.volumes import mount_places

    opened = []
    with at_node(inventory, node) as there:
        chosen = there.node
        disks = chosen_disks(chosen, names or [])
        volumes = there.volumes(disks)
        closed = [one for one in volumes if not one.open]
        passphrase = passphrases(escrow, identity or [], share or []) if closed else None
        # All of them before the first is opened: half of an answer helps nobody.
        secrets = [(one, passphrase(one)) for one in closed] if passphrase else []
        for one, secret in secrets:
            typer.echo(f"opening {one.disk.name}: {one.drive.path}, {one.disk.serial}", err=True)
            open_volume(there.client, one, secret)
            opened.append(one.disk.name)
        typer.echo("mounting, and starting what waited", err=True)
        found = mount_places(there.connection, disks)
    already = [one.disk.name for one in volumes if one.open]
    if found.failed:
        raise ApplyFailed(
            f"{', '.join(found.failed)} of {chosen.name} did not start",
            found="; ".join(f"{what}: {why}" for what, why in found.failed.items()),
            hint="the volumes are open; the node's journal says why (journalctl -xe)",
        )
    values = {
        "node": chosen.name,
        "opened": opened,
        "already_open": already,
        "mounted": list(found.mounted),
        "not_set_up": list(found.unknown),
        "started": list(found.started),
    }
    print_result(_text(chosen.name, opened, already, found), values, as_json=as_json)


def _text(node: str, opened: list[str], already: list[str], found: Mounted) -> str:
    lines = [
        f"{label:12} {', '.join(names)}"
        for label, names in (
            ("opened:", opened),
            ("open before:", already),
            ("mounted:", found.mounted),
            ("started:", found.started),
        )
        if names
    ]
    if found.unknown:
        lines.append(
            f"not set up:  {', '.join(found.unknown)}: appliance disk mount does that, and so does install"
        )
    return "\n".join((node, *(f"  {line}" for line in lines)))
