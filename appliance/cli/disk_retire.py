"""``appliance disk retire`` and ``certificate``: a drive is erased, and what shows that it is."""

from __future__ import annotations

from pathlib import Path  # noqa: TC003 - Typer reads it at run time
from typing import TYPE_CHECKING, Annotated, Any

import typer

from appliance.cli.console import print_result
from appliance.cli.disk_confirm import (
    Confirm,
    Confirming,
    Fingerprint,
    PermitFile,
    TrustFile,
    confirmed,
)
from appliance.cli.disk_keys import Identities, Shares, keeper, now, whose
from appliance.cli.options import (  # noqa: TC001 - Typer reads them at run time
    AsJson,
    InventoryFolder,
    RevokedFiles,
)
from appliance.errors import ApplianceError, QualificationFailed, Usage

if TYPE_CHECKING:
    from appliance.disk.certificate import Certified

#: What only people know, for the certificate.
_Title = Annotated[str, typer.Option("--title", metavar="TEXT", help="Of who does it: position.")]
_Organization = Annotated[str, typer.Option("--organization", metavar="TEXT", help="Likewise.")]
_Location = Annotated[str, typer.Option("--location", metavar="TEXT", help="Likewise: where.")]
_Contact = Annotated[str, typer.Option("--contact", metavar="TEXT", help="Likewise: phone, mail.")]
_Property = Annotated[
    str, typer.Option("--property-number", metavar="TEXT", help="Of the drive, at the organization.")
]
_Classification = Annotated[
    str, typer.Option("--classification", metavar="TEXT", help="Of what was on the drive.")
]
_BackedUp = Annotated[str, typer.Option("--backed-up", metavar="TEXT", help="Whether that was, and where.")]
_Destination = Annotated[
    str, typer.Option("--destination", metavar="TEXT", help="Where the drive goes now.")
]
_After = Annotated[
    str, typer.Option("--classification-after", metavar="TEXT", help="Of the drive from now on.")
]


def retire(
    drive: Annotated[str, typer.Argument(metavar="DRIVE", help="The device node, or the serial number.")],
    *,
    inventory: InventoryFolder,
    report: Annotated[Path, typer.Option("--report", metavar="DIR", help="Where the certificate goes.")],
    by: Annotated[str, typer.Option("--by", metavar="NAME", help="Who does it.")],
    node: Annotated[
        str | None, typer.Option("--node", metavar="NAME", help="Whose drive; the only one if left out.")
    ] = None,
    escrow: Annotated[
        Path | None, typer.Option("--escrow", metavar="DIR", help="Where its keys are kept.")
    ] = None,
    identity: Identities = None,
    share: Shares = None,
    psid_file: Annotated[
        Path | None,
        typer.Option("--psid-file", metavar="FILE", help="Erase it by the PSID of its label instead."),
    ] = None,
    key: Annotated[
        Path | None,
        typer.Option("--key", "-k", help="Sign the certificate; as for `appliance trust sign`."),
    ] = None,
    confirm: Confirm = None,
    permit: PermitFile = None,
    trust: TrustFile = None,
    fingerprint: Fingerprint = None,
    revoked: RevokedFiles = None,
    title: _Title = "",
    organization: _Organization = "",
    location: _Location = "",
    contact: _Contact = "",
    property_number: _Property = "",
    classification: _Classification = "",
    backed_up: _BackedUp = "",
    destination: _Destination = "",
    classification_after: _After = "",
    as_json: AsJson = False,
) -> None:
    """Erase a drive that is not in use by new media keys, show that it is, and certify it.

    Places of the drive are read before and after; for what is locked its
    administrator opens it first, by the PIN of the escrow. Then its owner
    resets it: nobody owns it, there is no header, and each place that could
    be read has to have changed. What could not be shown is said. Without the
    escrow's keys: --psid-file. Run it again after any interruption.

    \b
    Examples:
      appliance disk retire /dev/nvme1n1 -i my-site --escrow /media/escrow \\
          --identity safe.key --report reports --by "A. Engineer" \\
          --key ~/.ssh/id_ed25519
      appliance disk retire /dev/nvme1n1 -i my-site --psid-file psid \\
          --report reports --by "A. Engineer"

    \b
    Exit codes:
      2  nobody confirmed, or another drive was meant; nothing to erase it by
      3  the inventory is wrong
      4  a record of the drive in the escrow is damaged, or the permit does
         not count
      5  the drive may not be retired, or the keys at hand do not open
      6  the node cannot be reached          7  the drive refused
      8  it was reset, and is not shown to be erased; the report says why
    """  # noqa: D301 - \b is Typer's mark for "do not wrap"
    from appliance.disk.certificate import Who
    from appliance.disk.escrow.opening import read_openers
    from appliance.disk.psid import read_psid
    from appliance.disk.retiring import Request, keys_at_hand
    from appliance.disk.retiring import look as look_at
    from appliance.disk.retiring import retire as erase
    from appliance.disk.rotating import look as keys_of
    from appliance.node.connection import open_connections
    from appliance.node.private import private_folder

    asked = Confirming(inventory, confirm, permit, trust, fingerprint, tuple(revoked or ()))
    opening = bool(identity or share)
    if opening and escrow is None:
        raise Usage("keys of which escrow?", wanted="--escrow DIR")
    if not report.is_dir():
        raise Usage(f"there is no folder {report}", wanted="one for the certificate")
    signer = _signer(key)
    psid = None if psid_file is None else read_psid(psid_file)
    openers = read_openers(identity or [], share or [])
    site, chosen = whose(inventory, node)
    with private_folder() as private:
        connection = open_connections(site, (chosen,), private)[chosen.name]
        try:
            doer = keeper(connection)
            found = look_at(doer, drive)
            meant, _ = confirmed(asked, found, connection, "will be erased for good")
            owned = found.owner == "somebody"
            request = Request(
                path=found.path,
                confirmed=meant,
                host=chosen.name,
                report=report,
                who=Who(
                    *(by, title, organization, location, contact),
                    *(property_number, classification, backed_up, destination, classification_after),
                ),
                escrow=escrow,
                keys=keys_at_hand(keys_of(doer, found.path, escrow), escrow, openers)
                if opening and owned and escrow is not None
                else None,
                psid=psid,
            )
            done = erase(
                doer,
                request,
                now=now,
                told=lambda line: typer.echo(line, err=True),
            )
        finally:
            connection.close()
    _end(done, report, signer, as_json=as_json)


def certificate(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="SERIAL.TIME.certificate.json")],
    *,
    key: Annotated[
        Path | None,
        typer.Option("--key", "-k", help="Whose signature has to be beside it: a .pub file."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Show a certificate of sanitization; with a key, check the signature beside it.

    Stock OpenSSH checks the same: ssh-keygen -Y check-novalidate
    -n certificate@appliance -s FILE.sig <FILE

    \b
    Examples:
      appliance disk certificate reports/S6CV.20260504T030201Z.certificate.json \\
          --key ana.pub

    \b
    Exit codes:
      2  there is no such file
      4  it is no certificate, or not signed by that key
      8  it says that the drive is not shown to be erased
    """  # noqa: D301 - as above
    from appliance.bundle.documents import read_plain
    from appliance.disk.certificate import (
        LONGEST,
        NAMESPACE,
        Certified,
        certificate_text,
        parse_certificate,
    )
    from appliance.errors import SignatureInvalid
    from appliance.trust.keys import parse_public_file
    from appliance.trust.sshsig import MAX_BYTES, parse_signature, verify_signature

    data = read_plain(file, LONGEST)
    values = parse_certificate(data)
    signed = None
    if key is not None:
        wanted = parse_public_file(read_plain(key, MAX_BYTES).decode("utf-8", "replace"))
        signature = parse_signature(read_plain(file.with_name(f"{file.name}.sig"), MAX_BYTES))
        if signature.key.keyid != wanted.keyid:
            raise SignatureInvalid(
                f"{file.name} was signed by somebody else",
                found=signature.key.fingerprint,
                wanted=wanted.fingerprint,
            )
        verify_signature(signature, data, NAMESPACE)
        signed = wanted.fingerprint
    text = certificate_text(values)
    told = f"signed by {signed}" if signed else "not checked: whose it is (--key)"
    print_result(f"{text}\n{told}", {"certificate": values, "signed_by": signed}, as_json=as_json)
    if not Certified(values, "").sanitized:
        raise typer.Exit(QualificationFailed.exit_code)


def _signer(key: Path | None) -> Any:
    from appliance.bundle.signing_keys import open_key

    return None if key is None else open_key(key)


def _end(done: Certified, report: Path, signer: Any, *, as_json: bool) -> None:
    """Sign what came of it, and say it."""
    from appliance.bundle.durable import replace_file
    from appliance.disk.certificate import NAMESPACE

    path = report / f"{done.name}.json"
    unsigned = None
    try:
        if signer is not None:
            replace_file(path.with_name(f"{path.name}.sig"), signer.sign(done.data, NAMESPACE))
    except ApplianceError as fault:  # the drive is reset, whatever becomes of a signature: say that first
        unsigned = fault
        by_hand = f"ssh-keygen -Y sign -f KEY -n {NAMESPACE} {path}"
        typer.echo(f"{path} is written, and not signed; by hand: {by_hand}", err=True)
    found = done.values["verification"]
    values = {
        "certificate": str(path),
        "sha256": done.digest,
        "signed": signer is not None and unsigned is None,
    }
    values |= {"verification": found}
    if not done.sanitized:
        raise QualificationFailed(
            f"{done.values['media']['serial']} was reset, and is not shown to be erased: {found['result']}",
            found=f"{found['changed']} places changed, {found['unchanged']} unchanged, "
            f"{found['unreadable_before']} not readable before; "
            + ", ".join(f"{one['name']} {one['found']}" for one in found["checks"]),
            wanted="every place that was read has changed, no owner, no header",
            hint=f"keep the drive, and treat it as full; {path} says all that is known",
        )
    text = (
        f"{done.values['media']['serial']} is erased: {found['changed']} of {found['places']} places "
        f"changed, {found['result']}\n{path}, SHA-256 {done.digest}"
    )
    if unsigned is not None:
        typer.echo(text, err=True)
        raise unsigned
    print_result(text, values, as_json=as_json)
