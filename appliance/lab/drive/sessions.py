"""The session manager: Properties and StartSession.

TCG Storage Opal SSC 2.30, section 4.1.1; the limits told by Properties: Table 17.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from appliance.lab.drive.access import held
from appliance.tcg.status import MethodFailed, Status
from appliance.tcg.stream import Call, Named, call
from appliance.tcg.uids import ADMIN_SP, ANYBODY, LOCKING_SP, SESSION_MANAGER, Method

if TYPE_CHECKING:
    from appliance.lab.drive.provider import SecurityProvider
    from appliance.lab.drive.tper import TPer
    from appliance.tcg.packets import Packet
    from appliance.tcg.stream import Value

LARGEST_COMPACKET = 65536
SMALLEST_COMPACKET = 2048  # what every host is assumed to take until it says otherwise
FIRST_SESSION = 0x1000

_HOST_CHALLENGE, _HOST_SIGNING_AUTHORITY = 0, 3
_TPER_PROPERTIES = {
    "MaxMethods": 1,
    "MaxSubpackets": 1,
    "MaxPackets": 1,
    "MaxComPacketSize": LARGEST_COMPACKET,
    "MaxResponseComPacketSize": LARGEST_COMPACKET,
    "MaxPacketSize": LARGEST_COMPACKET - 20,
    "MaxIndTokenSize": LARGEST_COMPACKET - 56,
    "MaxAggTokenSize": LARGEST_COMPACKET - 56,
    "MaxSessions": 1,
    "MaxReadSessions": 0,
    "MaxAuthentications": 4,
    "MaxTransactionLimit": 1,
    "DefSessionTimeout": 0,
}
_HOST_MINIMUM = {
    b"MaxComPacketSize": SMALLEST_COMPACKET,
    b"MaxPacketSize": SMALLEST_COMPACKET - 20,
    b"MaxIndTokenSize": SMALLEST_COMPACKET - 56,
    b"MaxPackets": 1,
    b"MaxSubpackets": 1,
    b"MaxMethods": 1,
}


@dataclass
class Session:
    """A host's session with an SP.

    Attributes:
        ends: set by a method after whose answer there is no session any more.
    """

    sp: bytes
    tper_number: int
    host_number: int
    authenticated: set[bytes] = field(default_factory=set)
    ends: bool = False

    def has_numbers(self, packet: Packet) -> bool:
        """Whether a packet is of this session."""
        return (packet.tper_session, packet.host_session) == (self.tper_number, self.host_number)

    def authorities(self, sp: SecurityProvider) -> frozenset[bytes]:
        """All authorities the session has in its SP."""
        return held(sp, self.authenticated)


def properties(tper: TPer, message: Call) -> bytes:
    """Tell the drive's limits and take the host's."""
    told: dict[bytes, int] = {}
    for item in message.parameters:
        if not isinstance(item, Named) or item.name != 0 or not isinstance(item.value, list):
            return call(SESSION_MANAGER, Method.PROPERTIES, [], Status.INVALID_PARAMETER)
        for one in item.value:
            if isinstance(one, Named) and isinstance(one.name, bytes) and isinstance(one.value, int):
                told[one.name] = one.value
    limits = {name: max(least, told.get(name, least)) for name, least in _HOST_MINIMUM.items()}
    tper.largest_answer = min(limits[b"MaxComPacketSize"], LARGEST_COMPACKET)
    mine: list[Value] = [Named(name.encode(), value) for name, value in _TPER_PROPERTIES.items()]
    answer: list[Value] = [mine]
    if message.parameters:
        answer.append(Named(0, [Named(name, value) for name, value in limits.items()]))
    return call(SESSION_MANAGER, Method.PROPERTIES, answer)


def start_session(tper: TPer, message: Call) -> bytes:
    """Open a session, or say why not."""
    try:
        session = _started(tper, message)
    except MethodFailed as failed:
        return call(SESSION_MANAGER, Method.SYNC_SESSION, [], failed.status)
    tper.session = session
    return call(SESSION_MANAGER, Method.SYNC_SESSION, [session.host_number, session.tper_number])


def _started(tper: TPer, message: Call) -> Session:
    positional = [item for item in message.parameters if not isinstance(item, Named)]
    optional = {item.name: item.value for item in message.parameters if isinstance(item, Named)}
    if len(positional) != 3 or not optional.keys() <= {_HOST_CHALLENGE, _HOST_SIGNING_AUTHORITY}:
        raise MethodFailed(Status.INVALID_PARAMETER)
    host, sp, write = positional
    if not isinstance(host, int) or not isinstance(sp, bytes) or write != 1:
        raise MethodFailed(Status.INVALID_PARAMETER)
    if sp != ADMIN_SP and not (sp == LOCKING_SP and tper.active):
        raise MethodFailed(Status.INVALID_PARAMETER)
    if tper.session is not None:
        same = tper.session.sp == sp
        raise MethodFailed(Status.SP_BUSY if same else Status.NO_SESSIONS_AVAILABLE)
    who = optional.get(_HOST_SIGNING_AUTHORITY, ANYBODY)
    proof = optional.get(_HOST_CHALLENGE, b"")
    if not isinstance(who, bytes) or not isinstance(proof, bytes):
        raise MethodFailed(Status.INVALID_PARAMETER)
    tper.sessions_started += 1
    session = Session(sp, FIRST_SESSION + tper.sessions_started, host)
    if who != ANYBODY:
        tper.prove(sp, who, proof)
        session.authenticated.add(who)
    return session
