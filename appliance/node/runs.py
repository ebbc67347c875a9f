"""What is kept of a run on the operator's station: one record per node and stage, events, logs, reports.

``<state>/runs/<bundle digest, 12 digits>-<site>/<node>/<stage>.json``; a record is replaced in one step
and tells the truth at any moment: ``running`` in a record of a run that is over means it was cut off.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import fcntl
import json
import os
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal

from appliance.bundle.durable import replace_file
from appliance.errors import ApplianceError, InProgress

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence


class Stage(StrEnum):
    """The stages of an installation, in order."""

    VERIFY = "verify"
    VALIDATE = "validate"
    PREFLIGHT = "preflight"
    STAGE = "stage"
    PLAN = "plan"
    APPLY = "apply"
    QUALIFY = "qualify"
    RECORD = "record"

    def before(self, other: Stage) -> bool:
        """Whether this stage comes earlier than ``other``."""
        order = list(Stage)
        return order.index(self) < order.index(other)


Result = Literal["running", "done", "failed", "interrupted"]
_FOLDER_MODE: Final = 0o700


@dataclass(frozen=True)
class Identity:
    """What an installation is of: bundle digest, settings digest, version of this program."""

    bundle: str
    settings: str
    toolkit: str


@dataclass(frozen=True)
class Record:
    """One stage on one node.  Times are RFC 3339 UTC by this station's clock."""

    node: str
    stage: Stage
    identity: Identity
    result: Result
    started: str
    ended: str | None = None
    details: Mapping[str, Any] = field(default_factory=dict)

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


def now() -> str:
    """This moment, RFC 3339 UTC, seconds."""
    return dt.datetime.now(dt.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def default_state() -> Path:
    """Where runs are kept unless told otherwise (XDG Base Directory Specification)."""
    base = os.environ.get("XDG_STATE_HOME") or str(Path.home() / ".local/state")
    return Path(base) / "appliance"


@contextlib.contextmanager
def lock_state(state: Path) -> Iterator[None]:
    """Hold the state folder for one installation.

    Raises:
        InProgress: another installation holds it.
    """
    state.mkdir(mode=_FOLDER_MODE, parents=True, exist_ok=True)
    with (state / "lock").open("w", encoding="ascii") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise InProgress(
                "another installation is running from this station",
                found=f"{state / 'lock'} is held",
                wanted="one installation at a time for a state folder",
                hint="wait for it to end, or use another --state for another site",
            ) from None
        yield


class Run:
    """The folder of one bundle on one site."""

    def __init__(self, state: Path, digest: str, site: str) -> None:
        self.folder = state / "runs" / f"{digest[:12]}-{site}"
        self.folder.mkdir(mode=_FOLDER_MODE, parents=True, exist_ok=True)

    @property
    def log(self) -> Path:
        """Everything Ansible printed, for people."""
        return self.folder / "ansible.log"

    def node(self, name: str) -> Path:
        """The folder of one node."""
        folder = self.folder / name
        folder.mkdir(mode=_FOLDER_MODE, exist_ok=True)
        return folder

    def write(self, record: Record) -> None:
        """Keep a record, in the place of an earlier one of the same node and stage."""
        text = json.dumps(record.as_dict(), indent=2, sort_keys=True, ensure_ascii=False)
        replace_file(self.node(record.node) / f"{record.stage}.json", text.encode() + b"\n")
        self.event({"event": "stage", "node": record.node, "stage": record.stage, "result": record.result})

    def read(self, node: str) -> dict[Stage, Record]:
        """The records of a node; what cannot be read counts as not there."""
        records = {}
        for stage in Stage:
            with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
                values = json.loads((self.folder / node / f"{stage}.json").read_text(encoding="utf-8"))
                values["identity"] = Identity(**values["identity"])
                records[stage] = Record(**{**values, "stage": stage})
        return records

    def event(self, values: Mapping[str, Any]) -> None:
        """Add one line to the run's events."""
        with (self.folder / "events.jsonl").open("a", encoding="utf-8") as stream:
            time = dt.datetime.now(dt.UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
            stream.write(json.dumps({"time": time, **values}, ensure_ascii=False, default=str) + "\n")

    @contextlib.contextmanager
    def stage(
        self, stage: Stage, identities: Mapping[str, Identity]
    ) -> Iterator[dict[str, dict[str, Any]]]:
        """Record a stage on nodes (name to identity): running, and then what came of it.

        Yields:
            details by node name, to be filled in; a node whose details have ``result`` set gets that
            instead of the result of the whole.
        """
        started = now()
        details: dict[str, dict[str, Any]] = {name: {} for name in identities}
        for name, identity in identities.items():
            self.write(Record(name, stage, identity, "running", started))
        result: Result = "interrupted"
        try:
            yield details
            result = "done"
        except ApplianceError as error:
            result = "failed"
            for entry in details.values():
                entry.setdefault("error", error.as_dict())
            raise
        finally:
            for name, identity in identities.items():
                own = details[name].pop("result", result)
                self.write(Record(name, stage, identity, own, started, now(), details[name]))


def other_runs(state: Path, site: str, current: Run, node: str) -> list[str]:
    """Bundles, by the start of their digest, that earlier runs brought to the stage apply on this node."""
    folders: Sequence[Path] = sorted((state / "runs").glob(f"*-{site}"))
    return [
        folder.name.partition("-")[0]
        for folder in folders
        if folder.name[13:] == site
        and folder != current.folder
        and (folder / node / f"{Stage.APPLY}.json").exists()
    ]
