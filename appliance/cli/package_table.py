"""Packages as a table for a terminal: a row for each, and below it the names that scanners know it by."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from appliance.bundle.media.sizes import size_text
from appliance.bundle.origins import NAMES, origin_text

if TYPE_CHECKING:
    from collections.abc import Sequence

    from appliance.bundle.inspection import Inspection
    from appliance.bundle.packages import Package

_COLUMNS: Final = ("package", "version", "size", "licence", "origin")
_SIZE: Final = _COLUMNS.index("size")
#: Characters of a column at most; the last one is never cut, for nothing stands behind it.
_WIDEST: Final = (40, 24, 14, 40)


def package_lines(packages: Sequence[Package], seen: Inspection) -> list[str]:
    """The table; what is cut short in it ends in an ellipsis."""
    rows = [_COLUMNS, *map(_row, packages)]
    widths = [min(widest, max(len(row[column]) for row in rows)) for column, widest in enumerate(_WIDEST)]
    lines = [_line(_COLUMNS, widths)]
    for package, row in zip(packages, rows[1:], strict=True):
        lines.append(_line(row, widths))
        if seen.sbom and (known := seen.sbom.identifiers.get(package.reference)):
            lines += [f"      {text}" for text in (known.purl, known.cpe) if text]
    return lines


def licence_text(package: Package) -> str:
    """The licences of a package in a line, each by one name."""
    return " AND ".join(package.licence_names)


def _row(package: Package) -> tuple[str, ...]:
    name = f"{package.name} (model)" if package.is_model else package.name
    return (
        name,
        package.version or "-",
        size_text(package.size),
        licence_text(package),
        origin_text(package.origin, without=NAMES),
    )


def _line(row: Sequence[str], widths: Sequence[int]) -> str:
    cells = [
        _cut(text, width).rjust(width) if column == _SIZE else _cut(text, width).ljust(width)
        for column, (text, width) in enumerate(zip(row, widths, strict=False))
    ]
    return "  " + "  ".join([*cells, row[-1]]).rstrip()


def _cut(text: str, width: int) -> str:
    return text if len(text) <= width else text[: width - 1] + "…"
