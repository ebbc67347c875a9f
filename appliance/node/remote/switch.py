"""Goes back to the version that ran before, unless the new one is proven in time; and keeps the history.

Runs on the node's own Python (3.10 or later, standard library only): for a station over standard input, and
from its own file by systemd, when the time is over or the node restarts.  It needs no station to go back.

→ one JSON object: {"do": "arm", "run", "after", "record", "program", "packages"?, "reboot"?}
                   save what runs by, and with ``packages`` which there are; start the timer
                   {"do": "restart", "run"}      restart, if packages are new that count from then on
                   {"do": "confirm", "run"}      the new version is proven: it stays
                   {"do": "back", "reason", "run"?}      go back now
                   {"do": "status"}  {"do": "history"}
                   {"do": "begin"}  {"do": "note", "record"}      of an installation
← one JSON object: {"pending", "restart", "last", "previous", "history"?, "confirmed"?, "restored"?, "ill"?,
                   "late"?, "over"?}
  or {"error", …}

What is saved are the files by which our services run and those that roles set beside them
(``saved_version``), and what these bring about: kernel, units of packages, network (``host_policy``).
Copies of bundles and environments have names of their own for each version and stay.  Packages go back only
together with one that counts from the next start of the node on (``late_packages``): a kernel, a driver; or
where dpkg was cut off at one.

A switch is pending from the moment the folder ``pending`` has its name until that becomes ``confirmed``,
``undone``, or ``overtaken`` by an installation that was proven: one of them, at one moment.  What has begun
to go back goes back to its end, whoever is stopped meanwhile.  A restart proves nothing: it goes back, but
for the one that was asked for (``restart.json``), after which the time for the proof begins anew.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import shutil
import sys
import time
from typing import TYPE_CHECKING, Any

from appliance.node.remote.former_packages import FormerPackages
from appliance.node.remote.history_log import KEYS, add_line, from_what_runs, read_lines
from appliance.node.remote.host_policy import HostPolicy, PolicyError
from appliance.node.remote.lasting import read, rename, sync, write
from appliance.node.remote.late_packages import DpkgError, Packages
from appliance.node.remote.restarts import Restarts
from appliance.node.remote.saved_version import UNITS, Running
from appliance.node.remote.switch_units import SERVICE, TIMER, remove, start, systemctl

if TYPE_CHECKING:
    from collections.abc import Callable

HOME = "var/lib/appliance"
#: Seconds by which the timer may be early.
LEEWAY = 2
SERVING = "appliance-inference.service"
RESTARTED = "the node restarted before the new version was proven"
#: What became of a switch, by the name of its folder.
ENDS = {"confirmed": "done", "undone": "went back", "overtaken": "overtaken by an installation"}
SILENT = "nobody said within {} s that the new version is proven"


class Switch:
    """The one pending switch of a node, if there is one."""

    def __init__(
        self,
        root: str = "/",
        control: Callable[..., tuple[int, str]] = systemctl,
        packages: Packages | None = None,
        policy: HostPolicy | None = None,
    ) -> None:
        self.root, self.control = root, control
        self.packages = packages or Packages(root)
        #: Whether the node is to be restarted once the answer was given.
        self.rebooting = False
        self.home = os.path.join(root, HOME, "switch")
        self.pending = os.path.join(self.home, "pending")
        self.last = os.path.join(self.home, "last")
        self.program = os.path.join(self.home, "program.py")
        self.restarts = Restarts(self.home, self.pending)
        self.log = os.path.join(root, HOME, "history.jsonl")
        self.running = Running(root, control)
        self.policy = policy or HostPolicy(root, control)

    def arm(self, asked: dict[str, Any]) -> dict[str, Any]:
        """Save what runs by, unless a switch to the same version is pending; give it its full time."""
        self.settle()
        armed, record = self.armed(), from_what_runs(asked["record"], self.history())
        if armed and armed["record"]["to"] != record["to"]:
            return {"error": "pending", "to": armed["record"]["to"]}
        values = {
            "run": asked["run"],
            "after": asked["after"],
            "boot": self.boot_id(),
            "uptime": self.uptime(),
            "record": record,
            "reboot": asked.get("reboot", True),
        }
        place = os.path.join(self.pending, "armed.json")
        if armed:
            write(place, {**armed, **values, "record": {**record, "from": armed["record"].get("from")}})
        else:
            packages = {"packages": self.packages.present()} if asked.get("packages") else {}
            self.save({**values, **packages, "first": values["boot"]})
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
            shutil.copytree(
                self.last, folder, symlinks=True, copy_function=os.link
            )  # nobody writes to these
            self.running.keep_room(folder)
            self.policy.keep_room(folder)
            packages = {"packages": last["packages"]} if "packages" in last else {}
            write(os.path.join(folder, "armed.json"), {**last, **values, **packages})
            for name in ("begun.json", "restart.json"):
                if os.path.lexists(place := os.path.join(folder, name)):
                    os.unlink(place)
            return
        values = {**values, **self.running.keep(folder), **self.policy.keep(folder)}
        write(os.path.join(folder, "armed.json"), values)
        for inner, _, _ in os.walk(folder):
            sync(inner)

    def restart(self, run: str) -> dict[str, Any]:
        """Have the node restart if packages are new that count from then on; ``late`` says which.

        Who serves is stopped before, in its own time.  With ``reboot`` off the restart is somebody else's,
        and the time for the proof begins with it.
        """
        self.settle()
        armed = self.armed()
        if armed is None or armed["run"] != run:
            return {"error": "failed", "text": "the switch is over, or another run has begun it anew"}
        self.packages.ours = self.restarts.brought()
        late = self.packages.late(armed["packages"]) if "packages" in armed else []
        if not late or armed["first"] != self.boot_id():
            return {**self.status(), "late": []}
        changed = self.packages.changed(armed["packages"])
        self.restarts.want(self.boot_id(), late, reboot=armed["reboot"], changed=changed)
        if armed["reboot"]:
            if SERVING in armed["units"]:
                self.control("stop", SERVING)
            self.rebooting = True
        return {**self.status(), "late": late}

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
        if self.restarts.asked(armed):
            return {**self.status(), "confirmed": False, "why": "the node was not restarted yet"}
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
            if (asked := self.restarts.asked(armed)) and not asked["reboot"]:
                return self.status()  # its time begins with the restart, which is somebody else's
            if self.uptime() < armed["uptime"] + armed["after"] - LEEWAY:
                self.control("restart", "--no-block", TIMER)  # whoever armed anew was stopped before that
                return self.status()
            return self.back(SILENT.format(armed["after"]))
        return self.back(RESTARTED)

    def boot(self) -> dict[str, Any]:
        """Go back after a restart, before our services start; after the one that was asked for, wait."""
        armed = self.armed()
        if armed and armed["boot"] == self.boot_id():
            return self.status()
        begun = os.path.lexists(os.path.join(self.pending, "begun.json"))
        if armed and self.restarts.asked(armed) and not begun:
            now = {"boot": self.boot_id(), "uptime": self.uptime()}
            write(os.path.join(self.pending, "armed.json"), {**armed, **now})
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
        """Put everything back; then the switch is over.

        Packages go back only when systemd has come up, since they ask it for things.  If the node was
        restarted since, the new ones are what was loaded, and it has to restart once more.  Whatever dpkg
        does: files and units go back.  Roles' settings count then too.
        """
        place = os.path.join(self.pending, "begun.json")
        begun = read(place) or {"reason": reason, "changed": []}
        staged = self.place(f"{HOME}/staged")
        self.packages.ours = self.restarts.brought()
        former = FormerPackages(self.packages, armed, place, boot=self.boot_id(), staged=staged)
        differ, stuck = former.bring(begun, lambda: self.running.free_room(self.pending), waits=starting)
        again = former.restarts()
        if not starting:
            stuck += self.policy.undo_unconfirmed()
        if starting or differ or begun.get("started") != self.boot_id():  # no service starts twice
            self.running.put_back(self.pending, armed, reason, starting=starting or again)
        begun = read(place) or begun
        if starting:
            waits = self.policy.put_back_for_boot(self.pending, armed, begun["changed"])
            if waits:
                write(place, {**begun, "started": self.boot_id()})
            if differ or waits:
                self.control("start", "--no-block", SERVICE)
                return
        elif stuck := [*stuck, *self.policy.put_back(self.pending, armed, begun["changed"])]:
            write(place, {**begun, "ill": [*begun.get("ill", ()), *stuck]})
        rename(self.pending, os.path.join(self.home, "undone"))

    def settle(self, *, starting: bool = False) -> None:
        """Finish what was cut off: going back, or writing down what became of a switch."""
        begun = read(os.path.join(self.pending, "begun.json"))
        if begun and not starting and (armed := self.armed()):
            self.restore(armed, begun["reason"])
        for name, result in ENDS.items():
            folder = os.path.join(self.home, name)
            if not os.path.isdir(folder):
                continue
            armed = read(os.path.join(folder, "armed.json")) or {"record": {}, "run": ""}
            begun = read(os.path.join(folder, "begun.json")) or {}
            end = ", but ".join([result, *filter(None, [" and ".join(begun.get("ill", ()))])])
            why = {"reason": begun["reason"]} if "reason" in begun else {}
            if begun.get("loaded") == self.boot_id():
                self.restarts.owe(begun["loaded"], begun["late"], reboot=begun["again"])
                self.rebooting = begun["again"]
            add_line(self.log, {**armed["record"], "run": armed["run"], "result": end, **why})
            if name == "undone":
                shutil.rmtree(self.last, ignore_errors=True)
                rename(folder, self.last)
            self.forget(name)

    def installed(self, record: dict[str, Any]) -> dict[str, Any]:
        """Write an installation down; what it left was proven, and no switch that waited undoes it.

        After keys that were learnt, or an installation that failed, what waits is what did before.
        """
        self.settle()
        if record.get("action") == KEYS or record.get("result") == "failed":
            add_line(self.log, record)
            return self.status()
        if self.armed():
            rename(self.pending, os.path.join(self.home, "overtaken"))
            self.settle()
        add_line(self.log, record)
        shutil.rmtree(self.last, ignore_errors=True)
        return self.status()

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
            "restart": self.restarts.waits(armed, self.boot_id()),
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
        never = {"run": "", "after": 0, "boot": "", "uptime": 0.0, "record": {"to": {}}, "policy": {}}
        return {**never, **self.running.remembered()}

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


def answer_to(switch: Switch, asked: dict[str, Any]) -> dict[str, Any]:
    """Do what is asked; what came of it."""
    verbs: dict[str, Callable[[], dict[str, Any]]] = {
        "arm": lambda: switch.arm(asked),
        "restart": lambda: switch.restart(asked["run"]),
        "confirm": lambda: switch.confirm(asked["run"]),
        "back": lambda: switch.back(asked["reason"], asked.get("run", "")),
        "due": switch.due,
        "boot": switch.boot,
        "note": lambda: switch.installed(asked["record"]),
        "begin": switch.begin,
        "history": lambda: {**switch.status(), "history": switch.history()},
    }
    try:
        return verbs.get(asked["do"], switch.status)()
    except (DpkgError, PolicyError) as fault:
        return {"error": "failed", "text": str(fault)}


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
        answer = answer_to(switch, asked)
    with contextlib.suppress(OSError):  # whoever asked is gone; the node does as it said all the same
        print(json.dumps(answer), flush=True)
    if switch.rebooting and systemctl("reboot")[0]:
        switch.restarts.refused()


if __name__ == "__main__":
    main()
