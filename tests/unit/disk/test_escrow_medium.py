"""Where an escrow may lie: by a table of mounts and a sysfs that the test makes."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from appliance.disk.escrow.medium import refuse_medium
from appliance.errors import Usage

if TYPE_CHECKING:
    from pathlib import Path


class Station:
    """A machine whose root and escrow lie where the test says; both are on one real file system."""

    def __init__(self, folder: Path) -> None:
        self.mounts, self.devices = folder / "mountinfo", folder / "devices"
        self.escrow, self.root = folder / "escrow", folder / "root"
        for made in (self.devices, self.escrow, self.root, folder / "sys"):
            made.mkdir()
        self.folder = folder
        number = folder.stat().st_dev
        self.number = f"{os.major(number)}:{os.minor(number)}"

    def mount(self, kind: str, *, number: str = "") -> None:
        line = f"36 35 {number or self.number} / {self.folder} rw,noatime shared:1 - {kind} none rw\n"
        self.mounts.write_text("22 1 0:1 / / rw - rootfs rootfs rw\n" * bool(number) + line)

    def disk(self, name: str, partition: str = "") -> Path:
        """The folder of a disk in sysfs, or of its partition."""
        path = self.folder / "sys" / name / partition
        path.mkdir(parents=True, exist_ok=True)
        if partition:
            (path / "partition").write_text("1")
        return path

    def refused(self, *, local: bool = False) -> str:
        with pytest.raises(Usage) as raised:
            self.check(local=local)
        return f"{raised.value.message}: {raised.value.found}"

    def check(self, *, local: bool = False) -> None:
        refuse_medium(self.escrow, local=local, root=self.root, mounts=self.mounts, devices=self.devices)


@pytest.fixture
def station(tmp_path: Path) -> Station:
    return Station(tmp_path)


@pytest.mark.parametrize("kind", ["tmpfs", "ramfs", "devtmpfs"])
def test_memory_is_no_escrow(station: Station, kind: str) -> None:
    station.mount(kind)
    assert f"lies in memory: {kind}" in station.refused()


@pytest.mark.parametrize("kind", ["ext4", "vfat", "exfat", "nfs4"])
def test_a_medium_of_the_station_is_one(station: Station, kind: str) -> None:
    station.mount(kind)
    station.check()


def test_a_disk_of_memory_is_memory(station: Station) -> None:
    station.mount("ext4")
    (station.devices / station.number).symlink_to(station.disk("zram0"))
    assert "lies in memory" in station.refused()


def test_a_file_system_without_a_number_of_its_own_is_known_by_its_place(station: Station) -> None:
    """As subvolumes of btrfs."""
    station.mount("btrfs", number="0:999")
    station.check()
    station.mount("tmpfs", number="0:999")
    assert "lies in memory" in station.refused()


def test_a_mount_that_nobody_knows(station: Station) -> None:
    station.mounts.write_text("")
    assert "nobody knows where" in station.refused()


def test_at_the_node_another_partition_of_the_roots_disk_is_the_node_itself(station: Station) -> None:
    station.mount("ext4")
    (station.devices / station.number).symlink_to(station.disk("nvme0n1", "nvme0n1p2"))
    assert "lies on the node itself: nvme0n1" in station.refused(local=True)
    station.check()


@pytest.fixture
def stick(station: Station, monkeypatch: pytest.MonkeyPatch) -> Station:
    """Its escrow is on another device than its root: a stick, unless the test says otherwise."""
    from pathlib import Path

    real = Path.stat
    (station.devices / station.number).symlink_to(station.disk("nvme0n1", "nvme0n1p2"))

    def stat(path: Path, *, follow_symlinks: bool = True) -> os.stat_result:
        found = real(path, follow_symlinks=follow_symlinks)
        if path != station.escrow:
            return found
        values = list(found)
        values[2] = os.makedev(8, 17)  # st_dev
        return os.stat_result(values)

    monkeypatch.setattr(Path, "stat", stat)
    station.mounts.write_text(
        f"36 35 {station.number} / {station.root} rw - ext4 /dev/nvme0n1p2 rw\n"
        f"37 35 8:17 / {station.escrow} rw - vfat /dev/sdb1 rw\n"
    )
    return station


def test_at_the_node_a_stick_may_be_the_escrow(stick: Station) -> None:
    (stick.devices / "8:17").symlink_to(stick.disk("sdb", "sdb1"))
    stick.check(local=True)


def test_at_the_node_a_volume_on_the_roots_disk_is_the_node_itself(stick: Station) -> None:
    """Another file system, device and partition; the same disk below LVM on LUKS."""
    for upper, lower in (("dm-1", stick.disk("dm-0")), ("dm-0", stick.disk("nvme0n1", "nvme0n1p3"))):
        slaves = stick.disk(upper) / "slaves"
        slaves.mkdir()
        (slaves / lower.name).symlink_to(lower)
    (stick.devices / "8:17").symlink_to(stick.disk("dm-1"))
    assert "lies on the node itself: nvme0n1" in stick.refused(local=True)


def test_at_the_node_what_cannot_be_told_is_refused(stick: Station) -> None:
    stick.mounts.write_text(stick.mounts.read_text().replace("vfat /dev/sdb1", "nfs4 nas:/escrow"))
    assert "cannot be told: nfs4 of no disk" in stick.refused(local=True)
    stick.check()


def test_what_is_no_folder(station: Station) -> None:
    station.mount("ext4")
    (station.escrow).rmdir()
    assert "no folder" in station.refused()
