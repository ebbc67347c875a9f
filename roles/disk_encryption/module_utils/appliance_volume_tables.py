"""What crypttab(5), fstab(5) and systemd are told of a node's encrypted volumes.  Values in, text out.

The rules:

* A volume is mounted once, below /mnt/appliance, and each place is a folder of it that is mounted there
  (mount --bind): one file system, however many places, and none of them has to be guessed a size.
* ``tpm2``: opened at every start by the TPM, and by nothing else: no passphrase is asked for, so a start
  never hangs where nobody sits.  Without it the node comes up, and what needs the volume does not.
* ``console``: the start waits, for as long as it takes, for whoever types the passphrase.
* ``ssh``: nothing is opened at a start; what needs the volume does not start until an operator opens it.
* What needs a place says so itself (RequiresMountsFor=); auditd, which does not, is told.
* Our lines stand between two marks, and all others stay as they are.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    Volume = dict[str, Any]  # name, uuid, unlock, filesystem, mounts

VOLUMES = "/mnt/appliance"
BEGIN = "# begin appliance disk_encryption: written by the role, changes made here are undone"
END = "# end appliance disk_encryption"
#: Where auditd's log lies; its unit does not say that it needs the place.
AUDIT_LOG = "/var/log/audit"
UNITS = "/etc/systemd/system"

#: How each volume is opened at a start (crypttab(5)).  token-timeout: how long a TPM may take to appear.
_OPENING = {
    "tpm2": "luks,tpm2-device=auto,token-timeout=10s,headless=true,nofail",
    "console": "luks,tries=0,timeout=0",
    "ssh": "luks,noauto,headless=true",
}
#: How its file system and places are mounted (systemd.mount(5)).  ssh: a device that is not there is not
#: waited for, so that what needs it fails at once and holds nothing up.
_MOUNTING = {
    "tpm2": "nofail,x-systemd.requires=systemd-cryptsetup@{name}.service",
    "console": "x-systemd.requires=systemd-cryptsetup@{name}.service",
    "ssh": "noauto,nofail,x-systemd.device-timeout=1s",
}
_WRITTEN = "# Written by the role disk_encryption.\n"
_BINDING = {"tpm2": "nofail", "console": "", "ssh": "noauto,nofail"}


def base(volume: Volume) -> str:
    """Where a volume's file system is mounted."""
    return f"{VOLUMES}/{volume['name']}"


def crypttab(volumes: Sequence[Volume]) -> list[str]:
    """A line for each volume: name, device by the UUID of its LUKS header, no key file, options."""
    return [f"{one['name']} UUID={one['uuid']} none {_OPENING[one['unlock']]}" for one in volumes]


def fstab(volumes: Sequence[Volume]) -> list[str]:
    """A line for each volume and each place on it."""
    lines = []
    for one in volumes:
        options = ",".join(("nodev", "nosuid", _MOUNTING[one["unlock"]].format(name=one["name"])))
        lines.append(f"/dev/mapper/{one['name']} {base(one)} {one['filesystem']} {options} 0 2")
        for place in one["mounts"]:
            words = (
                "bind",
                "nodev",
                "nosuid",
                _BINDING[one["unlock"]],
                f"x-systemd.requires-mounts-for={base(one)}",
            )
            lines.append(f"{base(one)}{place} {place} none {','.join(filter(None, words))} 0 0")
    return lines


def drop_ins(volumes: Sequence[Volume]) -> dict[str, str]:
    """What units are told beside what the tables say, by path; empty where there shall be no such file.

    systemd starts what opens a volume whenever something asks for the device, noauto or not, and without a
    passphrase that would be a failed unit at every start.
    """
    audit = any(lies_on(AUDIT_LOG, place) for one in volumes for place in one["mounts"])
    told = {"auditd.service": f"RequiresMountsFor={AUDIT_LOG}" if audit else ""}
    for one in volumes:
        condition = f"ConditionPathExists=/dev/mapper/{one['name']}" if one["unlock"] == "ssh" else ""
        told[f"systemd-cryptsetup@{one['name']}.service"] = condition
    return {
        f"{UNITS}/{unit}.d/50-appliance-disks.conf": f"{_WRITTEN}[Unit]\n{line}\n" if line else ""
        for unit, line in told.items()
    }


def lies_on(path: str, place: str) -> bool:
    """Whether a path is a place, or below it."""
    return f"{path}/".startswith(f"{place}/")


def with_block(text: str, lines: Sequence[str]) -> str:
    """A table with our lines in the place of former ones, or at its end; without lines no marks either."""
    before, ours, after = _parts(text)
    if not lines:
        return before + after if ours else text
    if before and not before.endswith("\n"):
        before += "\n"
    return before + "\n".join((BEGIN, *lines, END)) + "\n" + after


def foreign_lines(text: str, column: int, names: Iterable[str]) -> list[str]:
    """Lines outside of our block that have one of these names in a column: two would contradict."""
    before, _, after = _parts(text)
    wanted = set(names)
    fields = [(line, line.split()) for line in (before + after).splitlines()]
    return [
        line.strip()
        for line, words in fields
        if len(words) > column and not line.lstrip().startswith("#") and words[column] in wanted
    ]


def unit_of(path: str) -> str:
    """The mount unit of a place (systemd.unit(5), escaping; of the letters that places have)."""
    return path.strip("/").replace("-", r"\x2d").replace("/", "-") + ".mount"


def _parts(text: str) -> tuple[str, str, str]:
    """What stands before our block, in it, and after it."""
    before, mark, rest = text.partition(BEGIN + "\n")
    if not mark:
        return text, "", ""
    ours, mark, after = rest.partition(END + "\n")
    # Without an end, only our own beginning is taken away: what follows may be anybody's.
    return (before, ours, after) if mark else (before, "", rest)
