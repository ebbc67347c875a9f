"""Sealing a record to its recipients, and opening it: age and, for m of n, Shamir's shares.

What is sealed is one line of canonical JSON, ``{"record": …, "secrets": {…}}``, then the bytes of a header.

* One is enough (threshold 1): ``STEM.age``, encrypted to every recipient.
* m of n are needed: a random key of 128 bits is the passphrase of ``STEM.age``; it is divided into n
  shares, of which each is encrypted to its holder, ``STEM.share-NAME.age``.  Inside of a share stands one
  line as ssss(1) takes it, ``2-5af0…``; the key is written in hexadecimal, and so is the passphrase.

So without this program: ``age -d -i KEY STEM.age``; or each holder ``age -d -i KEY STEM.share-NAME.age``,
then ``ssss-combine -x -D -t m``, then ``age -d STEM.age`` and what that printed.  Why:
docs/decisions/0053.

age (age-encryption.org/v1) authenticates what it encrypts, to whoever can decrypt it: a share, a key or a
byte that is not the right one is an error, and never other secrets.  No library is told more than it needs,
and none of their messages gets into ours.
"""

from __future__ import annotations

import hashlib
import json
import re
import secrets as system_random
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import pyrage

from appliance.disk.secret import Secret
from appliance.errors import EscrowClosed, EscrowInvalid
from appliance.trust.canonical import canonical_bytes

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from appliance.disk.escrow.record import Record

_KEY_BYTES: Final = 16
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
        key = system_random.token_bytes(_KEY_BYTES)
        files[f"{record.stem}.age"] = pyrage.passphrase.encrypt(plain, key.hex())
        for (name, holder), share in zip(keys.items(), _split(key, record), strict=True):
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
        if plain is None:
            raise _closed(record, "no key of a recipient")
    else:
        plain = _put_together(record, files, openers)
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


def _split(key: bytes, record: Record) -> list[bytes]:
    from Crypto.Protocol.SecretSharing import Shamir

    shares = Shamir.split(record.threshold, len(record.recipients), key, ssss=True)
    return [f"{number}-{share.hex()}".encode() for number, share in shares]


def _shares(
    record: Record, files: Mapping[str, bytes], identities: Iterable[pyrage.x25519.Identity]
) -> list[bytes]:
    names = [f"{record.stem}.share-{name}.age" for name in record.recipients]
    opened = [_decrypted(files[name], [one]) for name in names for one in identities]
    return [share for share in opened if share is not None]


def _put_together(record: Record, files: Mapping[str, bytes], openers: Openers) -> bytes:
    """The plain text of a record that takes several people."""
    from Crypto.Protocol.SecretSharing import Shamir

    given = [*_shares(record, files, openers.identities), *(one.reveal() for one in openers.shares)]
    matches = [_SHARE.fullmatch(share.strip()) for share in given]
    if None in matches:
        raise _closed(record, "a share that is none", "a number, a hyphen, and 32 hexadecimal digits")
    shares = {int(match[1]): bytes.fromhex(match[2].decode()) for match in matches if match}
    if len(shares) < record.threshold:
        raise _closed(record, f"{len(shares)} of {record.threshold} shares")
    chosen = sorted(shares.items())[: record.threshold]
    try:
        key: bytes = Shamir.combine(chosen, ssss=True)
        return pyrage.passphrase.decrypt(files[f"{record.stem}.age"], key.hex())
    except (pyrage.DecryptError, ValueError):
        raise _closed(record, "shares that do not belong together") from None


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
