"""The same signatures of models, judged by model-signing itself and here.

It is a peer, in an environment of its own (scripts/install-bench.sh), so these tests belong to
``make bench``; what it wrote once is kept in tests/unit/trust/recorded, and tested everywhere.
"""

from __future__ import annotations

import hashlib
import subprocess
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest

from appliance.errors import UpstreamSignatureInvalid
from appliance.trust.upstream_claim import Judged, judge
from appliance.trust.upstream_keys import parse_pem
from tests.bench.test_compare import PEER_PROGRAMS
from tests.unit.trust.model_makers import Maker

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

pytestmark = pytest.mark.bench

FILES = {"config.json": b"{}\n", "weights/a.safetensors": b"numbers", "README.md": b"words\n"}


@dataclass(frozen=True)
class Model:
    """A model's folder, ``model.sig`` in it, and the keys beside it."""

    folder: Path

    @property
    def path(self) -> Path:
        return self.folder / "model"

    @property
    def signature(self) -> Path:
        return self.path / "model.sig"

    def sign(self, *options: object) -> None:
        self._tool("sign", "--private_key", self.folder / "key.pem", *options, check=True)

    def theirs(self, *options: object) -> bool:
        """Whether model-signing accepts it."""
        return not self._tool("verify", "--public_key", self.folder / "key.pub.pem", *options).returncode

    def _tool(self, what: str, *options: object, check: bool = False) -> subprocess.CompletedProcess[bytes]:
        command = [PEER_PROGRAMS / "model_signing", what, "key", self.path, "--signature", self.signature]
        return subprocess.run([*map(str, command), *map(str, options)], check=check, capture_output=True)

    def ours(self) -> Judged:
        """What is found here, by digests of what lies in the folder."""
        files = {
            path.relative_to(self.path).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
            for path in sorted(self.path.rglob("*"))
            if path.is_file()
        }
        key = parse_pem((self.folder / "key.pub.pem").read_bytes())
        return judge(self.signature.read_bytes(), key, files.items(), "model.sig")


@pytest.fixture(params=["P-256", "P-384", "P-521"])
def model(tmp_path: Path, request: pytest.FixtureRequest) -> Model:
    for name, data in FILES.items():
        (tmp_path / "model" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "model" / name).write_bytes(data)
    key, public = tmp_path / "key.pem", tmp_path / "key.pub.pem"
    curve = f"ec_paramgen_curve:{request.param}"
    subprocess.run(
        ["openssl", "genpkey", "-algorithm", "EC", "-pkeyopt", curve, "-out", key],
        check=True,
        capture_output=True,
    )
    subprocess.run(["openssl", "pkey", "-in", key, "-pubout", "-out", public], check=True)
    made = Model(tmp_path)
    made.sign()
    return made


def test_both_accept_what_it_signed(model: Model) -> None:
    assert model.theirs()
    judged = model.ours()
    assert judged.coverage is not None
    assert judged.coverage.covered == len(FILES)


CHANGES: dict[str, Callable[[Path], object]] = {
    "changed": lambda path: (path / "config.json").write_bytes(b"[]"),
    "added": lambda path: (path / "added.json").write_bytes(b"{}"),
    "renamed": lambda path: (path / "README.md").rename(path / "readme.md"),
    "other signature": lambda path: (path / "model.sig").write_bytes(Maker().sign(FILES)),
}


@pytest.mark.parametrize("name", CHANGES)
def test_both_refuse(name: str, model: Model) -> None:
    CHANGES[name](model.path)
    assert not model.theirs()
    with pytest.raises(UpstreamSignatureInvalid):
        model.ours()


def test_both_notice_what_is_missing(model: Model) -> None:
    (model.path / "README.md").unlink()
    assert not model.theirs()
    coverage = model.ours().coverage
    assert coverage is not None
    assert coverage.absent == ("README.md",)


def test_what_it_passes_over_is_named_here(model: Model) -> None:
    (model.path / ".git" / "hooks").mkdir(parents=True)
    (model.path / ".git" / "hooks" / "post-checkout").write_bytes(b"#!/bin/sh\n")
    assert model.theirs()
    coverage = model.ours().coverage
    assert coverage is not None
    assert coverage.uncovered == (".git/hooks/post-checkout",)


def test_what_the_tests_sign_it_accepts_too(model: Model) -> None:
    """Or the catalogue of wrong signatures (tests/corpus) would be one of another format."""
    maker = Maker()
    (model.folder / "key.pub.pem").write_bytes(maker.pem)
    model.signature.write_bytes(maker.sign(FILES))
    assert model.theirs()
    assert model.ours().signed_by == maker.fingerprint
