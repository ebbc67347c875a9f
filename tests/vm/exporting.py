"""The isolated machine as an exporter: the role's units, on a kernel, a driver and an auditd of its own.

Ansible takes a minute on an emulated machine, and ``tests/node/test_log_export.py`` shows what it does.  So
the role's templates are filled in here and started there; the program comes from the wheels that the
installation has staged, as far as a sender imports them.

The lower end of the wire is the machine's tap device, taken out of its bridge: silent.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jinja2

from appliance.export.line.settings import NAMESPACE
from appliance.frames.pcap import read_frames
from tests.node.wire import LOW_MAC, NODE, PORT, RECEIVER, Ends

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.node.conftest import Operator, PracticeNode
    from tests.vm.isolated import Isolated

ROLE = Path(__file__).parents[2] / "roles/log_export"
UNITS = ("appliance-export-line", "appliance-export-watch", "appliance-export")
FOLDER, USER, NAME = "/var/lib/appliance-export", "appliance-export", "gpu-01"
ENVIRONMENT = "/opt/appliance/export/proof/venv"
PROGRAM = f"{ENVIRONMENT}/bin/appliance"
AUDIT_LOG = "/var/log/audit/audit.log"
#: What a sender imports, and no more: unpacking is slow there.
WHEELS = (
    "annotated_doc",
    "appliance",
    "cffi",
    "cryptography",
    "pynacl",
    "raptorq",
    "rfc8785",
    "shellingham",
    "typer",
    "typing_extensions",
)
#: Of that what takes time at each start, as units write no caches.
COMPILED = (
    "appliance/cli/[aceo]*.py",
    "appliance/errors/*.py",
    "appliance/export/**/*.py",
    "appliance/trust/*.py",
    "cryptography/**/*.py",
    "typer/**/*.py",
)

#: Installs the program, the units and an identity; prints the receiver's file.
_PREPARE = """
import compileall, glob, json, os, pathlib, subprocess, sys, zipfile
order = json.loads({order!r})
def fits(wheel):  # for this Python, or for it and later ones, or for any
    python, abi = wheel.split("-")[-3:-1]
    return "py3" in python or python == f"cp3{{sys.version_info.minor}}" or abi == "abi3"
environment = pathlib.Path(order["environment"])
subprocess.run(["python3", "-I", "-m", "venv", "--without-pip", environment], check=True)
(site,) = environment.glob("lib/python3*/site-packages")
for name in order["wheels"]:
    wheel = next(filter(fits, glob.glob(f"/var/lib/appliance/staged/*/payload/toolkit/{{name}}-*.whl")))
    zipfile.ZipFile(wheel).extractall(site)
for pattern in order["compiled"]:
    for path in site.glob(pattern):
        compileall.compile_file(path, quiet=1)
for path, text in order["files"].items():
    pathlib.Path(path).parent.mkdir(parents=True, exist_ok=True)
    pathlib.Path(path).write_text(text)
os.chmod(order["program"], 0o755)
subprocess.run(["useradd", "--system", "--shell=/usr/sbin/nologin", order["user"]], check=True)
subprocess.run(["install", "-d", "-m", "0700", "-o", order["user"], order["folder"]], check=True)
init = [order["program"], "export", "init", order["folder"] + "/sender", "--name", order["name"]]
subprocess.run(["runuser", "--user=" + order["user"], "--", *init], check=True, stdout=subprocess.DEVNULL)
subprocess.run(["systemctl", "daemon-reload"], check=True)
print(pathlib.Path(order["folder"], "sender", order["name"] + ".sender.json").read_text(), end="")
"""

#: Takes the machine's end of the cable out of its bridge and makes it the receiver's card.
_BELOW = f"""
ip link set dev DEVICE nomaster
echo 1 > /proc/sys/net/ipv6/conf/DEVICE/disable_ipv6
ip link set dev DEVICE down
ip link set dev DEVICE address {LOW_MAC} arp off multicast off up
ip address replace {RECEIVER}/24 dev DEVICE
"""


@dataclass(frozen=True)
class Exporting:
    """The machine behind its walls, and the receiver at the other end.

    Args:
        isolated: the machine.
        device: the operator's end of the cable.
        card: MAC address of the machine's end.
        folder: the receiver's.
        before: frames that had come out of the machine's card before its walls were up.
    """

    isolated: Isolated
    device: str
    card: str
    folder: Path
    before: int

    @property
    def node(self) -> PracticeNode:
        return self.isolated.node

    @property
    def ends(self) -> Ends:
        """The two ends of the wire, to inject frames at."""
        side = self.isolated.machines.operator
        enter = ["nsenter", f"--net=/run/netns/{NAMESPACE}", "--"]
        above = side.command(["appliance", "lab", "shell", self.node.name, "--", *enter])
        return Ends(above, side.command(["env"]), self.device)

    def inside(self, command: str) -> str:
        """Run a shell command line in the line's namespace."""
        return self.node.run(f"nsenter --net=/run/netns/{NAMESPACE} -- sh -c '{command}'").stdout

    def records(self) -> list[dict[str, Any]]:
        """What the receiver has written; not the line that it is at."""
        return [json.loads(line) for line in self._lines().split(b"\n") if line]

    def _lines(self) -> bytes:
        path = self.folder / NAME / "records.jsonl"
        return path.read_bytes().rpartition(b"\n")[0] if path.is_file() else b""

    def status(self) -> dict[str, Any]:
        """What the receiver says of the node."""
        path = self.folder / "status.json"
        found: dict[str, Any] = json.loads(path.read_bytes())["nodes"][0] if path.is_file() else {}
        return found

    def heard(self, text: str) -> bool:
        """Whether some text is in a record, as JSON spells it; asked too often for parsing."""
        return text.encode() in self._lines()

    def sent(self) -> list[bytes]:
        """Every frame that came out of the card since its walls are up, as QEMU kept it."""
        path = sent_by(self.isolated)
        with path.open("rb") as file:
            return [each.data for each in read_frames(file, path.name, growing=True)][self.before :]


def sent_by(isolated: Isolated) -> Path:
    """The capture of what the export's card sent in this boot."""
    folder = Path(isolated.machines.node_status()["capture"])
    return folder / f"{isolated.boots}-export-sent.pcap"


def exporting_machine(isolated: Isolated, desk: Operator, folder: Path) -> Iterator[Exporting]:
    """Put the machine behind its walls, with a receiver; at the end the receiver is gone."""
    (nic,) = (each for each in isolated.machines.node_status()["interfaces"] if each["purpose"] == "export")
    octets = nic["addresses"][0].split(".")
    device = f"alab-{octets[2]}-{octets[3]}e"
    desk.run(["sh", "-e", "-c", _BELOW.replace("DEVICE", device)])
    sender = folder / f"{NAME}.sender.json"
    sender.write_text(
        isolated.node.run("python3 -", input=_PREPARE.format(order=_order(nic["mac"]))).stdout
    )
    path = sent_by(isolated)
    with path.open("rb") as file:
        before = sum(1 for _ in read_frames(file, path.name, growing=True))
    command = ["appliance", "export", "receive", str(folder / "received"), "--listen", f"{RECEIVER}:{PORT}"]
    process = desk.start([*command, "--sender", str(sender)])
    try:
        isolated.node.run(f"systemctl start {' '.join(UNITS)} || journalctl -n 40 -u 'appliance-export*'")
        yield Exporting(isolated, device, nic["mac"], folder / "received", before)
    finally:
        process.terminate()
        print(process.communicate(timeout=30)[0])


def _order(mac: str) -> str:
    settings = {
        "match": {"mac": mac},
        "address": NODE,
        "receiver": {"address": RECEIVER, "mac": LOW_MAC, "port": PORT},
    }
    given = {
        "log_export_command": PROGRAM,
        "log_export_user": USER,
        "log_export_stamp": "",
        "log_export_options": ["--audit", AUDIT_LOG],
        "log_export_folders": {},
        "log_export_sending": {},
        "log_export_groups": ["systemd-journal", "adm"],
        "log_export_settings": {**settings, "folder": FOLDER},
    }
    templates = jinja2.Environment(  # noqa: S701 - no HTML
        loader=jinja2.FileSystemLoader(ROLE / "templates"),
        trim_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    files = {
        f"/etc/systemd/system/{unit}.service": templates.get_template(
            f"etc/systemd/system/{unit}.service.j2"
        ).render(given)
        for unit in UNITS
    }
    files["/etc/appliance/export-line.json"] = json.dumps({"format": 1, **settings})
    files[PROGRAM] = f"#!{ENVIRONMENT}/bin/python -I\nfrom appliance.cli.app import main\nmain()\n"
    order = {"environment": ENVIRONMENT, "wheels": WHEELS, "files": files}
    order |= {"program": PROGRAM, "compiled": COMPILED, "user": USER, "folder": FOLDER, "name": NAME}
    return json.dumps(order)
