"""Running the program in-process, through its real entry point."""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from appliance.cli.app import main
from tests.unit.bundle.patch.conftest import root_with_patches

if TYPE_CHECKING:
    from collections.abc import Callable

    from appliance.trust.root import Root
    from tests.conftest import Holders


@dataclass(frozen=True)
class Outcome:
    """What a run of the program left: exit code, stdout, stderr."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> dict[str, Any]:
        return json.loads(self.out)


@pytest.fixture
def appliance(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Callable[..., Outcome]:
    """Run ``appliance ARGUMENTS``."""

    def run(*arguments: object) -> Outcome:
        monkeypatch.setattr(sys, "argv", ["appliance", *map(str, arguments)])
        capfd.readouterr()
        code = 0
        try:
            main()
        except SystemExit as ended:
            code = ended.code if isinstance(ended.code, int) else int(bool(ended.code))
        seen = capfd.readouterr()
        return Outcome(code, seen.out, seen.err)

    return run


@dataclass(frozen=True)
class Ceremony:
    """A founded and signed root of alice, bob and carol, and the commands people would use on it.

    Two of three for root, release and revoke, one for site and time.
    """

    appliance: Callable[..., Outcome]
    holders: Holders
    folder: Path

    @property
    def trust(self) -> Path:
        return self.folder / "trust"

    @property
    def root(self) -> Path:
        return self.trust / "root.1.json"

    def public(self, name: str) -> Path:
        return self.holders.folder / f"{name}.pub"

    def run(self, *arguments: object) -> dict[str, Any]:
        """Run ``appliance trust ARGUMENTS --json``, which must succeed."""
        done = self.appliance("trust", *arguments, "--json")
        assert done.code == 0, (arguments, done.out, done.err)
        return done.json

    def fails(self, *arguments: object) -> tuple[int, str]:
        """Run the same; exit code and name of the error."""
        done = self.appliance("trust", *arguments, "--json")
        assert done.code != 0, (arguments, done.out)
        assert done.err, "errors are for people too"
        return done.code, done.json.get("error", "") if done.out else ""

    def sign(self, document: Path, *names: str, root: Path | None = None) -> None:
        option = ["--root", root] if root else []
        for name in names:
            self.run("sign", document, "--key", self.holders.key(name), *option)

    def propose(self, *changes: object) -> Path:
        """An unsigned root 2."""
        return Path(self.run("propose", self.root, *changes, "--out", self.folder / "draft")["root"])


@pytest.fixture
def ceremony(appliance: Callable[..., Outcome], holders: Holders, tmp_path: Path) -> Ceremony:
    made = Ceremony(appliance, holders, tmp_path)
    roles = "root,release,revoke,site,time"
    people = [f"{name}={made.public(name)}:{roles}" for name in ("alice", "bob", "carol")]
    options = [part for each in people for part in ("--holder", each)]
    made.run("init", *options, "--out", made.trust)
    made.sign(made.root, "alice", "bob")
    return made


@pytest.fixture
def second(ceremony: Ceremony) -> Callable[[str], Path]:
    """Makes somebody's ML-DSA key; its public file."""

    def make(name: str) -> Path:
        file = ceremony.folder / f"{name}-ml"
        ceremony.run("keygen", "--ml-dsa-87", file, "-C", f"{name}@example", "--no-passphrase")
        return file.with_name(f"{name}-ml.pub")

    return make


@pytest.fixture(scope="session")
def patch_root(holders: Holders) -> Root:
    """A root with the role patch, whose keys are others than release's."""
    return root_with_patches(holders)
