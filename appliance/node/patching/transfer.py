"""A bundle onto a node that has another one: what is the same stays there, what is new travels.

The node's Python need not know zstd: frames are unpacked here.  Where one looks back to bytes of the base,
these are read from the node first, so that a changed stretch travels twice over the wire, and never over
the medium (decision 76).
"""

from __future__ import annotations

import contextlib
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from appliance.bundle.opening import opened_again
from appliance.bundle.patch.holdings import open_bundle, whole_files
from appliance.bundle.patch.making import BLOCKS_PATH, is_payload
from appliance.bundle.patch.packing import unpack
from appliance.bundle.patch.whole import WholeFile
from appliance.bundle.paths import whole_path
from appliance.bundle.tree import Tree
from appliance.errors import RecipeInvalid
from appliance.node.patching.reader import CopyReader
from appliance.node.transfer import CHUNK, Transfer, base_changed

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from pathlib import Path

    from appliance.bundle.opening import BundleTree
    from appliance.bundle.patch.recipe import Part, Range
    from appliance.node.connection import Connection
    from appliance.node.patching.parts import FileParts
    from appliance.node.patching.target import Target
    from appliance.node.transfer import SendFile
    from appliance.progress import Progress

_OTHERWISE: Final = "made of it, a file came out otherwise than it was signed"


@dataclass
class PatchTransfer(Transfer):
    """A receiver that makes a copy of another one."""

    target: Target | None = None
    patch: Sequence[Path] = field(default_factory=tuple)
    home: str = ""

    @contextlib.contextmanager
    def _reading(self) -> Iterator[SendFile]:
        target = self._target()
        with contextlib.ExitStack() as stack:
            documents: BundleTree = stack.enter_context(Tree(target.documents))
            tree = stack.enter_context(opened_again(self.patch)) if self.patch else documents
            reader = stack.enter_context(CopyReader(self.connection, target.base, home=self.home))
            if any(each.reads_prefixes for each in self._wanted_parts()):
                reader.start()  # it is there when the first frame wants it
            blocks: WholeFile | None = None
            if self.patch and (file := whole_files(open_bundle(tree)).get(BLOCKS_PATH)):
                blocks = stack.enter_context(WholeFile(tree, file.path, file.parts))

            def send(index: int, offset: int, progress: Progress) -> None:
                path = self.files[index].path
                if self.files[index].same:
                    raise base_changed(self.connection.node.name, self.files[index].same, "other bytes")
                if parts := target.parts.get(path):
                    partly = partial(self._part, blocks=blocks, reader=reader)
                    self._send_parts(index, offset, parts, parts.start, partly, progress)
                else:
                    self._send_file(tree if is_payload(path) else documents, index, offset, progress)

            yield send

    def _wanted_parts(self) -> Iterator[FileParts]:
        parts = self._target().parts
        return (parts[path] for index, _ in self.want if (path := self.files[index].path) in parts)

    def _target(self) -> Target:
        if self.target is None:
            raise RuntimeError("a transfer of a patch was begun without a target")
        return self.target

    def _send_parts(  # noqa: PLR0917 - a file, where its parts are, and who is told
        self,
        index: int,
        offset: int,
        parts: Iterable[Part],
        start: int,
        partly: Any,
        progress: Progress,
    ) -> None:
        """Say of each stretch from ``offset`` on what it is, and send what is new."""
        self._frame({"do": "file", "index": index, "offset": offset, "parts": True})
        position, used = 0, start
        for part in parts:
            skip = max(0, offset - position)
            if skip < part.length:
                partly(part, used, skip)
                progress.advance(part.length - skip)
            position, used = position + part.length, used + part.packed

    def _part(
        self, part: Part, used: int, skip: int, *, blocks: WholeFile | None, reader: CopyReader
    ) -> None:
        """One part, but its first ``skip`` bytes; it begins at byte ``used`` of the blocks."""
        source = part.source
        if source is not None and not part.compressed:
            path = self._target().bases[source.base]
            self._frame({"copy": [path, source.offset + skip, part.length - skip]})
            return
        if blocks is None:
            raise ValueError("a recipe without blocks makes nothing new")
        if not part.compressed:
            self._frame({"new": part.length - skip})
            for at in range(skip, part.length, CHUNK):
                self._write(blocks.read(used + at, min(CHUNK, part.length - at)))
            return
        frame = blocks.read(used, part.packed)
        if source is None:
            self._new(unpack(frame, part.length)[skip:])
            return
        path = self._target().bases[source.base]
        prefix = b"".join(self._pieces(reader, path, source))
        try:
            data = unpack(frame, part.length, prefix)
        except RecipeInvalid as fault:
            raise base_changed(self.connection.node.name, path, _OTHERWISE) from fault
        self._new(data[skip:])

    def _new(self, data: bytes) -> None:
        self._frame({"new": len(data)})
        self._write(data)

    def _pieces(self, reader: CopyReader, path: str, source: Range) -> Iterator[bytes]:
        """Bytes of the base; the receiver, which waits for half a minute, hears that they come slowly."""
        for at in range(0, source.length, CHUNK):
            self._frame({"new": 0})
            yield reader.read(path, source.offset + at, min(CHUNK, source.length - at))

    def _raise(self, line: dict[str, Any]) -> None:
        """What the node says of a file that was made of the base is most likely the base's fault."""
        if line["error"] == "altered":
            path = whole_path(line["path"])  # a slice's digest is compared before the file's
            if path in self._target().parts:
                raise base_changed(self.connection.node.name, f"what {path} is made of", _OTHERWISE)
        super()._raise(line)


def begin_transfer(
    connection: Connection,
    target: Target,
    patch: Sequence[Path],
    *,
    home: str,
    progress: Progress,
    recheck: bool = False,
) -> PatchTransfer:
    """Have a node share what its copy of the base has, and hear what it lacks.

    Raises:
        as ``Transfer.begin``.
    """
    transfer = PatchTransfer.begin(
        connection,
        target.documents,
        target.bundle.digest,
        target.files,
        progress=progress,
        home=home,
        recheck=recheck,
        beside={"base": target.base, "without": list(target.without)},
    )
    transfer.target, transfer.patch, transfer.home = target, tuple(patch), home
    return transfer
