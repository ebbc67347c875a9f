"""Asking for a host key what does not speak SSH: one named error, and nothing on the terminal."""

from __future__ import annotations

import logging
import socket
import threading
from ipaddress import ip_address, ip_interface
from typing import TYPE_CHECKING

import paramiko
import pytest

from appliance.definition.inventory import Interface, Match, NodeEntry
from appliance.node.preflight import shown_host_key

if TYPE_CHECKING:
    from pathlib import Path


def node(port: int) -> NodeEntry:
    interface = Interface("mgmt", Match(name="lo"), (ip_interface("127.0.0.1/8"),))
    return NodeEntry("gpu-01", "ssh", ip_address("127.0.0.1"), port, (interface,))


def test_a_server_that_does_not_speak_ssh_is_told_without_a_traceback(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logging.getLogger("paramiko.transport"), "handlers", [])
    monkeypatch.setattr(logging.getLogger("paramiko.transport"), "propagate", False)
    known_hosts = tmp_path / "known_hosts"
    known_hosts.touch()
    with socket.create_server(("127.0.0.1", 0)) as server:

        def answer() -> None:
            link, _ = server.accept()
            with link:
                link.recv(100)
                link.sendall(b"HTTP/1.0 400 Bad Request\r\n\r\n")

        thread = threading.Thread(target=answer)
        thread.start()
        with pytest.raises(paramiko.SSHException):
            shown_host_key(node(server.getsockname()[1]), known_hosts)
        thread.join()
    assert capfd.readouterr() == ("", "")
