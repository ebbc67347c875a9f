"""The files of a component of a very large manifest: read from it again whenever they are asked for.

Two hundred thousand of them would not fit the memory a verifier may take.  Where their records stand,
``appliance.bundle.large_manifest`` found out, which also judged each: here they are only read.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import TYPE_CHECKING, overload

from appliance.bundle.manifest import ListedFile, PayloadFile

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

    from appliance.bundle.large_manifest import Spelled


@dataclass(frozen=True, slots=True)
class Run:
    """Records one after another in one piece."""

    piece: int
    start: int
    end: int
    count: int


class FilesOnMedium(Sequence[PayloadFile]):
    """The files of a component, read again from the manifest whenever they are asked for.

    Args:
        pieces: the manifest.
        runs: where the records of the files are.
        origin_keys: all keys of origins in the manifest.
    """

    def __init__(self, pieces: Spelled, runs: Sequence[Run], origin_keys: Collection[str]) -> None:
        self._pieces = pieces
        self._runs = runs
        self._origin_keys = frozenset(origin_keys)
        self._before = [0, *accumulate(run.count for run in runs)]

    def __len__(self) -> int:
        return self._before[-1]

    def __iter__(self) -> Iterator[PayloadFile]:
        for run in self._runs:
            yield from self._read(run)

    @overload
    def __getitem__(self, number: int) -> PayloadFile: ...
    @overload
    def __getitem__(self, number: slice) -> list[PayloadFile]: ...
    def __getitem__(self, number: int | slice) -> PayloadFile | list[PayloadFile]:
        if isinstance(number, slice):
            return list(self)[number]
        number = range(len(self))[number]
        found = next(each for each, before in enumerate(self._before[1:]) if number < before)
        return self._read(self._runs[found])[number - self._before[found]]

    def with_origin(self, keys: Collection[str]) -> Iterator[PayloadFile]:
        """Those whose origin has one of ``keys``; nothing is read again if no origin has any."""
        if self._origin_keys.isdisjoint(keys):
            return
        marks = [f'"{key}":'.encode() for key in keys]  # in a text, the quotes would be escaped
        for run in self._runs:
            records = self._pieces[run.piece][run.start : run.end]
            if any(mark in records for mark in marks):
                yield from (file for file in _payload_files(records) if file.origin.keys() & keys)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Sequence) or len(self) != len(other):
            return NotImplemented
        return all(one == another for one, another in zip(self, other, strict=True))

    __hash__ = None  # type: ignore[assignment] # like any sequence that is compared by its items

    def _read(self, run: Run) -> list[PayloadFile]:
        return _payload_files(self._pieces[run.piece][run.start : run.end])


def _payload_files(records: bytes) -> list[PayloadFile]:
    return [_payload_file(values) for values in json.loads(b"[" + records + b"]")]


def _payload_file(values: dict[str, object]) -> PayloadFile:
    slices = values.pop("slices", [])
    parts = tuple(ListedFile(**part) for part in slices)  # type: ignore[attr-defined] # JSON, checked before
    return PayloadFile(**values, slices=parts)  # type: ignore[arg-type] # likewise
