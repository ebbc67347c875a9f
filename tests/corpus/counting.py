"""Counts the cases of the corpus by group: how many were refused, and that none was accepted.

A case is a test with the mark ``group``; one that tries several inputs says how many (the fixture
``count_inputs``).  It is refused if it passes.  If it fails because nothing was raised, something hostile
was accepted.  Whatever else fails is broken: refused otherwise than it should be, or not judged.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Final

import pytest

from tests.corpus.groups import GROUPS

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterable
    from pathlib import Path

    from _pytest.terminal import TerminalReporter

_MARK: Final = "corpus"
_INPUTS: Final = "inputs"
_COLUMNS: Final = ("cases", "rejected", "accepted", "broken", "skipped", "controls")
#: What pytest.raises says, and the verifiers' comparison.
_NOTHING_RAISED: Final = ("DID NOT RAISE", "ACCEPTED", "the independent verifier alone refuses")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """A case without a group is a mistake."""
    for item in items:
        if not _is_case(item.path):
            continue
        mark = item.get_closest_marker("group")
        if mark is None or mark.args[0] not in GROUPS:
            raise pytest.UsageError(f"{item.nodeid} belongs to no group of tests/corpus/groups.py")
        kind = "control" if item.get_closest_marker("control") else "case"
        item.user_properties.append((_MARK, f"{mark.args[0]} {kind}"))


def _is_case(path: Path) -> bool:
    return path.parent.name == "corpus"


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    call: pytest.CallInfo[None],
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Note in the report whether something hostile was accepted."""
    report = yield
    if report.failed and call.excinfo and str(call.excinfo.value).startswith(_NOTHING_RAISED):
        report.user_properties = [*report.user_properties, ("accepted", "1")]
    return report


@pytest.fixture
def count_inputs(request: pytest.FixtureRequest) -> Callable[[int], None]:
    """Say that this test tried several inputs."""
    return lambda number: request.node.user_properties.append((_INPUTS, str(number)))


def pytest_terminal_summary(terminalreporter: TerminalReporter) -> None:
    """The table, if any case was run."""
    # Of one case, the worst: it may pass, and then turn out to have cost too much.
    outcomes = ("passed", "skipped", "failed", "error")
    reports = {each.nodeid: each for one in outcomes for each in terminalreporter.getreports(one)}
    table = tally(reports.values())
    if table:
        terminalreporter.section("hostile corpus")
        for line in [*table_lines(table), *compared_lines(reports.values())]:
            terminalreporter.write_line(line)


def tally(reports: Iterable[pytest.TestReport]) -> dict[int, Counter[str]]:
    """By group, how many there are of each column."""
    table: dict[int, Counter[str]] = {}
    for report in reports:
        said = dict(getattr(report, "user_properties", ()))
        if _MARK not in said:
            continue
        group, kind = said[_MARK].split()
        inputs = int(said.get(_INPUTS, "1"))
        counts = table.setdefault(int(group), Counter())
        if report.skipped:
            counts["skipped"] += 1
        elif report.failed:
            counts["accepted" if "accepted" in said else "broken"] += 1
            counts["cases"] += 1
        elif kind == "control":
            counts["controls"] += 1
        else:
            counts["rejected"] += inputs
            counts["cases"] += inputs
    return table


def compared_lines(reports: Iterable[pytest.TestReport]) -> list[str]:
    """How often the independent verifier judged too; and in how many tests it was not asked, and why."""
    said = [dict(getattr(report, "user_properties", ())) for report in reports]
    compared = [int(each["compared"]) for each in said if "compared" in each]
    lines = [f"the independent verifier agreed about {sum(compared)} inputs in {len(compared)} tests"]
    unasked = Counter(each["unasked"] for each in said if "unasked" in each)
    lines += [f"not asked in {number:4d} tests: {reason}" for reason, number in sorted(unasked.items())]
    return lines if compared or unasked else []


def table_lines(table: dict[int, Counter[str]]) -> list[str]:
    """The table, and its sums in one line that a program can find."""
    lines = [f"{'':26}" + "".join(f"{column:>10}" for column in _COLUMNS)]
    for number, name in GROUPS.items():
        counts = table.get(number, Counter())
        lines.append(f"{number:3d} {name:22}" + "".join(f"{counts[column]:10d}" for column in _COLUMNS))
    total = sum(table.values(), Counter[str]())
    lines.append(", ".join(f"{column} = {total[column]}" for column in _COLUMNS))
    return lines
