"""Licences under one name each: what is stated, as SPDX says it, where that takes no guessing.

Debian, Python's classifiers and SPDX itself have several spellings for one licence.  Where packages are
counted by licence, or compared with an older bundle's, one licence must not look like two.  What was
stated stays in the manifest, word for word.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Final

from packaging.licenses import InvalidLicenseExpression, canonicalize_license_expression

#: Debian's short names that SPDX spells otherwise (machine-readable copyright 1.0, section 7.1).
_SHORT_NAMES: Final = {"Apache-2": "Apache-2.0", "CC0": "CC0-1.0", "Expat": "MIT"}
#: Classifiers of Python projects that can mean one licence only (core metadata, "Classifier").
#: "Apache Software License" and "BSD License" name no version and are not among them (PEP 639).
_CLASSIFIERS: Final = {
    "GNU General Public License v3 or later (GPLv3+)": "GPL-3.0-or-later",
    "ISC License (ISCL)": "ISC",
    "MIT License": "MIT",
    "MIT No Attribution License (MIT-0)": "MIT-0",
    "Mozilla Public License 2.0 (MPL 2.0)": "MPL-2.0",
    "The Unlicense (Unlicense)": "Unlicense",
}
_GNU: Final = re.compile(r"((?:A|L)?GPL|GFDL)-([1-3])(?:\.([0-9]))?(?:\.0)?(\+?)")
_JOINTS: Final = re.compile(r"(\(|\)| AND | and | OR | or )")


@lru_cache(maxsize=4096)
def normalised(stated: str) -> str:
    """The same licence in one spelling; a part that cannot be said as SPDX stays as it is.

    Of licences that all apply, each is named once, in alphabetical order.
    """
    # Classifiers first: some have words and brackets in their names that join others.
    plain = " AND ".join(_CLASSIFIERS.get(part, part) for part in stated.split(" AND "))
    parts = [_part(part) for part in _JOINTS.split(plain)]
    every: list[str] = [""]
    depth = 0
    for part in parts:
        depth += (part == "(") - (part == ")")
        if depth == 0 and part == " AND ":
            every.append("")
        elif depth == 0 and part == " OR ":
            return "".join(parts)
        else:
            every[-1] += part
    return " AND ".join(sorted(set(every)))


def spdx(stated: str) -> str | None:
    """The SPDX expression for what is stated; None if not all of it can be said as one."""
    text = normalised(stated)
    try:
        canonicalize_license_expression(text)
    except InvalidLicenseExpression:
        return None
    return text


def _part(text: str) -> str:
    if _JOINTS.fullmatch(text):
        return text.upper()
    if gnu := _GNU.fullmatch(text):
        family, major, minor, later = gnu.groups()
        return f"{family}-{major}.{minor or 0}-{'or-later' if later else 'only'}"
    try:
        return _SHORT_NAMES.get(text) or str(canonicalize_license_expression(text))
    except InvalidLicenseExpression:
        return text
