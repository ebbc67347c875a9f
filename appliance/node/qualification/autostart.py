"""Judges what starts by itself: nothing of the stop list, and nothing that nobody has judged.

The listings are the node's own (``systemctl``, ``find``); the lists are the role's data.  Written anew and
not shared with the role, so that one's mistake is not the other's.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Final

from appliance.node.host_data import patterns
from appliance.node.qualification.finding import Finding, lines, not_run

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from appliance.definition.host import Host
    from appliance.node.host_data import HostData
    from appliance.node.qualification.tries import Tries

_PLAIN: Final = "--all --no-legend --no-pager --plain --full"
_RUN_PARTS: Final = "/etc/cron.hourly /etc/cron.daily /etc/cron.weekly /etc/cron.monthly /etc/cron.yearly"

#: Unit files, units and scripts, each after a line of its own.  Scripts that run-parts looks at count if
#: they may be run; entries of cron count in any case.
LISTING: Final = f"""
systemctl list-unit-files {_PLAIN}
echo "=== units"; systemctl list-units {_PLAIN}
echo "=== scripts"
find {_RUN_PARTS} /etc/update-motd.d -maxdepth 1 -type f ! -name '.*' -perm /0111 2>/dev/null
find /etc/cron.d /var/spool/cron/crontabs -maxdepth 1 -type f ! -name '.*' 2>/dev/null
true
"""

_AT_WORK: Final = {"active", "activating", "reloading"}


@dataclass(frozen=True)
class Autostart:
    """``files``: state of each unit file.  ``active``: units at work.  ``scripts``: of cron and logins."""

    files: dict[str, str]
    active: frozenset[str]
    scripts: tuple[str, ...]

    @property
    def names(self) -> set[str]:
        return {*self.files, *self.active}


def parse_listing(text: str) -> Autostart:
    """What ``LISTING`` prints."""
    files, units, scripts = re.split(r"^=== \w+\n", text, flags=re.MULTILINE)
    loaded = [line.split() for line in units.splitlines()]
    return Autostart(
        files={row[0]: row[1] for row in map(str.split, files.splitlines()) if len(row) > 1},
        active=frozenset(row[0] for row in loaded if len(row) > 2 and row[2] in _AT_WORK),  # noqa: PLR2004
        scripts=tuple(sorted(scripts.split())),
    )


def stop_list(data: HostData) -> tuple[str, ...]:
    """Patterns of units that must not run, but for those that the site's source of time needs."""
    return (*patterns(data.stopped), *patterns(data.clocks))


def stopped_units(node: Autostart, data: HostData, source: str) -> list[str]:
    """The node's units that must not run, sorted."""
    wanted = data.time_units[source]
    return sorted(name for name in node.names if name not in wanted and _named(name, stop_list(data)))


def judge_stopped(node: Autostart, tries: Tries, data: HostData, source: str) -> Finding:
    """Every unit of the stop list is masked and idle; those that were tried refused to start."""
    units = stopped_units(node, data, source)
    wrong = [f"{name}: {node.files.get(name, 'no file')}" for name in units if not _masked(node, name)]
    wrong += [f"{name}: at work" for name in units if name in node.active]
    wrong += [f"{name}: started, although it is masked" for name in tries.started]
    wrong += [f"{path}: may be run" for path in node.scripts if _named(path, patterns(data.scripts_off))]
    found = (
        f"{len(units)} such units, all masked and idle; {len(tries.refused)} were tried and did not start"
    )
    wanted = (
        "no unit of the stop list starts by itself, at work, or when it is asked for; no script of it runs"
    )
    return Finding(not wrong, lines(wrong, otherwise=found), wanted)


def judge_known(node: Autostart, data: HostData, host: Host) -> Finding:
    """Whatever starts by itself has been judged.  What has not is not forbidden, but nothing is proven."""
    known = (*patterns(data.quiet), *stop_list(data), *host.known_units)
    unknown = [name for name in _self_starting(node) if not _named(name, known)]
    scripts = (*patterns(data.quiet_scripts), *patterns(data.scripts_off))
    unknown += [path for path in node.scripts if not _named(path, scripts)]
    wanted = (
        "every unit and script that starts by itself is on a list of docs/quiet-host.md or in known_units"
    )
    if unknown:
        many = f"{len(unknown)} units or scripts start by themselves and nobody has judged them"
        return not_run(f"{many}: {', '.join(unknown)}", wanted=wanted)
    count = len(_self_starting(node)) + len(node.scripts)
    own = [f"{name} ({reason})" for name, reason in _own(node, host.known_units).items()]
    found = f"{count} units and scripts, all judged"
    return Finding(kept=True, found=lines([found, *own], otherwise=found), wanted=wanted)


def _own(node: Autostart, known: Mapping[str, str]) -> dict[str, str]:
    """What the site itself vouches for, as far as it is there."""
    started = _self_starting(node)
    return {
        pattern: reason
        for pattern, reason in known.items()
        if any(fnmatchcase(name, pattern) for name in started)
    }


def _self_starting(node: Autostart) -> list[str]:
    kinds = (".service", ".socket", ".timer", ".path")
    return sorted(
        name
        for name in node.names
        if name.endswith(kinds) and (node.files.get(name, "").startswith("enabled") or name in node.active)
    )


def _masked(node: Autostart, name: str) -> bool:
    return node.files.get(name, "").startswith("masked")


def _named(name: str, known: Collection[str]) -> bool:
    return any(fnmatchcase(name, pattern) for pattern in known)
