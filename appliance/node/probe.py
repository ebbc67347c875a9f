"""What can get in or out of a node, tried for real: the attempts, what they mean, and how they are kept.

Attempts are made on the node by ``probe_attempts`` (a script of the standard library) and from the
station by ``probe_inbound``; ``probe_listener`` is the witness at the station.  Both sides work on the
same *endpoints*, and every attempt carries a token of its own, so "nothing came back" and "nothing
arrived" are told apart.

An attempt counts as *escaped* unless it is proven that it did not leave the node.  A datagram the
kernel took without an error has left it, answer or no answer; a refused connection has been there and
back; a TCP connection without an answer proves nothing unless a witness was listening where it went.
"""

from __future__ import annotations

import datetime as dt
import json
import secrets
import shlex
import subprocess
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any, Final, Literal, Protocol

from appliance.errors import ApplianceError, NodeUnreachable
from appliance.node.connection import SSH_FAILED
from appliance.node.script import start_command

if TYPE_CHECKING:
    from pathlib import Path

Outcome = Literal["reached", "sent", "denied", "no-route", "silent", "error"]

#: What each outcome means, for people.
MEANING: Final[dict[str, str]] = {
    "reached": "reached",
    "sent": "left the node, no answer",
    "denied": "denied on the node",
    "no-route": "no route",
    "silent": "no answer",
    "error": "could not be tried",
}

#: Seconds one attempt waits for an answer: longer than TCP's first retransmission (1 s, RFC 6298).
ATTEMPT_SECONDS: Final = 1.5


class Runs(Protocol):
    """What a probe needs of a connection to a node (see ``appliance.node.connection``)."""

    def run(
        self, command: str, *, stdin: bytes = b"", timeout: float | None = 60
    ) -> subprocess.CompletedProcess[bytes]:
        """Run a shell command on the node."""


@dataclass(frozen=True)
class Attempt:
    """One attempt and what came of it.

    ``target`` says what was aimed at (``listener``, ``dns``, ``elsewhere``, …), ``who`` who tried.
    ``port`` is 0 for ICMP.  ``arrived`` is what the witness at the other end saw; None: there was none.
    """

    target: str
    protocol: Literal["tcp", "udp", "icmp"]
    address: str
    port: int
    who: str
    outcome: Outcome
    detail: str
    milliseconds: int
    arrived: bool | None = None

    @property
    def escaped(self) -> bool:
        """True unless it is proven that nothing got through (see the module's text)."""
        if self.arrived or self.outcome in {"reached", "sent", "error"}:
            return True
        return self.outcome == "silent" and self.arrived is None

    @property
    def family(self) -> Literal["v4", "v6"]:
        return "v6" if ":" in self.address else "v4"

    @property
    def aim(self) -> str:
        """Protocol, address and port: ``tcp 10.20.0.1 port 443``."""
        return f"{self.protocol} {self.address}" + (f" port {self.port}" if self.port else "")

    @property
    def result(self) -> str:
        """Outcome and detail in words: ``denied on the node (EPERM)``."""
        words = MEANING[self.outcome] + (f" ({self.detail})" if self.detail else "")
        if self.arrived and self.outcome != "reached":
            words += ", and it arrived"
        return words

    def __str__(self) -> str:
        return f"{self.who}: {self.aim}: {self.result}"


@dataclass(frozen=True)
class Endpoint:
    """Something at the station to aim at.  ``witnessed``: a listener of ours is there and sees arrivals.

    ``alive`` is None until the station itself has tried it; ``trouble`` says why there is no listener.
    """

    target: str
    protocol: Literal["tcp", "udp", "icmp"]
    address: str
    port: int
    witnessed: bool
    alive: bool | None = None
    trouble: str = ""


@dataclass(frozen=True)
class NameLookup:
    """One host name asked for on the node; ``addresses`` is empty when the name was not resolved."""

    who: str
    name: str
    addresses: tuple[str, ...]
    detail: str


@dataclass(frozen=True)
class OutboundProbe:
    """Everything tried at one moment, in both directions.

    ``time`` is RFC 3339 UTC.  ``parties`` maps who was asked to try to "" or why they could not.
    """

    time: str
    endpoints: tuple[Endpoint, ...]
    attempts: tuple[Attempt, ...]
    names: tuple[NameLookup, ...] = ()
    inbound: tuple[Attempt, ...] = ()
    parties: dict[str, str] = field(default_factory=dict)

    def as_dict(self) -> dict[str, object]:
        """JSON values; ``from_dict`` takes them back."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> OutboundProbe:
        """The inverse of ``as_dict``; KeyError or TypeError when the values are something else."""
        return cls(
            time=values["time"],
            endpoints=tuple(Endpoint(**each) for each in values["endpoints"]),
            attempts=tuple(Attempt(**each) for each in values["attempts"]),
            names=tuple(
                NameLookup(each["who"], each["name"], tuple(each["addresses"]), each["detail"])
                for each in values["names"]
            ),
            inbound=tuple(Attempt(**each) for each in values["inbound"]),
            parties=dict(values["parties"]),
        )


def store_probe(probe: OutboundProbe, path: Path) -> None:
    """Keep a probe, for the comparison of before with after."""
    path.write_text(json.dumps(probe.as_dict(), indent=2, sort_keys=True) + "\n", encoding="utf-8")


def load_probe(path: Path) -> OutboundProbe | None:
    """A stored probe; None when there is none, or none that can be read."""
    try:
        return OutboundProbe.from_dict(json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, KeyError, TypeError):
        return None


def now() -> str:
    """The time, RFC 3339 UTC, seconds."""
    return dt.datetime.now(dt.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def new_token() -> str:
    """A word that marks one run's packets: nothing else on the wire looks like it."""
    return f"appliance-probe-{secrets.token_hex(8)}"


def as_root(command: str) -> str:
    """A shell command that does the same as root, where that needs no password."""
    quoted = shlex.quote(command)
    return f'if [ "$(id -u)" -eq 0 ]; then exec sh -c {quoted}; else exec sudo -n sh -c {quoted}; fi'


def run_script(connection: Runs, source: str, request: dict[str, object], *, timeout: float) -> Any:
    """Run a script of the standard library as root on the node, and return the JSON it prints.

    ``main`` of the script is called with the request.  Nothing is written to the node.

    Raises:
        NodeUnreachable: the node did not answer in time, or the connection broke.
        ApplianceError: the script did not run.
    """
    call = f"print(json.dumps(main(json.loads({json.dumps(request)!r}))))"
    program = f"{source}\n\nimport json\n{call}\n".encode()
    try:
        done = connection.run(start_command(program, "probe"), stdin=program, timeout=timeout)
    except subprocess.TimeoutExpired as error:
        raise NodeUnreachable(
            "a script on the node did not end in time", wanted=f"an answer within {timeout:.0f} s"
        ) from error
    if done.returncode == SSH_FAILED:
        raise NodeUnreachable(
            "the connection to the node broke", found=done.stderr.decode(errors="replace").strip()[-500:]
        )
    try:
        return json.loads(done.stdout)
    except ValueError as error:
        raise ApplianceError(
            "a script on the node did not run",
            found=(done.stderr or done.stdout).decode(errors="replace").strip()[-500:]
            or f"exit status {done.returncode} and no output",
            wanted="python3 on the node, run as root or through password-less sudo",
        ) from error
