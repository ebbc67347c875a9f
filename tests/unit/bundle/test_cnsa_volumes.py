"""Bundles of the profile cnsa on several media: both lists lie on each, twice, and are mended."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from appliance.bundle.list_kind import INDEX, SHA384
from appliance.bundle.media.check import check_media
from appliance.bundle.media.join import join_volumes
from appliance.bundle.parity.repair import repair_bundle
from appliance.bundle.verify import verify_bundle
from appliance.errors import BundleUntrusted, DamageTooGreat, DigestMismatch, FileMissing, ProfileNotMet
from appliance.progress import Silent
from appliance.trust.root import root_bytes

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from appliance.bundle.parity.repaired import Repaired
    from appliance.trust.root import Root

PLACES = [INDEX.path, SHA384.path, "trust/SHA384SUMS.emil.mldsa87"]


@pytest.fixture
def two(cnsa_bundle: Path, volumes: Callable[..., list[Path]]) -> list[Path]:
    return volumes(cnsa_bundle, 2)


@pytest.fixture
def mend(tmp_path: Path) -> Callable[..., Repaired]:
    def run(root: Root | None, folders: list[Path]) -> Repaired:
        trusted = root_bytes(root) if root else None
        return repair_bundle(folders, root=trusted, out=None, work=tmp_path / "work", progress=Silent())

    return run


Mend = "Callable[..., Repaired]"


def spoil(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(bytes(data))


def test_all_volumes_together(two: list[Path], cnsa_root: Root, tmp_path: Path, cnsa_bundle: Path) -> None:
    trusted = root_bytes(cnsa_root)
    assert verify_bundle(two, trusted, progress=Silent()).kind is SHA384
    checked = check_media(two, root=trusted, progress=Silent())
    assert (checked.sound, checked.holders, checked.signers) == (True, ("dora", "emil"), ("dora", "emil"))
    joined = join_volumes(two, tmp_path / "joined", root=trusted, progress=Silent()).folder
    assert (joined / SHA384.path).read_bytes() == (cnsa_bundle / SHA384.path).read_bytes()
    verify_bundle(joined, trusted, progress=Silent())


@pytest.mark.parametrize("path", PLACES)
@pytest.mark.parametrize("place", ["", "spare/"])
def test_a_further_copy_must_be_like_the_first(
    path: str, place: str, two: list[Path], cnsa_root: Root
) -> None:
    spoil(two[1] / place / path)
    with pytest.raises(BundleUntrusted):
        verify_bundle(two, root_bytes(cnsa_root), progress=Silent())


def test_the_list_is_missed_on_any_volume(two: list[Path], cnsa_root: Root) -> None:
    (two[1] / SHA384.path).unlink()
    with pytest.raises(FileMissing, match="lacks files that lie on every volume"):
        verify_bundle(two, root_bytes(cnsa_root), progress=Silent())


@pytest.mark.parametrize("judged", [True, False])
@pytest.mark.parametrize("path", PLACES)
def test_what_one_volume_lost_the_other_has(
    path: str, judged: bool, two: list[Path], cnsa_root: Root, mend: Mend
) -> None:
    good = (two[0] / path).read_bytes()
    spoil(two[0] / path)
    (two[0] / "spare" / path).unlink()
    result = mend(cnsa_root if judged else None, two)
    assert sorted(each.path for each in result.mended) == [f"spare/{path}", path]
    assert (two[0] / path).read_bytes() == (two[0] / "spare" / path).read_bytes() == good
    assert verify_bundle(two, root_bytes(cnsa_root), progress=Silent())


def test_the_first_list_is_known_by_the_signed_one(two: list[Path], cnsa_root: Root, mend: Mend) -> None:
    """Of four copies one is right: by the digest that holders signed, not by their number."""
    copies = [folder / place / INDEX.path for folder in two for place in ("", "spare")]
    good = copies[0].read_bytes()
    for copy in copies[1:]:
        copy.write_bytes(good.replace(b"0", b"1", 1))
    assert mend(cnsa_root, two).signers == ("dora", "emil")
    assert [copy.read_bytes() for copy in copies] == [good] * 4


@pytest.mark.parametrize("kind", [INDEX, SHA384], ids=str)
@pytest.mark.parametrize("judged", [True, False])
def test_a_list_that_no_copy_has_is_said(
    kind: object, judged: bool, two: list[Path], cnsa_root: Root, mend: Mend
) -> None:
    for folder in two:
        for place in ("", "spare"):
            (folder / place / str(kind)).write_bytes(b"rot")
    with pytest.raises((DamageTooGreat, BundleUntrusted)) as caught:
        mend(cnsa_root if judged else None, two)
    assert str(kind) in caught.value.message


def test_a_volume_whose_list_was_taken_is_not_mended_into_another_bundle(
    two: list[Path], cnsa_root: Root, mend: Mend
) -> None:
    for folder in two:
        for path in folder.rglob("SHA384SUMS*"):
            path.unlink()
    with pytest.raises(ProfileNotMet):
        mend(cnsa_root, two)
    with pytest.raises(ProfileNotMet):
        check_media(two, root=root_bytes(cnsa_root), progress=Silent())


def test_another_digest_than_the_first_list_s_is_damage(two: list[Path], cnsa_root: Root) -> None:
    spoil(two[0] / "payload/engine/engine-1.0-py3-none-any.whl")
    with pytest.raises(DigestMismatch):
        verify_bundle(two, root_bytes(cnsa_root), progress=Silent())
    assert not check_media(two, root=root_bytes(cnsa_root), progress=Silent()).sound
