"""A site of one node that is patched: what its station runs, and what the node says and does then."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tests.node.patches import ASK

if TYPE_CHECKING:
    from pathlib import Path

    from conftest import Installer, PracticeLab

FIRST = "This answer was computed on this node, with no way out."
SECOND = "The second version answers otherwise, from the same node."
UNIT = "/etc/systemd/system/appliance-inference.service"
PENDING = "/var/lib/appliance/switch/pending"


@dataclass
class Site:
    """One node with the demonstration; the patch that leads from it to the next version."""

    installer: Installer
    patch: Path
    root: Path
    digest: str = ""
    base: str = ""
    #: To a version that brings a driver; from that to one with the next driver.
    drivers: tuple[Path, ...] = ()
    #: From the first of these, with the next root's keys, to one that differs from it in that root alone.
    keys: Path | None = None

    @property
    def lab(self) -> PracticeLab:
        return self.installer.lab

    def command(self, *words: str, state: bool = True) -> list[str]:
        known = ["--trust", str(self.root), "--state", str(self.installer.state)] if state else []
        return ["appliance", *words, "-i", str(self.lab.inventory), "--json", *known]

    def run(self, *words: str, state: bool = True) -> tuple[int, Any]:
        done = self.lab.node.operator_side.run(self.command(*words, state=state), check=False, timeout=900)
        return done.returncode, json.loads(done.stdout)

    def apply(self, *options: str, patch: Path | None = None) -> tuple[int, Any]:
        return self.run("patch", "apply", str(patch or self.patch), *options)

    def history(self) -> list[Any]:
        lines: list[Any] = self.run("history", state=False)[1]["nodes"][self.lab.node.name]["history"]
        return lines

    def answer(self) -> str:
        return self.lab.node.inside(f"python3 - <<'E'\n{ASK}\nE").stdout.strip()

    def installed(self) -> str:
        said = json.loads(self.lab.node.inside("cat /var/lib/appliance/installed.json").stdout)
        return str(said["version"])

    def serves(self, digest: str) -> bool:
        """Whether the unit, which is at work, is that of a bundle."""
        look = f"systemctl is-active --quiet appliance-inference && grep -q {digest} {UNIT}"
        return self.lab.node.inside(look, check=False).returncode == 0

    def copy_of(self, digest: str) -> str:
        return f"/var/lib/appliance/staged/{digest}"

    def differences(self) -> int:
        """What an audit finds that is not as it was when the installed version had been proven."""
        return int(self.run("audit", "--state", str(self.installer.state), state=False)[1]["drift"])

    def is_as_before(self) -> bool:
        """The first version serves, says so, and nothing waits or is left over."""
        look = f"test ! -e {PENDING} && test ! -e /etc/systemd/system/appliance-switch.timer"
        clean = self.lab.node.inside(look, check=False).returncode == 0
        return clean and (self.answer(), self.installed()) == (FIRST, "1.0.0")


class cut_off:  # noqa: N801 - used as a word
    """A patch being applied by a station that is killed as soon as the node is in some state."""

    def __init__(self, site: Site, condition: str, *options: str) -> None:
        self.site, self.condition = site, condition
        self.words = site.command("patch", "apply", str(site.patch), *options)

    def __enter__(self) -> None:
        operator = self.site.lab.node.operator_side
        running = operator.start(self.words, start_new_session=True, stdout=subprocess.DEVNULL)
        try:
            wait_for(self.site, self.condition)
        finally:
            os.killpg(running.pid, signal.SIGKILL)
            running.wait(timeout=240)

    def __exit__(self, *_: object) -> None:
        wait_for(self.site, "systemctl is-active --quiet appliance-inference")


def boots(site: Site) -> int:
    """How often the node has started; one less while it starts."""
    node = site.lab.node
    (found,) = node.operator_side.lab_status(node.lab)["nodes"]
    return int(found["boots"]) - (found["state"] != "running")


def wait_for(site: Site, condition: str) -> None:
    until = time.monotonic() + 480
    while site.lab.node.inside(condition, check=False).returncode:
        assert time.monotonic() < until, condition
        time.sleep(0.05)
