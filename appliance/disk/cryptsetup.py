"""What cryptsetup does to a drive for us, on this machine or a node.

Secrets go in by its standard input, a line each, and never by command line, environment or a file: the
volume's passphrase first, then, where the drive encrypts, the administrator's PIN
(cryptsetup-luksFormat(8), --hw-opal).  What it prints should have none, and is told without them.  Its exit
status and the drive's own state are what counts, never its words.

The kernel's names move when drives come and go.  So each command looks again, in the same shell and right
before cryptsetup, whether the drive of that name is the one that was read.

512 bits of key are AES-256-XTS in dm-crypt; what the drive itself encrypts with is its own affair.
"""

from __future__ import annotations

import shlex
from subprocess import CompletedProcess
from typing import TYPE_CHECKING, Any, Final

from appliance.bundle.media.device import last_words
from appliance.errors import ApplyFailed, DriveUnsuitable

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Callable, Sequence

    from appliance.definition.disks import Layers
    from appliance.disk.escrow.keeping import Escrowed
    from appliance.disk.luks import PassphraseToken
    from appliance.disk.secret import Secret
    from appliance.disk.state import Drive

    #: Runs a shell command line with bytes on its standard input.
    Runner = Callable[[str, bytes], subprocess.CompletedProcess[bytes]]

_AES_256: Final = ("--cipher", "aes-xts-plain64", "--key-size", "512")
_LAYERS: Final[dict[Layers, tuple[str, ...]]] = {
    "opal and dm-crypt": ("--hw-opal", *_AES_256),
    "opal": ("--hw-opal-only",),
    "dm-crypt": _AES_256,
}
#: A header goes through memory; cryptsetup writes it to a new file and to nothing else.
_HEADER: Final = (
    "umask 077; d=$(mktemp -d /dev/shm/appliance-header.XXXXXX) || exit; "
    'cryptsetup luksHeaderBackup --header-backup-file "$d/header" "$1" && cat "$d/header"; '
    's=$?; rm -rf "$d"; exit "$s"'
)
#: udev remembers what was on a drive, and would tell of the header that the reset has ended.
_RESET: Final = (
    'cryptsetup luksErase --batch-mode --hw-opal-factory-reset --key-file - "$1" || exit; '
    'timeout 60 udevadm trigger --settle "$1" >/dev/null 2>&1; :'
)

#: Looks whether the drive at a place is still the one that was read, right before whatever follows ``--``.
_SAME: Final = (
    "place=$1; shift; "
    'while [ "$1" != -- ]; do '
    'is=; read -r is <"$place/$1"; '
    '[ "$is" = "$2" ] || { echo "another drive is there now: $1 is not what it was" >&2; exit 76; }; '
    'shift 2; done; shift; exec "$@"'
)
#: Where a kernel has its block devices.
_PLACES: Final = "/sys/class/block"


class Cryptsetup:
    """Enrols drives of one machine.

    Args:
        run: runs a shell command line there.
        read: reads that machine's drives.
        places: where it has its block devices in sysfs.
    """

    def __init__(self, run: Runner, read: Callable[[], dict[str, Any]], places: str = _PLACES) -> None:
        self._run = run
        self._read = read
        self._places = places

    def read(self) -> dict[str, Any]:
        """The readings of the machine, as they are now."""
        return self._read()

    def format(self, drive: Drive, keys: Escrowed) -> None:
        """Take ownership and set up a range over all that the header leaves, as layers ask; write a header.

        Raises:
            ApplyFailed: cryptsetup could not, or another drive is there now.
            DriveUnsuitable: it could not be known again.
        """
        command = ["cryptsetup", "luksFormat", "--batch-mode", "--type", "luks2", "--pbkdf", "argon2id"]
        command += ["--uuid", keys.record.uuid, *_LAYERS[keys.record.layers], drive.path]
        secrets = [one for one in (keys.passphrase, keys.admin_pin) if one is not None]
        given = b"".join(one.reveal() + b"\n" for one in secrets)
        self._must(drive, command, f"{drive.path} could not be formatted", given, secrets)

    def header(self, drive: Drive) -> bytes:
        """The LUKS2 header of a drive.

        Raises:
            ApplyFailed, DriveUnsuitable: as ``format``.
        """
        command = ["sh", "-c", _HEADER, "sh", drive.path]
        return self._must(drive, command, f"the header of {drive.path} could not be had")

    def reset(self, drive: Drive, psid: Secret) -> None:
        """Take a drive back to as it was made, by its PSID.

        Raises:
            ApplyFailed, DriveUnsuitable: as ``format``.
        """
        command = ["sh", "-c", _RESET, "sh", drive.path]
        self._must(drive, command, f"{drive.path} could not be reset", psid.reveal(), (psid,))

    def name_passphrase(self, drive: Drive, token: PassphraseToken) -> None:
        """Write to the header of which keys the next passphrase is, and where it comes.

        Raises:
            ApplyFailed, DriveUnsuitable: as ``format``.
        """
        command = ["cryptsetup", "token", "import", "--json-file", "-", "--token-id", token.number]
        command += ["--token-replace", drive.path]
        self._must(drive, command, f"the header of {drive.path} could not be written", token.to_bytes())

    def add_passphrase(self, drive: Drive, slot: str, old: Secret, new: Secret) -> None:
        """Add a passphrase in an empty keyslot, by one that opens the volume.

        Raises:
            ApplyFailed, DriveUnsuitable: as ``format``.
        """
        command = ["cryptsetup", "luksAddKey", "--batch-mode", "--force-password", "--pbkdf", "argon2id"]
        command += ["--new-key-slot", slot, drive.path]
        given = b"%s\n%s\n" % (old.reveal(), new.reveal())
        self._must(drive, command, f"{drive.path} could not be given a passphrase", given, (old, new))

    def remove_passphrase(self, drive: Drive, old: Secret) -> None:
        """Remove the keyslot that a passphrase opens.

        Raises:
            ApplyFailed, DriveUnsuitable: as ``format``.
        """
        command = ["cryptsetup", "luksRemoveKey", "--batch-mode", "--key-file", "-", drive.path]
        self._must(
            drive, command, f"a passphrase of {drive.path} could not be removed", old.reveal(), (old,)
        )

    def attempt(
        self, drive: Drive, command: Sequence[str], given: bytes = b""
    ) -> subprocess.CompletedProcess[bytes]:
        """Run a command on a drive as root, if it is the one that was read; 76 if another is there now.

        Raises:
            DriveUnsuitable: it could not be known again.
        """
        same = ["sh", "-c", _SAME, "sh", f"{self._places}/{drive.name}", *_known_by(drive), "--"]
        return self._run(_as_root([*same, *command]), given)

    def wipe(self, drive: Drive) -> None:
        """Take the marks of a LUKS header away, of which nothing opens.

        Raises:
            ApplyFailed, DriveUnsuitable: as ``format``.
        """
        command = ["wipefs", "--all", "--types", "crypto_LUKS", drive.path]
        self._must(drive, command, f"the header of {drive.path} could not be taken away")

    def _must(
        self,
        drive: Drive,
        command: list[str],
        failure: str,
        given: bytes = b"",
        secrets: Sequence[Secret] = (),
    ) -> bytes:
        done = self.attempt(drive, command, given)
        if done.returncode != 0:
            raise ApplyFailed(
                failure,
                found=last_words(without(secrets, done)),
                hint="appliance disk status says how the drive stands; the escrow has its newest keys",
            )
        return done.stdout


def without(
    secrets: Sequence[Secret], done: subprocess.CompletedProcess[bytes]
) -> subprocess.CompletedProcess[bytes]:
    """What a program said, with nothing in it of what it was given; standard output is never told."""
    said = done.stderr
    for secret in secrets:
        said = said.replace(secret.reveal(), b"<secret>")
    return CompletedProcess(done.args, done.returncode, b"", said)


def _known_by(drive: Drive) -> list[str]:
    """Attributes in sysfs that a drive is known again by, each with its value.

    Raises:
        DriveUnsuitable: it has none.
    """
    if drive.name.startswith("nvme") and drive.serial and drive.namespace:
        return ["device/serial", drive.serial, "nsid", drive.namespace]
    if drive.wwid and not drive.name.startswith("nvme"):
        return ["device/wwid", drive.wwid]
    raise DriveUnsuitable(
        f"{drive.path} could not be known again",
        found="no serial number of NVMe, and no world wide name",
        wanted="one of them, so that nothing is done to another drive that gets its name",
    )


def _as_root(command: list[str]) -> str:
    """A shell command line: as root if that needs no password; what it starts leaves no core dump."""
    words = shlex.join(["env", "LC_ALL=C.UTF-8", *command])
    return (
        f"ulimit -c 0; PATH=$PATH:/usr/sbin:/sbin; export PATH; set -- {words}; "
        'if [ "$(id -u)" -ne 0 ]; then exec sudo -n "$@"; fi; exec "$@"'
    )
