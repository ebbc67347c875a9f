"""``appliance export scrape``: hand metrics to a sender that cannot reach their endpoints itself."""

from __future__ import annotations

from pathlib import Path  # noqa: TC003 - Typer reads it at run time
from typing import Annotated

import typer

from appliance.cli.console import print_result
from appliance.cli.options import AsJson  # noqa: TC001 - Typer reads it at run time


def scrape(
    endpoints: Annotated[
        list[str], typer.Argument(metavar="NAME=URL...", help="Prometheus endpoints of this machine.")
    ],
    *,
    to: Annotated[Path, typer.Option("--to", metavar="SOCKET", help="The socket of export send --socket.")],
    every: Annotated[
        float, typer.Option("--every", metavar="SECONDS", min=1.0, help="Time between two snapshots.")
    ] = 15.0,
    as_json: AsJson = False,
) -> None:
    """Scrape endpoints of this machine for a sender in a network namespace.

    Such a sender has a loopback of its own, but its socket is reached from
    anywhere. Nobody waits for it: what it does not take is counted, and said
    in the stream scraper with the next snapshot that it takes. Ends with
    Ctrl-C or SIGTERM.

    \b
    Examples:
      appliance export scrape vllm=http://127.0.0.1:8000/metrics --to /run/appliance-export/records
      appliance export scrape a=unix:/run/a.sock b=http://[::1]:9100/metrics --to SOCKET --every 60

    \b
    Exit codes:
      2  an endpoint is none, or is not on this machine
    """  # noqa: D301 - \b is Typer's mark for "do not wrap"
    from appliance.cli.export_stopping import stopping
    from appliance.export.handing import Handing
    from appliance.export.sources.metrics import MetricsSource
    from appliance.export.sources.opening import parse_endpoints

    source = MetricsSource(parse_endpoints(endpoints), every)
    handing = Handing(source, to)
    try:
        with stopping() as stop:
            handing.run(stop)
    finally:
        source.close()
    values = {"given": handing.given, "missed": handing.missed}
    print_result(
        f"gave {handing.given:,} records; {handing.missed:,} were not taken", values, as_json=as_json
    )
