"""Which Ed25519 public keys can be trusted to identify anyone (RFC 8032, sections 5.1.3 and 5.1.4).

OpenSSH and the ``cryptography`` package accept the identity point as a public key, and with it
signatures that anybody can make without a secret.  A key is sound here only if its encoding is the
canonical one of a point, and that point generates the large prime-order group: this excludes the
eight points of small order, all their encodings, and sums of such points with good ones.

libsodium says this in 30 µs; in Python it takes forty times as long, too much for a chain of roots.
Versions of it up to 1.0.20 let pass the sum of a good point and the one of order 2 (CVE-2025-69277), so
the library at hand is asked about such a point first.  ``tests/independent/edwards.py`` computes the same
from the RFC alone.
"""

from __future__ import annotations

from typing import Final

from nacl.bindings import crypto_core_ed25519_is_valid_point

_ENCODED_SIZE: Final = 32
#: The base point (RFC 8032, section 5.1) plus the point of order 2: (-x, -y).
_MIXED_ORDER: Final = bytes.fromhex("95" + "99" * 31)


def is_sound(encoded: bytes) -> bool:
    """Whether 32 bytes encode, canonically, a point of prime order."""
    return len(encoded) == _ENCODED_SIZE and crypto_core_ed25519_is_valid_point(encoded)


if is_sound(_MIXED_ORDER):
    raise RuntimeError("this libsodium takes weak keys for good ones: install PyNaCl 1.6.2 or later")
