"""The label of a volume: one spelling, and nothing in it that could not be."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from appliance.bundle.media.label import (
    VolumeLabel,
    VolumeShare,
    label_bytes,
    parse_label,
    volume_folder_name,
)
from appliance.errors import LabelInvalid
from appliance.trust.canonical import canonical_bytes

DIGEST = "0123456789ab" + "c" * 52
LABEL = VolumeLabel(
    bundle=DIGEST,
    product="demo",
    version="1.0.0",
    number=2,
    volumes=(
        VolumeShare(size=5, files=2, first="payload/a/one", last="payload/a/two"),
        VolumeShare(size=0, files=1, first="parity/set-0000.par2", last="parity/set-0000.par2"),
    ),
)


def test_what_is_written_is_read_back() -> None:
    assert parse_label(label_bytes(LABEL)) == LABEL


def test_the_label_is_the_canonical_json_of_the_format() -> None:
    assert json.loads(label_bytes(LABEL)) == {
        "format": 1,
        "bundle": DIGEST,
        "product": "demo",
        "version": "1.0.0",
        "number": 2,
        "volumes": [
            {"bytes": 5, "files": 2, "first": "payload/a/one", "last": "payload/a/two"},
            {"bytes": 0, "files": 1, "first": "parity/set-0000.par2", "last": "parity/set-0000.par2"},
        ],
    }


def test_a_label_knows_its_share_and_its_folder() -> None:
    assert LABEL.share.first == "parity/set-0000.par2"
    assert LABEL.folder_name == "demo-1.0.0.0123456789ab" == volume_folder_name("demo", "1.0.0", DIGEST)


Edit = Callable[[dict[str, Any]], object]


def _share(**changes: object) -> Edit:
    return lambda label: label["volumes"][0].update(changes)


WRONG: dict[str, tuple[Edit, str]] = {
    "another format": (lambda label: label.update(format=2), "another format"),
    "an unknown key": (lambda label: label.update(more=1), "unknown keys"),
    "a missing key": (lambda label: label.pop("product"), "keys are missing"),
    "a short digest": (lambda label: label.update(bundle=DIGEST[:40]), "bundle is misspelled"),
    "a product that is a path": (lambda label: label.update(product="../x"), "product is misspelled"),
    "a version that is a path": (lambda label: label.update(version="1/2"), "version is misspelled"),
    "volume 0": (lambda label: label.update(number=0), "number is out of range"),
    "a volume beyond the last": (lambda label: label.update(number=3), "number is out of range"),
    "no volumes": (lambda label: label.update(volumes=[]), "a wrong number of volumes"),
    "too many volumes": (lambda label: label.update(volumes=label["volumes"] * 500), "a wrong number"),
    "volumes that are no list": (lambda label: label.update(volumes={}), "volumes is not a list"),
    "an empty share": (_share(files=0), "files is out of range"),
    "a negative size": (_share(bytes=-1), "bytes is out of range"),
    "a share with more": (_share(more=1), "unknown keys"),
    "a path that leaves": (_share(first="payload/../../etc/passwd"), "first: the path"),
    "a root file": (_share(first="manifest.json"), "no file of a share"),
    "two ends of one file": (_share(files=1), "contradict each other"),
    "one end of two files": (_share(last="payload/a/one"), "contradict each other"),
}


@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_label_is_refused(name: str) -> None:
    edit, message = WRONG[name]
    value = json.loads(label_bytes(LABEL))
    edit(value)
    with pytest.raises(LabelInvalid, match=message):
        parse_label(canonical_bytes(value))


@pytest.mark.parametrize(
    "data", [b"", b"\xff", b"[]", b"{", label_bytes(LABEL) + b"\n", b" " * (3 << 20)], ids=range(6)
)
def test_bytes_that_are_no_label_are_refused(data: bytes) -> None:
    with pytest.raises(LabelInvalid):
        parse_label(data)


def test_volumes_may_differ_only_in_number() -> None:
    first = parse_label(label_bytes(replace(LABEL, number=1)))
    assert first.share.last == "payload/a/two"
    assert first.volumes == LABEL.volumes
