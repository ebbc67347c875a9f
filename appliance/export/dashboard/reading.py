"""The dashboard for Grafana that comes with the program: what a receiver's metrics show."""

from __future__ import annotations

from importlib.resources import files


def dashboard() -> bytes:
    """The file to import in Grafana, JSON; it asks which Prometheus to use."""
    return files(__package__).joinpath("receiver.json").read_bytes()
