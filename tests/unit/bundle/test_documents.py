"""Reading documents: plain files of a sane size, and nothing else."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from appliance.bundle.documents import read_document, read_folder, read_plain
from appliance.errors import ApplianceError, BundleMalformed, FileUnexpected, Usage

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

SIGNATURE = "root.2.alice.3f1c9a2b.sig"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "trust"
    folder.mkdir()
    for name, data in {
        "root.2.json": b"{}",
        SIGNATURE: b"one",
        "root.2.bob.00000000.mldsa87": b"two",
        "revoked.1.json": b"[]",
        "SHA256SUMS": b"",
        "root.2.allowed_signers": b"",
        "notes.json": b"",
    }.items():
        (folder / name).write_bytes(data)
    return folder


def test_a_document_with_its_signatures(folder: Path) -> None:
    signed = read_document(folder / "root.2.json")
    assert signed.data == b"{}"
    assert signed.signatures.ssh == {"alice.3f1c9a2b": b"one"}
    assert signed.signatures.post_quantum == {"bob.00000000": b"two"}


def test_a_folder_of_documents(folder: Path) -> None:
    assert [path.name for path, _ in read_folder(folder)] == ["revoked.1.json", "root.2.json"]
    assert read_folder(folder)[1][1] == read_document(folder / "root.2.json")


def _many(folder: Path) -> None:
    for number in range(200):
        (folder / f"root.2.alice.{number:08x}.sig").write_bytes(b"")


WRONG: dict[str, tuple[Callable[[Path], object], type[ApplianceError]]] = {
    "gone": (lambda folder: (folder / "root.2.json").unlink(), Usage),
    "a link": (
        lambda folder: (
            (folder / "root.2.json").rename(folder / "other"),
            (folder / "root.2.json").symlink_to("other"),
        ),
        FileUnexpected,
    ),
    "a signature that is a link": (
        lambda folder: (
            (folder / SIGNATURE).rename(folder / "other"),
            (folder / SIGNATURE).symlink_to("other"),
        ),
        FileUnexpected,
    ),
    "a pipe": (
        lambda folder: ((folder / SIGNATURE).unlink(), os.mkfifo(folder / SIGNATURE)),
        FileUnexpected,
    ),
    "a folder": (
        lambda folder: ((folder / SIGNATURE).unlink(), (folder / SIGNATURE).mkdir()),
        FileUnexpected,
    ),
    "too long": (
        lambda folder: (folder / "root.2.json").write_bytes(b" " * ((1 << 20) + 1)),
        BundleMalformed,
    ),
    "a long signature": (lambda folder: (folder / SIGNATURE).write_bytes(b" " * 100_000), BundleMalformed),
    "too many signatures": (_many, FileUnexpected),
}


@pytest.mark.parametrize(("spoil", "wanted"), WRONG.values(), ids=WRONG)
def test_what_is_not_read(
    folder: Path, spoil: Callable[[Path], object], wanted: type[ApplianceError]
) -> None:
    spoil(folder)
    with pytest.raises(wanted):
        read_document(folder / "root.2.json")
    if wanted is not Usage:
        with pytest.raises(wanted):
            read_folder(folder)


def test_too_many_files(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("appliance.bundle.documents._MAX_NAMES", 3)
    with pytest.raises(FileUnexpected, match="too many files"):
        read_folder(folder)


def test_no_folder(tmp_path: Path) -> None:
    with pytest.raises(Usage):
        read_folder(tmp_path / "nothing")
    with pytest.raises(Usage):
        read_document(tmp_path / "nothing/root.1.json")


def test_a_plain_file(folder: Path) -> None:
    assert read_plain(folder / "root.2.json", 2) == b"{}"
    with pytest.raises(BundleMalformed):
        read_plain(folder / "root.2.json", 1)
