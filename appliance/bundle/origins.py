"""Where a file comes from, in a line for people: every value beside its name."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from appliance.trust.upstream_claim import NAMES as UPSTREAM_NAMES

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

#: What differs from file to file of one origin; left out where files are counted by origin.
OWN: Final = frozenset(
    {"package", "project", "python", "pythons", "source", "source_version", "part", "sentence"}
)
#: What names a package and its version; left out where these stand beside it.
NAMES: Final = frozenset({"package", "project", "repository", "revision", "image"})
#: Always left out: digests and signatures of the origin are said where digests and signatures are.
_ELSEWHERE: Final = frozenset({"kind", "upstream", *UPSTREAM_NAMES})


def origin_text(origin: Mapping[str, str], *, without: Collection[str] = ()) -> str:
    """``debian: architecture all, component main, suite trixie``; without the values named."""
    details = [
        f"{key.replace('_', ' ')} {value}"
        for key, value in sorted(origin.items())
        if key not in _ELSEWHERE and key not in without
    ]
    return f"{origin['kind']}: {', '.join(details)}" if details else origin["kind"]
