"""What every hostile case shares: its bounds, being counted, and signatures over whatever it prepared."""

from __future__ import annotations

import hashlib
import subprocess
from typing import TYPE_CHECKING

import pytest

from appliance.bundle.listing import listing_bytes
from tests.cnsa import (  # noqa: F401 - fixtures
    cnsa_bundle,
    cnsa_holders,
    cnsa_root,
    pristine_cnsa_bundle,
)
from tests.corpus.bounds import bounded
from tests.corpus.comparing import (  # noqa: F401 - likewise
    appliance,
    pytest_runtest_call,
    run_program,
)
from tests.corpus.counting import (  # noqa: F401 - pytest finds its hooks and fixtures here
    count_inputs,
    pytest_collection_modifyitems,
    pytest_runtest_makereport,
    pytest_terminal_summary,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.conftest import Holders


@pytest.fixture(autouse=True)
def _bounded() -> Iterator[None]:
    with bounded():
        yield


@pytest.fixture
def sign_list(holders: Holders) -> Callable[..., None]:
    """Let alice and bob sign a list as it lies there, good or bad: holders who were deceived."""

    def sign(bundle: Path, listing: bytes | None = None, role: str = "release") -> None:
        path = bundle / "trust" / "SHA256SUMS"
        for stated in (bundle / "trust").glob("provenance.*"):
            stated.unlink()  # of the bundle that this one was made from
        if listing is not None:
            path.write_bytes(listing)
        for name in ("alice", "bob"):
            command = [
                "ssh-keygen",
                "-q",
                "-Y",
                "sign",
                "-f",
                str(holders.key(name)),
                "-n",
                f"{role}@appliance",
            ]
            done = subprocess.run(command, input=path.read_bytes(), stdout=subprocess.PIPE, check=True)
            (bundle / "trust" / f"SHA256SUMS.{name}.sig").write_bytes(done.stdout)

    return sign


@pytest.fixture
def sign_files(sign_list: Callable[..., None]) -> Callable[[Path], None]:
    """List the files as they lie there now, and let alice and bob sign that."""

    def sign(bundle: Path) -> None:
        digests = {
            str(path.relative_to(bundle)): hashlib.sha256(path.read_bytes()).hexdigest()
            for path in bundle.rglob("*")
            if path.is_file() and not path.name.startswith(("SHA256SUMS", "provenance."))
        }
        sign_list(bundle, listing_bytes(digests))

    return sign
