"""One conversation with the receiver on a node (``remote/receive.py``): what it lacks, and sending that.

The bundle is read once, and hashed while it is read: if it differs from what was verified a moment ago,
that is the station's fault and said so; if the node wrote something else than was sent, that is the
node's.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import queue
import subprocess
import threading
from dataclasses import dataclass, field
from functools import partial
from typing import IO, TYPE_CHECKING, Any, Final

from appliance.bundle.opening import opened_again
from appliance.errors import (
    BundleMalformed,
    DigestMismatch,
    FileMissing,
    InProgress,
    NodeUnreachable,
    PreflightFailed,
    SpaceExhausted,
)
from appliance.node.connection import SSH_FAILED
from appliance.node.script import NO_PYTHON, load_script, start_command

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from pathlib import Path
    from typing import Self

    from appliance.bundle.opening import BundleTree
    from appliance.node.connection import Connection
    from appliance.node.sent import SentFile, SentSlice
    from appliance.progress import Progress

    SendFile = Callable[[int, int, Progress], None]

#: Where copies lie on a node.
STAGED: Final = "/var/lib/appliance/staged"
CHUNK: Final = 1 << 20
#: Files that are described to a receiver at once.
DESCRIBED: Final = 1000
#: Longer than a receiver waits for a station that has gone silent (``IDLE_SECONDS`` there).
PATIENCE_SECONDS: Final = 35.0


@dataclass
class Transfer:
    """A receiver running on a node.  ``want`` holds (index into ``files``, offset to go on from)."""

    connection: Connection
    folders: Path | Sequence[Path]
    digest: str
    files: Sequence[SentFile]
    process: subprocess.Popen[bytes]
    want: list[tuple[int, int]] = field(default_factory=list)
    size: int = 0
    removed: list[str] = field(default_factory=list)
    _said: queue.Queue[dict[str, Any] | None] = field(default_factory=queue.Queue)

    @classmethod
    def begin(
        cls,
        connection: Connection,
        folders: Path | Sequence[Path],
        digest: str,
        files: Sequence[SentFile],
        *,
        progress: Progress,
        home: str = STAGED,
        recheck: bool = False,
        patience: float = PATIENCE_SECONDS,
        beside: Mapping[str, object] | None = None,
    ) -> Self:
        """Start a receiver and hear what it lacks.

        Args:
            connection: the node.
            folders: where the bundle lies.
            digest: its identity.
            files: all its files.
            progress: told of what takes time.
            home: the folder for copies on the node.
            recheck: hash everything again, even what looks untouched.
            patience: seconds to wait for another receiver on the node to end.
            beside: what the receiver is told of the copy that this one is made of.

        Raises:
            SpaceExhausted: it would not fit.
            InProgress: another station is copying to this node.
            NodeUnreachable: the connection could not be made, or broke.
        """
        script = load_script("receive", "hashing_lanes", "staged_copy", "patched_copy")
        process = subprocess.Popen(
            connection.argv(start_command(script, "receive")),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            pipesize=CHUNK,
        )
        transfer = cls(connection, folders, digest, files, process)
        threading.Thread(target=transfer._listen, daemon=True).start()
        try:
            transfer._write(script)
            begin = {"home": home, "digest": digest, "recheck": recheck, "patience": patience}
            transfer._frame(
                {"do": "begin", **begin, **(beside or {}), "size": sum(map(len, _described(files)))}
            )
            for part in _described(files):
                transfer._write(part)
            answer = transfer._hear("want", progress)
        except BaseException:
            transfer.abandon()
            raise
        transfer.want = [(index, offset) for index, offset in answer["want"]]
        transfer.size, transfer.removed = answer["bytes"], answer["removed"]
        return transfer

    def send(self, progress: Progress) -> None:
        """Send what is wanted and wait until the copy is complete.

        Raises:
            DigestMismatch: the bundle changed since it was verified, or the node wrote something else.
            MediumFailed: it was pulled; what arrived is kept.
            BundleMalformed: slices that are all right do not join to the file that was signed.
            SpaceExhausted: the node's disk is full.
            NodeUnreachable: the connection broke; what arrived is kept.
        """
        try:
            with self._reading() as send_file:
                for index, offset in self.want:
                    send_file(index, offset, progress)
                    self._hear("done", progress)
                    progress.item(f"{self.connection.node.name}: {self.files[index].path}")
            self._frame({"do": "end"})
            self._hear("complete", progress)
            self._write(None)
            self.process.wait(timeout=30)
        finally:
            self.abandon()

    @contextlib.contextmanager
    def _reading(self) -> Iterator[SendFile]:
        """What sends one file, by its index and where to go on; the bundle is open meanwhile."""
        with opened_again(self.folders) as tree:
            yield partial(self._send_file, tree)

    def abandon(self) -> None:
        """End the conversation, wherever it is; the node keeps what it has."""
        if self.process.poll() is None:
            self.process.terminate()
            self.process.wait()
        for stream in (self.process.stdin, self.process.stderr):
            if stream and not stream.closed:
                try:
                    stream.close()
                except BrokenPipeError:
                    continue  # what was still buffered has nowhere to go

    def _send_file(self, tree: BundleTree, index: int, offset: int, progress: Progress) -> None:
        file = self.files[index]
        self._frame({"do": "file", "index": index, "offset": offset, "size": file.size - offset})
        start = 0
        for piece in file.slices or (file,):
            if start + piece.size > offset:  # what ends before has arrived, and is hashed where it lies
                self._send_piece(tree, piece, max(0, offset - start), progress)
            start += piece.size

    def _send_piece(
        self, tree: BundleTree, piece: SentFile | SentSlice, offset: int, progress: Progress
    ) -> None:
        """Hash a file of the bundle and send it from ``offset`` on."""
        whole = hashlib.sha256()
        position = 0
        with contextlib.ExitStack() as stack:
            with _medium(piece.path):
                source = stack.enter_context(tree.open(piece.path))
            while position < piece.size:
                limit = offset if position < offset else piece.size
                with _medium(piece.path):
                    data = os.read(source, min(CHUNK, limit - position))
                if not data:
                    break
                whole.update(data)
                if position >= offset:
                    self._write(data)
                    progress.advance(len(data))
                position += len(data)
        if whole.hexdigest() != piece.sha256:
            raise DigestMismatch(
                f"{tree.place(piece.path)} changed on this station after it was verified",
                found=whole.hexdigest(),
                wanted=piece.sha256,
                hint="check the medium and run the same command again; the node keeps nothing of it",
            )

    def _frame(self, message: dict[str, object]) -> None:
        head = json.dumps(message).encode()
        self._write(len(head).to_bytes(4, "big") + head)

    def _write(self, data: bytes | None) -> None:
        """Write and flush, or close with None; on a broken pipe, hear why from the receiver."""
        stream = self.process.stdin
        if stream is None:
            raise RuntimeError("the receiver was started with a pipe")
        try:
            if data is None:
                stream.close()
            else:
                stream.write(data)
                stream.flush()
        except BrokenPipeError:
            self._hear("nothing", None)

    def _listen(self) -> None:
        stream = self.process.stdout
        if stream is None:
            raise RuntimeError("the receiver was started with a pipe")
        with stream:
            for line in stream:
                try:
                    self._said.put(json.loads(line))
                except ValueError:
                    continue  # a login message of the node's shell
        self._said.put(None)

    def _hear(self, key: str, progress: Progress | None) -> dict[str, Any]:
        """The next line that has ``key``."""
        while (line := self._said.get()) is not None:
            if "error" in line:
                self._raise(line)
            if "note" in line and progress:
                progress.note(f"{self.connection.node.name}: {line['note']}")
            if key in line:
                return line
        raise self._broken()

    def _raise(self, line: dict[str, Any]) -> None:
        name = self.connection.node.name
        match line["error"]:
            case "space":
                needed = f"{line['needed'] / 1e6:,.1f} MB" if line["needed"] else "more than there was"
                raise SpaceExhausted(
                    f"the disk of {name} is too small for the bundle",
                    found=f"{line['free'] / 1e6:,.1f} MB free",
                    wanted=needed,
                    hint=f"make room below {STAGED} on the node and run the same command again",
                )
            case "busy":
                raise InProgress(
                    f"another station is copying to {name}",
                    found="the receiver's lock is held",
                    wanted="one copy at a time",
                    hint="wait for the other run to end",
                )
            case "base":
                raise base_changed(name, line["path"], line["found"])
            case "altered":
                raise DigestMismatch(
                    f"{name} wrote something else than it was sent: {line['path']}",
                    found=line["found"],
                    wanted="the digest that was signed",
                    hint="suspect the node's memory or disk; run again to send the damaged blocks",
                )
            case "unjoined":
                raise BundleMalformed(
                    f"the slices of {line['path']} do not join to the file that was signed",
                    found=line["found"],
                    wanted=line["wanted"],
                    hint="obtain the bundle again; its builder made a mistake",
                )
        raise PreflightFailed(
            f"{name} could not make the copy",
            found=str(line.get("text")),
            wanted="a disk that can be read and written",
        )

    def _broken(self) -> Exception:
        status = self.process.wait()
        errors: IO[bytes] | None = self.process.stderr
        text = errors.read().decode(errors="replace").strip()[-500:] if errors and not errors.closed else ""
        name = self.connection.node.name
        if status == NO_PYTHON:
            return PreflightFailed(
                f"{name} has no python3", found="none", wanted="python3", hint="install it from its medium"
            )
        return NodeUnreachable(
            f"the connection to {name} broke while copying"
            if status == SSH_FAILED
            else f"the copy to {name} was cut off",
            found=text or f"exit status {status}",
            wanted="an unbroken connection",
            hint="run the same command again: it goes on behind the last 4 MiB block that arrived",
        )


def base_changed(node: str, path: str, found: str) -> DigestMismatch:
    """The error for a file of the base that was changed after it was asked for."""
    return DigestMismatch(
        f"{node}: of the installed bundle, {path} is not what it was when the node was asked",
        found=found,
        wanted="the file that the patch starts from",
        hint="find out who changes it; then: appliance status --recheck. What runs was not touched",
    )


def _described(files: Sequence[SentFile]) -> Iterator[bytes]:
    """The JSON list of the files, in parts: that of 200,000 is 60 MB, and goes to several nodes at once."""
    for first in range(0, len(files), DESCRIBED):
        part = json.dumps([file.as_dict() for file in files[first : first + DESCRIBED]])
        yield (("," if first else "[") + part[1:-1]).encode()
    yield b"]" if files else b"[]"


@contextlib.contextmanager
def _medium(path: str) -> Iterator[None]:
    """Say of a file that can no longer be read that the medium went, not that the program failed."""
    try:
        yield
    except (OSError, FileMissing, DigestMismatch) as fault:
        raise FileMissing(
            f"{path} can no longer be read, although it was verified",
            found=(fault.strerror or str(fault)) if isinstance(fault, OSError) else fault.message,
            wanted="the medium, in its place until the copy is complete",
            hint="put the medium back and run the same command again: it goes on where it stopped",
        ) from fault
