"""Roots from the command line: founded, proposed, rotated, signed, assembled, looked into."""

from __future__ import annotations

import hashlib
import shutil
import subprocess
from typing import TYPE_CHECKING

import pytest

from appliance.bundle.documents import read_document
from appliance.trust.mldsa import MLDSA87PublicKey, verify_post_quantum
from appliance.trust.root import Policy, parse_root

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.conftest import Holders
    from tests.unit.cli.conftest import Ceremony, Outcome


@pytest.fixture
def second(ceremony: Ceremony) -> Callable[[str], Path]:
    """Makes somebody's ML-DSA key; its public file."""

    def make(name: str) -> Path:
        file = ceremony.folder / f"{name}-ml"
        ceremony.run("keygen", "--ml-dsa-87", file, "-C", f"{name}@example", "--no-passphrase")
        return file.with_name(f"{name}-ml.pub")

    return make


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


def test_copies_on_several_sticks_are_put_together(ceremony: Ceremony) -> None:
    draft = ceremony.propose("--remove", "carol")
    sticks = []
    for name in ("alice", "bob"):
        stick = ceremony.folder / f"stick-{name}"
        stick.mkdir()
        shutil.copy(draft, stick)
        ceremony.sign(stick / draft.name, name, root=ceremony.root)
        sticks.append(stick)
    loose = next(sticks[1].glob("*.sig"))
    ceremony.run("assemble", sticks[0], loose, "--root", ceremony.root, "--out", ceremony.folder / "one")
    ceremony.run("assemble", *sticks, "--root", ceremony.root, "--out", ceremony.folder / "two")
    for folder in ("one", "two"):
        assert len(list((ceremony.folder / folder).iterdir())) == 3
    # Bob signs again; ECDSA gives another signature, and one of the two is kept.
    ceremony.sign(sticks[1] / draft.name, "bob", root=ceremony.root)
    ceremony.run("assemble", *sticks, loose, "--root", ceremony.root, "--out", ceremony.folder / "three")
    spoilt = ceremony.folder / "spoilt"
    shutil.copytree(sticks[1], spoilt)
    next(spoilt.glob("*.sig")).write_bytes(b"x")
    told = ceremony.fails(
        "assemble", *sticks, spoilt, "--root", ceremony.root, "--out", ceremony.folder / "x"
    )
    assert told == (4, "SignatureInvalid")
    (spoilt / draft.name).write_bytes(draft.read_bytes().replace(b'"version":2', b'"version":3'))
    told = ceremony.fails(
        "assemble", *sticks, spoilt, "--root", ceremony.root, "--out", ceremony.folder / "x"
    )
    assert told == (4, "DocumentInvalid")


def test_a_chain_is_assembled_at_once(ceremony: Ceremony) -> None:
    second_root = ceremony.propose("--remove", "carol")
    ceremony.sign(second_root, "alice", "bob", root=ceremony.root)
    third = ceremony.folder / "draft/root.3.json"
    ceremony.run(
        "rotate", second_root, "--holder", f"bob={ceremony.public('mallory')}", "--out", third.parent
    )
    ceremony.run("sign", third, "--key", ceremony.holders.key("alice"), "--root", second_root)
    ceremony.run("sign", third, "--key", ceremony.holders.key("bob"), "--root", second_root)
    told = ceremony.fails(
        "assemble", third.parent, "--root", ceremony.root, "--out", ceremony.folder / "all"
    )
    assert told == (4, "ThresholdNotMet")  # bob's new key has not signed
    ceremony.run("sign", third, "--key", ceremony.holders.key("mallory"), "--root", second_root)
    out = ceremony.folder / "all"
    ceremony.run("assemble", third.parent, ceremony.trust, "--out", out)
    assert {path.name for path in out.glob("*.json")} == {"root.1.json", "root.2.json", "root.3.json"}


@pytest.fixture
def forged(ceremony: Ceremony) -> Path:
    """A stick with a chain of mallory's own, root 1 and root 2, and a statement by her."""
    stick = ceremony.folder / "stick"
    mallory = ceremony.holders.key("mallory")
    ceremony.run(
        "init",
        "--holder",
        f"mallory={ceremony.public('mallory')}:root,release,site,time",
        "--solo",
        "--out",
        stick,
    )
    ceremony.run("sign", stick / "root.1.json", "--key", mallory)
    new = ("--add", f"bob={ceremony.public('bob')}:site", "--out", stick)
    ceremony.run("propose", stick / "root.1.json", *new)
    ceremony.run("sign", stick / "root.2.json", "--root", stick / "root.1.json", "--key", mallory)
    node = ("--node", "gpu-01", "--journal", "cd" * 16, "--time", "2026-01-31T12:00:00Z")
    time = ceremony.run("attest-time", *node, "--out", stick)["path"]
    ceremony.run("sign", time, "--root", stick / "root.2.json", "--key", mallory)
    return stick


def test_a_chain_of_somebody_else_never_takes_the_place_of_the_trusted_root(
    ceremony: Ceremony, forged: Path
) -> None:
    """It holds together, and is complete; nothing but the trusted root says that it is the wrong one."""
    ceremony.run("assemble", forged, "--root", forged / "root.1.json", "--out", ceremony.folder / "control")
    out = ("--out", ceremony.folder / "x")
    for trusted in (ceremony.root, _second(ceremony)):
        assert ceremony.fails("assemble", forged, "--root", trusted, *out)[0] in {2, 4}
        (statement,) = forged.glob("time.*.json")
        for sources in (
            [forged / "root.1.json"],
            [forged / "root.2.json"],
            [statement, forged / "root.1.json"],
        ):
            assert ceremony.fails("assemble", *sources, "--root", trusted, *out)[0] in {2, 4}
    assert ceremony.fails("assemble", forged / "root.1.json", "--root", ceremony.root, *out) == (
        4,
        "RootInvalid",
    )
    assert not (ceremony.folder / "x").exists()
    for command in (("inspect",), ("sign", "--key", ceremony.holders.key("mallory"))):
        told = ceremony.fails(command[0], forged / "root.1.json", *command[1:], "--root", ceremony.root)
        assert told == (4, "RootInvalid")


def _second(ceremony: Ceremony) -> Path:
    """A good root 2."""
    draft = ceremony.propose("--remove", "carol")
    ceremony.sign(draft, "alice", "bob", root=ceremony.root)
    ceremony.run("assemble", draft, "--root", ceremony.root, "--out", ceremony.trust)
    return ceremony.trust / "root.2.json"


def test_the_trusted_root_among_what_is_assembled(ceremony: Ceremony) -> None:
    second_root = _second(ceremony)
    alone = shutil.copytree(ceremony.trust, ceremony.folder / "alone")
    for file in alone.glob("root.1.*"):
        file.unlink()
    out = ceremony.folder / "x"
    assert ceremony.run("assemble", alone, "--root", second_root, "--out", out)["documents"] == []
    done = ceremony.run("assemble", ceremony.trust, "--root", ceremony.root, "--out", out)
    assert len(done["documents"]) == 2
    told = ceremony.fails("assemble", ceremony.trust, "--root", second_root, "--out", out)
    assert told == (2, "Usage"), "an older root is vouched for by nothing"


def test_a_stranger_and_an_old_key_sign_nothing(ceremony: Ceremony) -> None:
    draft = ceremony.propose("--remove", "carol")
    for name in ("mallory",):
        told = ceremony.fails("sign", draft, "--key", ceremony.holders.key(name), "--root", ceremony.root)
        assert told == (4, "SignerUnknown")
    assert list(draft.parent.glob("*.sig")) == []


def test_both_kinds_of_keys(ceremony: Ceremony, second: Callable[[str], Path]) -> None:
    """From warn to require: ML-DSA keys come in, and from then on they must sign."""
    people = ("alice", "bob", "carol")
    added = [
        part
        for name in people
        for part in ("--add", f"{name}={second(name)}:root,release,revoke,site,time")
    ]
    draft = ceremony.propose(*added, "--pq", "require")
    ceremony.sign(draft, "alice", "bob", root=ceremony.root)
    out = ("--root", ceremony.root, "--out", ceremony.trust)
    assert ceremony.fails("assemble", draft, *out) == (4, "ThresholdNotMet")
    seen = ceremony.appliance("trust", "inspect", draft, "--root", ceremony.root).out
    assert "half         without the ML-DSA signature: alice, bob" in seen
    assert "ml-dsa       require" in seen
    for name in ("alice", "bob"):
        done = ceremony.run(
            "sign",
            draft,
            "--key",
            ceremony.folder / f"{name}-ml",
            "--root",
            ceremony.root,
            "--role",
            "root",
        )
        assert done["path"].endswith(".mldsa87")
    ceremony.run("assemble", draft, *out)
    root = parse_root(draft.read_bytes())
    assert root.policy == Policy("require")
    for holder in ("alice", "bob"):
        key = root.post_quantum_key("root", holder)
        assert key is not None
        raw = (ceremony.trust / f"root.2.{holder}.{key.keyid[:8]}.mldsa87").read_bytes()
        verify_post_quantum(key, raw, draft.read_bytes(), "root@appliance")
    # No later root is weaker.
    newest = ceremony.trust / "root.2.json"
    for weaker in (("--pq", "off"), ("--pq", "warn")):
        assert ceremony.fails("propose", newest, *weaker, "--out", ceremony.folder / "x") == (2, "Usage")


def test_ml_dsa_keys_for_openssl(ceremony: Ceremony, second: Callable[[str], Path]) -> None:
    draft = ceremony.propose("--add", f"alice={second('alice')}:root", "--pq", "warn")
    ceremony.run("sign", draft, "--key", ceremony.folder / "alice-ml", "--root", ceremony.root)
    values = ceremony.run("inspect", draft, "--pem", ceremony.folder / "pem")
    (file,) = (ceremony.folder / "pem").iterdir()
    assert values["pem"] == [str(file)]
    key = parse_root(draft.read_bytes()).post_quantum_key("root", "alice")
    assert key is not None
    assert file.name == f"alice.{key.keyid[:8]}.pem"
    public = ceremony.folder / "der"
    command = ["openssl", "pkey", "-pubin", "-in", str(file), "-outform", "DER", "-out", str(public)]
    if subprocess.run(command, capture_output=True, check=False).returncode == 0:  # 3.5 or newer
        signature = next(draft.parent.glob("*.mldsa87"))
        command = [
            "openssl",
            "pkeyutl",
            "-verify",
            "-pubin",
            "-inkey",
            str(file),
            "-rawin",
            "-in",
            str(draft),
        ]
        command += ["-sigfile", str(signature), "-pkeyopt", "context-string:root@appliance"]
        subprocess.run(command, check=True, capture_output=True)
    else:
        from cryptography.hazmat.primitives.serialization import load_pem_public_key

        loaded = load_pem_public_key(file.read_bytes())
        assert isinstance(loaded, MLDSA87PublicKey)
        assert loaded.public_bytes_raw() == key.raw


def test_stock_tools_read_the_signers_of_a_root_with_both_kinds(
    ceremony: Ceremony, second: Callable[[str], Path]
) -> None:
    draft = ceremony.propose("--add", f"alice={second('alice')}:root", "--pq", "warn")
    signers = ceremony.appliance("trust", "inspect", draft, "--allowed-signers").out
    assert len(signers.splitlines()) == 3
    assert "ml-dsa" not in signers


def test_the_profile_cnsa(
    appliance: Callable[..., Outcome], tmp_path: Path, ceremony: Ceremony, second: Callable[[str], Path]
) -> None:
    options = []
    for name in ("dora", "emil"):
        key = tmp_path / name
        command = ["ssh-keygen", "-q", "-t", "ecdsa", "-b", "384", "-N", "", "-f", str(key)]
        subprocess.run(command, check=True)
        options += ["--holder", f"{name}={key}.pub", "--holder", f"{name}={second(name)}"]
    done = appliance("trust", "init", *options, "--profile", "cnsa", "--out", tmp_path / "strict", "--json")
    assert done.json["policy"] == {"pq": "require", "profile": "cnsa"}
    root = parse_root((tmp_path / "strict/root.1.json").read_bytes())
    assert root.post_quantum_key("release", "dora") is not None, "an ML-DSA key serves what the other does"
    plain = ["--holder", f"alice={ceremony.public('alice')}", "--holder", f"bob={ceremony.public('bob')}"]
    for wrong in ([*plain, "--profile", "cnsa"], [*options, "--profile", "cnsa", "--pq", "warn"]):
        assert appliance("trust", "init", *wrong, "--out", tmp_path / "x").code == 2
    assert not (tmp_path / "x").exists()


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


def test_keys_that_prove_nothing_are_not_added(ceremony: Ceremony, second: Callable[[str], Path]) -> None:
    weak = ceremony.folder / "weak.pub"
    good = second("alice").read_text().split()
    out = ceremony.folder / "draft"
    for text in (
        "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAEAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA x\n",
        f"{good[0]} {good[1][:-8]} x\n",
        f"{good[0]} {good[1]}\nmore\n",
        f"{good[0]}  {good[1]}\n",
        "ml-dsa-87 \n",
        "",
    ):
        weak.write_text(text)
        told = ceremony.fails("propose", ceremony.root, "--add", f"alice={weak}:root", "--out", out)
        assert told == (4, "KeyRefused"), text[:40]
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


def test_inspect_says_who_signed_and_who_is_missing(ceremony: Ceremony) -> None:
    seen = ceremony.appliance("trust", "inspect", ceremony.root)
    assert "counted      by root 1: 2 of 2 needed (enough): alice, bob" in seen.out
    draft = ceremony.propose("--remove", "carol")
    ceremony.sign(draft, "alice", root=ceremony.root)
    assert "not judged   1 signatures" in ceremony.appliance("trust", "inspect", draft).out
    seen = ceremony.appliance("trust", "inspect", draft, "--root", ceremony.root)
    assert "missing      1 of bob, carol" in seen.out
    values = ceremony.run("inspect", draft, "--root", ceremony.root)["signatures"]
    assert values["accepted"] is False
    assert [count["missing"] for count in values["counts"]] == [["bob", "carol"], ["bob"]]
    next(draft.parent.glob("*.sig")).write_bytes(b"x")
    values = ceremony.run("inspect", draft, "--root", ceremony.root)["signatures"]
    assert values["refusals"][0]["error"] == "SignatureInvalid"


def test_what_is_not_assembled(ceremony: Ceremony, tmp_path: Path) -> None:
    out = ("--out", ceremony.folder / "x")
    empty = ceremony.folder / "empty"
    empty.mkdir()
    stray = shutil.copy(next(ceremony.trust.glob("*.sig")), tmp_path)
    draft = ceremony.propose("--remove", "carol")
    for arguments, told in (
        ((empty, *out), (2, "Usage")),
        ((ceremony.folder / "nothing.json", *out), (2, "Usage")),
        ((stray, *out), (2, "Usage")),
        ((draft, stray, "--root", ceremony.root, *out), (2, "Usage")),
        ((draft, *out), (2, "Usage")),
        ((ceremony.root, "--root", ceremony.folder / "nothing", *out), (2, "Usage")),
    ):
        assert ceremony.fails("assemble", *arguments) == told, arguments
    assert not (ceremony.folder / "x").exists()


def test_another_document_in_the_folder_is_kept(ceremony: Ceremony) -> None:
    out = ceremony.folder / "x"
    out.mkdir()
    (out / "root.1.json").write_bytes(b"{}")
    assert ceremony.fails("assemble", ceremony.root, "--out", out) == (2, "Usage")
    assert (out / "root.1.json").read_bytes() == b"{}"


HELP = [
    *("keygen", "init", "propose", "rotate", "sign", "assemble", "inspect", "revoke", "admit"),
    *("permit", "waive", "attest-time", "enrol", "show", "read", "drill"),
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
