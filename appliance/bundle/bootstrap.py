"""The script that sets the program up from a bundle, on a system with python3 and nothing else."""

from __future__ import annotations

from importlib.resources import files


def bootstrap_bytes() -> bytes:
    """The bytes of ``bootstrap.sh``: the same in every bundle of format 1 that carries a toolkit."""
    return files("appliance.bundle").joinpath("bootstrap.sh").read_bytes()
