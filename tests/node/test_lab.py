"""A practice node is what docs/lab.md says of it: freshly racked, reachable, and no way further."""

from __future__ import annotations

import json
import os
import subprocess
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

    from conftest import NewLab, Operator, PracticeLab, PracticeNode

pytestmark = pytest.mark.node

PING = "ping -n -c 1 -W 1"


def test_root_can_log_in_over_ssh_and_from_the_side(practice_node: PracticeNode) -> None:
    assert practice_node.run("hostname").stdout == f"{practice_node.name}\n"
    assert practice_node.inside("hostname").stdout == f"{practice_node.name}\n"


def test_a_node_boots_without_a_failed_unit(practice_node: PracticeNode) -> None:
    assert practice_node.run("systemctl is-system-running").stdout == "running\n"


def test_a_node_has_a_way_out_to_lose(practice_lab: PracticeLab) -> None:
    operator4, operator6 = practice_lab.operator
    run = practice_lab.node.run
    assert f"via {operator4} dev host0" in run("ip -4 route show default").stdout
    assert f"via {operator6} dev host0" in run("ip -6 route show default").stdout
    assert run("cat /etc/resolv.conf").stdout == f"nameserver {operator4}\nnameserver {operator6}\n"
    assert run("command -v nft ufw iptables", check=False).returncode != 0


def test_a_node_reaches_every_address_of_the_operator(practice_lab: PracticeLab) -> None:
    for address in (*practice_lab.operator, *practice_lab.foreign):
        practice_lab.node.run(f"{PING} {address}")


def test_a_node_has_the_address_the_inventory_names(practice_node: PracticeNode) -> None:
    (link,) = json.loads(practice_node.run("ip -json address show host0").stdout)
    assert link["address"] == practice_node.mac
    addresses = {info["local"] for info in link["addr_info"]}
    assert {practice_node.address4, practice_node.address6} <= addresses


def test_a_node_holds_nothing_of_the_machine_that_built_it(practice_node: PracticeNode) -> None:
    assert (
        practice_node.run("cat /etc/apt/sources.list.d/* /etc/apt/sources.list", check=False).stdout == ""
    )
    assert practice_node.run("ls /etc/ssh/ssh_host_*").stdout == "/etc/ssh/ssh_host_ed25519_key\n"


def test_udev_answers_as_netplan_needs(practice_node: PracticeNode) -> None:
    practice_node.run("systemctl is-active systemd-udevd && udevadm settle --timeout 10")


def test_systemd_on_a_node_really_denies_addresses(practice_lab: PracticeLab) -> None:
    unit = "systemd-run --quiet --wait --pipe"
    ping = f"{PING} {practice_lab.operator[0]}"
    practice_lab.node.run(f"{unit} {ping}")
    assert practice_lab.node.run(f"{unit} -p IPAddressDeny=any {ping}", check=False).returncode != 0


def test_a_command_on_the_node_keeps_its_arguments_and_exit_code(
    operator: Operator, practice_node: PracticeNode
) -> None:
    shell = ["appliance", "lab", "shell", practice_node.name, "--"]
    done = operator.run([*shell, "printf", "%s|", "a b", "$HOME", "'", "--json"])
    assert done.stdout == "a b|$HOME|'|--json|"
    assert operator.run([*shell, "sh", "-c", "exit 41"], check=False).returncode == 41


def test_lab_status_tells_what_these_tests_look_up_by_themselves(
    operator: Operator, practice_lab: PracticeLab
) -> None:
    labs = json.loads(operator.run(["appliance", "lab", "status", "--json"]).stdout)["labs"]
    assert [lab for lab in labs if lab["name"] == practice_lab.name] == [
        operator.lab_status(practice_lab.name)
    ]


def test_another_host_key_is_refused(new_lab: NewLab) -> None:
    with new_lab(nodes=2) as lab:
        known_hosts = lab.inventory / "known_hosts"
        lines = [line.split(" ", 1) for line in known_hosts.read_text().splitlines()]
        (hosts1, key1), (hosts2, key2) = lines
        known_hosts.write_text(f"{hosts1} {key2}\n{hosts2} {key1}\n")
        for node in lab.nodes:
            assert node.run("true", check=False).returncode == 255


def test_nodes_of_a_lab_share_a_segment_and_an_inventory(new_lab: NewLab) -> None:
    with new_lab(nodes=3) as lab:
        first, _, third = lab.nodes
        first.run(f"{PING} {third.address4} && {PING} {third.address6}")
        assert len({node.run("cat /etc/machine-id").stdout for node in lab.nodes}) == 3
        inventory = (lab.inventory / "inventory.yml").read_text()
        assert all(node.name in inventory for node in lab.nodes)


def test_labs_beside_each_other_share_nothing(practice_lab: PracticeLab, new_lab: NewLab) -> None:
    with new_lab() as other:
        assert not set(other.operator) & set(practice_lab.operator)
        # The other segment is a directly connected network of the operator, and still out of reach.
        assert practice_lab.node.run(f"{PING} {other.node.address4}", check=False).returncode != 0
        assert practice_lab.node.run(f"{PING} {other.node.address6}", check=False).returncode != 0


@pytest.fixture
def router(operator: Operator) -> Iterator[Operator]:
    """An operator's side that is a router, before a world that knows the way back; IPv6 off by default."""
    router, world = f"appliance-router-{os.getpid()}", f"appliance-world-{os.getpid()}"
    script = f"""
        ip netns add {router}; ip netns add {world}
        ip -n {router} link add up0 type veth peer name down0 netns {world}
        ip -n {router} link set lo up; ip -n {router} link set up0 up; ip -n {world} link set down0 up
        ip -n {router} address add 192.0.2.1/24 dev up0
        ip -n {router} address add 2001:db8::1/64 dev up0 nodad
        ip -n {world} address add 192.0.2.2/24 dev down0
        ip -n {world} address add 2001:db8::2/64 dev down0 nodad
        ip -n {world} route add default via 192.0.2.1
        ip -n {world} route add default via 2001:db8::1
        ip netns exec {router} sh -c 'echo 1 > /proc/sys/net/ipv4/ip_forward'
        ip netns exec {router} sh -c 'echo 1 > /proc/sys/net/ipv6/conf/all/forwarding'
        ip netns exec {router} sh -c 'echo 1 > /proc/sys/net/ipv6/conf/default/disable_ipv6'
    """
    subprocess.run(["sh", "-euc", script], check=True)
    yield replace(operator, netns=router)
    subprocess.run(["sh", "-euc", f"ip netns delete {router}; ip netns delete {world}"], check=True)


def test_nothing_is_forwarded_from_a_node_even_by_a_router(router: Operator) -> None:
    router.run(["appliance", "lab", "up", "caged"])
    try:
        shell = ["appliance", "lab", "shell", "caged", "--", *PING.split()]
        for address in ("192.0.2.2", "2001:db8::2"):
            assert router.run([*shell, address], check=False).returncode == 1
        # The counterpart: without the lab's rules both packets find the way, and back.
        (bridge,) = json.loads(router.run(["ip", "-json", "link", "show", "type", "bridge"]).stdout)
        for family in ("-4", "-6"):
            router.run(["ip", family, "rule", "delete", "iif", bridge["ifname"], "blackhole"])
        for address in ("192.0.2.2", "2001:db8::2"):
            router.run([*shell, address])
    finally:
        router.run(["appliance", "lab", "down", "caged"])


# A router advertisement (RFC 4861, section 4.2) to all nodes on the link, with the hop limit it needs.
ADVERTISE = """
import socket, struct
link = socket.if_nametoindex("host0")
sender = socket.socket(socket.AF_INET6, socket.SOCK_RAW, socket.IPPROTO_ICMPV6)
sender.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_HOPS, 255)
sender.sendto(struct.pack("!BBHBBHII", 134, 0, 0, 64, 0, 1800, 0, 0), ("ff02::1", 0, 0, link))
"""


# An advertisement counts only from a link-local address, and a new one is first looked for on the link.
DETECTED = 'until [ -z "$(ip -6 address show dev host0 tentative)" ]; do :; done'


def test_a_node_cannot_give_the_operator_a_route(operator: Operator, new_lab: NewLab) -> None:
    with new_lab() as lab:
        lab.node.run(f"timeout 30 sh -c '{DETECTED}'")

        def routes_after_advertising() -> str:
            # The answered ping tells that the packet sent before it has been received.
            lab.node.run(f"python3 -c '{ADVERTISE}' && {PING} {lab.operator[1]}")
            return operator.run(["ip", "-6", "route", "show", "default"]).stdout

        assert routes_after_advertising() == ""
        # The counterpart: an operator's side that believes advertisements gets its route.
        (link,) = [
            link["ifname"]
            for link in json.loads(operator.run(["ip", "-json", "address"]).stdout)
            if lab.operator[0] in {info["local"] for info in link["addr_info"]}
        ]
        operator.run(["sh", "-c", f"echo 1 > /proc/sys/net/ipv6/conf/{link}/accept_ra"])
        assert f"dev {link}" in routes_after_advertising()


def test_only_the_disk_survives_a_reboot(fresh_lab: PracticeLab) -> None:
    node = fresh_lab.node
    before = node.leader
    node.run("echo kept > /etc/kept; ip address add 10.9.9.9/32 dev host0; touch /run/lost")
    node.reboot()
    assert node.run("cat /etc/kept").stdout == "kept\n"
    assert "10.9.9.9" not in node.run("ip address").stdout
    assert node.run("test -e /run/lost", check=False).returncode == 1
    assert node.leader != before
    assert not Path(f"/proc/{before}").exists()


def test_a_power_cut_runs_no_shutdown(fresh_lab: PracticeLab) -> None:
    node = fresh_lab.node
    node.run(
        "systemd-run --quiet -p ExecStop='/bin/touch /etc/stopped' -p RemainAfterExit=yes true;"
        "echo kept > /etc/kept; sync"
    )
    node.reboot(power_cut=True)
    assert node.run("cat /etc/kept").stdout == "kept\n"
    assert node.run("test -e /etc/stopped", check=False).returncode == 1
    # The counterpart: shutting down in order does run it.
    node.run("systemd-run --quiet -p ExecStop='/bin/touch /etc/stopped' -p RemainAfterExit=yes true")
    node.reboot()
    node.run("test -e /etc/stopped")


def test_reboot_typed_on_the_node_works(fresh_lab: PracticeLab, operator: Operator) -> None:
    node = fresh_lab.node
    boots = operator.lab_status(fresh_lab.name)["nodes"][0]["boots"]
    node.run("systemctl reboot")
    deadline = time.monotonic() + 240
    while not _ran(operator.lab_status(fresh_lab.name)["nodes"][0], boots + 1):
        assert time.monotonic() < deadline
        time.sleep(0.2)
    assert node.run("systemctl is-system-running --wait").stdout == "running\n"


def _ran(node: dict[str, object], boots: int) -> bool:
    return node["boots"] == boots and node["state"] == "running"


def test_a_node_that_powers_off_is_off_and_can_be_switched_on(
    fresh_lab: PracticeLab, operator: Operator
) -> None:
    fresh_lab.node.inside("systemctl poweroff")
    deadline = time.monotonic() + 240
    while operator.lab_status(fresh_lab.name)["nodes"][0]["state"] != "off":
        assert time.monotonic() < deadline
        time.sleep(0.2)
    fresh_lab.node.reboot()
    assert fresh_lab.node.run("hostname").returncode == 0
