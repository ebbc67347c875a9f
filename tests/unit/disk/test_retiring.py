"""Retiring a simulated drive: what was readable before has changed, and what was not is said."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from appliance.disk import retiring, sampling
from appliance.disk.certificate import parse_certificate
from appliance.disk.confirmation import Confirmation
from appliance.disk.enrolling import enrol
from appliance.disk.escrow.files import put_file
from appliance.disk.escrow.given import given_among
from appliance.disk.escrow.keeping import records_of
from appliance.disk.escrow.marks import marks_of
from appliance.disk.escrow.sealing import Openers
from appliance.disk.retiring import keys_at_hand
from appliance.disk.rotating import look
from appliance.disk.sampling import LENGTH, Comparison, choose_places, compare
from appliance.disk.secret import Secret
from appliance.errors import ApplyFailed, DriveUnsuitable, EscrowClosed, PermitRefused, Usage
from appliance.lab.drive.orders import PowerLost
from appliance.tcg.blocks import BLANK, UNREADABLE
from appliance.trust.statements import DrivePermit
from tests.unit.disk import test_enrolling
from tests.unit.disk.bench import StepFailed
from tests.unit.disk.bench_life import LifeDoer, enrolled, retirement, rotation, secrets_of
from tests.unit.disk.drives import only, top
from tests.unit.disk.escrows import CREATED, key

if TYPE_CHECKING:
    from pathlib import Path

#: Of a whole retirement by the owner's PIN.
METHODS = 18


@pytest.fixture
def escrow_folder(tmp_path: Path) -> Path:
    (tmp_path / "escrow").mkdir()
    return tmp_path / "escrow"


@pytest.fixture
def report(tmp_path: Path) -> Path:
    (tmp_path / "report").mkdir()
    return tmp_path / "report"


@pytest.fixture
def doer(escrow_folder: Path, monkeypatch: pytest.MonkeyPatch) -> LifeDoer:
    """A drive with data in its range and behind it; a sample looks at all of that and more."""
    monkeypatch.setattr(sampling, "PARTS", 512)
    monkeypatch.setattr(retiring, "choose_places", lambda _size: [at * LENGTH for at in range(60)])
    made = enrolled(escrow_folder)
    made.fill()
    return made


def as_made(doer: LifeDoer) -> bool:
    drive = only(doer.read())[0]
    return (drive.owner, drive.locking, drive.luks) == ("nobody", False, None)


def test_a_drive_is_erased_and_that_is_shown(doer: LifeDoer, escrow_folder: Path, report: Path) -> None:
    done = retirement(doer, escrow_folder, report)
    found = done.values["verification"]
    assert as_made(doer)
    assert done.sanitized
    # The binary header, its JSON, twenty places of data, ten of them locked; the rest was never written.
    assert (found["places"], found["changed"], found["blank"]) == (60, 22, 38)
    assert (found["unchanged"], found["unreadable_before"], found["unreadable_after"]) == (0, 0, 0)
    # Where the second lies only the user may read that cryptsetup gave it to.
    assert found["ranges"] == [{"length": 0, "range": 0, "start": 0}, {"range": 1}]
    assert found["result"] == "verified"
    assert done.values["sanitization"]["details"].endswith("by the PIN of the escrow")
    assert doer.wrong_tries() == 0
    name = "SIM1.20260504T030201Z.certificate"
    assert sorted(path.name for path in report.iterdir()) == [f"{name}.json", f"{name}.txt"]
    assert parse_certificate((report / f"{name}.json").read_bytes()) == done.values


def test_keys_of_a_retired_drive_are_marked_and_kept(
    doer: LifeDoer, escrow_folder: Path, report: Path
) -> None:
    rotation(doer, escrow_folder)
    before = {path.name for path in escrow_folder.iterdir()}
    done = retirement(doer, escrow_folder, report)
    after = {path.name for path in escrow_folder.iterdir()}
    assert before < after
    keys = [one for one in records_of(escrow_folder, "SIM1", owned=False) if one.purpose == "keys"]
    assert [("retired" in marks_of(escrow_folder, one)) for one in keys] == [True, True]
    assert (escrow_folder / "SIM1.0001.keys.retired").read_text() == f"{done.digest}\n"
    assert given_among(escrow_folder, keys) == frozenset()
    header = enrol(
        doer, test_enrolling.request(doer, escrow_folder), now=lambda: CREATED, told=lambda _line: None
    )
    assert header.generation == 3, "it may be enrolled again, with other keys"


def test_without_keys_the_psid_erases_and_what_was_locked_is_said(
    doer: LifeDoer, escrow_folder: Path, report: Path
) -> None:
    psid = Secret(doer.bench.profile.psid.encode())
    done = retirement(doer, escrow_folder, report, keys=None, psid=psid)
    found = done.values["verification"]
    assert as_made(doer)
    assert (found["result"], found["ranges"]) == ("partly verified", [])
    assert (found["unreadable_before"], found["changed"]) == (10, 12)
    assert found["not_shown"][0].startswith("10 of 60 places: not readable before: no administrator's PIN")
    assert "PSID" in done.values["sanitization"]["details"]
    assert "open-ranges" not in doer.acts
    assert "verified in part" in (report / f"{done.name}.txt").read_text()


def test_a_wrong_psid_costs_one_try_and_changes_nothing(
    doer: LifeDoer, escrow_folder: Path, report: Path
) -> None:
    with pytest.raises(StepFailed):
        retirement(doer, escrow_folder, report, keys=None, psid=Secret(b"WRONGWRONG"))
    assert doer.admits("SID", secrets_of(escrow_folder, 1)["admin-pin"])


def test_a_drive_that_does_not_forget_is_no_sanitized_one(
    doer: LifeDoer, escrow_folder: Path, report: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Firmware that gives itself out as new, and keeps its keys."""
    monkeypatch.setattr(
        "appliance.lab.drive.tper.new_keys", lambda _profile: dict.fromkeys(doer.bench.tper.locking.rows)
    )
    rows = doer.bench.tper.locking.rows
    kept = {name: rows[name][3] for name in rows if name.startswith(b"\0\0\x08\x06") and 3 in rows[name]}
    monkeypatch.setattr("appliance.lab.drive.tper.new_keys", lambda _profile: kept)
    done = retirement(doer, escrow_folder, report)
    found = done.values["verification"]
    assert not done.sanitized
    assert (found["result"], found["unchanged"]) == ("failed", 12)
    assert "NO CERTIFICATE" in (report / f"{done.name}.txt").read_text()
    assert not list(escrow_folder.glob("*.retired")), "its keys may still be wanted"


def test_a_drive_with_nothing_to_show_is_not_verified(
    doer: LifeDoer, escrow_folder: Path, report: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(retiring, "choose_places", lambda _size: [at * LENGTH for at in range(30, 40)])
    done = retirement(doer, escrow_folder, report)
    assert done.values["verification"]["result"] == "not verified"
    assert not done.sanitized


def test_a_retirement_takes_so_many_methods(doer: LifeDoer, escrow_folder: Path, report: Path) -> None:
    """So that the test below cuts power between each two, and not beside them."""
    keys = keys_at_hand(look(doer, "/dev/nvme0n1", escrow_folder), escrow_folder, Openers([key("safe")]))
    doer.bench.tper.orders.cut_after = 1000
    retirement(doer, escrow_folder, report, keys=keys)
    assert doer.bench.tper.orders.cut_after == 1000 - METHODS


@pytest.mark.parametrize("after", range(METHODS + 1))
def test_power_fails_between_any_two_methods(
    doer: LifeDoer, escrow_folder: Path, report: Path, after: int
) -> None:
    keys = keys_at_hand(look(doer, "/dev/nvme0n1", escrow_folder), escrow_folder, Openers([key("safe")]))
    orders = doer.bench.tper.orders
    orders.cut_before, orders.cut_after = (None, after) if after else (0, None)
    with pytest.raises(PowerLost):
        retirement(doer, escrow_folder, report, keys=keys)
    doer.bench.lose_power()
    if doer.owned():
        assert doer.admits("SID", secrets_of(escrow_folder, 1)["admin-pin"])
    else:
        assert after == METHODS, "its last method erased it"
    done = retirement(doer, escrow_folder, report)
    assert (done.values["verification"]["result"], done.values["verification"]["changed"]) == (
        "verified",
        22,
    )
    assert as_made(doer)
    assert doer.wrong_tries() == 0


class CutOff(BaseException):
    """The operator's machine stops."""


@pytest.mark.parametrize("before", range(1, 5))
def test_the_operators_machine_stops_before_any_step(
    doer: LifeDoer, escrow_folder: Path, report: Path, before: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    says = list(retiring.SAYS)
    count = 0

    class Stopping(dict[str, str]):
        def __getitem__(self, name: str) -> str:
            nonlocal count
            count += 1
            if count == before:
                raise CutOff
            return "{}"

    assert len(says) == 4
    monkeypatch.setattr(retiring, "SAYS", Stopping())
    with pytest.raises(CutOff):
        retirement(doer, escrow_folder, report)
    monkeypatch.undo()
    monkeypatch.setattr(retiring, "choose_places", lambda _size: [at * LENGTH for at in range(60)])
    done = retirement(doer, escrow_folder, report)
    assert done.values["verification"]["result"] == "verified"
    assert as_made(doer)


@pytest.mark.parametrize(
    ("device", "readings", "name"),
    [
        ({"mountpoints": ["/srv"]}, {}, "in-use"),
        ({"mountpoints": ["/"]}, {}, "root"),
        ({"mountpoints": ["[SWAP]"]}, {}, "in-use"),
        ({}, {"holders": ["dm-0"]}, "in-use"),
        ({}, {"serial": ""}, "no-serial"),
        ({}, {"name": "sda"}, "not-nvme"),
        ({}, {"discovery": {"by": "nvme", "status": 0x4001}}, "no-opal"),
    ],
)
def test_drives_that_may_not_be_retired(
    doer: LifeDoer, report: Path, device: dict[str, Any], readings: dict[str, Any], name: str
) -> None:
    reads = doer.read

    def read() -> dict[str, Any]:
        found = reads()
        found["drives"][0].update(readings)
        return {**found, "tree": [top(kernel, **device)]}

    kernel = readings.get("name", "nvme0n1")
    doer.read = read  # type: ignore[method-assign]
    keeps = doer.bench.keeps
    with pytest.raises(DriveUnsuitable, match=name):
        retirement(doer, report, report, keys=None, path=f"/dev/{kernel}")
    assert (doer.bench.keeps, doer.acts, list(report.iterdir())) == (keeps, [], [])


def test_a_drive_of_two_namespaces_is_not_reset(doer: LifeDoer, escrow_folder: Path, report: Path) -> None:
    reads = doer.read

    def read() -> dict[str, Any]:
        found = reads()
        other = {**found["drives"][0], "name": "nvme0n2", "namespace": "2"}
        return {**found, "drives": [*found["drives"], other]}

    doer.read = read  # type: ignore[method-assign]
    with pytest.raises(DriveUnsuitable, match="namespaces"):
        retirement(doer, escrow_folder, report, keys=None)


def test_a_new_drive_is_not_erased(escrow_folder: Path, report: Path) -> None:
    with pytest.raises(DriveUnsuitable, match="not-owned"):
        retirement(LifeDoer(), escrow_folder, report)


@pytest.mark.parametrize(("typed", "message"), [("", "nobody confirmed"), ("SIM2", "not what it is")])
def test_nobody_confirmed_or_meant_another_drive(
    doer: LifeDoer, escrow_folder: Path, report: Path, typed: str, message: str
) -> None:
    with pytest.raises(Usage, match=message):
        retirement(doer, escrow_folder, report, confirmed=Confirmation(typed))
    assert set(doer.acts) == {"read-names"}
    assert doer.owned()


def permit(volume: str) -> Confirmation:
    until, nonce = "2026-05-05T00:00:00Z", "1" * 64
    return Confirmation(permit=DrivePermit("gpu-01", "retire", {"SIM1": volume}, until, nonce, "sold"))


def test_a_permit_is_as_good_as_a_serial_number(doer: LifeDoer, escrow_folder: Path, report: Path) -> None:
    volume = only(doer.read())[0].luks
    assert volume is not None
    done = retirement(doer, escrow_folder, report, confirmed=permit(volume.uuid))
    assert done.sanitized


def test_a_permit_for_another_volume_erases_nothing(
    doer: LifeDoer, escrow_folder: Path, report: Path
) -> None:
    with pytest.raises(PermitRefused, match="another volume"):
        retirement(doer, escrow_folder, report, confirmed=permit("6e2c1f0a-93b4-4d58-8a7e-0c1d2e3f4a5b"))
    assert doer.owned()
    assert "open-ranges" not in doer.acts


def test_nothing_to_erase_it_by(doer: LifeDoer, escrow_folder: Path, report: Path) -> None:
    with pytest.raises(Usage, match="by what"):
        retirement(doer, escrow_folder, report, keys=None)
    assert doer.acts == []


def test_strangers_keys_erase_nothing(doer: LifeDoer, escrow_folder: Path) -> None:
    with pytest.raises(EscrowClosed):
        keys_at_hand(look(doer, "/dev/nvme0n1", escrow_folder), escrow_folder, Openers([key("x")]))


def test_in_a_rotation_no_pin_is_taken_for_the_right_one(doer: LifeDoer, escrow_folder: Path) -> None:
    doer.bench.tper.orders.cut_after = 20
    with pytest.raises(PowerLost):
        rotation(doer, escrow_folder)
    doer.bench.lose_power()
    with pytest.raises(DriveUnsuitable, match="rotating"):
        keys_at_hand(look(doer, "/dev/nvme0n1", escrow_folder), escrow_folder, Openers([key("safe")]))


def test_a_reset_that_does_not_help_is_tried_once(
    doer: LifeDoer, escrow_folder: Path, report: Path
) -> None:
    tries: list[Secret] = []
    doer.reset = lambda _drive, psid: tries.append(psid)  # type: ignore[method-assign]
    with pytest.raises(DriveUnsuitable, match="one-attempt"):
        retirement(doer, escrow_folder, report, psid=Secret(b"PSIDPSID"))
    assert len(tries) == 1


def test_a_wrong_pin_is_tried_once(doer: LifeDoer, escrow_folder: Path, report: Path) -> None:
    keys = keys_at_hand(look(doer, "/dev/nvme0n1", escrow_folder), escrow_folder, Openers([key("safe")]))
    rotation(doer, escrow_folder)
    with pytest.raises(ApplyFailed, match="open-ranges"):
        retirement(doer, escrow_folder, report, keys=keys)
    assert doer.wrong_tries() == 1


def test_a_foreign_file_in_the_samples_place(doer: LifeDoer, escrow_folder: Path, report: Path) -> None:
    put_file(report, "SIM1.before.json", b"{}")
    with pytest.raises(Usage, match="no sample"):
        retirement(doer, escrow_folder, report)
    assert doer.owned()


def test_nothing_that_is_left_behind_holds_a_secret(
    doer: LifeDoer, escrow_folder: Path, report: Path
) -> None:
    secrets = secrets_of(escrow_folder, 1).values()
    done = retirement(doer, escrow_folder, report)
    everything = b"".join(path.read_bytes() for each in (escrow_folder, report) for path in each.iterdir())
    everything += repr(done).encode()
    assert not [secret for secret in secrets if secret in everything]


# --- samples --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [LENGTH, 5 * LENGTH, 16 << 20, (3_840_755_982_336)])
def test_places_are_spread_over_the_whole_drive(size: int) -> None:
    places = choose_places(size)
    units = size // LENGTH
    assert (places[0], places[-1]) == (0, (units - 1) * LENGTH)
    assert places == sorted(set(places))
    parts = min(1000, max(1, units // 2))
    assert {place // LENGTH * parts // units for place in places} == set(range(parts))
    assert min(units, 2 * parts) <= len(places) <= 2 * parts + 2


def test_places_are_drawn_anew() -> None:
    assert choose_places(1 << 40) != choose_places(1 << 40)


@pytest.mark.parametrize(
    ("before", "after", "verdict"),
    [
        (["a", "b"], ["c", "d"], "verified"),
        (["a", BLANK], ["c", BLANK], "verified"),
        (["a", "b"], [BLANK, "d"], "verified"),
        (["a", UNREADABLE], ["c", "d"], "partly verified"),
        (["a", "b"], ["c", "b"], "failed"),
        (["a", "b"], ["c", UNREADABLE], "not verified"),
        ([BLANK, UNREADABLE], ["c", "d"], "not verified"),
        ([], [], "not verified"),
    ],
)
def test_what_two_readings_prove(before: list[str], after: list[str], verdict: str) -> None:
    assert compare(before, after).verdict == verdict


def test_every_place_is_counted_once() -> None:
    before = ["a", "b", BLANK, UNREADABLE, "e"]
    after = ["A", "b", "c", "d", UNREADABLE]
    assert compare(before, after) == Comparison(5, 1, 1, 1, 1, 1)
