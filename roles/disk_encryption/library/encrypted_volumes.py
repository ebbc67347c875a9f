#!/usr/bin/python
"""File systems and places on open encrypted volumes, and the tables by which a start finds them.

Nothing here opens a volume or knows a passphrase.  Everything that stands against it is found before
anything is changed, and has a name that stays.
"""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ansible.module_utils.appliance_mount_places import (
    Mounts,
    Refused,
    hold_empty,
    make_folder,
    read_mounts,
    refuse_place,
)
from ansible.module_utils.appliance_volume_tables import (
    base,
    crypttab,
    drop_ins,
    foreign_lines,
    fstab,
    unit_of,
    with_block,
)
from ansible.module_utils.basic import AnsibleModule

if TYPE_CHECKING:
    from ansible.module_utils.appliance_volume_tables import Volume

DOCUMENTATION = r"""
module: encrypted_volumes
short_description: File systems and places on open encrypted volumes, and the tables of the next start
description:
  - Writes our lines of crypttab and fstab, makes a file system on an open volume that is empty, and mounts
    it and the places that lie on it.
  - Opens nothing. Refuses, before anything is changed, what would hide or end data.
options:
  volumes:
    description: C(name), C(uuid) of the LUKS header, C(unlock), C(filesystem) and C(mounts) of each.
    type: list
    elements: dict
    required: true
  unlock_command:
    description: What the operator runs to open a volume; for the message of one that is closed.
    type: str
    required: true
author:
  - The appliance developers
"""

EXAMPLES = r"""
- name: Mount the volumes
  encrypted_volumes:
    unlock_command: appliance disk unlock
    volumes:
      - name: data
        uuid: 6ce4ef4c-2b2e-4a9b-8f1c-2f4a7d1c0b11
        unlock: tpm2
        filesystem: ext4
        mounts: [/var/lib/appliance]
"""

RETURN = r"""
changes:
  description: What was, or in check mode would be, changed.
  returned: always
  type: list
  elements: str
"""

MAPPER, SYS_BLOCK = Path("/dev/mapper"), Path("/sys/class/block")
CRYPTTAB, FSTAB = Path("/etc/crypttab"), Path("/etc/fstab")
#: What a start needs besides cryptsetup, and the package that has it.
ATTACH = ("/usr/lib/systemd/systemd-cryptsetup", "systemd-cryptsetup (Debian 13; before that systemd)")
MAKERS = {"ext4": ("mkfs.ext4", "e2fsprogs"), "xfs": ("mkfs.xfs", "xfsprogs")}


def run(*command: str) -> subprocess.CompletedProcess[str]:
    """Run a program; 127 where there is none."""
    environment = {**os.environ, "PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C.UTF-8"}
    try:
        return subprocess.run(
            command, capture_output=True, text=True, errors="replace", check=False, env=environment
        )
    except FileNotFoundError as fault:
        return subprocess.CompletedProcess(command, 127, "", str(fault))


def must(*command: str) -> str:
    """What a program prints.

    Raises:
        Refused: it failed.
    """
    done = run(*command)
    if done.returncode:
        told = (done.stderr or done.stdout).strip()
        raise Refused("failed", f"{' '.join(command)} ended with {done.returncode}: {told}")
    return done.stdout


def refuse_missing(volumes: list[Volume]) -> None:
    """Raise where the node lacks a program.

    Raises:
        Refused: with the package that has it.
    """
    missing = [] if Path(ATTACH[0]).exists() else [ATTACH[1]]
    for program, package in [MAKERS[one["filesystem"]] for one in volumes]:
        if run("sh", "-c", f"command -v {program}").returncode:
            missing.append(package)
    if missing:
        raise Refused(
            "packages-missing",
            f"the node lacks {', '.join(dict.fromkeys(missing))}: install it from the bundle's packages or "
            "the medium of the system, and name it among the packages of the bundle's definition",
        )


def refuse_closed(volumes: list[Volume], command: str) -> None:
    """Raise unless every volume is open, and is the one that is meant.

    Raises:
        Refused: volume-closed, or other-volume.
    """
    closed = []
    for one in volumes:
        name, uuid = one["name"], one["uuid"].replace("-", "")
        if not (MAPPER / name).exists():
            closed.append(name)
            continue
        device = SYS_BLOCK / (MAPPER / name).resolve().name / "dm/uuid"
        found = device.read_text().strip() if device.exists() else "no volume of the device mapper"
        if not (found.startswith("CRYPT-") and uuid in found):
            raise Refused("other-volume", f"/dev/mapper/{name} is {found}, wanted that of {one['uuid']}")
    if closed:
        raise Refused("volume-closed", f"not open: {', '.join(closed)}; open it with: {command}")


def signature(name: str) -> str:
    """The kind of what is on an open volume; empty where nothing is.

    Raises:
        Refused: nobody can tell.
    """
    text = must("wipefs", "--json", "--output", "TYPE", str(MAPPER / name))
    try:
        kinds = sorted({str(one["type"]) for one in json.loads(text or "{}").get("signatures", [])})
    except (ValueError, KeyError, TypeError) as fault:
        raise Refused("use-unknown", f"nobody can say what is on the volume {name}") from fault
    return ", ".join(kinds)


def refuse_content(volumes: list[Volume]) -> list[Volume]:
    """Those volumes that are empty.

    Raises:
        Refused: other-content; something else is on one.
    """
    empty = []
    for one in volumes:
        found = signature(one["name"])
        if not found:
            empty.append(one)
        elif found != one["filesystem"]:
            raise Refused(
                "other-content",
                f"the volume {one['name']} holds {found}, and the inventory wants {one['filesystem']}; "
                "nothing is made where something is",
            )
    return empty


def text_of(path: Path) -> str:
    """A file's text; empty when there is none."""
    try:
        return path.read_text("utf-8", "surrogateescape")
    except FileNotFoundError:
        return ""


def tables(volumes: list[Volume]) -> dict[Path, tuple[str, str]]:
    """What each file says and shall say.

    Raises:
        Refused: foreign-entry; somebody else's line says something of the same volume or place.
    """
    mapped, mounted = text_of(CRYPTTAB), text_of(FSTAB)
    names = {one["name"] for one in volumes}
    sources = {f"UUID={one['uuid']}" for one in volumes}
    places = {place for one in volumes for place in (base(one), *one["mounts"])}
    foreign = {
        CRYPTTAB: foreign_lines(mapped, 0, names) + foreign_lines(mapped, 1, sources),
        FSTAB: foreign_lines(mounted, 1, places),
    }
    for path, lines in foreign.items():
        if lines:
            raise Refused(
                "foreign-entry", f"{path} says of the same already: {lines[0]}; take that line out"
            )
    return {
        CRYPTTAB: (mapped, with_block(mapped, crypttab(volumes))),
        FSTAB: (mounted, with_block(mounted, fstab(volumes))),
        **{Path(path): (text_of(Path(path)), text) for path, text in drop_ins(volumes).items()},
    }


def write(path: Path, text: str, mode: int) -> None:
    """Replace a file whole; a file of ours alone that shall say nothing is removed."""
    if not text and path not in {CRYPTTAB, FSTAB}:
        path.unlink(missing_ok=True)
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f".{path.name}.appliance")
    with draft.open("w", encoding="utf-8", errors="surrogateescape") as file:
        file.write(text)
        file.flush()
        os.fchmod(file.fileno(), mode)
        os.fsync(file.fileno())
    draft.replace(path)


def unmounted(volumes: list[Volume], mounts: Mounts) -> list[tuple[Volume, str]]:
    """Places that are not mounted yet, each after its volume.

    Raises:
        Refused: something else is mounted there, or it holds what would be hidden.
    """
    found = []
    for one in volumes:
        for place in (base(one), *one["mounts"]):
            root = "/" if place == base(one) else place
            if place in mounts:
                if mounts[place] != (f"/dev/mapper/{one['name']}", root):
                    raise Refused("other-mount", f"{place} is a mount of {' '.join(mounts[place])}")
                continue
            refuse_place(place)
            found.append((one, place))
    return found


def mount(volumes: list[Volume], places: list[tuple[Volume, str]]) -> None:
    """Mount the volumes, then the places on them, by the units that a start will use."""
    for one in volumes:
        hold_empty(base(one))
        must("systemctl", "start", unit_of(base(one)))
    for one, place in places:
        if place != base(one):
            make_folder(base(one), place)
            hold_empty(place)
            must("systemctl", "start", unit_of(place))


def bring_about(volumes: list[Volume], command: str, *, check: bool) -> dict[str, Any]:
    """Compare and change; the module's result.

    Raises:
        Refused: something stands against it; nothing was changed, unless it is called ``failed``.
    """
    if volumes:
        refuse_missing(volumes)
        refuse_closed(volumes, command)
    wrong = {path: texts for path, texts in tables(volumes).items() if texts[0] != texts[1]}
    empty = refuse_content(volumes)
    places = unmounted(volumes, read_mounts())
    changes = [f"{path}: our lines" for path in wrong]
    changes += [f"{one['filesystem']} on the volume {one['name']}, which is empty" for one in empty]
    changes += [f"mount {place}" for _, place in places]
    if not check:
        for one in empty:
            must(MAKERS[one["filesystem"]][0], "-q", str(MAPPER / one["name"]))
        for path, (_, text) in wrong.items():
            write(path, text, 0o644)
        if wrong:
            must("systemctl", "daemon-reload")
        mount([one for one, place in places if place == base(one)], places)
    diff = [
        {"before_header": str(path), "after_header": str(path), "before": old, "after": new}
        for path, (old, new) in wrong.items()
    ]
    return {"changed": bool(changes), "changes": changes, "diff": diff}


def main() -> None:
    """Run as an Ansible module."""
    options = {
        "name": {"type": "str", "required": True},
        "uuid": {"type": "str", "required": True},
        "unlock": {"type": "str", "choices": ["tpm2", "console", "ssh"], "required": True},
        "filesystem": {"type": "str", "choices": sorted(MAKERS), "required": True},
        "mounts": {"type": "list", "elements": "path", "required": True},
    }
    module = AnsibleModule(
        argument_spec={
            "volumes": {"type": "list", "elements": "dict", "options": options, "required": True},
            "unlock_command": {"type": "str", "required": True},
        },
        supports_check_mode=True,
    )
    try:
        result = bring_about(
            module.params["volumes"], module.params["unlock_command"], check=module.check_mode
        )
    except Refused as fault:
        module.fail_json(msg=f"{fault.name}: {fault}", name=fault.name)
    except OSError as fault:
        module.fail_json(msg=str(fault))
    module.exit_json(**result)


if __name__ == "__main__":
    main()
