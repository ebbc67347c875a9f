"""Counts the failures that tests inject into network changes, by kind, and prints the table at the end."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Final

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from _pytest.terminal import TerminalReporter

INJECTED: Final = "injected"
_TITLE: Final = "injected failures of network changes"


@pytest.fixture
def injected(request: pytest.FixtureRequest) -> Callable[[str], None]:
    """Say that a failure of some kind was injected."""
    return lambda kind: request.node.user_properties.append((INJECTED, kind))


def pytest_terminal_summary(terminalreporter: TerminalReporter) -> None:
    """The table, if any was injected."""
    if getattr(terminalreporter, "_injected_told", False):
        return  # more than one folder of tests has this hook
    terminalreporter._injected_told = True  # type: ignore[attr-defined]
    passed, failed = (_counted(terminalreporter.getreports(each)) for each in ("passed", "failed"))
    if passed or failed:
        terminalreporter.section(_TITLE)
        for kind in sorted({*passed, *failed}):
            terminalreporter.write_line(f"{passed[kind]:6d}  {kind}")
        told = f"injected = {passed.total()}, in tests that failed = {failed.total()}"
        terminalreporter.write_line(told)


def _counted(reports: Iterable[pytest.TestReport]) -> Counter[str]:
    return Counter(kind for each in reports for name, kind in each.user_properties if name == INJECTED)
