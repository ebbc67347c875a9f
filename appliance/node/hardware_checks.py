"""The preflight checks of a machine: GPUs and board against what the bundle needs.

Values in, verdicts out.  What a bundle asks for stops an installation; the rest is information, so that one
table says what a machine is.  Drivers and kernels are in ``driver_checks``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from appliance.node.board_checks import board_checks
from appliance.node.gpu_checks import gpu_checks

if TYPE_CHECKING:
    from appliance.hardware.machine import Machine
    from appliance.hardware.needs import HardwareNeeds
    from appliance.node.verdict import Check


def hardware_checks(machine: Machine, needs: HardwareNeeds | None) -> list[Check]:
    """Every check of GPUs and board; without ``needs``, what is ailing and what was found."""
    return [*gpu_checks(machine, needs), *board_checks(machine, needs)]
