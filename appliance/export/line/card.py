"""The card of the line: which one it is, and what it does without being asked.

A card listens and speaks below the kernel's rules: PAUSE frames, Wake-on-LAN, an LLDP agent in its
firmware, RoCE, virtual functions.  What can be switched off from here is switched off before the link is
up; what cannot is told.  A virtual card has none of it.
"""

from __future__ import annotations

import array
import fcntl
import json
import re
import socket
import struct
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from appliance.errors import ExportLineDown
from appliance.export.line.commands import run
from appliance.export.line.roce import read_settings

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from appliance.export.line.settings import Line

_NETWORK: Final = Path("/sys/class/net")
_SIOCETHTOOL: Final = 0x8946  # linux/sockios.h
# linux/ethtool.h
_GDRVINFO, _DRVINFO = 0x03, 196  # and the size of what is asked for
_GWOL, _SWOL, _GPAUSE, _SPAUSE = 0x05, 0x06, 0x12, 0x13
_GSTRINGS, _GPFLAGS, _SPFLAGS, _GSSET = 0x1B, 0x27, 0x28, 0x37
_PRIVATE_FLAGS: Final = 2
_STRING: Final = 32
#: Private flags of drivers (i40e, ice) about the firmware's LLDP agent; how they are when it is off.
_LLDP_OFF: Final = {"disable-fw-lldp": True, "fw-lldp-agent": False}
#: Kinds of link that borrow the address of a card.
_BORROWERS: Final = frozenset({"bond", "bridge", "vlan", "macvlan", "macvtap", "ipvlan"})


@dataclass(frozen=True, slots=True)
class Trait:
    """Something a card may do by itself.

    ``state``: ``off``, ``on``, ``not there``, or ``not known`` where no host can tell.
    """

    name: str
    state: str
    detail: str = ""


def find_card(line: Line, links: Sequence[Mapping[str, Any]], pci: Mapping[str, str]) -> str:
    """The kernel's name of the line's card.  Pure.

    Args:
        line: the line.
        links: what ``ip -json -details link`` tells.
        pci: PCI addresses by kernel name.

    Raises:
        ExportLineDown: there is none, or more than one.
    """
    cards = [
        each
        for each in links
        if each.get("link_type") == "ether" and each.get("linkinfo", {}).get("info_kind") not in _BORROWERS
    ]
    found = [
        str(each["ifname"])
        for each in cards
        if (line.mac and line.mac == (each.get("permaddr") or each.get("address")))
        or (line.pci and line.pci == pci.get(str(each["ifname"])))
    ]
    if len(found) != 1:
        there = ", ".join(f"{each['ifname']} {each.get('address')}" for each in cards)
        raise ExportLineDown(
            f"{len(found)} cards have {line.card}",
            found=there or "no card",
            wanted="one card for the export",
            hint="correct `export.match` in the inventory, or plug in the card; it is in no bond or bridge",
        )
    return found[0]


def look_for_card(line: Line) -> tuple[str, str, str]:
    """The line's card here: the kernel's name, its MAC address, its PCI address or "".

    Raises:
        ExportLineDown: there is none, or more than one.
    """
    links = json.loads(run("ip", "-json", "-details", "link", "show"))
    pci = {str(each["ifname"]): _pci(str(each["ifname"])) for each in links}
    name = find_card(line, links, pci)
    (link,) = (each for each in links if each["ifname"] == name)
    return name, str(link.get("permaddr") or link["address"]), pci[name]


def _pci(name: str) -> str:
    path = str((_NETWORK / name / "device").resolve())
    functions = re.findall(r"/([0-9a-f]{4}:[0-9a-f]{2}:[01][0-9a-f]\.[0-7])(?=/|$)", path)
    return functions[-1] if functions and "/usb" not in path else ""


def driver(name: str) -> str:
    """What the card's driver calls itself; empty where it does not say."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asked:
        told = _asked(asked, name, struct.pack("=I", _GDRVINFO).ljust(_DRVINFO, b"\0"))
    return told[4:][:_STRING].split(b"\0")[0].decode("ascii", "replace")


def silence(name: str) -> list[Trait]:
    """Switch off what the card does by itself, as far as that can be done here; says how it is then."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asked:
        _switch(asked, name, struct.pack("=4I", _SPAUSE, 0, 0, 0))
        _switch(asked, name, struct.pack("=3I8x", _SWOL, 0, 0))
        for index, (flag, off) in enumerate(_private_flags(asked, name)):
            if flag in _LLDP_OFF and off is not _LLDP_OFF[flag]:
                _flip(asked, name, index)
    virtual = _NETWORK / name / "device/sriov_numvfs"
    if virtual.is_file() and virtual.read_text().strip() != "0":
        virtual.write_text("0")
    return traits(name)


def traits(name: str) -> list[Trait]:
    """How the card stands to each of the things that cards do by themselves; changes nothing."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asked:
        pause = _asked(asked, name, struct.pack("=4I", _GPAUSE, 0, 0, 0))
        wake = _asked(asked, name, struct.pack("=3I8x", _GWOL, 0, 0))
        agents = [(flag, is_on) for flag, is_on in _private_flags(asked, name) if flag in _LLDP_OFF]
    device = _NETWORK / name / "device"
    virtual = device / "sriov_numvfs"
    rdma = sorted(each.name for each in (device / "infiniband").glob("*"))
    beyond = "not known" if device.exists() else "not there"
    # Of a driver that can switch it off the devices stay, for raw Ethernet alone.
    roce = read_settings(_pci(name)) if rdma else {}
    return [
        _trait("pause", pause and struct.unpack_from("=2I", pause, 8) != (0, 0)),
        _trait("wake-on-lan", wake and struct.unpack_from("=I", wake, 8)[0] != 0),
        _trait(
            "lldp-agent",
            any(is_on is not _LLDP_OFF[flag] for flag, is_on in agents),
            ", ".join(flag for flag, _ in agents),
        )
        if agents  # other drivers do not say whether their card's firmware has one (mlx5_core, bnxt_en)
        else Trait("lldp-agent", beyond),
        _trait("sr-iov", virtual.read_text().strip() != "0" if virtual.is_file() else None),
        _trait("roce", any(roce.values()) if roce else True if rdma else None, ", ".join(rdma)),
        Trait("nc-si", beyond),
    ]


def trait_values(found: Sequence[Trait]) -> list[dict[str, str]]:
    """As JSON values."""
    return [asdict(each) for each in found]


def _trait(name: str, is_on: object, detail: str = "") -> Trait:
    """``is_on``: None or empty bytes where the card has no such thing."""
    return Trait(name, "not there" if is_on in {None, b""} else "on" if is_on else "off", detail)


def _asked(asked: socket.socket, name: str, request: bytes) -> bytes:
    """What the driver answers (SIOCETHTOOL); empty where it has nothing to say."""
    buffer = array.array("B", request)
    try:
        fcntl.ioctl(asked, _SIOCETHTOOL, struct.pack("=16sQ", name.encode(), buffer.buffer_info()[0]))
    except OSError:
        return b""
    return buffer.tobytes()


def _switch(asked: socket.socket, name: str, request: bytes) -> None:
    """A driver that refuses has nothing to switch, or shows itself in ``traits``."""
    _asked(asked, name, request)


def _private_flags(asked: socket.socket, name: str) -> list[tuple[str, bool]]:
    """The driver's own switches, in its order."""
    counted = _asked(asked, name, struct.pack("=2IQI", _GSSET, 0, 1 << _PRIVATE_FLAGS, 0))
    if not counted or not struct.unpack_from("=Q", counted, 8)[0]:
        return []
    count = min(struct.unpack_from("=I", counted, 16)[0], _STRING)
    names = _asked(
        asked, name, struct.pack("=3I", _GSTRINGS, _PRIVATE_FLAGS, count) + bytes(_STRING * count)
    )
    values = _asked(asked, name, struct.pack("=2I", _GPFLAGS, 0))
    if not names or not values:
        return []
    flags = struct.unpack_from("=I", values, 4)[0]
    texts = [
        names[12 + _STRING * at :][:_STRING].split(b"\0")[0].decode("ascii", "replace")
        for at in range(count)
    ]
    return [(text, bool(flags >> at & 1)) for at, text in enumerate(texts)]


def _flip(asked: socket.socket, name: str, index: int) -> None:
    values = _asked(asked, name, struct.pack("=2I", _GPFLAGS, 0))
    if values:
        flags = struct.unpack_from("=I", values, 4)[0] ^ 1 << index
        _switch(asked, name, struct.pack("=2I", _SPFLAGS, flags))
