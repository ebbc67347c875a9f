"""A P-384 key in a PKCS#11 token signs through ssh-agent; SoftHSM stands in for the token."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Final

import pytest

from appliance.bundle.ceremony.proposing import found_root
from appliance.bundle.ceremony.signing import sign_document
from appliance.bundle.post_quantum_keys import open_signer
from appliance.bundle.sign import sign_bundle
from appliance.bundle.verify import verify_bundle
from appliance.errors import SigningFailed
from appliance.progress import Silent
from appliance.trust.allowed_signers import allowed_signers

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.conftest import BundleMaker, Holders

PIN: Final = "123456"
MODULES: Final = ("/usr/lib/softhsm/libsofthsm2.so", "/usr/lib/x86_64-linux-gnu/softhsm/libsofthsm2.so")


@pytest.fixture
def token(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A public key file; the private half is in a token that an ssh-agent of this test reaches."""
    module = next((path for path in MODULES if os.path.exists(path)), None)  # noqa: PTH110 - text for programs
    assert module, "softhsm2 is in system-packages.txt"
    (tmp_path / "tokens").mkdir()
    (tmp_path / "softhsm2.conf").write_text(f"directories.tokendir = {tmp_path}/tokens\n")
    monkeypatch.setenv("SOFTHSM2_CONF", str(tmp_path / "softhsm2.conf"))
    init = ["softhsm2-util", "--init-token", "--free", "--label", "ceremony", "--pin", PIN, "--so-pin", PIN]
    subprocess.run(init, check=True, capture_output=True)
    make = ["pkcs11-tool", "--module", module, "--login", "--pin", PIN, "--token-label", "ceremony"]
    make += ["--keypairgen", "--key-type", "EC:secp384r1", "--label", "dora", "--id", "01"]
    subprocess.run(make, check=True, capture_output=True)

    started = subprocess.run(
        ["ssh-agent", "-s", "-P", str(Path(module).resolve())], capture_output=True, text=True, check=True
    ).stdout
    for name, value in re.findall(r"(SSH_\w+)=([^;]+);", started):
        monkeypatch.setenv(name, value)
    askpass = tmp_path / "askpass"
    askpass.write_text(f"#!/bin/sh\necho {PIN}\n")
    askpass.chmod(0o755)
    asking = {**os.environ, "SSH_ASKPASS": str(askpass), "SSH_ASKPASS_REQUIRE": "force"}
    try:
        subprocess.run(["ssh-add", "-q", "-s", module], check=True, capture_output=True, env=asking)
        listed = subprocess.run(["ssh-add", "-L"], check=True, capture_output=True, text=True).stdout
        (line,) = listed.splitlines()
        assert line.startswith("ecdsa-sha2-nistp384 ")
        public = tmp_path / "dora.pub"
        public.write_text(f"{' '.join(line.split()[:2])} dora\n")
        yield public
    finally:
        subprocess.run(["ssh-agent", "-k"], capture_output=True, check=True)


def test_a_token_signs_documents(token: Path, holders: Holders, tmp_path: Path) -> None:
    people = [f"dora={token}:root,release", f"alice={holders.key('alice')}.pub:root,release"]
    founded = found_root(tmp_path / "trust", people)
    made = sign_document(founded.path, open_signer(token))
    assert (made.entry.holder, made.entry.key.algorithm) == ("dora", "ecdsa-sha2-nistp384")
    assert not sign_document(founded.path, open_signer(token)).standing.accepted
    assert sign_document(founded.path, open_signer(holders.key("alice"))).standing.accepted
    (tmp_path / "signers").write_text(allowed_signers(founded.root))
    command = ["ssh-keygen", "-Y", "verify", "-f", str(tmp_path / "signers"), "-I", "dora"]
    command += ["-n", "root@appliance", "-s", str(made.path)]
    subprocess.run(command, input=founded.path.read_bytes(), check=True, capture_output=True)


def test_a_token_signs_bundles(token: Path, holders: Holders, maker: BundleMaker, tmp_path: Path) -> None:
    people = [f"dora={token}:root,release", f"alice={holders.key('alice')}.pub:root,release"]
    founded = found_root(tmp_path / "trust", people)
    bundle = maker.sign(maker.write("signed", founded.root), "alice")
    assert sign_bundle(bundle, token).signer.holder == "dora"
    found = verify_bundle(bundle, founded.path.read_bytes(), progress=Silent())
    assert [signer.holder for signer in found.signers] == ["alice", "dora"]


def test_a_token_that_was_pulled(token: Path) -> None:
    subprocess.run(["ssh-add", "-q", "-D"], check=True, capture_output=True)
    with pytest.raises(SigningFailed, match="no private key"):
        open_signer(token)
