"""Records as files in a folder, and the proof that what was written there can be had back.

A folder holds the records of many drives, flat, so that it is copied with any tool:

    S6CVNG0T100123.0001.keys.json     what it is, in the open
    S6CVNG0T100123.0001.keys.age      sealed
    S6CVNG0T100123.0001.keys.share-NAME.age     where m of n are needed
    S6CVNG0T100123.0001.keys.given, .void    the drive got these keys; it does not have them (``given``)
    S6CVNG0T100123.0001.keys.rotated, …      how far a rotation is; the drive was retired (``marks``)
    S6CVNG0T100123.0001.header.json, .age       the LUKS header, after the drive was formatted

The rules:

* Nothing is overwritten, ever: a new attempt is a new generation; only of a header, which is on the drive
  still, what was cut off is taken away for the next attempt.
* Sealed files come first and the record last, each brought to the disk under a hidden name and then named:
  whole or not there.  Sealed files without a record are an attempt that was interrupted.
* ``Escrowed`` is made by ``escrow_keys``, after the record was read again from the disk and opened with a
  key that is a recipient like the others and is forgotten then; and by ``escrowed_before``, of a record
  that the site's own keys have opened.  The PIN and the passphrase that a drive gets are the ones that were
  read back, not the ones that were written: a drive cannot be given keys that the escrow does not hold.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

import pyrage

from appliance.disk.escrow.files import (
    names_in,
    newest_generation,
    put_file,
    read_file,
    remove_unrecorded,
    writing_alone,
)
from appliance.disk.escrow.record import LONGEST, Record, parse_record, spelled
from appliance.disk.escrow.sealing import Openers, check_files, open_sealed, seal
from appliance.disk.secret import Secret, new_passphrase, new_pin
from appliance.errors import ApplianceError, EscrowInvalid, EscrowUnproven

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from appliance.definition.disks import Layers
    from appliance.definition.escrow import Escrow
    from appliance.disk.escrow.record import DriveIdentity

#: A LUKS2 header has 16 MiB, and at most 4 MiB of metadata twice and 128 MiB of keyslots.
MOST_SEALED: Final = 160 * 1024 * 1024
_PROVEN: Final = object()
_UNRECORDED: Final = (
    "keep it: escrowing was interrupted, or its record was lost; age -d opens it, and it says what it is"
)


@dataclass(frozen=True, slots=True)
class Escrowed:
    """Keys of a drive that were read back from an escrow and opened.  Nobody else makes one.

    Attributes:
        record: where they are kept.
        admin_pin: of the drive's owner, SID and Admin1; None where dm-crypt alone encrypts.
        passphrase: of the LUKS volume: the recovery key.
        psid: what the drive's label says; None likewise.
    """

    record: Record
    admin_pin: Secret | None
    passphrase: Secret
    psid: Secret | None
    _proof: object

    def __post_init__(self) -> None:
        if self._proof is not _PROVEN:
            raise RuntimeError("keys count as escrowed when they have been read back, and not before")

    def pin(self) -> Secret:
        """The PIN, of a drive that has one."""
        if self.admin_pin is None:
            raise ValueError(f"{self.record.stem} holds no PIN")
        return self.admin_pin


@dataclass(frozen=True, slots=True)
class Kept:
    """A record in a folder, and its sealed files as far as they are there."""

    folder: Path
    record: Record
    files: Mapping[str, bytes]


def escrow_keys(
    folder: Path,
    host: str,
    drive: DriveIdentity,
    psid: Secret | None,
    *,
    escrow: Escrow,
    created: str,
    layers: Layers = "opal and dm-crypt",
    volume: str = "",
) -> Escrowed:
    """Make new keys for a drive, escrow them, and have them back.

    Args:
        folder: where records are kept; not on the drive's node.
        host: the node's name.
        drive: which drive.
        psid: what its label says; None exactly where dm-crypt alone encrypts.
        escrow: to whom.
        created: the time, RFC 3339 UTC.
        layers: what shall encrypt.
        volume: UUID of the LUKS volume that gets them; empty for one that is to be made.

    Raises:
        EscrowUnproven: what was written could not be read back and opened.
        SpaceExhausted, PreflightFailed: it could not be written.
    """
    record = Record(
        host=host,
        drive=drive,
        purpose="keys",
        layers=layers,
        generation=1 + newest_generation(folder, drive.serial),
        created=created,
        recipients=dict(escrow.recipients),
        threshold=escrow.threshold,
        sealed={},
        volume=volume,
    )
    keys = {"passphrase": new_passphrase()}
    if psid is not None:
        keys |= {"admin-pin": new_pin(), "psid": psid}
    if set(keys) != set(record.holds):
        raise ValueError(f"{layers} takes {', '.join(record.holds)}")
    test = pyrage.x25519.Identity.generate()
    stem = _write(folder, record, keys, b"", test)
    opened = _proven(folder, stem, test)
    if opened != (keys, b""):
        raise _unproven(stem, "other keys than were written")
    found = opened[0]
    written = read_kept(folder, f"{stem}.json").record
    return Escrowed(written, found.get("admin-pin"), found["passphrase"], found.get("psid"), _PROVEN)


def escrowed_before(folder: Path, record: Record, openers: Openers) -> Escrowed:
    """Keys that were escrowed earlier, opened as their holders do.

    Raises:
        EscrowInvalid, EscrowClosed: they cannot be opened.
        PreflightFailed: the folder cannot be read.
    """
    kept = read_kept(folder, f"{record.stem}.json")
    found = open_sealed(kept.record, kept.files, openers).secrets
    return Escrowed(kept.record, found.get("admin-pin"), found["passphrase"], found.get("psid"), _PROVEN)


def escrow_header(folder: Path, keys: Record, header: bytes, *, created: str) -> Record:
    """Escrow the LUKS header that a drive got with the keys of a record, and have it back.

    What an attempt left that was cut off is removed first: the header is on the drive still, and a
    header has no generation but its keys'.

    Raises:
        EscrowUnproven: what was written could not be read back and opened.
        SpaceExhausted, PreflightFailed: it could not be written.
    """
    record = replace(keys, purpose="header", created=created, sealed={})
    test = pyrage.x25519.Identity.generate()
    with writing_alone(folder, record.stem):
        remove_unrecorded(folder, record.stem)
        stem = _write(folder, record, {}, header, test)
    if _proven(folder, stem, test) != ({}, header):
        raise _unproven(stem, "another header than was written")
    return read_kept(folder, f"{stem}.json").record


def records_of(folder: Path, serial: str, *, owned: bool) -> tuple[Record, ...]:
    """A drive's records that are whole, oldest first.

    Args:
        folder: the escrow.
        serial: whose.
        owned: whether somebody owns the drive, so that keys without a record may be those it has.

    Raises:
        EscrowInvalid: one of its records is not whole, or newer keys have none: which keys the drive has
            cannot be told then.
        PreflightFailed: the folder cannot be read.
    """
    beginning = f"{spelled(serial)}."
    kept = [
        read_kept(folder, path.name) for path in _record_files(folder) if path.name.startswith(beginning)
    ]
    for one in kept:
        check_files(one.record, one.files)
    records = sorted((one.record for one in kept), key=lambda record: record.generation)
    known = max((one.generation for one in records if one.purpose == "keys"), default=0)
    if owned and (newest := newest_generation(folder, serial, "keys.")) > known:
        raise EscrowInvalid(
            f"{spelled(serial)}.{newest:04}.keys has no record",
            found=f"its sealed file, and records up to generation {known}",
            wanted="the record of the newest keys, which the drive may have",
            hint=_UNRECORDED,
        )
    return tuple(records)


def kept_in(folder: Path) -> tuple[Kept | EscrowInvalid, ...]:
    """Every record of a folder, or what is wrong with it; sealed files without a record too."""
    found: list[Kept | EscrowInvalid] = []
    known: set[str] = set()
    for path in _record_files(folder):
        try:
            kept = read_kept(folder, path.name)
            check_files(kept.record, kept.files)
            found.append(kept)
            known |= set(kept.record.sealed)
        except EscrowInvalid as fault:
            found.append(fault)
            known |= {name for name in names_in(folder) if name.startswith(f"{path.stem}.")}
    found += [
        EscrowInvalid(
            f"{name} has no record",
            found="a sealed file alone",
            hint=_UNRECORDED,
        )
        for name in names_in(folder)
        if name.endswith(".age") and name not in known
    ]
    return tuple(found)


def read_kept(folder: Path, name: str) -> Kept:
    """One record and its files.

    Raises:
        EscrowInvalid: it is malformed.
        PreflightFailed: it cannot be read.
    """
    record = parse_record(read_file(folder / name, LONGEST), name)
    paths = {each: folder / each for each in record.sealed}
    there = {each: read_file(path, MOST_SEALED) for each, path in paths.items() if path.is_file()}
    return Kept(folder, record, there)


def _record_files(folder: Path) -> list[Path]:
    return [folder / name for name in names_in(folder) if name.endswith(".json")]


def _write(
    folder: Path, record: Record, keys: Mapping[str, Secret], header: bytes, test: pyrage.x25519.Identity
) -> str:
    """Write the sealed files, then the record; its stem."""
    sealed, files = seal(record, keys, header, test=test)
    for name, data in [*files.items(), (f"{sealed.stem}.json", sealed.to_bytes())]:
        try:
            put_file(folder, name, data)
        except FileExistsError:
            raise _unproven(sealed.stem, f"{name} is there already") from None
    return sealed.stem


def _proven(folder: Path, stem: str, test: pyrage.x25519.Identity) -> tuple[Mapping[str, Secret], bytes]:
    """What the disk gives back, opened."""
    try:
        kept = read_kept(folder, f"{stem}.json")
        opened = open_sealed(kept.record, kept.files, Openers([test]))
    except ApplianceError as fault:
        raise _unproven(stem, f"{fault.message}: {fault.found}") from None
    return opened.secrets, opened.header.reveal()


def _unproven(stem: str, found: str) -> EscrowUnproven:
    return EscrowUnproven(
        f"the escrow does not give back {stem}",
        found=found,
        wanted="what was written, opened with a test key",
        hint="the drive is enrolled, and the escrow has its keys; only its header is missing there: "
        "see to the medium, and run it again"
        if stem.endswith(".header")
        else "nothing was done to the drive; use another medium for the escrow",
    )
