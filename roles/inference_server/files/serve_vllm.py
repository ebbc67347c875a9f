#!/usr/bin/env python3
"""Serve one model with vLLM, which lives in a network of its own.

The launcher of the engine ``vllm``.  It promises the unit what every launcher does (``launching``), in
another way: vLLM and what it is made of open ports as they please, some of them on every address, so the
unit gives them a network namespace with nothing in it but a loopback of its own.  The one way in is a
socket on the node's loopback that systemd opened (sd_listen_fds(3)) and handed over.  What comes in there
is passed on, byte by byte, to a UNIX socket that only this user can reach, on which vLLM listens.

So draining needs nothing of the engine either: on SIGTERM nobody new is taken, who is being served is
served to the end or until ``--drain`` seconds are over, and only then is vLLM told to stop.
"""

from __future__ import annotations

import asyncio
import contextlib
import http.client
import os
import re
import signal
import socket
import struct
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Final

sys.path.insert(0, str(Path(__file__).parent))  # isolated Python leaves it out

from launching import (
    HEALTH_SECONDS,
    LOOPBACK,
    check_health,
    launcher_options,
    model_folder,
    notify,
    number,
)

if TYPE_CHECKING:
    import argparse
    from asyncio.subprocess import Process

FIRST_DESCRIPTOR = 3  # sd_listen_fds(3): where descriptors that are handed over begin
ASK_EVERY = 0.5  # seconds between questions while the engine loads
QUIET_TIMES = 2  # so often the engine says that it has nothing to do, before that is believed
STOP_SECONDS = 20  # what an engine that serves nobody may take to end
PIECE = 1 << 16
#: vLLM's names for what weights are computed in.
PRECISIONS: Final = {"as-is": "auto", "bf16": "bfloat16", "fp16": "float16", "fp32": "float32"}


class EngineEndedError(Exception):
    """vLLM ended by itself; the argument is its exit status."""


def parse_arguments(arguments: list[str]) -> argparse.Namespace:
    """The settings of every launcher, and those of this one."""
    parser = launcher_options(__doc__.splitlines()[0], model_folder)
    parser.add_argument("--precision", choices=PRECISIONS, required=True, help="what is computed in")
    parser.add_argument("--parallel", type=number(1, 16), required=True, help="GPUs for one model")
    parser.add_argument("--drain", type=number(1, 3600), required=True, help="seconds at the end")
    parser.add_argument("--engine-socket", type=Path, required=True, help="where vLLM listens")
    parser.add_argument("--eager", action="store_true", help="compile nothing")
    return parser.parse_args(arguments)


def engine_command(settings: argparse.Namespace) -> list[str]:
    """How vLLM is started: as we want, and all off that reaches outside or tells what was asked."""
    return [
        *(sys.executable, "-I", "-m", "vllm.entrypoints.openai.api_server"),
        *("--model", str(settings.model), "--served-model-name", settings.name),
        *("--uds", str(settings.engine_socket)),
        *("--dtype", PRECISIONS[settings.precision]),
        *("--tensor-parallel-size", str(settings.parallel)),
        *("--max-model-len", str(settings.context), "--max-num-seqs", str(settings.slots)),
        # Weights as safetensors or not at all; code of a model's makers is never run.
        *("--load-format", "safetensors", "--no-trust-remote-code"),
        *("--no-enable-log-requests", "--disable-uvicorn-access-log", "--disable-fastapi-docs"),
        *("--allowed-origins", "[]"),  # no page of another origin
        *(["--enforce-eager"] if settings.eager else []),
    ]


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


class EngineConnection(http.client.HTTPConnection):
    """A connection to the UNIX socket that vLLM listens on."""

    def __init__(self, path: Path) -> None:
        super().__init__(LOOPBACK, timeout=HEALTH_SECONDS)
        self._path = path

    def connect(self) -> None:
        """Connect there, whatever the address says."""
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(str(self._path))


async def wait_ready(engine: Process, path: Path, stopped: asyncio.Event) -> None:
    """Wait until vLLM is healthy, or we are to stop; systemd has a deadline, so there is none here.

    Raises:
        EngineEndedError: vLLM ended before that.
    """
    while not stopped.is_set():
        if engine.returncode is not None:
            raise EngineEndedError(engine.returncode)
        try:
            await asyncio.to_thread(check_health, EngineConnection(path))
        except OSError:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(stopped.wait(), ASK_EVERY)
        else:
            return


def connected(path: Path) -> socket.socket:
    """A connection to a UNIX socket.

    Waits for its turn where many come at a time, which a non-blocking one cannot: unix(7), EAGAIN.

    Raises:
        OSError: nobody listens, or nobody answered for a while.
    """
    opened = socket.socket(socket.AF_UNIX)
    try:
        opened.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, struct.pack("@ll", HEALTH_SECONDS, 0))
        opened.connect(str(path))
        opened.setblocking(False)
    except OSError:
        opened.close()
        raise
    return opened


class Relay:
    """Passes connections on to the engine, and knows how many there are."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._open: set[asyncio.Task[None]] = set()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection, until both sides have ended."""
        task = asyncio.current_task()
        if task is not None:
            self._open.add(task)
            task.add_done_callback(self._open.discard)
        # Cut off at the end, it ends like any other: asyncio would tell of it.
        with contextlib.suppress(asyncio.CancelledError), contextlib.closing(writer):
            try:
                opened = await asyncio.to_thread(connected, self._path)
                engine = await asyncio.open_unix_connection(sock=opened, limit=PIECE)
            except OSError:
                return  # it is ending; who asked finds the connection closed
            with contextlib.closing(engine[1]):
                await asyncio.gather(_pass_on(reader, engine[1]), _pass_on(engine[0], writer))

    async def drained(self, seconds: float) -> int:
        """Wait until nobody is served any more, at most so long; how many answers are not finished.

        A client may keep a connection for its next question, so the engine is asked too.  It has to say
        twice that it has nothing to do: what it said last may still be on its way.
        """
        until, quiet = time.monotonic() + seconds, 0
        while self._open and time.monotonic() < until:
            busy = await asyncio.to_thread(unfinished, self._path)
            quiet = quiet + 1 if busy == 0 else 0
            if quiet == QUIET_TIMES:
                return 0
            if self._open:  # while the engine was asked, the last may have ended
                await asyncio.wait(self._open, timeout=ASK_EVERY)
        return len(self._open)


def unfinished(path: Path) -> int | None:
    """How many requests vLLM runs or holds back, as its metrics say; None where it does not say."""
    connection = EngineConnection(path)
    try:
        connection.request("GET", "/metrics")
        text = connection.getresponse().read().decode("utf-8", "replace")
    except (OSError, http.client.HTTPException):
        return None
    finally:
        connection.close()
    counts = re.findall(r"^vllm:num_requests_(?:running|waiting)\{[^}]*\} (\S+)$", text, re.MULTILINE)
    return int(sum(map(float, counts))) if counts else None


async def _pass_on(source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
    """Everything from one side to the other, and then its end."""
    with contextlib.suppress(ConnectionError):
        while piece := await source.read(PIECE):
            target.write(piece)
            await target.drain()
        if target.can_write_eof():
            target.write_eof()


async def end(engine: Process) -> None:
    """Have vLLM end, and its children with it: politely, then not."""
    if engine.returncode is None:
        engine.terminate()
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(engine.wait(), STOP_SECONDS)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(engine.pid, signal.SIGKILL)  # what it left behind; it leads a group of its own
    await engine.wait()


async def serve(settings: argparse.Namespace, opened: socket.socket) -> int:
    """Serve until told to stop, or until vLLM ends; returns the exit status.

    Raises:
        EngineEndedError: vLLM ended by itself.
    """
    loop, stopped = asyncio.get_running_loop(), asyncio.Event()
    for stop in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(stop, stopped.set)
    settings.engine_socket.unlink(missing_ok=True)
    engine = await asyncio.create_subprocess_exec(
        *engine_command(settings), stdin=asyncio.subprocess.DEVNULL, start_new_session=True
    )
    try:
        await wait_ready(engine, settings.engine_socket, stopped)
        relay = Relay(settings.engine_socket)
        if not stopped.is_set():
            server = await asyncio.start_server(relay.serve, sock=opened, limit=PIECE)
            notify(f"READY=1\nSTATUS=Serving {settings.name} on {LOOPBACK}:{settings.port}")
            gone, told = asyncio.create_task(engine.wait()), asyncio.create_task(stopped.wait())
            await asyncio.wait({gone, told}, return_when=asyncio.FIRST_COMPLETED)
            server.close()
            if engine.returncode is not None:
                raise EngineEndedError(engine.returncode)
        notify("STOPPING=1\nSTATUS=Finishing answers")
        if left := await relay.drained(settings.drain):
            print(f"{left} answers were not finished within {settings.drain} s", file=sys.stderr)
    finally:
        await end(engine)
    return 0


def main(arguments: list[str]) -> int:
    """Serve until told to stop; returns the exit status."""
    settings = parse_arguments(arguments)
    began = time.monotonic()
    try:
        return asyncio.run(serve(settings, handed_over()))
    except EngineEndedError as fault:
        seconds = time.monotonic() - began
        print(f"vLLM ended by itself with {fault.args[0]} after {seconds:.0f} s", file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
