"""The network roles on a fresh node: check, apply, apply again, and what the node can then do.

The module's node goes through one history, in ``history``; each test asks one question of it.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest

from tests.node.roles.damages import together

if TYPE_CHECKING:
    from collections.abc import Callable

pytestmark = pytest.mark.node

#: Everything a run could change on the node, each as one text: files, packages, live network.
STATE = {
    "files": (
        "find /etc /opt /srv /usr/local /var/lib/appliance -path /var/lib/appliance/staged -prune"
        " -o -printf '%p %M %U:%G %l\\n' | sort; find /etc /usr/local -type f -exec sha256sum {} + | sort"
    ),
    "packages": "cat /var/lib/dpkg/status",
    "apt": "find /var/lib/apt /var/cache/apt -printf '%p %s %T@\\n' | sort",
    "addresses": "ip -o address | sed 's/ tentative//; s/valid_lft.*//'",
    "routes": "ip -4 route; ip -6 route",
    "filter": "nft list ruleset 2>/dev/null | grep -v counter; true",
    "settings": "sysctl -a 2>/dev/null | grep -E '^net.ipv[46].conf' | sort; true",
    "units": "systemctl list-unit-files --no-legend; systemctl list-units --type=timer --all --no-legend",
}

#: Run on the node: tries to get a packet out, and prints what came of it.
REACH = """
import socket, subprocess, sys
kind, address = sys.argv[1:]
family = socket.AF_INET6 if ":" in address else socket.AF_INET
if kind == "icmp":
    sys.exit(subprocess.run(["ping", "-c", "1", "-W", "2", address], stdout=subprocess.DEVNULL).returncode)
with socket.socket(family, socket.SOCK_STREAM if kind == "tcp" else socket.SOCK_DGRAM) as sock:
    sock.settimeout(2)
    sock.connect((address, 7077))
    sock.send(b"hello")
    sys.exit(sock.recv(16) != b"hello")
"""

#: Run on the operator's side: an echo server on both families and both protocols.
ECHO = """
import socket, sys, threading
def tcp():
    with socket.create_server(("::", 7077), family=socket.AF_INET6, dualstack_ipv6=True) as server:
        while True:
            peer, _ = server.accept()
            with peer:
                peer.sendall(peer.recv(16))
def udp(family, address):
    with socket.socket(family, socket.SOCK_DGRAM) as sock:
        sock.bind((address, 7077))
        while True:
            data, sender = sock.recvfrom(16)
            sock.sendto(data, sender)
v4, v6 = sys.argv[1:]
for work in (tcp, lambda: udp(socket.AF_INET, v4), lambda: udp(socket.AF_INET6, v6)):
    threading.Thread(target=work, daemon=True).start()
print("ready", flush=True)
sys.stdin.read()
"""

WAYS = [(kind, family) for kind in ("tcp", "udp", "icmp") for family in (4, 6)]


def state(node: Any) -> dict[str, str]:
    return {name: node.inside(command).stdout for name, command in STATE.items()}


def reaches(node: Any, address: str, kind: str) -> bool:
    import shlex

    done = node.inside(f"python3 -c {shlex.quote(REACH)} {kind} {address}", check=False)
    return bool(done.returncode == 0)


def ways_out(lab: Any) -> dict[tuple[str, int], bool]:
    """Which ways lead from the node to a listener on the operator's side."""
    import subprocess
    import sys

    echo = lab.node.operator_side.start([sys.executable, "-c", ECHO, *lab.operator], stdin=subprocess.PIPE)
    try:
        assert echo.stdout.readline() == "ready\n"
        return {(kind, family): reaches(lab.node, lab.operator[family == 6], kind) for kind, family in WAYS}
    finally:
        echo.communicate("")


@dataclass
class History:
    """What happened to the module's node, in order."""

    lab: Any
    site: Any
    ways_before: dict[tuple[str, int], bool]
    before: dict[str, str]
    check: Any
    after_check: dict[str, str]
    apply: Any
    again: Any
    check_again: Any


@pytest.fixture(scope="module")
def history(fresh_lab: Any, stage: Callable[[Any], None], new_site: Callable[[Any], Any]) -> History:
    lab, site = fresh_lab, new_site(fresh_lab)
    ways_before = ways_out(lab)
    before = state(lab.node)
    check = site.play(check=True)  # before anything is staged: the node is clean
    after_check = state(lab.node)
    stage(lab.node)
    apply = site.play()
    again, check_again = site.play(), site.play(check=True)
    return History(lab, site, ways_before, before, check, after_check, apply, again, check_again)


def test_every_way_out_was_open_before(history: History) -> None:
    """Otherwise a closed way afterwards would prove nothing."""
    assert all(history.ways_before.values()), history.ways_before


def test_check_on_a_clean_node_succeeds_and_tells_what_would_change(history: History) -> None:
    assert history.check.failed == {}, history.check.log
    assert history.check.changed == [
        "Deny everything but management SSH",
        "Have static addresses only, with no way out",
        "Have the node's folders",
        "Have the program that undoes an unconfirmed change",
        "Install the bundle's packages from the staged repository",
    ]


def test_check_on_a_clean_node_changes_nothing(history: History) -> None:
    for name, text in history.before.items():
        assert history.after_check[name] == text, name


def test_check_lists_the_named_packages_that_are_missing(history: History) -> None:
    diff = history.check.results("changed")["Install the bundle's packages from the staged repository"][
        "diff"
    ]
    names = [line.split()[0] for line in diff[0]["after"].splitlines() if not line.startswith("(")]
    assert names == ["netplan.io", "nftables", "ufw"]


def test_apply_succeeds(history: History) -> None:
    assert history.apply.failed == {}, history.apply.log


def test_a_second_run_changes_nothing(history: History) -> None:
    assert history.again.failed == {}, history.again.log
    assert history.again.changed == [], history.again.log
    assert history.check_again.changed == [], history.check_again.log


def test_no_way_leads_out(history: History) -> None:
    ways = ways_out(history.lab)
    assert not any(ways.values()), ways


def test_ssh_works_from_the_management_addresses_only(history: History) -> None:
    lab = history.lab
    for family in (0, 1):
        address = (lab.node.address4, lab.node.address6)[family]
        for source, expected in ((lab.operator[family], True), (lab.foreign[family], False)):
            probe = (
                f"import socket; socket.create_connection(({address!r}, 22), 2, ({source!r}, 0)).recv(3)"
            )
            done = lab.node.operator_side.run(["python3", "-c", probe], check=False)
            assert (done.returncode == 0) is expected, (address, source, done.stderr)


def test_the_node_does_not_answer_ping(history: History) -> None:
    lab = history.lab
    for address in (lab.node.address4, lab.node.address6):
        done = lab.node.operator_side.run(["ping", "-c", "1", "-W", "1", address], check=False)
        assert done.returncode != 0, address


def test_no_route_but_to_the_nodes_own_networks(history: History) -> None:
    routes = [
        json.loads(history.lab.node.inside(f"ip -json {family} route").stdout) for family in ("-4", "-6")
    ]
    assert [entry["dst"] for entry in routes[0]] == [
        entry["dst"] for entry in routes[0] if "gateway" not in entry
    ]
    assert all(
        entry["dst"] != "default" and entry["protocol"] == "kernel" for family in routes for entry in family
    )


def test_only_the_declared_addresses_are_left(history: History) -> None:
    links = json.loads(history.lab.node.inside("ip -json address show").stdout)
    found = {
        f"{row['local']}/{row['prefixlen']}"
        for link in links
        if link["ifname"] != "lo"
        for row in link["addr_info"]
    }
    assert found == set(history.site.node["interfaces"][0]["addresses"])


def test_names_are_refused_at_once(history: History) -> None:
    done = history.lab.node.inside("timeout 5 getent hosts example.org", check=False)
    assert done.returncode == 2  # getent(1): not found; 124 would be a wait


def test_the_configuration_of_before_is_kept(history: History) -> None:
    kept = history.lab.node.inside(
        "cd /var/lib/appliance/replaced/*-network && find . -type f -o -type l"
    ).stdout
    assert "./etc/resolv.conf" in kept.split()
    assert any(path.startswith("./etc/systemd/network/") for path in kept.split())


def test_the_revert_is_disarmed_and_gone(history: History) -> None:
    status = json.loads(history.lab.node.inside("appliance-revert status").stdout)
    assert status == {"pending": False, "armed": None, "fired": None}
    assert history.lab.node.inside("ls /etc/systemd/system").stdout.count("appliance-revert") == 0


def test_nothing_of_the_staged_repository_enters_the_nodes_apt(history: History) -> None:
    now = history.lab.node.inside(STATE["apt"]).stdout
    lists = [line for line in now.splitlines() if line.startswith("/var/lib/apt/lists")]
    assert lists == [
        line for line in history.before["apt"].splitlines() if line.startswith("/var/lib/apt/lists")
    ]


NETWORK, FIREWALL = "Have static addresses only, with no way out", "Deny everything but management SSH"

#: Ways in which a node drifts away from what was declared, and the task that puts it right.
DRIFT = {
    "iptables -I OUTPUT -j ACCEPT": FIREWALL,
    "ip6tables -P OUTPUT ACCEPT": FIREWALL,
    "ufw allow 80/tcp": FIREWALL,
    "ufw disable": FIREWALL,
    "systemctl disable ufw": FIREWALL,
    "echo '# edited' >> /etc/ufw/before6.rules": FIREWALL,
    "chmod 755 /etc/ufw/before.init": FIREWALL,
    "ip route add default via $PEER": NETWORK,
    "ip address add 192.0.2.7/24 dev $DEVICE": NETWORK,
    "echo nameserver 192.0.2.1 > /etc/resolv.conf": NETWORK,
    "printf '[Match]\\nName=*\\n[Network]\\nDHCP=yes\\n' > /etc/systemd/network/00-own.network": NETWORK,
    "echo 1 > /proc/sys/net/ipv6/conf/$DEVICE/accept_ra": NETWORK,
    "systemctl stop systemd-networkd.socket systemd-networkd": NETWORK,
}


def break_something(history: History, damage: str) -> None:
    node = history.lab.node
    device = json.loads(node.inside("ip -json route").stdout)[0]["dev"]
    node.inside(f"DEVICE={device} PEER={history.lab.operator[0]}; {damage}")


def test_check_tells_of_drift_and_leaves_it(history: History) -> None:
    for damage in ("ufw allow 80/tcp", "ip route add default via $PEER"):
        break_something(history, damage)
    before = state(history.lab.node)
    assert history.site.play(check=True).changed == [FIREWALL, NETWORK]
    after = state(history.lab.node)
    for name, text in before.items():
        assert after[name] == text, name
    assert history.site.play().failed == {}


@pytest.mark.parametrize("damages", together(DRIFT), ids=" and ".join)
def test_what_drifted_is_put_right(history: History, damages: tuple[str, ...]) -> None:
    """By the task it belongs to and no other, so nothing of an earlier damage was left either."""
    for damage in damages:
        break_something(history, damage)
    repaired = history.site.play(tags=("revert", "network_isolation", "firewall"))
    assert repaired.failed == {}, repaired.log
    wanted = {DRIFT[damage] for damage in damages} | {"Confirm the change over a fresh connection"}
    assert repaired.changed == sorted(wanted), repaired.log


def test_isolation_outlives_a_power_cut(history: History) -> None:
    """What boots is what was declared: the files say the same as the live state."""
    history.lab.node.reboot(power_cut=True)
    ways = ways_out(history.lab)
    assert not any(ways.values()), ways
    again = history.site.play()
    assert again.failed == {}
    assert again.changed == [], again.log
