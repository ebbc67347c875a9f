"""``appliance export dashboard``: the dashboard of a receiver, for Grafana."""

from __future__ import annotations

import typer


def dashboard() -> None:
    """Print a dashboard for Grafana that shows a receiver's metrics.

    It wants a Prometheus that has them: the receiver writes metrics.prom for
    the textfile collector of a node exporter.

    \b
    Examples:
      appliance export dashboard > receiver.json     # then import it in Grafana

    \b
    Exit codes:
      0  printed
    """  # noqa: D301 - \b is Typer's mark for "do not wrap"
    from appliance.export.dashboard.reading import dashboard as read

    typer.echo(read(), nl=False)
