"""Revocations, admissions and statements to nodes: written, signed, assembled, and what is refused."""

from __future__ import annotations

import hashlib
import shlex
import shutil
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from appliance.trust.revocation import Revocation, parse_revocation
from appliance.trust.root import parse_root, root_bytes
from appliance.trust.statements import (
    NOTHING_LOST,
    Admission,
    DrivePermit,
    Enrolment,
    Permit,
    Release,
    Time,
    Waiver,
    parse_statement,
)
from tests.unit.trust.test_node_rules import BACK, BACK_GIVEN, GIVEN, STALE, decide

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from appliance.trust.node_rules import Candidate, Statements
    from tests.conftest import BundleMaker
    from tests.unit.cli.conftest import Ceremony

DIGEST, OTHER, JOURNAL = "1" * 64, "2" * 64, "cd" * 16
NODE = ("--node", "gpu-01", "--journal", JOURNAL)


@pytest.fixture
def out(ceremony: Ceremony) -> Path:
    return ceremony.folder / "statements"


def written(values: dict[str, Any]) -> bytes:
    from pathlib import Path

    data = Path(values["path"]).read_bytes()
    assert values["fingerprint"] == hashlib.sha256(data).hexdigest()
    return data


def keyid(ceremony: Ceremony, name: str) -> str:
    root = parse_root(ceremony.root.read_bytes())
    return next(key for key, each in root.keys.items() if each.holder == name)


def test_keys_and_bundles_are_revoked(ceremony: Ceremony, out: Path) -> None:
    first = ceremony.run(
        "revoke", "--root", ceremony.root, "--key", "carol", "--bundle", DIGEST, "--out", out
    )
    assert parse_revocation(written(first)) == Revocation(1, (keyid(ceremony, "carol"),), (DIGEST,))
    assert (first["role"], first["notes"]) == ("revoke", [])
    draft = out / "revoked.1.json"
    ceremony.sign(draft, "alice", root=ceremony.root)
    assert ceremony.fails("assemble", draft, "--root", ceremony.root, "--out", ceremony.trust) == (
        4,
        "ThresholdNotMet",
    )
    ceremony.sign(draft, "bob", root=ceremony.root)
    ceremony.run("assemble", draft, "--root", ceremony.root, "--out", ceremony.trust)
    again = ("revoke", "--root", ceremony.root, "--before", ceremony.trust / "revoked.1.json", "--out", out)
    second = parse_revocation(written(ceremony.run(*again, "--key", "ab" * 32)))
    assert second.includes(parse_revocation(draft.read_bytes()))
    assert (second.serial, len(second.keys)) == (2, 2)
    elsewhere = (*again[:-1], ceremony.folder / "elsewhere")
    assert ceremony.fails(*elsewhere, "--key", keyid(ceremony, "carol")) == (2, "Usage")
    assert ceremony.fails(*elsewhere) == (2, "Usage")
    assert ceremony.fails(*again, "--key", "zoe") == (2, "Usage")
    assert ceremony.fails(*again, "--bundle", ceremony.folder / "nothing") == (2, "Usage")


def test_a_revocation_says_when_too_few_are_left(ceremony: Ceremony, out: Path) -> None:
    values = ceremony.run("revoke", "--root", ceremony.root, "--key", "carol", "--key", "bob", "--out", out)
    assert values["notes"] == [
        "too few are left for the role release of root 1: propose another root",
        "too few are left for the role revoke of root 1: propose another root",
    ]


def test_an_unsigned_revocation_before_is_said(ceremony: Ceremony, out: Path) -> None:
    ceremony.run("revoke", "--root", ceremony.root, "--bundle", DIGEST, "--out", out)
    values = ceremony.run(
        "revoke",
        "--root",
        ceremony.root,
        "--before",
        out / "revoked.1.json",
        "--key",
        "carol",
        "--out",
        out,
    )
    assert "revoked.1.json is not signed by enough" in values["notes"][0]
    told = ceremony.fails(
        "revoke", "--root", ceremony.root, "--before", ceremony.root, "--key", "carol", "--out", out
    )
    assert told == (4, "DocumentInvalid")


def test_a_revoked_key_signs_no_statement(ceremony: Ceremony, out: Path) -> None:
    ceremony.run("revoke", "--root", ceremony.root, "--key", "carol", "--out", out)
    ceremony.sign(out / "revoked.1.json", "alice", "bob", root=ceremony.root)
    time = ceremony.run("attest-time", *NODE, "--time", "2026-01-31T12:00:00Z", "--out", out)["path"]
    ceremony.run("sign", time, "--key", ceremony.holders.key("carol"), "--root", ceremony.root)
    options = ("--root", ceremony.root, "--out", ceremony.folder / "x")
    revoked = ("--revoked", out / "revoked.1.json")
    assert ceremony.fails("assemble", time, *options, *revoked) == (4, "KeyRevoked")
    again = ("--key", ceremony.holders.key("carol"), "--root", ceremony.root, *revoked)
    assert ceremony.fails("sign", time, *again) == (4, "KeyRevoked")
    seen = ceremony.run("inspect", time, "--root", ceremony.root, *revoked)["signatures"]
    assert (seen["accepted"], seen["refusals"][0]["error"]) == (False, "KeyRevoked")
    ceremony.run("assemble", time, *options)
    assert ceremony.fails("assemble", time, *options, "--revoked", time) == (4, "DocumentInvalid")
    next(out.glob("revoked.1.bob.*")).unlink()
    assert ceremony.fails("assemble", time, *options, *revoked) == (4, "ThresholdNotMet")


def test_a_bundle_is_admitted_after_it_was_verified(
    ceremony: Ceremony, out: Path, maker: BundleMaker
) -> None:
    root = parse_root(ceremony.root.read_bytes())
    bundle = maker.write("admitted", root)
    ceremony.fails("admit", bundle, "--trust", ceremony.root, "--node", "gpu-01", "--out", out)
    assert not out.exists()
    maker.sign(bundle, "alice", "bob")
    values = ceremony.run(
        "admit", bundle, "--trust", ceremony.root, "--node", "gpu-02", "--node", "gpu-01", "--out", out
    )
    digest = hashlib.sha256((bundle / "trust/SHA256SUMS").read_bytes()).hexdigest()
    assert parse_statement(written(values)) == Admission(digest, "demo", "1.0.0", 7, ("gpu-01", "gpu-02"))
    assert values["notes"] == ["verified: signed by alice, bob"]
    draft = out / f"admission.{digest[:16]}.json"
    ceremony.sign(draft, "carol", root=ceremony.root)
    ceremony.run("assemble", draft, "--root", ceremony.root, "--out", out)
    (bundle / "payload/model/tiny.gguf").write_bytes(b"x" * 4000)
    told = ceremony.fails("admit", bundle, "--trust", ceremony.root, "--every-node", "--out", out / "x")
    assert told == (4, "DigestMismatch")


def test_a_bundle_is_admitted_by_its_digest(ceremony: Ceremony, out: Path) -> None:
    known = ("--product", "demo", "--version", "1.0", "--sequence", "0")
    values = ceremony.run("admit", DIGEST, *known, "--every-node", "--out", out)
    assert parse_statement(written(values)) == Admission(DIGEST, "demo", "1.0", 0, ("*",))
    assert "not verified here" in values["notes"][0]
    # The same again is the same file; other nodes are another, and nobody overwrites.
    ceremony.run("admit", DIGEST, *known, "--every-node", "--out", out)
    for wrong in (
        [DIGEST, *known, "--node", "gpu-01", "--out", out],
        [DIGEST, *known, "--out", out],
        [DIGEST, *known, "--node", "gpu-01", "--every-node", "--out", out],
        [DIGEST, *known[:4], "--every-node", "--out", out],
        [DIGEST, *known, "--node", "GPU 1", "--out", out / "x"],
        [DIGEST, OTHER, *known, "--every-node", "--out", out / "x"],
        [DIGEST[:-1], *known, "--every-node", "--out", out / "x"],
    ):
        assert ceremony.fails("admit", *wrong) == (2, "Usage"), wrong
    assert not (out / "x").exists()


def test_a_bundle_on_several_volumes_is_one(
    ceremony: Ceremony, out: Path, bundle: Path, volumes: Callable[..., list[Path]], root_file: Path
) -> None:
    digest = hashlib.sha256((bundle / "trust/SHA256SUMS").read_bytes()).hexdigest()
    folders = volumes(bundle, 2, 3)
    values = ceremony.run("admit", *folders, "--trust", root_file, "--every-node", "--out", out)
    assert values["document"]["bundle"] == digest
    ceremony.fails("admit", *folders[1:], "--trust", root_file, "--every-node", "--out", out)


def test_what_is_said_of_a_bundle_must_be_so(ceremony: Ceremony, out: Path, bundle: Path) -> None:
    told = ceremony.fails("admit", bundle, "--version", "2.0", "--every-node", "--out", out)
    assert told == (2, "Usage")


@pytest.mark.parametrize(
    ("bundle", "given"), [(BACK, BACK_GIVEN), (STALE, GIVEN)], ids=["permit", "waiver"]
)
def test_the_command_that_a_refusal_names_can_be_run(
    ceremony: Ceremony, out: Path, bundle: Candidate, given: Statements
) -> None:
    (refusal,) = decide(bundle=bundle, given=given).refusals
    words = {"WHY": "it does not start", "DIR": str(out)}
    program, trust, *command = [words.get(word, word) for word in shlex.split(str(refusal.hint))]
    assert (program, trust) == ("appliance", "trust")
    statement = parse_statement(written(ceremony.run(*command)))
    more = {"permits": (statement,)} if isinstance(statement, Permit) else {"waivers": (statement,)}
    assert decide(bundle=bundle, given=replace(given, **more)).refusals == ()  # type: ignore[arg-type]


def test_a_way_back_is_permitted(ceremony: Ceremony, out: Path, bundle: Path) -> None:
    digest = hashlib.sha256((bundle / "trust/SHA256SUMS").read_bytes()).hexdigest()
    back = ("--from", f"8:{OTHER}", "--to", bundle, "--reason", "engine fails")
    values = ceremony.run("permit", *NODE, *back, "--out", out)
    statement = parse_statement(written(values))
    assert isinstance(statement, Permit)
    assert (statement.product, statement.before, statement.after) == (
        "demo",
        Release(8, OTHER),
        Release(7, digest),
    )
    other = parse_statement(written(ceremony.run("permit", *NODE, *back, "--out", out)))
    assert isinstance(other, Permit)
    assert statement.nonce != other.nonce
    for wrong in (
        ("--from", f"6:{OTHER}", "--to", bundle, "--reason", "x"),
        ("--from", f"8:{OTHER}", "--to", f"7:{DIGEST}", "--reason", "x"),
        ("--from", f"8:{OTHER}", "--to", bundle, "--reason", "x", "--product", "other"),
        ("--from", OTHER, "--to", bundle, "--reason", "x"),
        ("--from", f"8:{OTHER}", "--to", bundle, "--reason", "a\nb"),
        ("--from", f"8:{OTHER}", "--to", bundle, "--reason", ""),
    ):
        assert ceremony.fails("permit", *NODE, *wrong, "--out", out / "x") == (2, "Usage"), wrong
    for node in (("--node", "gpu-01", "--journal", "cd"), ("--node", "GPU", "--journal", JOURNAL)):
        assert ceremony.fails("permit", *node, *back, "--out", out / "x") == (2, "Usage")
    assert not (out / "x").exists()


def test_the_other_statements(ceremony: Ceremony, out: Path) -> None:
    waiver = ceremony.run("waive", *NODE, "--bundle", DIGEST, "--reason", "no newer", "--out", out)
    time = ceremony.run("attest-time", *NODE, "--time", "2026-01-31T12:00:00Z", "--out", out)
    now = ceremony.run("attest-time", *NODE, "--time", "now", "--out", out)
    enrolment = ceremony.run(
        "enrol", "--node", "gpu-01", "--product", "demo=7", "--reason", "new disk", "--out", out
    )
    found = [parse_statement(written(each)) for each in (waiver, time, now, enrolment)]
    assert [type(each) for each in found] == [Waiver, Time, Time, Enrolment]
    assert [each["role"] for each in (waiver, time, now, enrolment)] == ["site", "time", "time", "site"]
    for values, role in ((waiver, "site"), (time, "time"), (enrolment, "site")):
        signed = ceremony.run(
            "sign", values["path"], "--key", ceremony.holders.key("bob"), "--root", ceremony.root
        )
        assert (signed["role"], signed["accepted"]) == (role, True)
        seen = ceremony.appliance("trust", "inspect", values["path"], "--root", ceremony.root)
        assert "gpu-01" in seen.out
        assert "(enough): bob" in seen.out
    ceremony.run(
        "assemble",
        *(each["path"] for each in (waiver, time, enrolment)),
        "--root",
        ceremony.root,
        "-o",
        out / "all",
    )
    assert len(list((out / "all").iterdir())) == 6


@pytest.mark.parametrize(
    "wrong",
    [
        ["waive", *NODE, "--bundle", "xyz", "--reason", "x"],
        ["attest-time", *NODE, "--time", "yesterday"],
        ["attest-time", *NODE, "--time", "2026-02-30T12:00:00Z"],
        ["enrol", "--node", "gpu-01", "--product", "demo", "--reason", "x"],
        ["enrol", "--node", "gpu-01", "--product", "demo=1", "--product", "demo=2", "--reason", "x"],
        ["enrol", "--node", "gpu-01", "--product", "De mo=1", "--reason", "x"],
    ],
    ids=lambda wrong: " ".join(wrong[:1] + wrong[-2:]),
)
def test_statements_that_cannot_be(ceremony: Ceremony, out: Path, wrong: list[str]) -> None:
    assert ceremony.fails(*wrong, "--out", out) == (2, "Usage")
    assert not out.exists()


def test_without_a_root_nothing_counts(ceremony: Ceremony, out: Path) -> None:
    """A root that merely lies there, in the same folder, is not one that somebody trusts."""
    time = ceremony.run("attest-time", *NODE, "--time", "2026-01-31T12:00:00Z", "--out", out)["path"]
    ceremony.run("sign", time, "--key", ceremony.holders.key("bob"), "--root", ceremony.root)
    for source in (ceremony.root, *ceremony.trust.glob("root.1.*.sig")):
        shutil.copy(source, out)
    assert ceremony.fails("assemble", out, "--out", ceremony.folder / "x") == (2, "Usage")
    assert ceremony.fails("sign", time, "--key", ceremony.holders.key("bob")) == (2, "Usage")
    assert "not judged   1 signatures" in ceremony.appliance("trust", "inspect", time).out


def test_a_root_without_the_role(ceremony: Ceremony, out: Path, tmp_path: Path) -> None:
    """Admissions need a site; waivers fall to release."""
    small = tmp_path / "small.json"
    small.write_bytes(root_bytes(ceremony.holders.root("alice", "bob")))
    known = ("--product", "demo", "--version", "1.0", "--sequence", "0", "--every-node")
    admission = ceremony.run("admit", DIGEST, *known, "--out", out)["path"]
    key = ("--key", ceremony.holders.key("alice"), "--root", small)
    assert ceremony.fails("sign", admission, *key) == (4, "SignerUnknown")
    waiver = ceremony.run("waive", *NODE, "--bundle", DIGEST, "--reason", "x", "--out", out)["path"]
    assert ceremony.run("sign", waiver, *key)["role"] == "release"


VOLUME = "6e2c1f0a-93b4-4d58-8a7e-0c1d2e3f4a5b"
UNTIL = ("--until", "2026-01-31T12:00:00Z", "--reason", "ticket 4711")


def test_what_may_be_done_to_drives(ceremony: Ceremony, out: Path) -> None:
    common = ("permit-drives", "--node", "gpu-01", *UNTIL, "--out", out, "--act")
    values = ceremony.run(*common, "enroll", "--drive", "S=1", "--drive", "S2")
    said = parse_statement(written(values))
    assert isinstance(said, DrivePermit)
    assert (said.node, said.act, said.until) == ("gpu-01", "enroll", "2026-01-31T12:00:00Z")
    assert (said.drives, values["role"]) == ({"S=1": NOTHING_LOST, "S2": NOTHING_LOST}, "site")
    values = ceremony.run(*common, "retire", "--drive", f"S1={VOLUME}")
    said = parse_statement(written(values))
    assert isinstance(said, DrivePermit)
    assert (said.act, said.drives) == ("retire", {"S1": VOLUME})
    for wrong in (
        ("retire", "--drive", "S1"),
        ("retire", "--drive", "S1=anything"),
        ("retire", "--drive", f"S1={VOLUME}", "--drive", f"S1={VOLUME}"),
        ("enroll", "--drive", "S1 "),
        ("enroll", "--drive", "S1", "--until", "tomorrow"),
        ("format", "--drive", "S1"),
    ):
        assert ceremony.fails(*common, *wrong)[0] == 2, wrong
    assert len(list(out.iterdir())) == 2


def test_a_permit_for_drives_is_signed_and_assembled(ceremony: Ceremony, out: Path) -> None:
    draft = ceremony.run(
        "permit-drives", "--node", "gpu-01", *UNTIL, "--act", "enroll", "--drive", "S1", "--out", out
    )["path"]
    ceremony.sign(draft, "alice", root=ceremony.root)
    ceremony.run("assemble", draft, "--root", ceremony.root, "--out", ceremony.trust)
    assert list(ceremony.trust.glob("drive-permit.*.alice.*.sig"))
