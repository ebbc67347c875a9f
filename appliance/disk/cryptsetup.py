"""What cryptsetup does to a drive for us, on this machine or a node.

Secrets go in by its standard input, a line each, and never by command line, environment or a file: the
volume's passphrase first, then the administrator's PIN (cryptsetup-luksFormat(8), --hw-opal).  What it
prints has none.  Its exit status and the drive's own state are what counts, never its words.

512 bits of key are AES-256-XTS in dm-crypt; what the drive itself encrypts with is its own affair.
"""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING, Any, Final

from appliance.bundle.media.device import last_words
from appliance.errors import ApplyFailed

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Callable

    from appliance.disk.escrow.keeping import Escrowed
    from appliance.disk.secret import Secret

    #: Runs a shell command line with bytes on its standard input.
    Runner = Callable[[str, bytes], subprocess.CompletedProcess[bytes]]

_LAYERS: Final[dict[str, tuple[str, ...]]] = {
    "opal and dm-crypt": ("--hw-opal", "--cipher", "aes-xts-plain64", "--key-size", "512"),
    "opal": ("--hw-opal-only",),
}
#: A header goes through memory; cryptsetup writes it to a new file and to nothing else.
_HEADER: Final = (
    "umask 077; d=$(mktemp -d /dev/shm/appliance-header.XXXXXX) || exit; "
    'cryptsetup luksHeaderBackup --header-backup-file "$d/header" "$1" && cat "$d/header"; '
    's=$?; rm -rf "$d"; exit "$s"'
)


class Cryptsetup:
    """Enrols drives of one machine.

    Args:
        run: runs a shell command line there.
        read: reads that machine's drives.
    """

    def __init__(self, run: Runner, read: Callable[[], dict[str, Any]]) -> None:
        self._run = run
        self._read = read

    def read(self) -> dict[str, Any]:
        """The readings of the machine, as they are now."""
        return self._read()

    def format(self, path: str, keys: Escrowed) -> None:
        """Take ownership, set up a range over all that the header leaves, write a LUKS2 header.

        Raises:
            ApplyFailed: cryptsetup could not.
        """
        command = ["cryptsetup", "luksFormat", "--batch-mode", "--type", "luks2", "--pbkdf", "argon2id"]
        command += ["--uuid", keys.record.uuid, *_LAYERS[keys.record.layers], path]
        given = b"%s\n%s\n" % (keys.passphrase.reveal(), keys.admin_pin.reveal())
        self._must(command, f"{path} could not be formatted", given)

    def header(self, path: str) -> bytes:
        """The LUKS2 header of a drive.

        Raises:
            ApplyFailed: cryptsetup could not.
        """
        return self._must(["sh", "-c", _HEADER, "sh", path], f"the header of {path} could not be had")

    def reset(self, path: str, psid: Secret) -> None:
        """Take a drive back to as it was made, by its PSID.

        Raises:
            ApplyFailed: cryptsetup could not.
        """
        command = ["cryptsetup", "luksErase", "--batch-mode", "--hw-opal-factory-reset"]
        self._must([*command, "--key-file", "-", path], f"{path} could not be reset", psid.reveal())

    def _must(self, command: list[str], failure: str, given: bytes = b"") -> bytes:
        done = self._run(_as_root(command), given)
        if done.returncode != 0:
            raise ApplyFailed(
                failure,
                found=last_words(done),
                hint="appliance disk status says how the drive stands; the escrow has its newest keys",
            )
        return done.stdout


def _as_root(command: list[str]) -> str:
    """A shell command line: as root if that needs no password."""
    words = shlex.join(["env", "LC_ALL=C.UTF-8", *command])
    return (
        f"PATH=$PATH:/usr/sbin:/sbin; export PATH; set -- {words}; "
        'if [ "$(id -u)" -ne 0 ]; then exec sudo -n "$@"; fi; exec "$@"'
    )
