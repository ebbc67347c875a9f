"""``appliance patch``: what changed between two bundles, as a small bundle of its own."""

from __future__ import annotations

import typer

from appliance.cli.patch_apply import apply
from appliance.cli.patch_build import build
from appliance.cli.patch_join import join

patch_app = typer.Typer(
    name="patch",
    help="Carry what changed, and no more: build, apply, join.",
    no_args_is_help=True,
)


@patch_app.callback()
def _patch() -> None:
    """Carry what changed, and no more: build, apply, join."""


patch_app.command("build")(build)
patch_app.command("apply")(apply)
patch_app.command("join")(join)
