"""Canonical JSON (RFC 8785): one value, one spelling.

What is signed or fingerprinted is read only in its one canonical spelling: the bytes are parsed,
spelled again, and must come out the same.  That alone refuses duplicate keys, other white space, a
byte order mark, trailing bytes, escapes nobody needs, ``1.0`` for ``1`` and everything else two
parsers might read differently.  Numbers are whole and at most 2**53 - 1; there are no floats.
"""

from __future__ import annotations

import json
import math
import re
from typing import TYPE_CHECKING, Final, NoReturn

import rfc8785

if TYPE_CHECKING:
    from collections.abc import Callable

#: The largest whole number that every JSON reader holds exactly (RFC 8785, section 3.2.2.3).
LARGEST_INTEGER: Final = 2**53 - 1
_DIGITS: Final = len(str(LARGEST_INTEGER))

#: Spells as RFC 8785 does, but for what ``_ODD`` and ``_BEYOND`` find.
_ENCODER: Final = json.JSONEncoder(
    ensure_ascii=False, allow_nan=False, sort_keys=True, separators=(",", ":")
)
#: Written so that what needs no escape, nearly all, is passed over in one step.
_STRING: Final = re.compile(r'"[^"\\]*(?:\\.[^"\\]*)*"')
#: Outside of strings: a fraction, an exponent, or a number of so many digits that it may be too large.
_ODD: Final = re.compile(rf"[0-9][.e]|[0-9]{{{_DIGITS}}}")
#: Keys are sorted by UTF-16 (section 3.2.3), which differs from the order of code points only here.
_BEYOND: Final = re.compile("[\U00010000-\U0010ffff]")


class NotCanonicalError(ValueError):
    """The bytes are not JSON, or not in the one spelling RFC 8785 gives it."""


def canonical_bytes(value: object) -> bytes:
    """The RFC 8785 spelling of a value made of dicts, lists, text, whole numbers, booleans and None.

    The library that knows every rule is ten times slower than the encoder of Python itself, and asked
    only where the two could differ.

    Raises:
        NotCanonicalError: a value has no such spelling (NaN, a huge number, a lone surrogate).
    """
    try:
        text = _ENCODER.encode(value)
        if (text.isascii() or not _BEYOND.search(text)) and not _ODD.search(_STRING.sub("", text)):
            return text.encode("utf-8")
    except (TypeError, ValueError):
        pass  # no such value, says the library, and why
    try:
        return rfc8785.dumps(value)  # type: ignore[arg-type] # its recursive type cannot be named here
    except (rfc8785.CanonicalizationError, UnicodeError) as fault:
        raise NotCanonicalError(str(fault)) from None


def parse_canonical(data: bytes, *, limit: int) -> object:
    """The value of canonical JSON ``data``.

    Args:
        data: the bytes of the whole file.
        limit: the most bytes a file of this kind may have.

    Raises:
        NotCanonicalError: in any other case than a canonical spelling within the limit.
    """
    value = _parsed(data, limit, _CANONICAL)
    try:
        spelled = canonical_bytes(value)
    except RecursionError:
        raise NotCanonicalError("nested too deeply") from None
    if spelled != data:
        raise NotCanonicalError(f"spelled otherwise than RFC 8785 at byte {_difference(spelled, data)}")
    return value


def parse_foreign(data: bytes, *, limit: int) -> object:
    """The value of JSON that others wrote and spelled as they like: no key twice, nothing that is not JSON.

    Args:
        data: the bytes of the whole file.
        limit: the most bytes a file of this kind may have.

    Raises:
        NotCanonicalError: not JSON in UTF-8, too large or too deep, a key twice, a number that readers
            understand differently.
    """
    return _parsed(data, limit, _FOREIGN)


def depth_of(value: object) -> int:
    """How many lists and objects of a value are within one another; found without recursion."""
    depth, level = 0, [value]
    while outer := [each for each in level if isinstance(each, (dict, list))]:
        depth += 1
        level = [inner for each in outer for inner in (each.values() if isinstance(each, dict) else each)]
    return depth


def _parsed(data: bytes, limit: int, decoder: json.JSONDecoder) -> object:
    if len(data) > limit:
        raise NotCanonicalError(f"{len(data):,} bytes, more than the {limit:,} allowed")
    try:
        return decoder.decode(data.decode("utf-8"))
    except NotCanonicalError:
        raise
    except RecursionError:
        raise NotCanonicalError("nested too deeply") from None
    except UnicodeError as fault:
        raise NotCanonicalError(f"not UTF-8: {fault}") from None
    except json.JSONDecodeError as fault:
        raise NotCanonicalError(f"not JSON: {fault.msg} at byte {fault.pos}") from None


def _object(pairs: list[tuple[str, object]]) -> dict[str, object]:
    values: dict[str, object] = {}
    for key, value in pairs:
        if key in values:
            raise NotCanonicalError(f"the key {key[:64]!a} is written twice")
        values[key] = value
    return values


def _integer(digits: str) -> int:
    # Long digit strings are refused before int() spends quadratic time on them.
    if len(digits.lstrip("-")) > _DIGITS or abs(int(digits)) > LARGEST_INTEGER:
        raise NotCanonicalError(f"the number {digits[:20]}… is larger than 2**53 - 1")
    return int(digits)


def _finite(spelling: str) -> float:
    value = float(spelling)
    return value if math.isfinite(value) else _no_number(spelling)


def _no_number(spelling: str) -> NoReturn:
    raise NotCanonicalError(f"{spelling[:20]!a} is not a whole number")


def _difference(left: bytes, right: bytes) -> int:
    for position, (one, other) in enumerate(zip(left, right, strict=False)):
        if one != other:
            return position
    return min(len(left), len(right))


def _decoder(parse_float: Callable[[str], float]) -> json.JSONDecoder:
    return json.JSONDecoder(
        object_pairs_hook=_object,
        parse_int=_integer,
        parse_float=parse_float,
        parse_constant=_no_number,
    )


#: Made once: that takes a third of the time a short text takes.
_CANONICAL: Final = _decoder(_no_number)
_FOREIGN: Final = _decoder(_finite)
