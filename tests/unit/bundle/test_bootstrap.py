"""bootstrap.sh: run as on a stock system, on good media and on spoilt ones.

The program set up here is a tiny one, since what is under test is the way there.  The real one is set
up by tests/node/test_bootstrap.py, in containers without a network.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import signal
import subprocess
import sys
import zipfile
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from appliance.bundle.bootstrap import bootstrap_bytes
from appliance.bundle.media.label import VolumeLabel, VolumeShare, label_bytes
from appliance.trust.allowed_signers import allowed_signers
from tests.cnsa import sign_twice
from tests.conftest import CONTENTS

if TYPE_CHECKING:
    from collections.abc import Callable

    from appliance.trust.root import Root
    from tests.conftest import BundleMaker, Holders

# All that a stock system must have.
TOOLS = (
    *(
        "cat",
        "chmod",
        "comm",
        "cp",
        "cut",
        "df",
        "find",
        "grep",
        "head",
        "id",
        "mkdir",
        "rm",
        "rmdir",
        "sed",
    ),
    *("sh", "sha256sum", "sha384sum", "sort", "ssh-keygen", "tail", "tr", "uname"),
)
TOOLKIT = "payload/toolkit"
PROGRAM = "appliance-1.0-py3-none-any.whl"
NATIVE = "native-1.0-cp311-abi3-manylinux_2_17_x86_64.whl"
PYTHONS = ("3.11", "3.12", "3.13", "3.14")


def program_wheel() -> bytes:
    """A program that says its name and version."""
    info = "appliance-1.0.dist-info"
    files = {
        "appliance.py": "def main():\n    print('appliance 1.0')\n",
        f"{info}/METADATA": "Metadata-Version: 2.1\nName: appliance\nVersion: 1.0\n",
        f"{info}/WHEEL": "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        f"{info}/entry_points.txt": "[console_scripts]\nappliance = appliance:main\n",
        f"{info}/RECORD": "",
    }
    return wheel_bytes({name: text.encode() for name, text in files.items()})


def pip_wheel() -> bytes:
    """The pip of this environment."""
    files = metadata.distribution("pip").files or ()
    kept = [file for file in files if ".." not in file.parts and "__pycache__" not in file.parts]
    return wheel_bytes({str(file): Path(str(file.locate())).read_bytes() for file in kept})


def wheel_bytes(files: dict[str, bytes]) -> bytes:
    import io

    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_STORED) as wheel:
        for name, data in files.items():
            wheel.writestr(name, data)
    return packed.getvalue()


def toolkit(*pythons: str) -> dict[str, bytes]:
    program = program_wheel()
    line = f"appliance==1.0 --hash=sha256:{hashlib.sha256(program).hexdigest()}\n".encode()
    return {
        PROGRAM: program,
        NATIVE: b"not in the requirements",
        f"pip-{metadata.version('pip')}-py3-none-any.whl": pip_wheel(),
        **{f"requirements-{python}.txt": line for python in pythons},
    }


@pytest.fixture(scope="module")
def pristine(
    tmp_path_factory: pytest.TempPathFactory,
    maker_in: Callable[[Path], BundleMaker],
    two_of_three: Root,
) -> Path:
    """A bundle with a toolkit, signed by alice and bob; never changed by a test."""
    maker = maker_in(tmp_path_factory.mktemp("pristine"))
    lock = maker.lock({**CONTENTS, "toolkit": ("toolkit", toolkit(*PYTHONS))})
    return maker.sign(maker.write("bundle", two_of_three, lock), "alice", "bob")


@pytest.fixture
def medium(pristine: Path, tmp_path: Path) -> Path:
    """This test's own copy."""
    return shutil.copytree(pristine, tmp_path / "medium")


@dataclass
class Desk:
    """A computer with stock tools, python3 and a shell; a person with the signers' file and a paper."""

    folder: Path
    signers: str
    shell: str = "sh"
    before: tuple[str, ...] = ()
    environment: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.path.mkdir()
        for tool in (*TOOLS, "bash"):
            where = shutil.which(tool)
            assert where, tool
            (self.path / tool).symlink_to(where)
        self.instead("python3", f'exec "{sys.executable}" "$@"')
        (self.folder / "signers").write_text(self.signers)

    @property
    def path(self) -> Path:
        return self.folder / "stock"

    @property
    def target(self) -> Path:
        return self.folder / "new"

    @property
    def paper(self) -> list[str]:
        """What is typed from the paper."""
        digest = hashlib.sha256(self.signers.encode()).hexdigest()
        return ["--signers", str(self.folder / "signers"), "--fingerprint", digest, "--threshold", "2"]

    def instead(self, tool: str, script: str) -> None:
        """Another program under the name of a tool; ``{real}`` is the tool itself."""
        file = self.path / tool
        real = shutil.which(tool)
        file.unlink(missing_ok=True)
        file.write_text(f"#!/bin/sh\n{script}\n".replace("{real}", str(real)))
        file.chmod(0o755)

    def command(self, script: Path | str, *options: str) -> list[str]:
        return [*self.before, str(self.path / self.shell), str(script), *options]

    def settings(self) -> dict[str, str]:
        return {"PATH": str(self.path), "HOME": "/nonexistent", **self.environment}

    def run(self, script: Path | str, *options: str, cwd: Path | None = None) -> tuple[int, str, str]:
        """Exit code, and what was said on stdout and stderr."""
        done = subprocess.run(
            self.command(script, *options),
            capture_output=True,
            text=True,
            check=False,
            cwd=cwd or self.folder,
            env=self.settings(),
        )
        return done.returncode, done.stdout, done.stderr

    def set_up(self, medium: Path, *options: str) -> tuple[int, str, str]:
        """With signatures, into the target."""
        return self.run(medium / "bootstrap.sh", *self.paper, "--to", str(self.target), *options)


@pytest.fixture
def desk(tmp_path: Path, two_of_three: Root) -> Desk:
    folder = tmp_path / "desk"
    folder.mkdir()
    return Desk(folder, allowed_signers(two_of_three))


def refused(desk: Desk, said: tuple[int, str, str]) -> tuple[int, str]:
    """Exit code and message of a run that must have refused and left nothing."""
    code, output, told = said
    assert output == ""
    assert not desk.target.exists()
    assert [line for line in told.splitlines() if line.startswith("error: ")], told
    return code, told


# --- the way it should go ---------------------------------------------------------------------------


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
    lock = maker.lock({**CONTENTS, "toolkit": ("toolkit", toolkit(*PYTHONS))})
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


# --- signatures -------------------------------------------------------------------------------------


def sign(medium: Path, holders: Holders, name: str, space: str = "release@appliance") -> None:
    listing = (medium / "trust/SHA256SUMS").read_bytes()
    command = ["ssh-keygen", "-q", "-Y", "sign", "-f", str(holders.key(name)), "-n", space]
    done = subprocess.run(command, input=listing, capture_output=True, check=True)
    (medium / f"trust/SHA256SUMS.{name}.sig").write_bytes(done.stdout)


def _one_signature_less(medium: Path, _: Holders) -> None:
    (medium / "trust/SHA256SUMS.bob.sig").unlink()


def _no_signature(medium: Path, _: Holders) -> None:
    for path in medium.glob("trust/*.sig"):
        path.unlink()


def _flipped_signature(medium: Path, _: Holders) -> None:
    path = medium / "trust/SHA256SUMS.bob.sig"
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(bytes(data))


def _renamed_signature(medium: Path, _: Holders) -> None:
    (medium / "trust/SHA256SUMS.bob.sig").rename(medium / "trust/SHA256SUMS.carol.sig")


def _strange_name(medium: Path, _: Holders) -> None:
    shutil.copy(medium / "trust/SHA256SUMS.bob.sig", medium / "trust/SHA256SUMS.bo b.sig")


def _stranger(medium: Path, holders: Holders) -> None:
    sign(medium, holders, "mallory")


def _other_role(medium: Path, holders: Holders) -> None:
    sign(medium, holders, "bob", "root@appliance")


def _changed_list(medium: Path, _: Holders) -> None:
    """Bytes and list fit together, but nobody signed this list."""
    path = medium / TOOLKIT / "requirements-3.12.txt"
    old = hashlib.sha256(path.read_bytes()).hexdigest()
    path.write_bytes(path.read_bytes() + b"\n")
    listing = medium / "trust/SHA256SUMS"
    new = hashlib.sha256(path.read_bytes()).hexdigest()
    listing.write_text(re.sub(rf"{old}(  \S+3\.12)", rf"{new}\1", listing.read_text()))


SIGNATURES = {
    _one_signature_less: "too few holders signed",
    _no_signature: "nobody signed this bundle",
    _flipped_signature: "the signature of bob is not good",
    _renamed_signature: "the signature of carol is not good",
    _strange_name: "no holder can have",
    _stranger: "the signature of mallory is not good",
    _other_role: "the signature of bob is not good",
    _changed_list: "the signature of alice is not good",
}


@pytest.mark.parametrize("spoil", SIGNATURES)
def test_a_wrong_signature_ends_it(
    spoil: Callable[[Path, Holders], None], desk: Desk, medium: Path, holders: Holders
) -> None:
    spoil(medium, holders)
    code, told = refused(desk, desk.set_up(medium))
    assert code == 4
    assert SIGNATURES[spoil] in told


def test_one_key_under_two_names_counts_once(desk: Desk, medium: Path, holders: Holders) -> None:
    """Even if somebody had enrolled it so."""
    public = " ".join(holders.public("alice").split()[:2])
    desk.signers = "".join(f'{name} namespaces="release@appliance" {public}\n' for name in ("alice", "bob"))
    (desk.folder / "signers").write_text(desk.signers)
    shutil.copy(medium / "trust/SHA256SUMS.alice.sig", medium / "trust/SHA256SUMS.bob.sig")
    code, told = refused(desk, desk.set_up(medium))
    assert code == 4
    assert "found: 1 different keys" in told


def test_other_signers_than_the_paper_names_end_it(desk: Desk, medium: Path) -> None:
    code, told = refused(desk, desk.set_up(medium, "--fingerprint", "0" * 64))
    assert code == 4
    assert f"wanted: sha256 {'0' * 64}" in told


def test_more_signatures_than_there_are(desk: Desk, medium: Path) -> None:
    code, told = refused(desk, desk.set_up(medium, "--threshold", "3"))
    assert (code, "wanted: 3" in told) == (4, True)


def test_a_fingerprint_typed_in_capitals_is_the_same(desk: Desk, medium: Path) -> None:
    options = [word.upper() if len(word) == 64 else word for word in desk.paper]
    _changed_wheel(medium)
    _, told = refused(desk, desk.run(medium / "bootstrap.sh", *options, "--to", str(desk.target)))
    assert "good signature of alice" in told


# --- the toolkit's files ----------------------------------------------------------------------------


def _changed_wheel(medium: Path) -> None:
    with (medium / TOOLKIT / PROGRAM).open("ab") as wheel:
        wheel.write(b"!")


def _changed_requirements(medium: Path) -> None:
    with (medium / TOOLKIT / "requirements-3.14.txt").open("ab") as file:
        file.write(b"evil==1.0\n")


def _changed_script(medium: Path) -> None:
    with (medium / "bootstrap.sh").open("ab") as script:
        script.write(b"# changed\n")


def _missing_wheel(medium: Path) -> None:
    (medium / TOOLKIT / PROGRAM).unlink()


def _no_toolkit(medium: Path) -> None:
    shutil.rmtree(medium / TOOLKIT)


def _extra_file(medium: Path) -> None:
    (medium / TOOLKIT / "appliance-2.0-py3-none-any.whl").write_bytes(b"x")


def _extra_folder(medium: Path) -> None:
    (medium / TOOLKIT / "pip").mkdir()


def _extra_link(medium: Path) -> None:
    (medium / TOOLKIT / "x\n\x1b[2J").symlink_to("/")


def _pipe(medium: Path) -> None:
    _missing_wheel(medium)
    os.mkfifo(medium / TOOLKIT / PROGRAM)


def _folder(medium: Path) -> None:
    _missing_wheel(medium)
    (medium / TOOLKIT / PROGRAM).mkdir()


SPOILT = {
    _changed_wheel: f"found: {TOOLKIT}/{PROGRAM}: FAILED",
    _changed_requirements: "requirements-3.14.txt: FAILED",
    _changed_script: "found: bootstrap.sh: FAILED",
    _missing_wheel: f"found: {TOOLKIT}/{PROGRAM}",
    _no_toolkit: "files of the toolkit are missing",
    _extra_file: f"found: {TOOLKIT}/appliance-2.0-py3-none-any.whl",
    _extra_folder: f"found: {TOOLKIT}/pip",
    _extra_link: f"found: ^[[2J {TOOLKIT}/x",
    _pipe: "files of the toolkit are missing",
    _folder: "files of the toolkit are missing",
}


@pytest.mark.parametrize("spoil", SPOILT)
def test_a_spoilt_toolkit_ends_it(spoil: Callable[[Path], None], desk: Desk, medium: Path) -> None:
    spoil(medium)
    code, told = refused(desk, desk.set_up(medium))
    assert code == 4
    assert SPOILT[spoil] in told
    assert "do: " in told


def test_the_rest_of_the_bundle_is_not_its_business(desk: Desk, medium: Path) -> None:
    (medium / "payload/model/tiny.gguf").unlink()
    assert desk.set_up(medium)[0] == 0


def test_a_wheel_that_differs_from_the_signed_requirements_is_not_installed(
    desk: Desk, maker: BundleMaker, two_of_three: Root
) -> None:
    files = toolkit(*PYTHONS)
    files[PROGRAM] += b"!"
    lock = maker.lock({**CONTENTS, "toolkit": ("toolkit", files)})
    medium = maker.sign(maker.write("odd", two_of_three, lock), "alice", "bob")
    code, told = refused(desk, desk.set_up(medium))
    assert code == 5
    assert "DO NOT MATCH" in told


def test_a_bundle_without_a_toolkit_says_so(desk: Desk, bundle: Path) -> None:
    assert not (bundle / "bootstrap.sh").exists()
    (desk.folder / "mine.sh").write_bytes(bootstrap_bytes())
    said = desk.run(desk.folder / "mine.sh", *desk.paper, "--to", str(desk.target), str(bundle))
    code, told = refused(desk, said)
    assert code == 4
    assert "the list names no toolkit" in told


def test_a_folder_that_is_no_bundle_says_so(desk: Desk) -> None:
    (desk.folder / "mine.sh").write_bytes(bootstrap_bytes())
    said = desk.run("mine.sh", *desk.paper, "--to", str(desk.target))
    code, told = refused(desk, said)
    assert code == 4
    assert f"no trust/SHA256SUMS in {desk.folder}" in told


# --- volumes ----------------------------------------------------------------------------------------


@pytest.fixture
def volumes(pristine: Path, tmp_path: Path) -> tuple[Path, Path]:
    """Two volumes of three; the program's wheel is on the first, the rest of the toolkit on the second."""
    share = VolumeShare(size=1, files=2, first="payload/engine/a", last="payload/toolkit/b")
    made = []
    for number in (1, 2):
        volume = shutil.copytree(pristine, tmp_path / f"volume{number}")
        label = VolumeLabel("0" * 64, "demo", "1.0.0", number, (share, share, share))
        (volume / "volume.json").write_bytes(label_bytes(label))
        for file in (volume / TOOLKIT).iterdir():
            if (file.name == PROGRAM) != (number == 1):
                file.unlink()
        made.append(volume)
    return made[0], made[1]


def test_a_toolkit_on_another_volume_is_not_a_damaged_one(desk: Desk, volumes: tuple[Path, Path]) -> None:
    shutil.rmtree(volumes[0] / TOOLKIT)
    code, told = refused(desk, desk.set_up(volumes[0]))
    assert code == 4
    assert "error: payload/toolkit is not on this volume, or not all of it" in told
    assert "found: volume 1 of 3, which lacks 7 of 8 files to set up" in told
    assert "from another volume" in told


def test_a_toolkit_on_two_volumes_is_taken_from_both(desk: Desk, volumes: tuple[Path, Path]) -> None:
    code, told = refused(desk, desk.set_up(volumes[1]))
    assert (code, "volume 2 of 3, which lacks 1 of" in told) == (4, True)
    code, output, told = desk.set_up(volumes[0], *map(str, volumes))
    assert (code, output) == (0, f"{desk.target}/bin/appliance\n"), told
    assert f"verify {volumes[0]} {volumes[1]} --trust" in told
    assert "the bundle lies on 3 volumes: name all of them" in told


def test_an_extra_file_on_any_volume_ends_it(desk: Desk, volumes: tuple[Path, Path]) -> None:
    (volumes[1] / TOOLKIT / "evil.whl").touch()
    code, told = refused(desk, desk.set_up(volumes[0], *map(str, volumes)))
    assert (code, f"found: {TOOLKIT}/evil.whl" in told) == (4, True)


# --- the command line -------------------------------------------------------------------------------


def test_help_is_printed_and_nothing_done(desk: Desk) -> None:
    (desk.folder / "mine.sh").write_bytes(bootstrap_bytes())
    code, output, told = desk.run("mine.sh", "--help")
    assert (code, told) == (0, "")
    assert output.startswith("Usage: sh bootstrap.sh")


def test_the_documentation_prints_the_same_help(desk: Desk) -> None:
    (desk.folder / "mine.sh").write_bytes(bootstrap_bytes())
    documented = (Path(__file__).parents[3] / "docs" / "bootstrap.md").read_text()
    assert desk.run("mine.sh", "-h")[1] in documented


USAGE = {
    "no decision about signatures": ([], "is this bundle genuine?"),
    "half a decision": (["--signers", "signers", "--threshold", "2"], "is this bundle genuine?"),
    "two decisions": (["--unverified", "--threshold", "2"], "--unverified asks for no signature"),
    "an unknown option": (["--force"], "there is no option --force"),
    "an option without value": (["--unverified", "--to"], "--to needs a value"),
    "a short fingerprint": (["--fingerprint", "3f1c"], "found: 4 characters"),
    "six digits that begin with a 4": (["--fingerprint", "4f1c00"], "found: 6 characters"),
    "no hex": (["--fingerprint", "g" * 64], "hex digits only"),
    "no threshold": (["--threshold", "0"], "the threshold is not one"),
    "a threshold in words": (["--threshold", "two"], "the threshold is not one"),
    "a threshold beyond reason": (["--threshold", "100"], "the threshold is not one"),
    "no file of signers": (["--signers", "absent"], "found: absent"),
    "a volume that is not there": (["absent"], "found: absent"),
    "a folder with a colon": (["--to", "a:b"], "without : "),
    "a folder with a line feed": (["--to", "a\nb"], "found: "),
    "a folder with a quote": (["--to", 'a"b'], "without : "),
}


@pytest.mark.parametrize("case", USAGE)
def test_a_wrong_command_line(case: str, desk: Desk, medium: Path) -> None:
    options, message = USAGE[case]
    given = [] if "decision" in case or "--unverified" in options else desk.paper
    code, told = refused(desk, desk.run(medium / "bootstrap.sh", *given, *options))
    assert code == 2
    assert message in told
    assert sorted(path.name for path in desk.folder.iterdir()) == ["signers", "stock"]


@pytest.mark.parametrize("kind", ["folder", "file", "link to nowhere"])
def test_what_is_there_already_is_left_alone(kind: str, desk: Desk, medium: Path) -> None:
    match kind:
        case "folder":
            desk.target.mkdir()
        case "file":
            desk.target.write_text("mine")
        case _:
            desk.target.symlink_to("nowhere")
    before = desk.target.lstat()
    code, output, told = desk.set_up(medium)
    assert (code, output) == (2, "")
    assert "exists already" in told
    assert desk.target.lstat() == before


# --- systems that are not ready ---------------------------------------------------------------------


@pytest.mark.parametrize("tool", ["sha256sum", "ssh-keygen", "python3"])
def test_a_missing_tool_is_named_with_its_package(tool: str, desk: Desk, medium: Path) -> None:
    (desk.path / tool).unlink()
    code, told = refused(desk, desk.set_up(medium))
    assert code == 5
    assert f"{tool} is not installed here" in told
    assert "wanted: package " in told


VERSIONS = {
    "3.10": "this system can be a node but not a controller",
    "3.9": "no wheels for the Python of this system",
    "3.15": "no wheels for the Python of this system",
    "3.1": "no wheels for the Python of this system",
}


@pytest.mark.parametrize("version", VERSIONS)
def test_a_python_without_wheels_hears_which_there_are(version: str, desk: Desk, medium: Path) -> None:
    desk.instead("python3", f"echo {version}")
    code, told = refused(desk, desk.set_up(medium))
    assert code == 5
    assert VERSIONS[version] in told
    assert f"found: Python {version}\n" in told
    assert "wanted: Python 3.11 3.12 3.13 3.14\n" in told


def test_another_python_of_the_system_can_be_named(desk: Desk, medium: Path) -> None:
    desk.instead("python3", "echo 3.10")
    desk.instead("python3.11", f'exec "{sys.executable}" "$@"')
    _changed_wheel(medium)
    _, told = refused(desk, desk.set_up(medium, "--python", "python3.11"))
    assert f"{PROGRAM}: FAILED" in told, "it got as far as the files"


def test_a_python_that_does_not_run(desk: Desk, medium: Path) -> None:
    desk.instead("python3", "echo cannot execute >&2; exit 126")
    code, told = refused(desk, desk.set_up(medium))
    assert (code, "found: cannot execute" in told) == (5, True)


def test_a_python_without_venv_says_which_package_it_lacks(desk: Desk, medium: Path) -> None:
    """As with Debian's python3-minimal."""
    fail = "echo \"ModuleNotFoundError: No module named 'venv'\" >&2; exit 1"
    desk.instead("python3", f'case "$*" in *venv*) {fail};; esac\nexec "{sys.executable}" "$@"')
    code, told = refused(desk, desk.set_up(medium))
    assert code == 5
    assert "No module named 'venv'" in told
    assert "not python3-minimal" in told


def test_another_kind_of_computer(desk: Desk, medium: Path) -> None:
    desk.instead("uname", "echo aarch64")
    code, told = refused(desk, desk.set_up(medium))
    assert (code, "found: aarch64" in told) == (5, True)


def test_an_account_that_ssh_keygen_refuses(desk: Desk, medium: Path) -> None:
    desk.before = ("/usr/bin/unshare", "--map-user=54321", "--map-group=54321")
    code, told = refused(desk, desk.set_up(medium))
    assert code == 5
    assert "found: user 54321" in told


def test_a_folder_that_cannot_be_made(desk: Desk, medium: Path) -> None:
    desk.before = ("/usr/bin/unshare", "--map-user=1", "--map-group=1")
    desk.folder.chmod(0o555)
    code, told = refused(desk, desk.set_up(medium))
    desk.folder.chmod(0o755)
    assert code == 5
    assert "Permission denied" in told
    assert "--to ~/appliance" in told


def test_one_folder_above_is_made_too_and_removed_again(desk: Desk, medium: Path) -> None:
    inner = desk.folder / "made" / "toolkit"
    _changed_wheel(medium)
    code, told = refused(desk, desk.set_up(medium, "--to", str(inner)))
    assert code == 4, told
    assert not inner.parent.exists()
    code, told = refused(desk, desk.set_up(medium, "--to", str(inner / "deeper")))
    assert (code, "No such file or directory" in told) == (5, True)


DISKS = {
    "small": ("size=1m", "the disk of {} is too small"),
    "noexec": ("size=400m,noexec", "no program may run under {}"),
    "few files": ("size=400m,nr_inodes=40", "the wheels cannot be installed"),
    "fewer files": ("size=400m,nr_inodes=15", "a file of the toolkit cannot be copied"),
    "hardly any files": (
        "size=400m,nr_inodes=5",
        "the set-up failed, for the reason above; nothing was kept",
    ),
    "three files": ("size=400m,nr_inodes=4", "trust/SHA256SUMS cannot be copied"),
    "read only": ("size=400m,ro", "the folder cannot be made"),
}


@pytest.mark.parametrize("kind", DISKS)
def test_a_disk_that_is_not_fit_is_named_and_left_empty(kind: str, desk: Desk, medium: Path) -> None:
    options, message = DISKS[kind]
    disk = desk.folder / "disk"
    disk.mkdir()
    mount = f'mount -t tmpfs -o {options} none "{disk}" && "$@"; code=$?; ls -A "{disk}"; exit $code'
    desk.before = (
        *("/usr/bin/unshare", "--map-root-user", "--mount", "/bin/sh", "-c"),
        f"PATH=$PATH:/usr/bin:/bin; {mount}",
        "sh",
    )
    code, told = refused(desk, desk.set_up(medium, "--to", f"{disk}/new"))
    assert code == 5
    assert message.format(f"{disk}/new") in told


# --- interruptions ----------------------------------------------------------------------------------


@pytest.fixture
def held(desk: Desk, medium: Path) -> subprocess.Popen[str]:
    """A run that has begun to set up, and waits."""
    pipe = desk.folder / "held"
    os.mkfifo(pipe)
    hold = f'case "$*" in *"venv --without-pip"*) echo >"{pipe}"; read -r _ <"{pipe}";; esac'
    desk.instead("python3", f'{hold}\nexec "{sys.executable}" "$@"')
    running = subprocess.Popen(
        desk.command(medium / "bootstrap.sh", *desk.paper, "--to", str(desk.target)),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=desk.settings(),
        start_new_session=True,
    )
    assert pipe.read_text() == "\n"  # until it writes
    assert (desk.target / ".unfinished").exists()
    return running


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_an_interrupted_run_leaves_nothing(
    held: subprocess.Popen[str], desk: Desk, number: signal.Signals
) -> None:
    os.killpg(held.pid, number)
    output, told = held.communicate(timeout=30)
    assert (held.returncode, output) == (128 + number, "")
    assert told.endswith("interrupted; nothing was kept\n")
    assert not desk.target.exists()


def test_a_killed_run_is_never_taken_for_a_whole_one(
    held: subprocess.Popen[str], desk: Desk, medium: Path
) -> None:
    os.killpg(held.pid, signal.SIGKILL)
    held.communicate(timeout=30)
    code, output, told = desk.set_up(medium)
    assert (code, output) == (2, "")
    assert f"{desk.target} is unfinished" in told
    assert f"rm -r {desk.target}\n" in told


def test_a_script_that_is_cut_off_does_nothing(desk: Desk, medium: Path) -> None:
    """At whatever line the stick was pulled."""
    lines = bootstrap_bytes().splitlines(keepends=True)
    for count in range(len(lines)):
        (medium / "bootstrap.sh").write_bytes(b"".join(lines[:count]))
        _, output, told = desk.set_up(medium)
        assert output == ""
        assert "good signature" not in told
        assert not desk.target.exists()


# --- the script itself ------------------------------------------------------------------------------


def test_it_is_the_same_in_every_bundle_with_a_toolkit(pristine: Path, bundle: Path) -> None:
    assert (pristine / "bootstrap.sh").read_bytes() == bootstrap_bytes()
    assert "  bootstrap.sh\n" in (pristine / "trust/SHA256SUMS").read_text()
    assert not (bundle / "bootstrap.sh").exists()


def test_it_can_be_printed() -> None:
    assert all(line.isascii() and len(line) <= 120 for line in bootstrap_bytes().splitlines())
