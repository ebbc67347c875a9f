"""An attempt has escaped unless it is proven that it has not."""

from __future__ import annotations

import dataclasses
import subprocess
from ipaddress import ip_address
from typing import TYPE_CHECKING

import pytest

from appliance.errors import ApplianceError, NodeUnreachable
from appliance.node.probe import Attempt, OutboundProbe, load_probe, run_script, store_probe
from appliance.node.probe_outbound import GREETING_SECONDS, _knock_at_services
from tests.unit.frames.site import INVENTORY as SITE
from tests.unit.frames.site import NODE
from tests.unit.node.probe.rooms import attempt

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize(
    ("changed", "escaped"),
    [
        ({}, False),
        ({"arrived": None}, False),
        ({"arrived": True}, True),
        ({"outcome": "reached"}, True),
        ({"outcome": "sent"}, True),
        ({"outcome": "error"}, True),
        ({"outcome": "no-route", "arrived": None}, False),
        ({"outcome": "silent"}, False),
        ({"outcome": "silent", "arrived": None}, True),
    ],
)
def test_an_attempt_has_escaped_unless_it_is_proven_that_it_has_not(
    changed: dict[str, object], escaped: bool
) -> None:
    assert attempt(**changed).escaped is escaped


def test_a_stored_probe_comes_back_as_it_was(tmp_path: Path) -> None:
    probe = OutboundProbe(
        "2030-01-01T00:00:00Z", (), (attempt(),), (), (attempt(target="ssh"),), {"root": ""}
    )
    store_probe(probe, tmp_path / "before.json")
    assert load_probe(tmp_path / "before.json") == probe
    (tmp_path / "before.json").write_text('{"time": 1}')
    assert load_probe(tmp_path / "before.json") is None
    assert load_probe(tmp_path / "none.json") is None


class Answers:
    """A connection that answers everything the same way."""

    def __init__(self, returncode: int, stdout: bytes = b"", stderr: bytes = b"") -> None:
        self._answer = subprocess.CompletedProcess([], returncode, stdout, stderr)

    def run(
        self, command: str, *, stdin: bytes = b"", timeout: float | None = 60
    ) -> subprocess.CompletedProcess[bytes]:
        if timeout == 0:
            raise subprocess.TimeoutExpired(command, 0)
        return self._answer


@pytest.mark.parametrize(
    ("connection", "timeout", "error"),
    [
        (Answers(255, stderr=b"Connection refused"), 9, NodeUnreachable),
        (Answers(127, stderr=b"sh: python3: not found"), 9, ApplianceError),
        (Answers(0, stdout=b"not json"), 9, ApplianceError),
        (Answers(0, stdout=b"{}"), 0, NodeUnreachable),
    ],
)
def test_a_script_that_does_not_run_is_a_named_error(
    connection: Answers, timeout: float, error: type[ApplianceError]
) -> None:
    with pytest.raises(error) as raised:
        run_script(connection, "def main(request): ...", {}, timeout=timeout)
    assert type(raised.value) is error


def test_where_ssh_must_answer_a_busy_node_gets_the_time_for_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """Elsewhere silence is what is wanted, and is not waited for that long."""
    waited: dict[tuple[str, str], float] = {}

    def greeting(address: str, _port: int, source: str, *, seconds: float) -> Attempt:
        waited[source, address] = seconds
        return attempt(target="ssh")

    monkeypatch.setattr("appliance.node.probe_outbound.greeting", greeting)
    monkeypatch.setattr("appliance.node.probe_outbound.knock", lambda *_, **__: ())
    management = dataclasses.replace(SITE.management, foreign=(ip_address("10.20.0.200"),))
    site = dataclasses.replace(SITE, management=management)
    _knock_at_services(site, NODE, ["10.20.0.11", "10.30.0.11", "fd20::11"], (), 1.5)
    assert waited == {
        ("10.20.0.1", "10.20.0.11"): GREETING_SECONDS,
        ("fd20::1", "fd20::11"): GREETING_SECONDS,
        ("10.20.0.1", "10.30.0.11"): 1.5,
        ("10.20.0.200", "10.20.0.11"): 1.5,
        ("10.20.0.200", "10.30.0.11"): 1.5,
    }
