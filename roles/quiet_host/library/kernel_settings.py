#!/usr/bin/python
"""Kernel settings now and at every boot, and modules that are not wanted in the kernel."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import Any

from ansible.module_utils.basic import AnsibleModule

DOCUMENTATION = r"""
module: kernel_settings
short_description: Have kernel settings live, and unload modules that must not be there
description:
  - What the files of sysctl.d say at boot is made so now. In a container these settings belong to the host;
    they are then left alone and told.
  - Modules that are in use, or in a kernel that is locked, stay until the next boot, and are told.
options:
  settings:
    description: Value by name, as sysctl spells it.
    type: dict
    default: {}
  modules_off:
    description: Modules that are unloaded where they are loaded and not in use.
    type: list
    elements: str
    default: []
author:
  - The appliance developers
"""

EXAMPLES = r"""
- name: Let nobody read another's memory
  kernel_settings:
    settings: {kernel.yama.ptrace_scope: "2"}
"""

RETURN = r"""
changes:
  description: What differed, one line each.
  returned: always
  type: list
  elements: str
absent:
  description: Settings that this kernel does not have.
  returned: always
  type: list
  elements: str
of_the_host:
  description: Settings that differ and cannot be made here, because the kernel is the host's.
  returned: always
  type: list
  elements: str
in_use:
  description: Modules that stay until the next boot.
  returned: always
  type: list
  elements: str
"""


class Refused(Exception):
    """The kernel does not take a value; the text says which."""


class Kernel:
    """The running kernel, as /proc and modprobe show it."""

    def __init__(self, proc: Path = Path("/proc")) -> None:
        self.proc = proc

    def file(self, name: str) -> Path:
        return self.proc / "sys" / name.replace(".", "/")

    def value(self, name: str) -> str | None:
        """None: this kernel has no such setting."""
        try:
            return " ".join(self.file(name).read_text("utf-8").split())
        except FileNotFoundError:
            return None

    def ours(self, name: str) -> bool:
        """Whether the setting may be written: a container sees the host's, on a read-only file system."""
        return not os.statvfs(self.file(name)).f_flag & os.ST_RDONLY

    def write(self, name: str, value: str) -> None:
        try:
            self.file(name).write_text(value, "utf-8")
        except OSError as fault:
            raise Refused(
                f"{name} stays {self.value(name)}; the kernel refuses {value}: {fault}"
            ) from fault

    def loaded(self) -> dict[str, int]:
        """Modules by name, with the count of their users; none in a kernel that is all of one piece."""
        file = self.proc / "modules"
        rows = [line.split() for line in file.read_text("utf-8").splitlines()] if file.exists() else []
        return {row[0]: int(row[2]) for row in rows}

    def unload(self, name: str) -> None:
        done = subprocess.run(
            ["modprobe", "--remove", name], capture_output=True, text=True, errors="replace", check=False
        )
        if done.returncode:
            raise Refused(f"{name} cannot be unloaded: {done.stderr.strip()}")


def bring_about(
    kernel: Kernel, settings: dict[str, str], modules_off: list[str], check: bool
) -> dict[str, Any]:
    """Compare and change; the module's result."""
    found = {name: kernel.value(name) for name in settings}
    differ = [name for name in settings if found[name] not in {None, " ".join(str(settings[name]).split())}]
    ours = [name for name in differ if kernel.ours(name)]
    loaded = {name.replace("-", "_") for name in modules_off} & set(kernel.loaded())
    # In a container modules are the host's too, and the same mark tells.
    writable = kernel.file("kernel").exists() and kernel.ours("kernel")
    locked = kernel.value("kernel.modules_disabled") == "1"
    idle = sorted(name for name in loaded if writable and not locked and not kernel.loaded()[name])
    if not check:
        for name in ours:
            kernel.write(name, str(settings[name]))
        for name in idle:
            kernel.unload(name)
    changes = [f"{name}: {found[name]} -> {settings[name]}" for name in ours]
    changes += [f"module {name}: loaded -> not" for name in idle]
    return {
        "changed": bool(changes),
        "changes": changes,
        "absent": [name for name in settings if found[name] is None],
        "of_the_host": [name for name in differ if name not in ours],
        "in_use": sorted(loaded - set(idle)) if writable else [],
    }


def main() -> None:
    """Run as an Ansible module."""
    module = AnsibleModule(
        argument_spec={
            "settings": {"type": "dict", "default": {}},
            "modules_off": {"type": "list", "elements": "str", "default": []},
        },
        supports_check_mode=True,
    )
    try:
        result = bring_about(
            Kernel(), module.params["settings"], module.params["modules_off"], module.check_mode
        )
    except (Refused, OSError) as fault:
        module.fail_json(msg=str(fault))
    for name in result["in_use"]:
        module.warn(f"the kernel module {name} stays until the next boot: it is in use or locked in")
    lines = "".join(f"{line}\n" for line in result["changes"])
    module.exit_json(**result, diff={"before": "", "after": lines} if lines else {})


if __name__ == "__main__":
    main()
