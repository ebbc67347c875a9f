"""Says what a node is, before anything is changed: one JSON object on standard output.

Runs on the node's own Python (3.10 or later, standard library only).  Reads; changes nothing.
"""

from __future__ import annotations

import fcntl
import json
import os
import platform
import subprocess
import sys
import time
from typing import Any

HOME = "/var/lib/appliance"
LOCKS = (
    "/var/lib/dpkg/lock-frontend",
    "/var/lib/dpkg/lock",
    "/var/lib/apt/lists/lock",
    "/var/cache/apt/archives/lock",
)


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
    while not os.path.isdir(path):
        path = os.path.dirname(path)
    disk = os.statvfs(path)
    return disk.f_bavail * disk.f_frsize


def bytes_below(path: str) -> int:
    """Bytes of all files in a folder; 0 when there is none."""
    return sum(
        os.lstat(os.path.join(folder, name)).st_size for folder, _, names in os.walk(path) for name in names
    )


def interfaces() -> list[dict[str, str]]:
    """Network interfaces with their MAC addresses."""
    found = []
    for name in sorted(os.listdir("/sys/class/net")):
        try:
            with open(f"/sys/class/net/{name}/address", encoding="ascii") as stream:
                found.append({"name": name, "mac": stream.read().strip().lower()})
        except OSError:
            continue
    return found


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
        "staged": bytes_below(staged) + bytes_below(f"{staged}.incoming"),
        "systemd": output("systemctl", "is-system-running") if os.path.isdir("/run/systemd/system") else "",
        "time": time.time(),
        "interfaces": interfaces(),
        "connection": connection.split(),
        "locks": held_locks(),
        "installed": json_file(f"{HOME}/installed.json"),
        "reverted": json_file(f"{HOME}/revert/fired.json"),
    }


print(json.dumps(facts(sys.argv[1], sys.stdin.readline().strip())))
