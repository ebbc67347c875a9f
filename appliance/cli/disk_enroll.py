"""``appliance disk enroll``: a drive gets keys that the escrow gave back."""

from __future__ import annotations

from pathlib import Path  # noqa: TC003 - Typer reads it at run time
from typing import TYPE_CHECKING, Annotated

import typer

from appliance.cli.console import print_result
from appliance.cli.disk_confirm import (
    Confirm,
    Confirming,
    Fingerprint,
    PermitFile,
    TrustFile,
    confirmed,
    has_terminal,
)
from appliance.cli.disk_keys import recipients, whose
from appliance.cli.options import (  # noqa: TC001 - Typer reads them at run time
    AsJson,
    InventoryFolder,
    RevokedFiles,
)
from appliance.definition.disks import USUAL_LAYERS
from appliance.errors import Usage

if TYPE_CHECKING:
    from appliance.definition.disks import Layers
    from appliance.definition.inventory import NodeEntry
    from appliance.disk.secret import Secret
    from appliance.disk.state import Drive

_ALONE = "dm-crypt alone encrypts this drive, as the inventory says"


def enroll(
    drive: Annotated[str, typer.Argument(metavar="DRIVE", help="The device node, as /dev/nvme1n1.")],
    *,
    inventory: InventoryFolder,
    escrow: Annotated[Path, typer.Option("--escrow", metavar="DIR", help="Where its keys are kept.")],
    node: Annotated[
        str | None, typer.Option("--node", metavar="NAME", help="Whose drive; the only one if left out.")
    ] = None,
    psid_file: Annotated[
        Path | None,
        typer.Option("--psid-file", metavar="FILE", help="What its label says; else asked for."),
    ] = None,
    confirm: Confirm = None,
    permit: PermitFile = None,
    trust: TrustFile = None,
    fingerprint: Fingerprint = None,
    revoked: RevokedFiles = None,
    hw_opal_only: Annotated[
        bool,
        typer.Option("--hw-opal-only", help="No dm-crypt above, if the inventory does not say otherwise."),
    ] = False,
    reset: Annotated[
        bool, typer.Option("--reset", help="Reset it by its PSID, if an enrolment was cut off.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Encrypt an empty drive by itself and by dm-crypt above, with keys that are in the escrow first.

    Other layers are a choice: in the inventory's disks, of which dm-crypt
    alone is chosen nowhere else; what a drive cannot do itself is told then.

    New keys are made, sealed to the inventory's recipients, read back from
    the escrow and opened; then the drive gets them, and its header follows
    into the escrow. Whatever may not be encrypted is refused before anything
    is touched. Run it again after any interruption.

    \b
    Examples:
      appliance disk enroll /dev/nvme1n1 -i my-site --node gpu-01 --escrow /media/escrow
      appliance disk enroll /dev/nvme1n1 -i my-site --escrow /media/escrow --confirm S6CVNG0T1
      appliance disk enroll /dev/nvme1n1 -i my-site --escrow /media/escrow --psid-file psid \\
          --permit /media/usb/drive-permit.0f3a5c7e91b2d486.json --trust root.1.json

    \b
    Exit codes:
      2  nobody confirmed, or another drive was meant; or the escrow lies in
         memory, or on the node itself
      3  the inventory is wrong, or names no recipients
      4  a record of the drive in the escrow is damaged, or the permit does
         not count, or is for something else
      5  the drive may not be encrypted, or the escrow does not give back
      6  the node cannot be reached          7  cryptsetup failed
    """  # noqa: D301 - \b is Typer's mark for "do not wrap"
    import datetime as dt

    from appliance.disk.confirmation import Confirmation
    from appliance.disk.cryptsetup import Cryptsetup
    from appliance.disk.enrolling import Request, enrol, identity, records_in
    from appliance.disk.enrolment import Seen, next_step
    from appliance.disk.escrow.given import given_among
    from appliance.disk.escrow.medium import refuse_medium
    from appliance.disk.fitness import judge
    from appliance.disk.reading import reading_program
    from appliance.disk.selection import select_drive
    from appliance.disk.state import read_state
    from appliance.node.connection import open_connections
    from appliance.node.drives import ask_node_drives
    from appliance.node.private import private_folder

    asked = Confirming(inventory, confirm, permit, trust, fingerprint, tuple(revoked or ()))
    site, chosen = whose(inventory, node)
    to = recipients(site)
    refuse_medium(escrow, local=chosen.connection == "local")
    with private_folder() as private:
        connection = open_connections(site, (chosen,), private)[chosen.name]
        try:
            doer = Cryptsetup(
                lambda command, given: connection.run(command, stdin=given, timeout=None),
                lambda: ask_node_drives(connection, reading_program()),
            )
            host, drives = read_state(doer.read())
            found = select_drive(drives, drive, node=chosen.name)
            records = records_in(escrow, found)
            given = given_among(escrow, records)
            layers = _layers(chosen, found, alone=hw_opal_only)
            fitness = judge(found, host, layers)
            meant = Confirmation(found.serial)
            next_step(  # before asking
                Seen(found, fitness, records, given, meant, reset=reset, layers=layers)
            )
            if layers == "dm-crypt":
                for note in fitness.notes:
                    typer.echo(f"note: {note.name}: {note.says}", err=True)
            confirmation, permitted = confirmed(asked, found, connection, "will be encrypted")
            confirmation.require("enroll", found)
            request = Request(
                path=found.path,
                confirmed=confirmation,
                psid=_psid(psid_file, layers),
                host=chosen.name,
                folder=escrow,
                escrow=to,
                layers=layers,
                reset=reset,
            )
            header = enrol(
                doer,
                request,
                now=lambda: dt.datetime.now(dt.UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
                told=lambda line: typer.echo(line, err=True),
            )
        finally:
            connection.close()
    values = {"node": chosen.name, "drive": header.inner()["drive"], "header": header.stem}
    values |= {"layers": header.layers}
    values |= {"permit": permitted}
    text = f"{identity(found).serial} of {chosen.name} is enrolled; its keys and header: {header.stem}"
    print_result(text, values, as_json=as_json)


def _layers(node: NodeEntry, drive: Drive, *, alone: bool) -> Layers:
    """What shall encrypt a drive: as the inventory says; else the usual, or the drive alone."""
    said = next(
        (
            disk.layers
            for disk in node.disks
            if disk.serial == drive.serial
            and (disk.namespace is None or str(disk.namespace) == drive.namespace)
        ),
        None,
    )
    if alone and said not in {None, "opal"}:
        raise Usage(
            "the inventory says other layers of this drive",
            found="--hw-opal-only",
            wanted=f"layers: {said}",
        )
    return said or ("opal" if alone else USUAL_LAYERS)


def _psid(path: Path | None, layers: Layers) -> Secret | None:
    from getpass import getpass

    from appliance.disk.psid import parse_psid, read_psid

    if layers == "dm-crypt":
        if path is not None:
            raise Usage("a PSID has no part in this", found="--psid-file", wanted="nothing: " + _ALONE)
        return None
    if path is not None:
        return read_psid(path)
    if not has_terminal():
        raise Usage("no terminal to ask for the PSID on", wanted="--psid-file FILE, or a terminal")
    return parse_psid(getpass("PSID on its label: ").encode())
