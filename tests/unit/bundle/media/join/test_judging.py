"""Nothing but signed bytes gets into what is joined."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from appliance.errors import ThresholdNotMet, Usage, VolumeMissing, VolumesMixed
from appliance.trust.root import root_bytes

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from appliance.trust.root import Root
    from tests.conftest import BundleMaker
    from tests.unit.bundle.media.join.joining import Join


def test_the_root_judges(three: list[Path], out: Path, joined: Join, two_of_three: Root) -> None:
    for folder in three:
        for path in folder.rglob("*bob*"):
            path.unlink()
    with pytest.raises(ThresholdNotMet):
        joined(*three, root=root_bytes(two_of_three))
    assert not out.exists()


def test_signers_are_said(three: list[Path], joined: Join, two_of_three: Root) -> None:
    assert joined(*three, root=root_bytes(two_of_three)).signers == ("alice", "bob")


def test_volumes_of_two_bundles(
    three: list[Path],
    joined: Join,
    maker: BundleMaker,
    two_of_three: Root,
    *,
    volumes: Callable[..., list[Path]],
    out: Path,
) -> None:
    other = volumes(maker.sign(maker.write("other", two_of_three), "alice", "bob"), 2, medium="other")
    with pytest.raises(VolumesMixed) as caught:
        joined(three[0], other[1])
    assert caught.value.hint == "name only the folders of one bundle"
    assert not out.with_name(f".{out.name}.joining").exists()
    with pytest.raises(VolumeMissing):
        joined(three[0])
    with pytest.raises(Usage, match="begun with another bundle"):
        joined(*other)
    assert not out.exists()
