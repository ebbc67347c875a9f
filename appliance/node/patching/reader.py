"""Bytes of the copy of a bundle that lies on a node; the node's half is ``remote/read_copy.py``."""

from __future__ import annotations

import json
import subprocess
from contextlib import contextmanager
from threading import Timer
from typing import TYPE_CHECKING, Any, Final

from appliance.errors import DigestMismatch, FileMissing, NodeUnreachable
from appliance.node.script import load_script, start_command
from appliance.node.transfer import STAGED

if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Self

    from appliance.node.connection import Connection

#: Bytes that are asked for at once.
PIECE: Final = 8 << 20
#: Bytes of an answer's line at the most: the names in one folder.
LINE: Final = 16 << 20
#: Seconds for one answer, at which a line of 70 kB/s is still fast enough.
PATIENCE: Final = 120.0


class CopyReader:
    """A conversation with one node; to be used in a ``with`` statement, by one thread.

    Args:
        connection: to the node.
        bundle: the digest of the bundle whose copy is read.
        home: where copies lie there.
    """

    def __init__(self, connection: Connection, bundle: str, *, home: str = STAGED) -> None:
        self.node = connection.node.name
        self._connection, self._first = connection, {"home": home, "bundle": bundle}
        self._process: subprocess.Popen[bytes] | None = None
        self._is_ready = False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def start(self) -> None:
        """Begin the conversation, if it was not, and wait for nothing: the first question need not then."""
        if self._process is not None:
            return
        script = load_script("read_copy")
        self._is_ready = False
        self._process = subprocess.Popen(
            self._connection.argv(start_command(script, "read_copy")),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        self._say(script + json.dumps(self._first).encode() + b"\n")

    def names(self, folder: str) -> list[str]:
        """The names in a folder of the copy, sorted.

        Raises:
            FileMissing: it is not there.
            NodeUnreachable: the connection broke.
        """
        with self._in_time():
            found = self._ask({"names": folder})["names"]
        if not isinstance(found, list):
            raise self._broken()
        return [str(name) for name in found]

    def read(self, path: str, at: int, length: int) -> bytes:
        """These bytes of a file.

        Raises:
            FileMissing: it is not there, or cannot be read.
            DigestMismatch: it is shorter.
            NodeUnreachable: the connection broke.
        """
        data = b"".join(
            self._some(path, at + done, min(PIECE, length - done)) for done in range(0, length, PIECE)
        )
        if len(data) != length:
            raise DigestMismatch(
                f"{self.node}: {path} of the installed bundle is shorter than it should be",
                found=f"{at + len(data):,} bytes",
                wanted=f"at least {at + length:,} bytes",
                hint="ask the node again: appliance status --recheck",
            )
        return data

    def whole(self, path: str, limit: int) -> bytes:
        """A small file.

        Raises:
            DigestMismatch: it has more than ``limit`` bytes.
            FileMissing, NodeUnreachable: as ``read``.
        """
        data = b""
        while piece := self._some(path, len(data), PIECE):
            data += piece
            if len(data) > limit:
                raise DigestMismatch(
                    f"{self.node}: {path} is too large",
                    found=f"more than {limit:,} bytes",
                    wanted="the file that was staged",
                    hint="ask the node again: appliance status --recheck",
                )
            if len(piece) < PIECE:
                break
        return data

    def close(self) -> None:
        """End the conversation."""
        process, self._process = self._process, None
        if process is None:
            return
        process.terminate()
        process.communicate()

    def _some(self, path: str, at: int, length: int) -> bytes:
        with self._in_time():
            size = self._ask({"read": path, "at": at, "length": length})["size"]
            if not isinstance(size, int) or not 0 <= size <= length:
                raise self._broken()
            data: bytes = self._stdout().read(size)
            if len(data) != size:
                raise self._broken()
        return data

    @contextmanager
    def _in_time(self) -> Iterator[None]:
        """End the conversation with a node that does not answer."""

        def end() -> None:
            if process := self._process:
                process.kill()

        timer = Timer(PATIENCE, end)
        timer.daemon = True
        timer.start()
        try:
            yield
        finally:
            timer.cancel()

    def _ask(self, asked: dict[str, Any]) -> dict[str, Any]:
        self.start()
        if not self._is_ready:
            self._hear("ready")
            self._is_ready = True
        self._say(json.dumps(asked).encode() + b"\n")
        answer = self._hear("names" if "names" in asked else "size")
        if "error" in answer:
            path = asked.get("read", asked.get("names"))
            raise FileMissing(
                f"{self.node}: {path} of the installed bundle cannot be read",
                found=str(answer["error"]),
                wanted="the file that was staged",
                hint="ask the node what it holds: appliance status --recheck",
            )
        return answer

    def _say(self, data: bytes) -> None:
        if self._process is None or self._process.stdin is None:
            raise RuntimeError("the conversation was not begun")
        try:
            self._process.stdin.write(data)
            self._process.stdin.flush()
        except BrokenPipeError:
            raise self._broken() from None

    def _hear(self, key: str) -> dict[str, Any]:
        """The next line that says this, or an error."""
        for line in iter(lambda: self._stdout().readline(LINE), b""):
            if len(line) == LINE:
                break
            try:
                found = json.loads(line)
            except ValueError:
                continue  # a login message of the node's shell
            if isinstance(found, dict) and (key in found or "error" in found):
                return found
        raise self._broken()

    def _stdout(self) -> Any:
        if self._process is None or self._process.stdout is None:
            raise RuntimeError("the conversation was not begun")
        return self._process.stdout

    def _broken(self) -> NodeUnreachable:
        process, self._process = self._process, None
        told = b""
        if process is not None:
            process.terminate()
            _, told = process.communicate()
        return NodeUnreachable(
            f"the connection to {self.node} broke while its copy was read",
            found=told.decode(errors="replace").strip()[-300:] or "nothing more was said",
            wanted="a connection",
            hint="run the same command again; what runs was not touched",
        )
