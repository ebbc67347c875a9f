"""The erasure code: bytes to symbols, and back from any that are a few more than the lost ones.

RaptorQ as RFC 6330 defines it, with one source block, one sub-block and symbols of ``T`` bytes (a multiple
of 8).  The code is systematic: the first k symbols are the bytes themselves, the last one filled with
zeros, so that without loss nothing is computed.  Why this code: docs/decisions/0048.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import raptorq  # type: ignore[import-untyped] # it has no types

from appliance.export.packet import (
    MAX_SYMBOLS,
    CodedId,
    PacketKind,
    datagrams,
    mark_of,
    repair_symbols,
)
from appliance.export.refusal import RefusedError, Why

if TYPE_CHECKING:
    from collections.abc import Mapping

DEFAULT_PERCENT: Final = 20
#: With 64 source symbols an index has no room for more.
MAX_PERCENT: Final = 300
#: What the library writes before each symbol: number of the source block (0), then that of the symbol.
_ID_BYTES: Final = 4


def code(
    kind: PacketKind,
    node: bytes,
    epoch: int,
    number: int,
    data: bytes,
    *,
    tag_key: bytes,
    percent: int = DEFAULT_PERCENT,
) -> list[bytes]:
    """The datagrams of a block or checkpoint, source symbols first; the same bytes give the same ones.

    Args:
        kind: what it is.
        node: whose, 8 bytes.
        epoch: of the block, or that the checkpoint was made in.
        number: of the block or checkpoint.
        data: 1 to 89,600 bytes.
        tag_key: 32 bytes.
        percent: repair symbols for a hundred source symbols, 0 to 300; there are four at least.
    """
    if not 0 <= percent <= MAX_PERCENT:
        raise ValueError("percent is out of range")
    coded = CodedId(kind, node, epoch, number, mark_of(data), len(data))
    source = coded.source_symbols
    repair = min(repair_symbols(source, percent), MAX_SYMBOLS - source)
    encoder = raptorq.Encoder.with_defaults(data, coded.symbol_bytes)
    found = encoder.get_encoded_packets(repair)
    return datagrams(coded, repair, {index: each[_ID_BYTES:] for index, each in enumerate(found)}, tag_key)


def decode(coded: CodedId, symbols: Mapping[int, bytes]) -> bytes | None:
    """The bytes that these symbols are of; None if more symbols are needed.

    With exactly k symbols, one case in two hundred needs another one.

    Args:
        coded: what they are of.
        symbols: by index, each of ``coded.symbol_bytes`` bytes.

    Raises:
        RefusedError: ``CONTRADICTORY``: what comes out does not have the mark that the headers name.
    """
    source = coded.source_symbols
    if len(symbols) < source:
        return None
    data: bytes | None
    if all(index in symbols for index in range(source)):
        data = b"".join(symbols[index] for index in range(source))[: coded.length]
    else:
        data = _repaired(coded, symbols)
    if data is not None and mark_of(data) != coded.mark:
        raise RefusedError(Why.CONTRADICTORY, f"{coded.kind.name.lower()} {coded.number}")
    return data


def _repaired(coded: CodedId, symbols: Mapping[int, bytes]) -> bytes | None:
    decoder = raptorq.Decoder.with_defaults(coded.length, coded.symbol_bytes)
    for index, symbol in symbols.items():
        if (data := decoder.decode(index.to_bytes(_ID_BYTES, "big") + symbol)) is not None:
            return bytes(data)
    return None
