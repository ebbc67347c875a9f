"""The way from one set of keys to the next on an enrolled drive: what is seen now in, the next step out.

A run goes by this table from the top; the first line that fits counts.  Nothing that is seen takes a PIN:
the names of administrators are anybody's to read, whether the owner has the PIN that everybody knows the
drive says in Level 0 Discovery, the LUKS header says which passphrase is where, and the escrow has marks.

====  =========================================================  =====================================
      seen                                                       next
====  =========================================================  =====================================
1     the serial number that was typed is not the drive's        refused
2     not enrolled with keys of this escrow, or unable           refused
3     no new keys, and no rotation that was begun                ``EscrowKeys``
4     keys that no mark says it was given                        ``MarkGiven``
5     no administrator has the name of the new keys              ``PrepareSecond``
6     only the second administrator has                          ``ChangeFirst``
7     both have                                                  ``DismissSecond``
8     the owner still has the PIN before                         ``OpenOwner``
9     the owner has the PIN that everybody can read              ``SetOwner``
10    the header says nothing of the new passphrase              ``NamePassphrase``
11    it says in which keyslot, and that is empty                ``AddPassphrase``
12    the passphrase before is in its keyslot                    ``RemovePassphrase``
13    the new header is not escrowed                             ``EscrowHeader``
14    no mark says that all of it is done                        ``Finish``
15    it is                                                      ``Done``
====  =========================================================  =====================================

Where dm-crypt alone encrypts, lines 5 to 9 are left out: the drive has no part in it, and no PIN.

Why nothing is lost, wherever it stops: ``standing`` says for administrator, owner and passphrase which
generation opens it, and there is always one.  Each step is taken once in a run: a drive that does not show
what it was told is not told again.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal

from appliance.errors import DriveUnsuitable

if TYPE_CHECKING:
    from collections.abc import Sequence

    from appliance.disk.escrow.record import Record
    from appliance.disk.luks import PassphraseToken
    from appliance.disk.state import Drive

#: Administrators that an Opal 2 drive has besides the first: TCG Storage Opal SSC 2.30, section 4.3.1.8.
_ADMINS: Final = 2

StepName = Literal[
    "EscrowKeys",
    "MarkGiven",
    "PrepareSecond",
    "ChangeFirst",
    "DismissSecond",
    "OpenOwner",
    "SetOwner",
    "NamePassphrase",
    "AddPassphrase",
    "RemovePassphrase",
    "EscrowHeader",
    "Finish",
    "Done",
]
#: What each step says that it does, with the drive's serial number; no secret is in it.
SAYS: Final[dict[StepName, str]] = {
    "EscrowKeys": "escrowing new keys of {}",
    "MarkGiven": "marking in the escrow that {} gets them",
    "PrepareSecond": "giving the new PIN to a second administrator of {}",
    "ChangeFirst": "giving it to the first administrator of {}",
    "DismissSecond": "turning the second administrator of {} off",
    "OpenOwner": "taking the owner's PIN before from {}",
    "SetOwner": "giving the owner of {} the new PIN",
    "NamePassphrase": "writing to the header of {} where the new passphrase comes",
    "AddPassphrase": "adding the new passphrase of {}",
    "RemovePassphrase": "removing the passphrase before from {}",
    "EscrowHeader": "escrowing the new header of {}",
    "Finish": "marking in the escrow that {} has these keys",
}


@dataclass(frozen=True, slots=True)
class Names:
    """Marks of keys that administrators of a drive have as names; empty where they have none."""

    first: str
    second: str


@dataclass(frozen=True, slots=True)
class Generations:
    """Keys of a drive in an escrow.

    Attributes:
        before: the ones it had when the newest rotation was begun, or has.
        next: of a rotation that was begun, or of this run; None where there is none.
        marks: beside ``next``.
        given: whether the drive was given any of ``next``.
        header: whether the header with ``next`` is escrowed.
    """

    before: Record
    next: Record | None = None
    marks: frozenset[str] = frozenset()
    given: bool = False
    header: bool = False


@dataclass(frozen=True, slots=True)
class Standing:
    """Which generation opens what, now: as ``disk rotate --look`` says it.

    Attributes:
        administrator: generation of the PIN that an administrator has; None where the drive has none.
        which: that administrator, Admin1 or Admin2.
        owner: generation of the owner's PIN (SID); None while it is the one that everybody can read, and
            where the drive has none.
        passphrases: generations whose passphrase opens the volume.
    """

    administrator: int | None
    which: Literal["Admin1", "Admin2"]
    owner: int | None
    passphrases: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Seen:
    """What is known before a step: ``names`` are read of a drive only that may be rotated."""

    drive: Drive
    keys: Generations
    names: Names


def select_generations(
    drive: Drive, records: Sequence[Record], given: frozenset[int], rotated: frozenset[int]
) -> Generations:
    """Which keys of an escrow are meant, of a drive that may be rotated.

    Args:
        drive: as it was read.
        records: of this drive, oldest first.
        given: generations that it was given.
        rotated: generations of which a mark says that a rotation to them was ended.

    Raises:
        DriveUnsuitable: it may not be rotated.
    """
    _refuse_unable(drive)
    uuid = "" if drive.luks is None else drive.luks.uuid
    keys = [one for one in records if one.purpose == "keys" and one.uuid == uuid]
    settled = [one for one in keys if not one.volume or one.generation in rotated]
    if not settled:
        raise _refused(
            drive,
            "foreign",
            f"it is enrolled as {uuid or 'a volume without UUID'}, and no keys of the escrow are of that",
            "name the escrow that has; nothing was changed",
        )
    before = max(settled, key=lambda one: one.generation)
    if before.drive.namespace != drive.namespace:
        raise _refused(
            drive,
            "other-namespace",
            f"it is namespace {drive.namespace or 'unknown'}, and {before.stem} is of another",
            "nothing was changed",
        )
    later = [one for one in keys if one.generation > before.generation and one.generation in given]
    return Generations(before, max(later, key=lambda one: one.generation, default=None))


def standing(seen: Seen) -> Standing:
    """Which generation opens what; no PIN is needed to know."""
    before, new, names = seen.keys.before, seen.keys.next, seen.names
    if new is None or not seen.keys.given:
        pin = None if is_plain(seen.drive) else before.generation
        owner = pin if _owner(seen) == "before" else None
        return Standing(pin, "Admin1", owner, (before.generation,))
    token = _token(seen)
    named = token is not None and token.keys == new.mark
    slots = () if seen.drive.luks is None else seen.drive.luks.slots
    passphrases = []
    if token is None or not named or token.before in slots:
        passphrases.append(before.generation)
    if token is not None and named and token.slot in slots:
        passphrases.append(new.generation)
    if is_plain(seen.drive):
        return Standing(None, "Admin1", None, tuple(passphrases))
    known = _owner(seen)
    return Standing(
        new.generation if new.mark in {names.first, names.second} else before.generation,
        "Admin2" if names.second == new.mark != names.first else "Admin1",
        {"before": before.generation, "known": None, "new": new.generation}[known],
        tuple(passphrases),
    )


def next_step(seen: Seen) -> StepName:
    """The next step by the table above, of a drive that was confirmed."""
    if seen.keys.next is None:
        return "EscrowKeys"
    if not seen.keys.given:
        return "MarkGiven"
    mark = seen.keys.next.mark
    step = None
    if not is_plain(seen.drive):
        step = _of_administrators(seen.names, mark) or _of_owner(seen)
    step = step or _of_passphrase(seen, mark)
    if step is not None:
        return step
    if not seen.keys.header:
        return "EscrowHeader"
    return "Done" if "rotated" in seen.keys.marks else "Finish"


def _of_administrators(names: Names, mark: str) -> StepName | None:
    if mark not in {names.first, names.second}:
        return "PrepareSecond"
    if names.first != mark:
        return "ChangeFirst"
    return "DismissSecond" if names.second == mark else None


def _of_owner(seen: Seen) -> StepName | None:
    steps: dict[str, StepName] = {"before": "OpenOwner", "known": "SetOwner"}
    return steps.get(_owner(seen))


def _of_passphrase(seen: Seen, mark: str) -> StepName | None:
    token, slots = _token(seen), () if seen.drive.luks is None else seen.drive.luks.slots
    if token is None or token.keys != mark:
        return "NamePassphrase"
    if token.slot not in slots:
        return "AddPassphrase"
    return "RemovePassphrase" if token.before in slots else None


def is_plain(drive: Drive) -> bool:
    """Whether dm-crypt alone encrypts a drive."""
    return drive.luks is not None and drive.luks.layer == "dm-crypt"


def not_shown(drive: Drive, step: StepName) -> DriveUnsuitable:
    """The error for a step that was taken and does not show."""
    return _refused(
        drive,
        "one-attempt",
        f"it does not show what it was told: {SAYS[step].format(drive.serial)}",
        "nothing is tried twice; disk rotate --look says what opens what, and the node's journal more",
    )


def _owner(seen: Seen) -> Literal["before", "known", "new"]:
    """Which PIN the owner has: by marks and, where an answer was lost, by what the drive says."""
    marks, found = seen.keys.marks, seen.drive.discovery
    changed = found is None or bool(found.sid_changed)
    if "set" in marks:
        return "new"
    if not changed:
        return "known"
    if "setting" in marks:
        return "new"
    return "known" if "opened" in marks else "before"


def _token(seen: Seen) -> PassphraseToken | None:
    return None if seen.drive.luks is None else seen.drive.luks.passphrase


def _refuse_unable(drive: Drive) -> None:
    found = drive.discovery
    if drive.enrolled and is_plain(drive):
        return
    if not drive.enrolled or found is None:
        says = "it is not enrolled: there is no LUKS2 header of ours, no owner, or its locking is off"
        raise _refused(drive, "not-enrolled", says, "disk status says what it is")
    if not drive.name.startswith("nvme"):
        says = "it is no NVMe drive, and PINs of others cannot be changed from here"
        raise _refused(drive, "not-nvme", says, "back up what is on it, retire it, and enrol it again")
    if found.ssc != "opal-2" or (found.admins or 0) < _ADMINS or found.first_comid is None:
        says = "it is not Opal 2 with two administrators, of which anybody may read the names"
        raise _refused(drive, "no-second", says, "back up what is on it, retire it, and enrol it again")
    if found.sid_changed is None:
        raise _refused(drive, "owner-unknown", "it does not say which PIN its owner has", "")
    if found.sid_blocked:
        says = "the host's firmware has blocked SID: the owner cannot log in"
        hint = "power it off and on with Block SID turned off in the host's setup"
        raise _refused(drive, "sid-blocked", says, hint)


def _refused(drive: Drive, name: str, says: str, hint: str) -> DriveUnsuitable:
    return DriveUnsuitable(f"the keys of {drive.path} may not be changed: {name}", found=says, hint=hint)
