"""Whether a drive may be encrypted with its own encryption: a state in, reasons out.

Every reason has a name that stays, for programs, and a sentence with what to do, for people.  All reasons
against are collected: a person wants to see them before walking to the rack.

Against stands: what is in use or holds anything; a drive that is not a drive of this kind (no TCG, Pyrite
without media encryption, Ruby or Enterprise that Linux has no ComID of); one that somebody owns, whose
owner cannot be told, or whose firmware blocks SID; a TPer that counts in other blocks than the drive does,
with which part of a range stays in clear or data beyond it is destroyed (cryptsetup 2.7.3 release notes);
one without a serial number, which nothing can be bound to; one of several namespaces, which have one owner
and are reset together, so that what is right for an empty one ends another that is in use; a kernel or
cryptsetup that is too old.

Where dm-crypt alone shall encrypt, as the settings say, what the drive cannot do itself is no reason
against it, and is noted by the same names; nor is what its own encryption alone needs (geometry, a modern
kernel, SID that is not blocked).  What somebody else owns stays refused: who owns a drive can lock it, or
end all that is on it.

An enrolled drive is not ready either, and that is no fault: ``verdict`` says so first.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final, Literal

from appliance.definition.disks import USUAL_LAYERS
from appliance.disk.discovery import KNOWN_TO_LINUX

if TYPE_CHECKING:
    from collections.abc import Iterator

    from appliance.definition.disks import Layers
    from appliance.disk.luks import Layer
    from appliance.disk.state import Drive, Host
    from appliance.disk.use import Use

Verdict = Literal["enrolled", "ready", "refused"]

#: IOC_OPAL_GET_LR_STATUS and GET_GEOMETRY, which cryptsetup needs: Linux 6.4.
LEAST_KERNEL: Final = (6, 4)
#: The first to compare the blocks of TPer and drive (its release notes); and the first with LUKS2.
LEAST_CRYPTSETUP: Final = (2, 7, 3)
LEAST_CRYPTSETUP_PLAIN: Final = (2, 0)


_SINGLE: Final[dict[Layer | None, str]] = {
    "opal": "only the drive encrypts: who has its PIN, or its firmware, has all",
    "dm-crypt": "only dm-crypt encrypts",
}
_REVERT: Final = "reset it with the PSID on its label; everything on it is lost"


@dataclass(frozen=True, slots=True)
class Reason:
    """Something against a drive, or to know of it; ``name`` stays, the rest is for people."""

    name: str
    says: str
    hint: str = ""


@dataclass(frozen=True, slots=True)
class Fitness:
    """What stands against enrolling a drive, and what to know of it."""

    verdict: Verdict
    against: tuple[Reason, ...]
    notes: tuple[Reason, ...]


def judge(drive: Drive, host: Host, layers: Layers = USUAL_LAYERS) -> Fitness:
    """Whether a drive may be enrolled, so that these layers encrypt it."""
    notes = tuple(_notes(drive, host))
    if drive.enrolled:
        return Fitness("enrolled", (), notes)
    if layers == "dm-crypt":
        against = (*_of_use(drive), *_of_owner(drive), *_of_place(drive), *_of_host(host, plain=True))
        notes = (*_alone(drive, host), *notes)
    else:
        against = (*_of_use(drive), *_of_kind(drive, host))
        if drive.tcg == "yes":
            against += (*_of_owner(drive), *_of_taking(drive), *_of_place(drive), *_of_host(host))
    return Fitness("refused" if against else "ready", against, notes)


def _alone(drive: Drive, host: Host) -> Iterator[Reason]:
    """What is to be known of a drive that dm-crypt alone shall encrypt."""
    able = not (kind := tuple(_of_kind(drive, host)))
    yield Reason(
        "dm-crypt-alone",
        "dm-crypt alone encrypts it, as the settings say"
        + (", though it could encrypt by itself too" if able else ""),
    )
    yield from (replace(reason, hint="") for reason in kind)


def _of_use(drive: Drive) -> Iterator[Reason]:
    use = drive.use
    if use is None:
        yield Reason("use-unknown", "nobody can say what of it is used", "install lsblk (util-linux)")
        return
    if use.root:
        wrong = "it is the wrong drive: one that the node starts from cannot be enrolled"
        yield Reason("root", f"the node starts from it: {', '.join(use.mounted)}", wrong)
    elif use.mounted:
        yield Reason(
            "mounted", f"mounted at {', '.join(use.mounted)}", "unmount it, if it is the right one"
        )
    for reason in _of_content(use):
        yield replace(reason, hint="") if use.root else reason  # nothing of the root is to be taken away
    if use.unread:
        says = "nobody can say what it holds: wipefs cannot look through it"
        yield Reason("use-unknown", says, "as root, with wipefs (util-linux); else the kernel's log")


def _of_content(use: Use) -> Iterator[Reason]:
    if use.swap:
        yield Reason("swap", f"swapped to: {', '.join(use.swap)}", "swapoff, and take it out of /etc/fstab")
    if use.holders:
        yield Reason("held", f"used by {', '.join(use.holders)}", "close or stop what is made of it")
    if use.partitions:
        yield Reason(
            "partitioned",
            f"has partitions: {', '.join(use.partitions)}",
            "if everything on it may be lost: wipefs --all of them and of the drive",
        )
    if use.holds:
        yield Reason(
            "not-empty",
            f"holds {', '.join(use.holds)}",
            "if everything on it may be lost: wipefs --all of it and of what it holds",
        )


def _of_kind(drive: Drive, host: Host) -> Iterator[Reason]:
    found = drive.discovery
    plain = "it can have dm-crypt alone, where the settings say so"
    if drive.tcg == "unknown":
        hint = "look at the kernel's log" if host.root else "ask as root"
        yield Reason("not-asked", f"it could not be asked what it is: {drive.trouble}", hint)
    elif drive.tcg == "no" or found is None or found.ssc is None:
        yield Reason("no-opal", "it has no encryption of its own that can be used", plain)
    elif found.ssc not in KNOWN_TO_LINUX:
        yield Reason(found.ssc, _foreign_class(found.ssc), plain)
    else:
        if not found.encrypts:
            yield Reason("no-encryption", "it locks, and does not encrypt", plain)
        if not found.locking_supported:
            yield Reason("no-locking", "its Locking SP is not supported", plain)
        if found.block_size is not None and found.block_size != drive.block_size:
            yield Reason(
                "geometry",
                f"its TPer counts in blocks of {found.block_size}, the drive in {drive.block_size}",
                "format it back to the blocks it was made with (nvme format), or update its firmware",
            )
        if not drive.taken:
            yield Reason(
                "not-taken",
                "Linux's sed-opal does not take it",
                "a kernel with CONFIG_BLK_SED_OPAL; for NVMe over TCP 6.4 or later",
            )
    if drive.known.verdict == "refused":
        yield Reason("firmware", f"{drive.known.says} ({drive.known.source})", plain)


def _foreign_class(ssc: str) -> str:
    if ssc.startswith("pyrite"):
        return "it is a Pyrite drive: it locks, and does not encrypt"
    names = {"ruby": "Ruby", "opalite": "Opalite", "enterprise": "Enterprise"}
    return f"it is {names[ssc]} and not Opal: Linux cannot reach it"


def _of_owner(drive: Drive) -> Iterator[Reason]:
    if drive.owner == "somebody":
        yield Reason("owned", "somebody has taken ownership of it", _REVERT)


def _of_taking(drive: Drive) -> Iterator[Reason]:
    found = drive.discovery
    if drive.owner == "unknown":
        yield Reason("owner-unknown", "it does not say whether somebody owns it", _REVERT)
    if found is not None and found.sid_blocked:
        yield Reason(
            "sid-blocked",
            "the host's firmware has blocked SID: nobody can take ownership",
            "power it off and on with Block SID turned off in the host's setup",
        )
    if drive.namespaces > 1:
        yield Reason(
            "namespaces",
            f"the drive has {drive.namespaces} namespaces, with one owner, and one reset, for all of them",
            "make one namespace of it (nvme delete-ns), if all of the others may be lost",
        )


def _of_place(drive: Drive) -> Iterator[Reason]:
    if not drive.serial:
        yield Reason("no-serial", "it has no serial number that anything could be bound to")
    if not drive.writable:
        yield Reason("read-only", "the kernel has it read-only")


def _of_host(host: Host, *, plain: bool = False) -> Iterator[Reason]:
    if not host.root:
        yield Reason("not-root", "not everything could be read", "ask as root")
    if (kernel := _version(host.kernel)) < LEAST_KERNEL and not plain:
        yield Reason("kernel", f"the kernel is {_dotted(kernel)}", f"{_dotted(LEAST_KERNEL)} or later")
    least = LEAST_CRYPTSETUP_PLAIN if plain else LEAST_CRYPTSETUP
    if (cryptsetup := _version(host.cryptsetup)) < least:
        yield Reason(
            "cryptsetup",
            f"cryptsetup is {_dotted(cryptsetup)}" if cryptsetup else "cryptsetup is not installed",
            f"{_dotted(least)} or later, as Debian 13 has",
        )


def _notes(drive: Drive, host: Host) -> Iterator[Reason]:
    found = drive.discovery
    if drive.known.verdict == "unknown":
        yield Reason("firmware-unknown", drive.known.says, "dm-crypt above it does not need it to be sound")
    elif drive.known.verdict == "caution":
        yield Reason("firmware-caution", f"{drive.known.says} ({drive.known.source})")
    if drive.removable:
        yield Reason("removable", "it can be taken out while the node runs")
    if drive.namespaces > 1 and drive.enrolled:
        yield Reason("namespaces", f"the drive has {drive.namespaces} namespaces, with one owner for all")
    if (alone := _SINGLE.get(None if drive.luks is None else drive.luks.layer)) is not None:
        yield Reason("single-layer", alone)
    if drive.tcg != "yes" or found is None:
        return
    if found.shadow_enabled and not found.shadow_done:
        yield Reason("shadow", "it shows its shadow MBR and not what is on it")
    if found.crossing_fails:
        yield Reason("crossing", "a command that touches two ranges fails")
    if drive.enrolled and not host.root:
        yield Reason("not-root", "not everything could be read", "ask as root")


def _version(text: str) -> tuple[int, ...]:
    match = re.search(r"\d+(?:\.\d+)+", text)
    return tuple(int(part) for part in match[0].split(".")) if match else ()


def _dotted(version: tuple[int, ...]) -> str:
    return ".".join(str(part) for part in version) or "unknown"
