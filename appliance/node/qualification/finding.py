"""What a judgement says: kept or broken, with what was found and what was wanted; or not to be judged."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Finding:
    """One promise, judged.  ``reason`` set: it could not be tried, and why; then ``kept`` is False."""

    kept: bool
    found: str
    wanted: str
    reason: str = ""


def not_run(reason: str, *, wanted: str) -> Finding:
    """A promise that could not be tried here."""
    return Finding(kept=False, found="", wanted=wanted, reason=reason)


def lines(values: list[str], *, otherwise: str) -> str:
    """Several things found, one a line; ``otherwise`` when there are none."""
    return "\n".join(values) if values else otherwise
