"""Which files of a base a new one is compared with."""

from __future__ import annotations

from pathlib import Path

import pytest

from appliance.bundle.manifest import Base
from appliance.bundle.patch.choosing import bases_for
from appliance.bundle.patch.encoding import SMALL
from appliance.bundle.patch.holdings import OUTSIDE, HeldFile, Holdings
from appliance.bundle.patch.whole import FolderFiles

LONG = SMALL + 1


def file(path: str, size: int = 100, name: str | None = None) -> HeldFile:
    component = path.split("/")[1] if path.startswith("payload/") else OUTSIDE
    return HeldFile(path, "a" * 64, size, component, name or Path(path).name, ((path, size),))


HELD = Holdings(
    base=Base("b" * 64, "1", 1),
    product="demo",
    files={
        each.path: each
        for each in (
            file("manifest.json"),
            file("payload/engine/torch-1.whl", 500, "torch"),
            file("payload/engine/torch-1.arm.whl", 900, "torch"),
            file("payload/engine/empty.whl", 0, "empty"),
            file("payload/model/a.safetensors", LONG),
            file("payload/model/b.safetensors", LONG),
            file("payload/model/config.json"),
            file("payload/other/torch-1.whl", 800, "torch"),
        )
    },
    opens=FolderFiles(),
    digests=frozenset(),
)


@pytest.mark.parametrize(
    ("new", "found"),
    [
        (file("manifest.json"), ["manifest.json"]),
        (file("payload/model/config.json"), ["payload/model/config.json"]),
        (file("payload/engine/torch-2.whl", 510, "torch"), ["payload/engine/torch-1.whl"]),
        (file("payload/engine/torch-2.whl", 880, "torch"), ["payload/engine/torch-1.arm.whl"]),
        (file("payload/engine/empty.whl", 100, "empty"), []),
        (file("payload/engine/torch-3.whl", 0, "torch"), []),
        (
            file("payload/model/c.safetensors", LONG),
            ["payload/model/a.safetensors", "payload/model/b.safetensors"],
        ),
        (file("payload/model/c.json"), []),
        (file("payload/fresh/torch-2.whl", 500, "torch"), []),
        (file("VERIFY.txt"), []),
    ],
)
def test_the_likeliest_is_chosen(new: HeldFile, found: list[str]) -> None:
    assert [each.path for each in bases_for(new, HELD)] == found
