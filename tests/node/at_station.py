"""Commands of the build station, which ask the registries that this machine is configured for."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Final

import pytest

from appliance.errors import SourceUnreachable

if TYPE_CHECKING:
    from collections.abc import Sequence

# The program under test: the one installed beside this Python.
APPLIANCE: Final = str(Path(sys.executable).with_name("appliance"))
#: Seconds between two tries.
PAUSES: Final = (20, 40, 80)


def at_station(*command: str | Path, pauses: Sequence[float] = PAUSES) -> None:
    """Run ``appliance`` here; it must succeed.

    Where a registry is silent for longer than the program waits, it asks to be run again, and so it is:
    whether a registry answers today is not what these tests are about.
    """
    for pause in (*pauses, None):
        done = subprocess.run(
            [APPLIANCE, *command],
            check=False,
            capture_output=True,
            text=True,
            timeout=600,
            stdin=subprocess.DEVNULL,
        )
        if done.returncode != SourceUnreachable.exit_code or pause is None:
            break
        time.sleep(pause)
    if done.returncode != 0:
        pytest.fail(f"{command} ended with {done.returncode}\n{done.stdout}\n{done.stderr}")
