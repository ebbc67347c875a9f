"""Sees to it that the independent verifier is asked in every case, or says why not.

What the corpus judges it takes from ``tests.independent.agreement``.  A case in which nothing was compared
fails, unless it is of a kind named here; so does one that is named here and was compared after all.
"""

from __future__ import annotations

from fnmatch import fnmatchcase
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import pytest

from tests.independent.agreement import COMPARED, agree, refusal, verifier
from tests.unit.cli.conftest import appliance as run_program  # noqa: F401 - a fixture

if TYPE_CHECKING:
    from collections.abc import Callable, Generator


def _of_parsers(*names: str) -> tuple[str, ...]:
    """The cases of these parsers, whose names stand first, or alone."""
    tests = (
        "test_parsers::*",
        "test_fuzzing::*",
        "test_versions::test_another_format",
        "test_versions::*jumps*",
    )
    return tuple(f"{test}[[]{name}{end}" for test in tests for name in names for end in ("]", "-*"))


#: What is not asked, by the reason: patterns of module and case.
NOT_ASKED: Final[dict[str, tuple[str, ...]]] = {
    "recipes, which whoever applies a patch judges": ("test_patches::test_a_recipe*",),
    "journals and statements to one node, which no bundle holds": (
        "test_state::test_a_bundle_s_date_*",
        "test_state::test_a_journal_*",
        "test_state::test_a_lost_journal_*",
        "test_state::test_a_new_journal_*",
        "test_state::test_one_holder_s_*",
        "test_state::test_a_time_that_is_none[[]time-*",
        "test_state::test_a_time_that_is_none[[]journal-*",
        "test_versions::test_a_node_refuses*",
        "test_versions::test_what_was_good_once*",
        "test_versions::test_a_permit_forward",
        *_of_parsers("journal", "admission", "permit", "waiver", "time", "enrolment", "drive-permit"),
    ),
    "labels of volumes, of which nothing is believed": (
        "test_paths::test_a_path_in_a_label*",
        *_of_parsers("label"),
    ),
    "pieces of wire forms, which are asked about as wholes": (
        "test_fuzzing::test_a_spoilt_signature*",
        "test_fuzzing::test_any_fields_are_read_or_refused",
        "test_fuzzing::test_any_file_s_name_is_a_signature_s_or_none",
        "test_fuzzing::test_any_text_is_a_time_in_its_one_spelling_or_none",
        "test_fuzzing::test_what_can_be_spelled_is_read_back",
        *_of_parsers("canonical", "signature", "signature, P-384", "key file"),
    ),
    "primitives of libraries, over bare messages": (
        "test_wycheproof::*",
        "test_signatures::*_raw_one*[[]ssh-ed25519: *",
        "test_signatures::*_raw_one*[[]ecdsa-*",
    ),
    "parity, of which nothing is believed": (
        "test_repair::*",
        "test_fuzzing::test_parity_of_any_packets",
    ),
    "folders that change meanwhile, or are not verified": (
        "test_races::test_between_looking_and_hashing*",
        "test_races::test_a_file_*",
        "test_races::test_a_medium_that_fails",
        "test_races::test_nothing_outside_is_opened_through_a_link",
    ),
    "what is printed of something else than a bundle or root": (
        "test_output::test_an_error_s_every_part*",
        "test_output::test_a_result_s_text_and_values*",
        "test_output::test_a_key_s_comment_is_not_shown",
    ),
    "signatures of models by their makers, which a verifier need not know": (
        "test_upstream_signatures::*",
    ),
    "packets and files of the export, which no bundle holds": ("test_export::*",),
    "wheels that the station looks into, before there is a bundle": ("test_wheels::*",),
}


def unasked(case: str) -> str | None:
    """Why nothing is compared in a case (``test_state::test_it[name]``); None if it is to be."""
    for reason, patterns in NOT_ASKED.items():
        if any(fnmatchcase(case, pattern) for pattern in patterns):
            return reason
    return None


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Generator[None, None, None]:
    """Run a case, and count what was compared."""
    before = COMPARED.total()
    yield
    compared = COMPARED.total() - before
    case = f"{item.path.stem}::{item.name}"
    reason = unasked(case)
    if not compared and reason is None:
        pytest.fail(f"the independent verifier was not asked, and nothing says why: {case}")
    if compared and reason is not None:
        pytest.fail(f"the independent verifier was asked; {case} is not of the kind: {reason}")
    item.user_properties.append(("compared", str(compared)) if compared else ("unasked", reason))


@pytest.fixture
def appliance(
    run_program: Callable[..., Any],  # noqa: F811 - that fixture
) -> Callable[..., Any]:
    """Run ``appliance ARGUMENTS``; what ``verify`` and ``trust inspect`` of a root say is compared."""

    def run(*arguments: object) -> Any:
        match arguments:
            case ("verify", Path() as bundle, "--trust", Path() as root, *_):
                reason = refusal(lambda: verifier.verify([bundle], root.read_bytes()))
            case ("trust", "inspect", Path() as root):
                reason = refusal(lambda: verifier.read_root(root.read_bytes()))
            case _:
                return run_program(*arguments)
        done = run_program(*arguments)
        agree(reason, done.code and (done.err or done.out))
        return done

    return run
