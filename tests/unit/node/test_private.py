"""Private folders are nobody else's, and do not outlive their run for long."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from appliance.node.private import private_folder, write_private

_KILLED = """
import os, signal
from appliance.node.private import private_folder
with private_folder() as folder:
    print(folder, flush=True)
    os.kill(os.getpid(), signal.SIGKILL)
"""


def test_a_private_folder_is_ours_alone_and_gone_afterwards() -> None:
    with private_folder() as folder:
        write_private(folder / "secret", "x")
        assert folder.stat().st_mode & 0o077 == 0
        assert (folder / "secret").stat().st_mode & 0o077 == 0
        assert len(str(folder / ("0" * 40))) < 90, "room for the socket of a shared SSH connection"
    assert not folder.exists()


def test_what_a_killed_run_left_is_removed_by_the_next_and_live_ones_are_kept() -> None:
    killed = subprocess.run([sys.executable, "-c", _KILLED], capture_output=True, text=True, check=False)
    left = Path(killed.stdout.strip())
    assert left.exists()
    with private_folder() as first, private_folder():
        assert first.exists()
    assert not left.exists()


def test_a_run_that_cannot_see_our_processes_leaves_our_folder_alone() -> None:
    look = "from appliance.node.private import private_folder\nwith private_folder(): pass"
    apart = ["unshare", "--map-root-user", "--pid", "--fork", "--mount-proc", sys.executable, "-c", look]
    with private_folder() as folder:
        subprocess.run(apart, check=True)
        assert folder.exists()
