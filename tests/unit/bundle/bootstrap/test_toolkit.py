"""bootstrap.sh: every file of the toolkit is compared before it is used, on every volume."""

from __future__ import annotations

import os
import shutil
from typing import TYPE_CHECKING

import pytest

from appliance.bundle.bootstrap import bootstrap_bytes
from appliance.bundle.media.label import VolumeLabel, VolumeShare, label_bytes
from tests.conftest import CONTENTS
from tests.unit.bundle.bootstrap.desk import (
    PROGRAM,
    PYTHONS,
    TOOLKIT,
    Desk,
    change_wheel,
    refused,
    toolkit_files,
)

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from appliance.trust.root import Root
    from tests.conftest import BundleMaker


def _changed_requirements(medium: Path) -> None:
    with (medium / TOOLKIT / "requirements-3.14.txt").open("ab") as file:
        file.write(b"evil==1.0\n")


def _changed_script(medium: Path) -> None:
    with (medium / "bootstrap.sh").open("ab") as script:
        script.write(b"# changed\n")


def _missing_wheel(medium: Path) -> None:
    (medium / TOOLKIT / PROGRAM).unlink()


def _no_toolkit(medium: Path) -> None:
    shutil.rmtree(medium / TOOLKIT)


def _extra_file(medium: Path) -> None:
    (medium / TOOLKIT / "appliance-2.0-py3-none-any.whl").write_bytes(b"x")


def _extra_folder(medium: Path) -> None:
    (medium / TOOLKIT / "pip").mkdir()


def _extra_link(medium: Path) -> None:
    (medium / TOOLKIT / "x\n\x1b[2J").symlink_to("/")


def _pipe(medium: Path) -> None:
    _missing_wheel(medium)
    os.mkfifo(medium / TOOLKIT / PROGRAM)


def _folder(medium: Path) -> None:
    _missing_wheel(medium)
    (medium / TOOLKIT / PROGRAM).mkdir()


SPOILT = {
    change_wheel: f"found: {TOOLKIT}/{PROGRAM}: FAILED",
    _changed_requirements: "requirements-3.14.txt: FAILED",
    _changed_script: "found: bootstrap.sh: FAILED",
    _missing_wheel: f"found: {TOOLKIT}/{PROGRAM}",
    _no_toolkit: "files of the toolkit are missing",
    _extra_file: f"found: {TOOLKIT}/appliance-2.0-py3-none-any.whl",
    _extra_folder: f"found: {TOOLKIT}/pip",
    _extra_link: f"found: ^[[2J {TOOLKIT}/x",
    _pipe: "files of the toolkit are missing",
    _folder: "files of the toolkit are missing",
}


@pytest.mark.parametrize("spoil", SPOILT)
def test_a_spoilt_toolkit_ends_it(spoil: Callable[[Path], None], desk: Desk, medium: Path) -> None:
    spoil(medium)
    code, told = refused(desk, desk.set_up(medium))
    assert code == 4
    assert SPOILT[spoil] in told
    assert "do: " in told


def test_the_rest_of_the_bundle_is_not_its_business(desk: Desk, medium: Path) -> None:
    (medium / "payload/model/tiny.gguf").unlink()
    assert desk.set_up(medium)[0] == 0


def test_a_wheel_that_differs_from_the_signed_requirements_is_not_installed(
    desk: Desk, maker: BundleMaker, two_of_three: Root
) -> None:
    files = toolkit_files(*PYTHONS)
    files[PROGRAM] += b"!"
    lock = maker.lock({**CONTENTS, "toolkit": ("toolkit", files)})
    medium = maker.sign(maker.write("odd", two_of_three, lock), "alice", "bob")
    code, told = refused(desk, desk.set_up(medium))
    assert code == 5
    assert "DO NOT MATCH" in told


def test_a_bundle_without_a_toolkit_says_so(desk: Desk, bundle: Path) -> None:
    assert not (bundle / "bootstrap.sh").exists()
    (desk.folder / "mine.sh").write_bytes(bootstrap_bytes())
    said = desk.run(desk.folder / "mine.sh", *desk.paper, "--to", str(desk.target), str(bundle))
    code, told = refused(desk, said)
    assert code == 4
    assert "the list names no toolkit" in told


def test_a_folder_that_is_no_bundle_says_so(desk: Desk) -> None:
    (desk.folder / "mine.sh").write_bytes(bootstrap_bytes())
    said = desk.run("mine.sh", *desk.paper, "--to", str(desk.target))
    code, told = refused(desk, said)
    assert code == 4
    assert f"no trust/SHA256SUMS in {desk.folder}" in told


# --- volumes ----------------------------------------------------------------------------------------


@pytest.fixture
def volumes(pristine: Path, tmp_path: Path) -> tuple[Path, Path]:
    """Two volumes of three; the program's wheel is on the first, the rest of the toolkit on the second."""
    share = VolumeShare(size=1, files=2, first="payload/engine/a", last="payload/toolkit/b")
    made = []
    for number in (1, 2):
        volume = shutil.copytree(pristine, tmp_path / f"volume{number}")
        label = VolumeLabel("0" * 64, "demo", "1.0.0", number, (share, share, share))
        (volume / "volume.json").write_bytes(label_bytes(label))
        for file in (volume / TOOLKIT).iterdir():
            if (file.name == PROGRAM) != (number == 1):
                file.unlink()
        made.append(volume)
    return made[0], made[1]


def test_a_toolkit_on_another_volume_is_not_a_damaged_one(desk: Desk, volumes: tuple[Path, Path]) -> None:
    shutil.rmtree(volumes[0] / TOOLKIT)
    code, told = refused(desk, desk.set_up(volumes[0]))
    assert code == 4
    assert "error: payload/toolkit is not on this volume, or not all of it" in told
    assert "found: volume 1 of 3, which lacks 7 of 8 files to set up" in told
    assert "from another volume" in told


def test_a_toolkit_on_two_volumes_is_taken_from_both(desk: Desk, volumes: tuple[Path, Path]) -> None:
    code, told = refused(desk, desk.set_up(volumes[1]))
    assert (code, "volume 2 of 3, which lacks 1 of" in told) == (4, True)
    code, output, told = desk.set_up(volumes[0], *map(str, volumes))
    assert (code, output) == (0, f"{desk.target}/bin/appliance\n"), told
    assert f"verify {volumes[0]} {volumes[1]} --trust" in told
    assert "the bundle lies on 3 volumes: name all of them" in told


def test_an_extra_file_on_any_volume_ends_it(desk: Desk, volumes: tuple[Path, Path]) -> None:
    (volumes[1] / TOOLKIT / "evil.whl").touch()
    code, told = refused(desk, desk.set_up(volumes[0], *map(str, volumes)))
    assert (code, f"found: {TOOLKIT}/evil.whl" in told) == (4, True)
