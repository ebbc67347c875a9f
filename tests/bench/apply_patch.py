"""Bring a patch onto a node that is this machine: ``apply_patch.py PATCH ROOT BASE HOME ["send"]``

Prints the peak memory (bytes, JSON) of the station, which is this program, and of the receiver on the node:
``VmHWM``, as the kernel counts it (proc_pid_status(5)).  Without ``send`` it ends when the receiver has
said what it lacks: by then both sides know of every file, part and block, and no byte of a model was read.
What the node says of its copy is made up here, since asking it would hash all of it.
"""

from __future__ import annotations

import json
import sys
import tempfile
from ipaddress import IPv4Address
from pathlib import Path

from appliance.bundle.manifest import parse_manifest
from appliance.bundle.verify import verify_bundle
from appliance.definition.inventory import NodeEntry
from appliance.node.connection import LocalConnection
from appliance.node.patching.base import read_base
from appliance.node.patching.reader import CopyReader
from appliance.node.patching.target import make_target
from appliance.node.patching.transfer import begin_transfer
from appliance.progress import Silent
from appliance.trust.node_inventory import HeldCopy

NODE = NodeEntry("here", "local", IPv4Address("10.20.0.11"), 22, ())


def peak(process: int | str = "self") -> int:
    """The most that a process ever held, in bytes."""
    for line in Path(f"/proc/{process}/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    raise ValueError("the kernel does not say")


class Watch(Silent):
    """Looks at a receiver each time that it has put a file in its place, and waits for the next one."""

    def __init__(self, process: int) -> None:
        self.process, self.peak = process, peak(process)

    def item(self, name: str) -> None:
        self.peak = max(self.peak, peak(self.process))


def main() -> None:
    """Print both peaks."""
    patch, root, base, home, *send = sys.argv[1:]
    verified = verify_bundle(Path(patch), Path(root).read_bytes(), progress=Silent(), role="patch")
    connection = LocalConnection(NODE)
    manifest = parse_manifest((Path(home) / base / "manifest.json").read_bytes())
    holds = {path: file.sha256 for path, file in manifest.files.items()}
    holds |= {file.path: file.sha256 for file in manifest.payload()}
    held = HeldCopy(base, True, len(holds), 0, 0, {}, holds)
    with tempfile.TemporaryDirectory() as folder:
        documents, fetched = Path(folder) / "documents", Path(folder) / "fetched"
        documents.mkdir()
        fetched.mkdir()
        with CopyReader(connection, base, home=home) as reader:
            found = read_base(reader, base, fetched)
            target = make_target(verified, found, held, documents, progress=Silent())
        transfer = begin_transfer(connection, target, [Path(patch)], home=home, progress=Silent())
        watch = Watch(transfer.process.pid)
        if send:
            transfer.send(watch)
        else:
            transfer.abandon()
        print(json.dumps({"station": peak(), "node": watch.peak}))


if __name__ == "__main__":
    main()
