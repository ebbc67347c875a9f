"""The page of the quiet host is made from the role's data, and every setting says why and what for."""

from __future__ import annotations

import re
import sys
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from typing import Any

import pytest

from appliance.node.host_data import Entry, load_host_data

REPOSITORY = Path(__file__).parents[3]


@pytest.fixture(scope="module")
def page() -> Any:
    spec = spec_from_file_location("quiet_host_page", REPOSITORY / "scripts/quiet_host_page.py")
    assert spec is not None
    assert spec.loader is not None
    module = module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def test_the_page_says_what_the_data_say(page: Any) -> None:
    text = page.PAGE.read_text(encoding="utf-8")
    assert page.render(text) == text, "run: python scripts/quiet_host_page.py"


def test_the_page_has_every_table(page: Any) -> None:
    named = re.findall(r"<!-- table: ([a-z-]+) -->", page.PAGE.read_text(encoding="utf-8"))
    assert sorted(named) == sorted(page.tables())


def test_a_changed_reason_changes_the_page(page: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    text = page.PAGE.read_text(encoding="utf-8")
    made = page.tables()
    monkeypatch.setattr(
        page, "tables", lambda: {**made, "stopped": made["stopped"].replace("archive", "moon")}
    )
    assert page.render(text) != text


@pytest.mark.parametrize("entry", load_host_data().every(), ids=lambda entry: entry.what[0])
def test_everything_that_is_done_has_one_sentence_and_a_control(entry: Entry) -> None:
    assert re.fullmatch(r"[A-Z][^.]+(\.[^. ][^.]*)*\.", entry.reason), entry.reason
    assert entry.control in load_host_data().controls


def test_every_control_is_served_by_something() -> None:
    data = load_host_data()
    assert {entry.control for entry in data.every()} == set(data.controls)


def test_nothing_is_both_stopped_and_called_quiet() -> None:
    data = load_host_data()
    stopped = [name for entry in (*data.stopped, *data.clocks) for name in entry.what]
    quiet = [name for entry in data.quiet for name in entry.what]
    assert set(stopped) & set(quiet) == set()
    assert len(stopped) == len(set(stopped))
    assert len(quiet) == len(set(quiet))
