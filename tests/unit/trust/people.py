"""People with keys in memory: for tests of decisions, where thousands of signatures are made."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.mldsa import MLDSA87PrivateKey
from cryptography.hazmat.primitives.hashes import SHA384
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from appliance.trust.founding import Enrolment
from appliance.trust.keys import parse_public
from appliance.trust.mldsa import post_quantum_key
from appliance.trust.policy import KEY_DIGITS, Signatures
from appliance.trust.root import namespace
from appliance.trust.sshsig import signature_file, signed_data

if TYPE_CHECKING:
    from appliance.trust.keys import PublicKey
    from appliance.trust.mldsa import PostQuantumKey


@dataclass(frozen=True)
class Person:
    """A holder with one key of each kind; ``p384`` gives an ECDSA key in the place of Ed25519."""

    name: str
    p384: bool = False
    _first: Ed25519PrivateKey | ec.EllipticCurvePrivateKey = field(init=False, repr=False)
    _second: MLDSA87PrivateKey = field(init=False, repr=False)

    def __post_init__(self) -> None:
        first = ec.generate_private_key(ec.SECP384R1()) if self.p384 else Ed25519PrivateKey.generate()
        object.__setattr__(self, "_first", first)
        object.__setattr__(self, "_second", MLDSA87PrivateKey.generate())

    @property
    def key(self) -> PublicKey:
        encoded = self._first.public_key().public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH)
        return parse_public(encoded.decode())

    @property
    def second_key(self) -> PostQuantumKey:
        return post_quantum_key(self._second.public_key().public_bytes_raw())

    def sign(self, message: bytes, role: str = "release", hashed: str = "sha512") -> bytes:
        """An armoured SSHSIG signature."""
        data = signed_data(message, namespace(role), hashed)
        if isinstance(self._first, Ed25519PrivateKey):
            value = self._first.sign(data)
        else:
            value = self._first.sign(data, ec.ECDSA(SHA384()))
        return signature_file(self.key, namespace(role), value, hashed)

    def sign_second(self, message: bytes, role: str = "release") -> bytes:
        """A raw ML-DSA-87 signature."""
        return self._second.sign(message, namespace(role).encode())

    def enrolled(self, *roles: str, second: bool = False) -> list[Enrolment]:
        """This person's keys for some roles."""
        keys = [self.key, self.second_key] if second else [self.key]
        return [Enrolment(self.name, key, roles or ("root", "release")) for key in keys]


def signed(message: bytes, role: str, *people: Person, second: bool = False) -> Signatures:
    """Signatures of these people, named as beside a document."""
    return Signatures(
        {f"{each.name}.{each.key.keyid[:KEY_DIGITS]}": each.sign(message, role) for each in people},
        {
            f"{each.name}.{each.second_key.keyid[:KEY_DIGITS]}": each.sign_second(message, role)
            for each in people
        }
        if second
        else {},
    )
