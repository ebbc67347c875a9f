"""Which Ed25519 public keys can be trusted to identify anyone (RFC 8032, sections 5.1.3 and 5.1.4).

OpenSSH and the ``cryptography`` package accept the identity point as a public key, and with it
signatures that anybody can make without a secret.  A key is sound here only if its encoding is the
canonical one of a point, and that point generates the large prime-order group: this excludes the
eight points of small order, all their encodings, and sums of such points with good ones.
"""

from __future__ import annotations

from typing import Final

_P: Final = 2**255 - 19
_ORDER: Final = 2**252 + 27742317777372353535851937790883648493
_D: Final = -121665 * pow(121666, -1, _P) % _P
_ROOT_OF_MINUS_ONE: Final = pow(2, (_P - 1) // 4, _P)
_ENCODED_SIZE: Final = 32

_Point = tuple[int, int, int, int]  # extended coordinates X, Y, Z, T with x=X/Z, y=Y/Z, xy=T/Z
_IDENTITY: Final[_Point] = (0, 1, 1, 0)


def is_sound(encoded: bytes) -> bool:
    """Whether 32 bytes encode, canonically, a point of prime order."""
    point = _decode(encoded)
    return point is not None and not _is_identity(point) and _is_identity(_times(_ORDER, point))


def _decode(encoded: bytes) -> _Point | None:
    if len(encoded) != _ENCODED_SIZE:
        return None
    number = int.from_bytes(encoded, "little")
    sign, y = number >> 255, number & ((1 << 255) - 1)
    if y >= _P:
        return None
    square = (y * y - 1) * pow(_D * y * y + 1, -1, _P) % _P
    x = pow(square, (_P + 3) // 8, _P)
    if (x * x - square) % _P:
        x = x * _ROOT_OF_MINUS_ONE % _P
    if (x * x - square) % _P or (x == 0 and sign):
        return None
    if x & 1 != sign:
        x = _P - x
    return x, y, 1, x * y % _P


def _add(one: _Point, other: _Point) -> _Point:
    a = (one[1] - one[0]) * (other[1] - other[0]) % _P
    b = (one[1] + one[0]) * (other[1] + other[0]) % _P
    c = 2 * one[3] * other[3] * _D % _P
    d = 2 * one[2] * other[2] % _P
    e, f, g, h = b - a, d - c, d + c, b + a
    return e * f % _P, g * h % _P, f * g % _P, e * h % _P


def _times(factor: int, point: _Point) -> _Point:
    # Public values only: nothing here needs to take constant time.
    result = _IDENTITY
    while factor:
        if factor & 1:
            result = _add(result, point)
        point = _add(point, point)
        factor >>= 1
    return result


def _is_identity(point: _Point) -> bool:
    return point[0] == 0 and (point[1] - point[2]) % _P == 0
