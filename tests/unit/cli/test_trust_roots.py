"""Roots from the command line: founded, proposed, rotated, signed."""

from __future__ import annotations

import hashlib
import shutil
import subprocess
from typing import TYPE_CHECKING

import pytest

from appliance.bundle.documents import read_document
from appliance.trust.root import parse_root

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.conftest import Holders
    from tests.unit.cli.conftest import Ceremony, Outcome


def test_a_founded_root_is_signed_by_its_own_threshold(ceremony: Ceremony) -> None:
    root = parse_root(ceremony.root.read_bytes())
    assert {role: rule.threshold for role, rule in root.roles.items()} == {
        "root": 2,
        "release": 2,
        "revoke": 2,
        "site": 1,
        "time": 1,
    }
    done = ceremony.appliance("trust", "assemble", ceremony.root, "--out", ceremony.folder / "out")
    assert done.code == 0
    assert "by root 1: 2 of 2 needed (enough): alice, bob" in done.out
    names = {path.name for path in (ceremony.folder / "out").iterdir()}
    assert names == {
        "root.1.json",
        *(f"root.1.{signer}.sig" for signer in read_document(ceremony.root).signatures.ssh),
    }


def test_ssh_keygen_accepts_what_was_signed(ceremony: Ceremony) -> None:
    signers = ceremony.appliance("trust", "inspect", ceremony.root, "--allowed-signers").out
    (ceremony.folder / "signers").write_text(signers)
    for signer in read_document(ceremony.root).signatures.ssh:
        command = ["ssh-keygen", "-Y", "verify", "-f", str(ceremony.folder / "signers")]
        command += ["-I", signer.partition(".")[0], "-n", "root@appliance"]
        command += ["-s", str(ceremony.trust / f"root.1.{signer}.sig")]
        subprocess.run(command, input=ceremony.root.read_bytes(), check=True, capture_output=True)


def test_the_next_root_is_proposed_signed_and_assembled(ceremony: Ceremony) -> None:
    draft = ceremony.propose(
        "--add", f"mallory={ceremony.public('mallory')}:release", "--threshold", "release=3"
    )
    ceremony.sign(draft, "alice", root=ceremony.root)
    told = ceremony.appliance(
        "trust", "assemble", draft, "--root", ceremony.root, "--out", ceremony.trust, "--json"
    )
    assert (told.code, told.json["error"]) == (4, "ThresholdNotMet")
    assert told.json["hint"] == (
        "have 1 of these sign for root 1: bob, carol; have 1 of these sign for root 2: bob, carol"
    )
    assert not (ceremony.trust / "root.2.json").exists()
    ceremony.sign(draft, "carol", root=ceremony.root)
    ceremony.run("assemble", draft, "--root", ceremony.root, "--out", ceremony.trust)
    root = parse_root((ceremony.trust / "root.2.json").read_bytes())
    assert (root.version, root.roles["release"].threshold) == (2, 3)
    assert root.holders("release") == ("alice", "bob", "carol", "mallory")
    assert root.holders("root") == ("alice", "bob", "carol")


def test_whoever_signs_is_told_what_changes(ceremony: Ceremony) -> None:
    draft = ceremony.propose("--remove", "carol", "--add", f"mallory={ceremony.public('mallory')}:release")
    for command in (
        ("inspect", draft, "--root", ceremony.root),
        ("sign", draft, "--root", ceremony.root, "--key", ceremony.holders.key("bob")),
    ):
        text = ceremony.appliance("trust", *command).out
        for line in ("change       gone: ecdsa-sha2-nistp256 key", "of mallory, which serves release"):
            assert line in text
        assert f"fingerprint  {hashlib.sha256(draft.read_bytes()).hexdigest()}" in text


def test_more_roles_and_fewer(ceremony: Ceremony) -> None:
    """A key that is there already gets more roles; removed and added, it has the new ones alone."""
    carol, mallory = (f"{name}={ceremony.public(name)}" for name in ("carol", "mallory"))
    draft = ceremony.propose("--add", f"{mallory}:patch", "--add", f"{mallory}:site", "--solo")
    root = parse_root(draft.read_bytes())
    assert (root.holders("patch"), "mallory" in root.holders("site")) == (("mallory",), True)
    out = ("--out", ceremony.folder / "fewer")
    ceremony.run("propose", ceremony.root, "--remove", "carol", "--add", f"{carol}:release", *out)
    root = parse_root((ceremony.folder / "fewer/root.2.json").read_bytes())
    assert [role for role in root.roles if "carol" in root.holders(role)] == ["release"]
    both = ("--add", f"{carol}:patch", "--out", ceremony.folder / "x")
    assert ceremony.fails("propose", ceremony.root, *both) == (2, "Usage")


def test_one_person_alone(ceremony: Ceremony) -> None:
    """Solo works like everything else, and says so everywhere."""
    out = ceremony.folder / "solo"
    ceremony.run("init", "--holder", f"alice={ceremony.public('alice')}", "--solo", "--out", out)
    ceremony.sign(out / "root.1.json", "alice")
    ceremony.run("assemble", out / "root.1.json", "--out", ceremony.folder / "x")
    seen = ceremony.appliance("trust", "inspect", out / "root.1.json").out
    assert "solo: one person alone can release" in seen
    new = ("--add", f"bob={ceremony.public('bob')}", "--out", ceremony.folder / "y")
    assert ceremony.fails("propose", out / "root.1.json", *new, "--no-solo") == (2, "Usage")
    thresholds = ("--threshold", "root=2", "--threshold", "release=2", "--no-solo")
    values = ceremony.run("propose", out / "root.1.json", *new, *thresholds)
    assert "no longer solo" in values["changes"]


def test_a_stranger_and_an_old_key_sign_nothing(ceremony: Ceremony) -> None:
    draft = ceremony.propose("--remove", "carol")
    for name in ("mallory",):
        told = ceremony.fails("sign", draft, "--key", ceremony.holders.key(name), "--root", ceremony.root)
        assert told == (4, "SignerUnknown")
    assert list(draft.parent.glob("*.sig")) == []


def test_a_key_is_exchanged_in_all_its_roles(ceremony: Ceremony) -> None:
    before = parse_root(ceremony.root.read_bytes())
    out = ceremony.folder / "draft"
    values = ceremony.run(
        "rotate", ceremony.root, "--holder", f"alice={ceremony.public('mallory')}", "--out", out
    )
    after = parse_root((out / "root.2.json").read_bytes())
    assert {role: rule.threshold for role, rule in after.roles.items()} == values["thresholds"]
    (old,) = (key for key, each in before.keys.items() if each.holder == "alice")
    (new,) = (key for key, each in after.keys.items() if each.holder == "alice")
    assert old not in after.keys
    assert [role for role, rule in after.roles.items() if new in rule.keys] == list(before.roles)
    assert [each["root"] for each in values["to_sign"]] == [1, 2]


PROPOSALS: dict[str, list[str]] = {
    "nothing": [],
    "nobody of the name": ["--remove", "zoe"],
    "a short identity": ["--remove", "ab"],
    "too few left": ["--remove", "carol", "--threshold", "root=3"],
    "no such role": ["--add", "mallory={mallory}:admin"],
    "a key of somebody else": ["--add", "mallory={alice}:release"],
    "no such threshold": ["--threshold", "root=9"],
    "a misspelled threshold": ["--threshold", "root"],
    "no such policy": ["--pq", "maybe"],
    "require without such keys": ["--pq", "require"],
    "no such profile": ["--profile", "nist"],
    "one person alone": ["--threshold", "root=1"],
    "solo, and it is not": ["--solo"],
    "a misspelled name": ["--add", "Mallory={mallory}:release"],
    "no such file": ["--add", "mallory=/nowhere.pub:release"],
}


@pytest.mark.parametrize("changes", PROPOSALS.values(), ids=PROPOSALS)
def test_proposals_that_make_no_sense(ceremony: Ceremony, changes: list[str]) -> None:
    given = [
        each.format(alice=ceremony.public("alice"), mallory=ceremony.public("mallory")) for each in changes
    ]
    out = ceremony.folder / "draft"
    assert ceremony.fails("propose", ceremony.root, *given, "--out", out) == (2, "Usage")
    assert not out.exists()


def test_one_person_has_one_key_of_a_kind_for_a_role(ceremony: Ceremony) -> None:
    people = (("alice", "alice"), ("alice", "bob"), ("carol", "carol"))
    options = [part for name, key in people for part in ("--holder", f"{name}={ceremony.public(key)}")]
    assert ceremony.fails("init", *options, "--out", ceremony.folder / "x") == (2, "Usage")


def test_rotating_what_is_not_there(ceremony: Ceremony, second: Callable[[str], Path]) -> None:
    for new in (f"zoe={ceremony.public('mallory')}", f"alice={second('alice')}", "alice"):
        told = ceremony.fails("rotate", ceremony.root, "--holder", new, "--out", ceremony.folder / "x")
        assert told == (2, "Usage")


def test_a_draft_is_not_overwritten(ceremony: Ceremony) -> None:
    ceremony.propose("--remove", "carol")
    again = ("propose", ceremony.root, "--remove", "bob", "--out", ceremony.folder / "draft")
    assert ceremony.fails(*again) == (2, "Usage")


def test_what_is_not_signed(ceremony: Ceremony, holders: Holders) -> None:
    draft = ceremony.propose("--remove", "carol")
    key = ("--key", holders.key("alice"))
    renamed = shutil.copy(draft, draft.with_name("root.9.json"))
    letter = ceremony.folder / "letter.json"
    letter.write_text('{"type":"letter"}')
    link = ceremony.folder / "root.2.json"
    link.symlink_to(draft)
    with_root = ("--root", ceremony.root)
    for arguments, told in (
        ((draft, *key), (2, "Usage")),
        ((draft, *key, "--root", draft), (2, "Usage")),
        ((draft, *key, *with_root, "--role", "release"), (2, "Usage")),
        ((draft, "--key", ceremony.folder / "nothing", *with_root), (2, "Usage")),
        ((ceremony.folder / "root.7.json", *key, *with_root), (2, "Usage")),
        ((renamed, *key, *with_root), (4, "DocumentInvalid")),
        ((letter, *key, *with_root), (4, "DocumentInvalid")),
        ((link, *key, *with_root), (4, "FileUnexpected")),
        ((draft, *key, "--root", letter), (4, "RootInvalid")),
    ):
        assert ceremony.fails("sign", *arguments) == told, arguments
    assert list(ceremony.folder.rglob("root.2.*.sig")) == []


HELP = [
    *("keygen", "init", "propose", "rotate", "sign", "assemble", "inspect", "revoke", "admit"),
    *("permit", "permit-drives", "waive", "attest-time", "enrol", "show", "read", "drill"),
    *("transcript verify", "transcript note", "transcript close"),
]


@pytest.mark.parametrize("command", HELP)
def test_help_shows_examples(appliance: Callable[..., Outcome], command: str) -> None:
    done = appliance("trust", *command.split(), "--help")
    assert done.code == 0
    assert f"appliance trust {command}" in done.out


def test_keygen_wants_somebody_to_ask(ceremony: Ceremony, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SSH_ASKPASS", "/bin/false")
    monkeypatch.setenv("SSH_ASKPASS_REQUIRE", "force")
    told = ceremony.fails("keygen", "--ml-dsa-87", ceremony.folder / "key")
    assert told == (5, "SigningFailed")
    assert not (ceremony.folder / "key").exists()
