"""Make what virtual machines are copies of, once: a disk, and the state of a machine booted from it.

It is kept under a digest of all that goes in: every file of the two root file systems and QEMU's command
line.  Another kernel, another QEMU or another machine is another image; the state of one must never be
given to another.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import platform
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from appliance.errors import LabFailed, PreflightFailed
from appliance.lab import qemu
from appliance.lab.machine_recipe import machine_recipe, qemu_recipe
from appliance.lab.places import locked
from appliance.lab.requirements import IMAGE_TOOLS, require_root, require_tools
from appliance.lab.rootfs import check_space, prepare_root
from appliance.lab.template import boot_template

if TYPE_CHECKING:
    from appliance.lab.places import Places
    from appliance.progress import Progress

_NEEDED_BYTES = 1200 * 2**20
_BUILD_WAIT = 1800.0
_CONTENT = "content.sha256"


def prepare_image(places: Places, *, progress: Progress) -> qemu.Image:
    """The image of virtual machines: from the cache, or made now (some 1.2 GB, some two minutes).

    Raises:
        PreflightFailed: this machine is of another architecture than QEMU's root.
        ToolMissing: mmdebstrap or another program is not installed.
        SpaceExhausted: too little room for it.
        InProgress: another run has been making it for ten minutes.
        LabFailed: a step fails; the message carries the end of what it said.
    """
    _require_architecture()
    require_root()
    require_tools(IMAGE_TOOLS)
    emulator = prepare_root(places, qemu_recipe(), progress=progress)
    root = prepare_root(places, machine_recipe(), progress=progress)
    image = qemu.Image(places.cache / image_digest(emulator, root) / "machine")
    if image.folder.is_dir():
        return image
    with locked(places.cache, wait=_BUILD_WAIT):
        if not image.folder.is_dir():  # another run may have made it while this one waited
            check_space(places.cache, _NEEDED_BYTES, "the virtual machines' disk")
            _make(places.cache, emulator, root, image.folder, progress)
    return image


def image_digest(emulator: Path, root: Path) -> str:
    """SHA-256 (hex) of what an image follows from; reads both root file systems once in their life."""
    placeholder = qemu.Image(Path("/image"))
    machine = qemu.template_command(placeholder, Path("/console"), 0)
    values = [content_digest(emulator), content_digest(root), machine, qemu.DISK_BYTES]
    return hashlib.sha256(json.dumps(values).encode()).hexdigest()


def content_digest(root: Path) -> str:
    """SHA-256 (hex) of every name, kind, mode and byte in a cached root; kept beside it."""
    kept = root.parent / _CONTENT
    with contextlib.suppress(FileNotFoundError):
        return kept.read_text("ascii").strip()
    digest = hashlib.sha256()
    for folder, names, files in os.walk(root):
        names.sort()
        for name in sorted(files + [each for each in names if (Path(folder) / each).is_symlink()]):
            path = Path(folder) / name
            digest.update(f"{path.relative_to(root)}\0{path.lstat().st_mode:o}\0".encode())
            if path.is_symlink():
                digest.update(str(path.readlink()).encode())
            elif path.is_file():
                with path.open("rb") as file:
                    digest.update(hashlib.file_digest(file, "sha256").digest())
    kept.write_text(f"{digest.hexdigest()}\n", "ascii")
    return digest.hexdigest()


def _make(cache: Path, emulator: Path, root: Path, target: Path, progress: Progress) -> None:
    with tempfile.TemporaryDirectory(prefix=".partial-", dir=cache) as name:
        # As deep as it will be, so that the way to QEMU's root is the same.
        image = qemu.Image(Path(name) / "machine")
        image.folder.mkdir()
        image.qemu.symlink_to(Path("../..") / emulator.relative_to(cache))
        for pattern, copy in (("vmlinuz-*", image.kernel), ("initrd.img-*", image.initrd)):
            (found,) = (root / "boot").glob(pattern)
            shutil.copyfile(found, copy)
        progress.note("making the disk of virtual machines, once")
        _make_disk(root, image.disk)
        progress.note("booting the virtual machine that the others are copies of, once")
        run_tool(qemu.layer_command(image, image.booted_disk, image.disk.name, "raw"), qemu_of=image)
        boot_template(image)
        target.parent.mkdir(exist_ok=True)
        image.folder.rename(target)


def _make_disk(root: Path, disk: Path) -> None:
    """An ext4 file system with the root's files, and no partition table; no loop device is needed."""
    command = ["mke2fs", "-q", "-t", "ext4", "-L", "practice", "-d", str(root)]
    # What is not written is zero already, so neither this nor the kernel later has to write it.
    command += ["-E", "assume_storage_prezeroed=1", str(disk), f"{qemu.DISK_BYTES // 1024}k"]
    run_tool(command)


def run_tool(command: list[str], *, qemu_of: qemu.Image | None = None) -> None:
    """Run a program that makes a disk.

    Raises:
        LabFailed: it fails; the message carries what it said.
    """
    environment = qemu.environment(qemu_of.qemu) if qemu_of else None
    done = subprocess.run(
        command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False, env=environment
    )
    if done.returncode != 0:
        raise LabFailed(
            "the disk of a virtual machine could not be made",
            found=(done.stderr + done.stdout).strip()[-500:] or f"exit code {done.returncode}",
            hint="look whether the disk is full",
        )


def _require_architecture() -> None:
    if platform.machine() != "x86_64":
        raise PreflightFailed(
            "virtual machines run on amd64 only", found=platform.machine(), wanted="x86_64"
        )
