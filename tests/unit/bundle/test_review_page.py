"""VERIFY.txt: the very commands a reviewer types, run as printed, with stock tools only."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from appliance.bundle.review import review_bytes
from appliance.trust.allowed_signers import allowed_signers
from tests.conftest import CONTENTS

if TYPE_CHECKING:
    from collections.abc import Callable

    from appliance.trust.root import Root
    from tests.conftest import BundleMaker, Holders

TOOLS = [
    "sh",
    "find",
    "sed",
    "grep",
    "sort",
    "comm",
    "sha256sum",
    "sha384sum",
    "ssh-keygen",
    "mktemp",
    "cat",
    "rm",
    "wc",
]


def steps(page: str) -> dict[int, str]:
    """The indented lines under each numbered heading."""
    found: dict[int, str] = {}
    for number, text in re.findall(r"^(\d)\. (.*?)(?=^\d\. |^WHAT)", page, re.MULTILINE | re.DOTALL):
        found[int(number)] = "".join(re.findall(r"^    (.*\n)", text, re.MULTILINE))
    return found


@dataclass
class Reviewer:
    """A person with a shell, the page, and what they brought."""

    folder: Path
    signers: str
    threshold: str = "2"
    fingerprint: str | None = None
    shell: str = "sh"
    bits: str = "256"
    role: str = "release"

    def review(self, *folders: Path) -> list[str]:
        """Type every step as printed; returns the last line each of them said."""
        (self.folder / "allowed_signers").write_text(self.signers)
        brought = {
            "/path/to/the/bundle": " ".join(map(str, folders)),
            "/path/to/allowed_signers": str(self.folder / "allowed_signers"),
            "the-64-digits-of-your-paper": self.fingerprint
            or hashlib.sha256(self.signers.encode()).hexdigest(),
            "the-number-of-your-paper": self.threshold,
            "BITS=256 ": f"BITS={self.bits} ",
            "ROLE=release ": f"ROLE={self.role} ",
        }
        lines = []
        for number, text in steps(review_bytes().decode("ascii")).items():
            typed = text
            for placeholder, value in brought.items():
                typed = typed.replace(placeholder, value)
            lines.append(f"{typed}echo 'end of step {number}'\n")
        path = self.folder / "stock"
        path.mkdir(exist_ok=True)
        for tool in (*TOOLS, self.shell):
            where = shutil.which(tool)
            assert where, tool
            if not (path / tool).exists():
                (path / tool).symlink_to(where)
        done = subprocess.run(
            [str(path / self.shell)],
            input="".join(lines),
            text=True,
            capture_output=True,
            check=False,
            env={"PATH": str(path), "TMPDIR": str(self.folder), "HOME": "/nonexistent"},
        )
        sections = re.split(r"^end of step \d\n", done.stdout, flags=re.MULTILINE)[:-1]
        return [section.splitlines()[-1] if section.strip() else "" for section in sections]


PASSED = [f"{number}: passed" for number in range(6)]


@pytest.fixture
def reviewer(tmp_path: Path, two_of_three: Root) -> Reviewer:
    folder = tmp_path / "desk"
    folder.mkdir()
    return Reviewer(folder, allowed_signers(two_of_three))


def test_every_step_was_found() -> None:
    assert list(steps(review_bytes().decode("ascii"))) == list(range(7))


def test_the_page_is_printable_and_the_same_everywhere(bundle: Path) -> None:
    page = (bundle / "VERIFY.txt").read_bytes()
    assert page == review_bytes()
    assert all(line.isascii() and len(line) <= 96 for line in page.splitlines())


def test_the_documentation_prints_the_same_page() -> None:
    documented = (Path(__file__).parents[3] / "docs" / "review.md").read_text()
    assert review_bytes().decode("ascii") in documented


@pytest.mark.parametrize("shell", ["sh", "bash"])
def test_a_good_bundle_passes(
    shell: str, reviewer: Reviewer, bundle: Path, snapshot: Callable[[Path], object]
) -> None:
    reviewer.shell = shell
    before = snapshot(bundle)
    said = reviewer.review(bundle)
    assert said[:6] == PASSED
    assert said[6] == hashlib.sha256((bundle / "trust/SHA256SUMS").read_bytes()).hexdigest() + "  -"
    assert snapshot(bundle) == before
    assert sorted(path.name for path in reviewer.folder.iterdir()) == ["allowed_signers", "stock"]


def failed(reviewer: Reviewer, *folders: Path) -> list[int]:
    """The steps that did not pass; each of them must say so."""
    said = reviewer.review(*folders)[:6]
    wrong = [number for number, line in enumerate(said) if line != PASSED[number]]
    assert all(said[number] == f"{number}: FAILED" for number in wrong)
    return wrong


FILES = ["VERIFY.txt", "blocks.bin", "manifest.json", "payload/model/tiny.gguf", "trust/root.1.json"]


@pytest.mark.parametrize("name", FILES)
def test_a_flipped_byte_fails(name: str, reviewer: Reviewer, bundle: Path) -> None:
    data = bytearray((bundle / name).read_bytes())
    data[len(data) // 2] ^= 1
    (bundle / name).write_bytes(bytes(data))
    assert failed(reviewer, bundle) == [5]


@pytest.mark.parametrize("name", [*FILES, "payload/extras/empty"])
def test_a_missing_file_fails(name: str, reviewer: Reviewer, bundle: Path) -> None:
    (bundle / name).unlink()
    assert failed(reviewer, bundle) == ([2, 4] if name == "payload/model/tiny.gguf" else [4])


@pytest.mark.parametrize(
    "name",
    ["extra", ".hidden", "payload/engine/evil.whl", ".git/config", "trust/notes", "trust/root.2.json",
     "trust/SHA256SUMS.d/x.sig", "trust/provenance.dsse.json", "spare/payload", "spare/volume.json",
     "spare/spare", "trust/volume.json", "trust/x/SHA256SUMS"],
)  # fmt: skip
def test_an_extra_file_fails(name: str, reviewer: Reviewer, bundle: Path) -> None:
    (bundle / name).parent.mkdir(exist_ok=True)
    (bundle / name).write_bytes(b"x")
    assert 4 in failed(reviewer, bundle)


@pytest.mark.parametrize("name", ["x y", "x\ny", "\x1b[2J", "\u202ex", "payload/x'", "payload/*"])
def test_a_strange_name_fails(name: str, reviewer: Reviewer, bundle: Path) -> None:
    (bundle / name).write_bytes(b"x")
    assert 2 in failed(reviewer, bundle)


def _link(path: Path) -> None:
    shutil.move(path, path.parents[2] / "elsewhere")
    path.symlink_to(path.parents[2] / "elsewhere")


def _second_name(path: Path) -> None:
    (path.parents[2] / "second").hardlink_to(path)


def _setuid(path: Path) -> None:
    path.chmod(0o4644)


def _pipe(path: Path) -> None:
    os.mkfifo(path.with_name("pipe"))


def _empty_folder(path: Path) -> None:
    (path.parent / "empty").mkdir()


@pytest.mark.parametrize("touch", [_link, _second_name, _setuid, _pipe, _empty_folder])
def test_what_is_no_plain_file_fails(
    touch: Callable[[Path], None], reviewer: Reviewer, bundle: Path
) -> None:
    touch(bundle / "manifest.json" if touch is not _link else bundle / "payload/extras/empty")
    assert 2 in failed(reviewer, bundle)


def _drop_signature(bundle: Path, _: Holders) -> None:
    (bundle / "trust/SHA256SUMS.bob.sig").unlink()


def _drop_all_signatures(bundle: Path, _: Holders) -> None:
    for path in bundle.glob("trust/*.sig"):
        path.unlink()


def _flip_signature(bundle: Path, _: Holders) -> None:
    path = bundle / "trust/SHA256SUMS.bob.sig"
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(bytes(data))


def _copy_signature(bundle: Path, _: Holders) -> None:
    shutil.copy(bundle / "trust/SHA256SUMS.alice.sig", bundle / "trust/SHA256SUMS.carol.sig")


def _rename_signature(bundle: Path, _: Holders) -> None:
    (bundle / "trust/SHA256SUMS.bob.sig").rename(bundle / "trust/SHA256SUMS.carol.sig")


def _sign(bundle: Path, holders: Holders, name: str, space: str) -> None:
    listing = (bundle / "trust/SHA256SUMS").read_bytes()
    command = ["ssh-keygen", "-q", "-Y", "sign", "-f", str(holders.key(name)), "-n", space]
    done = subprocess.run(command, input=listing, stdout=subprocess.PIPE, check=True)
    (bundle / f"trust/SHA256SUMS.{name}.sig").write_bytes(done.stdout)


def _stranger(bundle: Path, holders: Holders) -> None:
    _sign(bundle, holders, "mallory", "release@appliance")


def _other_role(bundle: Path, holders: Holders) -> None:
    _sign(bundle, holders, "bob", "root@appliance")


@pytest.mark.parametrize(
    "touch",
    [_drop_signature, _drop_all_signatures, _flip_signature, _copy_signature, _rename_signature, _stranger,
     _other_role],
)  # fmt: skip
def test_a_wrong_signature_fails(
    touch: Callable[[Path, Holders], None], reviewer: Reviewer, bundle: Path, holders: Holders
) -> None:
    touch(bundle, holders)
    assert 3 in failed(reviewer, bundle)


def test_a_changed_list_fails(reviewer: Reviewer, bundle: Path) -> None:
    """Bytes and list fit together, but nobody signed this list."""
    (bundle / "payload/extras/empty").write_bytes(b"x")
    listing = (bundle / "trust/SHA256SUMS").read_text()
    empty, one = (hashlib.sha256(data).hexdigest() for data in (b"", b"x"))
    (bundle / "trust/SHA256SUMS").write_text(listing.replace(empty, one))
    assert failed(reviewer, bundle) == [3]


@pytest.mark.parametrize("spoil", ["0" * 63 + "  x\n", "../x", "# hello\n", "\\"])
def test_a_signed_list_that_is_malformed_fails(
    spoil: str, reviewer: Reviewer, bundle: Path, holders: Holders
) -> None:
    """What sha256sum itself would forgive."""
    path = bundle / "trust/SHA256SUMS"
    path.write_text(spoil + path.read_text())
    for name in ("alice", "bob"):
        _sign(bundle, holders, name, "release@appliance")
    assert failed(reviewer, bundle)


def test_what_the_reviewer_brought_counts(reviewer: Reviewer, bundle: Path, holders: Holders) -> None:
    reviewer.threshold = "3"
    assert failed(reviewer, bundle) == [3]
    reviewer.threshold = ""
    assert 3 in failed(reviewer, bundle)
    reviewer.threshold, reviewer.fingerprint = "2", "0" * 64
    assert failed(reviewer, bundle) == [1]
    reviewer.fingerprint, reviewer.signers = None, allowed_signers(holders.root("carol", "mallory"))
    assert failed(reviewer, bundle) == [3]


def test_one_key_under_two_names_counts_once(reviewer: Reviewer, bundle: Path, holders: Holders) -> None:
    """Even if somebody had enrolled it so."""
    public = " ".join(holders.public("alice").split()[:2])
    reviewer.signers = "".join(
        f'{name} namespaces="release@appliance" {public}\n' for name in ("alice", "bob")
    )
    shutil.copy(bundle / "trust/SHA256SUMS.alice.sig", bundle / "trust/SHA256SUMS.bob.sig")
    assert failed(reviewer, bundle) == [3]


# Several media, each with its folder: one bundle to the page.


@pytest.fixture
def several(bundle: Path, volumes: Callable[..., list[Path]]) -> list[Path]:
    """The bundle on three media: the engine, one file of the extras, the other and the model."""
    for holder in ("alice", "bob"):
        (bundle / f"trust/provenance.{holder}.dsse.json").write_bytes(b"{}")
    return volumes(bundle, 2, 3)


@pytest.mark.parametrize("shell", ["sh", "bash"])
def test_good_volumes_pass(
    shell: str, reviewer: Reviewer, several: list[Path], snapshot: Callable[[Path], object]
) -> None:
    reviewer.shell = shell
    before = [snapshot(folder) for folder in several]
    for order in (several, several[::-1]):
        said = reviewer.review(*order)
        assert said[:6] == PASSED
        digest = hashlib.sha256((several[0] / "trust/SHA256SUMS").read_bytes()).hexdigest()
        assert said[6] == f"{digest}  -"
    assert [snapshot(folder) for folder in several] == before


def test_a_provenance_beside_the_list_passes(reviewer: Reviewer, bundle: Path) -> None:
    (bundle / "trust/provenance.alice.dsse.json").write_bytes(b"{}")
    assert not failed(reviewer, bundle)


def test_a_missing_volume_fails(reviewer: Reviewer, several: list[Path]) -> None:
    assert failed(reviewer, *several[:2]) == [4]


def test_a_volume_of_another_bundle_fails(
    reviewer: Reviewer, several: list[Path], maker: BundleMaker, two_of_three: Root
) -> None:
    contents = {**CONTENTS, "model": ("tiny-gguf", {"tiny.gguf": b"another"})}
    other = maker.sign(maker.write("other", two_of_three, maker.lock(contents)), "alice", "bob")
    shutil.copytree(other / "trust", several[2] / "trust", dirs_exist_ok=True)
    assert failed(reviewer, *several) == [5]


@pytest.mark.parametrize(
    "name",
    [*FILES[:3], "payload/model/tiny.gguf", "trust/SHA256SUMS", "trust/SHA256SUMS.bob.sig",
     "trust/provenance.bob.dsse.json", "spare/manifest.json", "spare/trust/SHA256SUMS",
     "spare/trust/SHA256SUMS.alice.sig", "spare/trust/root.1.json", "spare/trust/provenance.bob.dsse.json"],
)  # fmt: skip
def test_a_flipped_byte_on_another_volume_fails(name: str, reviewer: Reviewer, several: list[Path]) -> None:
    data = bytearray((several[2] / name).read_bytes())
    data[len(data) // 2] ^= 1
    (several[2] / name).write_bytes(bytes(data))
    assert failed(reviewer, *several) == [5]


@pytest.mark.parametrize("name", ["extra", ".hidden", "payload/extras/evil", "trust/SHA256SUMS.carol.sig"])
def test_an_extra_file_on_another_volume_fails(name: str, reviewer: Reviewer, several: list[Path]) -> None:
    (several[2] / name).write_bytes(b"x")
    assert failed(reviewer, *several) == [4]


@pytest.mark.parametrize("touch", [_second_name, _setuid, _pipe, _empty_folder])
def test_what_is_no_plain_file_on_another_volume_fails(
    touch: Callable[[Path], None], reviewer: Reviewer, several: list[Path]
) -> None:
    touch(several[2] / "manifest.json")
    assert 2 in failed(reviewer, *several)


def test_a_listed_file_only_among_the_second_copies_is_missing(reviewer: Reviewer, bundle: Path) -> None:
    (bundle / "spare").mkdir()
    (bundle / "manifest.json").rename(bundle / "spare/manifest.json")
    assert failed(reviewer, bundle) == [4]


@pytest.fixture
def strict_reviewer(reviewer: Reviewer, cnsa_root: Root) -> Reviewer:
    """Whose paper names the profile cnsa."""
    reviewer.signers, reviewer.bits = allowed_signers(cnsa_root), "384"
    return reviewer


def _leave(_: Path) -> None:
    pass


def _flip_the_model(bundle: Path) -> None:
    (bundle / "payload/model/tiny.gguf").write_bytes(b"X" + b"GGUF" * 1000)


def _flip_the_index(bundle: Path) -> None:
    path = bundle / "trust/SHA256SUMS"
    path.write_bytes(path.read_bytes().replace(b"0", b"1", 1))


def _take_the_list(bundle: Path) -> None:
    for path in bundle.glob("trust/SHA384SUMS*"):
        path.unlink()


def _rename_the_signatures(bundle: Path) -> None:
    for path in bundle.glob("trust/SHA384SUMS.*"):
        path.rename(path.with_name(path.name.replace("384", "256")))


def _add_a_signature(bundle: Path) -> None:
    shutil.copy(bundle / "trust/SHA384SUMS.dora.sig", bundle / "trust/SHA256SUMS.dora.sig")


@pytest.mark.parametrize(
    ("touch", "wrong"),
    [(_leave, []), (_flip_the_model, [5]), (_flip_the_index, [5]), (_take_the_list, [3, 4, 5]),
     (_rename_the_signatures, [3, 4]), (_add_a_signature, [4])],
)  # fmt: skip
def test_a_bundle_of_the_profile_cnsa(
    touch: Callable[[Path], None], wrong: list[int], strict_reviewer: Reviewer, cnsa_bundle: Path
) -> None:
    touch(cnsa_bundle)
    assert failed(strict_reviewer, cnsa_bundle) == wrong


def test_without_the_profile_on_the_paper_it_fails(strict_reviewer: Reviewer, cnsa_bundle: Path) -> None:
    strict_reviewer.bits = "256"
    assert failed(strict_reviewer, cnsa_bundle) == [3, 4]
