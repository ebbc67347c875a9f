"""A small file as lines that people can read aloud, type, or scan, and that say when one is wrong.

::

    appliance 1 permit.0123456789abcdef.json 352
      1 PMRG EZTP OJ4S 2YLU MFZG K3TU 4Q
      2 …
    end 7QGB 3XK2 LMWP A5ZD

The first line names the file and its size.  Each other line holds its number, up to 15 bytes in base32
(RFC 4648, 24 digits), and two check digits; the last line 80 bits of the SHA-256 of all of it.

- The check digits are those of a Reed-Solomon code over the 32 digits, computed over number and data: any
  two wrong digits of a line are found for certain, so also two that were exchanged, and a line under
  another's number; more with a chance of 1023 in 1024.
- Case and spaces do not matter.  ``0``, ``1`` and ``8``, which base32 does not have, are read as O, I, B.
- Line breaks may be colons: a QR code holds capitals, digits and few signs compactly, and these are among
  them.  Every code repeats the first and the last line, so codes are scanned in any order.

This keeps slips out, not people: what is read is a document or a signature, and is judged as such.
"""

from __future__ import annotations

import base64
import hashlib
import re
from typing import Final

from appliance.errors import TranscriptionFailed, Usage

ALPHABET: Final = "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567"
BYTES_IN_LINE: Final = 15
_DIGITS_IN_LINE: Final = 24
_CHECK_DIGITS: Final = 2
_GROUP: Final = 4
_MAX_LINES: Final = 1023  # two digits of base 32
MAX_BYTES: Final = BYTES_IN_LINE * _MAX_LINES
_END_BYTES: Final = 10

#: Small letters, as capitals are not told from them; but for signatures of a bundle's lists.
NAME: Final = re.compile(r"(?:SHA(?:256|384)SUMS\.|(?!sha(?:256|384)sums\.))[a-z0-9][a-z0-9.-]{0,99}")
_LIST: Final = re.compile(r"SHA(?:256|384)SUMS\.")
_HEAD: Final = re.compile(r"APPLIANCE 1 ([A-Z0-9][A-Z0-9.-]{0,110}) ([1-9][0-9]{0,4})")
_END: Final = re.compile(r"END ([A-Z0-9 ]+)")
_LINE: Final = re.compile(r"([0-9]{1,4}) ([A-Z0-9 -]+)")
#: What zbarimg writes before what it read, and lines people add.
_PASSED_OVER: Final = re.compile(r"QR-CODE|#.*")
#: What it takes parts of a QR code for now and then: kinds of bar codes, in its own words.
_NOT_OURS: Final = re.compile(
    r"(?:EAN-?[0-9]+|UPC-[AE]|ISBN-1[03]|I2/5|DATABAR(?:-EXP)?|CODABAR|CODE-[0-9]+|COMPOSITE|PDF417|SQ-CODE):.*"
)
_MEANT: Final = str.maketrans("018", "OIB", " -")


def _powers() -> tuple[list[int], list[int]]:
    """Powers and logarithms of the field of 32 elements (x^5 + x^2 + 1, primitive)."""
    powers, logarithms, value = [], [0] * 32, 1
    for exponent in range(31):
        powers.append(value)
        logarithms[value] = exponent
        value <<= 1
        if value & 32:
            value ^= 0b100101
    return powers, logarithms


_POWER, _LOGARITHM = _powers()


def spoken_lines(name: str, data: bytes) -> list[str]:
    """The lines of a file.

    Args:
        name: its name.
        data: its bytes.

    Raises:
        Usage: it is empty or too large, or such a name cannot be spoken.
    """
    if not NAME.fullmatch(name):
        raise Usage(
            "this name cannot be shown", found=ascii(name), wanted="small letters, digits, dots, hyphens"
        )
    if not 0 < len(data) <= MAX_BYTES:
        raise Usage(
            f"{name} is too large to be read aloud or scanned" if data else f"{name} is empty",
            found=f"{len(data):,} bytes",
            wanted=f"1 to {MAX_BYTES:,} bytes",
            hint="carry it on a medium",
        )
    lines = [f"appliance 1 {name} {len(data)}"]
    for number, start in enumerate(range(0, len(data), BYTES_IN_LINE), 1):
        digits = _digits(data[start : start + BYTES_IN_LINE])
        lines.append(f"{number:>3} {_grouped(digits)} {_check(number, digits)}")
    return [*lines, f"end {_grouped(_end(name, data))}"]


def compact_parts(lines: list[str], room: int) -> list[str]:
    """The same for QR codes: as many texts as are needed for none to be longer than ``room``."""
    head, *middle, end = (
        " ".join([line.split()[0], "".join(line.split()[1:])]) if number else line
        for number, line in enumerate(line.upper() for line in lines)
    )
    parts: list[list[str]] = [[]]
    for line in middle:
        if parts[-1] and len(":".join([head, *parts[-1], line, end])) > room:
            parts.append([])
        parts[-1].append(line)
    return [":".join([head, *part, end]) for part in parts]


def read_spoken(text: str) -> tuple[str, bytes]:
    """Name and bytes of the file whose lines these are.

    Raises:
        TranscriptionFailed: lines are wrong, missing or of another file; it says which.
    """
    heads: set[tuple[str, str]] = set()
    ends: set[str] = set()
    given: dict[int, set[str]] = {}
    scanned = (line for line in text.upper().splitlines() if not _NOT_OURS.fullmatch(line))
    for raw in re.split(r"[\n:]+", "\n".join(scanned)):
        line = " ".join(raw.split())
        if not line or _PASSED_OVER.fullmatch(line):
            continue
        if match := _HEAD.fullmatch(line):
            of_list = found[0] if (found := _LIST.match(match[1])) else ""
            heads.add((of_list + match[1].removeprefix(of_list).lower(), match[2]))
        elif match := _END.fullmatch(line):
            ends.add(match[1].translate(_MEANT))
        elif match := _LINE.fullmatch(line):
            given.setdefault(int(match[1]), set()).add(match[2].translate(_MEANT))
        else:
            raise _failed("a line is none of these", found=ascii(raw.strip())[:80])
    if len(heads) != 1 or len(ends) != 1:
        raise _failed(
            "the first or the last line is missing, or there are several",
            found=f"{len(heads)} first, {len(ends)} last",
            wanted="one that begins with `appliance 1`, one with `end`",
        )
    name, size_text = heads.pop()
    size = int(size_text)
    data = _joined(given, size)
    if _end(name, data) != ends.pop():
        raise _failed(
            "every line is right, but not all of them together",
            wanted="the first and the last line as they were shown",
            hint="compare these two again; two wrong digits in one line are found, three sometimes not",
        )
    return name, data


def _joined(given: dict[int, set[str]], size: int) -> bytes:
    """The bytes of all lines.

    Raises:
        TranscriptionFailed: some are wrong or missing.
    """
    count = -(-size // BYTES_IN_LINE)
    parts: list[bytes] = []
    wrong: list[int] = sorted(number for number in given if not 1 <= number <= count)
    missing: list[int] = []
    for number in range(1, count + 1):
        if number not in given:
            missing.append(number)
            continue
        length = min(BYTES_IN_LINE, size - (number - 1) * BYTES_IN_LINE)
        read = {_line(number, text, length) for text in given[number]}
        good = read - {None}
        if len(good) == 1 and (part := good.pop()) is not None:
            parts.append(part)
        else:
            wrong.append(number)
    if wrong or missing:
        said = [
            f"{what}: {', '.join(map(str, which))}"
            for what, which in (("wrong", wrong), ("missing", missing))
            if which
        ]
        raise _failed(
            "lines are wrong or missing",
            found="; ".join(said),
            wanted=f"{count} lines as they were shown",
            hint="read these lines again",
        )
    return b"".join(parts)


def _line(number: int, text: str, length: int) -> bytes | None:
    """The bytes of a line; None if it is wrong."""
    digits, check = text[:-_CHECK_DIGITS], text[-_CHECK_DIGITS:]
    if len(digits) != -(-length * 8 // 5) or set(text) - set(ALPHABET) or _check(number, digits) != check:
        return None
    data = base64.b32decode(digits + "=" * (-len(digits) % 8))
    return data if _digits(data) == digits else None


def _digits(data: bytes) -> str:
    return base64.b32encode(data).decode("ascii").rstrip("=")


def _check(number: int, digits: str) -> str:
    """Two digits after which the whole line is 0, added up, and added up by powers."""
    symbols = [number // 32, number % 32, *(ALPHABET.index(digit) for digit in digits)]
    plain = weighted = 0
    for position, symbol in enumerate(symbols):
        plain ^= symbol
        weighted ^= _times(symbol, position)
    place = len(symbols)
    # c + d = plain and a^n c + a^(n+1) d = weighted, so a^n (1 + a) d = weighted + a^n plain.
    second = _times(weighted ^ _times(plain, place), -place - _LOGARITHM[_POWER[1] ^ 1])
    return ALPHABET[plain ^ second] + ALPHABET[second]


def _times(symbol: int, exponent: int) -> int:
    return _POWER[(_LOGARITHM[symbol] + exponent) % 31] if symbol else 0


def _end(name: str, data: bytes) -> str:
    digest = hashlib.sha256(f"{name} {len(data)}\n".encode() + data).digest()
    return _digits(digest[:_END_BYTES])


def _grouped(digits: str) -> str:
    return " ".join(digits[start : start + _GROUP] for start in range(0, len(digits), _GROUP))


def _failed(
    message: str, *, found: str | None = None, wanted: str | None = None, hint: str | None = None
) -> TranscriptionFailed:
    return TranscriptionFailed(
        message,
        found=found,
        wanted=wanted or "the lines that appliance trust show printed",
        hint=hint or "correct it, and run the command again",
    )
