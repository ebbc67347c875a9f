"""Readings of machines that a test makes up, of which each drive is a simulated one or as recorded."""

from __future__ import annotations

from typing import Any

from appliance.disk.fitness import Fitness, judge
from appliance.disk.state import Drive, Host, read_state
from appliance.lab.drive.interface import SecurityInterface
from appliance.lab.drive.profile import MIB, Profile
from appliance.lab.drive.space import MemorySpace
from appliance.lab.drive.tper import TPer
from appliance.tcg.uids import DATA_STORE, MBR

MODERN = {
    "kernel": "6.12.107-amd64",
    "cryptsetup": "cryptsetup 2.7.5 flags: UDEV BLKID KEYRING FIPS HW_OPAL",
}


def simulated(**fields: Any) -> SecurityInterface:
    """A simulated drive of 16 MiB, or as the profile's fields say."""
    profile = Profile(**{"size": 16 * MIB, **fields})
    spaces = {MBR: MemorySpace(128 * MIB), DATA_STORE: MemorySpace(10 * MIB)}
    return SecurityInterface(TPer(profile, {**spaces}, lambda: None))


def level_0(drive: SecurityInterface) -> bytes:
    """What it answers to everybody."""
    return drive.receive(1, 1, 2048)


def entry(name: str = "nvme0n1", answer: bytes | None = None, **changed: Any) -> dict[str, Any]:
    """A drive as ``appliance_drive_readings`` reads it."""
    told = {"by": "nvme", "status": 0x4001} if answer is None else {"by": "nvme", "hex": answer.hex()}
    return {
        "name": name,
        "model": "Simulated Opal drive",
        "serial": "SIM1",
        "firmware": "SIM1.0",
        "transport": "pcie",
        "namespace": "1",
        "wwid": "",
        "size": 16 * MIB,
        "block_size": 512,
        "read_only": False,
        "removable": False,
        "holders": [],
        "discovery": told,
        "kernel": answer is not None,
        "luks": {"status": 1, "json": "", "uuid": ""},
        "signatures": [],
        **changed,
    }


def top(name: str = "nvme0n1", **changed: Any) -> dict[str, Any]:
    """A device as lsblk shows it."""
    return {
        "name": name,
        "path": f"/dev/{name}",
        "type": "disk",
        "fstype": None,
        "mountpoints": [None],
        "pttype": None,
        **changed,
    }


def machine(
    *drives: dict[str, Any], tree: list[dict[str, Any]] | None = None, **changed: Any
) -> dict[str, Any]:
    """Readings of a machine with these drives, empty where the tree says nothing else."""
    return {
        "format": 2,
        "root": True,
        **MODERN,
        "tree": [top(one["name"]) for one in drives] if tree is None else tree,
        "swaps": "Filename Type Size Used Priority",
        "drives": list(drives),
        **changed,
    }


def only(readings: dict[str, Any]) -> tuple[Drive, Fitness]:
    """The one drive of a machine, and how it was judged."""
    host, (drive,) = read_state(readings)
    return drive, judge(drive, host)


def reasons(readings: dict[str, Any]) -> set[str]:
    """Names of what stands against the one drive."""
    return {reason.name for reason in only(readings)[1].against}


HOST = Host(MODERN["kernel"], MODERN["cryptsetup"], root=True)
