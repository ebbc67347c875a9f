"""Bytes packed by zstd, alone or against bytes of the base; and unpacked, never to more than was said.

``zstd --patch-from`` does the same: the base bytes are the frame's prefix, so that matches reach into them.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Final

from appliance.errors import RecipeInvalid

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

if TYPE_CHECKING:
    from collections.abc import Mapping

#: Twice the largest segment: the window that a frame may ask for.
_WINDOW_LOG: Final = 25
#: Bytes up to which trying hard costs less than a second, or next to nothing, and their level; that of
#: longer ones; of weights, as of what is packed already, where trying hard finds little or nothing; and of
#: what is only to be compared.
_SHORT: Final = 2 << 20
_TINY: Final = 64 << 10
_LEVEL_SHORT: Final = 19
_LEVEL_LONG: Final = 5
_LEVEL_WEIGHTS: Final = 3
_LEVEL_PACKED: Final = 3
_LEVEL_PROBE: Final = 1
#: Bytes from the middle of a file by which it is told whether it is packed already.
_SAMPLE: Final = 256 << 10
#: Every position, and matches of 16 bytes: what changed within a wheel lies between such.
_THOROUGH: Final[Mapping[int, int]] = {
    zstd.CompressionParameter.ldm_min_match: 16,
    zstd.CompressionParameter.ldm_hash_log: 22,
    zstd.CompressionParameter.ldm_hash_rate_log: 0,
}
#: What does not become smaller by so much stays as it is: reading it then costs nothing.  Nor does what is
#: not smaller by so many bytes, since a frame's line in the recipe is longer.
WORTH: Final = 0.98
LEAST: Final = 32

_C = zstd.CompressionParameter
_D = zstd.DecompressionParameter


def pack(data: bytes, prefix: bytes = b"") -> bytes | None:
    """A frame that gives ``data``, of a file that is looked at thoroughly; None where it saves too little.

    Args:
        data: what is packed.
        prefix: bytes of the base, which whoever unpacks it has too; empty, or at least ``MIN_PREFIX``.
    """
    if len(data) <= LEAST:
        return None
    packed = _frame(data, prefix, level_for(data, thoroughly=True), thoroughly=True)
    return packed if is_worth(len(packed), len(data)) else None


def pack_weights(data: bytes, prefix: bytes) -> tuple[bytes | None, bool]:
    """The same for a stretch of a long file, quickly; and whether the frame needs the prefix.

    Without is better where it costs hardly anything: who applies the patch reads the prefix from a node.
    """
    level = level_for(data, thoroughly=False)
    packed, wants_prefix = _frame(data, b"", level), False
    if prefix and is_worth(len(_frame(data, prefix, min(level, _LEVEL_PROBE))), len(packed)):
        against = _frame(data, prefix, level)
        if is_worth(len(against), len(packed)):
            packed, wants_prefix = against, True
    return (packed, wants_prefix) if is_worth(len(packed), len(data)) else (None, False)


def is_worth(less: int, size: int) -> bool:
    """Whether so many bytes are worth a frame where there are ``size`` without it."""
    return less <= min(size * WORTH, size - LEAST)


def _frame(data: bytes, prefix: bytes, level: int, *, thoroughly: bool = False) -> bytes:
    options: Mapping[int, int] = {
        _C.compression_level: level,
        _C.window_log: _window_log(len(data) + len(prefix)),
        _C.enable_long_distance_matching: 1,
        **(_THOROUGH if thoroughly and level != _LEVEL_SHORT else {}),
        _C.content_size_flag: 0,
        _C.checksum_flag: 0,
        _C.dict_id_flag: 0,
    }
    against = zstd.ZstdDict(prefix, is_raw=True).as_prefix if prefix else None
    compressor = zstd.ZstdCompressor(options=options, zstd_dict=against)
    packed: bytes = compressor.compress(data, zstd.ZstdCompressor.FLUSH_FRAME)
    return packed


def level_for(data: bytes, *, thoroughly: bool) -> int:
    """The level of zstd that pays for these bytes.

    Args:
        data: what is packed.
        thoroughly: look for shorter matches, at a fifth of the speed: for packages, not for weights.
    """
    if thoroughly and len(data) > _TINY and _is_packed(data):
        return _LEVEL_PACKED
    if len(data) <= (_SHORT if thoroughly else _TINY):
        return _LEVEL_SHORT
    return _LEVEL_LONG if thoroughly else _LEVEL_WEIGHTS


def _is_packed(data: bytes) -> bool:
    """Whether bytes are of a wheel, a .deb or the like: zstd makes no less of them."""
    start = max(0, len(data) - _SAMPLE) // 2
    sample = data[start : start + _SAMPLE]
    return len(zstd.compress(sample, level=1)) > len(sample) * WORTH


def unpack(packed: bytes, length: int, prefix: bytes = b"") -> bytes:
    """What a frame gives, exactly ``length`` bytes.

    Raises:
        RecipeInvalid: it gives more or fewer, is no frame, or is not all of it.
    """
    against = zstd.ZstdDict(prefix, is_raw=True).as_prefix if prefix else None
    unpacker = zstd.ZstdDecompressor(zstd_dict=against, options={_D.window_log_max: _WINDOW_LOG})
    try:
        data: bytes = unpacker.decompress(packed, max_length=length + 1)
    except zstd.ZstdError as fault:
        raise _refused(f"{fault}") from fault
    if len(data) != length or not unpacker.eof or unpacker.unused_data:
        raise _refused(f"{len(data):,} bytes or more" if len(data) > length else f"{len(data):,} bytes")
    return data


def _window_log(size: int) -> int:
    return min(_WINDOW_LOG, max(10, (size - 1).bit_length()))


def _refused(found: str) -> RecipeInvalid:
    return RecipeInvalid(
        "a frame of the patch does not give what the recipe says",
        found=found,
        wanted="as many bytes as its part has",
        hint="do not use this patch; ask who signed it",
    )
