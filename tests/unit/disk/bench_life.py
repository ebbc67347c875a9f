"""A simulated drive that was enrolled, and who does to it what rotating and retiring have done.

The LUKS2 header's JSON lies on the drive behind the binary header, so a reset makes noise of it too.  A
keyslot there opens with the passphrase that it was made with and with no other.
"""

from __future__ import annotations

import hashlib
import json
from copy import deepcopy
from pathlib import Path
from secrets import token_bytes
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from appliance.disk.certificate import Certified, Who
from appliance.disk.confirmation import Confirmation
from appliance.disk.enrolling import enrol
from appliance.disk.escrow.keeping import read_kept, records_of
from appliance.disk.escrow.sealing import Openers, open_sealed
from appliance.disk.luks import TOKEN, uuid_in
from appliance.disk.retiring import Request as Retirement
from appliance.disk.retiring import keys_at_hand, retire
from appliance.disk.rotating import Request, look, rotate
from appliance.disk.tcg import Tcg
from appliance.lab.drive.media import AccessDenied
from appliance.tcg.blocks import UNREADABLE, told
from appliance.tcg.program import answer
from appliance.tcg.uids import C_PIN, PinColumn
from tests.unit.disk import test_enrolling
from tests.unit.disk.bench import COUNT, FIRST, LONG, BenchDoer, StepFailed, header_of
from tests.unit.disk.drives import only
from tests.unit.disk.escrows import CREATED, escrow, key
from tests.unit.lab.drive.host import ADMIN_SP, LOCKING_SP, OK, SID, admin

if TYPE_CHECKING:
    from collections.abc import Callable

    from appliance.disk.escrow.keeping import Escrowed
    from appliance.disk.escrow.record import Record
    from appliance.disk.luks import PassphraseToken
    from appliance.disk.rotation import Standing
    from appliance.disk.secret import Secret
    from appliance.disk.state import Drive

JSON_AT = LONG
SITE = escrow("safe", "office")


class LifeDoer(BenchDoer):
    """Does what cryptsetup and our own program do to an enrolled drive."""

    def __init__(self, **fields: Any) -> None:
        super().__init__(**fields)
        self.tcg = Tcg(self._ask)
        self.acts: list[str] = []
        self.asked: list[bytes] = []

    # --- the drive's own protocol ---------------------------------------------------------------------

    def _ask(self, line: bytes) -> dict[str, Any]:
        self.asked.append(line)
        return self.answer(line)

    def answer(self, line: bytes) -> dict[str, Any]:
        """What the program on the node would answer."""
        request = json.loads(line)
        assert (request["name"], request["serial"], request["nsid"]) == ("nvme0n1", "SIM1", "1")
        self.acts.append(request["act"])
        if request["act"] == "sample":
            return {"done": {"told": [self._sample(place, request) for place in request["places"]]}}
        found: dict[str, Any] = json.loads(json.dumps(answer(request, self.bench.security)))
        return found

    def _sample(self, place: int, request: dict[str, Any]) -> str:
        size = self.bench.profile.block_size
        try:
            data = self.bench.media.read(place // size, request["length"] // size)
        except AccessDenied:
            return UNREADABLE + "Permission denied"
        return told(data, bytes.fromhex(request["key"]))

    def act(self, drive: Drive, act: str, **wanted: Secret | str | int | list[int]) -> dict[str, Any]:
        return self.tcg.act(drive, act, **wanted)

    # --- what cryptsetup does to the header ------------------------------------------------------------

    def format(self, drive: Drive, keys: Escrowed) -> None:
        if keys.record.layers == "dm-crypt":
            self.write(header_of(keys.record))
        else:
            super().format(drive, keys)
        kinds = {"opal": "hw-opal", "opal and dm-crypt": "hw-opal-crypt", "dm-crypt": "crypt"}
        segment: dict[str, Any] = {"type": kinds[keys.record.layers]}
        if keys.record.layers != "dm-crypt":
            segment["opal_segment_number"] = 1
        slots = {"0": _opened_by(keys.passphrase)}
        self.write_json({"segments": {"0": segment}, "keyslots": slots, "tokens": {}})

    def read(self) -> dict[str, Any]:
        found = super().read()
        if uuid_in(self.beginning()) is not None:
            found["drives"][0]["luks"]["json"] = json.dumps(self.json())
        return found

    def json(self) -> dict[str, Any]:
        size = self.bench.profile.block_size
        text = self.bench.media.read(JSON_AT // size, LONG // size).rstrip(b"\0")
        found: dict[str, Any] = json.loads(text) if text else {"segments": {}, "keyslots": {}}
        return found

    def write_json(self, values: dict[str, Any]) -> None:
        data = json.dumps(values).encode().ljust(LONG, b"\0")
        self.bench.media.write(JSON_AT // self.bench.profile.block_size, data)

    def name_passphrase(self, drive: Drive, token: PassphraseToken) -> None:
        assert drive.serial == "SIM1"
        values = self.json()
        told_of = json.loads(token.to_bytes())
        assert told_of["type"] == TOKEN
        values["tokens"][token.number] = told_of
        self.write_json(values)

    def add_passphrase(self, drive: Drive, slot: str, old: Secret, new: Secret) -> None:
        assert drive.serial == "SIM1"
        values = self.json()
        if slot in values["keyslots"] or not self.opens(old.reveal()):
            raise StepFailed
        values["keyslots"][slot] = _opened_by(new)
        self.write_json(values)

    def remove_passphrase(self, drive: Drive, old: Secret) -> None:
        assert drive.serial == "SIM1"
        values = self.json()
        slots = [slot for slot, opened in values["keyslots"].items() if opened == _opened_by(old)]
        if not slots:
            raise StepFailed
        del values["keyslots"][slots[0]]
        self.write_json(values)

    def opens(self, passphrase: bytes) -> bool:
        """Whether a passphrase opens the volume."""
        digest = hashlib.sha256(passphrase).hexdigest()
        return any(one["opened_by"] == digest for one in self.json()["keyslots"].values())

    # --- what a test asks -----------------------------------------------------------------------------

    def admits(self, which: str, pin: bytes) -> bool:
        """Whether a PIN is that of SID, Admin1 or Admin2; one try."""
        sp, who = (ADMIN_SP, SID) if which == "SID" else (LOCKING_SP, admin(int(which[-1])))
        status = self.bench.host.start(sp, who, pin.decode())
        if status == OK:
            self.bench.host.end()
        return status == OK

    def owned(self) -> bool:
        """Whether somebody owns it."""
        return only(self.read())[0].owner == "somebody"

    def fill(self) -> None:
        """Write noise to its range and behind it, as a volume would that was open."""
        pin = self.attempts[-1].decode()
        assert self.bench.host.lock(pin, 1, read=0, write=0) == OK
        size = self.bench.profile.block_size
        for first in (FIRST, FIRST + COUNT):
            self.bench.media.write(first, b"".join(token_bytes(size) for _ in range(COUNT)))
        assert self.bench.host.lock(pin, 1, read=1, write=1) == OK

    def wrong_tries(self) -> int:
        """Wrong PINs that the drive has counted."""
        tper = self.bench.tper
        return sum(
            int(str(sp.rows[name].get(PinColumn.TRIES, 0)))
            for sp in (tper.admin, tper.locking)
            for name in sp.rows_of(C_PIN)
        )


def _opened_by(passphrase: Secret) -> dict[str, str]:
    return {"opened_by": hashlib.sha256(passphrase.reveal()).hexdigest()}


def enrolled(folder: Path, **fields: Any) -> LifeDoer:
    """A drive that was enrolled; the usual one once in all, of which each test gets a copy."""
    if fields:
        return _enrolled(folder, **fields)
    if not _USUAL:
        with TemporaryDirectory() as place:
            doer = _enrolled(Path(place))
            _USUAL.append((doer, {path.name: path.read_bytes() for path in Path(place).iterdir()}))
    doer, files = _USUAL[0]
    for name, data in files.items():
        (folder / name).write_bytes(data)
    return deepcopy(doer)


_USUAL: list[tuple[LifeDoer, dict[str, bytes]]] = []


def _enrolled(folder: Path, **fields: Any) -> LifeDoer:
    doer = LifeDoer(**fields)
    request = test_enrolling.request(doer, folder)
    enrol(doer, request, now=lambda: CREATED, told=lambda _line: None)
    return doer


def secrets_of(folder: Path, generation: int, name: str = "safe") -> dict[str, bytes]:
    """What a generation of keys holds, opened as the site would."""
    found = records_of(folder, "SIM1", owned=False)
    (record,) = [one for one in found if (one.purpose, one.generation) == ("keys", generation)]
    kept = read_kept(folder, f"{record.stem}.json")
    opened = open_sealed(kept.record, kept.files, Openers([key(name)])).secrets
    return {title: secret.reveal() for title, secret in opened.items()}


def rotation(doer: LifeDoer, folder: Path, told_to: Callable[[str], None] = lambda _line: None) -> Record:
    """Change its keys."""
    openers = Openers([key("safe")])
    wanted = Request("/dev/nvme0n1", "SIM1", folder, SITE, openers, openers)
    return rotate(doer, wanted, now=lambda: CREATED, told=told_to)


WHO = Who("A. Engineer", "field engineer", "A site", "hall 3", "12 34", "P-7", "secret", "yes", "shredder")


def retirement(doer: LifeDoer, escrow: Path, report: Path, **changed: Any) -> Certified:
    """Retire it, by the keys of the escrow, or as is said."""
    keys = None
    if "keys" not in changed and doer.owned():
        keys = keys_at_hand(look(doer, "/dev/nvme0n1", escrow), escrow, Openers([key("safe")]))
    wanted = {
        "path": "/dev/nvme0n1",
        "confirmed": Confirmation("SIM1"),
        "host": "gpu-01",
        "report": report,
        "who": WHO,
        "escrow": escrow,
        "keys": keys,
    }
    return retire(doer, Retirement(**{**wanted, **changed}), now=lambda: CREATED, told=lambda _line: None)


def opens_as_told(doer: LifeDoer, folder: Path, stands: Standing) -> bool:
    """Whether what is told of a drive is so, each PIN tried once."""
    phrases = [secrets_of(folder, one)["passphrase"] for one in stands.passphrases]
    opened = bool(phrases) and all(doer.opens(phrase) for phrase in phrases)
    if stands.administrator is None:
        return opened
    pin = secrets_of(folder, stands.administrator)["admin-pin"]
    owner = (
        doer.bench.profile.msid.encode()
        if stands.owner is None
        else secrets_of(folder, stands.owner)["admin-pin"]
    )
    return opened and doer.admits(stands.which, pin) and doer.admits("SID", owner)
