"""What stock OpenSSH and OpenSSL say of every signature of the corpus, beside what the program says.

Where they differ, the program is the stricter one, and the reason stands here.  Any other difference, and a
reason that nothing needs any more, fails.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest

from appliance.lab.places import Places
from appliance.lab.recipe import Recipe
from appliance.lab.rootfs import prepare_root
from appliance.progress import Silent
from tests.independent.stock import accepted_here, accepted_in, write_cases

if TYPE_CHECKING:
    from pathlib import Path

#: Names of cases (regular expressions) that stock tools accept and the program does not; and why.
STRICTER = {
    r"ssh armour: (text|line feed|NUL) after": "nothing may follow what was signed: a person would read it",
    r"ssh armour: twice": "which of the two counts?",
    r"ssh armour: (no last line feed|one line|lines of 64|blank line)": "one signature has one spelling",
    r"ssh armour: (space in a line|tab at a line's end)": "likewise",
    r"ssh envelope: version 0": "no such version was ever defined",
    r"ssh envelope: reserved.*": "what a later version means by it is not known",
    r"ssh ecdsa-sha2-nistp(256|384): (r padded|s padded|of fixed length)": (
        "RFC 4251 asks for the shortest form of a number; OpenSSH takes zeros before it"
    ),
    r"ssh ed25519: S \+ L": "RFC 8032 wants S below L; OpenSSH's own code looks at the highest bits only",
    r"ssh weak key: .*": "under a point of small order anybody can sign",
    r"ssh kind: .*": "RSA keys cannot be judged by looking, and P-521 is not among the kinds chosen",
    r"ssh token: (not touched|not touched, PIN|a flag more|all flags)": (
        "a signature that nobody asked the token for with a finger; OpenSSH has to be told to mind"
    ),
    r"ssh token: of a web site": "a key made for a web site signs what that site wants",
}
#: The same, where it depends on the version.
SOMETIMES = {
    r"ssh armour: carriage returns": "OpenSSH 10 takes line ends of Windows, 9.2 does not: one spelling",
}
TRIXIE = Recipe(packages=("openssh-client", "openssl"), enabled=(), written={})


def compare(names: dict[str, str], accepted: set[str]) -> None:
    """Fail where the tools and the program differ otherwise than ``STRICTER`` says."""
    theirs = {names[place] for place in accepted}
    ours = {name for name in names.values() if "control" in name}
    # That the program accepts these, and no others: tests/corpus/test_signatures.py.
    assert not ours - theirs, "accepted here and refused there"
    looser = theirs - ours
    known = [*STRICTER, *SOMETIMES]
    unexplained = [name for name in looser if not any(re.fullmatch(each, name) for each in known)]
    assert not unexplained, "accepted there, and nobody has said why not here"
    unused = [each for each in STRICTER if not any(re.fullmatch(each, name) for name in looser)]
    assert not unused, "there is no such difference any more"


def test_this_machine_s(tmp_path: Path) -> None:
    names = write_cases(tmp_path, post_quantum=False)
    accepted = accepted_here(tmp_path)
    print((tmp_path / "versions").read_text())
    compare(names, accepted)


@pytest.mark.node
@pytest.mark.archive
def test_debian_13_s(tmp_path: Path) -> None:
    """OpenSSL 3.5 knows ML-DSA; OpenSSH 10 is newer than what most machines have."""
    root = prepare_root(Places.from_environment(), TRIXIE, progress=Silent())
    names = write_cases(tmp_path, post_quantum=True)
    accepted = accepted_in(root, tmp_path)
    versions = (tmp_path / "versions").read_text()
    expected = r"OpenSSH_(1[0-9]|[2-9][0-9])\..*OpenSSL (3\.[5-9]|[4-9])"
    assert re.search(expected, versions, re.DOTALL), versions
    compare(names, accepted)
