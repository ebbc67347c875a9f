"""bootstrap.sh: its help, and what is wrong on its command line."""

from __future__ import annotations

from pathlib import Path

import pytest

from appliance.bundle.bootstrap import bootstrap_bytes
from tests.unit.bundle.bootstrap.desk import Desk, refused


def test_help_is_printed_and_nothing_done(desk: Desk) -> None:
    (desk.folder / "mine.sh").write_bytes(bootstrap_bytes())
    code, output, told = desk.run("mine.sh", "--help")
    assert (code, told) == (0, "")
    assert output.startswith("Usage: sh bootstrap.sh")


def test_the_documentation_prints_the_same_help(desk: Desk) -> None:
    (desk.folder / "mine.sh").write_bytes(bootstrap_bytes())
    documented = (Path(__file__).parents[4] / "docs" / "bootstrap.md").read_text()
    assert desk.run("mine.sh", "-h")[1] in documented


USAGE = {
    "no decision about signatures": ([], "is this bundle genuine?"),
    "half a decision": (["--signers", "signers", "--threshold", "2"], "is this bundle genuine?"),
    "two decisions": (["--unverified", "--threshold", "2"], "--unverified asks for no signature"),
    "an unknown option": (["--force"], "there is no option --force"),
    "an option without value": (["--unverified", "--to"], "--to needs a value"),
    "a short fingerprint": (["--fingerprint", "3f1c"], "found: 4 characters"),
    "six digits that begin with a 4": (["--fingerprint", "4f1c00"], "found: 6 characters"),
    "no hex": (["--fingerprint", "g" * 64], "hex digits only"),
    "no threshold": (["--threshold", "0"], "the threshold is not one"),
    "a threshold in words": (["--threshold", "two"], "the threshold is not one"),
    "a threshold beyond reason": (["--threshold", "100"], "the threshold is not one"),
    "no file of signers": (["--signers", "absent"], "found: absent"),
    "a volume that is not there": (["absent"], "found: absent"),
    "a folder with a colon": (["--to", "a:b"], "without : "),
    "a folder with a line feed": (["--to", "a\nb"], "found: "),
    "a folder with a quote": (["--to", 'a"b'], "without : "),
}


@pytest.mark.parametrize("case", USAGE)
def test_a_wrong_command_line(case: str, desk: Desk, medium: Path) -> None:
    options, message = USAGE[case]
    given = [] if "decision" in case or "--unverified" in options else desk.paper
    code, told = refused(desk, desk.run(medium / "bootstrap.sh", *given, *options))
    assert code == 2
    assert message in told
    assert sorted(path.name for path in desk.folder.iterdir()) == ["signers", "stock"]


@pytest.mark.parametrize("kind", ["folder", "file", "link to nowhere"])
def test_what_is_there_already_is_left_alone(kind: str, desk: Desk, medium: Path) -> None:
    match kind:
        case "folder":
            desk.target.mkdir()
        case "file":
            desk.target.write_text("mine")
        case _:
            desk.target.symlink_to("nowhere")
    before = desk.target.lstat()
    code, output, told = desk.set_up(medium)
    assert (code, output) == (2, "")
    assert "exists already" in told
    assert desk.target.lstat() == before
