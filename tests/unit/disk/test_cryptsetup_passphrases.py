"""Passphrases of a volume are exchanged by cryptsetup: how it is asked, and that the real one does it."""

from __future__ import annotations

import json
import subprocess
from typing import TYPE_CHECKING

import pytest

from appliance.disk.cryptsetup import Cryptsetup
from appliance.disk.luks import LuksHeader, PassphraseToken, parse_luks
from appliance.disk.secret import Secret
from appliance.errors import ApplyFailed
from tests.unit.disk.test_cryptsetup import DRIVE_1, cryptsetup
from tests.unit.disk.test_state import BOTH

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

__all__ = ["cryptsetup"]

OLD, NEW = Secret(b"secret-old"), Secret(b"secret-new")
TOKEN = PassphraseToken("3", "ab" * 16, "2", "0")

ACTS: dict[str, tuple[Callable[[Cryptsetup], None], list[str], bytes]] = {
    "name": (
        lambda program: program.name_passphrase(DRIVE_1, TOKEN),
        ["token", "import", "--json-file", "-", "--token-id", "3", "--token-replace", "/dev/nvme1n1"],
        TOKEN.to_bytes(),
    ),
    "add": (
        lambda program: program.add_passphrase(DRIVE_1, "2", OLD, NEW),
        [
            *("luksAddKey", "--batch-mode", "--force-password", "--pbkdf", "argon2id"),
            *("--new-key-slot", "2", "/dev/nvme1n1"),
        ],
        b"secret-old\nsecret-new\n",
    ),
    "remove": (
        lambda program: program.remove_passphrase(DRIVE_1, OLD),
        ["luksRemoveKey", "--batch-mode", "--key-file", "-", "/dev/nvme1n1"],
        b"secret-old",
    ),
}


@pytest.mark.parametrize("name", ACTS)
def test_secrets_go_by_standard_input_alone(
    tmp_path: Path, cryptsetup: Callable[..., Cryptsetup], name: str
) -> None:
    act, argv, given = ACTS[name]
    act(cryptsetup())
    assert (tmp_path / "argv").read_text().splitlines() == argv
    assert (tmp_path / "stdin").read_bytes() == given
    assert b"secret-" not in (tmp_path / "argv").read_bytes() + (tmp_path / "env").read_bytes()


@pytest.mark.parametrize("name", ["add", "remove"])
def test_a_failure_is_told_without_a_secret(cryptsetup: Callable[..., Cryptsetup], name: str) -> None:
    with pytest.raises(ApplyFailed) as raised:
        ACTS[name][0](cryptsetup(fail=2))
    assert "secret-" not in repr(raised.value.as_dict())


@pytest.mark.parametrize("name", ACTS)
def test_nothing_is_done_to_another_drive_that_got_the_name(
    tmp_path: Path, cryptsetup: Callable[..., Cryptsetup], name: str
) -> None:
    program = cryptsetup()
    (tmp_path / "block/nvme1n1/device/serial").write_text("SIM2\n")
    with pytest.raises(ApplyFailed):
        ACTS[name][0](program)
    assert not (tmp_path / "argv").exists()


class Volume:
    """A LUKS2 volume in a file, in the place of the drive, before the cryptsetup of this machine."""

    def __init__(self, folder: Path) -> None:
        self.image = folder / "image"
        with self.image.open("wb") as file:
            file.truncate(20 << 20)
        (folder / "bin").mkdir()
        (folder / "bin/id").write_text("#!/bin/sh\necho 0\n")  # a file needs no root
        (folder / "bin/id").chmod(0o755)
        place = folder / "block/nvme1n1/device"
        place.mkdir(parents=True)
        (place / "serial").write_text("SIM1\n")
        (place.parent / "nsid").write_text("1\n")
        self.path = {"PATH": f"{folder}/bin:/usr/sbin:/usr/bin:/sbin:/bin"}
        self.program = Cryptsetup(self._run, dict, str(folder / "block"))
        fast = ["--type", "luks2", "--pbkdf", "pbkdf2", "--pbkdf-force-iterations", "1000"]
        self.cryptsetup("luksFormat", "--batch-mode", *fast, str(self.image), given=OLD.reveal())

    def _run(self, command: str, given: bytes) -> subprocess.CompletedProcess[bytes]:
        command = command.replace("argon2id", "pbkdf2 --pbkdf-force-iterations 1000")  # seconds apart
        argv = ["sh", "-c", command.replace("/dev/nvme1n1", str(self.image))]
        return subprocess.run(argv, input=given, capture_output=True, check=False, env=self.path)

    def cryptsetup(self, *words: str, given: bytes = b"", check: bool = True) -> tuple[int, str]:
        argv = ["cryptsetup", *words]
        done = subprocess.run(argv, input=given, capture_output=True, check=check, env=self.path)
        return done.returncode, done.stdout.decode()

    def opens(self, passphrase: Secret) -> bool:
        words = ("open", "--test-passphrase", str(self.image))
        return self.cryptsetup(*words, given=passphrase.reveal(), check=False)[0] == 0

    def header(self) -> LuksHeader:
        return parse_luks(self.cryptsetup("luksDump", "--dump-json-metadata", str(self.image))[1])


def test_cryptsetup_itself_exchanges_a_passphrase(tmp_path: Path) -> None:
    volume = Volume(tmp_path)
    before = volume.header()
    assert (before.slots, before.passphrase, before.passphrase_slot) == (("0",), None, "0")
    token = before.next_token("ab" * 16)
    assert token == PassphraseToken("0", "ab" * 16, "1", "0")
    volume.program.name_passphrase(DRIVE_1, token)
    assert (volume.header().passphrase, volume.header().slots) == (token, ("0",))
    volume.program.add_passphrase(DRIVE_1, token.slot, OLD, NEW)
    assert volume.header().slots == ("0", "1")
    assert volume.opens(OLD)
    assert volume.opens(NEW)
    volume.program.remove_passphrase(DRIVE_1, OLD)
    assert volume.header().slots == ("1",)
    assert not volume.opens(OLD)
    assert volume.opens(NEW)
    again = volume.header().next_token("cd" * 16)
    assert again == PassphraseToken("0", "cd" * 16, "0", "1"), "the token in place of the one before"
    volume.program.name_passphrase(DRIVE_1, again)
    assert volume.header().passphrase == again


def test_a_wrong_passphrase_removes_nothing(tmp_path: Path) -> None:
    volume = Volume(tmp_path)
    with pytest.raises(ApplyFailed):
        volume.program.remove_passphrase(DRIVE_1, NEW)
    assert volume.opens(OLD)


def header(**changed: object) -> LuksHeader:
    return parse_luks(json.dumps({**json.loads(BOTH), **changed}))


def test_tokens_of_others_are_left_alone() -> None:
    tpm = {"type": "systemd-tpm2", "keyslots": ["1"]}
    found = header(keyslots={"0": {}, "1": {}}, tokens={"0": tpm, "10": {"type": "x"}})
    assert found.passphrase is None
    assert found.next_token("k") == PassphraseToken("1", "k", "2", "0")


def test_a_header_without_room() -> None:
    assert header(keyslots={str(one): {} for one in range(32)}).next_token("k") is None
    assert header(tokens={str(one): {"type": "x"} for one in range(32)}).next_token("k") is None


def test_a_token_that_lacks_something_says_nothing() -> None:
    found = header(tokens={"0": {"type": "appliance-keys", "keyslots": []}})
    assert found.passphrase == PassphraseToken("0", "", "", "")
