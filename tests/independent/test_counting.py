"""The corpus counts what it says it counts, and what is accepted or costs too much fails."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable

CHECKOUT = Path(__file__).resolve().parents[2]
CONFTEST = """
import pytest
from tests.corpus import bounds
from tests.corpus.counting import *

bounds.CPU_SECONDS = 1

@pytest.fixture(autouse=True)
def bounded():
    with bounds.bounded():
        yield
"""
SAMPLE = """
import pytest

pytestmark = pytest.mark.group(8)

def parse(text):
    if text != "good":
        raise ValueError
"""
GOOD = """
@pytest.mark.parametrize("text", ["", "bad"])
def test_refused(text):
    with pytest.raises(ValueError):
        parse(text)

def test_many(count_inputs):
    count_inputs(40)

@pytest.mark.control
def test_control():
    parse("good")
"""
ACCEPTED = """
@pytest.mark.group(7)
def test_accepted():
    with pytest.raises(ValueError):
        parse("good")
"""
BROKEN = """
def test_refused_otherwise():
    with pytest.raises(KeyError):
        parse("bad")
"""
GREEDY = """
def test_memory():
    bytearray(300 << 20)
"""
SLOW = """
def test_time():
    while True:
        pass
"""


@pytest.fixture
def corpus(tmp_path: Path) -> Callable[[str], tuple[int, str]]:
    """Run these cases as a corpus of their own; exit code and output."""

    def run(cases: str) -> tuple[int, str]:
        folder = tmp_path / "corpus"
        folder.mkdir()
        (folder / "conftest.py").write_text(CONFTEST)
        (folder / "test_sample.py").write_text(SAMPLE + cases)
        command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--rootdir", tmp_path]
        command += ["-o", "markers=group\ncontrol", folder]
        done = subprocess.run(command, cwd=CHECKOUT, capture_output=True, text=True, check=False)
        return done.returncode, done.stdout + done.stderr

    return run


def test_cases_are_counted_and_controls_apart(corpus: Callable[[str], tuple[int, str]]) -> None:
    code, output = corpus(GOOD)
    assert code == 0, output
    assert "cases = 42, rejected = 42, accepted = 0, broken = 0, skipped = 0, controls = 1" in output


def test_one_that_is_accepted_fails_and_is_counted(corpus: Callable[[str], tuple[int, str]]) -> None:
    code, output = corpus(GOOD + ACCEPTED)
    assert code == 1
    assert "cases = 43, rejected = 42, accepted = 1, broken = 0" in output


@pytest.mark.parametrize(
    ("cases", "reason"),
    [(BROKEN, "ValueError"), (GREEDY, "took 3"), (SLOW, "still busy after 1 s of CPU")],
    ids=["refused otherwise", "too much memory", "too much time"],
)
def test_what_is_refused_at_too_high_a_cost_is_not_refused(
    cases: str, reason: str, corpus: Callable[[str], tuple[int, str]]
) -> None:
    code, output = corpus(cases)
    assert code == 1
    assert "cases = 1, rejected = 0, accepted = 0, broken = 1" in output
    assert reason in output


def test_a_case_without_a_group_is_a_mistake(corpus: Callable[[str], tuple[int, str]]) -> None:
    code, output = corpus("pytestmark = []\ndef test_it():\n    pass\n")
    assert code == pytest.ExitCode.USAGE_ERROR
    assert "belongs to no group" in output
