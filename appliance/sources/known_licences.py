"""What packages in the store say of their licences: read once, and kept beside them.

To find its copyright file, most of a .deb has to be unpacked, and each lock describes every package.  So
what was found is kept as ``ab12….licence`` beside the package, and believed only if

- it was found by the same rules: the modules that read and judge, the libraries under them, and Python.  So
  a rule that changed is followed at once, and nobody has to think of raising a number;
- it is about this package, by its digest and the name it was looked for under;
- it ends with a digest of itself.

Anything else is as if nothing were known: the package is read again.  ``store check`` forgets all that is
kept, so that nothing stays that nobody can vouch for (docs/decisions/0096).

Written as three lines of ASCII: a JSON list of the title, the rules, the package's SHA-256, its kind and
the name; a JSON list of the licence and of the package whose documentation it shares, null for what there
is not; SHA-256 of the two.
"""

from __future__ import annotations

import hashlib
import inspect
import json
import sys
from functools import cache
from importlib.metadata import version
from typing import TYPE_CHECKING, Final

from appliance.bundle import licences
from appliance.sources import deb_file, wheel_metadata
from appliance.sources.deb_file import Stated
from appliance.sources.store import LICENCE_ENDING

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from appliance.sources.store import Store

_TITLE: Final = "appliance: licence of a package, 1"
#: Libraries that find or judge what is stated.
_LIBRARIES: Final = ("packaging", "python-debian")


def of_deb(store: Store, sha256: str, package: str) -> Stated:
    """What a .deb in the store says (``deb_file.stated``); ``package`` is its name."""
    return _of(store, sha256, ("deb", package), lambda path: deb_file.stated(path, package))


def of_wheel(store: Store, sha256: str) -> str | None:
    """The licence that a wheel in the store states, None if it does not (``wheel_metadata.licence``).

    Raises:
        BundleMalformed: it is no wheel.
    """
    return _of(store, sha256, ("wheel", ""), lambda path: Stated(wheel_metadata.licence(path))).licence


def _of(store: Store, sha256: str, about: tuple[str, str], read: Callable[[Path], Stated]) -> Stated:
    head = _line([_TITLE, _rules(), sha256, *about])
    data = store.known(sha256, LICENCE_ENDING)
    if data is not None and (known := _parsed(data, head)):
        return known
    stated = read(store.path(sha256))
    body = head + _line([stated.licence, stated.shared_with])
    store.keep_known(sha256, body + _seal(body), LICENCE_ENDING)
    return stated


def _parsed(data: bytes, head: bytes) -> Stated | None:
    """What was kept under this head; None if it is damaged, or about something else."""
    body = data[: -len(_seal(b""))]
    if not body.startswith(head) or _seal(body) != data[len(body) :]:
        return None
    try:
        licence, shared_with = json.loads(body[len(head) :])
    except (TypeError, ValueError):
        return None
    if not all(each is None or isinstance(each, str) for each in (licence, shared_with)):
        return None
    return Stated(licence, shared_with)


def _line(values: list[str | None]) -> bytes:
    return json.dumps(values).encode("ascii") + b"\n"


def _seal(body: bytes) -> bytes:
    return hashlib.sha256(body).hexdigest().encode("ascii") + b"\n"


@cache
def _rules() -> str:
    """SHA-256 (hex) of what decides which licence a package states."""
    digest = hashlib.sha256(f"{sys.version_info.major}.{sys.version_info.minor}".encode())
    for library in _LIBRARIES:
        digest.update(f" {library} {version(library)} ".encode())
    for module in (deb_file, wheel_metadata, licences):
        digest.update(inspect.getsource(module).encode())
    return digest.hexdigest()
