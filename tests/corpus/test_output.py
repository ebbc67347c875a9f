"""What a hostile file makes the program print: nothing that a terminal acts on, and no success."""

from __future__ import annotations

import json
import shutil
from typing import TYPE_CHECKING, Any

import pytest

from appliance.cli.console import print_error, print_result
from appliance.errors import BundleMalformed, Location
from appliance.trust.canonical import canonical_bytes
from appliance.trust.root import root_bytes

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from appliance.trust.root import Root
    from tests.conftest import Holders
    from tests.unit.cli.conftest import Outcome

    Run = Callable[..., Outcome]

pytestmark = pytest.mark.group(12)

#: Clears a screen and says what it should not; turns the direction; has no width; another way to begin one.
NASTY = {
    "escape sequence": "\x1b[2J\x1b[1;1H\x1b[32mverified\x1b[0m",
    "one-byte escape sequence": "\x9b2J",
    "title of the window": "\x1b]0;verified\x07",
    "carriage return": "evil\rverified     ok",
    "line feed": "evil\nverified     ok",
    "backspaces": "evil\b\b\b\bgood",
    "right to left": "\u202egpj.exe",
    "isolate": "\u2066verified",
    "zero width": "ver\u200bified",
    "byte order mark": "\ufeffverified",
    "tags": "\U000e0041\U000e0042",
    "line separator": "evil\u2028verified",
    "no-break space": "evil\u00a0verified",
    "no text at all": "\udcff",
}


#: Where each costs a run of the program.
FEW = ("escape sequence", "one-byte escape sequence", "right to left")


def clean(done: Outcome) -> None:
    """Nothing of it moves a cursor; no line says that anything is all right."""
    for text in (done.out, done.err):
        for line in text.split("\n"):
            assert line.isprintable(), ascii(line)
            assert not line.startswith("verified")
    assert done.code == 4, done


@pytest.mark.parametrize("as_json", [False, True])
@pytest.mark.parametrize("name", NASTY)
def test_an_error_s_every_part(name: str, as_json: bool, capsys: pytest.CaptureFixture[str]) -> None:
    """Whoever raises an error may forget: what prints it does not."""
    text = NASTY[name]
    print_error(
        BundleMalformed(text, found=text, wanted=text, hint=text, where=Location(text, 1, 2)),
        as_json=as_json,
    )
    printed = capsys.readouterr()
    for line in f"{printed.out}{printed.err}".split("\n"):
        assert line.isprintable(), ascii(line)
    if as_json:
        assert json.loads(printed.out)["message"] == text


@pytest.mark.parametrize("name", NASTY)
def test_a_result_s_text_and_values(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    for as_json in (False, True):
        print_result(NASTY[name], {"a": NASTY[name], NASTY[name]: 1}, as_json=as_json)
    for line in capsys.readouterr().out.split("\n"):
        assert line.isprintable(), ascii(line)


FILE_NAMES = {name: text for name, text in NASTY.items() if "\x00" not in text}


@pytest.mark.parametrize("folder", ["", "payload/engine/", "trust/"])
@pytest.mark.parametrize("name", FILE_NAMES)
def test_a_file_s_name(name: str, folder: str, bundle: Path, root_file: Path, appliance: Run) -> None:
    (bundle / f"{folder}{FILE_NAMES[name]}").write_bytes(b"")
    for options in ((), ("--json",)):
        clean(appliance("verify", bundle, "--trust", root_file, *options))


@pytest.mark.parametrize("name", FILE_NAMES)
def test_the_bundle_s_own_name(name: str, bundle: Path, root_file: Path, appliance: Run) -> None:
    """Of the folder, which is no part of it: it is refused for something else."""
    moved = bundle.parent / FILE_NAMES[name]
    shutil.move(bundle, moved)
    (moved / "VERIFY.txt").write_bytes(b"")
    clean(appliance("verify", moved, "--trust", root_file))


Values = dict[str, Any]


def _rename(values: Values, key: str, text: str) -> None:
    values[text] = values.pop(key)


FIELDS: dict[str, Callable[[Values, str], object]] = {
    "product": lambda values, text: values.update(product=text),
    "version": lambda values, text: values.update(version=text),
    "created": lambda values, text: values.update(created=text),
    "target": lambda values, text: values["target"].update(suite=text),
    "model's name": lambda values, text: values["inference"].update(name=text),
    "a component": lambda values, text: _rename(values["components"], "engine", text),
    "a component's kind": lambda values, text: values["components"]["engine"].update(kind=text),
    "a licence": lambda values, text: values["components"]["engine"]["files"][0].update(licence=text),
    "a path": lambda values, text: values["components"]["engine"]["files"][0].update(path=text),
    "an origin": lambda values, text: values["components"]["engine"]["files"][0].update(
        origin={"kind": text}
    ),
    "an origin's key": lambda values, text: values["components"]["engine"]["files"][0]["origin"].update(
        {text: "x"}
    ),
    "an unknown key": lambda values, text: values.update({text: 1}),
}


@pytest.fixture
def seen_by_all(
    bundle: Path, root_file: Path, appliance: Run, sign_files: Callable[[Path], None]
) -> Callable[[], None]:
    """What the commands print of the bundle as it lies there, signed by holders who were deceived."""

    def look() -> None:
        sign_files(bundle)
        clean(appliance("verify", bundle, "--trust", root_file))
        clean(appliance("inspect", bundle))

    return look


@pytest.mark.parametrize("field", FIELDS)
def test_a_signed_manifest_s_fields(
    field: str, bundle: Path, seen_by_all: Callable[[], None], count_inputs: Callable[[int], None]
) -> None:
    path = bundle / "manifest.json"
    good = path.read_bytes()
    for name in FEW:
        values = json.loads(good)
        FIELDS[field](values, NASTY[name])
        path.write_bytes(canonical_bytes(values))
        seen_by_all()
    count_inputs(len(FEW))


ROOT_FIELDS: dict[str, Callable[[Values, str], object]] = {
    "a holder": lambda root, text: next(iter(root["keys"].values())).update(holder=text),
    "a key": lambda root, text: next(iter(root["keys"].values())).update(public=text),
    "a key's comment": lambda root, text: next(iter(root["keys"].values())).update(
        public=next(iter(root["keys"].values()))["public"] + " " + text
    ),
    "an identity": lambda root, text: root["keys"].update({text: {}}),
    "an identity, no object": lambda root, text: root["keys"].update({text: None}),
    "a role": lambda root, text: root["roles"].update({text: root["roles"]["root"]}),
    "a role's keys": lambda root, text: root["roles"]["root"].update(keys=[text]),
    "a policy": lambda root, text: root["policy"].update({text: "on"}),
    "a policy's value": lambda root, text: root["policy"].update(pq=text),
    "an unknown key": lambda root, text: root.update({text: 1}),
}


@pytest.mark.parametrize("field", ROOT_FIELDS)
def test_a_root_s_fields(
    field: str, tmp_path: Path, two_of_three: Root, appliance: Run, count_inputs: Callable[[int], None]
) -> None:
    texts = [NASTY[name] for name in FEW]
    for text in texts:
        values = json.loads(root_bytes(two_of_three))
        ROOT_FIELDS[field](values, text)
        (tmp_path / "root.json").write_bytes(canonical_bytes(values))
        clean(appliance("trust", "inspect", tmp_path / "root.json"))
    count_inputs(len(texts))


def test_a_key_s_comment_is_not_shown(tmp_path: Path, holders: Holders, appliance: Run) -> None:
    """Everything after the key of a ``.pub`` file is its owner's to choose."""
    line = " ".join(holders.public("alice").split()[:2])
    for text in ("\x1b[2Jverified", "\u202e", "\x9b"):
        (tmp_path / "key.pub").write_text(f"{line} {text}\n")
        done = appliance(
            "trust", "init", "--solo", "--holder", f"alice={tmp_path}/key.pub", "--out", tmp_path / "out"
        )
        assert done.code == 0
        assert all(each.isprintable() for each in f"{done.out}{done.err}".split("\n"))
        assert text not in (tmp_path / "out/root.1.json").read_text()
        shutil.rmtree(tmp_path / "out")


@pytest.mark.parametrize("part", ["payload", "trust/SHA256SUMS", "manifest.json", "trust"])
def test_nothing_says_verified_after_half_a_check(
    part: str, bundle: Path, root_file: Path, appliance: Run
) -> None:
    """The last thing that is checked fails as the first does: no output, exit code 4."""
    target = bundle / part
    for path in [target] if target.is_file() else [each for each in target.rglob("*") if each.is_file()]:
        path.write_bytes(path.read_bytes() + b"x")
    for command in ("verify", "inspect"):
        for options in ((), ("--json",)):
            done = appliance(command, bundle, "--trust", root_file, *options)
            assert done.code == 4
            assert not done.out or json.loads(done.out)["exit_code"] == 4
