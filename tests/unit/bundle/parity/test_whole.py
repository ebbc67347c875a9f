"""A recovery volume: any one volume may be lost."""

from __future__ import annotations

import json
import shutil
from typing import TYPE_CHECKING

import pytest

from appliance.bundle.parity import whole
from appliance.bundle.parity.sets import Member
from appliance.bundle.parity.stripes import plan_stripes
from appliance.bundle.parity.whole import make_recovery_volume
from appliance.bundle.tree import Tree
from appliance.bundle.verify import verify_bundle
from appliance.errors import (
    DamageTooGreat,
    DigestMismatch,
    MediumFailed,
    ParityFailed,
    SpaceExhausted,
    Usage,
    VolumeMissing,
)
from appliance.progress import Silent
from appliance.trust.root import root_bytes
from tests.unit.bundle.parity.conftest import LAST, SLICE, overwrite, same

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from appliance.bundle.parity.repaired import Repaired
    from appliance.bundle.parity.whole import RecoveryVolume
    from appliance.trust.root import Root

    Repair = Callable[..., Repaired]

GIB = 1 << 30


@pytest.fixture
def three(sick: Path, volumes: Callable[..., list[Path]]) -> list[Path]:
    """Three volumes: small files and a slice; a slice and a short one; parity."""
    return volumes(sick, 5, 7)


@pytest.fixture
def make(tmp_path: Path, two_of_three: Root) -> Callable[..., RecoveryVolume]:
    def run(*given: Path) -> RecoveryVolume:
        (tmp_path / "recovery").mkdir(exist_ok=True)
        return make_recovery_volume(
            given,
            tmp_path / "recovery",
            root=root_bytes(two_of_three),
            work=tmp_path / "work",
            progress=Silent(),
        )

    return run


@pytest.mark.parametrize("lost", [0, 1, 2])
def test_any_lost_volume_comes_back_whole(
    lost: int,
    three: list[Path],
    make: Callable[..., RecoveryVolume],
    repair: Repair,
    two_of_three: Root,
) -> None:
    made = make(*three)
    tmp_path = made.folder.parent.parent
    gone = three[lost].rename(tmp_path / "gone")
    left = [folder for folder in three if folder != three[lost]]
    medium = tmp_path / "new"
    (medium / "lost+found").mkdir(parents=True)  # as on a medium with ext4
    result = repair(*left, made.folder.parent, out=medium)
    assert (result.absent, result.restored) == ((), lost + 1)
    assert result.out == medium / made.folder.name.removesuffix(".recovery")
    assert same(result.out, gone)
    verify_bundle([*left, medium], root_bytes(two_of_three), progress=Silent())


def test_a_recovery_volume_mends_what_the_bundle_s_parity_cannot(
    three: list[Path], pristine_parity: Path, make: Callable[..., RecoveryVolume], repair: Repair
) -> None:
    first = SLICE.replace("0001", "0000")
    made = make(*three)
    (three[0] / first).unlink()
    overwrite(three[1] / LAST, 0, b"rot")
    with pytest.raises(DamageTooGreat):
        repair(*three)
    overwrite(made.folder / "stripe-0000.par2", 0, b"rot")
    assert len(repair(*three, made.folder).mended) == 2
    assert (three[0] / first).read_bytes() == (pristine_parity / first).read_bytes()


def test_two_lost_volumes_are_too_many(
    three: list[Path], tmp_path: Path, make: Callable[..., RecoveryVolume], repair: Repair
) -> None:
    made = make(*three)
    shutil.rmtree(three[1])
    overwrite(three[0] / SLICE.replace("0001", "0000"), 0, bytes(4 << 20))
    with pytest.raises(DamageTooGreat, match="greater than the parity"):
        repair(three[0], three[2], made.folder, out=tmp_path / "new")
    assert not list((tmp_path / "new").iterdir())


def test_it_says_what_it_is(
    three: list[Path], make: Callable[..., RecoveryVolume], two_of_three: Root
) -> None:
    made = make(*three)
    label = json.loads((made.folder / "recovery.json").read_bytes())
    assert (label["bundle"], label["volumes"]) == (made.digest, 3)
    for given in (made.folder, made.folder.parent):
        with pytest.raises(Usage, match="is a recovery volume") as caught:
            verify_bundle(given, root_bytes(two_of_three), progress=Silent())
        assert "media repair" in str(caught.value.hint)


def test_every_volume_is_needed_once(
    three: list[Path], tmp_path: Path, sick: Path, make: Callable[..., RecoveryVolume]
) -> None:
    with pytest.raises(VolumeMissing, match="volume 2 of 3"):
        make(three[0], three[2])
    twice = shutil.copytree(three[0], tmp_path / "twice")
    with pytest.raises(Usage, match="named twice"):
        make(*three, twice)
    with pytest.raises(Usage, match="not the labelled volumes"):
        make(sick)
    make(*three)
    with pytest.raises(Usage, match="exists already"):
        make(*three)


def test_nothing_is_made_of_damaged_volumes(
    three: list[Path], tmp_path: Path, make: Callable[..., RecoveryVolume]
) -> None:
    overwrite(three[1] / LAST, 0, b"rot")
    with pytest.raises(DigestMismatch, match="1 file damaged or missing on these volumes"):
        make(*three)
    assert list((tmp_path / "recovery").iterdir()) == []


def test_a_volume_that_is_pulled_while_recovery_is_made(
    three: list[Path], make: Callable[..., RecoveryVolume], monkeypatch: pytest.MonkeyPatch
) -> None:
    def failing(*_: object) -> None:
        raise ParityFailed("par2 could not make recovery blocks")

    monkeypatch.setattr(whole, "create_parity", failing)
    with pytest.raises(ParityFailed):
        make(*three)
    monkeypatch.setattr(Tree, "answers", lambda tree: tree.folder != three[1])
    with pytest.raises(MediumFailed, match=f"the medium at {three[1]} cannot be read any more"):
        make(*three)


def test_too_little_room(
    three: list[Path], make: Callable[..., RecoveryVolume], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(whole, "free_bytes", lambda _: 1000)
    with pytest.raises(SpaceExhausted, match="recovery volume"):
        make(*three)


def test_each_stripe_can_lose_any_one_volume() -> None:
    volumes = {
        1: [Member(f"payload/w/{number:04d}", GIB) for number in range(5)],
        2: [Member(f"payload/x/{number:06d}", 3000) for number in range(30_000)],
        3: [Member("parity/set-0000.par2", 7 * GIB // 4)],
    }
    stripes = plan_stripes(volumes)
    covered = [member.path for stripe in stripes for member in stripe.parity.members]
    assert sorted(covered) == sorted(f"{n}/{m.path}" for n, members in volumes.items() for m in members)
    for stripe in stripes:
        parity = stripe.parity
        for number in volumes:
            lost = [member for member in parity.members if member.path.startswith(f"{number}/")]
            assert sum(member.blocks(parity.block_size) for member in lost) <= parity.recovery
        assert sum(member.blocks(parity.block_size) for member in parity.members) <= 32_768
        assert parity.parity_size < 2_000_000_000
