"""A drive that does not encrypt: a file, and the real cryptsetup and wipefs of this machine.

A file takes no device mapper: a header is made, backed up, restored, and passphrases are tried, as on a
drive.  Only hashing passphrases is made cheap, by a wrapper: it is not what is tested.
"""

from __future__ import annotations

import shutil
import subprocess
from typing import TYPE_CHECKING, Any

from appliance.disk.cryptsetup import Cryptsetup
from appliance.lab.drive.profile import MIB
from tests.unit.disk.drives import entry, machine, top

if TYPE_CHECKING:
    from pathlib import Path

    from appliance.disk.escrow.keeping import Escrowed
    from appliance.disk.secret import Secret
    from appliance.disk.state import Drive

WRAPPER = """#!/bin/sh
case "$1" in
luksFormat) shift; exec {real} luksFormat --pbkdf-memory 32 --pbkdf-force-iterations 4 "$@" ;;
esac
exec {real} "$@"
"""
SIZE = 32 * MIB


class PlainDoer:
    """What ``Cryptsetup`` does, to a file; ``answer`` is what the drive says of itself, if anything."""

    def __init__(self, folder: Path, answer: bytes | None = None, **changed: Any) -> None:
        self.image = folder / "image"
        with self.image.open("wb") as file:
            file.truncate(SIZE)
        self._answer, self._changed = answer, changed
        (folder / "bin").mkdir()
        program = folder / "bin/cryptsetup"
        program.write_text(WRAPPER.format(real=shutil.which("cryptsetup", path="/usr/sbin:/sbin:/usr/bin")))
        program.chmod(0o755)
        place = folder / "block/nvme0n1"
        (place / "device").mkdir(parents=True)
        (place / "device/serial").write_text("SIM1\n")
        (place / "nsid").write_text("1\n")
        self.environment = {"PATH": f"{folder}/bin:/usr/bin:/bin:/usr/sbin:/sbin"}
        self.doer = Cryptsetup(self.shell, self.read, str(folder / "block"))
        self.phrases: list[bytes] = []
        self.cut_off = ""

    def shell(self, command: str, given: bytes = b"") -> subprocess.CompletedProcess[bytes]:
        line = command.replace("/dev/nvme0n1", str(self.image))
        argv = ["sh", "-c", line]
        return subprocess.run(argv, input=given, capture_output=True, check=False, env=self.environment)

    def read(self) -> dict[str, Any]:
        told = self.shell("cryptsetup luksDump --dump-json-metadata /dev/nvme0n1")
        uuid = self.shell("cryptsetup luksUUID /dev/nvme0n1").stdout.decode().strip()
        found = self.shell("wipefs --noheadings --output TYPE /dev/nvme0n1").stdout.decode().split()
        luks = {"status": told.returncode, "json": told.stdout.decode(), "uuid": uuid}
        return machine(
            entry(answer=self._answer, size=SIZE, luks=luks, **self._changed),
            tree=[top(fstype=found[0] if found else None)],
        )

    def format(self, drive: Drive, keys: Escrowed) -> None:
        self.phrases.append(keys.passphrase.reveal())
        if self.cut_off == "before the header":
            raise KeyboardInterrupt
        self.doer.format(drive, keys)
        if self.cut_off == "before the keyslot":  # a header as cryptsetup writes it first
            assert self.shell("cryptsetup luksErase --batch-mode /dev/nvme0n1").returncode == 0
            raise KeyboardInterrupt

    def header(self, drive: Drive) -> bytes:
        if self.cut_off == "before the header is escrowed":
            raise KeyboardInterrupt
        return self.doer.header(drive)

    def reset(self, drive: Drive, psid: Secret) -> None:
        raise AssertionError(f"{drive.path} knows no PSID {psid}")

    def wipe(self, drive: Drive) -> None:
        self.doer.wipe(drive)

    def opens(self, phrase: bytes) -> bool:
        """Whether a passphrase opens the volume."""
        done = self.shell("cryptsetup open --test-passphrase --key-file - /dev/nvme0n1", phrase)
        return done.returncode == 0
