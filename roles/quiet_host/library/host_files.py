#!/usr/bin/python
"""Configuration files of ours, many in one task, each followed by what makes it count at once."""

from __future__ import annotations

import os
import subprocess
import tempfile
from pathlib import Path
from typing import Any, Final

from ansible.module_utils.basic import AnsibleModule

DOCUMENTATION = r"""
module: host_files
short_description: Have files with a given text, where the program that reads them is, and make them count
description:
  - Compares text, owner and mode of every file, and replaces what differs whole.
  - After a change it does what makes the file count at once, in the order of the data, each thing once.
  - Files that cannot be made to count are put back as they were, so that the next run tries again.
options:
  files:
    description: C(path), C(text), C(mode); C(where), a path without which the file is left out; C(then).
    type: list
    elements: dict
    required: true
author:
  - The appliance developers
"""

EXAMPLES = r"""
- name: Keep no cores
  host_files:
    files:
      - path: /etc/systemd/coredump.conf.d/90-appliance.conf
        text: "[Coredump]\nStorage=none\n"
"""

RETURN = r"""
changes:
  description: What differed, one line each.
  returned: always
  type: list
  elements: str
left_out:
  description: Files whose program this node does not have.
  returned: always
  type: list
  elements: str
"""

_RELOAD: Final = ("systemctl", "daemon-reload")


def _active(unit: str) -> tuple[str, ...]:
    return ("systemctl", "is-active", "--quiet", unit)


#: What may follow a change: a test that tells whether it applies, and commands.  In a container auditd does
#: not run, as the kernel's audit belongs to the host.
THEN: Final[dict[str, tuple[tuple[str, ...], list[tuple[str, ...]]]]] = {
    "systemd": ((), [_RELOAD]),
    # The early system in memory has a copy of modprobe's configuration, and drivers of its own.
    "initramfs": (("test", "-x", "/usr/sbin/update-initramfs"), [("update-initramfs", "-u", "-k", "all")]),
    "tmp": (_active("tmp.mount"), [_RELOAD, ("systemctl", "reload", "tmp.mount")]),
    "tmp-at-boot": ((), [_RELOAD, ("systemctl", "enable", "tmp.mount")]),
    "audit": (_active("auditd.service"), [("augenrules", "--load")]),
    "chrony": (_active("chrony.service"), [("systemctl", "restart", "chrony.service")]),
    "ptp": (
        _active("appliance-ptp4l.service"),
        [_RELOAD, ("systemctl", "restart", "appliance-ptp4l.service", "appliance-phc2sys.service")],
    ),
}


class Failed(Exception):
    """A command that makes a file count failed; the text says what it wrote."""


def wrong(entry: dict[str, Any]) -> bool:
    """Whether a file is not exactly as wanted: a plain file of root's with this text and mode."""
    path = Path(entry["path"])
    if path.is_symlink() or not path.is_file():
        return True
    status = path.stat()
    owned = (status.st_uid, status.st_gid) == (0, 0)
    return not owned or f"{status.st_mode & 0o7777:04o}" != entry["mode"] or read(path) != entry["text"]


def read(path: Path) -> str:
    """A file's text; empty when there is none."""
    try:
        return path.read_text("utf-8", "surrogateescape")
    except (FileNotFoundError, IsADirectoryError):
        return ""


def write(path: Path, text: str, mode: str) -> None:
    """Replace a file (or link) whole; folders that are missing are root's and open to read."""
    for folder in reversed([each for each in path.parents if not each.exists()]):
        folder.mkdir()
        folder.chmod(0o755)
    descriptor, draft = tempfile.mkstemp(dir=path.parent, prefix=".appliance-")
    with os.fdopen(descriptor, "w", encoding="utf-8", errors="surrogateescape") as file:
        file.write(text)
    os.chown(draft, 0, 0)
    Path(draft).chmod(int(mode, 8))
    Path(draft).replace(path)


def follow(names: list[str]) -> None:
    """Make changed files count; what does not run on this node reads them when it starts."""
    for name in names:
        test, commands = THEN[name]
        if test and subprocess.run(test, capture_output=True, check=False).returncode:
            continue
        for command in commands:
            done = subprocess.run(command, capture_output=True, text=True, errors="replace", check=False)
            if done.returncode:
                told = (done.stderr or done.stdout).strip()
                raise Failed(f"{' '.join(command)} ended with {done.returncode}: {told}")


def apply(entries: list[dict[str, Any]]) -> None:
    """Write files and make them count.

    Raises:
        Failed: what something should follow is as it was; the next run will find it wrong again.
    """
    before = {entry["path"]: (Path(entry["path"]).exists(), read(Path(entry["path"]))) for entry in entries}
    for entry in entries:
        write(Path(entry["path"]), entry["text"], entry["mode"])
    followed = [entry for entry in entries if entry.get("then")]
    try:
        follow(list(dict.fromkeys(entry["then"] for entry in followed)))
    except Failed:
        for entry in followed:
            there, text = before[entry["path"]]
            if there:
                write(Path(entry["path"]), text, entry["mode"])
            else:
                Path(entry["path"]).unlink()
        raise


def bring_about(files: list[dict[str, Any]], check: bool) -> dict[str, Any]:
    """Compare and change; the module's result."""
    here = [entry for entry in files if not entry.get("where") or Path(entry["where"]).exists()]
    found = [entry for entry in here if wrong(entry)]
    diff = [
        {
            "before_header": entry["path"],
            "after_header": entry["path"],
            "before": read(Path(entry["path"])),
            "after": entry["text"],
        }
        for entry in found
    ]
    changes = [
        f"{entry['path']}: {'differs' if read(Path(entry['path'])) else 'absent'}" for entry in found
    ]
    if not check:
        apply(found)
    left_out = [entry["path"] for entry in files if entry not in here]
    return {"changed": bool(found), "changes": changes, "left_out": left_out, "diff": diff}


def main() -> None:
    """Run as an Ansible module."""
    options = {
        "path": {"type": "path", "required": True},
        "text": {"type": "str", "required": True},
        "mode": {"type": "str", "default": "0644"},
        "where": {"type": "path"},
        "then": {"type": "str", "choices": sorted(THEN)},
    }
    module = AnsibleModule(
        argument_spec={"files": {"type": "list", "elements": "dict", "options": options, "required": True}},
        supports_check_mode=True,
    )
    try:
        module.exit_json(**bring_about(module.params["files"], module.check_mode))
    except (Failed, OSError) as fault:
        module.fail_json(msg=str(fault))


if __name__ == "__main__":
    main()
