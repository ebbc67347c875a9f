"""``appliance export line``: what it asks for and refuses; what it does is tried in namespaces."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from appliance.errors import ToolMissing
from appliance.export.line import commands, raising

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.unit.cli.conftest import Outcome


@pytest.mark.parametrize("verb", ["up", "down", "show", "watch"])
def test_every_command_has_an_example(appliance: Callable[..., Outcome], verb: str) -> None:
    assert f"appliance export line {verb}" in appliance("export", "line", verb, "--help").out


@pytest.mark.parametrize("verb", ["up", "show", "watch"])
def test_a_line_that_nobody_wrote_down_is_a_wrong_call(
    appliance: Callable[..., Outcome], tmp_path: Path, verb: str
) -> None:
    done = appliance("export", "line", verb, "--line", tmp_path / "none.json")
    assert done.code == 2
    assert "the role log_export writes it" in done.err


def test_a_file_that_says_no_line_is_refused_before_anything_is_touched(
    appliance: Callable[..., Outcome], tmp_path: Path
) -> None:
    (tmp_path / "line.json").write_text("{}")
    done = appliance("export", "line", "up", "--line", tmp_path / "line.json", "--json")
    assert done.code == 3
    assert done.json["error"] == "SettingsInvalid"


def test_a_line_that_is_not_up_cannot_be_shown(
    appliance: Callable[..., Outcome], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(raising, "RAISED", tmp_path / "raised.json")
    receiver = '{"address": "192.0.2.2", "mac": "02:00:00:00:00:0f", "port": 5514}'
    match = '{"mac": "02:00:00:00:00:0e"}'
    (tmp_path / "line.json").write_text(
        f'{{"format": 1, "match": {match}, "address": "192.0.2.1", "receiver": {receiver}}}'
    )
    done = appliance("export", "line", "show", "--line", tmp_path / "line.json", "--json")
    assert (done.code, done.json["error"]) == (5, "ExportLineDown")


def test_a_program_that_is_not_there_is_named() -> None:
    with pytest.raises(ToolMissing, match="no-such-program is not installed"):
        commands.run("no-such-program")
