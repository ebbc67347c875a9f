"""`appliance disk enroll`, with cryptsetup played by a simulated drive; where secrets go, and where not."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
from typer.testing import CliRunner

from appliance.cli.app import app
from appliance.disk.escrow import medium
from appliance.disk.psid import parse_psid, read_psid
from appliance.disk.secret import Secret
from appliance.errors import (
    ApplianceError,
    ApplyFailed,
    DriveUnsuitable,
    InventoryInvalid,
    SettingsInvalid,
    Usage,
)
from tests.unit.definition.test_host_keys import VALID
from tests.unit.disk.bench import BenchDoer
from tests.unit.disk.drives import only
from tests.unit.disk.escrows import key
from tests.unit.disk.test_enrolling import pin_in

if TYPE_CHECKING:
    from pathlib import Path

    from click.testing import Result

RUNNER = CliRunner()


class Machine:
    """A connection to a machine with a simulated drive, whose cryptsetup is ours; all commands are kept."""

    def __init__(self, node: Any) -> None:
        self.node = node
        self.doer = BenchDoer()
        self.commands: list[str] = []
        self.fail = False

    def run(self, command: str, *, stdin: bytes, timeout: float | None) -> Any:
        assert timeout is None, "a slow format is not cut off"
        self.commands.append(command)
        words = shlex.split(command)
        if self.fail:
            return subprocess.CompletedProcess([], 1, b"", b"Cannot setup OPAL segment.\n")
        out, here = b"", only(self.doer.read())[0]
        place = words.index("/sys/class/block/nvme0n1")
        assert words[place + 1 : place + 6] == ["device/serial", "SIM1", "nsid", "1", "--"]
        if "luksFormat" in words:
            phrase, pin, rest = stdin.split(b"\n")
            assert (len(phrase), len(pin), rest) == (47, 32, b"")
            uuid = words[words.index("--uuid") + 1]
            layers = "opal" if "--hw-opal-only" in words else "opal and dm-crypt"
            self.doer.format(here, _Given(phrase, pin, uuid, layers))  # type: ignore[arg-type]
        elif "luksErase" in command:
            self.doer.reset(here, Secret(stdin))
        else:
            assert "luksHeaderBackup" in command
            out = self.doer.header(here)
        return subprocess.CompletedProcess([], 0, out, b"")

    def close(self) -> None:
        """Nothing is open."""


class _Given:
    """Keys as cryptsetup has them: without any proof."""

    def __init__(self, phrase: bytes, pin: bytes, uuid: str, layers: str) -> None:
        self.passphrase, self.admin_pin = Secret(phrase), Secret(pin)
        self.record = SimpleNamespace(uuid=uuid, layers=layers)


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Machine:
    made: list[Machine] = []

    def open_connections(_site: Any, nodes: Any, _folder: Any) -> dict[str, Machine]:
        made[0].node = nodes[0]
        return {nodes[0].name: made[0]}

    made.append(Machine(None))
    monkeypatch.setattr("appliance.node.connection.open_connections", open_connections)
    _on_a_disk(tmp_path, monkeypatch)
    monkeypatch.setattr("appliance.node.drives.ask_node_drives", lambda *_: made[0].doer.read())
    (tmp_path / "escrow").mkdir()
    (tmp_path / "psid").touch(0o600)
    (tmp_path / "psid").write_bytes(made[0].doer.bench.profile.psid.encode())
    (tmp_path / "known_hosts").write_text(
        "".join(f"10.20.0.{n} ssh-ed25519 {HOST_KEY}\n" for n in (11, 12))
    )
    write_inventory(tmp_path)
    monkeypatch.chdir(tmp_path)
    return made[0]


def _on_a_disk(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever tests run on, here it is a disk."""
    number = folder.stat().st_dev
    (folder / "mounts").write_text(
        f"1 0 {os.major(number)}:{os.minor(number)} / / rw - ext4 /dev/sdz1 rw\n"
    )
    usual = medium.refuse_medium.__kwdefaults__
    monkeypatch.setitem(usual, "mounts", folder / "mounts")
    monkeypatch.setitem(usual, "devices", folder / "devices")


HOST_KEY = "AAAAC3NzaC1lZDI1NTE5AAAAIJ7Bk4/AoEs0Q3T9ZQCCpwuB5Z3Ns6ZZ3mkXPnCHbVJ7"


def write_inventory(folder: Path, *, escrow_key: bool = True) -> None:
    more = f"escrow: {{recipients: {{office: {key('office').to_public()}}}}}\n" if escrow_key else ""
    (folder / "inventory.yml").write_text(VALID + more)


def run(*more: str, node: str = "gpu-01", psid: str = "psid", confirm: str = "SIM1") -> Result:
    command = ["disk", "enroll", "/dev/nvme0n1", "-i", "inventory.yml", "--escrow", "escrow"]
    options = {"--node": node, "--psid-file": psid, "--confirm": confirm}
    return RUNNER.invoke(app, [*command, *(w for pair in options.items() if pair[1] for w in pair), *more])


def refused(*more: str, **changed: str) -> ApplianceError:
    done = run(*more, **changed)
    assert isinstance(done.exception, ApplianceError), f"{done.output} {done.exception!r}"
    return done.exception


def test_a_drive_is_enrolled_and_the_second_run_changes_nothing(machine: Machine, tmp_path: Path) -> None:
    done = run("--json")
    assert done.exit_code == 0, done.output
    values = json.loads(done.stdout)
    assert (values["node"], values["header"]) == ("gpu-01", "SIM1.0001.header")
    assert values["drive"]["serial"] == "SIM1"
    assert machine.doer.owner_is(pin_in(tmp_path / "escrow"))
    assert len(machine.commands) == 2
    again = run()
    assert again.exit_code == 0
    assert "SIM1 of gpu-01 is enrolled; its keys and header: SIM1.0001.header" in again.stdout
    assert len(machine.commands) == 2


def test_no_secret_is_in_a_command_the_output_or_a_file(machine: Machine, tmp_path: Path) -> None:
    done = run()
    doer = machine.doer
    secrets = [*doer.attempts, *doer.phrases, doer.bench.profile.psid.encode()]
    said = "\n".join([*machine.commands, done.output]).encode()
    said += b"".join(path.read_bytes() for path in (tmp_path / "escrow").iterdir())
    assert [len(secret) for secret in secrets] == [32, 47, 32]
    assert not [secret for secret in secrets if secret in said]


def test_an_enrolment_that_was_cut_off_is_reset_where_somebody_says_so(
    machine: Machine, tmp_path: Path
) -> None:
    def stop() -> None:
        raise KeyboardInterrupt

    machine.doer.before_header = stop
    assert run().exit_code != 0
    machine.doer.before_header = lambda: None
    error = refused()
    assert isinstance(error, DriveUnsuitable)
    assert "--reset" in str(error.hint)
    assert run("--reset").exit_code == 0
    assert machine.doer.owner_is(pin_in(tmp_path / "escrow"))
    assert len([command for command in machine.commands if "luksErase" in command]) == 1


def test_cryptsetup_that_fails_is_told_and_not_asked_again(machine: Machine) -> None:
    machine.fail = True
    error = refused()
    assert isinstance(error, ApplyFailed)
    assert error.found == "Cannot setup OPAL segment."
    assert len(machine.commands) == 1


@pytest.mark.parametrize(
    "case",
    [
        ({"confirm": "SIM2"}, Usage, "this is not what it is"),
        ({"confirm": ""}, Usage, "nobody confirmed"),
        ({"psid": ""}, Usage, "no terminal to ask for the PSID"),
        ({"psid": "none"}, Usage, "none cannot be read"),
        ({"node": ""}, Usage, "whose drive"),
        ({"node": "gpu-09"}, InventoryInvalid, "no node gpu-09"),
    ],
)
def test_what_it_refuses_before_anything_is_touched(
    machine: Machine, tmp_path: Path, case: tuple[dict[str, str], type[ApplianceError], str]
) -> None:
    changed, kind, message = case
    error = refused(**changed)
    assert isinstance(error, kind)
    assert message in error.message
    assert (machine.commands, list((tmp_path / "escrow").iterdir())) == ([], [])


def test_a_drive_that_may_not_be_enrolled_is_refused_before_anybody_is_asked(machine: Machine) -> None:
    machine.doer = BenchDoer(owner_pin="somebody's")
    error = refused(confirm="", psid="")
    assert isinstance(error, DriveUnsuitable)
    assert "owned" in error.message


def test_without_recipients_nothing_is_enrolled(machine: Machine, tmp_path: Path) -> None:
    write_inventory(tmp_path, escrow_key=False)
    assert isinstance(refused(), SettingsInvalid)
    assert machine.commands == []


def test_an_escrow_that_is_not_there(machine: Machine, tmp_path: Path) -> None:
    (tmp_path / "escrow").rmdir()
    assert "the escrow escrow cannot be used" in refused().message
    assert machine.commands == []


def test_an_escrow_that_lies_on_the_node_itself(machine: Machine, tmp_path: Path) -> None:
    text = (tmp_path / "inventory.yml").read_text()
    (tmp_path / "inventory.yml").write_text(text.replace("gpu-01:\n", "gpu-01:\n    connection: local\n"))
    error = refused("--escrow", "/")
    assert "lies on the node itself" in error.message
    assert machine.commands == []


def test_an_escrow_in_memory(machine: Machine, tmp_path: Path) -> None:
    mounts = tmp_path / "mounts"
    mounts.write_text(mounts.read_text().replace("ext4", "tmpfs"))
    assert "lies in memory" in refused().message
    assert (machine.commands, list((tmp_path / "escrow").iterdir())) == ([], [])


# --- PSIDs ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "typed", [b"ABCD1234EFGH5678", b"ABCD-1234-EFGH-5678\n", b" ABCD 1234 EFGH\t5678 \r\n"]
)
def test_a_psid_is_read_as_labels_have_it(typed: bytes) -> None:
    assert parse_psid(typed) == Secret(b"ABCD1234EFGH5678")


@pytest.mark.parametrize("typed", [b"", b"SHORT12", b"X" * 33, b"ABCD1234!", "ÄBCD1234".encode()])
def test_what_is_no_psid_is_not_repeated(typed: bytes) -> None:
    with pytest.raises(Usage) as raised:
        parse_psid(typed)
    assert not typed or typed.decode() not in repr(raised.value.as_dict())


def test_a_psid_file_that_others_may_read(tmp_path: Path) -> None:
    (tmp_path / "psid").write_text("ABCD1234EFGH5678")
    (tmp_path / "psid").chmod(0o640)
    with pytest.raises(Usage, match="others may read"):
        read_psid(tmp_path / "psid")
