"""Reading the drives of this machine: the one place here that asks them.

The program that asks is the role's (``roles/disk_encryption/module_utils``), since nodes run it with their
own Python and nothing of ours; here it is loaded from where the roles lie, so that there is one of it.
"""

from __future__ import annotations

from importlib.util import module_from_spec, spec_from_file_location
from typing import TYPE_CHECKING, Any, Final

from appliance.content import content_root

if TYPE_CHECKING:
    from pathlib import Path

_PROGRAM: Final = "roles/disk_encryption/module_utils/appliance_drive_readings.py"


def reading_program() -> bytes:
    """The program that prints the readings as one line of JSON, for a node's Python."""
    return _path().read_bytes() + b"\n\nprint(json.dumps(readings()))\n"


def read_here() -> dict[str, Any]:
    """The readings of this machine."""
    spec = spec_from_file_location("appliance_drive_readings", _path())
    if spec is None or spec.loader is None:
        raise RuntimeError(f"{_path()} cannot be loaded")
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    found: dict[str, Any] = module.readings()
    return found


def _path() -> Path:
    return content_root() / _PROGRAM
