"""What stands around the card, for people and for the qualification."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from appliance.export.line.walls import accepted, faults, read_walls

if TYPE_CHECKING:
    from collections.abc import Mapping

    from appliance.export.line.settings import Line


def shown(line: Line, raised: Mapping[str, Any]) -> dict[str, Any]:
    """The walls as JSON values, with their faults.

    Raises:
        ExportLineDown: there is nothing to look at.
    """
    walls = read_walls()
    wrong = faults(walls, line, tuple(raised["rules"]))
    if raised["stamp"] != line.stamp:
        wrong.append("the line was put up by other settings than the file has now")
    rose = walls.received - raised["received"]
    return {
        "stamp": raised["stamp"],
        "faults": wrong,
        "rules_hold": walls.rules_hold,
        "xdp_holds": walls.xdp_holds,
        "accepted": accepted(walls),
        "counted": {name: list(counts) for name, counts in walls.counted.items()},
        "xdp": dict(walls.xdp),
        "digests": walls.digests,
        "received": walls.received,
        "received_since_up": rose,
        "card": raised["card"],
    }


def shown_text(found: Mapping[str, Any]) -> str:
    """The same for people."""
    xdp = found["xdp"]
    dropped = found["counted"].get("netdev in", [0])[0]
    out = found["counted"].get("netdev out", [0, 0])
    rose = found["received_since_up"]
    lines = [
        f"nftables:  {'drops what comes in' if found['rules_hold'] else 'LETS IN'}; {dropped:,} dropped",
        f"XDP:       {'drops what comes in, ' + xdp['mode'] if found['xdp_holds'] else 'LETS IN'}",
        f"out:       {out[0]:,} let out, {sum(out[1:]):,} kept back",
        f"received:  {found['received']:,} frames at the card, {rose:,} since it is up",
        *(
            f"card:      {each['name']} {each['state']}"
            + (f" ({each['detail']})" if each["detail"] else "")
            for each in found["card"]
        ),
        *(f"digest:    {name} {digest}" for name, digest in found["digests"].items()),
        *(f"AMISS:     {each}" for each in found["faults"]),
    ]
    return "\n".join(lines)
