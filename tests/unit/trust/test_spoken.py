"""What is read aloud and typed: every slip of a digit or two is found, and named by its line."""

from __future__ import annotations

from itertools import combinations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from appliance.errors import TranscriptionFailed, Usage
from appliance.trust.spoken import ALPHABET, MAX_BYTES, _check, compact_parts, read_spoken, spoken_lines

NAME = "permit.0123456789abcdef.json"
DATA = bytes(range(100))


def typed(lines: list[str]) -> str:
    return "\n".join(lines)


@given(data=st.binary(min_size=1, max_size=400))
@settings(max_examples=100, deadline=None)
def test_what_is_shown_is_read_back(data: bytes) -> None:
    lines = spoken_lines(NAME, data)
    assert read_spoken(typed(lines)) == (NAME, data)
    assert read_spoken("\n".join(compact_parts(lines, 200))) == (NAME, data)


def test_the_largest_file() -> None:
    data = bytes(number * number % 251 for number in range(MAX_BYTES))
    assert read_spoken(typed(spoken_lines(NAME, data))) == (NAME, data)


def test_people_type_as_they_like() -> None:
    lines = spoken_lines(NAME, DATA)
    text = typed(["# from Dora", "", *(line.lower().replace(" ", "  ") for line in reversed(lines)), ""])
    text = text.replace("o", "0").replace(
        "appliance  1  permit.0123456789abcdef.js0n", lines[0].rsplit(" ", 1)[0]
    )
    assert read_spoken(text) == (NAME, DATA)
    assert read_spoken(typed(lines).replace("\n", "\r\n")) == (NAME, DATA)


def test_every_two_wrong_digits_of_a_line_are_found() -> None:
    """Exhaustive over places, two values each; the code promises it for all values."""
    lines = spoken_lines(NAME, DATA)
    number, digits = lines[2].split(" ", 3)[2:][0], lines[2].split()[1:]
    assert number == "2"
    plain = "".join(digits)
    for one, other in combinations(range(len(plain)), 2):
        for step in (1, 13):
            wrong = list(plain)
            for place in (one, other):
                wrong[place] = ALPHABET[(ALPHABET.index(plain[place]) + step) % 32]
            with pytest.raises(TranscriptionFailed) as caught:
                read_spoken(typed([*lines[:2], f"2 {''.join(wrong)}", *lines[3:]]))
            assert caught.value.found == "wrong: 2"


def test_every_single_wrong_digit_is_found() -> None:
    lines = spoken_lines(NAME, b"fifteen bytes!!")
    plain = "".join(lines[1].split()[1:])
    for place, right in enumerate(plain):
        for digit in ALPHABET.replace(right, ""):
            with pytest.raises(TranscriptionFailed, match="wrong or missing"):
                read_spoken(typed([lines[0], f"1 {plain[:place]}{digit}{plain[place + 1 :]}", lines[2]]))


LINES = spoken_lines(NAME, DATA)
SWAPPED = [*LINES[:1], "1" + LINES[2][3:], "2" + LINES[1][3:], *LINES[3:]]
WRONG: dict[str, tuple[list[str], str]] = {
    "nothing": ([], "first or the last line"),
    "no first line": (LINES[1:], "first or the last line"),
    "no last line": (LINES[:-1], "first or the last line"),
    "two first lines": ([LINES[0].replace("100", "101"), *LINES], "first or the last line"),
    "a line missing": ([*LINES[:3], *LINES[4:]], "missing: 3"),
    "two lines exchanged": (SWAPPED, "wrong: 1, 2"),
    "a digit missing": ([*LINES[:1], LINES[1][:-1], *LINES[2:]], "wrong: 1"),
    "a digit more": ([*LINES[:1], LINES[1] + "A", *LINES[2:]], "wrong: 1"),
    "a line more": ([*LINES[:-1], " 99 AAAA AA", LINES[-1]], "wrong: 99"),
    "line 0": ([*LINES[:-1], "0 AAAA AA", LINES[-1]], "wrong: 0"),
    "two versions of a line": ([*LINES, LINES[1][:-1] + ("A" if LINES[1][-1] != "A" else "B")], ""),
    "another name": ([LINES[0].replace("permit", "waiver"), *LINES[1:]], "not all of them together"),
    "another size": ([LINES[0].replace("100", "99"), *LINES[1:]], "wrong: 7"),
    "a size of millions": ([LINES[0].replace("100", "9999999"), *LINES[1:]], "none of these"),
    "a size beyond the limit": ([LINES[0].replace("100", "99999"), *LINES[1:]], "first or last"),
    "another end": ([*LINES[:-1], "end AAAA AAAA AAAA AAAA"], "not all of them together"),
    "prose": (["hello", *LINES], "none of these"),
    "a path": ([LINES[0].replace("permit", "../permit"), *LINES[1:]], "none of these"),
}


@pytest.mark.parametrize(("lines", "told"), WRONG.values(), ids=WRONG)
def test_what_is_wrong_is_named(lines: list[str], told: str) -> None:
    if told == "":  # a second try at a line is welcome as long as one is right
        assert read_spoken(typed(lines)) == (NAME, DATA)
        return
    with pytest.raises(TranscriptionFailed) as caught:
        read_spoken(typed(lines))
    assert told in f"{caught.value.message} {caught.value.found} {caught.value.wanted} first or last"


@pytest.mark.parametrize("name", ["SHA256SUMS.alice.sig", "alice.pub", "root.2.alice.3f1c9a2b.mldsa87"])
def test_names_of_signatures_and_keys(name: str) -> None:
    lines = spoken_lines(name, DATA)
    assert read_spoken(typed(lines).lower()) == (name, DATA)
    assert read_spoken(typed(compact_parts(lines, 200))) == (name, DATA)


@pytest.mark.parametrize(
    "name", ["SHA256SUMS", "sha256sums.alice.sig", "Alice.pub", "a/b", "", ".hidden", "a b", "ä", "x" * 200]
)
def test_names_that_cannot_be_spoken(name: str) -> None:
    with pytest.raises(Usage):
        spoken_lines(name, DATA)


@pytest.mark.parametrize("data", [b"", b"x" * (MAX_BYTES + 1)])
def test_sizes_that_cannot_be_spoken(data: bytes) -> None:
    with pytest.raises(Usage):
        spoken_lines(NAME, data)


def test_a_file_has_one_spelling() -> None:
    """The last digit of a short line has bits that no byte needs."""
    lines = spoken_lines(NAME, b"x")
    assert lines[1].split()[1] == "PA"
    other = f"1 PB {_check(1, 'PB')}"
    with pytest.raises(TranscriptionFailed, match="wrong or missing"):
        read_spoken(typed([lines[0], other, lines[2]]))


def test_codes_hold_no_more_than_they_may() -> None:
    lines = spoken_lines(NAME, bytes(1000))
    parts = compact_parts(lines, 300)
    assert len(parts) > 5
    assert max(map(len, parts)) <= 300
    assert all(set(part) <= set("0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ :.-") for part in parts)


@pytest.mark.parametrize("kind", ["DataBar", "DataBar-Exp", "EAN-13", "CODE-128", "I2/5", "UPC-A"])
def test_bar_codes_seen_in_a_qr_code_are_passed_over(kind: str) -> None:
    """Zbarimg takes a part of a QR code for a bar code, once in many pictures."""
    codes = [f"QR-Code:{part}" for part in compact_parts(spoken_lines(NAME, DATA), 200)]
    assert read_spoken(typed([codes[0], f"{kind}:0100000000000", *codes[1:]])) == (NAME, DATA)
