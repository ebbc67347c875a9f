"""How commands that destroy are confirmed: the drive's serial number, typed, or a signed permit."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from appliance.errors import Usage

if TYPE_CHECKING:
    from appliance.disk.confirmation import Confirmation
    from appliance.disk.state import Drive
    from appliance.node.connection import Connection

Confirm = Annotated[
    str | None, typer.Option("--confirm", metavar="SERIAL", help="Its serial number; else asked for.")
]
PermitFile = Annotated[
    Path | None,
    typer.Option("--permit", metavar="FILE", help="A permit, with signatures beside it, instead of that."),
]
TrustFile = Annotated[
    Path | None,
    typer.Option("--trust", "-t", help="Whose keys count for it; root.json in the inventory's folder."),
]
Fingerprint = Annotated[
    str | None, typer.Option("--fingerprint", help="The root's SHA-256, typed from your paper; must match.")
]


@dataclass(frozen=True, slots=True)
class Confirming:
    """The options above, and the inventory beside which a root lies."""

    inventory: Path
    confirm: str | None = None
    permit: Path | None = None
    trust: Path | None = None
    fingerprint: str | None = None
    revoked: tuple[Path, ...] = ()

    def __post_init__(self) -> None:
        if self.permit is None and (self.trust or self.fingerprint or self.revoked):
            raise Usage("there is nothing to judge by a root", wanted="--permit FILE")
        if self.permit is not None and self.confirm is not None:
            raise Usage(
                "one confirmation is enough", wanted="--confirm SERIAL or --permit FILE, one of them"
            )


def confirmed(
    asked: Confirming,
    drive: Drive,
    connection: Connection,
    what: str,
    lost: str = "Whatever is on it is lost.",
) -> tuple[Confirmation, dict[str, Any] | None]:
    """What binds an act to a drive; without ``--permit`` or ``--confirm`` a person is asked.

    Args:
        asked: the options.
        drive: whose serial number is asked for.
        connection: to its node.
        what: what happens to it, as in "will be encrypted".
        lost: what that means for what is on it.

    Returns:
        The confirmation, to be asked right before the act; and the permit for programs, if there is one.

    Raises:
        BundleUntrusted and others: the permit does not count (``appliance.node.drive_permit``).
    """
    from appliance.disk.confirmation import Confirmation

    if asked.permit is None:
        typed = _typed(drive, connection.node.name, what, lost) if asked.confirm is None else asked.confirm
        return Confirmation(typed), None
    import time

    from appliance.bundle.roots import load_root
    from appliance.node.drive_permit import admit_drive_permit

    folder = asked.inventory if asked.inventory.is_dir() else asked.inventory.parent
    signed = admit_drive_permit(
        connection,
        asked.permit,
        root=load_root(asked.trust or folder / "root.json", asked.fingerprint),
        revoked=asked.revoked,
        time=time.time(),
    )
    typer.echo(signed.text, err=True)
    return Confirmation(permit=signed.permit), signed.values()


def has_terminal() -> bool:
    """Whether somebody is there to be asked."""
    return sys.stdin.isatty() and sys.stderr.isatty()


def _typed(drive: Drive, node: str, what: str, lost: str) -> str:
    """Have a person show that a drive is the one that is meant."""
    from appliance.bundle.media.sizes import size_text

    if not has_terminal():
        return ""
    lines = [
        "",
        f"{drive.path} of {node} {what}: {drive.model or 'no model'}, {size_text(drive.size)}.",
        f"{lost} Read its serial number from its label, and type it here:",
    ]
    typer.echo("\n".join(lines), err=True)
    return sys.stdin.readline().strip()
