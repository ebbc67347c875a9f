"""The whole way on booted nodes, from the demonstration's own bundle: installed, proven, cut off, resumed.

Tests of this module build on each other: one node is installed once and then looked at.
"""

from __future__ import annotations

import contextlib
import json
import subprocess
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

    from conftest import Installer, NewInstaller, NewLab, Operator, PracticeLab, PracticeNode

pytestmark = [pytest.mark.node, pytest.mark.archive]

#: Everything an installation could write to, but what services of the node write by themselves.
EVERYTHING = (
    "find /boot /etc /home /opt /root /srv /usr /var -xdev "
    "\\( -path /var/log -o -path /var/lib/systemd -o -path /var/tmp \\) -prune "
    "-o -printf '%p %s %m %u %T@\\n' | sort"
)


@pytest.fixture(scope="module")
def installer(fresh_lab: PracticeLab, new_installer: NewInstaller) -> Installer:
    return new_installer(fresh_lab)


def state_of(node: PracticeNode) -> set[str]:
    """Files, packet filter and routes, one line each: what an installation changes."""
    looks = (EVERYTHING, "nft list ruleset 2>&1 || true", "ip route; ip -6 route; ip -br address")
    return {line for look in looks for line in node.inside(look).stdout.splitlines()}


def test_a_check_on_a_clean_node_tells_the_changes_and_makes_none(installer: Installer) -> None:
    node = installer.lab.node
    before = state_of(node)
    code, result, _ = installer("--check")
    assert code == 0, result
    assert result["check"]
    told = " ".join(result["changes"])
    for role in ("base", "inference_server", "network_isolation", "firewall"):
        assert f" {role}: " in told, f"{role} would change a clean node"
    assert sorted(state_of(node) ^ before) == []
    assert not list(installer.state.glob("runs/*/*/stage.json"))


def test_an_installation_ends_with_a_proof_and_a_record_on_the_node(installer: Installer) -> None:
    node = installer.lab.node
    code, result, _ = installer()
    assert code == 0, result
    values = result["nodes"][node.name]
    assert values["apply"]["changed"] > 0
    assert values["apply"]["failed"] == values["apply"]["unreachable"] == 0
    assert values["qualify"]["verdict"] == "passed"
    assert values["qualify"]["failed"] == 0
    assert Path(values["qualify"]["report"]).exists()
    installed = json.loads(node.run("cat /var/lib/appliance/installed.json").stdout)
    assert {key: installed[key] for key in ("digest", "product", "version", "sequence")} == {
        key: result[key] for key in ("digest", "product", "version", "sequence")
    }
    for stage in ("verify", "validate", "preflight", "stage", "plan", "apply", "qualify", "record"):
        assert installer.record(node, stage)["result"] == "done"


def test_the_way_out_was_open_before_and_is_kept_as_evidence(installer: Installer) -> None:
    (kept,) = installer.state.glob(f"runs/*/{installer.lab.node.name}/before.json")
    attempts = json.loads(kept.read_text())["attempts"]
    aims = {(each["protocol"], ":" in each["address"]) for each in attempts if each["arrived"]}
    assert {("tcp", False), ("tcp", True), ("udp", False), ("udp", True)} <= aims


def test_a_second_run_copies_nothing_and_changes_nothing(installer: Installer) -> None:
    code, result, told = installer()
    assert code == 0, result
    assert "installed before; proving it again" in told
    values = result["nodes"][installer.lab.node.name]
    assert values["stage"] == {"files": 0, "bytes": 0, "removed": []}
    assert values["apply"]["changed"] == 0, result["changes"]
    assert result["changes"] == []
    assert values["qualify"]["verdict"] == "passed"


def test_a_check_on_an_installed_node_finds_nothing_to_change(installer: Installer) -> None:
    code, result, _ = installer("--check")
    assert code == 0, result
    assert result["changes"] == []


def test_a_drifted_node_is_put_right(installer: Installer) -> None:
    node = installer.lab.node
    node.inside("systemctl disable --now ufw.service && nft flush ruleset")
    code, result, _ = installer()
    assert code == 0, result
    assert [change for change in result["changes"] if "firewall" in change]


def test_a_node_installs_itself_from_its_own_copy(installer: Installer, trusted: Path) -> None:
    """The toolkit travels in the bundle: a node with python3 and nothing else sets it up and runs it."""
    node = installer.lab.node
    digest = installer("--stage", "verify")[1]["digest"]
    copy = f"/var/lib/appliance/staged/{digest}"
    text = (installer.lab.inventory / "inventory.yml").read_text()
    head, _, rest = text.partition("ssh:\n")
    local = head + rest[rest.index("revert_after") :].replace("connection: ssh", "connection: local")
    node.run("mkdir -p /root/site && cat > /root/site/inventory.yml", input=local)
    node.run("cat > /root/site/root.json", input=trusted.read_text())
    tool = f"""
set -e
sh {copy}/bootstrap.sh --unverified --to /root/toolkit >/dev/null
/root/toolkit/bin/appliance install {copy} -i /root/site --state /root/state --json
"""
    done = node.run(tool, timeout=1200, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    result = json.loads(done.stdout)
    assert result["nodes"][node.name]["apply"]["changed"] == 0, result["changes"]
    assert result["nodes"][node.name]["stage"]["bytes"] == 0
    assert result["nodes"][node.name]["qualify"]["verdict"] == "passed"


# --- a connection that is lost in the middle of apply ----------------------------------------------


@pytest.fixture(scope="module")
def pair(new_lab: NewLab, new_installer: NewInstaller) -> Iterator[Installer]:
    """Two nodes; a network change that nobody confirms is undone after 30 seconds."""
    with new_lab(nodes=2) as lab:
        inventory = lab.inventory / "inventory.yml"
        inventory.write_text(inventory.read_text().replace("revert_after: 120", "revert_after: 30"))
        yield new_installer(lab)


def test_limit_leaves_other_nodes_alone(pair: Installer) -> None:
    first, second = pair.lab.nodes
    code, result, _ = pair("--stage", "stage", "--limit", first.name)
    assert code == 0, result
    assert list(result["nodes"]) == [first.name]
    assert first.inside("test -e /var/lib/appliance/staged", check=False).returncode == 0
    assert second.inside("test -e /var/lib/appliance", check=False).returncode != 0


def test_a_connection_lost_in_the_middle_undoes_itself_and_a_rerun_ends_well(pair: Installer) -> None:
    first, second = pair.lab.nodes
    before = first.inside("ip route show default").stdout
    assert before
    running = pair.operator.start([*pair.command], stderr=subprocess.DEVNULL)
    wait_for(first, "test -e /var/lib/appliance/revert/pending && ! ip route show default | grep -q .")
    with cut_cables(pair.operator):
        output, _ = running.communicate(timeout=600)
        result = json.loads(output)
        assert (running.returncode, result["error"]) == (6, "NodeUnreachable"), result
        assert first.name in result["message"]
        assert "goes back to what it was by itself within 30 s" in result["hint"]
        wait_for(first, "test -e /var/lib/appliance/revert/fired.json")
    assert first.inside("ip route show default").stdout == before
    assert pair.record(first, "apply")["result"] == "failed"
    assert pair.record(second, "apply")["result"] == "interrupted"
    wait_for(second, "ip route show default | grep -q .")  # it was never touched; networkd sees the cable
    code, result, told = pair()
    assert code == 0, result
    assert "going on at apply" in told
    for node in (first, second):
        values = result["nodes"][node.name]
        assert values["qualify"]["verdict"] == "passed"
        assert values["apply"]["failed"] == values["apply"]["unreachable"] == 0


@contextlib.contextmanager
def cut_cables(operator: Operator) -> Iterator[None]:
    """Nodes and operator cannot hear each other; the operator keeps the addresses."""
    links = json.loads(operator.run(["ip", "-json", "link", "show", "type", "veth"]).stdout)

    def switch(state: str) -> None:
        for link in filter(None, links):
            operator.run(["ip", "link", "set", "dev", link["ifname"], state])

    switch("down")
    try:
        yield
    finally:
        switch("up")


def wait_for(node: PracticeNode, condition: str) -> None:
    until = time.monotonic() + 480
    while node.inside(condition, check=False).returncode:
        assert time.monotonic() < until, condition
        time.sleep(0.05)
