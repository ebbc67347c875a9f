"""Escrows that take several people, and stock tools that open all of them."""

from __future__ import annotations

import json
import subprocess
from typing import TYPE_CHECKING

import pytest

from appliance.disk.escrow.keeping import Escrowed, escrow_header, escrow_keys, read_kept
from appliance.disk.escrow.sealing import Openers, open_sealed, share_of
from appliance.disk.secret import Secret
from appliance.errors import (
    EscrowClosed,
)
from tests.unit.disk.escrows import CREATED, DRIVE, PSID, escrow, key, key_file

if TYPE_CHECKING:
    from pathlib import Path

from tests.unit.disk.test_escrow import STEM, made, reopened


def test_two_of_three_open_and_no_one_alone(split: tuple[Path, Escrowed]) -> None:
    folder, keys = split
    assert keys.record.threshold == 2
    assert len(list(folder.glob("*.age"))) == 4
    opened = reopened(folder, "cy", "ana")
    assert opened.secrets["passphrase"] == keys.passphrase
    for names, found in ((("bo",), "1 of 2 shares"), (("bo", "stranger"), "1 of 2 shares"), ((), "0 of 2")):
        with pytest.raises(EscrowClosed) as raised:
            reopened(folder, *names)
        assert found in str(raised.value.found)
        assert raised.value.wanted == "2 shares of: ana, bo, cy"


GOOD_SHARE = b"1-%s\n" % (b"0" * 32) * 4


@pytest.mark.parametrize(
    ("shares", "found"),
    [
        ([GOOD_SHARE], "1 of 2"),
        ([GOOD_SHARE, GOOD_SHARE], "1 of 2"),
        ([GOOD_SHARE, b"nonsense"], "a share that is none"),
        ([GOOD_SHARE, b""], "a share that is none"),
        ([GOOD_SHARE, GOOD_SHARE.replace(b"00\n", b"0\n")], "a share that is none"),
        ([GOOD_SHARE, GOOD_SHARE[:-35]], "a share that is none"),
        ([GOOD_SHARE, GOOD_SHARE.replace(b"1-", b"2-", 1)], "a share that is none"),
        ([GOOD_SHARE, GOOD_SHARE.replace(b"1-", b"2-")], "shares that do not belong together"),
        ([GOOD_SHARE, b"2-%s\n" % (b"e" * 32) * 4], "shares that do not belong together"),
    ],
)
def test_shares_that_are_none(split: tuple[Path, Escrowed], shares: list[bytes], found: str) -> None:
    kept = read_kept(split[0], f"{STEM}.json")
    with pytest.raises(EscrowClosed) as raised:
        open_sealed(kept.record, kept.files, Openers(shares=[Secret(one) for one in shares]))
    assert found in str(raised.value.found)


def test_shares_of_another_record_open_nothing(split: tuple[Path, Escrowed], tmp_path: Path) -> None:
    site = escrow("ana", "bo", "cy", threshold=2)
    escrow_keys(tmp_path, "gpu-01", DRIVE, PSID, escrow=site, created=CREATED)
    others = read_kept(tmp_path, f"{STEM}.json")
    shares = [share_of(others.record, others.files, key(name)) for name in ("ana", "cy")]
    kept = read_kept(split[0], f"{STEM}.json")
    for foreign in (shares, [shares[0], share_of(kept.record, kept.files, key("cy"))]):
        with pytest.raises(EscrowClosed):
            open_sealed(kept.record, kept.files, Openers(shares=foreign))


def test_stock_age_opens_what_one_recipient_can(tmp_path: Path) -> None:
    keys = made(tmp_path)
    done = subprocess.run(
        ["age", "-d", "-i", str(key_file(tmp_path, "safe")), str(tmp_path / f"{STEM}.age")],
        capture_output=True,
        check=True,
    )
    told = json.loads(done.stdout.splitlines()[0])["secrets"]
    assert told["passphrase"].encode() == keys.passphrase.reveal()
    record = escrow_header(tmp_path, keys.record, b"LUKS\n\0 header\n", created=CREATED)
    line = f"age -d -i {tmp_path}/safe.key {tmp_path}/{record.stem}.age | tail -n +2"
    assert (
        subprocess.run(["sh", "-c", line], capture_output=True, check=True).stdout == b"LUKS\n\0 header\n"
    )


def test_stock_age_and_ssss_open_what_takes_two(split: tuple[Path, Escrowed], tmp_path: Path) -> None:
    folder, keys = split
    shares = []
    for name in ("bo", "cy"):
        command = ["age", "-d", "-i", str(key_file(tmp_path, name)), f"{folder}/{STEM}.share-{name}.age"]
        shares.append(subprocess.run(command, capture_output=True, check=True).stdout.splitlines())
    combine = ["ssss-combine", "-t", "2", "-D", "-q"]
    letters = [
        subprocess.run(combine, input=b"\n".join(lines) + b"\n", capture_output=True, check=True).stderr
        for lines in zip(*shares, strict=True)
    ]
    own = tmp_path / "own.key"
    own.write_bytes(b"AGE-SECRET-KEY-1" + b"".join(part.strip() for part in letters))
    done = subprocess.run(
        ["age", "-d", "-i", str(own), f"{folder}/{STEM}.age"], capture_output=True, check=True
    )
    told = json.loads(done.stdout.splitlines()[0])["secrets"]
    assert told["admin-pin"].encode() == keys.admin_pin.reveal()


@pytest.mark.parametrize(("threshold", "count"), [(2, 2), (3, 5), (16, 16)])
def test_every_choice_of_holders_is_enough_and_one_less_is_not(
    tmp_path: Path, threshold: int, count: int
) -> None:
    names = [f"holder-{number}" for number in range(count)]
    keys = made(tmp_path, *names, threshold=threshold)
    for first in (0, count - threshold):
        chosen = names[first : first + threshold]
        assert reopened(tmp_path, *chosen).secrets["passphrase"] == keys.passphrase
        with pytest.raises(EscrowClosed):
            reopened(tmp_path, *chosen[1:])
