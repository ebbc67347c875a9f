"""Puts the walls up around the card, and only then switches its link on; and takes all of it down again.

The card comes into the namespace with its link off, gets rules, the XDP program and its one neighbour, and
is looked at; the link goes on if there is nothing to object to.  Whatever fails leaves the link off.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from appliance.bundle.durable import replace_file
from appliance.errors import ExportLineDown
from appliance.export.line import roce, xdp
from appliance.export.line.card import look_for_card, silence, trait_values
from appliance.export.line.commands import NAMES, inside, run
from appliance.export.line.ruleset import SETTINGS, ruleset
from appliance.export.line.settings import DEVICE, NAMESPACE
from appliance.export.line.walls import barrier_faults, faults, looked, read_walls

if TYPE_CHECKING:
    from appliance.export.line.settings import Line

#: What was put up, for whoever watches it: gone with the next start, as the walls are.
RAISED: Final = Path("/run/appliance-export-line/raised.json")
#: What was seen last; the first look is that before the link was on.
WATCHED: Final = RAISED.with_name("watched.json")


def raise_line(line: Line, *, patience: float = 15) -> dict[str, Any]:
    """Put the line up; whatever was left of an earlier one is taken down first.

    Args:
        line: the line.
        patience: seconds to wait for the card, which comes up while the system starts.

    Returns:
        What was put up, as it is kept in ``RAISED``.

    Raises:
        ExportLineDown: it does not stand; the card's link is off then.
    """
    lower_line()
    name, mac, pci = _await_card(line, patience)
    run("ip", "link", "set", "dev", name, "down")
    if roce.switch_off(pci):
        name, mac, pci = _await_card(line, patience)
        run("ip", "link", "set", "dev", name, "down")
    report = trait_values(silence(name))
    try:
        run("ip", "netns", "add", NAMESPACE)
        _set([path for path in SETTINGS if f"/{DEVICE}/" not in path])
        run("ip", "link", "set", "dev", name, "name", DEVICE)
        run("ip", "link", "set", "dev", DEVICE, "netns", NAMESPACE)
        _furnish(line)
        _refuse(barrier_faults(read_walls()))
        inside(NAMESPACE, "ip", "link", "set", "dev", DEVICE, "up")
        inside(NAMESPACE, "ip", "route", "add", f"{line.receiver}/32", "dev", DEVICE, "scope", "link")
        walls = read_walls()
        _refuse(faults(walls, line))
        raised = {
            "stamp": line.stamp,
            "started_by": os.environ.get("APPLIANCE_STAMP", ""),
            "name": name,
            "mac": mac,
            "pci": pci,
            "card": report,
            "rules": list(walls.rules),
            "received": walls.received,
        }
        RAISED.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
        replace_file(RAISED, json.dumps(raised, sort_keys=True).encode())
        replace_file(WATCHED, json.dumps(looked(walls, [], 0), sort_keys=True).encode())
        return raised
    except BaseException:
        lower_line(name)
        raise


def _await_card(line: Line, patience: float) -> tuple[str, str, str]:
    # Whoever names cards shall have named this one by then; without udev there is nobody to wait for.
    with contextlib.suppress(OSError):
        subprocess.run(["udevadm", "settle", f"--timeout={patience:.0f}"], check=False, capture_output=True)
    until = time.monotonic() + patience
    while True:
        try:
            return look_for_card(line)
        except ExportLineDown:
            if time.monotonic() >= until:
                raise
            time.sleep(0.2)


def _set(paths: list[str]) -> None:
    """Write kernel settings in the namespace; IPv6's are left out where the kernel has none."""
    lines = "\n".join(
        f"[ ! -e /proc/sys/net/{path} ] || echo {SETTINGS[path]} > /proc/sys/net/{path}" for path in paths
    )
    inside(NAMESPACE, "sh", "-e", "-s", text=lines)


def _furnish(line: Line) -> None:
    """Everything but the link."""
    _set(list(SETTINGS))
    inside(NAMESPACE, "nft", "-f", "-", text=ruleset(line))
    inside(NAMESPACE, sys.executable, "-I", "-m", xdp.__name__, DEVICE)
    batch = (
        f"link set dev {DEVICE} arp off multicast off\n"
        f"address add {line.address}/32 dev {DEVICE}\n"
        f"neighbour add {line.receiver} lladdr {line.receiver_mac} nud permanent dev {DEVICE}\n"
    )
    inside(NAMESPACE, "ip", "-batch", "-", text=batch)


def _refuse(wrong: list[str]) -> None:
    if wrong:
        raise ExportLineDown(
            "the walls do not stand; the link stays off",
            found="\n         ".join(wrong),
            wanted="every wall before the link",
            hint="the kernel needs nf_tables (netdev) and BPF",
        )


def lower_line(name: str = "") -> bool:
    """Take the line down and give the card back, its link off; whether there was one.

    Args:
        name: what the card is called outside; "": as it was when the line was put up.
    """
    if not (NAMES / NAMESPACE).exists():
        return False
    with contextlib.suppress(OSError, ValueError, KeyError):
        name = name or str(json.loads(RAISED.read_bytes())["name"])
    links = json.loads(inside(NAMESPACE, "ip", "-j", "link", "show"))
    if any(each["ifname"] == DEVICE for each in links):
        inside(NAMESPACE, "ip", "link", "set", "dev", DEVICE, "down")
        for where in ("xdpgeneric", "xdp"):  # each takes off what is in its place alone
            inside(NAMESPACE, "ip", "link", "set", "dev", DEVICE, where, "off")
        inside(NAMESPACE, "ip", "link", "set", "dev", DEVICE, "arp", "on", "multicast", "on")
        inside(NAMESPACE, "ip", "link", "set", "dev", DEVICE, "netns", str(os.getpid()))
        if name and name != DEVICE:
            run("ip", "link", "set", "dev", DEVICE, "name", name)
    elif name:  # it did not get that far
        run("ip", "link", "set", "dev", name, "down")
    run("ip", "netns", "delete", NAMESPACE)
    RAISED.unlink(missing_ok=True)
    WATCHED.unlink(missing_ok=True)
    return True


def read_raised() -> dict[str, Any]:
    """What was put up.

    Raises:
        ExportLineDown: nothing was.
    """
    try:
        values = json.loads(RAISED.read_bytes())
    except (OSError, ValueError) as fault:
        raise ExportLineDown(
            "no line for the export is up", hint="systemctl status appliance-export-line"
        ) from fault
    if not isinstance(values, dict):
        raise ExportLineDown(
            f"{RAISED} is not what was written there", hint="systemctl restart appliance-export-line"
        )
    return values
