"""The private keys a holder can sign with: a file, ssh-agent, or a token.

A file is read here and its passphrase asked for once, on the terminal or by the program that
``SSH_ASKPASS`` names; both are forgotten when the command ends.  A key that ssh-agent holds never
leaves the agent.  A key on a token (``sk-``) is reached through ``ssh-keygen`` alone; a token signs
only its own framing, so such a key has no raw signatures.
"""

from __future__ import annotations

import getpass
import os
import subprocess
from typing import TYPE_CHECKING, Final, Protocol

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    PublicFormat,
    load_pem_private_key,
    load_ssh_private_key,
)

from appliance.errors import KeyRefused, SigningFailed, ToolMissing, Usage
from appliance.trust.dsse import digest_for
from appliance.trust.keys import parse_public, parse_public_file
from appliance.trust.sshsig import signature_file, signed_data
from appliance.trust.wire import WireError, WireReader

if TYPE_CHECKING:
    from pathlib import Path

    from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes
    from paramiko.agent import AgentKey

    from appliance.trust.keys import PublicKey

_OPENSSH: Final = b"-----BEGIN OPENSSH PRIVATE KEY-----"
_MAX_FILE: Final = 64 * 1024
_NOT_PRIVATE: Final = 0o077  # bits that let others read or change a key file


class SigningKey(Protocol):
    """A key that can sign now."""

    def sign(self, message: bytes, namespace: str) -> bytes:
        """An armoured SSHSIG signature over ``message``."""

    def sign_raw(self, data: bytes) -> bytes | None:
        """A raw signature: 64 bytes of Ed25519, DER of ECDSA; None if the key cannot make one."""


def open_key(path: Path) -> SigningKey:
    """The key in a file, or the one whose public half is there.

    A key that ssh-agent holds is used there; otherwise the private file is, whose name is that of
    the public one without ``.pub``.

    Raises:
        Usage: there is no such file.
        SigningFailed: it is no private key, others can read it, its passphrase is wrong or cannot be
            asked for, or neither agent nor file has the private key.
        KeyRefused: the key is of a kind not allowed.
    """
    if not path.is_file():
        raise Usage(
            f"there is no key file {path}", wanted="a private key, or a public one held by ssh-agent"
        )
    private = path.with_suffix("") if path.suffix == ".pub" else path
    public = _public_half(private.with_name(f"{private.name}.pub"))
    if public is not None:
        if public.application is not None:
            return _Token(path)
        if (held := _in_agent(public)) is not None:
            return _InAgent(public, held)
    if not private.is_file():
        raise SigningFailed(
            f"there is no private key for {path}",
            found=f"no file {private}, and no such key in ssh-agent",
            wanted="the private key beside it, or ssh-agent holding it (ssh-add -l)",
        )
    return _from_file(private)


class _InFile:
    """A private key in this process's memory."""

    def __init__(self, material: ed25519.Ed25519PrivateKey | ec.EllipticCurvePrivateKey) -> None:
        self._material = material
        encoded = material.public_key().public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH)
        self._public = parse_public(encoded.decode("ascii"))

    def sign(self, message: bytes, namespace: str) -> bytes:
        return signature_file(self._public, namespace, self.sign_raw(signed_data(message, namespace)))

    def sign_raw(self, data: bytes) -> bytes:
        if isinstance(self._material, ed25519.Ed25519PrivateKey):
            return self._material.sign(data)
        return self._material.sign(data, ec.ECDSA(digest_for(self._public)))


class _InAgent:
    """A private key that ssh-agent keeps."""

    def __init__(self, public: PublicKey, held: AgentKey) -> None:
        self._public, self._held = public, held

    def sign(self, message: bytes, namespace: str) -> bytes:
        return signature_file(self._public, namespace, self.sign_raw(signed_data(message, namespace)))

    def sign_raw(self, data: bytes) -> bytes:
        from paramiko.ssh_exception import SSHException

        try:
            reader = WireReader(bytes(self._held.sign_ssh_data(data)))
            _, value = reader.text(), reader.string()
            if isinstance(self._public.material, ed25519.Ed25519PublicKey):
                return value
            numbers = WireReader(value)
            return encode_dss_signature(numbers.positive(), numbers.positive())
        except (SSHException, OSError, WireError) as fault:
            raise SigningFailed(
                "ssh-agent would not sign", found=str(fault), hint="see what it holds: ssh-add -l"
            ) from fault


class _Token:
    """A key on a FIDO token, which ssh-keygen asks to be touched."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def sign(self, message: bytes, namespace: str) -> bytes:
        try:
            # stderr stays the terminal's: ssh-keygen says there that the token waits.
            done = subprocess.run(
                ["ssh-keygen", "-Y", "sign", "-f", str(self._path.absolute()), "-n", namespace],
                input=message,
                stdout=subprocess.PIPE,
                check=False,
            )
        except FileNotFoundError as fault:
            raise ToolMissing("ssh-keygen is not installed", hint="apt install openssh-client") from fault
        if done.returncode != 0:
            raise SigningFailed(
                f"ssh-keygen could not sign with {self._path}",
                found=f"exit status {done.returncode}; its own message stands above",
                wanted="the token at hand, and touched",
                hint="try it: ssh-keygen -Y sign -f KEY -n test < /dev/null",
            )
        return done.stdout

    def sign_raw(self, data: bytes) -> None:
        return None


def _public_half(path: Path) -> PublicKey | None:
    """The key in a ``.pub`` file; None if there is none.

    Raises:
        KeyRefused: it is malformed, or of a kind not allowed.
    """
    try:
        return parse_public_file(_read(path).decode("utf-8", "replace"))
    except FileNotFoundError:
        return None
    except KeyRefused as fault:
        fault.message = f"{path}: {fault.message}"
        raise


def _in_agent(public: PublicKey) -> AgentKey | None:
    if not os.environ.get("SSH_AUTH_SOCK"):
        return None
    from paramiko.agent import Agent
    from paramiko.ssh_exception import SSHException

    try:
        keys = Agent().get_keys()
    except (SSHException, OSError):
        return None  # no agent answers there: the file is asked for instead
    return next((key for key in keys if key.asbytes() == public.blob), None)


def _from_file(path: Path) -> SigningKey:
    material = load_private(path)
    # A token's key without its .pub file; ssh-keygen refuses what is none.
    return _Token(path) if material is None else key_of(material, path)


def load_private(path: Path) -> PrivateKeyTypes | None:
    """The private key in a file, whose passphrase is asked for if it has one; None for a token's.

    Raises:
        SigningFailed: it is no private key, others can read it, its passphrase is wrong or cannot be
            asked for.
    """
    if path.stat().st_mode & _NOT_PRIVATE:
        raise SigningFailed(
            f"others can read the private key {path}",
            found=f"mode {path.stat().st_mode & 0o777:04o}",
            wanted="0600",
            hint="make it private (chmod 600), and think about who may have copied it",
        )
    data = _read(path)
    load = load_ssh_private_key if data.startswith(_OPENSSH) else load_pem_private_key
    try:
        try:
            return load(data, None)
        except TypeError:  # it has a passphrase
            return load(data, ask_passphrase(f"Passphrase for {path}: ", path))
    except UnsupportedAlgorithm:
        return None
    except ValueError as fault:
        raise SigningFailed(
            f"{path} cannot be opened",
            found=str(fault).splitlines()[0][:200],
            wanted="a private key, and its passphrase if it has one",
        ) from fault


def key_of(material: PrivateKeyTypes, path: Path) -> SigningKey:
    """The key that signs with ``material``, which came from the file ``path``.

    Raises:
        KeyRefused: it is of a kind not allowed.
    """
    if not isinstance(material, ed25519.Ed25519PrivateKey | ec.EllipticCurvePrivateKey):
        raise KeyRefused(
            f"{path} holds a key of a kind not allowed",
            found=type(material).__name__.removesuffix("PrivateKey"),
            wanted="Ed25519, or ECDSA on P-256 or P-384",
            hint="make a key with: ssh-keygen -t ed25519   (or: -t ecdsa -b 384)",
        )
    return _InFile(material)


def ask_passphrase(prompt: str, path: Path) -> bytes:
    """What the person types, asked for as ssh does it (ssh(1), SSH_ASKPASS).

    Raises:
        SigningFailed: there is nobody to be asked for the passphrase of ``path``.
    """
    program = os.environ.get("SSH_ASKPASS")
    if program and os.environ.get("SSH_ASKPASS_REQUIRE") in {"force", "prefer"}:
        try:
            done = subprocess.run([program, prompt], stdout=subprocess.PIPE, check=False)
        except OSError as fault:
            raise _unasked(path, f"{program}: {fault.strerror}") from fault
        if done.returncode != 0:
            raise _unasked(path, f"{program} ended with status {done.returncode}")
        return done.stdout.removesuffix(b"\n")
    try:
        with open("/dev/tty", "r+b", buffering=0):  # noqa: PTH123 - a look whether there is one
            pass
    except OSError as fault:
        raise _unasked(path, "no terminal") from fault
    return getpass.getpass(prompt).encode()


def _unasked(path: Path, found: str) -> SigningFailed:
    return SigningFailed(
        f"nobody could be asked for the passphrase of {path}",
        found=found,
        wanted="a terminal, or the key in ssh-agent",
        hint="load it first: ssh-add KEY; then name its .pub file",
    )


def _read(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(_MAX_FILE)
    except FileNotFoundError:
        raise
    except OSError as fault:
        raise Usage(f"{path} cannot be read", found=fault.strerror) from fault
