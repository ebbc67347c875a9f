"""Orders to drives that are plugged in, over a Unix socket: one JSON object per line, one answer per line.

The plug, the reset button, and faults to order.  Hosts know nothing of this socket.
"""

from __future__ import annotations

import asyncio
import json
import socket
from typing import TYPE_CHECKING, Any

from appliance.errors import ApplianceError, LabFailed, Usage
from appliance.lab.drive.pins import opens
from appliance.lab.drive.rules import number
from appliance.lab.drive.sessions import FIRST_SESSION, Session
from appliance.lab.unix_socket import short_path
from appliance.tcg.uids import (
    ADMIN_SP,
    AUTHORITY,
    C_PIN_SID,
    LOCKING,
    LOCKING_SP,
    MBR_CONTROL,
    AuthorityColumn,
    Common,
    LockingColumn,
    MbrColumn,
    PinColumn,
    locking_range,
)

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from appliance.lab.drive.simulated import SimulatedDrive

_TIMEOUT = 10.0


def state(drive: SimulatedDrive) -> dict[str, Any]:
    """What a drive is and how it stands, without any PIN but those of its label."""
    tper = drive.tper
    kept = tper.admin.rows[C_PIN_SID][PinColumn.PIN]
    control = tper.locking.rows.get(MBR_CONTROL, {})
    ranges = [tper.locking.rows[name] for name in tper.locking.rows_of(LOCKING)]
    return {
        "image": str(drive.image),
        "nqn": drive.profile.nqn,
        "serial": drive.profile.serial,
        "kind": drive.profile.kind,
        "msid": drive.profile.msid,
        "psid": drive.profile.psid,
        "powered": drive.powered,
        "owned": not (isinstance(kept, bytes) and opens(kept, drive.profile.msid.encode())),
        "active": tper.active,
        "sid_blocked": tper.sid_blocked,
        "session": None if tper.session is None else tper.session.tper_number,
        "shadow": {
            "enabled": bool(control.get(MbrColumn.ENABLE)),
            "done": bool(control.get(MbrColumn.DONE)),
        },
        "ranges": [
            {column.name.lower(): number(row, column) for column in list(LockingColumn)[:6]}
            for row in ranges
        ],
    }


def _power_cycle(drive: SimulatedDrive) -> None:
    drive.power_off()
    drive.power_on()


def _cut_power(drive: SimulatedDrive, *, before: int | None = None, after: int | None = None) -> None:
    if (before is None) == (after is None) or (before or after or 0) < 0 or after == 0:
        raise Usage("power fails before or after a method", wanted="before: from 0, or after: from 1")
    drive.tper.orders.cut_before, drive.tper.orders.cut_after = before, after


def _slow(drive: SimulatedDrive, *, seconds: float) -> None:
    if not 0 <= seconds <= 60:
        raise Usage("a command cannot take so much longer", found=str(seconds), wanted="0 to 60 seconds")
    drive.tper.orders.delay = seconds


def _block_sid(drive: SimulatedDrive) -> None:
    """As firmware does at boot; until power fails."""
    drive.tper.sid_blocked = True


def _lock_out(drive: SimulatedDrive, *, authority: str) -> None:
    """Somebody has tried wrong PINs as often as they may; until power fails."""
    for sp in (drive.tper.admin, drive.tper.locking):
        if sp.name == ADMIN_SP and authority not in {"SID", "PSID"}:
            continue
        for name in sp.rows_of(AUTHORITY):
            row = sp.rows[name]
            credential = row[AuthorityColumn.CREDENTIAL]
            if (
                row[Common.NAME] == authority.encode()
                and isinstance(credential, bytes)
                and credential in sp.rows
            ):
                pin = sp.rows[credential]
                if not pin[PinColumn.TRY_LIMIT]:
                    raise Usage("this drive locks nobody out", found="a try limit of 0")
                pin[PinColumn.TRIES] = pin[PinColumn.TRY_LIMIT]
                drive.keep()
                return
    raise Usage("no such authority", found=authority, wanted="SID, PSID, Admin1 … or User1 …")


def _stale_session(drive: SimulatedDrive, *, sp: str = "Admin") -> None:
    """A host opened a session and died; until a reset of the protocol stack, or power fails."""
    if sp not in {"Admin", "Locking"}:
        raise Usage("no such security provider", found=sp, wanted="Admin or Locking")
    drive.tper.sessions_started += 1
    name = ADMIN_SP if sp == "Admin" else LOCKING_SP
    drive.tper.session = Session(name, FIRST_SESSION + drive.tper.sessions_started, 1)


def _place_range(drive: SimulatedDrive, *, which: int, start: int, length: int) -> None:
    """Firmware has let a range be that it must not: misaligned, or over another one."""
    row = drive.tper.locking.rows.get(locking_range(which))
    if row is None or which == 0 or start < 0 or length < 0 or start + length > drive.profile.blocks:
        raise Usage(
            "no such range", found=f"{which}: {length} blocks from {start}", wanted="1 to 8, on the drive"
        )
    row[LockingColumn.RANGE_START], row[LockingColumn.RANGE_LENGTH] = start, length
    drive.keep()


ORDERS: dict[str, Callable[..., None]] = {
    "status": lambda _drive: None,
    "power-cycle": _power_cycle,
    "power-off": lambda drive: drive.power_off(),
    "power-on": lambda drive: drive.power_on(),
    "warm-reset": lambda drive: drive.warm_reset(),
    "cut-power": _cut_power,
    "slow": _slow,
    "block-sid": _block_sid,
    "lock-out": _lock_out,
    "stale-session": _stale_session,
    "place-range": _place_range,
}


def carry_out(drives: list[SimulatedDrive], question: dict[str, Any]) -> dict[str, Any]:
    """Carry out an order to one drive, or to the only one; its state afterwards.

    Args:
        drives: all that are plugged in.
        question: "order", "drive" (a serial number, if there are several), and what the order takes.

    Raises:
        Usage: no such order, drive or argument.
    """
    arguments = {key: value for key, value in question.items() if key not in {"order", "drive"}}
    order = ORDERS.get(str(question.get("order")))
    if order is None:
        raise Usage("no such order", found=str(question.get("order")), wanted=", ".join(ORDERS))
    named = [drive for drive in drives if question.get("drive") in {None, drive.profile.serial}]
    if len(named) != 1:
        wanted = ", ".join(drive.profile.serial for drive in drives)
        raise Usage("which drive is not clear", found=str(question.get("drive")), wanted=wanted)
    try:
        order(named[0], **arguments)
    except TypeError as error:
        raise Usage("the order takes other arguments", found=str(error)) from error
    return state(named[0])


async def serve_control(path: Path, drives: list[SimulatedDrive]) -> asyncio.Server:
    """Take orders at a Unix socket, which its owner alone may use."""

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while line := await reader.readline():
            try:
                question = json.loads(line)
                answer = carry_out(drives, question if isinstance(question, dict) else {})
            except ApplianceError as error:
                answer = error.as_dict()
            except ValueError as error:
                answer = Usage("an order is a JSON object on a line", found=str(error)).as_dict()
            writer.write(json.dumps(answer).encode() + b"\n")
            await writer.drain()
        writer.close()

    try:
        server = await asyncio.start_unix_server(talk, path)
    except OSError as error:
        raise LabFailed(f"no socket can be made at {path}", found=str(error)) from error
    path.chmod(0o600)  # noqa: ASYNC240 - once, before anybody waits
    return server


def send_order(path: Path, question: dict[str, Any]) -> dict[str, Any]:
    """Send one order and wait for the drive's state afterwards.

    Raises:
        LabFailed: nobody takes orders there.
        Usage: the order is none.
    """
    try:
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(_TIMEOUT)
            with short_path(path) as short:
                connection.connect(short)
            connection.sendall(json.dumps(question).encode() + b"\n")
            text = b""
            while not text.endswith(b"\n"):
                more = connection.recv(65536)
                if not more:
                    raise ConnectionError("the connection ended")
                text += more
    except OSError as error:
        raise LabFailed(
            "no drive takes orders there",
            found=f"{path}: {error}",
            wanted="the socket that `appliance lab drive --control` named",
        ) from error
    answer: dict[str, Any] = json.loads(text)
    if "error" in answer:
        raise Usage(answer["message"], found=answer.get("found"), wanted=answer.get("wanted"))
    return answer
