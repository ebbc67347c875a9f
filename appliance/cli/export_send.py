"""``appliance export send``: send a node's records over a line that nothing comes back on."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from appliance.cli.console import print_result
from appliance.cli.options import AsJson  # noqa: TC001 - Typer reads it at run time

if TYPE_CHECKING:
    from collections.abc import Callable

    from appliance.export.line.watched import Watched

_BITS = 8
_MEGA = 1_000_000
_DIGESTS = 8  # what a checkpoint has room for
_WALLS = 3  # those of them that --watched gives


def send(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="The sender's folder, made by init.")],
    *,
    to: Annotated[str, typer.Option("--to", metavar="ADDRESS:PORT", help="The receiver, or the diode.")],
    socket: Annotated[
        Path | None,
        typer.Option("--socket", metavar="PATH", help="A UNIX socket to take records on, one a datagram."),
    ] = None,
    stdin: Annotated[
        bool, typer.Option("--stdin", help="Take records from standard input, one a line.")
    ] = False,
    journal: Annotated[
        bool, typer.Option("--journal", help="Take the systemd journal, from where it was left.")
    ] = False,
    journal_folder: Annotated[
        Path | None,
        typer.Option("--journal-folder", metavar="DIR", help="The journal in this folder instead."),
    ] = None,
    audit: Annotated[
        Path | None,
        typer.Option("--audit", metavar="FILE", help="An audit log, followed as it is rotated away."),
    ] = None,
    folders: Annotated[
        list[str] | None,
        typer.Option(
            "--folder", metavar="NAME=DIR", help="Take and remove files put there, one a record; repeat."
        ),
    ] = None,
    metrics: Annotated[
        list[str] | None,
        typer.Option(
            "--metrics", metavar="NAME=URL", help="Prometheus endpoint of this machine to scrape; repeat."
        ),
    ] = None,
    metrics_every: Annotated[
        float,
        typer.Option("--metrics-every", metavar="SECONDS", min=1.0, help="Time between two snapshots."),
    ] = 15.0,
    rate: Annotated[
        float, typer.Option("--rate", metavar="MBIT", min=0.01, help="Megabits that may leave in a second.")
    ] = 100.0,
    idle_rate: Annotated[
        float,
        typer.Option(
            "--idle-rate", metavar="MBIT", min=0.0, help="Of them for replaying the last day; 0: none."
        ),
    ] = 5.0,
    constant: Annotated[
        bool, typer.Option("--constant", help="Always send at --rate, filled up: volume then says nothing.")
    ] = False,
    parity: Annotated[
        int,
        typer.Option("--parity", metavar="PERCENT", min=0, max=300, help="Repair symbols; four at least."),
    ] = 20,
    spool_mib: Annotated[
        int, typer.Option("--spool", metavar="MIB", min=8, help="What the spool may take on the disk.")
    ] = 1024,
    stop_when_full: Annotated[
        bool, typer.Option("--stop-when-full", help="Stop rather than drop records when the spool is full.")
    ] = False,
    digests: Annotated[
        list[str] | None,
        typer.Option("--digest", metavar="NAME=SHA256", help="Travels in each checkpoint; repeat."),
    ] = None,
    watched: Annotated[
        Path | None,
        typer.Option(
            "--watched", metavar="FILE", help="What `line watch` writes: digests and alarms of the walls."
        ),
    ] = None,
    select: Annotated[
        Path | None,
        typer.Option("--select", metavar="FILE", help="What of a record may leave, and what is redacted."),
    ] = None,
    drain: Annotated[
        bool, typer.Option("--drain", help="End when the input has ended and all of it was sent once.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Send records one way: signed, chained, with repair symbols, each block three times.

    Blocks are on the disk before they leave, and leave at once, after 30
    seconds, after ten minutes, and again when the line is idle. Nothing is
    ever read from the line. With --select only listed fields leave, and of
    other streams no more than a tombstone. Journal, audit log and folders go
    on where they were left, and are not read while the spool has no room.
    Ends with Ctrl-C or SIGTERM; what was taken is on the disk then, and is
    sent by the next start.

    \b
    Examples:
      appliance export send DIR --to 192.0.2.2:5514 --socket /run/appliance-export/records
      appliance export send DIR --to 192.0.2.2:5514 --journal --select fields.yaml
      appliance export send DIR --to 192.0.2.2:5514 --journal --audit /var/log/audit/audit.log \\
        --folder checks=/var/spool/appliance/checks --metrics vllm=http://127.0.0.1:8000/metrics
      appliance export send DIR --to [2001:db8::2]:5514 --stdin --drain < records.jsonl
      appliance export send DIR --to 192.0.2.2:5514 --socket S --rate 400 --parity 30
      appliance export send DIR --to 192.0.2.2:5514 --journal --rate 2 --constant

    \b
    Exit codes:
      2  DIR is no sender's folder, or an address, digest, folder or endpoint is none
      3  the identity is malformed, or others can read it; or --select is invalid
      4  the spool is gone, or is another node's
      5  another sender has the spool, or no journalctl
     10  the spool is full, with --stop-when-full; what could not wait is counted
    """  # noqa: D301 - \b is Typer's mark for "do not wrap"
    from contextlib import ExitStack

    from appliance import __version__
    from appliance.cli.export_stopping import stopping
    from appliance.errors import SpoolFull, Usage
    from appliance.export.exporter import Exporter
    from appliance.export.loops import SendLoop
    from appliance.export.moments import moment, tolerant
    from appliance.export.pacing import TokenBucket, line_bucket
    from appliance.export.places import SPOOL, read_identity, write_status
    from appliance.export.sending import Sending
    from appliance.export.sockets import parse_address, sending_socket
    from appliance.export.sources.opening import Wanted, opened, parse_endpoints, parse_folders
    from appliance.export.spool import Spool

    wanted = Wanted(
        socket=socket,
        lines=0 if stdin else None,
        journal=journal,
        journal_directory=journal_folder,
        audit=audit,
        folders=parse_folders(folders or [], Path),
        metrics=parse_endpoints(metrics or []),
        every=metrics_every,
    )
    if wanted.nothing:
        raise Usage(
            "records come from nowhere",
            wanted="--journal, --audit FILE, --folder NAME=DIR, --metrics NAME=URL, --socket PATH, --stdin",
        )
    peer, named = parse_address(to), _digests(digests or [], _DIGESTS - (_WALLS if watched else 0))
    selected = None if select is None else _selection(select)
    identity = read_identity(folder)
    spool = Spool(str(folder / SPOOL), identity.sender, limit=spool_mib << 20)
    with ExitStack() as until:
        until.callback(spool.close)
        exporter = Exporter(identity, spool, moment(), stop_when_full=stop_when_full, version=__version__)
        line = line_bucket(rate * _MEGA / _BITS, constant=constant)
        idle = TokenBucket(idle_rate * _MEGA / _BITS, 1) if idle_rate else None
        sending = Sending(identity, exporter, line, idle=idle, percent=parity, constant=constant)
        sources = opened(wanted, spool.state.positions, until, selected)
        out = until.enter_context(sending_socket(peer))
        stop = until.enter_context(stopping())
        tell = tolerant(lambda values: write_status(folder, values))
        loop = SendLoop(exporter, sending, out, peer, sources, tell, named, drain, selected)
        loop.watched = _watched(watched) if watched else None
        try:
            loop.run(stop)
        except SpoolFull:
            tell({**loop.status(moment()), "ended": "spool-full"})
            raise
        status = loop.status(moment())
    text = f"sent {status['packets']:,} packets of {status['records']:,} records; dropped {loop.dropped:,}"
    print_result(text, status, as_json=as_json)


def _selection(path: Path) -> Callable[[bytes], bytes]:
    from appliance.errors import Usage
    from appliance.export.selection import read_selection

    if not path.is_file():
        raise Usage(f"there is no file {path}")
    return read_selection(path.read_text(encoding="utf-8", errors="surrogateescape"), path).apply


def _watched(path: Path) -> Watched:
    from appliance.export.line.watched import Watched

    def read() -> bytes:
        try:
            return path.read_bytes()
        except OSError:
            return b""

    return Watched(read)


def _digests(texts: list[str], most: int) -> dict[str, str]:
    from appliance.errors import Usage

    found = {}
    for text in texts:
        match = re.fullmatch(r"([a-z][a-z0-9-]{0,31})=([0-9a-f]{64})", text)
        if not match or len(texts) > most:
            wanted = f"NAME=64 hexadecimal digits, at most {most} of them"
            raise Usage("not a digest, or too many", found=text[:80], wanted=wanted)
        found[match[1]] = match[2]
    return found
