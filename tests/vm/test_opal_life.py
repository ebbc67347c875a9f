"""Keys of an enrolled drive are changed, and the drive is retired: a real kernel, and cryptsetup itself."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from tests.node.conftest import run
from tests.vm.vault import furnish

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from conftest import NewMachines

    from tests.node.conftest import Done
    from tests.vm.vault import Vault

pytestmark = pytest.mark.vm

DRIVE = 1
SAME = "sha256sum </mnt/data | cmp - /root/sum"
MOUNT = "mount /dev/mapper/life /mnt"
CLOSE = "umount /mnt && cryptsetup close life"


def disk(vault: Vault, command: str, *options: str, check: bool = True) -> Done:
    """``appliance disk COMMAND`` for the drive, its serial number confirmed."""
    words = ["appliance", "disk", command, vault.device(DRIVE), "-i", str(vault.inventory), "--json"]
    words += ["--escrow", str(vault.escrow), "--confirm", vault.serial(DRIVE), *options]
    return vault.machines.operator.run(words, check=check, timeout=900)


@pytest.fixture(scope="module")
def vault(new_machines: NewMachines, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Vault]:
    """The drive is enrolled, and a file lies on it."""
    with new_machines("--drives", "1") as machines:
        made = furnish(machines, tmp_path_factory.mktemp("vault"))
        code, said, told = made.enroll(DRIVE)
        assert code == 0, (said, told)
        made.unlock(DRIVE, "life")
        made.guest(f"mkfs.ext4 -q /dev/mapper/life && {MOUNT}")
        made.guest("head -c 4194304 /dev/urandom >/mnt/data && sync && sha256sum </mnt/data >/root/sum")
        made.guest(CLOSE)
        yield made


def test_power_fails_half_way_and_the_next_run_ends_it_in_use(vault: Vault) -> None:
    """When the owner has the PIN that everybody can read, which is as far from settled as it gets."""
    key, device, old = ("--identity", str(vault.key)), vault.device(DRIVE), vault.opened(DRIVE).decode()
    vault.order(DRIVE, "cut-power", "after=36")
    failed = disk(vault, "rotate", *key, check=False)
    assert failed.returncode == 7, failed.stdout
    vault.guest(f"udevadm wait --timeout=300 --settle {device}", timeout=400)
    stands = json.loads(disk(vault, "rotate", "--look").stdout)
    assert (stands["administrator"]["keys"], stands["owner"], stands["passphrases"]) == (2, None, [1])
    vault.guest(f"cryptsetup open --key-file=- {device} life && {MOUNT}", input=old)
    done = json.loads(disk(vault, "rotate", *key).stdout)
    assert (done["passphrases"], done["owner"]) == ([2], 2)
    assert done["administrator"] == {"keys": 2, "name": "Admin1"}
    assert vault.owned_by(DRIVE, vault.opened(DRIVE, "admin-pin").decode())
    vault.guest(f"{SAME} && {CLOSE}")
    tried = vault.guest(f"cryptsetup open --test-passphrase --key-file=- {device}", check=False, input=old)
    assert tried.returncode == 2


def test_a_retired_drive_is_shown_to_be_erased(vault: Vault, tmp_path: Path) -> None:
    """Locked before, and opened to be read by its administrator."""
    key = str(tmp_path / "ana")
    run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", key], check=True, timeout=60)
    (tmp_path / "report").mkdir()
    retire = ["--identity", str(vault.key), "--report", str(tmp_path / "report"), "--key", key]
    retire += ["--by", "A. Engineer"]
    vault.unlock(DRIVE, "life")
    vault.guest(f"{MOUNT} && {SAME}")
    refused = disk(vault, "retire", *retire, check=False)
    assert (refused.returncode, json.loads(refused.stdout)["error"]) == (5, "DriveUnsuitable")
    vault.guest(CLOSE)
    locked = f"dd if={vault.device(DRIVE)} of=/dev/null bs=1M skip=32 count=1 iflag=direct"
    assert vault.guest(locked, check=False).returncode != 0
    done = json.loads(disk(vault, "retire", *retire).stdout)
    found = done["verification"]
    assert (found["result"], found["unchanged"], found["unreadable_before"]) == ("verified", 0, 0)
    assert found["changed"] > 20, found
    assert [one["range"] for one in found["ranges"]] == [0, 1]
    words = ["appliance", "disk", "certificate", done["certificate"], "--key", f"{key}.pub"]
    assert "CERTIFICATE OF SANITIZATION" in vault.machines.operator.run(words).stdout
    assert vault.order(DRIVE, "status")["owned"] is False
    assert vault.guest(f"cryptsetup isLuks {vault.device(DRIVE)}", check=False).returncode == 1
