"""Wheels, which the station looks into for the licence they state; a bundle is never unpacked."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import pytest

from appliance.errors import BundleMalformed
from appliance.sources.wheel_metadata import licence
from tests.corpus.groups import cases
from tests.corpus.test_archives import ZEROS, member, tar_of, zip_of

if TYPE_CHECKING:
    from pathlib import Path


def _wheel(metadata: bytes, name: str = "a-1.dist-info/METADATA") -> bytes:
    return zip_of(name, data=metadata)


def _damaged() -> bytes:
    """The directory is whole, and what it points to is not."""
    whole = bytearray(_wheel(b"License: MIT\n" * 100))
    whole[50:70] = bytes(20)
    return bytes(whole)


WHEELS: Final = {
    "not an archive": b"wheel",
    "empty": b"",
    "without METADATA": zip_of("a-1.dist-info/RECORD"),
    "METADATA that unpacks to 64 MB": _wheel(ZEROS),
    "METADATA of 64 MB of text": _wheel(b"License: MIT\n" * 5_000_000),
    "METADATA damaged": _damaged(),
    "cut": _wheel(b"License: MIT\n")[:-10],
    "a tar": tar_of((member("a-1.dist-info/METADATA"), b"License: MIT\n")),
}


@pytest.mark.parametrize("data", cases(6, WHEELS))
def test_a_wheel_that_is_none(data: bytes, tmp_path: Path) -> None:
    """Whatever an index gave out: named, bounded, and nothing is unpacked beyond the bound."""
    (tmp_path / "wheel").write_bytes(data)
    with pytest.raises(BundleMalformed) as caught:
        licence(tmp_path / "wheel")
    assert f"{caught.value.message}{caught.value.found}".isprintable()


@pytest.mark.group(12)
@pytest.mark.parametrize("said", ["\x1b[2J", "MIT\u202e", "x" * 5000, "\x9b", "a\u200bb"], ids=ascii)
@pytest.mark.parametrize("field", ["License-Expression", "License", "Classifier"])
def test_a_wheel_s_licence_is_unknown_or_can_be_shown(field: str, said: str, tmp_path: Path) -> None:
    value = f"License :: {said}" if field == "Classifier" else said
    (tmp_path / "wheel").write_bytes(_wheel(f"{field}: {value}\n".encode()))
    found = licence(tmp_path / "wheel")
    assert found is None or (found.isprintable() and len(found) < 100)
