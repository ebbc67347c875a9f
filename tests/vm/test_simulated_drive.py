"""The simulated drive before a stock kernel, cryptsetup, sedutil and nvme-cli, none of which knows of it.

cryptsetup's own test for real drives, compat-test-opal, is the independent judge: 48 cases, all to pass.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest

from tests.vm.opal import Guest, fetch_tools, plug_in

if TYPE_CHECKING:
    from collections.abc import Iterator

    from conftest import Machines, NewMachines

    from tests.node.conftest import Done, Operator

pytestmark = [pytest.mark.vm, pytest.mark.archive]

CASES = 48
PIN = "pin of an administrator"
PHRASE = "correct horse"
FAST = "--pbkdf pbkdf2 --pbkdf-force-iterations 1000"


@pytest.fixture(scope="module")
def opal_machine(new_machines: NewMachines) -> Iterator[Machines]:
    with new_machines() as machines:
        yield machines


@pytest.fixture(scope="module")
def guest(
    opal_machine: Machines, desk: Operator, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Guest]:
    folder = tmp_path_factory.mktemp("rack")
    rack = plug_in(desk, folder, opal_machine.lab.operator[0], count=4)
    try:
        found = Guest(opal_machine, rack)
        found.take(fetch_tools(tmp_path_factory.mktemp("tools")))
        yield found
    finally:
        rack.process.terminate()
        rack.process.communicate(timeout=60)


def test_cryptsetup_formats_opens_locks_and_erases(guest: Guest) -> None:
    device = guest.connect(0)
    guest.run(f"printf %s '{PIN}' >/root/pin; printf %s '{PHRASE}' >/root/passphrase")
    # The volume's passphrase is asked for first, then the administrator's PIN: a line each.
    secrets = f"printf '%s\\n%s\\n' '{PHRASE}' '{PIN}'"
    guest.run(f"{secrets} | cryptsetup luksFormat -q --type luks2 --hw-opal {FAST} {device}")
    assert "hw-opal-crypt" in guest.run(f"cryptsetup luksDump {device}").stdout
    ranges = guest.rack.order("status")["ranges"]
    assert [one["read_locked"] for one in ranges if one["range_length"]] == [1]
    guest.run(f"cryptsetup open --key-file /root/passphrase {device} sed")
    guest.run(
        "head -c 1M /dev/urandom >/root/data && dd if=/root/data of=/dev/mapper/sed bs=64k oflag=direct"
    )
    guest.run("cryptsetup close sed")
    raw = f"dd if={device} of=/dev/null bs=64k skip=256 count=1 iflag=direct"
    assert guest.run(raw, check=False).returncode != 0, "a closed volume is locked"
    guest.run(f"cryptsetup open --key-file /root/passphrase {device} sed")
    guest.power_cycle(device)
    assert guest.run(raw, check=False).returncode != 0, "and so is one whose power failed while it was open"
    guest.run("cryptsetup close sed")
    guest.run(f"cryptsetup open --key-file /root/passphrase {device} sed")
    guest.run("cmp -n 1048576 /root/data /dev/mapper/sed")
    guest.run("cryptsetup close sed")
    guest.run(f"cryptsetup luksErase -q {device} </root/pin")
    state = guest.rack.order("status")
    assert (state["owned"], [one["range_length"] for one in state["ranges"]]) == (True, [0] * 9)
    guest.run(f"printf %s {state['psid']} >/root/psid")
    guest.run(f"cryptsetup luksErase -q --hw-opal-factory-reset --key-file /root/psid {device}")
    assert guest.rack.order("status")["owned"] is False


def test_sedutil_takes_a_drive_through_its_life(guest: Guest) -> None:
    device = guest.connect(1)
    psid = guest.rack.drives[1]["psid"]

    def sedutil(*arguments: str) -> Done:
        return guest.run(f"sedutil-cli {' '.join(arguments)} {device}")

    query = sedutil("--query").stdout
    assert "OPAL 2.0 function (0x0203)" in query
    assert guest.rack.drives[1]["serial"] in query
    assert "Locked = N, LockingEnabled = N, LockingSupported = Y" in query
    assert guest.rack.drives[1]["msid"] in sedutil("--printDefaultPassword").stdout
    sedutil("--initialSetup", "first")
    sedutil("--setMBREnable", "off", "first")
    sedutil("--setupLockingRange", "1", "2048", "4096", "first")
    sedutil("--enableLockingRange", "1", "first")
    guest.run(f"dd if=/dev/urandom of={device} bs=1M count=2 oflag=direct")
    sedutil("--setLockingRange", "1", "LK", "first")
    listed = (
        sedutil("--listLockingRanges", "first").stdout + sedutil("--listLockingRange", "1", "first").stderr
    )
    assert re.search(r"LR1 Begin 2048 for 4096", listed)
    raw = f"dd if={device} of=/dev/null bs=512 skip=2048 count=1 iflag=direct"
    assert guest.run(raw, check=False).returncode != 0
    sedutil("--setLockingRange", "1", "RO", "first")
    guest.run(raw)
    write = f"dd if=/dev/zero of={device} bs=512 seek=2048 count=1 oflag=direct"
    assert guest.run(write, check=False).returncode != 0
    sedutil("--setLockingRange", "1", "RW", "first")
    guest.run(write)
    before = guest.run(f"dd if={device} bs=1M count=2 iflag=direct | sha256sum").stdout
    sedutil("--rekeyLockingRange", "1", "first")
    assert guest.run(f"dd if={device} bs=1M count=2 iflag=direct | sha256sum").stdout != before
    # --enableuser of 1.20 wants two arguments and then reads a third: it cannot be called.
    sedutil("--setPassword", "first", "User3", "third")
    sedutil("--setAdmin1Pwd", "first", "second")
    sedutil("--setSIDPassword", "first", "second")
    sedutil("--listLockingRanges", "second")
    sedutil("--setMBRDone", "on", "second")
    sedutil("--revertNoErase", "second")
    sedutil("--revertTPer", "second")
    assert guest.rack.order("status", drive=1)["owned"] is False
    sedutil("--initialSetup", "first")
    sedutil("--PSIDrevert", psid)
    assert guest.rack.order("status", drive=1)["owned"] is False


def test_nvme_cli_initializes_locks_and_reverts(guest: Guest) -> None:
    """Passwords come on the standard input, since there is no terminal."""
    device = guest.connect(2)

    def sed(what: str, *lines: str) -> Done:
        given = "".join(f"{line}\n" for line in lines)
        return guest.run(f"setsid -w nvme sed {what} {device}", input=given)

    told = dict(line.split(":") for line in sed("discover").stdout.splitlines() if line.count(":") == 1)
    assert {key.strip(): value.strip() for key, value in told.items() if value.strip()} == {
        "Locking Supported": "yes",
        "Locking Feature Enabled": "no",
        "Locked": "no",
        "Media Encryption": "yes",
        "MBR Enabled": "no",
        "MBR Done": "no",
    }
    sed("initialize", "password one", "password one")
    state = guest.rack.order("status", drive=2)
    assert (state["owned"], state["active"]) == (True, True)
    sed("lock", "password one")
    raw = f"dd if={device} of=/dev/null bs=512 count=1 iflag=direct"
    assert guest.run(raw, check=False).returncode != 0
    sed("unlock", "password one")
    guest.run(raw)
    sed("revert", "password one")
    state = guest.rack.order("status", drive=2)
    assert (state["owned"], state["active"]) == (False, False)


def test_cryptsetups_own_test_for_real_drives_passes_whole(guest: Guest) -> None:
    device = guest.connect(3)
    (folder,) = guest.run("ls -d /root/cargo/cryptsetup-*/tests").stdout.split()
    guest.run(f"printf %s {guest.rack.drives[3]['psid']} >/root/psid3")
    settings = f"CRYPTSETUP_PATH=/usr/sbin OPAL2_DEV={device} OPAL2_PSID_FILE=/root/psid3"
    test = f"cd {folder} && {settings} bash ./compat-test-opal 2>&1"
    done = guest.run(test, check=False, timeout=3600)
    cases = [int(number) for number in re.findall(r"^CASE: \[(\d+)\]", done.stdout, re.MULTILINE)]
    assert done.returncode == 0, done.stdout[-3000:]
    assert cases == list(range(CASES)), done.stdout
