"""A build station with a warm store: what ``appliance build`` needs to write one bundle, and no network."""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass
from typing import TYPE_CHECKING

from appliance.bundle.known_digests import is_worth_keeping
from appliance.definition.lock import Artefact, Lock, LockedComponent, lock_text
from appliance.definition.names import Inference, Target
from appliance.sources.store import Store

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

DEFINITION = """\
format: 1
product: bench
version: "1"
sequence: 1
target: {distribution: debian, suite: trixie, architecture: amd64, python: "3.13"}
components:
  data: {kind: files, files: [{path: weights.bin, sha256: "%s", licence: CC0-1.0}]}
  engine: {kind: python, requirements: [engine]}
  model: {kind: tiny-gguf, sentence: An answer., licence: CC0-1.0}
inference: {engine: engine, model: model, file: tiny.gguf, name: bench}
""" % ("0" * 64)  # what is built is what the lock says
_PIECE = 16 << 20


@dataclass(frozen=True)
class Station:
    """A definition, its lock, and the store with all that the lock names."""

    folder: Path
    lock: Lock

    @property
    def objects(self) -> Path:
        """The folder with the files of the store, by digest."""
        return self.folder / "store" / "objects"

    def build(self, program: str, out: Path) -> list[str]:
        """The command that builds the bundle."""
        definition, store = self.folder / "bench.yaml", self.folder / "store"
        return [program, "build", str(definition), "--out", str(out), "--store", str(store)]


def make_station(folder: Path, *, long: int, short: int, short_size: int) -> Station:
    """A station whose bundle has one file of ``long`` bytes and ``short`` files of ``short_size`` bytes.

    All bytes are random, a piece of 16 MiB at a time: nothing that finds repetitions finds any, but for
    the long file's pieces, each of which is the first with another beginning in every 4 KiB.
    """
    store = Store(folder / "store")
    data = [_keep(store, folder, "weights.bin", _long(long))] if long else []
    data += [
        _keep(store, folder, f"d{number // 1000:03d}/f{number:06d}", iter([os.urandom(short_size)]))
        for number in range(short)
    ]
    engine = _keep(store, folder, "engine-1-py3-none-any.whl", iter([b"wheel"]))
    model = _keep(store, folder, "tiny.gguf", iter([b"GGUF"]))
    kinds = {"data": ("files", data), "engine": ("python", [engine]), "model": ("tiny-gguf", [model])}
    lock = Lock(
        format=1,
        definition=hashlib.sha256(DEFINITION.encode()).hexdigest(),
        product="bench",
        version="1",
        sequence=1,
        created="2026-01-31T12:00:00Z",
        target=Target(distribution="debian", suite="trixie", architecture="amd64", python="3.13"),
        inference=Inference(engine="engine", model="model", file="tiny.gguf", name="bench"),
        components={
            name: LockedComponent(kind=kind, artefacts=tuple(sorted(each, key=lambda one: one.path)))
            for name, (kind, each) in kinds.items()
        },
    )
    write_definition(folder, lock)
    return Station(folder, lock)


def write_definition(folder: Path, lock: Lock) -> None:
    """Write what ``appliance build`` reads."""
    (folder / "bench.yaml").write_text(DEFINITION)
    (folder / "bench.lock.json").write_text(lock_text(lock))


def _long(size: int) -> Iterator[bytes]:
    piece = bytearray(os.urandom(_PIECE))
    for number in range(-(-size // _PIECE)):
        for start in range(0, _PIECE, 4096):
            piece[start : start + 8] = number.to_bytes(8, "big")
        yield bytes(piece[: size - number * _PIECE])


def _keep(store: Store, folder: Path, path: str, pieces: Iterator[bytes]) -> Artefact:
    """Put a file into the store, hashed once as it is written."""
    digest, size = hashlib.sha256(), 0
    with (folder / "incoming").open("wb") as file:
        for piece in pieces:
            digest.update(piece)
            size += file.write(piece)
    sha256 = digest.hexdigest()
    if is_worth_keeping(size):  # as a fetch that had all but the last step behind it
        (folder / "incoming").rename(store.folder / "partial" / sha256)
        with store.fetch(sha256, size, path):
            pass
    else:  # that would wait for the disk after each of thousands
        store.path(sha256).parent.mkdir(exist_ok=True)
        (folder / "incoming").rename(store.path(sha256))
    return Artefact(
        path=path,
        name=path,
        version="1",
        size=size,
        sha256=sha256,
        licence="CC0-1.0",
        origin={"kind": "file"},
    )
