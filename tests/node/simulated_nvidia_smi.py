#!/usr/bin/python3
"""Simulated `nvidia-smi` of one H100, for a practice node: no GPU is there, and CUDA finds none.

Speaks as recorded output does (tests/unit/roles/recorded).  The state lies in /run, so that a restart of
the node forgets slices and MIG mode, as a GPU does; slices made anew have other UUIDs.  Each call also puts
in place what a driver would: the table of capabilities, and their device nodes.
"""

from __future__ import annotations

import json
import subprocess
import sys
import uuid
from pathlib import Path

STATE = Path("/run/simulated-gpu.json")
MINORS = Path("/proc/driver/nvidia-caps/mig-minors")
NODES = Path("/dev/nvidia-caps")
NOT_FOUND = 6
GPU = "GPU-00000000-0000-4000-8000-000000000001"


def driver() -> None:
    """What the kernel's module would show."""
    if not MINORS.exists():
        subprocess.run(["mount", "-t", "tmpfs", "simulated", "/proc/driver"], check=True)
        MINORS.parent.mkdir()
        names = [f"gpu0/gi{gi}/{rest}" for gi in range(15) for rest in ("access", "ci0/access")]
        MINORS.write_text("".join(f"{name} {number}\n" for number, name in enumerate(names, 3)))
    NODES.mkdir(exist_ok=True)
    for line in MINORS.read_text().splitlines():
        (NODES / f"nvidia-cap{line.split()[1]}").touch()
    for name in ("nvidia-uvm", "nvidia-uvm-tools"):
        (NODES.parent / name).touch()


def listing(state: dict) -> str:
    """``-L``."""
    slices = "".join(
        f"  MIG {each['name']:<11} Device {number:>2}: (UUID: {each['uuid']})\n"
        for number, each in enumerate(state["slices"])
    )
    return f"GPU 0: NVIDIA H100 80GB HBM3 (UUID: {GPU})\n{slices}"


def report(state: dict) -> str:
    """``-q -x``, of it what is read."""
    slices = "".join(
        f"<mig_device><index>{number}</index><gpu_instance_id>{number + 1}</gpu_instance_id>"
        "<compute_instance_id>0</compute_instance_id></mig_device>"
        for number in range(len(state["slices"]))
    )
    mode = "Enabled" if state["mig"] else "Disabled"
    return (
        f"<nvidia_smi_log><gpu><mig_mode><current_mig>{mode}</current_mig><pending_mig>{mode}</pending_mig>"
        f"</mig_mode><mig_devices>{slices}</mig_devices><uuid>{GPU}</uuid><minor_number>0</minor_number>"
        "<processes/></gpu></nvidia_smi_log>"
    )


def main(words: list[str]) -> int:
    """One command."""
    driver()
    state = json.loads(STATE.read_text()) if STATE.exists() else {"mig": False, "slices": []}
    if words in (["-L"], ["-q", "-x"]):
        print(listing(state) if words == ["-L"] else report(state))
        return 0
    if "-mig" in words:
        state = {"mig": words[-1] == "1", "slices": []}
    elif "-cgi" in words and state["mig"]:
        names = [each.partition(":")[0] for each in words[words.index("-cgi") + 1].split(",")]
        state["slices"] = [{"name": name, "uuid": f"MIG-{uuid.uuid4()}"} for name in names]
    elif not state["slices"]:
        print("No GPU instances found: Not Found")
        return NOT_FOUND
    elif "-dgi" in words:
        state["slices"] = []
    STATE.write_text(json.dumps(state))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
