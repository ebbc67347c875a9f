"""Roots of a few people who all may do everything: enough for most tests."""

from __future__ import annotations

from typing import TYPE_CHECKING

from appliance.trust.founding import Enrolment, compose

if TYPE_CHECKING:
    from collections.abc import Mapping

    from appliance.trust.keys import PublicKey
    from appliance.trust.root import Root


def first_root(
    holders: Mapping[str, PublicKey], *, thresholds: Mapping[str, int] | None = None, solo: bool = False
) -> Root:
    """Version 1 of a root in which every holder, by name, counts for both root and release."""
    return compose([Enrolment(name, key) for name, key in holders.items()], thresholds, solo=solo)
