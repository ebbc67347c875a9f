"""What holds of a node that serves with vLLM, whatever the model: the report's promises, and its place."""

from __future__ import annotations

import json
from typing import Any, Final

UNIT: Final = "appliance-inference.service"
_PROMISED: Final = ("answers", "active", "loopback", "own-user", "signed-model", "quiet", "confined")

#: Tries to leave, from where it is run, for an address that is nobody's (RFC 5737).
_LEAVE: Final = """
import socket
try:
    socket.create_connection(("192.0.2.1", 443), timeout=10)
except OSError as fault:
    print(fault.strerror)
"""


def report_of(installed: Any) -> dict[str, Any]:
    """The items of the installation's report by name, none of which failed."""
    (path,) = installed.state.glob(f"runs/*/{installed.lab.node.name}/report/report.json")
    items = {item["name"]: item for item in json.loads(path.read_text())["items"]}
    assert not [item for item in items.values() if item["status"] == "failed"]
    return items


def assert_promises(installed: Any) -> None:
    """The qualification asked for all of it, and found it."""
    kept = {name for name, item in report_of(installed).items() if item["status"] == "passed"}
    assert {f"inference.{name}" for name in _PROMISED} <= kept
    assert "inbound.listening" in kept


def assert_apart(node: Any) -> None:
    """Its ports are not the node's, it has no interface but its loopback, and from there nobody leaves."""
    listening = node.run("ss -Hltn").stdout
    assert [line.split()[3] for line in listening.splitlines() if ":22 " not in line] == ["127.0.0.1:8000"]
    pid = main_pid(node)
    inside = node.run(f"nsenter --target {pid} --net ip -o link").stdout
    assert [line.split()[1] for line in inside.splitlines()] == ["lo:"]
    left = node.run(f"nsenter --target {pid} --net python3 -", input=_LEAVE).stdout
    assert left == "Network is unreachable\n"
    assert node.run("stat -c '%U %a %F' /run/appliance-inference/engine.sock").stdout.split()[0] == (
        "appliance-inference"
    )


def main_pid(node: Any) -> str:
    """The launcher's process id; another after every start."""
    pid: str = node.run(f"systemctl show --property MainPID --value {UNIT}").stdout.strip()
    assert pid != "0"
    return pid
