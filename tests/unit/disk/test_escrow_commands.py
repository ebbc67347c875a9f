"""`appliance disk escrow`: what it tells, where secrets go, and where they do not."""

from __future__ import annotations

import json
import os
import sys
from typing import TYPE_CHECKING

import pytest
from typer.testing import CliRunner

from appliance.cli.app import app
from appliance.disk.escrow.given import mark_given
from appliance.disk.escrow.keeping import Escrowed, escrow_header, escrow_keys
from appliance.errors import ApplianceError, EscrowClosed, EscrowInvalid, PreflightFailed, Usage
from tests.unit.disk.escrows import CREATED, DRIVE, PSID, escrow, key, key_file

if TYPE_CHECKING:
    from pathlib import Path

    from click.testing import Result

RUNNER = CliRunner()
STEM = "S6C%2F1%20%25.0001.keys"


@pytest.fixture
def kept(tmp_path: Path) -> Escrowed:
    folder = tmp_path / "escrow"
    folder.mkdir()
    keys = escrow_keys(folder, "gpu-01", DRIVE, PSID, escrow=escrow("safe", "office"), created=CREATED)
    escrow_header(folder, keys.record, b"LUKS\xba\xbe header", created=CREATED)
    return keys


def run(*arguments: object) -> Result:
    return RUNNER.invoke(app, ["disk", "escrow", *map(str, arguments)])


def refused(*arguments: object) -> ApplianceError:
    done = run(*arguments)
    assert isinstance(done.exception, ApplianceError), done.output
    return done.exception


def told(result: Result, keys: Escrowed) -> str:
    """All that a command said, in which there is no secret."""
    for secret in (keys.admin_pin, keys.passphrase, PSID):
        assert secret.reveal().decode() not in result.output
    assert "AGE-SECRET-KEY" not in result.output
    return result.output


def test_check_without_a_key_and_with_one(tmp_path: Path, kept: Escrowed) -> None:
    whole = run("check", tmp_path / "escrow")
    assert (whole.exit_code, told(whole, kept).count("whole ")) == (0, 2)
    assert f"{DRIVE.serial}  keys 1  gpu-01  {CREATED}  each of office, safe" in whole.output
    opened = run("check", tmp_path / "escrow", "--identity", key_file(tmp_path, "office"), "--json")
    assert opened.exit_code == 0
    values = json.loads(told(opened, kept))
    assert [one["outcome"] for one in values["records"]] == ["opened", "opened"]
    assert [one["record"]["purpose"] for one in values["records"]] == ["header", "keys"]


@pytest.mark.usefixtures("kept")
def test_check_tells_each_record_that_is_wrong(tmp_path: Path) -> None:
    folder = tmp_path / "escrow"
    again = escrow_keys(folder, "gpu-01", DRIVE, PSID, escrow=escrow("other"), created=CREATED)
    done = run("check", folder, "--identity", key_file(tmp_path, "safe"))
    assert done.exit_code == EscrowClosed.exit_code
    assert f"note:   {DRIVE.serial} has no header beside its keys 2" in told(done, again)
    (folder / f"{STEM}.age").write_bytes(b"damaged")
    (folder / "S6C%2F1%20%25.0003.keys.age").write_bytes(b"left")
    (folder / "odd.json").write_bytes(b"{}")
    done = run("check", folder)
    assert f"error: {STEM}.age is damaged" in done.stderr
    assert "error: odd.json is no escrow record" in done.stderr
    assert "error: S6C%2F1%20%25.0003.keys.age has no record" in done.stderr
    assert done.exit_code == 4


@pytest.mark.parametrize(
    ("what", "value"),
    [
        ("passphrase", lambda keys: keys.passphrase.reveal()),
        ("admin-pin", lambda keys: keys.admin_pin.reveal()),
        ("psid", lambda _keys: PSID.reveal()),
        ("header", lambda _keys: b"LUKS\xba\xbe header"),
    ],
)
def test_a_secret_is_written_to_a_file_of_ones_own(
    tmp_path: Path, kept: Escrowed, what: str, value: object
) -> None:
    assert callable(value)
    out = tmp_path / "out"
    done = run(
        *("open", tmp_path / "escrow", DRIVE.serial, "--what", what, "--out", out),
        *("--identity", key_file(tmp_path, "safe")),
    )
    assert done.exit_code == 0, done.output
    assert out.read_bytes() == value(kept)
    assert out.stat().st_mode & 0o777 == 0o600
    told(done, kept)


def test_a_secret_is_shown_on_a_terminal_alone(
    tmp_path: Path, kept: Escrowed, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = ("open", tmp_path / "escrow", DRIVE.serial, "--identity", key_file(tmp_path, "safe"), "--show")
    error = refused(*asked)
    assert isinstance(error, Usage)
    assert "no terminal" in error.message
    monkeypatch.setattr("appliance.cli.disk_escrow.sys", _Terminal())
    shown = run(*asked)
    assert shown.stdout == kept.passphrase.reveal().decode() + "\n"
    assert shown.stderr == f"passphrase of {DRIVE.serial}, generation 1, gpu-01:\n"


class _Terminal:
    """The module sys of a program at a terminal."""

    class stdout:  # noqa: N801 - its name there
        @staticmethod
        def isatty() -> bool:
            return True

    def __getattr__(self, name: str) -> object:
        return getattr(sys, name)


@pytest.mark.parametrize(
    "case",
    [
        ([], Usage, "where shall it go"),
        (["--show", "--out", "x"], Usage, "where shall it go"),
        (["--show", "--what", "header"], Usage, "a header is no text"),
        (["--out", "there"], Usage, "there cannot be made"),
        (["--out", "x", "--generation", "7"], Usage, "no keys of S6C/1 %"),
        (["--out", "x", "--identity", "none"], Usage, "none cannot be read"),
        (["--out", "x", "--identity", "empty"], Usage, "empty holds no key of age"),
        (["--out", "x", "--identity", "wrong"], Usage, "wrong holds no key of age"),
        (["--out", "x", "--identity", "open"], Usage, "others may read open"),
        (["--out", "x", "--identity", "stranger"], EscrowClosed, "cannot be opened"),
    ],
)
def test_what_open_refuses(
    tmp_path: Path,
    kept: Escrowed,
    monkeypatch: pytest.MonkeyPatch,
    case: tuple[list[str], type[ApplianceError], str],
) -> None:
    options, error, message = case
    monkeypatch.chdir(tmp_path)
    key_file(tmp_path, "safe")
    for name, text in (
        ("there", "x"),
        ("empty", "# nothing\n"),
        ("wrong", "AGE-SECRET-KEY-1TYPEDWRONG\n"),
        ("open", str(key("safe"))),
        ("stranger", str(key("stranger"))),
    ):
        (tmp_path / name).write_text(text)
        (tmp_path / name).chmod(0o644 if name == "open" else 0o600)
    given = [] if "--identity" in options else ["--identity", "safe.key"]
    found = refused("open", "escrow", DRIVE.serial, *options, *given)
    assert isinstance(found, error)
    assert message in found.message
    everything = " ".join(str(part) for part in found.as_dict().values())
    assert "TYPEDWRONG" not in everything
    assert kept.passphrase.reveal().decode() not in everything
    assert not (tmp_path / "x").exists()


def test_a_damaged_record_is_told_before_that_there_is_none(tmp_path: Path, kept: Escrowed) -> None:
    (tmp_path / "escrow" / f"{STEM}.age").write_bytes(b"damaged")
    error = refused("open", tmp_path / "escrow", DRIVE.serial, "--out", tmp_path / "x")
    assert isinstance(error, EscrowInvalid)
    assert kept.record.stem in error.message


@pytest.mark.parametrize("spoil", ["damage", "no record", "no sealed file", "no file but the mark"])
def test_an_older_pin_is_never_shown_for_the_newest(tmp_path: Path, kept: Escrowed, spoil: str) -> None:
    """A drive counts wrong PINs, and locks its owner out."""
    folder = tmp_path / "escrow"
    newest = escrow_keys(folder, "gpu-01", DRIVE, PSID, escrow=escrow("safe"), created=CREATED).record
    mark_given(folder, newest)
    record, sealed = folder / f"{newest.stem}.json", folder / f"{newest.stem}.age"
    match spoil:
        case "damage":
            record.write_bytes(b"{")
        case "no record":
            record.unlink()
        case "no sealed file":
            sealed.unlink()
        case _:
            record.unlink()
            sealed.unlink()
    asked = ("open", folder, DRIVE.serial, "--what", "admin-pin", "--out", tmp_path / "x")
    asked += ("--identity", key_file(tmp_path, "safe"))
    error = refused(*asked)
    assert isinstance(error, EscrowInvalid)
    assert "newest keys of S6C/1 % cannot be opened: generation 2" in error.message
    assert not (tmp_path / "x").exists()
    assert run(*asked, "--generation", "1").exit_code == 0
    assert (tmp_path / "x").read_bytes() == kept.admin_pin.reveal()
    assert isinstance(refused(*asked, "--generation", "2"), ApplianceError)


@pytest.mark.usefixtures("kept")
def test_nobody_is_told_to_remove_keys(tmp_path: Path) -> None:
    folder = tmp_path / "escrow"
    (folder / f"{STEM}.json").unlink()
    done = run("check", folder)
    assert "keep it" in done.stderr
    assert "age -d opens it" in done.stderr
    assert "remove" not in done.stderr


def test_a_folder_that_is_none_or_empty(tmp_path: Path) -> None:
    assert isinstance(refused("check", tmp_path / "none"), PreflightFailed)
    assert "holds no record" in refused("check", tmp_path).message


def test_holders_decrypt_their_shares_and_somebody_puts_them_together(
    split: tuple[Path, Escrowed], tmp_path: Path
) -> None:
    folder, keys = split
    shares = []
    for name in ("cy", "ana"):
        out = tmp_path / f"{name}.share"
        done = run("share", folder, DRIVE.serial, "--identity", key_file(tmp_path, name), "--out", out)
        assert done.exit_code == 0, done.output
        assert out.read_text().strip() not in done.output
        assert out.stat().st_mode & 0o777 == 0o600
        shares += ["--share", out]
    out = tmp_path / "passphrase"
    assert run("open", folder, DRIVE.serial, *shares, "--out", out).exit_code == 0
    assert out.read_bytes() == keys.passphrase.reveal()
    assert "2 of ana, bo, cy" in told(run("check", folder), keys)
    error = refused(
        *("share", folder, DRIVE.serial, "--out", tmp_path / "x"),
        *("--identity", key_file(tmp_path, "stranger")),
    )
    assert isinstance(error, EscrowClosed)


def test_there_is_no_share_of_what_one_can_open(tmp_path: Path, kept: Escrowed) -> None:
    error = refused(
        *("share", tmp_path / "escrow", kept.record.drive.serial, "--out", tmp_path / "x"),
        *("--identity", key_file(tmp_path, "safe")),
    )
    assert "not split" in error.message
    assert os.listdir(tmp_path / "escrow")  # noqa: PTH208 - that there is something
