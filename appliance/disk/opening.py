"""Opening volumes with a passphrase, and having a node's TPM open them at its starts.

The passphrase goes in by standard input, and never by command line, environment or a file; each is tried
once.  A wrong one costs a drive nothing: cryptsetup tries it on the keyslots of the LUKS header, and gives
the drive only what comes out of one.

A TPM's token is a keyslot of its own beside the passphrase's (systemd-cryptenroll(1)): the passphrase of
the escrow opens the volume whatever becomes of the TPM.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from appliance.bundle.media.device import last_words
from appliance.disk.cryptsetup import without
from appliance.disk.escrow.keeping import Kept, kept_in
from appliance.disk.escrow.marks import marks_of
from appliance.disk.escrow.record import spelled
from appliance.disk.escrow.sealing import open_sealed
from appliance.errors import ApplyFailed, DriveUnsuitable, EscrowInvalid, PassphraseRefused

if TYPE_CHECKING:
    import subprocess
    from pathlib import Path

    from appliance.disk.cryptsetup import Cryptsetup
    from appliance.disk.escrow.record import Record
    from appliance.disk.escrow.sealing import Openers
    from appliance.disk.secret import Secret
    from appliance.disk.volumes import Volume

#: cryptsetup(8), RETURN CODES: no permission (bad passphrase).
_WRONG_PASSPHRASE: Final = 2
_TRY: Final = ("cryptsetup", "open", "--type", "luks2", "--batch-mode", "--tries", "1")
#: A login's standard input may be a socket, which cannot be opened by name; a pipe can.
_ENROLL: Final = 'cat | systemd-cryptenroll --unlock-key-file=/dev/stdin "$@"'


def escrowed_passphrase(folder: Path, volume: Volume, openers: Openers) -> Secret:
    """The passphrase of a volume, from the escrow.

    Args:
        folder: the escrow.
        volume: which; by the UUID of its header, so that no other drive's and no older one is taken.
        openers: whose key or keys.

    Raises:
        DriveUnsuitable: the escrow has no keys of this header.
        EscrowClosed: the keys at hand are other people's, or too few.
        EscrowInvalid, PreflightFailed: a record cannot be relied on, or read.
    """
    serial, kept = volume.disk.serial, kept_in(folder)
    records = [one for one in kept if isinstance(one, Kept) and one.record.drive.serial == serial]
    keys = [one for one in records if one.record.purpose == "keys" and one.record.uuid == volume.uuid]
    if fitting := [one for one in keys if _opens(folder, one.record, volume)]:
        chosen = max(fitting, key=lambda one: one.record.generation)
        return open_sealed(chosen.record, chosen.files, openers).secrets["passphrase"]
    for one in kept:
        if isinstance(one, EscrowInvalid) and one.message.startswith(spelled(serial)):
            raise one
    raise DriveUnsuitable(
        f"{volume.drive.path} cannot be opened: foreign",
        found=f"its header is that of the volume {volume.uuid}, and no keys of the escrow are of that",
        wanted=", ".join(sorted({f"{one.record.stem}: {one.record.uuid}" for one in records}))
        or f"keys of {serial} in {folder}",
        hint="it was formatted with other keys since, or this is another escrow; where only the header was "
        "overwritten: docs/disk.md, When the header is lost",
    )


def _opens(folder: Path, keys: Record, volume: Volume) -> bool:
    """Whether the passphrase of these keys is in the header, as it tells: a rotation may be under way."""
    luks = volume.drive.luks
    token = None if luks is None else luks.passphrase
    if luks is not None and token is not None and token.slot in luks.slots:
        return keys.mark == token.keys
    return not keys.volume or "rotated" in marks_of(folder, keys)


def open_volume(cryptsetup: Cryptsetup, volume: Volume, passphrase: Secret) -> None:
    """Open a closed volume under its name, in one attempt.

    Raises:
        PassphraseRefused: it is not the one.
        ApplyFailed, DriveUnsuitable: it could not be, or another drive is there now.
    """
    command = [*_TRY, "--key-file", "-", volume.drive.path, volume.disk.name]
    done = cryptsetup.attempt(volume.drive, command, passphrase.reveal())
    _judge(done, volume, passphrase, f"{volume.drive.path} could not be opened")


def opened_by_tpm(cryptsetup: Cryptsetup, volume: Volume) -> bool:
    """Whether the node's TPM opens it as it is now, by registers that are those of the inventory.

    Raises:
        DriveUnsuitable: another drive is there now.
    """
    luks = volume.drive.luks
    if luks is None or "systemd-tpm2" not in luks.tokens or luks.pcrs != volume.disk.pcrs:
        return False
    command = [*_TRY, "--test-passphrase", "--token-only", "--token-type", "systemd-tpm2"]
    return cryptsetup.attempt(volume.drive, [*command, volume.drive.path]).returncode == 0


def bind_to_tpm(cryptsetup: Cryptsetup, volume: Volume, passphrase: Secret) -> None:
    """Have the node's TPM open a volume, and no former one; the passphrase's keyslot stays.

    Raises:
        PassphraseRefused: it is not the one.
        ApplyFailed, DriveUnsuitable: there is no TPM, or it could not be.
    """
    test = [*_TRY, "--test-passphrase", "--key-file", "-", volume.drive.path]
    done = cryptsetup.attempt(volume.drive, test, passphrase.reveal())
    _judge(done, volume, passphrase, f"the passphrase of {volume.drive.path} could not be tried")
    if cryptsetup.attempt(volume.drive, ["test", "-c", "/dev/tpmrm0"]).returncode:
        raise ApplyFailed(
            f"{volume.drive.path} could not be bound",
            found="the node has no TPM 2.0 that Linux knows: no /dev/tpmrm0",
            hint="turn it on in the firmware's setup, or choose unlock: console or ssh in the inventory",
        )
    registers = "+".join(str(one) for one in volume.disk.pcrs)
    options = ["--tpm2-device=auto", f"--tpm2-pcrs={registers}", "--wipe-slot=tpm2", volume.drive.path]
    done = cryptsetup.attempt(volume.drive, ["sh", "-c", _ENROLL, "sh", *options], passphrase.reveal())
    _judge(done, volume, passphrase, f"{volume.drive.path} could not be bound to the TPM")


def _judge(
    done: subprocess.CompletedProcess[bytes], volume: Volume, passphrase: Secret, failure: str
) -> None:
    if done.returncode == _WRONG_PASSPHRASE:
        raise PassphraseRefused(
            failure,
            found="a passphrase that opens no keyslot of its header",
            wanted=f"that of {volume.uuid}",
            hint="it was tried once; appliance disk escrow open shows the escrow's",
        )
    if done.returncode:
        raise ApplyFailed(
            failure,
            found=last_words(without((passphrase,), done)),
            hint="appliance disk status says how the drive stands; the node's journal has the rest",
        )
