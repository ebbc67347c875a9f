#!/usr/bin/python
"""Folders with owner root and a given mode, many in one task."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from ansible.module_utils.basic import AnsibleModule

DOCUMENTATION = r"""
module: node_folders
short_description: Have folders that belong to root, with the given modes
description:
  - One task, and one round trip, for a whole list of folders.
options:
  folders:
    description: Mode (an octal string) by absolute path. Parents come before their children.
    type: dict
    required: true
author:
  - The appliance developers
"""

EXAMPLES = r"""
- name: Have the folders
  node_folders:
    folders:
      /opt/appliance: "0755"
"""

RETURN = r"""
folders:
  description: The folders that were, or in check mode would be, made or corrected.
  returned: always
  type: list
  elements: str
"""


def as_found(path: Path) -> str:
    """Owner, group and mode as ``"0:0 0755"``; empty when nothing is there.

    Raises:
        NotADirectoryError: something else is there; a link counts as something else.
    """
    try:
        status = path.lstat()
    except FileNotFoundError:
        return ""
    if not stat.S_ISDIR(status.st_mode):
        raise NotADirectoryError(f"{path} is there and is not a folder; move it away and run again")
    return f"{status.st_uid}:{status.st_gid} {stat.S_IMODE(status.st_mode):04o}"


def main() -> None:
    """Run as an Ansible module."""
    module = AnsibleModule(
        argument_spec={"folders": {"type": "dict", "required": True}}, supports_check_mode=True
    )
    modes = {Path(path): int(mode, 8) for path, mode in module.params["folders"].items()}
    wanted = {path: f"0:0 {mode:04o}" for path, mode in modes.items()}
    try:
        found = {path: as_found(path) for path in wanted}
    except OSError as fault:
        module.fail_json(msg=str(fault))
    wrong = [path for path in wanted if found[path] != wanted[path]]
    if not module.check_mode:
        for path in wrong:
            if not found[path]:
                path.mkdir()
            os.chown(path, 0, 0)
            path.chmod(modes[path])
    diff = {
        "before": "".join(f"{path} {found[path] or 'absent'}\n" for path in wrong),
        "after": "".join(f"{path} {wanted[path]}\n" for path in wrong),
    }
    module.exit_json(changed=bool(wrong), folders=[str(path) for path in wrong], diff=diff)


if __name__ == "__main__":
    main()
