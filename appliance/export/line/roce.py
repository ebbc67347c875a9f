"""RoCE of the line's card: it passes beside every rule of the kernel, so it is switched off at the card.

Drivers that can do that have the parameter ``enable_roce`` (devlink-params.rst): one that holds at once
(``runtime``), or from the driver's next start on (``driverinit``, as mlx5_core has it), which
``devlink dev reload`` is.  With that the card comes up anew, maybe under another name.  A parameter in the
card's own memory (``permanent``) is its owner's: it is told, and left.
"""

from __future__ import annotations

import json
from typing import Final

from appliance.errors import ExportLineDown, ToolMissing
from appliance.export.line.commands import run

_PARAMETER: Final = "enable_roce"
_AT_ONCE, _AT_START = "runtime", "driverinit"


def settings(text: str) -> dict[str, bool]:
    """Whether RoCE is on, by when that holds, as ``devlink -json dev param show`` tells.  Pure."""
    devices = json.loads(text).get("param", {}).values()
    return {
        str(value["cmode"]): value["value"] is True
        for parameters in devices
        for parameter in parameters
        if parameter.get("name") == _PARAMETER
        for value in parameter.get("values", ())
    }


def read_settings(pci: str) -> dict[str, bool]:
    """The same of the card at a PCI address; empty where its driver has no such parameter."""
    if not pci:
        return {}
    try:
        return settings(run("devlink", "-json", "dev", "param", "show", f"pci/{pci}", "name", _PARAMETER))
    except (ExportLineDown, ToolMissing, ValueError):
        return {}


def switch_off(pci: str) -> bool:
    """Switch RoCE off as far as the driver can; whether the card comes up anew for that.

    Raises:
        ExportLineDown: the driver has the parameter and does not take it.
    """
    found = read_settings(pci)
    for mode in (_AT_ONCE, _AT_START):
        if found.get(mode):
            _set(pci, mode, "false")
    if not found.get(_AT_START):
        return False
    try:
        run("devlink", "dev", "reload", f"pci/{pci}")
    except BaseException:
        # What is told of this one is how it will be: whoever asks next shall not be told that it is off.
        _set(pci, _AT_START, "true")
        raise
    return True


def _set(pci: str, mode: str, value: str) -> None:
    run(
        *("devlink", "dev", "param", "set", f"pci/{pci}"),
        *("name", _PARAMETER, "value", value, "cmode", mode),
    )
