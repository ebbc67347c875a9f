"""Folders of senders and receivers: founded whole or not at all, secrets kept."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from appliance.errors import ExportIdentityInvalid, Usage
from appliance.export import places
from appliance.export.metrics import metrics_text
from appliance.export.places import (
    found_sender,
    read_identity,
    read_senders,
    read_status,
    sender_file,
    write_status,
)
from tests.unit.export.nodes import identity
from tests.unit.export.test_metrics import SENDER

if TYPE_CHECKING:
    from pathlib import Path


def test_a_sender_is_founded_with_keys_of_its_own(tmp_path: Path) -> None:
    one, two = (found_sender(tmp_path / name, name) for name in ("gpu-01", "gpu-02"))
    assert one.node != two.node
    assert one.key.private_bytes_raw() != two.key.private_bytes_raw()
    assert read_identity(tmp_path / "gpu-01").data == one.data
    files = [sender_file(tmp_path / name, name) for name in ("gpu-01", "gpu-02")]
    assert [each.data for each in read_senders(files)] == [one.sender.data, two.sender.data]
    assert (tmp_path / "gpu-01/identity.json").stat().st_mode & 0o777 == 0o600
    assert (tmp_path / "gpu-01").stat().st_mode & 0o777 == 0o700


def test_a_folder_that_is_there_is_left_alone(tmp_path: Path) -> None:
    found_sender(tmp_path / "s", "gpu-01")
    before = read_identity(tmp_path / "s").data
    with pytest.raises(Usage):
        found_sender(tmp_path / "s", "gpu-01")
    assert read_identity(tmp_path / "s").data == before


def test_founding_that_is_cut_off_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def cut(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(places, "replace_file", cut)
    with pytest.raises(KeyboardInterrupt):
        found_sender(tmp_path / "s", "gpu-01")
    assert list(tmp_path.iterdir()) == []
    monkeypatch.undo()
    found_sender(tmp_path / "s", "gpu-01")


def test_a_secret_that_others_can_read_is_refused(tmp_path: Path) -> None:
    found_sender(tmp_path / "s", "gpu-01")
    (tmp_path / "s/identity.json").chmod(0o640)
    with pytest.raises(ExportIdentityInvalid):
        read_identity(tmp_path / "s")


def test_what_is_no_sender_s_folder_is_said(tmp_path: Path) -> None:
    with pytest.raises(Usage):
        read_identity(tmp_path)
    with pytest.raises(Usage):
        read_senders([tmp_path / "none"])


@pytest.mark.parametrize("same", ["name", "node", "key"])
def test_two_senders_that_are_one_are_refused(tmp_path: Path, same: str) -> None:
    """Two nodes with one key: no receiver takes both for good."""
    one, two = identity("gpu-01").sender, identity("gpu-02").sender
    paths = [tmp_path / "a", tmp_path / "b"]
    for path, each in zip(paths, (one, replace(two, **{same: getattr(one, same)})), strict=True):
        path.write_bytes(each.data)
    with pytest.raises(ExportIdentityInvalid):
        read_senders(paths)


def test_a_status_is_read_as_it_was_written(tmp_path: Path) -> None:
    with pytest.raises(Usage):
        read_status(tmp_path)
    write_status(tmp_path, SENDER)
    assert read_status(tmp_path) == SENDER
    assert (tmp_path / "metrics.prom").read_text() == metrics_text(SENDER)
    (tmp_path / "status.json").write_text("[]")
    with pytest.raises(Usage):
        read_status(tmp_path)
