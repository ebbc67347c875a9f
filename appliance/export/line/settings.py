"""What a node's line for exporting is: one card, one address, one receiver.  Pure.

On the node these values are a file, ``/etc/appliance/export-line.json``, which the role ``log_export``
writes: ``{"format": 1, "match": {"mac": …} or {"pci": …}, "address": …, "receiver": {"address", "mac",
"port"}}``.
"""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import dataclass
from ipaddress import AddressValueError, IPv4Address
from typing import Final

from appliance.errors import SettingsInvalid
from appliance.trust.record import Record

#: The namespace, and the card's name in it, whatever it is called elsewhere.
NAMESPACE: Final = "appliance-export"
DEVICE: Final = "export0"

_MAC: Final = re.compile(r"[0-9a-f][02468ace](:[0-9a-f]{2}){5}")
_PCI: Final = re.compile(r"[0-9a-f]{4}:[0-9a-f]{2}:[01][0-9a-f]\.[0-7]")
_HINT: Final = "set `export` in the inventory and install again; this file is the installer's"
_LARGEST: Final = 4096
_PORTS: Final = range(1, 1 << 16)


@dataclass(frozen=True, slots=True)
class Line:
    """One line: the card's permanent MAC address or its PCI address, and who is at its two ends.

    ``receiver_mac`` is whoever takes the frames: the receiver, or the diode before it.
    """

    mac: str
    pci: str
    address: IPv4Address
    receiver: IPv4Address
    receiver_mac: str
    port: int

    @property
    def stamp(self) -> str:
        """SHA-256 of these values, in hexadecimal digits."""
        return hashlib.sha256(line_text(self).encode()).hexdigest()

    @property
    def card(self) -> str:
        """How the card is recognised, in words."""
        return f"MAC address {self.mac}" if self.mac else f"PCI address {self.pci}"


def line_text(line: Line) -> str:
    """The file of a line."""
    values = {
        "format": 1,
        "match": {"mac": line.mac} if line.mac else {"pci": line.pci},
        "address": str(line.address),
        "receiver": {"address": str(line.receiver), "mac": line.receiver_mac, "port": line.port},
    }
    return json.dumps(values, indent=1, sort_keys=True) + "\n"


def read_line(data: bytes, place: str) -> Line:
    """The line that a file says.

    Raises:
        SettingsInvalid: it says none.
    """
    if len(data) > _LARGEST:
        raise SettingsInvalid(f"{place} is too long for what it is", hint=_HINT)
    try:
        values = json.loads(data)
    except ValueError as fault:
        raise SettingsInvalid(f"{place} is no JSON", found=str(fault), hint=_HINT) from fault
    top = Record(values, place, SettingsInvalid, hint=_HINT).exactly(
        frozenset({"format", "match", "address", "receiver"})
    )
    if top.number("format") != 1:
        top.refuse("another format", found=str(top.number("format")), wanted="1")
    match = top.record("match").exactly(frozenset(), frozenset({"mac", "pci"}))
    if len(match.names()) != 1:
        match.refuse("the card must be recognised by one thing", wanted="mac or pci")
    there = top.record("receiver").exactly(frozenset({"address", "mac", "port"}))
    port = there.number("port")
    if port not in _PORTS:
        there.refuse("no port of UDP", found=str(port), wanted="1 to 65535")
    return Line(
        mac=match.text("mac", _MAC) if match.has("mac") else "",
        pci=match.text("pci", _PCI) if match.has("pci") else "",
        address=_address(top, "address"),
        receiver=_address(there, "address"),
        receiver_mac=there.text("mac", _MAC),
        port=port,
    )


def _address(record: Record, key: str) -> IPv4Address:
    text = record.text(key)
    try:
        return IPv4Address(text)
    except AddressValueError:
        record.refuse(f"{key} is no IPv4 address", found=text)
