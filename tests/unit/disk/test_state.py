"""From readings to a state with reasons: start with a drive that may be enrolled, change one thing."""

from __future__ import annotations

from typing import Any

import pytest

from appliance.disk.enrolment import refusal
from appliance.disk.firmware import UNKNOWN, Known, judge_firmware, known_drives
from appliance.disk.state import read_state
from appliance.errors import DriveUnreadable
from tests.unit.disk.drives import entry, level_0, machine, only, reasons, simulated, top
from tests.unit.disk.test_discovery import answer, descriptor, recorded
from tests.unit.lab.drive.host import Host

NEW = level_0(simulated())
HEADER = '{"keyslots":{"0":{},"1":{}},"tokens":{"0":{"type":"systemd-tpm2"}},"segments":{"0":%s}}'
BOTH = HEADER % '{"type":"hw-opal-crypt","encryption":"aes-xts-plain64","opal_segment_number":1}'
ALONE = HEADER % '{"type":"hw-opal","opal_segment_number":2}'
PLAIN = HEADER % '{"type":"crypt","encryption":"aes-xts-plain64"}'


def told(header: str) -> dict[str, Any]:
    """What cryptsetup says of a header."""
    return {"status": 0, "json": header, "uuid": ""}


def owned() -> bytes:
    drive = simulated()
    host = Host(drive)
    host.take_ownership("pin")
    host.activate("pin")
    return level_0(drive)


def blocked() -> bytes:
    drive = simulated()
    drive.tper.sid_blocked = True
    return level_0(drive)


def without_block_sid(answer: bytes) -> bytes:
    at = answer.index(bytes.fromhex("0402100c"))
    length = int.from_bytes(answer[:4], "big") - 16
    return length.to_bytes(4, "big") + answer[4:at] + answer[at + 16 :]


def test_a_new_drive_may_be_enrolled() -> None:
    drive, fitness = only(machine(entry(answer=NEW)))
    assert (drive.tcg, drive.owner, drive.enrolled, drive.trouble) == ("yes", "nobody", False, "")
    assert (fitness.verdict, fitness.against, fitness.notes) == ("ready", (), ())


@pytest.mark.parametrize(
    ("changed", "against"),
    [
        ({"answer": level_0(simulated(kind="pyrite"))}, {"pyrite-2"}),
        ({"answer": level_0(simulated(kind="ruby"))}, {"ruby"}),
        ({"answer": answer(descriptor(0x0100, bytes(16)))}, {"enterprise", "owner-unknown"}),
        ({"answer": answer(descriptor(0x0301, bytes(16)))}, {"opalite", "owner-unknown"}),
        ({"answer": answer()}, {"no-opal"}),
        ({"answer": None}, {"no-opal"}),
        ({"answer": level_0(simulated(owner_pin="somebody's"))}, {"owned"}),
        ({"answer": owned()}, {"owned"}),
        ({"answer": recorded("crucial-mx500")}, {"owned"}),
        ({"answer": recorded("kioxia-cm6")}, {"geometry"}),
        ({"answer": blocked()}, {"sid-blocked"}),
        ({"answer": without_block_sid(NEW)}, {"owner-unknown"}),
        ({"answer": without_block_sid(owned())}, {"owned"}),
        ({"answer": level_0(simulated(opal_block_size=4096))}, {"geometry"}),
        ({"answer": NEW, "block_size": 4096}, {"geometry"}),
        ({"answer": NEW, "kernel": False}, {"not-taken"}),
        ({"answer": NEW, "serial": ""}, {"no-serial"}),
        ({"answer": NEW, "read_only": True}, {"read-only"}),
        ({"answer": NEW, "holders": ["dm-0"]}, {"held"}),
        ({"answer": NEW, "model": "Crucial_CT500MX200SSD1", "firmware": "MU03"}, {"firmware"}),
        ({"answer": NEW, "model": "Samsung SSD 840 EVO 1TB"}, {"firmware"}),
        ({"answer": NEW[:40]}, {"not-asked"}),
        ({"discovery": {"by": "nvme", "error": "Permission denied"}}, {"not-asked"}),
        ({"discovery": {"by": "nvme", "status": 0x4286}}, {"not-asked"}),
        ({"discovery": {"by": "sed-opal", "error": "x", "unknown": True}}, {"no-opal"}),
        ({"discovery": {"by": "sed-opal", "error": "x", "unknown": True}, "kernel": True}, {"not-asked"}),
    ],
)
def test_one_thing_that_is_wrong_with_a_drive(changed: dict[str, Any], against: set[str]) -> None:
    assert reasons(machine(entry(**changed))) == against


def test_a_drive_that_only_locks_is_refused_whatever_class_it_claims() -> None:
    at = NEW.index(bytes.fromhex("0002200c")) + 4
    assert reasons(machine(entry(answer=NEW[:at] + b"\x01" + NEW[at + 1 :]))) == {"no-encryption"}
    assert reasons(machine(entry(answer=NEW[:at] + b"\x08" + NEW[at + 1 :]))) == {"no-locking"}


@pytest.mark.parametrize(
    ("device", "against"),
    [
        ({"mountpoints": ["/srv"], "fstype": "ext4"}, {"mounted", "not-empty"}),
        ({"mountpoints": ["/"], "fstype": "ext4"}, {"root", "not-empty"}),
        ({"mountpoints": ["[SWAP]"], "fstype": "swap"}, {"swap", "not-empty"}),
        ({"pttype": "gpt"}, {"not-empty"}),
        ({"fstype": "crypto_LUKS"}, {"not-empty"}),
        ({"children": [top("nvme0n1p1", type="part")]}, {"partitioned"}),
    ],
)
def test_a_drive_that_is_in_use(device: dict[str, Any], against: set[str]) -> None:
    assert reasons(machine(entry(answer=NEW), tree=[top(**device)])) == against


def test_a_drive_of_two_signatures_that_lsblk_shows_as_empty() -> None:
    readings = machine(entry(answer=NEW, signatures=["crypto_LUKS", "ext4"]))
    assert reasons(readings) == {"not-empty"}
    use = only(readings)[0].use
    assert use is not None
    assert use.holds == ("crypto_LUKS nvme0n1", "ext4 nvme0n1")


def test_a_drive_that_nobody_can_look_through() -> None:
    assert reasons(machine(entry(answer=NEW, signatures=None))) == {"use-unknown"}
    rooted = machine(entry(answer=NEW, signatures=None), tree=[top(mountpoints=["/"])])
    drive, fitness = only(rooted)
    assert [reason.name for reason in fitness.against] == ["root", "use-unknown"]
    assert "the wrong drive" in str(refusal(drive, fitness.against).hint)


def test_nobody_is_told_to_wipe_the_root() -> None:
    rooted = top(pttype="gpt", children=[top("nvme0n1p1", type="part", mountpoints=["/"], fstype="ext4")])
    drive, fitness = only(machine(entry(answer=NEW), tree=[rooted]))
    assert {reason.name for reason in fitness.against} == {"root", "partitioned", "not-empty"}
    everything = repr(fitness.against) + repr(refusal(drive, fitness.against).as_dict())
    assert "wipefs" not in everything
    assert "the wrong drive" in str(refusal(drive, fitness.against).hint)


@pytest.mark.parametrize("tree", [[], [top("nvme1n1")]])
def test_a_drive_of_which_nobody_knows_what_is_used(tree: list[dict[str, Any]]) -> None:
    assert reasons(machine(entry(answer=NEW), tree=tree)) == {"use-unknown"}


def test_lsblk_that_is_not_there() -> None:
    readings = machine(entry(answer=NEW)) | {"tree": None}
    assert reasons(readings) == {"use-unknown"}


@pytest.mark.parametrize(
    ("changed", "against"),
    [
        ({"kernel": "6.1.0-44-amd64"}, "kernel"),
        ({"kernel": "6.3.9"}, "kernel"),
        ({"cryptsetup": "cryptsetup 2.7.2 flags: UDEV"}, "cryptsetup"),
        ({"cryptsetup": "cryptsetup 2.6.1"}, "cryptsetup"),
        ({"cryptsetup": ""}, "cryptsetup"),
        ({"root": False}, "not-root"),
    ],
)
def test_a_machine_that_cannot(changed: dict[str, Any], against: str) -> None:
    assert reasons(machine(entry(answer=NEW)) | changed) == {against}


@pytest.mark.parametrize("changed", [{"kernel": "6.4.0"}, {"cryptsetup": "cryptsetup 2.7.3"}])
def test_the_oldest_machine_that_can(changed: dict[str, Any]) -> None:
    assert reasons(machine(entry(answer=NEW)) | changed) == set()


def test_every_reason_is_told_and_not_the_first_alone() -> None:
    many = entry(answer=level_0(simulated(owner_pin="x", opal_block_size=4096)), read_only=True)
    assert reasons(machine(many, tree=[top(mountpoints=["/"])], root=False)) == {
        *("root", "geometry", "owned", "read-only", "not-root"),
    }


@pytest.mark.parametrize(
    ("header", "layer", "notes"),
    [
        (BOTH, "opal and dm-crypt", set()),
        (ALONE, "opal", {"single-layer"}),
    ],
)
def test_an_enrolled_drive_is_neither_ready_nor_refused(header: str, layer: str, notes: set[str]) -> None:
    drive, fitness = only(machine(entry(answer=owned(), luks=told(header))))
    assert drive.luks is not None
    assert (drive.luks.layer, drive.luks.keyslots, drive.luks.tokens) == (layer, 2, ("systemd-tpm2",))
    assert (fitness.verdict, fitness.against) == ("enrolled", ())
    assert {note.name for note in fitness.notes} == notes


def test_a_header_without_a_keyslot_is_no_enrolment() -> None:
    begun = BOTH.replace('"0":{},"1":{}', "", 1)
    assert reasons(machine(entry(answer=owned(), luks=told(begun)))) == {"owned"}


def test_a_drive_that_does_not_lock_is_no_enrolment() -> None:
    """Its owner is somebody, and its Locking SP is off: no range has a key."""
    answer = level_0(simulated(owner_pin="somebody's"))
    assert reasons(machine(entry(answer=answer, luks=told(BOTH)))) == {"owned"}


def test_a_header_of_opal_on_a_drive_that_nobody_owns_is_no_enrolment() -> None:
    """As after a reset by PSID: what the header opened is gone."""
    reset = machine(entry(answer=NEW, luks=told(BOTH)), tree=[top(fstype="crypto_LUKS")])
    assert reasons(reset) == {"not-empty"}


@pytest.mark.parametrize("answer", [NEW, None])
def test_a_volume_of_dm_crypt_alone_is_enrolled_and_noted(answer: bytes | None) -> None:
    readings = machine(entry(answer=answer, luks=told(PLAIN)), tree=[top(fstype="crypto_LUKS")])
    drive, fitness = only(readings)
    assert drive.luks is not None
    assert (drive.luks.layer, drive.luks.cipher, drive.luks.range) == ("dm-crypt", "aes-xts-plain64", None)
    assert (fitness.verdict, fitness.against) == ("enrolled", ())
    assert "single-layer" in {note.name for note in fitness.notes}


def test_a_volume_of_dm_crypt_alone_on_somebodys_drive_is_no_enrolment() -> None:
    """Whoever owns the drive can lock it."""
    assert reasons(machine(entry(answer=owned(), luks=told(PLAIN)))) == {"owned"}


def test_a_segment_that_is_not_encrypted_is_the_weakest() -> None:
    mixed = '{"segments":{"0":{"type":"crypt"},"1":{"type":"linear"}},"keyslots":{}}'
    drive, _ = only(machine(entry(answer=NEW, luks=told(mixed))))
    assert drive.luks is not None
    assert drive.luks.layer is None


@pytest.mark.parametrize("text", ["[]", "nonsense", '{"segments":[]}'])
def test_a_header_that_is_none_is_no_header(text: str) -> None:
    drive, _ = only(machine(entry(answer=NEW, luks=told(text))))
    assert drive.luks is None


@pytest.mark.parametrize(
    ("changed", "note"),
    [
        ({"model": "Some drive"}, "firmware-unknown"),
        ({"model": "SAMSUNG MZWLJ3T8HBLS-00007", "firmware": "EPK9FB5Q"}, "firmware-caution"),
        ({"removable": True}, "removable"),
    ],
)
def test_what_is_no_reason_against_is_noted(changed: dict[str, Any], note: str) -> None:
    _, fitness = only(machine(entry(answer=NEW, **changed)))
    assert fitness.verdict == "ready"
    assert [reason.name for reason in fitness.notes] == [note]


def test_commands_that_touch_two_ranges_and_a_shadow_that_is_shown_are_noted() -> None:
    drive = simulated(range_crossing=False)
    host = Host(drive)
    host.take_ownership("pin")
    host.activate("pin")
    host.as_admin("pin").set(bytes.fromhex("0000080300000001"), c1=1)
    host.end()
    _, fitness = only(machine(entry(answer=level_0(drive))))
    assert {note.name for note in fitness.notes} == {"crossing", "shadow"}


def test_namespaces_of_one_drive_are_counted() -> None:
    readings = machine(
        entry(answer=NEW), entry("nvme0n2", NEW, namespace="2"), entry("nvme1n1", serial="X")
    )
    assert [drive.namespaces for drive in read_state(readings)[1]] == [2, 2, 1]


@pytest.mark.parametrize(
    ("readings", "found"),
    [
        ({}, "KeyError"),
        ({"format": 1, "drives": []}, "format 1"),
        (machine(entry()) | {"drives": None}, "TypeError"),
        (machine({**entry(), "discovery": {}}), "KeyError"),
        (machine({"name": "nvme0n1"}), "KeyError"),
        (machine(entry()) | {"tree": [7]}, "AttributeError"),
    ],
)
def test_readings_that_are_none(readings: dict[str, Any], found: str) -> None:
    with pytest.raises(DriveUnreadable) as raised:
        read_state(readings)
    assert found in str(raised.value.found)


def test_every_entry_of_the_firmware_list_has_its_source() -> None:
    assert known_drives()
    for known in known_drives():
        assert known.verdict in {"refused", "caution", "tried"}
        assert known.says
        assert known.source


def test_the_first_entry_that_matches_counts() -> None:
    entries = [
        Known("A", "caution", "one", "here", firmware="2"),
        Known("a1", "refused", "two", "here"),
        Known("A", "tried", "three", "here"),
    ]
    found = [
        judge_firmware(model, firmware, entries).says
        for model, firmware in (("A1", "2"), ("A1", "3"), ("A2", "3"))
    ]
    assert found == ["one", "two", "three"]
    assert judge_firmware("Beta A", "2", entries) is UNKNOWN
