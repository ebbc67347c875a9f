"""``media check`` as a person runs it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

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
