"""Keys are escrowed, read back, opened; and whatever is wrong with an escrow has its name."""

from __future__ import annotations

import hashlib
import json
import os
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pyrage
import pytest

from appliance.disk.escrow import keeping, sealing
from appliance.disk.escrow.files import writing_alone
from appliance.disk.escrow.keeping import (
    Escrowed,
    escrow_header,
    escrow_keys,
    kept_in,
    read_kept,
    records_of,
)
from appliance.disk.escrow.sealing import Openers, open_sealed
from appliance.disk.secret import Secret
from appliance.errors import (
    EscrowClosed,
    EscrowInvalid,
    EscrowUnproven,
    PreflightFailed,
    SpaceExhausted,
)
from appliance.trust.canonical import canonical_bytes
from tests.unit.disk.escrows import CREATED, DRIVE, PSID, escrow, key

if TYPE_CHECKING:
    from pathlib import Path

STEM = "S6C%2F1%20%25.0001.keys"


def made(folder: Path, *names: str, threshold: int = 1) -> Escrowed:
    site = escrow(*(names or ("safe", "office")), threshold=threshold)
    return escrow_keys(
        folder,
        "gpu-01",
        DRIVE,
        PSID,
        escrow=site,
        created=CREATED,
    )


def reopened(folder: Path, *names: str, stem: str = STEM) -> sealing.Opened:
    kept = read_kept(folder, f"{stem}.json")
    return open_sealed(kept.record, kept.files, Openers([key(name) for name in names]))


# --- keys are escrowed ----------------------------------------------------------------------------------


def test_each_recipient_alone_opens_what_was_escrowed(tmp_path: Path) -> None:
    keys = made(tmp_path)
    for name in ("safe", "office"):
        opened = reopened(tmp_path, name)
        assert opened.secrets == {"admin-pin": keys.admin_pin, "passphrase": keys.passphrase, "psid": PSID}
        assert (opened.record, opened.header) == (keys.record, Secret(b""))
    assert (keys.record.generation, keys.record.host, keys.record.drive) == (1, "gpu-01", DRIVE)


def test_files_are_their_owners_alone_and_hold_no_secret_in_the_clear(tmp_path: Path) -> None:
    keys = made(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {f"{STEM}.json", f"{STEM}.age"}
    for path in tmp_path.iterdir():
        assert path.stat().st_mode & 0o777 == 0o600
        for secret in (keys.admin_pin, keys.passphrase, PSID):
            assert secret.reveal() not in path.read_bytes()


def test_nothing_but_escrow_keys_makes_keys_that_count_as_escrowed(tmp_path: Path) -> None:
    keys = made(tmp_path)
    for make in (
        lambda: Escrowed(keys.record, Secret(b"pin"), Secret(b"phrase"), None, object()),
        lambda: Escrowed(keys.record, keys.admin_pin, keys.passphrase, keys.psid, None),
    ):
        with pytest.raises(RuntimeError, match="read back"):
            make()


def test_a_second_attempt_is_another_generation_with_other_keys(tmp_path: Path) -> None:
    one, two = made(tmp_path), made(tmp_path)
    assert (one.record.generation, two.record.generation) == (1, 2)
    assert one.admin_pin != two.admin_pin
    assert reopened(tmp_path, "safe").secrets["admin-pin"] == one.admin_pin


def test_a_serial_number_that_looks_like_another_drives_record_is_not_taken_for_it(tmp_path: Path) -> None:
    for serial in ("S1", "S1.0007", "../S1", "S1 "):
        drive = replace(DRIVE, serial=serial)
        escrow_keys(tmp_path, "gpu-01", drive, PSID, escrow=escrow("safe"), created=CREATED)
    for serial in ("S1", "S1.0007", "../S1", "S1 "):
        (record,) = records_of(tmp_path, serial, owned=False)
        assert (record.drive.serial, record.generation) == (serial, 1)
    assert len(list(tmp_path.iterdir())) == 8


def test_what_an_interrupted_attempt_left_is_never_written_over(tmp_path: Path) -> None:
    (tmp_path / "S6C%2F1%20%25.0007.keys.age").write_bytes(b"half")
    assert made(tmp_path).record.generation == 8
    assert (tmp_path / "S6C%2F1%20%25.0007.keys.age").read_bytes() == b"half"


def test_the_header_is_escrowed_with_the_generation_of_its_keys(tmp_path: Path) -> None:
    keys = made(tmp_path)
    header = os.urandom(1 << 20) + b"\n\0{"
    record = escrow_header(tmp_path, keys.record, header, created=CREATED)
    assert (record.purpose, record.generation) == ("header", 1)
    assert reopened(tmp_path, "office", stem=record.stem).header.reveal() == header
    with pytest.raises(EscrowUnproven, match=r"header") as raised:
        escrow_header(tmp_path, keys.record, header, created=CREATED)
    assert "is there already" in str(raised.value.found)
    assert "only its header is missing there" in str(raised.value.hint)


def test_a_header_that_was_cut_off_is_escrowed_by_the_next_attempt(tmp_path: Path) -> None:
    keys = made(tmp_path, "ana", "bo", threshold=2)
    record = escrow_header(tmp_path, keys.record, b"first", created=CREATED)
    (tmp_path / f"{record.stem}.json").unlink()
    before = {path: path.read_bytes() for path in tmp_path.glob("*.keys.*")}
    again = escrow_header(tmp_path, keys.record, b"second", created=CREATED)
    assert reopened(tmp_path, "ana", "bo", stem=again.stem).header.reveal() == b"second"
    assert {path: path.read_bytes() for path in tmp_path.glob("*.keys.*")} == before


def test_a_header_is_not_taken_away_from_whoever_is_escrowing_it(tmp_path: Path) -> None:
    keys = made(tmp_path)
    (tmp_path / f"{STEM.replace('keys', 'header')}.age").write_bytes(b"being written")
    with writing_alone(tmp_path, "x"), pytest.raises(EscrowUnproven, match="was not escrowed"):
        escrow_header(tmp_path, keys.record, b"header", created=CREATED)
    assert escrow_header(tmp_path, keys.record, b"header", created=CREATED).generation == 1


# --- the escrow that does not give back -----------------------------------------------------------------


def test_keys_that_were_not_read_back_do_not_count(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The medium loses a byte between writing and reading."""
    read = keeping.read_file
    monkeypatch.setattr(
        keeping, "read_file", lambda path, most: read(path, most).replace(b"age-enc", b"age-eno")
    )
    with pytest.raises(EscrowUnproven) as raised:
        made(tmp_path)
    assert raised.value.exit_code == 5
    assert "is damaged" in str(raised.value.found)


def test_keys_that_come_back_as_others_do_not_count(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Somebody exchanged the record for a good one of other keys."""
    real = keeping.open_sealed

    def other(*arguments: Any) -> sealing.Opened:
        opened = real(*arguments)
        return replace(opened, secrets={**opened.secrets, "admin-pin": Secret(b"another")})

    monkeypatch.setattr(keeping, "open_sealed", other)
    with pytest.raises(EscrowUnproven) as raised:
        made(tmp_path)
    assert raised.value.found == "other keys than were written"
    assert "another" not in str(raised.value)


def test_a_folder_that_is_not_there_or_full(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(PreflightFailed, match="cannot be read"):
        made(tmp_path / "none")

    def full(_descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(SpaceExhausted):
        made(tmp_path)
    assert not list(tmp_path.glob("*.json")), "without its record a sealed file counts for nothing"


@pytest.mark.parametrize("writes", range(1, 3))
def test_whenever_writing_is_cut_off_no_record_stands_without_its_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, writes: int
) -> None:
    class CutOff(BaseException):
        pass

    left = [writes]
    sync = os.fsync

    def cut(descriptor: int) -> None:
        left[0] -= 1
        if left[0] < 0:
            raise CutOff
        sync(descriptor)

    monkeypatch.setattr(os, "fsync", cut)
    with pytest.raises(CutOff):
        made(tmp_path)
    monkeypatch.undo()
    for one in kept_in(tmp_path):
        if not isinstance(one, EscrowInvalid):
            assert set(one.files) == set(one.record.sealed)
    assert made(tmp_path).record.generation == 2


# --- who cannot open, and what was changed --------------------------------------------------------------


def test_other_peoples_keys_open_nothing(tmp_path: Path) -> None:
    made(tmp_path)
    for names in ((), ("stranger",)):
        with pytest.raises(EscrowClosed) as raised:
            reopened(tmp_path, *names)
        assert raised.value.wanted == "the key of one of: office, safe"
        assert raised.value.exit_code == 5


def rewrite(folder: Path, **changed: Any) -> None:
    path = folder / f"{STEM}.json"
    path.write_bytes(canonical_bytes({**json.loads(path.read_bytes()), **changed}))


@pytest.mark.parametrize(
    ("changed", "found"),
    [
        ({"host": "gpu-02"}, "another host"),
        ({"layers": "opal"}, "another layers"),
        ({"created": "2027-01-01T00:00:00Z"}, "another created"),
        (
            {
                "drive": {
                    "serial": DRIVE.serial,
                    "model": "B",
                    "firmware": "FW1",
                    "namespace": "1",
                    "size": 1,
                }
            },
            "another drive",
        ),
        ({"recipients": {"safe": "age1x", "thief": "age1y"}}, "another recipients"),
    ],
)
def test_nothing_in_the_open_can_be_changed(tmp_path: Path, changed: dict[str, Any], found: str) -> None:
    made(tmp_path)
    rewrite(tmp_path, **changed)
    with pytest.raises(EscrowInvalid) as raised:
        reopened(tmp_path, "safe")
    assert raised.value.found == found
    assert raised.value.exit_code == 4


def test_a_sealed_file_of_another_record_is_noticed(tmp_path: Path) -> None:
    made(tmp_path)
    made(tmp_path)
    other = (tmp_path / STEM.replace("0001", "0002")).with_suffix(".keys.age").read_bytes()
    (tmp_path / f"{STEM}.age").write_bytes(other)
    with pytest.raises(EscrowInvalid, match="is damaged, or another record's"):
        reopened(tmp_path, "safe")
    rewrite(tmp_path, sealed={f"{STEM}.age": hashlib.sha256(other).hexdigest()})
    with pytest.raises(EscrowInvalid) as raised:
        reopened(tmp_path, "safe")
    assert raised.value.found == "another generation"


def test_a_sealed_file_that_is_gone(tmp_path: Path) -> None:
    made(tmp_path)
    (tmp_path / f"{STEM}.age").unlink()
    with pytest.raises(EscrowInvalid, match="is missing"):
        reopened(tmp_path, "safe")


@pytest.mark.parametrize(
    "plain",
    [
        b"",
        b"nonsense\n",
        b'{"record":{}}\n',
        b'{"record":{},"secrets":[]}\n',
        b'{"record":{},"secrets":{"a":1}}\n',
    ],
)
def test_whoever_seals_something_else_is_noticed(tmp_path: Path, plain: bytes) -> None:
    """Everybody can encrypt to a recipient; what comes out is judged all the same."""
    made(tmp_path)
    sealed = pyrage.encrypt(plain, [key("safe").to_public()])
    (tmp_path / f"{STEM}.age").write_bytes(sealed)
    rewrite(tmp_path, sealed={f"{STEM}.age": hashlib.sha256(sealed).hexdigest()})
    with pytest.raises(EscrowInvalid):
        reopened(tmp_path, "safe")


def test_a_record_that_lacks_a_secret_is_noticed(tmp_path: Path) -> None:
    keys = made(tmp_path)
    plain = canonical_bytes({"record": keys.record.inner(), "secrets": {"psid": "x"}}) + b"\n"
    sealed = pyrage.encrypt(plain, [key("safe").to_public()])
    record = keys.record.with_sealed({f"{STEM}.age": hashlib.sha256(sealed).hexdigest()})
    with pytest.raises(EscrowInvalid, match="does not hold what it says"):
        open_sealed(record, {f"{STEM}.age": sealed}, Openers([key("safe")]))
