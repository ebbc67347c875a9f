"""A definition that ships, read from its file, with a model that everybody may have in the place of Llama's.

Replaced is what a station without the makers' consent cannot fetch, and a node without GPUs cannot have:
the component ``model``, and the section ``hardware``.  All else is as it ships: engine, driver and the other
packages, toolkit, target, and how the model is served.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import yaml

from tests.node.tiny_llama import write_tiny_llama

if TYPE_CHECKING:
    from collections.abc import Sequence

SHIPPED: Final = Path(__file__).resolve().parents[3] / "bundles/h100-vllm.yaml"


def read_shipped() -> dict[str, Any]:
    """What the file says."""
    values: dict[str, Any] = yaml.safe_load(SHIPPED.read_text())
    return values


def without_hardware(shipped: dict[str, Any], files: Sequence[dict[str, str]]) -> dict[str, Any]:
    """The definition as it ships, but for the model's files and what hardware it asks for."""
    kept = {name: value for name, value in shipped.items() if name != "hardware"}
    return {**kept, "components": {**shipped["components"], "model": {"kind": "files", "files": [*files]}}}


def write_definition(folder: Path) -> Path:
    """Write the model and its definition into a new folder."""
    shipped = read_shipped()
    files = write_tiny_llama(folder, shipped["inference"]["context"])
    definition = folder / SHIPPED.name
    definition.write_text(yaml.safe_dump(without_hardware(shipped, files), sort_keys=False))
    return definition
