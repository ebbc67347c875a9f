"""What roles set on a node beside our services: kept, and made to count again as it was.

Runs on the node's own Python (3.10 or later, standard library only), as a part of ``switch``.

The files are kept and put back together with those that our services run by (``saved_version``); here is
what follows of them, in this order: the kernel's settings, units of packages, what reads its files again,
and the network with packet filter and SSH server, which has an order of its own.  As the node starts, only
what nothing has read yet is put back; the rest, once systemd is up (``waits``).
"""

from __future__ import annotations

import fnmatch
import glob
import os
import shutil
import stat
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Any

from appliance.node.remote.kernel_modules import KernelModules
from appliance.node.remote.network_back import Network
from appliance.node.remote.other_units import OtherUnits
from appliance.node.remote.policy_places import KERNEL, MODES
from appliance.node.remote.saved_version import is_policy
from appliance.node.remote.switch_units import systemctl

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

NETWORK = "network"
ASIDE = "var/lib/appliance/replaced"
#: What reads a changed file again: a test that tells whether it is to, and the command.  An early system in
#: memory has its own copy of modprobe's settings; it is last, since it takes its time.
FOLLOWS: tuple[tuple[str, tuple[str, ...], tuple[str, ...]], ...] = (
    (
        "etc/systemd/system/tmp.mount.d/*",
        ("systemctl", "is-active", "--quiet", "tmp.mount"),
        ("systemctl", "reload", "tmp.mount"),
    ),
    (
        "etc/audit/rules.d/*",
        ("systemctl", "is-active", "--quiet", "auditd.service"),
        ("augenrules", "--load"),
    ),
    (
        "etc/chrony/*",
        ("systemctl", "is-active", "--quiet", "chrony.service"),
        ("systemctl", "restart", "chrony.service"),
    ),
    (
        "etc/linuxptp/*",
        ("systemctl", "is-active", "--quiet", "appliance-ptp4l.service"),
        ("systemctl", "restart", "appliance-ptp4l.service", "appliance-phc2sys.service"),
    ),
    (
        "etc/modprobe.d/*",
        ("test", "-x", "/usr/sbin/update-initramfs"),
        ("update-initramfs", "-u", "-k", "all"),
    ),
)


class PolicyError(Exception):
    """The node does not say how it is, or cannot keep it; so there would be no way back."""


class HostPolicy:
    """What roles set below a root."""

    def __init__(
        self,
        root: str = "/",
        control: Callable[..., tuple[int, str]] = systemctl,
        network: Network | None = None,
        units: OtherUnits | None = None,
    ) -> None:
        self.root, self.network = root, network or Network(root)
        self.units = units or OtherUnits(control, apart=self.network.units())
        self.modules = KernelModules(root)

    def keep(self, folder: str) -> dict[str, Any]:
        """Keep what is no file of ``saved_version`` in its folder; what else is to be remembered.

        Raises:
            PolicyError: saying what the node does not.
        """
        try:
            self.network.keep(Path(folder, NETWORK))
            values = {"units": self.units.keep(), "kernel": self.kernel(), "modes": self.modes()}
            return {"policy": {**values, "modules": self.modules.keep(), "aside": self.aside()}}
        except (OSError, ValueError) as fault:
            raise PolicyError(f"what roles have set cannot be kept: {fault}") from fault

    def keep_room(self, folder: str) -> None:
        """Room for what is kept here, once more."""
        self.network.keep_room(Path(folder, NETWORK))

    def undo_unconfirmed(self) -> list[str]:
        """Before any file goes back: what only its own program knows how to undo."""
        return self.network.undo_unconfirmed()

    def put_back_for_boot(self, folder: str, armed: dict[str, Any], changed: Iterable[str]) -> bool:
        """What is read as the node starts; whether there is more to do once systemd is up."""
        if (policy := armed.get("policy")) is None:
            return False
        try:
            names = self._units_back(policy, starting=True)
            moved = self.network.put_back_for_boot(Path(folder, NETWORK)) or bool(names)
        except OSError:  # systemd does not answer yet: what is left to do shows once it does
            moved = True
        return moved or any(is_policy(path) for path in changed)

    def put_back(self, folder: str, armed: dict[str, Any], changed: Iterable[str]) -> list[str]:
        """Have all of it count on a running node, by files of which some were ``changed`` back.

        Returns what is not as it was, in words.  Of a record that was damaged, what is there is put back.
        """
        if (policy := armed.get("policy")) is None:
            return []
        ill = [*self.kernel_back(policy.get("kernel", {})), *self.modes_back(policy.get("modes", {}))]
        ill += self.modules.stay(policy.get("modules"))
        try:
            self._units_back(policy, starting=False)
            left = self.units.differ(policy["units"]) if "units" in policy else []
            ill += [f"{name} is not turned on or off as before" for name in left]
        except OSError as fault:
            ill.append(f"units of packages stay as they are: {fault}")
        network = self.network.put_back(Path(folder, NETWORK))
        if not network and "aside" in policy:  # what was put aside since is in its place again
            for name in set(self.aside()) - set(policy["aside"]):
                shutil.rmtree(os.path.join(self.root, ASIDE, name), ignore_errors=True)
        return [*ill, *network, *follow(changed)]

    def _units_back(self, policy: dict[str, Any], *, starting: bool) -> list[str]:
        """Units of packages; those that were not as before."""
        if "units" not in policy:
            return []
        names = self.units.differ(policy["units"])
        self.units.put_back(policy["units"], names, starting=starting)
        return names

    def aside(self) -> list[str]:
        """Folders of network settings that the role network_isolation has put aside."""
        return sorted(glob.glob("*", root_dir=os.path.join(self.root, ASIDE)))

    def setting(self, name: str) -> Path:
        return Path(self.root, "proc/sys", *name.split("."))

    def kernel(self) -> dict[str, str]:
        """The settings of ``KERNEL`` that this kernel has and a node of its own may set."""
        found = {}
        for name in KERNEL:
            place = self.setting(name)
            if place.exists() and not os.statvfs(place).f_flag & os.ST_RDONLY:
                found[name] = place.read_text(errors="surrogateescape").strip()
        return found

    def kernel_back(self, before: dict[str, str]) -> list[str]:
        """Set them; the kernel lets some of them be changed in one direction only."""
        ill = []
        for name, value in before.items():
            place = self.setting(name)
            try:
                if place.read_text(errors="surrogateescape").strip() != value:
                    place.write_text(value, errors="surrogateescape")
            except OSError:
                ill.append(f"{name} is not {value} again before the next start")
        return ill

    def modes(self) -> dict[str, int]:
        """Modes of scripts that are packages' and that roles may silence; a link may lead nowhere."""
        found = {}
        for path in sorted(path for each in MODES for path in glob.glob(each, root_dir=self.root)):
            place = os.path.join(self.root, path)
            if os.path.isfile(place):
                found[path] = stat.S_IMODE(os.stat(place).st_mode)
        return found

    def modes_back(self, before: dict[str, int]) -> list[str]:
        """Set them, of scripts that are there still; what cannot be set."""
        ill, now = [], self.modes()
        for path, mode in before.items():
            try:
                if now.get(path, mode) != mode:
                    os.chmod(os.path.join(self.root, path), mode)
            except OSError as fault:
                ill.append(f"/{path} has not the mode {mode:04o} again: {fault.strerror}")
        return ill


def follow(changed: Iterable[str]) -> list[str]:
    """Have programs read again what was changed, each once; what went wrong."""
    ill, paths = [], list(changed)
    for pattern, test, command in FOLLOWS:
        if not any(fnmatch.fnmatchcase(path, pattern) for path in paths) or _run(test)[0]:
            continue
        status, complaint = _run(command)
        if status:
            ill.append(f"{' '.join(command)} ended with {status}: {complaint}")
    return ill


def _run(command: tuple[str, ...]) -> tuple[int, str]:
    """Exit status, and the end of what it says."""
    try:
        done = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            check=False,
        )
    except OSError as fault:
        return 127, str(fault)
    return done.returncode, (done.stderr or done.stdout).strip()[-200:]
