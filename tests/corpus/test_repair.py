"""Parity made to do harm, and repairs that are killed: nothing outside is written, nothing is lost."""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import signal
import struct
import subprocess
import sys
import zlib
from typing import TYPE_CHECKING

import pytest

from appliance.bundle.parity import mending
from appliance.bundle.parity.packets import CHECKSUMS, FILE, MAIN, RECOVERY, packet_bytes, scan_packets
from appliance.bundle.parity.repair import repair_bundle
from appliance.errors import DamageTooGreat
from appliance.progress import Silent
from appliance.trust.root import root_bytes
from tests.conftest import BundleMaker
from tests.unit.bundle.parity.conftest import NOTICE, SET, SLICE, overwrite, same, write_with_parity

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from appliance.trust.root import Root
    from tests.conftest import Holders

pytestmark = pytest.mark.group(6)

BLOCK = 4096


@pytest.fixture(scope="module")
def pristine(tmp_path_factory: pytest.TempPathFactory, holders: Holders, two_of_three: Root) -> Path:
    maker = BundleMaker(tmp_path_factory.mktemp("hostile"), holders)
    return maker.sign(write_with_parity(maker, "bundle", two_of_three), "alice", "bob")


@pytest.fixture
def sick(pristine: Path, tmp_path: Path) -> Path:
    """A copy in which one small file is missing."""
    folder = shutil.copytree(pristine, tmp_path / "deep/in/bundle")
    (folder / NOTICE).unlink()
    return folder


def md5(data: bytes) -> bytes:
    return hashlib.md5(data, usedforsecurity=False).digest()


def parity_for(files: Mapping[str, bytes], *, block_size: int = BLOCK, recovery: int = 4) -> bytes:
    """A PAR2 file, correct in every packet, for files of one block; one of them is wanted back."""
    described = {}
    for name, data in files.items():
        block = data + bytes(block_size - len(data))
        encoded = name.encode("latin-1")
        encoded += bytes(-len(encoded) % 4)
        signature = md5(data) + struct.pack("<Q", len(data)) + name.encode("latin-1").rstrip(b"\0")
        identifier = md5(signature)
        sums = identifier + md5(block) + struct.pack("<I", zlib.crc32(block))
        body = identifier + md5(data) + md5(data) + struct.pack("<Q", len(data)) + encoded
        described[identifier] = body, sums
    order = sorted(described, key=lambda identifier: identifier[::-1])
    main = struct.pack("<QI", block_size, len(order)) + b"".join(order)
    set_id = md5(main)
    packets = [packet_bytes(set_id, MAIN, main)]
    packets += [packet_bytes(set_id, FILE, described[each][0]) for each in order]
    packets += [packet_bytes(set_id, CHECKSUMS, described[each][1]) for each in order]
    packets += [
        packet_bytes(set_id, RECOVERY, struct.pack("<I", number) + bytes(block_size))
        for number in range(recovery)
    ]
    return b"".join(packets)


NAMES = {
    "parent": "../escaped",
    "grandparent": "../../../escaped",
    "absolute": "/tmp/escaped-absolute",
    "inner parent": "payload/../../escaped",
    "backslashes": "..\\..\\escaped",
    "encoded": "%2e%2e/escaped",
    "a NUL inside": "payload/extras/site/notice.txt\0/../escaped",
    "the list": "trust/SHA256SUMS",
    "a signature": "trust/SHA256SUMS.alice.sig",
    "not of the bundle": "payload/extras/other",
    "a terminal's escape": "\x1b[2Jescaped",
    "empty": "",
}


@pytest.mark.parametrize("name", NAMES)
def test_parity_that_names_other_files_is_never_given_to_par2(
    name: str, sick: Path, tmp_path: Path, two_of_three: Root, monkeypatch: pytest.MonkeyPatch
) -> None:
    (sick / SET).write_bytes(parity_for({NOTICE: b"notice\n", NAMES[name]: b"evil\n"}))
    monkeypatch.setattr(mending, "repair_files", lambda *_, **__: pytest.fail("par2 was started"))
    before = {path for path in tmp_path.rglob("*") if path.is_file()}
    with pytest.raises(DamageTooGreat, match="cannot be mended with what was named"):
        repair(sick, two_of_three, tmp_path)
    assert {path for path in tmp_path.rglob("*") if path.is_file()} == before


HOSTILE: dict[str, Callable[[bytes], bytes]] = {
    "a file twice": lambda _: parity_for({NOTICE: b"notice\n"}) * 2 + parity_for({NOTICE: b"other\n!"}),
    "another size": lambda _: parity_for({NOTICE: b"notice, longer\n"}),
    "no recovery": lambda _: parity_for({NOTICE: b"notice\n"}, recovery=0),
    "huge blocks": lambda data: data.replace(struct.pack("<Q", BLOCK), struct.pack("<Q", 1 << 62)),
    "blocks of no bytes": lambda data: data.replace(struct.pack("<Q", BLOCK), bytes(8)),
    "magic everywhere": lambda _: b"PAR2\0PKT" * 300_000,
    "a long packet at every step": lambda _: (
        (b"PAR2\0PKT" + struct.pack("<Q", 4 << 20) + bytes(48)) * 80_000
    ),
    "nothing": lambda _: b"",
    "zeros": lambda data: bytes(len(data)),
    "half a packet": lambda data: data[:100],
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_parity_ends_soon_and_changes_nothing(
    name: str, sick: Path, tmp_path: Path, two_of_three: Root
) -> None:
    (sick / SET).write_bytes(HOSTILE[name]((sick / SET).read_bytes()))
    before = {str(path): path.read_bytes() for path in sick.rglob("*") if path.is_file()}
    with pytest.raises(DamageTooGreat):
        repair(sick, two_of_three, tmp_path)
    assert {str(path): path.read_bytes() for path in sick.rglob("*") if path.is_file()} == before


def test_parity_that_gives_back_other_bytes_is_found_out(
    sick: Path, tmp_path: Path, two_of_three: Root
) -> None:
    """Right names, right sizes, right MD5 of what is there: only the signed digest tells the lie."""
    files = {NOTICE: b"n0tice\n"}
    block = b"n0tice\n" + bytes(BLOCK - 7)
    forged = parity_for(files, recovery=1)
    with_block = forged.replace(struct.pack("<I", 0) + bytes(BLOCK), struct.pack("<I", 0) + block)
    packets = list(_rehashed(with_block))
    (sick / SET).write_bytes(b"".join(packets))
    with pytest.raises(DamageTooGreat, match="does not give back"):
        repair(sick, two_of_three, tmp_path)
    assert not (sick / NOTICE).exists()


def _rehashed(data: bytes) -> object:
    """The packets with their MD5 made right again."""
    while data:
        length = int.from_bytes(data[8:16], "little")
        packet, data = data[:length], data[length:]
        yield packet_bytes(packet[32:48], packet[48:64], packet[64:])


def test_damaged_packets_are_passed_over(pristine: Path, tmp_path: Path) -> None:
    copy = tmp_path / "set.par2"
    shutil.copy(pristine / SET, copy)
    with copy.open("rb") as file:
        whole = list(scan_packets(file.fileno()))
    hurt = [packet for packet in whole if packet.kind == RECOVERY][3]
    overwrite(copy, hurt.offset + 200, b"rot!")
    overwrite(copy, whole[-1].offset + 8, b"\xff\xff")  # its length
    with copy.open("rb") as file:
        left = list(scan_packets(file.fileno()))
    assert left == [packet for packet in whole[:-1] if packet != hurt]


KILLER = """
import os, signal, sys
from pathlib import Path
from appliance.bundle.parity import mending, patching, placing, repair, task
from appliance.progress import Silent

module, name, after = sys.argv[1:4]
target = {"placing": placing, "task": task, "mending": mending, "patching": patching}[module]
if module == "patching":  # a full medium, and a work folder elsewhere
    placing.free_bytes = lambda _: 0
    placing._moved = lambda *_: False
real, count = getattr(target, name), int(after)

def killed(*args, **kwargs):
    global count
    count -= 1
    if count < 0:
        os.kill(os.getpid(), signal.SIGKILL)
    return real(*args, **kwargs)

setattr(target, name, killed)
bundle, root, work = map(Path, sys.argv[4:7])
repair.repair_bundle([bundle], root=root.read_bytes(), out=None, work=work, progress=Silent())
"""


@pytest.mark.parametrize(
    "moment",
    [
        ("mending", "repair_files", 0),
        ("task", "place_file", 0),
        ("placing", "_settle", 0),
        ("placing", "sync_folder", 0),
        ("task", "place_file", 1),
        ("task", "place_bytes", 0),
        ("patching", "_patch", 0),
        ("patching", "_patch", 2),
    ],
)
@pytest.mark.group(11)
def test_a_killed_repair_loses_nothing_and_goes_on(
    moment: tuple[str, str, int], sick: Path, pristine: Path, tmp_path: Path, two_of_three: Root
) -> None:
    overwrite(sick / SLICE, 0, b"rot")
    (sick / "trust/root.1.json").unlink()
    root = tmp_path / "root.json"
    root.write_bytes(root_bytes(two_of_three))
    arguments = [*map(str, moment), str(sick), str(root), str(tmp_path / "work")]
    done = subprocess.run([sys.executable, "-c", KILLER, *arguments], check=False)
    assert done.returncode == -signal.SIGKILL
    damaged = (pristine / SLICE).read_bytes()
    damaged = b"rot" + damaged[3:]
    assert (sick / SLICE).read_bytes() in {damaged, (pristine / SLICE).read_bytes()}
    repair(sick, two_of_three, tmp_path)
    assert same(sick, pristine)


@pytest.mark.group(11)
def test_a_killed_repair_does_not_leave_par2_at_work(
    sick: Path, pristine: Path, tmp_path: Path, two_of_three: Root
) -> None:
    """par2 holds the lock of the work folder as long as it lives, and ends at its next line."""
    fake = tmp_path / "par2"
    parent = tmp_path / "parent"
    fake.write_text(f"#!/bin/sh\nkill -KILL $(cat {parent})\nwhile echo 50.0%; do :; done\n")
    fake.chmod(0o755)
    root = tmp_path / "root.json"
    root.write_bytes(root_bytes(two_of_three))
    script = f"""
import os
from pathlib import Path
from appliance.bundle.parity import mending, repair
from appliance.progress import Silent
Path({str(parent)!r}).write_text(str(os.getpid()))
mending.find_par2 = lambda: {str(fake)!r}
repair.repair_bundle([Path({str(sick)!r})], root=Path({str(root)!r}).read_bytes(), out=None,
                     work=Path({str(tmp_path / "work")!r}), progress=Silent())
"""
    done = subprocess.run([sys.executable, "-c", script], check=False)
    assert done.returncode == -signal.SIGKILL
    (own,) = (tmp_path / "work").iterdir()
    _wait_for_lock(own)  # par2 is told by the broken pipe; were it not, this would hang and the alarm ring
    repair(sick, two_of_three, tmp_path)
    assert same(sick, pristine)


def _wait_for_lock(folder: Path) -> None:
    fd = os.open(folder, os.O_RDONLY)
    fcntl.flock(fd, fcntl.LOCK_EX)
    os.close(fd)


def repair(bundle: Path, root: Root, folder: Path) -> None:
    repair_bundle([bundle], root=root_bytes(root), out=None, work=folder / "work", progress=Silent())
