"""Cuts its own power in the middle of switches between two versions, and says after each start what it is.

Runs on a machine as a service, on its own Python: it looks, tells the console, begins the next case, and
the machine is reset where the case says, without a sync.  The program that switches is ours as it is sent
to nodes, behind a hook (``HOOK``) that resets the machine as a file is about to get a certain name.
"""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import time
import urllib.request
from pathlib import Path
from typing import Any

HOME = "/opt/cuts"
PROGRAM = f"{HOME}/switch.py"
UNIT = "/etc/systemd/system/appliance-inference.service"
SETTINGS = "/etc/appliance/served.json"
ENVIRONMENTS = "/opt/appliance/inference"
SWITCH = "/var/lib/appliance/switch"
PORT = 8000
WEIGHTS = 1 << 20

#: Before a file gets a name that ends so (``cut`` says how), the machine is reset, once.
HOOK = f"""\
def _watch():
    import os, sys
    def hear(event, arguments):
        if event != "os.rename" or not os.path.exists("{HOME}/cut"):
            return
        with open("{HOME}/cut") as file:
            wanted = file.read()
        if str(arguments[1]).endswith(wanted):
            os.unlink("{HOME}/cut")
            os.fsync(os.open("{HOME}", os.O_RDONLY))
            reset()
    sys.addaudithook(hear)
def reset():
    with open("{HOME}/unsynced", "w") as file:
        file.write("never reached the disk")
    with open("/proc/sysrq-trigger", "w") as trigger:
        trigger.write("b")
_watch()
"""
SERVE = """\
import hashlib, http.server, json, os
folder = os.path.dirname(os.path.abspath(__file__))
with open(os.path.join(folder, "weights"), "rb") as file:
    said = {"version": os.path.basename(folder), "sha256": hashlib.sha256(file.read()).hexdigest()}
class Answer(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()
        self.wfile.write(json.dumps(said).encode())
http.server.HTTPServer(("127.0.0.1", %d), Answer).serve_forever()
"""
SERVICE = """\
[Service]
ExecStart=/usr/bin/python3 -I {}/serve.py

[Install]
WantedBy=multi-user.target
"""
DRIVER = f"""\
[Unit]
After=appliance-inference.service ssh.service

[Service]
ExecStart=/usr/bin/python3 -I {HOME}/power_cuts.py

[Install]
WantedBy=multi-user.target
"""


def weights(version: str) -> bytes:
    """What a version serves by."""
    return hashlib.shake_256(version.encode()).digest(WEIGHTS)


def put(path: str, content: bytes) -> None:
    """Write a file as installers do: nothing says when it reaches the disk."""
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    Path(path).write_bytes(content)


def keep(name: str, text: str) -> None:
    """A note of this program's own that lasts."""
    put(f"{HOME}/{name}", text.encode())
    os.sync()


def furnish(version: str) -> None:
    """The files of a version, but for those that decide which one runs."""
    put(f"{ENVIRONMENTS}/{version}/serve.py", (SERVE % PORT).encode())
    put(f"{ENVIRONMENTS}/{version}/weights", weights(version))


def switch_to(version: str) -> None:
    """What roles do: the unit replaced in one step, then the service restarted."""
    put(f"{UNIT}.new", SERVICE.format(f"{ENVIRONMENTS}/{version}").encode())
    Path(f"{UNIT}.new").rename(UNIT)
    put(SETTINGS, json.dumps({"version": version}).encode())


def systemctl(*arguments: str) -> None:
    subprocess.run(["systemctl", *arguments], check=True)


def served() -> dict[str, Any]:
    """What the service says of itself, once it says something."""
    until = time.monotonic() + 240
    while True:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{PORT}/", timeout=60) as answer:
                found: dict[str, Any] = json.load(answer)
                return found
        except OSError as fault:
            if time.monotonic() > until:
                return {"version": f"nothing: {fault}"}
            time.sleep(0.2)


def ask(**asked: object) -> dict[str, Any]:
    """Put a question to the switch."""
    question = json.dumps(asked) + "\n"
    command = [sys.executable, "-I", "-B", PROGRAM]
    done = subprocess.run(command, input=question, text=True, capture_output=True, check=False)
    if done.returncode:
        return {"error": done.stderr}
    answer: dict[str, Any] = json.loads(done.stdout)
    return answer


def look() -> dict[str, Any]:
    """What this machine is now."""
    said, answer = served(), ask(do="history")
    version = said["version"]
    settings = json.loads(Path(SETTINGS).read_text())
    by = f"/{version}/" in Path(UNIT).read_text() and settings["version"] == version
    lines = answer.get("history", [])
    folders = [Path(SWITCH, name) for name in ("pending", "saved", "confirmed", "undone")]
    left = [folder for folder in folders if folder.exists()]
    left += Path("/etc/systemd/system").rglob("appliance-switch*")
    unsynced = Path(HOME, "unsynced")
    return {
        "serves": version,
        "whole": said.get("sha256") == hashlib.sha256(weights(version)).hexdigest() and by,
        "environments": sorted(each.name for each in Path(ENVIRONMENTS).iterdir()),
        "pending": answer.get("pending", answer),
        "results": [line["result"] for line in lines],
        "reason": lines[-1].get("reason") if lines else None,
        "left": [str(each) for each in left],
        "lost": not unsynced.exists() or not unsynced.stat().st_size,
    }


def arm(number: int) -> None:
    """Begin the switch."""
    versions = {"from": {"digest": "a", "version": "old"}, "to": {"digest": "b", "version": "new"}}
    record, program = {"action": "patch", **versions}, Path(PROGRAM).read_text()
    answer = ask(do="arm", run=f"run {number}", after=3600, record=record, program=program)
    if "error" in answer:
        raise RuntimeError(answer)


def apply(number: int) -> None:
    """Begin the switch, and have the new version serve."""
    arm(number)
    furnish("new")
    switch_to("new")
    systemctl("daemon-reload")
    systemctl("restart", "appliance-inference.service")
    if served()["version"] != "new":
        raise RuntimeError("the new version was to serve")


def back(number: int) -> None:
    ask(do="back", reason="it failed", run=f"run {number}")


def confirm(number: int) -> None:
    ask(do="confirm", run=f"run {number}")


def reset(_: int) -> None:
    subprocess.run([sys.executable, "-c", f"{HOOK}\nreset()"], check=True)


#: By name: what is done first, before a file of which name power goes, and in the middle of what.
CASES: dict[str, tuple[Any, str, Any]] = {
    "applied, and again while the start goes back": (apply, "/appliance-inference.service", reset),
    "back, before it is written down": (apply, "/history.jsonl", back),
    "proven, before it is called so": (apply, "/switch/confirmed", confirm),
    "proven, before it is written down": (apply, "/history.jsonl", confirm),
}


def main() -> None:
    """One start of the machine."""
    number = int(Path(HOME, "next").read_text())
    found = look()
    names = ["", *CASES]
    with Path("/dev/console").open("w") as console:
        print(f"\nCUT {json.dumps({'after': names[number], **found})}\n", file=console, flush=True)
    if number == len(CASES):
        return
    Path(HOME, "unsynced").unlink(missing_ok=True)
    keep("next", str(number + 1))
    before, name, during = CASES[names[number + 1]]
    before(number)
    if name:
        keep("cut", name)
    during(number)
    raise RuntimeError("power was to go")


#: Of a practice machine: starts cost processor time, and nobody asks for these.
IDLE = (
    *("apt-daily.timer", "apt-daily-upgrade.timer", "dpkg-db-backup.timer", "e2scrub_all.timer"),
    *(
        "e2scrub_reap.service",
        "fstrim.timer",
        "nvmefc-boot-connections.service",
        "nvmf-autoconnect.service",
    ),
    *(
        "systemd-networkd-wait-online.service",
        "systemd-pstore.service",
        "uuidd.socket",
        "getty@tty1.service",
    ),
)


def prepare() -> None:
    """The old version serves."""
    put(PROGRAM, (HOOK + Path(HOME, "program").read_text()).encode())
    systemctl("set-default", "multi-user.target")
    systemctl("mask", "--quiet", *IDLE)
    furnish("old")
    switch_to("old")
    put("/etc/systemd/system/power-cuts.service", DRIVER.encode())
    put("/var/lib/appliance/installed.json", b'{"digest": "a"}')
    keep("next", "0")
    systemctl("daemon-reload")
    systemctl("enable", "appliance-inference.service")
    systemctl("start", "appliance-inference.service")
    os.sync()


if __name__ == "__main__":
    prepare() if sys.argv[1:] == ["prepare"] else main()
