"""Documents on disk, with the signatures beside them (docs/trust.md, "Documents and signatures").

A folder is opened once and its files by their names in it; nothing follows a link, waits for a pipe, or
reads more than a file of its kind may have.  What is read here is judged by ``appliance.trust``.
"""

from __future__ import annotations

import errno
import os
import stat
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

from appliance.errors import BundleMalformed, FileUnexpected, Usage
from appliance.trust import mldsa, sshsig
from appliance.trust.documents import DOCUMENT, SignedDocument, signatures_beside, signer_in
from appliance.trust.root import MAX_BYTES, MAX_KEYS

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

#: Of two roots, each key once.
_MAX_SIGNATURES: Final = 2 * MAX_KEYS
#: More than a long-lived node collects; a folder of more is something else.
_MAX_NAMES: Final = 10_000
_LIMITS: Final = {"sig": sshsig.MAX_BYTES, "mldsa87": mldsa.SIGNATURE_SIZE}


def read_document(path: Path) -> SignedDocument:
    """A document and all signatures that lie beside it.

    Raises:
        Usage: there is no such file, or it cannot be read.
        FileUnexpected: it or a signature is a link or no plain file, or there are far too many.
        BundleMalformed: it or a signature is too long.
    """
    with _opened(path.parent) as folder:
        return _read_signed(folder, path, _names(folder, path.parent))


def read_folder(path: Path) -> list[tuple[Path, SignedDocument]]:
    """Every document in a folder, by name; other files are passed over.

    Raises:
        Usage, FileUnexpected, BundleMalformed: as ``read_document``.
    """
    with _opened(path) as folder:
        names = _names(folder, path)
        return [
            (path / name, _read_signed(folder, path / name, names))
            for name in names
            if DOCUMENT.fullmatch(name)
        ]


def read_plain(path: Path, limit: int) -> bytes:
    """The bytes of one small file.

    Raises:
        Usage, FileUnexpected, BundleMalformed: as ``read_document``.
    """
    with _opened(path.parent) as folder:
        return _read(folder, path, limit)


def _read_signed(folder: int, path: Path, names: list[str]) -> SignedDocument:
    data = _read(folder, path, MAX_BYTES)
    beside = {name: found[1] for name in names if (found := signer_in(path.name, name)) is not None}
    if len(beside) > _MAX_SIGNATURES:
        raise FileUnexpected(
            f"too many signatures beside {path}",
            found=f"{len(beside):,}",
            wanted=f"at most {_MAX_SIGNATURES}",
        )
    files = {name: _read(folder, path.with_name(name), _LIMITS[kind]) for name, kind in beside.items()}
    return SignedDocument(data, signatures_beside(path.name, files))


@contextmanager
def _opened(folder: Path) -> Iterator[int]:
    try:
        fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as fault:
        raise Usage(f"the folder {folder} cannot be read", found=fault.strerror) from fault
    try:
        yield fd
    finally:
        os.close(fd)


def _names(folder: int, path: Path) -> list[str]:
    names: list[str] = []
    with os.scandir(folder) as entries:
        for entry in entries:
            if len(names) == _MAX_NAMES:
                raise FileUnexpected(
                    f"too many files in {path}",
                    found=f"more than {_MAX_NAMES:,}",
                    wanted="a folder of documents",
                )
            names.append(entry.name)
    return sorted(names)


def _read(folder: int, path: Path, limit: int) -> bytes:
    """A file of the folder by the last part of its path, which is named in messages."""
    try:
        fd = os.open(path.name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=folder)
    except OSError as fault:
        if fault.errno in {errno.ELOOP, errno.ENXIO}:
            raise _not_plain(path, "a link" if fault.errno == errno.ELOOP else "a socket") from fault
        raise Usage(f"{path} cannot be read", found=fault.strerror) from fault
    with os.fdopen(fd, "rb") as file:
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            raise _not_plain(path, "a folder, pipe or device")
        data = file.read(limit + 1)
    if len(data) > limit:
        raise BundleMalformed(f"{path} is too long", wanted=f"at most {limit:,} bytes")
    return data


def _not_plain(path: Path, found: str) -> FileUnexpected:
    return FileUnexpected(
        f"{path} is not a plain file", found=found, wanted="the file itself, copied to this place"
    )
