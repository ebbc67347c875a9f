"""``media check`` as a person runs it."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

import pytest

from appliance.bundle.tree import Tree

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.unit.cli.conftest import Outcome

    Run = Callable[..., Outcome]

MODEL = "payload/model/tiny.gguf"


@pytest.fixture
def three(bundle: Path, volumes: Callable[..., list[Path]]) -> list[Path]:
    return volumes(bundle, 2, 3)


def test_right_media(appliance: Run, three: list[Path], root_file: Path) -> None:
    done = appliance("media", "check", *three, "--trust", root_file)
    assert done.code == 0
    assert "signed by alice, bob: enough, by the root you trust" in done.out
    assert f"volume 3 of 3 ({three[2]}): right: " in done.out
    assert "not here" not in done.out


def test_one_volume_alone(appliance: Run, three: list[Path], root_file: Path) -> None:
    done = appliance("media", "check", three[2].parent, "--trust", root_file)
    assert done.code == 0
    assert (
        "not here    volume 1: payload/engine/engine-1.0-py3-none-any.whl to "
        "payload/engine/requirements.txt (2 files), 17 bytes\n"
        "not here    volume 2: payload/extras/empty, 0 bytes\n"
    ) in done.out
    values = appliance("media", "check", three[2], "--json").json
    assert (values["sound"], values["complete"], values["signers"]) == (True, False, [])
    assert [each["number"] for each in values["absent"]] == [1, 2]
    assert "NOT JUDGED" in appliance("media", "check", three[2]).out


def test_damaged_media(appliance: Run, three: list[Path], root_file: Path) -> None:
    (three[2] / MODEL).write_bytes(bytes(4000))
    (three[1] / "evil\x1b[2J").write_bytes(b"x")
    done = appliance("media", "check", *three, "--trust", root_file)
    assert done.code == 4
    assert f"damaged   {MODEL}: other bytes than were signed\n" in done.out
    assert "block 0 wrong (from byte 0)" in done.out
    assert "strange   evil\\x1b[2J" in done.out
    assert "do          `appliance media repair`" in done.out
    assert (
        "do          or else: where the bundle is, the same `appliance media write` writes again"
        in done.out
    )
    done = appliance("media", "check", *three, "--trust", root_file, "--json")
    assert done.code == 4
    assert done.json["volumes"][2]["damaged"] == [
        {
            "path": MODEL,
            "problem": "other bytes than were signed",
            "blocks": [{"first": 0, "last": 0, "offset": 0, "readable": True}],
        }
    ]
    assert done.json["volumes"][1]["strange"] == ["evil\x1b[2J"]


def test_a_medium_that_is_pulled(
    appliance: Run, three: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The result is printed to its end; the error is on stderr, and in the one JSON object."""
    (three[2] / MODEL).unlink()
    monkeypatch.setattr(Tree, "answers", lambda tree: tree.folder != three[2])
    done = appliance("media", "check", *three)
    assert done.code == 5
    assert f"volume 2 of 3 ({three[1]}): right: " in done.out
    assert f"volume 3 of 3 ({three[2]}): NOT READ TO ITS END: " in done.out
    assert "cannot be read any more: pulled out, or broken" in done.err
    done = appliance("media", "check", *three, "--json")
    assert (done.code, done.json["error"]) == (5, "MediumFailed")
    assert [volume["sound"] for volume in done.json["volumes"]] == [True, True, False]
    assert done.json["volumes"][2]["gone"] == "cannot be read"


def test_a_recovery_volume(appliance: Run, three: list[Path], tmp_path: Path) -> None:
    (tmp_path / "recovery").mkdir()
    appliance("media", "parity", *three, "--out", tmp_path / "recovery", "--work", tmp_path / "work")
    done = appliance("media", "check", tmp_path / "recovery")
    assert done.code == 0
    assert "): right: 1 stripe, " in done.out
    assert "for any of 3 volumes\n" in done.out
    assert "  not       whether they would give these files back: nobody signs that" in done.out
    values = appliance("media", "check", *three, tmp_path / "recovery", "--json").json
    assert [(each["sound"], each["volumes"], each["stripes"]) for each in values["recovery"]] == [
        (True, 3, 1)
    ]
    assert len(values["volumes"]) == 3


def test_a_copy_of_a_volume(appliance: Run, three: list[Path], tmp_path: Path) -> None:
    again = shutil.copytree(three[1], tmp_path / "again")
    assert "name only one of them to these: " in appliance("media", "check", *three, again).out
    values = appliance("media", "check", *three, again, "--json").json
    assert values["copies"] == {f"volume 2 of 3 ({again})": f"volume 2 of 3 ({three[1]})"}


def test_a_long_list_of_damage_is_cut(
    appliance: Run, bundle: Path, volumes: Callable[..., list[Path]]
) -> None:
    [only] = volumes(bundle)
    for number in range(30):
        (only / f"extra{number}").write_bytes(b"x")
    done = appliance("media", "check", only)
    assert done.out.count("  strange   extra") == 20
    assert "strange   … and 10 more" in done.out


def test_the_fingerprint_needs_its_root(appliance: Run, three: list[Path]) -> None:
    assert appliance("media", "check", three[0], "--fingerprint", "0" * 64).code == 2
