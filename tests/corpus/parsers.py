"""Every parser of ours that reads what comes from outside, each with something good to begin with."""

from __future__ import annotations

import os
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Final

from appliance.bundle.list_kind import INDEX, SHA384
from appliance.bundle.listing import listing_bytes
from appliance.bundle.media.label import VolumeLabel, VolumeShare, label_bytes, parse_label
from appliance.bundle.parity.packets import Packet, scan_packets
from appliance.errors import (
    BundleMalformed,
    JournalLost,
    KeyRefused,
    LabelInvalid,
    ProvenanceInvalid,
    RevocationInvalid,
    RootInvalid,
    SignatureInvalid,
    StatementInvalid,
)
from appliance.trust.canonical import NotCanonicalError, canonical_bytes, parse_canonical
from appliance.trust.dsse import Envelope, envelope_bytes
from appliance.trust.founding import compose
from appliance.trust.journal import Journal, KnownRoot, journal_bytes, parse_journal
from appliance.trust.keys import parse_public_file
from appliance.trust.revocation import Revocation, revocation_bytes
from appliance.trust.root import root_bytes
from appliance.trust.sshsig import parse_signature
from appliance.trust.statements import (
    Admission,
    DrivePermit,
    Enrolment,
    Permit,
    Release,
    Time,
    Waiver,
    parse_statement,
    statement_bytes,
)
from tests.independent.agreement import (
    parse_blob,
    parse_envelope,
    parse_listing,
    parse_manifest,
    parse_post_quantum,
    parse_revocation,
    parse_root,
)
from tests.unit.trust.people import Person

if TYPE_CHECKING:
    from collections.abc import Callable

A, B = "a" * 64, "b" * 64
J, NONCE, NODE = "5" * 32, "1" * 64, "gpu-01"
VOLUME: Final = "6e2c1f0a-93b4-4d58-8a7e-0c1d2e3f4a5b"
NOW: Final = "2026-01-31T12:00:00Z"


@dataclass(frozen=True)
class Parser:
    """What reads bytes; something it accepts; the errors that refuse anything else."""

    parse: Callable[[bytes], object]
    good: bytes
    errors: tuple[type[Exception], ...]


@cache
def json_parsers() -> dict[str, Parser]:
    """Those of canonical JSON."""
    documents = {
        "admission": Admission(A, "demo", "1.0", 1, (NODE,)),
        "permit": Permit(NODE, J, NONCE, "demo", Release(2, A), Release(1, B), "it does not start"),
        "waiver": Waiver(NODE, J, NONCE, A, "nothing newer"),
        "time": Time(NODE, J, NONCE, NOW),
        "enrolment": Enrolment(NODE, NONCE, "new disk", {"demo": 8}),
        "drive-permit": DrivePermit(NODE, "retire", {"S1": VOLUME}, NOW, NONCE, "sold"),
    }
    people = [Person("alice"), Person("bob", p384=True)]
    root = compose([each for person in people for each in person.enrolled(second=True)])
    journal = Journal(J, KnownRoot(2, A), 5, {"demo": Release(7, B)}, Revocation(4, (A,)), NOW, (NONCE,), 1)
    label = VolumeLabel(A, "demo", "1.0", 1, (VolumeShare(10, 1, "payload/a/b", "payload/a/b"),))
    return {
        "canonical": Parser(
            lambda data: parse_canonical(data, limit=1 << 20),
            canonical_bytes({"a": [1, "ä", None, True], "b": {"c": ""}}),
            (NotCanonicalError,),
        ),
        "root": Parser(parse_root, root_bytes(root), (RootInvalid, KeyRefused)),
        "revocation": Parser(
            parse_revocation, revocation_bytes(Revocation(4, (A,), (B,))), (RevocationInvalid,)
        ),
        "journal": Parser(parse_journal, journal_bytes(journal), (JournalLost,)),
        "envelope": Parser(
            parse_envelope, envelope_bytes(Envelope(b"{}", A, b"x" * 64)), (ProvenanceInvalid,)
        ),
        "manifest": Parser(parse_manifest, manifest_bytes(), (BundleMalformed,)),
        "label": Parser(parse_label, label_bytes(label), (LabelInvalid,)),
        **{
            name: Parser(parse_statement, statement_bytes(each), (StatementInvalid,))
            for name, each in documents.items()
        },
    }


def manifest_bytes() -> bytes:
    """A small manifest."""
    file = {
        "path": "payload/model/m",
        "size": 5,
        "sha256": A,
        "mode": "0644",
        "name": "m",
        "version": "1",
        "licence": "MIT",
        "origin": {"kind": "file"},
    }
    return canonical_bytes(
        {
            "format": 1,
            "product": "demo",
            "version": "1.0.0",
            "sequence": 7,
            "created": NOW,
            "target": {
                "distribution": "debian",
                "suite": "trixie",
                "architecture": "amd64",
                "python": "3.13",
            },
            "inference": {"engine": "engine", "model": "model", "file": "m", "name": "demo"},
            "requires": [],
            "components": {
                "engine": {"kind": "files", "files": []},
                "model": {"kind": "files", "files": [file]},
            },
            "files": [
                {"path": "VERIFY.txt", "size": 1, "sha256": A},
                {"path": "blocks.bin", "size": 32, "sha256": B},
            ],
        }
    )


@cache
def other_parsers() -> dict[str, Parser]:
    """Those of other forms."""
    alice, bob = Person("alice"), Person("bob", p384=True)
    listing = listing_bytes({"VERIFY.txt": A, "blocks.bin": A, "manifest.json": B, "payload/a/b": A})
    return {
        "list": Parser(parse_listing, listing, (BundleMalformed,)),
        "stricter list": Parser(
            lambda data: parse_listing(data, SHA384),
            listing_bytes(
                dict.fromkeys(["VERIFY.txt", "blocks.bin", "manifest.json", INDEX.path], "a" * 96)
            ),
            (BundleMalformed,),
        ),
        "signature": Parser(parse_signature, alice.sign(b"x"), (SignatureInvalid, KeyRefused)),
        "signature, P-384": Parser(parse_signature, bob.sign(b"x"), (SignatureInvalid, KeyRefused)),
        "key": Parser(parse_blob, alice.key.blob, (KeyRefused,)),
        "key, P-384": Parser(parse_blob, bob.key.blob, (KeyRefused,)),
        "key file": Parser(
            lambda data: parse_public_file(data.decode("utf-8", "replace")),
            f"{alice.key.text} alice\n".encode(),
            (KeyRefused,),
        ),
        "ML-DSA key": Parser(
            lambda data: parse_post_quantum(data.decode("utf-8", "replace")),
            alice.second_key.text.encode(),
            (KeyRefused,),
        ),
    }


def parity_packets(data: bytes) -> list[Packet]:
    """The sound packets of a parity file: never an error, whatever lies there."""
    fd = os.memfd_create("parity")
    try:
        os.write(fd, data)
        return list(scan_packets(fd))
    finally:
        os.close(fd)
