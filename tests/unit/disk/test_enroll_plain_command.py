"""`disk enroll` where the inventory says which layers: dm-crypt alone takes no PSID, and is told."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from appliance.errors import DriveUnsuitable, Usage
from tests.unit.disk import test_enroll_command as command
from tests.unit.disk.drives import level_0, simulated
from tests.unit.disk.escrows import key, key_file
from tests.unit.disk.plain import PlainDoer
from tests.unit.disk.test_enroll_command import machine
from tests.unit.disk.test_escrow_commands import run as escrow_run

if TYPE_CHECKING:
    import subprocess
    from pathlib import Path

    from tests.unit.disk.test_enroll_command import Machine

__all__ = ["machine"]


def write_inventory(folder: Path, layers: str, serial: str = "SIM1", more: str = "") -> None:
    disk = f"{{serial: {serial}, unlock: ssh, mounts: [/srv/data], layers: {layers}{more}}}"
    (folder / "inventory.yml").write_text(
        command.VALID.replace(
            '["10.20.0.11/24"]}\n', f'["10.20.0.11/24"]}}\n    disks: {{data: {disk}}}\n', 1
        )
        + f"escrow: {{recipients: {{office: {key('office').to_public()}}}}}\n"
    )


@pytest.fixture
def plain(machine: Machine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> PlainDoer:
    """The machine's drive is a file, and its cryptsetup the real one."""
    return _plain(machine, tmp_path, monkeypatch, None)


def _plain(
    machine: Machine, folder: Path, monkeypatch: pytest.MonkeyPatch, answer: bytes | None
) -> PlainDoer:
    doer = PlainDoer(folder, answer)

    def shell(line: str, *, stdin: bytes, **_timeout: object) -> subprocess.CompletedProcess[bytes]:
        machine.commands.append(line)
        return doer.shell(line.replace("/sys/class/block", f"{folder}/block"), stdin)

    monkeypatch.setattr(machine, "run", shell)
    monkeypatch.setattr("appliance.node.drives.ask_node_drives", lambda *_: doer.read())
    return doer


def test_dm_crypt_alone_takes_no_psid_and_is_told(plain: PlainDoer, tmp_path: Path) -> None:
    write_inventory(tmp_path, "dm-crypt")
    done = command.run("--json", psid="")
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout)["layers"] == "dm-crypt"
    assert "note: dm-crypt-alone: dm-crypt alone encrypts it, as the settings say" in done.stderr
    assert "note: no-opal: it has no encryption of its own that can be used" in done.stderr
    assert "formatting SIM1 by dm-crypt alone" in done.stderr
    out = tmp_path / "passphrase"
    opened = escrow_run(
        *("open", tmp_path / "escrow", "SIM1", "--identity", key_file(tmp_path, "office"), "--out", out)
    )
    assert opened.exit_code == 0, opened.output
    assert plain.opens(out.read_bytes())


def test_of_such_a_drive_the_escrow_has_no_pin(plain: PlainDoer, tmp_path: Path) -> None:
    write_inventory(tmp_path, "dm-crypt")
    assert command.run(psid="").exit_code == 0
    for what in ("admin-pin", "psid"):
        done = escrow_run(
            *("open", tmp_path / "escrow", "SIM1", "--identity", key_file(tmp_path, "office")),
            *("--what", what, "--out", tmp_path / "x"),
        )
        assert isinstance(done.exception, Usage)
        assert done.exception.message == f"SIM1.0001.keys holds no {what}"
    assert not (tmp_path / "x").exists()
    assert only_header(plain)


def only_header(doer: PlainDoer) -> bool:
    return doer.shell("cryptsetup isLuks /dev/nvme0n1").returncode == 0


@pytest.mark.parametrize(
    ("layers", "serial", "more"),
    [
        ("opal and dm-crypt", "SIM1", ""),
        ("opal", "SIM1", ""),
        ("dm-crypt", "SIM2", ""),
        ("dm-crypt", "SIM1", ", namespace: 2"),
    ],
)
def test_no_drive_is_so_encrypted_unless_it_is_the_one_that_is_meant(
    plain: PlainDoer, tmp_path: Path, layers: str, serial: str, more: str
) -> None:
    write_inventory(tmp_path, layers, serial, more)
    error = command.refused()
    assert isinstance(error, DriveUnsuitable)
    assert "no-opal" in error.message
    assert (only_header(plain), list((tmp_path / "escrow").iterdir())) == (False, [])


@pytest.mark.parametrize(
    ("layers", "options", "words"),
    [
        ("dm-crypt", ["--hw-opal-only"], "layers: dm-crypt"),
        ("opal and dm-crypt", ["--hw-opal-only"], "layers: opal and dm-crypt"),
        ("dm-crypt", ["--psid-file", "psid"], "dm-crypt alone encrypts"),
    ],
)
def test_an_option_that_contradicts_the_inventory(
    machine: Machine, tmp_path: Path, layers: str, options: list[str], words: str
) -> None:
    write_inventory(tmp_path, layers)
    error = command.refused(*options, psid="")
    assert isinstance(error, Usage)
    assert words in str(error.wanted)
    assert (machine.commands, list((tmp_path / "escrow").iterdir())) == ([], [])


@pytest.mark.parametrize("options", [[], ["--hw-opal-only"]])
def test_the_drive_alone_as_the_inventory_says(
    machine: Machine, tmp_path: Path, options: list[str]
) -> None:
    write_inventory(tmp_path, "opal")
    done = command.run("--json", *options)
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout)["layers"] == "opal"
    assert "--hw-opal-only" in machine.commands[0]


def test_a_drive_that_could_encrypt_by_itself(
    machine: Machine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_inventory(tmp_path, "dm-crypt")
    doer = _plain(machine, tmp_path, monkeypatch, level_0(simulated()))
    done = command.run(psid="")
    assert done.exit_code == 0, done.output
    assert "though it could encrypt by itself too" in done.stderr
    assert only_header(doer)
