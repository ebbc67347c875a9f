"""Signing with a key file, with ssh-agent, with a passphrase; and what is not signed."""

from __future__ import annotations

import base64
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from cryptography.hazmat.primitives.asymmetric import ed25519

from appliance.bundle import sign
from appliance.bundle.sign import sign_bundle
from appliance.bundle.signing_keys import open_key
from appliance.bundle.verify import verify_bundle
from appliance.errors import (
    BundleUntrusted,
    FileMissing,
    FileUnexpected,
    KeyRefused,
    SignatureInvalid,
    SignerUnknown,
    SigningFailed,
    ToolMissing,
    Usage,
)
from appliance.progress import Silent
from appliance.trust.allowed_signers import allowed_signers
from appliance.trust.keys import encode_blob
from appliance.trust.root import root_bytes

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from appliance.bundle.signing_keys import SigningKey
    from appliance.trust.root import Root
    from tests.conftest import BundleMaker, Holders


@pytest.fixture
def unsigned(maker: BundleMaker, two_of_three: Root) -> Path:
    return maker.write("unsigned", two_of_three)


@pytest.fixture
def agent(holders: Holders, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An ssh-agent of this test that holds bob's key; gives bob's public key file, alone in a folder."""
    started = subprocess.run(["ssh-agent", "-s"], capture_output=True, text=True, check=True).stdout
    for name, value in re.findall(r"(SSH_\w+)=([^;]+);", started):
        monkeypatch.setenv(name, value)
    subprocess.run(["ssh-add", "-q", str(holders.key("bob"))], check=True)
    (tmp_path / "only-public").mkdir()
    yield Path(shutil.copy(holders.folder / "bob.pub", tmp_path / "only-public"))
    subprocess.run(["ssh-agent", "-k"], capture_output=True, check=True)


def signatures(bundle: Path) -> list[str]:
    return sorted(path.name for path in (bundle / "trust").iterdir() if path.suffix == ".sig")


def provenance(bundle: Path) -> list[str]:
    return sorted(path.name for path in (bundle / "trust").iterdir() if path.suffix == ".json")[:-1]


def test_the_holder_is_found_by_the_key(unsigned: Path, holders: Holders, two_of_three: Root) -> None:
    one = sign_bundle(unsigned, holders.key("alice"))
    assert (one.signer.holder, len(one.signers), one.threshold) == ("alice", 1, 2)
    two = sign_bundle(unsigned, holders.key("carol"), holder="carol")
    assert [signer.holder for signer in two.signers] == ["alice", "carol"]
    assert signatures(unsigned) == ["SHA256SUMS.alice.sig", "SHA256SUMS.carol.sig"]
    assert two.digest == verify_bundle(unsigned, root_bytes(two_of_three), progress=Silent()).digest


def test_signing_again_replaces(unsigned: Path, holders: Holders) -> None:
    first = sign_bundle(unsigned, holders.key("bob")).path.read_bytes()
    second = sign_bundle(unsigned, holders.key("bob")).path.read_bytes()
    assert first != second  # ECDSA signatures differ each time
    assert signatures(unsigned) == ["SHA256SUMS.bob.sig"]


def test_a_spoilt_signature_beside_the_new_one_is_said(unsigned: Path, holders: Holders) -> None:
    """Left over from another build, say: the bundle would never verify with it."""
    sign_bundle(unsigned, holders.key("bob")).path.write_bytes(b"old\n")
    done = sign_bundle(unsigned, holders.key("alice"))
    assert [signer.holder for signer in done.signers] == ["alice"]
    assert len(done.spoilt) == 1
    assert done.spoilt[0].startswith("signature of bob: ")


@pytest.mark.skipif(os.geteuid() != 0, reason="mounting needs root")
def test_a_bundle_on_a_read_only_medium(unsigned: Path, holders: Holders) -> None:
    script = """
        mount --bind "$1" "$1" && mount -o remount,bind,ro "$1" || exit 99
        exec "$2" -c "from appliance.cli.app import main; main()" sign "$1" --key "$3" --json
    """
    key = str(holders.key("alice"))
    command = ["unshare", "--mount", "sh", "-c", script, "sh", str(unsigned), sys.executable, key]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 5
    assert '"PreflightFailed"' in done.stdout


def test_signing_with_an_agent(unsigned: Path, agent: Path, holders: Holders, two_of_three: Root) -> None:
    """Both signatures are made in the agent: there is no private key beside the public one."""
    assert sign_bundle(unsigned, agent).signer.holder == "bob"
    sign_bundle(unsigned, holders.key("alice"))
    found = verify_bundle(unsigned, root_bytes(two_of_three), progress=Silent())
    assert found.provenance == ("alice", "bob")


def test_an_agent_that_has_gone(
    unsigned: Path, holders: Holders, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The file is used, as ssh does."""
    monkeypatch.setenv("SSH_AUTH_SOCK", str(tmp_path / "nothing"))
    assert sign_bundle(unsigned, holders.key("alice")).signer.holder == "alice"


def test_a_key_in_another_file_format(unsigned: Path, holders: Holders, tmp_path: Path) -> None:
    key = Path(shutil.copy(holders.key("carol"), tmp_path / "pem"))
    command = ["ssh-keygen", "-q", "-p", "-m", "PKCS8", "-P", "", "-N", "", "-f", str(key)]
    subprocess.run(command, check=True, capture_output=True)
    assert "OPENSSH" not in key.read_text()
    assert sign_bundle(unsigned, key).signer.holder == "carol"


def test_a_key_that_others_can_read(unsigned: Path, holders: Holders, tmp_path: Path) -> None:
    key = Path(shutil.copy(holders.key("alice"), tmp_path / "open"))
    key.chmod(0o640)
    with pytest.raises(SigningFailed, match="others can read"):
        sign_bundle(unsigned, key)
    assert signatures(unsigned) == []


def test_ssh_keygen_accepts_every_signature(
    unsigned: Path, holders: Holders, two_of_three: Root, tmp_path: Path
) -> None:
    (tmp_path / "signers").write_text(allowed_signers(two_of_three))
    for name in ("alice", "bob", "carol"):
        signed = sign_bundle(unsigned, holders.key(name)).path
        command = ["ssh-keygen", "-Y", "verify", "-f", str(tmp_path / "signers"), "-I", name]
        command += ["-n", "release@appliance", "-s", str(signed)]
        listing = (unsigned / "trust/SHA256SUMS").read_bytes()
        subprocess.run(command, input=listing, check=True, capture_output=True)


def test_a_former_statement_goes_when_none_is_made(unsigned: Path, holders: Holders) -> None:
    """Left there, it could be by a key that the holder has replaced, and spoil the bundle."""
    sign_bundle(unsigned, holders.key("alice"))
    assert provenance(unsigned) == ["provenance.alice.dsse.json"]
    done = sign_bundle(unsigned, holders.key("alice"), with_provenance=False)
    assert done.provenance is None
    assert provenance(unsigned) == []


def test_an_agent_without_the_key(unsigned: Path, agent: Path, holders: Holders) -> None:
    public = Path(shutil.copy(holders.folder / "alice.pub", agent.parent))
    with pytest.raises(SigningFailed):
        sign_bundle(unsigned, public)
    assert signatures(unsigned) == []


@pytest.fixture
def locked_key(holders: Holders, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], Path]:
    """Alice's key under a passphrase, which is answered by an askpass program that counts."""

    def lock(answer: str) -> Path:
        key = shutil.copy(holders.key("alice"), tmp_path / "locked")
        command = ["ssh-keygen", "-q", "-p", "-P", "", "-N", "correct horse", "-f", str(key)]
        subprocess.run(command, check=True, capture_output=True)
        askpass = tmp_path / "askpass"
        askpass.write_text(f"#!/bin/sh\necho asked >> {tmp_path}/asked\necho '{answer}'\n")
        askpass.chmod(0o755)
        monkeypatch.setenv("SSH_ASKPASS", str(askpass))
        monkeypatch.setenv("SSH_ASKPASS_REQUIRE", "force")
        return key

    return lock


def test_a_passphrase_is_asked_for_once(unsigned: Path, locked_key: Callable[[str], Path]) -> None:
    key = locked_key("correct horse")
    done = sign_bundle(unsigned, key)
    assert done.signer.holder == "alice"
    assert done.provenance
    assert key.with_name("asked").read_text() == "asked\n"


def test_nobody_to_ask_for_the_passphrase(
    unsigned: Path, locked_key: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    key = locked_key("correct horse")
    monkeypatch.setenv("SSH_ASKPASS", "/nonexistent")
    with pytest.raises(SigningFailed, match="nobody could be asked"):
        sign_bundle(unsigned, key)


def test_a_wrong_passphrase(unsigned: Path, locked_key: Callable[[str], Path]) -> None:
    with pytest.raises(SigningFailed):
        sign_bundle(unsigned, locked_key("wrong"))
    assert signatures(unsigned) == []


def test_a_stranger_s_key(unsigned: Path, holders: Holders) -> None:
    with pytest.raises(SignerUnknown):
        sign_bundle(unsigned, holders.key("mallory"))
    assert signatures(unsigned) == []


def test_another_holder_s_name(unsigned: Path, holders: Holders) -> None:
    with pytest.raises(SignatureInvalid, match="another holder"):
        sign_bundle(unsigned, holders.key("alice"), holder="bob")
    assert signatures(unsigned) == []


def test_a_role_the_root_does_not_have(unsigned: Path, holders: Holders) -> None:
    with pytest.raises(SignerUnknown, match="nobody"):
        sign_bundle(unsigned, holders.key("alice"), role="site")
    with pytest.raises(Usage, match="no such role"):
        sign_bundle(unsigned, holders.key("alice"), role="admin")


def test_a_key_of_a_kind_not_allowed(unsigned: Path, tmp_path: Path) -> None:
    command = ["ssh-keygen", "-q", "-t", "rsa", "-b", "3072", "-N", "", "-f", str(tmp_path / "rsa")]
    subprocess.run(command, check=True)
    with pytest.raises(KeyRefused):
        sign_bundle(unsigned, tmp_path / "rsa")
    assert signatures(unsigned) == []


def test_a_file_that_is_no_key(unsigned: Path, tmp_path: Path) -> None:
    with pytest.raises(Usage, match="no key file"):
        sign_bundle(unsigned, tmp_path / "nothing")
    (tmp_path / "text").write_text("not a key\n")
    (tmp_path / "text").chmod(0o600)
    with pytest.raises(SigningFailed):
        sign_bundle(unsigned, tmp_path / "text")


@pytest.fixture
def token(tmp_path: Path) -> Path:
    """A key on a token that is not plugged in: its public half and the handle beside it."""
    point = ed25519.Ed25519PrivateKey.generate().public_key().public_bytes_raw()
    blob = encode_blob("sk-ssh-ed25519@openssh.com", point, b"ssh:")
    public = tmp_path / "token.pub"
    public.write_text(f"sk-ssh-ed25519@openssh.com {base64.b64encode(blob).decode()} token\n")
    (tmp_path / "token").write_text("handle\n")
    (tmp_path / "token").chmod(0o600)
    return tmp_path / "token"


def test_a_token_that_is_not_there(unsigned: Path, token: Path) -> None:
    with pytest.raises(SigningFailed, match="ssh-keygen could not sign"):
        sign_bundle(unsigned, token)


def test_a_token_without_ssh_keygen(
    unsigned: Path, token: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path / "empty"))
    with pytest.raises(ToolMissing):
        sign_bundle(unsigned, token)


def test_a_bundle_without_root_needs_the_holder_s_name(maker: BundleMaker, holders: Holders) -> None:
    bundle = maker.write("rootless", None)
    with pytest.raises(Usage, match="holder is not known"):
        sign_bundle(bundle, holders.key("alice"))
    done = sign_bundle(bundle, holders.key("alice"), holder="alice")
    assert (done.threshold, done.path.name) == (None, "SHA256SUMS.alice.sig")


class Faulty:
    """A key that signs something else than it is told: a broken token, or another program in its place."""

    def __init__(self, key: SigningKey, *, list_too: bool) -> None:
        self._key, self._list_too = key, list_too

    def sign(self, message: bytes, namespace: str) -> bytes:
        return self._key.sign(message + b"x" if self._list_too else message, namespace)

    def sign_raw(self, data: bytes) -> bytes | None:
        return self._key.sign_raw(data + b"x")


@pytest.mark.parametrize("list_too", [True, False])
@pytest.mark.parametrize("rootless", [True, False])
def test_what_a_key_returns_is_judged_before_it_is_kept(
    *,
    rootless: bool,
    list_too: bool,
    maker: BundleMaker,
    holders: Holders,
    two_of_three: Root,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    bundle = maker.write("bundle", None if rootless else two_of_three)
    monkeypatch.setattr(sign, "open_signer", lambda key: Faulty(open_key(key), list_too=list_too))
    with pytest.raises(SignatureInvalid):
        sign_bundle(bundle, holders.key("alice"), holder="alice")
    assert signatures(bundle) == []
    assert provenance(bundle) == []


@pytest.mark.parametrize("name", ["", "Alice", "../alice", "a b", "-a", "a" * 64])
def test_a_holder_s_name_is_a_name(name: str, maker: BundleMaker, holders: Holders) -> None:
    bundle = maker.write("rootless", None)
    with pytest.raises(Usage, match="misspelled"):
        sign_bundle(bundle, holders.key("alice"), holder=name)


def test_an_incomplete_bundle_is_not_signed(unsigned: Path, holders: Holders) -> None:
    (unsigned / "payload/extras/site/notice.txt").unlink()
    with pytest.raises(FileMissing):
        sign_bundle(unsigned, holders.key("alice"))
    (unsigned / "payload/extras/site/notice.txt").symlink_to("/etc/hostname")
    with pytest.raises(FileUnexpected):
        sign_bundle(unsigned, holders.key("alice"))
    assert signatures(unsigned) == []


def test_a_malformed_bundle_is_not_signed(unsigned: Path, holders: Holders) -> None:
    path = unsigned / "trust/SHA256SUMS"
    path.write_bytes(path.read_bytes().replace(b"  ", b" *"))
    with pytest.raises(BundleUntrusted):
        sign_bundle(unsigned, holders.key("alice"))


def test_what_is_not_a_bundle(tmp_path: Path, holders: Holders) -> None:
    with pytest.raises(FileMissing, match="holds nothing of a bundle"):
        sign_bundle(tmp_path, holders.key("alice"))
    with pytest.raises(Usage, match="not a folder"):
        sign_bundle(tmp_path / "nothing", holders.key("alice"))
    permit = tmp_path / "permit.json"
    permit.write_bytes(b"{}")
    with pytest.raises(Usage, match="is not a bundle") as raised:
        sign_bundle(permit, holders.key("alice"))
    assert "signed by appliance trust sign" in str(raised.value.hint)
    permit.unlink()
    assert os.listdir(tmp_path) == []  # noqa: PTH208 - nothing was made
