"""A transcript: whatever is done to it afterwards is found, and the line named."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from appliance.errors import TranscriptInvalid
from appliance.trust.canonical import canonical_bytes
from appliance.trust.founding import compose
from appliance.trust.sshsig import signature_file, signed_data
from appliance.trust.transcript import (
    CLOSE,
    NAMESPACE,
    Entry,
    entry_bytes,
    line_before,
    line_bytes,
    read_transcript,
)
from tests.unit.trust.people import Person

if TYPE_CHECKING:
    from collections.abc import Callable

ALICE, BOB, MALLORY = Person("alice"), Person("bob"), Person("mallory")
ROOT = compose([*ALICE.enrolled(), *BOB.enrolled()])
FILES = (("root.1.json", "1" * 64),)


def sign(person: Person, entry: Entry, space: str = NAMESPACE) -> bytes:
    value = person._first.sign(signed_data(entry_bytes(entry), space))  # type: ignore[call-arg] # Ed25519
    return signature_file(person.key, space, value)


def written(*steps: tuple[str, Person | None]) -> bytes:
    data = b""
    for number, (command, person) in enumerate(steps, 1):
        entry = Entry(
            number,
            line_before(data),
            command,
            FILES,
            (),
            person.name if person else None,
            "said" * (number == 1) or None,
        )
        data += line_bytes(entry, sign(person, entry) if person else None)
    return data


STEPS = (("init", None), ("sign", ALICE), ("sign", BOB), ("assemble", None), (CLOSE, ALICE))
GOOD = written(*STEPS)
LINES = GOOD.splitlines(keepends=True)


def test_a_whole_transcript() -> None:
    transcript = read_transcript(GOOD, [ROOT])
    transcript.require_closed()
    assert [line.entry.command for line in transcript.lines] == [step[0] for step in STEPS]
    assert transcript.closed_by == ("alice",)
    assert transcript.lines[1].fingerprint == ALICE.key.fingerprint
    assert transcript.lines[0].fingerprint is None


def test_several_may_close_it() -> None:
    transcript = read_transcript(written(*STEPS, (CLOSE, BOB)), [ROOT])
    assert transcript.closed_by == ("alice", "bob")


def test_an_open_one_says_so() -> None:
    transcript = read_transcript(b"".join(LINES[:-1]))
    with pytest.raises(TranscriptInvalid, match="not closed"):
        transcript.require_closed()


def changed(number: int, change: Callable[[dict[str, object]], None]) -> bytes:
    value = json.loads(LINES[number])
    change(value)
    return canonical_bytes(value) + b"\n"


def _entry(key: str, value: object) -> Callable[[dict[str, object]], None]:
    def change(line: dict[str, object]) -> None:
        line["entry"][key] = value  # type: ignore[index] # known to be a dict

    return change


WRONG: dict[str, tuple[bytes, str]] = {
    "empty": (b"", "line 1"),
    "the last line cut in two": (GOOD[:-20], "line 5"),
    "its first line gone": (b"".join(LINES[1:]), "line 1: a line is missing or moved"),
    "a line in the middle gone": (b"".join([*LINES[:2], *LINES[3:]]), "line 3: a line is missing or moved"),
    "two lines exchanged": (b"".join([LINES[0], LINES[2], LINES[1], *LINES[3:]]), "line 2"),
    "a line twice": (b"".join([*LINES[:2], LINES[1], *LINES[2:]]), "line 3"),
    "an unsigned line altered": (changed(0, _entry("command", "rotate")) + b"".join(LINES[1:]), "line 2"),
    "a digest in an unsigned line altered": (
        b"".join([*LINES[:3], changed(3, _entry("in", [{"name": "x", "sha256": "2" * 64}])), LINES[4]]),
        "line 5",
    ),
    "a signed line altered": (
        b"".join([LINES[0], changed(1, _entry("note", "other")), *LINES[2:]]),
        "line 2: the signature does not verify",
    ),
    "a signature removed": (
        b"".join([LINES[0], changed(1, lambda line: line.pop("signature")), *LINES[2:]]),
        "line 3",
    ),
    "the closing signature removed": (
        b"".join([*LINES[:4], changed(4, lambda line: line.pop("signature"))]),
        "line 5: the transcript is closed without a signature",
    ),
    "gone on after the end": (written(*STEPS, ("sign", BOB)), "line 6: the transcript goes on"),
    "a key more": (changed(0, lambda line: line.update(extra=1)) + b"".join(LINES[1:]), "line 1"),
    "other white space": (LINES[0].replace(b":", b": ", 1) + b"".join(LINES[1:]), "line 1"),
    "an empty line": (LINES[0] + b"\n" + b"".join(LINES[1:]), "line 2"),
    "closed by a stranger": (b"".join(LINES[:4]) + b"", "not closed"),
    "another format": (changed(0, _entry("format", 2)) + b"".join(LINES[1:]), "line 1"),
    "a number for a signature": (
        changed(0, lambda line: line.update(signature=1)) + b"".join(LINES[1:]),
        "line 1",
    ),
}


@pytest.mark.parametrize(("data", "told"), WRONG.values(), ids=WRONG)
def test_whatever_was_altered_is_found(data: bytes, told: str) -> None:
    with pytest.raises(TranscriptInvalid) as caught:
        read_transcript(data, [ROOT]).require_closed()
    assert told in caught.value.message


def _ended_by(person: Person, holder: str, space: str = NAMESPACE) -> bytes:
    before = b"".join(LINES[:4])
    entry = Entry(5, line_before(before), CLOSE, (), (), holder)
    return before + line_bytes(entry, sign(person, entry, space))


def test_cut_and_closed_again_by_a_stranger() -> None:
    """Nothing but a root, or the fingerprint on paper, tells it from the right one."""
    forged = _ended_by(MALLORY, "alice")
    read_transcript(forged).require_closed()
    with pytest.raises(TranscriptInvalid, match="no root that was given enrols"):
        read_transcript(forged, [ROOT])
    assert read_transcript(forged).digest != read_transcript(GOOD).digest


def test_a_line_under_another_s_name() -> None:
    with pytest.raises(TranscriptInvalid, match="another holder"):
        read_transcript(_ended_by(BOB, "alice"), [ROOT])


def test_a_signature_for_a_role_is_none_for_a_transcript() -> None:
    with pytest.raises(TranscriptInvalid, match="another role"):
        read_transcript(_ended_by(ALICE, "alice", "root@appliance"), [ROOT])


def test_an_old_root_s_keys_count_where_it_is_given() -> None:
    renewed = replace(ROOT, keys={key: each for key, each in ROOT.keys.items() if each.holder != "alice"})
    read_transcript(GOOD, [renewed, ROOT])
    with pytest.raises(TranscriptInvalid, match="line 2"):
        read_transcript(GOOD, [renewed])
