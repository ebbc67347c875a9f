"""Judges the line that logs leave on: its walls as the kernel shows them, and what was tried on it.

Root tries to send otherwise than the sender may, inside its namespace, while a tap behind the rules looks
at what really leaves.  What comes in can only be tried from the other end of the wire, where the installer
is not: of that, the walls are read.  Nothing is taken from the program that put them up.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from appliance.node.probe import run_script
from appliance.node.qualification.finding import Finding, lines

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from appliance.definition.export import Export
    from appliance.node.probe import Runs

NAMESPACE: Final = "appliance-export"
#: What kernels call ``r0 = XDP_DROP; exit``: the beginning of its SHA-1, or of its SHA-256 (6.18).
XDP_TAGS: Final = frozenset({"57cd311f2e27366b", "b11459a0e11ca14c"})
UNITS: Final = (
    "appliance-export-line.service",
    "appliance-export-watch.service",
    "appliance-export.service",
)

#: Runs inside the namespace: everything that must not leave, and a tap that sees what leaves all the same.
_TRIES: Final = """
import json, select, socket, sys, time
request = json.loads(sys.argv[1])
tap = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3))
tap.bind(("export0", 3))
receiver, port = request["receiver"], request["port"]
beside = receiver.rpartition(".")[0] + (".1" if not receiver.endswith(".1") else ".2")
said = {}
def attempt(name, family, kind, protocol, target, data):
    with socket.socket(family, kind, protocol) as out:
        out.settimeout(0.5)
        try:
            if kind == socket.SOCK_DGRAM:
                out.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
                out.sendto(data, target)
            elif kind == socket.SOCK_RAW:
                out.sendto(data, target)
            else:
                out.connect(target)
            said[name] = "taken by the kernel"
        except OSError as fault:
            said[name] = fault.strerror or str(fault)
four, six = socket.AF_INET, socket.AF_INET6
udp, tcp, raw = socket.SOCK_DGRAM, socket.SOCK_STREAM, socket.SOCK_RAW
attempt("UDP to another port", four, udp, 0, (receiver, port % 65535 + 1), b"out")
attempt("UDP to another address", four, udp, 0, (beside, port), b"out")
attempt("UDP broadcast", four, udp, 0, ("255.255.255.255", port), b"out")
attempt("UDP multicast", four, udp, 0, ("224.0.0.251", 5353), b"out")
attempt("UDP in fragments", four, udp, 0, (receiver, port), bytes(4000))
attempt("TCP to the receiver's port", four, tcp, 0, (receiver, port), b"")
attempt("ICMP echo", four, raw, 1, (receiver, 0), b"\\x08\\x00\\xf7\\xff\\x00\\x00\\x00\\x00")
attempt("IPv6 to everybody", six, udp, 0, ("ff02::1%export0", port), b"out")
until, left = time.monotonic() + 0.3, []
while (rest := until - time.monotonic()) > 0:
    if select.select([tap], [], [], rest)[0]:
        frame, origin = tap.recvfrom(4096)
        if origin[2] == socket.PACKET_OUTGOING:
            left.append(frame[:64].hex())
print(json.dumps({"said": said, "left": left}))
"""

#: Reads the walls and who is behind them, and has the above tried.
_SCRIPT: Final = f"""
import json, os, subprocess, sys
TRIES = {_TRIES!r}
NAME = "/run/netns/{NAMESPACE}"

def told(*command):
    done = subprocess.run(command, capture_output=True, text=True)
    return done.stdout if done.returncode == 0 else ""

def inside(*command):
    return told("nsenter", "--net=" + NAME, "--", *command)

def parsed(text):
    try:
        return json.loads(text or "[]")
    except ValueError:
        return []

def members():
    try:
        number = os.stat(NAME).st_ino
    except OSError:
        return []
    found = []
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            if os.stat("/proc/" + pid + "/ns/net").st_ino == number:
                with open("/proc/" + pid + "/comm") as name, open("/proc/" + pid + "/cgroup") as group:
                    found.append([int(pid), name.read().strip(), group.read().strip()])
        except OSError:
            continue
    return found

def unit(name):
    shown = told("systemctl", "show", "-p", "ActiveState,UnitFileState,MainPID,User", "--", name)
    return dict(line.split("=", 1) for line in shown.splitlines() if "=" in line)

def main(request):
    units = {{name: unit(name) for name in request["units"]}}
    pid = units[request["units"][-1]].get("MainPID", "0")
    try:
        status = open("/proc/" + pid + "/status").read()
        with open("/run/appliance-export-line/raised.json") as file:
            card = json.load(file).get("card", [])
    except (OSError, ValueError):
        status, card = "", []
    found = {{
        "members": members(), "units": units, "status": status, "card": card,
        "rules": parsed(inside("nft", "-j", "list", "ruleset")),
        "link": parsed(inside("ip", "-j", "-d", "-s", "link", "show", "dev", "export0")),
        "addresses": parsed(inside("ip", "-j", "address", "show")),
        "routes": [each for family in ("-4", "-6")
                   for each in parsed(inside("ip", "-j", family, "route", "show"))],
        "neighbours": parsed(inside("ip", "-j", "neighbour", "show")),
    }}
    return found | {{"tries": parsed(inside(sys.executable, "-c", TRIES, json.dumps(request))) or None}}
"""


def look_at_line(connection: Runs, export: Export) -> dict[str, Any]:
    """Everything that is judged below."""
    request: dict[str, object] = {
        "receiver": str(export.receiver.address),
        "port": export.receiver.port,
        "units": list(UNITS),
    }
    found: dict[str, Any] = run_script(connection, _SCRIPT, request, timeout=60)
    return found


def judge_running(found: Mapping[str, Any]) -> Finding:
    """The units run and start with the node; the sender is an own user's, unprivileged, and alone."""
    wrong = [
        f"{name}: {unit.get('ActiveState') or 'absent'}, {unit.get('UnitFileState') or 'no file'}"
        for name, unit in found["units"].items()
        if (unit.get("ActiveState"), unit.get("UnitFileState")) != ("active", "enabled")
    ]
    status = dict(line.split(":", 1) for line in found["status"].splitlines() if ":" in line)
    words = {key: value.split() for key, value in status.items()}
    if found["status"]:
        if "0" in words.get("Uid", ["0"]):
            wrong.append("the sender runs as root")
        if int(words.get("CapBnd", ["1"])[0], 16):
            wrong.append(f"the sender can have capabilities: {words['CapBnd'][0]}")
        if (words.get("NoNewPrivs"), words.get("Seccomp")) != (["1"], ["2"]):
            wrong.append("the sender can gain privileges, or call what it likes")
    pid = int(found["units"][UNITS[-1]].get("MainPID") or 0)
    # Whoever watches goes in for a moment, to look at the rules from there; and the sender has journalctl.
    strangers = [
        f"{name} ({number})"
        for number, name, group in found["members"]
        if number != pid and not group.endswith((f"/{UNITS[1]}", f"/{UNITS[-1]}"))
    ]
    if pid not in {number for number, *_ in found["members"]}:
        wrong.append("the sender is not in the namespace")
    wrong += [f"{each} is in the namespace beside the sender" for each in strangers]
    wanted = "three units at work and enabled; nobody beside them in the namespace, no root, no capability"
    return Finding(not wrong, lines(wrong, otherwise=f"as wanted; process {pid}"), wanted)


def judge_walls(found: Mapping[str, Any], export: Export) -> Finding:
    """Frames that come in are dropped twice over; there is one address, one neighbour, one way."""
    wrong = list(_wall_faults(found, export))
    count = found["link"][0]["stats64"]["rx"]["packets"] if found["link"] else 0
    wanted = "nftables drops whatever comes in, and so does XDP; no ARP, no IPv6, one neighbour, one route"
    return Finding(
        not wrong,
        lines(wrong, otherwise=f"as wanted; {count} frames came in and were dropped"),
        wanted,
    )


def _wall_faults(found: Mapping[str, Any], export: Export) -> Iterator[str]:
    if not found["link"]:
        yield "there is no card in the namespace"
        return
    link, parts = found["link"][0], (found["rules"] or {"nftables": []})["nftables"]
    ingress = [
        each["chain"]["name"]
        for each in parts
        if each.get("chain", {}).get("hook") == "ingress" and each["chain"].get("policy") == "drop"
    ]
    if not ingress:
        yield "no chain of nftables drops what comes in"
    verdicts = [
        (rule["chain"], word)
        for rule in (each["rule"] for each in parts if "rule" in each)
        for expression in rule["expr"]
        for word in expression
        if word in {"accept", "jump", "goto", "dup", "fwd", "queue", "return", "vmap"}
    ]
    yield from (
        f"a rule of nftables lets through: {word} in {chain}" for chain, word in verdicts if chain != "out"
    )
    if [word for chain, word in verdicts if chain == "out"] != ["accept"]:
        yield "not just one rule lets out"
    if "prog" not in link.get("xdp", {}):
        yield "no XDP program is at the card"
    elif link["xdp"]["prog"].get("tag") not in XDP_TAGS:
        yield f"another XDP program is at the card: {link['xdp']['prog']}"
    if "NOARP" not in link["flags"]:
        yield "the card speaks ARP"
    own = [
        f"{each['local']}/{each['prefixlen']}"
        for entry in found["addresses"]
        for each in entry.get("addr_info", ())
    ]
    ways = [f"{each['dst']} {each.get('gateway', '')}".strip() for each in found["routes"]]
    near = [(each["dst"], each.get("lladdr"), each["state"]) for each in found["neighbours"]]
    receiver = export.receiver
    if own != [f"{export.address}/32"]:
        yield f"addresses: {', '.join(own) or 'none'}"
    if ways != [str(receiver.address)]:
        yield f"routes: {', '.join(ways) or 'none'}"
    if near != [(str(receiver.address), receiver.mac, ["PERMANENT"])]:
        yield f"neighbours: {near}"


def judge_out(found: Mapping[str, Any], export: Export) -> Finding:
    """Of what was tried, nothing left the card; what a tap saw leave is the sender's."""
    wanted = f"nothing leaves but datagrams to {export.receiver.address} port {export.receiver.port}"
    tries = found["tries"]
    if not tries:
        return Finding(kept=False, found="nothing could be tried inside the namespace", wanted=wanted)
    wrong = [
        f"a frame left that nobody may send: {text[:48]}"
        for text in tries["left"]
        if not _is_allowed(text, export)
    ]
    said = "\n".join(f"{name}: {what}" for name, what in tries["said"].items())
    return Finding(not wrong, lines(wrong, otherwise=said), wanted)


def _is_allowed(text: str, export: Export) -> bool:
    """Whether a frame (the beginning of it, in hexadecimal digits) is an unfragmented export datagram."""
    frame, receiver = bytes.fromhex(text), export.receiver
    return (
        frame[:6] == bytes.fromhex(receiver.mac.replace(":", ""))
        and frame[12:15] == b"\x08\x00\x45"
        and not int.from_bytes(frame[20:22]) & 0x3FFF
        and frame[23] == 17  # noqa: PLR2004 - UDP
        and frame[30:34] == receiver.address.packed
        and frame[36:38] == receiver.port.to_bytes(2)
    )


def judge_card(found: Mapping[str, Any]) -> Finding:
    """What cards do below the kernel is off, as far as a host can tell."""
    states = {each["name"]: each for each in found["card"]}
    wrong = [
        f"{name} is on {each['detail']}".strip() for name, each in states.items() if each["state"] == "on"
    ]
    if not states:
        wrong.append("nobody looked")
    told = ", ".join(f"{name}: {each['state']}" for name, each in states.items())
    wanted = "PAUSE, Wake-on-LAN, the firmware's LLDP agent, virtual functions and RoCE off or not there"
    return Finding(not wrong, lines(wrong, otherwise=told), wanted)
