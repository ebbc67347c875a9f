"""A machine with a TPM and drives of its own, and the desk from which they are enrolled and unlocked."""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from appliance.lab.drive.keeping import read_state, state_beside
from appliance.lab.drive.pins import opens
from appliance.tcg.uids import C_PIN_SID, PinColumn, admin, pin_of
from tests.node.conftest import run

if TYPE_CHECKING:
    from conftest import Machines

    from tests.node.conftest import Done


@dataclass(frozen=True)
class Vault:
    """The machine, and a folder at the desk: inventory with a recipient, the escrow, files of secrets."""

    machines: Machines
    folder: Path

    @property
    def inventory(self) -> Path:
        return self.folder / "inventory"

    @property
    def escrow(self) -> Path:
        return self.folder / "escrow"

    @property
    def key(self) -> Path:
        """The recipient's own key of age."""
        return self.folder / "safe.key"

    def guest(self, command: str, *, check: bool = True, timeout: float = 300, **more: Any) -> Done:
        """A shell command line on the machine, as root."""
        return self.machines.node.run(command, check=check, timeout=timeout, **more)

    def drive(self, number: int) -> dict[str, Any]:
        """What the label of drive 1, 2 … says, and where its image is."""
        drives: list[dict[str, Any]] = self.machines.node_status()["drives"]
        return drives[number - 1]

    def serial(self, number: int) -> str:
        return str(self.drive(number)["serial"])

    def device(self, number: int) -> str:
        """Its device node on the machine; nvme0n1 is another drive, without encryption."""
        return f"/dev/nvme{number}n1"

    def order(self, number: int, what: str, *arguments: str) -> dict[str, Any]:
        """Order a drive about; its state afterwards."""
        command = ["appliance", "lab", "drive-order", self.machines.node_status()["orders"], what]
        command += [*arguments, "--drive", self.serial(number), "--json"]
        state: dict[str, Any] = json.loads(self.machines.operator.run(command).stdout)
        return state

    def methods(self, number: int) -> list[str]:
        """Every method that a drive was asked for, with its status, since it was made."""
        log = Path(self.machines.node_status()["orders"]).with_name("drives.log")
        mark = f"{self.serial(number)}: "
        return [line.removeprefix(mark) for line in log.read_text().splitlines() if line.startswith(mark)]

    def enroll(
        self, number: int, *options: str, serial: str | None = None
    ) -> tuple[int, dict[str, Any], str]:
        """``appliance disk enroll`` from the desk: exit code, result or error, what was told on the way."""
        psid = self.folder / f"psid{number}"
        psid.touch(mode=0o600)
        psid.write_text(self.drive(number)["psid"])
        command = ["appliance", "disk", "enroll", self.device(number), "-i", str(self.inventory), "--json"]
        command += ["--escrow", str(self.escrow), "--psid-file", str(psid)]
        command += ["--confirm", self.serial(number) if serial is None else serial, *options]
        done = self.machines.operator.run(command, check=False, timeout=900)
        return done.returncode, json.loads(done.stdout), done.stderr

    def status(self) -> dict[str, dict[str, Any]]:
        """``appliance disk status -i`` from the desk: each drive by its serial number."""
        command = ["appliance", "disk", "status", "-i", str(self.inventory), "--json"]
        nodes = json.loads(self.machines.operator.run(command).stdout)["nodes"]
        return {drive["serial"]: drive for drive in nodes[self.machines.node.name]["drives"]}

    def opened(self, number: int, what: str = "passphrase") -> bytes:
        """What ``appliance disk escrow open`` gives back, of the newest keys."""
        out = self.folder / "opened"
        out.unlink(missing_ok=True)
        command = ["appliance", "disk", "escrow", "open", str(self.escrow), self.serial(number)]
        command += ["--what", what, "--identity", str(self.key), "--out", str(out)]
        self.machines.operator.run(command)
        return out.read_bytes()

    def unlock(self, number: int, name: str) -> None:
        """Open a drive's volume on the machine with the passphrase of the escrow."""
        phrase = self.opened(number).decode()
        self.guest(f"cryptsetup open --key-file=- {self.device(number)} {name}", input=phrase)

    def owned_by(self, number: int, pin: str) -> bool:
        """Whether a PIN is that of the drive's owner, and of its administrator if there is one.

        Told by the drive's state and not by trying, so that nothing is counted.
        """
        state = read_state(state_beside(Path(self.drive(number)["image"])))
        assert state is not None
        kept = [state["admin"][C_PIN_SID.hex()]]
        if self.order(number, "status")["active"]:
            kept.append(state["locking"][pin_of(admin(1)).hex()])
        column = str(int(PinColumn.PIN))
        return all(opens(bytes.fromhex(row[column]["bytes"]), pin.encode()) for row in kept)


def furnish(machines: Machines, folder: Path) -> Vault:
    """Make an escrow for a lab's machine, and an inventory that says to whom."""
    vault = Vault(machines, folder)
    vault.escrow.mkdir()
    shutil.copytree(machines.lab.inventory, vault.inventory)
    run(["age-keygen", "-o", str(vault.key)], check=True, timeout=60)
    recipient = run(["age-keygen", "-y", str(vault.key)], check=True, timeout=60).stdout.strip()
    with (vault.inventory / "inventory.yml").open("a") as file:
        file.write(f"escrow:\n  recipients:\n    safe: {recipient}\n")
    return vault
