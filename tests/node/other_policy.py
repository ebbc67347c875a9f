"""Another policy for a node, as a site may come to want it; and all that it changes there."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

import yaml

if TYPE_CHECKING:
    from collections.abc import Iterator

    from conftest import PracticeLab

PORT = 5141
#: Contents, owners and modes; what systemd is to start; addresses, the packet filter, the SSH server.
LOOK = r"""
cd /etc
for path in issue issue.net modprobe.d sysctl.d audit/rules.d netplan ufw default/ufw ssh/sshd_config.d \
    systemd/system resolv.conf /usr/local/sbin /usr/local/lib/appliance /var/lib/appliance/firewall.json; do
  find "$path" \( -name 'appliance-switch*' -o -name 'appliance-revert*.*' \) -prune \
    -o \( -type f -o -type l \) -printf '%p %m %U %l ' -exec sha256sum {} \; 2>/dev/null | sort
done
systemctl list-unit-files --no-legend --plain | awk '{print $1, $2}' | grep -v appliance-switch
ip -brief address show scope global | sed 's|@if[0-9]*||'
iptables-save | grep '^-A'; ip6tables-save | grep '^-A'
sshd -T | sort
stat -c '%n %a' /etc/cron.daily/*
"""


@contextlib.contextmanager
def other_policy(lab: PracticeLab) -> Iterator[str]:
    """Ask for another banner, sticks, one more address and flow; what says that all of it is in force."""
    path = lab.inventory / "inventory.yml"
    before = path.read_text()
    values = yaml.safe_load(before)
    values |= {"banner": "Another site's machine.\n", "usb_storage": "allow"}
    node = values["nodes"][lab.node.name]
    station = lab.node.address4.rpartition(".")[0]
    node["interfaces"]["mgmt"]["addresses"].append(f"{station}.77/24")
    flow = {"interface": "mgmt", "direction": "out", "protocol": "udp", "ports": [PORT]}
    node.setdefault("flows", {})["more"] = {**flow, "peers": [f"{station}.211"]}
    path.write_text(yaml.safe_dump(values))
    try:
        yield f"grep -q {PORT} /etc/ufw/user.rules && test ! -e /var/lib/appliance/revert/pending"
    finally:
        path.write_text(before)


def policy_of(lab: PracticeLab) -> str:
    """All of it, line by line."""
    return lab.node.inside(LOOK).stdout
