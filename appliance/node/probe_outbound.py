"""Try every way out of a node, and every way in, at one moment.

The installer calls this before it isolates a node, and qualification after: the same attempts, so that
the report can put the two side by side.  All attempts run at the same time, over one connection.
"""

from __future__ import annotations

import dataclasses
import random
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from appliance.definition.partition import instances
from appliance.node import probe_attempts
from appliance.node.probe import (
    ATTEMPT_SECONDS,
    MEANING,
    Attempt,
    Endpoint,
    NameLookup,
    OutboundProbe,
    Runs,
    new_token,
    now,
    run_script,
)
from appliance.node.probe_flows import aims
from appliance.node.probe_inbound import Door, greeting, knock
from appliance.node.probe_listener import Listener

if TYPE_CHECKING:
    from collections.abc import Sequence

    from appliance.definition.inventory import Address, Inventory, NodeEntry

#: Addresses that belong to nobody (RFC 5737, RFC 3849): only a route can carry a packet there.
ELSEWHERE: Final = ("198.51.100.1", "203.0.113.1", "2001:db8::1")
#: Everybody on the node's own wire: multicast name lookup (RFC 6762), all nodes (RFC 4291), broadcast.
WIRE: Final = (("224.0.0.251", 5353), ("ff02::1", 5353), ("255.255.255.255", 67))
#: A name that exists wherever names can be resolved (RFC 2606).
NAMES: Final = ("example.com",)
#: Ports knocked at from the station besides those that the node listens on.
COMMON_PORTS: Final = (21, 23, 25, 53, 80, 111, 139, 443, 445, 631, 2049, 3000, 5000, 5432, 6379, 8080)
#: Where SSH must answer: a busy node's kernel answers late, and its SSH server later.
GREETING_SECONDS: Final = 10.0
_EVERYBODY: Final = ("root", "user", "unit")


def probe_outbound(
    connection: Runs,
    inventory: Inventory,
    node: NodeEntry,
    *,
    unit: str | None = None,
    ports: Sequence[int] = (),
    seconds: float = ATTEMPT_SECONDS,
) -> OutboundProbe:
    """Try every way out of the node and into it; takes about two seconds and changes nothing.

    Args:
        connection: how the node is reached; scripts run there as root.
        inventory: whose operator and foreign addresses take part; the site's inference port.
        node: where the attempts are made.
        unit: the inference service; None before it exists: only root tries then.
        ports: further ports of the node to knock at (those it listens on).
        seconds: how long one attempt waits for an answer.

    Raises:
        NodeUnreachable: the node did not answer, or the connection broke.
        ApplianceError: the node has no python3, or no password-less sudo.
    """
    token = new_token()
    local = node.connection == "local"
    operator = () if local else inventory.management.operator
    own = [str(each.ip) for interface in node.interfaces for each in interface.addresses]
    port = random.SystemRandom().randrange(20_000, 60_000)
    source = Path(probe_attempts.__file__).read_text(encoding="utf-8")
    with Listener(operator, token) as listener, ThreadPoolExecutor(2) as pool:
        endpoints = listener.try_out()
        over = threading.Event()
        knocks = [
            Door("own", protocol, station, address, port, f"{token}-from-{station}-to-{address}")
            for station, address in _pairs(operator, own)
            for protocol in ("tcp", "udp")
        ]
        inbound = pool.submit(knock, knocks, seconds=30, until=over.is_set)
        doors = pool.submit(_knock_at_services, inventory, node, own, ports, seconds)
        try:
            answer = run_script(
                connection,
                source,
                {
                    "token": token,
                    "seconds": seconds,
                    "unit": unit,
                    "targets": _targets(inventory, endpoints, own, port, node=node, unit=unit),
                    "own": {"addresses": own, "port": port},
                    "names": list(NAMES),
                },
                timeout=60,
            )
        finally:
            over.set()
        attempts = tuple(_attempt(each, listener, answer, endpoints) for each in answer["attempts"])
        return OutboundProbe(
            time=now(),
            endpoints=endpoints,
            attempts=attempts,
            names=tuple(
                NameLookup(each["who"], each["name"], tuple(each["addresses"]), each["detail"])
                for each in answer["names"]
            ),
            inbound=(*_with_witness(inbound.result(), knocks, answer["heard"]), *doors.result()),
            parties=answer["parties"],
        )


def _pairs(stations: Sequence[Address], own: Sequence[str]) -> list[tuple[str, str]]:
    """Every address of the station with every address of the node of the same family."""
    names = [str(station) for station in stations]
    return [(name, each) for name in names for each in own if (":" in name) == (":" in each)]


def _with_witness(
    attempts: Sequence[Attempt], knocks: Sequence[Door], heard: Sequence[str]
) -> list[Attempt]:
    """Attempts to get in, with what the node's own servers saw: an answer may be lost on its way out.

    Only datagrams carry their token in with the first packet.
    """
    return [
        dataclasses.replace(attempt, arrived=knock.nonce in heard) if knock.protocol == "udp" else attempt
        for attempt, knock in zip(attempts, knocks, strict=True)
    ]


def _knock_at_services(
    inventory: Inventory, node: NodeEntry, own: Sequence[str], ports: Sequence[int], seconds: float
) -> tuple[Attempt, ...]:
    """SSH's greeting from every address of the station, and all other doors from the operator's."""
    if node.connection == "local":
        return ()
    management = inventory.management
    # Peers of flows may come in there, the station not.
    served = [
        low for flow in node.flows if flow.goes("in") and flow.protocol == "tcp" for low, _ in flow.ports
    ]
    loopback = {each.port for each in instances(inventory, node)}
    doors = [
        Door("port", "tcp", station, address, port)
        for station, address in _pairs(management.operator, own)
        for port in sorted({*loopback, *COMMON_PORTS, *ports, *served} - {node.port})
    ]
    sources = _pairs((*management.operator, *management.foreign), own)
    with ThreadPoolExecutor(len(sources) + 1) as pool:
        closed = pool.submit(knock, doors, seconds=seconds)
        operator = {str(each) for each in management.operator}
        greetings = [
            pool.submit(
                greeting,
                address,
                node.port,
                station,
                # Where SSH must answer, a node that is busy gets the time for it.
                seconds=max(seconds, GREETING_SECONDS)
                if station in operator and address in node.management_addresses
                else seconds,
            )
            for station, address in sources
        ]
        return (*(each.result() for each in greetings), *closed.result())


def _targets(
    inventory: Inventory,
    endpoints: Sequence[Endpoint],
    own: Sequence[str],
    port: int,
    *,
    node: NodeEntry,
    unit: str | None,
) -> list[dict[str, Any]]:
    """Everything to aim at, and who does."""

    def target(
        name: str, protocol: str, address: str, number: int, who: Sequence[str] = _EVERYBODY
    ) -> dict[str, Any]:
        parties = [party for party in who if unit or party == "root"]
        return {"target": name, "protocol": protocol, "address": address, "port": number, "who": parties}

    targets = []
    for endpoint in endpoints:
        # connect() without an answer proves nothing where nobody of ours listens; a raw SYN says at
        # once whether it left, so root sends one everywhere.
        if endpoint.protocol != "tcp" or endpoint.witnessed:
            targets.append(target(endpoint.target, endpoint.protocol, endpoint.address, endpoint.port))
        if endpoint.protocol == "tcp":
            targets.append(target(endpoint.target, "syn", endpoint.address, endpoint.port, ["root"]))
    local = node.connection == "local"
    station = [str(address) for address in inventory.management.operator] if local else []
    for address in (*station, *ELSEWHERE):
        targets += [
            target("elsewhere", "syn", address, 443, ["root"]),
            target("elsewhere", "icmp", address, 0, ["root"]),
            target("elsewhere", "udp", address, 53),
            target("elsewhere", "udp", address, 443),
            target("elsewhere", "udp", address, 123, ["root"]),
        ]
    # A raw SYN says at once whether it left; connect() would wait for a peer that may be switched off.
    targets += [
        target(name, "syn" if protocol == "tcp" else protocol, address, number, ["root"])
        for name, protocol, address, number in aims(node)
    ]
    targets += [target("wire", "wire", address, number) for address, number in WIRE]
    targets += [target("own", protocol, address, port) for address in own for protocol in ("tcp", "udp")]
    return targets


def _attempt(
    values: dict[str, Any], listener: Listener, answer: dict[str, Any], endpoints: Sequence[Endpoint]
) -> Attempt:
    """An attempt as the node tells it, with what the witness at the other end saw."""
    nonce = values.pop("nonce")
    if values["outcome"] not in MEANING:  # the node may not be what it says it is
        values |= {"outcome": "error", "detail": "an answer nobody asked for"}
    attempt = Attempt(**values)
    if attempt.target == "own":
        heard = nonce in answer["heard"]
        known = not any(trouble.startswith(f"{attempt.address}:") for trouble in answer["own_trouble"])
        return dataclasses.replace(attempt, arrived=heard if known else None)
    for endpoint in endpoints:
        if (endpoint.target, endpoint.protocol, endpoint.address, endpoint.port) == (
            attempt.target,
            attempt.protocol,
            attempt.address,
            attempt.port,
        ):
            witnessed = endpoint.witnessed and bool(endpoint.alive)
            return dataclasses.replace(attempt, arrived=listener.arrived(nonce) if witnessed else None)
    return attempt
