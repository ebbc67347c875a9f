"""The comparison of the two verifiers says who stands alone, and no case is left out without a word."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from appliance.errors import RootInvalid
from tests.corpus.comparing import NOT_ASKED, unasked
from tests.independent import agreement

if TYPE_CHECKING:
    from collections.abc import Callable

CHECKOUT = Path(__file__).resolve().parents[2]


def refuse() -> None:
    raise RootInvalid("no")


def accept() -> None:
    pass


def slip() -> None:
    raise NameError("no such name")


@pytest.mark.parametrize(
    ("ask", "judge", "said"),
    [
        (accept, refuse, "the project alone refuses"),
        (refuse, accept, "the independent verifier alone refuses"),
    ],
)
def test_who_stands_alone_is_named(ask: Callable[[], None], judge: Callable[[], None], said: str) -> None:
    with pytest.raises(pytest.fail.Exception, match=said):
        agreement.compare(ask, judge)


def test_what_both_say_is_counted() -> None:
    before = agreement.COMPARED.copy()
    agreement.compare(accept, accept)
    with pytest.raises(RootInvalid):
        agreement.compare(refuse, refuse)
    assert agreement.COMPARED - before == {"accepted": 1, "refused": 1}


def test_a_slip_of_the_verifier_refuses_nothing() -> None:
    with pytest.raises(NameError):
        agreement.compare(slip, refuse)


CONFTEST = """
from tests.corpus import comparing
from tests.corpus.comparing import pytest_runtest_call
from tests.corpus.counting import *

comparing.NOT_ASKED["of another kind"] = ("test_sample::test_other*",)
"""
SAMPLE = """
import pytest
from tests.independent import agreement

pytestmark = pytest.mark.group(8)

def test_asked():
    agreement.agree("no", "no")

def test_other():
    pass
"""
NEVER = "\ndef test_never():\n    pass\n"
AFTER_ALL = "\ndef test_other_too():\n    agreement.agree(None, None)\n"


@pytest.mark.parametrize(
    ("cases", "code", "said"),
    [
        ("", 0, "the independent verifier agreed about 1 inputs in 1 tests"),
        ("", 0, "not asked in    1 tests: of another kind"),
        (NEVER, 1, "was not asked, and nothing says why: test_sample::test_never"),
        (AFTER_ALL, 1, "was asked; test_sample::test_other_too is not of the kind: of another kind"),
    ],
)
def test_a_case_that_is_not_compared_has_a_reason(cases: str, code: int, said: str, tmp_path: Path) -> None:
    folder = tmp_path / "corpus"
    folder.mkdir()
    (folder / "conftest.py").write_text(CONFTEST)
    (folder / "test_sample.py").write_text(SAMPLE + cases)
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--rootdir", tmp_path]
    command += ["-o", "markers=group\ncontrol", folder]
    done = subprocess.run(command, cwd=CHECKOUT, capture_output=True, text=True, check=False)
    assert done.returncode == code, done.stdout
    assert said in done.stdout


def test_no_bundle_root_or_list_is_of_a_kind_that_is_left_out() -> None:
    """Each of these modules judges nothing else; a pattern must not take one of their cases away."""
    whole = (
        "archives",
        "hostile_folders",
        "deceived_holders",
        "volumes",
        "tokens",
        "provenance",
        "thresholds",
    )
    for module in (*whole, "carried_documents", "cnsa", "cnsa_documents", "cnsa_provenance"):
        assert unasked(f"test_{module}::test_anything") is None
    for case in (
        "test_versions::test_a_chain_that_does_not_hold",
        "test_parsers::test_another_spelling[root-x]",
        "test_parsers::test_another_spelling[stricter list-x]",
    ):
        assert unasked(case) is None
    assert all(NOT_ASKED.values())
