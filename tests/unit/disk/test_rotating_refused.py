"""What is refused before any key of a drive is changed, and what stops a rotation."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from appliance.disk.escrow.sealing import Openers
from appliance.disk.rotating import Request, rotate
from appliance.errors import DriveUnsuitable, EscrowClosed, EscrowUnproven, Usage
from appliance.lab.drive.orders import PowerLost
from tests.unit.disk.bench_life import SITE, enrolled, rotation, secrets_of
from tests.unit.disk.escrows import CREATED, key
from tests.unit.disk.test_rotating import has

if TYPE_CHECKING:
    from pathlib import Path


def request(folder: Path, **changed: Any) -> Request:
    openers = Openers([key("safe")])
    return replace(Request("/dev/nvme0n1", "SIM1", folder, SITE, openers, openers), **changed)


@pytest.mark.parametrize(
    ("changed", "kind", "message"),
    [
        ({"typed": ""}, Usage, "nobody confirmed"),
        ({"typed": "SIM2"}, Usage, "this is not what it is"),
        ({"openers": Openers()}, EscrowClosed, "cannot be opened"),
        ({"openers": Openers([key("stranger")])}, EscrowClosed, "cannot be opened"),
    ],
)
def test_what_is_refused_before_anything_is_touched(
    tmp_path: Path, changed: dict[str, Any], kind: type[Exception], message: str
) -> None:
    doer = enrolled(tmp_path)
    files, keeps = sorted(tmp_path.iterdir()), doer.bench.keeps
    with pytest.raises(kind, match=message):
        rotate(doer, request(tmp_path, **changed), now=lambda: CREATED, told=lambda _line: None)
    assert (sorted(tmp_path.iterdir()), doer.bench.keeps) == (files, keeps)
    assert has(doer, tmp_path, 1)


def test_a_rotation_that_was_begun_wants_the_keys_of_both(tmp_path: Path) -> None:
    doer = enrolled(tmp_path)
    doer.bench.tper.orders.cut_after = 20
    with pytest.raises(PowerLost):
        rotation(doer, tmp_path)
    doer.bench.lose_power()
    wanted = request(tmp_path, next_openers=Openers())
    with pytest.raises(EscrowClosed, match=r"SIM1\.0002\.keys"):
        rotate(doer, wanted, now=lambda: CREATED, told=lambda _line: None)


@pytest.mark.parametrize(
    ("readings", "name"),
    [
        ({"luks": {"status": 1, "json": "", "uuid": ""}}, "not-enrolled"),
        ({"luks_uuid": "11111111-1111-4111-8111-111111111111"}, "foreign"),
        ({"namespace": "2"}, "other-namespace"),
        ({"name": "sda"}, "not-nvme"),
    ],
)
def test_drives_whose_keys_may_not_be_changed(tmp_path: Path, readings: dict[str, Any], name: str) -> None:
    doer = enrolled(tmp_path)
    reads = doer.read
    uuid = readings.pop("luks_uuid", None)

    def read() -> dict[str, Any]:
        found = reads()
        found["drives"][0].update(readings)
        if uuid:
            found["drives"][0]["luks"]["uuid"] = uuid
        return found

    doer.read = read  # type: ignore[method-assign]
    path = f"/dev/{readings.get('name', 'nvme0n1')}"
    keeps = doer.bench.keeps
    with pytest.raises(DriveUnsuitable, match=name):
        rotate(doer, request(tmp_path, path=path), now=lambda: CREATED, told=lambda _line: None)
    assert (doer.bench.keeps, doer.acts) == (keeps, [])


def test_a_blocked_sid_is_seen_without_a_try(tmp_path: Path) -> None:
    doer = enrolled(tmp_path)
    doer.bench.tper.sid_blocked = True
    with pytest.raises(DriveUnsuitable, match="sid-blocked"):
        rotation(doer, tmp_path)
    assert doer.acts == []


def test_an_escrow_that_does_not_give_back_leaves_the_drive_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from appliance.disk.escrow import keeping

    doer = enrolled(tmp_path)
    keeps, put = doer.bench.keeps, keeping.put_file

    def lossy(folder: Path, name: str, data: bytes) -> None:
        put(folder, name, data.replace(b"age-enc", b"age-eno"))

    monkeypatch.setattr(keeping, "put_file", lossy)
    with pytest.raises(EscrowUnproven):
        rotation(doer, tmp_path)
    assert (doer.bench.keeps, set(doer.acts)) == (keeps, {"read-names"})


def test_a_full_header_is_told_and_the_passphrase_stays(tmp_path: Path) -> None:
    doer = enrolled(tmp_path)
    values = doer.json()
    values["keyslots"] |= {str(one): {"opened_by": "x"} for one in range(1, 32)}
    doer.write_json(values)
    with pytest.raises(DriveUnsuitable, match="no-room"):
        rotation(doer, tmp_path)
    assert doer.opens(secrets_of(tmp_path, 1)["passphrase"])
