"""Starting the program: what one command does not need is not imported, and the table says all the same."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

import pytest
import typer.main
from typer.testing import CliRunner

from appliance.cli import app as program

if TYPE_CHECKING:
    from pathlib import Path

    from tests.unit.cli.conftest import Run

LOADED = """
import sys
from appliance.cli.app import main
sys.argv[1:] = {arguments}
try:
    main()
except SystemExit:
    pass
print(*sorted(name for name in sys.modules if name.startswith({names})), file=sys.stderr)
"""


def loaded(arguments: list[str], *names: str) -> list[str]:
    """The modules of these names that a run of the program imports."""
    command = [sys.executable, "-c", LOADED.format(arguments=arguments, names=names)]
    told = subprocess.run(command, check=True, capture_output=True, text=True).stderr
    return told.splitlines()[-1].split()  # before that, progress


def test_a_command_imports_no_other() -> None:
    found = loaded(["build", "--help"], "appliance.cli.")
    assert "appliance.cli.build" in found
    commands = {where.partition(":")[0] for where in program._COMMANDS.values()} - {"build"}
    assert not [name for name in found if name.split(".")[2].partition("_")[0] in commands]


def test_every_command_is_in_the_table() -> None:
    shown = CliRunner().invoke(program.app, ["--help"], prog_name="appliance")
    assert shown.exit_code == 0
    places = [shown.output.index(f"│ {name} ") for name in program._COMMANDS]
    assert places == sorted(places)
    for name in program._COMMANDS:
        assert program._made(name).name == name


def test_a_table_within_the_table_has_the_help_of_its_own() -> None:
    shown = CliRunner().invoke(program.app, ["trust", "permit", "-h"], prog_name="appliance")
    assert shown.exit_code == 0
    assert "appliance trust permit" in shown.output
    assert "--install-completion" not in CliRunner().invoke(program.app, ["trust", "--help"]).output


@pytest.mark.parametrize(
    ("words", "meant"),
    [(("biuld",), "build"), (("trust", "permti"), "permit"), (("nothing-like-it",), None)],
)
def test_what_was_meant_is_said(appliance: Run, words: tuple[str, ...], meant: str | None) -> None:
    done = appliance(*words)
    assert done.code == 2
    assert f"No such command '{words[-1]}'." in done.err
    assert (f"Did you mean '{meant}'?" in done.err) is bool(meant)
    assert isinstance(typer.main.get_command(program.app), program._Program)


def test_a_build_without_a_root_reads_no_keys() -> None:
    command = (
        "import sys, appliance.cli.build, appliance.sources.building, appliance.bundle.writer; "
        "print('cryptography' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", command], check=True, capture_output=True, text=True)
    assert done.stdout == "False\n"


@pytest.mark.parametrize("words", [("verify",), ("inspect",), ("media", "check")])
def test_who_reads_a_bundle_waits_for_nothing_that_writes_one(
    words: tuple[str, ...], pristine_bundle: Path
) -> None:
    """Schemas of definitions, bills of materials, making parity: each is a tenth of a start."""
    names = ("appliance.definition.names", "appliance.bundle.parity.creating", "cyclonedx", "pydantic")
    command = [*words, str(pristine_bundle), "--trust", str(pristine_bundle / "trust/root.1.json")]
    assert loaded(command, *names, "appliance.bundle.reader") == ["appliance.bundle.reader"]
