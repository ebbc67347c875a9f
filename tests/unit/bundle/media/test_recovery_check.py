"""Checking a recovery volume: what can be known of it is found, and nothing more is said."""

from __future__ import annotations

import random
import shutil
from typing import TYPE_CHECKING

import pytest

from appliance.bundle.media.check import check_media
from appliance.bundle.media.join import join_volumes
from appliance.bundle.parity.whole import make_recovery_volume
from appliance.bundle.tree import Tree
from appliance.errors import Usage, VolumesMixed
from appliance.progress import Silent
from appliance.trust.root import root_bytes
from tests.conftest import CONTENTS

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from appliance.bundle.media.checked import CheckedRecovery, MediaCheck
    from appliance.trust.root import Root
    from tests.conftest import BundleMaker

STRIPE = "stripe-0000.par2"


@pytest.fixture
def three(maker: BundleMaker, two_of_three: Root, volumes: Callable[..., list[Path]]) -> list[Path]:
    model = random.Random(8).randbytes(300_000)  # noqa: S311 - the same bytes in every run
    lock = maker.lock({**CONTENTS, "model": ("tiny-gguf", {"tiny.gguf": model})})
    return volumes(maker.sign(maker.write("bundle", two_of_three, lock), "alice", "bob"), 2, 3)


@pytest.fixture
def recovery(three: list[Path], tmp_path: Path) -> Path:
    out = tmp_path / "recovery"
    out.mkdir()
    made = make_recovery_volume(three, out, root=None, work=tmp_path / "work", progress=Silent())
    return made.folder


@pytest.fixture
def check(two_of_three: Root) -> Callable[..., MediaCheck]:
    return lambda *folders: check_media(folders, root=root_bytes(two_of_three), progress=Silent())


def only(found: MediaCheck) -> CheckedRecovery:
    (recovery,) = found.recovery
    return recovery


def problems(found: MediaCheck) -> dict[str, str]:
    return {damage.path: damage.problem for damage in only(found).damaged}


def flip(path: Path, offset: int) -> None:
    data = bytearray(path.read_bytes())
    data[offset] ^= 1
    path.write_bytes(data)


def test_alone_or_with_its_volumes(
    three: list[Path], recovery: Path, check: Callable[..., MediaCheck]
) -> None:
    for given in ([recovery], [recovery.parent], [*three, recovery.parent]):
        found = check(*given)
        seen = only(found)
        assert (found.sound, seen.sound, seen.volumes, seen.stripes) == (True, True, 3, 1)
        assert seen.size >= (recovery / STRIPE).stat().st_size
        assert found.signers == ("alice", "bob")
    assert len(found.volumes) == 3
    assert found.complete
    assert "leave out the recovery volume" in found.advice()[-1]
    assert not check(recovery).complete


@pytest.mark.parametrize("place", [0.0, 0.1, 0.5, 0.999])
def test_a_flipped_bit_anywhere(recovery: Path, check: Callable[..., MediaCheck], place: float) -> None:
    size = (recovery / STRIPE).stat().st_size
    flip(recovery / STRIPE, int(size * place))
    found = check(recovery)
    assert not found.sound
    assert problems(found)[STRIPE].endswith(f"of {size:,} bytes are in no sound packet")
    assert found.advice()[0].startswith("make the recovery volume")


def test_a_stripe_that_was_cut_between_packets(recovery: Path, check: Callable[..., MediaCheck]) -> None:
    """Every packet that is left is whole."""
    data = (recovery / STRIPE).read_bytes()
    (recovery / STRIPE).write_bytes(data[: data.rindex(b"PAR2\0PKT")])
    assert "recovery blocks, and" in problems(check(recovery))[STRIPE]


def test_a_lost_stripe(recovery: Path, check: Callable[..., MediaCheck]) -> None:
    (recovery / STRIPE).unlink()
    assert problems(check(recovery)) == {STRIPE: "missing"}


def test_stripes_that_do_not_cover_everything(recovery: Path, check: Callable[..., MediaCheck]) -> None:
    label = recovery / "recovery.json"
    label.write_bytes(label.read_bytes().replace(b'"stripes":1', b'"stripes":0'))
    (recovery / STRIPE).unlink()
    assert problems(check(recovery)) == {"recovery.json": "its stripes lack 4 files of 4"}


def test_a_damaged_label(recovery: Path, check: Callable[..., MediaCheck]) -> None:
    (recovery / "recovery.json").write_bytes(b"{}")
    found = check(recovery)
    assert "keys are missing" in problems(found)["recovery.json"]
    assert only(found).strange == (STRIPE,)


@pytest.mark.parametrize("name", ["spare/manifest.json", "spare/trust/SHA256SUMS"])
def test_a_damaged_second_copy(
    three: list[Path], recovery: Path, check: Callable[..., MediaCheck], name: str
) -> None:
    flip(recovery / name, 70)
    assert problems(check(three[0], recovery)) == {name: "other bytes than were signed"}


def test_what_does_not_belong_there(recovery: Path, check: Callable[..., MediaCheck]) -> None:
    (recovery / "stripe-0001.par2").write_bytes(b"x")
    assert only(check(recovery)).strange == ("stripe-0001.par2",)


def test_another_bundles_stripes(
    recovery: Path,
    maker: BundleMaker,
    two_of_three: Root,
    volumes: Callable[..., list[Path]],
    check: Callable[..., MediaCheck],
    *,
    tmp_path: Path,
) -> None:
    lock = maker.lock({**CONTENTS, "model": ("tiny-gguf", {"tiny.gguf": b"another"})})
    others = volumes(
        maker.sign(maker.write("other", two_of_three, lock), "alice", "bob"), 2, medium="other"
    )
    with pytest.raises(VolumesMixed):
        check(*others, recovery)
    (tmp_path / "out").mkdir()
    made = make_recovery_volume(others, tmp_path / "out", root=None, work=tmp_path / "w", progress=Silent())
    shutil.copy(made.folder / STRIPE, recovery / STRIPE)
    assert problems(check(recovery)) == {STRIPE: "does not cover files of this bundle"}


def test_a_recovery_volume_that_is_pulled(
    recovery: Path, check: Callable[..., MediaCheck], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Tree, "answers", lambda _: False)
    (recovery / STRIPE).unlink()
    found = check(recovery)
    assert only(found).gone
    assert not only(found).damaged
    assert found.failure


def test_it_is_no_volume_to_join(recovery: Path, three: list[Path], tmp_path: Path) -> None:
    with pytest.raises(Usage, match="is a recovery volume"):
        join_volumes([*three, recovery], tmp_path / "joined", progress=Silent())
