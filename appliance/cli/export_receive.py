"""``appliance export receive``: take what nodes export, prove it, name every gap, give it on."""

from __future__ import annotations

import json
from contextlib import contextmanager
from pathlib import Path  # noqa: TC003 - Typer reads it at run time
from typing import TYPE_CHECKING, Annotated, Any

import typer

from appliance.cli.console import print_result
from appliance.cli.options import AsJson  # noqa: TC001 - Typer reads it at run time

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping


def receive(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="Where archives and lines are kept.")],
    *,
    senders: Annotated[
        list[Path],
        typer.Option("--sender", metavar="NAME.sender.json", help="A node that may send; repeat."),
    ],
    listen: Annotated[
        str | None, typer.Option("--listen", metavar="ADDRESS:PORT", help="Where packets arrive.")
    ] = None,
    medium: Annotated[
        Path | None,
        typer.Option("--medium", metavar="FOLDER", help="Take the blocks of a medium instead, and end."),
    ] = None,
    syslog: Annotated[
        bool, typer.Option("--syslog", help="Also write RFC 5424 to NAME/records.log.")
    ] = False,
    tls: Annotated[
        str | None,
        typer.Option("--syslog-tls", metavar="ADDRESS:PORT", help="A collector for RFC 5424 over TLS."),
    ] = None,
    authority: Annotated[
        Path | None, typer.Option("--ca", metavar="FILE", help="PEM: who vouches for the collector.")
    ] = None,
    certificate: Annotated[
        Path | None, typer.Option("--cert", metavar="FILE", help="PEM: our certificate and key for it.")
    ] = None,
    kafka: Annotated[
        Path | None, typer.Option("--kafka", metavar="FILE", help="Settings of a Kafka cluster, YAML.")
    ] = None,
    s3: Annotated[
        Path | None,
        typer.Option("--s3", metavar="FILE", help="Settings of a bucket with Object Lock, YAML."),
    ] = None,
    archive_limit: Annotated[
        int | None,
        typer.Option(
            "--archive-limit", metavar="MIB", min=64, help="Of each archive; the oldest go. Else all stay."
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Receive what nodes export; nothing is ever sent back.

    Whatever is signed by an enrolled node is kept, with its proof, in
    DIR/NAME/archive, and written to DIR/NAME/records.jsonl, each record once.
    DIR/NAME/events.jsonl says which gaps open, are filled or lost, and what
    must not be: forks, breaks, drops. Ends with Ctrl-C or SIGTERM. With
    --archive-limit the oldest proofs are removed, once every output has
    their records; check --from then proves what is left.

    \b
    Examples:
      appliance export receive DIR --listen 192.0.2.2:5514 --sender gpu-01.sender.json
      appliance export receive DIR --listen 0.0.0.0:5514 --sender a.sender.json --sender b.sender.json
      appliance export receive DIR --sender a.sender.json --medium /media/usb/replay
      appliance export receive DIR --listen 192.0.2.2:5514 --sender a.sender.json \\
        --syslog-tls 192.0.2.9:6514 --ca collector.pem
      appliance export receive DIR --listen 192.0.2.2:5514 --sender a.sender.json \\
        --kafka kafka.yaml --s3 bucket.yaml

    \b
    Exit codes:
      2  an address is none or taken, a file is not there, others may read a secret,
         or DIR cannot be written
      3  a sender's file or settings are malformed, or two senders are one; or an
         output is to go on at another topic, bucket, prefix or collector
      4  an archive or a cursor is not what was written
      5  another receiver has DIR, or the client for Kafka or S3 is not installed
    """  # noqa: D301 - \b is Typer's mark for "do not wrap"
    from appliance.cli.export_stopping import stopping
    from appliance.errors import Usage
    from appliance.export.loops import ReceiveLoop
    from appliance.export.moments import tolerant
    from appliance.export.places import read_senders, write_status
    from appliance.export.receiver import Receiver
    from appliance.export.sinks.outlets import outlets
    from appliance.export.sockets import parse_address, receiving_socket

    if (listen is None) == (medium is None):
        raise Usage("packets, or a medium", wanted="--listen ADDRESS:PORT or --medium FOLDER")
    known = read_senders(senders)
    address = parse_address(listen) if listen is not None else None
    made = outlets(syslog=syslog, tls=tls, authority=authority, certificate=certificate, kafka=kafka, s3=s3)
    limit = None if archive_limit is None else archive_limit << 20
    with _usable(str(folder)):
        folder.mkdir(parents=True, exist_ok=True)
        receiver = Receiver(folder, known, made, limit=limit)
    try:
        if medium is not None:
            _take_medium(receiver, medium, as_json=as_json)
            return
        with _usable(str(listen)):
            socket = receiving_socket(address or ("", 0))
        with socket as line, stopping() as stop:
            tell = tolerant(lambda values: write_status(folder, values))
            loop = ReceiveLoop(receiver, line, tell, _say)
            loop.run(stop)
    finally:
        receiver.close()
    counts = [f"{each['name']}: {each['records']:,} new records" for each in receiver.status()["nodes"]]
    print_result("\n".join([*counts, *_troubles(receiver)]), receiver.status(), as_json=as_json)


@contextmanager
def _usable(what: str) -> Iterator[None]:
    """What the system says against it is the command line's fault."""
    from appliance.errors import Usage

    try:
        yield
    except OSError as fault:
        raise Usage(
            f"{what} cannot be used",
            found=f"{fault.strerror or fault}" + (f": {fault.filename}" if fault.filename else ""),
        ) from fault


def _troubles(receiver: Any) -> list[str]:
    """What takes nothing: it gets what it does not have with the next start."""
    return [
        f"{node['name']}: trouble, {where}: {what}"
        for node in receiver.status()["nodes"]
        for where, what in node["troubles"].items()
    ]


def _say(event: Mapping[str, Any]) -> None:
    typer.echo(json.dumps(event, sort_keys=True), err=True)


def _take_medium(receiver: Any, medium: Path, *, as_json: bool) -> None:
    from appliance.errors import Usage
    from appliance.export.moments import moment
    from appliance.export.segments import Segments

    if not medium.is_dir():
        raise Usage(f"there is no folder {medium}", wanted="what appliance export replay --medium wrote")
    log = Segments(str(medium))
    try:
        kept = receiver.take_medium(log.frames())
    finally:
        log.close()
    receiver.feed()
    for _ in range(2):  # nothing is on its way any more: what is seen twice is a gap
        for each in receiver.tell(moment().wall):
            _say(each)
    said = "\n".join([f"kept {kept:,} that were missing", *_troubles(receiver)])
    print_result(said, {"kept": kept} | receiver.status(), as_json=as_json)
