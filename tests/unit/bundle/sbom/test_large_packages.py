"""Packages of so many files that none of these is kept: the same is said of them, by reading again."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from appliance.bundle import packages as module
from appliance.bundle.manifest import parse_manifest
from appliance.bundle.packages import packages
from appliance.bundle.sbom.document import sbom_bytes

if TYPE_CHECKING:
    from appliance.bundle.manifest import Manifest
    from appliance.trust.root import Root
    from tests.conftest import BundleMaker


@pytest.fixture
def manifest(maker: BundleMaker, two_of_three: Root) -> Manifest:
    """Two packages in one component, their files among one another; one file is served."""
    contents = {
        "engine": ("python", {"engine-1.0-py3-none-any.whl": b"wheel"}),
        "extras": ("files", {f"f{number}": b"%d" % number for number in range(9)}),
        "model": ("tiny-gguf", {"tiny.gguf": b"x", "z": b"y"}),
    }
    lock = maker.lock(contents)
    extras = lock.components["extras"]
    artefacts = tuple(
        artefact.model_copy(
            update={
                "licence": f"L{number % 2}",
                "origin": {"kind": "oci" if number % 3 else "file", "image": "i", "part": str(number)},
            }
        )
        for number, artefact in enumerate(extras.artefacts)
    )
    components = {**lock.components, "extras": extras.model_copy(update={"artefacts": artefacts})}
    bundle = maker.write("bundle", two_of_three, lock.model_copy(update={"components": components}))
    return parse_manifest((bundle / "manifest.json").read_bytes())


def test_the_same_is_said_of_a_package_whose_files_are_not_kept(
    manifest: Manifest, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept = list(packages(manifest))
    document = sbom_bytes(manifest)
    monkeypatch.setattr(module, "_MOST_KEPT", 1)
    for before, after in zip(kept, packages(manifest), strict=True):
        assert isinstance(after.files, tuple) is (len(before.files) == 1)
        assert tuple(after.files) == before.files
        assert tuple(after.files[1:]) == before.files[1:]
        assert (after.files[0], len(after.files)) == (before.files[0], len(before.files))
        names = ("reference", "kind", "name", "version", "origin", "size", "licences", "is_model", "sha256")
        assert [getattr(after, name) for name in names] == [getattr(before, name) for name in names]
    assert sbom_bytes(manifest) == document


def test_size_licences_and_origin_are_those_of_the_files(manifest: Manifest) -> None:
    [image, plain] = [each for each in packages(manifest) if each.component == "extras"][::-1]
    assert [file.path[-1] for file in image.files] == list("124578")
    assert [file.path[-1] for file in plain.files] == list("036")
    assert (image.size, plain.size) == (6, 3)
    assert image.licences == plain.licences == ("L0", "L1")
    assert image.origin == {"kind": "oci", "image": "i"}
    assert [each.is_model for each in packages(manifest)] == [False, False, False, True]
