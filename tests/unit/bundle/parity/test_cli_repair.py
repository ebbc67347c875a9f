"""``appliance media repair`` and ``media parity`` on the command line."""

from __future__ import annotations

import json
import shutil
from typing import TYPE_CHECKING

import pytest
from typer.testing import CliRunner

from appliance.bundle.verify import verify_bundle
from appliance.cli.app import app
from appliance.errors import DamageTooGreat, ThresholdNotMet, Usage
from appliance.progress import Silent
from appliance.trust.root import root_bytes
from tests.cnsa import sign_twice
from tests.unit.bundle.parity.conftest import SET, SLICE, overwrite, same, write_with_parity
from tests.unit.bundle.test_chains import ALICE, BOB, ONE, Case, chain_files, files_of, revocation

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from click.testing import Result

    from appliance.trust.root import Root
    from tests.conftest import BundleMaker, Holders


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Result]:
    """Run the program in-process; its cache lies in this test's folder."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))

    def invoke(*arguments: object) -> Result:
        return CliRunner().invoke(app, ["media", *map(str, arguments)])

    return invoke


def test_repair_says_what_it_mended(
    sick: Path, pristine_parity: Path, root_file: Path, run: Callable[..., Result]
) -> None:
    overwrite(sick / SLICE, 0, b"rot")
    done = run("repair", sick, "--trust", root_file, "--verify")
    assert done.exit_code == 0, done.output
    assert "signed by   alice, bob: enough, by the root you trust" in done.stdout
    assert f"mended    {sick / SLICE} (was damaged)" in done.stdout
    assert "verified    every byte of the whole bundle" in done.stdout
    assert same(sick, pristine_parity)


def test_repair_as_json(sick: Path, root_file: Path, run: Callable[..., Result]) -> None:
    (sick / "payload/extras/empty").unlink()
    done = run("repair", sick, "--trust", root_file, "--json")
    values = json.loads(done.stdout)
    assert values["mended"] == [{"folder": str(sick), "path": "payload/extras/empty", "was": "missing"}]
    assert (values["signers"], values["left"], values["verified"]) == (["alice", "bob"], [], False)


def test_without_a_root_it_says_so(sick: Path, run: Callable[..., Result]) -> None:
    assert "NOT JUDGED by any root" in run("repair", sick).stdout


def test_what_is_left_is_an_exit_code(
    sick: Path, volumes: Callable[..., list[Path]], root_file: Path, run: Callable[..., Result]
) -> None:
    third = volumes(sick, 4, 6)[2]
    overwrite(third / SET, 0, b"rot")
    done = run("repair", third, "--trust", root_file)
    assert done.exit_code == DamageTooGreat.exit_code
    assert f"LEFT      {SET}" in done.stdout
    assert "not here    volumes 1, 2 of 3" in done.stdout


def test_a_statement_that_is_left_is_named_with_what_to_do(
    sick: Path, maker: BundleMaker, root_file: Path, run: Callable[..., Result]
) -> None:
    maker.sign(sick, "carol")
    overwrite(sick / "trust/SHA256SUMS.carol.sig", 100, b"AAAA")
    done = run("repair", sick, "--trust", root_file)
    assert done.exit_code == DamageTooGreat.exit_code
    assert "LEFT      trust/SHA256SUMS.carol.sig: no copy of the signature of carol is good" in done.stdout
    assert "ask carol to sign again; or remove it from every folder" in done.stdout
    values = json.loads(run("repair", sick, "--trust", root_file, "--json").stdout)
    assert values["left"] == ["trust/SHA256SUMS.carol.sig", "trust/provenance.carol.dsse.json"]


@pytest.mark.parametrize("options", [["--verify"], ["--fingerprint", "0" * 64], ["--verify", "--out", "x"]])
def test_options_that_need_a_root(options: list[str], sick: Path, run: Callable[..., Result]) -> None:
    assert isinstance(run("repair", sick, *options).exception, Usage)


def revoked_key(folder: Path) -> Path:
    """A revocation of Bob's key, in a folder."""
    taken = revocation(4, ALICE, BOB, keys=(BOB.key.keyid,))
    for name, data in files_of("revoked.4.json", taken.data, taken.signatures).items():
        (folder / name).write_bytes(data)
    return folder / "revoked.4.json"


def test_what_was_taken_back_is_not_mended(maker: BundleMaker, run: Callable[..., Result]) -> None:
    """By a revocation that came another way than the bundle; without it nobody can know."""
    bundle = Case(maker).bundle(ONE, chain_files(ONE), ALICE, BOB)
    known, trust = revoked_key(bundle.parent), ("--trust", bundle / "trust/root.1.json")
    assert run("repair", bundle, *trust, "--verify").exit_code == 0
    done = run("repair", bundle, *trust, "--verify", "--revoked", known)
    assert isinstance(done.exception, ThresholdNotMet)
    assert isinstance(run("repair", bundle, "--revoked", known).exception, Usage)


@pytest.mark.parametrize("command", ["check", "join", "parity"])
def test_what_was_taken_back_is_not_taken_for_signed(
    command: str, maker: BundleMaker, run: Callable[..., Result], tmp_path: Path
) -> None:
    """As of a repair: by a revocation that came another way, if there is a root to judge it by."""
    bundle = Case(maker).bundle(ONE, chain_files(ONE), ALICE, BOB)
    known, trust = revoked_key(bundle.parent), ("--trust", bundle / "trust/root.1.json")
    out = () if command == "check" else ("--out", tmp_path / "out")
    assert not isinstance(run(command, bundle, *out, *trust).exception, ThresholdNotMet)
    out = () if command == "check" else ("--out", tmp_path / "another")
    done = run(command, bundle, *out, *trust, "--revoked", known)
    assert isinstance(done.exception, ThresholdNotMet)
    assert isinstance(run(command, bundle, *out, "--revoked", known).exception, Usage)


def test_a_lost_volume_from_end_to_end(
    sick: Path,
    volumes: Callable[..., list[Path]],
    root_file: Path,
    tmp_path: Path,
    run: Callable[..., Result],
) -> None:
    first, second, third = volumes(sick, 5, 7)
    (tmp_path / "stick").mkdir()
    made = run("parity", third, first, second, "--out", tmp_path / "stick", "--trust", root_file, "--json")
    assert json.loads(made.stdout)["volumes"] == 3
    shutil.move(second, tmp_path / "gone")
    out = tmp_path / "new"
    done = run("repair", first.parent, third.parent, tmp_path / "stick", "--out", out, "--trust", root_file)
    assert done.exit_code == 0, done.output
    assert same(out / second.name, tmp_path / "gone")
    assert f"made again  volume 2 of 3: {out / second.name}" in done.stdout
    assert f"do          appliance verify {first} {third} {out / second.name}" in done.stdout


def test_a_lost_volume_of_the_profile_cnsa(
    *,
    maker: BundleMaker,
    cnsa_root: Root,
    cnsa_holders: Holders,
    cnsa_root_file: Path,
    volumes: Callable[..., list[Path]],
    tmp_path: Path,
    run: Callable[..., Result],
) -> None:
    """The recovery volume has both lists and both kinds of signatures, and so has what is made again."""
    bundle = sign_twice(write_with_parity(maker, "bundle", cnsa_root), cnsa_holders)
    folders = volumes(bundle, 5, 7)
    trusted = ("--trust", cnsa_root_file)
    (tmp_path / "stick").mkdir()
    made = run("parity", *folders, "--out", tmp_path / "stick", *trusted)
    assert made.exit_code == 0, made.output
    first, second, third = folders
    shutil.move(second, tmp_path / "gone")
    out = tmp_path / "new"
    done = run("repair", first, third, tmp_path / "stick", "--out", out, *trusted)
    assert done.exit_code == 0, done.output
    assert same(out / second.name, tmp_path / "gone")
    verify_bundle([first, out / second.name, third], root_bytes(cnsa_root), progress=Silent())
