#!/usr/bin/python
"""A systemd service with its unit file, which runs by that file, and serves.

``systemctl start`` asks only whether *some* process runs.  A run that was cut off between writing the
unit and restarting it would leave the old process serving by old settings, and no later run would
notice.  So the unit carries a stamp of all it depends on in its environment, and this module compares
the stamp that is wanted with that of the running process.

A unit file is replaced only by one that systemd itself finds no fault with.

The unit must be of ``Type=notify``: starting it ends when it is ready, or at its own deadline.
"""

from __future__ import annotations

import http.client
import subprocess
from pathlib import Path
from typing import Any

from ansible.module_utils.appliance_root_file import RootFile
from ansible.module_utils.basic import AnsibleModule

DOCUMENTATION = r"""
module: stamped_service
short_description: A service with its unit file, which runs by that file, and serves
description:
  - Writes the unit file, once C(systemd-analyze verify) accepts it.
  - Enables the service, starts it, and restarts it when it does not run by the present unit file.
  - A socket that systemd opens for it is a unit of the same name, which stops and starts with it.
  - Then asks for its health on loopback.
options:
  unit:
    description: Name of the unit.
    type: str
    required: true
  text:
    description: The unit file. It sets C(APPLIANCE_STAMP) in the environment.
    type: str
    required: true
  socket_text:
    description: The unit file of its socket; empty where it has none, and one that is left over goes.
    type: str
    default: ""
  stamp:
    description: Value that C(APPLIANCE_STAMP) must have in the process's environment.
    type: str
    required: true
  restart:
    description: Restart in any case, because something outside the unit file changed.
    type: bool
    default: false
  health_port:
    description: Port on 127.0.0.1 that is asked at the end.
    type: int
    required: true
  health_path:
    description: Path that is asked there. Anything but status 200 is a failure.
    type: str
    required: true
  health_seconds:
    description: How long to wait for that answer.
    type: int
    default: 30
author:
  - The appliance developers
"""

UNITS = Path("/etc/systemd/system")
VARIABLE = "APPLIANCE_STAMP"
JOURNAL_LINES = "25"
PROPERTIES = "ActiveState,UnitFileState,NeedDaemonReload,MainPID,Environment"


class ServiceFailed(Exception):
    """The service does not run as wanted; the arguments are message, found, wanted."""


class UnitRefused(Exception):
    """systemd finds fault with the unit file; the arguments are message, found, wanted."""


def parse_properties(text: str) -> dict[str, str]:
    """``systemctl show`` output, NAME=VALUE by line, as a mapping."""
    return dict(line.split("=", 1) for line in text.splitlines() if "=" in line)


def stamp_in(environ: bytes) -> str | None:
    """The stamp in a process environment as ``/proc/PID/environ`` gives it (proc_pid_environ(5))."""
    for entry in environ.split(b"\0"):
        name, _, value = entry.partition(b"=")
        if name == VARIABLE.encode():
            return value.decode("ascii", "replace")
    return None


def plan(
    state: dict[str, str], *, running: str | None, wanted: str, rewritten: bool, restart: bool
) -> list[str]:
    """The systemctl verbs that lead from ``state`` to an enabled service running by ``wanted``.

    Args:
        state: properties of the unit as systemd knows it.
        running: stamp of the running process, None when there is none.
        wanted: stamp of the unit file.
        rewritten: the unit file was another.  Then what runs was perhaps started by that one, whose
            stamp an edit on the node may have left as it was.
        restart: restart even if the stamps agree.
    """
    verbs = []
    # systemd notices only files newer than those it loaded; a clock set back would hide a change.
    loaded = f"{VARIABLE}={wanted}" in state.get("Environment", "").split()
    if rewritten or not loaded or state.get("NeedDaemonReload") == "yes":
        verbs.append("daemon-reload")
    if state.get("UnitFileState") != "enabled":
        verbs.append("enable")
    if restart or rewritten or state.get("ActiveState") != "active" or running != wanted:
        if state.get("ActiveState", "inactive") != "inactive":
            # A service that started too often of late, failing or not, would refuse the very repair that
            # is made now; one that is inactive may not be loaded, and has nothing to forget.
            verbs.append("reset-failed")
        verbs.append("restart")
    return verbs


def replace(files: list[tuple[str, RootFile]], shown: dict[str, Path]) -> None:
    """Put unit files in place that systemd accepts together, or none of them.

    Args:
        files: those that change, by the unit's name.
        shown: files of the units that do not, which the others may name.

    Raises:
        UnitRefused: systemd finds a fault.
    """
    if not files:
        check_units(shown)
        return
    (name, file), *rest = files
    file.replace(lambda draft: replace(rest, {**shown, name: draft}))


def check_units(units: dict[str, Path]) -> None:
    """Ask systemd what it thinks of unit files, under the names they will have.

    Raises:
        UnitRefused: it finds a fault.
    """
    drafts = [f"{path}:{name}" for name, path in units.items()]
    command = ["systemd-analyze", "verify", "--man=no", "--recursive-errors=no", *drafts]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        wanted = f"success of: {' '.join(command)}"
        raise UnitRefused("systemd finds fault with the unit", done.stderr.strip(), wanted)


def systemctl(*arguments: str) -> str:
    """Run systemctl and return what it printed.

    Raises:
        ServiceFailed: it failed.
    """
    done = subprocess.run(["systemctl", *arguments], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise ServiceFailed(f"systemctl {' '.join(arguments)} failed", done.stderr.strip(), "exit status 0")
    return done.stdout


def read_state(unit: str) -> tuple[dict[str, str], str | None]:
    """The unit's properties, and the stamp of its main process if one runs."""
    state = parse_properties(systemctl("show", "--property", PROPERTIES, unit))
    try:
        stamp = stamp_in(Path("/proc", state.get("MainPID", "0"), "environ").read_bytes())
    except (FileNotFoundError, ProcessLookupError):
        stamp = None
    return state, stamp


def check_health(port: int, path: str, seconds: int) -> None:
    """Ask on loopback whether the service can serve.

    Raises:
        ServiceFailed: no answer in time, or another status than 200.
    """
    wanted = f"status 200 from {path} on 127.0.0.1:{port} within {seconds} s"
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=seconds)
    try:
        connection.request("GET", path)
        status = connection.getresponse().status
    except (OSError, http.client.HTTPException) as problem:
        found = str(problem) or repr(problem)
        raise ServiceFailed("the service does not answer", found, wanted) from problem
    finally:
        connection.close()
    if status != http.client.OK:
        raise ServiceFailed("the service is not well", f"status {status}", wanted)


def ensure(options: dict[str, Any], *, check_mode: bool) -> dict[str, Any]:
    """Bring unit file and service to their wanted state, or in check mode say what would be done.

    Raises:
        UnitRefused: systemd finds fault with the unit file.
        ServiceFailed: it does not start, stay or answer.
    """
    unit, wanted = options["unit"], options["stamp"]
    files = {unit: RootFile(UNITS / unit, options["text"])}
    socket = unit.removesuffix(".service") + ".socket"
    left_over = not options["socket_text"] and (UNITS / socket).exists()
    if options["socket_text"]:
        files[socket] = RootFile(UNITS / socket, options["socket_text"])
    changed = {name: file for name, file in files.items() if not file.is_as_wanted}
    rewritten = bool(changed) or left_over
    state, running = read_state(unit)
    verbs = plan(state, running=running, wanted=wanted, rewritten=rewritten, restart=options["restart"])
    diff = [file.difference() for file in changed.values()]
    if verbs:
        before = f"{state.get('ActiveState')}, {state.get('UnitFileState') or 'unknown'}, stamp {running}\n"
        diff.append({"before": before, "after": f"active, enabled, stamp {wanted}\n"})
    result = {"changed": bool(verbs), "verbs": verbs, "diff": diff}
    if check_mode:
        return result
    if changed:
        replace([*changed.items()], {name: UNITS / name for name in files.keys() - changed.keys()})
    if left_over:  # while systemd still knows it, or it would keep the port
        systemctl("stop", socket)
        (UNITS / socket).unlink()
    for verb in verbs:
        systemctl(verb, *([] if verb == "daemon-reload" else [unit]))
    _state, running = read_state(unit)
    if running != wanted:
        found = f"stamp {running}"
        raise ServiceFailed("the service does not run by its unit file", found, f"stamp {wanted}")
    check_health(options["health_port"], options["health_path"], options["health_seconds"])
    return result


def journal(unit: str) -> list[str]:
    """The last lines the service wrote, for whoever has to find out why it failed."""
    command = ["journalctl", "--unit", unit, "--boot", "--lines", JOURNAL_LINES, "--output", "cat"]
    return subprocess.run(command, capture_output=True, text=True, check=False).stdout.splitlines()


def main() -> None:
    """Run as an Ansible module."""
    module = AnsibleModule(
        argument_spec={
            "unit": {"type": "str", "required": True},
            "text": {"type": "str", "required": True},
            "socket_text": {"type": "str", "default": ""},
            "stamp": {"type": "str", "required": True},
            "restart": {"type": "bool", "default": False},
            "health_port": {"type": "int", "required": True},
            "health_path": {"type": "str", "required": True},
            "health_seconds": {"type": "int", "default": 30},
        },
        supports_check_mode=True,
    )
    try:
        module.exit_json(**ensure(module.params, check_mode=module.check_mode))
    except UnitRefused as problem:
        message, found, wanted = problem.args
        module.fail_json(msg=f"{message}: {found}", found=found, wanted=wanted)
    except ServiceFailed as problem:
        message, found, wanted = problem.args
        lines = journal(module.params["unit"])
        text = "\n".join([f"{message}: {found}", *lines])
        module.fail_json(msg=text, found=found, wanted=wanted, journal=lines)


if __name__ == "__main__":
    main()
