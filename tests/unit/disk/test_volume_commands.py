"""`appliance disk unlock`, `bind` and `mount`, before a machine that a test makes up."""

from __future__ import annotations

import json
import shlex
import subprocess
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
from typer.testing import CliRunner

from appliance.cli import disk_volumes
from appliance.cli.app import app
from appliance.disk.escrow.keeping import Escrowed, escrow_keys
from appliance.errors import (
    ApplianceError,
    ApplyFailed,
    DriveUnsuitable,
    EscrowClosed,
    InventoryInvalid,
    PassphraseRefused,
    SettingsInvalid,
    Usage,
)
from appliance.node.ansible.events import HostResult, PlaybookResult
from appliance.node.script import load_script
from tests.unit.definition.test_host_keys import VALID
from tests.unit.disk.drives import entry, machine, top
from tests.unit.disk.escrows import CREATED, PSID, escrow, key, key_file
from tests.unit.disk.test_enroll_command import HOST_KEY
from tests.unit.disk.test_opening import IDENTITY
from tests.unit.disk.test_state import BOTH
from tests.unit.disk.test_volumes import ANSWER

if TYPE_CHECKING:
    from pathlib import Path

    from click.testing import Result

RUNNER = CliRunner()
DISKS = """\
    disks:
      data: {serial: SIM1, unlock: tpm2, mounts: [/srv/a, /srv/b]}
      more: {serial: SIM2, unlock: ssh, mounts: [/srv/c]}
"""


class Machine:
    """A node with two enrolled drives: what is open, what was asked of it, and what it answers."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.node = folder, None
        self.opened: dict[str, str] = {}
        self.commands: list[str] = []
        self.given: list[bytes] = []
        self.status = 0
        self.token_opens = False
        self.answer: dict[str, Any] = {
            "mounted": ["/srv/a"],
            "unknown": [],
            "started": ["x.service"],
            "failed": {},
        }
        self.keys = {
            serial: escrow_keys(folder, "gpu-01", identity, PSID, escrow=escrow("safe"), created=CREATED)
            for serial, identity in ((one, _identity(one)) for one in ("SIM1", "SIM2"))
        }

    def read(self) -> dict[str, Any]:
        entries, tree = [], []
        for at, (serial, keys) in enumerate(self.keys.items()):
            name = f"nvme{at}n1"
            text = BOTH.replace('"systemd-tpm2"', '"systemd-tpm2","tpm2-pcrs":[7]')
            luks = {"status": 0, "json": text, "uuid": keys.record.uuid}
            entries.append(entry(name, ANSWER, serial=serial, luks=luks))
            volume = self.opened.get(f"/dev/{name}")
            child = {
                "name": volume,
                "path": f"/dev/mapper/{volume}",
                "type": "crypt",
                "mountpoints": [None],
            }
            tree.append(top(name, **({"children": [child]} if volume else {})))
        return machine(*entries, tree=tree)

    def run(self, command: str, *, stdin: bytes = b"", timeout: float | None) -> Any:
        assert timeout is None, "what starts slowly is not cut off"
        self.commands.append(command)
        script = load_script("volumes")
        if stdin.startswith(script):
            self.question = json.loads(stdin[len(script) :])
            return subprocess.CompletedProcess([], 0, json.dumps(self.answer).encode() + b"\n", b"")
        self.given.append(stdin)
        words = shlex.split(command)
        if "--token-only" in words:
            return subprocess.CompletedProcess([], 0 if self.token_opens else 1, b"", b"")
        if "--test-passphrase" not in words and "open" in words and not self.status:
            self.opened[words[-5]] = words[-4]
        return subprocess.CompletedProcess([], self.status, b"", b"No key available.\n")

    def close(self) -> None:
        """Nothing is open."""


def _identity(serial: str) -> Any:
    from dataclasses import replace

    return replace(IDENTITY, serial=serial)


@pytest.fixture
def node(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Machine:
    (tmp_path / "escrow").mkdir()
    made = Machine(tmp_path / "escrow")

    def open_connections(_site: Any, nodes: Any, _folder: Any) -> dict[str, Machine]:
        made.node = nodes[0]
        return {nodes[0].name: made}

    monkeypatch.setattr("appliance.node.connection.open_connections", open_connections)
    monkeypatch.setattr("appliance.node.drives.ask_node_drives", lambda *_: made.read())
    (tmp_path / "known_hosts").write_text(
        "".join(f"10.20.0.{n} ssh-ed25519 {HOST_KEY}\n" for n in (11, 12))
    )
    recipients = f"escrow: {{recipients: {{safe: {key('safe').to_public()}}}}}\n"
    (tmp_path / "inventory.yml").write_text(VALID.replace("  gpu-02:", f"{DISKS}  gpu-02:") + recipients)
    key_file(tmp_path, "safe")
    key_file(tmp_path, "other")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    return made


def invoke(*words: str, name: str = "gpu-01") -> Result:
    return RUNNER.invoke(app, ["disk", *words, "-i", ".", "--node", name])


KEYS = ("--escrow", "escrow", "--identity", "safe.key")


def error_of(result: Result) -> ApplianceError:
    assert isinstance(result.exception, ApplianceError), result.output
    return result.exception


def phrase(keys: Escrowed) -> bytes:
    return keys.passphrase.reveal()


def test_all_are_opened_mounted_and_what_waited_is_told(node: Machine) -> None:
    result = invoke("unlock", *KEYS, "--json")
    assert result.exit_code == 0, result.output
    values = json.loads(result.stdout)
    assert values == {
        "node": "gpu-01",
        "opened": ["data", "more"],
        "already_open": [],
        "mounted": ["/srv/a"],
        "not_set_up": [],
        "started": ["x.service"],
    }
    assert node.given == [phrase(node.keys["SIM1"]), phrase(node.keys["SIM2"])]
    assert not any(phrase(each).decode() in text for each in node.keys.values() for text in node.commands)
    assert not any(phrase(each).decode() in result.output for each in node.keys.values())
    assert node.question == {
        "volumes": [
            {"name": "data", "places": ["/mnt/appliance/data", "/srv/a", "/srv/b"]},
            {"name": "more", "places": ["/mnt/appliance/more", "/srv/c"]},
        ]
    }


def test_what_is_open_needs_no_key_and_is_mounted_all_the_same(node: Machine) -> None:
    node.opened = {"/dev/nvme0n1": "data", "/dev/nvme1n1": "more"}
    node.answer = {**node.answer, "unknown": ["/srv/c"]}
    result = invoke("unlock")
    assert result.exit_code == 0, result.output
    assert node.given == []
    assert "open before: data, more" in result.stdout
    assert "not set up:  /srv/c: appliance disk mount" in result.stdout


def test_one_of_them_by_name(node: Machine) -> None:
    result = invoke("unlock", "more", *KEYS, "--json")
    assert json.loads(result.stdout)["opened"] == ["more"]
    assert node.given == [phrase(node.keys["SIM2"])]


@pytest.mark.parametrize(
    ("words", "error"),
    [
        (("unlock", "other", *KEYS), Usage),
        (("unlock",), Usage),
        (("unlock", "--identity", "safe.key"), Usage),
        (("unlock", "--escrow", "escrow"), Usage),
        (("unlock", "--escrow", "escrow", "--identity", "other.key"), EscrowClosed),
        (("bind", "more", *KEYS), Usage),
        (("bind", "data", "--escrow", "escrow", "--identity", "other.key"), EscrowClosed),
    ],
)
def test_what_is_refused_before_a_drive_hears_of_it(
    node: Machine, words: tuple[str, ...], error: type[ApplianceError]
) -> None:
    assert type(error_of(invoke(*words))) is error
    assert all(given == b"" for given in node.given)


@pytest.mark.usefixtures("node")
def test_whose_it_is_has_to_be_said() -> None:
    assert isinstance(error_of(RUNNER.invoke(app, ["disk", "unlock", "-i", ".", *KEYS])), Usage)
    assert isinstance(error_of(invoke("unlock", name="gpu-09")), InventoryInvalid)
    assert isinstance(error_of(invoke("unlock", name="gpu-02")), SettingsInvalid)


def test_a_refused_passphrase_is_tried_once(node: Machine) -> None:
    node.status = 2
    assert isinstance(error_of(invoke("unlock", *KEYS)), PassphraseRefused)
    assert len(node.given) == 1


def test_if_one_cannot_be_known_none_is_opened(node: Machine) -> None:
    for path in node.folder.glob("SIM2.*"):
        path.unlink()
    error = error_of(invoke("unlock", *KEYS))
    assert isinstance(error, DriveUnsuitable)
    assert "foreign" in error.message
    assert node.given == []


def test_what_does_not_start_is_named(node: Machine) -> None:
    node.answer = {**node.answer, "failed": {"/srv/a": "Dependency failed."}}
    error = error_of(invoke("unlock", *KEYS))
    assert isinstance(error, ApplyFailed)
    assert "/srv/a: Dependency failed." in error.found


def test_a_tpm_is_bound_once_and_again_where_it_is_wanted(node: Machine) -> None:
    result = invoke("bind", "data", *KEYS, "--json")
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout) == {"node": "gpu-01", "bound": ["data"], "already_bound": []}
    assert any("--tpm2-pcrs=7" in command for command in node.commands)
    node.token_opens, before = True, len(node.given)
    result = invoke("bind", "data", "--json")
    assert json.loads(result.stdout)["already_bound"] == ["data"]
    assert all(given == b"" for given in node.given[before:]), "no passphrase was needed"
    assert json.loads(invoke("bind", "data", *KEYS, "--again", "--json").stdout)["bound"] == ["data"]


def test_without_names_those_are_bound_that_a_tpm_opens(node: Machine) -> None:
    assert json.loads(invoke("bind", *KEYS, "--json").stdout)["bound"] == ["data"]
    assert node.given[-1] == phrase(node.keys["SIM1"])


def test_mounting_runs_the_role_alone_and_says_what_it_changed(
    node: Machine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[Any] = []
    node.ansible = lambda: {"ansible_host": "gpu-01"}  # type: ignore[attr-defined] # a Connection has it

    def run_playbook(playbook: Any, **more: Any) -> PlaybookResult:
        asked.append((playbook, more["log"]))
        done = HostResult(ok=3, changed=1)
        return PlaybookResult({"gpu-01": done}, changes=["mount /srv/a"], complete=True)

    monkeypatch.setattr("appliance.node.mounting.run_playbook", run_playbook)
    result = RUNNER.invoke(app, ["disk", "mount", "-i", ".", "--limit", "gpu-01", "--check", "--json"])
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout) == {"nodes": ["gpu-01"], "changes": ["mount /srv/a"], "check": True}
    ((playbook, log),) = asked
    assert (playbook.file.name, playbook.check, playbook.variables) == ("disks.yml", True, {})
    assert playbook.hosts["gpu-01"]["appliance_node"]["disks"][0]["name"] == "data"
    assert log == tmp_path / "state/appliance/disks-example.log"
    result = RUNNER.invoke(app, ["disk", "mount", "-i", ".", "--limit", "gpu-02"])
    assert isinstance(error_of(result), SettingsInvalid)


def test_without_an_escrow_each_passphrase_is_asked_for(
    node: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    typed = [phrase(node.keys["SIM1"]).decode() + " ", phrase(node.keys["SIM2"]).decode()]
    asked: list[str] = []
    terminal = SimpleNamespace(isatty=lambda: True)
    monkeypatch.setattr(disk_volumes, "sys", SimpleNamespace(stdin=terminal, stderr=terminal))
    monkeypatch.setattr("getpass.getpass", lambda prompt: (asked.append(prompt), typed.pop(0))[1])
    result = invoke("unlock", "--json")
    assert result.exit_code == 0, result.output
    assert asked == ["passphrase of data (SIM1): ", "passphrase of more (SIM2): "]
    assert node.given == [phrase(node.keys["SIM1"]), phrase(node.keys["SIM2"])]
