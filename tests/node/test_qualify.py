"""Qualification on a booted node: fails where nothing is installed, passes where everything is, and every
drift made by hand breaks exactly the promises it touches.

Tests of this module build on each other: one node is looked at, installed, and then broken and mended.
"""

from __future__ import annotations

import contextlib
import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml

if TYPE_CHECKING:
    from conftest import Operator, PracticeLab, PracticeNode

pytestmark = [pytest.mark.node, pytest.mark.archive]

#: Qualifies without an installation, as an audit would; runs at the operator's side.
QUALIFY = """
import json, sys
from hashlib import sha256
from pathlib import Path
from appliance.bundle.manifest_reader import read_manifest
from appliance.node.connection import open_connections
from appliance.node.private import private_folder
from appliance.node.probe import load_probe
from appliance.node.qualify import qualify
from appliance.node.site import load_inventory
from appliance.progress import Silent

spec = json.load(sys.stdin)
bundle = Path(spec["bundle"])
inventory = load_inventory(Path(spec["inventory"]))
node = inventory.nodes[0]
with private_folder() as private:
    connection = open_connections(inventory, [node], private)[node.name]
    try:
        report = qualify(
            inventory, node, read_manifest((bundle / "manifest.json").read_bytes()), connection,
            Path(spec["record"]), Silent(),
            digest=sha256((bundle / "trust/SHA256SUMS").read_bytes()).hexdigest(),
            before=load_probe(Path(spec["before"])),
        )
    finally:
        connection.close()
json.dump(report.as_dict(), sys.stdout)
"""

#: Whatever a qualification must leave alone.
STATE = (
    "find /boot /etc /home /opt /root /srv /usr /var/lib /tmp /run/systemd/system -xdev "
    "-path /var/lib/systemd -prune -o -printf '%p %s %m %u %T@\\n' | sort; "
    "nft --stateless list ruleset; ip -4 route show table all; ip address; sysctl -a 2>/dev/null | "
    "grep -E 'accept_ra|forward' | sort; "
    "systemctl list-units --all --plain --no-legend | awk '{ print $1, $3 }'"
)


#: What this machine decides for its containers: proven or not run, but never broken.
OF_THE_HOST = {
    *(f"quiet.{name}" for name in ("kernel", "memory", "cores", "temporary", "module-lock", "audit")),
    *(f"storage.{name}" for name in ("swap", "temporary", "dumps", "hibernation")),
}


@dataclass(frozen=True)
class Qualifier:
    """Qualifies one lab's node against a bundle."""

    operator: Operator
    lab: PracticeLab
    bundle: Path
    root: Path
    folder: Path

    def __call__(self) -> dict[str, Any]:
        before = next(iter(sorted(self.folder.glob("state/runs/*/*/before.json"))), self.folder / "none")
        spec = {
            "bundle": str(self.bundle),
            "inventory": str(self.lab.inventory),
            "record": str(self.folder / "record"),
            "before": str(before),
        }
        done = self.operator.run([sys.executable, "-c", QUALIFY], input=json.dumps(spec))
        return json.loads(done.stdout)  # type: ignore[no-any-return]

    def install(self) -> Any:
        where = [
            "-i",
            str(self.lab.inventory),
            "--trust",
            str(self.root),
            "--state",
            str(self.folder / "state"),
        ]
        done = self.operator.run(["appliance", "install", str(self.bundle), *where, "--json"], timeout=1200)
        return json.loads(done.stdout)


@pytest.fixture(scope="module")
def qualifier(
    operator: Operator,
    fresh_lab: PracticeLab,
    demo: Path,
    trusted: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> Qualifier:
    """The demonstration's bundle, and a lab that nothing is installed on yet."""
    return Qualifier(operator, fresh_lab, demo, trusted, tmp_path_factory.mktemp("qualify"))


@pytest.fixture
def node(qualifier: Qualifier) -> PracticeNode:
    return qualifier.lab.node


def names(report: dict[str, Any], status: str) -> set[str]:
    return {item["name"] for item in report["items"] if item["status"] == status}


def told(report: dict[str, Any]) -> str:
    return "\n".join(
        f"{item['name']} {item['status']}: {item['found']} {item['reason']}"
        for item in report["items"]
        if item["status"] != "passed"
    )


def test_a_node_as_it_was_racked_keeps_almost_no_promise(qualifier: Qualifier) -> None:
    report = qualifier()
    assert report["verdict"] == "failed"
    assert names(report, "passed") - OF_THE_HOST == {
        "control.listeners",
        "inbound.listening",
        "installed.daily-audit",
        "inbound.services",
        "inbound.ssh-login",
        "inbound.ssh-management",
        "network.links",
        "network.no-forwarding",
        "outbound.beside-flows",  # there are no flows
        "outbound.flows",
        "outbound.names",
        "quiet.clock",
        "quiet.judged",
    }, told(report)
    for protocol in ("tcp", "udp", "icmp"):
        for family in ("v4", "v6"):
            assert f"outbound.{protocol}-{family}" in names(report, "failed")
    assert {"outbound.in-service", "outbound.unit-denies", "control.before"} <= names(report, "not-run")


def test_an_installed_node_keeps_every_promise(qualifier: Qualifier) -> None:
    result = qualifier.install()["nodes"][qualifier.lab.node.name]["qualify"]
    assert (result["verdict"], result["failed"]) == ("passed", 0)
    report = qualifier()
    assert names(report, "failed") == set(), told(report)
    assert names(report, "not-run") <= OF_THE_HOST, told(report)


def test_the_report_of_the_installation_shows_before_and_after(qualifier: Qualifier) -> None:
    (path,) = qualifier.folder.glob("state/runs/*/*/report/report.txt")
    text = path.read_text(encoding="utf-8")
    station = qualifier.lab.operator[0]
    (row,) = [line for line in text.splitlines() if line.startswith(f"UDP to {station}, a listener")]
    assert row.split("  ")[-1].strip() == "denied"
    assert "REACHED" in row
    assert "one person holds every key" in text
    assert "This answer was computed on this node, with no way out." in " ".join(text.split())


def test_qualifying_changes_nothing_on_the_node(qualifier: Qualifier, node: PracticeNode) -> None:
    before = node.inside(STATE).stdout.splitlines()
    first = qualifier()
    assert sorted(set(before) ^ set(node.inside(STATE).stdout.splitlines())) == []
    assert first["ruleset"]
    assert qualifier()["ruleset"] == first["ruleset"]


SSHD = "/etc/ssh/sshd_config.d/00-appliance.conf"


def sshd(old: str, new: str) -> tuple[str, str]:
    """The commands that change a setting of the SSH server, and change it back."""
    keep = f"cp -a {SSHD} /root/kept; sed -i 's/{old}/{new}/' {SSHD}; systemctl reload ssh"
    return keep, f"mv /root/kept {SSHD}; systemctl reload ssh"


def unit(name: str, *lines: str) -> tuple[str, str]:
    """The commands that start a unit of somebody else's for good, and take it away."""
    path = f"/etc/systemd/system/{name}"
    text = "\\n".join((*lines, "[Install]", "WantedBy=multi-user.target", ""))
    do = (
        f"rm -f {path}; printf '{text}' > {path}; systemctl daemon-reload; systemctl enable -q --now {name}"
    )
    return do, f"systemctl disable -q --now {name}; rm {path}; systemctl daemon-reload"


DROP_IN = "/etc/systemd/system/appliance-inference.service.d"
UNIT = "appliance-inference"
RESTART = f"systemctl daemon-reload; systemctl reset-failed -q {UNIT}; systemctl restart {UNIT}"


def drop_in(*lines: str) -> str:
    """The command that changes the service's unit."""
    text = "\\n".join(("[Service]", *lines, ""))
    return f"mkdir {DROP_IN}; printf '{text}' > {DROP_IN}/drift.conf; {RESTART}"


OUT_OF_SERVICE = {
    f"outbound.{protocol}-{family}" for protocol in ("tcp", "udp", "icmp") for family in ("v4", "v6")
} | {"outbound.services", "outbound.wire", "outbound.service-user"}


@dataclass(frozen=True)
class Drift:
    """Something done to a qualified node by hand, how it is undone, and what it breaks.

    ``alone``: there may be no other drift at the same time, since it changes what others can do.
    """

    do: str
    undo: str
    breaks: frozenset[str]
    unproven: frozenset[str] = frozenset()
    alone: bool = False

    @property
    def touches(self) -> frozenset[str]:
        """The promises that are not kept."""
        return self.breaks | self.unproven


def drift(do: str, undo: str, *breaks: str, unproven: tuple[str, ...] = (), alone: bool = False) -> Drift:
    return Drift(do, undo, frozenset(breaks), frozenset(unproven), alone)


DRIFTS = {
    # The service itself is still held in: its unit denies without the firewall's help.
    "everything may leave": drift(
        "ufw default allow outgoing",
        "ufw default deny outgoing",
        *("firewall.policies", "firewall.out", "firewall.stays"),
        *OUT_OF_SERVICE,
        alone=True,
    ),
    "one port may leave": drift(
        "ufw allow out 123/udp",
        "ufw delete allow out 123/udp",
        *("firewall.out", "outbound.services", "outbound.service-user"),
        alone=True,
    ),
    "the firewall is off": drift(
        "ufw disable",
        "ufw --force enable",
        *("firewall.policies", "firewall.out", "firewall.in", "firewall.through", "firewall.stays"),
        *("firewall.nothing-beside", "inbound.closed", "inbound.ssh-elsewhere"),
        *OUT_OF_SERVICE,
        alone=True,
    ),
    "SSH from anywhere": drift("ufw allow 22/tcp", "ufw delete allow 22/tcp", "firewall.in"),
    "datagrams may come in": drift(
        "ufw allow in proto udp to any port 20000:60000",
        "ufw delete allow in proto udp to any port 20000:60000",
        *("firewall.in", "inbound.closed"),
    ),
    "rules beside ufw's": drift(
        "nft add table inet drift; nft add chain inet drift c '{ type nat hook output priority 0; }'; "
        "nft add rule inet drift c tcp dport 9 redirect to :8000",
        "nft delete table inet drift",
        "firewall.nothing-beside",
        alone=True,
    ),
    # Still held in by the firewall.
    "a default route": drift(
        "ip route add default via {station}", "ip route del default", "network.no-route-out"
    ),
    "a default route in a table of its own": drift(
        "ip -6 route add default via {station6} table 77",
        "ip -6 route del default table 77",
        "network.no-route-out",
    ),
    "a second address": drift(
        "ip address add {second} dev host0", "ip address del {second} dev host0", "network.addresses"
    ),
    "router advertisements": drift(
        "sysctl -q net.ipv6.conf.host0.accept_ra=1",
        "sysctl -q net.ipv6.conf.host0.accept_ra=0",
        "network.no-autoconfiguration",
    ),
    "forwarding": drift(
        "sysctl -q net.ipv4.ip_forward=1", "sysctl -q net.ipv4.ip_forward=0", "network.no-forwarding"
    ),
    "a name server": drift(
        "cp -a /etc/resolv.conf /root/kept; echo nameserver {station} >> /etc/resolv.conf",
        "mv /root/kept /etc/resolv.conf",
        "network.no-name-server",
    ),
    "the service is stopped": drift(
        "systemctl stop appliance-inference",
        "systemctl start appliance-inference",
        *("inference.active", "inference.answers", "inference.loopback"),
        unproven=(
            *("inference.own-user", "inference.signed-model", "inference.quiet", "inference.confined"),
            *("outbound.in-service", "outbound.unit-denies"),
        ),
        alone=True,
    ),
    "the service will not start with the node": drift(
        "systemctl disable -q appliance-inference",
        "systemctl enable -q appliance-inference",
        *("inference.active", "installed.comes-back"),
        alone=True,
    ),
    # Still held in by the firewall, and told apart from it.
    "the unit no longer denies": drift(
        drop_in("IPAddressDeny=", "IPAddressAllow=", "RestrictNetworkInterfaces="),
        f"rm -r {DROP_IN}; {RESTART}",
        *("inference.confined", "outbound.unit-denies"),
        alone=True,
    ),
    "a switch turned off": drift(
        drop_in("Environment=HF_HUB_OFFLINE=0"),
        f"rm -r {DROP_IN}; {RESTART}",
        "inference.quiet",
    ),
    "a server open to the outside": drift(
        "systemd-run -q --unit=drift python3 -m http.server 8081; sleep 0.3; "
        "until ss -Hltn | grep -q :8081; do sleep 0.1; done",
        "systemctl stop drift",
        "inbound.listening",
        unproven=("quiet.judged",),
    ),
    "a staged file can be written": drift(
        "chmod u+w /var/lib/appliance/staged/*/manifest.json",
        "chmod u-w /var/lib/appliance/staged/*/manifest.json",
        "installed.read-only",
    ),
    "another list of what was signed": drift(
        "cd /var/lib/appliance/staged/*/trust; cp -a SHA256SUMS /root/kept; echo >> SHA256SUMS",
        "cd /var/lib/appliance/staged/*/trust; mv /root/kept SHA256SUMS",
        "installed.bundle",
    ),
    "a timer that asks the archive": drift(
        "systemctl unmask -q apt-daily.timer apt-daily.service; systemctl start apt-daily.timer",
        "systemctl mask -q --now apt-daily.timer apt-daily.service",
        "quiet.stopped",
    ),
    "a program nobody has judged": drift(
        *unit("spy.service", "[Service]", "ExecStart=sleep infinity"), unproven=("quiet.judged",)
    ),
    "somebody keeps the clock": drift(
        *unit("systemd-timesyncd.service", "[Service]", "ExecStart=sleep infinity"),
        *("quiet.clock", "quiet.stopped"),
    ),
    "passwords let in": drift(
        *sshd("PasswordAuthentication no", "PasswordAuthentication yes"),
        *("quiet.ssh-settings", "quiet.ssh-keys-only"),
    ),
    "a tunnel leads out through the station": drift(
        *sshd("AllowTcpForwarding local", "AllowTcpForwarding yes"),
        *("quiet.ssh-settings", "quiet.ssh-no-way-back"),
    ),
    "another banner": drift(
        "cp -a /etc/issue.net /root/kept; echo Welcome > /etc/issue.net",
        "mv /root/kept /etc/issue.net",
        "quiet.banner",
    ),
    "USB sticks may appear": drift(
        "cp -a /etc/modprobe.d/appliance.conf /root/kept; "
        "sed -i /usb_storage/d /etc/modprobe.d/appliance.conf",
        "mv /root/kept /etc/modprobe.d/appliance.conf",
        "quiet.modules",
    ),
    "an unconfirmed change": drift(
        "/usr/local/sbin/appliance-revert arm --after 300",
        "/usr/local/sbin/appliance-revert confirm",
        "installed.confirmed",
    ),
    "a daily audit that the site does not want": drift(
        *unit("appliance-audit.service", "[Service]", "ExecStart=sleep infinity"), "installed.daily-audit"
    ),
}


# Where this machine's kernel hands crashes to a program, it does so for its containers too.
if not Path("/proc/sys/kernel/core_pattern").read_text(encoding="utf-8").startswith("|"):
    DRIFTS["crashes leave cores"] = drift(
        "mv /etc/security/limits.d/90-appliance.conf /root/kept; "
        "printf '* hard core unlimited\\nroot hard core unlimited\\n' > /etc/security/limits.d/drift.conf",
        "rm /etc/security/limits.d/drift.conf; mv /root/kept /etc/security/limits.d/90-appliance.conf",
        "quiet.cores",
    )


#: Few enough to see at a glance which of them broke something else.
AT_ONCE = 8


def rounds() -> list[list[str]]:
    """The drifts that are made at once: no two of them break the same promise.

    A qualification costs the same for one drift as for many.
    """

    def fits(name: str, others: list[str]) -> bool:
        if len(others) == AT_ONCE:
            return False
        one, beside = DRIFTS[name], [DRIFTS[each] for each in others]
        return not one.alone and not any(each.alone or each.touches & one.touches for each in beside)

    made: list[list[str]] = []
    for name in DRIFTS:
        for others in made:
            if fits(name, others):
                others.append(name)
                break
        else:
            made.append([name])
    return made


@pytest.mark.parametrize("together", rounds(), ids=lambda together: f"{together[0]} +{len(together) - 1}")
def test_drifts_break_exactly_what_they_touch(
    qualifier: Qualifier, node: PracticeNode, together: list[str]
) -> None:
    words = {
        "{station}": qualifier.lab.operator[0],
        "{station6}": qualifier.lab.operator[1],
        "{second}": node.address4.rpartition(".")[0] + ".77/24",
    }

    def filled(command: str, number: int) -> str:
        for word, value in {**words, "/root/kept": f"/root/kept-{number}"}.items():
            command = command.replace(word, value)
        return command

    drifts = [DRIFTS[name] for name in together]
    with contextlib.ExitStack() as undone:
        for number, each in enumerate(drifts):
            undone.callback(node.inside, filled(each.undo, number))
            node.inside(filled(each.do, number))
        report = qualifier()
    assert names(report, "failed") == frozenset().union(*(each.breaks for each in drifts)), told(report)
    unproven = frozenset().union(*(each.unproven for each in drifts))
    assert names(report, "not-run") - OF_THE_HOST == unproven, told(report)


def test_a_mended_node_keeps_every_promise_again_after_the_power_was_cut(
    qualifier: Qualifier, node: PracticeNode
) -> None:
    node.reboot(power_cut=True)
    report = qualifier()
    assert report["verdict"] == "passed"
    assert names(report, "failed") == set(), told(report)
    assert names(report, "not-run") <= OF_THE_HOST, told(report)


def test_a_declared_flow_is_proven_with_nothing_beside_it(qualifier: Qualifier, node: PracticeNode) -> None:
    """The peer is one more address of the station, on the wire and of no other use."""
    lab = qualifier.lab
    peer = node.address4.rpartition(".")[0] + ".210"
    links = json.loads(qualifier.operator.run(["ip", "-json", "address", "show"]).stdout)
    device = next(link["ifname"] for link in links if f"'{lab.operator[0]}'" in str(link["addr_info"]))
    qualifier.operator.run(["ip", "address", "add", f"{peer}/24", "dev", device])
    path = lab.inventory / "inventory.yml"
    values = yaml.safe_load(path.read_text(encoding="utf-8"))
    known = {"interface": "mgmt", "direction": "out", "protocol": "udp", "ports": [5140], "peers": [peer]}
    values["nodes"][node.name]["flows"] = {"logs": known}
    path.write_text(yaml.safe_dump(values), encoding="utf-8")

    result = qualifier.install()["nodes"][node.name]["qualify"]
    assert (result["verdict"], result["failed"]) == ("passed", 0)
    report = qualifier()
    assert names(report, "failed") == set(), told(report)
    assert names(report, "not-run") <= OF_THE_HOST, told(report)
    (item,) = [each for each in report["items"] if each["name"] == "outbound.flows"]
    assert f"udp {peer} port 5140" in item["found"]

    for damage, repair, broken in (
        (
            f"iptables -I OUTPUT -d {peer} -j DROP",
            f"iptables -D OUTPUT -d {peer} -j DROP",
            {"outbound.flows"},
        ),
        (
            f"ufw allow out to {peer}",
            f"ufw delete allow out to {peer}",
            {"firewall.out", "outbound.beside-flows"},
        ),
    ):
        node.inside(damage)
        try:
            drifted = qualifier()
        finally:
            node.inside(repair)
        assert names(drifted, "failed") == broken, told(drifted)
