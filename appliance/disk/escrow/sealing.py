"""Sealing a record to its recipients, and opening it: age and, for m of n, Shamir's shares.

What is sealed is one line of canonical JSON, ``{"record": …, "secrets": {…}}``, then the bytes of a header.

* One is enough (threshold 1): ``STEM.age``, encrypted to every recipient.
* m of n are needed: ``STEM.age`` is encrypted to a key of age that is made for it alone.  What follows
  AGE-SECRET-KEY-1 in that key is cut into blocks of 15 letters; each block is divided into n shares, and
  each holder gets one of every block, ``STEM.share-NAME.age``: a line for each block, as ssss(1) takes it.

So without this program: ``age -d -i KEY STEM.age``; or each holder ``age -d -i KEY STEM.share-NAME.age``,
then ``ssss-combine -D -t m`` for the first lines, the second ones and so on; what it prints, in a row after
AGE-SECRET-KEY-1, is the key of ``STEM.age``.  Why: docs/decisions/0053.

age (age-encryption.org/v1) authenticates what it encrypts, to whoever can decrypt it: a share, a key or a
byte that is not the right one is an error, and never other secrets.  No library is told more than it needs,
and none of their messages gets into ours.
"""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import pyrage

from appliance.disk.secret import Secret
from appliance.errors import EscrowClosed, EscrowInvalid
from appliance.trust.canonical import canonical_bytes

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from appliance.disk.escrow.record import Record

_BEGINNING: Final = "AGE-SECRET-KEY-1"
#: Letters of a block, and bytes of the number that is divided: ssss prints no zeros that stand before.
_BLOCK: Final = 15
_NUMBER: Final = 16
_BLOCKS: Final = 4  # of 58 letters
_SHARE: Final = re.compile(rb"(\d{1,2})-([0-9a-f]{32})")


@dataclass(frozen=True, slots=True)
class Opened:
    """What was sealed: ``secrets`` by name, ``header`` empty where the record holds none."""

    record: Record
    secrets: Mapping[str, Secret]
    header: Secret


@dataclass(frozen=True, slots=True)
class Openers:
    """What may open a record: ``identities`` of age, and ``shares`` that their holders have decrypted."""

    identities: Sequence[pyrage.x25519.Identity] = ()
    shares: Sequence[Secret] = ()


def seal(
    record: Record, secrets: Mapping[str, Secret], header: bytes = b"", *, test: pyrage.x25519.Identity
) -> tuple[Record, dict[str, bytes]]:
    """Seal secrets to a record's recipients.

    Args:
        record: without sealed files.
        secrets: by name; text in ASCII.
        header: a LUKS header's bytes.
        test: a key that opens it too, and that nobody keeps: with it is proven that it opens.

    Returns:
        The record with its files' digests, and the files by name.
    """
    told = {name: secret.reveal().decode("ascii") for name, secret in secrets.items()}
    plain = canonical_bytes({"record": record.inner(), "secrets": told}) + b"\n" + header
    keys = {name: pyrage.x25519.Recipient.from_str(key) for name, key in record.recipients.items()}
    files = {}
    if record.threshold == 1:
        files[f"{record.stem}.age"] = pyrage.encrypt(plain, [*keys.values(), test.to_public()])
    else:
        own = pyrage.x25519.Identity.generate()
        files[f"{record.stem}.age"] = pyrage.encrypt(plain, [own.to_public()])
        for (name, holder), share in zip(keys.items(), _split(own, record), strict=True):
            files[f"{record.stem}.share-{name}.age"] = pyrage.encrypt(share, [holder, test.to_public()])
    digests = {name: hashlib.sha256(data).hexdigest() for name, data in files.items()}
    return record.with_sealed(digests), files


def check_files(record: Record, files: Mapping[str, bytes]) -> None:
    """Whether the sealed files are those the record was made with; needs no key.

    Raises:
        EscrowInvalid: one is missing or damaged.
    """
    for name, digest in record.sealed.items():
        if name not in files:
            raise EscrowInvalid(f"{name} is missing", hint="take it from another copy of the escrow")
        if (found := hashlib.sha256(files[name]).hexdigest()) != digest:
            raise EscrowInvalid(
                f"{name} is damaged, or another record's", found=found, wanted=f"SHA-256 {digest}"
            )


def open_sealed(record: Record, files: Mapping[str, bytes], openers: Openers) -> Opened:
    """Open a record, and compare what it says in the open with what was sealed.

    Args:
        record: as its file says.
        files: the sealed files by name.
        openers: whose key or keys.

    Raises:
        EscrowInvalid: a file is missing or damaged, or the record says something else than was sealed.
        EscrowClosed: the keys are other people's, or too few.
    """
    check_files(record, files)
    sealed = files[f"{record.stem}.age"]
    if record.threshold == 1:
        plain = _decrypted(sealed, openers.identities)
    else:
        plain = _decrypted(sealed, [_put_together(record, files, openers)])
    if plain is None:
        raise _closed(record, "no key of a recipient")
    return _opened(record, plain)


def share_of(record: Record, files: Mapping[str, bytes], identity: pyrage.x25519.Identity) -> Secret:
    """The share of whoever's key this is, as one line for ssss(1).

    Raises:
        EscrowInvalid: a file is missing or damaged.
        EscrowClosed: it is nobody's key of this record.
    """
    check_files(record, files)
    shares = _shares(record, files, [identity])
    if not shares:
        raise _closed(record, "no key of a holder")
    return Secret(shares[0])


def _split(key: pyrage.x25519.Identity, record: Record) -> list[bytes]:
    """A share of each holder, in the order of the recipients."""
    from Crypto.Protocol.SecretSharing import Shamir

    letters = str(key).removeprefix(_BEGINNING).encode("ascii")
    lines: list[list[str]] = [[] for _ in record.recipients]
    for at in range(0, len(letters), _BLOCK):
        number = letters[at : at + _BLOCK].rjust(_NUMBER, b"\0")
        divided = Shamir.split(record.threshold, len(record.recipients), number, ssss=True)
        for holder, (place, share) in zip(lines, divided, strict=True):
            holder.append(f"{place}-{share.hex()}\n")
    return ["".join(holder).encode("ascii") for holder in lines]


def _shares(
    record: Record, files: Mapping[str, bytes], identities: Iterable[pyrage.x25519.Identity]
) -> list[bytes]:
    names = [f"{record.stem}.share-{name}.age" for name in record.recipients]
    opened = [_decrypted(files[name], [one]) for name in names for one in identities]
    return [share for share in opened if share is not None]


def _put_together(record: Record, files: Mapping[str, bytes], openers: Openers) -> pyrage.x25519.Identity:
    """The key of a record that takes several people.

    Raises:
        EscrowClosed: too few shares, or such as do not belong together.
    """
    from Crypto.Protocol.SecretSharing import Shamir

    given = [*_shares(record, files, openers.identities), *(one.reveal() for one in openers.shares)]
    shares = dict(_parsed_share(record, share) for share in given)
    if len(shares) < record.threshold:
        raise _closed(record, f"{len(shares)} of {record.threshold} shares")
    chosen = sorted(shares.items())[: record.threshold]
    try:
        blocks = [
            Shamir.combine([(place, lines[at]) for place, lines in chosen], ssss=True)
            for at in range(_BLOCKS)
        ]
        letters = b"".join(block.lstrip(b"\0") for block in blocks).decode("ascii")
        return pyrage.x25519.Identity.from_str(_BEGINNING + letters)
    except (pyrage.IdentityError, ValueError):  # the check digits of Bech32 are wrong, or it is no text
        raise _closed(record, "shares that do not belong together") from None


def _parsed_share(record: Record, share: bytes) -> tuple[int, list[bytes]]:
    """A holder's number, and a share of every block."""
    matches = [_SHARE.fullmatch(line.strip()) for line in share.strip().splitlines()]
    parts = [(int(match[1]), bytes.fromhex(match[2].decode("ascii"))) for match in matches if match]
    places = {place for place, _ in parts}
    if len(parts) != len(matches) or len(parts) != _BLOCKS or len(places) != 1:
        wanted = f"{_BLOCKS} lines of one number, a hyphen, and 32 hexadecimal digits"
        raise _closed(record, "a share that is none", wanted)
    return parts[0][0], [part for _, part in parts]


def _decrypted(sealed: bytes, identities: Sequence[pyrage.x25519.Identity]) -> bytes | None:
    """None where no key fits; what is damaged was found before."""
    try:
        return pyrage.decrypt(sealed, list(identities)) if identities else None
    except pyrage.DecryptError:
        return None


def _opened(record: Record, plain: bytes) -> Opened:
    line, _, header = plain.partition(b"\n")
    try:
        values = json.loads(line)
        inner, told = values["record"], values["secrets"]
        secrets = {name: Secret(value.encode("ascii")) for name, value in told.items()}
    except (ValueError, KeyError, TypeError, AttributeError):
        raise EscrowInvalid(
            f"what is sealed in {record.stem}.age is no escrow", wanted="one line of JSON, and a header"
        ) from None
    if inner != record.inner():
        differing = sorted(
            key for key in {*inner, *record.inner()} if inner.get(key) != record.inner().get(key)
        )
        raise EscrowInvalid(
            f"{record.stem}.json says something else than was sealed",
            found=f"another {', '.join(differing)}",
            wanted="what stands inside",
            hint="somebody changed it, or took it for another record; take both from another copy",
        )
    if record.purpose == "keys" and set(secrets) != set(record.holds):
        raise EscrowInvalid(
            f"{record.stem}.age does not hold what it says", found=", ".join(sorted(secrets))
        )
    return Opened(record, secrets, Secret(header))


def _closed(record: Record, found: str, wanted: str = "") -> EscrowClosed:
    who = ", ".join(record.recipients)
    one = f"the key of one of: {who}"
    return EscrowClosed(
        f"{record.stem} cannot be opened",
        found=found,
        wanted=wanted or (one if record.threshold == 1 else f"{record.threshold} shares of: {who}"),
        hint="name key files with --identity, and shares that holders decrypted with --share",
    )
