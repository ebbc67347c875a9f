"""Says what a node is, before anything is changed: one JSON object on standard output.

Runs on the node's own Python (3.10 or later, standard library only).  Reads; changes nothing.
"""

from __future__ import annotations

import fcntl
import glob
import json
import os
import platform
import re
import subprocess
import sys
import time
from typing import Any

HOME = "/var/lib/appliance"
BOOT = "/boot"
#: Where roles unpack programs, in a folder named by the first digits of the bundle's digest.
PROGRAMS = "/opt/appliance/*/"
LOCKS = (
    "/var/lib/dpkg/lock-frontend",
    "/var/lib/dpkg/lock",
    "/var/lib/apt/lists/lock",
    "/var/cache/apt/archives/lock",
)


#: Packages whose presence decides whether network and firewall can be configured at all; kernels, and
#: what is built for each of them.
PACKAGES = (
    *("auditd", "netplan.io", "ufw", "nftables"),
    *("linux-image-*", "linux-modules-nvidia-*", "*-dkms", "nvidia-dkms-*"),
)
#: Units that load a packet filter of their own, and would undo ufw's or be undone by it.
FILTER_UNITS = ("nftables.service", "netfilter-persistent.service", "firewalld.service", "docker.service")
#: Where netplan reads its files, weakest first; each name counts once (netplan(5)).
NETPLAN = ("/usr/lib/netplan", "/lib/netplan", "/etc/netplan", "/run/netplan")
MODULES = {"bond": "bonding", "vlan": "8021q"}
#: Is there where the kernel has bpf(2).
BPF = "/proc/sys/kernel/unprivileged_bpf_disabled"
#: What `appliance export line up` says of a card that it has moved into its namespace.
EXPORT_LINE = "/run/appliance-export-line/raised.json"
MODULE_LOCK = "/proc/sys/kernel/modules_disabled"
#: How a BMC's management controller shows itself on the host: IPMI devices, and a network card on USB.
BMC_DEVICES = ("/dev/ipmi[0-9]*", "/dev/ipmi/[0-9]*", "/dev/ipmidev/[0-9]*")
USB_DRIVERS = frozenset({"cdc_ether", "cdc_ncm", "cdc_subset", "rndis_host", "cdc_eem"})
#: Kinds of link that borrow the address of a card; a veth has one of its own.
BORROWERS = frozenset({"bond", "vlan", "bridge", "macvlan"})
#: A file a person writes is no longer.
LONGEST = 256 * 1024


def os_release() -> dict[str, str]:
    """Fields of os-release(5)."""
    for path in ("/etc/os-release", "/usr/lib/os-release"):
        try:
            with open(path, encoding="utf-8") as stream:
                pairs = [line.rstrip("\n").partition("=") for line in stream if "=" in line]
                return {key: value.strip("\"'") for key, _, value in pairs}
        except OSError:
            continue
    return {}


def output(*command: str) -> str:
    """What a program prints; empty when it cannot be run."""
    try:
        return subprocess.run(
            command, capture_output=True, text=True, check=False, timeout=20
        ).stdout.strip()
    except (OSError, subprocess.TimeoutExpired):
        return ""


def free_bytes(path: str) -> int:
    """Bytes free where ``path`` is or would be."""
    disk = os.statvfs(existing(path))
    return disk.f_bavail * disk.f_frsize


def existing(path: str) -> str:
    """The folder that ``path`` is, or the nearest one above it that there is."""
    while not os.path.isdir(path):
        path = os.path.dirname(path)
    return path


def bytes_below(path: str) -> int:
    """Bytes of all files in a folder; 0 when there is none."""
    return sum(
        os.lstat(os.path.join(folder, name)).st_size for folder, _, names in os.walk(path) for name in names
    )


def boot() -> dict[str, Any]:
    """Room below ``/boot``, and what the largest initramfs there and the largest kernel take.

    ``apart``: whether it is a file system of its own, and not the one that bundles lie on.
    """

    def largest(start: str) -> int:
        sizes = [os.lstat(path).st_size for path in glob.glob(f"{BOOT}/{start}-*")]
        return max(sizes, default=0)

    return {
        "free": free_bytes(BOOT),
        "apart": os.stat(BOOT).st_dev != os.stat(existing(HOME)).st_dev if os.path.isdir(BOOT) else False,
        "initramfs": largest("initrd.img"),
        "kernel": sum(map(largest, ("vmlinuz", "System.map", "config"))),
    }


def interfaces() -> list[dict[str, Any]]:
    """Network interfaces: MAC address, PCI address, largest packet, whether a device stands behind."""
    found = []
    details = links()
    for name in sorted(os.listdir("/sys/class/net")):
        path = f"/sys/class/net/{name}"
        mac = text_of(f"{path}/bonding_slave/perm_hwaddr") or text_of(f"{path}/address")
        if mac is None:
            continue
        device = os.path.realpath(f"{path}/device") if os.path.exists(f"{path}/device") else ""
        link = details.get(name, {})
        kind = link.get("linkinfo", {}).get("info_kind", "")
        found.append(
            {
                "name": name,
                "mac": (link.get("permaddr") or mac).lower(),
                "pci": pci_address(device),
                "hardware": bool(device),
                "made": kind if kind in BORROWERS else "",
                "max_mtu": link.get("max_mtu", 0),
                "driver": os.path.basename(os.path.realpath(f"{path}/device/driver")) if device else "",
            }
        )
    return found


def links() -> dict[str, dict[str, Any]]:
    """What iproute2 knows of each interface; nothing where it is not installed."""
    try:
        return {
            entry["ifname"]: entry
            for entry in json.loads(output("ip", "-json", "-details", "link") or "[]")
        }
    except (ValueError, KeyError):
        return {}


def pci_address(path: str) -> str:
    """The PCI function that a sysfs path leads to; empty where it is none, or a device on USB."""
    found = re.findall(r"/([0-9a-f]{4}:[0-9a-f]{2}:[01][0-9a-f]\.[0-7])(?=/|$)", path)
    return found[-1] if found and "/usb" not in path else ""


def mounts() -> list[str]:
    """Places where something is mounted (proc_pid_mountinfo(5))."""
    return [line.split(" ")[4] for line in (text_of("/proc/self/mountinfo") or "").splitlines()]


def text_of(path: str) -> str | None:
    """A short file's text without the end of its line; None when it cannot be read."""
    try:
        with open(path, encoding="utf-8", errors="replace") as stream:
            return stream.read(LONGEST).strip()
    except OSError:
        return None


def netplan_files() -> dict[str, str]:
    """Text of every netplan file by path; a file hides others of its name that count less."""
    found: dict[str, str] = {}
    for folder in NETPLAN:
        if os.path.islink(folder.rpartition("/")[0]):  # /lib is /usr/lib
            continue
        for path in sorted(glob.glob(f"{folder}/*.yaml")):
            name = os.path.basename(path)
            found = {other: text for other, text in found.items() if os.path.basename(other) != name}
            found[path] = text_of(path) or ""
    return found


def packages() -> dict[str, str]:
    """Versions of the installed ones among PACKAGES."""
    lines = output(
        "dpkg-query", "--show", "--showformat=${db:Status-Status} ${Package} ${Version}\\n", *PACKAGES
    )
    words = [line.split() for line in lines.splitlines() if line.startswith("installed ")]
    return {name: version for _, name, version in words}


def filter_units() -> dict[str, str]:
    """Units that filter packets besides ufw, ``{unit: "enabled active"}``; only those that are on."""
    states = {}
    shown = output("systemctl", "show", "--property=Id,ActiveState,UnitFileState", *FILTER_UNITS)
    for block in shown.split("\n\n"):
        fields = dict(line.split("=", 1) for line in block.splitlines() if "=" in line)
        words = [fields.get(key, "") for key in ("UnitFileState", "ActiveState")]
        on = [word for word in words if word in {"enabled", "active"}]
        if on:
            states[fields["Id"]] = " ".join(on)
    return states


def modules() -> dict[str, bool]:
    """Whether the kernel can make bonds and VLANs; what modprobe knows of is of no use to a locked one."""
    locked = text_of(MODULE_LOCK) == "1"
    found = {}
    for kind, name in MODULES.items():
        there = os.path.isdir(f"/sys/module/{name}")
        found[kind] = there or (not locked and status("modprobe", "--dry-run", "--quiet", name) == 0)
    return found


def status(*command: str) -> int:
    """Exit status of a program; 127 when it cannot be run."""
    try:
        return subprocess.run(command, capture_output=True, check=False, timeout=20).returncode
    except (OSError, subprocess.TimeoutExpired):
        return 127


def bmc() -> list[str]:
    """Ways from this host to its management controller."""
    found = sorted(path for pattern in BMC_DEVICES for path in glob.glob(pattern))
    return found + [
        f"network card {each['name']}" for each in interfaces() if each["driver"] in USB_DRIVERS
    ]


def held_locks() -> list[str]:
    """Package locks that somebody holds.  Only root can tell."""
    held = []
    for path in LOCKS:
        try:
            with open(path, "rb+") as stream:
                fcntl.lockf(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except (BlockingIOError, PermissionError) as fault:
            if isinstance(fault, BlockingIOError) or os.geteuid() == 0:
                held.append(path)
        except OSError:
            continue
    return held


def json_file(path: str) -> Any:
    """A JSON file's content; None when there is none that can be read."""
    try:
        with open(path, encoding="utf-8") as stream:
            return json.load(stream)
    except (OSError, ValueError):
        return None


def facts(connection: str, digest: str) -> dict[str, Any]:
    """Everything preflight looks at; ``connection`` is SSH_CONNECTION, ``digest`` the bundle's identity."""
    release = os_release()
    staged = f"{HOME}/staged/{digest}"
    return {
        "uid": os.geteuid(),
        "user": os.environ.get("SUDO_USER") or os.environ.get("USER") or str(os.geteuid()),
        "python": list(sys.version_info[:3]),
        "executable": sys.executable,
        "distribution": release.get("ID", ""),
        "suite": release.get("VERSION_CODENAME", ""),
        "architecture": output("dpkg", "--print-architecture") or platform.machine(),
        "free": free_bytes(HOME),
        "boot": boot(),
        "staged": bytes_below(staged) + bytes_below(f"{staged}.incoming"),
        "unpacked": sum(map(bytes_below, glob.glob(f"{PROGRAMS}{digest[:12]}"))),
        "systemd": output("systemctl", "is-system-running") if os.path.isdir("/run/systemd/system") else "",
        "time": time.time(),
        "interfaces": interfaces(),
        "netplan": netplan_files(),
        "packages": packages(),
        "filter_units": filter_units(),
        "modules": modules(),
        "bpf": os.path.exists(BPF),
        "export_line": json_file(EXPORT_LINE),
        "bmc": bmc(),
        "mounts": mounts(),
        "connection": connection.split(),
        "locks": held_locks(),
        "installed": json_file(f"{HOME}/installed.json"),
        "reverted": json_file(f"{HOME}/revert/fired.json"),
    }


print(json.dumps(facts(sys.argv[1], sys.stdin.readline().strip())))
