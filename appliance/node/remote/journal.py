"""Reads and changes a node's journal, asked by one line of JSON on standard input.

Runs on the node's own Python (3.10 or later, standard library only), as root.

    → {"do": "read", "home", "owner", "tpm", "patience"}     and likewise for the others
    ← {"slots": {"a": …, "b": …}, "newest": "a"|"b"|null, "counter": …, "installed": bool, "time": seconds}
    → {"do": "adopt", …}                 ← {"value": n}       the TPM's counter has a value from now on
                                         ← {"trouble": text}  it cannot have one
    → {"do": "complete", …}              ← as read            a commit that was cut off is carried through
    → {"do": "commit", "expected": {"count", "sha256"}|null, "text", …}          ← as read
    ← {"error": "busy"|"moved"|"unsafe"|"user"|"space"|"read-only"|"counter"|"failed", …}

``expected`` is the newest state that the asker knows: if another is there, nothing is changed.  What lies
on the disk: ``two_slots``; the TPM: ``tpm_counter``.

Order of a commit on a node with a TPM: the slot, with the value that the counter will have; then the
counter.  A cut before the slot is whole leaves the old state.  A cut after it leaves the new state, one
ahead of the counter, which no journal of the past can be: ``complete`` raises the counter.  A journal
behind the counter is an old one that was put back (docs/decisions/0030).
"""

from __future__ import annotations

import errno
import fcntl
import json
import os
import sys
import time
from typing import TYPE_CHECKING, Any

from appliance.node.remote.tpm_counter import TpmCounter
from appliance.node.remote.two_slots import INSTALLED, NAMES, Refused, Slots, newest

if TYPE_CHECKING:
    from collections.abc import Callable


class Keeper:
    """One request's view of journal and counter."""

    def __init__(self, request: dict[str, Any]) -> None:
        self.request = request
        self.slots = Slots(request["home"], request["owner"])
        self.counter = TpmCounter(request["tpm"])

    def answer(self) -> dict[str, Any]:
        """Do what is asked."""
        if os.geteuid() != self.request["owner"]:
            raise Refused("user", text=f"runs as user {os.geteuid()}")
        match self.request["do"]:
            case "read":
                if self.slots.open():
                    self.slots.lock(fcntl.LOCK_SH, self.request["patience"])
            case "adopt":
                self._hold()
                return self.adopt()
            case "complete":
                self._hold()
                self.complete()
            case "commit":
                self._hold()
                self.commit(self.request["expected"], self.request["text"].encode())
        return self.state()

    def adopt(self) -> dict[str, Any]:
        """Give the counter a value.  Where somebody else owns the TPM, the node does without."""
        try:
            return {"value": self.counter.adopt()}
        except Refused as refused:
            return {"trouble": refused.line["text"]}

    def _hold(self) -> None:
        self.slots.make()
        self.slots.lock(fcntl.LOCK_EX, self.request["patience"])

    def state(self) -> dict[str, Any]:
        """What there is."""
        absent: dict[str, Any] = {name: {"state": "absent"} for name in NAMES}
        slots = absent if self.slots.fd < 0 else self.slots.read()
        return {
            "slots": slots,
            "newest": newest(slots),
            "counter": self.counter.look(),
            "installed": os.path.lexists(os.path.join(self.slots.home, INSTALLED)),
            "time": time.time(),
        }

    def commit(self, expected: dict[str, Any] | None, data: bytes) -> None:
        """Put the next state into the other slot, if the newest is the expected one."""
        slots = self.slots.read()
        current = newest(slots)
        found = None if current is None else {key: slots[current][key] for key in ("count", "sha256")}
        values = json.loads(data)
        if found != expected or values["count"] != (found["count"] if found else 0) + 1:
            raise Refused("moved", found=found)
        finish = self._finish(values.get("tpm"))
        self.slots.write("b" if current == "a" else "a", data)
        finish()

    def _finish(self, value: int | None) -> Callable[[], object]:
        """What is to be done once a state with this value is on the disk; refused if it does not fit."""
        look = self.counter.look() or {"value": None, "kept": False}
        if value is None and not look.get("kept"):
            return lambda: None
        if "trouble" in look:
            raise Refused("counter", text=look["trouble"])
        if value is not None and look["value"] is not None:
            if look["kept"] and value == look["value"] + 1:
                return self.counter.increment
            if not look["kept"] and value == look["value"]:
                return self.counter.keep
        raise Refused("moved", found=look)

    def complete(self) -> None:
        """Carry through what a cut left undone after the slot was whole."""
        slots = self.slots.read()
        current = newest(slots)
        look = self.counter.look() or {}
        value, known = look.get("value"), slots[current]["tpm"] if current else None
        if value is None or known is None or not value <= known <= value + 1:
            raise Refused("moved", found=look)
        # Who was killed after the rename has not waited for the disk: never let the counter get ahead.
        self.slots.settle()
        if known == value + 1:
            self.counter.increment()
        self.counter.keep()


def fault_line(fault: OSError) -> dict[str, Any]:
    """What the system says of the disk, as an answer."""
    kinds = {errno.ENOSPC: "space", errno.EDQUOT: "space", errno.EROFS: "read-only"}
    return {"error": kinds.get(fault.errno or 0, "failed"), "text": str(fault)}


def main() -> None:
    """One question, one answer."""
    os.umask(0o022)
    print(json.dumps(Keeper(json.loads(sys.stdin.buffer.readline())).answer()))


if __name__ == "__main__":
    try:
        main()
    except Refused as refused:
        print(json.dumps(refused.line))
        sys.exit(1)
    except OSError as fault:
        print(json.dumps(fault_line(fault)))
        sys.exit(1)
