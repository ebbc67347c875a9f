"""bootstrap.sh: a stock system without a network sets the program up, as it should go."""

from __future__ import annotations

import shutil
import subprocess
from typing import TYPE_CHECKING

import pytest

from appliance.bundle.bootstrap import bootstrap_bytes
from appliance.trust.allowed_signers import allowed_signers
from tests.cnsa import sign_twice
from tests.conftest import CONTENTS
from tests.unit.bundle.bootstrap.desk import NATIVE, PROGRAM, PYTHONS, TOOLKIT, Desk, refused, toolkit_files

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from appliance.trust.root import Root
    from tests.conftest import BundleMaker, Holders


@pytest.mark.parametrize("shell", ["sh", "bash"])
def test_a_stock_system_without_network_sets_the_program_up(
    shell: str, desk: Desk, medium: Path, snapshot: Callable[[Path], object]
) -> None:
    desk.shell, desk.before = shell, ("/usr/bin/unshare", "--map-root-user", "--net")
    pip_settings = desk.folder / "pip.conf"
    pip_settings.write_text("[global]\ntarget = /nonexistent\nindex-url = http://127.0.0.1:9/\n")
    desk.environment = {"PIP_CONFIG_FILE": str(pip_settings), "PIP_NO_INDEX": "0", "PIP_TARGET": "/x"}
    before = snapshot(medium)
    code, output, told = desk.set_up(medium)
    assert code == 0, told
    assert output == f"{desk.target}/bin/appliance\n"
    assert subprocess.run([output.strip()], capture_output=True, check=True).stdout == b"appliance 1.0\n"
    assert "good signature of alice\ngood signature of bob\n" in told
    assert "The rest of the bundle was not read" in told
    assert "volumes" not in told
    assert not (desk.target / ".unfinished").exists()
    assert list(desk.target.glob("lib/*/site-packages/__pycache__/appliance.*.pyc"))
    assert snapshot(medium) == before


def test_without_signatures_it_says_what_that_means(desk: Desk, medium: Path) -> None:
    for signature in medium.glob("trust/*.sig"):
        signature.unlink()
    (desk.path / "ssh-keygen").unlink()
    code, output, told = desk.run(medium / "bootstrap.sh", "--unverified", f"--to={desk.target}")
    assert (code, output) == (0, f"{desk.target}/bin/appliance\n"), told
    assert "a list that anybody could have written" in told


def test_relative_paths_odd_characters_and_a_command_to_copy(desk: Desk, medium: Path) -> None:
    """The last but one line is a command that a shell takes apart into the same words."""
    odd = medium.rename(medium.parent / "- a'b\"c $(id) `id` *?[x]\\ \u00fc\n;&")
    options = [*desk.paper[2:], "--signers", "../desk/signers", "--to", "../desk/t o'\u00fc/"]
    code, output, told = desk.run("bootstrap.sh", *options, cwd=odd)
    assert (code, output) == (0, f"{desk.folder}/t o'\u00fc/bin/appliance\n"), told
    typed = told[told.index("  '") :].partition("  '")[2]
    typed = "'" + typed[: typed.index(" --trust")]
    words = subprocess.run(
        ["sh", "-c", f"printf '%s|' {typed}"], capture_output=True, text=True, check=True
    )
    assert words.stdout == f"{output.strip()}|verify|{odd}|"
    assert subprocess.run([output.rstrip("\n")], capture_output=True, check=True).stdout


def test_after_the_check_nothing_is_read_from_the_medium(desk: Desk, medium: Path) -> None:
    """A medium may answer differently when it is asked again."""
    desk.instead(
        "sha256sum",
        f"""{{real}} "$@" || exit
        case "$*" in *--check*) for f in "{medium}"/payload/*/*; do echo evil >"$f"; done;; esac""",
    )
    code, _, told = desk.set_up(medium)
    assert code == 0, told
    assert (medium / TOOLKIT / PROGRAM).read_text() == "evil\n"
    assert subprocess.run([desk.target / "bin/appliance"], capture_output=True, check=True).stdout


def test_a_copy_that_was_there_before_sets_up_from_a_medium(desk: Desk, medium: Path) -> None:
    mine = shutil.copy(medium / "bootstrap.sh", desk.folder / "mine.sh")
    code, output, told = desk.run(mine, *desk.paper, "--to", str(desk.target), str(medium))
    assert code == 0, told
    assert output == f"{desk.target}/bin/appliance\n"


@pytest.fixture
def strict(maker: BundleMaker, cnsa_root: Root, cnsa_holders: Holders) -> Path:
    """A medium of the profile cnsa, signed by dora and emil."""
    lock = maker.lock({**CONTENTS, "toolkit": ("toolkit", toolkit_files(*PYTHONS))})
    return sign_twice(maker.write("strict", cnsa_root, lock), cnsa_holders)


def test_the_profile_cnsa(desk: Desk, strict: Path, cnsa_root: Root) -> None:
    """The paper names the profile: then nothing but the list of SHA-384 digests counts."""
    desk.signers = allowed_signers(cnsa_root)
    (desk.folder / "signers").write_text(desk.signers)
    code, told = refused(desk, desk.set_up(strict))
    assert (code, "do: if your paper names the profile cnsa, say so: --sha 384" in told) == (4, True)
    assert refused(desk, desk.set_up(strict, "--sha", "512"))[0] == 2
    code, output, told = desk.set_up(strict, "--sha", "384")
    assert (code, output) == (0, f"{desk.target}/bin/appliance\n"), told
    assert "good signature of dora\ngood signature of emil\n" in told


@pytest.mark.parametrize("file", [f"{TOOLKIT}/{NATIVE}", "trust/SHA384SUMS", "bootstrap.sh"])
def test_a_spoilt_medium_of_the_profile_cnsa(desk: Desk, strict: Path, cnsa_root: Root, file: str) -> None:
    desk.signers = allowed_signers(cnsa_root)
    (desk.folder / "signers").write_text(desk.signers)
    (strict / file).write_bytes((strict / file).read_bytes() + b"\n")
    assert refused(desk, desk.set_up(strict, "--sha", "384"))[0] == 4


def test_a_medium_from_which_the_list_was_taken(desk: Desk, medium: Path) -> None:
    """Signed by enough holders, but another list than the paper names."""
    code, told = refused(desk, desk.set_up(medium, "--sha", "384"))
    assert (code, "found: trust/SHA256SUMS alone" in told) == (4, True)


def test_it_is_the_same_in_every_bundle_with_a_toolkit(pristine: Path, bundle: Path) -> None:
    assert (pristine / "bootstrap.sh").read_bytes() == bootstrap_bytes()
    assert "  bootstrap.sh\n" in (pristine / "trust/SHA256SUMS").read_text()
    assert not (bundle / "bootstrap.sh").exists()


def test_it_can_be_printed() -> None:
    assert all(line.isascii() and len(line) <= 120 for line in bootstrap_bytes().splitlines())
