"""The network of a node, put back from a snapshot.

The rules:

* Whatever fails is told and the next thing is tried, down to single files, addresses and rules.
* The packet filter is opened first and closed last: what fails in between leaves a node that answers.  A
  snapshot of a network that was confirmed is put back without: its filter comes first, each family whole.
* Live state is put back as it was, whatever the files say.
* Everything may be done again, from the beginning, after it was cut off anywhere.
* Of a damaged snapshot, what is there is put back, and nothing but files of ours is removed because it is
  not there.
"""

from __future__ import annotations

import re
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import lasting_files
import network_snapshot
import network_state
from network_state import AT_BOOT_ONLY, PATHS, UNITS, require, told

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from network_state import Node


class Faults(list[str]):
    """What went wrong, one line each."""

    @contextmanager
    def told(self, what: str) -> Iterator[None]:
        """Go on after a failure, and tell it."""
        try:
            yield
        except (OSError, ValueError, KeyError, TypeError) as fault:
            self.append(f"{what}: {fault}")


def restore(node: Node, folder: Path, *, opened: bool = True) -> Faults:
    """Put the snapshot back on a running node; what went wrong.

    ``opened``: nobody knows whether what is put back lets an operator in, so the filter is open meanwhile.
    """
    faults = Faults()
    record = _record(folder, faults)
    if opened:
        open_filter(node, faults)
    elif record:
        restore_filter(node, folder, record, faults)
    restore_files(node, folder / "files", record, faults)
    remove_links(node, record.get("links", {}), faults)
    restore_units(node, record, faults)
    if record and not opened:  # firewalld empties it as it starts or stops
        restore_filter(node, folder, record, faults)
    restore_settings(node, record.get("settings", {}), faults)
    restore_links(node, record.get("links", {}), faults)
    if record:
        restore_addresses(node, record["addresses"], faults)
        restore_routes(node, record["routes"], faults)
        restore_filter(node, folder, record, faults)
    restore_ssh(node, record, faults)
    return faults


def restore_for_boot(node: Node, folder: Path) -> Faults:
    """Put back what a node starts from, before its network starts; no unit is started or stopped here."""
    faults = Faults()
    record = _record(folder, faults)
    restore_files(node, folder / "files", record, faults)
    with faults.told("netplan"):
        generate(node)
    for unit, before in record.get("units", {}).items():
        node.run("systemctl", "--no-reload", "enable" if before["enabled"] else "disable", unit)
    return faults


def _record(folder: Path, faults: Faults) -> dict[str, Any]:
    """The record, and the room that was kept free; an empty record stands for one that is damaged."""
    with faults.told("snapshot"):
        lasting_files.remove(folder / "spare")
    with faults.told("snapshot"):
        return network_snapshot.read(folder)
    return {}


def restore_files(node: Node, folder: Path, record: dict[str, Any], faults: Faults) -> None:
    """Make every path of PATHS what it was; paths that were absent go."""
    for name in PATHS:
        source, target = folder / name, node.root / name
        with faults.told("files"):
            if name in record.get("files", ()) or (not record and source.exists()):
                lasting_files.put(source, target)
            elif record or "appliance" in target.name:
                lasting_files.remove(target)
            lasting_files.remove(lasting_files.beside(target))


def generate(node: Node) -> None:
    """Let netplan's generator write networkd's files from what is in /etc/netplan now."""
    if node.has("netplan"):
        for stale in (node.root / "run/systemd/network").glob("10-netplan-*"):
            stale.unlink()
        require(node.run("netplan", "generate"))


def open_filter(node: Node, faults: Faults) -> None:
    """Let everything pass, so that nothing blocks while the rest is put back, whatever fails of it.

    ufw takes its own rules away; if it does not, or not all, they are emptied without it.
    """
    init = node.root / "usr/lib/ufw/ufw-init"
    if init.exists():
        node.run(str(init), "force-stop")
    closed = Faults()
    for program in network_state.filters(node).values():
        with closed.told("open the packet filter"):
            listing = told(node, f"{program}-save")
            if listing.strip():
                require(node.run(f"{program}-restore", stdin=emptied(listing)))
    if closed and node.has("nft"):
        with faults.told("open the packet filter"):
            require(node.run("nft", "flush", "ruleset"))
    elif closed:
        faults += closed


def emptied(listing: str, but: frozenset[str] = frozenset()) -> str:
    """``iptables-restore`` text that leaves the tables of a listing open and empty; ``but``: not these."""
    lines: list[str] = []
    table = ""
    for line in listing.splitlines():
        words = line.split()
        if line.startswith("*"):
            table = line[1:].strip()
        if table in but or not words:
            continue
        if line.startswith("*") or line == "COMMIT":
            lines.append(line)
        elif line.startswith(":") and words[1] != "-":  # chains with a policy are the kernel's own
            lines.append(f"{words[0]} ACCEPT [0:0]")
    return "".join(f"{line}\n" for line in lines)


def restore_filter(node: Node, folder: Path, record: dict[str, Any], faults: Faults) -> None:
    """The live packet filter of before, whole; tables that were not there are emptied or go."""
    for name, program in network_state.filters(node).items():
        with faults.told("packet filter"):
            saved = (folder / name).read_text() if (folder / name).exists() else ""
            tables = frozenset(line[1:].strip() for line in saved.splitlines() if line.startswith("*"))
            text = saved + emptied(told(node, f"{program}-save"), but=tables)
            if text.strip():
                require(node.run(f"{program}-restore", stdin=text))
    if node.has("nft"):
        with faults.told("packet filter"):
            before = [tuple(table) for table in record.get("tables", ())]
            own = folder / "rules.nft"
            text = "".join(
                f"delete table {' '.join(table)}\n"
                for table in network_state.nft_tables(node)
                if table not in before
            )
            text += own.read_text() if own.exists() else ""
            if text.strip():
                require(node.run("nft", "-f", "-", stdin=text))


def rules(listing: str) -> list[str]:
    """What a listing of iptables-save or nft says that lasts: no remarks, counts or times.

    Tables of iptables that let everything pass are left out: they come and go as somebody looks at them.
    """
    lines = [line for line in listing.splitlines() if line.strip() and not line.startswith("#")]
    lines = [re.sub(r"\[\d+:\d+\]|packets \d+ bytes \d+", "", line).rstrip() for line in lines]
    found: list[str] = []
    table: list[str] = []
    for line in lines:
        table.append(line)
        if line == "COMMIT":
            if any(each.startswith("-A") or (each[0] == ":" and "ACCEPT" not in each) for each in table):
                found += table
            table = []
    return found + table


def remove_links(node: Node, before: dict[str, dict[str, Any]], faults: Faults) -> None:
    """Bonds and VLANs that the change made go, so that their cards are free for who had them before."""
    if not before:
        return
    with faults.told("links"):
        there = network_state.live_links(node)
        # A VLAN goes with the bond that it is on.
        for kind in ("vlan", "bond"):
            for name, link in there.items():
                if link["kind"] == kind and before.get(name, {}).get("kind") != kind:
                    with faults.told("links"):
                        require(node.run("ip", "link", "del", "dev", name))


def restore_links(node: Node, before: dict[str, dict[str, Any]], faults: Faults) -> None:
    """Up as before, with packets of the size of before; systemd-networkd leaves both when nobody asks."""
    with faults.told("links"):
        for name, link in network_state.live_links(node).items():
            if name in before and link["mtu"] != before[name]["mtu"]:
                with faults.told("packet sizes"):
                    require(node.run("ip", "link", "set", "dev", name, "mtu", str(before[name]["mtu"])))
            if before.get(name, {}).get("up") and not link["up"]:
                with faults.told("links"):
                    require(node.run("ip", "link", "set", "dev", name, "up"))


def restore_units(node: Node, record: dict[str, Any], faults: Faults) -> None:
    """Enabled and active as before.  networkd reads its files again even if it was running."""
    devices = {entry["dev"] for entry in record.get("addresses", ())}
    with faults.told("units"):
        require(node.run("systemctl", "daemon-reload"))
    with faults.told("netplan"):
        generate(node)
    units = record.get("units") or {"systemd-networkd.service": {"active": True, "enabled": True}}
    now: dict[str, dict[str, bool]] = {}
    with faults.told("units"):
        now = network_state.unit_states(node)
    for unit in sorted(units, key=_order):  # a record keeps no order
        before = units[unit]
        if now.get(unit, {}).get("enabled") is not before["enabled"]:
            node.run("systemctl", "enable" if before["enabled"] else "disable", unit)
        if unit in AT_BOOT_ONLY:
            continue
        if not before["active"]:
            if now.get(unit, {}).get("active") is not False:
                node.run("systemctl", "stop", unit)
            continue
        if unit == "networking.service" and node.run("systemctl", "is-active", unit).returncode:
            for device in sorted(devices):  # ifup fails on an address that is there already
                node.run("ip", "address", "flush", "dev", device, "scope", "global")
        with faults.told("units"):
            start(node, unit, "restart" if unit == "systemd-networkd.service" else "start")


def _order(unit: str) -> int:
    """The place of a unit among those that are put back; one that is not known any more is the last."""
    return UNITS.index(unit) if unit in UNITS else len(UNITS)


def start(node: Node, unit: str, verb: str) -> None:
    """Start or restart a unit, also one that systemd has given up because it failed too often."""
    node.run("systemctl", "reset-failed", unit)
    require(node.run("systemctl", verb, unit))


def restore_ssh(node: Node, record: dict[str, Any], faults: Faults) -> None:
    """A running server reads its configuration again, and one that ended starts; open sessions live on."""
    with faults.told("SSH server"):
        if node.run("systemctl", "is-active", "--quiet", "ssh.service").returncode == 0:
            require(node.run("systemctl", "reload", "ssh.service"))
    before = record.get("ssh", [])
    with faults.told("SSH server"):
        if not record:
            states = network_state.unit_states(node, network_state.SSH_UNITS)
            before = [unit for unit, state in states.items() if state["enabled"]]
    for unit in before:
        if node.run("systemctl", "is-active", "--quiet", unit).returncode:
            with faults.told("SSH server"):
                start(node, unit, "start")


def restore_settings(node: Node, settings: dict[str, str], faults: Faults) -> None:
    """Kernel settings of before; an interface may have gone since."""
    for name, value in settings.items():
        file = node.root / "proc/sys/net" / name
        with faults.told("kernel settings"):
            if file.exists() and file.read_text().strip() != value:
                file.write_text(value)


def restore_addresses(node: Node, saved: list[dict[str, str]], faults: Faults) -> None:
    """Addresses of before, where the services did not bring them back; no others."""
    before = {(entry["dev"], entry["address"]) for entry in saved}
    with faults.told("addresses"):
        present = {(each["dev"], each["address"]) for each in network_state.live_addresses(node)}
        for device, address in sorted(present - before):
            with faults.told("addresses"):
                require(node.run("ip", "address", "del", address, "dev", device))
        # With the first address of a network the kernel may have taken others of it away.
        present = {(each["dev"], each["address"]) for each in network_state.live_addresses(node)}
        for device, address in sorted(before - present):
            with faults.told("addresses"):
                require(node.run("ip", "link", "set", "dev", device, "up"))
                require(node.run("ip", "address", "replace", address, "dev", device))


def restore_routes(node: Node, saved: list[dict[str, Any]], faults: Faults) -> None:
    """Ways by a gateway as before, and no others."""
    wanted = [route_words(route) for route in saved]
    with faults.told("routes"):
        for route in network_state.live_routes(node):
            if route_words(route) not in wanted:
                with faults.told("routes"):
                    require(node.run("ip", route["family"], "route", "del", *route_words(route)))
        for route, words in zip(saved, wanted, strict=True):
            with faults.told("routes"):
                require(node.run("ip", route["family"], "route", "replace", *words))


def route_words(route: dict[str, Any]) -> list[str]:
    """A route with a gateway as ``ip route`` arguments."""
    words = [route["dst"], "via", route["gateway"], "dev", route["dev"]]
    for key, word in (("protocol", "proto"), ("metric", "metric")):
        words += [word, str(route[key])] if key in route else []
    return words
