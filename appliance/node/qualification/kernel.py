"""Judges the running kernel: its settings, its modules, and what it writes down."""

from __future__ import annotations

import re
import shlex
from typing import TYPE_CHECKING, Final

from appliance.node.host_data import patterns
from appliance.node.qualification.finding import Finding, lines, not_run

if TYPE_CHECKING:
    from collections.abc import Sequence

    from appliance.definition.host import Host
    from appliance.node.host_data import Entry, HostData


def settings(data: HostData) -> str:
    """The command that prints every setting as ``name=value``; one that the kernel lacks is left out."""
    names = " ".join(shlex.quote(name) for name in patterns(data.kernel))
    return (
        f"for name in {names}; do file=/proc/sys/$(echo $name | tr . /); "
        '[ -e "$file" ] && echo "$name=$(cat "$file")"; done; true'
    )


def judge_settings(text: str, data: HostData, container: str) -> Finding:
    """Every setting is live with its value; one that this kernel does not have is told."""
    found = dict(line.split("=", 1) for line in text.splitlines() if "=" in line)
    wanted = ", ".join(f"{entry.what[0]}={entry.value}" for entry in data.kernel)
    wrong, absent = [], []
    for entry in data.kernel:
        (name,) = entry.what
        if name not in found:
            absent.append(name)
        elif " ".join(found[name].split()) != entry.value:
            wrong.append(f"{name}={found[name]}, wanted {entry.value}")
    if wrong and container:
        reason = f"the kernel is not the node's own ({container}); {len(wrong)} settings differ"
        return not_run(f"{reason}: {'; '.join(wrong)}", wanted=wanted)
    told = f"all {len(data.kernel) - len(absent)} settings as wanted"
    told += f"; this kernel has no {', '.join(absent)}" if absent else ""
    return Finding(not wrong, lines(wrong, otherwise=told), wanted)


#: What is loaded, after a line of its own what would be, as modprobe itself understands its configuration.
MODULES: Final = (
    "cat /proc/modules 2>/dev/null; echo '=== configuration'; "
    "modprobe --showconfig 2>/dev/null || cat /etc/modprobe.d/*.conf 2>/dev/null; true"
)


def unwanted(data: HostData, host: Host) -> tuple[str, ...]:
    """Modules that must not be loaded at this site."""
    kept = f"usb_storage={host.usb_storage}"
    entries: Sequence[Entry] = [entry for entry in data.modules_off if entry.off_if in {"", kept}]
    return patterns(entries)


def judge_modules(text: str, data: HostData, host: Host, container: str) -> Finding:
    """None of the unwanted modules is loaded, and none can be, whoever asks."""
    loaded_text, _, configuration = text.partition("=== configuration\n")
    loaded = {line.split()[0] for line in loaded_text.splitlines() if line.strip()}
    barred = set(re.findall(r"^install (\S+) /bin/false\s*$", configuration, flags=re.MULTILINE))
    barred = {name.replace("-", "_") for name in barred}
    names = unwanted(data, host)
    wrong = [f"{name} can be loaded" for name in names if name not in barred]
    wrong += [] if container else [f"{name} is loaded" for name in names if name in loaded]
    beside = " (what is loaded is the host's)" if container else ""
    found = f"{len(names)} modules barred{beside}; USB storage: {host.usb_storage}"
    return Finding(not wrong, lines(wrong, otherwise=found), f"barred and not loaded: {', '.join(names)}")


LOCK: Final = "cat /proc/sys/kernel/modules_disabled 2>/dev/null || echo none"


def judge_lock(text: str, host: Host, container: str) -> Finding:
    """No module can be loaded, where the site wants that."""
    wanted = "kernel.modules_disabled=1 once the node is up"
    value = text.strip()
    if host.module_loading == "open":
        return not_run("the inventory leaves it open (module_loading: open)", wanted=wanted)
    if value == "none":
        return Finding(kept=True, found="this kernel loads no modules at all", wanted=wanted)
    if value != "1" and container:
        return not_run(f"the kernel is not the node's own ({container})", wanted=wanted)
    return Finding(value == "1", f"kernel.modules_disabled={value}", wanted)


AUDIT: Final = (
    "command -v auditctl >/dev/null || { echo absent; exit 0; }; "
    "systemctl is-active auditd.service; auditctl -l 2>&1; true"
)


def judge_audit(text: str, data: HostData, container: str) -> Finding:
    """Auditd runs, and the kernel has every rule."""
    wanted = f"auditd active, with all {len(data.audit)} rules"
    active, _, listing = text.partition("\n")
    if active == "absent":
        return not_run("the node has no auditd: the bundle's definition does not name it", wanted=wanted)
    live = {rule for line in listing.splitlines() if (rule := normal(line))}
    missing = [rule for rule in patterns(data.audit) if normal(rule) not in live]
    if container and (active != "active" or missing):
        return not_run(f"the kernel's audit is its host's ({container})", wanted=wanted)
    wrong = [] if active == "active" else [f"auditd is {active}"]
    wrong += [f"missing: {rule}" for rule in missing]
    return Finding(not wrong, lines(wrong, otherwise=f"active, {len(live)} rules"), wanted)


def normal(rule: str) -> tuple[str, ...]:
    """A rule of auditctl(8) in one spelling, whichever way it was written; empty for what is no rule.

    The kernel lists a watch (``-w``) either so or by its fields, a key as a field, system calls in the
    order of their numbers, and an unset login as -1 or 4294967295.
    """
    words = rule.split()
    if not words or words[0] not in {"-w", "-a"}:
        return ()
    parts: set[str] = set()
    for option, value in zip(words[::2], words[1::2], strict=False):
        if option == "-w":
            parts.add(f"path={value}")
        elif option == "-p":
            parts.add(f"perm={''.join(sorted(value))}")
        elif option == "-k":
            parts.add(f"key={value}")
        elif option == "-S":
            parts |= {f"call={name}" for name in value.split(",") if name != "all"}
        elif option == "-F":
            parts.add(_field(value))
    return tuple(sorted(parts))


def _field(text: str) -> str:
    name, relation, value = re.split("([!<>=&]+)", text, maxsplit=1)
    value = {"-1": "unset", "4294967295": "unset"}.get(value, value)
    value = "".join(sorted(value)) if name == "perm" else value
    return f"{'path' if name == 'dir' else name}{relation}{value}"
