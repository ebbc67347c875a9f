"""The node's network, read and changed: files, iproute2, systemd, /proc.  Decides nothing.

Commands are the node's own; each failure is ``Impossible`` with what the command wrote.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

from ansible.module_utils.appliance_network_plan import Impossible, Link, Observed, Service

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from ansible.module_utils.appliance_network_plan import Difference, Wanted

#: Programs that ask for addresses on their own, whoever started them.
DHCP_CLIENTS = frozenset({"dhclient", "dhcpcd", "udhcpc"})

#: Where others configure the network.  What netplan generates (10-netplan-*) is its output, not input.
FOREIGN = (
    "etc/netplan/*.yaml",
    "run/netplan/*.yaml",
    "etc/systemd/network/*.network",
    "etc/systemd/network/*.network.d",
    "etc/systemd/network/*.netdev",
    "etc/systemd/network/*.netdev.d",
    "run/systemd/network/*.network",
    "run/systemd/network/*.netdev",
    "etc/network/interfaces.d/*",
    "etc/NetworkManager/system-connections/*",
)

PROC = Path("/proc/sys/net")


def run(*command: str) -> str:
    """Standard output of a command."""
    try:
        done = subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, text=True, errors="replace", check=False
        )
    except FileNotFoundError as fault:
        raise Impossible(f"{command[0]} is not installed; the role base installs it") from fault
    if done.returncode:
        wrote = (done.stderr or done.stdout).strip()
        raise Impossible(f"{' '.join(command)} ended with {done.returncode}: {wrote}")
    return done.stdout


# --- reading -----------------------------------------------------------------------------------


def observe(wanted: Wanted) -> Observed:
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


def read_links() -> tuple[Link, ...]:
    """Every interface but ``lo``, with all its addresses."""
    return parse_links(run("ip", "-json", "address", "show"), lambda path: Path(path).exists())


def parse_links(listing: str, exists: Callable[[str], bool]) -> tuple[Link, ...]:
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


def read_routes() -> tuple[str, ...]:
    """Routes that the kernel did not make by itself, as arguments of ``ip route del``."""
    routes: list[str] = []
    for family in ("-4", "-6"):
        listing = run("ip", "-json", "-details", family, "route", "show", "table", "all")
        routes += parse_routes(family, listing)
    return tuple(routes)


def parse_routes(family: str, listing: str) -> list[str]:
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


def read_text(path: str) -> str | None:
    """A file's text; None when it is absent or a link (ours are plain files)."""
    if Path(path).is_symlink():
        return None
    try:
        return Path(path).read_text("utf-8", "surrogateescape")
    except FileNotFoundError:
        return None


def find_foreign(own: Iterable[str]) -> tuple[str, ...]:
    """Files of others that configure the network, sorted."""
    found = [path for pattern in FOREIGN for path in Path("/").glob(pattern)]
    inputs = {str(path) for path in found if not path.name.startswith("10-netplan-")}
    return tuple(sorted(inputs - set(own)))


def read_services(units: tuple[str, ...]) -> dict[str, Service]:
    """``{unit: Service}``; a pattern such as ``ifup@*.service`` stands for whatever is loaded of it."""
    listing = run("systemctl", "show", "--property=Id,ActiveState,UnitFileState", *units)
    return parse_services(listing, units)


def parse_services(listing: str, units: tuple[str, ...]) -> dict[str, Service]:
    """Services from ``systemctl show``, which answers exact names always and patterns only when loaded."""
    states: dict[str, Service] = {}
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


def read_settings(patterns: Iterable[str]) -> dict[str, str]:
    """Values by path below /proc/sys/net, for every interface there is."""
    files = [file for pattern in patterns for file in PROC.glob(pattern)]
    return {str(file.relative_to(PROC)): file.read_text("ascii").strip() for file in files}


def read_clients() -> dict[int, str]:
    """DHCP clients among the node's processes, ``{process id: name}``."""
    clients = {}
    for path in Path("/proc").glob("[0-9]*/comm"):
        try:
            name = path.read_text("utf-8", "replace").strip()
        except OSError:  # the process ended meanwhile
            continue
        if name in DHCP_CLIENTS:
            clients[int(path.parent.name)] = name
    return clients


# --- changing ----------------------------------------------------------------------------------


def validate_netplan(path: str, text: str) -> None:
    """Let the real netplan read the file in a root of its own; its complaint names line and column."""
    with tempfile.TemporaryDirectory(prefix="appliance-netplan-", dir="/run") as root:
        write(root + path, text, 0o600)
        run("netplan", "generate", "--root-dir", root)


def write(path: str, text: str, mode: int) -> None:
    """Replace a file (or link) whole."""
    folder = Path(path).parent
    folder.mkdir(parents=True, exist_ok=True)
    descriptor, draft = tempfile.mkstemp(dir=folder, prefix=".appliance-")
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write(text)
    Path(draft).chmod(mode)
    Path(draft).replace(path)


def put_aside(path: str, folder: str) -> None:
    """Move a file of others to the same path below ``folder``; a plain copy back restores it."""
    shutil.move(path, _kept(path, folder))


def keep_copy(path: str, folder: str) -> None:
    """Copy what stands at a path we are about to write, links as links."""
    if os.path.lexists(path):
        shutil.copy2(path, _kept(path, folder), follow_symlinks=False)


def _kept(path: str, folder: str) -> Path:
    kept = Path(folder + path)
    kept.parent.mkdir(parents=True, exist_ok=True)
    return kept


def set_service(unit: str, *, on: bool) -> None:
    """Enable and start, or disable and stop."""
    if "*" in unit:  # instances are started by others and cannot be enabled as a pattern
        run("systemctl", "stop", unit)
    else:
        run("systemctl", "enable" if on else "disable", "--now", unit)


def stop_client(pid: int) -> None:
    """End a DHCP client; it may be gone already."""
    try:
        os.kill(pid, signal.SIGTERM)
    except ProcessLookupError:
        return


def write_setting(name: str, value: str) -> None:
    """``name``: path below /proc/sys/net."""
    (PROC / name).write_text(value, "ascii")


def configure(devices: list[str]) -> None:
    """Let netplan write networkd's files, and networkd follow them."""
    run("netplan", "generate")
    run("networkctl", "reload")
    run("networkctl", "reconfigure", *devices)


def remove_leftover(item: Difference) -> None:
    """Remove an address or route, correct a setting; judges nothing, as it may have gone by itself."""
    if item.kind == "surplus":
        device, address = item.subject.split()
        _try("ip", "address", "del", address, "dev", device)
    elif item.kind == "route":
        family, *words = item.subject.split()
        _try("ip", family, "route", "del", *words)
    elif item.kind == "setting":  # an interface that came up meanwhile brings the kernel's defaults
        write_setting(item.subject, item.wanted)


def _try(*command: str) -> None:
    subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, check=False)


def wait_until(settled: Callable[[], bool], seconds: int) -> bool:
    """Ask until ``settled()`` holds; whether it did in time."""
    deadline = time.monotonic() + seconds
    while not settled():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.1)
    return True
