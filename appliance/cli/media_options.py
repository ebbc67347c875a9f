"""By whom the signatures on media are judged: options that commands of ``appliance media`` take."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from collections.abc import Sequence

    from appliance.trust.documents import SignedDocument

Trust = Annotated[
    Path | None, typer.Option("--trust", "-t", help="Judge the signatures by this root first.")
]
Fingerprint = Annotated[str | None, typer.Option("--fingerprint", help="The root's SHA-256; must match.")]
Role = Annotated[str, typer.Option("--role", help="The role that must have signed.")]


def root_of(trust: Path | None, fingerprint: str | None) -> bytes | None:
    """The root that is trusted, if one is.

    Raises:
        Usage: a fingerprint, and no root that it could be of.
        FingerprintMismatch, RootInvalid: as of ``load_root``.
    """
    from appliance.bundle.roots import load_root
    from appliance.errors import Usage

    if fingerprint is not None and trust is None:
        raise Usage("--fingerprint needs the root it belongs to", wanted="--trust ROOT")
    return load_root(trust, fingerprint) if trust else None


def taken_back(revoked: Sequence[Path] | None, trust: Path | None) -> list[SignedDocument]:
    """What was taken back, by another way than the media.

    Raises:
        Usage: without a root nobody judges it.
    """
    from appliance.bundle.documents import read_document
    from appliance.errors import Usage

    if revoked and trust is None:
        raise Usage("nobody judges what was taken back without a root", wanted="--trust ROOT")
    return [read_document(path) for path in revoked or ()]
