"""Which keys a drive has, its header says: never the newest ones, nor those that happen to be at hand."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

import pytest

from appliance.disk.enrolling import identity
from appliance.disk.escrow.keeping import escrow_header, escrow_keys, records_of
from appliance.errors import ApplyFailed, DriveUnsuitable
from tests.unit.disk.bench import BenchDoer, header_of
from tests.unit.disk.drives import only
from tests.unit.disk.escrows import CREATED, PSID, escrow
from tests.unit.disk.test_enrolling import run

if TYPE_CHECKING:
    from pathlib import Path

    from appliance.definition.disks import Layers
    from appliance.disk.escrow.keeping import Escrowed
    from appliance.disk.state import Drive


BOTH: Layers = "opal and dm-crypt"


def unused(doer: BenchDoer, folder: Path) -> Escrowed:
    """Keys that no drive was given."""
    drive = identity(only(doer.read())[0])
    return escrow_keys(folder, "gpu-01", drive, PSID, escrow=escrow("safe", "office"), created=CREATED)


def test_a_volume_is_named_after_its_sealed_keys(tmp_path: Path) -> None:
    """So that whoever has the files finds out with sha256sum."""
    doer = BenchDoer()
    run(doer, tmp_path)
    luks = only(doer.read())[0].luks
    assert luks is not None
    digest = hashlib.sha256((tmp_path / "SIM1.0001.keys.age").read_bytes()).hexdigest()
    assert luks.uuid.replace("-", "") == digest[:32]


def test_keys_of_another_medium_that_were_never_used(tmp_path: Path) -> None:
    """The first medium was pulled before the drive got its keys; the second has those it got."""
    doer, first, second = BenchDoer(), tmp_path / "first", tmp_path / "second"
    for folder in (first, second):
        folder.mkdir()
    keys = unused(doer, first)
    run(doer, second)
    before = sorted(first.iterdir())
    with pytest.raises(DriveUnsuitable, match="foreign") as raised:
        run(doer, first)
    (given,) = [one for one in records_of(second, "SIM1", owned=False) if one.purpose == "keys"]
    assert given.uuid in str(raised.value.found)
    assert sorted(first.iterdir()) == before
    escrow_header(first, keys.record, header_of(keys.record), created=CREATED)  # as was done before
    with pytest.raises(DriveUnsuitable, match="foreign"):
        run(doer, first)


def test_the_newest_keys_are_not_the_ones_the_drive_has(tmp_path: Path) -> None:
    """Two operators on one escrow: the second escrowed keys while the first one's were given."""
    doer = BenchDoer()

    def second() -> None:
        unused(doer, tmp_path)

    doer.before_header = second
    header = run(doer, tmp_path)
    assert [(one.purpose, one.generation) for one in records_of(tmp_path, "SIM1", owned=False)] == [
        *(("header", 1), ("keys", 1), ("keys", 2)),
    ]
    assert header.generation == 1
    assert run(doer, tmp_path) == header


def test_the_header_that_is_missing_is_that_of_the_drives_keys(tmp_path: Path) -> None:
    doer = BenchDoer()
    run(doer, tmp_path)
    for path in tmp_path.glob("*.header.*"):
        path.unlink()
    later = unused(doer, tmp_path)
    escrow_header(tmp_path, later.record, header_of(later.record), created=CREATED)
    assert run(doer, tmp_path).generation == 1


@pytest.mark.parametrize("spoil", ["banner", "nothing", "cut", "other"])
def test_whatever_is_not_the_drives_header_is_not_escrowed_as_one(tmp_path: Path, spoil: str) -> None:
    doer, other = BenchDoer(), tmp_path / "other"
    other.mkdir()
    folder = tmp_path / "escrow"
    folder.mkdir()
    keys, real = unused(doer, other).record, doer.header
    spoiled = {
        "banner": lambda drive: b"Welcome!\n" + real(drive),
        "nothing": lambda _drive: b"",
        "cut": lambda drive: real(drive)[:1000],
        "other": lambda _drive: header_of(keys).ljust(4096, b"\0"),
    }
    doer.header = spoiled[spoil]  # type: ignore[method-assign]
    with pytest.raises(ApplyFailed, match="is not its header") as raised:
        run(doer, folder)
    assert "login script" in str(raised.value.hint)
    assert not list(folder.glob("*.header.*"))
    doer.header = real  # type: ignore[method-assign]
    assert run(doer, folder).generation == 1


@pytest.mark.parametrize(("layers", "other"), [("opal", BOTH), (BOTH, "opal"), (BOTH, "dm-crypt")])
def test_a_drive_is_not_called_enrolled_in_other_layers_than_were_asked_for(
    tmp_path: Path, layers: Layers, other: Layers
) -> None:
    doer = BenchDoer()
    run(doer, tmp_path, layers=layers)
    with pytest.raises(DriveUnsuitable, match="other-layers") as raised:
        run(doer, tmp_path, layers=other)
    assert f"if {layers} it shall be" in str(raised.value.hint)
    assert ("or --hw" if layers == "opal" else "without --hw") in str(raised.value.hint)


def test_what_cryptsetup_made_is_compared_with_what_was_recorded(tmp_path: Path) -> None:
    """The volume came without dm-crypt."""
    doer = BenchDoer()
    real = doer.format

    def format_(drive: Drive, keys: Escrowed) -> None:
        real(drive, keys)
        doer.write(header_of(keys.record, alone=True))

    doer.format = format_  # type: ignore[method-assign]
    with pytest.raises(DriveUnsuitable, match="other-layers") as raised:
        run(doer, tmp_path)
    assert raised.value.found == (
        "its header says that opal encrypts, and SIM1.0001.keys says opal and dm-crypt"
    )
    assert not list(tmp_path.glob("*.header.*"))
