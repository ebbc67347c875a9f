"""The preflight checks of one node: facts and wishes in, verdicts out.

What looks at the network is in ``network_checks``.
"""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import TYPE_CHECKING, Any, Final

from appliance.node.boot_checks import boot_checks, boot_room
from appliance.node.disk_checks import disk_checks
from appliance.node.export_checks import export_checks
from appliance.node.network_checks import network_checks
from appliance.node.qualification.clock import CLOCK_SECONDS
from appliance.node.serving_checks import serving_checks
from appliance.node.verdict import Check

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from appliance.bundle.manifest import Manifest
    from appliance.definition.inventory import Address, Inventory, NodeEntry

#: What the oldest and newest supported ansible-core can drive (their published support matrix).
PYTHON: Final = ((3, 10), (3, 14))
#: Room besides what is counted, for logs and lists.
MARGIN: Final = 256 << 20
#: Kinds of components that are unpacked when they are installed, to about so many times their size.
UNPACKED_KINDS: Final = frozenset({"debian", "python", "toolkit"})
UNPACKED_TIMES: Final = 4
#: What systemd says of itself when it is up; "degraded" means that some unit failed, not that it is down.
SYSTEMD_UP: Final = frozenset({"running", "degraded", "starting", "initializing", "maintenance"})


@dataclass(frozen=True)
class Wanted:
    """What the checks compare with: bundle, identity, size in bytes, site, the station's clock.

    ``shared``: how many of these bytes a node has already, in the copy of another bundle.
    """

    manifest: Manifest
    digest: str
    size: int
    inventory: Inventory
    time: float
    shared: int = 0


def node_checks(node: NodeEntry, facts: Mapping[str, Any], wanted: Wanted) -> list[Check]:
    """Every check that looks at a node's facts (``remote/facts.py``)."""
    return [
        *_system(facts, wanted.manifest),
        *serving_checks(wanted.manifest),
        _privilege(facts),
        *disk_checks(node, facts),
        _space(facts, wanted),
        *boot_checks(facts, wanted.manifest),
        *network_checks(node, facts, wanted.manifest, wanted.inventory),
        *export_checks(node, facts, wanted.manifest, wanted.inventory),
        *([_operator(facts, wanted.inventory)] if node.connection == "ssh" else []),
        _package_locks(facts),
        _clock(facts, wanted.time),
        *_time_source(wanted),
        _reverted(facts),
    ]


def _system(facts: Mapping[str, Any], manifest: Manifest) -> Iterator[Check]:
    target = manifest.target
    python = tuple(facts["python"])
    spelled = ".".join(str(part) for part in python)
    low, high = (".".join(str(part) for part in bound) for bound in PYTHON)
    yield Check(
        "python3",
        PYTHON[0] <= python[:2] <= PYTHON[1],
        spelled,
        f"{low} to {high}",
        "install the python3 of the target distribution from its medium",
    )
    yield Check(
        "python-of-bundle",
        ".".join(str(part) for part in python[:2]) == target.python,
        spelled,
        target.python,
        "the bundle's wheels are for another Python: build a bundle for this node",
    )
    yield Check(
        "distribution",
        (facts["distribution"], facts["suite"]) == (target.distribution, target.suite),
        f"{facts['distribution']} {facts['suite']}".strip() or "unknown",
        f"{target.distribution} {target.suite}",
        "install the system the bundle is for, or build a bundle for this one",
    )
    yield Check(
        "architecture",
        facts["architecture"] == target.architecture,
        facts["architecture"] or "unknown",
        target.architecture,
        "build a bundle for this architecture",
    )
    yield Check(
        "systemd",
        facts["systemd"] in SYSTEMD_UP,
        facts["systemd"] or "not the init system",
        "systemd as the running init system",
        "boot the node with systemd",
    )


def _privilege(facts: Mapping[str, Any]) -> Check:
    return Check(
        "root",
        facts["uid"] == 0,
        f"user {facts['user']}, no password-less sudo" if facts["uid"] else "root",
        "root, or a user with password-less sudo",
        "set ssh.user to root, or allow the user: NAME ALL=(ALL) NOPASSWD: ALL",
    )


def _space(facts: Mapping[str, Any], wanted: Wanted) -> Check:
    # What is staged may be bytes that are shared, which are not written: they make no room twice.
    needed = max(0, min(wanted.size - facts["staged"], wanted.size - wanted.shared)) + MARGIN
    if (facts["installed"] or {}).get("digest") != wanted.digest:
        needed += max(0, UNPACKED_TIMES * _to_unpack(facts, wanted.manifest) - facts["unpacked"])
    if not facts["boot"]["apart"]:
        needed += boot_room(facts, wanted.manifest)
    return Check(
        "disk-space",
        facts["free"] >= needed,
        f"{facts['free'] / 1e6:,.0f} MB free",
        f"{needed / 1e6:,.0f} MB below /var/lib/appliance",
        "free or add disk space on the node",
    )


def _to_unpack(facts: Mapping[str, Any], manifest: Manifest) -> int:
    """Bytes of what is still to be unpacked: packages that are installed in that version are not."""
    return sum(
        file.size
        for name, component in manifest.components.items()
        # An engine's archive, too: no other plain file is unpacked.
        if component.kind in UNPACKED_KINDS or name == manifest.inference.engine
        for file in component.files
        if component.kind != "debian" or facts["packages"].get(file.name) != file.version
    )


def _operator(facts: Mapping[str, Any], inventory: Inventory) -> Check:
    """The address this station really comes from; any other would be shut out by the firewall."""
    management = inventory.management
    seen = _seen_address(facts["connection"])
    networks = ", ".join(str(network) for network in management.networks)
    return Check(
        "operator-address",
        seen is not None
        and seen in management.operator
        and any(seen in network for network in management.networks),
        f"the node sees this station as {seen or 'unknown'}",
        f"one of {', '.join(str(address) for address in management.operator)}, in {networks}",
        "correct management.operator and networks, or this station's address: you would be locked out",
    )


def _seen_address(connection: list[str]) -> Address | None:
    """The client's address in SSH_CONNECTION (sshd(8)), an IPv4 one in its own form."""
    try:
        address = ip_address(connection[0].partition("%")[0])
    except (IndexError, ValueError):
        return None
    mapped: IPv4Address | None = address.ipv4_mapped if isinstance(address, IPv6Address) else None
    return mapped or address


def _package_locks(facts: Mapping[str, Any]) -> Check:
    return Check(
        "package-locks",
        not facts["locks"],
        ", ".join(facts["locks"]) or "none held",
        "no apt or dpkg at work",
        "wait for the other package operation to end",
    )


def _clock(facts: Mapping[str, Any], station: float) -> Check:
    """Time decides nothing; a clock far off makes logs hard to read."""
    apart = facts["time"] - station
    return Check(
        "clock",
        abs(apart) <= CLOCK_SECONDS,
        f"{apart:+.0f} s from this station's",
        f"within {CLOCK_SECONDS} s",
        "set the node's clock; nothing depends on it but the times in logs",
        level="information",
    )


def _time_source(wanted: Wanted) -> Iterator[Check]:
    """The program that follows the site's clock comes with the bundle, or not at all."""
    from appliance.node.host_data import load_host_data

    source = wanted.inventory.host.time.source
    package = load_host_data().time_packages[source]
    if package:
        components = wanted.manifest.components.values()
        carried = {file.name for each in components if each.kind == "debian" for file in each.files}
        yield Check(
            "time-source",
            package in carried,
            f"the bundle has {'the' if package in carried else 'no'} package {package}",
            f"{package}, for time.source: {source}",
            f"name {package} among the packages of the bundle's definition, or set time.source to none",
        )


def _reverted(facts: Mapping[str, Any]) -> Check:
    fired = facts["reverted"]
    found = f"undone at {fired.get('fired')} (the node's clock)" if isinstance(fired, dict) else "never"
    return Check(
        "earlier-revert",
        not fired,
        found,
        "no network change was undone by its timer",
        "an earlier run lost its connection; this run tries again",
        level="information",
    )
