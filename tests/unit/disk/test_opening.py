"""Opening volumes, and binding them to a TPM: where the passphrase goes, where not, and every error."""

from __future__ import annotations

import subprocess
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from appliance.disk.cryptsetup import Cryptsetup
from appliance.disk.escrow.keeping import Escrowed, escrow_keys
from appliance.disk.escrow.marks import put_mark
from appliance.disk.escrow.record import DriveIdentity
from appliance.disk.escrow.sealing import Openers
from appliance.disk.luks import LuksHeader, PassphraseToken
from appliance.disk.opening import bind_to_tpm, escrowed_passphrase, open_volume, opened_by_tpm
from appliance.disk.secret import Secret
from appliance.disk.volumes import Volume
from appliance.errors import (
    ApplyFailed,
    DriveUnsuitable,
    EscrowClosed,
    EscrowInvalid,
    PassphraseRefused,
)
from tests.unit.disk.escrows import CREATED, PSID, escrow, key
from tests.unit.disk.test_volumes import DISK, drives

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

UUID = "6ce4ef4c-2b2e-4a9b-8f1c-2f4a7d1c0b11"
PHRASE = Secret(b"abcde-fghij-klmno")
IDENTITY = DriveIdentity("SIM1", "A drive", "FW1", "1", 16 << 20)
HEADER = LuksHeader("opal and dm-crypt", "aes-xts-plain64", 1, 2, ("systemd-tpm2",), UUID, (7,))
DRIVE = drives({})[0]
VOLUME = Volume(DISK, DRIVE, UUID)

#: Notes how it was called and what it was given; ends as the test wants it.
PROGRAM = """#!/bin/sh
printf '%s\\n' "$(basename "$0") $*" >>"$NOTES/argv"
env >>"$NOTES/env"
cat >>"$NOTES/stdin"
echo "Nothing of abcde-fghij-klmno is told." >&2
case "$*" in *"$WHEN"*) exit "$STATUS" ;; esac
"""


class Host:
    """A machine whose programs are notes; its TPM is there or not."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.status, self.when = 0, ""
        (folder / "bin").mkdir()
        for name in ("cryptsetup", "systemd-cryptenroll", "test"):
            (folder / "bin" / name).write_text(PROGRAM)
            (folder / "bin" / name).chmod(0o755)
        place = folder / "block/nvme0n1"
        (place / "device").mkdir(parents=True)
        (place / "device/serial").write_text("SIM1\n")
        (place / "nsid").write_text("1\n")
        self.client = Cryptsetup(self.run, dict, str(folder / "block"))

    def run(self, command: str, given: bytes) -> subprocess.CompletedProcess[bytes]:
        environment = {
            "PATH": f"{self.folder}/bin:/usr/bin:/bin",
            "NOTES": str(self.folder),
            "STATUS": str(self.status),
            "WHEN": self.when,
        }
        return subprocess.run(
            ["sh", "-c", command], input=given, capture_output=True, check=False, env=environment
        )

    def note(self, name: str) -> str:
        path = self.folder / name
        return path.read_text() if path.exists() else ""


@pytest.fixture
def host(tmp_path: Path) -> Host:
    return Host(tmp_path)


def secret_elsewhere(host: Host) -> bool:
    phrase = PHRASE.reveal().decode()
    return phrase in host.note("argv") or phrase in host.note("env")


def test_a_volume_is_opened_under_its_name_by_standard_input_alone(host: Host) -> None:
    open_volume(host.client, VOLUME, PHRASE)
    assert host.note("argv").splitlines() == [
        "cryptsetup open --type luks2 --batch-mode --tries 1 --key-file - /dev/nvme0n1 data"
    ]
    assert host.note("stdin") == "abcde-fghij-klmno", "and no end of line, which would be part of it"
    assert not secret_elsewhere(host)


@pytest.mark.parametrize(
    ("status", "error"), [(2, PassphraseRefused), (5, ApplyFailed), (1, ApplyFailed), (76, ApplyFailed)]
)
def test_a_volume_that_does_not_open(host: Host, status: int, error: type[Exception]) -> None:
    host.status = status
    with pytest.raises(error) as raised:
        open_volume(host.client, VOLUME, PHRASE)
    assert "abcde" not in str(raised.value.as_dict())  # type: ignore[attr-defined] # ours
    assert len(host.note("argv").splitlines()) == 1, "one attempt"


def test_nothing_is_tried_on_a_drive_that_got_that_name(host: Host) -> None:
    (host.folder / "block/nvme0n1/device/serial").write_text("OTHER\n")
    with pytest.raises(ApplyFailed):
        open_volume(host.client, VOLUME, PHRASE)
    assert host.note("argv") == ""


def test_a_tpm_gets_a_keyslot_by_a_pipe_and_its_former_one_goes(host: Host) -> None:
    volume = replace(VOLUME, disk=replace(DISK, pcrs=(4, 7)))
    bind_to_tpm(host.client, volume, PHRASE)
    *_, test, enroll = host.note("argv").splitlines()
    assert test == "test -c /dev/tpmrm0"
    assert enroll == (
        "systemd-cryptenroll --unlock-key-file=/dev/stdin --tpm2-device=auto --tpm2-pcrs=4+7 "
        "--wipe-slot=tpm2 /dev/nvme0n1"
    )
    assert host.note("stdin") == "abcde-fghij-klmno" * 2
    assert not secret_elsewhere(host)


@pytest.mark.parametrize(
    ("when", "status", "error", "last"),
    [
        ("--test-passphrase", 2, PassphraseRefused, "cryptsetup"),
        ("/dev/tpmrm0", 1, ApplyFailed, "test"),
        ("--wipe-slot", 1, ApplyFailed, "systemd-cryptenroll"),
    ],
)
def test_a_tpm_that_cannot_be_bound(
    host: Host, when: str, status: int, error: type[Exception], last: str
) -> None:
    host.when, host.status = when, status
    with pytest.raises(error):
        bind_to_tpm(host.client, VOLUME, PHRASE)
    assert host.note("argv").splitlines()[-1].startswith(last)


@pytest.mark.parametrize(
    ("luks", "pcrs", "status", "opens"),
    [
        (HEADER, (7,), 0, True),
        (HEADER, (7,), 1, False),
        (HEADER, (0, 7), 0, False),
        (replace(HEADER, tokens=()), (7,), 0, False),
        (None, (7,), 0, False),
    ],
)
def test_whether_the_tpm_opens_it_is_tried_and_not_believed(
    host: Host, luks: LuksHeader | None, pcrs: tuple[int, ...], status: int, opens: bool
) -> None:
    host.status = status
    volume = Volume(replace(DISK, pcrs=pcrs), replace(DRIVE, luks=luks), UUID)
    assert opened_by_tpm(host.client, volume) is opens
    if opens:
        assert "--test-passphrase --token-only --token-type systemd-tpm2" in host.note("argv")


# --- the escrow -------------------------------------------------------------------------------------


@pytest.fixture
def escrowed(tmp_path: Path) -> Callable[..., Escrowed]:
    def make(*names: str, threshold: int = 1) -> Escrowed:
        to = escrow(*names, threshold=threshold)
        return escrow_keys(tmp_path, "gpu-01", IDENTITY, PSID, escrow=to, created=CREATED)

    return make


def volume_of(keys: Escrowed) -> Volume:
    return Volume(DISK, DRIVE, keys.record.uuid)


def test_of_several_keys_those_of_the_header_are_taken(
    tmp_path: Path, escrowed: Callable[..., Escrowed]
) -> None:
    old, new = escrowed("safe"), escrowed("safe")
    openers = Openers([key("safe")])
    for keys in (old, new):
        assert escrowed_passphrase(tmp_path, volume_of(keys), openers) == keys.passphrase


def test_during_and_after_a_rotation_the_header_tells_whose_passphrase_it_has(
    tmp_path: Path, escrowed: Callable[..., Escrowed]
) -> None:
    """Keys that are escrowed already and not in the header yet open nothing."""
    old = escrowed("safe")
    uuid = old.record.uuid
    to = escrow("safe")
    new = escrow_keys(tmp_path, "gpu-01", IDENTITY, PSID, escrow=to, created=CREATED, volume=uuid)
    openers = Openers([key("safe")])
    named = PassphraseToken("0", new.record.mark, "1", "0")

    def found(*slots: str, token: PassphraseToken | None = named) -> Secret:
        header = replace(HEADER, uuid=uuid, slots=slots, passphrase=token)
        return escrowed_passphrase(tmp_path, Volume(DISK, replace(DRIVE, luks=header), uuid), openers)

    assert found("0", token=None) == old.passphrase
    assert found("0") == old.passphrase, "named, and not added yet"
    assert found("0", "1") == new.passphrase
    assert found("1") == new.passphrase
    put_mark(tmp_path, new.record, "rotated")
    assert found("1") == new.passphrase
    third = escrow_keys(tmp_path, "gpu-01", IDENTITY, PSID, escrow=to, created=CREATED, volume=uuid)
    assert found("1") == new.passphrase
    assert found("1", token=PassphraseToken("0", third.record.mark, "0", "1")) == new.passphrase


def test_several_holders_open_it_together(tmp_path: Path, escrowed: Callable[..., Escrowed]) -> None:
    keys = escrowed("ana", "bo", "cy", threshold=2)
    assert (
        escrowed_passphrase(tmp_path, volume_of(keys), Openers([key("ana"), key("cy")])) == keys.passphrase
    )
    with pytest.raises(EscrowClosed):
        escrowed_passphrase(tmp_path, volume_of(keys), Openers([key("ana")]))


def test_other_peoples_keys_open_nothing(tmp_path: Path, escrowed: Callable[..., Escrowed]) -> None:
    keys = escrowed("safe")
    with pytest.raises(EscrowClosed):
        escrowed_passphrase(tmp_path, volume_of(keys), Openers([key("other")]))


def test_a_header_that_the_escrow_does_not_know_is_foreign(
    tmp_path: Path, escrowed: Callable[..., Escrowed]
) -> None:
    escrowed("safe")
    with pytest.raises(DriveUnsuitable, match="foreign") as raised:
        escrowed_passphrase(tmp_path, VOLUME, Openers([key("safe")]))
    assert "SIM1.0001.keys" in raised.value.wanted


def test_a_damaged_record_of_the_drive_is_said_and_not_called_foreign(
    tmp_path: Path, escrowed: Callable[..., Escrowed]
) -> None:
    keys = escrowed("safe")
    (tmp_path / "SIM1.0001.keys.json").write_text("{}")
    with pytest.raises(EscrowInvalid):
        escrowed_passphrase(tmp_path, volume_of(keys), Openers([key("safe")]))
