#!/usr/bin/python
"""The node's daily audit: its program, what it is told, its service and its timer; or none of them.

Unit files are replaced only by such that systemd itself finds no fault with.  What was kept of audits stays
when the audit goes.
"""

from __future__ import annotations

import base64
import os
import stat
import subprocess
import tempfile
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ansible.module_utils.basic import AnsibleModule

DOCUMENTATION = r"""
module: daily_audit
short_description: Have the node audit itself every day, or not
description:
  - C(state=present) writes program, settings, service and timer, enables the timer and starts it.
  - C(state=absent) stops the timer and removes all of them.
options:
  state:
    description: What to bring about.
    type: str
    choices: [present, absent]
    required: true
  path:
    description: Where the program lies.
    type: path
    required: true
  settings_path:
    description: Where it is told what the inventory declares; for root alone.
    type: path
    required: true
  program:
    description: The program, in base64.
    type: str
    default: ""
  settings:
    description: What it is told.
    type: str
    default: ""
  service:
    description: The text of the service.
    type: str
    required: true
  timer:
    description: The text of the timer.
    type: str
    required: true
author:
  - The appliance developers
"""

EXAMPLES = r"""
- name: Have no daily audit
  daily_audit:
    state: absent
    path: /usr/local/lib/appliance/audit.pyz
    settings_path: /etc/appliance/audit.json
    service: ""
    timer: ""
"""

RETURN = r"""
changes:
  description: What differed, one line each.
  returned: always
  type: list
  elements: str
"""

UNITS = Path("/etc/systemd/system")
SERVICE = "appliance-audit.service"
TIMER = "appliance-audit.timer"
PROPERTIES = "LoadState,UnitFileState,ActiveState,NeedDaemonReload,Result,ExecMainStatus"
#: By this exit status the audit says that something differs; it has done its work.
DRIFT = "8"


class Refused(Exception):
    """systemd does not do what it is asked, or finds fault; the text says what it wrote."""


@dataclass(frozen=True)
class File:
    """A plain file of root's."""

    path: Path
    data: bytes
    mode: int
    shown: bool = True

    @property
    def found(self) -> str:
        """Nothing when it is as it should be; else what it is."""
        try:
            status = self.path.lstat()
        except (FileNotFoundError, NotADirectoryError):
            return "absent"
        owned = (status.st_uid, status.st_gid) == (os.geteuid(), os.getegid())
        if not stat.S_ISREG(status.st_mode) or not owned or stat.S_IMODE(status.st_mode) != self.mode:
            return f"{stat.filemode(status.st_mode)} {status.st_uid}:{status.st_gid}"
        return "" if self.path.read_bytes() == self.data else "differs"

    def write(self) -> None:
        """Put it in place whole; folders that are missing are root's and open to read."""
        for folder in reversed([each for each in self.path.parents if not each.exists()]):
            folder.mkdir()
            folder.chmod(0o755)
        descriptor, draft = tempfile.mkstemp(dir=self.path.parent, prefix=".appliance-")
        with os.fdopen(descriptor, "wb") as file:
            file.write(self.data)
            file.flush()
            os.fchmod(file.fileno(), self.mode)
            os.fsync(file.fileno())
        Path(draft).replace(self.path)

    def difference(self, wanted: bool) -> dict[str, str]:
        """The change as Ansible shows it; of a program no more than that."""
        before = self.path.read_text("utf-8", "replace") if self.shown and self.path.is_file() else ""
        after = self.data.decode() if self.shown and wanted else ""
        return {
            "before_header": f"{self.path} ({self.found or 'as wanted'})",
            "after_header": f"{self.path} ({self.mode:04o} 0:0)" if wanted else "absent",
            "before": before,
            "after": after,
        }


def systemctl(*words: str) -> str:
    """Run systemctl and return what it printed; Refused with what it wrote when it fails."""
    done = subprocess.run(["systemctl", *words], capture_output=True, text=True, check=False)
    if done.returncode:
        raise Refused(f"systemctl {' '.join(words)} ended with {done.returncode}: {done.stderr.strip()}")
    return done.stdout


def read_state(unit: str) -> dict[str, str]:
    """Properties of a unit, as systemd knows it."""
    text = systemctl("show", "--property", PROPERTIES, unit)
    return dict(line.split("=", 1) for line in text.splitlines() if "=" in line)


def check_units(texts: dict[str, bytes]) -> None:
    """Ask systemd what it thinks of the units, together and under their names."""
    with tempfile.TemporaryDirectory(prefix="appliance-") as folder:
        drafts = [Path(folder) / name for name in texts]
        for draft in drafts:
            draft.write_bytes(texts[draft.name])
        command = ["systemd-analyze", "verify", "--man=no", "--recursive-errors=no", *map(str, drafts)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise Refused(f"systemd finds fault with the units: {done.stderr.strip()}")


def plan(timer: dict[str, str], service: dict[str, str], *, rewritten: bool) -> list[tuple[str, ...]]:
    """The systemctl commands that lead to an enabled, waiting timer and a service that may start.

    Args:
        timer: properties of the timer.
        service: properties of the service.
        rewritten: one of their files was another.
    """
    commands: list[tuple[str, ...]] = []
    if rewritten or "yes" in {timer.get("NeedDaemonReload"), service.get("NeedDaemonReload")}:
        commands.append(("daemon-reload",))
    if timer.get("UnitFileState") != "enabled":
        commands.append(("enable", TIMER))
    if rewritten or timer.get("ActiveState") != "active":
        commands.append(("restart", TIMER))
    if service.get("ActiveState") == "failed" and service.get("ExecMainStatus") != DRIFT:
        # An audit that could not do its work: what kept it is mended by now, or the next one says so.
        commands.append(("reset-failed", SERVICE))
    return commands


def bring_about(files: list[File], check: bool) -> dict[str, Any]:
    """Have all of it; the module's result."""
    wrong = [file for file in files if file.found]
    rewritten = any(file.path.parent == UNITS for file in wrong)
    commands = plan(read_state(TIMER), read_state(SERVICE), rewritten=rewritten)
    changes = [f"{file.path}: {file.found}" for file in wrong] + [" ".join(each) for each in commands]
    result = {
        "changed": bool(changes),
        "changes": changes,
        "diff": [file.difference(wanted=True) for file in wrong],
    }
    if check or not changes:
        return result
    if rewritten:
        check_units({file.path.name: file.data for file in files if file.path.parent == UNITS})
    for file in wrong:
        file.write()
    for command in commands:
        systemctl(*command)
    return result


def take_away(files: list[File], check: bool) -> dict[str, Any]:
    """Have none of it; the module's result."""
    settings = files[1]
    there = [file for file in files if os.path.lexists(file.path)]
    units = {name: read_state(name) for name in (TIMER, SERVICE)}
    loaded = [name for name, unit in units.items() if unit.get("LoadState") not in {"not-found", "masked"}]
    failed = [name for name, unit in units.items() if unit.get("ActiveState") == "failed"]
    changes = [f"{file.path}: to go" for file in there] + [f"{name}: failed" for name in failed]
    result = {
        "changed": bool(changes),
        "changes": changes,
        "diff": [file.difference(wanted=False) for file in there],
    }
    if check or not changes:
        return result
    if TIMER in loaded:
        systemctl("disable", "--now", TIMER)
    if SERVICE in loaded:
        systemctl("stop", SERVICE)
    for file in there:
        file.path.unlink()
    with suppress(OSError):  # others keep something there, or it was never made
        settings.path.parent.rmdir()
    systemctl("daemon-reload")
    for name in failed:
        systemctl("reset-failed", name)
    return result


def main() -> None:
    """Run as an Ansible module."""
    module = AnsibleModule(
        argument_spec={
            "state": {"type": "str", "choices": ["present", "absent"], "required": True},
            "path": {"type": "path", "required": True},
            "settings_path": {"type": "path", "required": True},
            "program": {"type": "str", "default": ""},
            "settings": {"type": "str", "default": ""},
            "service": {"type": "str", "required": True},
            "timer": {"type": "str", "required": True},
        },
        supports_check_mode=True,
    )
    given = module.params
    files = [
        File(Path(given["path"]), base64.b64decode(given["program"]), 0o644, shown=False),
        File(Path(given["settings_path"]), given["settings"].encode(), 0o600),
        File(UNITS / SERVICE, given["service"].encode(), 0o644),
        File(UNITS / TIMER, given["timer"].encode(), 0o644),
    ]
    wanted = given["state"] == "present"
    if wanted and not (given["program"] and given["settings"]):
        module.fail_json(msg="a daily audit needs its program and what it is told")
    try:
        result = (bring_about if wanted else take_away)(files, module.check_mode)
    except (Refused, OSError) as fault:
        module.fail_json(msg=str(fault))
    module.exit_json(**result)


if __name__ == "__main__":
    main()
