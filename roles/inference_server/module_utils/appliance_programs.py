"""Programs of ours, and what they read, beside an engine: what the modules that install one share."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from ansible.module_utils.appliance_root_file import RootFile

if TYPE_CHECKING:
    from collections.abc import Iterable

#: The option of a module, for its argument_spec.
PROGRAMS = {
    "type": "list",
    "elements": "dict",
    "default": [],
    "options": {
        "path": {"type": "path", "required": True},
        "text": {"type": "str", "required": True},
    },
}


def ensure_programs(programs: Iterable[dict[str, Any]], *, check_mode: bool) -> list[dict[str, str]]:
    """Put programs in their places, or in check mode say what would be; the changes as Ansible shows."""
    changes = []
    for program in programs:
        file = RootFile(Path(program["path"]), program["text"])
        if not file.is_as_wanted:
            changes.append(file.difference())
            if not check_mode:
                file.replace()
    return changes
