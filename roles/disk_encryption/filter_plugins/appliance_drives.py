"""What a node's readings mean: every drive as a state with reasons, by the rules of ``appliance.disk``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ansible.errors import AnsibleFilterError

from appliance.disk.present import node_values
from appliance.disk.state import read_state
from appliance.errors import DriveUnreadable

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


class FilterModule:
    """Registers the filter with Ansible."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        return {"appliance_drives": appliance_drives}
