"""Runs as root in an unpacked Debian, in a network namespace of its own: loads the filter and tries it.

The namespace is the node; another one, joined by virtual cables, is everybody else.  Reads what to build on
standard input; writes files, rules and what came of every attempt.
"""

from __future__ import annotations

import ctypes
import json
import os
import socket
import subprocess
import sys
import threading
from typing import TYPE_CHECKING, Any

import ufw_policy  # type: ignore[import-not-found]  # the role's module, put beside this file

if TYPE_CHECKING:
    from collections.abc import Callable

CABLES = {
    "eno1": (["10.20.0.11/24"], ["10.20.0.1/24", "10.20.0.60/24"]),
    "data": (["10.30.0.11/24", "fd30::11/64"], ["10.30.0.12/24", "10.30.0.99/24", "fd30::12/64"]),
    "eno2": (["10.60.0.9/30"], ["10.60.0.10/30"]),
}
SECONDS = 0.4


class Others:
    """The namespace of everybody else; what runs in it, runs in a thread that has moved there."""

    def __init__(self) -> None:
        self.process = subprocess.Popen(["unshare", "--net", "sh", "-c", "echo; exec sleep 100"], stdout=-1)
        assert self.process.stdout is not None
        self.process.stdout.readline()
        self.number = str(self.process.pid)

    def run(self, *command: str) -> None:
        subprocess.run(["nsenter", "--net", "--target", self.number, *command], check=True)

    def call(self, function: Callable[[], Any]) -> Any:
        found: list[Any] = []

        def work() -> None:
            with open(f"/proc/{self.number}/ns/net") as namespace:  # noqa: PTH123 - a descriptor is all
                os.setns(namespace.fileno(), os.CLONE_NEWNET)
            found.append(function())

        thread = threading.Thread(target=work)
        thread.start()
        thread.join()
        return found[0]


def here(function: Callable[[], Any]) -> Any:
    return function()


def ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True)


def lay_cables(others: Others) -> None:
    ip("link", "set", "lo", "up")
    for name, (own, theirs) in CABLES.items():
        ip("link", "add", name, "type", "veth", "peer", "name", name, "netns", others.number)
        for addresses, run in ((own, ip), (theirs, lambda *words: others.run("ip", *words))):
            for address in addresses:
                run("address", "add", address, "dev", name, *(["nodad"] if ":" in address else []))
            run("link", "set", name, "up")


def opened(kind: socket.SocketKind, address: str, port: int, user: int = 0) -> socket.socket:
    """A socket that is a user's: to the filter it is whose it was when it was made (setfsuid(2))."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    libc = ctypes.CDLL(None)
    libc.setfsuid(user)
    try:
        link = socket.socket(family, kind)
    finally:
        libc.setfsuid(0)
    link.settimeout(SECONDS)
    link.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    link.bind((address, port))
    return link


def attempt(side: Callable[..., Any], other: Callable[..., Any], words: list[Any]) -> str:
    """Try way, protocol, source, target, port (and the source's, 0 for any; and whose socket it is).

    Returns ``answered``, ``arrived`` (no answer came back) or ``nothing``.
    """
    _, protocol, source, target, port, own, user = (*words, 0, 0)[:7]
    kind = socket.SOCK_STREAM if protocol == "tcp" else socket.SOCK_DGRAM
    server = other(lambda: opened(kind, target, port))
    client = side(lambda: opened(kind, source, own, user))
    with server, client:
        try:
            if protocol == "tcp":
                server.listen()
                client.connect((target, port))
                return "answered"
            client.sendto(b"here", (target, port))
            _, sender = server.recvfrom(9)
        except OSError:
            return "nothing"
        try:
            server.sendto(b"back", sender)
            client.recvfrom(9)
        except OSError:
            return "arrived"
        return "answered"


def main() -> None:
    spec = json.load(sys.stdin)
    files, live = ufw_policy.build(spec["files"], ufw_policy.ufw_rules(spec))
    others = Others()
    try:
        lay_cables(others)
        sides = {"out": (here, others.call), "in": (others.call, here)}
        before = [attempt(*sides[each[0]], each) for each in spec["attempts"]]
        for family in ("v4", "v6"):
            ufw_policy.run(f"{ufw_policy.FAMILIES[family]}-restore", stdin=live[family])
        same = ufw_policy.live_filter() == live
        ufw_policy.run("nft", "-f", "-", stdin=spec["foreign"])
        shown = ufw_policy.live_filter()["nft"]
        ufw_policy.remove_others(live)
        after = [attempt(*sides[each[0]], each) for each in spec["attempts"]]
        json.dump(
            {
                "files": files,
                "live": live,
                "before": before,
                "after": after,
                "same": same,
                "shown": shown,
                "clean": ufw_policy.live_filter() == live,
            },
            sys.stdout,
        )
    finally:
        others.process.kill()
        others.process.wait()


if __name__ == "__main__":
    main()
