"""The units that go back by themselves: a timer, what it starts, and what runs as the node starts.

Runs on the node's own Python (3.10 or later, standard library only), as a part of ``switch``.
"""

from __future__ import annotations

import os
import subprocess
from typing import TYPE_CHECKING

from appliance.node.remote.lasting import sync, write

if TYPE_CHECKING:
    from collections.abc import Callable

TIMER, SERVICE, BOOT = "appliance-switch.timer", "appliance-switch.service", "appliance-switch-boot.service"

TEXTS = {
    TIMER: """\
[Unit]
Description=Wait for the proof of a new version

[Timer]
OnActiveSec={after}s
AccuracySec=1s

[Install]
WantedBy=timers.target
""",
    SERVICE: """\
[Unit]
Description=Go back to the former version: the new one was not proven in time
After=appliance-revert.service ufw.service
After=systemd-networkd.service networking.service NetworkManager.service
StartLimitIntervalSec=0

[Service]
Type=oneshot
ExecStart=/usr/bin/python3 -I -B {program} due
Restart=on-failure
RestartSec=2
""",
    # the line for logs, the packet filter and the network start before sysinit.target, by what may be the
    # new version's; a network that nobody confirmed goes back first; and rather a late start than one of a
    # version that was half put back
    BOOT: """\
[Unit]
Description=Go back to the former version: the new one was not proven before a restart
DefaultDependencies=no
RequiresMountsFor=/var/lib/appliance
After=local-fs.target systemd-remount-fs.service appliance-revert-boot.service
Before=sysinit.target network-pre.target appliance-export-line.service ufw.service nftables.service
Before=systemd-networkd.service networking.service NetworkManager.service

[Service]
Type=oneshot
ExecStart=/usr/bin/python3 -I -B {program} boot
TimeoutStartSec=900

[Install]
WantedBy=sysinit.target
""",
}


def systemctl(*arguments: str) -> tuple[int, str]:
    """Exit status and first line."""
    done = subprocess.run(
        ["systemctl", *arguments], stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False
    )
    return done.returncode, (done.stdout or done.stderr).strip().partition("\n")[0]


def start(folder: str, program: str, after: int, control: Callable[..., tuple[int, str]]) -> str:
    """Write them and start the timer; what systemd says against it, or nothing."""
    for name, text in TEXTS.items():
        write(os.path.join(folder, name), text.format(after=after, program=program), 0o644)
    sync(folder)
    for command in (("daemon-reload",), ("enable", TIMER, BOOT), ("restart", TIMER)):
        status, told = control(*command)
        if status:
            return f"systemctl {' '.join(command)}: {told}"
    return ""


def remove(folder: str, control: Callable[..., tuple[int, str]]) -> None:
    """Stop and forget them."""
    control("disable", "--now", TIMER)
    control("disable", BOOT)
    for unit in TEXTS:
        if os.path.lexists(os.path.join(folder, unit)):
            os.unlink(os.path.join(folder, unit))
    control("daemon-reload")
