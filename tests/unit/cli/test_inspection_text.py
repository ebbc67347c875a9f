"""What inspect shows of packages and of what changed, line by line."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from appliance.bundle.comparison import compare
from appliance.bundle.inspection import Identifiers, Inspection, Sbom, inspect_bundle
from appliance.bundle.packages import packages
from appliance.cli.comparison_text import comparison_lines, comparison_values
from appliance.cli.inspection_text import inspection_lines
from appliance.progress import Silent

if TYPE_CHECKING:
    from pathlib import Path

    from appliance.bundle.manifest import PayloadFile


def with_engine(bundle: Path, *files: PayloadFile) -> Inspection:
    """The bundle as if its engine held these files."""
    seen = inspect_bundle(bundle, trusted=None, progress=Silent())
    engine = replace(seen.manifest.components["engine"], files=files)
    manifest = replace(seen.manifest, components={**seen.manifest.components, "engine": engine})
    return replace(seen, manifest=manifest, packages=tuple(packages(manifest)))


def wheel(bundle: Path, version: str, **changes: object) -> PayloadFile:
    seen = inspect_bundle(bundle, trusted=None, progress=Silent())
    file = replace(
        seen.manifest.components["engine"].files[0],
        name="engine",
        version=version,
        origin={"kind": "python", "project": "engine", "pythons": "3.13"},
    )
    return replace(file, **changes)  # type: ignore[arg-type]  # fields of the file


def test_a_row_for_each_package_and_below_it_its_identifiers(bundle: Path) -> None:
    first = wheel(bundle, "1.0", licence="MIT License", size=33_827_498)
    second = replace(
        first,
        path="payload/engine/other.whl",
        name="other-" + "x" * 40,
        version="2",
        size=7,
        licence="a" * 50,
    )
    seen = with_engine(bundle, first, second)
    purl, cpe = "pkg:pypi/engine@1.0", "cpe:2.3:a:engine:engine:1.0:*:*:*:*:*:*:*"
    sbom = Sbom("1.7", "urn:uuid:0", 1, {first.path: Identifiers(purl, cpe)})
    lines = inspection_lines(replace(seen, sbom=sbom), files=False)
    at = lines.index("engine (python): 2 packages, 2 files, 33.8 MB (33,827,505 bytes)")
    table = lines[at : lines.index("", lines.index("", at) + 1)]
    name, licence = "other-" + "x" * 33 + "…", "a" * 39 + "…"
    assert table[-5:] == [
        f"  {'package':40}  version     size  {'licence':40}  origin",
        f"  {'engine':40}  1.0      33.8 MB  {'MIT':40}  python: pythons 3.13",
        f"      {purl}",
        f"      {cpe}",
        f"  {name:40}  2        7 bytes  {licence:40}  python: pythons 3.13",
    ]
    assert "sbom         CycloneDX 1.7, 1 component, 1 with a purl, 1 with a CPE" in lines
    assert "model (tiny-gguf): 1 package, 1 file, 4,000 bytes" in lines


def test_a_component_without_packages(bundle: Path) -> None:
    lines = inspection_lines(with_engine(bundle), files=False)
    assert "engine (python): 0 packages, 0 files, 0 bytes" in lines


def test_what_changed_says_what_it_was_and_is(bundle: Path) -> None:
    old = with_engine(bundle, wheel(bundle, "2.0", licence="MIT License"))
    new = with_engine(bundle, wheel(bundle, "1.0", licence="GPL-2", size=3, sha256="b" * 64))
    lines = comparison_lines(compare(old, new))
    at = lines.index("  changed    engine/engine version, DOWNGRADE, licence: -2 bytes")
    assert lines[at + 1 : at + 3] == [
        "             version 2.0 -> 1.0",
        "             licence MIT -> GPL-2.0-only",
    ]


def test_bytes_exchanged_under_one_version_are_shown_by_digest(bundle: Path) -> None:
    files = [
        wheel(bundle, "1.0", path=f"payload/engine/{number}", origin={"kind": "file"})
        for number in range(7)
    ]
    old = with_engine(bundle, *files)
    new = with_engine(bundle, *(replace(file, sha256="b" * 64) for file in files))
    found = compare(old, new)
    lines = comparison_lines(found)
    at = lines.index("  changed    engine/engine files: +0 bytes")
    assert lines[at + 1] == f"             sha256 {files[0].sha256} -> {'b' * 64} payload/engine/0"
    assert lines[at + 6] == "             … and 2 more; --json has them all"
    (changed,) = comparison_values(found)["changed"]  # type: ignore[misc]  # a list of objects
    assert len(changed["replaced"]) == 7


def test_a_moved_origin_is_shown_with_its_names(bundle: Path) -> None:
    old = with_engine(bundle, wheel(bundle, "1.0"))
    moved = wheel(bundle, "1.0", origin={"kind": "python", "project": "engine-of-another"})
    lines = comparison_lines(compare(old, with_engine(bundle, moved)))
    said = "origin python: project engine, pythons 3.13 -> python: project engine-of-another"
    assert f"             {said}" in lines


def test_many_changes_are_cut_short(bundle: Path) -> None:
    files = [wheel(bundle, "1", path=f"payload/engine/{number}", name=f"p{number}") for number in range(42)]
    lines = comparison_lines(compare(with_engine(bundle), with_engine(bundle, *files)))
    assert "  added      … and 2 more; --html and --json have them all" in lines
