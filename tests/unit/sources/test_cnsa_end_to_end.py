"""The profile cnsa from the first key to a copy on a node, typed as people do: every command is real."""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
from ipaddress import IPv4Address
from typing import TYPE_CHECKING, Any

import pytest

from appliance.bundle.verify import verify_bundle
from appliance.definition.inventory import NodeEntry
from appliance.node.connection import LocalConnection
from appliance.node.sent import files_to_send
from appliance.node.transfer import Transfer
from appliance.progress import Silent
from tests.unit.cli.conftest import appliance  # noqa: F401 - a fixture

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.unit.cli.conftest import Outcome

    from .conftest import Index

    Run = Callable[..., Outcome]

DEFINITION = """\
format: 1
product: strict
version: "1.0.0"
sequence: 1
target: {distribution: debian, suite: trixie, architecture: amd64, python: "3.13"}
parity: 10
components:
  model: {kind: tiny-gguf, sentence: An answer., licence: CC0-1.0}
  engine: {kind: python, requirements: [app]}
inference: {engine: engine, model: model, file: tiny.gguf, name: strict}
"""
MODEL = "payload/model/tiny.gguf"
PEOPLE = ("dora", "emil")


class Station:
    """A folder, the program, and what two people hold."""

    def __init__(self, folder: Path, run: Run) -> None:
        self.folder, self.run = folder, run

    def done(self, *arguments: object) -> Any:
        """What a command says as JSON; it must succeed."""
        outcome = self.run(*arguments, "--json")
        assert outcome.code == 0, (arguments, outcome.out, outcome.err)
        return outcome.json

    def refused(self, *arguments: object) -> str:
        """The error with which a command ends: exit code 4."""
        outcome = self.run(*arguments, "--json")
        assert outcome.code == 4, (arguments, outcome.out, outcome.err)
        return str(outcome.json["error"])

    @property
    def root(self) -> Path:
        return self.folder / "trust/root.1.json"

    @property
    def bundle(self) -> Path:
        return self.folder / "bundle"

    def found(self) -> None:
        """Keys of both kinds, and a root that its holders sign."""
        holders: list[object] = []
        for name in PEOPLE:
            key = self.folder / name
            command = ["ssh-keygen", "-q", "-t", "ecdsa", "-b", "384", "-N", "", "-f", str(key)]
            subprocess.run(command, check=True)
            self.done("trust", "keygen", "--ml-dsa-87", self.second(name), "--no-passphrase")
            holders += ["--holder", f"{name}={key}.pub", "--holder", f"{name}={self.second(name)}.pub"]
        made = self.done("trust", "init", *holders, "--profile", "cnsa", "--out", self.folder / "trust")
        assert made["policy"] == {"pq": "require", "profile": "cnsa"}
        for name in PEOPLE:
            for key in (self.folder / name, self.second(name)):
                self.done("trust", "sign", self.root, "--key", key)

    def second(self, name: str) -> Path:
        return self.folder / f"{name}-ml"

    def sign(self, *names: str) -> None:
        for name in names:
            for key in (self.folder / name, self.second(name)):
                self.done("sign", self.bundle, "--key", key)


@pytest.fixture
def station(
    index: Index,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    appliance: Run,  # noqa: F811 - the fixture
) -> Station:
    index.add("app", filler=200_000)
    monkeypatch.setenv("APPLIANCE_STORE", str(tmp_path / "store"))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "no-settings"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    (tmp_path / "strict.yaml").write_text(DEFINITION)
    station = Station(tmp_path, appliance)
    station.found()
    station.done("lock", tmp_path / "strict.yaml")
    station.done("build", tmp_path / "strict.yaml", "--out", station.bundle, "--root", station.root)
    return station


def flip(path: Path) -> bytes:
    """Change one bit; returns what was there."""
    good = path.read_bytes()
    path.write_bytes(good[:-1] + bytes([good[-1] ^ 1]))
    return good


def test_a_bundle_of_the_profile(station: Station) -> None:
    done, bundle = station.done, station.bundle
    trusted = ("--trust", station.root)
    subprocess.run(["sha384sum", "--quiet", "--strict", "-c", "trust/SHA384SUMS"], cwd=bundle, check=True)

    # Two people sign, each with two keys; fewer are not enough.
    station.sign("dora")
    assert station.refused("verify", bundle, *trusted) == "ThresholdNotMet"
    station.sign("emil")
    found = done("verify", bundle, *trusted)
    digest = hashlib.sha384((bundle / "trust/SHA384SUMS").read_bytes()).hexdigest()
    assert found["signed_list"] == {"path": "trust/SHA384SUMS", "sha384": digest}
    assert found["digest"] == hashlib.sha256((bundle / "trust/SHA256SUMS").read_bytes()).hexdigest()
    assert [(one["holder"], one["post_quantum"]) for one in found["signers"]] == [
        ("dora", True),
        ("emil", True),
    ]
    told = station.run("verify", bundle, *trusted, "--explain").out
    assert f"trust/SHA384SUMS, sha384 {digest}" in told
    assert "was hashed with SHA-256 and SHA-384" in told
    assert done("inspect", bundle, *trusted)["signed_list"] == "trust/SHA384SUMS"

    # A reviewer states what was verified.
    summary = station.folder / "vsa.json"
    done("verify", bundle, *trusted, "--attest", summary, "--key", station.folder / "dora")
    subject = json.loads(_payload(summary))["subject"]
    listing = (bundle / "trust/SHA256SUMS").read_bytes()
    assert subject == [
        {
            "digest": {
                "sha256": hashlib.sha256(listing).hexdigest(),
                "sha384": hashlib.sha384(listing).hexdigest(),
            },
            "name": "trust/SHA256SUMS",
        }
    ]

    # One flipped byte anywhere is refused.
    every = sorted(path for path in bundle.rglob("*") if path.is_file() and path.stat().st_size)
    for path in every:
        good = flip(path)
        assert station.run("verify", bundle, *trusted).code == 4, path
        path.write_bytes(good)

    # Onto a stick, checked, damaged in every way that parity and second copies mend, and mended.
    stick = station.folder / "stick"
    stick.mkdir()
    written = done("media", "write", bundle, stick, "--size", "64MB", *trusted)
    assert (written["signers"], written["trusted"]) == (["dora", "emil"], True)
    assert done("media", "check", stick, *trusted)["sound"]
    [volume] = stick.glob("strict-1.0.0.*")
    for name in ("trust/SHA384SUMS", "trust/SHA256SUMS", "trust/SHA384SUMS.emil.mldsa87", MODEL):
        flip(volume / name)
    (volume / "spare/trust/SHA384SUMS.dora.sig").unlink()
    checked = station.run("media", "check", stick, *trusted, "--json")
    assert (checked.code, checked.json["sound"]) == (4, False)
    mended = done("media", "repair", stick, *trusted, "--verify")
    assert len(mended["mended"]) == 5
    assert (mended["signers"], mended["left"], mended["verified"]) == (["dora", "emil"], [], True)

    # Back into one folder, the same as before, byte for byte.
    joined = station.folder / "joined"
    done("media", "join", stick, "--out", joined, *trusted)
    assert {path: (joined / path).read_bytes() for path in _files(bundle)} == {
        path: (bundle / path).read_bytes() for path in _files(joined)
    }
    assert done("verify", joined, *trusted)["digest"] == found["digest"]

    # And onto a node, by the receiver that runs there.
    copy = _stage(station, joined)
    assert (copy / "trust/SHA384SUMS").read_bytes() == (bundle / "trust/SHA384SUMS").read_bytes()
    subprocess.run(["sha384sum", "--quiet", "--strict", "-c", "trust/SHA384SUMS"], cwd=copy, check=True)


def test_the_list_cannot_be_taken_away(station: Station) -> None:
    """Not from a bundle, and not from a stick."""
    station.sign(*PEOPLE)
    stick = station.folder / "stick"
    stick.mkdir()
    station.done("media", "write", station.bundle, stick, "--size", "64MB")
    for folder in (station.bundle, *stick.glob("strict-1.0.0.*")):
        for path in (*folder.rglob("SHA384SUMS*"), *folder.rglob("provenance.*")):
            path.unlink()
        for command in (["verify"], ["media", "check"], ["media", "repair"]):
            assert station.refused(*command, folder, "--trust", station.root) == "ProfileNotMet"
    assert station.refused("sign", station.bundle, "--key", station.folder / "dora") == "ProfileNotMet"
    with_trust = ("--trust", station.root, "--out", station.folder / "joined")
    assert station.refused("media", "join", stick, *with_trust) == "ProfileNotMet"


def _payload(path: Path) -> bytes:
    import base64

    return base64.b64decode(json.loads(path.read_bytes())["payload"])


def _files(folder: Path) -> list[Path]:
    return sorted(path.relative_to(folder) for path in folder.rglob("*") if path.is_file())


def _stage(station: Station, bundle: Path) -> Path:
    """Copy the verified bundle as ``install`` does; the copy."""
    verified = verify_bundle(bundle, station.root.read_bytes(), progress=Silent())
    node = NodeEntry("here", "local", IPv4Address("10.20.0.11"), 22, ())
    home = station.folder / "staged"
    transfer = Transfer.begin(
        LocalConnection(node),
        verified.folders,
        verified.digest,
        files_to_send(verified),
        progress=Silent(),
        home=str(home),
    )
    transfer.send(Silent())
    assert (home / f"{verified.digest}.complete").exists()
    shutil.rmtree(station.folder / "cache", ignore_errors=True)
    return home / verified.digest
