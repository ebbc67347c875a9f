"""``appliance verify``: signatures first, then every byte."""

from __future__ import annotations

from pathlib import Path  # noqa: TC003 - Typer reads it at run time
from typing import TYPE_CHECKING, Annotated

import typer

from appliance.cli.console import print_result, progress
from appliance.cli.options import (  # noqa: TC001 - Typer reads them at run time
    AsJson,
    BundleFolders,
    RevokedFiles,
)

if TYPE_CHECKING:
    from appliance.bundle.verify import VerifiedBundle


def verify(
    folders: BundleFolders,
    *,
    trust: Annotated[Path, typer.Option("--trust", "-t", help="The root file you trust.")],
    fingerprint: Annotated[
        str | None,
        typer.Option("--fingerprint", help="The root's SHA-256, typed from your paper; must match."),
    ] = None,
    role: Annotated[str, typer.Option("--role", help="The role that must have signed.")] = "release",
    workers: Annotated[
        int | None,
        typer.Option(
            "--workers", min=1, max=256, help="Threads; one per core if left out. 1 suits disks that seek."
        ),
    ] = None,
    revoked: RevokedFiles = None,
    explain: Annotated[
        bool,
        typer.Option("--explain", help="Say what was checked, by whose keys, and what was not."),
    ] = False,
    attest: Annotated[
        Path | None,
        typer.Option("--attest", metavar="FILE", help="Write a signed statement that this was verified."),
    ] = None,
    key: Annotated[Path | None, typer.Option("--key", help="Your own key, for --attest.")] = None,
    as_json: AsJson = False,
) -> None:
    """Verify a bundle: signatures first, then every byte. Changes nothing, needs no network.

    The root is what you trust: bring it by another way than the bundle, and compare its
    fingerprint with one you were told. A bundle for a later root brings the roots between,
    each signed by the one before. Exit code 0: verified. 4: do not use the bundle.
    5: a medium was pulled out or broke meanwhile, so nothing is known of it.

    \b
    Examples:
      appliance verify /media/usb/demo --trust root.1.json
      appliance verify /media/usb/demo --trust root.1.json --fingerprint 3f1c…
      appliance verify /media/a /media/b /media/c --trust root.1.json
      appliance verify out/demo --trust root.1.json --json
      appliance verify out/demo --trust root.1.json --revoked revoked.4.json --explain
      appliance verify out/demo --trust root.1.json --attest demo.vsa.json --key security-officer
    """  # noqa: D301 - \b is Typer's mark for "do not wrap"
    from appliance.bundle.documents import read_document
    from appliance.bundle.roots import load_root
    from appliance.bundle.verify import verify_bundle
    from appliance.cli.verify_explained import explanation
    from appliance.errors import Usage

    if (attest is None) != (key is None):
        raise Usage("--attest FILE and --key KEY go together", wanted="both, or neither")
    root = load_root(trust, fingerprint)
    bundle = verify_bundle(
        folders,
        root,
        progress=progress(),
        workers=workers,
        role=role,
        revocations=[read_document(path) for path in revoked or []],
    )
    text, values = verified_text(bundle), verified_values(bundle)
    if attest is not None and key is not None:
        _attest(bundle, attest, key)
        text += f"\nattested     {attest}"
        values["attested"] = str(attest)
    if explain:
        text += "\n\n" + (words := explanation(bundle, root, typed=fingerprint is not None))
        values["explanation"] = words.splitlines()
    print_result(text, values, as_json=as_json)


def _attest(bundle: VerifiedBundle, path: Path, key: Path) -> None:
    import datetime as dt

    from appliance.bundle.attestation import attest
    from appliance.bundle.durable import replace_file, writing_under

    envelope = attest(bundle, key, dt.datetime.now(dt.UTC).strftime("%Y-%m-%dT%H:%M:%SZ"))
    with writing_under(path.parent):
        replace_file(path, envelope)


def verified_text(bundle: VerifiedBundle) -> str:
    """What was verified, for people."""
    manifest = bundle.manifest
    threshold = bundle.root.roles[bundle.role].threshold
    holders = ", ".join(one.holder for one in bundle.signers)
    lines = [
        f"verified     {bundle.folder}",
        *(f"             {folder}" for folder in bundle.folders[1:]),
        f"product      {manifest.product} {manifest.version} (sequence {manifest.sequence})",
        f"digest       {bundle.digest}",
        f"signed by    {holders} ({threshold} needed as {bundle.role})",
        f"signed list  {bundle.kind}, as the profile {bundle.root.policy.profile} asks",
        f"contents     {len(bundle.files)} files, {bundle.size:,} bytes",
        f"root         version {bundle.root.version}, fingerprint {bundle.root_digest}",
    ]
    if bundle.followed:
        versions = ", ".join(str(judged.root.version) for judged in bundle.followed)
        lines.append(f"roots        followed to {versions}, each signed by the one before")
    if bundle.revocation.serial:
        lines.append(f"revocation   serial {bundle.revocation.serial}")
    if manifest.expires:
        lines.append(f"good until   {manifest.expires}")
    lines += [f"upstream     {found.text}" for found in bundle.upstream]
    if bundle.root.solo:
        lines.append("note         this root is solo: one person alone can release")
    lines += [f"note         {note}" for note in bundle.notes]
    return "\n".join(lines)


def verified_values(bundle: VerifiedBundle) -> dict[str, object]:
    """What was verified, as JSON values."""
    manifest = bundle.manifest
    return {
        "verified": True,
        "folders": [str(folder) for folder in bundle.folders],
        "notes": list(bundle.notes),
        "product": manifest.product,
        "version": manifest.version,
        "sequence": manifest.sequence,
        "digest": bundle.digest,
        "signed_list": {"path": bundle.kind.path, bundle.kind.algorithm: bundle.signed_digest},
        "role": bundle.role,
        "threshold": bundle.root.roles[bundle.role].threshold,
        "signers": [
            {
                "holder": one.holder,
                "key": one.fingerprint,
                "keyid": one.keyid,
                "post_quantum": bool(one.post_quantum),
            }
            for one in bundle.signers
        ],
        "files": len(bundle.files),
        "bytes": bundle.size,
        "root": {
            "version": bundle.root.version,
            "fingerprint": bundle.root_digest,
            "solo": bundle.root.solo,
        },
        "roots_followed": [judged.root.version for judged in bundle.followed],
        "revocation": bundle.revocation.serial,
        "expires": manifest.expires,
        "upstream": [found.values for found in bundle.upstream],
    }
