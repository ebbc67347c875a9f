"""What a node is besides its files: accounts, packages, mounts, kernel, modules, drives.

Runs on the node's own Python (3.10 or later, standard library only).  Reads; changes nothing.  Every part
is ``{what: how it is}``, so that two moments can be compared entry by entry.  No password leaves the node,
nor what stands for it in /etc/shadow: only a digest, which tells that it was changed.
"""

from __future__ import annotations

import hashlib
import os
import subprocess

SECTOR = 512
#: Mounts that come and go with logins, and with whatever asks for them.
PASSING = ("/run/user/", "/run/credentials/", "/run/netns", "/proc/sys/fs/binfmt_misc")
#: How the kernel marks a mount of something that was removed since; its name was a random one.
GONE = "//deleted"
#: A file under /proc or /sys is no longer.
LONGEST = 4 * 1024 * 1024


def text_of(path: str) -> str:
    """A short file's text without the end of its line; empty when it cannot be read."""
    try:
        with open(path, encoding="utf-8", errors="surrogateescape") as stream:
            return stream.read(LONGEST).strip()
    except OSError:
        return ""


def output(*command: str) -> str:
    """What a program prints; empty when it cannot be run."""
    try:
        done = subprocess.run(command, capture_output=True, check=False, timeout=60)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.decode("utf-8", "surrogateescape")


def users(folder: str = "/etc") -> dict[str, str]:
    """Accounts and groups, from the files alone."""
    found: dict[str, str] = {}
    secrets = {}
    for line in text_of(f"{folder}/shadow").splitlines():
        name, _, rest = line.partition(":")
        secrets[name] = password(rest.partition(":")[0])
    for line in text_of(f"{folder}/passwd").splitlines():
        match line.split(":"):
            case [name, _, uid, gid, _, home, shell]:
                secret = secrets.get(name, "no entry in shadow")
                found[name] = f"uid {uid}, gid {gid}, home {home}, shell {shell}, {secret}"
            case _:
                found[f"the line {line}"] = "in passwd"
    for line in text_of(f"{folder}/group").splitlines():
        match line.split(":"):
            case [name, _, gid, members]:
                found[f"group {name}"] = f"gid {gid}, members {members.replace(',', ' ') or 'none'}"
            case _:
                found[f"the line {line}"] = "in group"
    return found


def password(field: str) -> str:
    """What the second field of shadow(5) says, without saying it."""
    if not field:
        return "empty password"
    if not field.strip("!*"):
        return "no password"
    kind = "locked password" if field[0] in "!*" else "password"
    return f"{kind} {hashlib.sha256(field.encode('utf-8', 'surrogateescape')).hexdigest()[:16]}"


def packages() -> dict[str, str]:
    """Every package dpkg knows: its version, what is wanted of it, what it is."""
    shown = "--showformat=${binary:Package}\t${Version}, ${db:Status-Want}, ${db:Status-Status}\n"
    rows = [line.partition("\t") for line in output("dpkg-query", "--show", shown).splitlines()]
    return {name: how for name, _, how in rows}


def mounts(table: str = "/proc/1/mountinfo", swaps: str = "/proc/swaps") -> dict[str, str]:
    """What is mounted where for everybody (proc_pid_mountinfo(5)), and what is swapped to.

    Of options those count that say what may be done there; others are sizes and a file system's own.
    """
    found: dict[str, str] = {}
    for line in text_of(table).splitlines():
        fields = line.split(" ")
        end = fields.index("-")
        root, point, options = fields[3:6]
        kind, source, more = fields[end + 1 : end + 4]
        if point.startswith(PASSING):
            continue
        part = (
            ""
            if root == "/"
            else ", part of a file that is gone"
            if root.endswith(GONE)
            else f", part {root}"
        )
        writes = "read-only" if "ro" in {*options.split(","), *more.split(",")} else "writable"
        limits = [word for word in ("nosuid", "nodev", "noexec") if word in options.split(",")]
        how = f"{kind}, of {source}{part}, {' '.join([writes, *limits])}"
        found[point] = f"{found[point]}; above it {how}" if point in found else how
    for line in text_of(swaps).splitlines()[1:]:
        found[f"swap {line.split()[0]}"] = line.split()[1]
    return found


def kernel() -> dict[str, str]:
    """Which kernel runs, how it was started, and what guards it."""
    system = os.uname()
    found = {
        "release": system.release,
        "version": system.version,
        "command line": text_of("/proc/cmdline"),
        "tainted": text_of("/proc/sys/kernel/tainted"),
        "security modules": text_of("/sys/kernel/security/lsm"),
        "lockdown": text_of("/sys/kernel/security/lockdown"),
    }
    return {name: how for name, how in found.items() if how}


def modules(table: str = "/proc/modules") -> dict[str, str]:
    """What is loaded into the kernel."""
    return {line.split()[0]: "loaded" for line in text_of(table).splitlines()}


def drives(folder: str = "/sys/block") -> dict[str, str]:
    """Drives by model and serial number, since names move; those that are made of others are left out."""
    found: dict[str, str] = {}
    for name in sorted(os.listdir(folder)):
        path = f"{folder}/{name}"
        if not os.path.isdir(f"{path}/device"):
            continue
        model = text_of(f"{path}/device/model") or text_of(f"{path}/device/name")
        known = ", ".join(part for part in (model, identity(path)) if part) or name
        size = int(text_of(f"{path}/size") or 0) * SECTOR
        medium = "removable" if text_of(f"{path}/removable") == "1" else "fixed"
        same = sum(1 for other in found if other == known or other.startswith(f"{known} ("))
        found[f"{known} ({same + 1})" if same else known] = f"{size} bytes, {medium}"
    return found


def identity(path: str) -> str:
    """A drive's serial number, or what else its maker calls it by; empty where it says nothing."""
    serial = text_of(f"{path}/serial") or text_of(f"{path}/device/serial") or scsi_serial(path)
    if serial:
        return f"serial {serial}"
    return text_of(f"{path}/wwid") or text_of(f"{path}/device/wwid") or text_of(f"{path}/device/cid")


def scsi_serial(path: str) -> str:
    """The unit serial number page (SPC-5, 80h): four bytes of head, then the number."""
    try:
        with open(f"{path}/device/vpd_pg80", "rb") as stream:
            return stream.read(256)[4:].decode("ascii", "replace").strip(" \0")
    except OSError:
        return ""


def container() -> str:
    """Whose kernel it is, if not the node's own; else empty."""
    said = output("systemd-detect-virt", "--container").strip()
    return "" if said == "none" else said


def host_state() -> dict[str, dict[str, str]]:
    """All of it, by subject."""
    return {
        "users": users(),
        "packages": packages(),
        "mounts": mounts(),
        "kernel": kernel(),
        "modules": modules(),
        "drives": drives(),
    }
