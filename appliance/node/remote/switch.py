"""Goes back to the version that ran before, unless the new one is proven in time; and keeps the history.

Runs on the node's own Python (3.10 or later, standard library only): for a station over standard input, and
from its own file by systemd, when the time is over or the node restarts.  It needs no station to go back.

→ one JSON object: {"do": "arm", "run", "after", "record", "program"}   save what runs by; start the timer
                   {"do": "confirm", "run"}      the new version is proven: it stays
                   {"do": "back", "reason", "run"?}      go back now
                   {"do": "status"}  {"do": "history"}  {"do": "note", "record"}
← one JSON object: {"pending", "history": lines or the last one, "confirmed"?, "restored"?} or {"error", …}

What is saved are the files by which our services run (``FILES``); copies of bundles and environments have
names of their own for each version and stay.  Packages, network and firewall are not touched here: a
package is never put back to an older version, and the network goes back by ``appliance-revert``.

A switch is pending from the moment the folder ``pending`` has its name until that becomes ``confirmed`` or
``undone``: one of the two, at one moment.  What has begun to go back goes back to its end, whoever is
stopped meanwhile.  A restart proves nothing: it goes back.
"""

from __future__ import annotations

import fcntl
import glob
import json
import os
import shutil
import subprocess
import sys
import time
from typing import TYPE_CHECKING, Any

from appliance.node.remote.history_log import add_line, read_lines
from appliance.node.remote.lasting import read, rename, replace, same, sync, write

if TYPE_CHECKING:
    from collections.abc import Callable

FILES = (
    "etc/systemd/system/appliance-*.service",
    "etc/systemd/system/appliance-*.timer",
    "etc/appliance/*",
    "usr/local/lib/appliance/audit.pyz",
)
UNITS = "etc/systemd/system"
PROGRAMS = ("opt/appliance/inference/*", "opt/appliance/export/*")
#: Units of the two programs that undo, which belong to no version.
NOT_OURS = ("appliance-switch", "appliance-revert")
HOME = "var/lib/appliance"
TIMER, SERVICE, BOOT = "appliance-switch.timer", "appliance-switch.service", "appliance-switch-boot.service"
#: Seconds by which the timer may be early.
LEEWAY = 2
RESTARTED = "the node restarted before the new version was proven"
SILENT = "nobody said within {} s that the new version is proven"

TEXTS = {
    TIMER: """\
[Unit]
Description=Wait for the proof of a new version

[Timer]
OnActiveSec={after}s
AccuracySec=1s

[Install]
WantedBy=timers.target
""",
    SERVICE: """\
[Unit]
Description=Go back to the former version: the new one was not proven in time
StartLimitIntervalSec=0

[Service]
Type=oneshot
ExecStart=/usr/bin/python3 -I -B {program} due
Restart=on-failure
RestartSec=2
""",
    BOOT: """\
[Unit]
Description=Go back to the former version: the new one was not proven before a restart
DefaultDependencies=no
RequiresMountsFor=/var/lib/appliance
After=local-fs.target systemd-remount-fs.service
Before=sysinit.target

[Service]
Type=oneshot
ExecStart=/usr/bin/python3 -I -B {program} boot
TimeoutStartSec=90

[Install]
WantedBy=sysinit.target
""",
}


def systemctl(*arguments: str) -> tuple[int, str]:
    """Exit status and first line."""
    done = subprocess.run(
        ["systemctl", *arguments], stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False
    )
    return done.returncode, (done.stdout or done.stderr).strip().partition("\n")[0]


class Switch:
    """The one pending switch of a node, if there is one."""

    def __init__(self, root: str = "/", control: Callable[..., tuple[int, str]] = systemctl) -> None:
        self.root, self.control = root, control
        self.home = os.path.join(root, HOME, "switch")
        self.pending = os.path.join(self.home, "pending")
        self.last = os.path.join(self.home, "last")
        self.program = os.path.join(self.home, "program.py")
        self.log = os.path.join(root, HOME, "history.jsonl")

    def arm(self, asked: dict[str, Any]) -> dict[str, Any]:
        """Save what runs by, unless a switch to the same version is pending; give it its full time."""
        self.settle()
        armed = self.armed()
        if armed and armed["record"]["to"] != asked["record"]["to"]:
            return {"error": "pending", "to": armed["record"]["to"]}
        values = {
            "run": asked["run"],
            "after": asked["after"],
            "boot": self.boot_id(),
            "uptime": self.uptime(),
            "record": asked["record"],
        }
        if armed:
            write(os.path.join(self.pending, "armed.json"), {**armed, **values})
        else:
            self.save(values)
        write(self.program, asked["program"])
        for name, text in TEXTS.items():
            write(self.place(f"{UNITS}/{name}"), text.format(after=asked["after"], program=self.program))
        sync(self.place(UNITS))
        self.control("daemon-reload")
        for command in (("enable", TIMER, BOOT), ("restart", TIMER)):
            status, told = self.control(*command)
            if status:
                self.forget("unarmed")
                return {"error": "failed", "text": f"systemctl {' '.join(command)}: {told}"}
        if not armed:
            rename(os.path.join(self.home, "saved"), self.pending)
        return self.status()

    def save(self, values: dict[str, Any]) -> None:
        """Copy the files, and say which units were enabled and at work.

        What was saved for a version that went back, and before which the same ran, is still right: the run
        that failed then may have changed something after its time.
        """
        folder = os.path.join(self.home, "saved")
        shutil.rmtree(folder, ignore_errors=True)
        last = read(os.path.join(self.last, "armed.json"))
        if last and last["record"].get("from") == values["record"].get("from"):
            rename(self.last, folder)
            write(os.path.join(folder, "armed.json"), {**last, **values})
            os.unlink(os.path.join(folder, "begun.json"))
            return
        os.makedirs(folder)
        units = {}
        for path in self.files():
            kept = os.path.join(folder, "files", path)
            os.makedirs(os.path.dirname(kept), exist_ok=True)
            shutil.copy2(self.place(path), kept)
            status = os.stat(self.place(path))
            os.chown(kept, status.st_uid, status.st_gid)
            sync(kept)
            if path.startswith(UNITS):
                name = os.path.basename(path)
                units[name] = [self.control("is-enabled", name)[1], self.control("is-active", name)[1]]
        values = {**values, "units": units, "environments": self.environments()}
        write(os.path.join(folder, "armed.json"), values)
        for inner, _, _ in os.walk(folder):
            sync(inner)

    def confirm(self, run: str) -> dict[str, Any]:
        """The new version stays, if it is still time to say so; ``why`` says why it is not."""
        self.settle()
        armed = self.armed()
        if armed is None:
            return {**self.status(), "confirmed": False, "why": "it went back before, or was never begun"}
        if armed["run"] != run:
            return {**self.status(), "confirmed": False, "why": "another run has begun the switch anew"}
        if armed["boot"] != self.boot_id():
            return {**self.status(), "confirmed": False, "why": RESTARTED}
        rename(self.pending, os.path.join(self.home, "confirmed"))
        self.settle()
        return {**self.status(), "confirmed": True}

    def back(self, reason: str, run: str = "", *, starting: bool = False) -> dict[str, Any]:
        """Put back what was saved, and have it run; ``starting``: systemd will start everything itself.

        ``run``: whoever asks began this one.  If it went back before, because its time was over, that is
        made sure of once more: the run may have changed something since.
        """
        self.settle()
        armed = self.armed()
        if armed is None and run and (armed := read(os.path.join(self.last, "armed.json"))):
            if armed["run"] != run:
                return {**self.status(), "restored": False}
            rename(self.last, self.pending)
        if armed is None:
            self.forget("unarmed")
            return {**self.status(), "restored": False}
        self.restore(armed, reason, starting=starting)
        self.settle()
        return {**self.status(), "restored": True}

    def due(self) -> dict[str, Any]:
        """Go back if the time is over."""
        self.settle()
        armed = self.armed()
        if armed and armed["boot"] == self.boot_id():
            if self.uptime() < armed["uptime"] + armed["after"] - LEEWAY:
                return self.status()
            return self.back(SILENT.format(armed["after"]))
        return self.back(RESTARTED)

    def boot(self) -> dict[str, Any]:
        """Go back after a restart, before our services start."""
        armed = self.armed()
        if armed and armed["boot"] == self.boot_id():
            return self.status()
        return self.back(RESTARTED, starting=True)

    def restore(self, armed: dict[str, Any], reason: str, *, starting: bool = False) -> None:
        """Files first, then units; may be cut off anywhere and begun again."""
        begun = os.path.join(self.pending, "begun.json")
        if not os.path.exists(begun):
            write(begun, {"reason": reason})  # from here on nobody confirms
        kept = os.path.join(self.pending, "files")
        saved = {
            os.path.relpath(os.path.join(folder, name), kept)
            for folder, _, names in os.walk(kept)
            for name in names
        }
        changed = [path for path in sorted(saved) if not same(os.path.join(kept, path), self.place(path))]
        for path in self.files():
            if path not in saved:
                if path.startswith(UNITS):
                    self.control("disable", *([] if starting else ["--now"]), os.path.basename(path))
                os.unlink(self.place(path))
        for path in changed:
            replace(os.path.join(kept, path), self.place(path))
        self.run_by(changed, armed["units"], starting=starting)
        for path in self.environments():
            if path not in armed["environments"]:  # nobody runs it now, and audits would ask whose it is
                shutil.rmtree(self.place(path), ignore_errors=True)
        rename(self.pending, os.path.join(self.home, "undone"))

    def run_by(self, changed: list[str], units: dict[str, list[str]], *, starting: bool) -> None:
        """Have units enabled and at work as they were, by files some of which were ``changed`` back."""
        self.control("daemon-reload")
        settings = any(not path.startswith(UNITS) for path in changed)
        for name, (enabled, active) in sorted(units.items()):
            if enabled == "enabled":
                self.control("enable", name)
            new = f"{UNITS}/{name}" in changed or settings or self.control("is-active", name)[1] != active
            if active == "active" and new and not starting:
                self.control("reset-failed", name)
                self.control("restart", name)

    def settle(self) -> None:
        """Finish what was cut off: going back, or writing down what became of a switch."""
        begun = read(os.path.join(self.pending, "begun.json"))
        if begun and (armed := self.armed()):
            self.restore(armed, begun["reason"])
        for name, result in (("confirmed", "done"), ("undone", "went back")):
            folder = os.path.join(self.home, name)
            if not os.path.isdir(folder):
                continue
            armed = read(os.path.join(folder, "armed.json")) or {"record": {}, "run": ""}
            begun = read(os.path.join(folder, "begun.json")) or {}
            self.note({**armed["record"], "run": armed["run"], "result": result, **begun})
            if name == "undone":
                shutil.rmtree(self.last, ignore_errors=True)
                rename(folder, self.last)
            self.forget(name)

    def note(self, record: dict[str, Any]) -> None:
        """Add a line to the history."""
        add_line(self.log, record)

    def history(self) -> list[dict[str, Any]]:
        """All its lines, the oldest first."""
        return read_lines(self.log)

    def status(self) -> dict[str, Any]:
        """What is pending, and how the last one ended."""
        armed = self.armed()
        lines = self.history()
        return {"pending": armed["record"] if armed else None, "last": lines[-1] if lines else None}

    def armed(self) -> dict[str, Any] | None:
        """The pending switch."""
        return read(os.path.join(self.pending, "armed.json"))

    def forget(self, name: str) -> None:
        """Nothing is pending: remove what was saved, and the units."""
        self.control("disable", "--now", TIMER)
        self.control("disable", BOOT)
        for unit in TEXTS:
            if os.path.lexists(self.place(f"{UNITS}/{unit}")):
                os.unlink(self.place(f"{UNITS}/{unit}"))
        self.control("daemon-reload")
        for each in (name, "saved", *(["last"] if name == "confirmed" else [])):
            shutil.rmtree(os.path.join(self.home, each), ignore_errors=True)
        if os.path.lexists(self.program):
            os.unlink(self.program)

    def files(self) -> list[str]:
        """What our services run by, relative to the root."""
        found = [path for pattern in FILES for path in glob.glob(pattern, root_dir=self.root)]
        return sorted(
            path
            for path in found
            if os.path.isfile(self.place(path)) and not os.path.basename(path).startswith(NOT_OURS)
        )

    def environments(self) -> list[str]:
        """Folders of programs, one for each version of each service, relative to the root."""
        return sorted(path for pattern in PROGRAMS for path in glob.glob(pattern, root_dir=self.root))

    def place(self, path: str) -> str:
        return os.path.join(self.root, path)

    def boot_id(self) -> str:
        with open("/proc/sys/kernel/random/boot_id", encoding="ascii") as stream:
            return stream.read().strip()

    def uptime(self) -> float:
        return time.clock_gettime(time.CLOCK_BOOTTIME)


def main() -> None:
    """One verb, under the lock."""
    switch = Switch()
    unattended = sys.argv[1] if len(sys.argv) > 1 and sys.argv[1] in {"due", "boot"} else ""
    asked: dict[str, Any] = {"do": unattended} if unattended else json.loads(sys.stdin.buffer.readline())
    os.makedirs(switch.home, mode=0o700, exist_ok=True)
    with open(os.path.join(switch.home, "lock"), "a", encoding="ascii") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        match asked["do"]:
            case "arm":
                answer = switch.arm(asked)
            case "confirm":
                answer = switch.confirm(asked["run"])
            case "back":
                answer = switch.back(asked["reason"], asked.get("run", ""))
            case "due":
                answer = switch.due()
            case "boot":
                answer = switch.boot()
            case "note":
                switch.note(asked["record"])  # of an installation: what it left is what runs now
                shutil.rmtree(switch.last, ignore_errors=True)
                answer = switch.status()
            case "history":
                answer = {**switch.status(), "history": switch.history()}
            case _:
                answer = switch.status()
    print(json.dumps(answer))


if __name__ == "__main__":
    main()
