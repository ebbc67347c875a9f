"""Runs on the node: tries to get out, as several parties at once, and says what came of each attempt.

Sent over standard input and run by ``python3 -I -`` as root, so it uses the standard library alone and
leaves no file behind.  ``main`` takes the request and returns the answer, both JSON values:

request
    ``token``; ``seconds`` an attempt waits; ``unit``: the service's unit or null; ``targets``: a list of
    ``{target, protocol: tcp | udp | icmp | syn | wire, address, port, who: [party…]}``; ``own``:
    ``{addresses, port}`` for echo servers on the node's own addresses; ``names``: host names to resolve.

answer
    ``attempts``: ``{target, protocol, address, port, who, outcome, detail, milliseconds, nonce}``;
    ``heard``: nonces that the node's own echo servers received; ``own_trouble``; ``names``;
    ``parties``: party to "" or why it could not take part.

Parties: ``root``; ``user``: the service's user; ``unit``: that user inside the service's own control
group and network namespace, where the unit's packet filter (``IPAddressDeny=``) applies.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import pwd
import select
import socket
import struct
import subprocess
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

DENIED = {errno.EPERM, errno.EACCES}
NO_ROUTE = {errno.ENETUNREACH, errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT, errno.ENETDOWN, errno.EHOSTUNREACH}
#: An answer from the network that took at most this long to a host with no route is the kernel's own.
AT_ONCE = 0.2
#: Seconds that the node's own echo servers stay open, so that a station that knocks again and again
#: meets them even if every attempt of the node ends at once.
OPEN_AT_LEAST = 0.5


def family_of(address: str) -> socket.AddressFamily:
    """The socket family of a literal address."""
    return socket.AF_INET6 if ":" in address else socket.AF_INET


def judge_error(error: OSError, elapsed: float) -> tuple[str, str]:
    """Outcome and detail of an attempt that ended in an error of the kernel."""
    code = error.errno or 0
    name = errno.errorcode.get(code, type(error).__name__)
    if code == errno.ECONNREFUSED:
        return "reached", "refused by the other end"
    if code in DENIED:
        return "denied", name
    if code in NO_ROUTE and elapsed < AT_ONCE:
        return "no-route", name
    if isinstance(error, TimeoutError) or code in {*NO_ROUTE, errno.ETIMEDOUT}:
        return "silent", name if code else ""
    return "error", name


def has_route(address: str) -> bool:
    """Whether the node's kernel knows where an address would be.  Sends nothing.

    Only the kernel answers here, so that "no route" need not be told from the network's own answer by how
    quickly it came, which on a slow or busy node says nothing.
    """
    try:
        with socket.socket(family_of(address), socket.SOCK_DGRAM) as link:
            link.connect((address, 9))
    except OSError as error:
        return error.errno not in NO_ROUTE
    return True


def checksum(data: bytes) -> int:
    """The Internet checksum, RFC 1071."""
    padded = data + b"\0" * (len(data) % 2)
    total: int = sum(struct.unpack(f"!{len(padded) // 2}H", padded))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return 0xFFFF - total


def try_tcp(address: str, port: int, nonce: bytes, seconds: float) -> tuple[str, str]:
    """A connection, and an echo over it."""
    with socket.socket(family_of(address), socket.SOCK_STREAM) as link:
        link.settimeout(seconds)
        link.connect((address, port))
        with contextlib.suppress(OSError):
            link.sendall(nonce)
            if link.recv(512) == nonce:
                return "reached", "echo came back"
        return "reached", "connected"


def await_answer(link: socket.socket, seconds: float, wanted: Callable[[bytes], bool]) -> bool:
    """Whether a datagram that satisfies ``wanted`` comes in time."""
    end = time.monotonic() + seconds
    while (left := end - time.monotonic()) > 0:
        link.settimeout(left)
        try:
            if wanted(link.recv(2048)):
                return True
        except TimeoutError:
            break
    return False


def try_udp(address: str, port: int, nonce: bytes, seconds: float) -> tuple[str, str]:
    """A datagram, and once more at half time: a first one may be lost while the neighbour is looked up."""
    with socket.socket(family_of(address), socket.SOCK_DGRAM) as link:
        link.connect((address, port))
        for _ in range(2):
            link.send(nonce)
            if await_answer(link, seconds / 2, lambda data: data == nonce):
                return "reached", "echo came back"
    return "sent", ""


def try_wire(address: str, port: int, nonce: bytes, _seconds: float) -> tuple[str, str]:
    """A datagram to everybody on each interface's own wire (multicast or broadcast): no route needed."""
    worst = ("no-route", "no interface")
    v6 = ":" in address
    for index, name in socket.if_nameindex():
        if name == "lo":
            continue
        with socket.socket(family_of(address), socket.SOCK_DGRAM) as link:
            started = time.monotonic()
            try:
                link.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
                link.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, name.encode())
                link.sendto(nonce, (address, port, 0, index) if v6 else (address, port))
                return "sent", f"on {name}"
            except OSError as error:
                worst = judge_error(error, time.monotonic() - started)
    return worst


def try_icmp(address: str, _port: int, nonce: bytes, seconds: float) -> tuple[str, str]:
    """An echo request; a raw socket for root, else the kernel's own ping socket where allowed."""
    v6 = ":" in address
    protocol = socket.IPPROTO_ICMPV6 if v6 else socket.IPPROTO_ICMP
    kind = socket.SOCK_RAW if os.geteuid() == 0 else socket.SOCK_DGRAM
    head = struct.pack("!BBHHH", 128 if v6 else 8, 0, 0, os.getpid() & 0xFFFF, 1)
    if not v6:  # the kernel computes ICMPv6's checksum, it needs the pseudo header (RFC 3542, 3.1)
        head = head[:2] + struct.pack("!H", checksum(head + nonce)) + head[4:]
    answer = 129 if v6 else 0

    def is_reply(data: bytes) -> bool:
        start = (data[0] & 0x0F) * 4 if kind == socket.SOCK_RAW and not v6 and data else 0
        return data[start : start + 1] == bytes([answer]) and nonce in data

    with socket.socket(family_of(address), kind, protocol) as link:
        link.connect((address, 0))
        link.send(head + nonce)
        return ("reached", "echo came back") if await_answer(link, seconds, is_reply) else ("sent", "")


def try_syn(address: str, port: int, _nonce: bytes, seconds: float) -> tuple[str, str]:
    """One TCP SYN by raw socket.  Unlike ``connect``, it says at once whether the packet left the node."""
    v6 = ":" in address
    with socket.socket(family_of(address), socket.SOCK_RAW, socket.IPPROTO_TCP) as link:
        link.connect((address, 0))
        source = link.getsockname()[0]
        segment = struct.pack("!HHLLBBHHH", 61000, port, 1, 0, 5 << 4, 0x02, 1024, 0, 0)
        if v6:
            link.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_CHECKSUM, 16)  # offset 16: RFC 3542, 3.1
        else:
            ends = socket.inet_aton(source) + socket.inet_aton(address)
            pseudo = ends + struct.pack("!BBH", 0, socket.IPPROTO_TCP, len(segment))
            segment = segment[:16] + struct.pack("!H", checksum(pseudo + segment)) + segment[18:]
        link.send(segment)

        def is_reply(data: bytes) -> bool:
            start = 0 if v6 else (data[0] & 0x0F) * 4
            return data[start : start + 4] == struct.pack("!HH", port, 61000)

        return ("reached", "answered") if await_answer(link, seconds, is_reply) else ("sent", "")


ATTEMPTS = {"tcp": try_tcp, "udp": try_udp, "icmp": try_icmp, "syn": try_syn, "wire": try_wire}


def attempt(target: dict[str, Any], who: str, nonce: str, seconds: float) -> dict[str, Any]:
    """One attempt, whatever comes of it."""
    started = time.monotonic()
    try:
        how = ATTEMPTS[target["protocol"]]
        outcome, detail = how(target["address"], target["port"], nonce.encode(), seconds)
    except OSError as error:
        elapsed = time.monotonic() - started if has_route(target["address"]) else 0.0
        outcome, detail = judge_error(error, elapsed)
    return {
        "target": target["target"],
        "protocol": {"syn": "tcp", "wire": "udp"}.get(target["protocol"], target["protocol"]),
        "address": target["address"],
        "port": target["port"],
        "who": who,
        "outcome": outcome,
        "detail": detail,
        "milliseconds": round((time.monotonic() - started) * 1000),
        "nonce": nonce,
    }


def resolve(name: str, who: str, seconds: float) -> dict[str, Any]:
    """Ask for a name as any program would; a resolver that is still trying after ``seconds`` has failed."""
    answer: dict[str, Any] = {"who": who, "name": name, "addresses": [], "detail": "no answer in time"}

    def ask() -> None:
        try:
            found = socket.getaddrinfo(name, 443, type=socket.SOCK_STREAM)
            answer.update(addresses=sorted({str(each[4][0]) for each in found}), detail="")
        except OSError as error:
            answer["detail"] = error.strerror or str(error)

    thread = threading.Thread(target=ask, daemon=True)
    thread.start()
    thread.join(seconds)
    return answer


def take_part(who: str, request: dict[str, Any], report: int) -> None:
    """Make one party's attempts, all at the same time, and write them to the descriptor ``report``."""
    targets = [target for target in request["targets"] if who in target["who"]]
    names = request["names"] if who != "unit" else []
    nonces = [f"{request['token']}-{who}-{number}" for number in range(len(targets))]
    seconds = request["seconds"]
    with ThreadPoolExecutor(max(1, len(targets) + len(names))) as pool:
        lookups = [pool.submit(resolve, name, who, 2 * seconds) for name in names]
        attempts = list(
            pool.map(lambda target, nonce: attempt(target, who, nonce, seconds), targets, nonces)
        )
        found = {"attempts": attempts, "names": [lookup.result() for lookup in lookups]}
    with os.fdopen(report, "w") as pipe:
        json.dump(found, pipe)


def service(unit: str) -> dict[str, str]:
    """What systemd knows of the running service: ``ControlGroup``, ``MainPID``, ``User``."""
    shown = subprocess.run(
        ["systemctl", "show", "-p", "ControlGroup,MainPID,User", "--", unit],
        capture_output=True,
        text=True,
        check=False,
    )
    return dict(line.split("=", 1) for line in shown.stdout.splitlines() if "=" in line)


def become(who: str, running: dict[str, str]) -> None:
    """Turn this process into the party: control group and namespace first, privileges last."""
    if who == "root":
        return
    pid = int(running.get("MainPID") or 0)
    if who == "unit":
        if not pid:
            raise OSError(errno.ESRCH, "the service is not running")
        group = "/sys/fs/cgroup" + running["ControlGroup"]
        with open(f"{group}/cgroup.procs", "w") as members:  # noqa: PTH123 - an interface, not a file
            members.write("0")
        if hasattr(os, "setns"):  # Python 3.12; an older one tests the node's own namespace
            with open(f"/proc/{pid}/ns/net") as namespace:  # noqa: PTH123 - its descriptor is used
                os.setns(namespace.fileno(), getattr(os, "CLONE_NEWNET", 0))
    if pid:  # not the owner of /proc/PID, which is root for a process that may not be dumped
        with open(f"/proc/{pid}/status") as status:  # noqa: PTH123 - an interface of the kernel
            fields = dict(line.split(":", 1) for line in status)
        user, group_id = int(fields["Uid"].split()[0]), int(fields["Gid"].split()[0])
    elif running.get("User"):
        entry = pwd.getpwnam(running["User"])
        user, group_id = entry.pw_uid, entry.pw_gid
    else:
        raise OSError(errno.ESRCH, "there is no such service")
    if user == 0:
        raise OSError(errno.EPERM, "the service runs as root")
    os.setgroups([])
    os.setresgid(group_id, group_id, group_id)
    os.setresuid(user, user, user)


def start_party(who: str, running: dict[str, str], request: dict[str, Any]) -> int:
    """Fork a process that becomes the party; returns the descriptor its findings come from."""
    reader, writer = os.pipe()
    if os.fork():
        os.close(writer)
        return reader
    try:
        os.close(reader)
        try:
            become(who, running)
        except (OSError, KeyError) as error:
            reason = getattr(error, "strerror", None) or str(error.args[0])
            os.write(writer, json.dumps({"trouble": reason}).encode())
        else:
            take_part(who, request, writer)
    finally:
        os._exit(0)  # also ends a resolver that is still trying


class OwnEcho:
    """Echo servers, TCP and UDP, on the node's own addresses while the attempts run.

    They are what somebody outside could connect to if the firewall let them in, and what the unit
    could connect to if its own filter let it out: the firewall does not judge traffic to oneself.
    """

    def __init__(self, addresses: list[str], port: int) -> None:
        self.heard: list[str] = []
        self.trouble: list[str] = []
        self._servers: list[socket.socket] = []
        self._stop = threading.Event()
        for address in addresses:
            for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM):
                server = socket.socket(family_of(address), kind)
                try:
                    server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                    if ":" in address:
                        server.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
                    server.bind((address, port))
                    if kind == socket.SOCK_STREAM:
                        server.listen(64)
                except OSError as error:
                    self.trouble.append(f"{address}: {error.strerror}")
                    server.close()
                else:
                    self._servers.append(server)
        self._thread = threading.Thread(target=self._serve, daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._stop.set()
        self._thread.join(2)
        for server in self._servers:
            server.close()

    def _serve(self) -> None:
        while not self._stop.is_set():
            for server in select.select(self._servers, [], [], 0.05)[0]:
                with contextlib.suppress(OSError):
                    self._answer(server)

    def _answer(self, server: socket.socket) -> None:
        """Note what came before answering: the answer may be denied, and it came in all the same."""
        if server.type == socket.SOCK_DGRAM:
            data, peer = server.recvfrom(512)
            self.heard.append(data.decode("ascii", "replace"))
            server.sendto(data, peer)
            return
        link, _ = server.accept()
        with link:
            link.settimeout(0.2)
            data = link.recv(512)
            self.heard.append(data.decode("ascii", "replace"))
            link.sendall(data)


def main(request: dict[str, Any]) -> dict[str, Any]:
    """Make all attempts of all parties; see the module's text for the values."""
    wanted = sorted({who for target in request["targets"] for who in target["who"]})
    running = service(request["unit"]) if request["unit"] else {}
    own = OwnEcho(request["own"]["addresses"], request["own"]["port"])
    readers = {who: start_party(who, running, request) for who in wanted}  # fork before any thread starts
    own.start()
    opened = time.monotonic()
    answer: dict[str, Any] = {"attempts": [], "names": [], "parties": {}}
    for who, reader in readers.items():
        with os.fdopen(reader) as pipe:
            found = json.loads(pipe.read() or '{"trouble": "ended without an answer"}')
        answer["parties"][who] = found.get("trouble", "")
        answer["attempts"] += found.get("attempts", [])
        answer["names"] += found.get("names", [])
    for _ in readers:
        os.wait()
    time.sleep(max(0.0, opened + OPEN_AT_LEAST - time.monotonic()))
    own.stop()
    return answer | {"heard": own.heard, "own_trouble": own.trouble}
