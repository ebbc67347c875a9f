"""What an audit's program finds wrong with a staged copy, which the real receiver made and marked."""

from __future__ import annotations

import hashlib
import json
import os
import random
from ipaddress import IPv4Address
from typing import TYPE_CHECKING, Any

import pytest

from appliance.bundle.verify import verify_bundle
from appliance.definition.inventory import NodeEntry
from appliance.node.connection import LocalConnection
from appliance.node.remote.copy_state import Copy
from appliance.node.sent import files_to_send
from appliance.node.transfer import Transfer
from appliance.progress import Silent
from appliance.trust.root import root_bytes

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from appliance.bundle.verify import VerifiedBundle
    from appliance.trust.root import Root
    from tests.conftest import BundleMaker

BLOCK = 4 << 20
MODEL = "payload/model/tiny.gguf"
WHEEL = "payload/engine/engine.whl"
SIGNATURE = "trust/SHA256SUMS.alice.sig"
DATA = random.Random(45).randbytes(BLOCK + 777)  # noqa: S311 - the same bytes each time
NODE = NodeEntry("here", "local", IPv4Address("10.20.0.11"), 22, ())


class Staged:
    """A copy on this machine; its model was cut in the bundle."""

    def __init__(self, home: Path, digest: str) -> None:
        self.home, self.digest = home, digest
        self.folder = home / "staged" / digest
        self.mark = home / "staged" / f"{digest}.complete"

    def state(self, *, recheck: bool = False) -> dict[str, Any]:
        return Copy(str(self.home), self.digest).state(recheck)

    def write(self, path: str, data: bytes) -> None:
        """Replace a file's bytes in place, with the mode it had."""
        place = self.folder / path
        place.chmod(0o644)
        place.write_bytes(data)
        place.chmod(0o444)


@pytest.fixture(scope="module")
def verified(
    maker_in: Callable[[Path], BundleMaker], two_of_three: Root, tmp_path_factory: pytest.TempPathFactory
) -> VerifiedBundle:
    """What is copied; no test changes it."""
    maker = maker_in(tmp_path_factory.mktemp("source"))
    contents = {"engine": ("python", {"engine.whl": b"wheel"}), "model": ("tiny-gguf", {"tiny.gguf": DATA})}
    bundle = maker.write("bundle", two_of_three, maker.lock(contents), slice_size=BLOCK)
    maker.sign(bundle, "alice", "bob")
    return verify_bundle(bundle, root_bytes(two_of_three), progress=Silent())


@pytest.fixture
def staged(verified: VerifiedBundle, tmp_path: Path) -> Staged:
    transfer = Transfer.begin(
        LocalConnection(NODE),
        verified.folders[0],
        verified.digest,
        files_to_send(verified),
        progress=Silent(),
        home=str(tmp_path / "home/staged"),
    )
    transfer.send(Silent())
    return Staged(tmp_path / "home", verified.digest)


def test_of_a_whole_copy_nothing_is_wrong(staged: Staged) -> None:
    for recheck in (False, True):
        state = staged.state(recheck=recheck)
        assert state["wrong"] == {}
        assert state["list"] == staged.digest
        assert state["mark"] == hashlib.sha256(staged.mark.read_bytes()).hexdigest()
        assert state["files"] > 4


def test_of_no_copy_nothing_is_known(tmp_path: Path) -> None:
    assert Copy(str(tmp_path), "5" * 64).state(recheck=False) == {
        "list": None,
        "mark": None,
        "files": 0,
        "wrong": {},
    }


@pytest.mark.parametrize("path", [WHEEL, MODEL, "blocks.bin"])
def test_other_bytes_are_found_beside_the_signed_digest(staged: Staged, path: str) -> None:
    before = (staged.folder / path).read_bytes()
    staged.write(path, before[:-1] + b"!")
    found, wanted = (hashlib.sha256(data).hexdigest() for data in (before[:-1] + b"!", before))
    assert staged.state()["wrong"] == {path: [f"SHA-256 {found}", f"SHA-256 {wanted}"]}


def loosen(staged: Staged) -> None:
    (staged.folder / "payload/engine").chmod(0o755)


def remove(staged: Staged) -> None:
    loosen(staged)
    (staged.folder / WHEEL).unlink()
    (staged.folder / "payload/engine").chmod(0o555)


def add(staged: Staged) -> None:
    loosen(staged)
    (staged.folder / "payload/engine/more.whl").write_bytes(b"")
    (staged.folder / "payload/engine").chmod(0o555)


def exchange(staged: Staged) -> None:
    loosen(staged)
    (staged.folder / WHEEL).unlink()
    (staged.folder / WHEEL).symlink_to("/etc/passwd")
    (staged.folder / "payload/engine").chmod(0o555)


def foreign_owner(staged: Staged) -> None:
    os.chown(staged.folder / WHEEL, 65534, 65534)


@pytest.mark.parametrize(
    ("change", "path", "found"),
    [
        (remove, WHEEL, "not there"),
        (add, "payload/engine/more.whl", "there"),
        (exchange, WHEEL, "no plain file"),
        (loosen, "payload/engine", "mode 0755"),
        (lambda staged: (staged.folder / WHEEL).chmod(0o464), WHEEL, "mode 0464"),
        (lambda staged: staged.write(SIGNATURE, b"x"), SIGNATURE, "written"),
        pytest.param(
            foreign_owner,
            WHEEL,
            "owner 65534",
            marks=pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files away"),
        ),
    ],
)  # fmt: skip
def test_what_was_done_to_a_copy_is_found_alone(
    staged: Staged, change: Callable[[Staged], None], path: str, found: str
) -> None:
    change(staged)
    wrong = staged.state()["wrong"]
    assert list(wrong) == [path]
    assert wrong[path][0].startswith(found)


def test_a_file_that_was_touched_and_is_right_is_right(staged: Staged) -> None:
    os.utime(staged.folder / WHEEL)
    assert staged.state()["wrong"] == {}


def test_a_manifest_that_the_list_does_not_name_says_nothing(staged: Staged) -> None:
    text = (staged.folder / "manifest.json").read_bytes()
    staged.write("manifest.json", text.replace(b'"demo"', b'"evil"'))
    wrong = staged.state()["wrong"]
    assert list(wrong) == ["manifest.json"]
    assert wrong["manifest.json"][1].endswith("as the list says")


def test_a_mark_that_was_made_to_fit_hides_from_the_quick_look_and_shows_by_its_digest(
    staged: Staged,
) -> None:
    """So whoever asks compares the mark's digest, and ``recheck`` reads all."""
    before = staged.state()["mark"]
    staged.write(WHEEL, b"evil!")
    status = (staged.folder / WHEEL).stat()
    known = [status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino]
    values = json.loads(staged.mark.read_text())
    values["files"][WHEEL] = known
    staged.mark.write_text(json.dumps(values))
    quick = staged.state()
    assert (quick["wrong"], quick["mark"] == before) == ({}, False)
    assert list(staged.state(recheck=True)["wrong"]) == [WHEEL]


def test_without_its_mark_everything_is_read(staged: Staged) -> None:
    staged.mark.unlink()
    state = staged.state()
    assert (state["mark"], state["wrong"]) == (None, {})
    staged.write(WHEEL, b"evil!")
    assert list(staged.state()["wrong"]) == [WHEEL]


def test_a_signature_that_came_later_is_nobodys(staged: Staged) -> None:
    trust = staged.folder / "trust"
    trust.chmod(0o755)
    (trust / "SHA256SUMS.carol.sig").write_bytes(b"")
    (trust / "SHA256SUMS.carol.sig").chmod(0o444)
    trust.chmod(0o555)
    assert list(staged.state()["wrong"]) == ["trust/SHA256SUMS.carol.sig"]
