"""Inventories as nodes sign them, and a site that pins the keys they sign with."""

from __future__ import annotations

import base64
import shutil
import subprocess
from pathlib import Path
from typing import Any

from appliance.trust.canonical import canonical_bytes
from appliance.trust.node_inventory import NAMESPACE

EXAMPLE = Path(__file__).resolve().parents[3] / "inventory.example"
DIGEST = "d" * 64


class SignedBy:
    """A site in ``folder`` that pins one key for gpu-01."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.key = folder / "site", folder / "host_key"
        shutil.copytree(EXAMPLE, self.folder)
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", self.key], check=True)
        kind, blob, _ = self.key.with_suffix(".pub").read_text().split(" ", 2)
        pinned = (self.folder / "known_hosts").read_text().splitlines()
        lines = [f"10.20.0.11 {kind} {blob}" if "10.20.0.11" in line else line for line in pinned]
        (self.folder / "known_hosts").write_text("\n".join(lines) + "\n")

    def write(self, path: Path, **changes: Any) -> Path:
        """An inventory of gpu-01, signed by its key."""
        values = inventory_values() | changes
        command = ["ssh-keygen", "-Y", "sign", "-q", "-f", self.key, "-n", NAMESPACE]
        done = subprocess.run(command, input=canonical_bytes(values), capture_output=True, check=True)
        raw = base64.b64decode(b"".join(done.stdout.splitlines()[1:-1]))[-64:]
        path.write_bytes(canonical_bytes(values | {"signature": base64.b64encode(raw).decode()}))
        return path


def inventory_values() -> dict[str, Any]:
    """What a node on which nothing much happened would say."""
    return {
        "format": 1,
        "type": "node-inventory",
        "site": "example-hospital",
        "node": "gpu-01",
        "time": "2026-02-01T12:00:00Z",
        "serving": "active",
        "installed": {"bundle": DIGEST, "product": "demo", "version": "1.0.0", "sequence": 1},
        "journal": {"count": 3, "root": 2, "revocation": 5},
        "copies": [{"bundle": DIGEST, "complete": True, "files": 9, "hashed": 1, "wrong": 0}],
    }
