"""What was seen in a bundle, as lines for a terminal."""

from __future__ import annotations

from textwrap import shorten
from typing import TYPE_CHECKING, Final

from appliance.bundle.origins import origin_text
from appliance.bundle.wording import counted, exact_size
from appliance.cli.inspection_values import licence_counts
from appliance.cli.package_table import package_lines

if TYPE_CHECKING:
    from appliance.bundle.inspection import Inspection, Sbom
    from appliance.bundle.manifest import PayloadFile

NOT_VERIFIED: Final = "NOT VERIFIED: this is what the bundle says of itself; give --trust ROOT to verify it"
#: Licences counted for each component, and how much of each is shown, unless every file is asked for.
_SHOWN: Final = 6
_WIDTH: Final = 76


def inspection_lines(seen: Inspection, *, files: bool) -> list[str]:
    """What it is, who signed it, and a table of its packages; ``files`` lists every file too."""
    lines = ["verified" if seen.verified else NOT_VERIFIED, "", *_facts(seen), *_signatures(seen)]
    for name, component in seen.manifest.components.items():
        own = [package for package in seen.packages if package.component == name]
        size = sum(file.size for file in component.files)
        amount = f"{counted(len(own), 'package')}, {counted(len(component.files), 'file')}"
        lines += ["", f"{name} ({component.kind}): {amount}, {exact_size(size)}"]
        if upstream := sum("upstream" in file.origin for file in component.files):
            lines.append(
                f"  {'upstream':10} its origin publishes the digests of {counted(upstream, 'file')}"
            )
        lines += most("licence", licence_counts(component), everything=files)
        lines += ["", *package_lines(own, seen)]
        if files:
            lines += ["", *(_file_line(file) for file in component.files)]
    return lines


def _facts(seen: Inspection) -> list[str]:
    manifest = seen.manifest
    target, served = manifest.target, manifest.inference
    amount = f"{counted(len(seen.packages), 'package')}, {counted(len(seen.files), 'file')}"
    lines = [
        f"product      {manifest.product} {manifest.version} (sequence {manifest.sequence})",
        f"created      {manifest.created}",
        f"target       {target.distribution} {target.suite} {target.architecture}, Python {target.python}",
        f"serves       {served.name}: {served.model}/{served.file} by {served.engine}",
        f"digest       {seen.digest}",
        f"signed list  {seen.kind}",
        f"contents     {amount}, {exact_size(seen.files.size)}",
    ]
    if manifest.build:
        lines += [
            f"definition   sha256 {manifest.build.definition}",
            f"lock         sha256 {manifest.build.lock}",
        ]
    lines.append(f"sbom         {_sbom(seen.sbom)}" if seen.sbom else "sbom         none")
    sets, size = seen.parity
    lines.append(
        f"parity       {counted(sets, 'set')}, {exact_size(size)}" if sets else "parity       none"
    )
    if seen.root:
        lines.append(f"root         version {seen.root.version}, fingerprint {seen.root.fingerprint}")
    return [*lines, *(f"note         {note}" for note in seen.notes)]


def _sbom(sbom: Sbom) -> str:
    known = sbom.identifiers.values()
    purls, cpes = sum(bool(each.purl) for each in known), sum(bool(each.cpe) for each in known)
    return (
        f"CycloneDX {sbom.specification}, {counted(sbom.components, 'component')}, "
        f"{purls} with a purl, {cpes} with a CPE"
    )


def _signatures(seen: Inspection) -> list[str]:
    """Who signed, and by which rule that is enough or not."""
    lines = []
    if seen.verified:
        lines.append(f"judged by    the root with fingerprint {seen.judged_by}")
    if root := seen.authority:
        whose = "" if seen.trusted else ", says the root in the bundle"
        rule = root.roles.get(seen.role)
        needed = f"{rule.threshold} of {', '.join(root.holders(seen.role))}" if rule else "nobody can sign"
        needed += f" as {seen.role}"
        lines.append(f"needed       {needed}{whose}")
        if root.solo:
            lines.append("note         this root is solo: one person alone can release")
    for one in seen.signatures:
        lines.append(f"signature    {one.holder}, {one.namespace}, {one.algorithm} {one.fingerprint}")
        if one.provenance is not None:
            said = "as the manifest says" if one.provenance else "CONTRADICTS THE MANIFEST"
            lines.append(f"provenance   {one.holder}, in-toto with SLSA provenance 1: {said}")
    lines = lines if seen.signatures else [*lines, "signature    none"]
    return [*lines, *(f"upstream     {found.text}" for found in seen.upstream)]


def most(label: str, counts: dict[str, int], *, everything: bool) -> list[str]:
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


def _file_line(file: PayloadFile) -> str:
    cut = f", {counted(len(file.slices), 'slice')}" if file.slices else ""
    return (
        f"  {file.path}\n"
        f"      {file.name} {file.version}, {file.licence}, {file.size:,} bytes{cut}\n"
        f"      from {origin_text(file.origin)}, sha256 {file.sha256}"
    )
