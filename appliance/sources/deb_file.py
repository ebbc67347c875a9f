"""What a .deb says about itself: its control fields and its licence."""

from __future__ import annotations

import logging
import posixpath
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path
    from tarfile import TarFile

    from debian.copyright import License

SEE_FILE: Final = "see copyright file"
"""Licence of a package whose copyright file is prose for people, or lies in no package that is here."""

_DOCUMENTATION: Final = "usr/share/doc"
#: Where Debian keeps the texts that copyright files need not repeat (Policy, 12.5).
_COMMON: Final = re.compile(r"/usr/share/common-licenses/([A-Z][A-Za-z]*(?:-[0-9]+(?:\.[0-9]+)*)?)")
_MOST_LINKS: Final = 8


@dataclass(frozen=True)
class Stated:
    """What one package says: its licence, or the package whose documentation it shares; or neither."""

    licence: str | None = None
    shared_with: str | None = None


def index_entry(path: Path, file: str, sha256: str, size: int) -> str:
    """The package's paragraph of a ``Packages`` index (Debian repository format, "Packages").

    That is the control file as its maintainer wrote it, and where the file is, its size in bytes and
    its digest; the .deb alone determines it.
    """
    from debian.debfile import DebFile

    with path.open("rb") as opened:
        control = DebFile(fileobj=opened).control.get_content("control", encoding="utf-8") or ""
    return f"{control.rstrip()}\nFilename: ./{file}\nSize: {size}\nSHA256: {sha256}\n"


def licences(found: Mapping[str, Stated]) -> dict[str, str]:
    """The licences of packages that may share their documentation, by package; ``SEE_FILE`` for none.

    A package may share that of another which it depends on (Policy, 12.3).

    Args:
        found: what each says, by package; where links may lead.
    """

    def named(package: str) -> str:
        for _ in range(_MOST_LINKS):
            file = found.get(package, Stated())
            if file.shared_with is None:
                break
            package = file.shared_with
        return found.get(package, Stated()).licence or SEE_FILE

    return {package: named(package) for package in found}


def stated(path: Path, package: str) -> Stated:
    """What a .deb's copyright file says; its folder, or the file in it, may be a link to another's.

    Args:
        path: the .deb.
        package: its name.
    """
    from debian.debfile import DebFile

    folder = f"{_DOCUMENTATION}/{package}"
    with path.open("rb") as opened:
        data: TarFile = DebFile(fileobj=opened).data.tgz()
        for member in data:
            name = posixpath.normpath(member.name)
            if name not in {folder, f"{folder}/copyright"}:
                continue
            if member.issym():
                target = posixpath.normpath(posixpath.join(posixpath.dirname(name), member.linkname))
                return Stated(shared_with=_owner(target))
            if member.isfile() and (content := data.extractfile(member)):
                return Stated(_named(content.read().decode(errors="replace")))
    return Stated()


def _owner(target: str) -> str | None:
    """The package whose documentation a link leads to."""
    match = re.fullmatch(rf"/?{_DOCUMENTATION}/([^/]+)(?:/copyright)?", target)
    return match[1] if match else None


def _named(text: str) -> str:
    """The licences a machine-readable copyright file names; what prose refers to, said as that.

    Debian's short names (DEP-5), sorted, joined by AND: what is in the package is under all of them.
    """
    from debian.copyright import Copyright, MachineReadableFormatError, NotMachineReadableError

    logging.getLogger("debian.copyright").setLevel(logging.ERROR)  # it warns about other people's spelling
    try:
        copyrights = Copyright(text.splitlines(keepends=True), strict=False)
    except (NotMachineReadableError, MachineReadableFormatError, ValueError):
        return _referred_to(text)
    names: set[str] = set()
    for paragraph in copyrights.all_files_paragraphs():
        named: License | None = paragraph.license  # type: ignore[assignment]  # a descriptor, left untyped
        synopsis = named.synopsis.strip() if named else ""
        names.update([f"({synopsis})"] if " or " in synopsis.lower() else synopsis.split(" and "))
    return " AND ".join(sorted(names - {""})) or _referred_to(text)


def _referred_to(text: str) -> str:
    """``SEE_FILE``, and which common texts the prose refers to: a hint where to look, no verdict.

    Whether "or later" belongs to a reference, and what else the file says, takes a person to read.
    """
    texts = sorted(set(_COMMON.findall(text)))
    return f"{SEE_FILE}, which refers to {', '.join(texts)}" if texts else SEE_FILE
