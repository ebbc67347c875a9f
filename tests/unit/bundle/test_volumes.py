"""Several volumes are one bundle: found by looking, named by their labels, judged by the list alone."""

from __future__ import annotations

import hashlib
import os
import shutil
from typing import TYPE_CHECKING

import pytest

from appliance.bundle import reader
from appliance.bundle.inspection import inspect_bundle
from appliance.bundle.media.label import VolumeShare, label_bytes, parse_label
from appliance.bundle.media.layout import Layout, agreed_layout, bundle_order
from appliance.bundle.opening import open_tree
from appliance.bundle.reader import read_contents, read_signed
from appliance.bundle.sign import sign_bundle
from appliance.bundle.verify import verify_bundle
from appliance.errors import (
    BundleUntrusted,
    DigestMismatch,
    FileMissing,
    FileUnexpected,
    PreflightFailed,
    SignatureInvalid,
    Usage,
    VolumeMissing,
    VolumesMixed,
)
from appliance.progress import Silent
from appliance.trust.root import root_bytes
from tests.conftest import CONTENTS

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from appliance.bundle.verify import VerifiedBundle
    from appliance.trust.root import Root
    from tests.conftest import BundleMaker, Holders

BLOCK = 4 << 20
MODEL = "payload/model/tiny.gguf"


@pytest.fixture
def three(bundle: Path, volumes: Callable[..., list[Path]]) -> list[Path]:
    """The bundle on three media: the engine, the empty file of the extras, the notice and the model."""
    return volumes(bundle, 2, 3)


@pytest.fixture
def verified(two_of_three: Root) -> Callable[..., VerifiedBundle]:
    return lambda folders: verify_bundle(folders, root_bytes(two_of_three), progress=Silent())


def refusal(error: type[BundleUntrusted], call: Callable[..., object], folders: Sequence[Path]) -> str:
    """Everything the error says, which must be safe to print."""
    with pytest.raises(error) as caught:
        call(folders)
    said = [caught.value.message, caught.value.found, caught.value.wanted, caught.value.hint]
    assert all(text is None or text.isprintable() for text in said)
    return "\n".join(text for text in said if text)


def notes(folders: Sequence[Path]) -> tuple[str, ...]:
    with open_tree(folders) as tree:
        read_contents(tree, read_signed(tree))
        return tree.notes


def test_volumes_in_any_order_are_the_bundle(
    bundle: Path, three: list[Path], verified: Callable[..., VerifiedBundle]
) -> None:
    whole = verified(bundle)
    for order in (three, three[::-1], [three[1], three[2], three[0]]):
        found = verified(order)
        assert (found.digest, found.files, found.signers) == (whole.digest, whole.files, whole.signers)
        assert found.folders == tuple(order)
    assert notes(three) == ()


def test_a_medium_stands_for_its_only_volume(
    three: list[Path], verified: Callable[..., VerifiedBundle]
) -> None:
    for folder in three:
        (folder.parent / "holiday").mkdir()
        (folder.parent / "holiday" / "photo.jpg").write_bytes(b"x")
        (folder.parent / ".Trash-0").mkdir()
        (folder.parent / "readme.txt").write_bytes(b"x")
    assert verified([folder.parent for folder in three]).folders == tuple(three)


def test_a_medium_stands_for_its_only_bundle(
    bundle: Path, tmp_path: Path, verified: Callable[..., VerifiedBundle]
) -> None:
    medium = tmp_path / "stick"
    medium.mkdir()
    bundle.rename(medium / "demo")
    assert verified(medium).folder == medium / "demo"
    (medium / "link").symlink_to("demo")
    assert verified(medium).folder == medium / "demo"


def test_a_medium_of_several_volumes_must_be_told_apart(three: list[Path]) -> None:
    shutil.copytree(three[1], three[0].parent / "other\x1b[2J")
    said = refusal(Usage, open_tree, [three[0].parent])
    assert f"{three[0].name}, other\\x1b[2J" in said
    assert "name the folder itself" in said


def test_one_volume_that_is_all(
    bundle: Path, volumes: Callable[..., list[Path]], verified: Callable[..., VerifiedBundle]
) -> None:
    [only] = volumes(bundle)
    assert verified(only).folders == (only,)


def test_a_volume_that_was_not_written_to_its_end(
    three: list[Path], verified: Callable[..., VerifiedBundle]
) -> None:
    (three[1] / "volume.json").rename(three[1] / "volume.json.partial")
    said = refusal(FileMissing, verified, three)
    assert f"{three[1]} was not written to its end" in said
    assert "media write" in said


def test_a_volume_that_was_hardly_begun(three: list[Path], verified: Callable[..., VerifiedBundle]) -> None:
    """Nothing on it has its name yet, and it is found by the medium all the same."""
    label = (three[1] / "volume.json").read_bytes()
    shutil.rmtree(three[1])
    (three[1] / "incoming").mkdir(parents=True)
    (three[1] / "volume.json.partial").write_bytes(label)
    for given in ([three[1].parent], [folder.parent for folder in three]):
        said = refusal(FileMissing, verified, given)
        assert f"{three[1]} was not written to its end" in said


def test_a_medium_that_is_not_mounted_is_the_volume_that_is_missing(
    three: list[Path], tmp_path: Path, verified: Callable[..., VerifiedBundle]
) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    said = refusal(VolumeMissing, verified, [empty, three[1], three[2]])
    assert f"{empty} holds nothing of a bundle, and volume 1 of 3 is missing" in said
    assert "an empty folder: no medium is mounted there" in said
    assert "volume 1: payload/engine/engine-1.0-py3-none-any.whl to payload/engine/requirements.txt" in said
    assert "holds nothing of a bundle" in refusal(FileMissing, verified, [empty])


def test_a_missing_volume_is_named_with_what_it_holds(
    three: list[Path], verified: Callable[..., VerifiedBundle]
) -> None:
    said = refusal(VolumeMissing, verified, [three[0], three[1]])
    assert "volume 3 of 3 is missing" in said
    assert f"payload/extras/site/notice.txt to {MODEL} (2 files), 4,007 bytes" in said
    said = refusal(VolumeMissing, verified, three[1:2])
    assert "volumes 1, 3 of 3 are missing" in said
    assert "volume 1: payload/engine/engine-1.0-py3-none-any.whl to payload/engine/requirements.txt" in said


def test_missing_volumes_are_named_by_any_label(
    three: list[Path], verified: Callable[..., VerifiedBundle]
) -> None:
    (three[0] / "volume.json").unlink()
    assert "volume 3 of 3 is missing" in refusal(VolumeMissing, verified, three[:2])
    (three[1] / "volume.json").unlink()
    said = refusal(FileMissing, verified, three[:2])
    assert "no label says which" in said
    assert MODEL in said


def test_a_file_lost_on_a_volume_that_is_there(
    three: list[Path], verified: Callable[..., VerifiedBundle]
) -> None:
    (three[2] / MODEL).unlink()
    (three[2] / "payload/model").rmdir()
    said = refusal(FileMissing, verified, three)
    assert f"of volume 3: {MODEL}" in said


def test_a_volume_that_lost_everything_is_not_missing(
    three: list[Path], verified: Callable[..., VerifiedBundle]
) -> None:
    shutil.rmtree(three[2] / "payload")
    said = refusal(FileMissing, verified, three)
    assert f"of volume 3: payload/extras/site/notice.txt, {MODEL}" in said


def test_files_may_have_moved_to_another_volume(
    three: list[Path], verified: Callable[..., VerifiedBundle]
) -> None:
    """Which volume holds a file is found by looking."""
    (three[0] / "payload/model").mkdir()
    (three[2] / MODEL).rename(three[0] / MODEL)
    (three[2] / "payload/model").rmdir()
    assert len(verified(three).files) == 9


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


def test_a_damaged_list_is_no_other_bundle(
    three: list[Path], verified: Callable[..., VerifiedBundle]
) -> None:
    path = three[1] / "trust/SHA256SUMS"
    path.write_bytes(path.read_bytes()[:-1])
    said = refusal(DigestMismatch, verified, three)
    assert "trust/SHA256SUMS is damaged" in said
    assert str(three[1]) in said
    assert str(three[0]) not in said
    assert "media repair" in said


@pytest.mark.parametrize(
    "name",
    ["VERIFY.txt", "blocks.bin", "manifest.json", "trust/root.1.json", "trust/SHA256SUMS.bob.sig",
     "spare/manifest.json", "spare/trust/SHA256SUMS", "spare/trust/SHA256SUMS.alice.sig"],
)  # fmt: skip
def test_a_damaged_further_copy_is_named(
    name: str, three: list[Path], verified: Callable[..., VerifiedBundle]
) -> None:
    data = bytearray((three[1] / name).read_bytes())
    data[len(data) // 2] ^= 1
    (three[1] / name).write_bytes(bytes(data))
    said = refusal(DigestMismatch, verified, three)
    assert "1 of the files that lie on several places is damaged" in said
    assert f"{name} on volume 2 of 3 ({three[1]})" in said


def test_the_first_copy_is_named_if_it_is_the_damaged_one(
    three: list[Path], verified: Callable[..., VerifiedBundle]
) -> None:
    """The signed list tells which of two manifests is right."""
    path = three[0] / "manifest.json"
    path.write_bytes(path.read_bytes().replace(b"demo", b"DEMO"))
    said = refusal(DigestMismatch, verified, three)
    assert f"manifest.json on volume 1 of 3 ({three[0]})" in said
    assert "spare" not in said
    assert "volume 2" not in said


def test_a_damaged_payload_file_is_named_with_its_volume(
    three: list[Path], verified: Callable[..., VerifiedBundle]
) -> None:
    (three[2] / MODEL).write_bytes(bytes((three[2] / MODEL).stat().st_size))
    said = refusal(DigestMismatch, verified, three)
    assert f"{MODEL} on volume 3 of 3 ({three[2]}) is not what was signed" in said


@pytest.mark.parametrize("name", ["VERIFY.txt", "manifest.json", "trust/SHA256SUMS.bob.sig"])
def test_root_files_lie_on_every_volume(
    name: str, three: list[Path], verified: Callable[..., VerifiedBundle]
) -> None:
    (three[2] / name).unlink()
    (three[2] / "spare" / name).unlink(missing_ok=True)
    said = refusal(FileMissing, verified, three)
    assert f"volume 3 of 3 ({three[2]}) lacks files that lie on every volume" in said
    assert name in said


def test_a_signature_on_one_volume_only_is_not_passed_over(
    three: list[Path], verified: Callable[..., VerifiedBundle]
) -> None:
    """Every signature present must verify, wherever it lies."""
    shutil.copy(three[0] / "trust/SHA256SUMS.bob.sig", three[2] / "trust/SHA256SUMS.carol.sig")
    refusal(SignatureInvalid, verified, three)


def test_a_good_signature_belongs_on_every_volume(
    three: list[Path], maker: BundleMaker, bundle: Path, verified: Callable[..., VerifiedBundle]
) -> None:
    maker.sign(bundle, "carol")
    shutil.copy(bundle / "trust/SHA256SUMS.carol.sig", three[2] / "trust/SHA256SUMS.carol.sig")
    said = refusal(FileMissing, verified, three)
    assert f"volume 1 of 3 ({three[0]}) lacks" in said
    assert "trust/SHA256SUMS.carol.sig" in said


def test_second_copies_may_be_left_out(
    bundle: Path, volumes: Callable[..., list[Path]], verified: Callable[..., VerifiedBundle]
) -> None:
    folders = volumes(bundle, 2, spare=False)
    assert verified(folders).digest


def test_reading_many_files_in_a_row(bundle: Path, three: list[Path]) -> None:
    with open_tree(three) as tree, tree.cursor() as cursor:
        sizes = tree.check_set(
            [str(path.relative_to(bundle)) for path in bundle.rglob("*") if path.is_file()]
        )
        for path in sorted(sizes):
            fd, status = cursor.open(path)
            assert os.read(fd, 1 << 20) == (bundle / path).read_bytes()
            assert status.st_size == sizes[path]
            os.close(fd)


def test_no_descriptor_is_left_open(three: list[Path], verified: Callable[..., VerifiedBundle]) -> None:
    def descriptors() -> int:
        return len(os.listdir("/proc/self/fd"))  # noqa: PTH208 - counting names

    before = descriptors()
    verified(three)
    for wrong in (three[:2], [*three, three[0]], [*three, three[0].parent / "nothing"]):
        with pytest.raises((BundleUntrusted, Usage)):
            verified(wrong)
    assert descriptors() == before


def test_inspecting_reads_volumes_too(three: list[Path], two_of_three: Root, bundle: Path) -> None:
    seen = inspect_bundle(three, trusted=root_bytes(two_of_three), progress=Silent())
    assert seen.verified
    assert seen.files == inspect_bundle(bundle, trusted=None, progress=Silent()).files


def test_signing_volumes_signs_each_of_them(
    three: list[Path], holders: Holders, verified: Callable[..., VerifiedBundle]
) -> None:
    shutil.rmtree(three[1] / "spare")
    done = sign_bundle(three, holders.key("carol"))
    assert [signer.holder for signer in done.signers] == ["alice", "bob", "carol"]
    name = "trust/SHA256SUMS.carol.sig"
    made = [folder / name for folder in three] + [three[0] / "spare" / name, three[2] / "spare" / name]
    assert len({path.read_bytes() for path in made}) == 1
    assert not (three[1] / "spare").exists()
    assert [signer.holder for signer in verified(three).signers] == ["alice", "bob", "carol"]


def test_some_volumes_are_not_signed(three: list[Path], holders: Holders) -> None:
    refusal(VolumeMissing, lambda folders: sign_bundle(folders, holders.key("carol")), three[:2])
    assert not list(three[0].rglob("*carol*"))


def test_a_write_protected_volume_leaves_all_unsigned(
    three: list[Path], holders: Holders, monkeypatch: pytest.MonkeyPatch
) -> None:
    allowed = os.access

    def access(path: Path, mode: int) -> bool:
        return three[2] not in path.parents and allowed(path, mode)  # as access(2) says of such a medium

    monkeypatch.setattr(os, "access", access)
    with pytest.raises(PreflightFailed, match="medium-3"):
        sign_bundle(three, holders.key("carol"))
    assert not [path for folder in three for path in folder.rglob("*carol*")]


def test_empty_folders_are_refused(three: list[Path], verified: Callable[..., VerifiedBundle]) -> None:
    """Also those that hold files on another volume."""
    (three[0] / "payload/model").mkdir()
    said = refusal(FileUnexpected, verified, three)
    assert f"volume 1 of 3 ({three[0]}) holds empty folders" in said
    assert "payload/model" in said


def test_a_large_manifest_is_read_again_from_its_volume(
    three: list[Path], verified: Callable[..., VerifiedBundle], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reader, "LARGE", 0)
    large = verified(three).manifest
    assert [file.path for file in large.payload()][-1] == MODEL
    (three[0] / "manifest.json").unlink()
    assert str(three[0]) in refusal(FileMissing, lambda _: list(large.payload()), three)


def test_the_order_of_a_bundle_follows_from_its_paths(
    maker: BundleMaker,
) -> None:
    """Names that sort otherwise as text than in the manifest."""
    contents = {
        **CONTENTS,
        "engine-2": ("files", {"z": b"z"}),
        "extras": ("files", {"w": bytes(BLOCK + 1), "w.a": b"1", "w.z": b"2", "w/": b""} | {"w-x/y": b"3"}),
    }
    contents["extras"][1].pop("w/")
    bundle = maker.write("ordered", None, maker.lock(contents), slice_size=BLOCK)
    with open_tree(bundle) as tree:
        manifest = read_contents(tree, read_signed(tree)).manifest
    order = [path for file in manifest.payload() for path, _ in file.parts()]
    assert order != sorted(order)
    shuffled = ["parity/set-0001.par2", *sorted(order, reverse=True), "parity/set-0000.par2"]
    assert sorted(shuffled, key=bundle_order) == [*order, "parity/set-0000.par2", "parity/set-0001.par2"]


def test_shares_that_overlap_are_no_layout() -> None:
    label = parse_label(
        label_bytes_of(
            VolumeShare(1, 2, "payload/a/1", "payload/a/3"), VolumeShare(1, 1, "payload/a/2", "payload/a/2")
        )
    )
    assert agreed_layout([label]) is None
    backwards = parse_label(label_bytes_of(VolumeShare(1, 2, "payload/a/3", "payload/a/1")))
    assert agreed_layout([backwards]) is None


def label_bytes_of(*shares: VolumeShare) -> bytes:
    from appliance.bundle.media.label import VolumeLabel

    return label_bytes(VolumeLabel("0" * 64, "demo", "1.0.0", 1, shares))


def test_a_layout_describes_what_volumes_hold() -> None:
    layout = Layout(
        (
            VolumeShare(31 * 10**9, 40, "payload/m/x.slice-0000", "payload/m/x.slice-0039"),
            VolumeShare(5, 1, "payload/m/y", "payload/m/y"),
        )
    )
    assert layout.describe([2, 1]) == (
        "volume 1: payload/m/x.slice-0000 to payload/m/x.slice-0039 (40 files), 31.0 GB; "
        "volume 2: payload/m/y, 5 bytes"
    )
    assert layout.volumes_of(["payload/m/y", "payload/m/x.slice-0002"]) == {
        1: ["payload/m/x.slice-0002"],
        2: ["payload/m/y"],
    }
