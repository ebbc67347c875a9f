"""A definition, and the lock beside it, in files of the build station."""

from __future__ import annotations

from typing import TYPE_CHECKING

from appliance.definition.bundle_definition import read_definition
from appliance.errors import DefinitionInvalid

if TYPE_CHECKING:
    from pathlib import Path

    from appliance.definition.bundle_definition import ReadDefinition


def open_definition(path: Path) -> ReadDefinition:
    """Read and check the definition in a file.

    Raises:
        DefinitionInvalid: it is not there, or something in it is wrong.
    """
    try:
        data = path.read_bytes()
    except (FileNotFoundError, IsADirectoryError, NotADirectoryError) as fault:
        raise DefinitionInvalid(
            f"no definition {path}", found=fault.strerror, wanted="a YAML file"
        ) from fault
    return read_definition(data, path)


def default_lock_path(definition: Path) -> Path:
    """Where a definition's lock is kept: beside it, ``demo.yaml`` and ``demo.lock.json``."""
    return definition.with_name(f"{definition.stem}.lock.json")
