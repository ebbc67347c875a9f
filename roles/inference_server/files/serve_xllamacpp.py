#!/usr/bin/env python3
"""Serve one model with xllamacpp, on loopback only.

The launcher of the engine ``xllamacpp``, started by ``appliance-inference.service`` with the node's
Python.  What every launcher promises the unit (``launching``):

* options ``--model PATH --name NAME --port PORT --context TOKENS --slots COUNT``;
* an OpenAI-compatible server on 127.0.0.1 and nowhere else, with ``GET /health``;
* ``READY=1`` to systemd (sd_notify protocol) once that health is good, and a clean end on SIGTERM;
* nothing is fetched, and no prompt is written to the log.
"""

from __future__ import annotations

import http.client
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

sys.path.insert(0, str(Path(__file__).parent))  # isolated Python leaves it out

from launching import HEALTH_SECONDS, LOOPBACK, check_health, launcher_options, model_file, notify

if TYPE_CHECKING:
    import argparse

LOG_WARNINGS = 2  # llama.cpp verbosity: 1 errors, 2 warnings; prompts appear from 4 on


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


def main(arguments: list[str]) -> int:
    """Serve until told to stop; returns the exit status."""
    settings = launcher_options(__doc__.splitlines()[0], model_file).parse_args(arguments)
    # Blocked before the engine starts its threads, so that they inherit it and we alone are told.
    stops = {signal.SIGTERM, signal.SIGINT}
    signal.pthread_sigmask(signal.SIG_BLOCK, stops)

    import xllamacpp

    server = xllamacpp.Server(fill(xllamacpp.CommonParams(), settings))
    check_health(http.client.HTTPConnection(LOOPBACK, settings.port, timeout=HEALTH_SECONDS))
    notify(f"READY=1\nSTATUS=Serving {settings.name} on {LOOPBACK}:{settings.port}")
    signal.sigwait(stops)
    notify("STOPPING=1")
    del server
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
