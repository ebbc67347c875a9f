"""What joining tells of its progress: no byte twice, and nothing of a volume that does not help."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from appliance.bundle.media.join import join_volumes
from appliance.errors import VolumeMissing
from appliance.progress import Silent

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

SLICE = "payload/model/tiny.gguf.slice-0001"


class Told(Silent):
    """Remembers how many bytes were to be done in each phase, and how many were."""

    def __init__(self) -> None:
        self.phases: list[list[int]] = []

    def begin(self, phase: str, items: int, size: int | None = None) -> None:
        self.phases.append([size or 0, 0])

    def advance(self, count: int) -> None:
        self.phases[-1][1] += count


@pytest.fixture
def three(cut_bundle: Path, volumes: Callable[..., list[Path]]) -> list[Path]:
    return volumes(cut_bundle, 4, 6)


def test_bytes_of_a_damaged_copy_are_taken_back(
    cut_bundle: Path, three: list[Path], volumes: Callable[..., list[Path]], tmp_path: Path
) -> None:
    other = volumes(cut_bundle, 4, 6, medium="other")
    with (three[1] / SLICE).open("r+b") as file:
        file.write(b"rot")
    told = Told()
    join_volumes([*three, other[1]], tmp_path / "whole", progress=told)
    [(size, done)] = told.phases
    assert done == size == sum(path.stat().st_size for path in (cut_bundle / "payload").rglob("*.*"))


def test_a_volume_that_does_not_help_tells_nothing(three: list[Path], tmp_path: Path) -> None:
    for phases in (1, 0):
        told = Told()
        with pytest.raises(VolumeMissing):
            join_volumes(three[:1], tmp_path / "whole", progress=told)
        assert len(told.phases) == phases
