#!/usr/bin/env python3
"""Serve one model with Ollama, which lives in a network of its own.

The launcher of the engine ``ollama``.  Ollama listens on TCP, opens a further port for each model it runs,
and has no ``/health``; so it gets a network namespace with a loopback of its own, and clients come in by a
relay (``relaying``).  It is given a store with the signed model in it and nothing else (``model_store``),
loads it, and only then is anybody let in.
"""

from __future__ import annotations

import asyncio
import http.client
import json
import os
import re
import socket
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Final

sys.path.insert(0, str(Path(__file__).parent))  # isolated Python leaves it out

from check_model import read_list
from launching import HEALTH_SECONDS, LOOPBACK, launcher_options, model_file, number
from model_store import close, lay
from relaying import ASK_EVERY, Relay, Service, run

if TYPE_CHECKING:
    import argparse
    from collections.abc import Sequence

    from relaying import Conversation

ENGINE_PORT = 11434  # in its own network; nobody else has anything there
STOP_SECONDS = 20  # what an engine that serves nobody may take to end
#: Seconds without a word after which an answer that was begun counts as finished: Ollama does not say.
SILENCE: Final = 10.0
#: What Ollama's variables begin with, and those of the llama.cpp in it.
FOREIGN: Final = ("OLLAMA_", "LLAMA_ARG_", "LLAMA_LOG_")
#: Names without a registry or a tag; those that end in "-cloud" are of models that run at Ollama's makers.
NAME: Final = re.compile(r"(?!.*-cloud$)[A-Za-z0-9_][A-Za-z0-9_.-]{0,79}")


def parse_arguments(arguments: Sequence[str]) -> argparse.Namespace:
    """The settings of every launcher, and those of this one; ``digest`` is the model's."""
    parser = launcher_options(__doc__.splitlines()[0], model_file)
    parser.add_argument("--program", type=model_file, required=True, help="Ollama's own program")
    parser.add_argument("--digests", type=model_file, required=True, help="as sha256sum writes them")
    parser.add_argument("--store", type=Path, required=True, help="where Ollama shall find the model")
    parser.add_argument("--drain", type=number(1, 3600), required=True, help="seconds at the end")
    parser.add_argument("--load", type=number(1, 86400), required=True, help="seconds to load it in")
    parser.add_argument("--gpus", action="store_true", help="the model has to be on GPUs, all of it")
    settings = parser.parse_args(arguments)
    if not NAME.fullmatch(settings.name):
        parser.error(f"--name: found {settings.name!r}, wanted letters, digits and _.- and no -cloud")
    settings.digest = read_list(settings.digests.read_text("utf-8")).get(settings.model)
    if settings.digest is None:
        parser.error(f"--digests: found none of {settings.model}")
    return settings


def environment(settings: argparse.Namespace) -> dict[str, str]:
    """What Ollama is told: of its own variables these, and none that somebody else has set.

    It hands all others on to llama.cpp's server, which takes each of its options from a variable too.
    """
    ours = {name: value for name, value in os.environ.items() if not name.startswith(FOREIGN)}
    for name in ("NOTIFY_SOCKET", "LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES"):
        ours.pop(name, None)  # systemd's, to us
    return ours | {
        "OLLAMA_HOST": f"{LOOPBACK}:{ENGINE_PORT}",
        "OLLAMA_MODELS": str(settings.store),
        "OLLAMA_CONTEXT_LENGTH": str(settings.context),
        "OLLAMA_NUM_PARALLEL": str(settings.slots),
        "OLLAMA_MAX_LOADED_MODELS": "1",
        "OLLAMA_KEEP_ALIVE": "-1",  # loaded until the end
        "OLLAMA_LOAD_TIMEOUT": f"{settings.load}s",  # by itself it waits for five minutes
        "OLLAMA_NO_CLOUD": "1",  # neither models that run elsewhere nor searches, nor what is recommended
        "OLLAMA_NOPRUNE": "1",  # the store is ours
        "LLAMA_ARG_OFFLINE": "1",  # a switch of the unit's, taken out with the others
        "GIN_MODE": "release",
    }


def ask(method: str, path: str, values: object = None, seconds: float | None = None) -> bytes:
    """What Ollama answers.

    Args:
        method: of HTTP.
        path: the same.
        values: what is sent as JSON.
        seconds: how long it may take; None: as long as it takes.

    Raises:
        OSError: it does not answer, or another status than 200.
    """
    connection = http.client.HTTPConnection(LOOPBACK, ENGINE_PORT, timeout=seconds)
    try:
        connection.request(
            method,
            path,
            None if values is None else json.dumps(values),
            {"Content-Type": "application/json"},
        )
        response = connection.getresponse()
        body = response.read()
    except http.client.HTTPException as fault:
        raise OSError(f"{path} was not answered: {fault!r}") from fault
    finally:
        connection.close()
    if response.status != http.client.OK:
        raise OSError(f"{path} answered {response.status}: {body[:300].decode('utf-8', 'replace')}")
    return body


async def wait_ready(settings: argparse.Namespace, whole_name: str) -> None:
    """Wait until Ollama answers, have it call the model by its short name, and load it.

    Raises:
        OSError: it refuses, or offers other models than this.
    """
    while True:
        try:
            await asyncio.to_thread(ask, "GET", "/api/version", None, HEALTH_SECONDS)
        except OSError:
            await asyncio.sleep(ASK_EVERY)
        else:
            break
    copied = {"source": whole_name, "destination": settings.name}
    await asyncio.to_thread(ask, "POST", "/api/copy", copied, HEALTH_SECONDS)
    close(settings.store)
    body = await asyncio.to_thread(ask, "GET", "/v1/models", None, HEALTH_SECONDS)
    offered = [each.get("id") for each in json.loads(body).get("data") or []]
    if offered != [f"{settings.name}:latest"]:
        raise OSError(f"Ollama offers {offered}, wanted {settings.name}:latest and nothing else")
    # A question without words loads the model (Ollama, docs/api.md, "Load a model").
    await asyncio.to_thread(ask, "POST", "/api/generate", {"model": settings.name, "stream": False})
    check_loaded(settings, await asyncio.to_thread(ask, "GET", "/api/ps", None, HEALTH_SECONDS))


def check_loaded(settings: argparse.Namespace, body: bytes) -> None:
    """Refuse a model that was loaded in another way than the definition says.

    Ollama goes on without a word where it finds no GPU, or a driver that is too old for it, and where the
    model was made for less context: answers are then slow, and long conversations shortened.

    Args:
        settings: how it is to be.
        body: what Ollama answers on ``/api/ps`` (docs/api.md, "List Running Models"; sizes in bytes).

    Raises:
        OSError: it is not so.
    """
    loaded = json.loads(body).get("models") or []
    if len(loaded) != 1:
        raise OSError(f"Ollama has loaded {len(loaded)} models, wanted {settings.name} alone")
    size, on_gpus, context = (loaded[0].get(each, 0) for each in ("size", "size_vram", "context_length"))
    if settings.gpus and not 0 < size <= on_gpus:
        raise OSError(
            f"Ollama has {on_gpus} of the model's {size} bytes on GPUs, wanted all of them: it found no "
            "GPU, the driver is too old for this release, or their memory is too small (journal, above)"
        )
    if context != settings.context:
        raise OSError(
            f"Ollama takes {context} tokens, wanted {settings.context}: the model was made for no more"
        )


def connected() -> socket.socket:
    """A connection to Ollama."""
    opened = socket.create_connection((LOOPBACK, ENGINE_PORT), timeout=HEALTH_SECONDS)
    opened.setblocking(False)
    return opened


def unfinished(conversations: Sequence[Conversation]) -> int:
    """How many answers are owed: the client spoke last, or Ollama a moment ago."""
    now = time.monotonic()
    return sum(each.client_last or now - each.spoke < SILENCE for each in conversations)


def service(settings: argparse.Namespace) -> Service:
    """Lay the store, and say how Ollama is served here."""
    whole_name = lay(settings.store, settings.name, settings.model, settings.digest)
    return Service(
        command=[str(settings.program), "serve"],
        environment=environment(settings),
        ready=lambda: wait_ready(settings, whole_name),
        relay=Relay(connected, unfinished),
        status=f"Serving {settings.name} on {LOOPBACK}:{settings.port}",
        drain=settings.drain,
        stop=STOP_SECONDS,
    )


def main(arguments: Sequence[str]) -> int:
    """Serve until told to stop; returns the exit status."""
    settings = parse_arguments(arguments)
    return run("Ollama", lambda: service(settings))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
