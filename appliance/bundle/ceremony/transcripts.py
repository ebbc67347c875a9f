"""Writing down what a ceremony does, while it does it (``appliance.trust.transcript``).

A line is added by replacing the whole file: after a power cut the line is there or not, and never half.
The transcript is checked before anything is done, so that a broken one stops the ceremony first.
"""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import TYPE_CHECKING

from appliance.bundle.documents import read_plain
from appliance.bundle.durable import replace_file
from appliance.bundle.post_quantum_keys import PostQuantumSigner, open_signer
from appliance.errors import TranscriptInvalid, Usage
from appliance.trust.root import HOLDER
from appliance.trust.transcript import (
    CLOSE,
    MAX_BYTES,
    NAMESPACE,
    Entry,
    Transcript,
    entry_bytes,
    line_before,
    line_bytes,
    read_transcript,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from appliance.bundle.signing_keys import SigningKey
    from appliance.trust.root import Root


class Log:
    """A transcript that lines are added to; without a file it takes them and writes nothing."""

    def __init__(self, path: Path | None, signer: SigningKey | None) -> None:
        self._path, self._signer = path, signer
        self._data = b""
        if path is None or not os.path.lexists(path):
            return
        self._data = read_plain(path, MAX_BYTES)
        self._closed = bool(read_transcript(self._data).closed_by)

    _closed = False

    def add(
        self,
        command: str,
        *,
        taken: Iterable[Path] = (),
        made: Iterable[Path] = (),
        holder: str | None = None,
        note: str | None = None,
    ) -> None:
        """Add a line.

        Args:
            command: what was done.
            taken: the files it was done with; never a private key.
            made: the files that came out.
            holder: who did it, as far as that is known.
            note: what people should know besides.

        Raises:
            TranscriptInvalid: the transcript was closed.
            Usage: the holder or the note is misspelled.
            PreflightFailed, SpaceExhausted: it cannot be written.
        """
        if self._path is None:
            return
        if self._closed and command != CLOSE:
            raise TranscriptInvalid(
                f"{self._path} was closed",
                hint="begin another transcript, which may name this one as a file",
            )
        if holder is not None and not HOLDER.fullmatch(holder):
            raise Usage("a holder's name is misspelled", found=ascii(holder), wanted=HOLDER.pattern)
        if note is not None and (not note.isprintable() or not 0 < len(note) <= 4096):  # noqa: PLR2004 - as Record.text
            raise Usage("a note is one line of printable text", found=ascii(note)[:80])
        number = self._data.count(b"\n") + 1
        entry = Entry(
            number, line_before(self._data), command, _digests(taken), _digests(made), holder, note
        )
        signature = self._signer.sign(entry_bytes(entry), NAMESPACE) if self._signer else None
        data = self._data + line_bytes(entry, signature)
        read_transcript(data)  # as everybody who reads it will
        replace_file(self._path, data)
        self._data = data


def begin_log(path: Path | None, signer: SigningKey | PostQuantumSigner | Path | None = None) -> Log:
    """The transcript in ``path``, to go on with or to begin; None for nothing to be written.

    Args:
        path: the file.
        signer: the key that signs the lines, or its file; ML-DSA keys cannot, and leave them unsigned.

    Raises:
        TranscriptInvalid: the file is there, and no sound transcript.
        Usage, SigningFailed, KeyRefused: the key cannot be opened.
    """
    if path is None:
        return Log(None, None)
    opened = open_signer(signer) if isinstance(signer, Path) else signer
    return Log(path, None if isinstance(opened, PostQuantumSigner) else opened)


def close_transcript(path: Path, key: Path, *, holder: str | None, note: str | None) -> Transcript:
    """Close a transcript; nothing but further closings can follow.

    Raises:
        Usage: there is no such file, or the key cannot sign transcripts.
        TranscriptInvalid: it is not sound.
    """
    return _add_signed(path, key, CLOSE, holder=holder, note=note)


def add_note(path: Path, key: Path | None, *, holder: str | None, note: str) -> Transcript:
    """Write down what people should know: who was there, when, where.

    Raises:
        Usage, TranscriptInvalid: as ``close_transcript``.
    """
    return _add_signed(path, key, "note", holder=holder, note=note)


def verify_transcript(path: Path, roots: Sequence[Root] = (), *, may_be_open: bool = False) -> Transcript:
    """Check a transcript.

    Raises:
        Usage: it cannot be read.
        TranscriptInvalid: it was altered, or is open.
    """
    transcript = read_transcript(read_plain(path, MAX_BYTES), roots)
    if not may_be_open:
        transcript.require_closed()
    return transcript


def _add_signed(
    path: Path, key: Path | None, command: str, *, holder: str | None, note: str | None
) -> Transcript:
    signer = open_signer(key) if key is not None else None
    if isinstance(signer, PostQuantumSigner):
        raise Usage("an ML-DSA key signs no transcript", wanted="the SSH key of the same person")
    if command == CLOSE and not path.exists():
        raise Usage(f"there is no transcript {path}")
    Log(path, signer).add(command, holder=holder, note=note)
    return read_transcript(read_plain(path, MAX_BYTES))


def _digests(paths: Iterable[Path]) -> tuple[tuple[str, str], ...]:
    """Names and digests, each once: copies of one file from several sticks are one."""
    return tuple(sorted({(path.name, hashlib.sha256(path.read_bytes()).hexdigest()) for path in paths}))
