"""The sources that an operator asked for, each where it stopped."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from appliance.definition.export import TAKEN
from appliance.errors import Usage
from appliance.export.sources.audit_line import AUDIT_LOG, audit_record
from appliance.export.sources.endpoint import Endpoint, parse_endpoint
from appliance.export.sources.following import FileSource
from appliance.export.sources.handover import FolderSource
from appliance.export.sources.journal import JournalSource
from appliance.export.sources.local import DatagramSource, LineSource

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from contextlib import ExitStack
    from pathlib import Path

    from appliance.export.sources.source import Source

_NAME: Final = re.compile(r"([a-z][a-z0-9-]{0,31})=(.+)")


@dataclass(frozen=True)
class Wanted:
    """Where records come from: each is left out where it is None or empty; ``every`` in seconds."""

    socket: Path | None = None
    lines: int | None = None
    journal: bool = False
    journal_directory: Path | None = None
    audit: Path | None = None
    folders: Mapping[str, Path] | None = None
    metrics: Sequence[Endpoint] = ()
    every: float = 15.0

    @property
    def nothing(self) -> bool:
        some = (self.socket, self.journal_directory, self.audit, self.folders, self.metrics)
        return self.lines is None and not self.journal and not any(some)


def parse_folders(texts: Sequence[str], make: type[Path]) -> dict[str, Path]:
    """Read ``NAME=FOLDER`` of each.

    Raises:
        Usage: it is none, its name is taken, or the folder is not there or not ours.
    """
    found: dict[str, Path] = {}
    for text in texts:
        match = _NAME.fullmatch(text)
        if not match or match[1] in TAKEN | found.keys():
            wanted = f"NAME=FOLDER, with a name of its own and none of {', '.join(sorted(TAKEN))}"
            raise Usage("not a folder of records", found=ascii(text)[:80], wanted=wanted)
        path = make(match[2])
        if not path.is_dir() or not os.access(path, os.R_OK | os.W_OK | os.X_OK):
            raise Usage(
                f"{path} is no folder whose files we may remove",
                hint="make it, and let the sender write there",
            )
        found[match[1]] = path
    return found


def parse_endpoints(texts: Sequence[str]) -> list[Endpoint]:
    """Read ``NAME=URL`` of each.

    Raises:
        Usage: it is none, its name is taken, or two have one name.
    """
    found = [parse_endpoint(text) for text in texts]
    names = [each.name for each in found]
    if taken := TAKEN.intersection(names):
        wanted = f"a name of its own and none of {', '.join(sorted(TAKEN))}"
        raise Usage("the name of an endpoint is taken", found=", ".join(sorted(taken)), wanted=wanted)
    if len(set(names)) != len(names):
        raise Usage("two endpoints have one name", found=", ".join(names))
    return found


def opened(
    wanted: Wanted,
    positions: Mapping[str, str],
    until: ExitStack,
    select: Callable[[bytes], bytes] | None = None,
) -> list[Source]:
    """Open them; ``until`` closes them.

    Args:
        wanted: which.
        positions: where each goes on, by name.
        until: what closes them.
        select: what of a record may leave; None: all.

    Raises:
        ToolMissing: there is no journalctl.
    """
    found: list[Source] = []

    def add(source: Source) -> None:
        until.callback(source.close)
        found.append(source)

    if wanted.socket is not None:
        add(DatagramSource(wanted.socket))
    if wanted.lines is not None:
        add(LineSource(wanted.lines))
    if wanted.journal or wanted.journal_directory is not None:
        add(JournalSource(positions.get(JournalSource.name, ""), directory=wanted.journal_directory))
    if wanted.audit is not None:
        add(FileSource(AUDIT_LOG, wanted.audit, positions.get(AUDIT_LOG, ""), audit_record))
    for name, folder in (wanted.folders or {}).items():
        add(FolderSource(name, folder, positions.get(name, ""), select=select))
    if wanted.metrics:
        from appliance.export.sources.metrics import MetricsSource  # and with it a client of HTTP

        add(MetricsSource(wanted.metrics, wanted.every))
    return found
