"""A rotation was cut off, and something else got the keyslot meanwhile: a volume keeps a passphrase."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from appliance.disk.escrow.sealing import Openers
from appliance.disk.opening import escrowed_passphrase
from appliance.disk.rotating import look
from appliance.disk.rotation import standing
from appliance.disk.volumes import Volume
from appliance.errors import DriveUnsuitable
from tests.unit.disk.bench import StepFailed
from tests.unit.disk.bench_life import LifeDoer, enrolled, opens_as_told, rotation, secrets_of
from tests.unit.disk.drives import only
from tests.unit.disk.escrows import key
from tests.unit.disk.test_volumes import DISK

if TYPE_CHECKING:
    from pathlib import Path


def cut_off(doer: LifeDoer, folder: Path, step: str) -> None:
    """A rotation that was cut off before a step, by the beginning of what it says."""

    def told(line: str) -> None:
        if line.startswith(step):
            raise StepFailed

    with pytest.raises(StepFailed):
        rotation(doer, folder, told)


def fill(doer: LifeDoer, slot: str, **token: Any) -> None:
    """Somebody fills a keyslot."""
    values = doer.json()
    assert slot not in values["keyslots"]
    values["keyslots"][slot] = {"opened_by": "a TPM"}
    if token:
        values["tokens"]["7"] = {"type": "systemd-tpm2", "keyslots": [slot], **token}
    doer.write_json(values)


def test_a_tpm_that_was_bound_in_its_keyslot_is_not_taken_for_the_new_passphrase(tmp_path: Path) -> None:
    doer = enrolled(tmp_path)
    cut_off(doer, tmp_path, "adding the new passphrase")
    fill(doer, "1", **{"tpm2-pcrs": [7]})
    stands = standing(look(doer, "/dev/nvme0n1", tmp_path))
    assert stands.passphrases == (1,)
    assert opens_as_told(doer, tmp_path, stands)
    drive = only(doer.read())[0]
    assert drive.luks is not None
    volume = Volume(DISK, drive, drive.luks.uuid)
    found = escrowed_passphrase(tmp_path, volume, Openers([key("safe")]))
    assert doer.unlocks(found.reveal())
    rotation(doer, tmp_path)
    assert doer.unlocks(secrets_of(tmp_path, 2)["passphrase"])
    assert sorted(doer.json()["keyslots"]) == ["1", "2"], "the TPM's, and the new passphrase's"


def test_a_tpm_that_was_bound_in_the_keyslot_before_is_left_alone(tmp_path: Path) -> None:
    doer = enrolled(tmp_path)
    cut_off(doer, tmp_path, "escrowing the new header")
    fill(doer, "0", **{"tpm2-pcrs": [7]})
    stands = standing(look(doer, "/dev/nvme0n1", tmp_path))
    assert stands.passphrases == (2,)
    rotation(doer, tmp_path)
    assert doer.unlocks(secrets_of(tmp_path, 2)["passphrase"])
    assert sorted(doer.json()["keyslots"]) == ["0", "1"]


def test_the_last_passphrase_is_not_removed_before_the_new_one_is_proven(tmp_path: Path) -> None:
    """Somebody added another by hand, where the new one was to come."""
    doer = enrolled(tmp_path)
    cut_off(doer, tmp_path, "adding the new passphrase")
    fill(doer, "1")
    with pytest.raises(DriveUnsuitable, match="other-passphrase"):
        rotation(doer, tmp_path)
    assert doer.unlocks(secrets_of(tmp_path, 1)["passphrase"])
    values = doer.json()
    del values["keyslots"]["1"]
    doer.write_json(values)
    rotation(doer, tmp_path)
    assert doer.unlocks(secrets_of(tmp_path, 2)["passphrase"])
