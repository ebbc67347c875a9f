"""What of a node's flows is to be tried: that each gets out, and that nothing gets out beside it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from appliance.definition.inventory import NodeEntry

Aim = tuple[Literal["flow", "beside"], str, str, int]


def aims(node: NodeEntry) -> list[Aim]:
    """``(target, protocol, address, port)``: at what to aim.

    ``flow`` must get out: the lowest port of each range of each flow outwards.  ``beside`` must not: for
    each peer one port that no flow names, by both protocols, and the flow's own by the other protocol.
    """
    found: list[Aim] = []
    out: dict[str, set[tuple[str, int, int]]] = {}
    for flow in node.flows:
        for address in map(str, flow.addresses):
            ranges = out.setdefault(address, set())
            if flow.goes("out"):
                ranges |= {(flow.protocol, low, high) for low, high in flow.ports}
                found += [("flow", flow.protocol, address, low) for low, _ in flow.ports]
    for address, ranges in out.items():
        taken = {port for _, low, high in ranges for port in range(low, high + 1)}
        beside = next(port for port in (443, 9, *range(1024, 65536)) if port not in taken)
        found += [("beside", protocol, address, beside) for protocol in ("tcp", "udp")]
        for protocol, low, _ in sorted(ranges):
            other = "udp" if protocol == "tcp" else "tcp"
            if not any(each == other and bottom <= low <= top for each, bottom, top in ranges):
                found.append(("beside", other, address, low))
    return list(dict.fromkeys(found))
