"""An engine in a network of its own, behind a relay: what launchers of such engines share.

The one way in is a socket on the node's loopback that systemd opened (sd_listen_fds(3)) and handed over.
What comes in there is passed on, byte by byte, to where the engine listens, which nobody else can reach
(docs/decisions/0075).  On SIGTERM nobody new is taken, who is being served is served to the end or until
time is over, and only then is the engine told to stop.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import sys
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from launching import notify

if TYPE_CHECKING:
    from asyncio.subprocess import Process
    from collections.abc import Awaitable, Callable, Mapping, Sequence

FIRST_DESCRIPTOR: Final = 3  # sd_listen_fds(3): where descriptors that are handed over begin
ASK_EVERY: Final = 0.5  # seconds between questions to the engine
QUIET_TIMES: Final = 2  # so often it is found to owe nothing, before that is believed
PIECE: Final = 1 << 16


class EngineEndedError(Exception):
    """The engine ended by itself; the argument is its exit status."""


def handed_over() -> socket.socket:
    """The socket that systemd opened for us.

    Raises:
        OSError: there is none, or several.
    """
    if os.environ.get("LISTEN_PID") != str(os.getpid()) or os.environ.get("LISTEN_FDS") != "1":
        raise OSError("systemd handed over no socket, or several: the unit's .socket is missing")
    opened = socket.socket(fileno=FIRST_DESCRIPTOR)
    opened.setblocking(False)
    opened.set_inheritable(False)
    return opened


@dataclass
class Conversation:
    """One connection: who spoke last, and when (seconds of the monotonic clock)."""

    client_last: bool = True
    spoke: float = 0.0


class Relay:
    """Passes connections on to the engine, and knows how many there are.

    Args:
        connect: a connection to the engine, not blocking; OSError where it takes none.
        unfinished: how many answers the engine owes to these connections, None where it does not say.
    """

    def __init__(
        self,
        connect: Callable[[], socket.socket],
        unfinished: Callable[[Sequence[Conversation]], int | None],
    ) -> None:
        self._connect, self._unfinished = connect, unfinished
        self._open: dict[asyncio.Task[None], Conversation] = {}

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection, until both sides have ended."""
        said = Conversation(spoke=time.monotonic())
        task = asyncio.current_task()
        if task is not None:
            self._open[task] = said
            task.add_done_callback(lambda ended: self._open.pop(ended, None))
        # Cut off at the end, it ends like any other: asyncio would tell of it.
        with contextlib.suppress(asyncio.CancelledError), contextlib.closing(writer):
            try:
                opened = await asyncio.to_thread(self._connect)
                engine = await asyncio.open_connection(sock=opened, limit=PIECE)
            except OSError:
                return  # it is ending; who asked finds the connection closed
            with contextlib.closing(engine[1]):
                await asyncio.gather(
                    _pass_on(reader, engine[1], said, client=True),
                    _pass_on(engine[0], writer, said, client=False),
                )

    async def drained(self, seconds: float) -> int:
        """Wait until nobody is served any more, at most so long; how many answers are not finished.

        A client may keep a connection for its next question, so what is owed is asked too.  It has to be
        nothing twice: what the engine said last may still be on its way.
        """
        until, quiet = time.monotonic() + seconds, 0
        while self._open and time.monotonic() < until:
            owed = await asyncio.to_thread(self._unfinished, [*self._open.values()])
            quiet = quiet + 1 if owed == 0 else 0
            if quiet == QUIET_TIMES:
                return 0
            if self._open:  # while that was asked, the last may have ended
                await asyncio.wait([*self._open], timeout=ASK_EVERY)
        return len(self._open)


async def _pass_on(
    source: asyncio.StreamReader, target: asyncio.StreamWriter, said: Conversation, *, client: bool
) -> None:
    """Everything from one side to the other, and then its end."""
    with contextlib.suppress(ConnectionError):
        while piece := await source.read(PIECE):
            said.client_last, said.spoke = client, time.monotonic()
            target.write(piece)
            await target.drain()
        if target.can_write_eof():
            target.write_eof()


async def end(engine: Process, seconds: float) -> None:
    """Have the engine end, and its children with it: politely, and after so long not."""
    if engine.returncode is None:
        engine.terminate()
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(engine.wait(), seconds)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(engine.pid, signal.SIGKILL)  # what it left behind; it leads a group of its own
    await engine.wait()


@dataclass(frozen=True)
class Service:
    """An engine to be served.

    Args:
        command: how it is started.
        environment: what it is told; None: what we were.
        ready: returns once it can serve; systemd has a deadline, so it needs none.
        relay: what clients reach it by.
        status: what systemd is told when it serves.
        drain: seconds to finish answers in.
        stop: seconds that an engine which serves nobody may take to end.
    """

    command: Sequence[str]
    environment: Mapping[str, str] | None
    ready: Callable[[], Awaitable[None]]
    relay: Relay
    status: str
    drain: int
    stop: float


async def serve(service: Service, opened: socket.socket) -> int:
    """Serve until told to stop, or until the engine ends; returns the exit status.

    Raises:
        EngineEndedError: the engine ended by itself.
        OSError: it cannot serve.
    """
    loop, stopped = asyncio.get_running_loop(), asyncio.Event()
    for stop in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(stop, stopped.set)
    engine = await asyncio.create_subprocess_exec(
        *service.command,
        stdin=asyncio.subprocess.DEVNULL,
        start_new_session=True,
        env=service.environment,
    )
    gone, told = asyncio.create_task(engine.wait()), asyncio.create_task(stopped.wait())
    ready = asyncio.ensure_future(service.ready())
    try:
        await asyncio.wait({gone, told, ready}, return_when=asyncio.FIRST_COMPLETED)
        _ended(engine, stopped)
        if ready.done() and not stopped.is_set():
            await ready
            server = await asyncio.start_server(service.relay.serve, sock=opened, limit=PIECE)
            notify(f"READY=1\nSTATUS={service.status}")
            await asyncio.wait({gone, told}, return_when=asyncio.FIRST_COMPLETED)
            server.close()
            _ended(engine, stopped)
        notify("STOPPING=1\nSTATUS=Finishing answers")
        if left := await service.relay.drained(service.drain):
            print(f"{left} answers were not finished within {service.drain} s", file=sys.stderr)
    finally:
        ready.cancel()
        told.cancel()
        await end(engine, service.stop)
        await asyncio.gather(ready, told, gone, return_exceptions=True)
    return 0


def _ended(engine: Process, stopped: asyncio.Event) -> None:
    if engine.returncode is not None and not stopped.is_set():
        raise EngineEndedError(engine.returncode)


def run(engine: str, service: Callable[[], Service]) -> int:
    """What a launcher does: serve until told to stop; returns the exit status.

    Args:
        engine: its name, for messages.
        service: makes it ready to be started, once it is known that systemd handed a socket over.

    Raises:
        OSError: systemd handed over no socket.
    """
    opened, began = handed_over(), time.monotonic()
    try:
        return asyncio.run(serve(service(), opened))
    except EngineEndedError as fault:
        seconds = time.monotonic() - began
        print(f"{engine} ended by itself with {fault.args[0]} after {seconds:.0f} s", file=sys.stderr)
    except OSError as fault:
        print(f"{engine} cannot serve this model: {fault}", file=sys.stderr)
    return 1
