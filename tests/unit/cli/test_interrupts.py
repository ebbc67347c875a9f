"""Ctrl-C is never lost, and says what to do; wrong usage is said like every other error."""

from __future__ import annotations

import signal
import sys
import threading
from typing import TYPE_CHECKING

import pytest

from appliance.cli.interrupts import keeping_interrupts

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.unit.cli.conftest import Outcome

    Run = Callable[..., Outcome]


class Dying:
    """Raises in its destructor, which Python cannot pass on."""

    def __init__(self, fault: type[BaseException]) -> None:
        self._fault = fault

    def __del__(self) -> None:
        raise self._fault


def test_an_interrupt_in_a_destructor_is_raised_again() -> None:
    with keeping_interrupts():
        Dying(KeyboardInterrupt)
        with pytest.raises(KeyboardInterrupt):
            threading.Event().wait(60)


def test_other_faults_in_destructors_are_told_as_before(monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[object] = []
    monkeypatch.setattr(sys, "unraisablehook", lambda lost: told.append(lost.exc_type))
    with keeping_interrupts():
        Dying(ValueError)
    assert told == [ValueError]


def test_everything_is_as_before_afterwards() -> None:
    before = sys.unraisablehook, signal.getsignal(signal.SIGALRM)
    with keeping_interrupts():
        pass
    assert (sys.unraisablehook, signal.getsignal(signal.SIGALRM)) == before
    assert signal.getitimer(signal.ITIMER_REAL) == (0.0, 0.0)


@pytest.fixture(params=[KeyboardInterrupt, EOFError])
def interrupted(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ctrl-C while the root is read; or the terminal was closed when it should answer."""

    def press(*_: object) -> None:
        raise request.param

    monkeypatch.setattr("appliance.bundle.roots.load_root", press)


@pytest.mark.usefixtures("interrupted")
@pytest.mark.parametrize("command", [["verify"], ["media", "check"]])
def test_ctrl_c_says_what_to_do(appliance: Run, bundle: Path, root_file: Path, command: list[str]) -> None:
    done = appliance(*command, bundle, "--trust", root_file)
    assert (done.code, done.out) == (130, "")
    assert done.err.strip() == "error: interrupted\n  do: run the same command again to go on"
    done = appliance(*command, bundle, "--trust", root_file, "--json")
    assert (done.code, done.json["error"], done.json["exit_code"]) == (130, "Interrupted", 130)


@pytest.mark.parametrize(
    ("arguments", "message", "command"),
    [
        (["media", "plan", ".", "--sise", "3"], "No such option: --sise", "appliance media plan"),
        (["media", "check"], "Missing argument 'VOLUME...'", "appliance media check"),
        (["verify", "."], "Missing option '--trust'", "appliance verify"),
        (["verfy"], "No such command 'verfy'", "appliance"),
        (["verify", ".", "--workers", "0"], "Invalid value for '--workers'", "appliance verify"),
    ],
)
def test_wrong_usage_is_an_error_like_others(
    appliance: Run, arguments: list[str], message: str, command: str
) -> None:
    done = appliance(*arguments)
    assert done.code == 2
    assert done.err.startswith(f"error: {message}")
    assert f"  do: {command} --help says how it is called\n" in done.err
    values = appliance(*arguments, "--json").json
    assert (values["error"], values["exit_code"]) == ("Usage", 2)


def test_no_arguments_are_a_wish_for_help(appliance: Run) -> None:
    for arguments in ([], ["media"]):
        done = appliance(*arguments)
        assert done.code == 2
        assert "Usage: appliance" in done.out + done.err
        assert "error:" not in done.err


def test_a_path_is_judged_where_it_is_opened(
    appliance: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Of a medium that is dead, access(2) says only that it is not readable."""
    monkeypatch.setattr("os.access", lambda *_, **__: False)
    (tmp_path / "bundle").mkdir()
    for command in (["media", "check", tmp_path], ["verify", tmp_path, "--trust", "none"]):
        assert "is not readable" not in appliance(*command).err
    for command in (
        ["media", "join", tmp_path, "--out", tmp_path / "out"],
        ["media", "write", tmp_path / "bundle", tmp_path],
        ["media", "plan", tmp_path / "bundle", "--to", tmp_path],
    ):
        assert f"'{tmp_path}' is not readable" not in appliance(*command).err
