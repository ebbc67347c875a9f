"""The program that nodes run: which drive it is, what it is asked and answers; blocks as digests."""

from __future__ import annotations

import hashlib
import hmac
import io
import json
import os
import struct
import subprocess
import sys
from dataclasses import replace
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

from appliance.cli.disk_keys import keeper
from appliance.disk.secret import Secret
from appliance.disk.tcg import Tcg
from appliance.errors import ApplyFailed
from appliance.node.drives import ask_node_drive
from appliance.tcg import program
from appliance.tcg.blocks import BLANK, UNREADABLE, sample, told
from tests.unit.disk.drives import entry, level_0, machine, only, simulated

if TYPE_CHECKING:
    from pathlib import Path

KEY = bytes(32)
REQUEST = {"act": "read-names", "name": "null", "serial": "SIM1", "nsid": "1", "comid": 0x1000}
DRIVE = only(machine(entry(answer=level_0(simulated()))))[0]


def place(folder: Path, number: int, serial: str, nsid: str) -> None:
    here = folder / f"{os.major(number)}:{os.minor(number)}"
    (here / "device").mkdir(parents=True)
    (here / "device/serial").write_text(f"{serial}\n")
    (here / "nsid").write_text(f"{nsid}\n")


@pytest.mark.parametrize(
    ("serial", "nsid", "trouble"),
    [
        ("SIM1   ", "1", ""),
        ("SIM2", "1", "device/serial"),
        ("SIM1", "2", "nsid"),
        ("", "1", "device/serial"),
    ],
)
def test_the_drive_is_known_by_what_is_open(tmp_path: Path, serial: str, nsid: str, trouble: str) -> None:
    number = os.makedev(259, 3)
    place(tmp_path, number, serial, nsid)
    found = program.other_drive(number, REQUEST, tmp_path)
    assert (trouble in found) if trouble else found == ""


def test_a_drive_without_attributes_is_another_one(tmp_path: Path) -> None:
    assert "another drive" in program.other_drive(os.makedev(259, 3), REQUEST, tmp_path)
    assert "another drive" in program.other_drive(os.makedev(259, 3), {**REQUEST, "serial": ""}, tmp_path)


def here(said: bytes = b"") -> Any:
    """A connection to this machine, or to one that says something whatever it is asked."""

    def run(command: str, *, stdin: bytes, timeout: float) -> subprocess.CompletedProcess[bytes]:
        assert timeout > 100
        assert b"secret-" not in command.encode()
        path = {"PATH": f"{os.path.dirname(sys.executable)}:/usr/bin:/bin"}  # noqa: PTH120
        argv = ["sh", "-c", command]
        if said:
            return subprocess.CompletedProcess(argv, 0, said, b"")
        return subprocess.run(argv, input=stdin, capture_output=True, check=False, env=path)

    return SimpleNamespace(node=SimpleNamespace(name="gpu-01", connection="local"), run=run)


def local(request: dict[str, Any]) -> dict[str, Any]:
    """Send the program to this machine, as it is sent to a node."""
    return ask_node_drive(here(), json.dumps(request).encode() + b"\n")


def test_it_runs_by_itself_and_touches_no_other_device() -> None:
    """With nothing of ours installed: /dev/null is no drive of that serial number."""
    found = local({**REQUEST, "pin": "secret-1"})
    assert found == {"error": "another drive is there now: device/serial is not what it was"}


def test_a_device_that_is_not_there() -> None:
    assert local({**REQUEST, "name": "nvme99n1"}) == {"error": "/dev/nvme99n1: No such file or directory"}


def test_whoever_deals_with_drives_asks_by_the_connection() -> None:
    with pytest.raises(ApplyFailed) as raised:
        keeper(here()).act(replace(DRIVE, name="nvme99n9"), "revert", pin=Secret(b"secret-1"))
    assert str(raised.value.found) == "/dev/nvme99n9: No such file or directory"
    assert keeper(here(b'{"drives": []}')).read() == {"drives": []}


def test_blocks_are_read_from_the_drive_and_not_from_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "device").write_bytes(b"ab" * 2048)
    asked: list[int] = []
    monkeypatch.setattr(program.fcntl, "ioctl", lambda _descriptor, number: asked.append(number))
    monkeypatch.setattr(program, "other_drive", lambda *_: "")
    request = {"act": "sample", "name": f"..{tmp_path}/device", "places": [0], "length": 4096}
    line = json.dumps({**request, "key": KEY.hex()}).encode()
    monkeypatch.setattr("sys.stdin", SimpleNamespace(buffer=io.BytesIO(line)))
    program.main()
    assert json.loads(capsys.readouterr().out) == {"done": {"told": [told(b"ab" * 2048, KEY)]}}
    assert asked == [0x1261], "the kernel forgets what it knows of it first"


@pytest.mark.parametrize(
    ("answer", "message", "found"),
    [
        ({"refused": {"method": "StartSession", "status": "NOT_AUTHORIZED"}}, "refused", "NOT_AUTHORIZED"),
        ({"error": "no answer"}, "could not be asked", "no answer"),
        ({}, "could not be asked", "nothing that can be read"),
        ({"done": 5}, "could not be asked", "nothing that can be read"),
    ],
)
def test_what_a_node_answers_is_told_without_a_secret(
    answer: dict[str, Any], message: str, found: str
) -> None:
    asked: list[bytes] = []

    def ask(line: bytes) -> dict[str, Any]:
        asked.append(line)
        return answer

    with pytest.raises(ApplyFailed, match=message) as raised:
        Tcg(ask).act(DRIVE, "revert", pin=Secret(b"secret-1"))
    assert found in str(raised.value.found)
    assert "secret-1" not in repr(raised.value.as_dict())
    assert json.loads(asked[0]) == {
        "act": "revert",
        "name": "nvme0n1",
        "serial": "SIM1",
        "nsid": "1",
        "comid": 0x1000,
        "pin": "secret-1",
    }
    assert asked[0].endswith(b"\n")


def test_a_command_is_spelled_as_the_kernel_wants_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """Struct nvme_passthru_cmd: opcode, address, length; protocol and ComID in the tenth word."""
    seen: list[tuple[Any, ...]] = []

    def ioctl(descriptor: int, number: int, command: bytearray) -> int:
        assert (descriptor, number, len(command)) == (7, 0xC0484E41, 72)
        seen.append(struct.unpack("=BBHIIIQQII6III", command))
        return 0

    monkeypatch.setattr(program.fcntl, "ioctl", ioctl)
    drive = program.NvmeDrive(7)
    drive.send(1, 0x1000, bytes(2048))
    assert drive.receive(1, 0x1000, 2048) == bytes(2048)
    assert [(one[0], one[9], one[10], one[11]) for one in seen] == [
        (0x81, 2048, 0x01100000, 2048),
        (0x82, 2048, 0x01100000, 2048),
    ]
    assert all(one[7] for one in seen), "an address"
    assert {one[16] for one in seen} == {120_000}


def test_a_command_that_the_drive_ends_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(program.fcntl, "ioctl", lambda *_: 0x4002)
    request = {"act": "read-names", "comid": 0x1000}
    assert program.answer(request, program.NvmeDrive(7)) == {"error": "NVMe status 002h"}


# --- blocks ---------------------------------------------------------------------------------------------


def test_blocks_are_told_as_digests_and_never_as_they_are(tmp_path: Path) -> None:
    path = tmp_path / "device"
    path.write_bytes(bytes(4096) + b"a" * 4096 + b"ab" * 2048 + b"end")
    found = sample(str(path), [0, 4096, 8192, 12288, 1 << 20], 4096, KEY)
    digest = hmac.new(KEY, b"ab" * 2048, hashlib.sha256).hexdigest()
    assert found == [BLANK, BLANK, digest, UNREADABLE + "beyond its end", UNREADABLE + "beyond its end"]
    assert told(b"ab", b"another key") != told(b"ab", KEY)
