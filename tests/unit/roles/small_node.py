"""A node small enough to be whole: files in a folder, a kernel and a systemd in memory, and its operator.

Everything that ``appliance-revert`` asks and does is answered as far as it matters to whether an operator
gets in: netplan's generator reads /etc/netplan, systemd-networkd what that wrote, ufw its rules, sshd its
settings, systemd the units in /etc/systemd/system.  A start of the node builds all of it from files.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
from dataclasses import dataclass, field
from ipaddress import ip_interface
from typing import TYPE_CHECKING, Any

from tests.unit.roles.killing import Power, others, wait_for_disk

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    import pytest

OPERATOR = "10.0.0.1"
DEVICE = "eno1"
NETWORKD = "systemd-networkd.service"

OLD = {"address": "10.0.0.2/24", "mtu": "1500"}
OPEN = "*filter\n:INPUT ACCEPT [0:0]\n:FORWARD ACCEPT [0:0]\n:OUTPUT ACCEPT [0:0]\nCOMMIT\n"
CLOSED = (
    "*filter\n:INPUT DROP [0:0]\n:FORWARD DROP [0:0]\n:OUTPUT DROP [0:0]\n"
    ":ufw-user-input - [0:0]\n{rules}COMMIT\n"
)
ADMIT = "-A ufw-user-input -i eno1 -s {network} -p tcp --dport {port} -j ACCEPT\n"


@dataclass
class Kernel:
    """What is lost when the power goes."""

    addresses: list[str] = field(default_factory=list)
    mtu: int = 1500
    routes: list[dict[str, Any]] = field(default_factory=list)
    links: dict[str, str] = field(default_factory=dict)  # made ones: kind by name
    filter: dict[str, str] = field(default_factory=lambda: {"iptables": "", "ip6tables": ""})
    tables: dict[str, str] = field(default_factory=dict)  # nftables' own
    active: set[str] = field(default_factory=set)
    timer: int | None = None  # seconds, while the timer runs
    sshd: dict[str, str] | None = None  # the settings that a running server has read


class SmallNode:
    """See the module; ``program``: appliance-revert, as a module."""

    def __init__(self, program: Any, root: Path) -> None:
        self.program, self.root = program, root
        self.power = Power(below=str(self.root))
        self.kernel = Kernel()
        self.boots = 0
        self.clock = 1000.0
        self.broken: dict[str, int] = {}  # how often still a command fails, by its beginning
        self.ran: list[str] = []
        self.session: float | None = None
        self.queued: list[str] = []

    # --- what Node does ---

    def run(self, *command: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
        words = " ".join(command).replace(str(self.root), "")
        self.power.step(f"run {words}")
        self.ran.append(words)
        for start, times in self.broken.items():
            if words.startswith(start) and times:
                self.broken[start] = times - 1
                return subprocess.CompletedProcess(command, 1, "", "it broke")
        with others():
            code, text = self.answer(words, stdin)
        return subprocess.CompletedProcess(command, code, text, "refused" if code else "")

    def has(self, name: str) -> bool:
        return True

    def boot(self) -> str:
        return self.text("proc/sys/kernel/random/boot_id").strip()

    def pause(self, seconds: float) -> None:
        self.clock += seconds

    def uptime(self) -> float:
        return self.clock

    def ssh_began(self) -> float | None:
        return self.session

    # --- what its programs do ---

    def answer(self, words: str, stdin: str) -> tuple[int, str]:
        for pattern, what in _ANSWERS.items():
            if found := re.fullmatch(pattern, words):
                done = what(self, stdin, *found.groups())
                return done if isinstance(done, tuple) else (0, done or "")
        return 0, ""

    def text(self, name: str) -> str:
        path = self.root / name
        return path.read_text() if path.exists() else ""

    def enabled(self, unit: str) -> bool:
        """As systemd sees it: a link in a folder of a target, to a file that says something."""
        links = (self.root / "etc/systemd/system").glob(f"*.wants/{unit}")
        return any(link.exists() and link.read_text() for link in links)

    def enable(self, unit: str) -> None:
        ours = {"appliance-revert.timer": "timers", "appliance-revert-boot.service": "sysinit"}
        target = ours.get(unit, "multi-user")
        folder = self.root / f"etc/systemd/system/{target}.target.wants"
        folder.mkdir(exist_ok=True)
        link = folder / unit
        if not link.is_symlink():
            link.symlink_to(f"../{unit}")

    def disable(self, unit: str) -> None:
        for link in (self.root / "etc/systemd/system").glob(f"*.wants/{unit}"):
            link.unlink()

    def generate(self) -> int:
        """Netplan's generator: plain ``key: value`` lines stand for a file; others are no YAML."""
        values: dict[str, str] = {}
        for path in sorted((self.root / "etc/netplan").glob("*.yaml")):
            for line in path.read_text().splitlines():
                key, colon, value = line.partition(": ")
                if not colon:
                    return 1
                values[key] = value
        out = self.root / "run/systemd/network/10-netplan-eno1.network"
        out.parent.mkdir(parents=True, exist_ok=True)
        out.write_text("\n".join(f"{key}={value}" for key, value in values.items()))
        return 0

    def networkd(self) -> None:
        """It gives a card what its file says, if the file means this card."""
        text = self.text("run/systemd/network/10-netplan-eno1.network")
        values = dict(line.split("=", 1) for line in text.splitlines())
        if values.get("device", DEVICE) == DEVICE and values.get("mac", "right") == "right":
            self.kernel.addresses = [values["address"]] if "address" in values else []
            if "vlan" in values:
                self.kernel.addresses, self.kernel.links["tagged"] = [], "vlan"
            self.kernel.mtu = int(values.get("mtu", self.kernel.mtu))
        else:
            self.kernel.addresses = []

    def sshd(self) -> bool:
        """It reads its settings, or does not start."""
        text = self.text("etc/ssh/sshd_config.d/00-appliance.conf")
        values = dict(line.split(" ", 1) for line in text.splitlines() if " " in line)
        self.kernel.sshd = None if "Nonsense" in values else values
        return self.kernel.sshd is not None

    # --- what happens to it ---

    def start(self) -> None:
        """Power on: the kernel knows nothing, and everything comes from files."""
        self.boots += 1
        self.power.dead, self.power.at = False, None
        (self.root / "proc/sys/kernel/random").mkdir(parents=True, exist_ok=True)
        (self.root / "proc/sys/kernel/random/boot_id").write_text(f"boot {self.boots}\n")
        self.kernel, self.session, self.clock = Kernel(), None, self.clock + 60
        self.queued = []
        for unit in (NETWORKD, "ufw.service"):
            if self.enabled(unit):
                self.kernel.active.add(unit)
        for path in (self.root / "run/systemd/network").glob("*"):
            path.unlink()  # a file system in memory
        self.generate()
        if self.enabled("appliance-revert-boot.service"):
            self.queued = []
            self.program.Revert(self).boot()
        if "ENABLED=yes" in self.text("etc/ufw/ufw.conf"):
            self.ufw()
        if NETWORKD in self.kernel.active:
            self.networkd()
        if self.enabled("appliance-revert.timer"):
            self.kernel.timer = 60
        self.sshd()
        if "appliance-revert.service" in self.queued:
            self.serve()

    def ufw(self) -> None:
        for family, name in (("iptables", "user.rules"), ("ip6tables", "user6.rules")):
            text = self.text(f"etc/ufw/{name}")
            # What it cannot load it leaves as far as it came: closed, and nobody admitted.
            self.kernel.filter[family] = text if "COMMIT" in text else CLOSED.format(rules="")

    def follow(self) -> None:
        """Everything reads its files again, as at the end of a change."""
        if self.generate() == 0:
            self.networkd()
        if "ENABLED=yes" in self.text("etc/ufw/ufw.conf"):
            self.ufw()
        if self.kernel.sshd is not None:
            self.sshd()

    def serve(self) -> None:
        """The service that the timer starts, and that systemd starts again when it was killed."""
        self.power.at = None
        self.power.dead = False
        self.program.Revert(self).restore(due=True)

    def wait(self) -> None:
        """Nobody does anything any more."""
        if self.kernel.timer is not None:
            self.clock += self.kernel.timer + 5
            self.serve()

    @property
    def answers(self) -> bool:
        """Whether the operator's fresh connection gets in and its answers get out."""
        nets = [ip_interface(each) for each in self.kernel.addresses]
        if not any(str(each.ip) == "10.0.0.2" for each in nets):
            return False
        here = next(each for each in nets if str(each.ip) == "10.0.0.2")
        reached = ip_interface(f"{OPERATOR}/32").ip in here.network
        taken = any(str(each.ip) == OPERATOR for each in nets)  # its answers stay here
        if not reached or taken or self.kernel.sshd is None:
            return False
        if self.kernel.sshd.get("DenyUsers") == "root" or self.kernel.sshd.get("Port", "22") != "22":
            return False
        if any("drop" in text for text in self.kernel.tables.values()):
            return False
        rules = self.kernel.filter["iptables"]
        if "INPUT DROP" not in rules:
            return True
        found = re.findall(r"-i (\S+) -s (\S+) -p tcp --dport (\d+) -j ACCEPT", rules)
        return any(
            device == DEVICE
            and port == "22"
            and ip_interface(f"{OPERATOR}/32").ip in ip_interface(network).network
            for device, network, port in found
        )

    def state(self) -> dict[str, Any]:
        """Everything by which the node is what it is, but for what the program itself keeps."""
        files = {
            str(path.relative_to(self.root)): str(path.readlink())
            if path.is_symlink()
            else path.read_text()
            for folder in ("etc",)
            for path in sorted((self.root / folder).rglob("*"))
            if path.is_symlink() or path.is_file()
        }
        kernel = self.kernel
        return {
            "files": files,
            "addresses": sorted(kernel.addresses),
            "mtu": kernel.mtu,
            "routes": list(kernel.routes),
            "links": dict(kernel.links),
            "filter": {name: text or OPEN for name, text in kernel.filter.items()},
            "tables": dict(kernel.tables),
            "active": sorted(kernel.active),
            "sshd": kernel.sshd,
            "settings": self.text("proc/sys/net/ipv6/conf/eno1/accept_ra").strip(),
        }


def show(node: SmallNode, _: str, units: str) -> str:
    blocks = [
        f"Id={unit}\nLoadState=loaded\nActiveState={'active' if on else 'inactive'}\n"
        f"UnitFileState={'enabled' if node.enabled(unit) else 'disabled'}\n"
        for unit in units.split()
        if unit in {NETWORKD, "ufw.service", "ssh.service"}
        for on in [node.kernel.sshd is not None if unit == "ssh.service" else unit in node.kernel.active]
    ]
    return "\n".join(blocks)


def enable(node: SmallNode, _: str, units: str) -> None:
    for unit in units.split():
        node.enable(unit)


def restart(node: SmallNode, _: str, unit: str) -> tuple[int, str] | None:
    if unit == "appliance-revert.timer":
        found = re.search(r"OnActiveSec=(\d+)s", node.text(f"etc/systemd/system/{unit}"))
        if not found:
            return 1, ""
        node.kernel.timer = int(found[1])
    elif unit == "ssh.service":
        return (0, "") if node.sshd() else (1, "")
    else:
        node.kernel.active.add(unit)
        if unit == NETWORKD:
            node.networkd()
    return None


def stop(node: SmallNode, _: str, unit: str) -> None:
    node.kernel.active.discard(unit)


def disable(node: SmallNode, _: str, now: str | None, unit: str) -> None:
    node.disable(unit)
    if now and unit == "appliance-revert.timer":
        node.kernel.timer = None


def is_active(node: SmallNode, _: str, unit: str) -> tuple[int, str]:
    on = node.kernel.sshd is not None if unit == "ssh.service" else unit in node.kernel.active
    return (0 if on else 3), ""


def load(node: SmallNode, stdin: str, family: str) -> tuple[int, str]:
    if "COMMIT" not in stdin:
        return 1, ""
    node.kernel.filter[f"{family}tables"] = stdin
    return 0, ""


def force_stop(node: SmallNode, _: str) -> None:
    node.kernel.filter = dict.fromkeys(node.kernel.filter, OPEN)


def links(node: SmallNode, _: str) -> str:
    made = [
        {"ifname": name, "mtu": 1500, "linkinfo": {"info_kind": kind}}
        for name, kind in node.kernel.links.items()
    ]
    return json.dumps([{"ifname": DEVICE, "mtu": node.kernel.mtu}, *made])


def addresses(node: SmallNode, _: str) -> str:
    nets = [ip_interface(each) for each in node.kernel.addresses]
    rows = [
        {"local": str(each.ip), "prefixlen": each.network.prefixlen, "scope": "global"} for each in nets
    ]
    return json.dumps([{"ifname": DEVICE, "addr_info": rows}])


def route_gone(node: SmallNode, _: str, to: str, via: str) -> None:
    node.kernel.routes = [
        each for each in node.kernel.routes if (each["dst"], each["gateway"]) != (to, via)
    ]


def route(node: SmallNode, _: str, to: str, via: str) -> None:
    route_gone(node, "", to, via)
    node.kernel.routes.append({"dst": to, "gateway": via, "dev": DEVICE})


def nft_file(node: SmallNode, stdin: str) -> None:
    for family, name in re.findall(r"^delete table (\S+) (\S+)$", stdin, re.MULTILINE):
        node.kernel.tables.pop(f"{family} {name}", None)
    for name, body in re.findall(r"^table (\S+ \S+) \{\n(.*?)^\}$", stdin, re.MULTILINE | re.DOTALL):
        node.kernel.tables[name] = body


def nft_flush(node: SmallNode, _: str) -> None:
    node.kernel.tables = {}
    node.kernel.filter = dict.fromkeys(node.kernel.filter, "")


def flush(node: SmallNode, _: str) -> None:
    node.kernel.addresses = []


_ANSWERS: dict[str, Callable[..., Any]] = {
    r"systemctl show \S+ (.*)": show,
    r"systemctl enable (.*)": enable,
    r"systemctl --no-reload enable (.*)": enable,
    r"systemctl disable (--now )?(\S+)": disable,
    r"systemctl --no-reload disable ()(\S+)": disable,
    r"systemctl (?:re)?start (\S+)": restart,
    r"systemctl start --no-block (\S+)": lambda node, _, unit: node.queued.append(unit),
    r"systemctl stop (\S+)": stop,
    r"systemctl is-active (?:--quiet )?(\S+)": is_active,
    r"systemctl reload ssh.service": lambda node, _: (0, "") if node.sshd() else (1, ""),
    r"netplan generate": lambda node, _: (node.generate(), ""),
    r"/usr/lib/ufw/ufw-init force-stop": force_stop,
    r"(ip6?)tables-save": lambda node, _, family: node.kernel.filter[f"{family}tables"],
    r"(ip6?)tables-restore": load,
    r"nft list tables": lambda node, _: "".join(f"table {name}\n" for name in node.kernel.tables),
    r"nft list table (.*)": lambda node, _, name: f"table {name} {{\n{node.kernel.tables[name]}}}\n",
    r"nft -f -": nft_file,
    r"nft flush ruleset": nft_flush,
    r"ip -json address show": addresses,
    r"ip -json -details link show": links,
    r"ip -json -4 route show": lambda node, _: json.dumps(node.kernel.routes),
    r"ip address del (\S+) dev eno1": lambda node, _, each: node.kernel.addresses.remove(each),
    r"ip address replace (\S+) dev eno1": lambda node, _, each: node.kernel.addresses.append(each),
    r"ip address flush .*": flush,
    r"ip link set dev eno1 mtu (\d+)": lambda node, _, size: setattr(node.kernel, "mtu", int(size)),
    r"ip link del dev (\S+)": lambda node, _, name: node.kernel.links.pop(name) and "",
    r"ip -4 route del (\S+) via (\S+) .*": route_gone,
    r"ip -4 route replace (\S+) via (\S+) .*": route,
}


def make_small_node(program: Any, root: Path, monkeypatch: pytest.MonkeyPatch) -> SmallNode:
    """A node below ``root``, started once, that answers its operator."""
    node = SmallNode(program, root)
    for name, text in {
        "etc/netplan/50-installer.yaml": "address: 10.0.0.2/24\nmtu: 1500\n",
        "etc/ssh/sshd_config.d/50-theirs.conf": "theirs\n",
        "etc/default/ufw": "stock\n",
        "etc/ufw/ufw.conf": "ENABLED=no\n",
        "etc/ufw/user.rules": "",
        f"etc/systemd/system/{NETWORKD}": "real\n",
        "etc/systemd/system/ufw.service": "real\n",
        "etc/systemd/system/ssh.service": "real\n",
        "proc/sys/net/ipv6/conf/eno1/accept_ra": "1\n",
        "usr/lib/ufw/ufw-init": "",
    }.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    (root / "etc/resolv.conf").symlink_to("../run/resolv.conf")
    (root / "var/lib/appliance/revert").mkdir(parents=True)
    for unit in (NETWORKD, "ssh.service"):
        node.enable(unit)

    monkeypatch.setattr(os, "fsync", wait_for_disk)
    node.start()
    node.kernel.routes = [{"dst": "default", "gateway": OPERATOR, "dev": DEVICE}]
    node.kernel.tables = {"inet theirs": "\tchain one {\n\t}\n"}
    return node


def change(root: Path, name: str, text: str) -> None:
    """Write a file of the change."""
    path = root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
