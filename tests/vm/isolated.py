"""One machine that is installed, rebooted, used and left alone, with every frame that it ever sent.

A bundle takes minutes to install in software emulation, so the tests of ``test_isolation`` share one; and
as ten minutes of idling are ten minutes, it idles while other tests run, until ``test_zero_packets``.
"""

from __future__ import annotations

import contextlib
import json
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import yaml

from appliance.frames.judgement import text_of
from appliance.frames.pcap import read_frames
from appliance.lab.frames import judge_node
from appliance.lab.places import Places
from appliance.node.site import read_inventory

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from conftest import Machines

    from appliance.frames.judgement import Judged
    from tests.node.conftest import Installer, PracticeNode

IDLE_SECONDS = 600.0
PURPOSES = ("management", "export", "data", "data2")
#: Flows that the inventory declares besides SSH; peers are the operator's addresses on other wires.
ECHO_PORT, LOG_PORT, DISK_PORT = 5000, 5140, 2049

#: Sends to everybody there is, as soon as and for as long as it can; says in /run what became of it.
SHOUTER = """\
import json, os, socket, time
AIMS = json.load(open("/usr/local/lib/shouter.json"))
counts = {}
while True:
    cards = [card for card in socket.if_nameindex() if card[1] != "lo"]
    aims = [(aim, None) for aim in AIMS]
    aims += [(aim, card) for aim in ("255.255.255.255", "ff02::1") for card in cards]
    for aim, card in aims:
        six = ":" in aim
        with socket.socket(socket.AF_INET6 if six else socket.AF_INET, socket.SOCK_DGRAM) as one:
            try:
                if card:
                    one.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
                    one.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, card[1].encode())
                one.connect((aim, 9, 0, card[0] if card else 0) if six else (aim, 9))
                one.send(b"appliance-shouter")
                said = "sent"
            except OSError as error:
                said = error.strerror
        counts[said] = counts.get(said, 0) + 1
    with open("/run/shouter.new", "w") as file:
        json.dump({"since": os.times().elapsed, "counts": counts}, file)
    os.rename("/run/shouter.new", "/run/shouter.json")
    time.sleep(0.2)
"""
#: Some rounds, in each of which it shouts to ten aims.
ENOUGH_SHOUTS = 50
#: Before the network, before the firewall, before nearly everything.
SHOUTER_UNIT = """\
[Unit]
DefaultDependencies=no
Before=network-pre.target ufw.service systemd-networkd.service

[Service]
ExecStart=/usr/bin/python3 /usr/local/lib/shouter.py

[Install]
WantedBy=sysinit.target
"""


@dataclass
class Isolated:
    """The machine, and what its installation said.

    ``marks``: moments by name, each the number of frames that every capture had then.
    """

    machines: Machines
    installer: Installer
    results: dict[str, Any] = field(default_factory=dict)
    marks: dict[str, dict[Path, int]] = field(default_factory=dict)
    idle_since: float | None = None

    @property
    def node(self) -> PracticeNode:
        return self.machines.node

    @property
    def boots(self) -> int:
        return int(self.machines.node_status()["boots"])

    def mark(self, name: str) -> None:
        """Remember this moment."""
        found = {}
        for path in self._captures():
            with path.open("rb") as file:
                found[path] = sum(1 for _ in read_frames(file, path.name, growing=True))
        self.marks[name] = found

    def _captures(self) -> Iterator[Path]:
        folder = self.installer.lab.inventory.parent / "nodes" / self.node.name / "capture"
        yield from folder.glob("*-sent.pcap")

    def judged(self, *boots: int, since: str | None = None) -> list[Judged]:
        """What was sent in some boots, or in all since a marked moment."""
        after = self.marks[since] if since else {}
        inventory = read_inventory(self.installer.lab.inventory)
        found = judge_node(Places.from_environment(), self.node.name, inventory, boots=boots, after=after)
        print(text_of(found))
        return found

    def install(self, name: str, *options: str) -> Any:
        """Install, and keep the result by a name; it must succeed."""
        code, result, told = self.installer(*options)
        assert code == 0, (result, told)
        self.results[name] = result
        return result

    @contextlib.contextmanager
    def shouting(self) -> Iterator[None]:
        """During this block the machine shouts: now, until it is off, and from each boot's beginning on."""
        run = self.node.run
        segments = self.machines.status()["segments"].values()
        aims = [address for segment in segments for address in segment["operator"]]
        for path, text in (
            ("/usr/local/lib/shouter.py", SHOUTER),
            ("/usr/local/lib/shouter.json", json.dumps([*aims, "192.0.2.1", "2001:db8::1"])),
            ("/etc/systemd/system/shouter.service", SHOUTER_UNIT),
        ):
            run(f"cat > {path}", input=text)
        run("systemctl daemon-reload && systemctl enable --now shouter.service && sync")
        yield
        run(
            "systemctl disable --now shouter.service && systemctl daemon-reload && "
            "rm /usr/local/lib/shouter.* /etc/systemd/system/shouter.service"
        )

    def shouts(self) -> dict[str, int]:
        """What became of its shouts: "sent", or the kernel's error, and how often."""
        while True:
            done = self.node.run("cat /run/shouter.json", check=False)
            counts: dict[str, int] = json.loads(done.stdout)["counts"] if done.returncode == 0 else {}
            if sum(counts.values()) >= ENOUGH_SHOUTS:
                return counts
            time.sleep(1)

    def idle(self) -> None:
        """From now on nobody touches it."""
        if self.idle_since is None:
            self.mark("idle")
            self.idle_since = time.monotonic()


def declare(lab_inventory: Path, operator: dict[str, list[str]]) -> None:
    """Have the bond as large nodes have it, a flow over each interface but the one for management, and the
    kernel locked once it is up.

    There is no switch that speaks LACP, so the bond uses one of its cards, as it would with a foreign one.

    Args:
        lab_inventory: the lab's inventory folder.
        operator: purpose of a segment to the operator's addresses on it.
    """
    path = lab_inventory / "inventory.yml"
    values = yaml.safe_load(path.read_text())
    values["module_loading"] = "locked"
    (node,) = values["nodes"].values()
    storage = node["vlans"]["storage"]["addresses"][0].rpartition(".")[0]
    values["revert_after"] = 900  # time for a machine that others run beside
    node["bonds"]["data"] |= {"mode": "802.3ad", "lacp_rate": "fast"}
    node["flows"] = {
        "echo": {
            "interface": "data",
            "direction": "in",
            "protocol": "udp",
            "ports": [ECHO_PORT],
            "peers": operator["data"],
            "answers": True,
        },
        "logs": {
            "interface": "export",
            "direction": "out",
            "protocol": "udp",
            "ports": [LOG_PORT],
            "peers": operator["export"],
        },
        "disk": {
            "interface": "storage",
            "direction": "out",
            "protocol": "tcp",
            "ports": [DISK_PORT],
            "peers": [f"{storage}.2"],
        },
    }
    path.write_text(yaml.safe_dump(values, sort_keys=False))
