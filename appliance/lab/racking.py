"""Write what a new lab begins with: the inventory folder, and each node's own files on its disk."""

from __future__ import annotations

import io
import tarfile
import uuid
from pathlib import PurePosixPath
from typing import TYPE_CHECKING

from appliance.lab import bay, qemu, site, tpm
from appliance.lab.identity import new_key_pair
from appliance.lab.image import run_tool
from appliance.lab.places import node_folder
from appliance.lab.slots import slots_files

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from appliance.lab.plan import Lab, Node

# The folder in root's home that sshd wants closed to others.
_PRIVATE_FOLDERS = ("root", "root/.ssh")


def rack(lab: Lab, folder: Path) -> None:
    """Write the inventory folder, and make the disks of all nodes.

    Raises:
        LabFailed: the disk of a virtual machine cannot be made.
    """
    operator = new_key_pair()
    host_keys = {node.name: new_key_pair() for node in lab.nodes}
    inventory = folder / "inventory"
    _write(inventory / "inventory.yml", site.inventory_text(lab), 0o644)
    public = {name: pair.public for name, pair in host_keys.items()}
    _write(inventory / "known_hosts", site.known_hosts_text(lab, public), 0o644)
    _write(inventory / "keys/operator", operator.private, 0o600)
    _write(inventory / "keys/operator.pub", f"{operator.public}\n", 0o644)
    for node in lab.nodes:
        files = site.node_files(
            lab,
            node,
            host_key=host_keys[node.name].private,
            operator_key=operator.public,
            machine_id=uuid.uuid4().hex,
        )
        home = node_folder(folder, node.name)
        home.mkdir(parents=True)
        if lab.machine:
            _rack_machine(lab, node, home, files)
        else:
            _rack_container(home, files)


def _rack_container(home: Path, files: Mapping[str, str]) -> None:
    """The files into the upper layer of the container's disk."""
    for part in ("upper", "work", "merged"):
        (home / part).mkdir()
    for name in _PRIVATE_FOLDERS:
        (home / "upper" / name).mkdir(mode=0o700)
    for path, text in files.items():
        _write(home / "upper" / path, text, _mode(path))


def _rack_machine(lab: Lab, node: Node, home: Path, files: Mapping[str, str]) -> None:
    """The files into an archive that the machine takes its identity from, and what it has, as new."""
    image, disks = qemu.Image(lab.root), qemu.Disks(home)
    if node.drives:
        files = {**files, **slots_files(node, [each.nqn for each in bay.make_drives(home, node)])}
    if lab.tpm:
        tpm.new_tpm(home)
    disks.identity.touch(mode=0o600)
    disks.identity.write_bytes(identity_archive(files))
    below = (image.booted_disk, "qcow2") if lab.restored else (image.disk, "raw")
    run_tool(qemu.layer_command(image, disks.system, str(below[0]), below[1]), qemu_of=image)
    run_tool(qemu.drive_command(image, disks.drive), qemu_of=image)
    if lab.capture:
        disks.captures.mkdir()


def identity_archive(files: Mapping[str, str]) -> bytes:
    """A tar archive of the files, owned by root, with the folders they are in.  Pure."""
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w", format=tarfile.USTAR_FORMAT) as archive:
        folders = {str(parent) for path in files for parent in PurePosixPath(path).parents} - {"."}
        for name in sorted(folders):
            member = tarfile.TarInfo(name)
            member.type, member.mode = tarfile.DIRTYPE, 0o700 if name in _PRIVATE_FOLDERS else 0o755
            archive.addfile(member)
        for path, text in files.items():
            content = text.encode()
            member = tarfile.TarInfo(path)
            member.size, member.mode = len(content), _mode(path)
            archive.addfile(member, io.BytesIO(content))
    return data.getvalue()


def _mode(path: str) -> int:
    return 0o600 if path in site.PRIVATE_FILES else 0o644


def _write(path: Path, text: str, mode: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch(mode=mode)
    path.write_text(text, "utf-8")
