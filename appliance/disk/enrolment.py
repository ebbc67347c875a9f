"""The way from a new drive to an enrolled one: what is seen now in, the next step or a refusal out.

A run goes by this table from the top; the first line that fits counts.  What is seen is read without a PIN
each time, so a run that was cut off anywhere is gone on with, or refused, by what the drive and the escrow
say and never by what somebody remembers.  With which keys a drive was enrolled its header says: the UUID of
the volume is that of the record (``Record.uuid``).

====  =========================================================  =====================================
      seen                                                       next
====  =========================================================  =====================================
1     the serial number that was typed is not the drive's, or    refused
      the permit is not for it
2     enrolled, and not with keys of this escrow, or in other    refused: ``foreign``, ``other-layers``
      layers than they were made for or are asked for
3     enrolled, its keys in the escrow, no header                ``EscrowHeader``
4     enrolled, its keys and their header in the escrow          ``Done``
5     owned, not enrolled, given keys whose header is escrowed   refused: ``header-lost``; restore it
6     owned, not enrolled, given no keys or dm-crypt's, or more  refused, with all of it
      against it, or anything that says it is not ours
7     owned, not enrolled, given the newest keys; reset wanted   ``Reset`` by PSID
8     owned, not enrolled, given the newest keys                 refused: ``interrupted``
9     a header of dm-crypt alone without a keyslot, of the       ``Wipe``
      newest keys given; reset wanted
10    the same                                                   refused: ``interrupted``
11    anything stands against it (``fitness``)                   refused, with all of it
12    no header, given dm-crypt's keys whose header is escrowed  refused: ``header-lost``; restore it
13    ready, but this run has formatted it already               refused: ``one-attempt``
14    ready, and this run has no keys for it                     ``EscrowKeys``
15    ready, keys read back from the escrow                      ``Format`` with these keys
====  =========================================================  =====================================

Why nothing is lost, wherever it stops: ownership is taken in ``Format`` alone; ``Format`` cannot be made
without ``Escrowed``; and ``Escrowed`` is of the newest generation of this very drive.  Before ``Format``
a mark is made that the drive gets these keys (``escrow.given``): keys without one were never used, and
say nothing of an owned drive, which may be anybody's.  A mark is void once the drive says that nobody
owns it, and says nothing either once there are newer keys, which are made for such a drive alone: one PIN
to try, once.

A drive that was given the newest keys, is owned, has no header, or our own without a keyslot (cryptsetup
writes that first), and never had one in the escrow holds nothing of ours yet, so a reset by its PSID loses
nothing.  Still it is done only where somebody says so, and not where anything else is on the drive or uses
it, or its shadow MBR is on, which cryptsetup leaves alone.

Where dm-crypt alone encrypts, the drive knows of no owner, and a drive whose header is gone looks like a
new one.  So the escrow is what says that there was a volume (12), until somebody voids its mark.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from appliance.definition.disks import USUAL_LAYERS
from appliance.errors import DriveUnsuitable

if TYPE_CHECKING:
    from collections.abc import Sequence

    from appliance.definition.disks import Layers
    from appliance.disk.confirmation import Confirmation
    from appliance.disk.escrow.keeping import Escrowed
    from appliance.disk.escrow.record import Record
    from appliance.disk.fitness import Fitness, Reason
    from appliance.disk.state import Drive


_BY_HAND: Final = "reset it by hand, by its PSID, if all that may be on it may be lost"


@dataclass(frozen=True, slots=True)
class Seen:
    """What is known before a step.

    Attributes:
        drive: as it was read just now.
        fitness: what stands against it.
        records: of this drive in the escrow, oldest first.
        given: generations of those keys that the drive was given.
        confirmed: the serial number that a person typed, or a permit.
        keys: of this run, if it has escrowed some.
        formatted: whether this run has given the drive keys already.
        reset: whether a drive that was left half-way may be reset.
        layers: what shall encrypt.
    """

    drive: Drive
    fitness: Fitness
    records: Sequence[Record]
    given: frozenset[int]
    confirmed: Confirmation
    keys: Escrowed | None = None
    formatted: bool = False
    reset: bool = False
    layers: Layers = USUAL_LAYERS


@dataclass(frozen=True, slots=True)
class EscrowKeys:
    """Make keys, escrow them, have them back."""


@dataclass(frozen=True, slots=True)
class Format:
    """Take ownership, set up the range, write the header; the only step that needs keys, and has them."""

    keys: Escrowed


@dataclass(frozen=True, slots=True)
class EscrowHeader:
    """Escrow the header that belongs to the keys of a record."""

    keys: Record


@dataclass(frozen=True, slots=True)
class Reset:
    """Take the drive back to as it was made, by its PSID."""


@dataclass(frozen=True, slots=True)
class Wipe:
    """Take a header away that nothing opens, where dm-crypt alone was to encrypt."""


@dataclass(frozen=True, slots=True)
class Done:
    """Enrolled; keys and header are in the escrow."""

    header: Record


Step = EscrowKeys | Format | EscrowHeader | Reset | Wipe | Done


def next_step(seen: Seen) -> Step:
    """The next step by the table above.

    Raises:
        Usage, PermitRefused: nobody confirmed, or another drive was meant.
        DriveUnsuitable: the drive may not be enrolled, or not gone on with.
    """
    if not seen.drive.serial:
        raise refusal(seen.drive, seen.fitness.against)
    seen.confirmed.require("enroll", seen.drive)
    if seen.drive.enrolled:
        return _enrolled(seen)
    if seen.drive.owner == "somebody":
        return _owned(seen)
    keys = _newest([one for one in seen.records if one.generation in seen.given])
    if keys is not None and keys.layers == "dm-crypt" and _only_our_beginning(seen.drive, keys):
        return _begun(seen, keys)
    if seen.fitness.verdict != "ready":
        raise refusal(seen.drive, seen.fitness.against)
    if keys is not None and keys.layers == "dm-crypt":
        _refuse_lost(seen, keys)
    if seen.formatted:
        raise _refused(
            seen.drive,
            "one-attempt",
            "it was given keys and does not have them",
            "find out why before another attempt; the node's journal has what cryptsetup said",
        )
    if seen.keys is None:
        return EscrowKeys()
    if seen.keys.record != _newest(seen.records):
        raise _refused(
            seen.drive,
            "other-keys",
            "the keys of this run are not the newest ones of this drive in the escrow",
            "somebody else enrols it too, or the escrow was exchanged; begin again",
        )
    return Format(seen.keys)


def refusal(drive: Drive, against: Sequence[Reason]) -> DriveUnsuitable:
    """The error that says all that stands against a drive."""
    first = next((reason.hint for reason in against if reason.hint), "")
    return DriveUnsuitable(
        f"{drive.path} may not be encrypted: {', '.join(reason.name for reason in against)}",
        found="; ".join(reason.says for reason in against),
        wanted="an empty drive that nobody owns, of its own encryption unless dm-crypt alone is wanted",
        hint=first or "appliance disk status says what each means",
    )


def _enrolled(seen: Seen) -> Step:
    drive, records = seen.drive, seen.records
    uuid = "" if drive.luks is None else drive.luks.uuid
    keys = next((one for one in records if one.purpose == "keys" and one.uuid == uuid), None)
    if keys is not None and keys.drive.namespace != drive.namespace:
        raise _refused(
            drive,
            "other-namespace",
            f"it is namespace {drive.namespace or 'unknown'}, and {keys.stem} of the escrow has the keys "
            f"of namespace {keys.drive.namespace or 'unknown'} of the same drive",
            "nothing was changed",
        )
    if keys is None:
        raise _refused(
            drive,
            "foreign",
            f"it is enrolled as {uuid or 'a volume without UUID'}, and no keys of the escrow are of that",
            "name the escrow that has; nothing was changed",
        )
    _same_layers(seen, keys)
    header = _header_of(keys, records)
    return EscrowHeader(keys) if header is None else Done(header)


def _same_layers(seen: Seen, keys: Record) -> None:
    """What encrypts has to be what was recorded, and what is asked for now."""
    layer = None if seen.drive.luks is None else seen.drive.luks.layer
    if layer != keys.layers:
        raise _refused(
            seen.drive,
            "other-layers",
            f"its header says that {layer or 'nothing'} encrypts, and {keys.stem} says {keys.layers}",
            "write nothing to it: take down what is on it, " + _BY_HAND,
        )
    if seen.layers != keys.layers:
        raise _refused(
            seen.drive,
            "other-layers",
            f"{seen.layers} was asked for, and it is enrolled with {keys.layers}",
            f"nothing was changed; if {keys.layers} it shall be: layers of the drive in the inventory, "
            + ("or --hw-opal-only" if keys.layers == "opal" else "and without --hw-opal-only"),
        )


def _owned(seen: Seen) -> Step:
    """Of a drive that somebody owns and that is not enrolled: reset it where it is ours to reset."""
    drive, against = seen.drive, seen.fitness.against
    keys = _newest([one for one in seen.records if one.generation in seen.given])
    if (  # nothing says that it is ours
        keys is None or keys.drive.namespace != drive.namespace or keys.layers == "dm-crypt"
    ):
        raise refusal(drive, against)
    if (header := _header_of(keys, seen.records)) is not None and drive.locking:
        raise _refused(
            drive,
            "header-lost",
            f"it has an owner, and its LUKS header is gone; the escrow has it ({header.stem})",
            "the data is there: disk escrow open --what header --out header.img, then "
            f"cryptsetup open --header header.img {drive.path} NAME, which writes nothing; docs/disk.md",
        )
    foreign = _not_ours(seen, keys, header)
    if foreign:
        raise _refused(drive, "owned", f"somebody has taken ownership of it: {foreign}", _BY_HAND)
    expected = {"owned", *(("not-empty",) if _only_our_beginning(drive, keys) else ())}
    if any(reason.name not in expected for reason in against):
        raise refusal(drive, against)
    if seen.reset:
        seen.confirmed.require("reset", drive, keys.uuid)
        return Reset()
    raise _refused(
        drive,
        "interrupted",
        f"it was given {keys.stem} of the escrow, and its enrolment was cut off after ownership was taken",
        "nothing of ours is on it yet: unless somebody else can have taken it since, reset it by its PSID "
        f"and begin again, with --reset (what a permit says is lost: {keys.uuid})",
    )


def _begun(seen: Seen, keys: Record) -> Step:
    """Of a header of dm-crypt alone that has no keyslot: no data was ever written through it."""
    if any(reason.name != "not-empty" for reason in seen.fitness.against):
        raise refusal(seen.drive, seen.fitness.against)
    if seen.reset:
        seen.confirmed.require("reset", seen.drive, keys.uuid)
        return Wipe()
    raise _refused(
        seen.drive,
        "interrupted",
        f"it was given {keys.stem} of the escrow, and formatting it was cut off: its header has no keyslot",
        f"nothing of ours is on it yet: begin again with --reset (what a permit says is lost: {keys.uuid})",
    )


def _refuse_lost(seen: Seen, keys: Record) -> None:
    """A drive without a header that had one: what is on it opens once the header is back."""
    if (header := _header_of(keys, seen.records)) is not None:
        raise _refused(
            seen.drive,
            "header-lost",
            f"its LUKS header is gone, without which it looks empty; the escrow has it ({header.stem})",
            "escrow open --what header, then cryptsetup luksHeaderRestore: the data is there. If all of it "
            f"may be lost, say so: make an empty file {keys.stem}.void in the escrow",
        )


def _not_ours(seen: Seen, keys: Record, header: Record | None) -> str:
    """What says that an owned drive does not have the keys it was given; empty where nothing does."""
    found = seen.drive.discovery
    if header is not None:
        return f"it was enrolled with {keys.stem}, and its locking is off now"
    if found is not None and found.shadow_enabled:
        return "its shadow MBR is on, which cryptsetup never does"
    newest = _newest(seen.records)
    if newest is not None and newest.generation > keys.generation:
        return f"it was given {keys.stem}, and nobody owned it when {newest.stem} was made later"
    return ""


def _only_our_beginning(drive: Drive, keys: Record) -> bool:
    """Whether all that is on it is a header that cryptsetup had begun with these keys."""
    begun = drive.unfinished and drive.luks is not None and drive.luks.uuid == keys.uuid
    return begun and drive.use is not None and drive.use.holds == (f"crypto_LUKS {drive.name}",)


def _newest(records: Sequence[Record]) -> Record | None:
    """The newest keys."""
    fitting = [one for one in records if one.purpose == "keys"]
    return max(fitting, key=lambda one: one.generation, default=None)


def _header_of(keys: Record, records: Sequence[Record]) -> Record | None:
    """The newest header that was escrowed of the volume of these keys, which others may have had before."""
    same = {one.generation for one in records if one.purpose == "keys" and one.uuid == keys.uuid}
    fitting = (one for one in records if one.purpose == "header" and one.generation in same)
    return max(fitting, key=lambda one: one.generation, default=None)


def _refused(drive: Drive, name: str, says: str, hint: str) -> DriveUnsuitable:
    return DriveUnsuitable(f"{drive.path} may not be encrypted: {name}", found=says, hint=hint)
