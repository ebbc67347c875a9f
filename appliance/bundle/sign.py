"""Adding one holder's signature to a bundle.

The signature is made by ``ssh-keygen -Y sign``, so the key may be a file, with or without a
passphrase, in ssh-agent, or on a token; the passphrase is asked for by ssh-keygen on the terminal and
never seen here.  What comes back is judged by our own code before it is put in its place.
"""

from __future__ import annotations

import os
import subprocess
from dataclasses import dataclass
from typing import TYPE_CHECKING

from appliance.bundle.durable import replace_file
from appliance.bundle.media.label import SPARE_FOLDER
from appliance.bundle.opening import open_tree
from appliance.bundle.paths import MANIFEST_PATH, TRUST_FOLDER, signature_path
from appliance.bundle.reader import read_contents, read_signed, require_file
from appliance.errors import (
    PreflightFailed,
    SignerUnknown,
    SigningFailed,
    ThresholdNotMet,
    ToolMissing,
    Usage,
)
from appliance.trust.policy import Signer, decide, judge_signature
from appliance.trust.root import HOLDER, ROLES, namespace, parse_root
from appliance.trust.sshsig import parse_signature, verify_signature

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from appliance.trust.root import Root


@dataclass(frozen=True, slots=True)
class SignedBundle:
    """What signing did: the new signature, and how far the bundle is by its own root.

    ``threshold`` is None and ``signers`` holds only this one if the bundle carries no root.
    ``spoilt`` says what is wrong with other signatures there: with them the bundle never verifies.
    """

    path: Path
    digest: str
    role: str
    signer: Signer
    signers: tuple[Signer, ...]
    threshold: int | None
    spoilt: tuple[str, ...] = ()


def sign_bundle(
    folders: Path | Sequence[Path], key: Path, *, role: str = "release", holder: str | None = None
) -> SignedBundle:
    """Sign the list of the bundle in ``folders``; a former signature of the same holder is replaced.

    List, manifest, names and sizes are checked first; the payload's bytes are not, since it is the
    list that is signed: damaged bytes can never pass for the listed ones.

    Args:
        folders: where the bundle lies; of several volumes every one is signed, its second copies too.
        key: a private key file, or a public one whose private half ssh-agent holds.
        role: the role to sign in.
        holder: the holder's name; found in the bundle's root by the key if None.

    Raises:
        Usage: no such key file or role, or the holder is not known.
        ToolMissing: there is no ssh-keygen.
        SigningFailed: ssh-keygen could not sign.
        SignerUnknown, SignatureInvalid, KeyRefused: by the bundle's root this key does not count.
        BundleUntrusted: the bundle is incomplete or malformed; it is not signed.
        PreflightFailed, SpaceExhausted: a volume cannot be written to.
    """
    if role not in ROLES:
        raise Usage("no such role", found=role, wanted=", ".join(ROLES))
    if holder is not None and not HOLDER.fullmatch(holder):
        raise Usage("a holder's name is misspelled", found=ascii(holder), wanted=HOLDER.pattern)
    with open_tree(folders) as tree:
        require_file(tree, MANIFEST_PATH)
        signed = read_signed(tree)
        carried = read_contents(tree, signed).root
    root = parse_root(carried) if carried is not None else None
    armoured = _ssh_sign(key, signed.listing, namespace(role))
    signer = _judge(signed.listing, armoured, root, role, holder)
    path = _write_everywhere(tree.folders, signature_path(signer.holder), armoured)
    if root is None:
        return SignedBundle(path, signed.digest, role, signer, (signer,), None)
    verdict = decide(signed.listing, {**signed.signatures, signer.holder: armoured}, root, role)
    spoilt = tuple(each.message for each in verdict.refusals if not isinstance(each, ThresholdNotMet))
    return SignedBundle(path, signed.digest, role, signer, verdict.signers, verdict.threshold, spoilt)


def _write_everywhere(folders: Sequence[Path], path: str, data: bytes) -> Path:
    """Write a file beside the list into the bundle's folder, or onto all its volumes; the first place.

    Raises:
        PreflightFailed, SpaceExhausted: one of them cannot be written to.  As far as that can be
            foreseen, nothing is written to the others either.
    """
    places = [folder / path for folder in folders]
    places += [
        folder / SPARE_FOLDER / path
        for folder in folders
        if (folder / SPARE_FOLDER / TRUST_FOLDER).is_dir()
    ]
    if locked := [place.parent for place in places if not os.access(place.parent, os.W_OK)]:
        raise PreflightFailed(
            f"nothing can be written under {locked[0]}",
            found="no permission, or a write-protected medium",
            wanted="every folder the bundle lies in: all of them carry every signature",
            hint="sign a writable copy, and before `appliance media write`",
        )
    for place in places:
        replace_file(place, data)
    return places[0]


def _ssh_sign(key: Path, message: bytes, space: str) -> bytes:
    if not key.is_file():
        raise Usage(
            f"there is no key file {key}", wanted="a private key, or a public one held by ssh-agent"
        )
    try:
        # stderr stays the terminal's: ssh-keygen says there when a token waits to be touched.
        done = subprocess.run(
            ["ssh-keygen", "-Y", "sign", "-f", str(key.absolute()), "-n", space],
            input=message,
            stdout=subprocess.PIPE,
            check=False,
        )
    except FileNotFoundError as fault:
        raise ToolMissing("ssh-keygen is not installed", hint="apt install openssh-client") from fault
    if done.returncode != 0:
        raise SigningFailed(
            f"ssh-keygen could not sign with {key}",
            found=f"exit status {done.returncode}; its own message stands above",
            wanted="the passphrase, or ssh-agent holding the key (ssh-add -l), or the token at hand",
            hint="try it: ssh-keygen -Y sign -f KEY -n test < /dev/null",
        )
    return done.stdout


def _judge(listing: bytes, armoured: bytes, root: Root | None, role: str, holder: str | None) -> Signer:
    """Check what ssh-keygen returned as any verifier would; returns who signed."""
    signature = parse_signature(armoured)
    verify_signature(signature, listing, namespace(role))
    key = signature.key
    if root is None:
        if holder is None:
            raise Usage(
                "the bundle carries no root, so the key's holder is not known",
                found=key.fingerprint,
                wanted="--holder NAME",
            )
        return Signer(holder, key.keyid, key.fingerprint)
    if role not in root.roles:
        raise SignerUnknown(f"the bundle's root gives nobody the role {role}", found=", ".join(root.roles))
    enrolled = root.keys.get(key.keyid)
    name = holder or (enrolled.holder if enrolled else "nobody")
    return judge_signature(listing, name, armoured, root, role)
