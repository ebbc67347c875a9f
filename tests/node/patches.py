"""What a station makes for a test of patches: bundles of a lock, the next root, patches between them."""

from __future__ import annotations

import json
import shutil
from typing import TYPE_CHECKING

from tests.node.at_station import at_station

if TYPE_CHECKING:
    from pathlib import Path

    from tests.conftest import Holders


def bundle_of(source: tuple[Path, Path], root: Path, key: Path) -> Path:
    """The bundle of a definition and its lock, beside them."""
    definition, lock = source
    bundle = definition.parent / "bundle"
    at_station("build", definition, "--lock", lock, "--root", root, "--out", bundle)
    at_station("sign", bundle, "--key", key)
    return bundle


def rotated(root: Path, holders: Holders, folder: Path) -> Path:
    """The next root, in which carol's key is alice's; in a folder with all before it."""
    draft = folder.with_name("draft")
    folder.mkdir()
    shutil.copy(root, folder)
    at_station("trust", "rotate", root, "--holder", f"alice={holders.key('carol')}.pub", "--out", draft)
    for name in ("alice", "carol"):
        at_station("trust", "sign", draft / "root.2.json", "--root", root, "--key", holders.key(name))
    at_station("trust", "assemble", draft, "--root", root, "--out", folder)
    return folder / "root.2.json"


def build_patch(base: Path, to: Path, out: Path, key: Path) -> Path:
    """The patch from one bundle to another, signed."""
    at_station("patch", "build", "--from", base, "--to", to, "--out", out)
    at_station("sign", out, "--key", key, "--role", "patch")
    return out


def leads_to(patch: Path) -> str:
    """The digest of the bundle that a patch leads to."""
    return str(json.loads((patch / "manifest.json").read_text())["makes"])
