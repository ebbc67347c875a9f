"""What an audit's program tells of a node besides its files, from tables as the kernel has them."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

import pytest

from appliance.node.remote import host_state

if TYPE_CHECKING:
    from pathlib import Path


def test_accounts_and_groups_are_told_and_no_secret_is(tmp_path: Path) -> None:
    secret = "$y$j9T$salt$hash"  # noqa: S105 - nobody's
    (tmp_path / "passwd").write_text(
        "root:x:0:0:root:/root:/bin/bash\nalice:x:1000:1000:A:/home/a:/bin/sh\n+::::::x:y\n"
    )
    (tmp_path / "shadow").write_text(f"root:*:19000:0:99999:7:::\nalice:{secret}:19000:0:99999:7:::\n")
    (tmp_path / "group").write_text("sudo:x:27:alice,bob\nempty:x:28:\n")
    found = host_state.users(str(tmp_path))
    digest = hashlib.sha256(secret.encode()).hexdigest()[:16]
    assert found == {
        "root": "uid 0, gid 0, home /root, shell /bin/bash, no password",
        "alice": f"uid 1000, gid 1000, home /home/a, shell /bin/sh, password {digest}",
        "the line +::::::x:y": "in passwd",
        "group sudo": "gid 27, members alice bob",
        "group empty": "gid 28, members none",
    }
    assert secret not in str(found)


@pytest.mark.parametrize(
    ("field", "told"),
    [("", "empty password"), ("*", "no password"), ("!*", "no password"), ("!$y$a", "locked password ")],
)
def test_what_stands_for_a_password_is_told_in_words(field: str, told: str) -> None:
    assert host_state.password(field).startswith(told)


def test_another_password_is_another_description() -> None:
    assert host_state.password("$y$a") != host_state.password("$y$b")


MOUNTS = """\
22 1 0:20 / / rw,relatime shared:1 - ext4 /dev/nvme0n1p2 rw,errors=remount-ro
30 22 0:25 /sub /srv/data ro,nosuid - ext4 /dev/nvme0n1p3 rw
31 22 0:26 / /run/user/0 rw - tmpfs tmpfs rw,size=1k
32 22 0:27 / /run/credentials/x.service ro - ramfs none rw
33 22 0:28 / /srv/data rw,noexec - tmpfs tmpfs rw,size=9k
34 22 0:29 /.#kmsg123//deleted /proc/kmsg rw - tmpfs tmpfs rw
"""


def test_mounts_are_told_by_place_but_those_of_logins(tmp_path: Path) -> None:
    (tmp_path / "mounts").write_text(MOUNTS)
    (tmp_path / "swaps").write_text("Filename Type Size Used Priority\n/dev/nvme0n1p4 partition 1 0 -2\n")
    assert host_state.mounts(str(tmp_path / "mounts"), str(tmp_path / "swaps")) == {
        "/": "ext4, of /dev/nvme0n1p2, writable",
        "/srv/data": "ext4, of /dev/nvme0n1p3, part /sub, read-only nosuid; "
        "above it tmpfs, of tmpfs, writable noexec",
        "/proc/kmsg": "tmpfs, of tmpfs, part of a file that is gone, writable",
        "swap /dev/nvme0n1p4": "partition",
    }


def test_modules_are_told_by_name(tmp_path: Path) -> None:
    (tmp_path / "modules").write_text("nvme 65536 2 - Live 0x0\next4 1 1 - Live 0x0\n")
    assert host_state.modules(str(tmp_path / "modules")) == {"nvme": "loaded", "ext4": "loaded"}


def drive(folder: Path, name: str, size: int, **texts: str) -> None:
    (folder / name / "device").mkdir(parents=True)
    (folder / name / "size").write_text(f"{size}\n")
    for path, text in texts.items():
        (folder / name / path.replace("__", "/")).write_text(f"{text}\n")


def test_drives_are_told_by_model_and_serial_number_whatever_their_name(tmp_path: Path) -> None:
    drive(tmp_path, "nvme0n1", 16, device__model="Maker X   ", device__serial=" S1 ", removable="0")
    drive(tmp_path, "sda", 8, device__model="Stick", removable="1")
    (tmp_path / "sda/device/vpd_pg80").write_bytes(b"\0\x80\0\x04 AB1")
    drive(tmp_path, "vda", 4, wwid="eui.1")
    drive(tmp_path, "vdb", 4)
    (tmp_path / "loop0").mkdir()
    found = host_state.drives(str(tmp_path))
    assert found == {
        "Maker X, serial S1": "8192 bytes, fixed",
        "Stick, serial AB1": "4096 bytes, removable",
        "eui.1": "2048 bytes, fixed",
        "vdb": "2048 bytes, fixed",
    }
    (tmp_path / "nvme0n1").rename(tmp_path / "nvme3n1")
    assert host_state.drives(str(tmp_path)) == found


def test_two_drives_of_one_name_are_both_told(tmp_path: Path) -> None:
    for name in ("sda", "sdb", "sdc"):
        drive(tmp_path, name, 8, device__model="Same")
    assert list(host_state.drives(str(tmp_path))) == ["Same", "Same (2)", "Same (3)"]


def test_the_running_kernel_is_told() -> None:
    found = host_state.kernel()
    assert {"release", "version", "command line"} <= found.keys()
    assert all(found.values())
