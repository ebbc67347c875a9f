"""What cryptsetup is asked, and of which drive; where secrets go, and where not."""

from __future__ import annotations

import subprocess
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from appliance.disk.cryptsetup import Cryptsetup
from appliance.disk.escrow.keeping import Escrowed, escrow_keys
from appliance.errors import ApplyFailed, DriveUnsuitable
from tests.unit.disk.drives import entry, machine, only
from tests.unit.disk.escrows import CREATED, DRIVE, PSID, escrow

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

DRIVE_1 = only(machine(entry("nvme1n1")))[0]


@pytest.fixture
def keys(tmp_path: Path) -> Callable[[str], Escrowed]:
    def make(layers: Any) -> Escrowed:
        return escrow_keys(
            tmp_path, "gpu-01", DRIVE, PSID, escrow=escrow("safe"), created=CREATED, layers=layers
        )

    return make


FAKE = """#!/bin/sh
umask 077
printf '%s\\n' "$@" >"$NOTES/argv"
env >"$NOTES/env"
case "$1" in
luksHeaderBackup) printf 'LUKS\\0header' >"$3" ;;
*) tee "$NOTES/stdin" | tr '\\n' ' ' >&2 ;;
esac
exit "$FAIL"
"""


@pytest.fixture
def cryptsetup(tmp_path: Path) -> Callable[..., Cryptsetup]:
    """Our client of cryptsetup, which is a program that notes how it was called."""
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin/cryptsetup").write_text(FAKE)
    (tmp_path / "bin/cryptsetup").chmod(0o755)

    def make(fail: int = 0) -> Cryptsetup:
        environment = {"PATH": f"{tmp_path}/bin:/usr/bin:/bin", "NOTES": str(tmp_path), "FAIL": str(fail)}

        def shell(command: str, given: bytes) -> subprocess.CompletedProcess[bytes]:
            argv = ["sh", "-c", command]
            return subprocess.run(argv, input=given, capture_output=True, check=False, env=environment)

        place = tmp_path / "block/nvme1n1"
        (place / "device").mkdir(parents=True, exist_ok=True)
        (place / "device/serial").write_text("SIM1 \n")
        (place / "nsid").write_text("1\n")
        return Cryptsetup(shell, dict, str(tmp_path / "block"))

    return make


@pytest.mark.parametrize(
    "case",
    [
        ("opal and dm-crypt", ["--hw-opal", "--cipher", "aes-xts-plain64", "--key-size", "512"]),
        ("opal", ["--hw-opal-only"]),
    ],
)
def test_formatting_gives_both_secrets_by_standard_input_alone(
    tmp_path: Path,
    keys: Callable[[str], Escrowed],
    cryptsetup: Callable[..., Cryptsetup],
    case: tuple[str, list[str]],
) -> None:
    layers, options = case
    proven = keys(layers)
    cryptsetup().format(DRIVE_1, proven)
    argv = (tmp_path / "argv").read_text().splitlines()
    assert argv[:4] == ["luksFormat", "--batch-mode", "--type", "luks2"]
    assert (argv[4:6], argv[-1]) == (["--pbkdf", "argon2id"], "/dev/nvme1n1")
    assert argv[6:8] == ["--uuid", proven.record.uuid]
    assert argv[8:-1] == options
    phrase, pin = proven.passphrase.reveal(), proven.admin_pin.reveal()
    assert (tmp_path / "stdin").read_bytes() == phrase + b"\n" + pin + b"\n"
    elsewhere = (tmp_path / "argv").read_bytes() + (tmp_path / "env").read_bytes()
    assert phrase not in elsewhere
    assert pin not in elsewhere


@pytest.mark.parametrize("ask", ["format", "header", "reset", "wipe"])
def test_what_runs_on_the_node_leaves_no_core_dump(keys: Callable[[str], Escrowed], ask: str) -> None:
    lines: list[str] = []

    def run(line: str, _given: bytes) -> subprocess.CompletedProcess[bytes]:
        lines.append(line)
        return subprocess.CompletedProcess(line, 0, b"", b"")

    asked = {"format": (keys("opal"),), "reset": (PSID,)}
    getattr(Cryptsetup(run, dict), ask)(DRIVE_1, *asked.get(ask, ()))
    assert lines[0].startswith("ulimit -c 0; ")


def test_a_reset_gives_the_psid_by_standard_input_alone(
    tmp_path: Path, cryptsetup: Callable[..., Cryptsetup]
) -> None:
    cryptsetup().reset(DRIVE_1, PSID)
    argv = (tmp_path / "argv").read_text().splitlines()
    assert argv == [
        "luksErase",
        "--batch-mode",
        "--hw-opal-factory-reset",
        "--key-file",
        "-",
        "/dev/nvme1n1",
    ]
    assert (tmp_path / "stdin").read_bytes() == PSID.reveal()
    assert PSID.reveal() not in (tmp_path / "env").read_bytes()


@pytest.mark.parametrize("udev", [0, 1], ids=["udev", "no-udev"])
def test_after_a_reset_udev_looks_again_at_what_is_on_the_drive(
    tmp_path: Path, cryptsetup: Callable[..., Cryptsetup], udev: int
) -> None:
    """Else it tells of a header that is gone; where it cannot be asked, nothing is the worse for it."""
    udevadm = tmp_path / "bin/udevadm"
    udevadm.write_text(f'#!/bin/sh\nprintf "%s\\n" "$@" >"$NOTES/udevadm"\nexit {udev}\n')
    udevadm.chmod(0o755)
    with pytest.raises(ApplyFailed):
        cryptsetup(fail=5).reset(DRIVE_1, PSID)
    assert not (tmp_path / "udevadm").exists()
    cryptsetup().reset(DRIVE_1, PSID)
    assert (tmp_path / "udevadm").read_text().splitlines() == ["trigger", "--settle", "/dev/nvme1n1"]


def test_a_header_is_had_whole_and_leaves_nothing_behind(
    tmp_path: Path, cryptsetup: Callable[..., Cryptsetup]
) -> None:
    assert cryptsetup().header(DRIVE_1) == b"LUKS\0header"
    place = (tmp_path / "argv").read_text().splitlines()[2]
    assert place.startswith("/dev/shm/appliance-header.")
    assert subprocess.run(["test", "-e", place.rpartition("/")[0]], check=False).returncode == 1


@pytest.mark.parametrize(
    "ask",
    [
        lambda program, proven: program.format(DRIVE_1, proven),
        lambda program, _proven: program.header(DRIVE_1),
        lambda program, _proven: program.reset(DRIVE_1, PSID),
    ],
)
def test_each_failure_is_told_without_a_secret(
    keys: Callable[[str], Escrowed],
    cryptsetup: Callable[..., Cryptsetup],
    ask: Callable[[Cryptsetup, Escrowed], object],
) -> None:
    proven = keys("opal")
    failing = cryptsetup(fail=5)  # it says all that it was given
    with pytest.raises(ApplyFailed) as raised:
        ask(failing, proven)
    everything = repr(raised.value.as_dict()).encode()
    for secret in (proven.admin_pin, proven.passphrase, PSID):
        assert secret.reveal() not in everything
    assert raised.value.found in {"exit code 5", "<secret> <secret>", "<secret>"}


ACTS = [
    lambda program, proven: program.format(DRIVE_1, proven),
    lambda program, _proven: program.header(DRIVE_1),
    lambda program, _proven: program.reset(DRIVE_1, PSID),
]


@pytest.mark.parametrize("ask", ACTS)
@pytest.mark.parametrize("changed", [("device/serial", "SIM2\n"), ("nsid", "2\n"), ("nsid", None)])
def test_nothing_is_done_to_another_drive_that_got_the_name(
    tmp_path: Path,
    keys: Callable[[str], Escrowed],
    cryptsetup: Callable[..., Cryptsetup],
    ask: Callable[[Cryptsetup, Escrowed], object],
    changed: tuple[str, str | None],
) -> None:
    attribute, text = changed
    proven, program = keys("opal"), cryptsetup()
    path = tmp_path / "block/nvme1n1" / attribute
    path.unlink()
    if text is not None:
        path.write_text(text)
    with pytest.raises(ApplyFailed) as raised:
        ask(program, proven)
    assert raised.value.found == f"another drive is there now: {attribute} is not what it was"
    assert not (tmp_path / "argv").exists()


def test_a_drive_of_scsi_is_known_by_its_world_wide_name(
    tmp_path: Path, keys: Callable[[str], Escrowed], cryptsetup: Callable[..., Cryptsetup]
) -> None:
    program, proven = cryptsetup(), keys("opal")
    drive = only(machine(entry("sda", namespace="", wwid="naa.5002538 x")))[0]
    with pytest.raises(ApplyFailed, match="could not be formatted"):
        program.format(drive, proven)
    (tmp_path / "block/sda/device").mkdir(parents=True)
    (tmp_path / "block/sda/device/wwid").write_text("naa.5002538 x\n")
    program.format(drive, proven)
    assert (tmp_path / "argv").read_text().splitlines()[-1] == "/dev/sda"


def test_a_drive_that_could_not_be_known_again(
    tmp_path: Path, keys: Callable[[str], Escrowed], cryptsetup: Callable[..., Cryptsetup]
) -> None:
    for drive in (
        replace(DRIVE_1, serial=""),
        replace(DRIVE_1, name="sda"),
        replace(DRIVE_1, namespace=""),
    ):
        with pytest.raises(DriveUnsuitable, match="known again"):
            cryptsetup().format(drive, keys("opal"))
    assert not (tmp_path / "argv").exists()
