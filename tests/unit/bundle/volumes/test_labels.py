"""Labels that are damaged, exchanged or of another bundle."""

from __future__ import annotations

import hashlib
import shutil
from typing import TYPE_CHECKING

import pytest

from appliance.bundle.media.label import parse_label
from appliance.bundle.opening import open_tree
from appliance.errors import FileMissing, Usage, VolumeMissing, VolumesMixed
from tests.conftest import CONTENTS
from tests.unit.bundle.volumes.several import MODEL, notes, refusal

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from appliance.bundle.verify import VerifiedBundle
    from appliance.trust.root import Root
    from tests.conftest import BundleMaker


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"", "not canonical JSON"),
        (b"\x1b[2J\x1b[32mVERIFIED", "not canonical JSON"),
        (b"[" * 1_000_000, "not canonical JSON"),
        (b" " * (3 << 20), "too large"),
        (b'{"bundle":"x"}', "keys are missing"),
    ],
)
def test_a_damaged_label_hinders_nobody(
    data: bytes, said: str, three: list[Path], verified: Callable[..., VerifiedBundle]
) -> None:
    (three[1] / "volume.json").write_bytes(data)
    assert verified(three).digest
    [note] = notes(three)
    assert note.startswith(f"the label in {three[1]} is damaged: ")
    assert said in note
    assert note.isprintable()


def test_swapped_labels_are_said(three: list[Path], verified: Callable[..., VerifiedBundle]) -> None:
    one, other = three[0] / "volume.json", three[1] / "volume.json"
    labels = one.read_bytes(), other.read_bytes()
    one.write_bytes(labels[1])
    other.write_bytes(labels[0])
    assert verified(three).digest
    mended = "`appliance media repair` puts it right"
    assert notes(three) == (
        f"the label in {three[0]} says volume 2 of 3, but the files of volume 1 lie there: {mended}",
        f"the label in {three[1]} says volume 1 of 3, but the files of volume 2 lie there: {mended}",
    )
    assert "volume 3 of 3 is missing" in refusal(VolumeMissing, verified, three[:2])
    assert "volume 1 of 3 is missing" in refusal(VolumeMissing, verified, three[1:])


def test_a_label_of_another_bundle_is_said(
    three: list[Path], verified: Callable[..., VerifiedBundle]
) -> None:
    path = three[0] / "volume.json"
    path.write_bytes(path.read_bytes().replace(parse_label(path.read_bytes()).bundle.encode(), b"0" * 64))
    assert verified(three).digest
    assert notes(three) == (f"the label in {three[0]} is another bundle's: {'0' * 64}",)


def test_labels_that_contradict_each_other_name_nothing(
    bundle: Path,
    three: list[Path],
    volumes: Callable[..., list[Path]],
    verified: Callable[..., VerifiedBundle],
) -> None:
    """The bundle was written twice, divided otherwise."""
    again = volumes(bundle, 3, medium="again")[1]
    shutil.rmtree(again / "payload/model")
    said = refusal(FileMissing, verified, [three[0], again])
    assert MODEL in said
    assert "no label says which" in said
    with open_tree([three[0], again]) as tree:
        (note,) = tree.notes
    assert "contradict each other" in note


def test_the_same_folder_twice(three: list[Path]) -> None:
    assert "are one folder" in refusal(Usage, open_tree, [*three, three[1].parent])


def test_a_copied_volume_is_given_once(
    three: list[Path], tmp_path: Path, verified: Callable[..., VerifiedBundle]
) -> None:
    again = shutil.copytree(three[1], tmp_path / "again")
    said = refusal(VolumesMixed, verified, [*three, again])
    assert f"payload/extras/empty on volume 2 of 3 ({three[1]}) and on volume 2 of 3 ({again})" in said
    assert "name only one of them" in said


def test_a_volume_beside_the_whole_bundle(
    bundle: Path, three: list[Path], verified: Callable[..., VerifiedBundle]
) -> None:
    assert "on two volumes: 2 files\n" in refusal(VolumesMixed, verified, [bundle, three[0]])


def test_volumes_of_two_bundles_are_named_with_both_digests(
    three: list[Path],
    maker: BundleMaker,
    two_of_three: Root,
    volumes: Callable[..., list[Path]],
    verified: Callable[..., VerifiedBundle],
) -> None:
    lock = maker.lock({**CONTENTS, "model": ("tiny-gguf", {"tiny.gguf": b"another"})})
    other = maker.sign(maker.write("other", two_of_three, lock), "alice", "bob")
    first = [shutil.copytree(folder, folder.parent / "kept") for folder in three]
    second = volumes(other, 2, 3)
    said = refusal(VolumesMixed, verified, [first[0], second[1], first[2]])
    digests = [
        hashlib.sha256((folder / "trust/SHA256SUMS").read_bytes()).hexdigest()
        for folder in (three[0], other)
    ]
    assert "volumes of 2 bundles" in said
    assert f"bundle {digests[0]}: {first[0]}, {first[2]}" in said
    assert f"bundle {digests[1]}: {second[1]}" in said
