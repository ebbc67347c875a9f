"""Enrolling a simulated drive, cut off between any two of its methods and of our steps: nothing is lost.

The proof is the site's key: what it opens is the PIN of whatever became of the drive, tried once.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from appliance.disk.confirmation import Confirmation
from appliance.disk.enrolling import Request, enrol
from appliance.disk.escrow.keeping import kept_in, read_kept, records_of
from appliance.disk.escrow.sealing import Openers, open_sealed
from appliance.disk.luks import MAGIC
from appliance.disk.secret import Secret
from appliance.errors import DriveUnsuitable, EscrowInvalid, EscrowUnproven, Usage
from appliance.lab.drive.orders import PowerLost
from tests.unit.disk.bench import BenchDoer, StepFailed
from tests.unit.disk.drives import only, top
from tests.unit.disk.escrows import CREATED, escrow, key
from tests.unit.lab.drive.host import ADMIN_SP, LOCKED_OUT, OK, SID

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from appliance.disk.escrow.record import Record

METHODS = 23


def request(doer: BenchDoer, folder: Path, **changed: Any) -> Request:
    wanted = Request(
        path="/dev/nvme0n1",
        confirmed=Confirmation(doer.bench.profile.serial),
        psid=Secret(doer.bench.profile.psid.encode()),
        host="gpu-01",
        folder=folder,
        escrow=escrow("safe", "office"),
    )
    return replace(wanted, **changed)


def run(doer: BenchDoer, folder: Path, **changed: Any) -> Record:
    return enrol(doer, request(doer, folder, **changed), now=lambda: CREATED, told=lambda _line: None)


def pin_in(folder: Path, serial: str = "SIM1") -> bytes:
    """The PIN of the newest keys, opened as the site would: with a key of its own."""
    newest = [one for one in records_of(folder, serial, owned=False) if one.purpose == "keys"][-1]
    kept = read_kept(folder, f"{newest.stem}.json")
    return open_sealed(kept.record, kept.files, Openers([key("office")])).secrets["admin-pin"].reveal()


def test_a_new_drive_is_enrolled_and_its_escrow_opens_it(tmp_path: Path) -> None:
    doer = BenchDoer()
    header = run(doer, tmp_path)
    assert (header.purpose, header.generation, header.host) == ("header", 1, "gpu-01")
    assert (header.drive.serial, header.drive.size) == ("SIM1", doer.bench.profile.size)
    assert doer.attempts == [pin_in(tmp_path)]
    assert doer.owner_is(pin_in(tmp_path))
    kept = read_kept(tmp_path, f"{header.stem}.json")
    opened = open_sealed(kept.record, kept.files, Openers([key("safe")]))
    assert opened.header.reveal().startswith(MAGIC)
    assert header.layers == "opal and dm-crypt"


def test_the_second_run_changes_nothing(tmp_path: Path) -> None:
    doer = BenchDoer()
    run(doer, tmp_path)
    files, keeps = sorted(tmp_path.iterdir()), doer.bench.keeps
    assert run(doer, tmp_path).generation == 1
    assert (sorted(tmp_path.iterdir()), doer.bench.keeps, len(doer.attempts)) == (files, keeps, 1)


def test_the_drive_alone_encrypts_only_where_somebody_says_so(tmp_path: Path) -> None:
    doer = BenchDoer()
    assert run(doer, tmp_path, layers="opal").layers == "opal"


def test_enrolment_takes_so_many_methods(tmp_path: Path) -> None:
    """So that the tests below cut power between each two, and not beside them."""
    doer = BenchDoer()
    doer.bench.tper.orders.cut_after = 1000
    run(doer, tmp_path)
    left = doer.bench.tper.orders.cut_after
    assert left is not None
    assert 1000 - left == METHODS


@pytest.mark.parametrize("after", range(METHODS + 1))
def test_power_fails_between_any_two_methods(tmp_path: Path, after: int) -> None:
    """After the first N methods, of which the last was carried out and its answer lost; N from 0.

    To the drive that is the same as a failure before the next one comes.
    """
    doer = BenchDoer()
    data = doer.bench.pattern(FIRST_FREE, 80)
    orders = doer.bench.tper.orders
    orders.cut_before, orders.cut_after = (None, after) if after else (0, None)
    with pytest.raises(PowerLost):
        run(doer, tmp_path)
    doer.bench.lose_power()
    pin = pin_in(tmp_path)
    assert doer.attempts == [pin], "what the drive was given is what the escrow gives back"
    if owner_of(doer) == "nobody":
        assert doer.owner_is(doer.bench.profile.msid.encode()), "as it was made"
        assert doer.bench.media.read(FIRST_FREE, 80) == data
        assert run(doer, tmp_path).generation == 2
    else:
        assert doer.owner_is(pin), "the escrow opens it, in one attempt"
        with pytest.raises(DriveUnsuitable, match="interrupted") as raised:
            run(doer, tmp_path)
        assert f"given {records_of(tmp_path, 'SIM1', owned=False)[0].stem} of the escrow" in str(
            raised.value.found
        )
        assert len(doer.attempts) == 1
        assert run(doer, tmp_path, reset=True).generation == 2
    assert doer.owner_is(pin_in(tmp_path))


#: Blocks beyond the range that is set up, and the header.
FIRST_FREE = 400


def owner_of(doer: BenchDoer) -> str:
    return only(doer.read())[0].owner


class CutOff(BaseException):
    """The operator's machine stops."""


@pytest.mark.parametrize("before", range(1, 4))
def test_the_operators_machine_stops_before_any_step(tmp_path: Path, before: int) -> None:
    doer = BenchDoer()
    steps = []

    def told(line: str) -> None:
        steps.append(line)
        if len(steps) == before:
            raise CutOff

    with pytest.raises(CutOff):
        enrol(doer, request(doer, tmp_path), now=lambda: CREATED, told=told)
    taken = owner_of(doer) == "somebody"
    assert taken == (before == 3)
    if taken:
        assert doer.owner_is(pin_in(tmp_path))
    header = run(doer, tmp_path)
    assert header.generation == {1: 1, 2: 2, 3: 1}[before]
    assert len(doer.attempts) == 1
    assert doer.owner_is(pin_in(tmp_path))


def stop() -> None:
    raise CutOff


@pytest.mark.parametrize("where", ["before_header", "before_keyslot"])
def test_it_stops_after_ownership_and_before_anything_opens_it(tmp_path: Path, where: str) -> None:
    """A header without a keyslot is none: its volume key is lost with the program that made it."""
    doer = BenchDoer()
    setattr(doer, where, stop)
    with pytest.raises(CutOff):
        run(doer, tmp_path)
    assert doer.owner_is(pin_in(tmp_path))
    setattr(doer, where, lambda: None)
    with pytest.raises(DriveUnsuitable, match="interrupted"):
        run(doer, tmp_path)
    assert run(doer, tmp_path, reset=True).generation == 2


@pytest.mark.parametrize(
    ("device", "name"),
    [
        ({"fstype": "ext4", "mountpoints": ["/srv"]}, "mounted, not-empty"),
        ({"fstype": "crypto_LUKS", "children": [top("nvme0n1p1", type="part")]}, "partitioned"),
        ({"fstype": "ext4"}, "not-empty"),
        ({"pttype": "gpt"}, "not-empty"),
    ],
)
def test_a_drive_that_somebody_uses_otherwise_is_not_reset(
    tmp_path: Path, device: dict[str, Any], name: str
) -> None:
    doer = BenchDoer()
    doer.before_header = stop
    with pytest.raises(CutOff):
        run(doer, tmp_path)
    reads = doer.read
    doer.read = lambda: {**reads(), "tree": [top(**device)]}  # type: ignore[method-assign]
    with pytest.raises(DriveUnsuitable, match=name):
        run(doer, tmp_path, reset=True)
    assert doer.owner_is(pin_in(tmp_path))


def test_an_escrow_that_does_not_give_back_leaves_the_drive_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from appliance.disk.escrow import keeping

    doer = BenchDoer()
    keeps, read = doer.bench.keeps, keeping.read_file

    def lossy(path: Path, most: int) -> bytes:
        return read(path, most).replace(b"age-enc", b"age-eno")

    monkeypatch.setattr(keeping, "read_file", lossy)
    with pytest.raises(EscrowUnproven):
        run(doer, tmp_path)
    assert (doer.attempts, doer.bench.keeps, owner_of(doer)) == ([], keeps, "nobody")


def test_keys_are_tried_once_in_a_run(tmp_path: Path) -> None:
    """A drive that says that nobody owns it, takes keys, and says so again."""
    doer = BenchDoer()
    doer.format = lambda *_: doer.attempts.append(b"")  # type: ignore[method-assign]
    with pytest.raises(DriveUnsuitable, match="one-attempt"):
        run(doer, tmp_path)
    assert len(doer.attempts) == 1


def test_a_reset_that_does_not_help_is_tried_once(tmp_path: Path) -> None:
    doer = BenchDoer()
    doer.before_header = stop
    with pytest.raises(CutOff):
        run(doer, tmp_path)
    tries: list[Secret] = []
    doer.reset = lambda _path, psid: tries.append(psid)  # type: ignore[method-assign]
    with pytest.raises(DriveUnsuitable, match="interrupted"):
        run(doer, tmp_path, reset=True)
    assert len(tries) == 1


def test_a_wrong_psid_costs_one_try_and_changes_nothing(tmp_path: Path) -> None:
    doer = BenchDoer()
    doer.before_header = stop
    with pytest.raises(CutOff):
        run(doer, tmp_path)
    with pytest.raises(StepFailed):
        run(doer, tmp_path, reset=True, psid=Secret(b"WRONGWRONG"))
    assert doer.owner_is(pin_in(tmp_path))


@pytest.mark.parametrize(
    ("fields", "name"),
    [
        ({"owner_pin": "somebody's"}, "owned"),
        ({"kind": "pyrite"}, "pyrite-2"),
        ({"kind": "ruby"}, "ruby"),
        ({"opal_block_size": 4096}, "geometry"),
    ],
)
def test_a_drive_that_may_not_be_enrolled_is_not_touched(
    tmp_path: Path, fields: dict[str, Any], name: str
) -> None:
    doer = BenchDoer(**fields)
    keeps = doer.bench.keeps
    with pytest.raises(DriveUnsuitable, match=name):
        run(doer, tmp_path)
    assert (doer.attempts, doer.bench.keeps, list(tmp_path.iterdir())) == ([], keeps, [])
    assert doer.bench.tper.sessions_started == 0


def test_a_blocked_sid_is_seen_without_a_try(tmp_path: Path) -> None:
    doer = BenchDoer()
    doer.bench.tper.sid_blocked = True
    with pytest.raises(DriveUnsuitable, match="sid-blocked") as raised:
        run(doer, tmp_path)
    assert "Block SID turned off" in str(raised.value.hint)
    doer.bench.lose_power()
    assert run(doer, tmp_path).generation == 1


def lock_out(doer: BenchDoer) -> None:
    for _ in range(doer.bench.profile.try_limit):
        assert doer.bench.host.start(ADMIN_SP, SID, "wrong") != OK
    assert doer.bench.host.start(ADMIN_SP, SID, doer.bench.profile.msid) == LOCKED_OUT


def leave_a_session(doer: BenchDoer) -> None:
    assert doer.bench.host.start(ADMIN_SP) == OK


@pytest.mark.parametrize("spoil", [lock_out, leave_a_session])
def test_what_cannot_be_seen_without_a_session_costs_one_attempt_and_nothing_else(
    tmp_path: Path, spoil: Callable[[BenchDoer], None]
) -> None:
    """SID that somebody locked out, or a dead host's session: power off and on, and begin again."""
    doer = BenchDoer()
    data = doer.bench.pattern(FIRST_FREE, 80)
    spoil(doer)
    with pytest.raises((StepFailed, AssertionError)):  # the test's host asserts that it can ask for MSID
        run(doer, tmp_path)
    assert (len(doer.attempts), owner_of(doer)) == (1, "nobody")
    assert doer.bench.media.read(FIRST_FREE, 80) == data
    doer.bench.lose_power()
    assert run(doer, tmp_path).generation == 2
    assert doer.owner_is(pin_in(tmp_path))


@pytest.mark.parametrize(("typed", "found"), [("", None), ("SIM2", "'SIM2'"), ("sim1", "'sim1'")])
def test_nobody_confirmed_or_meant_another_drive(tmp_path: Path, typed: str, found: str | None) -> None:
    doer = BenchDoer()
    with pytest.raises(Usage, match="was not touched") as raised:
        run(doer, tmp_path, confirmed=Confirmation(typed))
    assert raised.value.found == found
    assert (doer.attempts, list(tmp_path.iterdir())) == ([], [])


def test_a_drive_without_a_serial_number_is_nobodys_to_confirm(tmp_path: Path) -> None:
    doer = BenchDoer(serial="")
    with pytest.raises(DriveUnsuitable, match="no-serial"):
        run(doer, tmp_path, confirmed=Confirmation())


def test_an_enrolled_drive_of_another_escrow_is_foreign(tmp_path: Path) -> None:
    doer, other = BenchDoer(), tmp_path / "other"
    other.mkdir()
    run(doer, tmp_path)
    with pytest.raises(DriveUnsuitable, match="foreign"):
        run(doer, other)
    assert list(other.iterdir()) == []


def test_a_drive_whose_header_is_gone_is_not_reset(tmp_path: Path) -> None:
    """Its data can be had back with the header of the escrow; a reset would end that."""
    doer = BenchDoer()
    run(doer, tmp_path)
    doer.write(b"")
    with pytest.raises(DriveUnsuitable, match="header-lost") as raised:
        run(doer, tmp_path, reset=True)
    assert "cryptsetup open --header header.img /dev/nvme0n1" in str(raised.value.hint)
    assert doer.owner_is(pin_in(tmp_path))


def test_a_drive_that_was_reset_gets_new_keys(tmp_path: Path) -> None:
    doer = BenchDoer()
    run(doer, tmp_path)
    doer.reset(only(doer.read())[0], Secret(doer.bench.profile.psid.encode()))
    assert run(doer, tmp_path).generation == 2
    assert len(set(doer.attempts)) == 2


def test_damaged_records_of_a_drive_stop_everything(tmp_path: Path) -> None:
    """Which keys it has cannot be told then."""
    doer = BenchDoer()
    header = run(doer, tmp_path)
    (tmp_path / f"{header.stem}.age").write_bytes(b"damaged")
    with pytest.raises(EscrowInvalid):
        run(doer, tmp_path)


def test_keys_that_are_not_the_newest_are_not_given_to_a_drive(tmp_path: Path) -> None:
    """Two people enrol one drive at a time, to one escrow."""
    doer = BenchDoer()
    reads = doer.read

    def read() -> dict[str, Any]:
        if len(list(tmp_path.glob("*.keys.json"))) == 1:
            other = BenchDoer()
            other.format = lambda *_: (_ for _ in ()).throw(CutOff)  # type: ignore[method-assign]
            with pytest.raises(CutOff):
                run(other, tmp_path)
        return reads()

    doer.read = read  # type: ignore[method-assign]
    with pytest.raises(DriveUnsuitable, match="other-keys"):
        run(doer, tmp_path)
    assert doer.attempts == []


def test_nothing_that_is_said_or_left_behind_holds_a_secret(tmp_path: Path) -> None:
    doer, said = BenchDoer(), []
    doer.bench.tper.log = said.append
    orders = doer.bench.tper.orders
    orders.cut_after = 12
    with pytest.raises(PowerLost) as lost:
        enrol(doer, request(doer, tmp_path), now=lambda: CREATED, told=said.append)
    doer.bench.lose_power()
    with pytest.raises(DriveUnsuitable) as refused:
        enrol(doer, request(doer, tmp_path), now=lambda: CREATED, told=said.append)
    enrol(doer, request(doer, tmp_path, reset=True), now=lambda: CREATED, told=said.append)
    said += [repr(lost.value), repr(refused.value.as_dict()), repr(request(doer, tmp_path))]
    everything = "\n".join(said).encode() + b"".join(path.read_bytes() for path in tmp_path.iterdir())
    secrets = [*doer.attempts, *doer.phrases, doer.bench.profile.psid.encode()]
    assert len(set(secrets)) == 5
    assert not [secret for secret in secrets if secret in everything]
    assert len([one for one in kept_in(tmp_path) if not isinstance(one, EscrowInvalid)]) == 3
