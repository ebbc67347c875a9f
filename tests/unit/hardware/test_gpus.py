"""GPUs and how they can be cut."""

from __future__ import annotations

import itertools

import pytest

from appliance.errors import GpuUnknown, MigLayoutInvalid
from appliance.hardware.gpu_table import GPUS, Gpu
from appliance.hardware.gpus import find_gpu, find_slice, parse_layout, placements

H100 = find_gpu("h100-sxm")


def names(layout: str, gpu: Gpu = H100) -> list[str]:
    return [each.name for each in parse_layout(gpu, layout)]


def test_an_unknown_gpu_is_named_with_those_that_are_known() -> None:
    with pytest.raises(GpuUnknown) as caught:
        find_gpu("h101")
    assert caught.value.found == "h101"
    assert "h100-sxm" in (caught.value.wanted or "")


@pytest.mark.parametrize(
    ("layout", "slices"),
    [
        ("3g.40gb,2*2g.20gb", ["3g.40gb", "2g.20gb", "2g.20gb"]),
        ("2x3g.40gb", ["3g.40gb"] * 2),
        ("4g.40gb, 3g.40gb", ["4g.40gb", "3g.40gb"]),
        ("all-1g.10gb", ["1g.10gb"] * 7),
        ("all-1g.20gb", ["1g.20gb"] * 4),
        ("all-2g.20gb", ["2g.20gb"] * 3),
        ("all-3g.40gb", ["3g.40gb"] * 2),
        ("all-7g.80gb", ["7g.80gb"]),
        ("all-balanced", ["1g.10gb", "1g.10gb", "2g.20gb", "3g.40gb"]),
    ],
)
def test_layouts_of_an_h100(layout: str, slices: list[str]) -> None:
    """The names and numbers of mig-parted's own configurations for this GPU."""
    assert names(layout) == slices


@pytest.mark.parametrize(
    ("layout", "said"),
    [
        ("3*3g.40gb", "12 of 8 memory slices"),
        ("8*1g.10gb", "8 of 8 memory slices"),  # the last memory slice is no place for one
        ("2*4g.40gb", "8 of 8 memory slices"),  # both may begin at 0 only
        ("7g.80gb,1g.10gb", "9 of 8 memory slices"),
        ("4*2g.20gb", "8 of 8 memory slices"),
        ("3g.71gb", "3g.71gb"),  # an H200's
        ("3g.40gb;2g.20gb", "3g.40gb;2g.20gb"),
        ("0*3g.40gb", "0*3g.40gb"),
        ("", "nothing"),
        ("all-9g.90gb", "9g.90gb"),
    ],
)
def test_what_an_h100_cannot_hold(layout: str, said: str) -> None:
    with pytest.raises(MigLayoutInvalid) as caught:
        parse_layout(H100, layout)
    assert said in (caught.value.found or "")
    assert caught.value.wanted


@pytest.mark.parametrize("layout", ["1g.10gb", "all-1g.10gb", "all-balanced"])
def test_a_gpu_without_slices(layout: str) -> None:
    with pytest.raises(MigLayoutInvalid, match="cannot be cut"):
        parse_layout(find_gpu("l40s"), layout)


def test_places_are_found_in_any_order() -> None:
    """A 1g that stood where the 3g must begin would leave no place: the search goes back."""
    asked = [find_slice(H100, name) for name in ("1g.10gb", "1g.10gb", "2g.20gb", "3g.40gb")]
    for order in itertools.permutations(asked):
        starts = placements(order)
        assert starts is not None
        taken = [
            start + step for start, each in zip(starts, order, strict=True) for step in range(each.width)
        ]
        assert len(set(taken)) == len(taken)
        assert all(start in each.starts for start, each in zip(starts, order, strict=True))


@pytest.mark.parametrize("gpu", [each for each in GPUS if each.slices], ids=lambda each: each.name)
def test_the_table_is_consistent(gpu: Gpu) -> None:
    """As many of each slice as NVIDIA's guide says, and never more memory in them than the GPU has."""
    assert [len(each.starts) for each in gpu.slices] == [7, 4, 3, 2, 1, 1]
    for each in gpu.slices:
        assert placements([each] * len(each.starts)) is not None
        assert each.memory_mib * len(each.starts) <= gpu.memory_mib
        assert each.memory_mib >= gpu.memory_mib * each.width // 8 * 85 // 100
        assert each.source
    assert gpu.source
