"""What tests of simulated drives need: the drives, a machine that is connected to them, and tools."""

from __future__ import annotations

import json
import os
import shlex
import tarfile
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from appliance.lab.recipe import Recipe
from appliance.lab.rootfs import archive_sources
from tests.node.conftest import run

if TYPE_CHECKING:
    import subprocess
    from pathlib import Path

    from conftest import Machines

    from tests.node.conftest import Done, Operator

# With what they need that the machine lacks; all of trixie, as the machine is.
TOOLS = ("keyutils", "libnvme1t64", "nvme-cli", "sedutil", "uuid-runtime")


def fetch_tools(folder: Path) -> Path:
    """A tar archive of Debian's packages of the tools, and of cryptsetup's tests, which its source has."""
    apt = folder / "apt"
    for name in (
        "state/lists/partial",
        "cache/archives/partial",
        "etc/sources.list.d",
        "etc/preferences.d",
    ):
        (apt / name).mkdir(parents=True)
    binary = archive_sources(Recipe())
    sources = "".join(line.replace("deb ", "deb-src ", 1) for line in binary.splitlines(keepends=True))
    (apt / "etc/sources.list").write_text(binary + sources)
    settings = {"State": apt / "state", "Cache": apt / "cache", "Etc": apt / "etc"}
    (apt / "apt.conf").write_text("".join(f'Dir::{key} "{value}";\n' for key, value in settings.items()))
    cargo = folder / "cargo"
    cargo.mkdir()
    environment = {**os.environ, "APT_CONFIG": str(apt / "apt.conf")}
    for what in (["update"], ["download", *TOOLS], ["source", "--download-only", "cryptsetup"]):
        run(["apt-get", "-q", *what], check=True, timeout=600, env=environment, cwd=cargo)
    (source,) = cargo.glob("cryptsetup_*.orig.tar.*")
    with tarfile.open(source) as tar:
        members = [member for member in tar.getmembers() if member.name.split("/")[1:2] == ["tests"]]
        tar.extractall(cargo, members, filter="data")
    for leftover in cargo.glob("cryptsetup_*"):
        leftover.unlink()
    archive = folder / "cargo.tar"
    with tarfile.open(archive, "w") as tar:
        tar.add(cargo, "cargo")
    return archive


@dataclass
class Rack:
    """Drives that are plugged in on the operator's side."""

    desk: Operator
    folder: Path
    process: subprocess.Popen[str]
    address: str
    port: int
    drives: list[dict[str, Any]]

    def order(self, what: str, *arguments: str, drive: int = 0) -> dict[str, Any]:
        """Order a drive about; its state afterwards."""
        command = ["appliance", "lab", "drive-order", str(self.folder / "control"), what, *arguments]
        command += ["--drive", self.drives[drive]["serial"], "--json"]
        state: dict[str, Any] = json.loads(self.desk.run(command).stdout)
        return state


def plug_in(desk: Operator, folder: Path, address: str, *options: str, count: int = 1) -> Rack:
    """Serve new drives at an address of the operator's."""
    command = [
        "appliance",
        "lab",
        "drive",
        "--listen",
        f"{address}:0",
        "--control",
        str(folder / "control"),
    ]
    for number in range(count):
        command += ["--image", str(folder / f"drive{number}.img")]
    log = (folder / "methods.log").open("w")
    process = desk.start([*command, "--methods", "--json", *options], stderr=log)
    text = ""
    assert process.stdout is not None
    for line in process.stdout:
        text += line
        if line == "}\n":
            break
    told = json.loads(text)
    return Rack(desk, folder, process, told["address"], told["port"], told["drives"])


@dataclass
class Guest:
    """A machine with tools, connected to drives."""

    machines: Machines
    rack: Rack

    def run(self, command: str, *, check: bool = True, timeout: float = 300, **more: Any) -> Done:
        """A shell command line on the machine, as root and without a terminal."""
        return self.machines.node.run(command, check=check, timeout=timeout, **more)

    def take(self, archive: Path) -> None:
        """Unpack the tools and install them."""
        shell = ["appliance", "lab", "shell", self.machines.node.name, "--", "tar", "-x", "-C", "/root"]
        with archive.open("rb") as file:
            self.machines.operator.run(shell, stdin=file, timeout=300)
        self.run("DEBIAN_FRONTEND=noninteractive dpkg --install /root/cargo/*.deb", timeout=600)

    def connect(self, drive: int = 0) -> str:
        """Connect to a drive, without any tool; the block device."""
        name = self.rack.drives[drive]["nqn"]
        options = f"transport=tcp,traddr={self.rack.address},trsvcid={self.rack.port},nqn={name}"
        self.run(f"modprobe nvme-tcp && echo {shlex.quote(options)},reconnect_delay=1 >/dev/nvme-fabrics")
        found = self.run(f"grep -lx {shlex.quote(name)} /sys/class/nvme/*/subsysnqn").stdout.split("/")[4]
        device = f"/dev/{found}n1"
        self.run(f"udevadm wait --timeout=300 --settle {device}", timeout=400)
        return device

    def wait_until_live(self, device: str) -> None:
        """The kernel has connected to a drive again, which it tries every second."""
        state = f"/sys/class/nvme/{device[5:-2]}/state"
        self.run(f'until [ "$(cat {state})" = live ]; do sleep 0.2; done', timeout=300)

    def power_cycle(self, device: str, drive: int = 0) -> None:
        """Pull a drive's plug, put it in again, and wait for the kernel to connect again."""
        counter = f"/sys/class/nvme/{device[5:-2]}/state"
        self.rack.order("power-off", drive=drive)
        self.run(f'until [ "$(cat {counter})" != live ]; do sleep 0.2; done', timeout=300)
        self.rack.order("power-on", drive=drive)
        self.wait_until_live(device)
