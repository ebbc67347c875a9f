"""What is changed on a node by hand, and as what an audit finds it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Drift:
    """Something done to an installed node, its undoing, what is found, and which promises it breaks.

    ``alone``: there may be no other drift at the same time, since it changes what of them is looked at.
    """

    do: str
    undo: str
    finds: frozenset[str]
    breaks: frozenset[str] = frozenset()
    alone: bool = False


def drift(do: str, undo: str, *finds: str, breaks: tuple[str, ...] = (), alone: bool = False) -> Drift:
    return Drift(do, undo, frozenset(finds), frozenset(breaks), alone)


def file(path: str, do: str, *, breaks: tuple[str, ...] = (), then: str = "true") -> Drift:
    """A file that is there is kept, changed, and put back; ``then`` is run after either."""
    kept = "/run/kept"
    undo = f"rm -f {path}; cp -a {kept} {path}; rm {kept}; {then}"
    return drift(f"cp -a {path} {kept}; {do}; {then}", undo, f"files {path}", breaks=breaks)


def new(path: str, do: str) -> Drift:
    """Something is made, and removed."""
    return drift(do, f"rm -rf {path}", f"files {path}")


def restored(do: str, *finds: str) -> Drift:
    """Rules are changed, and put back as they were."""
    save = "iptables-save > /run/kept4; ip6tables-save > /run/kept6"
    undo = "iptables-restore < /run/kept4; ip6tables-restore < /run/kept6; rm /run/kept4 /run/kept6"
    return drift(f"{save}; {do}", undo, *finds)


def accounts(do: str, *finds: str) -> Drift:
    """Accounts are changed, and put back."""
    names = "passwd shadow group gshadow"
    keep = f"mkdir /run/kept; cd /etc; cp -a {names} /run/kept/; {do}"
    return drift(
        keep, f"cd /run/kept; for each in {names}; do cp -a $each /etc/; done; rm -r /run/kept", *finds
    )


def unit(name: str, *lines: str) -> Drift:
    """A unit of somebody's is started for good."""
    path = f"/etc/systemd/system/{name}"
    text = "\\n".join((*lines, "[Install]", "WantedBy=multi-user.target", ""))
    do = f"printf '{text}' > {path}; systemctl daemon-reload; systemctl enable -q --now {name}"
    undo = f"systemctl disable -q --now {name}; rm {path}; systemctl daemon-reload"
    return drift(do, undo, f"files {path}", f"units {name}")


def staged(path: str, do: str, *, alone: bool = False) -> Drift:
    """Something in the staged copy is kept, changed and put back."""
    place = f"{COPY}/{path}"
    undo = f"rm -rf {place}; mv /run/kept {place}"
    return drift(f"cp -a {place} /run/kept; {do}", undo, f"staged {path}", alone=alone)


COPY = "$(ls -d /var/lib/appliance/staged/*/)"
YES = "/usr/bin/yes"
#: cap_net_raw, as the kernel keeps it.
CAPABILITY = 'bytes.fromhex("0100000200200000000000000000000000000000")'
GIVE = f'import os; os.setxattr("{YES}", "security.capability", {CAPABILITY})'
INFERENCE = "appliance-inference"
DROP_IN = f"/etc/systemd/system/{INFERENCE}.service.d"
LISTENS = "until ss -Hltn | grep -q :{port}; do sleep 0.2; done"
SERVES = LISTENS.format(port=8000)
ANEW = f"systemctl daemon-reload; systemctl reset-failed -q {INFERENCE}; systemctl restart {INFERENCE}"
RESTART = f"{ANEW}; {SERVES}"
SERVER = "systemd-run -q --unit=drift-{port} python3 -B -m http.server {port}"
PACKAGE = """
set -e
mkdir -p /run/drift/DEBIAN /run/drift/usr/bin
cat > /run/drift/DEBIAN/control <<END
Package: drift
Version: 1
Architecture: all
Maintainer: nobody <nobody@localhost>
Description: came from nowhere
END
echo x > /run/drift/usr/bin/drift
dpkg-deb --root-owner-group --build /run/drift /run/drift.deb
dpkg -i /run/drift.deb
rm -r /run/drift /run/drift.deb
"""

DRIFTS = {
    # Routes and addresses
    "a default route": drift(
        "ip route add default via {station}", "ip route del default", "routes network.no-route-out"
    ),
    "a default route in a table of its own": drift(
        "ip -6 route add default via {station6} table 77",
        "ip -6 route del default table 77",
        "routes network.no-route-out",
    ),
    "a second address": drift(
        "ip address add {second} dev host0", "ip address del {second} dev host0", "routes network.addresses"
    ),
    "router advertisements": drift(
        "sysctl -q net.ipv6.conf.host0.accept_ra=1",
        "sysctl -q net.ipv6.conf.host0.accept_ra=0",
        "routes network.no-autoconfiguration",
    ),
    "forwarding": drift(
        "sysctl -q net.ipv4.ip_forward=1", "sysctl -q net.ipv4.ip_forward=0", "routes network.no-forwarding"
    ),
    "a name server": file(
        "/etc/resolv.conf",
        "echo nameserver {station} >> /etc/resolv.conf",
        breaks=("network.no-name-server",),
    ),
    # Rules
    "a rule more": restored(
        "iptables -I ufw-user-output -p udp --dport 123 -j ACCEPT", "rules ip filter chain ufw-user-output"
    ),
    "a rule less": restored("ip6tables -D ufw6-user-input 1", "rules ip6 filter chain ufw6-user-input"),
    "an open policy": restored("iptables -P OUTPUT ACCEPT", "rules ip filter chain OUTPUT"),
    "a table beside ufw's": drift(
        "nft add table inet drift; nft add chain inet drift c '{ type nat hook output priority 0; }'; "
        "nft add rule inet drift c tcp dport 9 redirect to :8000",
        "nft delete table inet drift",
        *("rules inet drift", "rules inet drift chain c"),
    ),
    "a rule for the next boot": file(
        "/etc/ufw/before.rules", "sed -i '/^COMMIT/i -A ufw-before-output -j ACCEPT' /etc/ufw/before.rules"
    ),
    # Listeners
    "a server for everybody": drift(
        f"{SERVER.format(port=8081)}; {LISTENS.format(port=8081)}",
        "systemctl stop drift-8081",
        *("listeners tcp 0.0.0.0 port 8081", "units drift-8081.service"),
        breaks=("inbound.listening",),
    ),
    "a server on loopback": drift(
        f"{SERVER.format(port=8082)} --bind 127.0.0.1; {LISTENS.format(port=8082)}",
        "systemctl stop drift-8082",
        *("listeners tcp 127.0.0.1 port 8082", "units drift-8082.service"),
    ),
    # Units
    "a timer that asks the archive": drift(
        "systemctl unmask -q apt-daily.timer apt-daily.service; systemctl start apt-daily.timer",
        "systemctl stop apt-daily.timer; systemctl mask -q apt-daily.timer apt-daily.service",
        *("units apt-daily.timer", "units apt-daily.service"),
        breaks=("quiet.stopped",),
    ),
    "a service of somebody's": unit("spy.service", "[Service]", "ExecStart=sleep infinity"),
    "a service that will not come back": drift(
        f"systemctl disable -q {INFERENCE}",
        f"systemctl enable -q {INFERENCE}",
        f"units {INFERENCE}.service",
        breaks=("inference.active",),
    ),
    "a service that failed": drift(
        "systemd-run -q --unit=drift --wait false || true",
        "systemctl reset-failed drift",
        "units drift.service",
    ),
    "the model is not served": drift(
        f"systemctl stop {INFERENCE}",
        f"systemctl start {INFERENCE}; {SERVES}",
        *(f"units {INFERENCE}.service", "listeners tcp 127.0.0.1 port 8000"),
        breaks=("inference.active", "inference.loopback"),
        alone=True,
    ),
    "a service that may speak to anybody": drift(
        f"mkdir {DROP_IN}; printf '[Service]\\nIPAddressDeny=\\n' > {DROP_IN}/drift.conf; {RESTART}",
        f"rm -r {DROP_IN}; {RESTART}",
        *(f"files {DROP_IN}", f"files {DROP_IN}/drift.conf"),
        breaks=("inference.confined",),
    ),
    # Users
    "an account": accounts("useradd -r -M -s /bin/sh evil", "users evil", "users group evil"),
    "a second root": accounts("echo 'toor:x:0:0::/root:/bin/sh' >> passwd", "users toor"),
    "a password": accounts("usermod -p '$y$j9T$made$up' root", "users root"),
    "a shell": accounts("usermod -s /bin/sh daemon", "users daemon"),
    "a member of a group": accounts("usermod -a -G adm nobody", "users group adm"),
    "a key that lets in": file(
        "/root/.ssh/authorized_keys", "echo 'ssh-ed25519 AAAA evil' >> /root/.ssh/authorized_keys"
    ),
    # Packages
    "a package": drift(PACKAGE, "dpkg -P drift", "packages drift"),
    "a package that is held back": drift(
        "echo bash hold | dpkg --set-selections",
        "echo bash install | dpkg --set-selections",
        "packages bash",
    ),
    # Files
    "other bytes with size and time as before": file(
        YES,
        f"touch -r {YES} /run/time; printf x | dd of={YES} bs=1 seek=64 conv=notrunc status=none; "
        f"touch -r /run/time {YES}; rm /run/time",
    ),
    "a program that runs as root": file(YES, f"chmod u+s {YES}"),
    "a program of another owner": file(YES, f"chown nobody {YES}"),
    "a program with a capability": file(YES, f"python3 -c '{GIVE}'"),
    "a program that was removed": file(YES, f"rm {YES}"),
    "a program that nobody installed": new("/usr/local/bin/evil", "echo x > /usr/local/bin/evil"),
    "a module beside the engine's": new("/opt/appliance/evil.py", "echo x > /opt/appliance/evil.py"),
    "a link that leads elsewhere": file("/etc/mtab", "ln -sfn /tmp/mtab /etc/mtab"),
    "a folder that everybody may write": drift(
        "chmod 1777 /usr/local/sbin", "chmod 0755 /usr/local/sbin", "files /usr/local/sbin"
    ),
    "passwords let in": file(
        "/etc/ssh/sshd_config.d/00-appliance.conf",
        "sed -i 's/PasswordAuthentication no/PasswordAuthentication yes/' "
        "/etc/ssh/sshd_config.d/00-appliance.conf",
        breaks=("quiet.ssh-settings",),
        then="systemctl reload ssh",
    ),
    "USB sticks may appear": file(
        "/etc/modprobe.d/appliance.conf",
        "sed -i /usb_storage/d /etc/modprobe.d/appliance.conf",
        breaks=("quiet.modules",),
    ),
    # Mounts
    "something mounted": drift("mount -t tmpfs drift /mnt", "umount /mnt", "mounts /mnt"),
    "a file hidden by another": drift(
        "mount --bind /etc/hostname /etc/issue",
        "umount /etc/issue",
        "mounts /etc/issue",
        "files /etc/issue",
    ),
    # The staged copy
    "a staged file that can be written": drift(
        f"chmod u+w {COPY}/manifest.json", f"chmod u-w {COPY}/manifest.json", "staged manifest.json"
    ),
    "another model": staged(
        "payload/model/tiny.gguf",
        f"printf x | dd of={COPY}/payload/model/tiny.gguf bs=1 seek=99 conv=notrunc status=none",
    ),
    "another list": staged("trust/SHA256SUMS", f"echo >> {COPY}/trust/SHA256SUMS", alone=True),
    "a file that nobody staged": drift(
        f"echo x > {COPY}/payload/evil", f"rm {COPY}/payload/evil", "staged payload/evil"
    ),
    "no mark": drift(
        "mv /var/lib/appliance/staged/*.complete /run/kept",
        f"mv /run/kept $(dirname {COPY}/x).complete",
        "staged the mark of completeness",
        alone=True,
    ),
    # What the node says of itself
    "a baseline that was rewritten": drift(
        "cd /var/lib/appliance; cp -a baseline.json /run/kept; sed -i 's/shell/SHELL/' baseline.json",
        "mv /run/kept /var/lib/appliance/baseline.json",
        "reference baseline.json",
        alone=True,
    ),
    "a record of another version": drift(
        "cd /var/lib/appliance; cp -a installed.json /run/kept; "
        'sed -i \'s/"toolkit": "[^"]*"/"toolkit": "0"/\' installed.json',
        "mv /run/kept /var/lib/appliance/installed.json",
        "installed installed.json: toolkit",
        alone=True,
    ),
}
