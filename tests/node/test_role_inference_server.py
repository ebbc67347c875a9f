"""The role ``inference_server`` on a real node: rehearsed, applied, applied again, attacked, repaired.

The node is plain Debian with nothing of ours; the bundle is built from a definition of this module's
own.  The role runs through the program's own driver, so results are those an installation would see.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import sys
import tarfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.node.at_station import at_station
from tests.node.client import send, too_long
from tests.unit.roles.ollama_stand_in import STAND_IN

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = [pytest.mark.node, pytest.mark.archive]

ROLES = Path(__file__).parents[2] / "roles"
SENTENCE = "The node answers the node, and nobody else."
UNIT = "appliance-inference.service"
UNIT_FILE = f"/etc/systemd/system/{UNIT}"
USER = "appliance-inference"
RELEASE = "5eed" * 16
STAGED = f"/var/lib/appliance/staged/{RELEASE}/payload"
ENVIRONMENT = f"/opt/appliance/inference/{RELEASE[:12]}/venv"

DEFINITION = f"""\
format: 1
product: role-test
version: "1"
sequence: 1
target: {{distribution: debian, suite: trixie, architecture: amd64, python: "3.13"}}
components:
  model: {{kind: tiny-gguf, sentence: "{SENTENCE}", licence: CC0-1.0}}
  engine: {{kind: python, requirements: [xllamacpp]}}
  installer: {{kind: python, requirements: [pip]}}
  system: {{kind: debian, packages: [libgomp1]}}
inference: {{engine: engine, model: model, file: tiny.gguf, name: demo}}
"""

# Runs a playbook by the program's own driver and prints what its events came to.
DRIVER = """
import dataclasses, json, pathlib, sys
from appliance.node.ansible.driver import Playbook, run_playbook
from appliance.progress import Silent
order = json.load(sys.stdin)
folder = pathlib.Path(order.pop("folder"))
playbook = Playbook(**{**order, "file": pathlib.Path(order["file"]), "roles": pathlib.Path(order["roles"])})
result = run_playbook(playbook, folder=folder, log=folder / "ansible.log", progress=Silent())
print(json.dumps(dataclasses.asdict(result)))
"""

# Asks the server on loopback; prints the answer's text, whole and streamed.
ASK = """
import json, urllib.request

def ask(**more):
    body = {"model": "demo", "messages": [{"role": "user", "content": "Who is there?"}], **more}
    request = urllib.request.Request("http://127.0.0.1:PORT/v1/chat/completions", json.dumps(body).encode())
    with urllib.request.urlopen(request, timeout=30) as answer:
        return answer.read().decode()

whole = json.loads(ask())["choices"][0]
events = [line[6:] for line in ask(stream=True).splitlines() if line.startswith("data: {")]
choices = [choice for event in events for choice in json.loads(event)["choices"]]
deltas = [choice["delta"].get("content") or "" for choice in choices]
print(json.dumps({"whole": whole["message"]["content"], "streamed": deltas, "end": whole["finish_reason"]}))
"""

# Asks what Ollama offers, and has it make a model more.
ASK_OLLAMA = """
import json, urllib.error, urllib.request

def ask(path, body=None):
    request = urllib.request.Request("http://127.0.0.1:8000" + path, body)
    try:
        with urllib.request.urlopen(request, timeout=30) as answer:
            return answer.status, json.load(answer)
    except urllib.error.HTTPError as fault:
        return fault.code, json.load(fault)

status, made = ask("/api/create", b"{}")
models = [each["id"] for each in ask("/v1/models")[1]["data"]]
print(json.dumps({"models": models, "made": [status, (made or {}).get("error")]}))
"""

# Answers "heard" to whoever comes to the given addresses, over TCP and UDP; prints its port once it
# listens.  Bound to each address, as an answer over UDP could else come from another one.
LISTENER = """
import socket, socketserver, sys, threading

class Greet(socketserver.BaseRequestHandler):
    def handle(self):
        self.request.sendall(b"heard")
class Echo(socketserver.BaseRequestHandler):
    def handle(self):
        self.request[1].sendto(b"heard", self.client_address)

port = 0
for address in sys.argv[1:]:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    for server, handler in ((socketserver.TCPServer, Greet), (socketserver.UDPServer, Echo)):
        bound = type("Bound", (server,), {"address_family": family})((address, port), handler)
        port = bound.server_address[1]
        threading.Thread(target=bound.serve_forever).start()
print(port, flush=True)
"""

# Tries each way to that listener; prints for each whether it was heard.
CALLER = """
import json, socket

def heard(family, kind, address):
    with socket.socket(family, kind) as caller:
        caller.settimeout(2)
        try:
            caller.connect((address, PORT))
            if kind == socket.SOCK_DGRAM:
                caller.send(b"hello")
            return caller.recv(16) == b"heard"
        except OSError:
            return False

families = {"4": (socket.AF_INET, "ADDRESS4"), "6": (socket.AF_INET6, "ADDRESS6")}
kinds = {"tcp": socket.SOCK_STREAM, "udp": socket.SOCK_DGRAM}
print(json.dumps({k + f: heard(families[f][0], kinds[k], families[f][1]) for k in kinds for f in families}))
"""

EVERY_WAY = ("tcp4", "tcp6", "udp4", "udp6")


@dataclass
class Subject:
    """The node under test and how the role is run on it."""

    lab: Any
    folder: Path
    bundle: Path
    results: dict[str, Any] = field(default_factory=dict)

    @property
    def node(self) -> Any:
        return self.lab.node

    def apply(self, *, check: bool = False, roles: Path = ROLES, **changed: Any) -> dict[str, Any]:
        """Run the role over SSH from the operator's side; the driver's result as a mapping."""
        pip = next(self.bundle.glob("payload/installer/pip-*.whl")).name
        variables = {
            "inference_server_release": RELEASE,
            "inference_server_wheels": f"{STAGED}/engine",
            "inference_server_installer": f"{STAGED}/installer/{pip}",
            "inference_server_model": f"{STAGED}/model/tiny.gguf",
            "inference_server_model_folder": f"{STAGED}/model",
            "inference_server_digests": {f"{STAGED}/model/tiny.gguf": self.model_digest},
            "inference_server_model_name": "demo",
            **changed,
        }
        return self.play("inference_server", variables, check=check, roles=roles)

    def play(
        self, role: str, variables: dict[str, Any], *, check: bool = False, roles: Path = ROLES
    ) -> dict[str, Any]:
        """Run a role by the program's own driver."""
        secrets = self.lab.inventory
        ssh = f"-o UserKnownHostsFile={secrets}/known_hosts -o StrictHostKeyChecking=yes"
        host = {
            "ansible_host": self.node.address4,
            "ansible_user": "root",
            "ansible_ssh_private_key_file": f"{secrets}/keys/operator",
            "ansible_ssh_common_args": f"{ssh} -o ControlMaster=auto -o ControlPersist=30s",
            "ansible_python_interpreter": "/usr/bin/python3",
        }
        playbook = self.folder / "play.yml"
        playbook.write_text(f"[{{hosts: all, gather_facts: false, roles: [{role}]}}]\n")
        order = {
            "file": str(playbook),
            "roles": str(roles),
            "hosts": {self.node.name: host},
            "variables": variables,
            "check": check,
            "folder": str(self.folder),
        }
        done = self.node.operator_side.run([sys.executable, "-c", DRIVER], input=json.dumps(order))
        result: dict[str, Any] = json.loads(done.stdout)
        return result

    def python(self, script: str, prefix: str = "") -> Any:
        """Run a Python script on the node and read the JSON it prints."""
        return json.loads(self.node.run(f"{prefix} python3 -", input=script).stdout)

    def answer(self, port: int = 8000) -> dict[str, Any]:
        """What the server answers on the node's loopback."""
        answer: dict[str, Any] = self.python(ASK.replace("PORT", str(port)))
        return answer

    @property
    def model_digest(self) -> str:
        """The model's SHA-256, in the bundle."""
        return hashlib.sha256((self.bundle / "payload/model/tiny.gguf").read_bytes()).hexdigest()

    @property
    def pid(self) -> str:
        """The server's process on the node."""
        return str(self.node.run(f"systemctl show --property MainPID --value {UNIT}").stdout.strip())

    def state(self) -> str:
        """A digest of what the role could change on the node."""
        places = "/etc /opt /usr/local /var/lib/systemd /var/cache"
        return str(
            self.node.run(f"find {places} -xdev -printf '%p %m %s %T@\\n' | sort | sha256sum").stdout
        )


def changes(result: dict[str, Any]) -> list[str]:
    """The tasks that changed something; the run must have succeeded."""
    assert result["complete"], result
    assert not result["troubles"], result["troubles"]
    return [place.rpartition(": ")[2] for place in result["changes"]]


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An unsigned bundle with the model, the engine, pip and the one library the engine needs."""
    folder = tmp_path_factory.mktemp("bundle")
    definition = folder / "role-test.yaml"
    definition.write_text(DEFINITION)
    at_station("lock", definition)
    at_station("build", definition, "--out", folder / "out")
    return folder / "out"


@pytest.fixture(scope="module")
def rehearsed(fresh_lab: Any, bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Subject:
    """A clean node with nothing staged, after one run in check mode."""
    subject = Subject(fresh_lab, tmp_path_factory.mktemp("run"), bundle)
    before = subject.state()
    subject.results["rehearsal"] = subject.apply(check=True)
    subject.results["untouched"] = subject.state() == before
    return subject


@pytest.fixture(scope="module")
def staged(rehearsed: Subject) -> Subject:
    """The bundle is on the node, but a library that the engine needs is not; one run was tried."""
    leader_root = Path(f"/proc/{rehearsed.node.leader}/root")
    shutil.copytree(rehearsed.bundle / "payload", leader_root / STAGED.lstrip("/"))
    rehearsed.results["without library"] = rehearsed.apply()
    rehearsed.results["unit without library"] = rehearsed.node.run(
        f"test -e {UNIT_FILE}", check=False
    ).returncode
    return rehearsed


@pytest.fixture(scope="module")
def installed(staged: Subject) -> Subject:
    """The role has been applied with all it needs."""
    staged.node.run(f"dpkg --install {STAGED}/system/gcc-*-base_*.deb {STAGED}/system/libgomp1_*.deb")
    staged.results["first"] = staged.apply()
    return staged


@pytest.fixture
def listener(installed: Subject) -> Iterator[int]:
    """A port on the operator's side that answers over TCP and UDP, IPv4 and IPv6."""
    process = installed.node.operator_side.start([sys.executable, "-c", LISTENER, *installed.lab.operator])
    try:
        yield int(process.stdout.readline())
    finally:
        process.terminate()
        process.wait(10)
        process.stdout.close()


def test_a_rehearsal_on_a_clean_node_announces_everything_and_touches_nothing(rehearsed: Subject) -> None:
    assert len(changes(rehearsed.results["rehearsal"])) == 3, "engine, user, service"
    assert rehearsed.results["untouched"]


def test_a_missing_library_ends_the_run_before_any_service_exists(staged: Subject) -> None:
    (trouble,) = staged.results["without library"]["troubles"]
    assert "libgomp.so.1" in trouble["message"]
    assert staged.results["unit without library"] == 1


def test_the_first_run_succeeds_after_one_that_was_cut_short(installed: Subject) -> None:
    assert len(changes(installed.results["first"])) == 3, "engine, user, service"


def test_the_second_run_and_its_rehearsal_change_nothing(installed: Subject) -> None:
    assert changes(installed.apply()) == []
    assert changes(installed.apply(check=True)) == []


def test_the_model_answers_on_loopback_whole_and_streamed(installed: Subject) -> None:
    answer = installed.answer()
    assert answer["whole"] == SENTENCE
    assert answer["end"] == "stop"
    assert "".join(answer["streamed"]) == SENTENCE
    assert len([delta for delta in answer["streamed"] if delta]) > 3, "streaming comes in pieces"


def test_what_is_longer_than_the_context_is_refused_whole(installed: Subject) -> None:
    """Nothing of it is left out without a word, as Ollama does; the context is the role's default."""
    asked = too_long("demo", 8192)
    answers = send(installed.node, *asked.values())
    assert [(status, body["error"]["n_ctx"]) for status, body in answers] == [(400, 8192)] * len(asked)


def test_its_switch_is_read_by_what_is_installed(installed: Subject) -> None:
    """Earlier releases of llama.cpp call it otherwise."""
    grep = f"grep -aohm1 'LLAMA_[A-Z_]*OFFLINE' -r {ENVIRONMENT}/lib --include='*.so' | sort -u"
    assert installed.node.run(grep).stdout.split() == ["LLAMA_ARG_OFFLINE"]


def test_the_port_is_closed_from_the_operators_side(installed: Subject) -> None:
    """SSH on the same address answers, so it is the port that is closed and not the way."""
    connect = "import socket, sys; socket.create_connection((sys.argv[1], int(sys.argv[2])), 5).close()"
    for address in (installed.node.address4, installed.node.address6):
        for port, code in (("22", 0), ("8000", 1)):
            command = [sys.executable, "-c", connect, address, port]
            assert installed.node.operator_side.run(command, check=False).returncode == code, (
                address,
                port,
            )


def test_it_listens_on_loopback_alone(installed: Subject) -> None:
    listening = installed.node.run(f"ss -Hltunp | grep 'pid={installed.pid},'").stdout.splitlines()
    assert [line.split()[4] for line in listening] == ["127.0.0.1:8000"]


def test_it_runs_as_a_user_without_login(installed: Subject) -> None:
    passwd = installed.node.run(f"getent passwd {USER}").stdout.strip().split(":")
    assert passwd[5:] == ["/nonexistent", "/usr/sbin/nologin"]
    assert installed.node.run(f"getent shadow {USER}").stdout.split(":")[1].startswith("!")
    assert installed.node.run(f"stat -c %U /proc/{installed.pid}").stdout.strip() == USER


def test_systemd_finds_little_exposed(installed: Subject) -> None:
    """The scale runs from 0 to 100 here; a threshold makes the verdict an exit status."""
    verdict = installed.node.run(f"systemd-analyze security --no-pager --threshold=10 {UNIT}", check=False)
    print(verdict.stdout.splitlines()[-1])
    assert verdict.returncode == 0, verdict.stdout


def test_no_process_of_the_unit_gets_out_by_any_way(installed: Subject, listener: int) -> None:
    """Root outside the unit is heard on every way; inside the unit neither its user nor even root is."""
    caller = CALLER.replace("PORT", str(listener))
    for family, address in zip("46", installed.lab.operator, strict=True):
        caller = caller.replace(f"ADDRESS{family}", address)
    assert installed.python(caller) == dict.fromkeys(EVERY_WAY, True)

    join = f"echo $$ > /sys/fs/cgroup/system.slice/{UNIT}/cgroup.procs && exec"
    drop = f"setpriv --reuid {USER} --regid {USER} --clear-groups"
    for prefix in (f"{join} {drop}", join):
        assert installed.python(caller, prefix) == dict.fromkeys(EVERY_WAY, False), prefix


def test_the_unit_cannot_ask_the_bus_to_go_out_for_it(installed: Subject) -> None:
    """A resolver behind the bus would carry questions out of a unit that cannot send them itself."""
    call = "import socket; socket.socket(socket.AF_UNIX).connect('/run/dbus/system_bus_socket')"
    assert installed.node.run(f'python3 -c "{call}"').returncode == 0
    drop = f"setpriv --reuid {USER} --regid {USER} --clear-groups"
    inside = f'nsenter --target {installed.pid} --mount -- {drop} python3 -c "{call}"'
    refused = installed.node.run(inside, check=False)
    assert "PermissionError" in refused.stderr


def test_a_run_cut_off_before_the_restart_is_made_good(installed: Subject) -> None:
    """The unit file is as wanted, but the process still runs by an older one."""
    node = installed.node
    older = f"sed -i 's/APPLIANCE_STAMP=.*/APPLIANCE_STAMP=old/' {UNIT_FILE}"
    restart = f"systemctl daemon-reload && systemctl restart {UNIT}"
    node.run(f"cp -p {UNIT_FILE} /root/unit && {older} && {restart} && cp -p /root/unit {UNIT_FILE}")
    assert len(changes(installed.apply())) == 1
    assert "APPLIANCE_STAMP=old" not in node.run(f"tr '\\0' '\\n' < /proc/{installed.pid}/environ").stdout
    assert changes(installed.apply()) == []


def test_a_stopped_and_disabled_service_is_brought_back(installed: Subject) -> None:
    installed.node.run(f"systemctl disable --now {UNIT}")
    assert len(changes(installed.apply())) == 1
    assert installed.answer()["whole"] == SENTENCE
    assert installed.node.run(f"systemctl is-enabled {UNIT}").stdout.strip() == "enabled"


def test_a_damaged_environment_is_rebuilt(installed: Subject) -> None:
    installed.node.run(f"rm {ENVIRONMENT}/lib/python3*/site-packages/xllamacpp/__init__.py")
    assert len(changes(installed.apply())) == 2
    assert installed.answer()["whole"] == SENTENCE


def test_a_unit_that_systemd_faults_never_replaces_the_good_one(installed: Subject, tmp_path: Path) -> None:
    roles = tmp_path / "roles"
    shutil.copytree(ROLES, roles)
    template = roles / f"inference_server/templates{UNIT_FILE}.j2"
    template.write_text(template.read_text().replace("ProtectSystem=", "ProtectSytem="))
    before = installed.node.run(f"sha256sum {UNIT_FILE}").stdout
    result = installed.apply(roles=roles)
    assert "ProtectSytem" in result["troubles"][0]["message"]
    assert installed.node.run(f"sha256sum {UNIT_FILE}").stdout == before
    assert installed.answer()["whole"] == SENTENCE


def test_a_port_can_be_changed_and_changed_back(installed: Subject) -> None:
    assert len(changes(installed.apply(inference_server_port=8001))) == 1, "the unit is the service's"
    assert installed.answer(8001)["whole"] == SENTENCE
    assert len(changes(installed.apply())) == 1
    assert installed.answer()["whole"] == SENTENCE


def test_a_model_that_does_not_load_fails_with_the_engines_own_words(installed: Subject) -> None:
    installed.node.run(f"echo nonsense > {STAGED}/model/broken.gguf")
    digests = {
        f"{STAGED}/model/tiny.gguf": installed.model_digest,
        f"{STAGED}/model/broken.gguf": hashlib.sha256(b"nonsense\n").hexdigest(),
    }
    result = installed.apply(
        inference_server_model=f"{STAGED}/model/broken.gguf", inference_server_digests=digests
    )
    (trouble,) = result["troubles"]
    assert "invalid magic" in trouble["message"]
    installed.node.run(f"rm {STAGED}/model/broken.gguf")
    assert len(changes(installed.apply())) == 2, "the list of digests, and the service"
    assert installed.answer()["whole"] == SENTENCE


def test_a_model_that_is_not_as_it_was_signed_is_never_served(installed: Subject) -> None:
    """One bit of it, and a file beside it that nobody signed."""
    model = f"{STAGED}/model/tiny.gguf"
    for spoil, mend, complaint in (
        (
            f"cp -p {model} /root/ && printf X | dd of={model} bs=1 seek=5000 conv=notrunc status=none",
            f"cp -p /root/tiny.gguf {model}",
            f"{model}: found",
        ),
        (
            f"touch {STAGED}/model/extra.gguf",
            f"rm {STAGED}/model/extra.gguf",
            "does not name",
        ),
    ):
        installed.node.run(spoil)
        installed.node.run(f"systemctl stop {UNIT}")
        (trouble,) = installed.apply()["troubles"]
        assert complaint in trouble["message"]
        assert installed.node.run("ss -Hltn 'sport = :8000'").stdout == ""
        # Or systemd, which tries again every few seconds, may be there first.
        installed.node.run(f"systemctl stop {UNIT} && {mend}")
        assert len(changes(installed.apply())) == 1
        assert installed.answer()["whole"] == SENTENCE


def test_ollama_takes_the_place_of_an_engine_of_wheels(installed: Subject, tmp_path: Path) -> None:
    """A stand-in for its program, in an archive as its maker packs it; all else is real."""
    archive, program = tmp_path / "ollama-linux-amd64.tgz", tmp_path / "ollama"
    program.write_text(STAND_IN.format(python="/usr/bin/python3"))
    program.chmod(0o755)
    with tarfile.open(archive, "w:gz") as tar:
        for name in ("bin/ollama", "lib/ollama/llama-server"):
            tar.add(program, f"./{name}")
    there = f"{STAGED}/ollama/{archive.name}"
    (Path(f"/proc/{installed.node.leader}/root") / there.lstrip("/")).parent.mkdir()
    shutil.copy(archive, Path(f"/proc/{installed.node.leader}/root") / there.lstrip("/"))
    ollama = {
        "inference_server_engine": "ollama",
        "inference_server_archive": there,
        "inference_server_archive_sha256": hashlib.sha256(archive.read_bytes()).hexdigest(),
    }
    assert len(changes(installed.apply(**ollama))) == 2, "engine, service"
    assert changes(installed.apply(**ollama)) == []

    said = installed.python(ASK_OLLAMA)
    assert said["models"] == ["demo:latest"]
    assert said["made"] == [500, "Permission denied"], "nothing comes into the store"
    assert installed.node.run("ss -Hltn 'sport = :11434'").stdout == "", "it has a network of its own"
    assert installed.node.run(f"stat -c %U /proc/{installed.pid}").stdout.strip() == USER

    assert len(changes(installed.apply())) == 1, "its environment is there still"
    assert installed.answer()["whole"] == SENTENCE


def test_the_server_is_back_after_a_reboot_and_the_next_run_changes_nothing(installed: Subject) -> None:
    installed.node.reboot()
    installed.node.run("systemctl is-system-running --wait", check=False)
    assert installed.answer()["whole"] == SENTENCE
    assert changes(installed.apply()) == []
