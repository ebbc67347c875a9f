"""Drives are enrolled from the desk with cryptsetup itself, and are locked when power fails."""

from __future__ import annotations

import itertools
import json
import re
from operator import itemgetter
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.vm.vault import furnish

if TYPE_CHECKING:
    from collections.abc import Iterator

    from conftest import NewMachines

    from tests.vm.vault import Vault

pytestmark = pytest.mark.vm

#: Drive 1 is enrolled at once, 2 is cut off many times, 3 is somebody else's.
WHOLE, CUT_OFF, OTHERS = 1, 2, 3
MARKER = "whoever reads this has the data"
#: In a volume, and where the drive has that: its header is 16 MiB long.
DATA = 1 << 20
#: Methods that change a drive, and the table they change (first half of a UID); the others leave nothing
#: that outlasts power.
_CHANGES = re.compile(r"(Set|Activate) ([0-9a-f]{8})[0-9a-f]{8}: SUCCESS")
#: To reset a drive by its PSID: a session is started, and Revert ends it.
_RESET = 2


@pytest.fixture(scope="module")
def vault(new_machines: NewMachines, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Vault]:
    with new_machines("--tpm", "--drives", "3") as machines:
        yield furnish(machines, tmp_path_factory.mktemp("desk"))


@pytest.fixture(scope="module")
def enrolled(vault: Vault) -> list[str]:
    """Drive 1 is enrolled; the methods that it took."""
    before = len(vault.methods(WHOLE))
    code, said, told = vault.enroll(WHOLE)
    assert (code, said.get("header")) == (0, f"{vault.serial(WHOLE)}.0001.header"), (said, told)
    return vault.methods(WHOLE)[before:]


def test_the_machine_has_a_tpm_and_drives_that_are_as_new(vault: Vault) -> None:
    assert vault.guest("cat /sys/class/tpm/tpm0/tpm_version_major").stdout == "2\n"
    found = vault.status()
    for number in (WHOLE, CUT_OFF, OTHERS):
        drive = found[vault.serial(number)]
        assert (drive["path"], drive["verdict"], drive["owner"]) == (
            vault.device(number),
            "ready",
            "nobody",
        )
    links = vault.guest("ls /sys/class/net").stdout.split()
    assert links == ["enp1s0", "enp2s0", "enp3s0", "lo"], "the way to the drives is none of the node's"


def test_what_may_not_be_encrypted_is_refused_and_not_asked_for_a_session(vault: Vault) -> None:
    mounted, owned = vault.device(CUT_OFF), vault.device(OTHERS)
    vault.guest(f"mkfs.ext4 -q {mounted} && mount {mounted} /mnt")
    # Without a terminal it takes the password from standard input.
    vault.guest(f"setsid -w nvme sed initialize {owned}", input="of another\nof another\n")
    before = [vault.methods(number) for number in (CUT_OFF, OTHERS)]
    code, said, _ = vault.enroll(CUT_OFF)
    assert (code, "mounted, not-empty" in said["message"]) == (5, True), said
    vault.guest(f"umount /mnt && wipefs --all --quiet {mounted}")
    for options in ((), ("--reset",)):
        code, said, _ = vault.enroll(OTHERS, *options)
        assert (code, "owned" in said["message"]) == (5, True), said
    code, said, _ = vault.enroll(CUT_OFF, serial=vault.serial(WHOLE))
    assert (code, vault.serial(WHOLE) in said["found"]) == (2, True), said
    assert [vault.methods(number) for number in (CUT_OFF, OTHERS)] == before
    assert list(vault.escrow.iterdir()) == []


def test_power_of_the_drive_fails_after_each_kind_of_change(vault: Vault, enrolled: list[str]) -> None:
    """Real cryptsetup, and each time the drive is as new or the escrow opens it.

    A kind is a row of methods that change the same table of the drive; power fails after its last.  After
    every single method it fails in tests/unit/disk: each failure here costs half a minute of a processor.
    """
    changes = [
        (at, found[2])
        for at, method in enumerate(enrolled, 1)
        if (found := _CHANGES.fullmatch(method)) is not None
    ]
    assert len(changes) == 10, enrolled
    kinds = [list(row)[-1][0] for _, row in itertools.groupby(changes, key=itemgetter(1))]
    assert len(kinds) == 6, "owner's PIN, activation, authority, access control, user's PIN, range"
    device, path = vault.device(CUT_OFF), "bs=1M skip=100 count=1 iflag=direct"
    read = f"dd if={device} {path} 2>/dev/null | sha256sum"
    vault.guest(f"dd if=/dev/urandom of={device} bs=1M seek=100 count=1 oflag=direct")
    data = vault.guest(read).stdout
    owned = False
    for generation, after in enumerate([0, *kinds], 1):
        offset = after + (_RESET if owned else 0)
        vault.order(CUT_OFF, "cut-power", f"after={offset}" if offset else "before=0")
        before = len(vault.methods(CUT_OFF))
        code, said, told = vault.enroll(CUT_OFF, "--hw-opal-only", *(("--reset",) if owned else ()))
        assert (code, said["error"]) == (7, "ApplyFailed"), (after, said, told)
        assert ("resetting" in told) == owned
        assert vault.methods(CUT_OFF)[before:][offset - after :][:after] == enrolled[:after]
        owned = vault.order(CUT_OFF, "status")["owned"]
        assert owned == (after > 0), after
        pin = vault.opened(CUT_OFF, "admin-pin").decode()
        assert vault.owned_by(CUT_OFF, pin) == owned, "what it has is what the escrow gives back"
        assert len(list(vault.escrow.glob(f"{vault.serial(CUT_OFF)}.*.keys.json"))) == generation
        if not owned:
            assert vault.owned_by(CUT_OFF, vault.order(CUT_OFF, "status")["msid"])
            assert vault.guest(read).stdout == data


def test_cryptsetup_is_killed_between_header_and_keyslot(vault: Vault) -> None:
    """There is a header then that nothing opens; nothing of ours can be on the drive yet."""
    device = vault.device(CUT_OFF)
    watching = vault.machines.operator.start(
        ["appliance", "lab", "shell", vault.machines.node.name, "--", "sh", "-c", _KILL, "sh", device]
    )
    code, said, _ = vault.enroll(CUT_OFF, "--hw-opal-only", "--reset")
    assert (watching.wait(timeout=300), code, said["error"]) == (0, 7, "ApplyFailed"), said
    assert (
        json.loads(vault.guest(f"cryptsetup luksDump --dump-json-metadata {device}").stdout)["keyslots"]
        == {}
    )
    code, said, _ = vault.enroll(CUT_OFF, "--hw-opal-only")
    assert (code, "interrupted" in said["message"]) == (5, True), said
    assert vault.owned_by(CUT_OFF, vault.opened(CUT_OFF, "admin-pin").decode())


#: Waits for a header that cryptsetup has written while it still runs, and ends it as no program can ask.
_KILL = """\
until writing=$(pgrep -x cryptsetup) && cryptsetup isLuks "$1"; do sleep 0.1; done
kill -KILL $writing
"""


@pytest.fixture(scope="module")
def alone(vault: Vault) -> None:
    """Drive 2 is enrolled, and encrypts alone; whatever of an enrolment was cut off before."""
    code, said, told = vault.enroll(CUT_OFF, "--hw-opal-only", "--reset")
    assert code == 0, (said, told)


@pytest.mark.usefixtures("enrolled", "alone")
def test_a_second_run_finds_both_enrolled_and_changes_nothing(vault: Vault) -> None:
    found = vault.status()
    drives = [found[vault.serial(number)] for number in (WHOLE, CUT_OFF)]
    assert [drive["verdict"] for drive in drives] == ["enrolled", "enrolled"]
    assert [drive["luks"]["layer"] for drive in drives] == ["opal and dm-crypt", "opal"]
    before = everything(vault)
    for number, options in ((WHOLE, ()), (CUT_OFF, ("--hw-opal-only",))):
        code, said, told = vault.enroll(number, *options)
        assert (code, told) == (0, ""), said
    assert everything(vault) == before


def everything(vault: Vault) -> list[bytes | list[str]]:
    """All of the escrow, the state of the drives, and what they were asked for."""
    files = [path.read_bytes() for path in sorted(vault.escrow.iterdir())]
    states = [Path(f"{vault.drive(number)['image']}.state").read_bytes() for number in (WHOLE, CUT_OFF)]
    return [*files, *states, vault.methods(WHOLE), vault.methods(CUT_OFF)]


def raw(vault: Vault, number: int) -> str:
    """A command that reads the first of a drive's data past the volume."""
    return f"dd if={vault.device(number)} bs=1M skip=16 count=2 iflag=direct"


@pytest.mark.usefixtures("enrolled", "alone")
def test_a_power_cut_locks_them_and_the_escrow_unlocks_them(vault: Vault) -> None:
    for number in (WHOLE, CUT_OFF):
        vault.unlock(number, f"vault{number}")
        vault.guest(f"yes '{MARKER}' | head -c {DATA} >/dev/mapper/vault{number}; sync")
    found = [vault.guest(f"{raw(vault, n)} | grep -ac '{MARKER}'", check=False) for n in (WHOLE, CUT_OFF)]
    assert found[0].stdout == "0\n", "dm-crypt encrypts above the drive"
    assert int(found[1].stdout) > 1000, "the counterpart: here only the drive encrypts, and it is open"
    vault.machines.power("cut")
    for number in (WHOLE, CUT_OFF):
        data = Path(vault.drive(number)["image"]).read_bytes()
        assert MARKER.encode() not in data, "what left the machine is not the plain text"
        assert len(set(data[16 << 20 :][:DATA])) == 256
    vault.machines.operator.run(["appliance", "lab", "tpm", "pull", vault.machines.node.name])
    vault.machines.power("on")
    assert (vault.machines.node_status()["tpm"], vault.guest("ls -d /dev/tpm*", check=False).stdout) == (
        "out",
        "",
    )
    for number in (WHOLE, CUT_OFF):
        locked = vault.guest(raw(vault, number), check=False)
        assert locked.returncode != 0, locked.stderr
        vault.unlock(number, f"vault{number}")
        vault.guest(intact(number))


def intact(number: int) -> str:
    """A command that compares a volume with what was written to it."""
    return f"yes '{MARKER}' | head -c {DATA} | cmp -n {DATA} - /dev/mapper/vault{number}"


@pytest.mark.usefixtures("enrolled")
def test_a_header_that_was_overwritten_comes_back_from_the_escrow(vault: Vault) -> None:
    device = vault.device(WHOLE)
    vault.guest("cryptsetup close vault1", check=False)
    vault.unlock(WHOLE, "vault1")
    vault.guest(f"yes '{MARKER}' | head -c {DATA} >/dev/mapper/vault1; sync; cryptsetup close vault1")
    vault.guest(f"dd if=/dev/zero of={device} bs=1M count=1 oflag=direct")
    code, said, _ = vault.enroll(WHOLE, "--reset")
    assert (code, "header-lost" in said["message"]) == (5, True), said
    shell = [
        "appliance",
        "lab",
        "shell",
        vault.machines.node.name,
        "--",
        "sh",
        "-c",
        "cat >/root/header.img",
    ]
    header = vault.folder / "header"
    header.write_bytes(vault.opened(WHOLE, "header"))
    with header.open("rb") as file:
        vault.machines.operator.run(shell, stdin=file)
    phrase = vault.opened(WHOLE).decode()
    command = f"cryptsetup open --readonly --header /root/header.img --key-file=- {device} vault1"
    vault.guest(f"{command} && {intact(WHOLE)} && cryptsetup close vault1", input=phrase)
    restore = f"cryptsetup luksHeaderRestore -q --header-backup-file /root/header.img {device}"
    assert vault.guest(restore, check=False).returncode != 0, "then docs/disk.md can say it simpler"
    by_name = f"/dev/disk/by-id/nvme-Simulated_Opal_drive_{vault.serial(WHOLE)}"
    vault.guest(f"dd if=/root/header.img of={by_name} bs=1M oflag=direct conv=fsync; rm /root/header.img")
    assert vault.status()[vault.serial(WHOLE)]["verdict"] == "enrolled"
    assert vault.enroll(WHOLE)[0] == 0
    vault.unlock(WHOLE, "vault1")
    vault.guest(intact(WHOLE))
