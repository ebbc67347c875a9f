"""Modules and programs of roles, loaded the way Ansible loads them: by path."""

from __future__ import annotations

import functools
import sys
from importlib.machinery import SourceFileLoader
from importlib.util import module_from_spec, spec_from_loader
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.injected import injected, pytest_terminal_summary
from tests.unit.roles.unpacked import unpack

__all__ = ["injected", "pytest_terminal_summary"]

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import ModuleType

REPOSITORY = Path(__file__).parents[3]


def load(path: Path, name: str) -> ModuleType:
    """Execute a Python file, with or without a suffix, under a module name."""
    loader = SourceFileLoader(name, str(path))
    spec = spec_from_loader(name, loader)
    assert spec is not None
    module = module_from_spec(spec)
    sys.modules[name] = module  # dataclasses look their module up
    sys.dont_write_bytecode, before = True, sys.dont_write_bytecode  # no __pycache__ beside what is shipped
    loader.exec_module(module)
    sys.dont_write_bytecode = before
    return module


@pytest.fixture(scope="session")
def unpacked(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Debian's root folder by suite, one for all tests; etc/passwd, run and try are each test's own."""
    return functools.cache(lambda suite: unpack(suite, tmp_path_factory.mktemp(suite)))


@pytest.fixture(scope="session")
def role_module() -> Iterator[Callable[[str], Any]]:
    """``role_module("firewall/library/ufw_policy.py")``; its role's module_utils can be imported by it."""
    loaded: list[str] = []

    def one(path: str, name: str) -> Any:
        loaded.append(name)
        return load(REPOSITORY / "roles" / path, name)

    def get(path: str) -> Any:
        role = path.split("/", maxsplit=1)[0]
        for utility in sorted((REPOSITORY / "roles" / role / "module_utils").glob("*.py"), reverse=True):
            one(f"{role}/module_utils/{utility.name}", f"ansible.module_utils.{utility.stem}")
        return one(path, f"role_{Path(path).stem.replace('-', '_')}")

    yield get
    for name in loaded:
        sys.modules.pop(name, None)
