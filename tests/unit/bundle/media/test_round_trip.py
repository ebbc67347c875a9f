"""From a folder onto media and back: what is written is what is checked, verified and joined."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from appliance.bundle.media.check import check_media
from appliance.bundle.media.join import join_volumes
from appliance.bundle.media.write import write_media
from appliance.bundle.verify import verify_bundle
from appliance.progress import Silent
from appliance.trust.root import Root, root_bytes

from .conftest import ONE_SLICE, Mounts

if TYPE_CHECKING:
    from pathlib import Path


def carry(bundle: Path, media: list[Path], out: Path, root: Root, **options: object) -> None:
    trusted = root_bytes(root)
    whole = verify_bundle(bundle, trusted, progress=Silent())
    written = write_media(bundle, media, progress=Silent(), **options)
    assert written.count == 3
    found = check_media(media, root=trusted, progress=Silent())
    assert (found.sound, found.complete, found.notes) == (True, True, ())
    assert all(check_media([one], root=trusted, progress=Silent()).sound for one in media)
    verified = verify_bundle(media[::-1], trusted, progress=Silent())
    assert (verified.digest, verified.files, verified.notes) == (whole.digest, whole.files, ())
    join_volumes(media, out, progress=Silent(), root=trusted)
    assert verify_bundle(out, trusted, progress=Silent()).digest == whole.digest


def test_folders_that_stand_for_media(
    cut_bundle: Path, places: list[Path], tmp_path: Path, two_of_three: Root
) -> None:
    carry(cut_bundle, places, tmp_path / "joined", two_of_three, sizes=[ONE_SLICE])


@pytest.mark.node  # mounting needs root
@pytest.mark.parametrize("kind", ["vfat", "exfat", "ext4"])
def test_real_file_systems(
    cut_bundle: Path, mounts: Mounts, tmp_path: Path, two_of_three: Root, kind: str
) -> None:
    media = [mounts.make(kind) for _ in range(3)]
    carry(cut_bundle, media, tmp_path / "joined", two_of_three, sizes=[ONE_SLICE])
