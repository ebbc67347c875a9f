"""Judges the staged copy, and what the node says is installed.  Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from appliance.node.audit.drift import NOTHING, Drift

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from appliance.node.audit.baseline import Baseline

#: Of what the node says is installed, that which the baseline knows as well.
_SAME = ("digest", "settings", "toolkit")


def compare_staged(staged: Mapping[str, Any] | None, bundle: str, mark: str | None) -> Iterator[Drift]:
    """What is wrong with the copy.

    Args:
        staged: as ``remote/copy_state.py`` tells it; None: the node knows of no bundle.
        bundle: the bundle's digest, which is its list's.
        mark: SHA-256 of the mark of completeness when the baseline was taken; None: not known.
    """
    if staged is None or staged["list"] is None:
        yield Drift("staged", bundle or "a bundle", "no staged copy", "a complete copy")
        return
    if staged["list"] != bundle:
        yield Drift("staged", "trust/SHA256SUMS", f"SHA-256 {staged['list']}", f"SHA-256 {bundle}")
    if staged["mark"] is None:
        yield Drift("staged", "the mark of completeness", NOTHING, f"SHA-256 {mark}" if mark else "there")
    elif mark and staged["mark"] != mark:
        # Who writes the mark could hide that a file is not the signed one, until all is read again.
        yield Drift("staged", "the mark of completeness", f"SHA-256 {staged['mark']}", f"SHA-256 {mark}")
    for path, (found, wanted) in sorted(staged["wrong"].items()):
        yield Drift("staged", path, found, wanted)


def compare_installed(
    installed: Mapping[str, Any] | None, baseline: Baseline, declared: str
) -> Iterator[Drift]:
    """What the node says of its installation, against what is known; and whether that is the inventory's.

    ``declared``: digest of what the inventory declares for this node now.
    """
    known = {"digest": baseline.bundle, "settings": baseline.settings, "toolkit": baseline.toolkit}
    said = installed or {}
    for name in _SAME:
        if said.get(name) != known[name]:
            yield Drift("installed", f"installed.json: {name}", str(said.get(name, NOTHING)), known[name])
    if declared != baseline.declared:
        yield Drift(
            "installed",
            "the inventory",
            f"digest {declared}",
            f"digest {baseline.declared}, as when the node was installed",
        )
