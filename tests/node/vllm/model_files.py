"""Files of a model as hubs have them, written by hand: weights in safetensors, a tokenizer of bytes.

The same bytes whenever they are made, and without the libraries that read them.
"""

from __future__ import annotations

import json
import struct
from array import array
from itertools import islice
from math import prod
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import random
    from collections.abc import Sequence
    from pathlib import Path


def write_safetensors(
    path: Path,
    shapes: Sequence[tuple[str, tuple[int, ...]]],
    draw: random.Random,
    *,
    spread: float = 0.05,
) -> None:
    """Random weights as safetensors: length of the header, header, numbers one after another.

    Args:
        path: where to.
        shapes: names of tensors, and their shapes; scales (one dimension) are ones, biases zeros.
        draw: where the numbers come from.
        spread: their standard deviation.
    """
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    data = bytearray()
    for name, shape in shapes:
        if len(shape) == 1:
            numbers = array("f", [0.0 if name.endswith(".bias") else 1.0]) * prod(shape)
        else:
            numbers = array("f", (draw.gauss(0, spread) for _ in range(prod(shape))))
        begin = len(data)
        data += numbers.tobytes()
        header[name] = {"dtype": "F32", "shape": shape, "data_offsets": [begin, len(data)]}
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    path.write_bytes(struct.pack("<Q", len(text)) + text + data)


def byte_tokenizer(special: Sequence[str], vocabulary: int) -> dict[str, Any]:
    """``tokenizer.json``: byte-level BPE without merges, each byte a token, spelled as by GPT-2.

    Args:
        special: tokens that come first.
        vocabulary: how many there are; filled up with such as are never used.
    """
    plain = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
    others = (byte for byte in range(256) if byte not in plain)
    letters = [chr(byte) for byte in plain] + [chr(256 + place) for place, _ in enumerate(others)]
    fillers = (f"<|unused{number}|>" for number in range(vocabulary))
    words = [*special, *letters]
    words += islice(fillers, vocabulary - len(words))
    return {
        "version": "1.0",
        "added_tokens": [
            {
                "id": words.index(word),
                "content": word,
                "special": True,
                "single_word": False,
                "lstrip": False,
                "rstrip": False,
                "normalized": False,
            }
            for word in special
        ],
        "normalizer": None,
        "pre_tokenizer": {
            "type": "ByteLevel",
            "add_prefix_space": False,
            "trim_offsets": True,
            "use_regex": True,
        },
        "post_processor": None,
        "decoder": {"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": True, "use_regex": True},
        "model": {
            "type": "BPE",
            "vocab": {word: number for number, word in enumerate(words)},
            "merges": [],
        },
    }
