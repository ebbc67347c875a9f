"""Runs the independent verifier beside the project's, and counts how often."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from appliance.errors import ApplianceError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

_spec = importlib.util.spec_from_file_location("verifier", Path(__file__).with_name("verifier.py"))
assert _spec is not None
assert _spec.loader is not None
verifier = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(verifier)


class Agreement:
    """``verify_bundle`` that also asks the independent verifier, and insists that both say the same."""

    def __init__(self, verify_bundle: Callable[..., Any]) -> None:
        self.verify_bundle = verify_bundle
        self.accepted = 0
        self.refused = 0

    def __call__(
        self, bundle: Path | Sequence[Path], root: bytes, role: str = "release", **options: Any
    ) -> Any:
        folders = [bundle] if isinstance(bundle, Path) else list(bundle)
        reason = refusal(folders, root, role)
        try:
            found = self.verify_bundle(bundle, root, role=role, **options)
        except ApplianceError as error:
            if reason is None:
                pytest.fail(f"the project alone refuses: {error!r}")
            self.refused += 1
            raise
        if reason is not None:
            pytest.fail(f"the independent verifier alone refuses: {reason}")
        self.accepted += 1
        return found


def refusal(folders: list[Path], root: bytes, role: str = "release") -> str | None:
    """Why the independent verifier refuses, or None where it accepts; a slip of its own refuses nothing."""
    try:
        verifier.verify(folders, root, role)
    except (AttributeError, NameError, TypeError):
        raise
    except Exception as refused:  # noqa: BLE001 - whatever it raises refuses the bundle
        return repr(refused)
    return None
