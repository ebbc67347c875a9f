"""The independent verifier is what it claims to be: short, on its own, and a program."""

from __future__ import annotations

import ast
import subprocess
import sys
import tokenize
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

_PROGRAM = Path(__file__).with_name("verifier.py")
_NO_CODE = {tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT}


def test_it_is_under_200_lines_of_code() -> None:
    with _PROGRAM.open("rb") as source:
        code = {
            line
            for token in tokenize.tokenize(source.readline)
            if token.type not in _NO_CODE | {tokenize.ENCODING, tokenize.ENDMARKER}
            for line in range(token.start[0], token.end[0] + 1)
        }
    for node in ast.walk(ast.parse(_PROGRAM.read_text())):
        if isinstance(node, ast.Module | ast.FunctionDef) and ast.get_docstring(node):
            code -= set(range(node.body[0].lineno, (node.body[0].end_lineno or 0) + 1))
    assert len(code) < 200


def test_it_shares_no_code_with_the_project() -> None:
    def imported() -> Iterator[str]:
        for node in ast.walk(ast.parse(_PROGRAM.read_text())):
            if isinstance(node, ast.ImportFrom):
                yield node.module or "."
            elif isinstance(node, ast.Import):
                yield from (alias.name for alias in node.names)

    assert not {name.split(".")[0] for name in imported()} & {"appliance", "tests", ""}


@pytest.mark.parametrize("damaged", [False, True])
def test_it_judges_a_bundle_as_a_program(bundle: Path, root_file: Path, damaged: bool) -> None:
    if damaged:
        page = (bundle / "VERIFY.txt").read_text()
        (bundle / "VERIFY.txt").write_text(page.swapcase())
    command = [sys.executable, _PROGRAM, root_file, bundle]
    judged = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (judged.stdout, judged.returncode) == (("", 1) if damaged else ("accepted\n", 0))
    assert ("else damaged" in judged.stderr) == damaged
