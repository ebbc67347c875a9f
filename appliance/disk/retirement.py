"""The way from a drive that somebody owns to one that was erased, and shown to be: seen in, a step out.

====  =========================================================  =====================================
      seen                                                       next
====  =========================================================  =====================================
1     in use, of several namespaces, or none that erases itself  refused
2     nobody owns it, and no sample was taken before             refused: ``not-owned``
3     somebody owns it, and this run has taken no sample         ``Sample``
4     somebody owns it, and this run has erased it already       refused: ``one-attempt``
5     somebody owns it                                           ``Erase``
6     nobody owns it, and it was not compared                    ``Compare``
7     compared                                                   ``Certify``
====  =========================================================  =====================================

The sample is on the operator's disk before the drive is erased, so a run that was cut off after that goes
on with comparing.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal

from appliance.disk.discovery import KNOWN_TO_LINUX
from appliance.errors import DriveUnsuitable

if TYPE_CHECKING:
    from appliance.disk.sampling import Comparison, Sample
    from appliance.disk.state import Drive

StepName = Literal["Sample", "Erase", "Compare", "Certify"]

#: What each step says that it does, with the drive's serial number.
SAYS: Final[dict[StepName, str]] = {
    "Sample": "reading places of {} to be compared",
    "Erase": "resetting {}: every key of its media is lost",
    "Compare": "reading the same places of {} again",
    "Certify": "writing what came of {}",
}


@dataclass(frozen=True, slots=True)
class Seen:
    """What is known before a step.

    Attributes:
        drive: as it was read just now.
        sample: the one that was taken last, by this run or one before.
        fresh: whether this run took it.
        erased: whether this run has erased the drive.
        comparison: with what was read afterwards.
    """

    drive: Drive
    sample: Sample | None
    fresh: bool = False
    erased: bool = False
    comparison: Comparison | None = None


def next_step(seen: Seen) -> StepName:
    """The next step by the table above, of a drive that was confirmed.

    Raises:
        DriveUnsuitable: it may not be retired, or not gone on with.
    """
    drive = seen.drive
    refuse_unfit(drive)
    if drive.owner == "nobody" and seen.sample is not None:
        return "Compare" if seen.comparison is None else "Certify"
    if drive.owner != "somebody":
        raise _refused(
            drive,
            "not-owned",
            "nobody owns it, or it does not say, and no sample was taken of it before",
            "a drive that nobody owns is as it was made: encrypt nothing on it, or sanitize it otherwise",
        )
    if seen.erased:
        says = "it was told to reset itself, and somebody owns it still"
        raise _refused(drive, "one-attempt", says, "the node's journal; its PSID, with --psid-file")
    return "Erase" if seen.fresh else "Sample"


def refuse_unfit(drive: Drive) -> None:
    """Refuse a drive that is in use, or that does not erase itself.

    Raises:
        DriveUnsuitable: it is, or does not.
    """
    use, found = drive.use, drive.discovery
    if use is None:
        raise _refused(drive, "use-unknown", "nobody can say what of it is used", "util-linux, as root")
    if use.root:
        raise _refused(drive, "root", f"the node starts from it: {', '.join(use.mounted)}", "")
    if use.mounted or use.swap or use.holders:
        used = ", ".join((*use.mounted, *use.swap, *use.holders))
        raise _refused(drive, "in-use", f"used by {used}", "unmount, swapoff, close what is made of it")
    if drive.namespaces > 1:
        says = f"the drive has {drive.namespaces} namespaces, and a reset ends all of them"
        raise _refused(drive, "namespaces", says, "nvme delete-ns, if the others may be lost")
    if not drive.serial:
        raise _refused(drive, "no-serial", "it has no serial number that anything could be bound to", "")
    if not drive.name.startswith("nvme"):
        says = "it is no NVMe drive, and what is done to others cannot be bound to them from here"
        raise _refused(drive, "not-nvme", says, "cryptsetup luksErase --hw-opal-factory-reset, by hand")
    if found is None or found.ssc not in KNOWN_TO_LINUX or not found.encrypts:
        says = "it is no Opal drive that encrypts what is on it, so no reset erases it"
        raise _refused(drive, "no-opal", says, "nvme sanitize, or destruction; by another procedure")


def _refused(drive: Drive, name: str, says: str, hint: str) -> DriveUnsuitable:
    return DriveUnsuitable(f"{drive.path} may not be retired: {name}", found=says, hint=hint)
