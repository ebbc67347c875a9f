"""Sound Ed25519 public keys, computed from RFC 8032 alone (sections 5.1.3 and 5.1.4), and slowly.

What ``appliance.trust.edwards`` is compared with, and what makes hostile points.
"""

from __future__ import annotations

from typing import Final

P: Final = 2**255 - 19
ORDER: Final = 2**252 + 27742317777372353535851937790883648493
_D: Final = -121665 * pow(121666, -1, P) % P
_ROOT_OF_MINUS_ONE: Final = pow(2, (P - 1) // 4, P)
_ENCODED_SIZE: Final = 32

Point = tuple[int, int, int, int]  # extended coordinates X, Y, Z, T with x=X/Z, y=Y/Z, xy=T/Z
IDENTITY: Final[Point] = (0, 1, 1, 0)


def is_sound(encoded: bytes) -> bool:
    """Whether 32 bytes encode, canonically, a point of prime order."""
    point = decode(encoded)
    return point is not None and not _is_identity(point) and _is_identity(times(ORDER, point))


def decode(encoded: bytes) -> Point | None:
    if len(encoded) != _ENCODED_SIZE:
        return None
    number = int.from_bytes(encoded, "little")
    sign, y = number >> 255, number & ((1 << 255) - 1)
    if y >= P:
        return None
    square = (y * y - 1) * pow(_D * y * y + 1, -1, P) % P
    x = pow(square, (P + 3) // 8, P)
    if (x * x - square) % P:
        x = x * _ROOT_OF_MINUS_ONE % P
    if (x * x - square) % P or (x == 0 and sign):
        return None
    if x & 1 != sign:
        x = P - x
    return x, y, 1, x * y % P


def add(one: Point, other: Point) -> Point:
    a = (one[1] - one[0]) * (other[1] - other[0]) % P
    b = (one[1] + one[0]) * (other[1] + other[0]) % P
    c = 2 * one[3] * other[3] * _D % P
    d = 2 * one[2] * other[2] % P
    e, f, g, h = b - a, d - c, d + c, b + a
    return e * f % P, g * h % P, f * g % P, e * h % P


def times(factor: int, point: Point) -> Point:
    # Public values only: nothing here needs to take constant time.
    result = IDENTITY
    while factor:
        if factor & 1:
            result = add(result, point)
        point = add(point, point)
        factor >>= 1
    return result


def _is_identity(point: Point) -> bool:
    return point[0] == 0 and (point[1] - point[2]) % P == 0


def encode(point: Point) -> bytes:
    """The canonical encoding."""
    inverse = pow(point[2], -1, P)
    x, y = point[0] * inverse % P, point[1] * inverse % P
    return (y | (x & 1) << 255).to_bytes(32, "little")
