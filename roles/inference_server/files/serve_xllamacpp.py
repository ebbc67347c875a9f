#!/usr/bin/env python3
"""Serve one model with xllamacpp, on loopback only.

The launcher of the engine ``xllamacpp``, started by ``appliance-inference.service`` with the node's
Python.  What every launcher promises the unit:

* options ``--model PATH --name NAME --port PORT --context TOKENS --slots COUNT``;
* an OpenAI-compatible server on 127.0.0.1 and nowhere else, with ``GET /health``;
* ``READY=1`` to systemd (sd_notify protocol) once that health is good, and a clean end on SIGTERM;
* nothing is fetched, and no prompt is written to the log.
"""

from __future__ import annotations

import argparse
import http.client
import os
import signal
import socket
import sys
from pathlib import Path
from typing import Any

LOOPBACK = "127.0.0.1"
HEALTH_SECONDS = 30  # one answer of an idle server; loading is over by then
LOG_WARNINGS = 2  # llama.cpp verbosity: 1 errors, 2 warnings; prompts appear from 4 on


def model_path(text: str) -> Path:
    """An absolute path of a readable file: a bare name would make engines look for it online."""
    path = Path(text)
    if not path.is_absolute():
        raise argparse.ArgumentTypeError(f"found {text!r}, wanted an absolute path")
    if not path.is_file():
        raise argparse.ArgumentTypeError(f"{text}: found no file there")
    if not os.access(path, os.R_OK):
        raise argparse.ArgumentTypeError(f"{text}: this user may not read it")
    return path


def number(low: int, high: int) -> Any:
    """An argument type for whole numbers from ``low`` to ``high``."""

    def parse(text: str) -> int:
        if not text.isascii() or not text.isdigit() or not low <= int(text) <= high:
            raise argparse.ArgumentTypeError(f"found {text!r}, wanted a number from {low} to {high}")
        return int(text)

    return parse


def parse_arguments(arguments: list[str]) -> argparse.Namespace:
    """The settings every launcher takes; wrong ones end the program with code 2."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0], allow_abbrev=False)
    parser.add_argument("--model", type=model_path, required=True, help="absolute path of the weights")
    parser.add_argument("--name", required=True, help="the model name clients ask for")
    parser.add_argument("--port", type=number(1, 65535), required=True, help="TCP port on loopback")
    parser.add_argument("--context", type=number(1, 2**24), required=True, help="tokens per request")
    parser.add_argument("--slots", type=number(1, 1024), required=True, help="requests served at a time")
    return parser.parse_args(arguments)


def fill(parameters: Any, settings: argparse.Namespace) -> Any:
    """Set xllamacpp's ``CommonParams``: what we want, and everything off that reaches outside."""
    parameters.model.path = str(settings.model)
    parameters.model_alias = {settings.name}
    parameters.hostnames = [LOOPBACK]
    parameters.port = settings.port
    parameters.n_parallel = settings.slots
    parameters.n_ctx = settings.context * settings.slots  # the engine divides it among the slots
    parameters.cache_ram_mib = 0  # the default keeps up to 8 GiB of former prompts in memory
    parameters.cache_idle_slots = False  # would need it
    parameters.verbosity = LOG_WARNINGS
    parameters.endpoint_metrics = True
    parameters.endpoint_slots = False  # shows what others ask
    parameters.endpoint_props = False  # would let a client change settings
    parameters.offline = True
    parameters.cors_origins = f"http://{LOOPBACK}"  # no page of another origin
    parameters.ui = False
    parameters.ui_mcp_proxy = False  # a relay for browsers
    parameters.server_tools = []
    return parameters


def check_health(port: int) -> None:
    """Ask the server on loopback whether it can serve.

    Raises:
        OSError: it does not answer, or answers something else than 200.
    """
    connection = http.client.HTTPConnection(LOOPBACK, port, timeout=HEALTH_SECONDS)
    try:
        connection.request("GET", "/health")
        response = connection.getresponse()
        response.read()
    finally:
        connection.close()
    if response.status != http.client.OK:
        raise OSError(f"/health answered {response.status}")


def notify(state: str) -> None:
    """Tell systemd a state (sd_notify(3)); nothing happens when it did not start us."""
    address = os.environ.get("NOTIFY_SOCKET")
    if not address:
        return
    # A leading @ stands for the zero byte of an abstract socket.
    target = "\0" + address[1:] if address.startswith("@") else address
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as channel:
        channel.sendto(state.encode(), target)


def main(arguments: list[str]) -> int:
    """Serve until told to stop; returns the exit status."""
    settings = parse_arguments(arguments)
    # Blocked before the engine starts its threads, so that they inherit it and we alone are told.
    stops = {signal.SIGTERM, signal.SIGINT}
    signal.pthread_sigmask(signal.SIG_BLOCK, stops)

    import xllamacpp

    server = xllamacpp.Server(fill(xllamacpp.CommonParams(), settings))
    check_health(settings.port)
    notify(f"READY=1\nSTATUS=Serving {settings.name} on {LOOPBACK}:{settings.port}")
    signal.sigwait(stops)
    notify("STOPPING=1")
    del server
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
