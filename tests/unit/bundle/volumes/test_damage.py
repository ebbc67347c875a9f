"""Damage is named with the volume it lies on, copies and root files among it."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

import pytest

from appliance.errors import DigestMismatch, FileMissing, SignatureInvalid
from tests.unit.bundle.volumes.several import MODEL, refusal

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from appliance.bundle.verify import VerifiedBundle
    from tests.conftest import BundleMaker


def test_a_damaged_list_is_no_other_bundle(
    three: list[Path], verified: Callable[..., VerifiedBundle]
) -> None:
    path = three[1] / "trust/SHA256SUMS"
    path.write_bytes(path.read_bytes()[:-1])
    said = refusal(DigestMismatch, verified, three)
    assert "trust/SHA256SUMS is damaged" in said
    assert str(three[1]) in said
    assert str(three[0]) not in said
    assert "media repair" in said


@pytest.mark.parametrize(
    "name",
    ["VERIFY.txt", "blocks.bin", "manifest.json", "trust/root.1.json", "trust/SHA256SUMS.bob.sig",
     "spare/manifest.json", "spare/trust/SHA256SUMS", "spare/trust/SHA256SUMS.alice.sig"],
)  # fmt: skip
def test_a_damaged_further_copy_is_named(
    name: str, three: list[Path], verified: Callable[..., VerifiedBundle]
) -> None:
    data = bytearray((three[1] / name).read_bytes())
    data[len(data) // 2] ^= 1
    (three[1] / name).write_bytes(bytes(data))
    said = refusal(DigestMismatch, verified, three)
    assert "1 of the files that lie on several places is damaged" in said
    assert f"{name} on volume 2 of 3 ({three[1]})" in said


def test_the_first_copy_is_named_if_it_is_the_damaged_one(
    three: list[Path], verified: Callable[..., VerifiedBundle]
) -> None:
    """The signed list tells which of two manifests is right."""
    path = three[0] / "manifest.json"
    path.write_bytes(path.read_bytes().replace(b"demo", b"DEMO"))
    said = refusal(DigestMismatch, verified, three)
    assert f"manifest.json on volume 1 of 3 ({three[0]})" in said
    assert "spare" not in said
    assert "volume 2" not in said


def test_a_damaged_payload_file_is_named_with_its_volume(
    three: list[Path], verified: Callable[..., VerifiedBundle]
) -> None:
    (three[2] / MODEL).write_bytes(bytes((three[2] / MODEL).stat().st_size))
    said = refusal(DigestMismatch, verified, three)
    assert f"{MODEL} on volume 3 of 3 ({three[2]}) is not what was signed" in said


@pytest.mark.parametrize("name", ["VERIFY.txt", "manifest.json", "trust/SHA256SUMS.bob.sig"])
def test_root_files_lie_on_every_volume(
    name: str, three: list[Path], verified: Callable[..., VerifiedBundle]
) -> None:
    (three[2] / name).unlink()
    (three[2] / "spare" / name).unlink(missing_ok=True)
    said = refusal(FileMissing, verified, three)
    assert f"volume 3 of 3 ({three[2]}) lacks files that lie on every volume" in said
    assert name in said


def test_a_signature_on_one_volume_only_is_not_passed_over(
    three: list[Path], verified: Callable[..., VerifiedBundle]
) -> None:
    """Every signature present must verify, wherever it lies."""
    shutil.copy(three[0] / "trust/SHA256SUMS.bob.sig", three[2] / "trust/SHA256SUMS.carol.sig")
    refusal(SignatureInvalid, verified, three)


def test_a_good_signature_belongs_on_every_volume(
    three: list[Path], maker: BundleMaker, bundle: Path, verified: Callable[..., VerifiedBundle]
) -> None:
    maker.sign(bundle, "carol")
    shutil.copy(bundle / "trust/SHA256SUMS.carol.sig", three[2] / "trust/SHA256SUMS.carol.sig")
    said = refusal(FileMissing, verified, three)
    assert f"volume 1 of 3 ({three[0]}) lacks" in said
    assert "trust/SHA256SUMS.carol.sig" in said


def test_second_copies_may_be_left_out(
    bundle: Path, volumes: Callable[..., list[Path]], verified: Callable[..., VerifiedBundle]
) -> None:
    folders = volumes(bundle, 2, spare=False)
    assert verified(folders).digest
