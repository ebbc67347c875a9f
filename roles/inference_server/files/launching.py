"""What every launcher promises the unit, and does alike: its options, health, and what systemd is told.

Lies beside the launchers, which put their own folder on the path: they run isolated (``python -I``).
The standard library alone: the environment holds the engine's wheels and nothing else.
"""

from __future__ import annotations

import argparse
import http.client
import os
import socket
from pathlib import Path
from typing import Any

LOOPBACK = "127.0.0.1"
HEALTH_SECONDS = 30  # one answer of an idle server; loading is over by then
MOST_CONTEXT = 2**24


def readable(text: str) -> Path:
    """An absolute path that this user may read: a bare name would make engines look for it online."""
    path = Path(text)
    if not path.is_absolute():
        raise argparse.ArgumentTypeError(f"found {text!r}, wanted an absolute path")
    if path.exists() and not os.access(path, os.R_OK):
        raise argparse.ArgumentTypeError(f"{text}: this user may not read it")
    return path


def model_file(text: str) -> Path:
    """An absolute path of a readable file."""
    path = readable(text)
    if not path.is_file():
        raise argparse.ArgumentTypeError(f"{text}: found no file there")
    return path


def model_folder(text: str) -> Path:
    """An absolute path of a folder that holds a model's description."""
    path = readable(text)
    if not (path / "config.json").is_file():
        raise argparse.ArgumentTypeError(f"{text}: found no folder with config.json there")
    return path


def number(low: int, high: int) -> Any:
    """An argument type for whole numbers from ``low`` to ``high``."""

    def parse(text: str) -> int:
        if not text.isascii() or not text.isdigit() or not low <= int(text) <= high:
            raise argparse.ArgumentTypeError(f"found {text!r}, wanted a number from {low} to {high}")
        return int(text)

    return parse


def launcher_options(description: str, model: Any) -> argparse.ArgumentParser:
    """The options every launcher takes; wrong ones end the program with code 2.

    Args:
        description: of the launcher, in one line.
        model: the argument type of its model.
    """
    parser = argparse.ArgumentParser(description=description, allow_abbrev=False)
    parser.add_argument("--model", type=model, required=True, help="absolute path of the weights")
    parser.add_argument("--name", required=True, help="the model name clients ask for")
    parser.add_argument("--port", type=number(1, 65535), required=True, help="TCP port on loopback")
    parser.add_argument("--context", type=number(1, MOST_CONTEXT), required=True, help="tokens per request")
    parser.add_argument("--slots", type=number(1, 1024), required=True, help="requests served at a time")
    return parser


def check_health(connection: http.client.HTTPConnection) -> None:
    """Ask a server whether it can serve.

    Raises:
        OSError: it does not answer, or answers something else than 200.
    """
    try:
        connection.request("GET", "/health")
        response = connection.getresponse()
        response.read()
    except http.client.HTTPException as fault:
        raise OSError(f"/health was not answered: {fault!r}") from fault
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
