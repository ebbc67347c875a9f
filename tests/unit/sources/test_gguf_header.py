"""GGUF headers, beside the ggml project's own reader and writer."""

from __future__ import annotations

import io
import math
from typing import TYPE_CHECKING

import gguf
import numpy as np
import pytest

from appliance.sources.gguf_header import GGML_TYPES, GgufHeader, read_gguf_header
from appliance.sources.tiny_gguf import generate

if TYPE_CHECKING:
    from pathlib import Path


def header_of(data: bytes) -> GgufHeader:
    return read_gguf_header(io.BytesIO(data), len(data))


@pytest.fixture(scope="module")
def tiny() -> bytes:
    return generate("A sentence that is long enough for some tokens.")


def test_the_table_of_types_is_ggmls() -> None:
    for number, (name, block, size) in GGML_TYPES.items():
        kind = gguf.GGMLQuantizationType(number)
        assert kind.name == name
        assert gguf.GGML_QUANT_SIZES[kind] == (block, size)


def test_the_same_as_the_projects_own_reader(tiny: bytes, tmp_path: Path) -> None:
    path = tmp_path / "tiny.gguf"
    path.write_bytes(tiny)
    theirs, ours = gguf.GGUFReader(path), header_of(tiny)
    assert [each.name for each in ours.tensors] == [each.name for each in theirs.tensors]
    start = theirs.data_offset
    for mine, other in zip(ours.tensors, theirs.tensors, strict=True):
        assert mine.dtype == other.tensor_type.name
        assert list(reversed(mine.shape)) == [int(side) for side in other.shape]  # type: ignore[call-overload]
        assert (start + mine.begin, mine.size) == (other.data_offset, other.n_bytes)
    for key in ("general.architecture", "llama.block_count", "llama.attention.head_count_kv"):
        field = theirs.get_field(key)
        assert field is not None
        assert ours.metadata[key] == field.contents()
    assert "tokenizer.ggml.tokens" not in ours.metadata  # passed over


def test_quantised_tensors_take_what_ggml_says(tmp_path: Path) -> None:
    path = tmp_path / "q.gguf"
    writer = gguf.GGUFWriter(path, "llama")
    values = np.zeros((4, 512), np.float32)
    kinds = (gguf.GGMLQuantizationType.Q8_0, gguf.GGMLQuantizationType.Q4_0)
    for kind in kinds:
        writer.add_tensor(f"{kind.name}.weight", gguf.quantize(values, kind), raw_dtype=kind)
    writer.add_array("numbers", [1, 2, 3])
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    header = header_of(path.read_bytes())
    assert header.metadata["numbers"] == [1, 2, 3]
    found = {each.name: (each.dtype, each.shape, each.size) for each in header.tensors}
    assert found == {
        f"{kind.name}.weight": (kind.name, (4, 512), gguf.quantize(values, kind).nbytes) for kind in kinds
    }


def test_cut_short_anywhere_it_is_refused(tiny: bytes) -> None:
    """Numbers that are missing are missed too, though they are not read."""
    ends = [*range(400), *range(400, len(tiny), 997), len(tiny) - 1000]
    for end in ends:
        with pytest.raises(ValueError, match=r"is no GGUF|is cut short|is GGUF of version"):
            header_of(tiny[:end])


@pytest.mark.parametrize(
    ("place", "bytes_", "said"),
    [
        (0, b"GGUX", "begins otherwise"),
        (4, (1).to_bytes(4, "little"), "version 1"),
        (4, (3).to_bytes(4, "big"), "version"),
        (8, (1 << 60).to_bytes(8, "little"), "header is longer|cut short|type|dimensions|UTF-8|text"),
        (
            16,
            (1 << 60).to_bytes(8, "little"),
            "header is longer|cut short|type|dimensions|UTF-8|text|twice",
        ),
        (24, (1 << 50).to_bytes(8, "little"), "longer text"),
    ],
)
def test_numbers_that_promise_too_much(tiny: bytes, place: int, bytes_: bytes, said: str) -> None:
    """A count of a quintillion ends with the file, without memory for it."""
    data = tiny[:place] + bytes_ + tiny[place + len(bytes_) :]
    with pytest.raises(ValueError, match=said):
        header_of(data)


def test_any_changed_byte_is_read_or_refused(tiny: bytes) -> None:
    """Nothing but ValueError, whatever a header says; what is read lies within the file."""
    for place in range(1500):
        for change in (0x01, 0x80):
            data = bytearray(tiny)
            data[place] ^= change
            try:
                header = header_of(bytes(data))
            except ValueError:
                continue
            for each in header.tensors:
                assert 0 <= each.begin <= each.end <= len(tiny)
                assert isinstance(each.shape, tuple)
                assert math.prod(each.shape) >= 0
