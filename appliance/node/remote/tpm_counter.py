"""The counter in the node's TPM 2.0 that goes up with each commit of the journal.

Runs on the node's own Python (3.10 or later, standard library only), as a part of ``journal``; what it
asks of the TPM it asks through tpm2-tools.

Two NV indices of the owner: ``COUNTER``, which can only go up, even if it is removed and defined again;
and ``KEPT``, whose being there means that a journal with the counter's value is on the disk.  Without the
second, a cut between the first value of the counter and the first journal that knows it would look like an
old journal that somebody put back.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from typing import Any

from appliance.node.remote.two_slots import Refused

#: NV indices that the TCG leaves to the owner (Registry of Reserved TPM 2.0 Handles: 0x01800000 and up).
COUNTER = 0x0180A001
KEPT = 0x0180A002
SECONDS = 30
TOOLS = ("tpm2_getcap", "tpm2_nvdefine", "tpm2_nvincrement", "tpm2_nvread")
_HANDLE = re.compile(rb"^- (0x[0-9A-Fa-f]+)\s*$", re.MULTILINE)


class TpmCounter:
    """The counter of one TPM.

    Args:
        tcti: how tpm2-tools reach it (tcti(7)): ``device:/dev/tpmrm0``.
    """

    def __init__(self, tcti: str) -> None:
        self.tcti = tcti

    def look(self) -> dict[str, Any] | None:
        """What the TPM says; None on a node that has no TPM.

        ``value``: of the counter, None if it has none yet.  ``kept``: whether the journal relies on it.
        ``trouble``: why nothing can be said; then there is nothing else.
        """
        kind, _, device = self.tcti.partition(":")
        if kind == "device" and not os.path.exists(device):
            return None
        if missing := [tool for tool in TOOLS if not shutil.which(tool)]:
            return {"trouble": f"the node has a TPM, and lacks {', '.join(missing)} (tpm2-tools)"}
        try:
            handles = self.handles()
        except Refused as refused:
            return {"trouble": refused.line["text"]}
        value = self.value() if COUNTER in handles else None
        return {"value": value, "kept": KEPT in handles}

    def handles(self) -> set[int]:
        """The NV indices that are defined."""
        listed = self._run("tpm2_getcap", "handles-nv-index")
        return {int(handle, 16) for handle in _HANDLE.findall(listed)}

    def value(self) -> int | None:
        """The counter's value; None before it was ever raised, which is when it gets one."""
        try:
            data = self._run("tpm2_nvread", "-C", hex(COUNTER), "-s", "8", hex(COUNTER))
        except Refused:
            return None
        return int.from_bytes(data, "big")

    def adopt(self) -> int:
        """Give the TPM its counter, if it has none, and the counter a value, if it has none."""
        if COUNTER not in self.handles():
            # Its own, empty, authorisation is enough to read and raise it: the owner may take a password.
            attributes = "nt=counter|authread|authwrite|no_da"
            self._run("tpm2_nvdefine", "-C", "o", "-a", attributes, hex(COUNTER))
        value = self.value()
        return self.increment() if value is None else value

    def keep(self) -> None:
        """Rely on the counter from now on."""
        if KEPT not in self.handles():
            self._run("tpm2_nvdefine", "-C", "o", "-s", "1", "-a", "authread|authwrite|no_da", hex(KEPT))

    def increment(self) -> int:
        """Raise the counter by one; its new value."""
        self._run("tpm2_nvincrement", "-C", hex(COUNTER), hex(COUNTER))
        value = self.value()
        if value is None:
            raise Refused("counter", text="the TPM does not give the counter's value")
        return value

    def _run(self, tool: str, *arguments: str) -> bytes:
        try:
            done = subprocess.run(
                [tool, "-T", self.tcti, *arguments],
                stdin=subprocess.DEVNULL,
                capture_output=True,
                check=False,
                timeout=SECONDS,
            )
        except (OSError, subprocess.TimeoutExpired) as fault:
            raise Refused("counter", text=str(fault)) from None
        if done.returncode != 0:
            told = done.stderr.decode(errors="replace").strip()[-300:]
            raise Refused("counter", text=f"{tool}: {told or f'exit status {done.returncode}'}")
        return done.stdout
