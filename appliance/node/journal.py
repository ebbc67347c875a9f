"""A node's journal, read and changed over its connection.

What is done on the node: ``appliance.node.remote.journal``.  What a journal says, and whether it belongs to
the node's TPM: ``appliance.trust.journal``, ``appliance.trust.counter``.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final

from appliance.errors import (
    ApplianceError,
    ApplyFailed,
    InProgress,
    JournalLost,
    JournalRolledBack,
    NodeUnreachable,
    PreflightFailed,
    SpaceExhausted,
)
from appliance.node.question import BrokenOffError, put_question
from appliance.trust.counter import Counter, judge_counter, next_value
from appliance.trust.installation import journal_lost
from appliance.trust.journal import Journal, journal_bytes, parse_journal

if TYPE_CHECKING:
    from collections.abc import Mapping

    from appliance.node.connection import Connection

SECONDS: Final = 180
#: How long the node waits for another station's commit to end.
PATIENCE: Final = 20


@dataclass(frozen=True)
class Place:
    """Where a node keeps its journal, whose it is, and how tpm2-tools reach its TPM."""

    home: str = "/var/lib/appliance"
    owner: int = 0
    tpm: str = "device:/dev/tpmrm0"


USUAL: Final = Place()


@dataclass(frozen=True)
class Kept:
    """What a node keeps.

    ``journal`` is None where there is no sound one; ``trouble`` then says why, unless the node is new, and
    it speaks against a journal that is there but must not be believed.  ``last`` is the count of the newest
    state on the disk, ``digest`` the SHA-256 of its bytes.  ``unfinished``: its commit was cut off before
    the TPM's counter went up.  ``was_installed``: the node is not new.
    """

    journal: Journal | None
    trouble: ApplianceError | None
    was_installed: bool
    last: int
    digest: str | None
    counter: Counter | None
    unfinished: bool
    time: float
    notes: tuple[str, ...] = ()


def read_journal(connection: Connection, place: Place = USUAL) -> Kept:
    """What the node keeps; changes nothing.

    Raises:
        JournalLost: something in its place is not the journal's own.
        InProgress: another station is changing it.
        NodeUnreachable: the connection broke.
        PreflightFailed: the node could not tell.
    """
    return _kept(_ask(connection, place, {"do": "read"}))


def commit_journal(connection: Connection, kept: Kept, journal: Journal, place: Place = USUAL) -> Kept:
    """Make ``journal`` the node's newest state; on a node with a TPM, its counter goes up with it.

    Args:
        connection: to the node.
        kept: what was read there; if another state is there now, nothing is changed.
        journal: the next state.  Its count and its value of the counter are set here.
        place: where it is kept.

    Returns:
        what the node keeps now; its journal is the one that was given.

    Raises:
        InProgress: another station changed it since it was read.
        SpaceExhausted, ApplyFailed: the node could not write it, and has the state before.
        NodeUnreachable: the connection broke; the node has one state or the other.
    """
    kept = complete_journal(connection, kept, place)
    counter, notes = kept.counter, []
    if counter is not None and not counter.kept:
        said = _ask(connection, place, {"do": "adopt"})
        counter = Counter(said.get("value"), kept=False)
        notes = [_unguarded(said["trouble"])] if "trouble" in said else []
    following = replace(journal, count=kept.last + 1, tpm=next_value(counter))
    expected = None if kept.digest is None else {"count": kept.last, "sha256": kept.digest}
    text = journal_bytes(following).decode()
    now = _kept(_ask(connection, place, {"do": "commit", "expected": expected, "text": text}))
    if now.trouble:
        raise now.trouble
    return replace(now, notes=(*now.notes, *notes))


def complete_journal(connection: Connection, kept: Kept, place: Place = USUAL) -> Kept:
    """Carry a commit through that was cut off between disk and TPM; nothing where there was none."""
    if not kept.unfinished:
        return kept
    return _kept(_ask(connection, place, {"do": "complete"}))


def _kept(answer: Mapping[str, Any]) -> Kept:
    slots, newest = answer["slots"], answer["newest"]
    notes = [
        f"slot {name} of the journal is damaged ({slot['why']}); the other one is sound"
        for name, slot in slots.items()
        if slot["state"] == "damaged" and newest
    ]
    said = answer["counter"] or {}
    if "trouble" in said:
        notes.append(_unguarded(said["trouble"]))
    counter = Counter(said["value"], said["kept"]) if "kept" in said else None
    slot: Mapping[str, Any] = slots[newest] if newest else {"count": 0, "sha256": None}
    touched = any(each["state"] != "absent" for each in slots.values())
    was_installed = answer["installed"] or touched or (counter is not None and counter.kept)
    journal: Journal | None = None
    trouble: ApplianceError | None = None
    unfinished = False
    try:
        if newest:
            journal = parse_journal(slot["text"].encode())
            unfinished = judge_counter(journal, counter)
        elif was_installed:
            trouble = _lost(slots)
    except (JournalLost, JournalRolledBack) as fault:
        trouble = fault
    return Kept(
        journal=journal,
        trouble=trouble,
        was_installed=was_installed,
        last=slot["count"],
        digest=slot["sha256"],
        counter=counter,
        unfinished=unfinished,
        time=answer["time"],
        notes=tuple(notes),
    )


def _unguarded(why: str) -> str:
    return f"the TPM does not guard the journal: {why}"


def _lost(slots: Mapping[str, Any]) -> JournalLost:
    found = "; ".join(f"slot {name}: {slot.get('why', slot['state'])}" for name, slot in slots.items())
    return journal_lost(found)


def _ask(connection: Connection, place: Place, request: Mapping[str, Any]) -> dict[str, Any]:
    """One question to the program on the node."""
    asked = {"home": place.home, "owner": place.owner, "tpm": place.tpm, "patience": PATIENCE, **request}
    name = connection.node.name
    try:
        answer: dict[str, Any] = put_question(
            connection, ("journal", "two_slots", "tpm_counter"), asked, seconds=SECONDS
        )
    except BrokenOffError as broken:
        raise _broken(name, str(broken)) from None
    if "error" in answer:
        raise _fault(name, answer, reading=request["do"] == "read")
    return answer


def _broken(name: str, told: str) -> NodeUnreachable:
    return NodeUnreachable(
        f"the connection to {name} broke while its journal was asked",
        found=told,
        wanted="a connection",
        hint="run the same command again: the journal is whole in any case",
    )


def _fault(name: str, answer: Mapping[str, Any], *, reading: bool) -> ApplianceError:
    """What the program on the node says, as the error a person can act on."""
    found = str(answer.get("text") or answer.get("found") or answer["error"])
    again = "put that right and run the same command again; the journal is as it was"
    match answer["error"]:
        case "busy":
            return InProgress(
                f"{name}: another station is changing the journal",
                found=f"its lock was held for {PATIENCE} s",
                wanted="one station at a time",
                hint="wait for it to end, then run the same command again",
            )
        case "moved":
            return InProgress(
                f"{name}: the journal is not what it was when this command read it",
                found=found,
                wanted="the state that was judged",
                hint="somebody else installed meanwhile: run the same command again",
            )
        case "unsafe":
            return JournalLost(
                f"{name}: what lies in the journal's place is not the node's own",
                found=found,
                wanted="two plain files, owned by root and closed to everybody else",
                hint="find out who put it there; take it away, then: appliance trust enrol",
            )
        case "space":
            return SpaceExhausted(
                f"{name}: the disk is full, the journal cannot be written",
                found=found,
                wanted="some kilobytes below /var/lib/appliance",
                hint=again,
            )
        case "counter":
            return ApplyFailed(
                f"{name}: the TPM did not do what the journal needs",
                found=found,
                wanted="a TPM 2.0 in which an NV counter can be defined and raised",
                hint="put that right and run the same command again; the journal is whole",
            )
    kind = PreflightFailed if reading or answer["error"] == "user" else ApplyFailed
    return kind(
        f"{name}: the journal cannot be {'read' if reading else 'written'}",
        found=found,
        wanted="root, and a writable /var/lib/appliance",
        hint=again,
    )
