"""To whom keys of drives are escrowed, as the program uses it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Escrow:
    """Who can open what is escrowed.

    Attributes:
        recipients: age recipients (``age1…``) by the name of who holds the key.
        threshold: how many of them it takes together; 1: each alone.
    """

    recipients: tuple[tuple[str, str], ...]
    threshold: int = 1

    @property
    def split(self) -> bool:
        """Whether nobody can open it alone."""
        return self.threshold > 1
