"""The whole installation on a kernel and a udev of its own: what a container cannot show of it.

The machine has a bond of two cards with large frames, and a VLAN on it.  Every frame that it sends is kept
on the far side of its cards, and judged by the inventory.  Tests of this module build on each other.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from appliance.lab.reach import ssh_command
from tests.vm.isolated import ECHO_PORT, PURPOSES

if TYPE_CHECKING:
    from tests.node.conftest import Operator
    from tests.vm.isolated import Isolated

pytestmark = [pytest.mark.vm, pytest.mark.archive]


def test_before_it_is_installed_the_machine_is_heard_on_every_wire(isolated: Isolated) -> None:
    """The control of all that follows: what the machine sends is captured, read and found beyond."""
    heard = {each.card: each for each in isolated.judged(1)}
    assert set(heard) == {"mgmt", "export", "data0", "data1"}
    for card in ("mgmt", "export", "data0"):
        said = {(stray.says.destination, stray.says.destination_port) for stray in heard[card].strays}
        assert ("255.255.255.255", 9) in said, card
    aims = {stray.says.destination for stray in heard["mgmt"].strays}
    assert {*isolated.machines.lab.operator, "192.0.2.1", "2001:db8::1", "ff02::1"} <= aims
    assert isolated.results["shouts before"]["sent"] > 0


def test_the_installation_ends_with_a_proof(isolated: Isolated) -> None:
    values = isolated.results["install"]["nodes"][isolated.node.name]
    assert values["qualify"]["verdict"] == "passed"
    assert values["qualify"]["failed"] == 0
    assert isolated.results["apply"]["nodes"][isolated.node.name]["apply"]["changed"] > 0


def test_from_the_isolation_on_no_frame_is_beyond(isolated: Isolated) -> None:
    """The rest of the installation, with all its attempts to get out, up to the end of the boot."""
    judged = isolated.judged(1, since="applied")
    assert sum(each.beyond for each in judged) == 0
    assert sum(each.allowed["SSH"] for each in judged) > 100


def test_a_boot_is_silent_from_its_first_frame_on_whatever_shouts(isolated: Isolated) -> None:
    """The rules are there before the network: a program shouts from before both, and nothing gets out."""
    judged = isolated.judged(2)
    assert {each.card for each in judged} == {"mgmt", "export", "data0", "data1"}
    assert sum(each.beyond for each in judged) == 0
    # It shouted while there were ways to go: the kernel found a route, and its filter said no.
    shouts = isolated.results["shouts after"]
    assert shouts.get("Operation not permitted", 0) > 0, shouts
    assert "sent" not in shouts, shouts
    # And the captures are no empty files: the machine was reached over SSH, looked for its neighbours, and
    # spoke to a switch about its bond.
    found = {each.card: set(each.allowed) for each in judged}
    assert {"SSH", "ARP", "neighbour discovery"} <= found["mgmt"]
    assert "LACP" in found["data0"] & found["data1"]


def test_it_comes_up_as_it_was_installed(isolated: Isolated) -> None:
    run = isolated.node.run
    assert run("ip -4 route show default; ip -6 route show default").stdout == ""
    links = {link["ifname"]: link for link in json.loads(run("ip -json -details address").stdout)}
    wanted = {nic["purpose"]: nic for nic in isolated.machines.node_status()["interfaces"]}
    cards = dict(zip(PURPOSES, ("enp1s0", "enp2s0", "enp3s0", "enp4s0"), strict=True))
    assert set(links) == {"lo", *cards.values(), "data", "storage"}
    for purpose, name in cards.items():
        assert links[name].get("permaddr", links[name]["address"]) == wanted[purpose]["mac"]
    for purpose, name in {"management": "enp1s0", "export": "enp2s0", "data": "data"}.items():
        assert _addresses(links[name]) == set(wanted[purpose]["addresses"])
    assert not (_addresses(links["enp3s0"]) | _addresses(links["enp4s0"]))
    bond = links["data"]["linkinfo"]["info_data"]
    assert (bond["mode"], bond["ad_lacp_rate"], links["data"]["mtu"]) == ("802.3ad", "fast", 9000)
    assert {links[name]["master"] for name in ("enp3s0", "enp4s0")} == {"data"}
    storage = links["storage"]
    assert (storage["link"], storage["linkinfo"]["info_data"]["id"]) == ("data", 120)


def _addresses(link: dict[str, Any]) -> set[str]:
    return {info["local"] for info in link["addr_info"]}


def test_the_second_installation_changes_nothing_and_all_promises_hold(isolated: Isolated) -> None:
    result = isolated.install("again")
    values = result["nodes"][isolated.node.name]
    assert result["changes"] == []
    assert values["apply"]["changed"] == 0
    assert (values["qualify"]["verdict"], values["qualify"]["failed"]) == ("passed", 0)


def test_an_audit_of_the_installed_machine_finds_no_drift(isolated: Isolated) -> None:
    """With a kernel and drives of its own, and after a start, which a container has not."""
    inventory, state = isolated.installer.lab.inventory, isolated.installer.state
    audit = ["appliance", "audit", "-i", str(inventory), "--state", str(state), "--json"]
    done = isolated.machines.operator.run(audit, check=False, timeout=900)
    result = json.loads(done.stdout)["nodes"][isolated.node.name]
    assert done.returncode == 0, result["drift"]
    assert result["compared"].keys() >= {"kernel", "modules", "drives"}
    assert not {"kernel", "modules", "drives"} & {each["what"] for each in result["not_compared"]}


def test_a_check_on_the_installed_machine_finds_nothing_to_change(isolated: Isolated) -> None:
    assert isolated.install("check again", "--check")["changes"] == []


def test_of_what_a_container_cannot_show_of_a_quiet_host_nothing_is_left_unproven(
    isolated: Isolated,
) -> None:
    (path,) = isolated.installer.state.glob(f"runs/*/{isolated.node.name}/report/report.json")
    items = {item["name"]: item for item in json.loads(path.read_text())["items"]}
    quiet = {name for name in items if name.startswith("quiet.")}
    assert {"quiet.kernel", "quiet.audit", "quiet.module-lock"} <= quiet
    assert [items[name] for name in sorted(quiet) if items[name]["status"] != "passed"] == []


def test_the_kernel_takes_no_module_and_the_filter_is_loaded_anew_all_the_same(isolated: Isolated) -> None:
    run, rules = isolated.node.run, "nft --stateless list ruleset"
    run("until systemctl is-active -q appliance-lock-modules; do sleep 0.5; done", timeout=300)
    assert run("modprobe dummy", check=False).returncode != 0
    before = run(rules).stdout
    run("systemctl restart ufw")
    assert run(rules).stdout == before


def test_large_frames_pass_over_the_bond_to_a_declared_flow(isolated: Isolated, desk: Operator) -> None:
    """An echo of 8,972 bytes, one frame of 9,014 each way, over whichever cable the bond uses."""
    isolated.mark("echo")
    address = next(
        nic for nic in isolated.machines.node_status()["interfaces"] if nic["purpose"] == "data"
    )["addresses"][0]
    server = f"""
import socket
with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as one:
    one.bind(("{address}", {ECHO_PORT}))
    one.settimeout(60)
    data, peer = one.recvfrom(10000)
    one.sendto(data, peer)
"""
    asks = f"""
import socket
with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as one:
    one.setsockopt(socket.IPPROTO_IP, {IP_MTU_DISCOVER}, {IP_PMTUDISC_DO})
    one.connect(("{address}", {ECHO_PORT}))
    one.settimeout(1)
    for attempt in range(60):
        one.send(bytes(8972))
        try:
            print(len(one.recv(10000)))
            break
        except OSError:  # the other end is not there yet
            pass
"""
    echo = desk.start(["appliance", "lab", "shell", isolated.node.name, "--", "python3", "-c", server])
    try:
        assert desk.run(["python3", "-c", asks], timeout=120).stdout == "8972\n"
    finally:
        output, _ = echo.communicate(timeout=120)
    assert echo.returncode == 0, output
    judged = isolated.judged(since="echo")
    assert sum(each.beyond for each in judged) == 0
    assert sum(each.allowed["flow echo"] for each in judged) == 1


#: ip(7): do not fragment, whatever is believed of the way.
IP_MTU_DISCOVER, IP_PMTUDISC_DO = 10, 2


#: What an operator's program asks the model for; prints how many answers came.
QUESTIONS = """
import json, socket, sys, time, urllib.error, urllib.request
from concurrent.futures import ThreadPoolExecutor
base = "http://127.0.0.1:18000"
deadline = time.monotonic() + 120
while True:
    try:
        socket.create_connection(("127.0.0.1", 18000), 1).close()
        break
    except OSError:
        assert time.monotonic() < deadline, "no tunnel"
        time.sleep(0.2)
def ask(text, stream=False):
    body = {"model": "demo", "messages": [{"role": "user", "content": text}], "stream": stream}
    request = urllib.request.Request(base + "/v1/chat/completions", json.dumps(body).encode(),
                                     {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=300) as answer:
        return answer.read().decode()
print(urllib.request.urlopen(base + "/v1/models", timeout=300).status, file=sys.stderr)
said = [ask("Where was this computed?")]
with ThreadPoolExecutor(3) as pool:
    said += pool.map(ask, ["Again?", "And " + "again " * 200, "Who hears this?"])
said.append(ask("Word by word, please.", stream=True))
try:
    urllib.request.urlopen(urllib.request.Request(base + "/v1/chat/completions", b"{"), timeout=300)
except urllib.error.HTTPError as error:
    print(error.code, file=sys.stderr)
print(json.dumps(said))
"""


def test_a_serving_session_sends_nothing_beyond(isolated: Isolated, desk: Operator) -> None:
    """Through the operator's tunnel, the only way to the model: one by one, at once, streamed, faulty."""
    isolated.mark("session")
    ssh, *rest = ssh_command(isolated.installer.lab.inventory, isolated.node.address4)
    tunnel = [ssh, "-N", "-o", "ExitOnForwardFailure=yes", "-L", "127.0.0.1:18000:127.0.0.1:8000", *rest]
    process = desk.start(tunnel)
    try:
        said = json.loads(desk.run(["python3", "-c", QUESTIONS], timeout=900).stdout)
    finally:
        process.terminate()
        output, _ = process.communicate(timeout=60)
    assert len(said) == 5, output
    assert all("no way out" in answer for answer in said[:1])
    judged = isolated.judged(since="session")
    assert sum(each.beyond for each in judged) == 0
    assert judged[-4].allowed["SSH"] > 10


def test_from_here_on_nobody_touches_it(isolated: Isolated) -> None:
    """See test_zero_packets, before which nobody does."""
    isolated.idle()
    assert isolated.idle_since is not None
