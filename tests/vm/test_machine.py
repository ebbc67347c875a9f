"""A virtual machine is what docs/lab.md says of it: a stock kernel, three interfaces, a plug to pull."""

from __future__ import annotations

import json
import os
import subprocess
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from conftest import Machines, NewMachines

    from tests.node.conftest import Operator

pytestmark = pytest.mark.vm

PING = "ping -n -c 1 -W 5"
INTERFACES = {"management": "enp1s0", "export": "enp2s0", "data": "enp3s0"}


def test_the_kernel_is_the_stock_one_of_trixie_and_not_this_machines(machines: Machines) -> None:
    run = machines.node.run
    kernel = run("uname -r").stdout.strip()
    assert kernel != os.uname().release
    assert run(f"dpkg-query -W -f '${{db:Status-Status}}' linux-image-{kernel}").stdout == "installed"
    assert "VERSION_CODENAME=trixie\n" in run("cat /etc/os-release").stdout
    assert run("systemctl is-system-running").stdout == "running\n"
    for module in ("dm-crypt", "nvme-tcp", "virtio-net"):
        run(f"modprobe {module}")


def test_udev_names_three_interfaces_with_the_addresses_of_the_inventory(machines: Machines) -> None:
    links = {link["ifname"]: link for link in json.loads(machines.node.run("ip -json address").stdout)}
    wanted = {nic["purpose"]: nic for nic in machines.node_status()["interfaces"]}
    assert set(wanted) == set(INTERFACES)
    assert set(links) == {"lo", *INTERFACES.values()}
    inventory = (machines.lab.inventory / "inventory.yml").read_text()
    for purpose, name in INTERFACES.items():
        assert links[name]["address"] == wanted[purpose]["mac"]
        assert {info["local"] for info in links[name]["addr_info"]} >= set(wanted[purpose]["addresses"])
        assert wanted[purpose]["mac"] in inventory
    names = machines.node.run("udevadm info /sys/class/net/enp2s0").stdout
    assert "ID_NET_NAME_PATH=enp2s0" in names


def test_every_interface_leads_to_the_operator_and_is_captured(machines: Machines) -> None:
    for purpose, segment in machines.status()["segments"].items():
        for address in segment["operator"]:
            machines.node.run(f"{PING} {address}")
        mac = bytes.fromhex(_nic(machines, purpose)["mac"].replace(":", ""))
        sent = [frame for frame in machines.frames(purpose) if frame[6:12] == mac]
        # Echo requests of both families: IPv4's protocol 1, type 8; IPv6's next header 58, type 128.
        assert any(frame[12:14] == b"\x08\x00" and (frame[23], frame[34]) == (1, 8) for frame in sent)
        assert any(frame[12:14] == b"\x86\xdd" and (frame[20], frame[54]) == (58, 128) for frame in sent)
        others = {name for name in INTERFACES if name != purpose}
        assert not any(mac in frame for name in others for frame in machines.frames(name))


def _nic(machines: Machines, purpose: str) -> dict[str, str]:
    return next(nic for nic in machines.node_status()["interfaces"] if nic["purpose"] == purpose)


def test_frames_are_kept_from_the_first_one_on(machines: Machines) -> None:
    """Before it answers anybody, the node's kernel tells which multicast groups it is in."""
    mac = bytes.fromhex(machines.node.mac.replace(":", ""))
    sent = [frame for frame in machines.frames("management") if frame[6:12] == mac]
    multicast = next(at for at, frame in enumerate(sent) if frame[:2] == b"\x33\x33")
    answer = next(at for at, frame in enumerate(sent) if frame[12:14] == b"\x08\x00")
    assert multicast < answer


def test_the_emulator_itself_has_no_network(machines: Machines) -> None:
    enter = ["nsenter", "--target", str(machines.node.leader), "--net", "--", "ip", "-json", "link"]
    links = json.loads(subprocess.check_output(enter))
    assert [link["ifname"] for link in links] == ["lo"]
    assert "UP" not in links[0]["flags"]


def test_there_is_an_empty_nvme_drive(machines: Machines) -> None:
    assert machines.node.run("cat /sys/class/nvme/nvme0/serial").stdout.strip().startswith("PRACTICE")
    (drive,) = json.loads(
        machines.node.run("lsblk --json --output NAME,FSTYPE,PTTYPE /dev/nvme0n1").stdout
    )["blockdevices"]
    assert drive == {"name": "nvme0n1", "fstype": None, "pttype": None}


def test_a_copy_takes_on_its_own_identity_and_leaves_no_trace_of_the_lab(machines: Machines) -> None:
    run = machines.node.run
    before = int(time.time())
    now = int(run("date +%s").stdout)
    assert before - 2 <= now <= time.time() + 2
    assert "crng reseeded due to virtual machine fork" in run("dmesg").stdout
    assert run("hostname").stdout == f"{machines.node.name}\n"
    assert run("find / -xdev -name '*practice*' -not -path '/etc/initramfs-tools/*'").stdout == ""
    assert run("journalctl -b --quiet -n 1 | wc -l").stdout == "1\n"


def test_what_is_synced_survives_a_power_cut_and_nothing_is_shut_down(machines: Machines) -> None:
    node = machines.node
    node.run(
        "systemd-run --quiet -p ExecStop='/bin/touch /etc/stopped' -p RemainAfterExit=yes true;"
        "echo kept > /etc/kept; sync; echo lost > /etc/unsynced"
    )
    boots = machines.node_status()["boots"]
    machines.power("cut")
    assert machines.node_status()["state"] == "off"
    machines.power("cut")
    refused = machines.operator.run(["appliance", "lab", "power", "reset", node.name], check=False)
    assert (refused.returncode, f"lab power on {node.name}" in refused.stderr) == (7, True)
    machines.power("on")
    seconds = machines.processor_seconds()
    print(f"\nprocessor seconds until ready: from its disk {seconds:.1f}, as a copy {machines.ready:.1f}")
    # On a free machine a third.  A copy that has to wait looks for its identity time and again meanwhile.
    assert machines.ready * 1.5 < seconds
    assert "virtual machine fork" not in node.run("dmesg").stdout
    assert node.run("cat /etc/kept").stdout == "kept\n"
    # The counterpart: what the kernel still held is gone, so the plug was really pulled.
    assert node.run("cat /etc/unsynced", check=False).stdout == ""
    assert node.run("test -e /etc/stopped", check=False).returncode == 1
    assert machines.node_status()["boots"] == boots + 1
    assert {link["ifname"] for link in json.loads(node.run("ip -json link").stdout)} == {
        "lo",
        *INTERFACES.values(),
    }
    assert machines.frames("management", boot=boots + 1), "a new file for each time it is switched on"


def test_switching_on_what_is_on_changes_nothing(machines: Machines) -> None:
    before = machines.node_status()
    machines.power("on")
    assert machines.node_status() == before


def test_the_reset_button_boots_again_within_the_same_emulator(machines: Machines) -> None:
    node = machines.node
    before, boot = machines.node_status(), node.run("cat /proc/sys/kernel/random/boot_id").stdout
    node.run("touch /run/lost; echo kept > /etc/kept; sync")
    machines.power("reset")
    after = machines.node_status()
    assert (after["leader"], after["boots"]) == (before["leader"], before["boots"] + 1)
    assert node.run("cat /proc/sys/kernel/random/boot_id").stdout != boot
    assert node.run("test -e /run/lost", check=False).returncode == 1
    assert node.run("cat /etc/kept").stdout == "kept\n"


def test_a_node_that_shuts_itself_down_is_off_and_comes_back_in_order(machines: Machines) -> None:
    """``lab reboot`` presses the power button: systemd on the node runs what is to run at the end."""
    node = machines.node
    node.run("systemd-run --quiet -p ExecStop='/bin/touch /etc/stopped' -p RemainAfterExit=yes true")
    leader = node.leader
    node.reboot()
    assert node.run("ls /etc/stopped").stdout == "/etc/stopped\n"
    assert not Path(f"/proc/{leader}").exists()


def test_the_console_shows_the_boots(machines: Machines, desk: Operator) -> None:
    console = desk.run(["appliance", "lab", "console", machines.node.name]).stdout
    assert f"{machines.node.name} login: " in console
    last = desk.run(["appliance", "lab", "console", machines.node.name, "--lines", "1", "--json"]).stdout
    assert console.splitlines()[-1:] == json.loads(last)["console"].splitlines()


def test_copies_of_a_booted_machine_share_no_secret(new_machines: NewMachines) -> None:
    with new_machines("--nodes", "2") as copies:
        seen = [
            [node.run(command).stdout for node in copies.lab.nodes]
            for command in (
                "cat /etc/machine-id",
                "cat /etc/ssh/ssh_host_ed25519_key",
                "head -c 16 /dev/urandom | od -An -tx1",
            )
        ]
        first, second = copies.lab.nodes
        first.run(f"{PING} {second.address4} && {PING} {second.address6}")
    assert all(one != other for one, other in seen)
