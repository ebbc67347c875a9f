"""Dividing a bundle: ranges of its order, room counted in clusters, every impossibility named."""

from __future__ import annotations

from dataclasses import replace
from types import MappingProxyType
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.bundle.manifest import Component, Inference, ListedFile, Manifest, PayloadFile, Target
from appliance.bundle.media.cargo import Cargo, Part, in_bundle_order
from appliance.bundle.media.plan import Offer, Room, plan_volumes, raw_room, volume_from_label
from appliance.bundle.media.sizes import parse_size, size_text
from appliance.errors import MediaTooSmall, Usage

if TYPE_CHECKING:
    from collections.abc import Mapping

GIB = 1 << 30
ROOT = (Part("trust/SHA256SUMS", 5000, "0" * 64), Part("manifest.json", 90_000, "0" * 64))
MANIFEST = Manifest(
    product="demo",
    version="1.0.0",
    sequence=1,
    created="2026-01-31T12:00:00Z",
    target=Target("debian", "trixie", "amd64", "3.13"),
    inference=Inference("engine", "model", "tiny.gguf", "demo"),
    components=MappingProxyType({}),
    files=MappingProxyType({}),
)


def cargo(files: Mapping[str, int], root: tuple[Part, ...] = ROOT) -> Cargo:
    parts = tuple(Part(path, size, "0" * 64) for path, size in files.items())
    return Cargo("f" * 64, MANIFEST, root, parts, (), trusted=False, blocks=b"")


def room(size: int, cluster: int = 4096, name: str = "stick") -> Room:
    return Room(name, size, cluster)


def slices(count: int, size: int = GIB) -> dict[str, int]:
    return {f"payload/model/m.gguf.slice-{number:04d}": size for number in range(count)}


def test_one_large_medium_takes_everything() -> None:
    plan = plan_volumes(cargo({"payload/a/x": 10, "parity/set-0000.par2": 5}), Offer((room(10**9),), False))
    (volume,) = plan.volumes
    assert (volume.share.size, volume.share.files) == (15, 2)
    assert (volume.share.first, volume.share.last) == ("payload/a/x", "parity/set-0000.par2")
    assert volume.holds == ("a", "parity")


def test_volumes_follow_each_other_in_the_bundles_order() -> None:
    files = slices(10)
    plan = plan_volumes(cargo(files), Offer((room(4 * GIB),), repeats=True))
    assert [volume.share.files for volume in plan.volumes] == [3, 3, 3, 1]
    assert [part.path for volume in plan.volumes for part in volume.parts] == list(files)


def test_media_of_different_sizes_are_taken_as_they_come() -> None:
    offer = Offer((room(2 * GIB), room(6 * GIB), room(3 * GIB)), repeats=False)
    plan = plan_volumes(cargo(slices(8)), offer)
    assert [volume.share.files for volume in plan.volumes] == [1, 5, 2]
    assert [volume.room.size for volume in plan.volumes] == [2 * GIB, 6 * GIB, 3 * GIB]


def test_media_that_are_not_needed_get_no_volume() -> None:
    plan = plan_volumes(cargo(slices(1)), Offer((room(4 * GIB), room(4 * GIB)), repeats=False))
    assert len(plan.volumes) == 1


def test_small_files_take_whole_clusters() -> None:
    files = {f"payload/a/{number}": 1 for number in range(1000)}
    offer = Offer((room(40 << 20, cluster=128 << 10),), repeats=True)
    plan = plan_volumes(cargo(files), offer)
    # 300 of 128 KiB fill 40 MB; 1000 bytes would have fitted anywhere.
    assert len(plan.volumes) == 4
    assert all(volume.used <= 40 << 20 for volume in plan.volumes)
    assert plan.volumes[0].used >= plan.volumes[0].share.files * (128 << 10)


def test_room_is_left_for_tables() -> None:
    exact = plan_volumes(cargo(slices(2)), Offer((room(100 * GIB),), repeats=False)).volumes[0].used
    assert len(plan_volumes(cargo(slices(2)), Offer((room(exact),), repeats=True)).volumes) == 2
    enough = exact + exact // 1000
    assert len(plan_volumes(cargo(slices(2)), Offer((room(enough),), repeats=True)).volumes) == 1


def test_what_repeats_is_counted_on_every_volume() -> None:
    heavy = (Part("manifest.json", GIB // 2, "0" * 64),)  # with its spare copy 1 GiB
    plan = plan_volumes(cargo(slices(4), heavy), Offer((room(3 * GIB + (40 << 20)),), repeats=True))
    assert [volume.share.files for volume in plan.volumes] == [2, 2]
    assert plan.repeated == GIB


def test_a_file_that_fits_no_medium_is_named() -> None:
    files = {"payload/a/small": 1, "payload/b/large": GIB}
    with pytest.raises(MediaTooSmall, match=r"^stick is too small for volume 2$") as fault:
        plan_volumes(cargo(files), Offer((room(500 << 20),), repeats=True))
    assert "payload/b/large of 1.1 GB" in str(fault.value.wanted)
    assert str(fault.value.found).startswith("room for 523,776,000 bytes")


def test_a_medium_too_small_for_the_root_files_is_named() -> None:
    with pytest.raises(MediaTooSmall, match="too small for volume 1") as fault:
        plan_volumes(cargo({"payload/a/x": 1}), Offer((room(100_000),), repeats=True))
    assert "what every volume carries" in str(fault.value.wanted)
    assert "payload/a/x" not in str(fault.value.wanted)


def test_too_few_media_say_what_is_left_over() -> None:
    with pytest.raises(MediaTooSmall, match="2 media cannot hold the bundle") as fault:
        plan_volumes(cargo(slices(5)), Offer((room(2 * GIB), room(2 * GIB)), repeats=False))
    assert fault.value.found == "room for all but 3.2 GB, from payload/model/m.gguf.slice-0002 on"


def test_more_volumes_than_a_bundle_may_have() -> None:
    with pytest.raises(MediaTooSmall, match="more than 999 volumes"):
        plan_volumes(cargo(slices(1000)), Offer((room(2 * GIB),), repeats=True))
    assert len(plan_volumes(cargo(slices(999)), Offer((room(2 * GIB),), repeats=True)).volumes) == 999


def test_a_label_gives_the_planned_volume_back() -> None:
    plan = plan_volumes(cargo(slices(5)), Offer((room(3 * GIB),), repeats=True))
    for volume in plan.volumes:
        told = volume_from_label(cargo(slices(5)), plan.label(volume.number), volume.room)
        assert told == volume


def test_a_label_that_speaks_of_other_files_gives_nothing() -> None:
    plan = plan_volumes(cargo(slices(5)), Offer((room(3 * GIB),), repeats=True))
    assert volume_from_label(cargo(slices(5, GIB - 1)), plan.label(2), room(1)) is None
    assert volume_from_label(cargo(slices(2)), plan.label(3), room(1)) is None


@given(
    st.lists(st.integers(0, 3 << 20), min_size=1, max_size=40),
    st.lists(st.integers(4 << 20, 16 << 20), min_size=1, max_size=4),
    st.sampled_from([512, 4096, 32 << 10]),
)
def test_every_file_lies_on_one_volume_and_none_overflows(
    sizes: list[int], media: list[int], cluster: int
) -> None:
    files = {f"payload/c{number % 3}/{number}": size for number, size in enumerate(sizes)}
    offer = Offer(tuple(room(size, cluster) for size in media), repeats=True)
    plan = plan_volumes(cargo(files), offer)
    assert [part.path for volume in plan.volumes for part in volume.parts] == list(files)
    for volume in plan.volumes:
        assert volume.parts
        assert volume.share.size < volume.used < volume.room.size
    assert plan == plan_volumes(cargo(files), offer)


def test_the_bundles_order_is_manifest_order_then_parity() -> None:
    def file(path: str, *cut: int) -> PayloadFile:
        parts = tuple(ListedFile("1" * 64, size) for size in cut)
        return PayloadFile(path, 1, "0" * 64, "x", "1", "MIT", {"kind": "file"}, slices=parts)

    components = {
        "a": Component("files", (file("payload/a/x", 4 << 20, 1), file("payload/a/x.b"))),
        "a-b": Component("files", (file("payload/a-b/y"),)),
    }
    root = ("VERIFY.txt", "parity/set-0001.par2", "parity/set-0000.par2", "sbom/bundle.cdx.json")
    manifest = replace(
        MANIFEST, components=components, files={path: ListedFile("2" * 64, 1) for path in root}
    )
    assert [path for path, _ in in_bundle_order(manifest)] == [
        "payload/a/x.slice-0000",
        "payload/a/x.slice-0001",
        "payload/a/x.b",
        "payload/a-b/y",
        "parity/set-0000.par2",
        "parity/set-0001.par2",
    ]


def test_a_medium_as_bought_loses_what_formatting_takes() -> None:
    small, large = raw_room("small", 16 * 10**9), raw_room("large", 64 * 10**9)
    assert (small.cluster, large.cluster) == (32 << 10, 128 << 10)
    assert 63.8e9 < large.size < 64e9


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("64GB", 64 * 10**9),
        ("58GiB", 58 << 30),
        ("1.5 TB", 15 * 10**11),
        ("0.5GiB", 1 << 29),
        ("700MB", 7 * 10**8),
    ],
)
def test_sizes_are_read_as_people_write_them(text: str, size: int) -> None:
    assert parse_size(text) == size


@pytest.mark.parametrize(
    "text", ["64", "64gb", "64G", "-1GB", "0GB", "1e3GB", "", "GB", "٦٤GB", "9999TB", "64 GB "]
)
def test_other_sizes_are_refused(text: str) -> None:
    with pytest.raises(Usage):
        parse_size(text)


def test_sizes_are_shown_in_decimal_units() -> None:
    assert [size_text(size) for size in (999, 1_500_000, 64 * 10**9, 2 * 10**12)] == [
        "999 bytes",
        "1.5 MB",
        "64.0 GB",
        "2.0 TB",
    ]
