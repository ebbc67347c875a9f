"""A node that keeps nothing in the clear, as it says so itself; tests change one thing of it."""

from __future__ import annotations

import json

from appliance.definition.disks import Disk
from appliance.node.qualification import storage

DATA = Disk("data", "S1", None, "tpm2", "ext4", ("/var/lib/appliance", "/srv/more"), (7,))
LATE = Disk("late", "S2", None, "ssh", "xfs", ("/srv/late",))


def entry(name: str, number: str, kind: str, *children: object, **more: object) -> dict[str, object]:
    path = f"/dev/mapper/{name}" if kind == "crypt" else f"/dev/{name}"
    values = {"name": name, "path": path, "maj:min": number, "type": kind, "serial": None, **more}
    return values | ({"children": list(children)} if children else {})


TREE = [
    entry("sda", "8:0", "disk", entry("sda1", "8:1", "part"), entry("sda2", "8:2", "part"), serial="ROOT"),
    entry("nvme0n1", "259:0", "disk", entry("data", "254:0", "crypt"), serial="S1"),
    entry("nvme1n1", "259:1", "disk", entry("late", "254:1", "crypt"), serial="S2"),
    entry("zram0", "251:0", "disk"),
]
MOUNTS = """\
20 1 8:1 / / rw - ext4 /dev/sda1 rw
21 20 0:30 / /tmp rw - tmpfs tmpfs rw
22 20 254:0 / /mnt/appliance/data rw - ext4 /dev/mapper/data rw
23 20 254:0 /var/lib/appliance /var/lib/appliance rw - ext4 /dev/mapper/data rw
24 20 254:0 /srv/more /srv/more rw - ext4 /dev/mapper/data rw
25 20 254:1 / /mnt/appliance/late rw - xfs /dev/mapper/late rw
26 20 254:1 /srv/late /srv/late rw - xfs /dev/mapper/late rw
"""
TPM = {"type": "systemd-tpm2", "keyslots": ["1"], "tpm2-pcrs": [7]}


def header(slots: int, *tokens: object) -> str:
    return json.dumps({"keyslots": {str(at): {} for at in range(slots)}, "tokens": dict(enumerate(tokens))})


PARTS = {
    "swaps": "Filename Type Size Used Priority\n",
    "zram": "",
    "mounts": MOUNTS,
    "devices": json.dumps({"blockdevices": TREE}),
    "pattern": "|/bin/false\n",
    "crash": "0\n",
    "power": "freeze mem disk\nplatform shutdown\n",
    "sleep": "masked\nmasked\nmasked\n",
    "command": "BOOT_IMAGE=/vmlinuz root=/dev/sda1 ro\n",
    "crypttab": "# by hand\ndata UUID=1 none luks,tpm2-device=auto,headless=true,nofail\n"
    "late UUID=2 none luks,noauto,headless=true\n",
    "luks /dev/nvme0n1": header(2, TPM),
    "luks /dev/nvme1n1": header(1),
}


def listing(**changed: str) -> str:
    """What the node prints; ``__`` in a name stands for `` /dev/``."""
    parts = PARTS | {name.replace("__", " /dev/"): text for name, text in changed.items()}
    return "".join(
        f"=== {name}\n{text}" + ("" if text.endswith("\n") or not text else "\n")
        for name, text in parts.items()
    )


def said(**changed: str) -> storage.Storage:
    """What that means."""
    return storage.parse_storage(listing(**changed))


def swapped(*lines: str) -> str:
    return PARTS["swaps"] + "".join(f"{line} 1 0 -2\n" for line in lines)
