"""The stage ``record``: the node itself keeps what is installed on it."""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING

from appliance.errors import ApplyFailed, NodeUnreachable
from appliance.node.connection import SSH_FAILED
from appliance.node.runs import now
from appliance.node.script import load_script, start_command

if TYPE_CHECKING:
    from pathlib import Path

    from appliance.bundle.verify import VerifiedBundle
    from appliance.node.connection import Connection
    from appliance.node.runs import Identity


def write_installed(
    connection: Connection,
    bundle: VerifiedBundle,
    identity: Identity,
    report_folder: Path,
    baseline: bytes,
) -> None:
    """Write ``installed.json`` and ``baseline.json`` on the node, below ``/var/lib/appliance``.

    Raises:
        NodeUnreachable: the connection broke.
        ApplyFailed: the node could not write it.
    """
    report = hashlib.sha256((report_folder / "report.json").read_bytes()).hexdigest()
    manifest = bundle.manifest
    values = {
        "format": 1,
        "digest": bundle.digest,
        "product": manifest.product,
        "version": manifest.version,
        "sequence": manifest.sequence,
        "settings": identity.settings,
        "toolkit": identity.toolkit,
        "report": report,
        "baseline": hashlib.sha256(baseline).hexdigest(),
        "time": now(),
    }
    script = load_script("record")
    done = connection.run(
        start_command(script, "record"), stdin=script + json.dumps(values).encode() + b"\n" + baseline
    )
    name = connection.node.name
    told = done.stderr.decode(errors="replace").strip()[-500:]
    if done.returncode == SSH_FAILED:
        raise NodeUnreachable(
            f"the connection to {name} broke before it could keep its record",
            found=told,
            wanted="a connection",
            hint="run the same command again",
        )
    if done.returncode != 0:
        raise ApplyFailed(
            f"{name} could not keep its record",
            found=told or f"exit status {done.returncode}",
            wanted="a writable /var/lib/appliance",
            hint="put that right and run the same command again",
        )
