"""``appliance verify``: signatures first, then every byte."""

from __future__ import annotations

from pathlib import Path  # noqa: TC003 - Typer reads it at run time
from typing import TYPE_CHECKING, Annotated

import typer

from appliance.cli.console import print_result, progress
from appliance.cli.options import AsJson, BundleFolders  # noqa: TC001 - Typer reads them at run time

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
    as_json: AsJson = False,
) -> None:
    """Verify a bundle: signatures first, then every byte. Changes nothing, needs no network.

    The root is what you trust: bring it by another way than the bundle, and compare its
    fingerprint with one you were told. Exit code 0: verified. 4: do not use the bundle.
    5: a medium was pulled out or broke meanwhile, so nothing is known of it.

    \b
    Examples:
      appliance verify /media/usb/demo --trust root.1.json
      appliance verify /media/usb/demo --trust root.1.json --fingerprint 3f1c…
      appliance verify /media/a /media/b /media/c --trust root.1.json
      appliance verify out/demo --trust root.1.json --json
    """  # noqa: D301 - \b is Typer's mark for "do not wrap"
    from appliance.bundle.roots import load_root
    from appliance.bundle.verify import verify_bundle

    root = load_root(trust, fingerprint)
    bundle = verify_bundle(folders, root, progress=progress(), workers=workers, role=role)
    print_result(verified_text(bundle), verified_values(bundle), as_json=as_json)


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
        f"contents     {len(bundle.files)} files, {bundle.size:,} bytes",
        f"root         version {bundle.root.version}, fingerprint {bundle.root_digest}",
    ]
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
        "role": bundle.role,
        "threshold": bundle.root.roles[bundle.role].threshold,
        "signers": [
            {"holder": one.holder, "key": one.fingerprint, "keyid": one.keyid} for one in bundle.signers
        ],
        "files": len(bundle.files),
        "bytes": bundle.size,
        "root": {
            "version": bundle.root.version,
            "fingerprint": bundle.root_digest,
            "solo": bundle.root.solo,
        },
    }
