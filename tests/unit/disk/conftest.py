"""What tests of drives share."""

from __future__ import annotations

from tests.unit.roles.conftest import role_module

__all__ = ["role_module"]
