"""A lock that is kept as it was read is the one that is read as a whole; what differs is refused alike."""

from __future__ import annotations

import hashlib
import json
import random
from typing import TYPE_CHECKING

import pytest

from appliance.definition import lock_records
from appliance.definition.lock import (
    Artefact,
    Lock,
    LockedComponent,
    lock_digest,
    lock_text,
    parse_lock,
    read_lock_bytes,
)
from appliance.definition.lock_records import StoredArtefacts, brief
from appliance.definition.names import Inference, Target
from appliance.errors import LockInvalid

if TYPE_CHECKING:
    from collections.abc import Sequence


def artefact(path: str, **other: object) -> Artefact:
    values = {
        "path": path,
        "name": "name",
        "version": "1",
        "size": 7,
        "sha256": hashlib.sha256(path.encode()).hexdigest(),
        "licence": "CC0-1.0",
        "origin": {"kind": "file"},
    }
    return Artefact.model_validate({**values, **other})


#: All that a record may look like: several origins, texts that JSON escapes or that are not ASCII.
ARTEFACTS = (
    artefact("a"),
    artefact("b", size=0),
    artefact("b.c", licence='a "quoted": text'),
    artefact("b/c", origin={"kind": "debian", "suite": "trixie", "package": "x"}),
    artefact("b/d", origin={"kind": "debian", "suite": "trixie", "package": "y"}, name="two  spaces"),
    artefact("c", origin={"kind": "debian", "suite": "", "package": "z"}),
    artefact("d", origin={}),
    artefact("e", licence="Çelik-Lizenz"),
    artefact("f", version="back\\slash"),
    artefact("g", size=2**53 - 1),
    artefact("h/" + "x" * 300),
)


def lock_of(**components: Sequence[Artefact]) -> Lock:
    return Lock(
        format=1,
        definition="0" * 64,
        product="demo",
        version="1.0.0",
        sequence=1,
        created="2026-01-31T12:00:00Z",
        target=Target(distribution="debian", suite="trixie", architecture="amd64", python="3.13"),
        inference=Inference(engine="e", model="m", file="a", name="demo"),
        components={
            name: LockedComponent(kind="files", artefacts=tuple(each)) for name, each in components.items()
        },
        parity=5,
    )


LOCK = lock_of(e=ARTEFACTS[:2], empty=(), m=ARTEFACTS)


@pytest.mark.parametrize("short", [0, 1 << 20], ids=["compressed", "as it is"])
@pytest.mark.parametrize("together", [1, 4, 512])
def test_a_lock_is_read_as_a_whole_one_is_and_kept_as_it_stands(
    short: int, together: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lock_records, "_SHORT", short)
    monkeypatch.setattr(lock_records, "_TOGETHER", together)
    text = lock_text(LOCK)
    read = read_lock_bytes(text.encode())
    assert read == parse_lock(text) == LOCK
    assert isinstance(read.components["m"].artefacts, StoredArtefacts)
    assert read.components["empty"].artefacts == ()
    assert tuple(read.components["m"].artefacts) == ARTEFACTS
    assert [read.components["m"].artefacts[number] for number in (3, -1)] == [ARTEFACTS[3], ARTEFACTS[-1]]
    assert read.components["m"].artefacts[2:4] == list(ARTEFACTS[2:4])
    assert list(brief(read.components["m"].artefacts)) == list(brief(ARTEFACTS))
    for first in range(len(ARTEFACTS)):
        for last in range(first, len(ARTEFACTS) + 1):
            some = list(brief(read.components["m"].artefacts, first, last))
            assert some == list(brief(ARTEFACTS, first, last)) == list(brief(ARTEFACTS))[first:last]
    assert lock_text(read) == text
    assert lock_digest(read) == lock_digest(LOCK) == hashlib.sha256(text.encode()).hexdigest()
    assert read.size == LOCK.size


def test_records_that_take_much_room_are_compressed(monkeypatch: pytest.MonkeyPatch) -> None:
    lock = lock_of(m=[artefact(f"{number:04}") for number in range(1000)])
    data = lock_text(lock).encode()
    room = []
    for short in (0, 1 << 20):
        monkeypatch.setattr(lock_records, "_SHORT", short)
        artefacts = read_lock_bytes(data).components["m"].artefacts
        assert isinstance(artefacts, StoredArtefacts)
        room.append(sum(map(len, artefacts._portions)))
    assert room[0] < room[1] / 3


def test_a_change_of_what_was_read_is_in_the_text() -> None:
    """What is stored is the artefacts, not the lock around them."""
    read = read_lock_bytes(lock_text(LOCK).encode()).model_copy(update={"version": "2"})
    assert lock_text(read) == lock_text(LOCK.model_copy(update={"version": "2"}))


def test_another_spelling_is_read_too() -> None:
    compact = json.dumps(json.loads(lock_text(LOCK)))
    read = read_lock_bytes(compact.encode())
    assert read == LOCK
    assert isinstance(read.components["m"].artefacts, tuple)


def outcome(data: bytes, *, whole: bool) -> object:
    """The lock, or what is said against it."""
    try:
        return parse_lock(data.decode()) if whole else read_lock_bytes(data)
    except LockInvalid as fault:
        return fault.message, fault.found, fault.wanted, fault.hint
    except UnicodeDecodeError:
        return "not UTF-8"


@pytest.mark.parametrize("seed", range(8))
def test_whatever_is_changed_both_readers_say_the_same(seed: int) -> None:
    """Every byte, in turn, replaced, removed or doubled."""
    chance = random.Random(seed)  # noqa: S311 - the same in every run
    data = lock_text(lock_of(m=ARTEFACTS[:5])).encode()
    for place in range(seed, len(data), 8):
        other = bytes([chance.choice(b'"\\{}[],:. \n/0aZ\x00\x7f\xc3')])
        for changed in (
            data[:place] + other + data[place + 1 :],
            data[:place] + data[place + 1 :],
            data[:place] + data[place : place + 1] + data[place:],
        ):
            assert outcome(changed, whole=False) == outcome(changed, whole=True)


@pytest.mark.parametrize(
    "wrong",
    {
        "order": lambda text: swap(text, '"path": "a"', '"path": "b"'),
        "twice": lambda text: text.replace('"path": "b"', '"path": "a"'),
        "upwards": lambda text: text.replace('"path": "b/c"', '"path": "b/.."'),
        "too long": lambda text: text.replace("x" * 300, "x" * 500),
        "a list in the wrong place": lambda text: text.replace(
            '"inference": {', '"inference": {\n      "artefacts": [\n'
        ),
        "a component twice": lambda text: text.replace('"empty": {', '"m": {'),
        "more behind it": lambda text: text + text,
        "cut short": lambda text: text[:-3],
        "an unknown origin": lambda text: text.replace('"kind": "file"', '"address": "file"'),
    }.values(),
)
def test_what_is_wrong_is_said_by_the_reader_of_the_whole(wrong: object) -> None:
    data = wrong(lock_text(LOCK)).encode()  # type: ignore[operator] # of str, all of them
    assert data != lock_text(LOCK).encode()
    with pytest.raises(LockInvalid) as caught:
        read_lock_bytes(data)
    with pytest.raises(LockInvalid) as expected:
        parse_lock(data.decode())
    assert (caught.value.message, caught.value.found) == (expected.value.message, expected.value.found)


def swap(text: str, one: str, other: str) -> str:
    return text.replace(one, "\0", 1).replace(other, one, 1).replace("\0", other, 1)


def test_records_that_are_alike_are_not_validated_one_by_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """That is what makes it quick: two kinds of origin, two that are read strictly."""
    many = [artefact(f"{number:05d}") for number in range(1000)]
    many += [
        artefact(f"x{number:05d}", origin={"kind": "python", "project": "p"}) for number in range(1000)
    ]
    data = lock_text(lock_of(m=many)).encode()
    strictly = []
    real = Artefact.model_validate_json
    monkeypatch.setattr(
        Artefact, "model_validate_json", lambda text, **how: strictly.append(text) or real(text, **how)
    )
    assert len(read_lock_bytes(data).components["m"].artefacts) == 2000
    assert len(strictly) == 2
