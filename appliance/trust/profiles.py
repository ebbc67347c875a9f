"""Profiles: which algorithms a root allows, and what it asks of what is signed.

A root names its profile; whoever judges by that root asks the profile here, and compares no names.

- ``standard``: everything that ``appliance.trust.keys`` and ``appliance.trust.sshsig`` accept; a bundle's
  files are signed by their SHA-256.
- ``cnsa`` (CNSA 2.0, with ECDSA on P-384 for the transition): P-384 and ML-DSA-87 together, each holder
  with both; no SHA-256 below a signature, so a bundle's files are signed by their SHA-384.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True)
class Profile:
    """What is allowed, and asked for.

    ``ssh_keys``: the kinds of SSH keys; None for all that are sound.  ``ssh_hashes``: what an SSH signature
    may hash its message with before the key signs.  ``post_quantum``: what ``pq`` has to be; None to leave
    it open.  ``list_digest``: by which digests a bundle's signed list names files, as hashlib spells it.
    """

    name: str
    ssh_keys: frozenset[str] | None
    ssh_hashes: frozenset[str]
    post_quantum: str | None
    list_digest: str


STANDARD: Final = Profile("standard", None, frozenset({"sha256", "sha512"}), None, "sha256")
CNSA: Final = Profile(
    "cnsa", frozenset({"ecdsa-sha2-nistp384"}), frozenset({"sha512"}), "require", "sha384"
)
#: By name, from the weakest to the strongest: a later root's is as strong as that of the one before.
PROFILES: Final = {each.name: each for each in (STANDARD, CNSA)}
