"""``appliance disk bind``: a node's TPM opens its volumes from the next start on."""

from __future__ import annotations

import typer

from appliance.cli.console import print_result
from appliance.cli.disk_keys import Identities, Shares  # noqa: TC001 - Typer reads them at run time
from appliance.cli.disk_volumes import Escrow, Names, OfNode  # noqa: TC001 - as above
from appliance.cli.options import AsJson, InventoryFolder  # noqa: TC001 - as above
from appliance.errors import Usage


def bind(
    names: Names = None,
    *,
    inventory: InventoryFolder,
    node: OfNode = None,
    escrow: Escrow = None,
    identity: Identities = None,
    share: Shares = None,
    again: bool = typer.Option(False, "--again", help="Also where the TPM opens it as it is."),
    as_json: AsJson = False,
) -> None:
    """Have a node's TPM open its volumes at each start (unlock: tpm2), as long as it measures the same.

    The TPM gets a keyslot of its own beside that of the passphrase, which
    opens the volume in any case. Where it opens the volume already, nothing
    is changed; after new firmware or another TPM, the former keyslot is
    replaced. Run it when the node has started as it will start.

    \b
    Examples:
      appliance disk bind -i my-site --node gpu-01 --escrow /media/escrow --identity safe.key
      appliance disk bind data -i my-site --node gpu-01                # asks for the passphrase

    \b
    Exit codes:
      2  there is no such volume, or nothing to open the escrow with
      3  the inventory is wrong, or no drive of the node has unlock: tpm2
      4  a record of the escrow is damaged
      5  a drive is not there or has another header, the keys at hand do not
         open the escrow, or the passphrase is not the one
      6  the node cannot be reached
      7  there is no TPM 2.0, or it could not be bound
    """  # noqa: D301 - \b is Typer's mark for "do not wrap"
    from appliance.cli.disk_volumes import at_node, chosen_disks, passphrases
    from appliance.disk.opening import bind_to_tpm, opened_by_tpm

    bound = []
    with at_node(inventory, node) as there:
        chosen = there.node
        every = chosen_disks(chosen, names or [])
        disks = [disk for disk in every if disk.unlock == "tpm2"]
        if not disks or (names and len(disks) < len(every)):
            raise Usage(
                f"no TPM is to open {', '.join(disk.name for disk in every if disk not in disks)}",
                found=", ".join(f"{disk.name}: unlock {disk.unlock}" for disk in every),
                wanted="unlock: tpm2 in the inventory",
            )
        wanting = [one for one in there.volumes(disks) if again or not opened_by_tpm(there.client, one)]
        passphrase = passphrases(escrow, identity or [], share or []) if wanting else None
        secrets = [(one, passphrase(one)) for one in wanting] if passphrase else []
        for one, secret in secrets:
            typer.echo(f"binding {one.disk.name}: {one.drive.path}, {one.disk.serial}", err=True)
            bind_to_tpm(there.client, one, secret)
            bound.append(one.disk.name)
    already = [disk.name for disk in disks if disk.name not in bound]
    values = {"node": chosen.name, "bound": bound, "already_bound": already}
    lines = [
        f"  {label} {', '.join(them)}"
        for label, them in (("bound to the TPM:", bound), ("bound before:", already))
        if them
    ]
    print_result("\n".join((chosen.name, *lines)), values, as_json=as_json)
