"""What the role ``quiet_host`` declares, read from its data: for the qualification and for the page.

The data are the role's own files, so that what is proven and what is documented is what was applied.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence


@dataclass(frozen=True)
class Entry:
    """One thing that is done.  ``what``: unit patterns, paths, a setting with its value, or a rule.

    ``newer``: since which version a program knows the setting; left out with older ones.
    """

    what: tuple[str, ...]
    reason: str
    control: str
    of: str = ""
    value: str = ""
    off_if: str = ""
    newer: str = ""


@dataclass(frozen=True)
class HostData:
    """The declared host; ``controls``: title by name, of the catalogue's one revision."""

    catalogue: str
    controls: dict[str, str]
    stopped: tuple[Entry, ...]
    clocks: tuple[Entry, ...]
    scripts_off: tuple[Entry, ...]
    quiet: tuple[Entry, ...]
    quiet_scripts: tuple[Entry, ...]
    files: tuple[Entry, ...]
    kernel: tuple[Entry, ...]
    modules_off: tuple[Entry, ...]
    modules_needed: tuple[Entry, ...]
    audit: tuple[Entry, ...]
    ssh: tuple[Entry, ...]
    time_units: dict[str, tuple[str, ...]]
    time_packages: dict[str, str]

    def every(self) -> tuple[Entry, ...]:
        """Everything that is done, and so serves a control."""
        return (
            *self.stopped,
            *self.clocks,
            *self.scripts_off,
            *self.files,
            *self.kernel,
            *self.modules_off,
            *self.audit,
            *self.ssh,
        )


def patterns(entries: Sequence[Entry]) -> tuple[str, ...]:
    """What all these entries name, in their order."""
    return tuple(name for entry in entries for name in entry.what)


@cache
def load_host_data() -> HostData:
    """The role's data, from the playbooks and roles that this program carries."""
    from appliance.node.role_values import role_values

    return host_data(role_values())


def host_data(values: dict[str, Any]) -> HostData:
    """What the role's variables declare."""
    data = {name.removeprefix("quiet_host_"): value for name, value in values.items()}
    sources = data["time_sources"]
    return HostData(
        catalogue=data["catalogue"],
        controls=data["controls"],
        stopped=_entries(data["stopped"], "units"),
        clocks=_entries(data["clocks"], "units"),
        scripts_off=_entries(data["scripts_off"], "scripts"),
        quiet=_entries(data["quiet"], "units"),
        quiet_scripts=_entries(data["quiet_scripts"], "scripts"),
        files=_entries(data["files"], "path"),
        kernel=_entries(data["kernel_settings"], "setting"),
        modules_off=_entries(data["modules_off"], "modules"),
        modules_needed=_entries(data["modules_needed"], "modules"),
        audit=_entries(data["audit_rules"], "rule"),
        ssh=_entries(data["ssh"], "keyword"),
        time_units={name: tuple(source["units"]) for name, source in sources.items()},
        time_packages={name: source["package"] for name, source in sources.items()},
    )


def _entries(rows: list[dict[str, Any]], key: str) -> tuple[Entry, ...]:
    return tuple(
        Entry(
            what=tuple(row[key]) if isinstance(row[key], list) else (row[key],),
            reason=row["reason"],
            control=row.get("control", ""),
            of=row.get("of", ""),
            value=row.get("shown", row.get("value", "")),
            off_if=row.get("off_if", ""),
            newer=row.get("newer", ""),
        )
        for row in rows
    )
