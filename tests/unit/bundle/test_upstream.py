"""Signatures of models, checked again from the bundle alone: what holds, and what refuses the bundle."""

from __future__ import annotations

import hashlib
import json
import re
from typing import TYPE_CHECKING

import pytest

from appliance.bundle import reader
from appliance.bundle.comparison import compare
from appliance.bundle.inspection import inspect_bundle
from appliance.bundle.inspection_page import render
from appliance.bundle.verify import VerifiedBundle, verify_bundle
from appliance.errors import DigestMismatch, ThresholdNotMet, UpstreamSignatureInvalid
from appliance.progress import Silent
from appliance.trust.root import root_bytes
from appliance.trust.upstream_claim import judge, origin_of
from appliance.trust.upstream_keys import parse_pem
from tests.conftest import CONTENTS
from tests.unit.trust.model_makers import Maker, digests

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from appliance.definition.lock import Lock
    from appliance.trust.root import Root
    from tests.conftest import BundleMaker

MAKER = Maker()
KEY = parse_pem(MAKER.pem)
FILES = {"config.json": b"{}", "tiny.gguf": b"GGUF" * 3_000_000}  # the latter is cut in some tests
SIGNATURE = MAKER.sign(FILES)
ORIGIN = {"kind": "huggingface"} | origin_of(
    judge(SIGNATURE, KEY, digests(FILES).items(), "model.sig"), KEY
)


class Case:
    """Bundles that alice and bob signed, deceived or not."""

    def __init__(self, maker: BundleMaker, root: Root) -> None:
        self.maker = maker
        self.root = root

    def lock(
        self,
        files: Mapping[str, bytes] = FILES,
        origin: Mapping[str, str] = ORIGIN,
        signature: bytes = SIGNATURE,
        **more: Mapping[str, str],
    ) -> Lock:
        """The model's files with their signature; ``more`` origins of other files by their names."""
        lock = self.maker.lock({**CONTENTS, "model": ("huggingface", {**files, "model.sig": signature})})
        origins = {"model.sig": origin, **more}
        model = lock.components["model"]
        artefacts = tuple(
            each.model_copy(update={"origin": origins.get(each.path, each.origin)})
            for each in model.artefacts
        )
        components = {**lock.components, "model": model.model_copy(update={"artefacts": artefacts})}
        return lock.model_copy(update={"components": components})

    def bundle(self, lock: Lock, **options: int) -> Path:
        return self.maker.sign(self.maker.write("signed", self.root, lock, **options), "alice", "bob")

    def verify(self, bundle: Path) -> VerifiedBundle:
        return verify_bundle(bundle, root_bytes(self.root), progress=Silent())

    def refused(self, lock: Lock, match: str) -> None:
        bundle = self.bundle(lock)
        with pytest.raises(UpstreamSignatureInvalid) as caught:
            self.verify(bundle)
        assert re.search(match, caught.value.message), caught.value.message
        with pytest.raises(UpstreamSignatureInvalid):
            inspect_bundle(bundle, trusted=None, progress=Silent())


@pytest.fixture
def case(maker: BundleMaker, two_of_three: Root) -> Case:
    return Case(maker, two_of_three)


def test_it_is_checked_again_by_what_the_bundle_holds(case: Case) -> None:
    (found,) = case.verify(case.bundle(case.lock())).upstream
    assert (found.path, found.component) == ("payload/model/model.sig", "model")
    assert found.judged.signed_by == MAKER.fingerprint
    assert found.judged.coverage is not None
    assert found.judged.coverage.covered == 2


def test_a_bundle_without_one_is_as_before(bundle: Path, case: Case) -> None:
    assert case.verify(bundle).upstream == ()


def test_of_a_cut_file_the_whole_file_s_digest_is_compared(case: Case) -> None:
    bundle = case.bundle(case.lock(), slice_size=4 << 20)
    assert (bundle / "payload/model/tiny.gguf.slice-0002").exists()
    assert case.verify(bundle).upstream[0].judged.signed_by


def test_in_a_manifest_that_is_read_in_pieces(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    bundle = case.bundle(case.lock())
    monkeypatch.setattr(reader, "LARGE", 100)
    verified = case.verify(bundle)
    assert type(verified.manifest.components["model"].files).__name__ == "FilesOnMedium"
    assert verified.upstream[0].judged.signed_by == MAKER.fingerprint


def test_it_counts_for_no_threshold(maker: BundleMaker, case: Case) -> None:
    bundle = maker.sign(maker.write("one", case.root, case.lock()), "alice")
    with pytest.raises(ThresholdNotMet):
        case.verify(bundle)


CHANGED = {**FILES, "config.json": b"[]"}
CONTRADICTIONS: dict[str, tuple[dict[str, object], str]] = {
    "another file": ({"files": CHANGED}, "not the ones that the model's makers signed"),
    "an added file": ({"files": {**FILES, "more.json": b""}}, "did not sign"),
    "a missing file": (
        {"files": {"tiny.gguf": FILES["tiny.gguf"]}},
        "otherwise of the signature at left_out",
    ),
    "another maker's": ({"signature": Maker().sign(FILES)}, "another key than the one"),
    "no signature": ({"signature": b"{}"}, "keys are missing"),
    "another fingerprint": ({"origin": ORIGIN | {"signed_by": "0" * 64}}, "at signed_by"),
    "a fingerprint alone": ({"origin": {"kind": "x", "signed_by": MAKER.fingerprint}}, "at signature"),
    "another way to sign": ({"origin": ORIGIN | {"signature": "certificate"}}, "at signature"),
    "left out, but there": ({"origin": ORIGIN | {"left_out": "1"}}, "at left_out"),
    "no usable key": ({"origin": ORIGIN | {"key": "AAAA"}}, "no usable key"),
    "two signatures": ({"config.json": ORIGIN}, "several signatures"),
    "a large one": ({"signature": SIGNATURE + b" " * (8 << 20)}, "too large for a signature"),
}


@pytest.mark.parametrize("name", CONTRADICTIONS)
def test_a_contradiction_refuses_the_bundle_though_its_holders_signed_it(name: str, case: Case) -> None:
    changes, match = CONTRADICTIONS[name]
    lock = case.lock(**changes)  # type: ignore[arg-type] # of several types
    case.refused(lock, match)


def test_one_without_a_key_is_never_called_good(case: Case) -> None:
    (found,) = case.verify(case.bundle(case.lock(CHANGED, {"kind": "x", "signature": "key"}))).upstream
    assert found.judged.signed_by is None
    assert found.text == "model/model.sig: NOT CHECKED: no key was named to check it with"
    assert found.values["checked"] is False


def test_a_signature_that_is_damaged_is_damage(case: Case) -> None:
    bundle = case.bundle(case.lock())
    place = bundle / "payload/model/model.sig"
    place.write_bytes(SIGNATURE[:-1] + b" ")
    with pytest.raises(DigestMismatch):
        case.verify(bundle)


def test_the_page_for_review_shows_it(case: Case) -> None:
    bundle = case.bundle(case.lock())
    seen = inspect_bundle(bundle, trusted=root_bytes(case.root), progress=Silent())
    page = render(seen, None, files=False)
    assert f"2 files are signed by key {MAKER.fingerprint}" in page
    claimed = render(inspect_bundle(bundle, trusted=None, progress=Silent()), None, files=False)
    assert 'Signature by a model\'s makers: <span class="bad">NOT VERIFIED</span>' in claimed


def test_another_key_than_in_the_bundle_before_is_shown(case: Case, maker: BundleMaker) -> None:
    """The files may be the same to the byte."""
    other = Maker()
    signature, key = other.sign(FILES), parse_pem(other.pem)
    origin = {"kind": "x"} | origin_of(judge(signature, key, digests(FILES).items(), "model.sig"), key)
    seen = [
        inspect_bundle(maker.write(name, case.root, lock), trusted=None, progress=Silent())
        for name, lock in {
            "none": maker.lock(),
            "old": case.lock(),
            "new": case.lock(FILES, origin, signature),
        }.items()
    ]
    facts = {fact.name: fact for fact in compare(seen[1], seen[2]).facts}
    assert facts["makers"].old == f"model: key {MAKER.fingerprint}"
    assert facts["makers"].new == f"model: key {other.fingerprint}"
    facts = {fact.name: fact for fact in compare(seen[1], seen[0]).facts}
    assert facts["makers"].new == "no signature by makers"


def test_long_lists_are_shortened_for_people_and_whole_in_json(case: Case) -> None:
    left_out = {f"doc/{number}.md": b"" for number in range(9)}
    signature = MAKER.sign(FILES, ("doc",))
    (found,) = case.verify(case.bundle(case.lock({**FILES, **left_out}, ORIGIN, signature))).upstream
    assert found.text.endswith("not covered: doc/0.md, doc/1.md, doc/2.md, doc/3.md and 5 others")
    assert found.values["uncovered"] == sorted(left_out)
    assert json.dumps(found.values)
    assert hashlib.sha256(KEY.der).hexdigest() in found.text
