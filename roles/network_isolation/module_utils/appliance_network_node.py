"""The node's network, read and changed: files, iproute2, systemd, /proc.  Decides nothing.

Commands are the node's own; each failure is ``Impossible`` with what the command wrote.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

from ansible.module_utils.appliance_network_plan import Impossible, Link, Observed, Service, made_text

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from typing import Any

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
    return parse_links(run("ip", "-json", "-details", "address", "show"), _device)


def _device(name: str) -> str:
    """Where the device behind an interface is in sysfs; empty when there is none."""
    path = Path(f"/sys/class/net/{name}/device")
    return str(path.resolve()) if path.exists() else ""


def parse_links(listing: str, device: Callable[[str], str]) -> tuple[Link, ...]:
    """Links from ``ip -json -details address``; ``device`` gives the sysfs path behind an interface."""
    return tuple(
        Link(
            name=entry["ifname"],
            # While a card is in a bond its address is the bond's; the permanent one is told beside it.
            mac=entry.get("permaddr") or entry.get("address", ""),
            hardware=bool(device(entry["ifname"])),
            addresses=tuple(f"{row['local']}/{row['prefixlen']}" for row in entry.get("addr_info", ())),
            pci=pci_address(device(entry["ifname"])),
            made=_made(entry),
            master=entry.get("master", ""),
            mtu=entry.get("mtu", 0),
        )
        for entry in json.loads(listing)
        if "LOOPBACK" not in entry["flags"]
    )


def pci_address(path: str) -> str:
    """The PCI function that a sysfs path leads to, ``0000:5e:00.0``; empty where it is none.

    Below a card there may be one more bus (virtio); what is plugged into a USB controller is not the card.
    """
    found = re.findall(r"/([0-9a-f]{4}:[0-9a-f]{2}:[01][0-9a-f]\.[0-7])(?=/|$)", path)
    return found[-1] if found and "/usb" not in path else ""


def _made(entry: dict[str, Any]) -> str:
    """What a bond or VLAN is, in the plan's words; empty for everything else."""
    kind = entry.get("linkinfo", {}).get("info_kind")
    data = entry.get("linkinfo", {}).get("info_data", {})
    if kind == "vlan":
        return made_text(kind, {"id": data.get("id"), "link": entry.get("link")})
    if kind == "bond":
        rate, policy = data.get("ad_lacp_rate"), data.get("xmit_hash_policy")
        values = {"mode": data.get("mode"), "lacp_rate": rate, "transmit_hash_policy": policy}
        return made_text(kind, values)
    return ""


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


def clear_links(found: Iterable[Difference]) -> bool:
    """Take cards out of what they do not belong to, and remove bonds and VLANs that are wrong or nobody's.

    Returns whether systemd-networkd must be started anew: it makes a bond or VLAN that vanished only then.
    """
    devices = [item for item in found if item.kind == "device"]
    for item in found:
        if item.kind == "master" and item.found:
            run("ip", "link", "set", "dev", item.subject, "nomaster")
    # A VLAN goes with the bond it is on; that one is gone then is no failure.
    for item in sorted(devices, key=lambda item: item.found.startswith("bond")):
        if item.found:
            _try("ip", "link", "del", "dev", item.subject)
    return bool(devices)


def configure(devices: list[str], *, anew: bool) -> None:
    """Let netplan write networkd's files, and networkd follow them; ``anew``: by starting again."""
    run("netplan", "generate")
    if anew:
        run("systemctl", "restart", "systemd-networkd.service")
        return
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
