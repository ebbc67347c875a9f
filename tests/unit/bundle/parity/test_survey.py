"""Reading everything once, from the media themselves; a medium that is gone is not a damaged one."""

from __future__ import annotations

import errno
import os
from typing import TYPE_CHECKING

import pytest

from appliance.bundle.parity import survey
from appliance.bundle.tree import Tree
from appliance.errors import MediumFailed
from tests.unit.bundle.parity.conftest import NOTICE, SLICE, overwrite

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from appliance.bundle.parity.repaired import Repaired

    Repair = Callable[..., Repaired]


def test_what_is_remembered_is_dropped_before_it_is_read_and_kept_for_par2(
    sick: Path, repair: Repair, monkeypatch: pytest.MonkeyPatch
) -> None:
    done: list[tuple[str, str]] = []
    sync, advise, read = survey.sync_file_system, os.posix_fadvise, os.readv

    def told(what: str, fd: int) -> None:
        done.append((what, os.path.realpath(f"/proc/self/fd/{fd}")))

    def syncing(fd: int) -> None:
        told("brought there", fd)
        sync(fd)

    def advising(fd: int, offset: int, size: int, advice: int) -> None:
        if (advice, offset, size) == (os.POSIX_FADV_DONTNEED, 0, 0):
            told("dropped", fd)
        advise(fd, offset, size, advice)

    def reading(fd: int, buffers: list[memoryview]) -> int:
        told("read", fd)
        return read(fd, buffers)

    monkeypatch.setattr(survey, "sync_file_system", syncing)
    monkeypatch.setattr(survey.os, "posix_fadvise", advising)
    monkeypatch.setattr(survey.os, "readv", reading)
    repair(sick)
    assert done[0] == ("brought there", str(sick))
    of_slice = [what for what, path in done if path == str(sick / SLICE)]
    assert of_slice[0] == "dropped"
    assert set(of_slice[1:]) == {"read"}


def test_a_medium_that_takes_nothing_any_more_is_read_all_the_same(
    sick: Path, repair: Repair, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As one that has become write-protected with something still to be brought there."""

    def protected(_: int) -> None:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    monkeypatch.setattr(survey, "sync_file_system", protected)
    assert repair(sick).complete


def test_a_medium_that_does_not_answer_is_not_taken_for_a_damaged_one(
    sick: Path, repair: Repair, monkeypatch: pytest.MonkeyPatch
) -> None:
    (sick / NOTICE).unlink()  # what could be mended from the parity
    monkeypatch.setattr(Tree, "answers", lambda _: False)
    with pytest.raises(MediumFailed, match="pulled out, or broken"):
        repair(sick)
    assert not (sick / NOTICE).exists()


def test_media_are_not_asked_where_all_is_right(
    sick: Path, repair: Repair, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Tree, "answers", lambda _: pytest.fail("asked"))
    repair(sick)


def test_a_program_that_fails_for_want_of_its_medium(
    sick: Path, repair: Repair, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The stick is pulled while par2 computes: what is said is not that par2 failed."""
    overwrite(sick / SLICE, 0, b"rot")
    answers = [True, False]
    monkeypatch.setattr(Tree, "answers", lambda _: answers.pop(0))
    fake = sick.parent / "par2"
    fake.write_text("#!/bin/sh\nexit 6\n")
    fake.chmod(0o755)
    monkeypatch.setattr("appliance.bundle.parity.mending.find_par2", lambda: str(fake))
    with pytest.raises(MediumFailed, match=f"the medium at {sick} cannot be read any more") as caught:
        repair(sick)
    assert caught.value.found == "par2 could not rebuild the files"
    assert "run the same command again" in str(caught.value.hint)
