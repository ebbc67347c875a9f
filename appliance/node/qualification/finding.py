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


def together(findings: dict[str, Finding]) -> Finding:
    """The same judgement of several things, as one; the finding itself where there is only one thing."""
    if len(findings) == 1:
        return next(iter(findings.values()))
    broken = {name: each for name, each in findings.items() if not each.kept}
    shown = broken or findings
    return Finding(
        not broken,
        "\n".join(f"{name}: {each.found or each.reason}" for name, each in shown.items()),
        "; ".join(dict.fromkeys(each.wanted for each in shown.values())),
        "; ".join(dict.fromkeys(each.reason for each in broken.values()))
        if broken and all(each.reason for each in broken.values())
        else "",
    )


def lines(values: list[str], *, otherwise: str) -> str:
    """Several things found, one a line; ``otherwise`` when there are none."""
    return "\n".join(values) if values else otherwise
