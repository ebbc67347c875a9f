"""Compares what a node is with what it was when it had just been installed.  Pure: two states in, drifts
out.

The rules:

* What was there, is there no more, or is otherwise, is a drift; so is what is there and was not.
* Of what is otherwise, only the parts that differ are told.
* Of a chain of the filter, each rule that came or went is one drift: order counts.
* A unit comes and goes as others ask for it.  So of units at work count those that are new and that nobody
  has judged to be quiet, and those that are enabled and were at work; of unit files any other state.
* The daily audit fails to say that something differs; what does is told itself, and how it ended is judged
  by itself (``qualification.daily``).
* A package that is another version, or came, or went, stands for its files; a unit for the links that
  enable or mask it.
* A module that is gone is loaded again when something asks; those that are known to be asked for may come.
* In a container, kernel, modules and drives are its host's, and /tmp its manager's: they are not compared.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from difflib import SequenceMatcher
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Final

from appliance.node.audit.drift import NOTHING, SUBJECTS, Drift, NotCompared
from appliance.node.audit.state import MADE
from appliance.node.host_data import patterns
from appliance.node.qualification import daily

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping, Sequence

    from appliance.definition.host import Host
    from appliance.node.audit.state import State
    from appliance.node.host_data import HostData

#: A container's host decides these.
OF_THE_HOST: Final = ("kernel", "modules", "drives")
#: Mounted by a container's manager at each start, by its own rules.
_MANAGERS: Final = "/tmp"  # noqa: S108 - named, not used
#: Where systemctl puts links (systemctl(1), enable and mask).
_SYSTEMD: Final = re.compile(r"/etc/systemd/system(?:/[^/]+\.(?:wants|requires))?")
#: At work whatever else is, though other units start it.
ALWAYS: Final = ("systemd-journald.service",)


@dataclass(frozen=True)
class Quiet:
    """What may come and go: patterns of units, names of modules as the kernel has them."""

    units: tuple[str, ...] = ()
    modules: frozenset[str] = frozenset()


def what_is_quiet(data: HostData, host: Host) -> Quiet:
    """As the role ``quiet_host`` and the site have judged."""
    modules = {name.replace("-", "_") for name in patterns(data.modules_needed)}
    return Quiet((*patterns(data.quiet), *host.known_units), frozenset(modules))


def compare(then: State, now: State, *, quiet: Quiet, container: str = "") -> list[Drift]:
    """All drifts, in the order of subjects and then by name.

    Args:
        then: the baseline.
        now: the live node.
        quiet: what may come and go.
        container: whose kernel the node has, if not its own.
    """
    if container:
        then, now = _own(then), _own(now)
    found: list[Drift] = []
    for subject in SUBJECTS:
        if subject in then and subject not in now:
            found.append(Drift(subject, "all of it", "the node cannot tell", "as it was installed"))
        elif subject in then:
            found += _subject(subject, then, now, quiet)
    links = {each.what for each in found if each.subject == "units"}
    return [each for each in found if not _switches(each, links)]


def _subject(subject: str, then: State, now: State, quiet: Quiet) -> Iterator[Drift]:
    old, new = then[subject], now[subject]
    match subject:
        case "rules":
            yield from _rules(old, new)
        case "units":
            yield from _units(old, new, quiet.units)
        case "modules":
            known = {*old, *quiet.modules}
            yield from (
                Drift(subject, name, "loaded", NOTHING) for name in sorted(new) if name not in known
            )
        case "service":  # where it does not run, its unit says so
            yield from _entries(subject, old, new or old)
        case "files":
            yield from _files(then, now)
        case "packages":
            yield from _packages(then, now)
        case _:
            yield from _entries(subject, old, new)


def _own(state: State) -> State:
    """Of a container's state, what is its own."""
    own = {subject: entries for subject, entries in state.items() if subject not in OF_THE_HOST}
    if "mounts" in own:
        own["mounts"] = {at: how for at, how in own["mounts"].items() if at != _MANAGERS}
    return own


def not_compared(then: State, container: str) -> list[NotCompared]:
    """What the baseline could have said more of, and why it does not."""
    whose = f"the node is a container ({container}); these are its host's"
    found = [NotCompared(subject, whose) for subject in OF_THE_HOST if container and subject in then]
    if container and _MANAGERS in then.get("mounts", {}):
        found.append(NotCompared(f"the mount of {_MANAGERS}", whose.replace("these are", "it is")))
    found += [
        NotCompared(subject, "the node could not tell when the baseline was taken")
        for subject in ("rules", "listeners", "units", "service")
        if subject not in then
    ]
    return found


def _entries(subject: str, then: Mapping[str, str], now: Mapping[str, str]) -> Iterator[Drift]:
    for what in sorted({*then, *now}):
        if then.get(what) != now.get(what):
            yield Drift(subject, what, *_words(now.get(what), then.get(what)))


def _words(found: str | None, wanted: str | None) -> tuple[str, str]:
    """What was found and wanted; of two long descriptions the parts that differ."""
    if found is None or wanted is None:
        return found or NOTHING, wanted or NOTHING
    left, right = found.split(", "), wanted.split(", ")
    if len(left) == len(right):
        pairs = [(one, other) for one, other in zip(left, right, strict=True) if one != other]
        left, right = [one for one, _ in pairs], [other for _, other in pairs]
    return ", ".join(left), ", ".join(right)


# --- the filter ----------------------------------------------------------------------------------


def _rules(then: Mapping[str, str], now: Mapping[str, str]) -> Iterator[Drift]:
    """A table or chain that came or went, and each line of the others."""
    for what in sorted({*then, *now}):
        if what not in then:
            yield Drift("rules", what, now[what] or "there, without a rule", NOTHING)
        elif what not in now:
            yield Drift("rules", what, NOTHING, then[what] or "there, without a rule")
        elif then[what] != now[what]:
            yield from _lines(what, then[what].splitlines(), now[what].splitlines())


def _lines(what: str, then: list[str], now: list[str]) -> Iterator[Drift]:
    for tag, left, right, low, high in SequenceMatcher(None, then, now, autojunk=False).get_opcodes():
        if tag != "equal":
            found, wanted = "\n".join(now[low:high]), "\n".join(then[left:right])
            yield Drift("rules", what, found or NOTHING, wanted or NOTHING)


# --- units -----------------------------------------------------------------------------------------


def _units(then: Mapping[str, str], now: Mapping[str, str], quiet: Sequence[str]) -> Iterator[Drift]:
    absent = "no file, inactive"
    for name in sorted({*then, *now}):
        old, new = then.get(name, absent), now.get(name, absent)
        if old != new and _counts(name, old, new, quiet):
            yield Drift("units", name, new, old)


def _counts(name: str, old: str, new: str, quiet: Sequence[str]) -> bool:
    """Whether two states of a unit differ in what matters."""
    (old_file, old_active), (new_file, new_active) = old.split(", "), new.split(", ")
    other_file = old_file != new_file and not {old_file, new_file} <= {*MADE, "no file"}
    # A file that came and that nothing starts is told as a file.
    if other_file and (old_file != "no file" or new_file.startswith("enabled") or new_active == "active"):
        return True
    if old_active == new_active or (new_file.startswith("masked") and new_active != "active"):
        return False
    if new_active == "failed":
        return name != daily.SERVICE
    if new_active == "active":
        return not any(fnmatchcase(name, pattern) for pattern in quiet)
    return old_active == "active" and (old_file.startswith("enabled") or name in ALWAYS)


# --- packages and their files ----------------------------------------------------------------------


def _packages(then: State, now: State) -> Iterator[Drift]:
    for drift in _entries("packages", then["packages"], now["packages"]):
        count = sum(1 for _, package in _changed_files(then, now) if package == drift.what)
        found = f"{drift.found}; {count} of its files differ" if count else drift.found
        yield Drift("packages", drift.what, found, drift.wanted)


def _files(then: State, now: State) -> Iterator[Drift]:
    old, new = then.get("packages", {}), now.get("packages", {})
    changed = {name for name in {*old, *new} if old.get(name) != new.get(name)}
    left_out = {path for path, package in _changed_files(then, now) if package in changed}
    for drift in _entries("files", then["files"], now["files"]):
        if drift.what not in left_out:
            yield drift


def _switches(drift: Drift, units: Collection[str]) -> bool:
    """Whether a link is one by which systemd was told to start one of these units, or not to."""
    folder, _, name = drift.what.rpartition("/")
    if drift.subject != "files":
        return False
    is_link = all(
        how == NOTHING or how.startswith(("link, ", "to ")) for how in (drift.found, drift.wanted)
    )
    return is_link and name in units and _SYSTEMD.fullmatch(folder) is not None


def _changed_files(then: State, now: State) -> Iterator[tuple[str, str]]:
    """Paths that differ, with their package; empty for what is nobody's."""
    old, new = then.get("files", {}), now.get("files", {})
    for path in {*old, *new}:
        if old.get(path) != new.get(path):
            yield path, _package(new.get(path, "")) or _package(old.get(path, ""))


def _package(how: str) -> str:
    """The second part of a description says it, where it is somebody's (``file_state``)."""
    part = f"{how}, ".split(", ")[1]
    return part.removeprefix("of ") if part.startswith("of ") else ""
