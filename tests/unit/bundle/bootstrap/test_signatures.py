"""bootstrap.sh: a missing, wrong or strange signature ends it."""

from __future__ import annotations

import hashlib
import re
import shutil
import subprocess
from typing import TYPE_CHECKING

import pytest

from tests.unit.bundle.bootstrap.desk import TOOLKIT, Desk, change_wheel, refused

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.conftest import Holders


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
    change_wheel(medium)
    _, told = refused(desk, desk.run(medium / "bootstrap.sh", *options, "--to", str(desk.target)))
    assert "good signature of alice" in told
