"""A bundle of some blocks and slices, and folders that stand for media."""

from __future__ import annotations

import random
import subprocess
import sys
import time
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from appliance.trust.root import Root
    from tests.conftest import BundleMaker

MIB = 1 << 20
#: Room for the root files and one slice of 8 MiB, in this bundle.
ONE_SLICE = 9 * MIB


@pytest.fixture(scope="session")
def cut_bundle(
    tmp_path_factory: pytest.TempPathFactory, maker_in: Callable[[Path], BundleMaker], two_of_three: Root
) -> Path:
    """Signed by alice and bob; its model of 18 MiB lies in slices of 8 MiB.  Not to be changed."""
    maker = maker_in(tmp_path_factory.mktemp("cut"))
    model = random.Random(1).randbytes(18 * MIB)  # noqa: S311 - the same bytes in every run
    contents = {
        "engine": (
            "python",
            {"engine-1.0-py3-none-any.whl": b"wheel" * 9999, "requirements.txt": b"engine\n"},
        ),
        "extras": ("files", {"site/Notice.TXT": b"notice\n", "empty": b""}),
        "model": ("tiny-gguf", {"tiny.gguf": model}),
    }
    bundle = maker.write("bundle", two_of_three, maker.lock(contents), slice_size=8 * MIB)
    return maker.sign(bundle, "alice", "bob")


@pytest.fixture
def places(tmp_path: Path) -> list[Path]:
    """Three empty folders that stand for media."""
    folders = [tmp_path / f"stick-{number}" for number in (1, 2, 3)]
    for folder in folders:
        folder.mkdir()
    return folders


class Mounts:
    """Mounts media under a folder; all are gone after the test."""

    def __init__(self, folder: Path, undo: ExitStack) -> None:
        self._folder = folder
        self._undo = undo

    def make(self, kind: str, megabytes: int = 64, *options: str) -> Path:
        """A formatted and mounted medium of this size."""
        place = self._place()
        if kind == "tmpfs":
            run("mount", "-t", "tmpfs", "-o", f"size={megabytes}M", "stick", place)
        else:
            self._mount(kind, self.image(kind, megabytes), place, *options)
        self._undo.callback(run, "umount", "--lazy", place)
        return place

    def image(self, kind: str, megabytes: int) -> Path:
        """A formatted image in a file."""
        image = self._folder / f"{kind}-{megabytes}.img"
        image.unlink(missing_ok=True)
        with image.open("wb") as file:
            file.truncate(megabytes * MIB)
        formats = {"vfat": ["mkfs.vfat", "-F", "32", "-s", "8"], "ext4": ["mkfs.ext4", "-q", "-m", "0"]}
        run(*formats.get(kind, [f"mkfs.{kind}"]), image)
        return image

    def loop(self, image: Path) -> str:
        """A block device whose bytes are those of a file."""
        done = subprocess.run(
            ["losetup", "--find", "--show", image], check=True, capture_output=True, text=True
        )
        device = done.stdout.strip()
        self._undo.callback(run, "losetup", "--detach", device)
        return device

    def flawed(self, flaw: str) -> Path:
        """A stick with a flaw; see stick.py."""
        backing, place = self._folder / f"backing-{flaw}", self._place()
        backing.mkdir()
        program = [sys.executable, Path(__file__).with_name("stick.py"), backing, place, flaw]
        process = subprocess.Popen(program)
        self._undo.callback(process.wait)
        self._undo.callback(run, "umount", "--lazy", place)
        while not place.is_mount():
            assert process.poll() is None
            time.sleep(0.02)
        return place

    def _mount(self, kind: str, image: Path, place: Path, *options: str) -> None:
        if kind == "vfat":
            run("fusefat", "-o", "rw+", image, place)
        elif kind == "exfat":
            run("mount.exfat-fuse", self.loop(image), place)
        else:
            run("mount", "-o", ",".join(["loop", *options]), image, place)

    def _place(self) -> Path:
        place = self._folder / f"mounted-{len(list(self._folder.glob('mounted-*')))}"
        place.mkdir()
        return place


def run(*command: object) -> None:
    subprocess.run([str(part) for part in command], check=True, stdout=subprocess.DEVNULL)


@pytest.fixture
def mounts(tmp_path: Path) -> Iterator[Mounts]:
    with ExitStack() as undo:
        yield Mounts(tmp_path, undo)
