"""What is changed on a node by hand, and which promises break by it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

SSHD = "/etc/ssh/sshd_config.d/00-appliance.conf"


def sshd(old: str, new: str) -> tuple[str, str]:
    """The commands that change a setting of the SSH server, and change it back."""
    keep = f"cp -a {SSHD} /root/kept; sed -i 's/{old}/{new}/' {SSHD}; systemctl reload ssh"
    return keep, f"mv /root/kept {SSHD}; systemctl reload ssh"


def unit(name: str, *lines: str) -> tuple[str, str]:
    """The commands that start a unit of somebody else's for good, and take it away."""
    path = f"/etc/systemd/system/{name}"
    text = "\\n".join((*lines, "[Install]", "WantedBy=multi-user.target", ""))
    do = (
        f"rm -f {path}; printf '{text}' > {path}; systemctl daemon-reload; systemctl enable -q --now {name}"
    )
    return do, f"systemctl disable -q --now {name}; rm {path}; systemctl daemon-reload"


DROP_IN = "/etc/systemd/system/appliance-inference.service.d"
UNIT = "appliance-inference"
RESTART = f"systemctl daemon-reload; systemctl reset-failed -q {UNIT}; systemctl restart {UNIT}"


def drop_in(*lines: str) -> str:
    """The command that changes the service's unit."""
    text = "\\n".join(("[Service]", *lines, ""))
    return f"mkdir {DROP_IN}; printf '{text}' > {DROP_IN}/drift.conf; {RESTART}"


OUT_OF_SERVICE = {
    f"outbound.{protocol}-{family}" for protocol in ("tcp", "udp", "icmp") for family in ("v4", "v6")
} | {"outbound.services", "outbound.wire", "outbound.service-user"}


@dataclass(frozen=True)
class Drift:
    """Something done to a qualified node by hand, how it is undone, and what it breaks.

    ``alone``: there may be no other drift at the same time, since it changes what others can do.
    """

    do: str
    undo: str
    breaks: frozenset[str]
    unproven: frozenset[str] = frozenset()
    alone: bool = False

    @property
    def touches(self) -> frozenset[str]:
        """The promises that are not kept."""
        return self.breaks | self.unproven


def drift(do: str, undo: str, *breaks: str, unproven: tuple[str, ...] = (), alone: bool = False) -> Drift:
    return Drift(do, undo, frozenset(breaks), frozenset(unproven), alone)


DRIFTS = {
    # The service itself is still held in: its unit denies without the firewall's help.
    "everything may leave": drift(
        "ufw default allow outgoing",
        "ufw default deny outgoing",
        *("firewall.policies", "firewall.out", "firewall.stays"),
        *OUT_OF_SERVICE,
        alone=True,
    ),
    "one port may leave": drift(
        "ufw allow out 123/udp",
        "ufw delete allow out 123/udp",
        *("firewall.out", "outbound.services", "outbound.service-user"),
        alone=True,
    ),
    "the firewall is off": drift(
        "ufw disable",
        "ufw --force enable",
        *("firewall.policies", "firewall.out", "firewall.in", "firewall.through", "firewall.stays"),
        *("firewall.nothing-beside", "inbound.closed", "inbound.ssh-elsewhere"),
        *OUT_OF_SERVICE,
        alone=True,
    ),
    "SSH from anywhere": drift("ufw allow 22/tcp", "ufw delete allow 22/tcp", "firewall.in"),
    "datagrams may come in": drift(
        "ufw allow in proto udp to any port 20000:60000",
        "ufw delete allow in proto udp to any port 20000:60000",
        *("firewall.in", "inbound.closed"),
    ),
    "rules beside ufw's": drift(
        "nft add table inet drift; nft add chain inet drift c '{ type nat hook output priority 0; }'; "
        "nft add rule inet drift c tcp dport 9 redirect to :8000",
        "nft delete table inet drift",
        "firewall.nothing-beside",
        alone=True,
    ),
    # Still held in by the firewall.
    "a default route": drift(
        "ip route add default via {station}", "ip route del default", "network.no-route-out"
    ),
    "a default route in a table of its own": drift(
        "ip -6 route add default via {station6} table 77",
        "ip -6 route del default table 77",
        "network.no-route-out",
    ),
    "a second address": drift(
        "ip address add {second} dev host0", "ip address del {second} dev host0", "network.addresses"
    ),
    "router advertisements": drift(
        "sysctl -q net.ipv6.conf.host0.accept_ra=1",
        "sysctl -q net.ipv6.conf.host0.accept_ra=0",
        "network.no-autoconfiguration",
    ),
    "forwarding": drift(
        "sysctl -q net.ipv4.ip_forward=1", "sysctl -q net.ipv4.ip_forward=0", "network.no-forwarding"
    ),
    "a name server": drift(
        "cp -a /etc/resolv.conf /root/kept; echo nameserver {station} >> /etc/resolv.conf",
        "mv /root/kept /etc/resolv.conf",
        "network.no-name-server",
    ),
    "the service is stopped": drift(
        "systemctl stop appliance-inference",
        "systemctl start appliance-inference",
        *("inference.active", "inference.answers", "inference.loopback"),
        unproven=(
            *("inference.own-user", "inference.signed-model", "inference.quiet", "inference.confined"),
            *("outbound.in-service", "outbound.unit-denies"),
        ),
        alone=True,
    ),
    "the service will not start with the node": drift(
        "systemctl disable -q appliance-inference",
        "systemctl enable -q appliance-inference",
        *("inference.active", "installed.comes-back"),
        alone=True,
    ),
    # Still held in by the firewall, and told apart from it.
    "the unit no longer denies": drift(
        drop_in("IPAddressDeny=", "IPAddressAllow=", "RestrictNetworkInterfaces="),
        f"rm -r {DROP_IN}; {RESTART}",
        *("inference.confined", "outbound.unit-denies"),
        alone=True,
    ),
    "a switch turned off": drift(
        drop_in("Environment=HF_HUB_OFFLINE=0"),
        f"rm -r {DROP_IN}; {RESTART}",
        "inference.quiet",
    ),
    "a server open to the outside": drift(
        "systemd-run -q --unit=drift python3 -m http.server 8081; sleep 0.3; "
        "until ss -Hltn | grep -q :8081; do sleep 0.1; done",
        "systemctl stop drift",
        "inbound.listening",
        unproven=("quiet.judged",),
    ),
    "a staged file can be written": drift(
        "chmod u+w /var/lib/appliance/staged/*/manifest.json",
        "chmod u-w /var/lib/appliance/staged/*/manifest.json",
        "installed.read-only",
    ),
    "another list of what was signed": drift(
        "cd /var/lib/appliance/staged/*/trust; cp -a SHA256SUMS /root/kept; echo >> SHA256SUMS",
        "cd /var/lib/appliance/staged/*/trust; mv /root/kept SHA256SUMS",
        "installed.bundle",
    ),
    "a timer that asks the archive": drift(
        "systemctl unmask -q apt-daily.timer apt-daily.service; systemctl start apt-daily.timer",
        "systemctl mask -q --now apt-daily.timer apt-daily.service",
        "quiet.stopped",
    ),
    "a program nobody has judged": drift(
        *unit("spy.service", "[Service]", "ExecStart=sleep infinity"), unproven=("quiet.judged",)
    ),
    "somebody keeps the clock": drift(
        *unit("systemd-timesyncd.service", "[Service]", "ExecStart=sleep infinity"),
        *("quiet.clock", "quiet.stopped"),
    ),
    "passwords let in": drift(
        *sshd("PasswordAuthentication no", "PasswordAuthentication yes"),
        *("quiet.ssh-settings", "quiet.ssh-keys-only"),
    ),
    "a tunnel leads out through the station": drift(
        *sshd("AllowTcpForwarding local", "AllowTcpForwarding yes"),
        *("quiet.ssh-settings", "quiet.ssh-no-way-back"),
    ),
    "another banner": drift(
        "cp -a /etc/issue.net /root/kept; echo Welcome > /etc/issue.net",
        "mv /root/kept /etc/issue.net",
        "quiet.banner",
    ),
    "USB sticks may appear": drift(
        "cp -a /etc/modprobe.d/appliance.conf /root/kept; "
        "sed -i /usb_storage/d /etc/modprobe.d/appliance.conf",
        "mv /root/kept /etc/modprobe.d/appliance.conf",
        "quiet.modules",
    ),
    "an unconfirmed change": drift(
        "/usr/local/sbin/appliance-revert arm --after 300",
        "/usr/local/sbin/appliance-revert confirm",
        "installed.confirmed",
    ),
    "a daily audit that the site does not want": drift(
        *unit("appliance-audit.service", "[Service]", "ExecStart=sleep infinity"), "installed.daily-audit"
    ),
}


# Where this machine's kernel hands crashes to a program, it does so for its containers too.
if not Path("/proc/sys/kernel/core_pattern").read_text(encoding="utf-8").startswith("|"):
    DRIFTS["crashes leave cores"] = drift(
        "mv /etc/security/limits.d/90-appliance.conf /root/kept; "
        "printf '* hard core unlimited\\nroot hard core unlimited\\n' > /etc/security/limits.d/drift.conf",
        "rm /etc/security/limits.d/drift.conf; mv /root/kept /etc/security/limits.d/90-appliance.conf",
        "quiet.cores",
    )
