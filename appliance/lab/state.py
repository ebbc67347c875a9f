"""The lab's state file, written before anything else is made, so that ``lab down`` always knows.  Pure."""

from __future__ import annotations

import json
import re
from pathlib import Path

from appliance.errors import LabFailed, Usage
from appliance.lab.plan import SEGMENTS, Lab, check_count, check_drives, check_name

_FORMAT = 4
_TOKEN = re.compile(r"[0-9a-f]{10}")


def state_text(lab: Lab) -> str:
    """The state file's text: one JSON object."""
    values = {
        "format": _FORMAT,
        "name": lab.name,
        "segment": lab.segment,
        "count": lab.count,
        "token": lab.token,
        "netns": list(lab.netns),
        "root": str(lab.root),
        "machine": lab.machine,
        "capture": lab.capture,
        "restored": lab.restored,
        "bond": lab.bond,
        "tpm": lab.tpm,
        "drives": lab.drives,
    }
    return json.dumps(values, indent=2, sort_keys=True) + "\n"


def parse_state(text: str, path: Path) -> Lab:
    """The lab a state file describes; ``path`` is for the message alone.

    Raises:
        LabFailed: the text is no state file of this format.
    """
    try:
        values = json.loads(text)
        device, inode = values["netns"]
        lab = Lab(
            name=check_name(values["name"]),
            segment=int(values["segment"]),
            count=check_count(int(values["count"])),
            token=str(values["token"]),
            netns=(int(device), int(inode)),
            root=Path(values["root"]),
            drives=check_drives(int(values["drives"])),
            **{name: _flag(values[name]) for name in ("machine", "capture", "restored", "bond", "tpm")},
        )
        if values["format"] != _FORMAT or lab.segment not in SEGMENTS or not _TOKEN.fullmatch(lab.token):
            raise ValueError("format, segment or token")
    except (ValueError, TypeError, KeyError, Usage) as error:
        raise LabFailed(
            f"the lab's state file {path} cannot be read",
            found=f"{type(error).__name__}: {error}",
            wanted=f"state format {_FORMAT}, as `appliance lab up` writes it",
            hint="it was changed by hand or by another version; look at it before you remove its folder",
        ) from error
    return lab


def _flag(value: object) -> bool:
    if not isinstance(value, bool):
        raise TypeError(f"{value!r} is neither true nor false")
    return value
