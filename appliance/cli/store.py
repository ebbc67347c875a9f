"""``appliance store``: what the content store holds, and tidying it up."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from appliance.cli.console import print_result, progress
from appliance.cli.options import AsJson, StoreFolder  # noqa: TC001 - Typer reads it at run time

if TYPE_CHECKING:
    from appliance.definition.lock import Lock
    from appliance.sources.store_contents import Held

_DEFAULT_AGE: Final = "7d"
_SECONDS: Final = {"m": 60, "h": 3600, "d": 86_400, "w": 604_800}

store_app = typer.Typer(
    name="store",
    help="The content store that locks and builds share: list, tidy up, check.",
    no_args_is_help=True,
)

Locks = Annotated[
    list[Path] | None,
    typer.Option("--lock", metavar="FILE", help="A lock, or a definition with its lock beside it; repeat."),
]


@store_app.callback()
def _store() -> None:
    """The content store that locks and builds share: list, tidy up, check."""


@store_app.command("list")
def list_(locks: Locks = None, *, store: StoreFolder = None, as_json: AsJson = False) -> None:
    """List what the store holds: size, age, and which of the given locks need it, under which name.

    The age counts from when a lock or build last needed the file. At the
    end stands what lies beside the files: downloads that were interrupted,
    and what apt keeps for each archive.

    \b
    Examples:
      appliance store list
      appliance store list --lock bundles/demo.yaml --lock site.lock.json
      appliance store list --json

    \b
    Exit codes:
      3  a lock or the settings are invalid, or there is no store
    """  # noqa: D301 - \b is Typer's mark for "do not wrap"
    import time

    from appliance.bundle.media.sizes import size_text
    from appliance.bundle.wording import counted
    from appliance.sources.station import open_store
    from appliance.sources.store_contents import beside, contents, total, users

    opened = open_store(store)
    needed_by = users(_read_locks(locks))
    held, others = contents(opened, needed_by), beside(opened, needed_by)
    now = time.time()
    lines = [_line(entry, now, with_users=bool(locks)) for entry in (*held, *others)]
    lines.append(f"{opened.folder}: {counted(len(held), 'file')}, {size_text(total(held))}")
    if others:
        together = size_text(total(held) + total(others))
        lines.append(f"beside them {size_text(total(others))}; together {together}")
    values = {
        "store": str(opened.folder),
        "files": [_values(entry, now) for entry in held],
        "size": total(held),
        "beside": [_values(entry, now) for entry in others],
        "together": total(held) + total(others),
    }
    print_result("\n".join(lines), values, as_json=as_json)


@store_app.command("gc")
def gc(
    locks: Locks = None,
    *,
    older_than: Annotated[
        str | None,
        typer.Option(
            "--older-than", metavar="AGE", help=f"As 90m, 12h, 30d, 2w, 0; {_DEFAULT_AGE} if left out."
        ),
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would be removed.")] = False,
    store: StoreFolder = None,
    as_json: AsJson = False,
) -> None:
    """Remove what no given lock names and nobody needed for some time.

    Downloads that were interrupted stay as long, so that they can be gone on
    with, and so do apt's package lists; those of running fetches are never
    touched. What is removed is fetched again when it is needed, if its
    source still has it.

    \b
    Examples:
      appliance store gc --lock bundles/demo.yaml --dry-run
      appliance store gc --lock bundles/demo.yaml --older-than 30d
      appliance store gc --older-than 0

    \b
    Exit codes:
      2  neither --lock nor --older-than is given, or an age is none
      3  a lock or the settings are invalid, or there is no store
      5  the store is in use; nothing was removed
    """  # noqa: D301 - \b is Typer's mark for "do not wrap"
    import time

    from appliance.bundle.media.sizes import size_text
    from appliance.errors import Usage
    from appliance.sources.station import open_store
    from appliance.sources.store_contents import collect, total, users

    if not locks and older_than is None:
        raise Usage("nothing says what to keep", wanted="--lock FILE, or --older-than AGE, or both")
    now = time.time()
    before = now - _seconds(older_than or _DEFAULT_AGE)
    opened = open_store(store)
    removed = collect(opened, users(_read_locks(locks)), before=before, dry_run=dry_run)
    lines = [_line(entry, now, with_users=False) for entry in removed]
    done = "would go" if dry_run else "removed"
    lines.append(f"{opened.folder}: {len(removed)} {done}, {size_text(total(removed))}")
    values = {
        "store": str(opened.folder),
        "dry_run": dry_run,
        "removed": [_values(entry, now) for entry in removed],
        "size": total(removed),
    }
    print_result("\n".join(lines), values, as_json=as_json)


@store_app.command("check")
def check(*, store: StoreFolder = None, as_json: AsJson = False) -> None:
    """Read every file again; remove those whose bytes have changed.

    \b
    Examples:
      appliance store check
      appliance store check --store /srv/appliance-store --json

    \b
    Exit codes:
      3  the settings are invalid, or there is no store
      4  files had changed; they were removed
    """  # noqa: D301 - \b is Typer's mark for "do not wrap"
    from appliance.bundle.wording import counted
    from appliance.sources.station import open_store
    from appliance.sources.store_contents import check as check_store

    opened = open_store(store)
    count = check_store(opened, progress())
    values = {"store": str(opened.folder), "files": count}
    print_result(f"{opened.folder}: {counted(count, 'file')}, all as they came", values, as_json=as_json)


def _read_locks(paths: list[Path] | None) -> dict[str, Lock]:
    """The locks given, by the name they were given by."""
    from appliance.sources.building import read_any_lock

    return {str(path): read_any_lock(path) for path in paths or []}


def _seconds(age: str) -> int:
    from appliance.errors import Usage

    match = re.fullmatch(r"(\d{1,6})([mhdw])|(0)", age)
    if not match:
        raise Usage("--older-than is no age", found=age, wanted="a number with m, h, d or w, or 0")
    return int(match[1]) * _SECONDS[match[2]] if match[1] else 0


def _line(entry: Held, now: float, *, with_users: bool) -> str:
    needed = f"  {', '.join(entry.users) or '-'}  {entry.called}".rstrip() if with_users else ""
    return f"{entry.name:64}  {entry.size:>15,}  {_age(now - entry.needed):>6}{needed}"


def _age(seconds: float) -> str:
    for unit in ("d", "h", "m"):
        if seconds >= _SECONDS[unit]:
            return f"{seconds / _SECONDS[unit]:.0f}{unit}"
    return f"{max(seconds, 0):.0f}s"


def _values(entry: Held, now: float) -> dict[str, object]:
    return {
        "name": entry.name,
        "size": entry.size,
        "age": max(0, round(now - entry.needed)),
        "users": list(entry.users),
        "called": entry.called or None,
    }
