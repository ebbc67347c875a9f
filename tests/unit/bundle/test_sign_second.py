"""The second signature of a holder: by an ML-DSA-87 key file, beside the first."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from appliance.bundle.paths import post_quantum_path
from appliance.bundle.post_quantum_keys import generate_key
from appliance.bundle.sign import sign_bundle
from appliance.bundle.verify import verify_bundle
from appliance.errors import SignerUnknown, ThresholdNotMet, Usage
from appliance.progress import Silent
from appliance.trust.founding import Enrolment, compose
from appliance.trust.keys import parse_public_file
from appliance.trust.root import Policy, root_bytes

if TYPE_CHECKING:
    from pathlib import Path

    from appliance.trust.root import Root
    from tests.conftest import BundleMaker, Holders


@pytest.fixture
def strict(tmp_path: Path, holders: Holders) -> Root:
    """Alice and bob, each with a key of both kinds, and both are required; alice-2 lies beside."""
    enrolments = []
    for name in ("alice", "bob"):
        second = generate_key(tmp_path / f"{name}-2", passphrase=b"", comment=name)
        enrolments += [
            Enrolment(name, parse_public_file(holders.public(name))),
            Enrolment(name, second),
        ]
    return compose(enrolments, policy=Policy("require"))


def test_both_kinds_of_both_holders_are_enough(
    maker: BundleMaker, holders: Holders, strict: Root, tmp_path: Path
) -> None:
    bundle = maker.write("bundle", strict)
    told = [
        sign_bundle(bundle, key).enough
        for key in (holders.key("alice"), holders.key("bob"), tmp_path / "alice-2", tmp_path / "bob-2")
    ]
    assert told == [False, False, False, True]
    found = verify_bundle(bundle, root_bytes(strict), progress=Silent())
    assert [bool(one.post_quantum) for one in found.signers] == [True, True]


def test_the_second_alone_is_nothing(maker: BundleMaker, strict: Root, tmp_path: Path) -> None:
    bundle = maker.write("bundle", strict)
    done = [sign_bundle(bundle, tmp_path / name) for name in ("alice-2", "bob-2")]
    assert [each.signers for each in done] == [(), ()]
    assert not done[-1].enough
    with pytest.raises(ThresholdNotMet):
        verify_bundle(bundle, root_bytes(strict), progress=Silent())


def test_a_key_of_nobody(maker: BundleMaker, strict: Root, tmp_path: Path) -> None:
    generate_key(tmp_path / "mallory-2", passphrase=b"", comment="mallory")
    bundle = maker.write("bundle", strict)
    with pytest.raises(SignerUnknown):
        sign_bundle(bundle, tmp_path / "mallory-2")
    with pytest.raises(SignerUnknown):
        sign_bundle(bundle, tmp_path / "alice-2", role="site")
    assert not list((bundle / "trust").glob("*.mldsa87"))


def test_a_bundle_that_does_not_say_whose_keys_count(
    maker: BundleMaker, strict: Root, tmp_path: Path
) -> None:
    assert strict.keys
    with pytest.raises(Usage, match="no root"):
        sign_bundle(maker.write("rootless", None), tmp_path / "alice-2")


def test_what_is_signed_again_is_replaced(maker: BundleMaker, strict: Root, tmp_path: Path) -> None:
    bundle = maker.write("bundle", strict)
    (bundle / post_quantum_path("alice")).write_bytes(b"spoilt")
    assert sign_bundle(bundle, tmp_path / "alice-2").spoilt == ()
