"""Provenance under the profile cnsa: what lies in the bundle has two digests, what it was made from one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from appliance.bundle.list_kind import SHA384
from appliance.errors import ProvenanceInvalid
from appliance.progress import Silent
from appliance.trust.root import root_bytes
from tests.cnsa import PEOPLE
from tests.corpus.groups import cases
from tests.corpus.test_provenance import state, statement
from tests.independent.agreement import verify_bundle

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from appliance.trust.root import Root
    from tests.conftest import Holders

pytestmark = pytest.mark.group(8)

A = "a" * 96


def _subject(said: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = said["subject"][0]["digest"]
    return found


def _manifest(said: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = said["predicate"]["runDetails"]["byproducts"][0]["digest"]
    return found


def _lock(said: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = said["predicate"]["buildDefinition"]["resolvedDependencies"][1]["digest"]
    return found


STATED: dict[str, Callable[[dict[str, Any]], object]] = {
    "the list without the second digest": lambda said: _subject(said).pop("sha384"),
    "the list without the first digest": lambda said: _subject(said).pop("sha256"),
    "another second digest of the list": lambda said: _subject(said).update(sha384=A),
    "the manifest without the second digest": lambda said: _manifest(said).pop("sha384"),
    "another second digest of the manifest": lambda said: _manifest(said).update(sha384=A),
    "a second digest of the lock": lambda said: _lock(said).update(sha384=A),
    "a third digest": lambda said: _subject(said).update(sha512="a" * 128),
    "the signed list instead": lambda said: said["subject"][0].update(name=SHA384.path),
    "both lists": lambda said: said["subject"].append({"name": SHA384.path, "digest": {"sha384": A}}),
}


@pytest.mark.parametrize("change", cases(8, STATED))
def test_provenance_that_says_otherwise(
    change: Callable[[dict[str, Any]], object], cnsa_bundle: Path, cnsa_root: Root, cnsa_holders: Holders
) -> None:
    """Signed by dora herself, with the key of her signature over the list."""
    said = statement(cnsa_bundle)
    change(said)
    state(cnsa_bundle, cnsa_holders, said, "dora")
    with pytest.raises(ProvenanceInvalid):
        verify_bundle(cnsa_bundle, root_bytes(cnsa_root), progress=Silent())


@pytest.mark.control
def test_provenance_that_says_the_same(cnsa_bundle: Path, cnsa_root: Root, cnsa_holders: Holders) -> None:
    state(cnsa_bundle, cnsa_holders, statement(cnsa_bundle), "dora")
    assert verify_bundle(cnsa_bundle, root_bytes(cnsa_root), progress=Silent()).provenance == PEOPLE
