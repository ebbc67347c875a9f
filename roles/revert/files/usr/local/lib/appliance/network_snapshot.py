"""The network of a node and the settings of its SSH server, saved into a folder and put back from it.

The rules:

* Saved are files (with owner, mode and links), the state of network services, which links there are and
  their packet sizes, live addresses and routes, kernel settings, and the live packet filter.  Live state
  is put back as it was, whatever the files say.
* A snapshot is complete or it is not there.
* Restoring does as much as it can: one failing step is told and the next is taken.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import time
from pathlib import Path
from typing import Any

#: Configuration by which a change could cut the operator off, relative to the root.
PATHS = (
    "etc/netplan",
    "run/netplan",
    "etc/systemd/network",
    "etc/network/interfaces",
    "etc/network/interfaces.d",
    "etc/NetworkManager/system-connections",
    "etc/cloud/cloud.cfg.d/99-appliance-network.cfg",
    "etc/sysctl.d/90-appliance-network.conf",
    "etc/resolv.conf",
    "etc/default/ufw",
    "etc/ufw",
    "etc/systemd/system/ufw.service.d",
    "etc/ssh/sshd_config.d/00-appliance.conf",
)

#: Units that are turned on or off, in the order in which they are put back: a socket before the service
#: that it would start again, and systemd-networkd off before another program configures the interfaces.
UNITS = (
    "systemd-networkd.socket",
    "systemd-networkd-varlink.socket",
    "systemd-networkd.service",
    "systemd-networkd-wait-online.service",
    "systemd-network-generator.service",
    "networking.service",
    "NetworkManager.service",
    "dhcpcd.service",
    "connman.service",
    "systemd-resolved-varlink.socket",
    "systemd-resolved-monitor.socket",
    "systemd-resolved.service",
    "ufw.service",
    "nftables.service",
    "netfilter-persistent.service",
    "firewalld.service",
)

#: Of these only whether they start at boot is put back; what they do is put back otherwise, or done once.
AT_BOOT_ONLY = {"systemd-networkd-wait-online.service", "systemd-network-generator.service", "ufw.service"}

#: Kernel settings that are changed, under /proc/sys/net.
SETTINGS = (
    "ipv4/ip_forward",
    *(
        f"ipv{version}/conf/*/{name}"
        for version in (4, 6)
        for name in ("accept_redirects", "accept_source_route")
    ),
    *(f"ipv4/conf/*/{name}" for name in ("secure_redirects", "send_redirects", "rp_filter")),
    *(f"ipv4/conf/*/{name}" for name in ("arp_ignore", "arp_announce", "proxy_arp")),
    *(f"ipv6/conf/*/{name}" for name in ("forwarding", "accept_ra", "autoconf", "addr_gen_mode")),
)

#: Times are the node's own; its clock may be wrong, so nothing is decided by them.
RFC3339 = "%Y-%m-%dT%H:%M:%SZ"

FILTERS = {"rules.v4": "iptables", "rules.v6": "ip6tables"}

#: Tables that iptables keeps in nftables: ``iptables-save`` saves them, ``nft`` could not put them back.
IPTABLES = {
    (family, table) for family in ("ip", "ip6") for table in ("filter", "nat", "mangle", "raw", "security")
}


class Node:
    """The machine: its files below ``root`` and the commands it runs."""

    def __init__(self, root: Path | str = "/") -> None:
        self.root = Path(root)

    def run(self, *command: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
        """The finished command; its failure is the caller's to judge."""
        return subprocess.run(
            command, input=stdin, capture_output=True, text=True, errors="replace", check=False
        )

    def has(self, program: str) -> bool:
        """Whether the program is installed."""
        return shutil.which(program, path="/usr/sbin:/usr/bin:/sbin:/bin") is not None


def save_files(node: Node, folder: Path) -> list[str]:
    """Copy every path of PATHS that exists; return the list of those."""
    kept = []
    for name in PATHS:
        source = node.root / name
        if source.is_symlink() or source.exists():
            copy_exactly(source, folder / name)
            kept.append(name)
    return kept


def copy_exactly(source: Path, target: Path) -> None:
    """A file, link or tree with owners and modes."""
    target.parent.mkdir(parents=True, exist_ok=True)
    if source.is_symlink():
        target.symlink_to(source.readlink())
    elif source.is_dir():
        target.mkdir()
        for child in sorted(source.iterdir()):
            copy_exactly(child, target / child.name)
    else:
        shutil.copyfile(source, target)
    status = source.lstat()
    os.chown(target, status.st_uid, status.st_gid, follow_symlinks=False)
    if not source.is_symlink():
        shutil.copystat(source, target)


def live_settings(node: Node) -> dict[str, str]:
    """Kernel settings by path below /proc/sys/net."""
    base = node.root / "proc/sys/net"
    files = [file for pattern in SETTINGS for file in sorted(base.glob(pattern))]
    return {str(file.relative_to(base)): file.read_text().strip() for file in files}


def live_network(node: Node) -> dict[str, Any]:
    """Addresses and routes as iproute2 gives them; link-local addresses are the kernel's own."""
    links = json.loads(node.run("ip", "-json", "address", "show").stdout or "[]")
    addresses = [
        {"dev": link["ifname"], "address": f"{entry['local']}/{entry['prefixlen']}"}
        for link in links
        for entry in link.get("addr_info", [])
        if entry.get("scope") == "global"
    ]
    routes: list[dict[str, Any]] = []
    for family in ("-4", "-6"):
        listing = node.run("ip", "-json", family, "route", "show").stdout or "[]"
        routes += [{"family": family, **entry} for entry in json.loads(listing) if "gateway" in entry]
    return {"addresses": addresses, "routes": routes}


def live_links(node: Node) -> dict[str, dict[str, Any]]:
    """``{name: {"kind": "bond", "mtu": 9000}}``; ``kind`` is empty for what nobody made."""
    listing = node.run("ip", "-json", "-details", "link", "show").stdout or "[]"
    return {
        link["ifname"]: {"kind": link.get("linkinfo", {}).get("info_kind", ""), "mtu": link["mtu"]}
        for link in json.loads(listing)
    }


def unit_states(node: Node) -> dict[str, dict[str, bool]]:
    """``{unit: {"active": bool, "enabled": bool}}`` of the units this node has."""
    properties = "--property=Id,LoadState,ActiveState,UnitFileState"
    shown = node.run("systemctl", "show", properties, *UNITS).stdout
    states = {}
    for block in shown.strip().split("\n\n"):
        fields = dict(line.split("=", 1) for line in block.splitlines() if "=" in line)
        if fields.get("LoadState") in {"loaded", "masked"}:
            states[fields["Id"]] = {
                "active": fields["ActiveState"] in {"active", "activating", "reloading"},
                "enabled": fields["UnitFileState"] in {"enabled", "enabled-runtime"},
            }
    return states


def persist(folder: Path) -> None:
    """Bring a tree to the disk; not everything, as ``sync`` does, for a model may be on its way there."""
    for path in (folder, *folder.rglob("*")):
        if not path.is_symlink():
            descriptor = os.open(path, os.O_RDONLY)
            os.fsync(descriptor)
            os.close(descriptor)


def save(node: Node, folder: Path) -> None:
    """Make ``folder`` a snapshot, completely or not at all."""
    draft = folder.with_name(f"{folder.name}.new")
    shutil.rmtree(draft, ignore_errors=True)
    (draft / "files").mkdir(parents=True, mode=0o700)
    record = {
        "saved": time.strftime(RFC3339, time.gmtime()),
        "files": save_files(node, draft / "files"),
        "units": unit_states(node),
        "settings": live_settings(node),
        "links": live_links(node),
        **live_network(node),
    }
    for name, program in FILTERS.items():
        if node.has(f"{program}-save"):
            (draft / name).write_text(node.run(f"{program}-save").stdout)
    if node.has("nft"):
        (draft / "rules.nft").write_text(nft_rules(node))
    (draft / "state.json").write_text(json.dumps(record, indent=1, sort_keys=True))
    persist(draft)
    draft.rename(folder)


def nft_rules(node: Node) -> str:
    """Tables of nftables' own, as text that makes each of them what it is now."""
    text = ""
    for line in node.run("nft", "list", "tables").stdout.splitlines():
        _, family, name = line.split()
        if (family, name) not in IPTABLES:
            listing = node.run("nft", "list", "table", family, name).stdout
            text += f"table {family} {name}\ndelete table {family} {name}\n{listing}"
    return text


def saved_at(folder: Path) -> str:
    """When the snapshot was made."""
    return str(json.loads((folder / "state.json").read_text())["saved"])


def restore(node: Node, folder: Path) -> list[str]:
    """Put the snapshot back; what went wrong, one line per step."""
    record = json.loads((folder / "state.json").read_text())
    devices = {entry["dev"] for entry in record["addresses"]}
    steps = {
        "open the packet filter": lambda: open_filter(node),
        "files": lambda: restore_files(node, folder / "files", record["files"]),
        "links": lambda: remove_links(node, record.get("links", {})),
        "units": lambda: restore_units(node, record["units"], devices),
        "kernel settings": lambda: restore_settings(node, record["settings"]),
        "packet sizes": lambda: restore_mtus(node, record.get("links", {})),
        "addresses and routes": lambda: restore_network(node, record),
        "packet filter": lambda: restore_filter(node, folder),
        "SSH server": lambda: reload_ssh(node),
    }
    faults = []
    for name, step in steps.items():
        try:
            step()
        except (OSError, ValueError, KeyError) as fault:
            faults.append(f"{name}: {fault}")
    return faults


def restore_files(node: Node, folder: Path, kept: list[str]) -> None:
    """Make every path of PATHS what it was; paths that were absent go."""
    for name in PATHS:
        target = node.root / name
        new = target.with_name(f".{target.name}.appliance-revert")
        remove(new)
        if name in kept:
            copy_exactly(folder / name, new)
        remove(target)
        if name in kept:
            new.rename(target)


def remove(path: Path) -> None:
    """A file, link or tree that may be there."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def open_filter(node: Node) -> None:
    """Take ufw's rules out of the kernel, so that nothing blocks while the rest is put back."""
    init = node.root / "usr/lib/ufw/ufw-init"
    if init.exists():
        require(node.run(str(init), "force-stop"))


def restore_filter(node: Node, folder: Path) -> None:
    """The live packet filter of before, whole; an empty one was empty."""
    for name, program in FILTERS.items():
        saved = folder / name
        if saved.exists() and saved.read_text().strip():
            require(node.run(f"{program}-restore", stdin=saved.read_text()))
    own = folder / "rules.nft"
    if own.exists() and own.read_text().strip():
        require(node.run("nft", "-f", "-", stdin=own.read_text()))


def remove_links(node: Node, before: dict[str, dict[str, Any]]) -> None:
    """Bonds and VLANs that the change made go, so that their cards are free for who had them before."""
    there = live_links(node)
    # A VLAN goes with the bond that it is on.
    for kind in ("vlan", "bond"):
        for name, link in there.items():
            if link["kind"] == kind and before and before.get(name, {}).get("kind") != kind:
                require(node.run("ip", "link", "del", "dev", name))


def restore_mtus(node: Node, before: dict[str, dict[str, Any]]) -> None:
    """The packet sizes of before; systemd-networkd leaves them when nobody asks for one any more."""
    for name, link in live_links(node).items():
        if name in before and link["mtu"] != before[name]["mtu"]:
            require(node.run("ip", "link", "set", "dev", name, "mtu", str(before[name]["mtu"])))


def restore_units(node: Node, states: dict[str, dict[str, bool]], devices: set[str]) -> None:
    """Enabled and active as before.  networkd reads its files again even if it was running."""
    require(node.run("systemctl", "daemon-reload"))
    if node.has("netplan"):
        # netplan's generator writes networkd's files from what is in /etc/netplan now.
        for stale in (node.root / "run/systemd/network").glob("10-netplan-*"):
            stale.unlink()
        require(node.run("netplan", "generate"))
    for unit, before in states.items():
        node.run("systemctl", "enable" if before["enabled"] else "disable", unit)
        if unit in AT_BOOT_ONLY:
            continue
        if before["active"]:
            if unit == "networking.service" and node.run("systemctl", "is-active", unit).returncode:
                for device in sorted(devices):  # ifup fails on an address that is there already
                    node.run("ip", "address", "flush", "dev", device, "scope", "global")
            verb = "restart" if unit == "systemd-networkd.service" else "start"
            require(node.run("systemctl", verb, unit))
        else:
            node.run("systemctl", "stop", unit)


def reload_ssh(node: Node) -> None:
    """Let a running SSH server read its configuration again; open sessions live on."""
    if node.run("systemctl", "is-active", "--quiet", "ssh.service").returncode == 0:
        require(node.run("systemctl", "reload", "ssh.service"))


def restore_settings(node: Node, settings: dict[str, str]) -> None:
    """Kernel settings of before; an interface may have gone since."""
    for name, value in settings.items():
        file = node.root / "proc/sys/net" / name
        if file.exists() and file.read_text().strip() != value:
            file.write_text(value)


def restore_network(node: Node, record: dict[str, Any]) -> None:
    """Addresses and gateways of before, where the services did not bring them back; no others."""
    before = {(entry["dev"], entry["address"]) for entry in record["addresses"]}
    present = {(entry["dev"], entry["address"]) for entry in live_network(node)["addresses"]}
    for device, address in sorted(before - present):
        require(node.run("ip", "link", "set", "dev", device, "up"))
        require(node.run("ip", "address", "replace", address, "dev", device))
    for device, address in sorted(present - before):
        require(node.run("ip", "address", "del", address, "dev", device))
    for route in live_network(node)["routes"]:
        if route_words(route) not in [route_words(each) for each in record["routes"]]:
            require(node.run("ip", route["family"], "route", "del", *route_words(route)))
    for route in record["routes"]:
        require(node.run("ip", route["family"], "route", "replace", *route_words(route)))


def route_words(route: dict[str, Any]) -> list[str]:
    """A route with a gateway as ``ip route`` arguments."""
    words = [route["dst"], "via", route["gateway"], "dev", route["dev"]]
    for key, word in (("protocol", "proto"), ("metric", "metric")):
        words += [word, str(route[key])] if key in route else []
    return words


def require(done: subprocess.CompletedProcess[str]) -> None:
    """Raise OSError with what a failed command wrote."""
    if done.returncode:
        raise OSError(f"{' '.join(map(str, done.args))}: {(done.stderr or done.stdout).strip()}")
