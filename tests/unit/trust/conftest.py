"""Signatures by the real ssh-keygen, and the pieces to build hostile ones."""

from __future__ import annotations

import subprocess
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.conftest import Holders

MESSAGE = b"the list\n"


@pytest.fixture(scope="session")
def ssh_sign(holders: Holders) -> Callable[..., bytes]:
    """Sign with the real ssh-keygen: holder, message, namespace, hash -> the armoured signature."""

    def sign(
        name: str, message: bytes = MESSAGE, space: str = "release@appliance", hash_name: str = "sha512"
    ) -> bytes:
        command = ["ssh-keygen", "-q", "-Y", "sign", "-f", str(holders.key(name)), "-n", space]
        command += ["-O", f"hashalg={hash_name}"]
        return subprocess.run(command, input=message, stdout=subprocess.PIPE, check=True).stdout

    return sign


@pytest.fixture
def ssh_accepts(tmp_path: Path) -> Callable[[str, bytes, bytes], bool]:
    """Whether the real ``ssh-keygen -Y verify`` accepts: public key, signature, message."""

    def accepts(public: str, armoured: bytes, message: bytes = MESSAGE) -> bool:
        (tmp_path / "signers").write_text(f'holder namespaces="release@appliance" {public}\n')
        (tmp_path / "sig").write_bytes(armoured)
        command = ["ssh-keygen", "-Y", "verify", "-f", str(tmp_path / "signers"), "-I", "holder"]
        command += ["-n", "release@appliance", "-s", str(tmp_path / "sig")]
        return subprocess.run(command, input=message, capture_output=True, check=False).returncode == 0

    return accepts
