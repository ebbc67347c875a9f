"""The export's walls on a kernel, a network driver and an auditd of their own.

The frames of ``tests/node/test_one_way_frames.py`` are thrown at a virtio card in a machine, from the
host's end of its cable; there they are captured.  What auditd writes comes out at a receiver.

This module comes after ``test_zero_packets`` by its name: it makes an exporter of the session's machine,
which until then sends nothing that its inventory does not name.  Its tests build on each other.
"""

from __future__ import annotations

import json
import os
import re
from collections import Counter
from typing import TYPE_CHECKING

import pytest

from appliance.export.line.settings import DEVICE
from tests.node.awaiting import awaited
from tests.node.thrown import is_exported, kinds, thrown
from tests.vm.exporting import AUDIT_LOG, ENVIRONMENT, PROGRAM, Exporting, exporting_machine

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.node.conftest import Operator
    from tests.vm.isolated import Isolated

pytestmark = [pytest.mark.vm, pytest.mark.archive]


@pytest.fixture(scope="module")
def exporting(
    isolated: Isolated, desk: Operator, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Exporting]:
    yield from exporting_machine(isolated, desk, tmp_path_factory.mktemp("exporting"))


LOOK = f"""
{PROGRAM} export line show --json
uname -r
nsenter --net=/run/netns/appliance-export -- {ENVIRONMENT}/bin/python -Ic '
from appliance.export.line.card import driver
print(driver("{DEVICE}"))'
"""


def test_the_walls_stand_in_the_driver_of_a_kernel_of_its_own(exporting: Exporting) -> None:
    shown, kernel, driver = exporting.node.run(LOOK).stdout.rstrip().rsplit("\n", 2)
    found = json.loads(shown)
    assert (found.get("faults"), found.get("rules_hold")) == ([], True), shown
    assert (driver, found["xdp"]["mode"]) == ("virtio_net", "native")
    assert kernel != os.uname().release
    assert found["received_since_up"] == 0, "the wire is silent"
    states = {each["name"]: each["state"] for each in found["card"]}
    assert states.keys() == {"pause", "wake-on-lan", "lldp-agent", "sr-iov", "roce", "nc-si"}
    assert "on" not in states.values()
    stated = awaited(
        lambda: (exporting.status().get("checkpoint") or {}).get("digests"), "a checkpoint", PATIENCE
    )
    assert stated == found["digests"]
    assert stated.keys() == {"ruleset", "xdp", "sysctl"}


def test_nothing_comes_in_and_nothing_is_answered(exporting: Exporting) -> None:
    frames = thrown(exporting.card)
    assert len(kinds(exporting.card)) >= 18
    # Else the card keeps groups that nobody joined from the kernel, and fewer would be shown.
    exporting.inside(f"ip link set dev {DEVICE} promisc on")
    heard = exporting.ends.inject(frames)
    assert (heard.received, heard.ip, heard.program) == (len(frames), 0, 0)
    assert [each for each in heard.answers if not is_exported(each)] == []
    awaited(lambda: exporting.heard("frames came in at the export's card"), "the alarm", PATIENCE)


#: A record of a rule of the role quiet_host, one that a person gives, and what auditd has written by then.
AUDITED = f"""
touch /etc/audit/rules.d/90-appliance.rules
auditctl -m ward-7
sleep 1
systemctl is-active auditd
cat {AUDIT_LOG}
"""
#: Seconds in which the machine, slow as it is, has done what it does by itself.
PATIENCE = 240
SERIAL = re.compile(r"^type=(\S+) msg=audit\([0-9.]+:([0-9]+)\)", re.MULTILINE)


def test_what_auditd_writes_comes_out_at_the_receiver(exporting: Exporting) -> None:
    """The kernel's own records, each once: real auditd, which no container can have."""
    active, _, log = exporting.node.run(AUDITED).stdout.partition("\n")
    assert active == "active"
    written = Counter(SERIAL.findall(log))
    assert {"DAEMON_START", "SYSCALL", "PATH", "USER"} <= {kind for kind, _ in written}

    def all_there() -> bool:
        fields = [each["record"]["fields"] for each in exporting.records() if "record" in each]
        found = Counter((each["type"], str(each["serial"])) for each in fields if "serial" in each)
        return all(found[each] == count for each, count in written.items())

    awaited(all_there, "every record of the audit log, once", PATIENCE)
    assert exporting.heard("ward-7")
    assert exporting.status()["refused"] == {}


def test_without_the_rules_xdp_holds_alone(exporting: Exporting) -> None:
    frames = thrown(exporting.card)
    exporting.inside("nft flush ruleset")
    heard = exporting.ends.inject(frames)
    assert (heard.received, heard.dropped, heard.ip, heard.program) == (len(frames), 0, 0, 0)
    assert [each for each in heard.answers if not is_exported(each)] == []
    awaited(lambda: exporting.heard("no chain of nftables drops"), "the alarm, which got out", PATIENCE)
    awaited(lambda: exporting.status()["walls_changed"], "another digest in a checkpoint", PATIENCE)


def test_nothing_but_the_export_has_left_the_card(exporting: Exporting) -> None:
    """As QEMU saw it, from the link's first moment on."""
    sent = exporting.sent()
    assert len(sent) > 20
    assert [each for each in sent if not is_exported(each)] == []


def test_the_same_frames_get_in_and_are_answered_where_there_is_no_wall(exporting: Exporting) -> None:
    """What the tests above are worth.  Whoever watches would switch the link off, and so ends first."""
    exporting.node.run("systemctl stop appliance-export-watch")
    names = ("conf/all/arp_ignore", f"conf/{DEVICE}/arp_ignore", "icmp_echo_ignore_all")
    settings = [f"/proc/sys/net/ipv4/{each}" for each in names]
    exporting.inside(
        f"ip link set dev {DEVICE} xdp off; ip link set dev {DEVICE} arp on;"
        f" for each in {' '.join(settings)}; do echo 0 > $each; done"
    )
    heard = exporting.ends.inject(thrown(exporting.card))
    assert heard.ip > 5
    assert heard.program >= 3
    assert len([each for each in heard.answers if not is_exported(each)]) >= 2
