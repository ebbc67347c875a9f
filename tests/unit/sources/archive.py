"""A Debian archive in a folder: packages built by dpkg-deb, indexes signed by gpg."""

from __future__ import annotations

import hashlib
import os
import subprocess
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from debian.copyright import _CURRENT_FORMAT
from debian.debfile import DebFile

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

DEP5 = f"""\
Format: {_CURRENT_FORMAT}

Files: *
Copyright: 2026 Somebody
License: GPL-2+ or MIT

Files: debian/*
Copyright: 2026 Somebody
License: MIT and BSD-3-clause
"""


class Signer:
    """An OpenPGP key of its own; ``keyring`` is what apt is to trust."""

    def __init__(self, folder: Path, name: str) -> None:
        self._home = folder / name
        self._home.mkdir(mode=0o700)
        self.keyring = folder / f"{name}.gpg"
        self._gpg(
            "--passphrase", "", "--quick-generate-key", f"{name}@archive.example", "ed25519", "sign", "0"
        )
        self._gpg("--export", "--output", str(self.keyring))

    def sign(self, text: str) -> bytes:
        """The signature alone, as Release.gpg has it."""
        return self._gpg("--armor", "--detach-sign", data=text.encode())

    def clearsign(self, text: str) -> bytes:
        """The text with an inline signature, as InRelease has it."""
        return self._gpg("--clearsign", data=text.encode())

    def stop(self) -> None:
        """End the agent that gpg started for this key."""
        subprocess.run(["gpgconf", "--homedir", self._home, "--kill", "all"], check=False)

    def _gpg(self, *arguments: str, data: bytes = b"") -> bytes:
        command = ["gpg", "--homedir", str(self._home), "--batch", "--quiet", *arguments]
        return subprocess.run(command, input=data, check=True, capture_output=True).stdout


@dataclass
class Archive:
    """The files of an archive below ``root``, signed by ``signer`` on ``publish``."""

    root: Path
    signer: Signer
    suites: Sequence[str] = ("trixie", "trixie-updates")
    _packages: dict[str, tuple[str, Path]] = field(default_factory=dict)
    _backports: dict[str, tuple[str, Path]] = field(default_factory=dict)

    def add(
        self,
        name: str,
        version: str = "1.0",
        *,
        copyright_text: str | None = DEP5,
        links: Mapping[str, str] | None = None,
        section: str = "misc",
        filler: int = 0,
        area: str = "main",
        backport: bool = False,
        older: bool = False,
        **fields: str,
    ) -> Path:
        """Build a package, in place of an older one of that name; ``fields`` as of its control file.

        ``links``: symbolic links below /usr/share/doc, and where they lead.  ``area``: of the archive;
        ``backport``: for the first suite's backports; ``older``: beside the others, not in their place.
        """
        tree = self.root / ".trees" / f"{name}_{version}_{filler}"
        doc = tree / "usr" / "share" / "doc" / name
        doc.mkdir(parents=True)
        (tree / "DEBIAN").mkdir()
        control = {
            "Package": name,
            "Version": version,
            "Architecture": "amd64",
            "Maintainer": "Somebody <somebody@archive.example>",
            "Section": section,
            "Description": "a package\n More about it.",
            **{key.replace("_", "-"): value for key, value in fields.items()},
        }
        (tree / "DEBIAN" / "control").write_text(
            "".join(f"{key}: {value}\n" for key, value in control.items())
        )
        if copyright_text is not None:
            (doc / "copyright").write_text(copyright_text)
        if filler:
            (doc / "filler").write_bytes(b"x" * filler)
        for place, target in (links or {}).items():
            if (tree / "usr/share/doc" / place).is_dir():
                doc.rmdir()
            (tree / "usr/share/doc" / place).symlink_to(target)
        file = self.root / "pool" / f"{name}_{version.rpartition(':')[2]}_amd64.deb"
        file.parent.mkdir(exist_ok=True)
        environment = {**os.environ, "SOURCE_DATE_EPOCH": "0"}
        command = ["dpkg-deb", "--root-owner-group", "-Znone", "--build", str(tree), str(file)]
        subprocess.run(command, check=True, capture_output=True, env=environment)
        (self._backports if backport else self._packages)[f"{name} {version}" if older else name] = (
            area,
            file,
        )
        return file

    def publish(self) -> None:
        """Write and sign the indexes; the first suite has the packages, its backports theirs."""
        areas = sorted({"main", *(area for area, _ in self._packages.values())})
        for number, suite in enumerate((*self.suites, f"{self.suites[0]}-backports")):
            held = self._backports if suite.endswith("-backports") else {} if number else self._packages
            manual = "NotAutomatic: yes\nButAutomaticUpgrades: yes\n" if held is self._backports else ""
            folder = self.root / "dists" / suite
            listed = ""
            for area in areas:
                files = [file for kept, file in held.values() if kept == area]
                index = "\n".join(_entry(file, self.root) for file in files)
                (folder / area / "binary-amd64").mkdir(parents=True, exist_ok=True)
                (folder / area / "binary-amd64" / "Packages").write_text(index)
                digest = hashlib.sha256(index.encode()).hexdigest()
                listed += f" {digest} {len(index)} {area}/binary-amd64/Packages\n"
            release = (
                f"Origin: Debian\nSuite: {suite}\nCodename: {suite}\nDate: Thu, 01 Jan 2026 00:00:00 UTC\n"
                f"{manual}Architectures: amd64\nComponents: {' '.join(areas)}\nSHA256:\n{listed}"
            )
            (folder / "InRelease").write_bytes(self.signer.clearsign(release))

    def publish_flat(self, *, inline: bool = True, digests: bool = True) -> None:
        """The packages in one folder with their index, as makers of drivers publish theirs.

        ``inline``: signed within, and not beside; ``digests``: the index has the packages' SHA-256.
        """
        entries = [_entry(file, self.root) for _, file in self._packages.values()]
        if not digests:
            entries = [entry[: entry.index("SHA256")] for entry in entries]
        index = "\n".join(entries)
        (self.root / "Packages").write_text(index)
        digest = hashlib.sha256(index.encode()).hexdigest()
        release = (
            "Origin: NVIDIA\nArchitecture: x86_64\nDate: Thu, 01 Jan 2026 00:00:00 UTC\n"
            f"SHA256:\n {digest} {len(index)} Packages\n"
        )
        if inline:
            (self.root / "InRelease").write_bytes(self.signer.clearsign(release))
        else:
            (self.root / "Release").write_text(release)
            (self.root / "Release.gpg").write_bytes(self.signer.sign(release))


def _entry(file: Path, root: Path) -> str:
    with file.open("rb") as opened:
        control = DebFile(fileobj=opened).control.get_content("control", encoding="utf-8")
    data = file.read_bytes()
    return (
        f"{control}Filename: {file.relative_to(root)}\nSize: {len(data)}\n"
        f"SHA256: {hashlib.sha256(data).hexdigest()}\n"
    )
