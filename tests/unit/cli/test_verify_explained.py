"""What a reviewer is told and can sign: every step by name, and a statement other tools read."""

from __future__ import annotations

import base64
import json
from typing import TYPE_CHECKING

import pytest
from cryptography.hazmat.primitives.serialization import load_ssh_public_key
from securesystemslib.dsse import Envelope
from securesystemslib.signer import SSlibKey

from appliance.bundle.paths import signature_path
from appliance.trust.root import parse_root, root_bytes
from tests.unit.bundle.test_chains import (
    ALICE,
    BOB,
    CAROL,
    ONE,
    TWO,
    Case,
    chain_files,
    files_of,
    revocation,
)

if TYPE_CHECKING:
    from pathlib import Path

    from tests.conftest import BundleMaker, Holders
    from tests.unit.cli.conftest import Run


def test_every_step_is_explained(appliance: Run, maker: BundleMaker, tmp_path: Path) -> None:
    bundle = Case(maker).bundle(TWO, chain_files(ONE, TWO), ALICE, CAROL)
    trusted = tmp_path / "trusted.json"
    trusted.write_bytes(root_bytes(ONE))
    taken = revocation(4, ALICE, CAROL, keys=(BOB.key.keyid,))
    for name, data in files_of("revoked.4.json", taken.data, taken.signatures).items():
        (tmp_path / name).write_bytes(data)
    done = appliance("verify", bundle, "-t", trusted, "--revoked", tmp_path / "revoked.4.json", "--explain")
    assert done.code == 0
    for expected in (
        f"1. Root 1, fingerprint {ONE.fingerprint}, compare it with your paper",
        f"2. Root 2 follows: alice with ssh-ed25519 {ALICE.key.fingerprint}",
        "3. Revocation 4",
        "4. trust/SHA256SUMS",
        "2 of alice, bob, carol were needed",
        "Each of ",
        "Not checked",
        "a node refuses to go back",
    ):
        assert expected in done.out, expected
    typed = appliance(
        "verify", bundle, "-t", trusted, "--fingerprint", ONE.fingerprint, "--explain", "--json"
    )
    assert "which you typed" in typed.json["explanation"][0]
    assert typed.json["roots_followed"] == [2]


def test_a_revoked_signer_is_refused(appliance: Run, maker: BundleMaker, tmp_path: Path) -> None:
    bundle = Case(maker).bundle(ONE, chain_files(ONE), ALICE, BOB)
    taken = revocation(4, ALICE, BOB, keys=(BOB.key.keyid,))
    for name, data in files_of("revoked.4.json", taken.data, taken.signatures).items():
        (tmp_path / name).write_bytes(data)
    trusted = bundle / "trust/root.1.json"
    done = appliance("verify", bundle, "-t", trusted, "--revoked", tmp_path / "revoked.4.json")
    assert done.code == 4
    assert "revoked" in done.err


def test_a_signed_statement_that_other_tools_read(
    appliance: Run, bundle: Path, root_file: Path, holders: Holders, tmp_path: Path
) -> None:
    out = tmp_path / "demo.vsa.json"
    done = appliance("verify", bundle, "-t", root_file, "--attest", out, "--key", holders.key("mallory"))
    assert done.code == 0
    values = json.loads(out.read_bytes())
    public = load_ssh_public_key(holders.public("mallory").encode())
    keyid = values["signatures"][0]["keyid"]
    Envelope.from_dict(json.loads(out.read_bytes())).verify([SSlibKey.from_crypto(public, keyid)], 1)
    statement = json.loads(base64.b64decode(values["payload"]))
    predicate = statement["predicate"]
    root = parse_root(root_file.read_bytes())
    assert statement["predicateType"] == "https://slsa.dev/verification_summary/v1"
    assert statement["subject"][0]["name"] == "trust/SHA256SUMS"
    assert predicate["verificationResult"] == "PASSED"
    assert predicate["verifiedLevels"] == ["SLSA_BUILD_LEVEL_1"]
    assert predicate["policy"]["digest"]["sha256"] == root.fingerprint
    assert [one["holder"] for one in predicate["appliance"]["signers"]] == ["alice", "bob"]


def test_without_provenance_no_level_is_claimed(
    appliance: Run, bundle: Path, root_file: Path, holders: Holders, tmp_path: Path
) -> None:
    for stated in (bundle / "trust").glob("provenance.*"):
        stated.unlink()
    out = tmp_path / "demo.vsa.json"
    appliance("verify", bundle, "-t", root_file, "--attest", out, "--key", holders.key("mallory"))
    statement = json.loads(base64.b64decode(json.loads(out.read_bytes())["payload"]))
    assert statement["predicate"]["verifiedLevels"] == ["SLSA_BUILD_LEVEL_0"]


def test_nothing_is_attested_that_did_not_verify(
    appliance: Run, bundle: Path, root_file: Path, holders: Holders, tmp_path: Path
) -> None:
    (bundle / signature_path("bob")).unlink()
    out = tmp_path / "demo.vsa.json"
    done = appliance("verify", bundle, "-t", root_file, "--attest", out, "--key", holders.key("mallory"))
    assert done.code == 4
    assert not out.exists()


@pytest.mark.parametrize("half", [["--attest", "x.json"], ["--key", "alice"]])
def test_an_attestation_needs_a_key(appliance: Run, bundle: Path, root_file: Path, half: list[str]) -> None:
    done = appliance("verify", bundle, "-t", root_file, *half)
    assert done.code == 2
    assert "go together" in done.err
