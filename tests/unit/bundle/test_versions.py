"""Which version is older, as those say who made them."""

from __future__ import annotations

import subprocess
from itertools import pairwise

import pytest

from appliance.bundle.versions import is_older

#: Each older than the next (Debian Policy, 5.6.12).
DEBIAN = [
    "0.9",
    "1.0~beta1",
    "1.0~rc1~1-1",
    "1.0~rc1-1",
    "1.0",
    "1.0-1~deb13u1",
    "1.0-1",
    "1.0-1+b1",
    "1.0-1+deb13u2",
    "1.0-1+deb13u10",
    "1.0a-1",
    "1.0+dfsg-1",
    "1.0.1",
    "1.2-3-4",
    "1.10",
    "1:0.1",
    "2:0",
]


@pytest.mark.parametrize(("older", "newer"), list(pairwise(DEBIAN)))
def test_debian_versions_are_ordered_as_dpkg_does(older: str, newer: str) -> None:
    assert is_older("debian", older, newer)
    assert not is_older("debian", newer, older)
    subprocess.run(["dpkg", "--compare-versions", older, "lt", newer], check=True)


@pytest.mark.parametrize(("one", "other"), [("1.0", "1.0-0"), ("1.00", "1.0"), ("0:1", "1")])
def test_spellings_of_one_debian_version_are_not_older(one: str, other: str) -> None:
    assert not is_older("debian", one, other)
    assert not is_older("debian", other, one)
    subprocess.run(["dpkg", "--compare-versions", one, "eq", other], check=True)


@pytest.mark.parametrize(
    ("kind", "older", "newer", "expected"),
    [
        ("python", "0.2.8", "2026.10.11549", True),
        ("python", "1.0rc1", "1.0", True),
        ("python", "1.0", "1.0.0", False),
        ("python", "nonsense", "1.0", False),
        ("toolkit", "0.9", "0.10", True),
        ("huggingface", "0" * 40, "1" * 40, False),
        ("file", "1", "2", False),
    ],
)
def test_other_versions(kind: str, older: str, newer: str, *, expected: bool) -> None:
    assert is_older(kind, older, newer) is expected
    assert not is_older(kind, newer, older)
