"""What inspecting finds out, beyond what the commands' tests show."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from appliance.bundle.inspection import Identifiers, inspect_bundle
from appliance.bundle.origins import NAMES, OWN, origin_text
from appliance.bundle.paths import SBOM_PATH
from appliance.bundle.sbom.document import add_sbom
from appliance.bundle.signing_keys import open_key
from appliance.bundle.writer import write_bundle
from appliance.errors import BundleMalformed, ProvenanceInvalid
from appliance.progress import Silent
from appliance.trust.canonical import canonical_bytes
from appliance.trust.dsse import Envelope, envelope_bytes, parse_envelope, pre_authentication_encoding
from appliance.trust.root import root_bytes

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from appliance.bundle.inspection import Inspection
    from appliance.bundle.manifest import ListedFile, Manifest
    from appliance.progress import Progress
    from appliance.trust.root import Root
    from tests.conftest import BundleMaker, Holders


def inspect(folder: Path, trusted: bytes | None = None) -> Inspection:
    return inspect_bundle(folder, trusted=trusted, progress=Silent())


@pytest.fixture
def with_sbom(maker: BundleMaker, two_of_three: Root) -> Path:
    folder = write_bundle(
        maker.folder / "with-sbom",
        maker.lock(),
        maker.store(),
        root=root_bytes(two_of_three),
        progress=Silent(),
        companions=[add_sbom],
    )
    return maker.sign(folder, "alice", "bob")


def test_facts_of_the_bill_of_materials(with_sbom: Path) -> None:
    seen = inspect(with_sbom)
    assert seen.sbom
    assert seen.sbom.specification == "1.7"
    assert seen.sbom.components == len(seen.packages)
    digest = hashlib.sha256(b"GGUF" * 1000).hexdigest()
    assert seen.sbom.identifiers["payload/model:file"] == Identifiers(
        f"pkg:generic/tiny.gguf@1.0?checksum=sha256:{digest}"
    )


def test_a_bundle_without_one(bundle: Path) -> None:
    assert inspect(bundle).sbom is None


@pytest.mark.parametrize(
    "change",
    [
        lambda _: b"",
        lambda _: b"[]",
        lambda document: json.dumps(document, indent=1).encode(),
        lambda _: b"[" * 100_000,
        lambda document: canonical_bytes({**document, "components": 5}),
        lambda document: canonical_bytes({**document, "components": [1]}),
        lambda document: canonical_bytes({**document, "components": [{}]}),
        lambda _: canonical_bytes({"specVersion": "1.7"}),
        lambda document: canonical_bytes({**document, "serialNumber": "\x1b[2J"}),
        lambda document: canonical_bytes(
            {**document, "components": [{"bom-ref": "x", "purl": "pkg:\u202e"}]}
        ),
        lambda document: canonical_bytes({**document, "components": [{"bom-ref": "x", "cpe": {}}]}),
    ],
)
def test_a_bill_of_materials_that_is_none(
    change: Callable[[dict[str, object]], bytes], maker: BundleMaker
) -> None:
    """Listed and signed, and not to be shown: its text reaches terminals and pages."""

    def add_other(folder: Path, manifest: Manifest, progress: Progress) -> Mapping[str, ListedFile]:
        made = add_sbom(folder, manifest, progress)
        data = change(json.loads((folder / SBOM_PATH).read_bytes()))
        (folder / SBOM_PATH).write_bytes(data)
        return {
            SBOM_PATH: replace(made[SBOM_PATH], sha256=hashlib.sha256(data).hexdigest(), size=len(data))
        }

    folder = write_bundle(
        maker.folder / "bundle",
        maker.lock(),
        maker.store(),
        root=None,
        progress=Silent(),
        companions=[add_other],
    )
    with pytest.raises(BundleMalformed, match="not a bill of materials") as caught:
        inspect(folder)
    assert caught.value.found is None or caught.value.found.isprintable()


def test_provenance_is_seen_and_what_it_contradicts(bundle: Path, holders: Holders) -> None:
    assert [one.provenance for one in inspect(bundle).signatures] == [True, True]
    (bundle / "trust/provenance.bob.dsse.json").unlink()
    assert [one.provenance for one in inspect(bundle).signatures] == [True, None]
    path = bundle / "trust/provenance.alice.dsse.json"
    said = b'{"other":1}'
    raw = open_key(holders.key("alice")).sign_raw(pre_authentication_encoding(said))
    assert raw
    path.write_bytes(envelope_bytes(Envelope(said, parse_envelope(path.read_bytes()).keyid, raw)))
    assert [one.provenance for one in inspect(bundle).signatures] == [False, None]
    path.write_bytes(b"{}")
    with pytest.raises(ProvenanceInvalid):
        inspect(bundle)


def test_how_far_it_was_verified(bundle: Path, two_of_three: Root, holders: Holders) -> None:
    root = root_bytes(two_of_three)
    assert (inspect(bundle).verified, inspect(bundle).signed) == (False, False)
    seen = inspect(bundle, root)
    assert (seen.verified, seen.signed) == (True, True)
    assert seen.judged_by == two_of_three.fingerprint
    (bundle / "payload/model/tiny.gguf").write_bytes(b"x" * 4000)
    glance = inspect_bundle(bundle, trusted=root, progress=Silent(), every_byte=False)
    assert (glance.verified, glance.signed) == (False, True)
    other = root_bytes(holders.root("alice", "carol"))
    stranger = inspect_bundle(bundle, trusted=other, progress=Silent(), every_byte=False)
    assert (stranger.verified, stranger.signed) == (False, False)


def test_whose_rule_counts(bundle: Path, two_of_three: Root, holders: Holders) -> None:
    """The trusted root's; that in the bundle is shown only where none is trusted."""
    assert inspect(bundle).authority == two_of_three
    assert inspect(bundle).trusted is None
    other = holders.root("alice", "carol")
    glance = inspect_bundle(bundle, trusted=root_bytes(other), progress=Silent(), every_byte=False)
    assert glance.authority == other
    assert glance.root == two_of_three


def test_an_origin_in_a_line() -> None:
    origin = {
        "kind": "debian",
        "suite": "trixie",
        "package": "bash",
        "source_version": "5",
        "upstream": "x",
    }
    assert origin_text(origin) == "debian: package bash, source version 5, suite trixie"
    assert origin_text(origin, without=NAMES) == "debian: source version 5, suite trixie"
    assert origin_text(origin, without=OWN) == "debian: suite trixie"
    assert origin_text({"kind": "huggingface", "gated": "manual"}) == "huggingface: gated manual"
    assert origin_text({"kind": "file"}) == "file"
