"""``appliance inspect``: what a bundle holds and where it comes from."""

from __future__ import annotations

from pathlib import Path  # noqa: TC003 - Typer reads it at run time
from textwrap import shorten
from typing import TYPE_CHECKING, Annotated, Final

import typer

from appliance.cli.console import print_result, progress
from appliance.cli.options import AsJson, BundleFolders  # noqa: TC001 - Typer reads them at run time

if TYPE_CHECKING:
    from appliance.bundle.inspection import Inspection
    from appliance.bundle.manifest import Component, PayloadFile

_NOT_VERIFIED = "NOT VERIFIED: this is what the bundle says of itself; give --trust ROOT to verify it"
#: Licences and origins listed per component, and how much of each, unless every file is asked for.
_SHOWN: Final = 6
_WIDTH: Final = 76


def inspect(
    folders: BundleFolders,
    trust: Annotated[
        Path | None, typer.Option("--trust", "-t", help="Verify the bundle by this root first.")
    ] = None,
    fingerprint: Annotated[
        str | None, typer.Option("--fingerprint", help="The root's SHA-256; must match.")
    ] = None,
    files: Annotated[bool, typer.Option("--files", help="Also list every file with its origin.")] = False,
    as_json: AsJson = False,
) -> None:
    """Show a bundle's contents, origins, licences, sizes and signatures.

    Verifies nothing unless --trust is given, and says so.

    \b
    Examples:
      appliance inspect /media/usb/demo
      appliance inspect /media/usb/demo --files
      appliance inspect /media/a /media/b
      appliance inspect /media/usb/demo --trust root.1.json --json
    """  # noqa: D301 - \b is Typer's mark for "do not wrap"
    from appliance.bundle.inspection import inspect_bundle
    from appliance.bundle.roots import load_root
    from appliance.errors import Usage

    if fingerprint is not None and trust is None:
        raise Usage("--fingerprint needs the root it belongs to", wanted="--trust ROOT")
    root = load_root(trust, fingerprint) if trust is not None else None
    seen = inspect_bundle(folders, trusted=root, progress=progress())
    print_result(_text(seen, files=files), _values(seen, files=files), as_json=as_json)


def _text(seen: Inspection, *, files: bool) -> str:
    manifest = seen.manifest
    target, served = manifest.target, manifest.inference
    lines = [
        "verified" if seen.verified else _NOT_VERIFIED,
        "",
        f"product      {manifest.product} {manifest.version} (sequence {manifest.sequence})",
        f"created      {manifest.created}",
        f"target       {target.distribution} {target.suite} {target.architecture}, Python {target.python}",
        f"serves       {served.name}: {served.model}/{served.file} by {served.engine}",
        f"digest       {seen.digest}",
        f"contents     {len(seen.files)} files, {sum(file.size for file in seen.files.values()):,} bytes",
    ]
    if seen.root:
        lines.append(f"root         version {seen.root.version}, fingerprint {seen.root.fingerprint}")
    lines += [
        f"signature    {one.holder}, {one.namespace}, {one.algorithm} {one.fingerprint}"
        for one in seen.signatures
    ]
    if not seen.signatures:
        lines.append("signature    none")
    lines += [f"note         {note}" for note in seen.notes]
    for name, component in manifest.components.items():
        size = sum(file.size for file in component.files)
        lines += ["", f"{name} ({component.kind}): {len(component.files)} files, {size:,} bytes"]
        counts = _counts(component)
        lines += _most("licence", counts["licences"], everything=files)
        lines += _most("origin", counts["origins"], everything=files)
        if files:
            lines += [_file_line(file) for file in component.files]
    return "\n".join(lines)


def _most(label: str, counts: dict[str, int], *, everything: bool) -> list[str]:
    """The most frequent texts, shortened to a line each, and how many others there are."""
    ranked = sorted(counts.items(), key=lambda entry: (-entry[1], entry[0]))
    shown = ranked if everything else ranked[:_SHOWN]
    lines = [
        f"  {label:10} {text if everything else shorten(text, _WIDTH, placeholder=' …')}: {count}"
        for text, count in shown
    ]
    if others := len(ranked) - len(shown):
        lines.append(f"  {label:10} … and {others} more; --files shows them all")
    return lines


def _values(seen: Inspection, *, files: bool) -> dict[str, object]:
    from dataclasses import asdict

    manifest = seen.manifest
    components: dict[str, object] = {}
    for name, component in manifest.components.items():
        values: dict[str, object] = {
            "kind": component.kind,
            "files": len(component.files),
            "bytes": sum(file.size for file in component.files),
            **_counts(component),
        }
        if files:
            values["contents"] = [asdict(file) for file in component.files]
        components[name] = values
    return {
        "verified": seen.verified,
        "notes": list(seen.notes),
        "product": manifest.product,
        "version": manifest.version,
        "sequence": manifest.sequence,
        "created": manifest.created,
        "digest": seen.digest,
        "files": len(seen.files),
        "bytes": sum(file.size for file in seen.files.values()),
        "target": asdict(manifest.target),
        "inference": asdict(manifest.inference),
        "root": {"version": seen.root.version, "fingerprint": seen.root.fingerprint} if seen.root else None,
        "signatures": [asdict(one) for one in seen.signatures],
        "components": components,
    }


def _counts(component: Component) -> dict[str, dict[str, int]]:
    """How many files of a component have which licence and which origin."""
    from collections import Counter

    licences = Counter(file.licence for file in component.files)
    origins = Counter(_origin(file, with_names=False) for file in component.files)
    return {"licences": dict(sorted(licences.items())), "origins": dict(sorted(origins.items()))}


def _file_line(file: PayloadFile) -> str:
    cut = f", {len(file.slices)} slices" if file.slices else ""
    return (
        f"  {file.path}\n"
        f"      {file.name} {file.version}, {file.licence}, {file.size:,} bytes{cut}\n"
        f"      from {_origin(file, with_names=True)}, sha256 {file.sha256}"
    )


def _origin(file: PayloadFile, *, with_names: bool) -> str:
    """An origin as text; without the names that differ from file to file, for counting."""
    own = () if with_names else ("kind", "package", "project", "version")
    details = [value for key, value in sorted(file.origin.items()) if key not in {"kind", *own}]
    return " ".join([file.origin["kind"], *details])
