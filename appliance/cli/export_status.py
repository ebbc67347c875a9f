"""``appliance export status``: how it goes, on either side."""

from __future__ import annotations

from pathlib import Path  # noqa: TC003 - Typer reads it at run time
from typing import Annotated, Any

import typer

from appliance.cli.console import print_result
from appliance.cli.options import AsJson  # noqa: TC001 - Typer reads it at run time


def status(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="A sender's folder, or a receiver's.")],
    *,
    as_json: AsJson = False,
) -> None:
    """Show what a running sender or receiver said last, at most two seconds ago.

    \b
    Examples:
      appliance export status /var/lib/appliance/export
      watch -n 2 appliance export status DIR
      appliance export status DIR --json

    \b
    Exit codes:
      2  nothing has run there yet
    """  # noqa: D301 - \b is Typer's mark for "do not wrap"
    from appliance.export.places import read_status

    values = read_status(folder)
    text = _sender(values) if values.get("side") == "sender" else _receiver(values)
    print_result(text, _with_ranges(values), as_json=as_json)


def _time(milliseconds: int) -> str:
    import datetime as dt

    return dt.datetime.fromtimestamp(milliseconds // 1000, dt.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _sender(values: dict[str, Any]) -> str:
    spool = values["spool"]
    dropped = f"{values['dropped']:,} dropped" + (", DROPPING" if values["dropping"] else "")
    sent = f"{values['packets']:,} packets, {values['bytes']:,} bytes; {values['send_faults']:,} faults"
    return "\n".join(
        [
            f"sender       as of {_time(values['time'])}, epoch {values['epoch']}",
            f"records      {values['next_sequence'] - 1:,} in all; {dropped}",
            f"blocks       {values['next_block']:,}; {values['waiting_blocks']:,} not sent yet",
            f"sent         {sent}",
            f"spool        {spool['bytes']:,} of {spool['limit']:,} bytes, from block {spool['oldest']:,}",
        ]
    )


def _receiver(values: dict[str, Any]) -> str:
    arrived = f"{values['packets']:,}, {values['bytes']:,} bytes"
    lines = [
        f"receiver     as of {_time(values['time'])}",
        f"packets      {arrived}; dropped by the socket {values['socket_drops']:,}",
        f"refused      {_counts(values['refused'])}",
    ]
    for node in _with_ranges(values)["nodes"]:
        blocks = f"{node['blocks']:,} blocks, {node['repaired']:,} repaired"
        lines += [
            node["name"],
            f"  records    {node['records']:,} in {blocks}; {node['dropped']:,} dropped by the node",
            f"  refused    {_counts(node['refused'])}",
        ]
        stated = node["checkpoint"]
        lines.append(f"  checkpoint {_time(stated['time']) if stated else 'none'}")
        lines += [f"  gap        {gap['range']} {gap['state']}" for gap in node["gaps"]] or [
            "  gaps       none"
        ]
        lines += [
            f"  ALARM      {node[name]} {name}"
            for name in ("forks", "breaks", "contradictions", "walls_changed")
            if node[name]
        ]
        lines += [f"  trouble    {where}: {what}" for where, what in node["troubles"].items()]
    return "\n".join(lines)


def _counts(refused: dict[str, int]) -> str:
    return ", ".join(f"{why} {count:,}" for why, count in refused.items()) or "none"


def _with_ranges(values: dict[str, Any]) -> dict[str, Any]:
    """The status with each gap as it is typed at the node."""
    from appliance.export.ranges import range_text

    for node in values.get("nodes", []):
        for gap in node["gaps"]:
            first, last = gap["blocks"]
            gap["range"] = range_text(first, last, bytes.fromhex(node["node"]))
    return values
