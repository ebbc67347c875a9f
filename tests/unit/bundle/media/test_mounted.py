"""Media as they are: real file systems, full, write-protected, pulled out, lying."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from contextlib import suppress
from typing import TYPE_CHECKING

import pytest

from appliance.bundle.media.check import check_media
from appliance.bundle.media.write import write_media
from appliance.bundle.verify import verify_bundle
from appliance.errors import MediumFailed, MediumUnsuitable, SpaceExhausted, Usage
from appliance.progress import Silent
from appliance.trust.root import Root, root_bytes
from tests.conftest import CONTENTS

from .conftest import MIB, Mounts, run

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from appliance.bundle.media.write import WrittenMedia
    from tests.conftest import BundleMaker

pytestmark = pytest.mark.node  # mounting needs root

SLICE = "payload/model/tiny.gguf.slice-{:04d}"


def write(bundle: Path, *targets: Path, **options: object) -> WrittenMedia:
    return write_media(bundle, targets, **{"progress": Silent(), **options})


def only_folder(place: Path) -> Path:
    (folder,) = [path for path in place.iterdir() if path.name.startswith("demo-")]
    return folder


class Then(Silent):
    """Does something when ``count`` bytes were reported."""

    def __init__(self, count: int, act: Callable[[], object]) -> None:
        self._left = count
        self._act = act

    def advance(self, count: int) -> None:
        before, self._left = self._left, self._left - count
        if before >= 0 > self._left:
            self._act()


@pytest.mark.parametrize("kind", ["vfat", "exfat", "ext4", "xfs", "tmpfs"])
def test_every_file_system_takes_volumes(
    cut_bundle: Path, mounts: Mounts, two_of_three: Root, kind: str
) -> None:
    place = mounts.make(kind, 320 if kind == "xfs" else 64)
    written = write(cut_bundle, place).volumes[0]
    for path in ("payload/extras/site/Notice.TXT", SLICE.format(1), "trust/SHA256SUMS.alice.sig"):
        assert (written.folder / path).read_bytes() == (cut_bundle / path).read_bytes()
    assert (written.folder / "volume.json").exists()
    assert verify_bundle([place], root_bytes(two_of_three), progress=Silent()).digest
    assert write(cut_bundle, place).volumes[0].written == 0


@pytest.mark.parametrize("kind", ["vfat", "exfat"])
def test_a_volume_on_fat_goes_on_after_an_interruption(cut_bundle: Path, mounts: Mounts, kind: str) -> None:
    place = mounts.make(kind)

    def interrupt() -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write(cut_bundle, place, progress=Then(3 * MIB, interrupt))
    assert write(cut_bundle, place).volumes[0].kept >= 4 * MIB
    assert (only_folder(place) / SLICE.format(0)).read_bytes() == (
        cut_bundle / SLICE.format(0)
    ).read_bytes()


def test_media_of_different_kinds_share_a_bundle(
    cut_bundle: Path, mounts: Mounts, two_of_three: Root
) -> None:
    places = [mounts.make("tmpfs", 11), mounts.make("vfat", 40)]
    assert [volume.number for volume in write(cut_bundle, *places).volumes] == [1, 2]
    assert verify_bundle(places, root_bytes(two_of_three), progress=Silent()).digest


def test_a_write_protected_medium(cut_bundle: Path, mounts: Mounts) -> None:
    image = mounts.image("ext4", 64)
    first = mounts._place()
    run("mount", "-o", "loop", image, first)
    write(cut_bundle, first)
    run("mount", "-o", "remount,ro", first)
    mounts._undo.callback(run, "umount", "--lazy", first)
    assert write(cut_bundle, first).volumes[0].written == 0  # complete: nothing has to be written
    place = mounts.make("ext4", 64, "ro")
    with pytest.raises(MediumUnsuitable, match="is write-protected"):
        write(cut_bundle, place)


def test_a_squashfs_is_write_protected(cut_bundle: Path, mounts: Mounts, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    run("mksquashfs", tmp_path / "empty", tmp_path / "image.squashfs", "-quiet")
    place = mounts._place()
    run("mount", "-o", "loop,ro", tmp_path / "image.squashfs", place)
    mounts._undo.callback(run, "umount", "--lazy", place)
    with pytest.raises(MediumUnsuitable, match="is write-protected"):
        write(cut_bundle, place)


def test_a_medium_where_nothing_may_be_written(cut_bundle: Path, mounts: Mounts) -> None:
    """Permissions mean nothing to root, but this flag does."""
    place = mounts.make("ext4")
    run("chattr", "+i", place)
    mounts._undo.callback(run, "chattr", "-i", place)
    with pytest.raises(
        MediumUnsuitable, match=r"volume 1 of 1: the medium at .* cannot be written to"
    ) as fault:
        write(cut_bundle, place)
    assert fault.value.found == "Operation not permitted"


@pytest.mark.parametrize("kind", ["tmpfs", "vfat", "ext4"])
def test_a_medium_that_fills_up_meanwhile(cut_bundle: Path, mounts: Mounts, kind: str) -> None:
    place = mounts.make(kind, 40)
    ballast = place / "ballast"

    def fill() -> None:
        with suppress(OSError), ballast.open("wb") as file:
            while True:
                os.write(file.fileno(), b"x" * MIB)

    with pytest.raises(SpaceExhausted, match=r"volume 1 of 1: the medium at .* is full") as fault:
        write(cut_bundle, place, progress=Then(3 * MIB, fill))
    assert "run the same command again" in str(fault.value.hint)
    assert not (only_folder(place) / "volume.json").exists()
    ballast.unlink()
    assert write(cut_bundle, place).volumes[0].kept >= 4 * MIB
    assert (only_folder(place) / "volume.json").exists()


def test_a_medium_that_is_too_full_is_not_begun(cut_bundle: Path, mounts: Mounts) -> None:
    place = mounts.make("tmpfs", 40)
    write(cut_bundle, place)
    shutil.rmtree(only_folder(place) / "payload")
    (place / "ballast").write_bytes(b"x" * (25 * MIB))
    with pytest.raises(SpaceExhausted, match=r"too little room at .* for volume 1"):
        write(cut_bundle, place)


def test_a_pulled_stick(cut_bundle: Path, mounts: Mounts) -> None:
    """The device is there, but nothing behind it any more, as when a stick is pulled out."""
    image = mounts.image("ext4", 64)
    device, place = mounts.loop(image), mounts._place()
    run("mount", device, place)
    mounts._undo.callback(run, "umount", "--lazy", place)

    def pull() -> None:
        os.truncate(image, 0)
        run("losetup", "--set-capacity", device)

    with pytest.raises(MediumFailed, match=r"volume 1 of 1: the medium at .* failed: pulled out") as fault:
        write(cut_bundle, place, progress=Then(5 * MIB, pull))
    assert fault.value.found in {"Input/output error", "Read-only file system"}
    assert "goes on where this one stopped" in str(fault.value.hint)


def test_a_stick_that_is_pulled_while_it_is_checked(cut_bundle: Path, mounts: Mounts) -> None:
    place, other = mounts.make("tmpfs"), mounts._place()
    device = mounts.loop(mounts.image("exfat", 64))
    driver = subprocess.Popen(["mount.exfat-fuse", "-d", device, other], stderr=subprocess.DEVNULL)
    mounts._undo.callback(run, "umount", "--lazy", other)
    while not other.is_mount():
        assert driver.poll() is None
        time.sleep(0.02)
    write(cut_bundle, place)
    write(cut_bundle, other)

    def pull() -> None:
        driver.kill()
        driver.wait()

    found = check_media([place, other], root=None, progress=Then(25 * MIB, pull))
    sound, pulled = found.volumes
    assert sound.sound
    assert str(pulled.gone).startswith("cannot be read: ")
    assert not pulled.damaged
    assert isinstance(found.failure, MediumFailed)
    with pytest.raises(Usage, match="is not a folder that can be read"):
        check_media([place, other], root=None, progress=Silent())


def test_a_stick_that_is_put_back_goes_on(cut_bundle: Path, mounts: Mounts) -> None:
    """Its driver ends in the middle, as when the stick is pulled out; then it is mounted again."""
    device, place = mounts.loop(mounts.image("exfat", 64)), mounts._place()
    driver = subprocess.Popen(["mount.exfat-fuse", "-d", device, place], stderr=subprocess.DEVNULL)
    mounts._undo.callback(run, "umount", "--lazy", place)
    while not place.is_mount():
        assert driver.poll() is None
        time.sleep(0.02)

    def pull() -> None:
        driver.kill()
        driver.wait()

    with pytest.raises(MediumFailed, match="pulled out, or broken") as fault:
        write(cut_bundle, place, progress=Then(5 * MIB, pull))
    assert fault.value.found in {"Transport endpoint is not connected", "Software caused connection abort"}
    run("umount", "--lazy", place)
    run("mount.exfat-fuse", device, place)
    written = write(cut_bundle, place).volumes[0]
    assert (written.folder / SLICE.format(1)).read_bytes() == (cut_bundle / SLICE.format(1)).read_bytes()
    assert written.written + written.kept == sum(
        path.stat().st_size
        for path in written.folder.rglob("*")
        if path.name != "volume.json" and path.is_file()
    )


def test_a_stick_without_long_names(cut_bundle: Path, mounts: Mounts) -> None:
    place = mounts.flawed("short-names")
    with pytest.raises(MediumUnsuitable, match="does not keep long names in upper and lower case") as fault:
        write(cut_bundle, place)
    assert str(fault.value.found).startswith("demo-1_0.")
    assert fault.value.wanted == "FAT32 with long names (mounted as vfat), exFAT or ext4"
    assert not any(place.iterdir())


def test_a_stick_that_claims_to_be_larger_than_it_is(cut_bundle: Path, mounts: Mounts) -> None:
    place = mounts.flawed("fake-size")
    with pytest.raises(MediumFailed, match="does not read back as it was written: payload/model/tiny"):
        write(cut_bundle, place)
    assert not (only_folder(place) / "volume.json").exists()
    assert not (only_folder(place) / SLICE.format(0)).exists()


def test_a_name_that_the_medium_refuses(maker: BundleMaker, two_of_three: Root, mounts: Mounts) -> None:
    contents = CONTENTS | {"extras": ("files", {"notes_2.0+dfsg.txt": b"x"})}
    bundle = maker.write("plus", two_of_three, maker.lock(contents))
    place = mounts.flawed("no-plus")
    with pytest.raises(MediumUnsuitable, match=r"refuses the file name notes_2\.0\+dfsg\.txt") as fault:
        write(bundle, place)
    assert "ext4" in str(fault.value.hint)


def test_files_larger_than_the_medium_allows(cut_bundle: Path, mounts: Mounts) -> None:
    """A limit on the size of files, as some file systems have one."""
    program = (
        "import resource, sys; from pathlib import Path;"
        "from appliance.bundle.media.write import write_media; from appliance.progress import Silent;"
        "from appliance.errors import MediumUnsuitable;"
        f"resource.setrlimit(resource.RLIMIT_FSIZE, ({6 * MIB}, {6 * MIB}))\n"
        "try: write_media(Path(sys.argv[1]), [Path(sys.argv[2])], progress=Silent())\n"
        "except MediumUnsuitable as fault: print(fault)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, cut_bundle, mounts.make("tmpfs")],
        check=True,
        capture_output=True,
        text=True,
    )
    assert "holds no files of this size" in done.stdout


def test_one_file_system_mounted_twice_is_one_medium(cut_bundle: Path, mounts: Mounts) -> None:
    place, other = mounts.make("tmpfs"), mounts._place()
    run("mount", "--bind", place, other)
    mounts._undo.callback(run, "umount", other)
    with pytest.raises(MediumUnsuitable, match="are on one medium"):
        write(cut_bundle, place, other)


def test_a_file_system_that_does_not_say_its_size(cut_bundle: Path, mounts: Mounts) -> None:
    place = mounts._place()
    image = mounts._folder / "odd.img"
    with image.open("wb") as file:
        file.truncate(64 * MIB)
    run("mkfs.vfat", "-F", "32", "-s", "1", image)
    run("fusefat", "-o", "rw+", image, place)  # with clusters of 512 bytes it claims to have no blocks
    mounts._undo.callback(run, "umount", "--lazy", place)
    with pytest.raises(MediumUnsuitable, match="does not say how much room it has"):
        write(cut_bundle, place)
    assert write(cut_bundle, place, sizes=[60 * MIB]).volumes[0].written
