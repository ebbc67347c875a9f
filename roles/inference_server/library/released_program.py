#!/usr/bin/python
"""A program from its maker's release archive, unpacked beside what we run with it, whole or not at all.

The archive is a tar, packed by gzip or by Zstandard (unpacked by the node's ``zstd``, as Python before 3.14
cannot).  It is compared with the bundle's digest, and unpacked into a folder beside the wanted one, which
takes its place when the last byte was there.  Nothing of it is believed: names stay below
the folder, links too, nothing is written through a link, and neither owner nor special bits are taken over.
"""

from __future__ import annotations

import gzip
import hashlib
import json
import os
import posixpath
import shutil
import subprocess
import tarfile
import zlib
from contextlib import contextmanager
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from ansible.module_utils.appliance_programs import PROGRAMS, ensure_programs
from ansible.module_utils.basic import AnsibleModule

if TYPE_CHECKING:
    from collections.abc import Iterator

DOCUMENTATION = r"""
module: released_program
short_description: A program from its maker's archive, and what we run with it
description:
  - Unpacks a tar archive, packed by gzip or Zstandard, after comparing it with its digest.
  - Unpacks it again where a file is missing or has another size, or the digest is another.
  - Then puts programs of ours in their places.
options:
  path:
    description: Folder of the program. Its parents are created.
    type: path
    required: true
  archive:
    description: The archive, on the node.
    type: path
    required: true
  sha256:
    description: Its SHA-256, 64 hexadecimal digits.
    type: str
    required: true
  needs:
    description: Files that must have come, by their paths in the archive; they must be executable.
    type: list
    elements: str
    default: []
  programs:
    description: What we run beside it, and what that reads.
    type: list
    elements: dict
    default: []
    suboptions:
      path:
        description: Where it lies. Its folder is created.
        type: path
        required: true
      text:
        description: What it says.
        type: str
        required: true
author:
  - The appliance developers
"""

RECORD = "appliance-program.json"
PIECE = 1 << 20
#: A release of today has some 2 GB packed, and below 10 GB unpacked.
MOST_FILES = 100_000
MOST_BYTES = 64 << 30


class CannotUnpack(Exception):
    """The program cannot be put in place; the arguments are message, found, wanted."""


def digest_of(archive: Path) -> str:
    """The SHA-256 of a file."""
    digest = hashlib.sha256()
    with archive.open("rb") as file:
        while piece := file.read(PIECE):
            digest.update(piece)
    return digest.hexdigest()


@contextmanager
def unpacked(archive: Path) -> Iterator[IO[bytes]]:
    """The bytes of the tar in an archive.

    Raises:
        CannotUnpack: it is packed in another way, or the node cannot unpack it.
    """
    name = archive.name
    if name.endswith((".tgz", ".tar.gz")):
        with gzip.open(archive) as file:
            yield file
    elif name.endswith(".tar.zst"):
        if not shutil.which("zstd"):
            wanted = "the package zstd, named in the bundle's Debian component"
            raise CannotUnpack("the archive cannot be unpacked on this node", "no zstd", wanted)
        command = ["zstd", "--decompress", "--stdout", "--quiet", "--memory=2048MB", str(archive)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, stdin=subprocess.DEVNULL) as process:
            if process.stdout is None:
                raise RuntimeError("a pipe was asked for")
            try:
                yield process.stdout
            finally:
                process.stdout.close()
        if process.returncode:
            raise CannotUnpack("the archive is damaged", f"zstd ended with {process.returncode}", "0")
    else:
        raise CannotUnpack("the archive is of no known kind", name, ".tgz, .tar.gz or .tar.zst")


def inside(name: str) -> str:
    """A member's name below the folder, "" for the folder itself.

    Raises:
        CannotUnpack: it leads out of it.
    """
    plain = posixpath.normpath(name)
    if name.startswith("/") or plain.split("/")[0] == ".." or "\0" in name:
        raise CannotUnpack("the archive leads out of its folder", name[:200], "paths below it")
    return "" if plain == "." else plain


def place(folder: Path, name: str) -> Path:
    """Where a member goes; its parents are made, and none of them is a link or a file.

    Raises:
        CannotUnpack: one is, or something lies there already.
    """
    path = folder
    for part in name.split("/")[:-1]:
        path = path / part
        if path.is_symlink() or (path.exists() and not path.is_dir()):
            raise CannotUnpack(
                "the archive writes through what is no folder", name[:200], "folders above it"
            )
        path.mkdir(exist_ok=True)
    path = path / name.rpartition("/")[2]
    if os.path.lexists(path):
        raise CannotUnpack("the archive has a file twice", name[:200], "each once")
    return path


def extract(tar: tarfile.TarFile, folder: Path) -> dict[str, int]:
    """Put a tar's members into an empty folder; the sizes of its files by path.

    Raises:
        CannotUnpack: something is no file, folder or link, leads out of the folder, or is too much.
    """
    sizes: dict[str, int] = {}
    total = count = 0
    for member in tar:
        name = inside(member.name)
        count, total = count + 1, total + max(member.size, 0)
        if count > MOST_FILES or total > MOST_BYTES:
            wanted = f"at most {MOST_FILES} files and {MOST_BYTES} bytes"
            raise CannotUnpack("the archive has too much", f"{count} files, {total} bytes", wanted)
        if member.isdir():
            _make(folder, name)
        elif not name:
            raise CannotUnpack("the archive is no folder's", member.name[:200], "files below a folder")
        elif member.isreg() or member.islnk():
            sizes[name] = _write(tar, member, place(folder, name), folder, sizes)
        elif member.issym():
            _relative(member.linkname)
            place(folder, name).symlink_to(member.linkname)
        else:
            raise CannotUnpack("the archive has what is no file", name[:200], "files, folders and links")
    _links_stay(folder)
    return sizes


def _make(folder: Path, name: str) -> None:
    """A folder; one that was made on the way to its files is there already."""
    if name and ((folder / name).is_symlink() or not (folder / name).is_dir()):
        place(folder, name).mkdir()


def _relative(target: str) -> str:
    if target.startswith("/"):
        found = f"a link to {target[:200]}"
        raise CannotUnpack("the archive leads out of its folder", found, "paths below it")
    return target


def _write(
    tar: tarfile.TarFile, member: tarfile.TarInfo, path: Path, folder: Path, sizes: dict[str, int]
) -> int:
    """A file, or a further name of one that came before; its size."""
    if member.islnk():
        other = inside(_relative(member.linkname))
        if other not in sizes:
            wanted = "a file before it"
            raise CannotUnpack("the archive links to what is no file of it", other[:200], wanted)
        os.link(folder / other, path, follow_symlinks=False)
        return sizes[other]
    source = tar.extractfile(member)
    if source is None:
        raise RuntimeError("a regular file has bytes")
    with path.open("xb") as target:
        shutil.copyfileobj(source, target, PIECE)
        os.fchmod(target.fileno(), 0o755 if member.mode & 0o100 else 0o644)
    return member.size


def _links_stay(folder: Path) -> None:
    """Every link ends within the folder, through however many others it leads."""
    top = folder.resolve()
    for path in folder.rglob("*"):
        if path.is_symlink() and not Path(os.path.realpath(path)).is_relative_to(top):
            name = str(path.relative_to(folder))
            raise CannotUnpack("the archive leads out of its folder", f"a link: {name}", "paths below it")


def build(path: Path, archive: Path, sha256: str, needs: list[str]) -> None:
    """Unpack an archive into its place, with a record of what came.

    Raises:
        CannotUnpack: it is not what was signed, cannot be read, or lacks a program; nothing is changed.
    """
    draft = path.with_name(f"{path.name}.new")
    shutil.rmtree(draft, ignore_errors=True)
    try:
        # Before anything in it is looked at, and read from the page cache afterwards.
        if (found := digest_of(archive)) != sha256:
            raise CannotUnpack("the archive is not as it was signed", found, sha256)
        draft.mkdir(parents=True)
        with unpacked(archive) as stream, tarfile.open(fileobj=stream, mode="r|") as tar:
            sizes = extract(tar, draft)
            while stream.read(PIECE):  # up to the checksum behind the tar's end
                pass
        for name in needs:
            if name not in sizes or not os.access(draft / name, os.X_OK):
                raise CannotUnpack("the archive lacks a program", "no such program", name)
        record = {"sha256": sha256, "files": sizes}
        (draft / RECORD).write_text(json.dumps(record, indent=1) + "\n", "utf-8")
        os.sync()
        shutil.rmtree(path, ignore_errors=True)
        draft.rename(path)
    except (tarfile.TarError, EOFError, gzip.BadGzipFile, zlib.error) as fault:
        raise CannotUnpack("the archive is damaged", str(fault) or repr(fault), "a whole tar") from fault
    except OSError as fault:
        raise CannotUnpack("the archive cannot be unpacked", str(fault), str(path)) from fault
    finally:
        shutil.rmtree(draft, ignore_errors=True)


def reasons_to_build(path: Path, sha256: str) -> list[str]:
    """Why the archive must be unpacked, one sentence each; none when all is as wanted.

    Sizes, not digests: this runs on every apply, and releases have gigabytes.
    """
    try:
        record = json.loads((path / RECORD).read_bytes())
        files, found = dict(record["files"]), record["sha256"]
    except (OSError, ValueError, KeyError, TypeError):
        return ["incomplete" if path.exists() else "absent"]
    if found != sha256:
        return [f"archive was {found}, is {sha256}"]
    return [
        f"damaged: {name}"
        for name, size in sorted(files.items())
        if not (path / name).is_file() or (path / name).stat().st_size != size
    ]


def ensure(options: dict[str, Any], *, check_mode: bool) -> dict[str, Any]:
    """Make program and ours as wanted, or in check mode say what would be done.

    Returns:
        The module's result: changed, reasons (each why the archive is unpacked), diff.

    Raises:
        CannotUnpack: the archive is missing or unfit.
    """
    path, archive = Path(options["path"]), Path(options["archive"])
    reasons = reasons_to_build(path, options["sha256"])
    diff = []
    if reasons:
        diff.append(
            {"before": "\n".join(reasons) + "\n", "after": f"{archive.name}, {options['sha256']}\n"}
        )
        if not check_mode:
            if not archive.is_file():
                raise CannotUnpack("there is no archive to unpack", "no such file", str(archive))
            build(path, archive, options["sha256"], options["needs"])
    diff += ensure_programs(options["programs"], check_mode=check_mode)
    return {"changed": bool(diff), "reasons": reasons, "diff": diff}


def main() -> None:
    """Run as an Ansible module."""
    module = AnsibleModule(
        argument_spec={
            "path": {"type": "path", "required": True},
            "archive": {"type": "path", "required": True},
            "sha256": {"type": "str", "required": True},
            "needs": {"type": "list", "elements": "str", "default": []},
            "programs": PROGRAMS,
        },
        supports_check_mode=True,
    )
    os.umask(0o022)  # others run what root installs, whatever root's own habit
    try:
        module.exit_json(**ensure(module.params, check_mode=module.check_mode))
    except CannotUnpack as problem:
        message, found, wanted = problem.args
        module.fail_json(msg=f"{message}: {found}", found=found, wanted=wanted)


if __name__ == "__main__":
    main()
