"""A wire with the line's card at its upper end and raw sockets at its lower end, in its own namespaces.

Nothing at the lower end speaks by itself: no address, no ARP, no IPv6.  So every frame that comes in above
is one that was injected, and can be counted.
"""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
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

#: Sends frames at the lower end and keeps what comes there; one JSON object in, one out.
_INJECT = """
import json, select, socket, sys, time
order = json.load(sys.stdin)
line = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3))
line.bind(("low0", 3))
for frame in order["frames"]:
    line.send(bytes.fromhex(frame))
until, heard = time.monotonic() + order["seconds"], []
while (left := until - time.monotonic()) > 0:
    if select.select([line], [], [], left)[0]:
        data, origin = line.recvfrom(4096)
        if origin[2] != socket.PACKET_OUTGOING:
            heard.append(data.hex())
print(json.dumps(heard))
"""

#: A program that listens in every way it can: more than the exporter would.  Says what it heard at the end.
_LISTEN = f"""
import select, socket, sys, time
udp = [socket.socket(socket.AF_INET, socket.SOCK_DGRAM) for _ in range(2)]
udp[0].bind(("0.0.0.0", {PORT}))
udp[1].bind(("0.0.0.0", {OWN_PORT}))
tcp = socket.create_server(("0.0.0.0", {PORT}))
icmp = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP)
udp[1].sendto(b"exported", ("{RECEIVER}", {PORT}))
print("ready", flush=True)
sys.stdin.read()
heard = [each for each in (*udp, tcp, icmp) if select.select([each], [], [], 0)[0]]
print(len(heard))
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
class Wire:
    """The namespaces, held by one process, and the file of the line."""

    process: int
    file: Path

    def node(self, *command: str, text: str = "", check: bool = True) -> subprocess.CompletedProcess[str]:
        """Run a command on the upper side, outside of the line's namespace."""
        enter = ["nsenter", "--target", str(self.process), "--net", "--mount", "--", *command]
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

    def inject(self, frames: Sequence[bytes], seconds: float = 0.3) -> Heard:
        """Send frames in at the lower end while a program listens above."""
        enter = ["nsenter", "--target", str(self.process), "--net", "--mount", "--"]
        above = [*enter, "nsenter", f"--net=/run/netns/{NAMESPACE}", "--", sys.executable, "-c", _LISTEN]
        before = self._counted()
        order = json.dumps({"frames": [each.hex() for each in frames], "seconds": seconds})
        with subprocess.Popen(above, stdin=-1, stdout=-1, text=True) as program:
            assert program.stdout is not None
            assert program.stdout.readline() == "ready\n"
            low = self.node("ip", "netns", "exec", "low", sys.executable, "-c", _INJECT, text=order)
            heard, _ = program.communicate("")
        after = self._counted()
        received, dropped, ip = (after[at] - before[at] for at in range(3))
        answers = [bytes.fromhex(each) for each in json.loads(low.stdout)]
        return Heard(received, dropped, ip, int(heard), answers)

    def _counted(self) -> tuple[int, int, int]:
        """Frames at the card, frames that ingress dropped, packets in the IP stacks (SNMP counters)."""
        (link,) = json.loads(self.inside("ip", "-j", "-s", "link", "show", "dev", DEVICE))
        rules = json.loads(self.inside("nft", "-j", "list", "ruleset"))["nftables"]
        dropped = sum(
            part["counter"]["packets"]
            for each in rules
            if (each.get("rule", {}).get("family"), each.get("rule", {}).get("chain")) == ("netdev", "in")
            for part in each["rule"]["expr"]
            if "counter" in part
        )
        lines = self.inside("cat", "/proc/net/snmp").splitlines()
        names, values = (each.split() for each in lines if each.startswith("Ip:"))
        ip = int(dict(zip(names, values, strict=True))["InReceives"])
        six = [
            each for each in self.inside("cat", "/proc/net/snmp6").splitlines() if "Ip6InReceives" in each
        ]
        return link["stats64"]["rx"]["packets"], dropped, ip + sum(int(each.split()[1]) for each in six)


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
