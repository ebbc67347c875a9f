"""Files of an escrow: whole or not there, never over another, wherever the machine stops."""

from __future__ import annotations

import errno
import os
from typing import TYPE_CHECKING

import pytest

from appliance.disk.escrow import files
from appliance.disk.escrow.files import names_in, put_file, rename_new
from appliance.disk.escrow.keeping import kept_in, records_of
from appliance.errors import DriveUnsuitable, EscrowInvalid, PreflightFailed
from tests.unit.disk.bench import BenchDoer
from tests.unit.disk.escrows import DRIVE
from tests.unit.disk.test_enrolling import CutOff, pin_in, run
from tests.unit.disk.test_escrow import made

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import AbstractContextManager
    from pathlib import Path

from contextlib import contextmanager


@contextmanager
def stopping(after: int) -> Iterator[list[int]]:
    """The machine stops in the middle of the N-th write, or before the N-th sync, name or removal.

    From then on nothing is carried out, not even what is done on the way out.
    """
    left = [after]

    def counted(real: Callable[..., object], half: bool = False) -> Callable[..., object]:
        def call(*arguments: object, **named: object) -> object:
            left[0] -= 1
            if left[0] == 0 and half:
                data = arguments[1]
                assert isinstance(data, memoryview)
                real(arguments[0], data[: len(data) // 2])
            if left[0] <= 0:
                raise CutOff
            return real(*arguments, **named)

        return call

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "write", counted(os.write, half=True))
        for name in ("fsync", "link", "unlink"):
            patch.setattr(os, name, counted(getattr(os, name)))
        yield left


def steps(do: Callable[[], object], stop: Callable[[int], AbstractContextManager[list[int]]]) -> int:
    """How many there are when nothing stops."""
    with stop(10_000) as left:
        do()
    return 10_000 - left[0]


def test_keys_are_cut_off_anywhere(tmp_path: Path) -> None:
    count = steps(lambda: made(tmp_path), stopping)
    assert count == 10, "of two files: written, synced, named, the hidden name removed, folder synced"
    for after in range(1, count + 1):
        folder = tmp_path / str(after)
        folder.mkdir()
        with stopping(after), pytest.raises(CutOff):
            made(folder)
        records = records_of(folder, DRIVE.serial, owned=False)
        whole = [one for one in kept_in(folder) if not isinstance(one, EscrowInvalid)]
        assert [one.record for one in whole] == list(records)
        assert all(set(one.files) == set(one.record.sealed) for one in whole)
        assert made(folder).record.generation == (1 if after <= 3 else 2)


def test_an_enrolment_is_cut_off_anywhere_in_its_writing(tmp_path: Path) -> None:
    """Each time the next run finishes it, and the newest record opens the drive."""
    count = steps(lambda: run(BenchDoer(), tmp_path), stopping)
    assert count == 25, "keys, the mark, the header"
    for after in range(1, count + 1):
        doer, folder = BenchDoer(), tmp_path / str(after)
        folder.mkdir()
        with stopping(after), pytest.raises(CutOff):
            run(doer, folder)
        attempts = len(doer.attempts)
        assert attempts == (after > 15), "never before the mark is on the disk"
        header = run(doer, folder)
        assert header.generation == (1 if after <= 3 or after > 15 else 2)
        assert len(doer.attempts) == 1
        assert doer.owner_is(pin_in(folder))
        assert run(doer, folder) == header


def test_what_was_never_finished_counts_for_nothing(tmp_path: Path) -> None:
    doer = BenchDoer()
    (tmp_path / ".SIM1.0001.keys.age.00112233").write_bytes(b"half")
    (tmp_path / ".SIM1.0004.keys.json").write_bytes(b"{")
    (tmp_path / ".x.age").write_bytes(b"{")
    assert (names_in(tmp_path), kept_in(tmp_path)) == ([], ())
    assert run(doer, tmp_path).generation == 1
    doer.write(b"")
    with pytest.raises(DriveUnsuitable, match="header-lost"):
        run(doer, tmp_path)


def no_links(*_: object) -> None:
    raise OSError(errno.EPERM, os.strerror(errno.EPERM))


@pytest.mark.parametrize("links", [True, False])
def test_no_file_is_written_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, links: bool) -> None:
    if not links:
        monkeypatch.setattr(os, "link", no_links)
    put_file(tmp_path, "one", b"first")
    with pytest.raises(FileExistsError):
        put_file(tmp_path, "one", b"second")
    assert [(path.name, path.read_bytes()) for path in tmp_path.iterdir()] == [("one", b"first")]
    assert (tmp_path / "one").stat().st_mode & 0o777 == 0o600


def test_a_file_system_that_can_do_neither(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Library:
        @staticmethod
        def renameat2(*_: object) -> int:
            files.ctypes.set_errno(errno.EINVAL)
            return -1

    monkeypatch.setattr(files.ctypes, "CDLL", lambda *_, **__: Library)
    with pytest.raises(PreflightFailed, match="no place for an escrow"):
        rename_new(tmp_path / "a", tmp_path / "b")


def test_what_cannot_be_renamed(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        rename_new(tmp_path / "none", tmp_path / "other")
