"""The program that asks drives, before simulated ones: the kernel's ioctls and sysfs are the test's."""

from __future__ import annotations

import ctypes
import errno
import json
import os
import shutil
import struct
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest

from appliance.disk.fitness import judge
from appliance.disk.reading import read_here, reading_program
from appliance.disk.state import read_state
from appliance.lab.drive.interface import Refused, SecurityInterface
from tests.unit.disk.drives import simulated, top
from tests.unit.lab.drive.host import PSID, Host
from tests.unit.roles.conftest import REPOSITORY, load

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path
    from types import ModuleType

PROGRAM = REPOSITORY / "roles/disk_encryption/module_utils/appliance_drive_readings.py"


@pytest.fixture
def program() -> ModuleType:
    return load(PROGRAM, "appliance_drive_readings_under_test")


class Kernel:
    """Device nodes and what lies behind each: a simulated drive, or an error's number."""

    def __init__(self, folder: Path) -> None:
        self.sys = folder / "sys/block"
        self.sys.mkdir(parents=True)
        self.behind: dict[str, SecurityInterface | int] = {}
        self.taken: set[str] = set()
        self.opened: dict[int, str] = {}
        self.asked: list[tuple[str, int]] = []

    def open(self, path: str, flags: int) -> int:
        assert flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC) == 0, "only to read"
        if path not in self.behind:
            raise PermissionError(errno.EPERM, os.strerror(errno.EPERM))
        descriptor = os.open(os.devnull, os.O_RDONLY)
        self.opened[descriptor] = path
        return descriptor

    def ioctl(self, descriptor: int, request: int, argument: bytearray) -> int:
        """linux/nvme_ioctl.h and linux/sed-opal.h, as the kernel reads them."""
        path = self.opened[descriptor]
        self.asked.append((path, request))
        behind = self.behind[path]
        if request == 2 << 30 | 8 << 16 | ord("p") << 8 | 236:
            if path not in self.taken:
                raise OSError(errno.ENOTTY, os.strerror(errno.ENOTTY))
            return 0
        if isinstance(behind, int):
            raise OSError(behind, os.strerror(behind))
        if request == 3 << 30 | 72 << 16 | ord("N") << 8 | 0x41:
            opcode, namespace, address, size, word10, word11 = struct.unpack_from(
                "=B3xI16xQ4xIII", argument
            )
            assert (len(argument), opcode, namespace, word11) == (72, 0x82, 0, size)
            try:
                answer = behind.receive(word10 >> 24, word10 >> 8 & 0xFFFF, size)
            except Refused:
                return 0x4002
        else:
            assert request == 1 << 30 | 16 << 16 | ord("p") << 8 | 239
            address, size = struct.unpack("=QQ", argument)
            answer = behind.receive(1, 1, size)
        ctypes.memmove(address, answer, len(answer))
        return 0

    def add(self, name: str, behind: SecurityInterface | int, **attributes: str) -> None:
        """A block device, with attributes below /sys/block."""
        self.behind[f"/dev/{name}"] = behind
        for key, value in attributes.items():
            path = self.sys / name / key.replace("__", "/")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(f"{value}\n")


@pytest.fixture
def kernel(program: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Kernel:
    made = Kernel(tmp_path)
    monkeypatch.setattr(program.fcntl, "ioctl", made.ioctl)
    opener = made.open
    monkeypatch.setattr(program, "os", _Os(opener))
    return made


class _Os:
    """The module os, but for how device nodes are opened."""

    def __init__(self, opener: Callable[[str, int], int]) -> None:
        self.open = opener

    def __getattr__(self, name: str) -> Any:
        return getattr(os, name)


def programs(tree: list[dict[str, Any]], luks: str = "") -> Callable[..., tuple[int, str]]:
    """What lsblk and cryptsetup print."""

    def run(*command: str) -> tuple[int, str]:
        match command:
            case ["lsblk", *_]:
                return 0, json.dumps({"blockdevices": tree})
            case ["wipefs", "--json", "--output", "TYPE", _]:
                return 0, '{"signatures": []}'
            case ["cryptsetup", "--version"]:
                return 0, "cryptsetup 2.7.5 flags: UDEV\n"
            case ["cryptsetup", "luksDump", "--dump-json-metadata", "/dev/nvme0n1"] if luks:
                return 0, luks
        return 1, "no LUKS device"

    return run


def nvme(**more: str) -> dict[str, str]:
    return {
        "size": "32768",
        "nsid": "1",
        "ro": "0",
        "removable": "0",
        "queue__logical_block_size": "512",
        "device__model": "Simulated Opal drive",
        "device__serial": "SIM1 ",
        "device__firmware_rev": "SIM1.0",
        "device__transport": "pcie",
        **more,
    }


def test_an_nvme_drive_is_asked_by_security_receive(
    program: ModuleType, kernel: Kernel, monkeypatch: pytest.MonkeyPatch
) -> None:
    kernel.add("nvme0n1", simulated(), **nvme())
    kernel.taken.add("/dev/nvme0n1")
    monkeypatch.setattr(program, "run", programs([top()]))
    host, (drive,) = read_state({**program.readings(kernel.sys), "kernel": "6.12.1", "root": True})
    assert (drive.path, drive.model, drive.serial, drive.firmware) == (
        *("/dev/nvme0n1", "Simulated Opal drive", "SIM1", "SIM1.0"),
    )
    assert (drive.transport, drive.namespace, drive.size, drive.block_size) == ("pcie", "1", 16 << 20, 512)
    assert (drive.writable, drive.removable) == (True, False)
    assert judge(drive, host).verdict == "ready"
    assert kernel.opened
    for descriptor in kernel.opened:
        with pytest.raises(OSError, match="Bad file descriptor"):
            os.fstat(descriptor)


def test_asking_changes_nothing_and_opens_no_session(
    program: ModuleType, kernel: Kernel, monkeypatch: pytest.MonkeyPatch
) -> None:
    drive = simulated(owner_pin="somebody's")
    monkeypatch.setattr(drive, "send", lambda *_: pytest.fail("something was sent to the drive"))
    kernel.add("nvme0n1", drive, **nvme())
    monkeypatch.setattr(program, "run", programs([top()]))
    program.readings(kernel.sys)
    assert drive.tper.sessions_started == 0
    monkeypatch.undo()
    assert Host(drive).revert(PSID, drive.tper.profile.psid) == 0


@pytest.mark.parametrize("kind", ["pyrite", "ruby"])
def test_what_sed_opal_does_not_take_answers_all_the_same(
    program: ModuleType, kernel: Kernel, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    kernel.add("nvme0n1", simulated(kind=kind), **nvme())
    monkeypatch.setattr(program, "run", programs([top()]))
    _, (drive,) = read_state(program.readings(kernel.sys))
    assert drive.discovery is not None
    assert drive.discovery.ssc in {"pyrite-2", "ruby"}
    assert not drive.taken


def test_a_drive_that_does_not_know_the_command(
    program: ModuleType, kernel: Kernel, monkeypatch: pytest.MonkeyPatch
) -> None:
    drive = simulated()
    monkeypatch.setattr(drive, "receive", lambda *_: (_ for _ in ()).throw(Refused))
    kernel.add("nvme0n1", drive, **nvme())
    monkeypatch.setattr(program, "run", programs([top()]))
    read = program.readings(kernel.sys)
    assert read["drives"][0]["discovery"] == {"by": "nvme", "status": 0x4002}
    assert read_state(read)[1][0].tcg == "no"


def test_drives_behind_an_nvme_subsystem_have_their_controllers_transport(
    program: ModuleType, kernel: Kernel, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    kernel.add("nvme0n1", simulated(), size="32768", nsid="1")
    subsystem = tmp_path / "sys/nvme-subsys0"
    for name, transport in (("nvme0", "tcp"), ("nvme1", "rdma")):
        (subsystem / name).mkdir(parents=True)
        (subsystem / name / "transport").write_text(transport)
    (subsystem / "nvme0c0n1").mkdir()
    (subsystem / "serial").write_text("SIM2")
    (kernel.sys / "nvme0n1/device").symlink_to(subsystem)
    monkeypatch.setattr(program, "run", programs([top()]))
    (drive,) = read_state(program.readings(kernel.sys))[1]
    assert (drive.transport, drive.serial) == ("rdma, tcp", "SIM2")


def test_other_drives_are_asked_by_sed_opal(
    program: ModuleType, kernel: Kernel, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    device = tmp_path / "devices/pci0000:00/ata1/host0/target0:0:0/0:0:0:0"
    device.mkdir(parents=True)
    (device / "model").write_text("Samsung SSD 850\n")
    (device / "rev").write_text("2B6Q\n")
    (device / "vpd_pg80").write_bytes(b"\0\x80\0\x05S1234")
    kernel.add("sda", simulated(), size="32768", queue__logical_block_size="512")
    kernel.taken.add("/dev/sda")
    (kernel.sys / "sda/device").symlink_to(device)
    monkeypatch.setattr(program, "run", programs([top("sda")]))
    (drive,) = read_state(program.readings(kernel.sys))[1]
    assert (drive.transport, drive.serial, drive.firmware, drive.namespace) == ("sata", "S1234", "2B6Q", "")
    assert drive.discovery is not None
    assert drive.discovery.ssc == "opal-2"


@pytest.mark.parametrize(
    "told",
    [(errno.ENOTTY, False, "no"), (errno.ENOTTY, True, "unknown"), (errno.EIO, False, "unknown")],
)
def test_drives_that_sed_opal_does_not_tell_of(
    program: ModuleType, kernel: Kernel, monkeypatch: pytest.MonkeyPatch, told: tuple[int, bool, str]
) -> None:
    number, taken, tcg = told
    kernel.add("sda", number, size="32768", device__model="x")
    kernel.taken |= {"/dev/sda"} if taken else set()
    monkeypatch.setattr(program, "run", programs([top("sda")]))
    (drive,) = read_state(program.readings(kernel.sys))[1]
    assert (drive.tcg, bool(drive.trouble)) == (tcg, True)


def test_devices_that_are_no_drives_are_left_out(
    program: ModuleType, kernel: Kernel, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("dm-0", "loop0", "md127", "nbd0", "ram1", "sr0", "zram0"):
        kernel.add(name, errno.EIO, size="8", device__model="x")
    kernel.add("nvme0c0n1", errno.EIO, size="8", device__model="x", hidden="1")
    kernel.add("vda", errno.EIO, size="8")
    monkeypatch.setattr(program, "run", programs([]))
    assert program.readings(kernel.sys)["drives"] == []
    assert kernel.asked == []


def test_whoever_may_not_open_a_drive_is_told_so(
    program: ModuleType, kernel: Kernel, monkeypatch: pytest.MonkeyPatch
) -> None:
    kernel.add("nvme0n1", simulated(), **nvme())
    del kernel.behind["/dev/nvme0n1"]
    monkeypatch.setattr(program, "run", programs([top()]))
    _, (drive,) = read_state(program.readings(kernel.sys))
    assert (drive.tcg, drive.trouble, drive.owner) == ("unknown", "Operation not permitted", "unknown")


@pytest.mark.parametrize("answer", [(1, '{"blockdevices":[]}'), (0, "x"), (0, "[]"), (127, "")])
def test_lsblk_that_says_nothing(
    program: ModuleType, monkeypatch: pytest.MonkeyPatch, answer: tuple[int, str]
) -> None:
    monkeypatch.setattr(program, "run", lambda *_: answer)
    assert program.tree() is None


def test_all_signatures_of_a_disk_are_listed_and_it_is_not_changed(
    program: ModuleType, tmp_path: Path
) -> None:
    """ext4, and the magic of romfs: libblkid calls that ambivalent, and lsblk then shows nothing."""
    image = tmp_path / "image"
    image.write_bytes(bytes(20 << 20))
    assert program.signatures(str(image)) == []
    subprocess.run(["/usr/sbin/mke2fs", "-q", "-t", "ext4", str(image)], check=True)
    with image.open("r+b") as file:
        file.write(b"-rom1fs-")
    before = image.read_bytes()
    assert subprocess.run(["/usr/sbin/blkid", "-p", str(image)], check=False).returncode == 8
    assert program.signatures(str(image)) == ["ext4", "romfs"]
    assert image.read_bytes() == before
    assert program.signatures(str(tmp_path / "none")) is None


@pytest.mark.parametrize(
    "answer", [(1, '{"signatures":[]}'), (0, ""), (0, "[]"), (0, '{"signatures":[1]}'), (127, "")]
)
def test_wipefs_that_says_nothing(
    program: ModuleType, monkeypatch: pytest.MonkeyPatch, answer: tuple[int, str]
) -> None:
    monkeypatch.setattr(program, "run", lambda *_: answer)
    assert program.signatures("/dev/nvme0n1") is None


def test_programs_that_are_missing_or_fail_are_no_fault(program: ModuleType) -> None:
    assert program.run("appliance-has-no-such-program") == (127, "")
    assert program.run("sh", "-c", "echo said; exit 3") == (3, "said\n")


def test_a_real_header_of_cryptsetup_is_read(program: ModuleType, tmp_path: Path) -> None:
    image = tmp_path / "luks.img"
    image.write_bytes(bytes(32 << 20))
    uuid = "8b0e35a2-ffff-0000-1111-2222aabbccdd"  # hexadecimal digits, and of no version
    assert shutil.which("cryptsetup", path="/usr/sbin:/sbin"), "system-packages.txt names cryptsetup-bin"
    subprocess.run(
        [
            *("/usr/sbin/cryptsetup", "luksFormat", "-q", "--type", "luks2", "--key-file", "-"),
            *("--pbkdf", "pbkdf2", "--pbkdf-force-iterations", "1000"),
            *("--cipher", "aes-xts-plain64", "--key-size", "512", "--uuid", uuid, str(image)),
        ],
        input=b"a passphrase",
        check=True,
    )
    from appliance.disk.luks import parse_luks, uuid_in

    told = program.luks(str(image))
    header = parse_luks(told["json"], told["uuid"])
    assert (header.uuid, uuid_in(image.read_bytes())) == (uuid, uuid)
    assert (told["status"], header.layer, header.cipher) == (0, "dm-crypt", "aes-xts-plain64")
    assert (header.keyslots, header.tokens, header.range) == (1, (), None)
    assert program.luks(os.devnull)["json"] == ""


def test_this_machine_can_be_read_here_and_as_on_a_node() -> None:
    done = subprocess.run(
        [sys.executable, "-I", "-"], input=reading_program(), capture_output=True, check=True
    )
    (line,) = done.stdout.splitlines()
    as_on_a_node, here = json.loads(line), read_here()
    names = [one["name"] for one in here["drives"]]
    assert [one["name"] for one in as_on_a_node["drives"]] == names
    assert as_on_a_node.keys() == here.keys()
    assert [drive.name for drive in read_state(here)[1]] == names
