"""What lies in some trees of a node: kind, mode, owner and SHA-256 of everything, and whose package it is.

Runs on the node's own Python (3.10 or later, standard library only).  Reads; changes nothing, not even the
time of the last reading where the kernel lets it (open(2), O_NOATIME).  Links are not followed.
"""

from __future__ import annotations

import glob
import hashlib
import os
import stat
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

CHUNK = 1 << 20
DPKG_INFO = "/var/lib/dpkg/info"
#: What gives a file rights, or takes them away, beside its mode: capabilities, access lists.
RIGHTS = ("security.capability", "system.posix_acl_access", "system.posix_acl_default")


def file_state(trees: Iterable[str], apart: Iterable[str], login_files: Iterable[str]) -> dict[str, str]:
    """``{path: how it is}`` of everything in the trees but what lies apart, and of what logins run."""
    owners = package_files()
    left_out = frozenset(apart)
    found = {}
    for path in (*walked(trees, left_out), *login_paths(login_files)):
        if how := described(path, owners.get(path, "")):
            found[path] = how
    return found


def walked(trees: Iterable[str], left_out: frozenset[str]) -> Iterator[str]:
    """Every path in the trees, the trees themselves among them."""
    waiting = [tree for tree in trees if tree not in left_out]
    while waiting:
        path = waiting.pop()
        yield path
        if os.path.isdir(path) and not os.path.islink(path):
            try:
                names = os.listdir(path)
            except OSError:
                continue
            waiting += [below for name in names if (below := f"{path}/{name}") not in left_out]


def login_paths(names: Iterable[str], passwd: str = "/etc/passwd") -> Iterator[str]:  # noqa: S107 - a path
    """Of every account, the files in its home that decide who gets in and what then runs."""
    homes = set()
    with open(passwd, encoding="utf-8", errors="surrogateescape") as stream:
        for line in stream:
            fields = line.rstrip("\n").split(":")
            if len(fields) == 7 and fields[5] not in {"", "/"}:  # noqa: PLR2004 - passwd(5)
                homes.add(os.path.realpath(fields[5]))
    for home in sorted(homes):
        yield from (path for name in names if os.path.lexists(path := f"{home}/{name}"))


def described(path: str, package: str = "") -> str:
    """How something is, in words that are separated by commas; empty if it is gone by now."""
    whose = f", of {package}" if package else ""
    try:
        status = os.lstat(path)
        if stat.S_ISLNK(status.st_mode):
            return f"link{whose}, to {os.readlink(path)}"
        if stat.S_ISDIR(status.st_mode):
            whose = ""  # of many
        how = f"{kind(status)}{whose}, mode {stat.S_IMODE(status.st_mode):04o}"
        how += f", owner {status.st_uid}:{status.st_gid}"
        how += "".join(f", {name} {os.getxattr(path, name).hex()}" for name in rights(path))
    except FileNotFoundError:
        return ""
    return f"{how}, SHA-256 {digest(path)}" if stat.S_ISREG(status.st_mode) else how


def kind(status: os.stat_result) -> str:
    """One word for what it is."""
    kinds = {stat.S_IFREG: "file", stat.S_IFDIR: "folder", stat.S_IFSOCK: "socket", stat.S_IFIFO: "pipe"}
    word = kinds.get(stat.S_IFMT(status.st_mode))
    return word or f"device {os.major(status.st_rdev)}:{os.minor(status.st_rdev)}"


def rights(path: str) -> list[str]:
    """Names of the attributes that matter and are there; none where the file system knows none."""
    try:
        there = os.listxattr(path, follow_symlinks=False)
    except OSError:
        return []
    return [name for name in RIGHTS if name in there]


def digest(path: str) -> str:
    """SHA-256 of a plain file; what kept it from being read, if something did."""
    whole = hashlib.sha256()
    try:
        with os.fdopen(open_quietly(path), "rb", buffering=0) as stream:
            while data := stream.read(CHUNK):
                whole.update(data)
    except OSError as fault:
        return f"unknown ({fault.strerror})"
    return whole.hexdigest()


def open_quietly(path: str) -> int:
    """Open for reading, leaving no trace; only a file's owner and root may do that."""
    flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    try:
        return os.open(path, flags | os.O_NOATIME)
    except PermissionError:
        return os.open(path, flags)


def package_files(info: str = DPKG_INFO) -> dict[str, str]:
    """Package by path, from dpkg's lists and of its own files there; paths as they lie on the disk."""
    owners = {}
    merged = [name for name in ("/bin", "/sbin", "/lib", "/lib64", "/lib32") if os.path.islink(name)]
    for path in glob.glob(f"{info}/*"):
        package, _, suffix = os.path.basename(path).rpartition(".")
        owners[path] = package
        if suffix != "list":
            continue
        with open(path, encoding="utf-8", errors="surrogateescape") as stream:
            for line in stream:
                name = line.rstrip("\n")
                if any(name.startswith(f"{folder}/") for folder in merged):
                    name = f"/usr{name}"
                owners[name] = package
    return owners
