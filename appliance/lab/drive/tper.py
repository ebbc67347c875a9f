"""A TPer: security providers, the session with one of them, and what resets do to them.

Values in, bytes out: no file, no socket.  Whoever makes it says where its changes are kept and where its
byte tables lie.  Sessions and methods: TCG Storage Opal SSC 2.30, section 4.1.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from appliance.lab.drive import life, tables
from appliance.lab.drive.admin_sp import factory_admin_sp
from appliance.lab.drive.locking_sp import factory_locking_sp, new_keys
from appliance.lab.drive.orders import Orders
from appliance.lab.drive.pins import factory_seal, opens
from appliance.lab.drive.rules import number
from appliance.lab.drive.sessions import SMALLEST_COMPACKET, properties, start_session
from appliance.tcg.packets import HEADERS, Packet, pack
from appliance.tcg.status import MethodFailed, Status
from appliance.tcg.stream import Call, Signal, StreamViolation, Token, read_message, result
from appliance.tcg.uids import (
    C_PIN,
    C_PIN_SID,
    DATA_STORE,
    LOCKING,
    LOCKING_SP,
    MBR,
    MBR_CONTROL,
    METHOD_NAMES,
    SESSION_MANAGER,
    SID,
    AuthorityColumn,
    KeyColumn,
    LifeCycle,
    LockingColumn,
    MbrColumn,
    Method,
    PinColumn,
    Reset,
    SpColumn,
    range_key,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from appliance.lab.drive.profile import Profile
    from appliance.lab.drive.provider import SecurityProvider
    from appliance.lab.drive.sessions import Session
    from appliance.lab.drive.space import Space
    from appliance.tcg.stream import Value

_METHODS: dict[bytes, Callable[[TPer, Session, Call], list[Value]]] = {
    Method.GET: tables.get,
    Method.SET: tables.set_values,
    Method.NEXT: tables.next_rows,
    Method.GET_ACL: tables.get_acl,
    Method.ACTIVATE: life.activate,
    Method.REVERT: life.revert,
    Method.REVERT_SP: life.revert_sp,
    Method.GEN_KEY: life.gen_key,
    Method.AUTHENTICATE: life.authenticate,
    Method.RANDOM: life.random,
}
_READS = {Method.GET, Method.NEXT, Method.GET_ACL, Method.RANDOM}


class TPer:
    """The trusted part of a drive.

    Args:
        profile: what the drive is.
        spaces: where the byte tables MBR and DataStore lie, by their UIDs.
        keep: called with no arguments after every change that must outlast power, before it is answered.

    Attributes:
        admin: the Admin SP.
        locking: the Locking SP, also while it is not active.
        session: the one session that may be open.
        largest_answer: bytes of a ComPacket that the host takes.
        orders: faults to order.
        log: called with a line for every method and its status, without parameters: no PIN gets into it.
    """

    COMID = 0x1000

    def __init__(self, profile: Profile, spaces: dict[bytes, Space], keep: Callable[[], None]) -> None:
        self.profile = profile
        self.spaces = {name: space for name, space in spaces.items() if profile.shadow or name != MBR}
        self.locking = factory_locking_sp(profile, new_keys(profile))
        self.admin = factory_admin_sp(profile)
        self.orders = Orders()
        self.log: Callable[[str], None] = lambda _line: None
        self.session: Session | None = None
        self.sessions_started = 0
        self.largest_answer = SMALLEST_COMPACKET
        self.sid_blocked = False
        self.unblocked_by_reset = False
        self._keep = keep
        self._before: tuple[SecurityProvider, SecurityProvider] | None = None

    @property
    def active(self) -> bool:
        """Whether the Locking SP is turned on, and with it locking."""
        return self.admin.rows[LOCKING_SP][SpColumn.LIFE_CYCLE] == LifeCycle.MANUFACTURED

    def provider(self, session: Session) -> SecurityProvider:
        """The SP a session is with."""
        return self.locking if session.sp == LOCKING_SP else self.admin

    # --- methods ----------------------------------------------------------------------------------

    def answer(self, packet: Packet) -> bytes:
        """Carry out what a packet asks for; nothing where there is nothing to say.

        Raises:
            PowerLost: as ordered.
        """
        session = self.session
        for_session = packet.tper_session or packet.host_session
        if for_session and (session is None or not session.has_numbers(packet)):
            return b""
        try:
            message = read_message(packet.payload)
        except StreamViolation:
            if for_session:
                self.end_session()
            return b""
        self.orders.before_method()
        if not for_session:
            payload = self._managed(message)
        elif session is None:
            return b""
        elif isinstance(message, Signal):
            payload = self._signalled(message)
        else:
            payload = self._called(session, message)
        if not payload:
            return b""
        answer = pack(Packet(self.COMID, packet.tper_session, packet.host_session, payload))
        if session is not None and session.ends:
            self.end_session()
        self.orders.after_method()
        return answer

    def _managed(self, message: Call | Signal) -> bytes:
        if isinstance(message, Call) and message.invoking == SESSION_MANAGER:
            self.log(METHOD_NAMES.get(message.method, message.method.hex()))
            if message.method == Method.PROPERTIES:
                return properties(self, message)
            if message.method == Method.START_SESSION:
                return start_session(self, message)
        return b""

    def _signalled(self, signal: Signal) -> bytes:
        """The end of a session or of a transaction, or the beginning of one."""
        if signal.token is Token.END_OF_SESSION:
            self.log("EndSession")
            self.end_session()
            return bytes([Token.END_OF_SESSION])
        status = 0
        if signal.token is Token.START_TRANSACTION:
            if self._before is None:
                self._before = (self.admin.copy(), self.locking.copy())
            else:
                status = 1
        elif self._before is None:
            return b""
        elif signal.status:
            (self.admin, self.locking), self._before = self._before, None
        else:
            self._before = None
            self._keep()
        return bytes([signal.token, status])

    def _called(self, session: Session, message: Call) -> bytes:
        title = METHOD_NAMES.get(message.method, message.method.hex())
        method = _METHODS.get(message.method)
        try:
            if method is None:
                raise MethodFailed(Status.NOT_AUTHORIZED)
            values = method(self, session, message)
            answer = result(values, Status.SUCCESS)
            if len(answer) + HEADERS > self.largest_answer:
                raise MethodFailed(Status.RESPONSE_OVERFLOW)
            self.log(f"{title} {message.invoking.hex()}: SUCCESS")
        except MethodFailed as failed:
            self.log(f"{title} {message.invoking.hex()}: {failed.status.name}")
            return result([], failed.status)
        if message.method not in _READS and self._before is None:
            self._keep()
        return answer

    def prove(self, sp_name: bytes, who: bytes, proof: bytes) -> None:
        """Check the PIN of an authority, and count wrong ones.

        Raises:
            MethodFailed: it is wrong, or may not be tried.
        """
        sp = self.locking if sp_name == LOCKING_SP else self.admin
        row = sp.rows.get(who)
        reference = row.get(AuthorityColumn.CREDENTIAL) if row else None
        credential = sp.rows.get(reference) if isinstance(reference, bytes) else None
        if row is None or credential is None:
            raise MethodFailed(Status.INVALID_PARAMETER)
        if not row[AuthorityColumn.ENABLED] or (who == SID and self.sid_blocked):
            raise MethodFailed(Status.NOT_AUTHORIZED)
        tries, limit = number(credential, PinColumn.TRIES), number(credential, PinColumn.TRY_LIMIT)
        if limit and tries >= limit:
            raise MethodFailed(Status.AUTHORITY_LOCKED_OUT)
        kept = credential[PinColumn.PIN]
        right = isinstance(kept, bytes) and opens(kept, proof)
        if right and not tries:
            return
        credential[PinColumn.TRIES] = 0 if right else tries + 1
        self._keep()
        if not right:
            raise MethodFailed(Status.NOT_AUTHORIZED)

    # --- as made ----------------------------------------------------------------------------------

    def revert_locking(self, *, keep_global: bool = False) -> None:
        """The Locking SP as made, with new keys; Opal SSC 2.30, section 5.1.3.3."""
        keys, kept = new_keys(self.profile), self.locking.rows.get(range_key(0), {}).get(KeyColumn.KEY)
        if keep_global and isinstance(kept, bytes):
            keys[range_key(0)] = kept
        self.locking = factory_locking_sp(self.profile, keys)
        self.admin.rows[LOCKING_SP][SpColumn.LIFE_CYCLE] = LifeCycle.MANUFACTURED_INACTIVE
        for name in (MBR, DATA_STORE):
            if name in self.spaces:
                self.spaces[name].clear(0, self.spaces[name].size)

    def revert_admin(self) -> None:
        """The Admin SP as made; SID's PIN is MSID's from now on; section 5.1.2.2.1."""
        self.admin = factory_admin_sp(self.profile)
        self.admin.rows[C_PIN_SID][PinColumn.PIN] = factory_seal(self.profile.msid.encode())
        self.sid_blocked = False

    # --- resets -----------------------------------------------------------------------------------

    def power_cycle(self) -> None:
        """Power fails and comes back: all is locked that locks on reset, and SID is not blocked."""
        for sp in (self.admin, self.locking):
            for name in sp.rows_of(C_PIN):
                if PinColumn.TRIES in sp.rows[name] and not sp.rows[name][PinColumn.PERSISTENCE]:
                    sp.rows[name][PinColumn.TRIES] = 0
        self.sid_blocked = False
        self.reset(Reset.POWER_CYCLE)

    def hardware_reset(self) -> None:
        """A reset of the interface, as at a warm reboot: what was unlocked stays so, unless set to lock."""
        if self.unblocked_by_reset:
            self.sid_blocked = False
        self.reset(Reset.HARDWARE)

    def reset(self, kind: Reset) -> None:
        """Sessions end, ranges lock whose locks are enabled, the shadow comes back; cf. section 3.2.3."""
        self.end_session()
        self.largest_answer = SMALLEST_COMPACKET
        for name in self.locking.rows_of(LOCKING):
            row = self.locking.rows[name]
            listed = row[LockingColumn.LOCK_ON_RESET]
            if isinstance(listed, list) and kind in listed:
                for enabled, locked in (
                    (LockingColumn.READ_LOCK_ENABLED, LockingColumn.READ_LOCKED),
                    (LockingColumn.WRITE_LOCK_ENABLED, LockingColumn.WRITE_LOCKED),
                ):
                    row[locked] = int(bool(row[locked] or row[enabled]))
        shadow = self.locking.rows.get(MBR_CONTROL, {})
        done_on = shadow.get(MbrColumn.DONE_ON_RESET)
        if isinstance(done_on, list) and kind in done_on:
            shadow[MbrColumn.DONE] = 0
        self._keep()

    def end_session(self) -> None:
        """A session ends; a transaction that it left open has not been."""
        if self._before is not None:
            (self.admin, self.locking), self._before = self._before, None
        self.session = None
