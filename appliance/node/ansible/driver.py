"""Runs a playbook as a subprocess and reads its events from an inherited descriptor.

Inventory and variables are files in a private folder in memory, so that nothing of them appears on a
command line or in an environment.  What Ansible prints goes to a log for people; nothing is read back
from it.  Nothing of the operator's own Ansible configuration takes part.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from appliance.node.ansible.events import PlaybookResult, Tally
from appliance.node.private import write_private

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from appliance.progress import Progress

CALLBACK: Final = Path(__file__).resolve().parent / "callback"
#: What a subprocess needs to find programs and the SSH agent, and how much the log shall hold; nothing else
#: of the environment.
_KEPT: Final = ("PATH", "HOME", "USER", "LOGNAME", "SSH_AUTH_SOCK", "TERM", "TMPDIR", "ANSIBLE_VERBOSITY")
_END_SECONDS: Final = 15


@dataclass(frozen=True)
class Playbook:
    """A playbook to run.

    Args:
        file: the playbook.
        roles: the folder of its roles.
        hosts: host variables by host name; all hosts are in the group ``nodes``.
        variables: variables for all hosts; they win over everything else.
        check: change nothing, only say what would change.
    """

    file: Path
    roles: Path
    hosts: Mapping[str, Mapping[str, object]]
    variables: Mapping[str, object]
    check: bool = False


def run_playbook(
    playbook: Playbook,
    *,
    folder: Path,
    log: Path,
    progress: Progress,
    on_event: Callable[[Mapping[str, Any]], None] = lambda _: None,
) -> PlaybookResult:
    """Run a playbook to its end.

    Args:
        playbook: what to run, where, with which variables.
        folder: private folder for the generated files; exists.
        log: where Ansible's own output is added.
        progress: told of every task.
        on_event: called with every event, as it comes.

    Raises:
        KeyboardInterrupt: after Ansible was told to end, and did.
    """
    arguments = _prepare(playbook, folder)
    tally = Tally(list(playbook.hosts), progress)
    reading, writing = os.pipe()
    with log.open("ab") as output:
        process = subprocess.Popen(
            arguments,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            cwd=folder,
            env=_environment(folder, writing),
            pass_fds=(writing,),
            start_new_session=True,  # a Ctrl-C is ours to pass on, once
        )
        os.close(writing)
        with os.fdopen(reading, encoding="utf-8") as events:
            try:
                for line in events:
                    event = json.loads(line)
                    on_event(event)
                    tally.take(event)
                status = process.wait()
            except BaseException:
                _end(process)
                raise
            finally:
                result = tally.close(process.poll() or 0)
    result.status = status
    return result


def _prepare(playbook: Playbook, folder: Path) -> list[str]:
    """Write configuration, inventory and variables; the command line to run."""
    inventory = {"nodes": {"hosts": {name: dict(values) for name, values in playbook.hosts.items()}}}
    write_private(folder / "inventory.json", json.dumps(inventory))
    write_private(folder / "variables.json", json.dumps(playbook.variables))
    write_private(folder / "ansible.cfg", _configuration(playbook, folder))
    arguments = [sys.executable, "-m", "ansible", "playbook", str(playbook.file)]
    arguments += ["--extra-vars", f"@{folder / 'variables.json'}", "--diff"]
    return [*arguments, "--check"] if playbook.check else arguments


def _configuration(playbook: Playbook, folder: Path) -> str:
    forks = max(1, min(32, len(playbook.hosts)))
    return f"""\
[defaults]
inventory = {folder / "inventory.json"}
roles_path = {playbook.roles}
home = {folder / "ansible"}
local_tmp = {folder / "ansible/tmp"}
callback_plugins = {CALLBACK}
callbacks_enabled = appliance_events
forks = {forks}
host_key_checking = True
retry_files_enabled = False
nocows = True
nocolor = True
inject_facts_as_vars = False
internal_poll_interval = 0.02
[inventory]
enable_plugins = yaml
any_unparsed_is_failed = True
[connection]
pipelining = True
[ssh_connection]
ssh_args =
retries = 0
"""


def _environment(folder: Path, descriptor: int) -> dict[str, str]:
    kept = {name: os.environ[name] for name in _KEPT if name in os.environ}
    return kept | {
        "ANSIBLE_CONFIG": str(folder / "ansible.cfg"),
        "APPLIANCE_EVENTS_FD": str(descriptor),
        "LC_ALL": "C.UTF-8",
        "PYTHONUTF8": "1",
        "PYTHONDONTWRITEBYTECODE": "1",
    }


def _end(process: subprocess.Popen[bytes]) -> None:
    """Ask Ansible and all it started to end, as Ctrl-C would; insist when it does not."""
    for sign in (signal.SIGINT, signal.SIGTERM, signal.SIGKILL):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, sign)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(timeout=_END_SECONDS)
            return
