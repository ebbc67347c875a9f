"""dm-crypt alone, where the settings say so: a real LUKS2 header, cut off, lost, restored; never silent."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from appliance.disk.confirmation import Confirmation
from appliance.disk.enrolling import Request, enrol
from appliance.disk.escrow.keeping import kept_in, read_kept, records_of
from appliance.disk.escrow.sealing import Openers, open_sealed
from appliance.disk.fitness import judge
from appliance.disk.secret import Secret
from appliance.disk.state import read_state
from appliance.errors import ApplyFailed, DriveUnsuitable, PermitRefused, Usage
from tests.unit.disk.bench import BenchDoer
from tests.unit.disk.drives import entry, level_0, machine, only, simulated, top
from tests.unit.disk.escrows import CREATED, escrow, key
from tests.unit.disk.plain import PlainDoer
from tests.unit.disk.test_enrolling_permit import by, permit

if TYPE_CHECKING:
    from pathlib import Path

    from appliance.definition.disks import Layers
    from appliance.disk.escrow.record import Record
    from appliance.disk.escrow.sealing import Opened

PLAIN: Layers = "dm-crypt"


@pytest.fixture
def doer(tmp_path: Path) -> PlainDoer:
    (tmp_path / "escrow").mkdir()
    return PlainDoer(tmp_path)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "escrow"


def run(doer: Any, folder: Path, **changed: Any) -> Record:
    wanted: dict[str, Any] = {"confirmed": Confirmation("SIM1"), "psid": None, "layers": PLAIN, **changed}
    request = Request(path="/dev/nvme0n1", host="gpu-01", folder=folder, escrow=escrow("office"), **wanted)
    return enrol(doer, request, now=lambda: CREATED, told=lambda _line: None)


def opened(folder: Path, stem: str) -> Opened:
    kept = read_kept(folder, f"{stem}.json")
    return open_sealed(kept.record, kept.files, Openers([key("office")]))


def test_it_is_enrolled_and_its_escrow_opens_it(doer: PlainDoer, folder: Path) -> None:
    header = run(doer, folder)
    drive, fitness = only(doer.read())
    assert drive.luks is not None
    assert (drive.luks.layer, drive.luks.cipher) == ("dm-crypt", "aes-xts-plain64")
    assert b'"key_size":64' in doer.shell("cryptsetup luksDump --dump-json-metadata /dev/nvme0n1").stdout
    assert (fitness.verdict, header.layers) == ("enrolled", PLAIN)
    secrets = opened(folder, "SIM1.0001.keys").secrets
    assert set(secrets) == {"passphrase"}, "there is no PIN and no PSID to keep"
    assert doer.opens(secrets["passphrase"].reveal())
    before = sorted(folder.iterdir())
    assert run(doer, folder) == header
    assert (sorted(folder.iterdir()), len(doer.phrases)) == (before, 1)


@pytest.mark.parametrize("layers", ["opal and dm-crypt", "opal"])
def test_it_is_done_where_the_settings_say_so_and_nowhere_else(
    doer: PlainDoer, folder: Path, layers: Layers
) -> None:
    with pytest.raises(DriveUnsuitable, match="no-opal"):
        run(doer, folder, layers=layers, psid=Secret(b"PSIDPSID"))
    assert (doer.phrases, list(folder.iterdir())) == ([], [])
    run(doer, folder)
    with pytest.raises(DriveUnsuitable, match="other-layers"):
        run(doer, folder, layers=layers, psid=Secret(b"PSIDPSID"))


def cut(doer: PlainDoer, folder: Path, where: str) -> None:
    doer.cut_off = where
    with pytest.raises(KeyboardInterrupt):
        run(doer, folder)
    doer.cut_off = ""


def test_cut_off_before_the_header(doer: PlainDoer, folder: Path) -> None:
    cut(doer, folder, "before the header")
    assert run(doer, folder).generation == 2


def test_cut_off_before_the_header_is_escrowed(doer: PlainDoer, folder: Path) -> None:
    cut(doer, folder, "before the header is escrowed")
    assert run(doer, folder).generation == 1
    assert doer.opens(opened(folder, "SIM1.0001.keys").secrets["passphrase"].reveal())


def test_cut_off_before_the_keyslot(doer: PlainDoer, folder: Path) -> None:
    cut(doer, folder, "before the keyslot")
    lost = records_of(folder, "SIM1", owned=True)[-1].uuid
    with pytest.raises(DriveUnsuitable, match="interrupted") as raised:
        run(doer, folder)
    assert lost in str(raised.value.hint)
    with pytest.raises(PermitRefused):
        run(doer, folder, reset=True, confirmed=by(permit()))
    assert only(doer.read())[0].unfinished, "as it was"
    assert run(doer, folder, reset=True, confirmed=by(permit("reset", lost))).generation == 2
    assert doer.opens(opened(folder, "SIM1.0002.keys").secrets["passphrase"].reveal())


def test_a_header_without_a_keyslot_of_somebody_else_is_no_beginning_of_ours(
    doer: PlainDoer, folder: Path
) -> None:
    cut(doer, folder, "before the keyslot")
    for path in folder.iterdir():
        path.unlink()
    with pytest.raises(DriveUnsuitable, match="not-empty"):
        run(doer, folder, reset=True)


def test_a_beginning_that_something_uses_is_not_wiped(doer: PlainDoer, folder: Path) -> None:
    cut(doer, folder, "before the keyslot")
    doer._changed["holders"] = ["dm-0"]
    with pytest.raises(DriveUnsuitable, match="held"):
        run(doer, folder, reset=True)
    assert only(doer.read())[0].unfinished


def test_a_drive_whose_header_is_lost_looks_empty_and_is_not_taken(doer: PlainDoer, folder: Path) -> None:
    run(doer, folder)
    phrase = doer.phrases[0]
    assert doer.shell("wipefs --all /dev/nvme0n1").returncode == 0
    for changed in ({}, {"reset": True}):
        with pytest.raises(DriveUnsuitable, match="header-lost") as raised:
            run(doer, folder, **changed)
    kept = folder.parent / "header.img"
    kept.write_bytes(opened(folder, "SIM1.0001.header").header.reveal())
    restored = doer.shell(f"cryptsetup luksHeaderRestore -q --header-backup-file {kept} /dev/nvme0n1")
    assert restored.returncode == 0, restored.stderr
    assert doer.opens(phrase)
    assert run(doer, folder).generation == 1
    assert doer.shell("wipefs --all /dev/nvme0n1").returncode == 0
    assert "SIM1.0001.keys.void" in str(raised.value.hint)
    (folder / "SIM1.0001.keys.void").touch()
    assert run(doer, folder).generation == 2


def test_somebody_elses_volume(doer: PlainDoer, folder: Path) -> None:
    assert doer.shell("cryptsetup luksFormat -q --type luks2 /dev/nvme0n1", b"theirs\n").returncode == 0
    for changed in ({}, {"reset": True}):
        with pytest.raises(DriveUnsuitable, match="foreign"):
            run(doer, folder, **changed)
    assert doer.opens(b"theirs")
    assert list(folder.iterdir()) == []


def test_sealed_keys_without_a_record_hinder_an_empty_drive_not_at_all(
    doer: PlainDoer, folder: Path
) -> None:
    """Its volume would say whose keys it has; it has none."""
    (folder / "SIM1.0001.keys.age").write_bytes(b"cut off")
    assert run(doer, folder).generation == 2


def test_cryptsetup_that_fails(doer: PlainDoer, folder: Path) -> None:
    (folder.parent / "bin/cryptsetup").write_text("#!/bin/sh\ncat >&2\nexit 4\n")
    with pytest.raises(ApplyFailed, match="could not be formatted") as raised:
        run(doer, folder)
    assert raised.value.found == "<secret>"


# --- what of a drive is a reason against it, and what a note ---------------------------------------------


def fitness(answer: bytes | None, **changed: Any) -> tuple[str, set[str], set[str]]:
    host, (drive,) = read_state(machine(entry(answer=answer, **changed), tree=[top()]))
    found = judge(drive, host, PLAIN)
    notes = {note.name for note in found.notes} - {"firmware-unknown"}
    return found.verdict, {one.name for one in found.against}, notes


@pytest.mark.parametrize(
    ("fields", "noted"),
    [
        ({"kind": "pyrite"}, {"pyrite-2"}),
        ({"kind": "ruby"}, {"ruby"}),
        ({"opal_block_size": 4096}, {"geometry"}),
        ({}, set()),
    ],
)
def test_what_a_drive_cannot_do_itself_is_noted(fields: dict[str, Any], noted: set[str]) -> None:
    assert fitness(level_0(simulated(**fields))) == ("ready", set(), {"dm-crypt-alone", *noted})


def test_other_notes() -> None:
    assert fitness(None) == ("ready", set(), {"dm-crypt-alone", "no-opal"})
    silent = {"discovery": {"by": "nvme", "status": 0x4006}}
    assert fitness(None, **silent) == ("ready", set(), {"dm-crypt-alone", "not-asked"})
    weak = {"model": "Samsung SSD 840 EVO 500GB"}
    assert fitness(level_0(simulated()), **weak) == ("ready", set(), {"dm-crypt-alone", "firmware"})


def test_that_it_could_encrypt_by_itself_is_said() -> None:
    for answer, able in ((level_0(simulated()), True), (None, False)):
        host, (drive,) = read_state(machine(entry(answer=answer)))
        note = next(one for one in judge(drive, host, PLAIN).notes if one.name == "dm-crypt-alone")
        assert note.says.endswith("though it could encrypt by itself too") is able


@pytest.mark.parametrize(
    ("answer", "changed", "name"),
    [
        (level_0(simulated(owner_pin="somebody's")), {}, "owned"),
        (None, {"serial": ""}, "no-serial"),
        (None, {"read_only": True}, "read-only"),
        (None, {"holders": ["md0"]}, "held"),
    ],
)
def test_what_stays_a_reason_against_it(answer: bytes | None, changed: dict[str, Any], name: str) -> None:
    verdict, against, _ = fitness(answer, **changed)
    assert (verdict, against) == ("refused", {name})


@pytest.mark.parametrize(
    ("changed", "names"),
    [
        ({"kernel": "6.1.0"}, set()),
        ({"cryptsetup": "cryptsetup 2.6.1"}, set()),
        ({"cryptsetup": "cryptsetup 1.7.5"}, {"cryptsetup"}),
        ({"cryptsetup": ""}, {"cryptsetup"}),
        ({"root": False}, {"not-root"}),
    ],
)
def test_what_the_node_needs_for_it(changed: dict[str, Any], names: set[str]) -> None:
    host, (drive,) = read_state(machine(entry(), **changed))
    assert {one.name for one in judge(drive, host, PLAIN).against} == names


# --- a drive that could encrypt, and had other keys -----------------------------------------------------


def test_marks_of_dm_crypt_stay_though_nobody_owns_the_drive(tmp_path: Path) -> None:
    """Its header, which is lost, would be overwritten otherwise, with whatever layers."""
    (tmp_path / "escrow").mkdir()
    doer = PlainDoer(tmp_path, level_0(simulated()))
    run(doer, tmp_path / "escrow")
    assert doer.shell("wipefs --all /dev/nvme0n1").returncode == 0
    assert only(doer.read())[0].owner == "nobody"
    with pytest.raises(DriveUnsuitable, match="header-lost"):
        run(doer, tmp_path / "escrow", layers="opal and dm-crypt", psid=Secret(b"PSIDPSID"))
    assert not list((tmp_path / "escrow").glob("*.void"))


def test_an_owned_drive_is_never_reset_by_keys_of_dm_crypt(tmp_path: Path, doer: PlainDoer) -> None:
    """Somebody took the drive after it had been enrolled with dm-crypt alone."""
    (tmp_path / "other").mkdir()
    cut(doer, tmp_path / "other", "before the header")
    owned = BenchDoer(owner_pin="somebody's")
    for layers in (PLAIN, "opal and dm-crypt"):
        psid = Secret(owned.bench.profile.psid.encode())
        with pytest.raises(DriveUnsuitable, match="owned"):
            run(owned, tmp_path / "other", reset=True, layers=layers, psid=psid)
    assert owned.owner_is(b"somebody's")


def test_an_interrupted_enrolment_of_the_drive_itself_is_not_reset_without_its_psid(
    tmp_path: Path,
) -> None:
    owned = BenchDoer()

    def stop() -> None:
        raise KeyboardInterrupt

    owned.before_header = stop
    psid = Secret(owned.bench.profile.psid.encode())
    with pytest.raises(KeyboardInterrupt):
        run(owned, tmp_path, layers="opal", psid=psid)
    with pytest.raises(Usage, match="takes the PSID"):
        run(owned, tmp_path, reset=True)
    assert len(kept_in(tmp_path)) == 1
