"""Changing a drive's keys and retiring it leaves no secret anywhere either; traced as ``test_secrets``."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.unit.disk.leaving.life_node import LifeNode
from tests.unit.disk.leaving.test_secrets import ENROLL, HOLDERS, Station, furnished
from tests.unit.disk.leaving.tracing import files

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

WHERE = ("/dev/nvme0n1", "-i", "inventory.yml", "--node", "gpu-01", "--escrow", "escrow")


@pytest.fixture
def station(tmp_path: Path) -> Iterator[Station]:
    yield from furnished(tmp_path, LifeNode)


def test_no_secret_is_left_by_a_rotation_or_a_retirement(station: Station, tmp_path: Path) -> None:
    given, node = tmp_path / "given", station.node
    assert isinstance(node, LifeNode)
    station.run(*ENROLL, "--psid-file", given / "psid", "--confirm", "SIM1")
    keys = [word for name in HOLDERS for word in ("--identity", given / f"{name}.key")]

    rotated = station.run("rotate", *WHERE, *keys, "--confirm", "SIM1")
    assert b"of keys 2, as Admin1" in rotated.out
    assert station.seen(rotated) == []
    assert {"prepare-second", "change-first", "open-owner", "set-owner"} <= set(node.asked)
    assert len([name for name in station.secrets.names() if name.startswith("secret")]) > 4

    report = station.folder / "work/report"
    report.mkdir()
    retired = station.run(
        "retire", *WHERE, *keys, "--confirm", "SIM1", "--report", "report", "--by", "A. Engineer"
    )
    assert b"verified" in retired.out
    assert station.seen(retired) == []
    assert {"open-ranges", "sample", "revert"} <= set(node.asked)
    assert station.secrets.seen(files(station.folder)) == []
