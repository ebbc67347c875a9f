"""Where sender and receiver keep what is theirs: names of files, and reading and founding them.

A sender's folder holds ``identity.json`` (secret), ``NAME.sender.json`` (for receivers), ``spool/`` and
``status.json``; it is there whole or not at all.  A receiver's holds ``status.json`` and a folder per node;
both have ``metrics.prom``.
"""

from __future__ import annotations

import json
import os
import secrets
import shutil
from typing import TYPE_CHECKING, Any, Final

from appliance.bundle.durable import replace_file, sync_folder, writing_under
from appliance.errors import ExportIdentityInvalid, Usage
from appliance.export.identity import (
    MAX_BYTES,
    Identity,
    Sender,
    new_identity,
    parse_identity,
    parse_sender,
)
from appliance.export.metrics import metrics_text
from appliance.export.spool import MIN_LIMIT, Spool

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

IDENTITY: Final = "identity.json"
SPOOL: Final = "spool"
STATUS: Final = "status.json"
METRICS: Final = "metrics.prom"
_SECRET: Final = 0o600
_ENTROPY: Final = 72


def found_sender(folder: Path, name: str) -> Identity:
    """Make a sender's folder with new keys and an empty spool.

    Raises:
        Usage: something is there already.
        ExportIdentityInvalid: the name is none.
    """
    if folder.exists():
        raise Usage(f"{folder} is there already", hint="a node has one identity; choose another folder")
    identity = new_identity(name, secrets.token_bytes(_ENTROPY))
    partial = folder.with_name(f".{folder.name}.{secrets.token_hex(4)}")
    with writing_under(folder.parent):
        try:
            partial.mkdir(mode=0o700)
            (partial / SPOOL).mkdir(mode=0o700)
            Spool(str(partial / SPOOL), identity.sender, limit=MIN_LIMIT, new=True).close()
            _write_secret(partial / IDENTITY, identity.data)
            replace_file(sender_file(partial, name), identity.sender.data)
            sync_folder(partial)
            partial.rename(folder)
        finally:
            shutil.rmtree(partial, ignore_errors=True)
        sync_folder(folder.parent)
    return identity


def sender_file(folder: Path, name: str) -> Path:
    """The file for receivers."""
    return folder / f"{name}.sender.json"


def _write_secret(path: Path, data: bytes) -> None:
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    with os.fdopen(os.open(path, flags, _SECRET), "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def read_identity(folder: Path) -> Identity:
    """The identity of a sender's folder.

    Raises:
        Usage: there is none.
        ExportIdentityInvalid: it is malformed, or others can read it.
    """
    path = folder / IDENTITY
    if not path.is_file():
        raise Usage(
            f"{folder} is no sender's folder", hint="make one: appliance export init DIR --name NAME"
        )
    if path.stat().st_mode & 0o077:
        raise ExportIdentityInvalid(f"others can read {path}", wanted="mode 0600", hint=f"chmod 600 {path}")
    return parse_identity(_read(path))


def read_senders(paths: Iterable[Path]) -> list[Sender]:
    """The senders that a receiver knows, from their files.

    Raises:
        Usage: a file is not there.
        ExportIdentityInvalid: one is malformed, or two have the same name, id or key.
    """
    found: list[Sender] = []
    for path in paths:
        if not path.is_file():
            raise Usage(f"there is no file {path}", wanted="NAME.sender.json of a node")
        sender = parse_sender(_read(path))
        for other in found:
            same = [
                what
                for what, one, two in (
                    ("name", sender.name, other.name),
                    ("id", sender.node, other.node),
                    ("key", sender.key.public_bytes_raw(), other.key.public_bytes_raw()),
                )
                if one == two
            ]
            if same:
                raise ExportIdentityInvalid(
                    f"{path}: two senders have the same {same[0]}",
                    found=f"{sender.name} and {other.name}",
                    hint="make an identity of its own for each node: appliance export init",
                )
        found.append(sender)
    return found


def _read(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(MAX_BYTES + 1)


def write_status(folder: Path, values: Mapping[str, Any]) -> None:
    """Keep what ``appliance export status`` shows, and the same as metrics."""
    replace_file(folder / STATUS, json.dumps(values, sort_keys=True).encode())
    replace_file(folder / METRICS, metrics_text(values).encode())


def read_status(folder: Path) -> dict[str, Any]:
    """What the sender or receiver of a folder said last.

    Raises:
        Usage: neither has run there.
    """
    path = folder / STATUS
    if not path.is_file():
        raise Usage(f"nothing has run in {folder} yet", hint="appliance export send, or receive")
    values = json.loads(path.read_bytes())
    if not isinstance(values, dict):
        raise Usage(f"{path} is no status", hint="remove it")
    return values
