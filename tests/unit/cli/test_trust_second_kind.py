"""ML-DSA keys and signatures from the command line, beside those of OpenSSH."""

from __future__ import annotations

import subprocess
from typing import TYPE_CHECKING

from appliance.trust.mldsa import MLDSA87PublicKey, verify_post_quantum
from appliance.trust.root import Policy, parse_root

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.unit.cli.conftest import Ceremony, Outcome


def test_both_kinds_of_keys(ceremony: Ceremony, second: Callable[[str], Path]) -> None:
    """From warn to require: ML-DSA keys come in, and from then on they must sign."""
    people = ("alice", "bob", "carol")
    added = [
        part
        for name in people
        for part in ("--add", f"{name}={second(name)}:root,release,revoke,site,time")
    ]
    draft = ceremony.propose(*added, "--pq", "require")
    ceremony.sign(draft, "alice", "bob", root=ceremony.root)
    out = ("--root", ceremony.root, "--out", ceremony.trust)
    assert ceremony.fails("assemble", draft, *out) == (4, "ThresholdNotMet")
    seen = ceremony.appliance("trust", "inspect", draft, "--root", ceremony.root).out
    assert "half         without the ML-DSA signature: alice, bob" in seen
    assert "ml-dsa       require" in seen
    for name in ("alice", "bob"):
        done = ceremony.run(
            "sign",
            draft,
            "--key",
            ceremony.folder / f"{name}-ml",
            "--root",
            ceremony.root,
            "--role",
            "root",
        )
        assert done["path"].endswith(".mldsa87")
    ceremony.run("assemble", draft, *out)
    root = parse_root(draft.read_bytes())
    assert root.policy == Policy("require")
    for holder in ("alice", "bob"):
        key = root.post_quantum_key("root", holder)
        assert key is not None
        raw = (ceremony.trust / f"root.2.{holder}.{key.keyid[:8]}.mldsa87").read_bytes()
        verify_post_quantum(key, raw, draft.read_bytes(), "root@appliance")
    # No later root is weaker.
    newest = ceremony.trust / "root.2.json"
    for weaker in (("--pq", "off"), ("--pq", "warn")):
        assert ceremony.fails("propose", newest, *weaker, "--out", ceremony.folder / "x") == (2, "Usage")


def test_ml_dsa_keys_for_openssl(ceremony: Ceremony, second: Callable[[str], Path]) -> None:
    draft = ceremony.propose("--add", f"alice={second('alice')}:root", "--pq", "warn")
    ceremony.run("sign", draft, "--key", ceremony.folder / "alice-ml", "--root", ceremony.root)
    values = ceremony.run("inspect", draft, "--pem", ceremony.folder / "pem")
    (file,) = (ceremony.folder / "pem").iterdir()
    assert values["pem"] == [str(file)]
    key = parse_root(draft.read_bytes()).post_quantum_key("root", "alice")
    assert key is not None
    assert file.name == f"alice.{key.keyid[:8]}.pem"
    public = ceremony.folder / "der"
    command = ["openssl", "pkey", "-pubin", "-in", str(file), "-outform", "DER", "-out", str(public)]
    if subprocess.run(command, capture_output=True, check=False).returncode == 0:  # 3.5 or newer
        signature = next(draft.parent.glob("*.mldsa87"))
        command = [
            "openssl",
            "pkeyutl",
            "-verify",
            "-pubin",
            "-inkey",
            str(file),
            "-rawin",
            "-in",
            str(draft),
        ]
        command += ["-sigfile", str(signature), "-pkeyopt", "context-string:root@appliance"]
        subprocess.run(command, check=True, capture_output=True)
    else:
        from cryptography.hazmat.primitives.serialization import load_pem_public_key

        loaded = load_pem_public_key(file.read_bytes())
        assert isinstance(loaded, MLDSA87PublicKey)
        assert loaded.public_bytes_raw() == key.raw


def test_stock_tools_read_the_signers_of_a_root_with_both_kinds(
    ceremony: Ceremony, second: Callable[[str], Path]
) -> None:
    draft = ceremony.propose("--add", f"alice={second('alice')}:root", "--pq", "warn")
    signers = ceremony.appliance("trust", "inspect", draft, "--allowed-signers").out
    assert len(signers.splitlines()) == 3
    assert "ml-dsa" not in signers


def test_the_profile_cnsa(
    appliance: Callable[..., Outcome], tmp_path: Path, ceremony: Ceremony, second: Callable[[str], Path]
) -> None:
    options = []
    for name in ("dora", "emil"):
        key = tmp_path / name
        command = ["ssh-keygen", "-q", "-t", "ecdsa", "-b", "384", "-N", "", "-f", str(key)]
        subprocess.run(command, check=True)
        options += ["--holder", f"{name}={key}.pub", "--holder", f"{name}={second(name)}"]
    done = appliance("trust", "init", *options, "--profile", "cnsa", "--out", tmp_path / "strict", "--json")
    assert done.json["policy"] == {"pq": "require", "profile": "cnsa"}
    root = parse_root((tmp_path / "strict/root.1.json").read_bytes())
    assert root.post_quantum_key("release", "dora") is not None, "an ML-DSA key serves what the other does"
    plain = ["--holder", f"alice={ceremony.public('alice')}", "--holder", f"bob={ceremony.public('bob')}"]
    for wrong in ([*plain, "--profile", "cnsa"], [*options, "--profile", "cnsa", "--pq", "warn"]):
        assert appliance("trust", "init", *wrong, "--out", tmp_path / "x").code == 2
    assert not (tmp_path / "x").exists()


def test_keys_that_prove_nothing_are_not_added(ceremony: Ceremony, second: Callable[[str], Path]) -> None:
    weak = ceremony.folder / "weak.pub"
    good = second("alice").read_text().split()
    out = ceremony.folder / "draft"
    for text in (
        "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAEAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA x\n",
        f"{good[0]} {good[1][:-8]} x\n",
        f"{good[0]} {good[1]}\nmore\n",
        f"{good[0]}  {good[1]}\n",
        "ml-dsa-87 \n",
        "",
    ):
        weak.write_text(text)
        told = ceremony.fails("propose", ceremony.root, "--add", f"alice={weak}:root", "--out", out)
        assert told == (4, "KeyRefused"), text[:40]
    assert not out.exists()
