"""Flows that the inventory allows, and questions to its time servers: the rules they may have, and whether
flows work and nothing beside.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from appliance.node.qualification.escapes import judge_contained
from appliance.node.qualification.finding import Finding, not_run

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from appliance.definition.inventory import Address, Inventory, NodeEntry
    from appliance.node.probe import Attempt, OutboundProbe
    from appliance.node.qualification.rules import Grant


@dataclass(frozen=True)
class FlowRule:
    """One way for packets that a flow allows: one device, peer and range of ports (``50000:50999``).

    ``one_user``: only for processes of one user, who is not root.
    """

    device: str
    direction: Literal["in", "out"]
    protocol: str
    peer: str
    ports: str
    answers: bool
    one_user: bool = False

    def __str__(self) -> str:
        peer = f"from {self.peer}" if self.direction == "in" else f"to {self.peer}"
        alone = " by one user alone" if self.one_user else ""
        return f"{self.direction} over {self.device}: {self.protocol} {peer} port {self.ports}{alone}"

    def lets_begin(self, grant: Grant) -> bool:
        """Whether a path accepts exactly what begins an exchange of this flow."""
        device, peer = ("-i", "-s") if self.direction == "in" else ("-o", "-d")
        users = grant.values("--uid-owner")
        if self.one_user and (len(users) != 1 or users == {"0"}):
            return False
        return self._is_for(grant, device, peer) and grant.values("--dport", "--dports") == {self.ports}

    def lets_answer(self, grant: Grant) -> bool:
        """Whether a path accepts at most this node's answers to what the peer began."""
        if self.direction != "in" or not self.answers or not self._is_for(grant, "-o", "-d"):
            return False
        if self.protocol == "tcp":
            begins_none = grant.values("! --tcp-flags") == {"FIN,SYN,RST,ACK SYN"}
        else:
            begins_none = grant.values("--ctstate") == {"ESTABLISHED"}
        return begins_none and grant.values("--sport", "--sports") == {self.ports}

    def _is_for(self, grant: Grant, device: str, peer: str) -> bool:
        whole = f"{self.peer}/{128 if ':' in self.peer else 32}"
        return (
            not grant.values("target", "policy")
            and grant.values("-p") == {self.protocol}
            and grant.values(device) == {self.device}
            and grant.values(peer) in ({self.peer}, {whole})
        )


def declared_rules(
    inventory: Inventory, node: NodeEntry, devices: Mapping[str, str]
) -> tuple[FlowRule, ...]:
    """All that the inventory lets a node exchange besides SSH."""
    return (*flow_rules(node, devices), *time_rules(node, inventory.host.time.servers, devices))


def flow_rules(node: NodeEntry, devices: Mapping[str, str]) -> tuple[FlowRule, ...]:
    """Every flow of a node, taken apart; ``devices``: kernel name by the inventory's name."""
    return tuple(
        FlowRule(
            _device(devices, flow.interface),
            direction,
            flow.protocol,
            str(address),
            str(low) if low == high else f"{low}:{high}",
            flow.answers,
        )
        for flow in node.flows
        for direction in _DIRECTIONS
        if flow.goes(direction)
        for address in flow.addresses
        for low, high in flow.ports
    )


_DIRECTIONS: tuple[Literal["in", "out"], ...] = ("in", "out")


def time_rules(
    node: NodeEntry, servers: Sequence[Address], devices: Mapping[str, str]
) -> tuple[FlowRule, ...]:
    """Questions of the one program that keeps the clock (RFC 5905, port 123), where a server is reached."""
    return tuple(
        FlowRule(
            _device(devices, interface.name), "out", "udp", str(server), "123", answers=True, one_user=True
        )
        for server in servers
        for interface in node.interfaces
        if any(server in network for network in interface.reach)
    )


def _device(devices: Mapping[str, str], interface: str) -> str:
    """The kernel's name; what is not on the node has none, and no rule can bear it."""
    return devices.get(interface, f"({interface}, which is not there)")


def judge_flows(probe: OutboundProbe, node: NodeEntry) -> Finding:
    """What the node may begin leaves it; what the peer does with it is the peer's.

    A peer that is switched off has no address on the wire to send to: then nothing is proven either way.
    """
    wanted = "every flow outwards leaves the node"
    if not any(flow.goes("out") for flow in node.flows):
        return Finding(kept=True, found="no flow outwards is declared", wanted=wanted)
    tried = _tried(probe, "flow")
    if not tried:
        return not_run(probe.parties.get("root") or "nobody tried", wanted=wanted)
    if denied := [str(each) for each in tried if each.outcome == "denied"]:
        return Finding(kept=False, found="\n".join(denied), wanted=wanted)
    if missed := [str(each) for each in tried if each.outcome not in {"reached", "sent"}]:
        return not_run(f"a peer was not there: {'; '.join(missed)}", wanted=wanted)
    return Finding(kept=True, found="\n".join(map(str, tried)), wanted=wanted)


def judge_beside(probe: OutboundProbe, node: NodeEntry) -> Finding:
    """Nor anything else to the peers of flows."""
    wanted = "other ports and protocols of the flows' peers are denied on the node"
    if not node.flows:
        return Finding(kept=True, found="no flow is declared", wanted=wanted)
    return judge_contained(_tried(probe, "beside"), wanted=wanted)


def _tried(probe: OutboundProbe, target: str) -> Sequence[Attempt]:
    return [each for each in probe.attempts if each.who == "root" and each.target == target]
