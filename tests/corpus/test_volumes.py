"""A second volume that somebody without a key has touched: not accepted, and nothing is changed."""

from __future__ import annotations

import os
import shutil
import stat
from typing import TYPE_CHECKING

import pytest

from appliance.errors import (
    BundleUntrusted,
    DigestMismatch,
    FileMissing,
    FileUnexpected,
    SignatureInvalid,
    VolumesMixed,
)
from appliance.progress import Silent
from appliance.trust.root import root_bytes
from tests.corpus.test_hostile_folders import CHANGES, UNEXPECTED, WHEEL
from tests.independent.agreement import verify_bundle

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from appliance.bundle.verify import VerifiedBundle
    from appliance.trust.root import Root

pytestmark = pytest.mark.group(4)

SHARE = [WHEEL, "payload/extras/empty", "payload/extras/site/notice.txt", "payload/model/tiny.gguf"]
ROOT = [
    "VERIFY.txt",
    "blocks.bin",
    "manifest.json",
    "trust/SHA256SUMS",
    "trust/SHA256SUMS.alice.sig",
    "trust/SHA256SUMS.bob.sig",
    "trust/provenance.alice.dsse.json",
    "trust/provenance.bob.dsse.json",
    "trust/root.1.json",
]
SPARE = [f"spare/{path}" for path in ROOT[2:]]


@pytest.fixture
def two(bundle: Path, volumes: Callable[..., list[Path]]) -> list[Path]:
    """The bundle on two volumes; nearly all of it on the second."""
    folders = volumes(bundle, 1)
    requirements = "payload/engine/requirements.txt"
    shutil.move(folders[0] / WHEEL, folders[1] / WHEEL)
    shutil.move(folders[1] / requirements, folders[0] / requirements)
    return folders


@pytest.fixture
def verified(two: list[Path], two_of_three: Root) -> Callable[[], VerifiedBundle]:
    return lambda: verify_bundle(two, root_bytes(two_of_three), progress=Silent())


@pytest.fixture
def refused(
    two: list[Path], verified: Callable[[], VerifiedBundle], snapshot: Callable[[Path], object]
) -> Callable[[], BundleUntrusted]:
    """The error verifying raises; nothing may have changed, and the error must be safe to print."""

    def refuse() -> BundleUntrusted:
        before = [snapshot(folder) for folder in two]
        with pytest.raises(BundleUntrusted) as caught:
            verified()
        assert [snapshot(folder) for folder in two] == before
        error = caught.value
        assert error.exit_code == 4
        for text in (error.message, error.found, error.wanted, error.hint):
            assert text is None or text.isprintable(), "a hostile name must not reach a terminal raw"
        return error

    return refuse


@pytest.mark.control
def test_the_untouched_volumes_are_accepted(
    two: list[Path], verified: Callable[[], VerifiedBundle]
) -> None:
    """The control; and the lists above are complete."""
    assert [signer.holder for signer in verified().signers] == ["alice", "bob"]
    found = {str(path.relative_to(two[1])) for path in two[1].rglob("*") if path.is_file()}
    assert found == {*SHARE, *ROOT, *SPARE, "volume.json"}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
@pytest.mark.parametrize("name", [*SHARE, *ROOT, *SPARE])
def test_changed_bytes(
    name: str, change: Callable[[Path], None], two: list[Path], refused: Callable[[], BundleUntrusted]
) -> None:
    path = two[1] / name
    before = path.read_bytes()
    if before:
        change(path)
    if path.read_bytes() == before:
        path.write_bytes(before + b"\r\n")
    error = refused()
    assert isinstance(error, DigestMismatch)
    said = f"{error.message}{error.found}"
    assert str(two[1]) in said or name in said


@pytest.mark.parametrize("name", [*SHARE, *ROOT])
def test_missing_files(name: str, two: list[Path], refused: Callable[[], BundleUntrusted]) -> None:
    (two[1] / name).unlink()
    if name in ROOT:  # else their second copies are what does not belong there
        (two[1] / "spare" / name).unlink(missing_ok=True)
    assert isinstance(refused(), FileMissing | FileUnexpected)


def _link(path: Path, elsewhere: Path) -> None:
    shutil.move(path, elsewhere)
    path.symlink_to(elsewhere)


def _second_name(path: Path, elsewhere: Path) -> None:
    elsewhere.hardlink_to(path)


def _pipe(path: Path, _: Path) -> None:
    path.unlink()
    os.mkfifo(path)


def _folder(path: Path, _: Path) -> None:
    path.unlink()
    path.mkdir()


def _setuid(path: Path, _: Path) -> None:
    path.chmod(0o644 | stat.S_ISUID)


@pytest.mark.parametrize("touch", [_link, _second_name, _pipe, _folder, _setuid])
@pytest.mark.parametrize("name", [*SHARE, *ROOT, *SPARE, "volume.json"])
@pytest.mark.group(3)
def test_what_is_no_plain_file(
    name: str, touch: Callable[[Path, Path], None], two: list[Path], refused: Callable[[], BundleUntrusted]
) -> None:
    touch(two[1] / name, two[1].parent / "elsewhere")
    assert isinstance(refused(), FileUnexpected)


@pytest.mark.parametrize("touch", UNEXPECTED)
def test_what_does_not_belong_there(
    touch: Callable[[Path], None], two: list[Path], refused: Callable[[], BundleUntrusted]
) -> None:
    touch(two[1])
    assert isinstance(refused(), FileUnexpected)


@pytest.mark.parametrize(
    "name",
    ["spare/payload/model/tiny.gguf", "spare/VERIFY.txt", "spare/blocks.bin", "spare/volume.json",
     "spare/spare/manifest.json", "spare/trust/SHA256SUMS.carol.sig", "spare/trust/evil",
     "spare/trust/root.2.json", "payload/volume.json", "volume.json.bak", "VOLUME.JSON", "Spare/x"],
)  # fmt: skip
def test_what_may_not_lie_among_the_second_copies(
    name: str, two: list[Path], refused: Callable[[], BundleUntrusted]
) -> None:
    (two[1] / name).parent.mkdir(parents=True, exist_ok=True)
    shutil.copy(two[1] / WHEEL, two[1] / name)
    error = refused()
    assert isinstance(error, FileUnexpected)
    assert str(two[1]) in error.message
    assert any(name.startswith(found) for found in (error.found or "").split(", "))


def test_the_right_size_and_wrong_bytes(two: list[Path], refused: Callable[[], BundleUntrusted]) -> None:
    """All zeros, as a stick with a worn-out cell returns them."""
    for name in (SHARE[0], SHARE[3]):
        (two[1] / name).write_bytes(bytes((two[1] / name).stat().st_size))
    error = refused()
    assert isinstance(error, DigestMismatch)
    assert "2 files are not what was signed" in error.message


def test_sparse_files_of_a_terabyte(two: list[Path], verified: Callable[[], VerifiedBundle]) -> None:
    """Refused by their size, before they are read."""
    with (two[1] / WHEEL).open("r+b") as file:
        file.truncate(1 << 40)
    with pytest.raises(DigestMismatch, match="another size"):
        verified()


def test_a_file_on_both_volumes(two: list[Path], refused: Callable[[], BundleUntrusted]) -> None:
    """The very bytes, but which of them is used must not depend on the order of the command line."""
    shutil.copy(two[1] / WHEEL, two[0] / WHEEL)
    assert isinstance(refused(), VolumesMixed)


def test_other_bytes_under_the_same_name_on_both_volumes(
    two: list[Path], refused: Callable[[], BundleUntrusted]
) -> None:
    (two[0] / WHEEL).write_bytes(b"evil!")
    assert isinstance(refused(), VolumesMixed)


def test_an_empty_second_volume(two: list[Path], refused: Callable[[], BundleUntrusted]) -> None:
    shutil.rmtree(two[1])
    two[1].mkdir()
    assert isinstance(refused(), FileMissing)


@pytest.mark.group(8)
def test_an_unsigned_bundle_posing_as_a_volume(
    two: list[Path], refused: Callable[[], BundleUntrusted]
) -> None:
    """Its list names what the attacker likes; its label says that it belongs here."""
    listing = two[1] / "trust/SHA256SUMS"
    listing.write_bytes(listing.read_bytes().replace(b"tiny.gguf", b"evil.gguf"))
    shutil.move(two[1] / "payload/model/tiny.gguf", two[1] / "payload/model/evil.gguf")
    assert isinstance(refused(), DigestMismatch)
    (two[1] / "volume.json").unlink()
    (two[0] / "volume.json").unlink()
    assert isinstance(refused(), VolumesMixed)
    two.reverse()
    assert isinstance(refused(), VolumesMixed)


@pytest.mark.group(8)
def test_a_list_that_was_changed_on_every_volume(
    two: list[Path], refused: Callable[[], BundleUntrusted]
) -> None:
    for folder in two:
        for path in (folder / "trust/SHA256SUMS", folder / "spare/trust/SHA256SUMS"):
            path.write_bytes(path.read_bytes().replace(b"tiny.gguf", b"evil.gguf"))
    assert isinstance(refused(), SignatureInvalid)


def test_a_label_that_promises_the_rest_elsewhere(
    two: list[Path], refused: Callable[[], BundleUntrusted]
) -> None:
    """No label excuses a missing file."""
    shutil.rmtree(two.pop(0))
    assert isinstance(refused(), FileMissing)


@pytest.mark.parametrize(
    "label",
    [
        b'{"volumes":[{"first":"\x1b[2J"}]}',
        b'{"a":' * 100_000,
        b"\xff\xfe",
        b'{"bundle":1e999}',
        b"9" * (1 << 20),
        b'{"bundle":"'
        + b"0" * 64
        + b'","format":1,"number":1000,"product":"x","version":"1","volumes":[]}',
        b'{"bundle":"' + b"0" * 64 + b'","format":1,"number":1,"product":"\\u202ex","version":"1",'
        b'"volumes":[{"bytes":1,"files":1,"first":"payload/../x","last":"payload/../x"}]}',
    ],
)
@pytest.mark.group(7)
def test_hostile_labels_change_nothing(
    label: bytes, two: list[Path], verified: Callable[[], VerifiedBundle]
) -> None:
    right = verified()
    (two[1] / "volume.json").write_bytes(label)
    found = verified()
    assert (found.digest, found.files) == (right.digest, right.files)
    [note] = set(found.notes) - set(right.notes)
    assert note.startswith(f"the label in {two[1]} is damaged: ")
    assert note.isprintable()
    assert len(note) < 500
