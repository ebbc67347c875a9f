"""Changing the keys of a simulated drive, cut off between any two of its methods and of our steps.

The proof is what is told of the drive without a PIN: each generation that is named opens, in one attempt.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from appliance.disk import rotation_steps
from appliance.disk.enrolling import enrol
from appliance.disk.escrow.checking import choose
from appliance.disk.escrow.keeping import records_of
from appliance.disk.escrow.sealing import Openers
from appliance.disk.rotating import Request, look, rotate
from appliance.disk.rotation import standing
from appliance.errors import (
    ApplyFailed,
    DriveUnsuitable,
    Usage,
)
from appliance.lab.drive.orders import PowerLost
from tests.unit.disk import test_enrolling
from tests.unit.disk.bench_life import (
    LifeDoer,
    enrolled,
    opens_as_told,
    rotation,
    secrets_of,
)
from tests.unit.disk.drives import top
from tests.unit.disk.escrows import CREATED, escrow, key
from tests.unit.lab.drive.host import ADMIN_SP, C_PIN_SID, OK, SID

if TYPE_CHECKING:
    from pathlib import Path

#: Of a whole rotation, with those that read names: a look has four.
METHODS = 39
#: Steps that tell of themselves.
STEPS = 12
FIRST_FREE = 400


class CutOff(BaseException):
    """The operator's machine stops."""


def has(doer: LifeDoer, folder: Path, generation: int) -> bool:
    """Whether a drive has one generation of keys and no other."""
    secrets = secrets_of(folder, generation)
    pin = secrets["admin-pin"]
    return (
        doer.admits("SID", pin)
        and doer.admits("Admin1", pin)
        and doer.opens(secrets["passphrase"])
        and len(doer.json()["keyslots"]) == 1
        and not doer.admits("Admin2", pin)
    )


def test_a_drive_gets_new_keys_and_has_none_of_those_before(tmp_path: Path) -> None:
    doer = enrolled(tmp_path)
    data = doer.bench.pattern(FIRST_FREE, 80)
    record = rotation(doer, tmp_path)
    assert (record.generation, record.volume) == (2, doer.read()["drives"][0]["luks"]["uuid"])
    assert has(doer, tmp_path, 2)
    old = secrets_of(tmp_path, 1)
    assert not doer.opens(old["passphrase"])
    assert not doer.admits("SID", old["admin-pin"])
    assert not doer.admits("Admin1", old["admin-pin"])
    assert old["psid"] == secrets_of(tmp_path, 2)["psid"]
    assert doer.bench.media.read(FIRST_FREE, 80) == data
    stems = [one.stem for one in records_of(tmp_path, "SIM1", owned=True) if one.purpose == "header"]
    assert stems == ["SIM1.0001.header", "SIM1.0002.header"]


def test_an_owner_who_has_the_pin_of_everybody_gets_the_new_one(tmp_path: Path) -> None:
    """Somebody set it by hand; the drive says so, and no other PIN is tried."""
    doer = enrolled(tmp_path)
    msid = doer.bench.profile.msid
    assert doer.bench.host.start(ADMIN_SP, SID, secrets_of(tmp_path, 1)["admin-pin"].decode()) == OK
    assert doer.bench.host.set(C_PIN_SID, c3=msid.encode()) == OK
    doer.bench.host.end()
    assert standing(look(doer, "/dev/nvme0n1", tmp_path)).owner is None
    rotation(doer, tmp_path)
    assert has(doer, tmp_path, 2)


def test_no_pin_is_ever_tried_in_vain(tmp_path: Path) -> None:
    doer = enrolled(tmp_path)
    rotation(doer, tmp_path)
    assert doer.wrong_tries() == 0


def test_keys_are_changed_as_often_as_wanted(tmp_path: Path) -> None:
    doer = enrolled(tmp_path)
    for generation in (2, 3, 4):
        assert rotation(doer, tmp_path).generation == generation
        assert has(doer, tmp_path, generation)
    assert list(doer.json()["tokens"]) == ["0"], "one token, however often"


def test_other_keyslots_stay(tmp_path: Path) -> None:
    """As that of a TPM, with its token."""
    doer = enrolled(tmp_path)
    values = doer.json()
    values["keyslots"]["1"] = {"opened_by": "a TPM"}
    values["tokens"]["0"] = {"type": "systemd-tpm2", "keyslots": ["1"]}
    doer.write_json(values)
    rotation(doer, tmp_path)
    after = doer.json()
    assert sorted(after["keyslots"]) == ["1", "2"]
    assert after["keyslots"]["1"] == {"opened_by": "a TPM"}
    assert after["tokens"]["0"] == {"type": "systemd-tpm2", "keyslots": ["1"]}


def test_a_drive_in_use_gets_new_keys(tmp_path: Path) -> None:
    doer = enrolled(tmp_path)
    reads = doer.read
    used = [top(fstype="crypto_LUKS", children=[top("dm-0", type="crypt", mountpoints=["/srv"])])]
    doer.read = lambda: {**reads(), "tree": used}  # type: ignore[method-assign]
    rotation(doer, tmp_path)
    assert has(doer, tmp_path, 2)


def test_a_rotation_takes_so_many_methods_and_steps(tmp_path: Path) -> None:
    """So that the tests below cut power between each two, and not beside them."""
    doer, steps = enrolled(tmp_path), []
    doer.bench.tper.orders.cut_after = 1000
    rotation(doer, tmp_path, steps.append)
    left = doer.bench.tper.orders.cut_after
    assert left is not None
    assert (1000 - left, len(steps)) == (METHODS, STEPS)
    assert not [line for line in steps if "SIM1" not in line]


@pytest.mark.parametrize("after", range(METHODS))
def test_power_fails_between_any_two_methods(tmp_path: Path, after: int) -> None:
    """After the first N methods, of which the last was carried out and its answer lost; N from 0."""
    doer = enrolled(tmp_path)
    data = doer.bench.pattern(FIRST_FREE, 80)
    orders = doer.bench.tper.orders
    orders.cut_before, orders.cut_after = (None, after) if after else (0, None)
    with pytest.raises(PowerLost):
        rotation(doer, tmp_path)
    doer.bench.lose_power()
    stands = standing(look(doer, "/dev/nvme0n1", tmp_path))
    assert opens_as_told(doer, tmp_path, stands), stands
    assert doer.wrong_tries() == 0
    record = rotation(doer, tmp_path)
    assert doer.wrong_tries() == 0
    assert has(doer, tmp_path, record.generation)
    assert doer.bench.media.read(FIRST_FREE, 80) == data


@pytest.mark.parametrize("before", range(1, STEPS + 1))
def test_the_operators_machine_stops_before_any_step(tmp_path: Path, before: int) -> None:
    doer, steps = enrolled(tmp_path), []

    def told(line: str) -> None:
        steps.append(line)
        if len(steps) == before:
            raise CutOff

    with pytest.raises(CutOff):
        rotation(doer, tmp_path, told)
    assert opens_as_told(doer, tmp_path, standing(look(doer, "/dev/nvme0n1", tmp_path)))
    record = rotation(doer, tmp_path)
    assert record.generation == (3 if before == 2 else 2), "keys that it was not given are not used later"
    assert has(doer, tmp_path, record.generation)
    assert doer.wrong_tries() == 0


@pytest.mark.parametrize("at", range(1, 6))
@pytest.mark.parametrize("written", [False, True])
def test_it_stops_at_any_mark(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, at: int, written: bool
) -> None:
    doer, count = enrolled(tmp_path), 0
    put = rotation_steps.put_mark

    def stopping(*what: Any) -> None:
        nonlocal count
        count += 1
        if count == at and not written:
            raise CutOff
        put(*what)
        if count == at:
            raise CutOff

    monkeypatch.setattr(rotation_steps, "put_mark", stopping)
    with pytest.raises(CutOff):
        rotation(doer, tmp_path)
    monkeypatch.undo()
    assert opens_as_told(doer, tmp_path, standing(look(doer, "/dev/nvme0n1", tmp_path)))
    rotation(doer, tmp_path)
    assert has(doer, tmp_path, 3 if at == 5 and written else 2)
    assert doer.wrong_tries() == 0


def test_a_step_that_does_not_show_is_not_taken_twice(tmp_path: Path) -> None:
    doer, tries = enrolled(tmp_path), []
    doer.add_passphrase = lambda *what: tries.append(what)  # type: ignore[method-assign]
    with pytest.raises(DriveUnsuitable, match="one-attempt"):
        rotation(doer, tmp_path)
    assert len(tries) == 1


def test_a_wrong_pin_is_tried_once_and_nothing_goes_on(tmp_path: Path) -> None:
    """Somebody changed it by hand."""
    doer = enrolled(tmp_path)
    doer.bench.host.as_admin(secrets_of(tmp_path, 1)["admin-pin"].decode())
    assert doer.bench.host.set(bytes.fromhex("0000000b00010001"), c3=b"another") == OK
    doer.bench.host.end()
    with pytest.raises(ApplyFailed, match="prepare-second") as raised:
        rotation(doer, tmp_path)
    assert "NOT_AUTHORIZED" in str(raised.value.found)
    assert "one try" in str(raised.value.hint)
    assert doer.wrong_tries() == 1


def test_a_dead_hosts_session_is_told_and_nothing_changed(tmp_path: Path) -> None:
    doer = enrolled(tmp_path)
    assert doer.bench.host.start(ADMIN_SP) == OK
    files = sorted(tmp_path.iterdir())
    with pytest.raises(ApplyFailed) as raised:
        rotation(doer, tmp_path)
    assert "power it off and on" in str(raised.value.hint)
    assert sorted(tmp_path.iterdir()) == files


# --- what else looks at keys ----------------------------------------------------------------------------


def test_enrolling_again_after_a_rotation_changes_nothing(tmp_path: Path) -> None:
    doer = enrolled(tmp_path)
    rotation(doer, tmp_path)
    header = enrol(
        doer, test_enrolling.request(doer, tmp_path), now=lambda: CREATED, told=lambda _line: None
    )
    assert header.stem == "SIM1.0002.header"


def test_a_drive_whose_header_is_gone_in_a_rotation_is_not_reset(tmp_path: Path) -> None:
    """The newest keys have no header yet; those before have, and it opens the data."""
    doer = enrolled(tmp_path)
    doer.bench.tper.orders.cut_after = 20
    with pytest.raises(PowerLost):
        rotation(doer, tmp_path)
    doer.bench.lose_power()
    doer.write(b"")
    with pytest.raises(DriveUnsuitable, match="header-lost"):
        enrol(
            doer,
            test_enrolling.request(doer, tmp_path, reset=True),
            now=lambda: CREATED,
            told=lambda _line: None,
        )


def test_no_pin_is_given_out_while_it_cannot_be_told_which(tmp_path: Path) -> None:
    doer = enrolled(tmp_path)

    def stop_when_escrowed(line: str) -> None:
        if line.startswith("marking"):
            raise CutOff

    with pytest.raises(CutOff):
        rotation(doer, tmp_path, stop_when_escrowed)
    assert choose(tmp_path, "SIM1", "keys").record.generation == 1, "it was not given the new ones"
    doer.bench.tper.orders.cut_after = 20
    with pytest.raises(PowerLost):
        rotation(doer, tmp_path)
    doer.bench.lose_power()
    with pytest.raises(Usage, match="was begun and not ended"):
        choose(tmp_path, "SIM1", "keys")
    assert choose(tmp_path, "SIM1", "keys", 1).record.generation == 1
    rotation(doer, tmp_path)
    assert choose(tmp_path, "SIM1", "keys").record.generation == 3


def test_nothing_that_is_said_or_left_behind_holds_a_secret(tmp_path: Path) -> None:
    doer, said = enrolled(tmp_path), []
    doer.bench.tper.log = said.append
    doer.bench.tper.orders.cut_after = 30
    with pytest.raises(PowerLost):
        rotation(doer, tmp_path, said.append)
    doer.bench.lose_power()
    rotation(doer, tmp_path, said.append)
    everything = "\n".join(said).encode() + b"".join(path.read_bytes() for path in tmp_path.iterdir())
    secrets = {secret for one in (1, 2) for secret in secrets_of(tmp_path, one).values()}
    assert len(secrets) == 5
    assert not [secret for secret in secrets if secret in everything]


def test_a_site_of_two_holders_changes_keys_with_both(tmp_path: Path) -> None:
    doer = LifeDoer()
    site = escrow("ana", "bo", "cy", threshold=2)
    enrol(
        doer,
        test_enrolling.request(doer, tmp_path, escrow=site),
        now=lambda: CREATED,
        told=lambda _line: None,
    )
    both = Openers([key("ana"), key("cy")])
    wanted = Request("/dev/nvme0n1", "SIM1", tmp_path, site, both, both)
    record = rotate(doer, wanted, now=lambda: CREATED, told=lambda _line: None)
    assert (record.generation, record.threshold) == (2, 2)


# --- dm-crypt alone -------------------------------------------------------------------------------------


def plain(folder: Path) -> LifeDoer:
    """A drive that dm-crypt alone encrypts: nobody owns it, and it has no PIN."""
    doer = LifeDoer()
    wanted = test_enrolling.request(doer, folder, layers="dm-crypt", psid=None)
    enrol(doer, wanted, now=lambda: CREATED, told=lambda _line: None)
    return doer


def test_of_a_volume_that_dm_crypt_alone_encrypts_the_passphrase_changes(tmp_path: Path) -> None:
    doer, steps = plain(tmp_path), []
    record = rotation(doer, tmp_path, steps.append)
    assert (record.generation, record.layers, len(steps)) == (2, "dm-crypt", 7)
    assert set(secrets_of(tmp_path, 2)) == {"passphrase"}
    assert doer.opens(secrets_of(tmp_path, 2)["passphrase"])
    assert not doer.opens(secrets_of(tmp_path, 1)["passphrase"])
    assert (doer.acts, doer.owned()) == ([], False)


@pytest.mark.parametrize("before", range(1, 8))
def test_it_stops_before_any_step_of_such_a_volume(tmp_path: Path, before: int) -> None:
    doer, steps = plain(tmp_path), []

    def told(line: str) -> None:
        steps.append(line)
        if len(steps) == before:
            raise CutOff

    with pytest.raises(CutOff):
        rotation(doer, tmp_path, told)
    stands = standing(look(doer, "/dev/nvme0n1", tmp_path))
    assert (stands.administrator, stands.owner) == (None, None)
    assert opens_as_told(doer, tmp_path, stands)
    record = rotation(doer, tmp_path)
    assert doer.opens(secrets_of(tmp_path, record.generation)["passphrase"])
    assert len(doer.json()["keyslots"]) == 1
