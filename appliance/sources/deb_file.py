"""What a .deb says about itself: its control fields and its licence."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from pathlib import Path

    from debian.copyright import License

SEE_FILE: Final = "see copyright file"
"""Licence of a package whose copyright file is prose for people, or lies in another package."""


def index_entry(path: Path, file: str, sha256: str, size: int) -> str:
    """The package's paragraph of a ``Packages`` index (Debian repository format, "Packages").

    That is the control file as its maintainer wrote it, and where the file is, its size in bytes and
    its digest; the .deb alone determines it.
    """
    from debian.debfile import DebFile

    with path.open("rb") as opened:
        control = DebFile(fileobj=opened).control.get_content("control", encoding="utf-8") or ""
    return f"{control.rstrip()}\nFilename: ./{file}\nSize: {size}\nSHA256: {sha256}\n"


def licence(path: Path, package: str) -> str:
    """The licences named in the package's own machine-readable copyright file, or ``SEE_FILE``.

    Debian's short names (DEP-5), sorted, joined by AND: what is in the package is under all of them.
    """
    from debian.copyright import Copyright, MachineReadableFormatError, NotMachineReadableError
    from debian.debfile import DebFile

    logging.getLogger("debian.copyright").setLevel(logging.ERROR)  # it warns about other people's spelling
    with path.open("rb") as opened:
        data = DebFile(fileobj=opened).data.tgz()
        wanted = f"./usr/share/doc/{package}/copyright"
        text = None
        for member in data:
            if member.name == wanted and member.isfile():
                content = data.extractfile(member)
                text = content.read().decode(errors="replace") if content else None
                break
    if text is None:
        return SEE_FILE
    try:
        copyrights = Copyright(text.splitlines(keepends=True), strict=False)
    except (NotMachineReadableError, MachineReadableFormatError, ValueError):
        return SEE_FILE
    names: set[str] = set()
    for paragraph in copyrights.all_files_paragraphs():
        named: License | None = paragraph.license  # type: ignore[assignment]  # a descriptor, left untyped
        synopsis = named.synopsis.strip() if named else ""
        names.update([f"({synopsis})"] if " or " in synopsis.lower() else synopsis.split(" and "))
    return " AND ".join(sorted(names - {""})) or SEE_FILE
