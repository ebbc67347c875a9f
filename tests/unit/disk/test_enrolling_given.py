"""An owned drive is ours to reset only where a mark says that it was given the newest keys."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from appliance.disk.confirmation import Confirmation
from appliance.disk.escrow.given import given_among, mark_given
from appliance.disk.escrow.keeping import records_of
from appliance.errors import DriveUnsuitable, EscrowInvalid, EscrowUnproven, Usage
from tests.unit.disk.bench import BenchDoer, header_of
from tests.unit.disk.test_enrolling import CutOff, owner_of, pin_in, run, stop
from tests.unit.disk.test_enrolling_bound import unused
from tests.unit.lab.drive.host import OK

if TYPE_CHECKING:
    from pathlib import Path


def taken(doer: BenchDoer) -> BenchDoer:
    """Somebody else takes the drive, with a PIN of his own, and may never be reset by us."""
    assert doer.bench.host.take_ownership("somebody's") == OK
    assert doer.bench.host.activate("somebody's") == OK
    doer.reset = lambda *_: pytest.fail("somebody's data")  # type: ignore[method-assign]
    return doer


def left_half_way(folder: Path) -> BenchDoer:
    doer = BenchDoer()
    doer.before_header = stop
    with pytest.raises(CutOff):
        run(doer, folder)
    doer.before_header = lambda: None
    return doer


def test_keys_that_were_never_given_say_nothing_of_a_drive_that_somebody_took(tmp_path: Path) -> None:
    doer = BenchDoer()
    unused(doer, tmp_path)
    taken(doer)
    with pytest.raises(DriveUnsuitable, match=r"encrypted: owned$") as raised:
        run(doer, tmp_path, reset=True)
    assert "--reset" not in str(raised.value.hint)


def test_a_mark_says_nothing_once_newer_keys_were_made(tmp_path: Path) -> None:
    """Newer keys are made for a drive that nobody owns, as another operator saw it."""
    doer = BenchDoer()
    mark_given(tmp_path, unused(doer, tmp_path).record)
    unused(doer, tmp_path)
    taken(doer)
    with pytest.raises(DriveUnsuitable, match=r"encrypted: owned$") as raised:
        run(doer, tmp_path, reset=True)
    assert "nobody owned it when SIM1.0002.keys was made" in str(raised.value.found)


def test_a_lost_header_is_that_of_the_keys_that_were_given(tmp_path: Path) -> None:
    doer = BenchDoer()
    run(doer, tmp_path)
    unused(doer, tmp_path)
    doer.write(b"")
    with pytest.raises(DriveUnsuitable, match="header-lost") as raised:
        run(doer, tmp_path, reset=True)
    assert "SIM1.0001.header" in str(raised.value.found)
    assert owner_of(doer) == "somebody"


def test_a_header_that_is_there_is_not_called_lost_when_locking_is_off(tmp_path: Path) -> None:
    """Somebody reverted the Locking SP: with it went the keys of all ranges."""
    doer = BenchDoer()
    run(doer, tmp_path)
    doer.bench.tper.revert_locking()
    for header in (doer.beginning(), b""):
        doer.write(header)
        with pytest.raises(DriveUnsuitable, match="owned") as raised:
            run(doer, tmp_path, reset=True)
        assert "--header" not in str(raised.value.hint)


def test_a_shadow_mbr_is_somebody_elses(tmp_path: Path) -> None:
    doer = left_half_way(tmp_path)
    doer.bench.host.as_admin(pin_in(tmp_path).decode()).set(bytes.fromhex("0000080300000001"), c1=1)
    doer.bench.host.end()
    doer.reset = lambda *_: pytest.fail("somebody's shadow MBR")  # type: ignore[method-assign]
    with pytest.raises(DriveUnsuitable, match=r"encrypted: owned$") as raised:
        run(doer, tmp_path, reset=True)
    assert "shadow MBR" in str(raised.value.found)


def test_a_header_that_somebody_else_began_is_not_ours_to_reset(tmp_path: Path) -> None:
    doer = left_half_way(tmp_path)
    other = tmp_path / "other"
    other.mkdir()
    doer.write(header_of(unused(doer, other).record, keyslots=0))
    doer.reset = lambda *_: pytest.fail("somebody's header")  # type: ignore[method-assign]
    with pytest.raises(DriveUnsuitable, match="not-empty"):
        run(doer, tmp_path, reset=True)


def test_the_mark_is_made_before_the_drive_gets_its_keys(tmp_path: Path) -> None:
    doer = BenchDoer()
    doer.format = stop_given  # type: ignore[method-assign]
    with pytest.raises(CutOff):
        run(doer, tmp_path)
    mark = tmp_path / "SIM1.0001.keys.given"
    (keys,) = records_of(tmp_path, "SIM1", owned=False)
    assert mark.read_text() == f"{keys.uuid}\n"
    assert mark.stat().st_mode & 0o777 == 0o600
    assert given_among(tmp_path, [keys]) == {1}


def stop_given(*_: object) -> None:
    raise CutOff


def test_keys_are_given_once(tmp_path: Path) -> None:
    keys = unused(BenchDoer(), tmp_path).record
    mark_given(tmp_path, keys)
    with pytest.raises(EscrowUnproven) as raised:
        mark_given(tmp_path, keys)
    assert "given to a drive before" in str(raised.value.found)


@pytest.mark.parametrize("text", [b"", b"4918ad7f-3b6b-dafd-e4f0-d344f5fd3d66\n", b"x" * 100])
def test_a_mark_that_is_damaged_or_of_other_keys(tmp_path: Path, text: bytes) -> None:
    doer = left_half_way(tmp_path)
    (tmp_path / "SIM1.0001.keys.given").write_bytes(text)
    with pytest.raises(EscrowInvalid, match=r"keys\.given"):
        run(doer, tmp_path, reset=True)


def test_a_mark_that_does_not_come_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from appliance.disk.escrow import given

    doer = BenchDoer()
    monkeypatch.setattr(given, "read_file", lambda *_: b"")
    with pytest.raises(EscrowUnproven):
        run(doer, tmp_path)
    assert doer.attempts == []


def test_keys_without_a_record_may_be_those_of_an_owned_drive(tmp_path: Path) -> None:
    doer = left_half_way(tmp_path)
    (tmp_path / "SIM1.0001.keys.json").unlink()
    doer.reset = lambda *_: pytest.fail("nobody knows")  # type: ignore[method-assign]
    with pytest.raises(EscrowInvalid, match=r"SIM1\.0001\.keys has no record") as raised:
        run(doer, tmp_path, reset=True)
    assert "keep it" in str(raised.value.hint)


def test_a_mark_is_void_once_nobody_owned_the_drive(tmp_path: Path) -> None:
    """A format did nothing, somebody saw to it and used the drive otherwise, and then we are back."""
    doer = BenchDoer()
    real, doer.format = doer.format, lambda *_: None  # type: ignore[method-assign]
    with pytest.raises(DriveUnsuitable, match="one-attempt"):
        run(doer, tmp_path)
    doer.format = real  # type: ignore[method-assign]
    records = records_of(tmp_path, "SIM1", owned=False)
    assert given_among(tmp_path, records) == frozenset()
    assert (tmp_path / "SIM1.0001.keys.given").exists()
    taken(doer)
    with pytest.raises(DriveUnsuitable, match=r"encrypted: owned$"):
        run(doer, tmp_path, reset=True)


def test_a_mark_is_not_voided_by_whoever_meant_another_drive(tmp_path: Path) -> None:
    doer = BenchDoer()
    keys = unused(doer, tmp_path).record
    mark_given(tmp_path, keys)
    with pytest.raises(Usage):
        run(doer, tmp_path, confirmed=Confirmation("SIM2"))
    assert given_among(tmp_path, [keys]) == {1}
