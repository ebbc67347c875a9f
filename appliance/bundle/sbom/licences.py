"""Licences as CycloneDX holds them: an SPDX identifier, an SPDX expression, or the very words."""

from __future__ import annotations

from typing import TYPE_CHECKING

from appliance.bundle.licences import normalised

if TYPE_CHECKING:
    from collections.abc import Iterable

    from cyclonedx.model.license import License


def licences(stated: Iterable[str]) -> list[License]:
    """What files state: an SPDX identifier, an SPDX expression, or the very words.

    CycloneDX takes one expression, or any number of the others; so an expression beside others is
    given as words too.
    """
    from cyclonedx.model.license import DisjunctiveLicense, LicenseExpression
    from cyclonedx.spdx import is_expression, is_supported_id

    texts = {_as_spdx(text) for text in stated}
    if len(texts) == 1 and not is_supported_id(text := next(iter(texts))) and is_expression(text):
        return [LicenseExpression(text)]
    return [
        DisjunctiveLicense(id=text) if is_supported_id(text) else DisjunctiveLicense(name=text)
        for text in sorted(texts)
    ]


def _as_spdx(stated: str) -> str:
    """In SPDX's spelling; unchanged if not all of it can be said that way."""
    from cyclonedx.spdx import is_expression

    text = normalised(stated)
    return text if is_expression(text) else stated
