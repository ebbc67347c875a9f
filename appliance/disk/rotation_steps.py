"""The steps of a rotation, each of which does one thing to the drive or to the escrow."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Protocol

from appliance.disk.enrolling import checked_header
from appliance.disk.escrow.given import mark_given
from appliance.disk.escrow.keeping import escrow_header
from appliance.disk.escrow.marks import put_mark
from appliance.errors import DriveUnsuitable

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from appliance.disk.escrow.keeping import Escrowed
    from appliance.disk.luks import PassphraseToken
    from appliance.disk.rotation import StepName
    from appliance.disk.secret import Secret
    from appliance.disk.state import Drive


class Doer(Protocol):
    """Whoever does things to drives of one machine, having made sure that each is the one that was read."""

    def read(self) -> dict[str, Any]:
        """The readings of the machine, as they are now."""

    def act(self, drive: Drive, act: str, **wanted: Secret | str | int | list[int]) -> dict[str, Any]:
        """An act of ``appliance.tcg.program``."""

    def name_passphrase(self, drive: Drive, token: PassphraseToken) -> None:
        """Write a token to the header."""

    def add_passphrase(self, drive: Drive, slot: str, old: Secret, new: Secret) -> None:
        """Add a passphrase in a keyslot."""

    def remove_passphrase(self, drive: Drive, old: Secret) -> None:
        """Remove a passphrase."""

    def header(self, drive: Drive) -> bytes:
        """The LUKS2 header of a drive."""


@dataclass(frozen=True, slots=True)
class Taking:
    """What a step works with: who does it, the escrow, the drive, the keys before and the new ones."""

    doer: Doer
    folder: Path
    drive: Drive
    before: Escrowed
    new: Escrowed
    now: Callable[[], str]


def _mark_given(at: Taking) -> None:
    mark_given(at.folder, at.new.record)


def _prepare_second(at: Taking) -> None:
    pins = {"pin": at.before.pin(), "new": at.new.pin()}
    at.doer.act(at.drive, "prepare-second", **pins, mark=at.new.record.mark)


def _change_first(at: Taking) -> None:
    at.doer.act(at.drive, "change-first", new=at.new.pin(), mark=at.new.record.mark)


def _dismiss_second(at: Taking) -> None:
    at.doer.act(at.drive, "dismiss-second", new=at.new.pin())


def _open_owner(at: Taking) -> None:
    put_mark(at.folder, at.new.record, "opening")
    at.doer.act(at.drive, "open-owner", pin=at.before.pin())
    put_mark(at.folder, at.new.record, "opened")


def _set_owner(at: Taking) -> None:
    put_mark(at.folder, at.new.record, "setting")
    at.doer.act(at.drive, "set-owner", new=at.new.pin())
    put_mark(at.folder, at.new.record, "set")


def _name_passphrase(at: Taking) -> None:
    token = None if at.drive.luks is None else at.drive.luks.next_token(at.new.record.mark)
    if token is None:
        raise DriveUnsuitable(
            f"the passphrase of {at.drive.path} may not be changed: no-room",
            found="its header has no empty keyslot, or no room for a token",
            hint="cryptsetup luksKillSlot, of a keyslot that nobody needs",
        )
    at.doer.name_passphrase(at.drive, token)


def _add_passphrase(at: Taking) -> None:
    slot = "" if at.drive.luks is None else at.drive.luks.passphrase_slot
    at.doer.add_passphrase(at.drive, slot, at.before.passphrase, at.new.passphrase)


def _remove_passphrase(at: Taking) -> None:
    at.doer.remove_passphrase(at.drive, at.before.passphrase)


def _escrow_header(at: Taking) -> None:
    header = checked_header(at.doer.header(at.drive), at.drive, at.new.record)
    escrow_header(at.folder, at.new.record, header, created=at.now())


def _finish(at: Taking) -> None:
    put_mark(at.folder, at.new.record, "rotated")


STEPS: Final[Mapping[StepName, Callable[[Taking], None]]] = {
    "MarkGiven": _mark_given,
    "PrepareSecond": _prepare_second,
    "ChangeFirst": _change_first,
    "DismissSecond": _dismiss_second,
    "OpenOwner": _open_owner,
    "SetOwner": _set_owner,
    "NamePassphrase": _name_passphrase,
    "AddPassphrase": _add_passphrase,
    "RemovePassphrase": _remove_passphrase,
    "EscrowHeader": _escrow_header,
    "Finish": _finish,
}
