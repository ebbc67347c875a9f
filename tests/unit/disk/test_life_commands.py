"""`appliance disk rotate`, `retire` and `certificate`, as a person runs them before a simulated drive."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from typer.testing import CliRunner

from appliance.cli.app import app
from appliance.disk import retiring
from appliance.disk.sampling import LENGTH
from appliance.errors import (
    ApplianceError,
    DocumentInvalid,
    DriveUnsuitable,
    EscrowClosed,
    KeyRefused,
    QualificationFailed,
    SettingsInvalid,
    SignatureInvalid,
    Usage,
)
from appliance.lab.drive.orders import PowerLost
from tests.unit.disk.bench_life import LifeDoer, enrolled, secrets_of
from tests.unit.disk.escrows import key_file
from tests.unit.disk.test_enroll_command import HOST_KEY, _on_a_disk, write_inventory

if TYPE_CHECKING:
    from click.testing import Result

RUNNER = CliRunner()


@pytest.fixture
def doer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> LifeDoer:
    """An enrolled drive of gpu-01, its escrow in ``escrow``, a holder's key in ``office.key``."""
    (tmp_path / "escrow").mkdir()
    (tmp_path / "report").mkdir()
    made = enrolled(tmp_path / "escrow")
    made.fill()
    _on_a_disk(tmp_path, monkeypatch)
    write_inventory(tmp_path)
    (tmp_path / "known_hosts").write_text(
        "".join(f"10.20.0.{n} ssh-ed25519 {HOST_KEY}\n" for n in (11, 12))
    )
    key_file(tmp_path, "office")
    key_file(tmp_path, "stranger")
    (tmp_path / "psid").touch(0o600)
    (tmp_path / "psid").write_text(made.bench.profile.psid)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(retiring, "choose_places", lambda _size: [at * LENGTH for at in range(60)])

    class Connection:
        """To a node; what is done there the drive's keeper does."""

        def __init__(self, node: Any) -> None:
            self.node = node

        def close(self) -> None:
            """Nothing is open."""

    monkeypatch.setattr(
        "appliance.node.connection.open_connections",
        lambda _site, nodes, _folder: {one.name: Connection(one) for one in nodes},
    )
    for command in ("disk_rotate", "disk_retire"):
        monkeypatch.setattr(f"appliance.cli.{command}.keeper", lambda _connection: made)
    return made


def run(command: str, *more: str, **options: str) -> Result:
    usual = {"-i": "inventory.yml", "--node": "gpu-01", "--confirm": "SIM1", "--escrow": "escrow"}
    usual |= {"--identity": "office.key"}
    if command == "retire":
        usual |= {"--report": "report", "--by": "A. Engineer"}
    usual |= {f"--{name.replace('_', '-')}": value for name, value in options.items()}
    words = [word for pair in usual.items() if pair[1] for word in pair]
    return RUNNER.invoke(app, ["disk", command, "/dev/nvme0n1", *words, *more])


def refused(command: str, *more: str, **options: str) -> ApplianceError:
    done = run(command, *more, **options)
    assert isinstance(done.exception, ApplianceError), f"{done.output} {done.exception!r}"
    return done.exception


# --- rotate ---------------------------------------------------------------------------------------------


def test_keys_are_changed_and_it_is_said_which_open_what(doer: LifeDoer, tmp_path: Path) -> None:
    done = run("rotate")
    assert done.exit_code == 0, done.output
    assert "passphrase of the volume        of keys 2" in done.stdout
    assert "PIN of the administrator        of keys 2, as Admin1" in done.stdout
    assert "PIN of the owner (SID)          of keys 2" in done.stdout
    assert doer.unlocks(secrets_of(tmp_path / "escrow", 2, "office")["passphrase"])


def test_looking_changes_nothing_and_needs_no_key(doer: LifeDoer, tmp_path: Path) -> None:
    doer.bench.tper.orders.cut_after = 36
    assert isinstance(run("rotate").exception, PowerLost)
    doer.bench.lose_power()
    files, keeps = sorted(tmp_path.glob("escrow/*")), doer.bench.keeps
    done = run("rotate", "--look", "--json", identity="", confirm="")
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout) == {
        "node": "gpu-01",
        "serial": "SIM1",
        "passphrases": [1],
        "administrator": {"keys": 2, "name": "Admin1"},
        "owner": None,
    }
    assert (sorted(tmp_path.glob("escrow/*")), doer.bench.keeps) == (files, keeps)
    assert run("rotate").exit_code == 0
    assert json.loads(run("rotate", "--look", "--json").stdout)["owner"] == 2


@pytest.mark.parametrize(
    ("options", "kind", "message"),
    [
        ({"confirm": "SIM2"}, Usage, "not what it is"),
        ({"confirm": ""}, Usage, "nobody confirmed"),
        ({"identity": ""}, EscrowClosed, "cannot be opened"),
        ({"identity": "stranger.key"}, EscrowClosed, "cannot be opened"),
        ({"identity": "psid"}, Usage, "holds no key"),
        ({"node": ""}, Usage, "whose drive"),
        ({"escrow": "none"}, Usage, "cannot be used"),
    ],
)
def test_what_a_rotation_refuses(
    doer: LifeDoer, options: dict[str, str], kind: type[ApplianceError], message: str
) -> None:
    keeps = doer.bench.keeps
    error = refused("rotate", **options)
    assert isinstance(error, kind)
    assert message in error.message
    assert doer.bench.keeps == keeps


def test_a_site_without_recipients_changes_no_keys(doer: LifeDoer, tmp_path: Path) -> None:
    write_inventory(tmp_path, escrow_key=False)
    assert isinstance(refused("rotate"), SettingsInvalid)
    assert doer.acts == []


def test_an_unfinished_rotation_gives_out_no_pin(doer: LifeDoer) -> None:
    doer.bench.tper.orders.cut_after = 36
    run("rotate")
    doer.bench.lose_power()
    words = ["escrow", "SIM1", "admin-pin", "--identity", "office.key", "--out", "pin"]
    words.insert(2, "--what")
    done = RUNNER.invoke(app, ["disk", "escrow", "open", *words])
    assert isinstance(done.exception, Usage)
    assert "was begun and not ended" in done.exception.message


# --- retire ---------------------------------------------------------------------------------------------


@pytest.fixture
def signer(tmp_path: Path) -> Path:
    subprocess.run(
        ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", tmp_path / "ana"], check=True, timeout=60
    )
    return tmp_path / "ana"


def test_a_drive_is_erased_and_certified(doer: LifeDoer, signer: Path) -> None:
    done = run("retire", "--json", key=str(signer), destination="shredder", property_number="P-7")
    assert done.exit_code == 0, done.output
    told = json.loads(done.stdout)
    assert (told["verification"]["result"], told["signed"]) == ("verified", True)
    path = Path(told["certificate"])
    values = json.loads(path.read_bytes())
    assert values["performed_by"]["name"] == "A. Engineer"
    assert (values["afterwards"]["destination"], values["media"]["property_number"]) == ("shredder", "P-7")
    assert (values["media"]["serial"], values["media"]["source"]) == ("SIM1", "gpu-01")
    assert not doer.owned()
    checked = RUNNER.invoke(app, ["disk", "certificate", str(path), "--key", f"{signer}.pub"])
    assert checked.exit_code == 0, checked.output
    assert "CERTIFICATE OF SANITIZATION" in checked.stdout
    assert "signed by SHA256:" in checked.stdout
    stock = ["ssh-keygen", "-Y", "check-novalidate", "-n", "certificate@appliance", "-s", f"{path}.sig"]
    subprocess.run(stock, input=path.read_bytes(), check=True, capture_output=True, timeout=60)
    check = RUNNER.invoke(app, ["disk", "escrow", "check", "escrow"])
    assert "SIM1 was retired; its keys 1 open nothing on it any more" in check.stdout


def test_without_the_escrow_a_drive_is_erased_by_its_psid(doer: LifeDoer) -> None:
    done = run("retire", escrow="", identity="", psid_file="psid")
    assert done.exit_code == 0, done.output
    assert "12 of 60 places changed, partly verified" in done.stdout
    assert not doer.owned()


@pytest.mark.usefixtures("doer")
def test_a_drive_that_is_not_shown_to_be_erased_is_exit_8(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, signer: Path
) -> None:
    monkeypatch.setattr(retiring, "choose_places", lambda _size: [LENGTH * 30])
    error = refused("retire", key=str(signer))
    assert isinstance(error, QualificationFailed)
    assert "not verified" in error.message
    (path,) = tmp_path.glob("report/*.json")
    assert Path(f"{path}.sig").exists(), "what is known is signed too"
    assert RUNNER.invoke(app, ["disk", "certificate", str(path)]).exit_code == 8


@pytest.mark.parametrize(
    ("options", "kind", "message"),
    [
        ({"confirm": "SIM2"}, Usage, "not what it is"),
        ({"confirm": ""}, Usage, "nobody confirmed"),
        ({"identity": ""}, Usage, "by what"),
        ({"identity": "stranger.key"}, EscrowClosed, "cannot be opened"),
        ({"escrow": ""}, Usage, "keys of which escrow"),
        ({"report": "none"}, Usage, "no folder none"),
        ({"psid_file": "none"}, Usage, "none cannot be read"),
        ({"key": "none"}, ApplianceError, "none"),
        ({"permit": "p.json"}, Usage, "one confirmation is enough"),
    ],
)
def test_what_a_retirement_refuses(
    doer: LifeDoer, options: dict[str, str], kind: type[ApplianceError], message: str
) -> None:
    keeps = doer.bench.keeps
    error = refused("retire", **options)
    assert isinstance(error, kind)
    assert message in error.message
    assert doer.bench.keeps == keeps
    assert "revert" not in doer.acts


def test_a_drive_in_use_is_refused_before_anybody_is_asked(doer: LifeDoer) -> None:
    reads = doer.read

    def read() -> dict[str, Any]:
        found = reads()
        found["drives"][0]["holders"] = ["dm-0"]
        return found

    doer.read = read  # type: ignore[method-assign]
    assert isinstance(refused("retire", confirm=""), DriveUnsuitable)
    assert doer.acts == []


# --- certificates ---------------------------------------------------------------------------------------


@pytest.fixture
def certificate(doer: LifeDoer, tmp_path: Path, signer: Path) -> Path:
    assert doer.owned()
    assert run("retire", key=str(signer)).exit_code == 0
    (path,) = tmp_path.glob("report/*.json")
    return path


def shown(path: Path, *more: str) -> Any:
    return RUNNER.invoke(app, ["disk", "certificate", str(path), *more])


def test_a_certificate_without_a_key_says_that_nobody_checked_whose_it_is(certificate: Path) -> None:
    assert "not checked: whose it is" in shown(certificate).stdout
    assert json.loads(shown(certificate, "--json").stdout)["signed_by"] is None


def test_a_certificate_that_was_changed(certificate: Path) -> None:
    data = certificate.read_bytes()
    certificate.write_bytes(data.replace(b"A. Engineer", b"B. Engineer"))
    assert isinstance(shown(certificate, "--key", "ana.pub").exception, SignatureInvalid)
    certificate.write_bytes(data.replace(b"{", b"{ ", 1))
    assert isinstance(shown(certificate).exception, DocumentInvalid)
    certificate.write_bytes(b'{"format":1,"kind":"appliance-certificate-of-sanitization"}')
    assert isinstance(shown(certificate).exception, DocumentInvalid)
    certificate.write_bytes(b"[]")
    assert isinstance(shown(certificate).exception, DocumentInvalid)


def test_a_certificate_of_somebody_else_or_nobody(certificate: Path, tmp_path: Path) -> None:
    command = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", tmp_path / "bo"]
    subprocess.run(command, check=True, timeout=60)
    assert "somebody else" in str(shown(certificate, "--key", "bo.pub").exception)
    assert isinstance(shown(certificate, "--key", "ana").exception, KeyRefused), "a private key"
    signature = Path(f"{certificate}.sig")
    shutil.copy(signature, tmp_path / "kept")
    other = ["ssh-keygen", "-q", "-Y", "sign", "-f", tmp_path / "ana", "-n", "release@appliance"]
    done = subprocess.run(
        other, input=certificate.read_bytes(), capture_output=True, check=True, timeout=60
    )
    signature.write_bytes(done.stdout)
    assert "another role" in str(shown(certificate, "--key", "ana.pub").exception)
    signature.unlink()
    assert isinstance(shown(certificate, "--key", "ana.pub").exception, Usage)


@pytest.mark.parametrize("sanitized", [True, False])
def test_a_key_that_fails_in_the_end_does_not_hide_what_came_of_the_drive(
    doer: LifeDoer, signer: Path, monkeypatch: pytest.MonkeyPatch, sanitized: bool
) -> None:
    class Gone:
        def sign(self, _data: bytes, _namespace: str) -> bytes:
            raise KeyRefused("the token was taken out")

    monkeypatch.setattr("appliance.cli.disk_retire._signer", lambda _key: Gone())
    if not sanitized:
        monkeypatch.setattr(retiring, "choose_places", lambda _size: [30 * LENGTH])
    done = run("retire", key=str(signer))
    assert isinstance(done.exception, KeyRefused if sanitized else QualificationFailed)
    assert "is written, and not signed; by hand: ssh-keygen -Y sign" in done.stderr
    assert ("SIM1 is erased" in done.stderr) == sanitized
    assert not doer.owned()
