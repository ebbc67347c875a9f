"""A simulated drive in a machine, and who does to it what cryptsetup has a kernel do."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from appliance.disk.luks import MAGIC, uuid_in
from appliance.lab.drive.profile import MIB, Profile
from tests.unit.disk.drives import entry, level_0, machine, top
from tests.unit.disk.test_state import ALONE, BOTH
from tests.unit.lab.drive.conftest import Bench
from tests.unit.lab.drive.host import OK, PSID, admin, user

if TYPE_CHECKING:
    from appliance.disk.escrow.keeping import Escrowed
    from appliance.disk.escrow.record import Record
    from appliance.disk.secret import Secret
    from appliance.disk.state import Drive

#: Where the test's LUKS header has how many keyslots and, of layers, ``b`` or ``a``: in its label.
LABEL = slice(24, 26)
TEXTS = {b"1b": BOTH, b"1a": ALONE, b"0b": None, b"0a": None}
FIRST, COUNT = 80, 80
BEGUN = BOTH.replace('"0":{},"1":{}', "", 1)


LONG = 4096


def header_of(record: Record, *, keyslots: int = 1, alone: bool = False) -> bytes:
    """The beginning of a LUKS2 header, as far as it is read here."""
    label = b"%d%s" % (keyslots, b"a" if alone or record.layers == "opal" else b"b")
    return MAGIC + bytes(16) + label.ljust(144, b"\0") + record.uuid.encode().ljust(40, b"\0")


class StepFailed(Exception):
    """A method of the drive was not carried out."""


class BenchDoer:
    """Does what cryptsetup does: methods first, then the header, then a keyslot in it."""

    def __init__(self, **fields: Any) -> None:
        self.bench = Bench(Profile(**{"size": 16 * MIB, "serial": "SIM1", **fields}))
        self.attempts: list[bytes] = []
        self.phrases: list[bytes] = []
        self.before_header = self.before_keyslot = lambda: None

    def read(self) -> dict[str, Any]:
        header = self.beginning()
        uuid = uuid_in(header)
        text = "" if uuid is None else TEXTS[header[LABEL]] or BEGUN
        profile = self.bench.profile
        return machine(
            entry(
                answer=level_0(self.bench.security),
                serial=profile.serial,
                size=profile.size,
                block_size=profile.block_size,
                luks={"status": 0 if text else 1, "json": text, "uuid": uuid or ""},
            ),
            tree=[top(fstype="crypto_LUKS" if text else None)],
        )

    def format(self, drive: Drive, keys: Escrowed) -> None:
        assert (drive.path, drive.serial) == ("/dev/nvme0n1", self.bench.profile.serial)
        host, pin = self.bench.host, keys.admin_pin.reveal().decode()
        self.attempts.append(keys.admin_pin.reveal())
        self.phrases.append(keys.passphrase.reveal())
        self._must(host.take_ownership(pin))
        self._must(host.activate(pin))
        self._must(host.as_admin(pin).set(user(1), c5=1))
        host.end()
        host.give_range_to(pin, 1, user(1))
        self._must(host.set_up_range(pin, 1, FIRST, COUNT))
        self._must(host.lock(pin, 1, read=1, write=1))
        self.before_header()
        self.write(header_of(keys.record, keyslots=0))
        self.before_keyslot()
        self.write(header_of(keys.record))

    def write(self, text: bytes) -> None:
        """Write to the beginning of the drive, which is in no range; a reset makes noise of it."""
        self.bench.media.write(0, text.ljust(LONG, b"\0"))

    def header(self, drive: Drive) -> bytes:
        assert (drive.path, drive.serial) == ("/dev/nvme0n1", self.bench.profile.serial)
        return self.beginning()

    def beginning(self) -> bytes:
        """What is written at the beginning of the drive."""
        return self.bench.media.read(0, LONG // self.bench.profile.block_size)

    def reset(self, drive: Drive, psid: Secret) -> None:
        assert (drive.path, drive.serial) == ("/dev/nvme0n1", self.bench.profile.serial)
        self._must(self.bench.host.revert(PSID, psid.reveal().decode()))

    def owner_is(self, pin: bytes) -> bool:
        """Whether a PIN opens both what an owner and an administrator may; each is tried once."""
        host, found = self.bench.host, []
        for sp, who in ((b"\0\0\2\5\0\0\0\1", b"\0\0\0\x09\0\0\0\6"), (b"\0\0\2\5\0\0\0\2", admin(1))):
            if sp[-1] == 2 and not self.bench.tper.active:
                continue
            found.append(host.start(sp, who, pin.decode()) == OK)
            if found[-1]:
                host.end()
        return all(found)

    @staticmethod
    def _must(status: int) -> None:
        if status != OK:
            raise StepFailed(status)
