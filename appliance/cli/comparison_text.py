"""What changed from one bundle to another, as lines for a terminal and as JSON values."""

from __future__ import annotations

from dataclasses import asdict
from textwrap import shorten
from typing import TYPE_CHECKING, Final

from appliance.bundle.media.sizes import size_text
from appliance.bundle.origins import origin_text
from appliance.bundle.wording import exact_size
from appliance.cli.inspection_values import package_values
from appliance.cli.package_table import licence_text

if TYPE_CHECKING:
    from appliance.bundle.comparison import ChangedPackage, Comparison
    from appliance.bundle.packages import Package

#: Packages listed of each kind of change, and files of each package whose bytes were exchanged.
_PACKAGES_SHOWN: Final = 40
_FILES_SHOWN: Final = 5
_WIDTH: Final = 76
_INDENT: Final = " " * 13


def comparison_lines(found: Comparison) -> list[str]:
    """What changed since another bundle, for people."""
    old, counts = found.old, found.files
    before = "its signatures verified, its bytes not read" if old.signed else "NOT VERIFIED"
    lines = [
        f"changes since {old.manifest.product} {old.manifest.version} ({old.digest[:12]}, {before})",
        f"  direction  {found.direction}",
        f"  files      {counts.added:,} added, {counts.removed:,} removed, {counts.changed:,} changed",
        f"  new bytes  {exact_size(found.new_bytes)}, not in the other bundle anywhere",
    ]
    lines += [f"  {fact.name:10} {fact.old} -> {fact.new}" for fact in found.facts]
    lines += _listed(
        "added", [[f"{_title(one)}: {size_text(one.size)}, {_licences(one)}"] for one in found.added]
    )
    lines += _listed("removed", [[_title(one)] for one in found.removed])
    lines += _listed("changed", [_change(pair) for pair in found.changed])
    if not (found.facts or found.added or found.removed or found.changed):
        lines.append("  nothing differs")
    return lines


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
        "added": [package_values(one, found.new) for one in found.added],
        "removed": [package_values(one, found.old) for one in found.removed],
        "changed": [
            {
                "what": list(pair.what),
                "old": package_values(pair.old, found.old),
                "new": package_values(pair.new, found.new),
                "files": asdict(pair.files),
                "replaced": [asdict(file) for file in pair.replaced],
            }
            for pair in found.changed
        ],
    }


def _listed(label: str, entries: list[list[str]]) -> list[str]:
    """Entries under a label, each with the lines that belong to it."""
    lines = []
    for first, *rest in entries[:_PACKAGES_SHOWN]:
        lines += [f"  {label:10} {first}", *(_INDENT + line for line in rest)]
    if (others := len(entries) - _PACKAGES_SHOWN) > 0:
        lines.append(f"  {label:10} … and {others} more; --html and --json have them all")
    return lines


def _title(package: Package) -> str:
    return f"{package.component}/{package.name} {package.version}".rstrip()


def _licences(package: Package) -> str:
    return shorten(licence_text(package), _WIDTH, placeholder=" …")


def _change(pair: ChangedPackage) -> list[str]:
    """What changed in a line, and below it, one line each, what it was and is."""
    what = [entry.upper() if entry == "downgrade" else entry for entry in pair.what]
    title = f"{pair.new.component}/{pair.new.name} {', '.join(what)}"
    lines = [f"{title}: {pair.new.size - pair.old.size:+,} bytes"]
    if pair.old.version != pair.new.version:
        lines.append(f"version {pair.old.version} -> {pair.new.version}")
    if "licence" in pair.what:
        lines.append(f"licence {_licences(pair.old)} -> {_licences(pair.new)}")
    if "origin" in pair.what:
        lines.append(f"origin {origin_text(pair.old.origin)} -> {origin_text(pair.new.origin)}")
    lines += [f"sha256 {file.old} -> {file.new} {file.path}" for file in pair.replaced[:_FILES_SHOWN]]
    if (others := len(pair.replaced) - _FILES_SHOWN) > 0:
        lines.append(f"… and {others:,} more; --json has them all")
    return lines
