"""Says what a node holds, signed with the key by which the node is known: the node's half of ``status``.

Runs on the node's own Python (3.10 or later, standard library only), at low priority.  Reads; changes
nothing and leaves no file.

→ {"home": path, "keys": folder of the host keys, "unit": name, "site": …, "node": …, "recheck": bool,
   "short": bool, "patience": seconds}
← {"text": the inventory, canonical JSON, "signer": name of the key's file} or {"error", "text"}

What is hashed now and what is believed for the mark of completeness is told apart (``hashed``).
"""

from __future__ import annotations

import base64
import fcntl
import json
import os
import re
import subprocess
import sys
import time
from typing import Any

from appliance.node.remote.copy_state import LIST, Copy
from appliance.node.remote.two_slots import INSTALLED, Refused, Slots, newest

NAMESPACE = "inventory@appliance"
#: Of the kinds that bundles are signed with; RSA is not among them.
KEYS = ("ssh_host_ed25519_key", "ssh_host_ecdsa_key")
SECONDS = 60
LONGEST = 1024


def main() -> None:
    """One question, one answer."""
    request: dict[str, Any] = json.loads(sys.stdin.buffer.readline())
    os.nice(10)
    try:
        values = inventory(request)
        signer, signature = sign(request["keys"], spelled(values))
    except Refused as refused:
        print(json.dumps(refused.line))
        return
    text = spelled({**values, "signature": base64.b64encode(signature).decode()})
    print(json.dumps({"text": text.decode(), "signer": signer}))


def inventory(request: dict[str, Any]) -> dict[str, Any]:
    """What there is, not signed yet."""
    home, short = request["home"], request["short"]
    values: dict[str, Any] = {
        "format": 1,
        "type": "node-inventory",
        "site": request["site"],
        "node": request["node"],
        "time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "serving": serving(request["unit"]),
        "copies": [copy_of(home, each, request["recheck"], short) for each in staged(home)],
    }
    if said := installed(home):
        values["installed"] = said
    if said := journal(home, request["patience"]):
        values["journal"] = said
    return values


def spelled(values: dict[str, Any]) -> bytes:
    """RFC 8785, as far as these values go: printable ASCII and small whole numbers."""
    return json.dumps(values, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()


def staged(home: str) -> list[str]:
    """Digests of the bundles that have a copy, complete or not."""
    try:
        names = os.listdir(os.path.join(home, "staged"))
    except FileNotFoundError:
        return []
    return sorted(name for name in names if re.fullmatch("[0-9a-f]{64}", name))


def copy_of(home: str, bundle: str, recheck: bool, short: bool) -> dict[str, Any]:
    """One copy: how many files it should have, how many of these were read now, what is not right."""
    copy = Copy(home, bundle)
    state = copy.state(recheck)
    wrong = {shown(path): ", not ".join(found) for path, found in state["wrong"].items()}
    if state["list"] != bundle:
        wrong[LIST] = f"SHA-256 {state['list']}, not SHA-256 {bundle}"
    values: dict[str, Any] = {
        "bundle": bundle,
        "complete": state["mark"] is not None,
        "files": state["files"],
        "hashed": len(copy.hashed),
        "wrong": len(wrong) if short else wrong,
    }
    if not short:
        wanted, _ = copy.wanted()
        out = {*wrong, *copy.without()}
        values["holds"] = {path: digest for path, digest in wanted.items() if path not in out}
    return values


def shown(path: str) -> str:
    """A path that may be anything: what nobody staged is named by whoever put it there."""
    return path if path.isascii() and path.isprintable() and len(path) <= LONGEST else ascii(path)[:LONGEST]


def installed(home: str) -> dict[str, Any] | None:
    """What the last installation says of itself; None where there is no such record."""
    try:
        with open(os.path.join(home, INSTALLED), encoding="utf-8") as stream:
            said = json.load(stream)
        kept = {key: str(said[key]) for key in ("product", "version")}
        return {**kept, "bundle": str(said["digest"]), "sequence": int(said["sequence"])}
    except (OSError, ValueError, KeyError, TypeError):
        return None


def journal(home: str, patience: float) -> dict[str, Any] | None:
    """Root and revocation that the node knows, by its journal; None where there is no sound one."""
    slots = Slots(home, os.geteuid())
    if not slots.open():
        return None
    slots.lock(fcntl.LOCK_SH, patience)
    found = slots.read()
    current = newest(found)
    if current is None:
        return None
    said = json.loads(found[current]["text"])
    revocation = said.get("revocation", {}).get("serial", 0)
    return {"count": said["count"], "root": said["root"]["version"], "revocation": revocation}


def serving(units: str) -> str:
    """Whether the node serves, in systemd's word for it; of several units, that of one that does not."""
    try:
        done = subprocess.run(
            ["systemctl", "is-active", "--", *units.split()],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=SECONDS,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return "unknown"
    words = done.stdout.decode("ascii", "replace").split()
    word = next((each for each in words if each != "active"), words[0] if words else "")
    return word if re.fullmatch("[a-z-]{1,32}", word) else "unknown"


def sign(folder: str, message: bytes) -> tuple[str, bytes]:
    """The name of the host key that signs, and its raw signature (PROTOCOL.sshsig)."""
    for name in KEYS:
        place = os.path.join(folder, name)
        if not os.path.isfile(place):
            continue
        command = ["ssh-keygen", "-Y", "sign", "-q", "-f", place, "-n", NAMESPACE]
        try:
            done = subprocess.run(command, input=message, capture_output=True, timeout=SECONDS, check=False)
        except (OSError, subprocess.TimeoutExpired) as fault:
            raise Refused("unsigned", text=f"ssh-keygen: {fault}") from None
        if done.returncode:
            raise Refused("unsigned", text=done.stderr.decode("utf-8", "replace").strip()[-500:])
        body = b"".join(done.stdout.splitlines()[1:-1])
        *_, outer = strings(base64.b64decode(body)[10:])
        return name, strings(outer)[1]
    raise Refused("unsigned", text=f"none of {', '.join(KEYS)} in {folder}")


def strings(data: bytes) -> list[bytes]:
    """The strings that stand one after another (RFC 4251, section 5)."""
    found = []
    while data:
        end = 4 + int.from_bytes(data[:4], "big")
        found.append(data[4:end])
        data = data[end:]
    return found


if __name__ == "__main__":
    main()
