"""Programs of the system that the line is made with, here and inside its namespace."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Final

from appliance.errors import ExportLineDown, ToolMissing

#: Where ``ip netns`` keeps its names (ip-netns(8)).
NAMES: Final = Path("/run/netns")
_SECONDS: Final = 30


def run(*command: str, text: str = "") -> str:
    """Run a program and return what it printed.

    Raises:
        ExportLineDown: it failed, or took longer than half a minute.
        ToolMissing: it is not installed.
    """
    try:
        done = subprocess.run(
            command, input=text, capture_output=True, text=True, check=False, timeout=_SECONDS
        )
    except FileNotFoundError as fault:
        raise ToolMissing(
            f"{command[0]} is not installed here", wanted="iproute2, nftables and util-linux"
        ) from fault
    except subprocess.TimeoutExpired as fault:
        raise ExportLineDown(
            f"{' '.join(command)} does not end", wanted=f"an end within {_SECONDS} s"
        ) from fault
    if done.returncode:
        raise ExportLineDown(
            f"{' '.join(command)} failed", found=done.stderr.strip() or f"exit status {done.returncode}"
        )
    return done.stdout


def inside(namespace: str, *command: str, text: str = "") -> str:
    """Run a program in a named network namespace, and only in that: files are those of here.

    Raises:
        as ``run``.
    """
    return run("nsenter", f"--net={NAMES / namespace}", "--", *command, text=text)
