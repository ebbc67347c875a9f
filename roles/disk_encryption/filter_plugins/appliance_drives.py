"""What a node's readings mean: drives with reasons, volumes by UUID, by the rules of ``appliance.disk``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ansible.errors import AnsibleFilterError

from appliance.definition.disks import read_disk
from appliance.disk.present import node_values
from appliance.disk.state import read_state
from appliance.disk.volumes import find_volumes
from appliance.errors import DriveUnreadable, DriveUnsuitable

if TYPE_CHECKING:
    from collections.abc import Callable


def appliance_drives(readings: dict[str, Any]) -> dict[str, Any]:
    """As ``appliance disk status --json`` says it.

    Args:
        readings: what the module ``drive_readings`` returned.

    Raises:
        AnsibleFilterError: it is not that.
    """
    try:
        host, drives = read_state(readings)
    except DriveUnreadable as fault:
        raise AnsibleFilterError(f"{fault.message}: {fault.found}; {fault.hint}") from fault
    return node_values(host, drives)


def appliance_volumes(
    readings: dict[str, Any], disks: list[dict[str, Any]], node: str
) -> list[dict[str, Any]]:
    """The volumes that the inventory names, as the module ``encrypted_volumes`` takes them.

    Args:
        readings: what the module ``drive_readings`` returned.
        disks: the node's, as ``node_values`` says them.
        node: its name, for errors.

    Raises:
        AnsibleFilterError: it is not that, or a drive is not there or not what it has to be.
    """
    try:
        _, drives = read_state(readings)
        return [
            one.as_dict() for one in find_volumes([read_disk(each) for each in disks], drives, node=node)
        ]
    except (DriveUnreadable, DriveUnsuitable) as fault:
        raise AnsibleFilterError(f"{fault.message}: {fault.found}; {fault.hint}") from fault


class FilterModule:
    """Registers the filter with Ansible."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        return {"appliance_drives": appliance_drives, "appliance_volumes": appliance_volumes}
