"""Licences as SPDX names them, where what is stated can be said that way without guessing."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterable

    from cyclonedx.model.license import License

#: Debian's short names that SPDX spells otherwise (machine-readable copyright 1.0, section 7.1).
_SHORT_NAMES: Final = {
    "BSD-2-clause": "BSD-2-Clause",
    "BSD-3-clause": "BSD-3-Clause",
    "BSD-4-clause": "BSD-4-Clause",
    "CC0": "CC0-1.0",
    "Expat": "MIT",
}
#: Classifiers of Python projects that can mean one licence only (core metadata, "Classifier").
_CLASSIFIERS: Final = {
    "GNU General Public License v3 or later (GPLv3+)": "GPL-3.0-or-later",
    "ISC License (ISCL)": "ISC",
    "MIT License": "MIT",
    "MIT No Attribution License (MIT-0)": "MIT-0",
    "Mozilla Public License 2.0 (MPL 2.0)": "MPL-2.0",
    "The Unlicense (Unlicense)": "Unlicense",
}
_GNU = re.compile(r"((?:A|L)?GPL|GFDL)-([1-3])(?:\.([0-9]))?(?:\.0)?(\+?)")
_JOINTS = re.compile(r"(\(|\)| AND | and | OR | or )")


def licences(stated: Iterable[str]) -> list[License]:
    """What files state: an SPDX identifier, an SPDX expression, or the very words.

    CycloneDX takes one expression, or any number of the others; so an expression beside others is
    given as words too.
    """
    from cyclonedx.model.license import DisjunctiveLicense, LicenseExpression
    from cyclonedx.spdx import is_expression, is_supported_id

    texts = [_translated(text) for text in stated]
    if len(texts) == 1 and not is_supported_id(texts[0]) and is_expression(texts[0]):
        return [LicenseExpression(texts[0])]
    return [
        DisjunctiveLicense(id=text) if is_supported_id(text) else DisjunctiveLicense(name=text)
        for text in texts
    ]


def _translated(text: str) -> str:
    """Debian's short names and outdated SPDX ones as SPDX has them now; unchanged if not all can be."""
    from cyclonedx.spdx import is_expression

    if text in _CLASSIFIERS:
        return _CLASSIFIERS[text]
    parts = _JOINTS.split(text)
    translated = "".join(part.upper() if _JOINTS.fullmatch(part) else _short_name(part) for part in parts)
    return translated if is_expression(translated) else text


def _short_name(name: str) -> str:
    if gnu := _GNU.fullmatch(name):
        family, major, minor, later = gnu.groups()
        return f"{family}-{major}.{minor or 0}-{'or-later' if later else 'only'}"
    return _SHORT_NAMES.get(name, name)
