"""What was seen in a bundle, as lines for a terminal and as JSON values."""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict
from textwrap import shorten
from typing import TYPE_CHECKING, Any, Final

from appliance.bundle.inspection import origin_text

if TYPE_CHECKING:
    from collections.abc import Iterable

    from appliance.bundle.comparison import ChangedPackage, Comparison
    from appliance.bundle.inspection import Inspection
    from appliance.bundle.manifest import Component, PayloadFile
    from appliance.bundle.packages import Package

NOT_VERIFIED: Final = "NOT VERIFIED: this is what the bundle says of itself; give --trust ROOT to verify it"
#: Licences and origins listed per component, and how much of each, unless every file is asked for.
_SHOWN: Final = 6
_WIDTH: Final = 76
#: Packages listed of each kind of change.
_CHANGES_SHOWN: Final = 40


def inspection_lines(seen: Inspection, *, files: bool) -> list[str]:
    """The table for people; ``files`` lists every file too."""
    lines = ["verified" if seen.verified else NOT_VERIFIED, "", *_facts(seen)]
    if seen.verified:
        lines.append(f"judged by    the root with fingerprint {seen.judged_by}")
    lines += _signatures(seen)
    for name, component in seen.manifest.components.items():
        own = [package for package in seen.packages if package.component == name]
        size = sum(file.size for file in component.files)
        lines += [
            "",
            f"{name} ({component.kind}): {len(own)} packages, {len(component.files)} files, {size:,} bytes",
        ]
        counts = _counts(component)
        lines += most("licence", counts["licences"], everything=files)
        lines += most("origin", counts["origins"], everything=files)
        if upstream := sum("upstream" in file.origin for file in component.files):
            lines.append(f"  {'upstream':10} digests of {upstream} files are those their origin publishes")
        if files:
            lines += [_file_line(file) for file in component.files]
    return lines


def _facts(seen: Inspection) -> list[str]:
    manifest = seen.manifest
    target, served = manifest.target, manifest.inference
    lines = [
        f"product      {manifest.product} {manifest.version} (sequence {manifest.sequence})",
        f"created      {manifest.created}",
        f"target       {target.distribution} {target.suite} {target.architecture}, Python {target.python}",
        f"serves       {served.name}: {served.model}/{served.file} by {served.engine}",
        f"digest       {seen.digest}",
        f"contents     {len(seen.packages)} packages, {len(seen.files)} files, {seen.files.size:,} bytes",
    ]
    if manifest.build:
        lines += [
            f"definition   sha256 {manifest.build.definition}",
            f"lock         sha256 {manifest.build.lock}",
        ]
    if seen.sbom:
        known = sum(1 for each in seen.sbom.identifiers.values() if each.purl)
        lines.append(
            f"sbom         CycloneDX {seen.sbom.specification}, {seen.sbom.components} components, "
            f"{known} with a purl"
        )
    else:
        lines.append("sbom         none")
    sets, size = seen.parity
    lines.append(f"parity       {sets} sets, {size:,} bytes" if sets else "parity       none")
    if seen.root:
        lines.append(f"root         version {seen.root.version}, fingerprint {seen.root.fingerprint}")
    return [*lines, *(f"note         {note}" for note in seen.notes)]


def _signatures(seen: Inspection) -> list[str]:
    lines = []
    for one in seen.signatures:
        lines.append(f"signature    {one.holder}, {one.namespace}, {one.algorithm} {one.fingerprint}")
        if one.provenance is not None:
            said = "as the manifest says" if one.provenance else "CONTRADICTS THE MANIFEST"
            lines.append(f"provenance   {one.holder}, in-toto with SLSA provenance 1: {said}")
    return [*(lines or ["signature    none"]), *(f"upstream     {found.text}" for found in seen.upstream)]


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


def comparison_lines(found: Comparison) -> list[str]:
    """What changed since another bundle, for people."""
    old, counts = found.old, found.files
    before = "its signatures verified, its bytes not read" if old.signed else "NOT VERIFIED"
    lines = [
        f"changes since {old.manifest.product} {old.manifest.version} ({old.digest[:12]}, {before})",
        f"  direction  {found.direction}",
        f"  files      {counts.added} added, {counts.removed} removed, {counts.changed} changed",
        f"  new bytes  {found.new_bytes:,}, not in the other bundle anywhere",
    ]
    lines += [f"  {fact.name:10} {fact.old} -> {fact.new}" for fact in found.facts]
    lines += _listed(
        "added", [f"{_title(one)}: {one.size:,} bytes, {_licences(one)}" for one in found.added]
    )
    lines += _listed("removed", [_title(one) for one in found.removed])
    lines += _listed("changed", [_change(pair) for pair in found.changed])
    if not (found.facts or found.added or found.removed or found.changed):
        lines.append("  nothing differs")
    return lines


def _listed(label: str, entries: list[str]) -> list[str]:
    lines = [f"  {label:10} {entry}" for entry in entries[:_CHANGES_SHOWN]]
    if others := len(entries) - len(lines):
        lines.append(f"  {label:10} … and {others} more; --html and --json have them all")
    return lines


def _title(package: Package) -> str:
    return f"{package.component}/{package.name} {package.version}".rstrip()


def _licences(package: Package) -> str:
    return shorten(" AND ".join(package.licences), _WIDTH, placeholder=" …")


def _change(pair: ChangedPackage) -> str:
    parts = [f"{pair.new.component}/{pair.new.name} {', '.join(pair.what)}:"]
    if pair.old.version != pair.new.version:
        parts.append(f"{pair.old.version} -> {pair.new.version},")
    if pair.old.licences != pair.new.licences:
        parts.append(f"{_licences(pair.old)} -> {_licences(pair.new)},")
    if "origin" in pair.what:
        before, after = (origin_text(each.origin, with_names=True) for each in (pair.old, pair.new))
        parts.append(f"{before} -> {after},")
    return " ".join([*parts, f"{pair.new.size - pair.old.size:+,} bytes"])


def inspection_values(seen: Inspection, *, files: bool) -> dict[str, object]:
    """The same as JSON values."""
    manifest = seen.manifest
    components: dict[str, object] = {}
    for name, component in manifest.components.items():
        values: dict[str, object] = {
            "kind": component.kind,
            "files": len(component.files),
            "bytes": sum(file.size for file in component.files),
            "packages": [_package_values(one, seen) for one in seen.packages if one.component == name],
            **_counts(component),
        }
        if files:
            values["contents"] = [asdict(file) for file in component.files]
        components[name] = values
    sets, size = seen.parity
    return {
        "verified": seen.verified,
        "judged_by": seen.judged_by,
        "product": manifest.product,
        "version": manifest.version,
        "sequence": manifest.sequence,
        "created": manifest.created,
        "digest": seen.digest,
        "files": len(seen.files),
        "bytes": seen.files.size,
        "target": asdict(manifest.target),
        "inference": asdict(manifest.inference),
        "build": asdict(manifest.build) if manifest.build else None,
        "root": {"version": seen.root.version, "fingerprint": seen.root.fingerprint} if seen.root else None,
        "sbom": {
            "specification": seen.sbom.specification,
            "serial": seen.sbom.serial,
            "components": seen.sbom.components,
        }
        if seen.sbom
        else None,
        "parity": {"sets": sets, "bytes": size},
        "signatures": [asdict(one) for one in seen.signatures],
        "upstream": [found.values for found in seen.upstream],
        "components": components,
        "notes": list(seen.notes),
    }


def comparison_values(found: Comparison) -> dict[str, object]:
    """What changed, as JSON values; ``old`` is the other bundle."""
    return {
        "old": {
            "product": found.old.manifest.product,
            "version": found.old.manifest.version,
            "sequence": found.old.manifest.sequence,
            "digest": found.old.digest,
            "signatures_verified": found.old.signed,
        },
        "direction": found.direction,
        "new_bytes": found.new_bytes,
        "files": asdict(found.files),
        "facts": [asdict(fact) for fact in found.facts],
        "added": [_package_values(one, found.new) for one in found.added],
        "removed": [_package_values(one, found.old) for one in found.removed],
        "changed": [
            {
                "what": list(pair.what),
                "old": _package_values(pair.old, found.old),
                "new": _package_values(pair.new, found.new),
                "files": asdict(pair.files),
            }
            for pair in found.changed
        ],
    }


def _package_values(package: Package, seen: Inspection) -> dict[str, Any]:
    known = seen.sbom.identifiers.get(package.reference) if seen.sbom else None
    return {
        "component": package.component,
        "kind": package.kind,
        "name": package.name,
        "version": package.version,
        "licences": list(package.licences),
        "origin": origin_text(package.origin, with_names=True),
        "files": len(package.files),
        "bytes": package.size,
        "sha256": package.sha256,
        "purl": known.purl or None if known else None,
        "cpe": known.cpe or None if known else None,
    }


def _counts(component: Component) -> dict[str, dict[str, int]]:
    """How many files of a component have which licence and which origin."""
    return {
        "licences": _counted(file.licence for file in component.files),
        "origins": _counted(origin_text(file.origin, with_names=False) for file in component.files),
    }


def _counted(texts: Iterable[str]) -> dict[str, int]:
    return dict(sorted(Counter(texts).items()))


def _file_line(file: PayloadFile) -> str:
    cut = f", {len(file.slices)} slices" if file.slices else ""
    return (
        f"  {file.path}\n"
        f"      {file.name} {file.version}, {file.licence}, {file.size:,} bytes{cut}\n"
        f"      from {origin_text(file.origin, with_names=True)}, sha256 {file.sha256}"
    )
