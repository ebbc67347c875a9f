"""The node's network, read and changed: files, iproute2, systemd, /proc.  Decides nothing.

Commands are the node's own; each failure is ``Impossible`` with what the command wrote.
"""

from __future__ import annotations

import glob
import json
import os
import shutil
import signal
import subprocess
import tempfile
import time

from ansible.module_utils.appliance_network_plan import Impossible, Link, Observed, Service

#: Programs that ask for addresses on their own, whoever started them.
DHCP_CLIENTS = frozenset({"dhclient", "dhcpcd", "udhcpc"})

#: Where others configure the network.  What netplan generates (10-netplan-*) is its output, not input.
FOREIGN = (
    "/etc/netplan/*.yaml",
    "/run/netplan/*.yaml",
    "/etc/systemd/network/*.network",
    "/etc/systemd/network/*.network.d",
    "/etc/systemd/network/*.netdev",
    "/etc/systemd/network/*.netdev.d",
    "/run/systemd/network/*.network",
    "/run/systemd/network/*.netdev",
    "/etc/network/interfaces.d/*",
    "/etc/NetworkManager/system-connections/*",
)

PROC = "/proc/sys/net"


def run(*command):
    """Standard output of a command."""
    try:
        done = subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, text=True, errors="replace", check=False
        )
    except FileNotFoundError as fault:
        raise Impossible(f"{command[0]} is not installed on this node; the role base installs it") from fault
    if done.returncode:
        raise Impossible(f"{' '.join(command)} ended with {done.returncode}: {(done.stderr or done.stdout).strip()}")
    return done.stdout


# --- reading -----------------------------------------------------------------------------------


def observe(wanted):
    """The network as it is, as far as ``wanted`` speaks of it."""
    return Observed(
        links=read_links(),
        routes=read_routes(),
        files={path: read_text(path) for path in wanted.files},
        foreign=find_foreign(wanted.files),
        services=read_services((*wanted.services_on, *wanted.services_off)),
        settings=read_settings(wanted.settings),
        clients=read_clients(),
    )


def read_links():
    """Every interface but ``lo``, with all its addresses."""
    return parse_links(run("ip", "-json", "address", "show"), os.path.exists)


def parse_links(listing, exists):
    """Links from ``ip -json address``; ``exists`` tells whether a path does."""
    return tuple(
        Link(
            name=entry["ifname"],
            mac=entry.get("address", ""),
            hardware=exists(f"/sys/class/net/{entry['ifname']}/device"),
            addresses=tuple(f"{row['local']}/{row['prefixlen']}" for row in entry.get("addr_info", ())),
        )
        for entry in json.loads(listing)
        if "LOOPBACK" not in entry["flags"]
    )


def read_routes():
    """Routes that the kernel did not make by itself, as arguments of ``ip route del``."""
    routes = []
    for family in ("-4", "-6"):
        routes += parse_routes(family, run("ip", "-json", "-details", family, "route", "show", "table", "all"))
    return tuple(routes)


def parse_routes(family, listing):
    """``["-4 default via 10.0.0.1 dev eth0 table main", …]`` from ``ip -json -details route``."""
    routes = []
    for entry in json.loads(listing or "[]"):
        own = entry.get("type", "unicast") != "unicast" or entry.get("protocol") == "kernel"
        if own or entry.get("dev") == "lo":
            continue
        words = [family, entry["dst"]]
        for key, word in (("gateway", "via"), ("dev", "dev"), ("table", "table"), ("metric", "metric")):
            words += [word, str(entry[key])] if key in entry else []
        routes.append(" ".join(words))
    return routes


def read_text(path):
    """A file's text; None when it is absent or a link (ours are plain files)."""
    if os.path.islink(path):
        return None
    try:
        with open(path, encoding="utf-8", errors="surrogateescape") as file:
            return file.read()
    except FileNotFoundError:
        return None


def find_foreign(own):
    """Files of others that configure the network, sorted."""
    found = {path for pattern in FOREIGN for path in glob.glob(pattern)}
    return tuple(sorted(p for p in found if p not in own and not os.path.basename(p).startswith("10-netplan-")))


def read_services(units):
    """``{unit: Service}``; a pattern such as ``ifup@*.service`` stands for whatever is loaded of it."""
    return parse_services(run("systemctl", "show", "--property=Id,ActiveState,UnitFileState", *units), units)


def parse_services(listing, units):
    """Services from ``systemctl show``, which answers exact names always and patterns only when loaded."""
    states = {}
    for block in listing.strip().split("\n\n"):
        fields = dict(line.split("=", 1) for line in block.splitlines() if "=" in line)
        if "Id" not in fields:
            continue
        state = Service(
            active=fields["ActiveState"] in {"active", "activating", "reloading"},
            enabled=fields["UnitFileState"] in {"enabled", "enabled-runtime"},
        )
        stem, _, _ = fields["Id"].partition("@")
        name = fields["Id"] if fields["Id"] in units else f"{stem}@*.service"
        if name not in states or state.active:
            states[name] = state
    return states


def read_settings(patterns):
    """Values by path below /proc/sys/net, for every interface there is."""
    files = [file for pattern in patterns for file in glob.glob(f"{PROC}/{pattern}")]
    values = {}
    for path in files:
        with open(path, encoding="ascii") as file:
            values[os.path.relpath(path, PROC)] = file.read().strip()
    return values


def read_clients():
    """DHCP clients among the node's processes, ``{process id: name}``."""
    clients = {}
    for path in glob.glob("/proc/[0-9]*/comm"):
        try:
            with open(path, encoding="utf-8", errors="replace") as file:
                name = file.read().strip()
        except OSError:  # the process ended meanwhile
            continue
        if name in DHCP_CLIENTS:
            clients[int(path.split("/")[2])] = name
    return clients


# --- changing ----------------------------------------------------------------------------------


def validate_netplan(path, text):
    """Let the real netplan read the file in a root of its own; its complaint names line and column."""
    with tempfile.TemporaryDirectory(prefix="appliance-netplan-", dir="/run") as root:
        os.makedirs(root + os.path.dirname(path))
        write(root + path, text, 0o600)
        run("netplan", "generate", "--root-dir", root)


def write(path, text, mode):
    """Replace a file (or link) whole."""
    os.makedirs(os.path.dirname(path), exist_ok=True)
    descriptor, draft = tempfile.mkstemp(dir=os.path.dirname(path), prefix=".appliance-")
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write(text)
    os.chmod(draft, mode)
    os.replace(draft, path)


def put_aside(path, folder):
    """Move a file of others to the same path below ``folder``; a plain copy back restores it."""
    kept = folder + path
    os.makedirs(os.path.dirname(kept), mode=0o700, exist_ok=True)
    shutil.move(path, kept)


def keep_copy(path, folder):
    """Copy what stands at a path we are about to write, links as links."""
    if os.path.lexists(path):
        kept = folder + path
        os.makedirs(os.path.dirname(kept), mode=0o700, exist_ok=True)
        shutil.copy2(path, kept, follow_symlinks=False)


def set_service(unit, on):
    """Enable and start, or disable and stop."""
    if "*" in unit:  # instances are started by others and cannot be enabled as a pattern
        run("systemctl", "stop", unit)
    else:
        run("systemctl", "enable" if on else "disable", "--now", unit)


def stop_client(pid):
    """End a DHCP client; it may be gone already."""
    try:
        os.kill(pid, signal.SIGTERM)
    except ProcessLookupError:
        return


def write_setting(name, value):
    with open(f"{PROC}/{name}", "w", encoding="ascii") as file:
        file.write(value)


def configure(devices):
    """Let netplan write networkd's files, and networkd follow them."""
    run("netplan", "generate")
    run("networkctl", "reload")
    run("networkctl", "reconfigure", *devices)


def remove_leftover(item):
    """Remove an address or route, correct a setting; it may have gone by itself, so nothing is judged here."""
    if item.kind == "surplus":
        device, address = item.subject.split()
        _try("ip", "address", "del", address, "dev", device)
    elif item.kind == "route":
        family, *words = item.subject.split()
        _try("ip", family, "route", "del", *words)
    elif item.kind == "setting":  # an interface that came up meanwhile brings the kernel's defaults
        write_setting(item.subject, item.wanted)


def _try(*command):
    subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, check=False)


def wait_until(settled, seconds):
    """Ask until ``settled()`` holds; whether it did in time."""
    deadline = time.monotonic() + seconds
    while not settled():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.1)
    return True
