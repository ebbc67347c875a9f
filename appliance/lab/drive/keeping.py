"""A drive's state on disk: its make, and what differs from it since.

One JSON file beside the image, replaced as a whole before a method is answered, so that power may fail at
any moment.  PINs are in it as hashes; media keys and the label's PINs are in it as they are.
"""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING, Any

from appliance.errors import LabFailed
from appliance.lab.drive.profile import Profile
from appliance.tcg.stream import Named

if TYPE_CHECKING:
    from pathlib import Path

    from appliance.lab.drive.provider import Row, SecurityProvider
    from appliance.lab.drive.tper import TPer
    from appliance.tcg.stream import Value

FORMAT = 1


def state_of(tper: TPer) -> dict[str, Any]:
    """All that must outlast power, as JSON values."""
    return {
        "format": FORMAT,
        "profile": tper.profile.as_dict(),
        "admin": _rows(tper.admin),
        "locking": _rows(tper.locking),
    }


def profile_of(state: dict[str, Any]) -> Profile:
    """The make of a drive, from its state."""
    return Profile(**state["profile"])


def restore(tper: TPer, state: dict[str, Any]) -> None:
    """Let a drive just made be what its state says."""
    for sp, rows in ((tper.admin, state["admin"]), (tper.locking, state["locking"])):
        for name, row in rows.items():
            sp.rows[bytes.fromhex(name)] = {int(column): _value(value) for column, value in row.items()}


def state_beside(image: Path) -> Path:
    """The state file of an image."""
    return image.with_name(image.name + ".state")


def read_state(path: Path) -> dict[str, Any] | None:
    """The state in a file; None where there is none.

    Raises:
        LabFailed: it is no state of a drive.
    """
    try:
        text = path.read_text(encoding="ascii")
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise LabFailed("a drive's state cannot be read", found=str(error)) from error
    try:
        state = json.loads(text)
        if state["format"] != FORMAT:
            raise ValueError(f"format {state['format']}")
        profile_of(state)
    except (ValueError, KeyError, TypeError) as error:
        raise LabFailed(
            f"{path} is no state of a simulated drive",
            found=str(error),
            wanted=f"JSON of format {FORMAT}, as this program writes it",
            hint="name another image, or remove image and state together to make a new drive",
        ) from error
    return dict(state)


def write_state(path: Path, state: dict[str, Any]) -> None:
    """Replace the state on disk; afterwards it is the old one or the new one, whatever happens."""
    sibling = path.with_name(path.name + ".new")
    descriptor = os.open(sibling, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    with os.fdopen(descriptor, "w", encoding="ascii") as file:
        json.dump(state, file)
        file.flush()
        os.fsync(file.fileno())
    sibling.replace(path)
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def _rows(sp: SecurityProvider) -> dict[str, dict[str, Any]]:
    return {name.hex(): _row(row) for name, row in sp.rows.items() if name in sp.changeable}


def _row(row: Row) -> dict[str, Any]:
    return {str(int(column)): _json(value) for column, value in row.items()}


def _json(value: Value) -> Any:
    if isinstance(value, bytes):
        return {"bytes": value.hex()}
    if isinstance(value, Named):
        return {"name": _json(value.name), "value": _json(value.value)}
    if isinstance(value, list):
        return [_json(one) for one in value]
    return int(value)


def _value(value: Any) -> Value:
    if isinstance(value, list):
        return [_value(one) for one in value]
    if isinstance(value, dict) and "bytes" in value:
        return bytes.fromhex(value["bytes"])
    if isinstance(value, dict):
        name = _value(value["name"])
        if not isinstance(name, int | bytes):
            raise ValueError("a name that is no name")  # noqa: TRY004 - a wrong file
        return Named(name, _value(value["value"]))
    return int(value)
