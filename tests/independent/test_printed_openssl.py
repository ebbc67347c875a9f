"""What VERIFY.txt prints for ML-DSA signatures, typed on Debian 13: OpenSSL knows them from 3.5 on."""

from __future__ import annotations

import re
import shutil
import subprocess
from typing import TYPE_CHECKING

import pytest

from appliance.bundle.review import review_bytes
from appliance.lab.places import Places
from appliance.lab.recipe import Recipe
from appliance.lab.rootfs import prepare_root
from appliance.progress import Silent
from tests.cnsa import (  # noqa: F401 - fixtures
    cnsa_bundle,
    cnsa_holders,
    cnsa_root,
    pristine_cnsa_bundle,
)

if TYPE_CHECKING:
    from pathlib import Path

    from appliance.trust.root import Root

TRIXIE = Recipe(packages=("openssh-client", "openssl"), enabled=(), written={})


@pytest.mark.node
@pytest.mark.archive
def test_on_a_bundle_of_the_profile_cnsa(
    cnsa_bundle: Path,  # noqa: F811 - the fixture
    cnsa_root: Root,  # noqa: F811 - the fixture
) -> None:
    system = prepare_root(Places.from_environment(), TRIXIE, progress=Silent())
    printed = re.search(r"openssl pkeyutl (?:.*\\\n)*.*", review_bytes().decode("ascii"))
    assert printed
    for holder in ("dora", "emil"):
        key = cnsa_root.post_quantum_key("release", holder)
        assert key
        (cnsa_bundle / f"{holder}.pem").write_text(key.pem)

    def said(holder: str) -> str:
        assert printed
        script = f"cd /mnt\nROLE=release\nSUMS=SHA384SUMS\n{printed[0].replace('alice', holder)}\n"
        (cnsa_bundle / "typed.sh").write_text(script)
        chroot = shutil.which("chroot", path="/usr/sbin:/usr/bin")
        assert chroot
        apart = ["unshare", "--mount", "--net", "--pid", "--fork", "--kill-child"]
        enter = 'mount --bind "$2" "$1/mnt" && exec chroot "$1" sh /mnt/typed.sh'
        done = subprocess.run(
            [*apart, "sh", "-c", enter, "sh", str(system), str(cnsa_bundle)],
            capture_output=True,
            text=True,
            check=False,
        )
        return done.stdout.strip()

    assert [said(holder) for holder in ("dora", "emil")] == ["Signature Verified Successfully"] * 2
    listing = cnsa_bundle / "trust/SHA384SUMS"
    listing.write_bytes(listing.read_bytes() + b"\n")
    assert said("dora") == "Signature Verification Failure"
