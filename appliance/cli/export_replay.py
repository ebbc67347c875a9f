"""``appliance export replay``: send blocks once more, or write them to a medium."""

from __future__ import annotations

from pathlib import Path  # noqa: TC003 - Typer reads it at run time
from typing import TYPE_CHECKING, Annotated

import typer

from appliance.cli.console import print_result
from appliance.cli.options import AsJson  # noqa: TC001 - Typer reads it at run time

if TYPE_CHECKING:
    from collections.abc import Iterable

    from appliance.export.sockets import Address

_BITS = 8
_MEGA = 1_000_000
_BURST = 64_000


def replay(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="The sender's folder.")],
    ranges: Annotated[
        list[str], typer.Argument(metavar="RANGE...", help="As the receiver says them: 41-57/83.")
    ],
    *,
    to: Annotated[
        str | None, typer.Option("--to", metavar="ADDRESS:PORT", help="Send them again, over the line.")
    ] = None,
    medium: Annotated[
        Path | None, typer.Option("--medium", metavar="FOLDER", help="Write them to a medium instead.")
    ] = None,
    rate: Annotated[
        float, typer.Option("--rate", metavar="MBIT", min=0.01, help="Megabits that may leave in a second.")
    ] = 10.0,
    as_json: AsJson = False,
) -> None:
    """Send or carry the blocks that a receiver misses, exactly as they were.

    The two digits behind each range are checked before anything is done: a
    wrong digit, or another node's range, is refused. The newest checkpoint
    goes along. The sender may run meanwhile.

    \b
    Examples:
      appliance export replay DIR 41-57/83 --to 192.0.2.2:5514
      appliance export replay DIR 41-57/83 99/05 --medium /media/usb/replay
      appliance export receive RECEIVER --sender gpu-01.sender.json --medium /media/usb/replay

    \b
    Exit codes:
      2  a range is none or its digits are wrong, or DIR is no sender's folder
      5  the medium is full
    """  # noqa: D301 - \b is Typer's mark for "do not wrap"
    from appliance.errors import Usage
    from appliance.export.places import SPOOL, read_identity
    from appliance.export.ranges import parse_range
    from appliance.export.replaying import as_datagrams, onto_medium
    from appliance.export.sockets import parse_address

    if (to is None) == (medium is None):
        raise Usage("over the line, or onto a medium", wanted="--to ADDRESS:PORT or --medium FOLDER")
    identity = read_identity(folder)
    wanted = [parse_range(each, identity.node) for each in ranges]
    count = sum(last + 1 - first for first, last in wanted)
    if medium is not None:
        found = onto_medium(folder / SPOOL, wanted, medium)
    else:
        found = _send(as_datagrams(folder / SPOOL, wanted, identity), parse_address(to or ""), rate)
    text = f"{found:,} of {count:,} blocks" + (
        "" if found == count else "; the spool has the others no more"
    )
    print_result(text, {"blocks": found, "wanted": count}, as_json=as_json)


def _send(frames: Iterable[list[bytes]], peer: Address, rate: float) -> int:
    """Send at this rate; says how many blocks.  The last frame is the checkpoint's."""
    import time

    from appliance.export.pacing import TokenBucket
    from appliance.export.packet import PacketKind
    from appliance.export.sockets import sending_socket

    bucket, blocks = TokenBucket(rate * _MEGA / _BITS, _BURST), 0
    with sending_socket(peer) as line:
        line.setblocking(True)
        for datagrams in frames:
            for each in datagrams:
                while not bucket.take(len(each), time.monotonic()):
                    time.sleep(bucket.wait(time.monotonic()))
                line.sendto(each, peer)
            blocks += datagrams[0][3] == PacketKind.BLOCK
    return blocks
