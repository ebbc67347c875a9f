"""The role ``log_export`` on a real node: rehearsed, applied, applied again, attacked, repaired, taken off.

The node gets a second cable, as a lab's container has only one; its lower end is on the operator's side,
where the real receiver listens.  The program on the node comes from a real toolkit component's wheels.
"""

from __future__ import annotations

import json
import shutil
import sys
import threading
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from appliance.export.line.settings import NAMESPACE
from tests.node.at_station import at_station
from tests.node.awaiting import awaited
from tests.node.test_role_inference_server import DRIVER, ROLES, changes
from tests.node.wire import LOW_MAC, NODE, NODE_MAC, PORT, RECEIVER

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = [pytest.mark.node, pytest.mark.archive]

RELEASE = "e8" * 32
STAGED = f"/var/lib/appliance/staged/{RELEASE}/payload"
UNITS = ("appliance-export-line", "appliance-export-watch", "appliance-export")
FOLDER = "/var/lib/appliance-export"
#: What a racked node lacks for nftables.
DEBS = ("nftables", "libnftables1", "libedit2", "libbsd0", "libjansson4", "libnftnl11", "libmnl0", "libmd0")
DEFINITION = """\
format: 1
product: export-test
version: "1"
sequence: 1
target: {distribution: debian, suite: trixie, architecture: amd64, python: "3.13"}
components:
  model: {kind: tiny-gguf, sentence: "Nothing comes back.", licence: CC0-1.0}
  engine: {kind: python, requirements: [pip]}
  system: {kind: debian, packages: [nftables]}
  toolkit: {kind: toolkit, pythons: ["3.13"]}
inference: {engine: engine, model: model, file: tiny.gguf, name: demo}
"""
SETTINGS = {
    "match": {"mac": NODE_MAC},
    "address": NODE,
    "receiver": {"address": RECEIVER, "mac": LOW_MAC, "port": PORT},
    "folder": FOLDER,
}
RECORDS = "/run/appliance-export/records"
CHECKS = "/var/spool/appliance-checks"
LOG = "/var/log/audit/audit.log"
#: As Debian's auditd leaves it; in a container the kernel gives auditd nothing to write.
AUDITED = f"""
install -d -m 0750 -g adm /var/log/audit
install -m 0640 -g adm /dev/null {LOG}
echo 'type=USER_CMD msg=audit(1364481363.243:24287): pid=1 key="ward-9"' > {LOG}
"""
PLAY = [{"ansible.builtin.import_role": {"name": "log_export"}}]
SAY = """
import socket, sys
with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as out:
    out.sendto(sys.stdin.read().encode(), "/run/appliance-export/records")
"""
SHOUT = f"""
import socket
with socket.socket(socket.AF_PACKET, socket.SOCK_RAW) as line:
    line.bind(("low0", 3))
    for _ in range(7):
        line.send(bytes.fromhex("{NODE_MAC}{LOW_MAC}".replace(":", "")) + b"\\x88\\xb5" + bytes(46))
"""


#: Stands for the inference service, which is another role's.
WORKLOAD = """
printf '[Service]\\nExecStart=sleep infinity\\n' > /run/systemd/system/appliance-inference.service
systemctl daemon-reload
systemctl start appliance-inference
"""
#: More than a spool of 8 MiB takes, and does not get smaller; the sender ends in the middle of it.
FLOOD = """
import base64, contextlib, json, os, socket
with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as out, contextlib.suppress(OSError):
    for _ in range(400):
        message = base64.b64encode(os.urandom(45000)).decode()
        record = {"stream": "local", "fields": {"MESSAGE": message}}
        out.sendto(json.dumps(record).encode(), "/run/appliance-export/records")
"""

#: What the qualification finds, as it would in an installation.
JUDGE = """
import json, sys
from pathlib import Path
from appliance.definition.inventory_schema import parse_inventory
from appliance.node.connection import open_connections
from appliance.node.qualification import one_way
file = Path(sys.argv[1])
inventory, _ = parse_inventory(file.read_text(), file)
(connection,) = open_connections(inventory, inventory.nodes, Path(sys.argv[2])).values()
export = inventory.nodes[0].export
found = one_way.look_at_line(connection, export)
connection.close()
judged = {
    "running": one_way.judge_running(found),
    "walls": one_way.judge_walls(found, export),
    "out": one_way.judge_out(found, export),
    "card": one_way.judge_card(found),
}
print(json.dumps({name: [each.kept, each.found] for name, each in judged.items()}))
"""


@dataclass
class Subject:
    """The node under test, and how the role is run on it."""

    lab: Any
    folder: Path
    bundle: Path
    results: dict[str, Any] = field(default_factory=dict)

    @property
    def node(self) -> Any:
        return self.lab.node

    @property
    def station(self) -> Any:
        return self.node.operator_side

    def apply(self, *, check: bool = False, **changed: Any) -> dict[str, Any]:
        secrets = self.lab.inventory
        ssh = f"-o UserKnownHostsFile={secrets}/known_hosts -o StrictHostKeyChecking=yes"
        host = {
            "ansible_host": self.node.address4,
            "ansible_user": "root",
            "ansible_ssh_private_key_file": f"{secrets}/keys/operator",
            "ansible_ssh_common_args": f"{ssh} -o ControlMaster=auto -o ControlPersist=30s",
            "ansible_python_interpreter": "/usr/bin/python3",
        }
        pip = next(self.bundle.glob("payload/toolkit/pip-*.whl")).name
        variables = {
            "log_export_settings": SETTINGS,
            "log_export_name": self.node.name,
            "log_export_sources": [
                "--journal",
                "--socket",
                "/run/appliance-export/records",
                "--audit",
                LOG,
            ],
            "log_export_folders": {"checks": CHECKS},
            "log_export_release": RELEASE,
            "log_export_wheels": f"{STAGED}/toolkit",
            "log_export_installer": f"{STAGED}/toolkit/{pip}",
            **changed,
        }
        playbook = self.folder / "play.yml"
        playbook.write_text(json.dumps([{"hosts": "all", "gather_facts": False, "tasks": PLAY}]))
        order = {
            "file": str(playbook),
            "roles": str(ROLES),
            "hosts": {self.node.name: host},
            "variables": variables,
            "check": check,
            "folder": str(self.folder),
        }
        done = self.station.run([sys.executable, "-c", DRIVER], input=json.dumps(order))
        result: dict[str, Any] = json.loads(done.stdout)
        return result

    def lay_cable(self) -> None:
        """The card for the export: its lower end is the receiver's."""
        peer = ["peer", "name", "racked9", "address", NODE_MAC, "netns", str(self.node.leader)]
        self.station.run(["ip", "link", "add", "low0", "address", LOW_MAC, "type", "veth", *peer])
        disable = "echo 1 > /proc/sys/net/ipv6/conf/low0/disable_ipv6"
        self.station.run(["sh", "-c", f"{disable}; ip link set low0 arp off multicast off up"])
        self.station.run(["ip", "address", "add", f"{RECEIVER}/24", "dev", "low0"])

    def shown(self) -> dict[str, Any]:
        """The walls, as the program on the node shows them."""
        program = f"/opt/appliance/export/{RELEASE[:12]}/venv/bin/appliance"
        done = self.node.run(f"{program} export line show --json", check=False)
        found: dict[str, Any] = json.loads(done.stdout)
        return found

    def judged(self) -> dict[str, tuple[bool, str]]:
        """What the qualification says of the node."""
        file = self.lab.inventory / "exporting.yml"
        values = yaml.safe_load((self.lab.inventory / "inventory.yml").read_text())
        values["nodes"][self.node.name]["export"] = SETTINGS
        file.write_text(yaml.safe_dump(values))
        private = self.folder / "private"
        private.mkdir(exist_ok=True)
        done = self.station.run([sys.executable, "-c", JUDGE, str(file), str(private)])
        found: dict[str, tuple[bool, str]] = json.loads(done.stdout)
        return found

    def inside(self, command: str) -> None:
        self.node.run(f"nsenter --net=/run/netns/{NAMESPACE} -- {command}")


def state(node: Any) -> str:
    """A digest of what the role could change on the node."""
    places = "/etc /opt /usr/local /var/lib/systemd"
    return str(node.run(f"find {places} -xdev -printf '%p %m %s %T@\\n' | sort | sha256sum").stdout)


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An unsigned bundle with the toolkit and nftables."""
    folder = tmp_path_factory.mktemp("bundle")
    definition = folder / "export-test.yaml"
    definition.write_text(DEFINITION)
    at_station("lock", definition)
    at_station("build", definition, "--out", folder / "out")
    return folder / "out"


@pytest.fixture(scope="module")
def rehearsed(fresh_lab: Any, bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Subject:
    """A clean node with nothing staged, after one run in check mode."""
    subject = Subject(fresh_lab, tmp_path_factory.mktemp("run"), bundle)
    subject.lay_cable()
    before = state(subject.node)
    subject.results["rehearsal"] = subject.apply(check=True)
    subject.results["untouched"] = state(subject.node) == before
    return subject


@pytest.fixture(scope="module")
def exporting(rehearsed: Subject) -> Subject:
    """The role has been applied."""
    root = Path(f"/proc/{rehearsed.node.leader}/root")
    shutil.copytree(rehearsed.bundle / "payload", root / STAGED.lstrip("/"))
    rehearsed.node.run(f"dpkg --install {' '.join(f'{STAGED}/system/{each}_*.deb' for each in DEBS)}")
    rehearsed.node.run(AUDITED)
    rehearsed.results["first"] = rehearsed.apply()
    return rehearsed


@dataclass
class Receiving:
    """The receiver on the operator's side."""

    subject: Subject
    folder: Path

    def records(self) -> list[dict[str, Any]]:
        """What was written, but for the line that is being written."""
        return [json.loads(line) for line in self._lines().split(b"\n") if line]

    def _lines(self) -> bytes:
        path = self.folder / self.subject.node.name / "records.jsonl"
        return path.read_bytes().rpartition(b"\n")[0] if path.is_file() else b""

    def status(self) -> dict[str, Any]:
        path = self.folder / "status.json"
        nodes = json.loads(path.read_bytes())["nodes"] if path.is_file() else [{}]
        found: dict[str, Any] = nodes[0]
        return found

    def heard(self, text: str) -> bool:
        """Whether some text is in a record, as JSON spells it; asked too often for parsing."""
        return text.encode() in self._lines()


@pytest.fixture(scope="module")
def receiving(exporting: Subject, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Receiving]:
    folder = tmp_path_factory.mktemp("receiver")
    name = exporting.node.name
    sender = folder / f"{name}.sender.json"
    sender.write_text(exporting.node.run(f"cat {FOLDER}/sender/{name}.sender.json").stdout)
    (folder / "received").mkdir()
    listen = ["--listen", f"{RECEIVER}:{PORT}", "--sender", str(sender)]
    process = exporting.station.start(["appliance", "export", "receive", str(folder / "received"), *listen])
    try:
        yield Receiving(exporting, folder / "received")
    finally:
        process.terminate()
        process.communicate(timeout=100)


def test_a_rehearsal_on_a_clean_node_changes_nothing(rehearsed: Subject) -> None:
    assert "Put the walls up, and send" in changes(rehearsed.results["rehearsal"])
    assert rehearsed.results["untouched"]


def test_the_second_run_and_a_check_change_nothing(exporting: Subject) -> None:
    assert changes(exporting.results["first"])[-1] == "Put the walls up, and send"
    assert changes(exporting.apply()) == []
    assert changes(exporting.apply(check=True)) == []


def test_the_walls_stand_and_the_namespace_holds_the_exporter_alone(exporting: Subject) -> None:
    found = exporting.shown()
    assert (found["faults"], found["rules_hold"], len(found["accepted"])) == ([], True, 1)
    assert found["xdp"]["name"] == "appliance_drop"
    script = f"""
ours="net:[$(stat -Lc %i /run/netns/{NAMESPACE})]"
for each in /proc/[0-9]*; do
  if [ "$(readlink $each/ns/net)" != "$ours" ] || grep -q export-watch $each/cgroup; then continue; fi
  cat $each/comm
done
"""
    # The sender, and the program that reads the journal for it.
    assert sorted(exporting.node.run(script).stdout.split()) == ["appliance", "journalctl"]
    assert "racked9" not in exporting.node.run("ip -br link").stdout


def test_the_qualification_finds_every_promise_kept(exporting: Subject) -> None:
    found = exporting.judged()
    assert {name for name, (kept, _) in found.items() if kept} == {"running", "walls", "out", "card"}, found
    assert "taken by the kernel" in found["out"][1], "and yet the tap behind the rules saw nothing"


def test_the_sender_may_do_little(exporting: Subject) -> None:
    pid = exporting.node.run("systemctl show -P MainPID appliance-export").stdout.strip()
    status = exporting.node.run(f"cat /proc/{pid}/status").stdout
    values = dict(line.split(":\t", 1) for line in status.splitlines())
    assert values["CapBnd"].strip() == values["CapEff"].strip() == "0" * 16
    assert (values["NoNewPrivs"].strip(), values["Seccomp"].strip()) == ("1", "2")
    user = exporting.node.run("id --user appliance-export").stdout.strip()
    assert values["Uid"].split() == [user] * 4
    assert exporting.node.run(f"stat -c %a {FOLDER}/sender/identity.json").stdout.strip() == "600"


def test_records_arrive_and_checkpoints_carry_the_walls(exporting: Subject, receiving: Receiving) -> None:
    exporting.node.run(f"python3 -c '{SAY}'", input='{"stream": "local", "fields": {"MESSAGE": "one way"}}')
    awaited(lambda: receiving.heard("one way"), "the record")
    found = awaited(lambda: (receiving.status().get("checkpoint") or {}).get("digests"), "a checkpoint")
    assert found == exporting.shown()["digests"]
    assert found.keys() == {"ruleset", "xdp", "sysctl"}


def test_what_the_node_logs_arrives(exporting: Subject, receiving: Receiving) -> None:
    exporting.node.run("logger --tag ward-7 'a line of the journal'")
    awaited(lambda: receiving.heard("a line of the journal"), "the line")
    (found,) = [each for each in receiving.records() if "a line of the journal" in json.dumps(each)]
    assert "ward-7" in json.dumps(found)


def test_audit_log_and_folders_are_read_from_behind_the_walls(
    exporting: Subject, receiving: Receiving
) -> None:
    # What was logged before the receiver was there may come with the third pass alone, ten minutes later.
    exporting.node.run(f"sed s/ward-9/ward-10/ {LOG} >> {LOG}")
    exporting.node.run(f"echo ward-8 > {CHECKS}/.a && mv {CHECKS}/.a {CHECKS}/a")
    for word, stream in (("ward-8", "checks"), ("ward-10", "audit-log")):
        awaited(lambda word=word: receiving.heard(f'"{word}'), word)  # type: ignore[misc]
        assert stream in [
            each["record"]["stream"] for each in receiving.records() if word in json.dumps(each)
        ]
    awaited(lambda: not exporting.node.run(f"ls {CHECKS}").stdout, "an empty folder")


def test_a_frame_that_comes_in_is_dropped_and_told(exporting: Subject, receiving: Receiving) -> None:
    before = exporting.shown()["received_since_up"]
    exporting.station.run([sys.executable, "-c", SHOUT])
    assert exporting.shown()["received_since_up"] == before + 7
    awaited(lambda: receiving.heard("frames came in at the export's card"), "the alarm")
    metrics = exporting.node.run(f"cat {FOLDER}/sender/metrics.prom").stdout
    (line,) = (
        each for each in metrics.splitlines() if each.startswith("appliance_export_line_received_total")
    )
    assert int(line.split()[1]) >= 7


def test_walls_that_are_taken_away_are_told_and_put_back(exporting: Subject, receiving: Receiving) -> None:
    """While one stands, the alarm gets out; without any, nothing does."""
    exporting.inside("nft flush ruleset")
    awaited(lambda: receiving.heard("no chain of nftables drops"), "the alarm")
    awaited(lambda: receiving.status().get("walls_changed"), "the change in the checkpoints")
    found = exporting.judged()
    assert {name for name, (kept, _) in found.items() if not kept} == {"walls", "out"}, found
    assert "a frame left that nobody may send" in found["out"][1]
    exporting.inside("ip link set dev export0 xdp off")
    link = f"nsenter --net=/run/netns/{NAMESPACE} ip -br link show dev export0"
    awaited(lambda: "DOWN" in exporting.node.run(link).stdout, "the link going off")
    assert changes(exporting.apply()) == ["Put the walls up, and send"]
    assert exporting.shown()["faults"] == []


def test_what_may_leave_and_a_full_spool_are_as_the_inventory_wants(
    exporting: Subject, receiving: Receiving
) -> None:
    """Fields are left out, texts redacted; and where nothing may be dropped, the workload ends instead."""
    select = {
        "journal": {"fields": ["MESSAGE"], "redact": ["(?i)password=\\S+"]},
        "local": {"fields": ["MESSAGE"], "redact": []},
    }
    wanted = {
        "log_export_select": select,
        "log_export_sending": {"rate": 50.5, "parity": 30, "spool": 8, "when_full": "stop"},
    }
    node = exporting.node
    node.run(WORKLOAD)
    assert changes(exporting.apply(**wanted)) == ["Put the walls up, and send"]
    assert changes(exporting.apply(check=True, **wanted)) == []
    node.run("logger --tag ward-5 'the door opened, PassWord=tulip'")
    awaited(lambda: receiving.heard("the door opened, ***"), "the line")
    (found,) = [each for each in receiving.records() if "the door opened" in json.dumps(each)]
    assert found["record"]["fields"] == {"MESSAGE": "the door opened, ***"}
    assert found["record"]["left_out"] > 5
    assert not receiving.heard("tulip")
    assert node.run("systemctl is-active appliance-inference").stdout == "active\n"
    node.run(f"python3 -c '{FLOOD}'")
    awaited(
        lambda: node.run("systemctl is-active appliance-inference", check=False).stdout == "inactive\n",
        "the workload's end",
    )
    status = node.run("systemctl show -P ActiveState -P ExecMainStatus appliance-export").stdout
    assert sorted(status.split()) == ["10", "failed"]
    assert changes(exporting.apply()) == ["Put the walls up, and send"]


def test_a_restart_puts_the_walls_up_before_the_link(exporting: Subject, receiving: Receiving) -> None:
    """The card comes when the units wait for it already; the sender goes on where it stopped."""
    before, node = exporting.node.leader, exporting.node
    known = receiving.status()["highest_block"]
    restart = threading.Thread(target=node.reboot)
    restart.start()

    def started() -> bool:
        nodes = node.operator_side.lab_status(node.lab)["nodes"]
        return nodes[0]["leader"] not in {None, before}

    awaited(started, "the node's start")
    exporting.lay_cable()
    restart.join()
    active = f"systemctl is-active {' '.join(UNITS)}"
    awaited(lambda: node.run(active, check=False).stdout.split() == ["active"] * 3, "the units", 240)
    assert exporting.shown()["faults"] == []
    order = node.run("systemctl show -P Before appliance-export-line").stdout.split()
    assert {"network-pre.target", "systemd-networkd.service"} <= set(order)
    node.run(f"python3 -c '{SAY}'", input='{"stream": "local", "fields": {"MESSAGE": "after the restart"}}')
    awaited(lambda: receiving.heard("after the restart"), "the record")
    # What was on its way when the power went is sent again, after half a minute at the latest.
    awaited(
        lambda: not [each for each in receiving.status()["gaps"] if each["blocks"][1] > known],
        "the second pass",
        75,
    )
    assert changes(exporting.apply()) == []


def test_taken_off_the_card_is_back_and_the_keys_stay(exporting: Subject) -> None:
    off = {"log_export_settings": {}}
    assert changes(exporting.apply(check=True, **off)) == ["Take the walls down, and send nothing"]
    assert changes(exporting.apply(**off)) == ["Take the walls down, and send nothing"]
    assert changes(exporting.apply(**off)) == []
    (link,) = json.loads(exporting.node.run("ip -j link show dev racked9").stdout)
    assert "UP" not in link["flags"]
    there = exporting.node.run(f"ls /run/netns /etc/systemd/system {FOLDER}/sender").stdout
    assert "appliance-export" not in there.replace(f"{FOLDER}/sender", "")
    assert "identity.json" in there
