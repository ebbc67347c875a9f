"""Audits of a booted node: nothing differs once it is installed, and of each drift exactly that is found.

Tests of this module build on each other: one node is installed, looked at, and then changed and mended.
"""

from __future__ import annotations

import contextlib
import json
import shlex
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest

from tests.node.audit_drifts import COPY, DRIFTS
from tests.node.rounds import rounds

if TYPE_CHECKING:
    from pathlib import Path

    from conftest import Installer, NewInstaller, Operator, PracticeLab, PracticeNode

pytestmark = [pytest.mark.node, pytest.mark.archive]

#: What an audit must leave alone: files with their times, filter, addresses, sockets, mounts, units.
STATE = (
    "find /boot /etc /home /opt /root /srv /usr /var /tmp /run/appliance /run/systemd/system -xdev "
    "\\( -path /var/log -o -path /var/lib/systemd \\) -prune "
    "-o -printf '%p %s %m %u %T@ %C@\\n' 2>/dev/null | sort; "
    "nft --stateless list ruleset; ip -4 route show table all; ip -6 route show table all; ip address; "
    "ss -Hlntu; grep -v ' /run/user/' /proc/1/mountinfo; "
    "sysctl -a 2>/dev/null | grep -E 'accept_ra|forward' | sort; "
    "systemctl list-unit-files --plain --no-legend; "
    # A login's own manager ends some time after the login.
    "systemctl list-units --all --plain --no-legend --type=service,socket | "
    "awk '!/^user/ { print $1, $3 }'"
)


@dataclass(frozen=True)
class Auditor:
    """Audits one lab's node from the operator's side."""

    operator: Operator
    lab: PracticeLab
    state: Path

    def __call__(self, *options: str) -> tuple[int, dict[str, Any]]:
        """Exit code, and the node's part of the result."""
        where = ["-i", str(self.lab.inventory), "--state", str(self.state), "--json"]
        done = self.operator.run(["appliance", "audit", *where, *options], check=False)
        assert done.stdout, done.stderr
        result: dict[str, Any] = json.loads(done.stdout)
        assert not done.stderr, done.stderr
        node: dict[str, Any] = result["nodes"][self.lab.node.name]
        return done.returncode, node


@pytest.fixture(scope="module")
def installer(fresh_lab: PracticeLab, new_installer: NewInstaller) -> Installer:
    return new_installer(fresh_lab)


@pytest.fixture(scope="module")
def auditor(operator: Operator, fresh_lab: PracticeLab, installer: Installer) -> Auditor:
    return Auditor(operator, fresh_lab, installer.state)


@pytest.fixture
def node(auditor: Auditor) -> PracticeNode:
    return auditor.lab.node


def told(result: dict[str, Any]) -> str:
    return json.dumps(result["drift"], indent=1)


def found(result: dict[str, Any]) -> set[str]:
    return {f"{each['subject']} {each['what']}" for each in result["drift"]}


def test_of_a_node_that_was_never_installed_nothing_is_called_right(auditor: Auditor) -> None:
    code, result = auditor()
    assert code == 8
    assert result["reference"]["source"] == "none"
    assert {"reference the baseline", "routes network.no-route-out", "rules firewall.out"} <= found(result)


def test_an_installed_node_does_not_differ(auditor: Auditor, installer: Installer) -> None:
    code, outcome, _ = installer()
    assert code == 0, outcome
    code, result = auditor()
    assert (code, result["drift"]) == (0, []), told(result)
    kept = installer.record(auditor.lab.node, "record")["details"]
    assert result["reference"]["source"] == "station"
    assert result["reference"]["baseline"] == kept["baseline"]
    compared = result["compared"]
    for subject in (
        "rules",
        "listeners",
        "units",
        "users",
        "packages",
        "files",
        "mounts",
        "staged",
        "promises",
    ):
        assert compared[subject] > 0, subject
    assert compared["files"] > 1000
    # Kernel and drives are this machine's; what it does not keep by itself is named, and not called right.
    assert {each["what"] for each in result["not_compared"]} >= {"kernel", "modules", "drives"}


def test_the_node_keeps_its_baseline_for_root_alone_and_names_it(
    auditor: Auditor, node: PracticeNode
) -> None:
    _, result = auditor()
    digest = result["reference"]["baseline"]
    assert node.inside("stat -c '%a %U' /var/lib/appliance/baseline.json").stdout.split() == ["600", "root"]
    assert node.inside("sha256sum < /var/lib/appliance/baseline.json").stdout.split()[0] == digest
    assert json.loads(node.inside("cat /var/lib/appliance/installed.json").stdout)["baseline"] == digest


def test_an_audit_changes_nothing_on_the_node(auditor: Auditor, node: PracticeNode) -> None:
    auditor()  # a first login makes its own traces (systemd's user manager)
    before = node.inside(STATE).stdout.splitlines()
    assert auditor("--recheck")[0] == 0
    assert sorted(set(before) ^ set(node.inside(STATE).stdout.splitlines())) == []


# --- drifts made by hand -----------------------------------------------------------------------------


ROUNDS = rounds({name: None if each.alone else each.finds for name, each in DRIFTS.items()})


def test_there_are_thirty_of_them_at_least() -> None:
    assert len(DRIFTS) >= 30
    assert sorted(name for one in ROUNDS for name in one) == sorted(DRIFTS)


@pytest.mark.parametrize("together", ROUNDS, ids=lambda together: f"{together[0]} +{len(together) - 1}")
def test_of_drifts_exactly_these_are_found(
    auditor: Auditor, node: PracticeNode, together: list[str]
) -> None:
    words = {
        "{station}": auditor.lab.operator[0],
        "{station6}": auditor.lab.operator[1],
        "{second}": node.address4.rpartition(".")[0] + ".77/24",
    }

    def filled(command: str, number: int) -> str:
        for word, value in {**words, "/run/kept": f"/run/kept-{number}-"}.items():
            command = command.replace(word, value)
        return command

    with contextlib.ExitStack() as undone:
        for number, name in enumerate(together):
            undone.callback(node.inside, filled(DRIFTS[name].undo, number))
            node.inside(filled(DRIFTS[name].do, number))
        code, result = auditor()
    assert code == 8
    assert found(result) == frozenset().union(*(DRIFTS[name].finds for name in together)), told(result)
    broken = {text.partition(":")[0] for one in result["drift"] for text in one["breaks"]}
    assert broken >= frozenset().union(*(DRIFTS[name].breaks for name in together)), told(result)
    assert all(one["found"] != one["wanted"] and one["do"] for one in result["drift"])


def test_undone_there_is_no_drift_left_and_none_after_a_power_cut(
    auditor: Auditor, node: PracticeNode
) -> None:
    code, result = auditor("--recheck")
    assert code == 0, told(result)
    node.reboot(power_cut=True)
    code, result = auditor()
    assert code == 0, told(result)


# --- who vouches for the baseline --------------------------------------------------------------------


def test_a_station_that_did_not_install_says_that_the_node_vouches_for_itself(
    auditor: Auditor, tmp_path: Path
) -> None:
    stranger = Auditor(auditor.operator, auditor.lab, tmp_path)
    digest = auditor()[1]["reference"]["baseline"]
    code, result = stranger()
    assert (code, result["reference"]["source"]) == (0, "node"), told(result)
    code, result = stranger("--baseline", digest)
    assert (code, result["reference"]["source"]) == (0, "digest"), told(result)
    code, result = stranger("--baseline", "0" * 64)
    assert (code, result["trouble"]["error"]) == (5, "PreflightFailed")


def test_the_text_is_for_people(auditor: Auditor, node: PracticeNode) -> None:
    where = ["-i", str(auditor.lab.inventory), "--state", str(auditor.state)]
    node.inside("ip address add 10.1.2.3/32 dev lo")
    try:
        done = auditor.operator.run(["appliance", "audit", *where], check=False)
    finally:
        node.inside("ip address del 10.1.2.3/32 dev lo")
    assert done.returncode == 8
    assert (
        "  routes: network.addresses\n    found:  lo: 10.1.2.3/32 is not in the inventory\n" in done.stdout
    )
    assert done.stdout.endswith(f"1 difference on {node.name} (1 node audited)\n")


def test_a_node_that_does_not_answer_is_unreachable(auditor: Auditor, node: PracticeNode) -> None:
    node.inside("systemctl stop ssh.socket ssh.service")
    try:
        code, result = auditor()
    finally:
        node.inside("systemctl start ssh.service")
    assert (code, result["trouble"]["error"]) == (6, "NodeUnreachable")


def test_a_node_audits_itself_at_its_console(auditor: Auditor, node: PracticeNode) -> None:
    """With the toolkit of its own staged copy, and the digest that the station's record has."""
    digest = auditor()[1]["reference"]["baseline"]
    text = (auditor.lab.inventory / "inventory.yml").read_text()
    head, _, rest = text.partition("ssh:\n")
    local = head + rest[rest.index("revert_after") :].replace("connection: ssh", "connection: local")
    node.run("mkdir -p /root/site && cat > /root/site/inventory.yml", input=local)
    tool = "/root/toolkit/bin/appliance audit -i /root/site --state /root/state --json"
    node.inside(f"sh {COPY}/bootstrap.sh --unverified --to /root/toolkit", timeout=900)
    done = node.inside(f"{tool} --baseline {shlex.quote(digest)}", check=False)
    result = json.loads(done.stdout)["nodes"][node.name]
    assert (done.returncode, result["reference"]["source"]) == (0, "digest"), told(result)
    node.inside("rm -r /root/toolkit /root/site")
    assert node.inside("ls /root/state", check=False).returncode != 0, "an audit keeps nothing"


def test_what_another_installation_takes_over_is_told(auditor: Auditor, installer: Installer) -> None:
    node = auditor.lab.node
    node.inside("echo x > /usr/local/bin/tool")
    code, _, log = installer()
    assert code == 0, log
    assert "right from now on for audits: files /usr/local/bin/tool" in log
    assert installer.record(node, "record")["details"]["taken_over"] == ["files /usr/local/bin/tool"]
    code, result = auditor()
    assert code == 0, told(result)
