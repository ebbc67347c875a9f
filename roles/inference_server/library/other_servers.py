#!/usr/bin/python
"""Inference servers that shall not run any more: stopped, and their units removed."""

from __future__ import annotations

import subprocess
from pathlib import Path

from ansible.module_utils.basic import AnsibleModule

DOCUMENTATION = r"""
module: other_servers
short_description: Stop and remove inference servers that nobody asks for any more
description:
  - A node serves all teams together, or each by a unit of its own; changed from one to the other, the
    former servers would keep their ports and GPUs.
  - Their users, environments and caches stay.
options:
  keep:
    description: Units that stay.
    type: list
    elements: str
    required: true
author:
  - The appliance developers
"""

EXAMPLES = r"""
- name: Have one server
  other_servers:
    keep: [appliance-inference.service]
"""

RETURN = r"""
removed:
  description: Units that were removed, or in check mode would be.
  returned: always
  type: list
  elements: str
"""

UNITS = Path("/etc/systemd/system")


def others(names: list[str], keep: list[str]) -> list[str]:
    """Services that are ours and not to stay; a socket goes with its service."""
    return sorted(
        name
        for name in names
        if name not in keep
        and name.endswith(".service")
        and (name == "appliance-inference.service" or name.startswith("appliance-inference-"))
    )


def systemctl(*words: str) -> None:
    """Run systemctl; CalledProcessError where it fails."""
    subprocess.run(["systemctl", *words], capture_output=True, text=True, check=True)


def remove(units: list[str]) -> None:
    """Stop, disable and remove; CalledProcessError where systemd refuses."""
    for unit in units:
        socket = unit.removesuffix(".service") + ".socket"
        files = [UNITS / name for name in (unit, socket) if (UNITS / name).exists()]
        names = [path.name for path in files]
        systemctl("disable", "--now", "--", *names)
        for path in files:
            path.unlink()
    systemctl("daemon-reload")


def main() -> None:
    """Run as an Ansible module."""
    module = AnsibleModule(
        argument_spec={"keep": {"type": "list", "elements": "str", "required": True}},
        supports_check_mode=True,
    )
    found = others([path.name for path in UNITS.glob("appliance-inference*")], module.params["keep"])
    try:
        if found and not module.check_mode:
            remove(found)
    except subprocess.CalledProcessError as fault:
        module.fail_json(msg=f"{' '.join(fault.cmd)}: {fault.stderr.strip()}")
    except OSError as fault:
        module.fail_json(msg=str(fault))
    lines = "".join(f"{name}\n" for name in found)
    module.exit_json(
        changed=bool(found), removed=found, diff={"before": lines, "after": ""} if found else {}
    )


if __name__ == "__main__":
    main()
