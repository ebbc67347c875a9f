"""What a start is told of encrypted volumes, and what systemd's own generators make of it."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable

GENERATORS = Path("/usr/lib/systemd/system-generators")


def volume(name: str, unlock: str, *mounts: str, filesystem: str = "ext4") -> dict[str, Any]:
    uuid = f"6ce4ef4c-2b2e-4a9b-8f1c-0000000{len(name):05}"
    return {"name": name, "uuid": uuid, "unlock": unlock, "filesystem": filesystem, "mounts": list(mounts)}


VOLUMES = [
    volume("data", "tpm2", "/var/lib/appliance", "/var/log/audit"),
    volume("typed", "console", "/srv/a-b", filesystem="xfs"),
    volume("r", "ssh", "/srv/late"),
]


@pytest.fixture(scope="module")
def tables(role_module: Callable[[str], Any]) -> Any:
    return role_module("disk_encryption/module_utils/appliance_volume_tables.py")


@pytest.fixture(scope="module")
def units(tables: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What systemd makes of the tables at a start."""
    folder = tmp_path_factory.mktemp("start")
    for name in ("normal", "early", "late"):
        (folder / name).mkdir()
    for table in ("crypttab", "fstab"):
        (folder / table).write_text(tables.with_block("", getattr(tables, table)(VOLUMES)))
    for generator, table in (("cryptsetup", "crypttab"), ("fstab", "fstab")):
        subprocess.run(
            [
                GENERATORS / f"systemd-{generator}-generator",
                *(folder / n for n in ("normal", "early", "late")),
            ],
            env={**os.environ, f"SYSTEMD_{table.upper()}": str(folder / table)},
            check=True,
        )
    return folder / "normal"


def text(units: Path, name: str) -> set[str]:
    return set((units / name).read_text().splitlines())


def wanted_by(units: Path, name: str) -> set[str]:
    return {path.parent.name for path in units.glob(f"*/{name}")}


def test_a_volume_of_the_tpm_asks_nobody_and_holds_no_start_up(units: Path) -> None:
    attach = (units / "systemd-cryptsetup@data.service").read_text()
    assert "/dev/disk/by-uuid/6ce4ef4c-2b2e-4a9b-8f1c-000000000004" in attach
    assert "tpm2-device=auto" in attach
    assert "headless=true" in attach
    assert "Before=cryptsetup.target\n" not in attach, "nofail"
    mount = text(units, "mnt-appliance-data.mount")
    assert {"What=/dev/mapper/data", "Type=ext4"} <= mount
    assert {f"{how}=systemd-cryptsetup@data.service" for how in ("Requires", "After")} <= mount
    assert "Before=local-fs.target" not in mount
    for name in ("mnt-appliance-data.mount", "var-lib-appliance.mount", "var-log-audit.mount"):
        assert wanted_by(units, name) == {"local-fs.target.wants"}
    place = text(units, "var-lib-appliance.mount")
    assert {"What=/mnt/appliance/data/var/lib/appliance", "RequiresMountsFor=/mnt/appliance/data"} <= place
    assert any(line.startswith("Options=bind") for line in place)


def test_a_volume_of_the_console_is_waited_for_as_long_as_it_takes(units: Path) -> None:
    attach = text(units, "systemd-cryptsetup@typed.service")
    assert {"TimeoutSec=0", "Before=cryptsetup.target"} <= attach
    assert not any("headless" in line for line in attach)
    assert any("tries=0" in line for line in attach)
    (timeout,) = (units / "dev-mapper-typed.device.d").iterdir()
    assert "JobTimeoutSec=0" in timeout.read_text() or "JobTimeoutSec=infinity" in timeout.read_text()
    for name in ("mnt-appliance-typed.mount", r"srv-a\x2db.mount"):
        assert wanted_by(units, name) == {"local-fs.target.requires"}
        assert "Before=local-fs.target" in text(units, name)


def test_a_volume_that_an_operator_opens_is_nobodys_to_start(units: Path) -> None:
    """It starts by what needs it alone, and fails at once while it is closed: nobody is asked."""
    assert wanted_by(units, "systemd-cryptsetup@r.service") == {"dev-mapper-r.device.requires"}
    assert wanted_by(units, "mnt-appliance-r.mount") == set()
    assert wanted_by(units, "srv-late.mount") == set()
    assert "headless=true" in (units / "systemd-cryptsetup@r.service").read_text()


def test_units_are_called_as_systemd_calls_them(tables: Any, units: Path) -> None:
    for one in VOLUMES:
        for place in (tables.base(one), *one["mounts"]):
            assert (units / tables.unit_of(place)).is_file()
            escaped = subprocess.run(
                ["systemd-escape", "--path", "--suffix=mount", place],
                capture_output=True,
                text=True,
                check=True,
            ).stdout
            assert tables.unit_of(place) == escaped.strip()


@pytest.mark.parametrize(
    "before", ["", "# by hand\nUUID=1 / ext4 defaults 0 1\n", "UUID=1 / ext4 defaults 0 1"]
)
def test_our_lines_come_and_go_and_leave_all_others_as_they_were(tables: Any, before: str) -> None:
    once = tables.with_block(before, ["one", "two"])
    assert once.startswith(before)
    assert tables.with_block(once, ["one", "two"]) == once
    assert tables.with_block(once, ["three"]) == once.replace("one\ntwo", "three")
    assert tables.with_block(once, []).rstrip("\n") == before.rstrip("\n")
    assert tables.with_block(before, []) == before
    after = once + "UUID=2 /srv ext4 defaults 0 2\n"
    assert tables.with_block(after, ["three"]).endswith("UUID=2 /srv ext4 defaults 0 2\n")


def test_a_block_whose_end_is_gone_ends_nobodys_lines(tables: Any) -> None:
    broken = f"{tables.BEGIN}\nours\nUUID=2 /srv ext4 defaults 0 2\n"
    assert "UUID=2 /srv" in tables.with_block(broken, ["three"])


def test_lines_of_somebody_else_are_found_and_ours_and_comments_are_not(tables: Any) -> None:
    text = tables.with_block("# x /srv/late\ndata UUID=9 none\n", ["data UUID=1 none"])
    assert tables.foreign_lines(text, 0, {"data", "x"}) == ["data UUID=9 none"]
    assert tables.foreign_lines(text, 1, {"UUID=1"}) == []


@pytest.mark.parametrize(
    ("place", "told"),
    [
        ("/var/log/audit", True),
        ("/var/log", True),
        ("/var/log/auditor", False),
        ("/var/log/audit/x", False),
    ],
)
def test_auditd_is_told_where_its_log_lies(tables: Any, place: str, told: bool) -> None:
    found = tables.drop_ins([volume("data", "ssh", place)])
    text = found["/etc/systemd/system/auditd.service.d/50-appliance-disks.conf"]
    assert ("RequiresMountsFor=/var/log/audit\n" in text) is told


@pytest.mark.parametrize(("unlock", "held"), [("ssh", True), ("tpm2", False), ("console", False)])
def test_what_an_operator_opens_is_not_even_tried_before(tables: Any, unlock: str, held: bool) -> None:
    found = tables.drop_ins([volume("data", unlock, "/srv/a")])
    text = found["/etc/systemd/system/systemd-cryptsetup@data.service.d/50-appliance-disks.conf"]
    assert ("ConditionPathExists=/dev/mapper/data\n" in text) is held
