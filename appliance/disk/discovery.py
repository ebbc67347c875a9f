"""What a drive says of itself in Level 0 Discovery, to everybody and without a session.

TCG Storage Architecture Core Specification 2.01, section 3.3.6; descriptors: TCG Storage Opal SSC 2.30,
section 3.1.1; Pyrite SSC 2.01, Ruby SSC 1.00, Opalite SSC 1.00 and Enterprise SSC 1.01, section 3.1.1 of
each; feature sets Block SID Authentication 1.01, Additional DataStore Tables 1.01, Single User Mode 1.00
and Configurable Namespace Locking 1.00.

Bytes in, values out.  The rules:

* The header says how many bytes follow; a host that asked for too few, or a drive that says nonsense, is
  ``DriveUnreadable``, never half a result.
* Descriptors that nobody here knows are skipped, and their codes kept.
* Of a code that comes twice the first counts, as in Linux.
* A bit that a drive has no descriptor for is None: unknown is neither yes nor no.
* A drive may say several SSCs, as those with Opal 2 and Ruby do.  ``ssc`` is the strongest of which Linux
  finds a ComID (Opal 1 and 2: block/sed-opal.c), else the first of Opalite, Ruby, Pyrite and Enterprise.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Literal

from appliance.errors import DriveUnreadable

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

HEADER: Final = 48
_TPER, _LOCKING, _GEOMETRY, _SINGLE_USER, _DATA_STORE = 0x0001, 0x0002, 0x0003, 0x0201, 0x0202
_BLOCK_SID, _NAMESPACES = 0x0402, 0x0403

Ssc = Literal["opal-2", "opal-1", "opalite", "ruby", "pyrite-2", "pyrite-1", "enterprise"]

#: Security subsystem classes by feature code, those first that can do more.
SSCS: Final[Mapping[int, Ssc]] = {
    0x0203: "opal-2",
    0x0200: "opal-1",
    0x0301: "opalite",
    0x0304: "ruby",
    0x0303: "pyrite-2",
    0x0302: "pyrite-1",
    0x0100: "enterprise",
}
#: Whose descriptor Linux takes a ComID from, and so all that cryptsetup can use.
KNOWN_TO_LINUX: Final[frozenset[str]] = frozenset({"opal-2", "opal-1"})
#: Bytes that a descriptor has at least after its own four of head, as far as they are read here.
_LEAST: Final = {_TPER: 1, _LOCKING: 1, _GEOMETRY: 28, _DATA_STORE: 12, _BLOCK_SID: 2, _NAMESPACES: 16}
#: SSCs whose descriptors say how many may log in, and about C_PIN_SID; as Opal 2's (section 3.1.1.5).
_LIKE_OPAL_2: Final = frozenset({"opal-2", "ruby"})
_OPAL_2: Final = struct.Struct(">HHBHHBB")


@dataclass(frozen=True, slots=True)
class Discovery:
    """Level 0 Discovery of one drive.

    Attributes:
        sscs: security subsystem classes it has, the strongest first.
        locking_supported, locking_enabled, locked: of the Locking SP; enabled when it has been activated.
        encrypts: whether it has media encryption.
        shadow_supported, shadow_enabled, shadow_done: of the shadow MBR.
        block_size: bytes of a logical block, as the TPer tells it; None without a Geometry descriptor.
        granularity, lowest_aligned: blocks that ranges are aligned to, and the first aligned block.
        sid_changed: whether the PIN of SID is no longer the one everybody can read: somebody owns it.
        sid_blocked: whether nobody can log in as SID until power fails, or a reset.
        crossing_fails: whether one command that touches several ranges fails.
        admins, users: who may log in at the Locking SP, at most.
        comids: how many sessions' streams it has, from ``first_comid`` on.
        data_stores, data_store_size: tables and bytes of them all.
        ranges_per_namespace: where it can lock namespaces; 0: no limit but the keys'.
        single_user: whether it knows single user mode.
        others: feature codes that are not read here.
    """

    sscs: tuple[Ssc, ...]
    locking_supported: bool | None = None
    locking_enabled: bool | None = None
    locked: bool | None = None
    encrypts: bool | None = None
    shadow_supported: bool | None = None
    shadow_enabled: bool | None = None
    shadow_done: bool | None = None
    block_size: int | None = None
    granularity: int | None = None
    lowest_aligned: int | None = None
    sid_changed: bool | None = None
    sid_blocked: bool | None = None
    crossing_fails: bool | None = None
    admins: int | None = None
    users: int | None = None
    first_comid: int | None = None
    comids: int | None = None
    data_stores: int | None = None
    data_store_size: int | None = None
    ranges_per_namespace: int | None = None
    single_user: bool = False
    others: tuple[int, ...] = ()

    @property
    def ssc(self) -> Ssc | None:
        """The one that counts; None for a TPer without any."""
        return self.sscs[0] if self.sscs else None


def parse_discovery(data: bytes) -> Discovery:
    """Read what Security Receive returned for protocol 01h, ComID 0001h.

    Args:
        data: the answer; may be longer than what the header says.

    Raises:
        DriveUnreadable: it is cut short, or contradicts itself.
    """
    if len(data) < HEADER:
        raise _nonsense(f"{len(data)} bytes", f"a header of {HEADER}")
    total = int.from_bytes(data[:4], "big") + 4
    if not HEADER <= total <= len(data):
        raise _nonsense(f"a length of {total} bytes in an answer of {len(data)}", "a length within it")
    bodies: dict[int, bytes] = {}
    for code, body in _descriptors(data[HEADER:total]):
        bodies.setdefault(code, body)
    for code, least in _LEAST.items():
        if code in bodies and len(bodies[code]) < least:
            raise _nonsense(f"{len(bodies[code])} bytes for feature {code:04x}h", f"at least {least}")
    sscs = tuple(name for code, name in SSCS.items() if code in bodies)
    read = {_TPER, _LOCKING, _GEOMETRY, _SINGLE_USER, _DATA_STORE, _BLOCK_SID, _NAMESPACES, *SSCS}
    return Discovery(
        sscs=sscs,
        single_user=_SINGLE_USER in bodies,
        others=tuple(sorted(set(bodies) - read)),
        **_locking(bodies.get(_LOCKING)),
        **_geometry(bodies.get(_GEOMETRY)),
        **_block_sid(bodies.get(_BLOCK_SID)),
        **_stores(bodies.get(_DATA_STORE)),
        **_namespaces(bodies.get(_NAMESPACES)),
        **_ssc(bodies, sscs),
    )


def _descriptors(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Feature code and what stands after the four bytes of its head; Core 2.01, section 3.3.6.4."""
    at = 0
    while at < len(data):
        if len(data) - at < 4:  # noqa: PLR2004 - code, version, length
            raise _nonsense(f"{len(data) - at} bytes after the last descriptor", "none, or a descriptor")
        code, length = int.from_bytes(data[at : at + 2], "big"), data[at + 3]
        body = data[at + 4 : at + 4 + length]
        if len(body) < length:
            raise _nonsense(f"a descriptor {code:04x}h of {length} bytes that has {len(body)}", "all of it")
        yield code, body
        at += 4 + length


def _locking(body: bytes | None) -> dict[str, Any]:
    if body is None:
        return {}
    names = ("locking_supported", "locking_enabled", "locked", "encrypts", "shadow_enabled", "shadow_done")
    flags = {name: bool(body[0] >> bit & 1) for bit, name in enumerate(names)}
    return flags | {"shadow_supported": not body[0] >> 6 & 1}


def _geometry(body: bytes | None) -> dict[str, Any]:
    if body is None:
        return {}
    size, granularity, lowest = struct.unpack_from(">8xIQQ", body)
    return {"block_size": size, "granularity": granularity, "lowest_aligned": lowest}


def _block_sid(body: bytes | None) -> dict[str, Any]:
    if body is None:
        return {}
    return {"sid_changed": bool(body[0] & 1), "sid_blocked": bool(body[0] >> 1 & 1)}


def _stores(body: bytes | None) -> dict[str, Any]:
    if body is None:
        return {}
    tables, size = struct.unpack_from(">2xHI", body)
    return {"data_stores": tables, "data_store_size": size}


def _namespaces(body: bytes | None) -> dict[str, Any]:
    return {} if body is None else {"ranges_per_namespace": int.from_bytes(body[12:16], "big")}


def _ssc(bodies: Mapping[int, bytes], sscs: tuple[Ssc, ...]) -> dict[str, Any]:
    """ComIDs, and of Opal 2 and Ruby who may log in."""
    if not sscs:
        return {}
    body = next(bodies[code] for code, name in SSCS.items() if name == sscs[0])
    if len(body) < 4:  # noqa: PLR2004 - two numbers of two bytes
        raise _nonsense(f"{len(body)} bytes for {sscs[0]}", "its ComIDs")
    first, count = struct.unpack_from(">HH", body)
    found: dict[str, Any] = {"first_comid": first, "comids": count}
    if sscs[0] in _LIKE_OPAL_2 and len(body) >= _OPAL_2.size:
        _, _, crossing, admins, users, _, _ = _OPAL_2.unpack_from(body)
        found |= {"crossing_fails": bool(crossing & 1), "admins": admins, "users": users}
    return found


def _nonsense(found: str, wanted: str) -> DriveUnreadable:
    return DriveUnreadable(
        "the drive's answer to Level 0 Discovery cannot be read",
        found=found,
        wanted=wanted,
        hint="update the drive's firmware, or leave the drive out",
    )
