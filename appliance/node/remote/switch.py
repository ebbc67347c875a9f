"""Goes back to the version that ran before, unless the new one is proven in time; and keeps the history.

Runs on the node's own Python (3.10 or later, standard library only): for a station over standard input, and
from its own file by systemd, when the time is over or the node restarts.  It needs no station to go back.

→ one JSON object: {"do": "arm", "run", "after", "record", "program"}   save what runs by; start the timer
                   {"do": "confirm", "run"}      the new version is proven: it stays
                   {"do": "back", "reason", "run"?}      go back now
                   {"do": "status"}  {"do": "history"}
                   {"do": "begin"}  {"do": "note", "record"}      of an installation
← one JSON object: {"pending", "last", "previous", "history"?, "confirmed"?, "restored"?, "ill"?, "over"?}
  or {"error", …}

What is saved are the files by which our services run (``saved_version``); copies of bundles and
environments have names of their own for each version and stay.  Packages, network and firewall are not
touched here: a package is never put back to an older version, and the network goes back by
``appliance-revert``.

A switch is pending from the moment the folder ``pending`` has its name until that becomes ``confirmed``,
``undone``, or ``overtaken`` by an installation that was proven: one of them, at one moment.  What has begun
to go back goes back to its end, whoever is stopped meanwhile.  A restart proves nothing: it goes back.
"""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import subprocess
import sys
import time
from typing import TYPE_CHECKING, Any

from appliance.node.remote.history_log import add_line, read_lines
from appliance.node.remote.lasting import read, rename, sync, write
from appliance.node.remote.saved_version import ROOM, UNITS, Running, reserve
from appliance.node.remote.switch_units import TIMER, remove, start

if TYPE_CHECKING:
    from collections.abc import Callable

HOME = "var/lib/appliance"
#: Seconds by which the timer may be early.
LEEWAY = 2
RESTARTED = "the node restarted before the new version was proven"
#: What became of a switch, by the name of its folder.
ENDS = {"confirmed": "done", "undone": "went back", "overtaken": "overtaken by an installation"}
SILENT = "nobody said within {} s that the new version is proven"


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
        self.running = Running(root, control)

    def arm(self, asked: dict[str, Any]) -> dict[str, Any]:
        """Save what runs by, unless a switch to the same version is pending; give it its full time."""
        self.settle()
        armed, record = self.armed(), self.from_what_runs(asked["record"])
        if armed and armed["record"]["to"] != record["to"]:
            return {"error": "pending", "to": armed["record"]["to"]}
        values = {
            "run": asked["run"],
            "after": asked["after"],
            "boot": self.boot_id(),
            "uptime": self.uptime(),
            "record": record,
        }
        place = os.path.join(self.pending, "armed.json")
        if armed:
            write(place, {**armed, **values, "record": {**record, "from": armed["record"].get("from")}})
        else:
            self.save(values)
        write(self.program, asked["program"])
        if told := start(self.place(UNITS), self.program, asked["after"], self.control):
            if armed:  # it is as it was: nobody began anything
                write(place, armed)
                start(self.place(UNITS), self.program, armed["after"], self.control)
            else:
                self.forget("unarmed")
            return {"error": "failed", "text": told}
        if not armed:
            rename(os.path.join(self.home, "saved"), self.pending)
        over = armed and armed["run"] != asked["run"] and armed["record"].get("by")
        return {**self.status(), "over": over or ""}

    def from_what_runs(self, record: dict[str, Any]) -> dict[str, Any]:
        """A run that was cut off between proof and record left the new version: that is what runs."""
        done = [line for line in self.history() if line.get("result") == "done"]
        return {**record, "from": record["to"]} if done and done[-1].get("to") == record["to"] else record

    def save(self, values: dict[str, Any]) -> None:
        """Copy the files, and say which units were enabled and at work.

        What was saved for a run that changed something after its time, and was killed then, is still right.
        Where nothing of its version is on the node, it was killed before that: what runs is what somebody
        may have put right since.
        """
        folder = os.path.join(self.home, "saved")
        shutil.rmtree(folder, ignore_errors=True)
        last = read(os.path.join(self.last, "armed.json"))
        same = last and last["record"].get("from") == values["record"].get("from")
        if last and same and self.running.left_of(last):
            shutil.copytree(self.last, folder, copy_function=os.link)  # owners stay; nothing is written to
            reserve(folder, ROOM)
            write(os.path.join(folder, "armed.json"), {**last, **values})
            os.unlink(os.path.join(folder, "begun.json"))
            return
        values = {**values, **self.running.keep(folder)}
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
        os.sync()  # what was proven by what is in memory is on the disk before it is called proven
        rename(self.pending, os.path.join(self.home, "confirmed"))
        self.settle()
        return {**self.status(), "confirmed": True}

    def back(self, reason: str, run: str = "", *, starting: bool = False) -> dict[str, Any]:
        """Put back what was saved, and have it run; ``starting``: systemd will start everything itself.

        ``run``: whoever asks began this one, and another's is left alone.  If it went back before, because
        its time was over, that is made sure of once more: the run may have changed something since.
        """
        self.settle(starting=starting)
        armed = self.armed()
        if armed and run and armed["run"] != run:
            return {**self.status(), "restored": False}
        if armed is None and run and (armed := read(os.path.join(self.last, "armed.json"))):
            if armed["run"] != run:
                return {**self.status(), "restored": False}
            rename(self.last, self.pending)
        if armed is None:
            self.forget("unarmed")
            return {**self.status(), "restored": False}
        self.restore(armed, reason, starting=starting)
        self.settle(starting=starting)
        answer = {**self.status(), "restored": True, "ill": self.ill()}
        if run:  # it has come to its end, and changes nothing after this
            shutil.rmtree(self.last, ignore_errors=True)
        return answer

    def ill(self) -> list[str]:
        """What did not run afterwards, of the version that was gone back to last."""
        begun = read(os.path.join(self.last, "begun.json")) or {}
        return list(begun.get("ill", ()))

    def due(self) -> dict[str, Any]:
        """Go back if the time is over."""
        self.settle()
        armed = self.armed()
        if armed and armed["boot"] == self.boot_id():
            if self.uptime() < armed["uptime"] + armed["after"] - LEEWAY:
                self.control("restart", "--no-block", TIMER)  # whoever armed anew was stopped before that
                return self.status()
            return self.back(SILENT.format(armed["after"]))
        return self.back(RESTARTED)

    def boot(self) -> dict[str, Any]:
        """Go back after a restart, before our services start."""
        armed = self.armed()
        if armed and armed["boot"] == self.boot_id():
            return self.status()
        return self.back(RESTARTED, starting=True)

    def begin(self) -> dict[str, Any]:
        """An installation changes what runs: not while a switch waits; what was saved is out of date."""
        self.settle()
        if armed := self.armed():
            return {"error": "pending", "to": armed["record"]["to"]}
        shutil.rmtree(self.last, ignore_errors=True)
        return self.status()

    def restore(self, armed: dict[str, Any], reason: str, *, starting: bool = False) -> None:
        """Put everything back; then the switch is over."""
        self.running.put_back(self.pending, armed, reason, starting=starting)
        rename(self.pending, os.path.join(self.home, "undone"))

    def settle(self, *, starting: bool = False) -> None:
        """Finish what was cut off: going back, or writing down what became of a switch."""
        begun = read(os.path.join(self.pending, "begun.json"))
        if begun and (armed := self.armed()):
            self.restore(armed, begun["reason"], starting=starting)
        for name, result in ENDS.items():
            folder = os.path.join(self.home, name)
            if not os.path.isdir(folder):
                continue
            armed = read(os.path.join(folder, "armed.json")) or {"record": {}, "run": ""}
            begun = read(os.path.join(folder, "begun.json")) or {}
            end = ", but ".join([result, *filter(None, [" and ".join(begun.get("ill", ()))])])
            why = {"reason": begun["reason"]} if "reason" in begun else {}
            self.note({**armed["record"], "run": armed["run"], "result": end, **why})
            if name == "undone":
                shutil.rmtree(self.last, ignore_errors=True)
                rename(folder, self.last)
            self.forget(name)

    def installed(self, record: dict[str, Any]) -> dict[str, Any]:
        """Write an installation down; what it left was proven, and no switch that waited undoes it."""
        self.settle()
        if self.armed():
            rename(self.pending, os.path.join(self.home, "overtaken"))
            self.settle()
        self.note(record)
        shutil.rmtree(self.last, ignore_errors=True)
        return self.status()

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
        before = (read(os.path.join(self.root, HOME, "installed.json")) or {}).get("previous")
        return {
            "pending": armed["record"] if armed else None,
            "last": lines[-1] if lines else None,
            "previous": before,
        }

    def armed(self) -> dict[str, Any] | None:
        """The pending switch; one that cannot be read was never proven, and has no time left."""
        if not os.path.isdir(self.pending):
            return None
        found = read(os.path.join(self.pending, "armed.json"))
        if found is not None:
            return found
        running = self.running
        return {
            "run": "",
            "after": 0,
            "boot": "",
            "uptime": 0.0,
            "record": {"to": {}},
            "units": running.states(running.files()),
            "environments": running.environments(),
        }

    def forget(self, name: str) -> None:
        """Nothing is pending: remove what was saved, and the units."""
        remove(self.place(UNITS), self.control)
        for each in (name, "saved", *(["last"] if name in {"confirmed", "overtaken"} else [])):
            shutil.rmtree(os.path.join(self.home, each), ignore_errors=True)
        if os.path.lexists(self.program):
            os.unlink(self.program)

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
    if asked["do"] in {"status", "history"} and not os.path.isdir(switch.home):
        print(json.dumps({**switch.status(), "history": switch.history()}))  # and nothing was changed
        return
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
                answer = switch.installed(asked["record"])
            case "begin":
                answer = switch.begin()
            case "history":
                answer = {**switch.status(), "history": switch.history()}
            case _:
                answer = switch.status()
    print(json.dumps(answer))


if __name__ == "__main__":
    main()
