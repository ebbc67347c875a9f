"""Boot the machine that the others are copies of, and keep its state when it waits for its identity."""

from __future__ import annotations

import socket
import subprocess
import time
from typing import TYPE_CHECKING

from appliance.errors import LabFailed
from appliance.lab import qemu
from appliance.lab.machine_recipe import WAITING
from appliance.lab.monitor import Monitor

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

_BOOT_SECONDS = 600.0
_SAVE_SECONDS = 120.0
_PAUSE = 0.1
_CONSOLE_LINES = 20


def boot_template(image: qemu.Image) -> None:
    """Boot the image's disk without a network and write ``booted_disk`` and ``booted_state``.

    The machine does not outlive the process that started it.

    Raises:
        LabFailed: it does not come that far; the message carries the end of its console.
    """
    console = image.folder / "console.log"
    ours, theirs = socket.socketpair()
    with ours, theirs:
        command = qemu.template_command(image, console, theirs.fileno())
        with console.open("ab") as output:
            machine = subprocess.Popen(
                ["setpriv", "--pdeathsig", "KILL", "--", "unshare", "--net", "--", *command],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                pass_fds=(theirs.fileno(),),
                env={**qemu.environment(image.qemu), "PATH": "/usr/sbin:/usr/bin:/sbin:/bin"},
            )
        try:
            theirs.close()  # so that the end of the machine is the end of the connection
            _save(machine, Monitor(ours), console, image)
            machine.wait(_SAVE_SECONDS)
        except LabFailed as error:
            raise LabFailed(error.message, found=_last_lines(console), wanted=error.wanted) from error
        finally:
            machine.kill()
            machine.wait()


def _save(machine: subprocess.Popen[bytes], talk: Monitor, console: Path, image: qemu.Image) -> None:
    _wait(lambda: WAITING in _text(console), machine, _BOOT_SECONDS, "does not finish booting")
    talk.call("migrate", uri=f"file:{image.booted_state}")
    _wait(lambda: _is_saved(talk), machine, _SAVE_SECONDS, "cannot be saved")
    talk.call("quit")


def _is_saved(talk: Monitor) -> bool:
    state = talk.call("query-migrate")
    if state["status"] == "failed":
        raise LabFailed("the virtual machine's state was not saved", found=state.get("error-desc"))
    return bool(state["status"] == "completed")


def _wait(done: Callable[[], bool], machine: subprocess.Popen[bytes], seconds: float, what: str) -> None:
    deadline = time.monotonic() + seconds
    while not done():
        if machine.poll() is not None or time.monotonic() >= deadline:
            raise LabFailed(
                f"the virtual machine that the others are copies of {what}",
                wanted=f"it waits for its identity within {seconds:.0f} s",
            )
        time.sleep(_PAUSE)


def _text(console: Path) -> str:
    return console.read_text("utf-8", errors="replace")


def _last_lines(console: Path) -> str:
    return "\n         ".join(_text(console).splitlines()[-_CONSOLE_LINES:]) or "an empty console"
