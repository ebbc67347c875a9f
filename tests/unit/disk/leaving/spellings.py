"""Secrets in whatever spelling they may turn up in, looked for in whatever bytes a run has left."""

from __future__ import annotations

import base64
import json
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final
from urllib.parse import quote

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

#: So much of a secret is it: nobody prints half of one by accident, and a shorter piece may be chance.
_ENOUGH: Final = 16


def spellings(secret: bytes) -> frozenset[bytes]:
    """A secret as programs spell bytes: as it is, grouped otherwise, escaped, hexadecimal, base64."""
    letters = re.sub(rb"[- \t]", b"", secret)
    plain = {secret, letters, letters.lower(), secret.lower(), letters[:_ENOUGH], letters[-_ENOUGH:]}
    for size in (4, 5, 8):
        groups = [letters[at : at + size] for at in range(0, len(letters), size)]
        plain |= {b"-".join(groups), b" ".join(groups)}
    found = set(plain)
    for each in plain:
        text = each.decode("latin-1")
        found |= {
            json.dumps(text)[1:-1].encode(),
            repr(each)[2:-1].encode(),
            quote(text, safe="").encode(),
            text.encode("utf-16-le"),
            each.hex().encode(),
            each.hex().upper().encode(),
            each.hex(" ").encode(),
            each.hex(":").encode(),
            "".join(f"\\x{byte:02x}" for byte in each).encode(),
            ", ".join(str(byte) for byte in each).encode(),
        }
        found |= _base64(each)
    return frozenset(one for one in found if len(one) >= min(_ENOUGH, len(letters)))


def _base64(data: bytes) -> set[bytes]:
    """What of its base64 does not depend on what stands before and after it, at any place of three."""
    found = set()
    for before in range(3):
        first, last = -(-8 * before // 6), (8 * (before + len(data))) // 6
        for encode in (base64.b64encode, base64.urlsafe_b64encode):
            found.add(encode(bytes(before) + data)[first:last])
    return found


@dataclass
class Secrets:
    """Named secrets, and where they were seen though they should not have been."""

    _known: dict[str, frozenset[bytes]] = field(default_factory=dict)
    _without: set[bytes] = field(default_factory=set)  # looked through before: most processes stay the same

    def add(self, name: str, secret: bytes) -> None:
        if len(secret) < _ENOUGH // 2:
            raise ValueError(f"{name} is too short to be told from chance")
        self._known[name] = spellings(secret)
        self._without.clear()

    def names(self) -> frozenset[str]:
        return frozenset(self._known)

    def within(self, data: bytes) -> frozenset[str]:
        """Names of the secrets that these bytes hold, in whatever spelling."""
        if data in self._without:
            return frozenset()
        found = frozenset(
            name for name, spelled in self._known.items() if any(each in data for each in spelled)
        )
        if not found:
            self._without.add(data)
        return found

    def seen(self, places: Mapping[str, bytes] | Iterable[tuple[str, bytes]]) -> list[str]:
        """Where which are: ``place: name``."""
        pairs = places.items() if hasattr(places, "items") else places
        return [f"{place}: {name}" for place, data in pairs for name in sorted(self.within(data))]
