"""Small files over a human channel: read aloud and typed, or shown as QR codes and scanned.

Made by ``segno``, which is Python alone.  There is nothing to decode pictures here: a phone or ``zbarimg``
does that, and gives the text back.
"""

from __future__ import annotations

import io
import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from appliance.bundle.documents import read_plain
from appliance.bundle.durable import have_folder, replace_file, writing_under
from appliance.errors import Usage
from appliance.trust.spoken import MAX_BYTES, NAME, compact_parts, read_spoken, spoken_lines

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    import segno

#: Capitals and digits that a code of version 13 and level M holds: with its border it is 73 wide.
_TERMINAL_ROOM: Final = 483
#: The same of version 20: a picture of 97 modules, which a phone reads from paper.
_PICTURE_ROOM: Final = 970
#: As typed, with blanks and notes; far more than the largest file gives.
_MAX_TEXT: Final = 1 << 20


@dataclass(frozen=True, slots=True)
class Shown:
    """A file as lines."""

    name: str
    lines: tuple[str, ...]

    def codes(self, room: int = _TERMINAL_ROOM) -> list[segno.QRCode]:
        """QR codes of so many characters at most."""
        import segno

        parts = compact_parts(list(self.lines), room)
        return [segno.make_qr(part, error="m", boost_error=False) for part in parts]


def show(path: Path) -> Shown:
    """The lines of a file.

    Raises:
        Usage: it cannot be read, is too large, or has a name that cannot be shown.
    """
    if not NAME.fullmatch(path.name):
        raise Usage(
            "a file of this name cannot be shown",
            found=ascii(path.name),
            wanted="small letters, digits, dots, hyphens; or SHA256SUMS.HOLDER.sig, SHA384SUMS.HOLDER.sig",
        )
    return Shown(path.name, tuple(spoken_lines(path.name, read_plain(path, MAX_BYTES))))


def terminal_text(shown: Shown) -> str:
    """The file as QR codes for a terminal of 80 columns, each with its number."""
    codes = shown.codes()
    out = io.StringIO()
    for number, code in enumerate(codes, 1):
        out.write(f"{shown.name}: {number} of {len(codes)}\n")
        code.terminal(out, compact=True, border=2)
    return out.getvalue().rstrip("\n")


def write_pictures(shown: Shown, out: Path, kinds: Sequence[str]) -> list[Path]:
    """The file as pictures, ``NAME.1-of-2.png``.

    Args:
        shown: the file.
        out: the folder to write to.
        kinds: ``png``, ``svg``.

    Raises:
        PreflightFailed, SpaceExhausted: they cannot be written.
    """
    codes = shown.codes(_PICTURE_ROOM)
    written = []
    with writing_under(out):
        have_folder(out)
        for number, code in enumerate(codes, 1):
            for kind in kinds:
                picture = io.BytesIO()
                code.save(picture, kind=kind, scale=6)
                path = out / f"{shown.name}.{number}-of-{len(codes)}.{kind}"
                replace_file(path, picture.getvalue())
                written.append(path)
    return written


def read_back(texts: Sequence[str], out: Path) -> Path:
    """Write the file whose lines were typed or scanned.

    Raises:
        TranscriptionFailed: lines are wrong or missing; it says which.
        Usage: another file of the name is there already.
        PreflightFailed, SpaceExhausted: it cannot be written.
    """
    name, data = read_spoken("\n".join(texts))
    path = out / name
    with writing_under(out):
        have_folder(out)
        if os.path.lexists(path) and read_plain(path, MAX_BYTES) != data:
            raise Usage(f"{path} is there already, and another", hint="name another folder with --out")
        replace_file(path, data)
    return path


def read_text(path: Path) -> str:
    """What somebody typed or scanned into a file.

    Raises:
        Usage, FileUnexpected, BundleMalformed: it cannot be read, or is far too long.
    """
    return read_plain(path, _MAX_TEXT).decode("utf-8", "replace")
