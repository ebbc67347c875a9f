"""Writing a transcript: one writer at a time, and never half a line."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from appliance.bundle.ceremony.transcripts import add_note, begin_log, verify_transcript
from appliance.errors import FileUnexpected, InProgress, PreflightFailed, SpaceExhausted

if TYPE_CHECKING:
    from pathlib import Path

    from tests.conftest import Holders


def test_two_at_once(tmp_path: Path) -> None:
    path = tmp_path / "log"
    one, other = begin_log(path), begin_log(path)
    one.add("init")
    with pytest.raises(InProgress):
        other.add("init")
    assert len(verify_transcript(path, may_be_open=True).lines) == 1
    one.add("propose")
    path.unlink()
    with pytest.raises(InProgress):
        one.add("sign")


def test_a_line_that_cannot_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A full disk leaves the transcript as it was."""
    path = tmp_path / "log"
    add_note(path, None, holder=None, note="one")
    before = path.read_bytes()

    def full(*_: object) -> None:
        raise SpaceExhausted("full")

    monkeypatch.setattr("appliance.bundle.ceremony.transcripts.replace_file", full)
    with pytest.raises(SpaceExhausted):
        add_note(path, None, holder=None, note="two")
    assert path.read_bytes() == before


def test_nowhere_to_write(tmp_path: Path) -> None:
    with pytest.raises(PreflightFailed):
        begin_log(tmp_path / "nothing/log")
    (tmp_path / "link").symlink_to("log")
    with pytest.raises(FileUnexpected):
        begin_log(tmp_path / "link")


def test_nothing_is_written_without_a_file(holders: Holders) -> None:
    begin_log(None, holders.key("alice")).add("init", made=[holders.key("nobody")])
