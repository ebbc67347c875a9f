"""A wire with the line's card at its upper end and raw sockets at its lower end.

Nothing at the lower end speaks by itself: no address, no ARP, no IPv6.  So every frame that comes in above
is one that was injected, and can be counted.  Here both ends are in namespaces of this machine's kernel;
``tests/vm`` has the upper one in a kernel of its own.
"""

from __future__ import annotations

import contextlib
import json
import subprocess
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from appliance.export.line.settings import DEVICE, NAMESPACE
from tests.node.at_station import APPLIANCE

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

NODE_MAC, LOW_MAC = "02:00:00:00:00:0e", "02:00:00:00:00:0f"
NODE, RECEIVER, PORT, OWN_PORT = "192.0.2.1", "192.0.2.2", 5514, 40000

_LAY = f"""
set -e
mount --make-rprivate /
mount -t tmpfs tmpfs /run
mount -t sysfs sysfs /sys
mkdir /run/netns
ip netns add low
ip link add node0 address {NODE_MAC} type veth peer name low0 address {LOW_MAC} netns low
ip netns exec low sh -c 'echo 1 > /proc/sys/net/ipv6/conf/low0/disable_ipv6'
ip -n low link set low0 arp off multicast off up
echo laid
exec sleep infinity
"""

#: Sends the frames of the first line at the lower end; says what came there until its input ends.
_INJECT = """
import json, select, socket, sys
order = json.loads(sys.stdin.readline())
line = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3))
line.bind((order["device"], 3))
for frame in order["frames"]:
    line.send(bytes.fromhex(frame))
print("sent", flush=True)
heard, ending = [], False
while not ending or select.select([line], [], [], 0)[0]:
    ready, _, _ = select.select([line, sys.stdin], [], [])
    ending = ending or sys.stdin in ready
    if line in ready:
        data, origin = line.recvfrom(4096)
        if origin[2] != socket.PACKET_OUTGOING:
            heard.append(data.hex())
print(json.dumps(heard))
"""

#: A program that listens in every way it can: more than the exporter would.  It counts before and after at
#: the card, in nftables and in the IP stacks; is told how many frames were injected, and waits for these.
_LISTEN = f"""
import json, select, socket, subprocess, sys, time

def told(*command):
    return json.loads(subprocess.run(command, capture_output=True, check=True, text=True).stdout)

def counted():
    (link,) = told("ip", "-j", "-s", "link", "show", "dev", "{DEVICE}")
    dropped = sum(
        part["counter"]["packets"]
        for each in told("nft", "-j", "list", "ruleset")["nftables"]
        if (each.get("rule", {{}}).get("family"), each.get("rule", {{}}).get("chain")) == ("netdev", "in")
        for part in each["rule"]["expr"]
        if "counter" in part
    )
    with open("/proc/net/snmp") as four, open("/proc/net/snmp6") as six:
        names, values = (each.split() for each in four if each.startswith("Ip:"))
        ip = int(dict(zip(names, values))["InReceives"])
        ip += sum(int(each.split()[1]) for each in six if each.startswith("Ip6InReceives"))
    return link["stats64"]["rx"]["packets"], dropped, ip

before = counted()
udp = [socket.socket(socket.AF_INET, socket.SOCK_DGRAM) for _ in range(2)]
udp[0].bind(("0.0.0.0", {PORT}))
udp[1].bind(("0.0.0.0", {OWN_PORT}))
tcp = socket.create_server(("0.0.0.0", {PORT}))
icmp = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP)
udp[1].sendto(b"exported", ("{RECEIVER}", {PORT}))
print("ready", flush=True)
wanted, until = before[0] + int(sys.stdin.readline()), time.monotonic() + 20
while counted()[0] < wanted and time.monotonic() < until:
    time.sleep(0.05)
time.sleep(0.3)  # what is answered is answered by then
heard = [each for each in (*udp, tcp, icmp) if select.select([each], [], [], 0)[0]]
print(json.dumps([*(after - was for was, after in zip(before, counted())), len(heard)]))
"""


@dataclass(frozen=True)
class Heard:
    """What came of injected frames: at the card, in nftables, in the IP stack, in the program, and back."""

    received: int
    dropped: int
    ip: int
    program: int
    answers: list[bytes]


@dataclass(frozen=True)
class Ends:
    """How commands are run at the two ends of a wire, once the walls are up.

    Args:
        above: the beginning of a command line that runs in the line's namespace.
        below: the same where the lower end is.
        device: the lower end.
    """

    above: Sequence[str]
    below: Sequence[str]
    device: str

    def inject(self, frames: Sequence[bytes]) -> Heard:
        """Send frames in at the lower end while a program listens above."""
        order = json.dumps({"device": self.device, "frames": [each.hex() for each in frames]})
        with (
            _started([*self.above, "python3", "-c", _LISTEN]) as program,
            _started([*self.below, "python3", "-c", _INJECT]) as low,
        ):
            assert program.stdout is not None
            assert program.stdout.readline() == "ready\n"
            assert low.stdin is not None
            assert low.stdout is not None
            print(order, file=low.stdin, flush=True)
            assert low.stdout.readline() == "sent\n"
            counts, _ = program.communicate(f"{len(frames)}\n", timeout=240)
            answers, _ = low.communicate("", timeout=240)
        return Heard(*json.loads(counts), [bytes.fromhex(each) for each in json.loads(answers)])


@contextlib.contextmanager
def _started(command: Sequence[str]) -> Iterator[subprocess.Popen[str]]:
    """A program with its input and output; it is gone after the block."""
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True) as process:
        try:
            yield process
        finally:
            process.kill()


@dataclass(frozen=True)
class Wire:
    """The namespaces, held by one process, and the file of the line."""

    process: int
    file: Path

    @property
    def _enter(self) -> list[str]:
        return ["nsenter", "--target", str(self.process), "--net", "--mount", "--"]

    def node(self, *command: str, text: str = "", check: bool = True) -> subprocess.CompletedProcess[str]:
        """Run a command on the upper side, outside of the line's namespace."""
        enter = [*self._enter, *command]
        done = subprocess.run(enter, input=text, capture_output=True, text=True, check=False, timeout=240)
        assert not check or done.returncode == 0, f"{command}: {done.stdout}{done.stderr}"
        return done

    def inside(self, *command: str, text: str = "") -> str:
        """Run a command in the line's namespace."""
        return self.node("nsenter", f"--net=/run/netns/{NAMESPACE}", "--", *command, text=text).stdout

    def line(self, verb: str, *options: str, check: bool = True) -> Any:
        """``appliance export line VERB``, with its JSON."""
        file = [] if verb == "down" else ["--line", str(self.file)]
        done = self.node(APPLIANCE, "export", "line", verb, *file, *options, "--json", check=check)
        return json.loads(done.stdout)

    def inject(self, frames: Sequence[bytes]) -> Heard:
        """Send frames in at the lower end while a program listens above."""
        above = [*self._enter, "nsenter", f"--net=/run/netns/{NAMESPACE}", "--"]
        return Ends(above, [*self._enter, "ip", "netns", "exec", "low"], "low0").inject(frames)


@contextlib.contextmanager
def laid_wire(folder: Path) -> Iterator[Wire]:
    """A wire; the card above is as it was racked until ``line("up")``."""
    file = folder / "line.json"
    receiver = {"address": RECEIVER, "mac": LOW_MAC, "port": PORT}
    file.write_text(
        json.dumps({"format": 1, "match": {"mac": NODE_MAC}, "address": NODE, "receiver": receiver})
    )
    command = ["unshare", "--net", "--mount", "sh", "-c", _LAY]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as holder:
        try:
            assert holder.stdout is not None
            assert holder.stdout.readline() == "laid\n"
            yield Wire(holder.pid, file)
        finally:
            holder.kill()
