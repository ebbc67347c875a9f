"""What reaches a disk in the clear, and how volumes open: one thing changed breaks one promise."""

from __future__ import annotations

import json
import subprocess
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from appliance.disk.luks import TOKEN
from appliance.node.qualification import storage
from tests.unit.node.stored import DATA, LATE, MOUNTS, PARTS, TPM, TREE, entry, header, said, swapped

if TYPE_CHECKING:
    from pathlib import Path


def test_a_sound_node_keeps_every_promise() -> None:
    found = said()
    assert storage.judge_swap(found, "").found == "no swap"
    for finding in (
        storage.judge_swap(found, ""),
        storage.judge_temporary(found, ""),
        storage.judge_dumps(found, ""),
        storage.judge_hibernation(found, ""),
        storage.judge_mounted(found, (DATA, LATE)),
        storage.judge_opening(found, (DATA, LATE)),
    ):
        assert finding.kept, finding


@pytest.mark.parametrize(
    ("swaps", "zram", "kept", "told"),
    [
        (("/dev/sda2 partition",), "", False, "/dev/sda2: in the clear"),
        (("/dev/mapper/data partition",), "", True, "/dev/mapper/data: encrypted"),
        (("/swapfile file",), "", False, "/swapfile: in the clear"),
        (("/srv/more/swap file",), "", True, "/srv/more/swap: encrypted"),
        (("/dev/zram0 partition",), "/sys/block/zram0/backing_dev:none\n", True, "/dev/zram0: memory"),
        (("/dev/zram0 partition",), "", True, "/dev/zram0: memory"),
        (
            ("/dev/zram0 partition",),
            "/sys/block/zram0/backing_dev:/dev/sda2\n",
            False,
            "writes to /dev/sda2",
        ),
        (
            ("/dev/zram0 partition",),
            "/sys/block/zram0/backing_dev:/dev/mapper/data\n",
            True,
            "writes to /dev/mapper/data",
        ),
        (("/dev/mapper/data partition", "/dev/sda2 partition"), "", False, "/dev/sda2"),
        (("/dev/unknown partition",), "", False, "in the clear"),
    ],
)
def test_swap(swaps: tuple[str, ...], zram: str, kept: bool, told: str) -> None:
    finding = storage.judge_swap(said(swaps=swapped(*swaps), zram=zram), "")
    assert finding.kept is kept
    assert told in finding.found


@pytest.mark.parametrize(
    ("line", "kept"),
    [
        ("21 20 8:1 /tmp /tmp rw - ext4 /dev/sda1 rw", False),
        ("21 20 254:0 /tmp /tmp rw - ext4 /dev/mapper/data rw", True),
        ("", False),  # on the root
    ],
)
def test_tmp(line: str, kept: bool) -> None:
    changed = MOUNTS.replace("21 20 0:30 / /tmp rw - tmpfs tmpfs rw\n", f"{line}\n" if line else "")
    assert storage.judge_temporary(said(mounts=changed), "").kept is kept


@pytest.mark.parametrize(
    ("pattern", "crash", "kept"),
    [
        ("core", "0", False),
        ("/var/crash/core.%p", "0", False),
        ("/srv/more/core.%p", "0", True),
        ("/tmp/core", "0", True),
        ("|/usr/lib/systemd/systemd-coredump %P", "0", False),
        ("", "0", False),
        ("|/bin/false", "1", False),
        ("|/bin/false", "", True),  # a kernel without kexec
    ],
)
def test_dumps(pattern: str, crash: str, kept: bool) -> None:
    assert storage.judge_dumps(said(pattern=pattern, crash=crash), "").kept is kept


@pytest.mark.parametrize(
    ("changed", "kept", "told"),
    [
        ({"sleep": "masked\nstatic\nmasked\n"}, False, "hybrid-sleep.target: static"),
        ({"sleep": ""}, False, "hibernate.target: no answer"),
        ({"command": "root=/dev/sda1 resume=/dev/sda2"}, False, "resume=/dev/sda2"),
        ({"sleep": "", "power": "freeze mem\n\n"}, True, "does not hibernate"),
        ({"sleep": "", "power": "freeze mem disk\n[disabled]\n"}, True, "does not hibernate"),
    ],
)
def test_hibernation(changed: dict[str, str], kept: bool, told: str) -> None:
    finding = storage.judge_hibernation(said(**changed), "")
    assert finding.kept is kept
    assert told in finding.found


def test_a_container_is_not_judged_by_its_host_but_praised_for_what_it_keeps() -> None:
    swap = storage.judge_swap(said(swaps=swapped("/dev/sda2 partition")), "systemd-nspawn")
    assert (swap.kept, "host's (systemd-nspawn)" in swap.reason) == (False, True)
    assert storage.judge_swap(said(), "systemd-nspawn").kept


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        (
            "23 20 254:0 /var/lib/appliance",
            "23 20 254:0 /other",
            "/var/lib/appliance: /dev/mapper/data/other",
        ),
        ("24 20 254:0 /srv/more /srv/more rw - ext4 /dev/mapper/data rw\n", "", "/srv/more: nothing"),
        ("/srv/late rw - xfs /dev/mapper/late", "/srv/late rw - xfs /dev/sda1", "/srv/late: /dev/sda1"),
        ("254:0 / /mnt/appliance/data rw", "254:0 / /mnt/other rw", "/mnt/appliance/data: nothing"),
    ],
)
def test_a_place_that_is_not_mounted_from_its_volume(old: str, new: str, told: str) -> None:
    assert old in MOUNTS
    finding = storage.judge_mounted(said(mounts=MOUNTS.replace(old, new)), (DATA, LATE))
    assert not finding.kept
    assert told in finding.found


def test_a_volume_on_another_drive_or_closed_or_no_volume_at_all() -> None:
    other = storage.judge_mounted(said(), (replace(DATA, serial="S9"),))
    assert other.found == "data: on the drive S1"
    closed = json.dumps({"blockdevices": TREE[:1]})
    assert "data: not open" in storage.judge_mounted(said(devices=closed), (DATA,)).found
    plain = PARTS["devices"].replace('"crypt"', '"linear"')
    assert "data: not open" in storage.judge_mounted(said(devices=plain), (DATA,)).found
    assert "data: not open" in storage.judge_mounted(said(devices="no JSON"), (DATA,)).found


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        ({"crypttab": "late UUID=2 none noauto\n"}, "data: crypttab: no line"),
        ({"crypttab": PARTS["crypttab"].replace(" none luks,tpm2", " /root/key luks,tpm2")}, "/root/key"),
        ({"crypttab": PARTS["crypttab"].replace("tpm2-device=auto,", "")}, "opened by nothing"),
        (
            {
                "crypttab": PARTS["crypttab"].replace(
                    "tpm2-device=auto,", "tpm2-device=auto,fido2-device=auto,"
                )
            },
            "fido2-device, tpm2-device",
        ),
        ({"crypttab": PARTS["crypttab"].replace("noauto,", "")}, "late: crypttab: opened at the start"),
        ({"crypttab": PARTS["crypttab"].replace("nofail", "noauto")}, "data: crypttab: noauto"),
        ({"luks__nvme0n1": header(3, TPM)}, "data: header: 3 keyslots instead of 2"),
        ({"luks__nvme0n1": header(1)}, "data: header: tokens: none"),
        ({"luks__nvme0n1": header(2, {**TPM, "tpm2-pcrs": [0]})}, "bound to registers [0]"),
        ({"luks__nvme0n1": header(3, TPM, {"type": "clevis"})}, "tokens: clevis, systemd-tpm2"),
        ({"luks__nvme1n1": header(1, TPM)}, "late: header: tokens: systemd-tpm2"),
        ({"luks__nvme1n1": header(2)}, "late: header: 2 keyslots instead of 1"),
        ({"luks__nvme1n1": ""}, "late: header: none that can be read"),
    ],
)
def test_a_volume_that_opens_in_another_way(changed: dict[str, str], told: str) -> None:
    finding = storage.judge_opening(said(**changed), (DATA, LATE))
    assert not finding.kept
    assert told in finding.found


def test_the_token_of_a_rotation_opens_nothing_and_is_no_fault() -> None:
    assert storage.TOKEN == TOKEN
    rotated = said(luks__nvme0n1=header(2, TPM, {"type": TOKEN}))
    assert storage.judge_opening(rotated, (DATA, LATE)).kept


def test_a_device_of_several_drives_is_encrypted_if_all_of_them_are() -> None:
    half = [
        entry("sda", "8:0", "disk", entry("md0", "9:0", "raid1")),
        entry("sdb", "8:1", "disk", entry("b", "254:0", "crypt", entry("md0", "9:0", "raid1"))),
    ]
    for tree in (half, half[::-1]):
        found = said(devices=json.dumps({"blockdevices": tree}), swaps=swapped("/dev/md0 partition"))
        assert not storage.judge_swap(found, "").kept
    whole = [
        entry("sda", "8:0", "disk", entry("a", "254:1", "crypt", entry("md0", "9:0", "raid1"))),
        half[1],
    ]
    found = said(devices=json.dumps({"blockdevices": whole}), swaps=swapped("/dev/md0 partition"))
    assert storage.judge_swap(found, "").kept


def test_the_listing_runs_on_this_machine() -> None:
    done = subprocess.run(["sh", "-c", storage.LISTING], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    found = storage.parse_storage(done.stdout)
    assert {"swaps", "mounts", "devices", "pattern", "crypttab", "sleep"} <= set(found.parts)
    assert "/" in found.mounts


def test_headers_of_several_volumes_are_told_apart(tmp_path: Path) -> None:
    """As cryptsetup prints them, which ends its JSON without the end of a line."""
    table = "\n".join(f"/dev/nvme{at}n1 crypto_LUKS" for at in range(2))
    for name, says in (
        ("lsblk", f"case $1 in --json) echo '{PARTS['devices']}' ;; *) echo '{table}' ;; esac"),
        (
            "cryptsetup",
            f"""case $4 in */nvme0n1) printf %s '{header(2, TPM)}' ;; *) printf %s '{header(1)}' ;; esac""",
        ),
    ):
        (tmp_path / name).write_text(f"#!/bin/sh\n{says}\n")
        (tmp_path / name).chmod(0o755)
    done = subprocess.run(
        ["sh", "-c", storage.LISTING],
        env={"PATH": f"{tmp_path}:/usr/bin:/bin"},
        capture_output=True,
        text=True,
        check=True,
    )
    found = storage.parse_storage(done.stdout)
    text = PARTS["crypttab"]
    parts = {**found.parts, "crypttab": text}
    assert storage.judge_opening(replace(found, parts=parts), (DATA, LATE)).kept
