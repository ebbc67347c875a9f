"""One self-contained HTML page about a bundle: for a reviewer to read, keep and print.

It is opened from a stick on a desk without a network: it refers to nothing outside itself, and its
content security policy lets a browser load nothing.  The few lines of style and script in it are
allowed by their digests, so text from a bundle could become neither even if it were not escaped.
The same bundle gives the same page.
"""

from __future__ import annotations

import base64
import hashlib
from collections import defaultdict
from dataclasses import dataclass
from importlib.resources import files as resources
from typing import TYPE_CHECKING, Final

from jinja2 import Environment, StrictUndefined
from markupsafe import Markup

from appliance.bundle.durable import replace_file
from appliance.bundle.licences import normalised
from appliance.bundle.media.sizes import size_text
from appliance.bundle.origins import NAMES, origin_text
from appliance.bundle.paths import MANIFEST_PATH
from appliance.bundle.wording import counted, exact_size
from appliance.errors import Usage

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from appliance.bundle.comparison import Comparison
    from appliance.bundle.inspection import Inspection

#: Files of one package whose bytes were exchanged, listed with both digests.
_REPLACED_SHOWN: Final = 20


@dataclass(frozen=True, slots=True)
class _Component:
    """A component's row; ``share`` is its part of the payload's bytes, as text."""

    name: str
    kind: str
    packages: int
    files: int
    size: int
    share: str
    upstream: int


@dataclass(frozen=True, slots=True)
class _Licence:
    """A licence's row."""

    text: str
    packages: int
    size: int


def check_place(page: Path, bundles: Iterable[Path], *, replace: bool) -> None:
    """Refuse a place where no page should be written.

    Raises:
        Usage: a file is there already and ``replace`` is false, or the place is in a bundle, which a
            file more would spoil, or in no folder.
    """
    place = page.resolve()
    for bundle in bundles:
        if place.is_relative_to(bundle.resolve()):
            raise Usage(
                f"{page} lies in the bundle {bundle}",
                wanted="a place outside: a bundle with a file too many does not verify",
            )
    if not place.parent.is_dir():
        raise Usage(f"{place.parent} is not a folder", wanted="an existing folder for the page")
    if page.is_dir() or (page.exists() and not replace):
        raise Usage(f"{page} exists already", hint="name another file, or replace it with --force")


def write_page(page: Path, seen: Inspection, changes: Comparison | None, *, files: bool) -> None:
    """Write the page, whole or not at all.

    Raises:
        SpaceExhausted, PreflightFailed: the disk is full or write-protected.
    """
    replace_file(page, render(seen, changes, files=files).encode())


def render(seen: Inspection, changes: Comparison | None, *, files: bool) -> str:
    """The page.

    Args:
        seen: the bundle.
        changes: what changed since another one, if there is one.
        files: whether every file is listed; of 200,000 that makes a page of 100 MB.
    """
    style, script = _resource("page.css"), _resource("page.js")
    # Autoescaping whatever the template is called; an unknown name in it is a fault, not nothing.
    environment = Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    return environment.from_string(_resource("page.html.j2")).render(
        seen=seen,
        manifest=seen.manifest,
        changes=changes,
        components=_components(seen),
        payload=_payload(seen),
        licences=_licences(seen),
        identifiers=seen.sbom.identifiers if seen.sbom else {},
        beside=sorted({MANIFEST_PATH: seen.files[MANIFEST_PATH], **seen.manifest.files}.items()),
        with_files=files,
        shown=_REPLACED_SHOWN,
        role=seen.role,
        origin=origin_text,
        names=NAMES,
        counted=counted,
        size_text=size_text,
        exact_size=exact_size,
        policy=f"default-src 'none'; style-src {_allowed(style)}; script-src {_allowed(script)}; "
        "base-uri 'none'; form-action 'none'",
        style=Markup(style),  # noqa: S704 - our own files, which hold no markup
        script=Markup(script),  # noqa: S704
    )


def _components(seen: Inspection) -> list[_Component]:
    payload = _payload(seen)
    rows = []
    for name, component in seen.manifest.components.items():
        size = upstream = 0
        for file in component.files:
            size += file.size
            upstream += "upstream" in file.origin
        number = sum(package.component == name for package in seen.packages)
        share = f"{size / payload:.1%}" if payload else "0.0%"
        rows.append(_Component(name, component.kind, number, len(component.files), size, share, upstream))
    return rows


def _licences(seen: Inspection) -> list[_Licence]:
    """By what the packages state, each licence by one name, most packages first."""
    counts: dict[str, list[int]] = defaultdict(lambda: [0, 0])
    for package in seen.packages:
        for text in package.licence_names:
            counts[text][0] += 1
            counts[text][1] += sum(file.size for file in package.files if normalised(file.licence) == text)
    rows = [_Licence(text, number, size) for text, (number, size) in counts.items()]
    return sorted(rows, key=lambda row: (-row.packages, row.text))


def _payload(seen: Inspection) -> int:
    """Bytes of all payload files."""
    return sum(package.size for package in seen.packages)


def _resource(name: str) -> str:
    return resources("appliance.bundle").joinpath("page", name).read_text(encoding="utf-8")


def _allowed(text: str) -> str:
    """A source expression that allows exactly this inline text (CSP level 3, section 2.3.1)."""
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode('ascii')}'"
