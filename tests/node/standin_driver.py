"""A stand-in for a driver: a real package whose module is another one only after the node's next start.

No container can load a module of its own.  What stands in for that is a copy in /run of the module's file,
which systemd-tmpfiles makes as the node starts and at no other time (``!`` in tmpfiles.d).
"""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
from typing import TYPE_CHECKING, Any, Final

from appliance.progress import Silent
from appliance.sources.deb_file import index_entry
from appliance.sources.station import open_station

if TYPE_CHECKING:
    from pathlib import Path

    from conftest import PracticeLab

NAME: Final = "standin-driver"
MODULE: Final = f"/usr/lib/modules/{NAME}/{NAME}.ko"
LOADED: Final = f"/run/{NAME}"


def built(folder: Path, version: str) -> Path:
    """The package, of the same bytes each time."""
    tree = folder / f"tree-{version}"
    for path, text in {
        "DEBIAN/control": f"Package: {NAME}\nVersion: {version}\nArchitecture: all\n"
        "Maintainer: Somebody <somebody@archive.example>\nDescription: loaded as the node starts\n",
        MODULE[1:]: f"{version}\n",
        f"usr/lib/tmpfiles.d/{NAME}.conf": f"C! {LOADED} 0644 root root - {MODULE}\n",
    }.items():
        (tree / path).parent.mkdir(parents=True, exist_ok=True)
        (tree / path).write_text(text)
    file = folder / f"{NAME}_{version}_all.deb"
    command = ["dpkg-deb", "--root-owner-group", "-Znone", "--build", str(tree), str(file)]
    environment = {**os.environ, "SOURCE_DATE_EPOCH": "0"}
    subprocess.run(command, check=True, capture_output=True, env=environment)
    return file


def add_to(lock: Path, definition: Path, deb: Path, *, version: str, sequence: int) -> tuple[Path, Path]:
    """Definition and lock of the next bundle, which brings the driver besides; in a folder of its own."""
    driver = deb.stem.split("_")[1]
    text = definition.read_text()
    found: dict[str, Any] = json.loads(lock.read_text())
    text = text.replace(f'"{found["version"]}"', f'"{version}"')
    text = text.replace(f"sequence: {found['sequence']}", f"sequence: {sequence}")
    component = f"\n  driver:\n    kind: debian\n    packages: [{NAME}]\n"
    if component not in text:
        text = text.replace("\n  toolkit:\n", f"{component}\n  toolkit:\n")
    folder = deb.parent / version
    folder.mkdir()
    next_definition, next_lock = folder / "demo.yaml", folder / "lock.json"
    next_definition.write_text(text)
    sha256, size = kept(deb, next_definition)
    index = folder / "Packages"
    index.write_text(index_entry(deb, deb.name, sha256, size))
    origin = {"kind": "debian", "package": NAME, "architecture": "all", "component": "main"}
    artefacts = [
        artefact("Packages", "Packages", "1", *kept(index, next_definition))
        | {"origin": {"kind": "generated", "generator": "debian-index 1"}},
        artefact(NAME, deb.name, driver, sha256, size)
        | {"origin": {**origin, "suite": found["target"]["suite"], "upstream": "sha256"}},
    ]
    found |= {"version": version, "sequence": sequence}
    found["definition"] = hashlib.sha256(next_definition.read_bytes()).hexdigest()
    found["components"]["driver"] = {"kind": "debian", "packages": [NAME], "artefacts": artefacts}
    next_lock.write_text(json.dumps(found, indent=2, sort_keys=True) + "\n")
    return next_definition, next_lock


def artefact(name: str, path: str, version: str, sha256: str, size: int) -> dict[str, Any]:
    values = {"name": name, "path": path, "version": version, "sha256": sha256, "size": size}
    return {**values, "licence": "CC0-1.0"}


def kept(file: Path, definition: Path) -> tuple[str, int]:
    """Digest and size of a file, which is in this station's store then."""
    data = file.read_bytes()
    sha256 = hashlib.sha256(data).hexdigest()
    store = open_station(definition, store=None, mirror=None, progress=Silent()).store
    with store.fetch(sha256, len(data), file.name) as partial:
        if partial:
            store.replace(partial, file)
    return sha256, len(data)


def loaded_driver(lab: PracticeLab) -> tuple[str, str]:
    """The version that is installed, and the one that was loaded as the node started."""
    look = f"dpkg-query --show --showformat '${{Version}}\n' {NAME}; cat {LOADED} 2>/dev/null"
    first, _, second = lab.node.inside(look, check=False).stdout.strip().partition("\n")
    return first, second
