"""Qualification on a booted node: fails where nothing is installed, passes where everything is, and every
drift made by hand breaks exactly the promises it touches.

Tests of this module build on each other: one node is looked at, installed, and then broken and mended.
"""

from __future__ import annotations

import contextlib
import json
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from tests.node.qualify_drifts import DRIFTS
from tests.node.rounds import rounds

if TYPE_CHECKING:
    from pathlib import Path

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


ROUNDS = rounds({name: None if each.alone else each.touches for name, each in DRIFTS.items()})


@pytest.mark.parametrize("together", ROUNDS, ids=lambda together: f"{together[0]} +{len(together) - 1}")
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
