#!/usr/bin/python
"""Let no kernel module be loaded once the node is up, or let it be.

The kernel's switch has one direction: what is locked stays locked until the next boot.  So the unit runs
after everything that loads modules, at boot and at the end of an installation, and never from a file of
sysctl.d, which is read before the firewall and the drivers have their modules.
"""

from __future__ import annotations

import os
import subprocess
import tempfile
from pathlib import Path
from typing import Any

from ansible.module_utils.basic import AnsibleModule

DOCUMENTATION = r"""
module: module_lock
short_description: Lock the loading of kernel modules after boot, or keep it open
description:
  - C(state=locked) writes and enables a unit that locks the kernel once the node is up, and starts it.
  - C(state=open) removes it; a kernel that is locked stays so until the next boot, and this is told.
options:
  state:
    description: What to bring about.
    type: str
    choices: [locked, open]
    required: true
  unit:
    description: The unit's name.
    type: str
    required: true
  text:
    description: The unit's text.
    type: str
    required: true
author:
  - The appliance developers
"""

EXAMPLES = r"""
- name: Lock the loading of kernel modules
  module_lock:
    state: locked
    unit: appliance-lock-modules.service
    text: "{{ lookup('ansible.builtin.template', 'appliance-lock-modules.service.j2') }}"
"""

RETURN = r"""
changes:
  description: What differed, one line each.
  returned: always
  type: list
  elements: str
locked:
  description: Whether the kernel loads no module any more.
  returned: always
  type: bool
"""

SWITCH = Path("/proc/sys/kernel/modules_disabled")
UNITS = Path("/etc/systemd/system")


class Refused(Exception):
    """systemd does not do what it is asked; the text says what it wrote."""


def systemctl(*words: str) -> None:
    """Run systemctl; Refused with what it wrote when it fails."""
    done = subprocess.run(["systemctl", *words], capture_output=True, text=True, check=False)
    if done.returncode:
        raise Refused(f"systemctl {' '.join(words)} ended with {done.returncode}: {done.stderr.strip()}")


def enabled(unit: str) -> bool:
    """Whether it starts with the node."""
    command = ["systemctl", "is-enabled", "--quiet", unit]
    return subprocess.run(command, capture_output=True, check=False).returncode == 0


def is_locked() -> bool:
    """A kernel without modules has no such switch, and nothing to lock."""
    return not SWITCH.exists() or SWITCH.read_text("ascii").strip() == "1"


def is_ours() -> bool:
    """Whether the switch may be used: a container sees its host's."""
    return not os.statvfs(SWITCH.parent).f_flag & os.ST_RDONLY


def read(path: Path) -> str:
    """A file's text; empty when there is none."""
    try:
        return path.read_text("utf-8")
    except FileNotFoundError:
        return ""


def lock(path: Path, text: str) -> None:
    """Write the unit, enable it, and run it now, although its place in the order of a boot is over."""
    descriptor, draft = tempfile.mkstemp(dir=path.parent, prefix=".appliance-")
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write(text)
    Path(draft).chmod(0o644)
    Path(draft).replace(path)
    systemctl("daemon-reload")
    systemctl("enable", path.name)
    systemctl("restart", path.name)


def unlock(path: Path) -> None:
    """Forget the unit; only the next boot opens the kernel."""
    systemctl("disable", path.name)
    path.unlink(missing_ok=True)
    systemctl("daemon-reload")


def bring_about(module: AnsibleModule) -> dict[str, Any]:
    """Compare and change; the module's result."""
    path, text = UNITS / module.params["unit"], module.params["text"]
    changes = []
    if module.params["state"] == "locked":
        if read(path) != text:
            changes.append(f"{path}: {'differs' if read(path) else 'absent'}")
        if not enabled(path.name):
            changes.append(f"{path.name}: not enabled")
        if is_ours() and not is_locked():
            changes.append("kernel.modules_disabled: 0 -> 1")
        if changes and not module.check_mode:
            lock(path, text)
    elif path.exists():
        changes.append(f"{path}: to go")
        if not module.check_mode:
            unlock(path)
    return {"changed": bool(changes), "changes": changes, "locked": is_locked()}


def main() -> None:
    """Run as an Ansible module."""
    module = AnsibleModule(
        argument_spec={
            "state": {"type": "str", "choices": ["locked", "open"], "required": True},
            "unit": {"type": "str", "required": True},
            "text": {"type": "str", "required": True},
        },
        supports_check_mode=True,
    )
    try:
        result = bring_about(module)
    except (Refused, OSError) as fault:
        module.fail_json(msg=str(fault))
    if module.params["state"] == "open" and result["locked"] and is_ours() and SWITCH.exists():
        module.warn("the kernel loads no module until the next boot: it was locked, and cannot be unlocked")
    lines = "".join(f"{line}\n" for line in result["changes"])
    module.exit_json(**result, diff={"before": "", "after": lines} if lines else {})


if __name__ == "__main__":
    main()
