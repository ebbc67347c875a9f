"""The daily audit on a booted node: installed with the site, run by its service, found missing, taken away.

Tests of this module build on each other: one node is installed with it, looked at, harmed and mended, and
loses it in the end.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from appliance.definition.inventory import node_values, site_values
from appliance.node.audit.packing import auditor_variables
from tests.node.roles.conftest import Site, read_inventory

if TYPE_CHECKING:
    from conftest import Installer, NewInstaller, PracticeLab, PracticeNode

pytestmark = [pytest.mark.node, pytest.mark.archive]

TIMER, SERVICE = "appliance-audit.timer", "appliance-audit.service"
KEPT = "/var/lib/appliance/spool/audit"
UNITS = "/etc/systemd/system"
ALL = f"{UNITS}/{TIMER} {UNITS}/{SERVICE} /etc/appliance /usr/local/lib/appliance/audit.pyz"
TASK = "Have the node audit itself every day, or not"
SETTING = '\naudit: {daily: true, at: "02:15"}\n'

#: An exporter as far as programs on the node see one: takes what comes while an audit runs.
EXPORTER = f"""
import json, os, socket, subprocess
os.makedirs("/run/appliance-export", exist_ok=True)
server = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
server.bind("/run/appliance-export/records")
try:
    subprocess.run(["systemctl", "start", "{SERVICE}"])
    server.setblocking(False)
    taken = []
    try:
        while True:
            taken.append(json.loads(server.recv(1 << 17)))
    except BlockingIOError:
        print(json.dumps(taken))
finally:
    os.unlink("/run/appliance-export/records")
"""


def switch(lab: PracticeLab, *, on: bool) -> None:
    """Write the setting into the inventory, or take it out."""
    path = lab.inventory / "inventory.yml"
    text = path.read_text().replace(SETTING, "")
    path.write_text(text + SETTING if on else text)


@pytest.fixture(scope="module")
def installer(fresh_lab: PracticeLab, new_installer: NewInstaller) -> Installer:
    switch(fresh_lab, on=True)
    return new_installer(fresh_lab)


@pytest.fixture
def node(installer: Installer) -> PracticeNode:
    return installer.lab.node


def station_audit(installer: Installer) -> dict[str, Any]:
    """The node's part of what the station's own audit says."""
    where = ["-i", str(installer.lab.inventory), "--state", str(installer.state), "--json"]
    done = installer.operator.run(["appliance", "audit", *where], check=False)
    found: dict[str, Any] = json.loads(done.stdout)["nodes"][installer.lab.node.name]
    return found


def properties(node: PracticeNode, unit: str, names: str) -> dict[str, str]:
    text = node.inside(f"systemctl show -p {names} {unit}").stdout
    return dict(line.split("=", 1) for line in text.splitlines())


def start(node: PracticeNode) -> tuple[str, str]:
    """Run one audit by its service; result and exit status."""
    node.inside(f"systemctl start {SERVICE}", check=False)
    shown = properties(node, SERVICE, "Result,ExecMainStatus")
    return shown["Result"], shown["ExecMainStatus"]


def newest(node: PracticeNode) -> dict[str, Any]:
    """Fields of the newest result that is kept."""
    record = json.loads(node.inside(f"cat $(ls -d {KEPT}/*.json | tail -n 1)").stdout)
    found: dict[str, Any] = record["fields"]
    return found


def names(drifts: list[dict[str, Any]]) -> list[str]:
    return [f"{each['subject']} {each['what']}" for each in drifts]


def test_installed_with_the_site_the_timer_waits_for_its_hour(
    installer: Installer, node: PracticeNode
) -> None:
    code, told, _ = installer()
    assert code == 0, told
    shown = properties(node, TIMER, "UnitFileState,ActiveState,TimersCalendar,Persistent")
    assert (shown["UnitFileState"], shown["ActiveState"]) == ("enabled", "active")
    assert "OnCalendar=*-*-* 02:15:00" in shown["TimersCalendar"]
    assert shown["Persistent"] == "yes"
    assert node.inside("stat -c %a /etc/appliance/audit.json").stdout.strip() == "600"


def test_of_a_node_as_it_was_installed_the_service_succeeds_and_keeps_a_result(
    installer: Installer, node: PracticeNode
) -> None:
    result = start(node)
    fields = newest(node)
    assert (result, fields["drift"]) == (("success", "0"), []), json.dumps(fields["drift"], indent=1)
    assert (fields["host"], fields["result"], fields["exit_code"], fields["number"]) == (
        *(node.name, "same", 0),
        1,
    )
    record = installer.record(node, "record")["details"]
    assert fields["reference"]["baseline"] == record["baseline"]
    assert fields["reference"]["source"] == "node"
    there = station_audit(installer)
    assert there["drift"] == [], "timer, service and results are no difference"
    # It sees what the station sees, and as much of each; a unit more or less may be at work.
    same = set(there["compared"]) - {"units", "promises"}
    assert {each: fields["compared"][each] for each in same} == {
        each: there["compared"][each] for each in same
    }
    assert there["compared"]["promises"] - fields["compared"]["promises"] == 1, "nobody else's clock"
    assert node.inside(f"stat -c '%a %U' {KEPT}; ls {KEPT}").stdout.split() == [
        *("700", "root", "0000000001.waiting.json")
    ]


def test_of_one_drift_the_result_has_exactly_that_and_the_service_fails_by_eight(
    installer: Installer, node: PracticeNode
) -> None:
    node.inside("echo x > /usr/local/bin/evil")
    try:
        assert start(node) == ("exit-code", "8")
    finally:
        node.inside("rm /usr/local/bin/evil")
    fields = newest(node)
    assert names(fields["drift"]) == ["files /usr/local/bin/evil"]
    assert (fields["result"], fields["exit_code"], fields["number"]) == ("drift", 8, 2)
    assert station_audit(installer)["drift"] == [], "what failed by saying so is no difference of its own"


def test_an_exporter_takes_what_waits_and_what_is_new_the_oldest_first(node: PracticeNode) -> None:
    taken = json.loads(node.inside(f"python3 -B -c '{EXPORTER}'").stdout)
    assert [(each["stream"], each["fields"]["number"]) for each in taken] == [
        ("audit", n) for n in (1, 2, 3)
    ]
    assert [each["fields"]["result"] for each in taken] == ["same", "drift", "same"]
    kept = node.inside(f"ls {KEPT}").stdout.split()
    assert kept == [f"000000000{number}.json" for number in (1, 2, 3)]


def test_switched_off_by_hand_it_is_missed_by_the_station_and_by_itself(
    installer: Installer, node: PracticeNode
) -> None:
    node.inside(f"systemctl disable -q --now {TIMER}")
    try:
        found = station_audit(installer)["drift"]
        result = start(node)
    finally:
        node.inside(f"systemctl enable -q --now {TIMER}")
    own = newest(node)["drift"]
    for drifts in (found, own):
        assert names(drifts) == [f"units {TIMER}"]
        assert [text.partition(":")[0] for text in drifts[0]["breaks"]] == ["installed.daily-audit"]
    assert result == ("exit-code", "8")


def test_it_can_reach_nobody_and_write_nothing_but_its_results(node: PracticeNode) -> None:
    """The unit's own walls, tried by a process started under them."""
    tried = (
        "import pathlib, socket\n"
        "def told(act):\n"
        "    try: act()\n"
        "    except OSError as fault: return fault.strerror\n"
        "    return 'done'\n"
        "s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)\n"
        "print(told(lambda: s.sendto(b'x', ('127.0.0.1', 9))))\n"
        "print(told(lambda: pathlib.Path('/etc/evil').write_text('x')))\n"
        "print(told(lambda: pathlib.Path('/run/evil').write_text('x')))\n"
        "print(told(lambda: s.bind(('127.0.0.1', 0))))\n"
    )
    drop_in = "/run/systemd/system/appliance-audit.service.d"
    node.inside(
        f"mkdir -p {drop_in}; cat > /run/tried.py <<'END'\n{tried}END\n"
        f"printf '[Service]\\nExecStart=\\nExecStart=/usr/bin/python3 -B /run/tried.py\\n"
        f"StandardOutput=truncate:/run/tried.out\\n' > {drop_in}/tried.conf; systemctl daemon-reload"
    )
    try:
        node.inside(f"systemctl start {SERVICE}")
        told = node.inside("cat /run/tried.out").stdout.splitlines()
    finally:
        node.inside(f"rm -r {drop_in} /run/tried.py /run/tried.out; systemctl daemon-reload")
    assert told == [
        *("Operation not permitted", "Read-only file system", "Read-only file system"),
        "Operation not permitted",
    ]


# --- the role alone ----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def site(fresh_lab: PracticeLab, tmp_path_factory: pytest.TempPathFactory) -> Site:
    inventory = read_inventory(fresh_lab)
    folder = tmp_path_factory.mktemp("s")  # short: a socket's path has at most 107 bytes
    return Site(fresh_lab, folder, {}, site_values(inventory), node_values(inventory.nodes[0]))


def play(site: Site, *, on: bool, check: bool = False) -> list[str]:
    """Run the role; the tasks that changed something."""
    switch(site.lab, on=on)
    inventory = read_inventory(site.lab)
    site.site = site_values(inventory)
    more = auditor_variables(inventory, inventory.nodes)
    done = site.play(check=check, tags=("daily_audit",), **more.get(site.lab.node.name, {}))
    assert done.failed == {}, done.log
    return done.changed


def test_a_second_run_changes_nothing_and_one_without_the_setting_takes_all_away(
    site: Site, node: PracticeNode
) -> None:
    assert (play(site, on=True, check=True), play(site, on=True)) == ([], [])
    assert play(site, on=False) == [TASK]
    assert node.inside(f"ls -d {ALL}", check=False).stdout == ""
    assert properties(node, TIMER, "LoadState,ActiveState") == {
        "LoadState": "not-found",
        "ActiveState": "inactive",
    }
    assert properties(node, SERVICE, "ActiveState")["ActiveState"] == "inactive", "nor failed"
    assert node.inside(f"ls {KEPT}").stdout, "what was found stays"
    assert play(site, on=False, check=True) == []


def test_a_check_where_it_is_not_yet_tells_and_changes_nothing(site: Site, node: PracticeNode) -> None:
    assert play(site, on=True, check=True) == [TASK]
    assert node.inside(f"ls -d {ALL}", check=False).stdout == ""
