#!/usr/bin/python
"""What a node's drives say of themselves; how they are asked stands in ``appliance_drive_readings``."""

from __future__ import annotations

from ansible.module_utils.appliance_drive_readings import readings
from ansible.module_utils.basic import AnsibleModule

DOCUMENTATION = r"""
module: drive_readings
short_description: What a node's drives say of themselves
description:
  - Reads Level 0 Discovery, sysfs, lsblk, wipefs, swap and LUKS headers of every drive. Opens no session
    with a drive, tries no PIN and changes nothing.
options: {}
author:
  - The appliance developers
"""

EXAMPLES = r"""
- name: Ask the drives
  drive_readings:
  register: disk_encryption_read
"""

RETURN = r"""
readings:
  description: As it was said; the filter C(appliance_drives) says what it means.
  returned: always
  type: dict
"""


def main() -> None:
    """Run as an Ansible module."""
    module = AnsibleModule(argument_spec={}, supports_check_mode=True)
    try:
        found = readings()
    except OSError as fault:
        module.fail_json(msg=str(fault))
    module.exit_json(changed=False, readings=found)


if __name__ == "__main__":
    main()
