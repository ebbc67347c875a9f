"""What real hosts sent, and what they were content to be answered: byte for byte the same today.

Recorded from Linux 6.12 of Debian trixie on a virtual machine, which was connected to drives with these
PINs, and then used in this order, every command ending with success unless it says otherwise:

* cryptsetup 2.7.5: luksFormat --hw-opal, open, close, open, close, luksErase, luksErase
  --hw-opal-factory-reset.
* nvme-cli 2.13 ``sed``: initialize, lock, unlock, password, revert (which fails: it asks for one password,
  and SID's is still the first).
* sedutil 1.20: --initialSetup, --setupLockingRange, --setLockingRange LK, --listLockingRanges,
  --rekeyLockingRange, --setPassword of a user, --loadPBAimage, --revertNoErase, --revertTPer.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.unit.lab.drive.host import ADMIN_SP, OK, SID

if TYPE_CHECKING:
    from tests.unit.lab.drive.conftest import NewBench

RECORDED = Path(__file__).with_name("recorded")
MSID, PSID = "MSID" * 8, "PSID" * 8


@pytest.mark.parametrize(
    ("who", "messages", "owned"),
    [("cryptsetup", 63, False), ("nvme-cli", 28, True), ("sedutil", 70, False)],
)
def test_real_hosts_get_the_answers_they_got(
    new_bench: NewBench, who: str, messages: int, owned: bool
) -> None:
    bench = new_bench(size=64 << 20, msid=MSID, psid=PSID)
    sent = 0
    for line in (RECORDED / f"{who}.jsonl").read_text().splitlines():
        entry = json.loads(line)
        data = bytes.fromhex(entry["data"])
        if "send" in entry:
            protocol, specific, length = entry["send"]
            bench.security.send(protocol, specific, data.ljust(length, b"\0"))
            sent += 1
        else:
            protocol, specific, length = entry["receive"]
            assert bench.security.receive(protocol, specific, length) == data.ljust(length, b"\0")
    assert sent == messages
    assert bench.tper.session is None
    assert bench.host.start(ADMIN_SP, SID, "password one" if owned else MSID) == OK
