"""The rules in the line's namespace: for nftables, and the kernel's settings.  Pure.

Ingress of the card drops every frame before ARP, IP or anything else sees it; a packet tap alone sees it
earlier, and sending is all that the exporter's sockets may do.  Egress lets one kind of frame out: whole
datagrams from the node's address to the receiver's address, MAC and port.  Of the second table everything
would have to have passed the first: it is there in case that one is gone.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from appliance.export.line.settings import DEVICE

if TYPE_CHECKING:
    from appliance.export.line.settings import Line

TABLE: Final = "appliance_export"

#: Below ``/proc/sys/net`` of the namespace.  ``default`` is set before the card comes in.
SETTINGS: Final = {
    **{f"ipv6/conf/{which}/disable_ipv6": "1" for which in ("all", "default", DEVICE)},
    **{
        f"ipv4/conf/{which}/{name}": value
        for which in ("all", "default", DEVICE)
        for name, value in (
            ("accept_redirects", "0"),
            ("accept_source_route", "0"),
            ("arp_accept", "0"),
            ("arp_ignore", "8"),  # answers no question, whatever the address (ip-sysctl.rst)
            ("forwarding", "0"),
            ("proxy_arp", "0"),
            ("rp_filter", "1"),
            ("send_redirects", "0"),
        )
    },
    "ipv4/icmp_echo_ignore_all": "1",
    "ipv4/ip_forward": "0",
}


def ruleset(line: Line) -> str:
    """What ``nft -f`` takes; it replaces every rule that the namespace has."""
    return f"""\
flush ruleset
table netdev {TABLE} {{
  chain in {{
    type filter hook ingress device "{DEVICE}" priority -500; policy drop;
    counter drop
  }}
  chain out {{
    type filter hook egress device "{DEVICE}" priority 0; policy drop;
    ether type ip ether daddr {line.receiver_mac} ip saddr {line.address} ip daddr {line.receiver} \
ip frag-off & 0x3fff == 0 udp dport {line.port} counter accept
    counter drop
  }}
}}
table inet {TABLE} {{
  chain input {{
    type filter hook input priority -300; policy drop;
    counter drop
  }}
  chain forward {{
    type filter hook forward priority -300; policy drop;
    counter drop
  }}
}}
"""
