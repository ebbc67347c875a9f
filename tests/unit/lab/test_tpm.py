"""A TPM is in, out, or another one; nothing that it knew is lost by being pulled."""

from __future__ import annotations

from pathlib import Path

import pytest

from appliance.errors import LabFailed
from appliance.lab.qemu import Image
from appliance.lab.tpm import new_tpm, pull_tpm, put_tpm, tpm_command, tpm_state


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    new_tpm(tmp_path)
    (tmp_path / "tpm/tpm2-00.permall").write_bytes(b"what it knows")
    return tmp_path


def known(folder: Path) -> list[str]:
    return sorted(path.name for path in (folder / "tpm").iterdir())


def test_a_tpm_that_was_pulled_and_put_back_knows_what_it_knew(folder: Path) -> None:
    pull_tpm(folder)
    assert tpm_state(folder) == "out"
    put_tpm(folder)
    assert (tpm_state(folder), known(folder)) == ("in", ["tpm2-00.permall"])


def test_a_new_one_knows_nothing_and_ends_the_old_one_wherever_that_is(folder: Path) -> None:
    new_tpm(folder)
    assert (tpm_state(folder), known(folder)) == ("in", [])
    pull_tpm(folder)
    new_tpm(folder)
    assert tpm_state(folder) == "in"
    with pytest.raises(LabFailed):
        put_tpm(folder)


def test_what_cannot_be_moved_is_refused(tmp_path: Path, folder: Path) -> None:
    never = tmp_path / "never"
    never.mkdir()
    assert tpm_state(never) is None
    with pytest.raises(LabFailed, match="TPM of never"):
        pull_tpm(never)
    with pytest.raises(LabFailed) as raised:
        put_tpm(folder)
    assert "in already" in str(raised.value.found)
    pull_tpm(folder)
    with pytest.raises(LabFailed) as raised:
        pull_tpm(folder)
    assert "out already" in str(raised.value.found)
    assert tpm_state(folder) == "out"


def test_swtpm_runs_from_the_cache_and_ends_with_its_machine() -> None:
    command = tpm_command(Image(Path("/cache/abc/machine")), Path("/labs/ward/nodes/ward-01"), 9)
    assert "/cache/abc/machine/qemu/usr/bin/swtpm" in command
    assert {"--tpm2", "--terminate", "dir=/labs/ward/nodes/ward-01/tpm", "type=unixio,clientfd=9"} < set(
        command
    )
