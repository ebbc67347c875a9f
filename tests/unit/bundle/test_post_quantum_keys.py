"""ML-DSA key files: made for their owner alone, read back, and told from SSH keys."""

from __future__ import annotations

import shutil
import stat
import subprocess
from typing import TYPE_CHECKING

import pytest

from appliance.bundle.post_quantum_keys import (
    PostQuantumSigner,
    ask_new_passphrase,
    generate_key,
    open_signer,
)
from appliance.errors import KeyRefused, SigningFailed, Usage
from appliance.trust.mldsa import verify_post_quantum

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.conftest import Holders


@pytest.fixture
def answering(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Passphrases that a program gives, one after the other."""

    def answer(*passphrases: str) -> None:
        program = tmp_path / "askpass"
        answers = "\n".join(passphrases)
        (tmp_path / "answers").write_text(f"{answers}\n")
        program.write_text(f"#!/bin/sh\nhead -n 1 '{tmp_path}/answers'\nsed -i 1d '{tmp_path}/answers'\n")
        program.chmod(0o755)
        monkeypatch.setenv("SSH_ASKPASS", str(program))
        monkeypatch.setenv("SSH_ASKPASS_REQUIRE", "force")

    return answer


def test_a_key_is_its_owner_s_alone_and_signs(tmp_path: Path) -> None:
    key = generate_key(tmp_path / "alice", passphrase=b"", comment="alice@example")
    assert stat.S_IMODE((tmp_path / "alice").stat().st_mode) == 0o600
    assert (tmp_path / "alice.pub").read_text() == f"{key.text} alice@example\n"
    for name in ("alice", "alice.pub"):
        signer = open_signer(tmp_path / name)
        assert isinstance(signer, PostQuantumSigner)
        verify_post_quantum(key, signer.sign(b"x", "root@appliance"), b"x", "root@appliance")
    (tmp_path / "alice.pub").unlink()
    assert isinstance(open_signer(tmp_path / "alice"), PostQuantumSigner)


def test_a_key_with_a_passphrase(tmp_path: Path, answering: Callable[..., None]) -> None:
    answering("right", "right", "right", "wrong")
    passphrase = ask_new_passphrase(tmp_path / "alice")
    generate_key(tmp_path / "alice", passphrase=passphrase, comment="")
    assert b"ENCRYPTED" in (tmp_path / "alice").read_bytes()
    assert isinstance(open_signer(tmp_path / "alice"), PostQuantumSigner)
    with pytest.raises(SigningFailed, match="cannot be opened"):
        open_signer(tmp_path / "alice")


def test_two_different_passphrases(tmp_path: Path, answering: Callable[..., None]) -> None:
    answering("one", "other")
    with pytest.raises(SigningFailed, match="differ"):
        ask_new_passphrase(tmp_path / "alice")


@pytest.mark.parametrize("there", ["alice", "alice.pub"])
def test_keys_are_never_overwritten(tmp_path: Path, there: str) -> None:
    (tmp_path / there).write_bytes(b"mine")
    with pytest.raises(Usage, match="exists already"):
        generate_key(tmp_path / "alice", passphrase=b"", comment="")
    assert [path.name for path in tmp_path.iterdir()] == [there]


def test_a_comment_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(Usage):
        generate_key(tmp_path / "alice", passphrase=b"", comment="a\nb")


def test_what_others_can_read_does_not_sign(tmp_path: Path) -> None:
    generate_key(tmp_path / "alice", passphrase=b"", comment="")
    (tmp_path / "alice").chmod(0o644)
    with pytest.raises(SigningFailed, match="others can read"):
        open_signer(tmp_path / "alice")


def test_two_files_of_different_keys(tmp_path: Path, holders: Holders) -> None:
    generate_key(tmp_path / "alice", passphrase=b"", comment="")
    shutil.copy(holders.key("alice"), tmp_path / "alice")
    with pytest.raises(SigningFailed, match="is not the private key"):
        open_signer(tmp_path / "alice")
    (tmp_path / "alice").unlink()
    with pytest.raises(SigningFailed, match="no private key"):
        open_signer(tmp_path / "alice.pub")


def test_ssh_keys_are_opened_as_ever(tmp_path: Path, holders: Holders) -> None:
    assert not isinstance(open_signer(holders.key("alice")), PostQuantumSigner)
    key = tmp_path / "pkcs8"
    shutil.copy(holders.key("bob"), key)
    command = ["ssh-keygen", "-q", "-p", "-m", "PKCS8", "-P", "", "-N", "", "-f", str(key)]
    subprocess.run(command, check=True, capture_output=True)
    assert not isinstance(open_signer(key), PostQuantumSigner)
    subprocess.run(["openssl", "genpkey", "-algorithm", "RSA", "-out", str(tmp_path / "rsa")], check=True)
    (tmp_path / "rsa").chmod(0o600)
    with pytest.raises(KeyRefused):
        open_signer(tmp_path / "rsa")
    with pytest.raises(Usage):
        open_signer(tmp_path / "nothing")
