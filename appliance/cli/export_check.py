"""``appliance export check``: prove from archives alone that nothing is missing or altered."""

from __future__ import annotations

from pathlib import Path  # noqa: TC003 - Typer reads it at run time
from typing import TYPE_CHECKING, Annotated

import typer

from appliance.cli.console import print_result
from appliance.cli.options import AsJson  # noqa: TC001 - Typer reads it at run time

if TYPE_CHECKING:
    from appliance.export.checking import Proof
    from appliance.export.identity import Sender


def check(
    folders: Annotated[
        list[Path], typer.Argument(metavar="FOLDER...", help="Archives, spools or media of one node.")
    ],
    *,
    sender: Annotated[
        Path,
        typer.Option("--sender", metavar="NAME.sender.json", help="Whose; only its public key is used."),
    ],
    since: Annotated[
        str | None,
        typer.Option("--from", metavar="EPOCH/NUMBER", help="The checkpoint to begin with; else block 0."),
    ] = None,
    until: Annotated[
        str | None,
        typer.Option("--to", metavar="EPOCH/NUMBER", help="The checkpoint to end with; else the newest."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Check offline, years later: every signature, hash and sequence, computed anew.

    All folders together are one archive. It is whole if nothing is missing
    up to the last checkpoint, nothing was altered, and there is one history.
    Between two checkpoints, only what lies between them counts.

    \b
    Examples:
      appliance export check DIR/gpu-01/archive --sender gpu-01.sender.json
      appliance export check DIR/gpu-01/archive /media/usb/replay --sender gpu-01.sender.json --json
      appliance export check DIR/gpu-01/archive --sender gpu-01.sender.json \\
        --from 1800000000/7 --to 1800086400/12

    \b
    Exit codes:
      0  whole
      2  a folder, file or checkpoint is not there
      3  the sender's file is malformed
      4  something is missing or altered; the result says what
    """  # noqa: D301 - \b is Typer's mark for "do not wrap"
    from appliance.errors import Usage
    from appliance.export.checking import check_folders
    from appliance.export.places import read_senders
    from appliance.export.span import parse_name

    first, last = (None if each is None else parse_name(each) for each in (since, until))
    for each in folders:
        if not each.is_dir():
            raise Usage(f"there is no folder {each}")
    (known,) = read_senders([sender])
    proof = check_folders(folders, known, since=first, until=last)
    print_result(_text(proof, known), _values(proof, known), as_json=as_json)
    if not proof.whole:
        raise typer.Exit(4)


def _text(proof: Proof, sender: Sender) -> str:
    from appliance.export.ranges import range_text

    lines = [
        f"node         {sender.name}, {sender.node.hex()}",
        f"blocks       {proof.blocks:,}, and {proof.repeated:,} frames twice",
        f"records      {proof.records:,}; dropped by the node {proof.dropped:,}",
        f"checkpoints  {proof.checkpoints:,}",
    ]
    if proof.span:
        lines.append(f"between      blocks {proof.span.begin} to {proof.span.end - 1}, both included")
        lines += [f"contradicts  {each}" for each in proof.span.faults()]
    elif proof.last:
        lines.append(
            f"reaches      to block {proof.last.next_block - 1}, sequence {proof.last.next_sequence - 1}"
        )
    for each in proof.gaps:
        written = range_text(each.first, each.last, sender.node)
        sequences = f"sequences {each.first_sequence} to {each.last_sequence}"
        lines.append(f"missing      {written}, {sequences}, {each.state}")
    lines += [f"altered      {each}" for each in proof.altered]
    lines += [
        f"fork         blocks {each.first} to {each.last} of epoch {each.epoch}, "
        f"sequences {each.first_sequence} to {each.last_sequence}"
        for each in proof.histories
    ]
    lines += [f"break        before block {each}" for each in proof.breaks]
    if proof.contradictions:
        lines.append(f"contradicts  {proof.contradictions:,} checkpoints")
    lines.append("result       whole" if proof.whole else "result       NOT whole")
    return "\n".join(lines)


def _values(proof: Proof, sender: Sender) -> dict[str, object]:
    from appliance.export.ranges import range_text

    return {
        "whole": proof.whole,
        "name": sender.name,
        "node": sender.node.hex(),
        "blocks": proof.blocks,
        "repeated": proof.repeated,
        "records": proof.records,
        "dropped": proof.dropped,
        "checkpoints": proof.checkpoints,
        "last_block": proof.last.next_block - 1 if proof.last else None,
        "last_sequence": proof.last.next_sequence - 1 if proof.last else None,
        "gaps": [
            {
                "range": range_text(each.first, each.last, sender.node),
                "blocks": [each.first, each.last],
                "sequences": [each.first_sequence, each.last_sequence],
                "state": each.state,
            }
            for each in proof.gaps
        ],
        "between": None if proof.span is None else [proof.span.begin, proof.span.end - 1],
        "ends": [] if proof.span is None else proof.span.faults(),
        "forks": proof.forks,
        "histories": [
            {
                "epoch": each.epoch,
                "blocks": [each.first, each.last],
                "sequences": [each.first_sequence, each.last_sequence],
            }
            for each in proof.histories
        ],
        "breaks": proof.breaks,
        "contradictions": proof.contradictions,
        "altered": proof.altered,
    }
