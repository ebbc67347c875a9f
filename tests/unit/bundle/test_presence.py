"""A medium that was pulled is told from one that is damaged."""

from __future__ import annotations

import errno
import os
from typing import TYPE_CHECKING

import pytest

from appliance.bundle import presence
from appliance.bundle.media.readback import BlockReader
from appliance.bundle.presence import require_answers, telling_pulled
from appliance.bundle.tree import Tree
from appliance.bundle.verify import verify_bundle
from appliance.errors import DigestMismatch, MediumFailed
from appliance.progress import Silent
from appliance.trust.root import root_bytes

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from appliance.trust.root import Root

WHEEL = "payload/engine/engine-1.0-py3-none-any.whl"


@pytest.fixture
def failing(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Let reading of some files' blocks fail."""
    blocks = BlockReader.blocks

    def fail(code: int, fails: Callable[[str], bool]) -> None:
        def read(self: BlockReader, fd: int, numbers: list[int]) -> Iterator[tuple[int, memoryview]]:
            if fails(os.path.realpath(f"/proc/self/fd/{fd}")):
                raise OSError(code, os.strerror(code))
            return blocks(self, fd, numbers)

        monkeypatch.setattr(BlockReader, "blocks", read)

    return fail


def test_a_folder_that_can_be_read_answers(bundle: Path, tmp_path: Path) -> None:
    empty = tmp_path / "empty"
    (empty / "inner").mkdir(parents=True)
    for folder in (bundle, empty):
        with Tree(folder) as tree:
            assert tree.answers()


def test_one_file_that_can_be_read_is_an_answer(bundle: Path, failing: Callable[..., None]) -> None:
    failing(errno.EIO, lambda path: not path.endswith("VERIFY.txt"))
    with Tree(bundle) as tree:
        assert tree.answers()


def test_a_medium_of_which_nothing_can_be_read_is_gone(bundle: Path, failing: Callable[..., None]) -> None:
    """Though its names are still remembered."""
    failing(errno.EIO, lambda _: True)
    with Tree(bundle) as tree:
        assert not tree.answers()


def test_to_be_forbidden_is_an_answer(bundle: Path, failing: Callable[..., None]) -> None:
    failing(errno.EACCES, lambda _: True)
    with Tree(bundle) as tree:
        assert tree.answers()


def test_a_folder_that_cannot_be_listed_is_gone(bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def unconnected(_: int) -> None:
        raise OSError(errno.ENOTCONN, os.strerror(errno.ENOTCONN))

    monkeypatch.setattr(presence.os, "scandir", unconnected)
    with Tree(bundle) as tree:
        assert not tree.answers()


def test_a_device_that_is_not_there_any_more(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(presence, "_BLOCK_DEVICES", tmp_path)
    (tmp_path / "8:16").touch()
    assert presence._is_plugged_in(os.makedev(8, 16))
    assert not presence._is_plugged_in(os.makedev(8, 32))
    assert presence._is_plugged_in(os.makedev(0, 32))  # a file system without a device
    monkeypatch.setattr(presence, "_BLOCK_DEVICES", tmp_path / "none")
    assert presence._is_plugged_in(os.makedev(8, 32))


@pytest.mark.parametrize("fault", [OSError(errno.EIO, "Input/output error"), DigestMismatch("not signed")])
def test_the_fault_is_said_where_the_medium_is_there(bundle: Path, fault: Exception) -> None:
    with Tree(bundle) as tree, pytest.raises(type(fault)), telling_pulled(lambda: [tree]):
        raise fault


@pytest.mark.parametrize("fault", [OSError(errno.EIO, "Input/output error"), DigestMismatch("not signed")])
def test_the_medium_is_named_where_it_is_not(
    bundle: Path, fault: Exception, failing: Callable[..., None]
) -> None:
    failing(errno.EIO, lambda _: True)
    with (
        Tree(bundle) as tree,
        pytest.raises(MediumFailed, match=f"the medium at {bundle} cannot be read any more") as caught,
        telling_pulled(lambda: [tree]),
    ):
        raise fault
    assert caught.value.found in {"Input/output error", "not signed"}
    assert "mount it again" in str(caught.value.hint)


def test_a_medium_that_is_gone_is_said_once(bundle: Path, failing: Callable[..., None]) -> None:
    failing(errno.EIO, lambda _: True)
    with (
        Tree(bundle) as tree,
        pytest.raises(MediumFailed, match="cannot be read any more") as caught,
        telling_pulled(lambda: [tree]),
    ):
        require_answers([tree])
    assert caught.value.found is None


def test_verify_says_that_a_medium_is_gone_rather_than_that_its_files_are_wrong(
    bundle: Path, two_of_three: Root, failing: Callable[..., None]
) -> None:
    (bundle / WHEEL).write_bytes(b"other")
    with pytest.raises(DigestMismatch, match="not what was signed"):
        verify_bundle(bundle, root_bytes(two_of_three), progress=Silent())
    failing(errno.EIO, lambda _: True)
    with pytest.raises(MediumFailed, match="pulled out, or broken"):
        verify_bundle(bundle, root_bytes(two_of_three), progress=Silent())


def test_verify_says_which_volume_is_gone(
    bundle: Path,
    volumes: Callable[..., list[Path]],
    two_of_three: Root,
    failing: Callable[..., None],
) -> None:
    first, second = volumes(bundle, 2)
    (first / WHEEL).write_bytes(b"other")
    failing(errno.EIO, lambda path: str(second) in path)
    with pytest.raises(MediumFailed, match=f"the medium at {second} cannot be read any more"):
        verify_bundle([first, second], root_bytes(two_of_three), progress=Silent())
