"""The packets of the export: one symbol of a block or checkpoint in one datagram, never fragmented.

Layout, in network byte order (docs/export.md):

======  =====  ==============================================================
offset  bytes  field
======  =====  ==============================================================
0       2      ``AX``
2       1      version: 1
3       1      kind: 1 block, 2 checkpoint, 3 filling
4       8      node
12      4      epoch
16      8      number of the block, or of the checkpoint within its epoch
24      8      mark: the first 8 bytes of the SHA-256 of what is coded
32      4      length of what is coded, in bytes
36      1      k: source symbols
37      1      m: repair symbols
38      1      index of this symbol: below k a source symbol, from k on a repair symbol
39      1      zero
40      16     tag: BLAKE2b-128 of header and symbol, keyed
56      T      the symbol
56 + T         nothing; or zeros, as many as make 1,456 bytes of the whole
======  =====  ==============================================================

The tag only screens garbage, so that a receiver need not decode it: who can check it can make it.  What is
believed is believed for the signature inside.
"""

from __future__ import annotations

import hashlib
import hmac
import struct
from collections import defaultdict
from dataclasses import dataclass
from enum import IntEnum
from functools import lru_cache
from typing import TYPE_CHECKING, Final, NamedTuple

from appliance.export.refusal import RefusedError, Why

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

MAGIC: Final = b"AX"
VERSION: Final = 1
_BEGIN: Final = MAGIC + bytes((VERSION,))
NODE_BYTES: Final = 8
MARK_BYTES: Final = 8
TAG_BYTES: Final = 16
TAG_KEY_BYTES: Final = 32
#: The payload of an Ethernet frame without the headers of IPv4 and UDP.
MAX_DATAGRAM: Final = 1472
MAX_SYMBOL: Final = 1400
MAX_SOURCE_SYMBOLS: Final = 64
MAX_SYMBOLS: Final = 256  # an index is one byte
#: RFC 6330 codes symbols whose length is a multiple of this.
ALIGNMENT: Final = 8
MAX_CODED: Final = MAX_SOURCE_SYMBOLS * MAX_SYMBOL
#: Of every datagram where the line is always used alike.
EVEN_DATAGRAM: Final = 56 + MAX_SYMBOL

_HEADER: Final = struct.Struct(">2sBB8sIQ8sIBBBB")
HEADER_BYTES: Final = _HEADER.size
_PERSON: Final = b"appliance-packet"
_INDEX: Final = 38
_NODE_END: Final = 4 + NODE_BYTES
_SYMBOL: Final = HEADER_BYTES + TAG_BYTES
#: The end of a header: the index, and a zero.
_ENDS: Final = [bytes((index, 0)) for index in range(MAX_SYMBOLS)]


class PacketKind(IntEnum):
    """What a packet carries a symbol of."""

    BLOCK = 1
    CHECKPOINT = 2
    FILLING = 3  #: of nothing: a line that is always used alike says nothing by its volume


_KINDS: Final = {int(each): each for each in PacketKind}


class CodedId(NamedTuple):
    """Which block or checkpoint a symbol is of; ``length`` in bytes, all else as in the header."""

    kind: PacketKind
    node: bytes
    epoch: int
    number: int
    mark: bytes
    length: int

    @property
    def source_symbols(self) -> int:
        """``k``: as few symbols as its length allows."""
        return -(-self.length // MAX_SYMBOL)

    @property
    def symbol_bytes(self) -> int:
        """``T``: the shortest symbol with which so many hold the length."""
        return _symbol_bytes(self.length)


def _symbol_bytes(length: int) -> int:
    source = -(-length // MAX_SYMBOL)
    return -(-length // (source * ALIGNMENT)) * ALIGNMENT


@dataclass(slots=True)
class Packet:
    """One symbol, and what it is of."""

    coded: CodedId
    repair_symbols: int
    index: int
    symbol: bytes


def repair_symbols(source_symbols: int, percent: int) -> int:
    """``m``: so many percent of the source symbols, and never fewer than four."""
    return max(4, -(-source_symbols * percent // 100))


def mark_of(coded: bytes) -> bytes:
    """The mark of what is coded."""
    return hashlib.sha256(coded).digest()[:MARK_BYTES]


def packet_bytes(packet: Packet, tag_key: bytes) -> bytes:
    """The packet as a datagram."""
    (found,) = datagrams(packet.coded, packet.repair_symbols, {packet.index: packet.symbol}, tag_key)
    return found


def datagrams(coded: CodedId, repair: int, symbols: Mapping[int, bytes], tag_key: bytes) -> list[bytes]:
    """The datagrams of these symbols of one block or checkpoint."""
    begin = _HEADER.pack(
        MAGIC,
        VERSION,
        coded.kind,
        coded.node,
        coded.epoch,
        coded.number,
        coded.mark,
        coded.length,
        coded.source_symbols,
        repair,
        0,
        0,
    )[:-2]
    found, begun = [], _keyed(tag_key).copy()
    begun.update(begin)
    for index, symbol in symbols.items():
        end, digest = _ENDS[index], begun.copy()  # what all have in common was hashed once
        digest.update(end)
        digest.update(symbol)
        found.append(b"".join((begin, end, digest.digest(), symbol)))
    return found


def filling(node: bytes, epoch: int, number: int, tag_key: bytes) -> bytes:
    """A datagram that carries nothing, as long as the longest."""
    coded = CodedId(PacketKind.FILLING, node, epoch, number, bytes(MARK_BYTES), MAX_SYMBOL)
    return packet_bytes(Packet(coded, 0, 0, bytes(MAX_SYMBOL)), tag_key)


def evened(datagram: bytes) -> bytes:
    """The datagram as long as the longest, with zeros behind its symbol."""
    return datagram.ljust(EVEN_DATAGRAM, b"\0")


def node_of(datagram: bytes) -> bytes:
    """The node that a datagram names, before anything of it is believed.

    Raises:
        RefusedError: ``NOT_OURS``.
    """
    if not may_be_ours(datagram):
        raise RefusedError(Why.NOT_OURS, f"{len(datagram)} bytes, or another protocol or version")
    return datagram[4:_NODE_END]


def may_be_ours(datagram: bytes) -> bool:
    """Whether a datagram has the length and the first bytes of a packet."""
    return _SYMBOL < len(datagram) <= MAX_DATAGRAM and datagram.startswith(_BEGIN)


def parse_packet(datagram: bytes, tag_key: bytes) -> Packet:
    """Read a datagram.

    Args:
        datagram: as it came.
        tag_key: of the node that it names.

    Raises:
        RefusedError: ``NOT_OURS``, ``TAG_FORGED``, ``IMPOSSIBLE``.
    """
    node_of(datagram)
    alike = AlikePackets(datagram, tag_key)
    index, symbol = alike.read(datagram)
    return Packet(alike.coded, alike.repair, index, symbol)


def in_groups(datagrams: Iterable[bytes]) -> Iterable[list[bytes]]:
    """Datagrams whose headers differ in the index at most, in groups, each in the order it came in."""
    found: defaultdict[bytes, list[bytes]] = defaultdict(list)
    for each in datagrams:
        found[each[:_INDEX]].append(each)
    return found.values()


class AlikePackets:
    """The packets of one block: their headers differ in the index at most, and so are read once.

    Args:
        datagram: one of them, which may be anyone's (``may_be_ours``).
        tag_key: of the node that it names.
    """

    def __init__(self, datagram: bytes, tag_key: bytes) -> None:
        header = datagram[:HEADER_BYTES]
        self._digest = _keyed(tag_key).copy()
        self._digest.update(header[:_INDEX])
        self._padding = _padding_of(header)
        self._read: tuple[CodedId, int] | RefusedError
        self._symbols = self._size = 0
        #: Whether these are symbols to be collected, by their word; else filling, or impossible.
        self.carry = False
        try:
            coded, repair = self._read = _read_header(header)
        except RefusedError as refused:
            self._read = refused  # which is said of those with the right tag
        else:
            self.carry = coded.kind is not PacketKind.FILLING
            self._symbols, self._size = coded.source_symbols + repair, coded.symbol_bytes

    @property
    def coded(self) -> CodedId:
        """What they are of, by their word.

        Raises:
            RefusedError: ``IMPOSSIBLE``.
        """
        return self._header[0]

    @property
    def repair(self) -> int:
        """How many repair symbols there are, by their word; raises as ``coded`` does."""
        return self._header[1]

    @property
    def _header(self) -> tuple[CodedId, int]:
        if isinstance(self._read, RefusedError):
            raise RefusedError(self._read.why, str(self._read))
        return self._read

    def read(self, datagram: bytes) -> tuple[int, bytes]:
        """The index and the symbol of one of them.

        Raises:
            RefusedError: ``TAG_FORGED``, ``IMPOSSIBLE``.
        """
        symbol = datagram[_SYMBOL:]
        if self._padding and len(datagram) == EVEN_DATAGRAM and symbol.endswith(self._padding):
            symbol = symbol[: -len(self._padding)]
        digest = self._digest.copy()
        digest.update(datagram[_INDEX:HEADER_BYTES])
        digest.update(symbol)
        if not hmac.compare_digest(datagram[HEADER_BYTES:_SYMBOL], digest.digest()):
            raise RefusedError(Why.TAG_FORGED)
        index = datagram[_INDEX]
        if datagram[_INDEX + 1] or len(symbol) != self._size or index >= self._symbols:
            coded, repair = self._header  # if that is what is wrong, it says so itself
            raise RefusedError(
                Why.IMPOSSIBLE,
                f"symbol {index} of {len(symbol)} bytes, not one of {coded.source_symbols} and {repair} of"
                f" {self._size}; or no zero",
            )
        return index, symbol


def _read_header(header: bytes) -> tuple[CodedId, int]:
    _, _, kind, node, epoch, number, mark, length, source, repair, _, _ = _HEADER.unpack(header)
    known = _KINDS.get(kind)
    if known is None or not 0 < length <= MAX_CODED:
        raise RefusedError(Why.IMPOSSIBLE, f"kind {kind}, length {length}")
    coded = CodedId(known, node, epoch, number, mark, length)
    if source != coded.source_symbols:
        raise RefusedError(Why.IMPOSSIBLE, f"k {source} for length {length}")
    if source + repair > MAX_SYMBOLS:
        raise RefusedError(Why.IMPOSSIBLE, f"{source} and {repair} symbols")
    return coded, repair


def _padding_of(header: bytes) -> bytes:
    """The zeros behind the symbol in an even datagram, if the length says that there are some."""
    length = int.from_bytes(header[32:36], "big")
    if not 0 < length <= MAX_CODED:
        return b""
    return bytes(MAX_SYMBOL - _symbol_bytes(length))


@lru_cache(maxsize=1024)
def _keyed(tag_key: bytes) -> hashlib.blake2b:
    """The hash once it has taken the key, which is a block of its own."""
    return hashlib.blake2b(digest_size=TAG_BYTES, key=tag_key, person=_PERSON)
