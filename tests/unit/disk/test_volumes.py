"""The volumes that an inventory names, among drives that a test makes up."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from appliance.definition.disks import Disk, read_disk
from appliance.disk.state import Drive, read_state
from appliance.disk.volumes import Volume, find_volumes
from appliance.errors import DriveUnsuitable
from appliance.lab.drive.profile import MIB, Profile
from tests.unit.disk.drives import entry, level_0, machine, simulated, top
from tests.unit.disk.test_state import BOTH
from tests.unit.lab.drive.conftest import Bench

UUID = "6ce4ef4c-2b2e-4a9b-8f1c-2f4a7d1c0b11"
DISK = Disk("data", "SIM1", None, "tpm2", "ext4", ("/srv/a",), (7,))


def enrolled_answer() -> bytes:
    bench = Bench(Profile(size=16 * MIB))
    bench.host.take_ownership("pin of the owner")
    bench.host.activate("pin of the owner")
    return level_0(bench.security)


ANSWER = enrolled_answer()


def drives(*changed: dict[str, Any], children: list[dict[str, Any]] | None = None) -> tuple[Drive, ...]:
    """Enrolled drives, each with these things changed."""
    luks = {"status": 0, "json": BOTH, "uuid": UUID}
    entries = [
        entry(**{"name": f"nvme{at}n1", "answer": ANSWER, "luks": luks, **one})
        for at, one in enumerate(changed)
    ]
    tree = [
        top(one["name"], **({"children": children} if children and not at else {}))
        for at, one in enumerate(entries)
    ]
    return read_state(machine(*entries, tree=tree))[1]


def found(disk: Disk, *args: dict[str, Any], **more: Any) -> Volume:
    (volume,) = find_volumes([disk], drives(*args, **more), node="gpu-01")
    return volume


OPEN = [
    {"name": "data", "path": "/dev/mapper/data", "type": "crypt", "fstype": "ext4", "mountpoints": [None]}
]


def test_a_volume_is_its_drives_header_and_closed_or_open() -> None:
    closed = found(DISK, {})
    assert (closed.uuid, closed.drive.path, closed.open) == (UUID, "/dev/nvme0n1", False)
    assert found(DISK, {}, children=OPEN).open
    assert closed.as_dict() == {
        "name": "data",
        "uuid": UUID,
        "unlock": "tpm2",
        "filesystem": "ext4",
        "mounts": ["/srv/a"],
    }


def test_a_namespace_is_told_from_another() -> None:
    two = ({"namespace": "1"}, {"namespace": "2"})
    assert found(replace(DISK, namespace=2), *two).drive.path == "/dev/nvme1n1"


@pytest.mark.parametrize(
    ("disk", "changed", "children", "name"),
    [
        (replace(DISK, serial="OTHER"), ({},), None, "absent"),
        (replace(DISK, namespace=3), ({},), None, "absent"),
        (DISK, (), None, "absent"),
        (DISK, ({}, {"namespace": "2"}), None, "several"),
        (DISK, ({"luks": {"status": 1, "json": "", "uuid": ""}},), None, "header-lost"),
        (
            DISK,
            ({"luks": {"status": 1, "json": "", "uuid": ""}, "answer": level_0(simulated())},),
            None,
            "not-enrolled",
        ),
        (DISK, ({"luks": {"status": 0, "json": BOTH, "uuid": ""}},), None, "not-enrolled"),
        (DISK, ({},), [{**OPEN[0], "name": "other"}], "open-elsewhere"),
    ],
)
def test_a_drive_that_is_not_what_it_has_to_be(
    disk: Disk, changed: tuple[dict[str, Any], ...], children: list[dict[str, Any]] | None, name: str
) -> None:
    with pytest.raises(DriveUnsuitable) as raised:
        found(disk, *changed, children=children)
    assert raised.value.message == f"data of gpu-01: {name}"
    assert raised.value.hint


@pytest.mark.parametrize("disk", [DISK, replace(DISK, namespace=2, unlock="ssh", pcrs=())])
def test_a_disk_is_read_back_as_it_was(disk: Disk) -> None:
    assert read_disk(disk.as_dict()) == disk
