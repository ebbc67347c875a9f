"""Drives that are plugged in until somebody ends the program."""

from __future__ import annotations

import asyncio
import contextlib
import signal
from typing import TYPE_CHECKING

from appliance.errors import LabFailed
from appliance.lab.drive.control import serve_control
from appliance.lab.drive.fabrics import Target
from appliance.lab.drive.server import Server

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from appliance.lab.drive.simulated import SimulatedDrive


def serve_drives(
    drives: list[SimulatedDrive],
    address: str,
    port: int,
    control: Path | None,
    *,
    ready: Callable[[int], None],
    report: Callable[[str], None],
) -> None:
    """Serve drives until SIGINT or SIGTERM.

    Args:
        drives: opened; they are closed afterwards.
        address: to listen on.
        port: to listen on; 0 leaves it to the system.
        control: path of the Unix socket for orders.
        ready: called with the port when hosts can connect and orders are taken.
        report: called with a line about what happens.

    Raises:
        LabFailed: the address or the socket cannot be had.
    """
    try:
        asyncio.run(_serve(drives, (address, port), control, ready, report))
    finally:
        for drive in drives:
            drive.close()
        if control is not None:
            control.unlink(missing_ok=True)


async def _serve(
    drives: list[SimulatedDrive],
    place: tuple[str, int],
    control: Path | None,
    ready: Callable[[int], None],
    report: Callable[[str], None],
) -> None:
    ended = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, ended.set)
    server = Server(Target({drive.profile.nqn: drive for drive in drives}), report)
    for drive in drives:
        drive.tper.log = _named(drive.profile.serial, report)
    try:
        port = await server.start(*place)
    except OSError as error:
        raise LabFailed(f"no drive can be reached at {place[0]}:{place[1]}", found=str(error)) from error
    orders = await serve_control(control, drives) if control is not None else contextlib.nullcontext()
    try:
        ready(port)
        await ended.wait()
    finally:
        await server.stop()
        if isinstance(orders, asyncio.Server):
            orders.close()


def _named(serial: str, report: Callable[[str], None]) -> Callable[[str], None]:
    return lambda line: report(f"{serial}: {line}")
