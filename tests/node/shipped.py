"""The definition that ships for an H100, read from its file, in forms that a practice node can be given.

Replaced is what cannot be had here: the component ``model``, which is gated, and the section ``hardware``,
which no practice node is up to.  All else is as it ships.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import yaml

from tests.node.vllm.tiny_llama import write_tiny_llama

if TYPE_CHECKING:
    from collections.abc import Mapping

BUNDLES: Final = Path(__file__).resolve().parents[2] / "bundles"
SHIPPED: Final = BUNDLES / "h100-vllm.yaml"
DEMO: Final = BUNDLES / "demo.yaml"


def read_shipped(file: Path = SHIPPED) -> dict[str, Any]:
    """What a definition says."""
    values: dict[str, Any] = yaml.safe_load(file.read_text())
    return values


def with_tiny_model(folder: Path) -> Path:
    """The definition with a generated Llama for as many tokens as it asks for, in a new folder.

    Engine, driver and the other packages, toolkit, target, and how the model is served are what ships.
    """
    shipped = read_shipped()
    del shipped["hardware"]
    names = write_tiny_llama(folder, shipped["inference"]["context"])
    digests = {name: hashlib.sha256((folder / name).read_bytes()).hexdigest() for name in names}
    shipped["components"]["model"] = {
        "kind": "files",
        "files": [
            {"path": name, "licence": "CC0-1.0", "sha256": digest} for name, digest in digests.items()
        ],
    }
    return _written(folder / SHIPPED.name, shipped)


def with_demonstrations_engine(
    folder: Path, file: Path = SHIPPED, target: Mapping[str, str] | None = None
) -> Path:
    """The driver and the other packages alone, with what the demonstration serves, in a new folder.

    ``target``: another release than the definition's, whose packages have the same names.
    """
    shipped, demo = read_shipped(file), read_shipped(DEMO)
    parts = {name: demo["components"][name] for name in ("model", "engine", "toolkit")}
    parts["system"] = shipped["components"]["system"]
    target = target or shipped["target"]
    changed = {"product": "driver-test", "target": target, "components": parts, "parity": 0}
    folder.mkdir(parents=True)
    return _written(folder / "driver-test.yaml", {**demo, **changed})


def _written(path: Path, values: Mapping[str, Any]) -> Path:
    path.write_text(yaml.safe_dump({**values}, sort_keys=False))
    return path
