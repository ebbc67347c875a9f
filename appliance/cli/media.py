"""``appliance media``: a bundle on several media, from the build station to the node."""

from __future__ import annotations

import typer

media_app = typer.Typer(
    name="media",
    help="Carry a bundle on several sticks or disks: plan, write, check, repair.",
    no_args_is_help=True,
)


@media_app.callback()
def _media() -> None:
    """Carry a bundle on several sticks or disks: plan, write, check, repair."""
