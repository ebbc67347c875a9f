"""The review page: how a stranger checks a bundle with stock tools and none of our code."""

from __future__ import annotations

from importlib.resources import files


def review_bytes() -> bytes:
    """The bytes of ``VERIFY.txt``: the same in every bundle of format 1, so a printed copy serves all."""
    return files("appliance.bundle").joinpath("VERIFY.txt").read_bytes()
