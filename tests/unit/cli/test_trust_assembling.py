"""What several people signed is put together, or refused; and looked into."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from pathlib import Path

    from tests.unit.cli.conftest import Ceremony


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


def test_who_is_called_otherwise_from_now_on(ceremony: Ceremony) -> None:
    """One key, a new name: its signature under the next root is named by that root."""
    new = f"charles={ceremony.public('carol')}:root,release,revoke"
    draft = ceremony.propose("--remove", "carol", "--add", new)
    ceremony.sign(draft, "alice", "carol", root=ceremony.root)
    assert len(list(draft.parent.glob("root.2.charles.*.sig"))) == 1
    ceremony.run("assemble", draft, "--root", ceremony.root, "--out", ceremony.trust)


def test_all_or_nothing(ceremony: Ceremony) -> None:
    """A document that lies there already, and another, stops those before it too."""
    draft = ceremony.propose("--remove", "carol")
    ceremony.sign(draft, "alice", "bob", root=ceremony.root)
    out = ceremony.folder / "x"
    out.mkdir()
    (out / "root.2.json").write_bytes(b"{}")
    told = ceremony.fails("assemble", ceremony.root, draft, "--root", ceremony.root, "--out", out)
    assert told == (2, "Usage")
    assert [path.name for path in out.iterdir()] == ["root.2.json"]
