"""Asks stock OpenSSH and OpenSSL about many signatures at once, here or in another system's root.

Every case is a few files, and one shell script asks about all of them: so it is the same here and, entered
with chroot and without a network, there.
"""

from __future__ import annotations

import shutil
import subprocess
from typing import TYPE_CHECKING

from appliance.trust.mldsa import PostQuantumKey
from tests.corpus.raw_signature_cases import SIGNED, RawCase, mldsa_cases, raw_cases
from tests.corpus.signature_cases import MESSAGE, P384, SPACE, SignatureCase, signature_cases

if TYPE_CHECKING:
    from pathlib import Path

#: Runs in the folder of the cases; writes the versions, and the number and exit status of each case.
ASK = """\
cd "$1"
{ ssh -V; openssl version; } >versions 2>&1
for case in ssh/*; do
    ssh-keygen -Y verify -f "$case/signers" -I holder -n SPACE -s "$case/sig" <message >/dev/null 2>&1
    echo "$case $?"
done >verdicts
for case in raw/*; do
    # shellcheck disable=SC2046 # options are words
    openssl pkeyutl -verify -pubin -inkey "$case/key" -rawin $(cat "$case/options") \\
        -in signed -sigfile "$case/sig" >/dev/null 2>&1
    echo "$case $?"
done >>verdicts
""".replace("SPACE", SPACE)


def write_cases(folder: Path, *, post_quantum: bool) -> dict[str, str]:
    """Write every case below ``folder``; the name of each by its place there."""
    (folder / "message").write_bytes(MESSAGE)
    (folder / "signed").write_bytes(SIGNED)
    raw = {**raw_cases(), **(mldsa_cases() if post_quantum else {})}
    names = {}
    for kind, table in (("ssh", signature_cases()), ("raw", raw)):
        for number, (name, case) in enumerate(table.items()):
            place = folder / kind / f"{number:04d}"
            place.mkdir(parents=True)
            _write(place, case)
            names[f"{kind}/{number:04d}"] = f"{kind} {name}"
    return names


def _write(place: Path, case: SignatureCase | RawCase) -> None:
    if isinstance(case, SignatureCase):
        (place / "signers").write_text(f'holder namespaces="{SPACE}" {case.public}\n')
        (place / "sig").write_bytes(case.armoured)
        return
    (place / "key").write_text(case.pem)
    (place / "sig").write_bytes(case.signature)
    if isinstance(case.key, PostQuantumKey):
        options = f"-pkeyopt context-string:{case.context}"
    elif "ecdsa" in case.key.algorithm:
        options = f"-digest {'sha384' if case.key.algorithm == P384 else 'sha256'}"
    else:
        options = ""
    (place / "options").write_text(options)


def accepted_here(folder: Path) -> set[str]:
    """The places of the cases that this machine's tools accept."""
    subprocess.run(["sh", "-c", ASK, "sh", str(folder)], check=True)
    return _accepted(folder)


def accepted_in(root: Path, folder: Path) -> set[str]:
    """The same by the tools of another root, which is not changed, and sees no network."""
    (folder / "ask.sh").write_text(ASK)
    script = 'mount --bind "$2" "$1/mnt" && exec chroot "$1" sh /mnt/ask.sh /mnt'
    chroot = shutil.which("chroot", path="/usr/sbin:/usr/bin")
    assert chroot
    apart = ["unshare", "--mount", "--net", "--pid", "--fork", "--kill-child"]
    subprocess.run([*apart, "sh", "-c", script, "sh", str(root), str(folder)], check=True)
    return _accepted(folder)


def _accepted(folder: Path) -> set[str]:
    verdicts = (line.split() for line in (folder / "verdicts").read_text().splitlines())
    return {place for place, status in verdicts if status == "0"}
