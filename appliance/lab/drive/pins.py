"""PINs as a drive keeps them: salted and hashed, so that its state file tells nobody one."""

from __future__ import annotations

import hashlib
import hmac
import secrets

_SALT = 16
_FACTORY_SALT = bytes(_SALT)
LONGEST = 32  # bytes of a PIN: the type of C_PIN's column PIN


def seal(pin: bytes, salt: bytes | None = None) -> bytes:
    """A PIN as it is kept."""
    salt = secrets.token_bytes(_SALT) if salt is None else salt
    return salt + hashlib.sha256(salt + pin).digest()


def factory_seal(pin: bytes) -> bytes:
    """A PIN as made, always the same bytes, so that what has changed since shows."""
    return seal(pin, _FACTORY_SALT)


def opens(sealed: bytes, pin: bytes) -> bool:
    """Whether a PIN is the one that is kept."""
    return hmac.compare_digest(sealed, seal(pin, sealed[:_SALT]))
