"""Judges what a probe tried: what got out, what got in, and whether the trial itself was worth anything."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from appliance.node.qualification.finding import Finding, lines, not_run

if TYPE_CHECKING:
    from collections.abc import Sequence

    from appliance.node.probe import Attempt, OutboundProbe

#: The ports at the station that programs use to get out.
SERVICE_TARGETS: Final = ("dns", "https", "quic", "ntp")


def _tried(probe: OutboundProbe, who: str, *targets: str) -> list[Attempt]:
    return [each for each in probe.attempts if each.who == who and each.target in targets]


def _party(probe: OutboundProbe, who: str, wanted: str) -> Finding | None:
    """Why this party could not try, if so."""
    trouble = probe.parties.get(who, "nobody tried")
    words = {"root": "root", "user": "the service's user", "unit": "a process inside the service"}
    return not_run(f"{words[who]} could not try: {trouble}", wanted=wanted) if trouble else None


def judge_contained(attempts: Sequence[Attempt], *, wanted: str) -> Finding:
    """None of these attempts got out."""
    if not attempts:
        return not_run("nothing of this kind could be tried", wanted=wanted)
    escaped = [str(each) for each in attempts if each.escaped]
    return Finding(not escaped, lines(escaped, otherwise=_counted(attempts)), wanted)


def _counted(attempts: Sequence[Attempt]) -> str:
    """Attempts in words, those of the same result together."""
    counts: dict[str, list[str]] = {}
    for each in attempts:
        counts.setdefault(each.result, []).append(each.aim)
    return "\n".join(f"{result}: {', '.join(dict.fromkeys(aims))}" for result, aims in counts.items())


def judge_witness(probe: OutboundProbe, *, local: bool) -> Finding:
    """The station's listeners work: without them, silence at the other end would prove nothing."""
    wanted = "TCP, UDP and ICMP listeners on the operator's addresses, each reached by the station itself"
    if local:
        return not_run("installed from the node itself: there is no station to listen", wanted=wanted)
    needed = [each for each in probe.endpoints if each.target == "listener"]
    dead = [
        f"{each.protocol} {each.address}: {each.trouble or 'the station cannot reach its own listener'}"
        for each in needed
        if not each.alive
    ]
    alive = [
        f"{each.target}: {each.protocol} {each.address}" + (f" port {each.port}" if each.port else "")
        for each in probe.endpoints
        if each.alive
    ]
    return Finding(bool(needed) and not dead, lines(dead, otherwise="\n".join(alive)), wanted)


def judge_before(before: OutboundProbe | None, *, local: bool) -> Finding:
    """The same attempts got through before: the path existed, and the isolation closed it."""
    wanted = "the node reached each listener of the station by TCP, UDP and ICMP before it was isolated"
    if local:
        return not_run("installed from the node itself: there is no station to reach", wanted=wanted)
    if before is None:
        return not_run(
            "no record from before: this node was isolated already when it was met", wanted=wanted
        )
    tried = _tried(before, "root", "listener")
    missed = [str(each) for each in tried if each.outcome != "reached"]
    if missed or not tried:
        trouble = "; ".join(missed) or "nothing was tried"
        return not_run(
            f"before isolation, at {before.time}, the path was not open either: {trouble}", wanted=wanted
        )
    aims = ", ".join(dict.fromkeys(f"{each.protocol} {each.address}" for each in tried))
    return Finding(kept=True, found=f"at {before.time}: {aims}", wanted=wanted)


def judge_listener(probe: OutboundProbe, protocol: str, family: str, *, local: bool) -> Finding:
    """Root on the node cannot reach the station's listener by one protocol of one family."""
    wanted = "every attempt denied on the node, and nothing arrived at the station"
    if local:
        return not_run("installed from the node itself: there is no station to reach", wanted=wanted)
    if trouble := _party(probe, "root", wanted):
        return trouble
    endpoints = [
        each for each in probe.endpoints if each.target == "listener" and each.protocol == protocol
    ]
    endpoints = [each for each in endpoints if (":" in each.address) == (family == "v6")]
    if not endpoints:
        return not_run(f"the inventory names no IP{family} address of the operator", wanted=wanted)
    if dead := [each for each in endpoints if not each.alive]:
        return not_run(f"the listener on {dead[0].address} was not alive", wanted=wanted)
    tried = [
        each
        for each in _tried(probe, "root", "listener")
        if (each.protocol, each.family) == (protocol, family)
    ]
    return judge_contained(tried, wanted=wanted)


def judge_services(probe: OutboundProbe) -> Finding:
    """Nor the ports that programs use: name lookup, web, time."""
    wanted = "TCP and UDP 53, 443 and UDP 123 at the station denied on the node"
    return _party(probe, "root", wanted) or judge_contained(
        _tried(probe, "root", *SERVICE_TARGETS), wanted=wanted
    )


def judge_elsewhere(probe: OutboundProbe) -> Finding:
    """Nor anything beyond the wire."""
    wanted = "no route, or denied on the node: TCP, UDP and ICMP to addresses beyond the wire"
    return _party(probe, "root", wanted) or judge_contained(
        _tried(probe, "root", "elsewhere"), wanted=wanted
    )


def judge_wire(probe: OutboundProbe) -> Finding:
    """Nor everybody on the wire at once, for which no route is needed."""
    wanted = "multicast and broadcast denied on the node"
    return _party(probe, "root", wanted) or judge_contained(_tried(probe, "root", "wire"), wanted=wanted)


def judge_party(probe: OutboundProbe, who: str) -> Finding:
    """Nor another party, by any of these ways."""
    wanted = "every attempt denied on the node or without a route"
    targets = ("listener", *SERVICE_TARGETS, "elsewhere", "wire")
    return _party(probe, who, wanted) or judge_contained(_tried(probe, who, *targets), wanted=wanted)


def judge_own_denial(probe: OutboundProbe) -> Finding:
    """The unit denies by itself, whatever the firewall says.

    The firewall lets everybody talk to the node's own addresses (that is loopback traffic), the unit
    does not: so root reaches a server opened there for the test, and the service must not.
    """
    wanted = "root reaches a server on the node's own address, a process inside the service does not"
    for who in ("root", "unit"):
        if trouble := _party(probe, who, wanted):
            return trouble
    control = _tried(probe, "root", "own")
    if not control or any(each.outcome != "reached" for each in control):
        trouble_text = "; ".join(str(each) for each in control) or "nothing was tried"
        return not_run(f"root did not reach the node's own server either: {trouble_text}", wanted=wanted)
    return judge_contained(_tried(probe, "unit", "own"), wanted=wanted)


def judge_names(probe: OutboundProbe) -> Finding:
    """No name is resolved."""
    wanted = "no address for any name, asked as root and as the service's user"
    if not probe.names:
        return not_run("nobody asked", wanted=wanted)
    resolved = [
        f"{each.who}: {each.name} is {', '.join(each.addresses)}" for each in probe.names if each.addresses
    ]
    refused = [f"{each.who}: {each.name}: {each.detail}" for each in probe.names]
    return Finding(not resolved, lines(resolved or refused, otherwise=""), wanted)


def judge_ssh(
    probe: OutboundProbe,
    stations: Sequence[str],
    *,
    at: Sequence[str] | None = None,
    open_: bool,
    wanted: str,
    why_not: str,
) -> Finding:
    """SSH answers every one of these addresses of the station, or none.

    ``at``: the node's addresses that count, if not all.  From the management network a packet comes in by
    the management interface; one that comes in by another is dropped (rp_filter), and that is as it
    should be.
    """
    tried = [each for each in probe.inbound if each.target == "ssh" and each.who.split()[-1] in stations]
    if at is not None:
        tried = [each for each in tried if each.address in at]
    if not tried:
        return not_run(why_not, wanted=wanted)
    untried = [each for each in tried if each.outcome in {"error", "no-route"}]
    if untried:
        trouble = "; ".join(str(each) for each in untried)
        return not_run(f"the station could not try: {trouble}", wanted=wanted)
    wrong = [
        each
        for each in tried
        if (each.detail == "SSH answers") != open_ or (each.outcome == "reached") != open_
    ]
    return Finding(not wrong, "\n".join(str(each) for each in wrong or tried), wanted)


def judge_doors(probe: OutboundProbe, target: str, *, local: bool, wanted: str) -> Finding:
    """No door of a kind is open from outside."""
    if local:
        return not_run("installed from the node itself: nobody is outside to try", wanted=wanted)
    tried = [each for each in probe.inbound if each.target == target]
    if target == "own":
        live = {
            (each.protocol, each.address)
            for each in _tried(probe, "root", "own")
            if each.outcome == "reached" and each.arrived
        }
        if dead := sorted({each.aim for each in tried if (each.protocol, each.address) not in live}):
            return not_run(f"the node could not open its own server: {', '.join(dead)}", wanted=wanted)
    if not tried:
        return not_run("nothing could be tried", wanted=wanted)
    if untried := [str(each) for each in tried if each.outcome in {"error", "no-route"}]:
        return not_run("the station could not try: " + "; ".join(untried), wanted=wanted)
    opened = [str(each) for each in tried if each.outcome == "reached" or each.arrived]
    aims: dict[str, list[str]] = {}
    for each in tried:
        aims.setdefault(f"{each.protocol} {each.address}", []).append(str(each.port))
    closed = "\n".join(
        f"closed: {aim} port {', '.join(dict.fromkeys(ports))}" for aim, ports in aims.items()
    )
    return Finding(not opened, lines(opened, otherwise=closed), wanted)
