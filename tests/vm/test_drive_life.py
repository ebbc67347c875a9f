"""Keys of an enrolled drive are changed, and the drive is retired: a real kernel, and cryptsetup itself."""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest

from tests.node.conftest import run

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from conftest import Machines, NewMachines

    from tests.node.conftest import Done

pytestmark = pytest.mark.vm

DEVICE = "/dev/nvme1n1"
OPEN = f"cryptsetup open --key-file=- {DEVICE} life"
MOUNT = "mount /dev/mapper/life /mnt"
BACK = f"udevadm wait --timeout=120 --settle {DEVICE}"
CLOSE = "umount /mnt; cryptsetup close life"


@dataclass(frozen=True)
class Shelf:
    """A machine with one drive, and the folder from which it is dealt with."""

    machines: Machines
    folder: Path

    @property
    def drive(self) -> dict[str, Any]:
        found: dict[str, Any] = self.machines.node_status()["drives"][0]
        return found

    def disk(self, command: str, *options: str, check: bool = True) -> Done:
        """``appliance disk COMMAND`` for the drive, its serial number confirmed."""
        words = ["appliance", "disk", command, DEVICE, "-i", str(self.folder / "inventory"), "--json"]
        words += ["--escrow", str(self.folder / "escrow"), "--confirm", self.drive["serial"], *options]
        return self.machines.operator.run(words, check=check, timeout=600)

    def with_key(self, command: str, *options: str, check: bool = True) -> Done:
        return self.disk(command, "--identity", str(self.folder / "safe.key"), *options, check=check)

    def passphrase(self, generation: int) -> str:
        """What the escrow gives back of a generation."""
        out = self.folder / f"passphrase{generation}"
        words = ["appliance", "disk", "escrow", "open", str(self.folder / "escrow"), self.drive["serial"]]
        words += ["--identity", str(self.folder / "safe.key"), "--generation", str(generation)]
        if not out.exists():
            self.machines.operator.run([*words, "--out", str(out)])
        return out.read_text()

    def order(self, what: str, *arguments: str) -> dict[str, Any]:
        words = ["appliance", "lab", "drive-order", self.machines.node_status()["orders"], what]
        done = self.machines.operator.run([*words, *arguments, "--drive", self.drive["serial"], "--json"])
        state: dict[str, Any] = json.loads(done.stdout)
        return state

    def guest(self, command: str, *, check: bool = True, **more: Any) -> Done:
        return self.machines.node.run(command, check=check, timeout=300, **more)

    def opens(self, generation: int) -> bool:
        command = f"cryptsetup open --test-passphrase --key-file=- {DEVICE}"
        return self.guest(command, check=False, input=self.passphrase(generation)).returncode == 0


@pytest.fixture(scope="module")
def shelf(new_machines: NewMachines, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shelf]:
    """The drive is enrolled, and a file lies on it."""
    folder = tmp_path_factory.mktemp("shelf")
    with new_machines("--drives", "1") as machines:
        (folder / "escrow").mkdir()
        (folder / "report").mkdir()
        shutil.copytree(machines.lab.inventory, folder / "inventory")
        run(["age-keygen", "-o", str(folder / "safe.key")], check=True, timeout=60)
        told = run(["age-keygen", "-y", str(folder / "safe.key")], check=True, timeout=60)
        with (folder / "inventory/inventory.yml").open("a") as file:
            file.write(f"escrow:\n  recipients:\n    safe: {told.stdout.strip()}\n")
        found = Shelf(machines, folder)
        (folder / "psid").touch(0o600)
        (folder / "psid").write_text(found.drive["psid"])
        found.disk("enroll", "--psid-file", str(folder / "psid"))
        found.guest(f"{OPEN} && mkfs.ext4 -q /dev/mapper/life && {MOUNT}", input=found.passphrase(1))
        found.guest("head -c 4194304 /dev/urandom >/mnt/data && sync && sha256sum </mnt/data >/root/sum")
        yield found


SAME = "sha256sum </mnt/data | cmp - /root/sum"


def test_power_fails_half_way_and_the_next_run_ends_it_in_use(shelf: Shelf) -> None:
    """When the owner has the PIN that everybody can read, which is as far from settled as it gets."""
    shelf.guest(CLOSE)
    shelf.order("cut-power", "after=36")
    failed = shelf.with_key("rotate", check=False)
    assert failed.returncode == 7, failed.stdout
    shelf.guest(BACK)
    stands = json.loads(shelf.disk("rotate", "--look").stdout)
    assert (stands["administrator"]["keys"], stands["owner"], stands["passphrases"]) == (2, None, [1])
    shelf.guest(f"{OPEN} && {MOUNT}", input=shelf.passphrase(1))
    done = json.loads(shelf.with_key("rotate").stdout)
    assert (done["passphrases"], done["owner"]) == ([2], 2)
    assert done["administrator"] == {"keys": 2, "name": "Admin1"}
    shelf.guest(SAME)
    shelf.guest(CLOSE)
    assert not shelf.opens(1)


def test_a_retired_drive_is_shown_to_be_erased(shelf: Shelf, tmp_path: Path) -> None:
    """Locked before, and opened to be read by its administrator."""
    key = str(tmp_path / "ana")
    run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", key], check=True, timeout=60)
    report = ["--report", str(shelf.folder / "report"), "--by", "A. Engineer", "--key", key]
    shelf.guest(f"{OPEN} && {MOUNT} && {SAME}", input=shelf.passphrase(2))
    refused = shelf.with_key("retire", *report, check=False)
    assert (refused.returncode, json.loads(refused.stdout)["error"]) == (5, "DriveUnsuitable")
    shelf.guest(CLOSE)
    assert shelf.guest(
        f"dd if={DEVICE} of=/dev/null bs=1M skip=32 count=1 iflag=direct", check=False
    ).returncode
    done = json.loads(shelf.with_key("retire", *report).stdout)
    found = done["verification"]
    assert (found["result"], found["unchanged"], found["unreadable_before"]) == ("verified", 0, 0)
    assert found["changed"] > 20, found
    assert [one["range"] for one in found["ranges"]] == [0, 1]
    words = ["appliance", "disk", "certificate", done["certificate"], "--key", f"{key}.pub"]
    assert "CERTIFICATE OF SANITIZATION" in shelf.machines.operator.run(words).stdout
    assert shelf.order("status")["owned"] is False
    assert shelf.guest(f"cryptsetup isLuks {DEVICE}", check=False).returncode == 1
