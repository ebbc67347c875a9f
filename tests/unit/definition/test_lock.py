"""Locks: what is written can be read again, and nothing else can."""

from __future__ import annotations

import json

import pytest

from appliance.definition.lock import Artefact, Lock, LockedComponent, lock_text, parse_lock
from appliance.definition.names import Inference, Target
from appliance.errors import LockInvalid


def artefact(path: str = "tiny.gguf", **changes: object) -> Artefact:
    values = {
        "path": path,
        "name": path,
        "version": "1",
        "size": 3,
        "sha256": "ab" * 32,
        "licence": "CC0-1.0",
        "origin": {"kind": "file"},
    }
    return Artefact.model_validate({**values, **changes})


LOCK = Lock(
    format=1,
    definition="cd" * 32,
    product="demo",
    version="1.0.0",
    sequence=1,
    created="2026-01-01T00:00:00Z",
    target=Target(distribution="debian", suite="trixie", architecture="amd64", python="3.13"),
    inference=Inference(engine="engine", model="model", file="tiny.gguf", name="demo"),
    components={
        "model": LockedComponent(kind="tiny-gguf", artefacts=(artefact(licence="Ünï"),)),
        "system": LockedComponent(kind="debian", packages=("b",), artefacts=(artefact("a"), artefact("b"))),
    },
)


def test_a_lock_is_read_as_it_was_written() -> None:
    assert parse_lock(lock_text(LOCK)) == LOCK


def test_the_text_is_sorted_indented_and_ends_with_a_line_feed() -> None:
    text = lock_text(LOCK)
    assert text == json.dumps(json.loads(text), indent=2, sort_keys=True, ensure_ascii=False) + "\n"
    assert '"licence": "Ünï"' in text


def test_packages_stand_only_where_there_are_some() -> None:
    components = json.loads(lock_text(LOCK))["components"]
    assert components["system"]["packages"] == ["b"]
    assert "packages" not in components["model"]


def test_size_is_that_of_all_artefacts() -> None:
    assert LOCK.size == 9


def changed(**changes: object) -> str:
    return json.dumps({**json.loads(lock_text(LOCK)), **changes})


def with_artefacts(*artefacts: object) -> str:
    return changed(components={"model": {"kind": "tiny-gguf", "artefacts": list(artefacts)}})


FILE = artefact().model_dump()

WRONG = {
    "not JSON": ("{", "not JSON"),
    "nothing": ("", "not JSON"),
    "a list": ("[]", "wrong at"),
    "a key twice": ('{"format": 1, "format": 1}', "malformed"),
    "endless nesting": ("[" * 100_000, "not JSON"),
    "too large": (" " * (64 * 1024 * 1024 + 1), "too large"),
    "not a number": (lock_text(LOCK).replace('"size": 3', '"size": NaN', 1), "artefacts.0.size"),
    "another format": (changed(format=2), "wrong at format"),
    "an unknown key": (changed(mirror="x"), "wrong at mirror"),
    "a missing key": (changed(target=None), "wrong at target"),
    "a time with a zone": (changed(created="2026-01-01T00:00:00+01:00"), "wrong at"),
    "a time with fractions": (changed(created="2026-01-01T00:00:00.5Z"), "wrong at"),
    "a time that never was": (changed(created="2026-02-30T00:00:00Z"), "wrong at"),
    "a digest too short": (changed(definition="ab"), "wrong at definition"),
    "a component name that leaves": (changed(components={"../x": {}}), "wrong at components"),
    "unsorted": (with_artefacts({**FILE, "path": "b"}, {**FILE, "path": "a"}), "wrong at components.model"),
    "a path twice": (with_artefacts(FILE, FILE), "wrong at components.model"),
    "a path that leaves": (with_artefacts({**FILE, "path": "../x"}), "artefacts.0.path"),
    "an absolute path": (with_artefacts({**FILE, "path": "/x"}), "artefacts.0.path"),
    "a negative size": (with_artefacts({**FILE, "size": -1}), "artefacts.0.size"),
    "a size as text": (with_artefacts({**FILE, "size": "3"}), "artefacts.0.size"),
    "no licence": (with_artefacts({**FILE, "licence": ""}), "artefacts.0.licence"),
    "an address as origin": (
        with_artefacts({**FILE, "origin": {"kind": "python", "url": "https://mirror.example/x"}}),
        "artefacts.0.origin",
    ),
}


@pytest.mark.parametrize("case", WRONG)
def test_a_wrong_lock_is_refused(case: str) -> None:
    text, message = WRONG[case]
    with pytest.raises(LockInvalid) as caught:
        parse_lock(text)
    assert message in caught.value.message
    assert caught.value.exit_code == 3
    assert "lock the definition again" in caught.value.hint
