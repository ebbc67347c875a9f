"""What changes while the verifier looks at it."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from appliance.bundle import hashing
from appliance.bundle import verify as verifier
from appliance.bundle.tree import Tree
from appliance.bundle.verify import verify_bundle
from appliance.errors import BundleUntrusted, DigestMismatch, FileMissing, FileUnexpected
from appliance.progress import Silent
from appliance.trust.root import root_bytes
from tests.independent import agreement

if TYPE_CHECKING:
    from collections.abc import Callable

    from appliance.trust.root import Root

pytestmark = pytest.mark.group(5)

WHEEL = "payload/engine/engine-1.0-py3-none-any.whl"


def _link(bundle: Path) -> None:
    shutil.move(bundle / WHEEL, bundle.parent / "elsewhere")
    (bundle / WHEEL).symlink_to(bundle.parent / "elsewhere")


def _link_folder(bundle: Path) -> None:
    shutil.move(bundle / "payload/engine", bundle.parent / "elsewhere")
    (bundle / "payload/engine").symlink_to(bundle.parent / "elsewhere")


def _pipe(bundle: Path) -> None:
    (bundle / WHEEL).unlink()
    os.mkfifo(bundle / WHEEL)


def _second_name(bundle: Path) -> None:
    (bundle.parent / "second").hardlink_to(bundle / WHEEL)


def _gone(bundle: Path) -> None:
    (bundle / WHEEL).unlink()


def _shorter(bundle: Path) -> None:
    (bundle / WHEEL).write_bytes(b"w")


def _longer(bundle: Path) -> None:
    (bundle / WHEEL).write_bytes(b"wheel, and more")


CHANGES = {
    "exchanged for a link": (_link, FileUnexpected),
    "its folder exchanged for a link": (_link_folder, FileUnexpected),
    "exchanged for a pipe": (_pipe, FileUnexpected),
    "given a second name": (_second_name, FileUnexpected),
    "taken away": (_gone, FileMissing),
    "shortened": (_shorter, DigestMismatch),
    "lengthened": (_longer, DigestMismatch),
}


@pytest.mark.parametrize(("change", "expected"), CHANGES.values(), ids=CHANGES)
def test_between_looking_and_hashing(
    change: Callable[[Path], None],
    expected: type[BundleUntrusted],
    bundle: Path,
    two_of_three: Root,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Everything was in order when the set of files was checked."""

    def change_then_check(*arguments: object, **options: object) -> None:
        change(bundle)
        hashing.check_bytes(*arguments, **options)

    monkeypatch.setattr(verifier, "check_bytes", change_then_check)
    with pytest.raises(expected):
        verify_bundle(bundle, root_bytes(two_of_three), progress=Silent())


def test_a_file_written_to_while_it_is_read(
    bundle: Path, two_of_three: Root, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The bytes that were hashed were right; nobody knows about the ones that are there now."""
    real = os.readv

    def read_then_write(fd: int, buffers: list[memoryview]) -> int:
        count = real(fd, buffers)
        if Path(f"/proc/self/fd/{fd}").readlink().name == "notice.txt":
            (bundle / "payload/extras/site/notice.txt").write_bytes(b"NOTICE\n")
        return count

    monkeypatch.setattr(os, "readv", read_then_write)
    with pytest.raises(DigestMismatch, match="changed while"):
        verify_bundle(bundle, root_bytes(two_of_three), progress=Silent())


def test_a_file_that_grows_for_ever(
    bundle: Path, two_of_three: Root, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A medium that answers every read with more bytes must not keep us reading."""
    monkeypatch.setattr(os, "readv", lambda _, buffers: len(buffers[0]))
    with pytest.raises(DigestMismatch):
        verify_bundle(bundle, root_bytes(two_of_three), progress=Silent())


def test_a_medium_that_fails(bundle: Path, two_of_three: Root, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> int:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(os, "readv", fail)
    with pytest.raises(DigestMismatch) as caught:
        verify_bundle(bundle, root_bytes(two_of_three), progress=Silent())
    assert "cannot be read" in f"{caught.value.message}{caught.value.found}"


def test_all_damaged_files_are_named(bundle: Path, two_of_three: Root) -> None:
    """Who copies a bundle again wants to know what to copy."""
    (bundle / WHEEL).write_bytes(b"WHEEL")
    (bundle / "payload/extras/site/notice.txt").write_bytes(b"NOTICE\n")
    with pytest.raises(DigestMismatch, match="2 files") as caught:
        agreement.verify_bundle(bundle, root_bytes(two_of_three), progress=Silent())
    assert WHEEL in (caught.value.found or "")
    assert "notice.txt" in (caught.value.found or "")


@pytest.mark.group(3)
def test_nothing_outside_is_opened_through_a_link(bundle: Path, tmp_path: Path) -> None:
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "file").write_bytes(b"x")
    (bundle / "payload/out").symlink_to(tmp_path / "outside")
    with Tree(bundle) as tree, pytest.raises(FileUnexpected):
        tree.read("payload/out/file", limit=10)


@pytest.mark.skipif(os.geteuid() != 0, reason="mounting needs root")
@pytest.mark.group(3)
def test_another_file_system_mounted_inside(bundle: Path, root_file: Path) -> None:
    """Its bytes may be right now; it can be unmounted, or filled anew, behind our back."""
    script = """
        set -e
        cp -r "$1/payload/engine" "$1/../copy"
        mount -t tmpfs none "$1/payload/engine"
        cp "$1/../copy/"* "$1/payload/engine/"
        set +e
        "$3" -c "from appliance.cli.app import main; main()" verify "$1" --trust "$2" --json
        echo "exit $?"
        "$3" "$4" "$2" "$1" >&2
        echo "exit $?"
    """
    command = ["unshare", "--mount", "sh", "-c", script, "sh", str(bundle), str(root_file), sys.executable]
    command += [agreement.verifier.__file__]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout.endswith("exit 4\nexit 1\n")
    assert "st_dev" in done.stderr
    agreement.agree(done.stderr, done.stdout)
    assert '"FileUnexpected"' in done.stdout
