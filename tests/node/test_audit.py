"""Audits of a booted node: nothing differs once it is installed, and of each drift exactly that is found.

Tests of this module build on each other: one node is installed, looked at, and then changed and mended.
"""

from __future__ import annotations

import contextlib
import json
import shlex
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from pathlib import Path

    from conftest import Installer, NewInstaller, Operator, PracticeLab, PracticeNode

pytestmark = [pytest.mark.node, pytest.mark.archive]

#: What an audit must leave alone: files with their times, filter, addresses, sockets, mounts, units.
STATE = (
    "find /boot /etc /home /opt /root /srv /usr /var /tmp /run/appliance /run/systemd/system -xdev "
    "\\( -path /var/log -o -path /var/lib/systemd \\) -prune "
    "-o -printf '%p %s %m %u %T@ %C@\\n' 2>/dev/null | sort; "
    "nft --stateless list ruleset; ip -4 route show table all; ip -6 route show table all; ip address; "
    "ss -Hlntu; grep -v ' /run/user/' /proc/1/mountinfo; "
    "sysctl -a 2>/dev/null | grep -E 'accept_ra|forward' | sort; "
    "systemctl list-unit-files --plain --no-legend; "
    # A login's own manager ends some time after the login.
    "systemctl list-units --all --plain --no-legend --type=service,socket | "
    "awk '!/^user/ { print $1, $3 }'"
)


@dataclass(frozen=True)
class Auditor:
    """Audits one lab's node from the operator's side."""

    operator: Operator
    lab: PracticeLab
    state: Path

    def __call__(self, *options: str) -> tuple[int, dict[str, Any]]:
        """Exit code, and the node's part of the result."""
        where = ["-i", str(self.lab.inventory), "--state", str(self.state), "--json"]
        done = self.operator.run(["appliance", "audit", *where, *options], check=False)
        assert done.stdout, done.stderr
        result: dict[str, Any] = json.loads(done.stdout)
        assert not done.stderr, done.stderr
        node: dict[str, Any] = result["nodes"][self.lab.node.name]
        return done.returncode, node


@pytest.fixture(scope="module")
def installer(fresh_lab: PracticeLab, new_installer: NewInstaller) -> Installer:
    return new_installer(fresh_lab)


@pytest.fixture(scope="module")
def auditor(operator: Operator, fresh_lab: PracticeLab, installer: Installer) -> Auditor:
    return Auditor(operator, fresh_lab, installer.state)


@pytest.fixture
def node(auditor: Auditor) -> PracticeNode:
    return auditor.lab.node


def told(result: dict[str, Any]) -> str:
    return json.dumps(result["drift"], indent=1)


def found(result: dict[str, Any]) -> set[str]:
    return {f"{each['subject']} {each['what']}" for each in result["drift"]}


def test_of_a_node_that_was_never_installed_nothing_is_called_right(auditor: Auditor) -> None:
    code, result = auditor()
    assert code == 8
    assert result["reference"]["source"] == "none"
    assert {"reference the baseline", "routes network.no-route-out", "rules firewall.out"} <= found(result)


def test_an_installed_node_does_not_differ(auditor: Auditor, installer: Installer) -> None:
    code, outcome, _ = installer()
    assert code == 0, outcome
    code, result = auditor()
    assert (code, result["drift"]) == (0, []), told(result)
    kept = installer.record(auditor.lab.node, "record")["details"]
    assert result["reference"]["source"] == "station"
    assert result["reference"]["baseline"] == kept["baseline"]
    compared = result["compared"]
    for subject in (
        "rules",
        "listeners",
        "units",
        "users",
        "packages",
        "files",
        "mounts",
        "staged",
        "promises",
    ):
        assert compared[subject] > 0, subject
    assert compared["files"] > 1000
    # Kernel and drives are this machine's; what it does not keep by itself is named, and not called right.
    assert {each["what"] for each in result["not_compared"]} >= {"kernel", "modules", "drives"}


def test_the_node_keeps_its_baseline_for_root_alone_and_names_it(
    auditor: Auditor, node: PracticeNode
) -> None:
    _, result = auditor()
    digest = result["reference"]["baseline"]
    assert node.inside("stat -c '%a %U' /var/lib/appliance/baseline.json").stdout.split() == ["600", "root"]
    assert node.inside("sha256sum < /var/lib/appliance/baseline.json").stdout.split()[0] == digest
    assert json.loads(node.inside("cat /var/lib/appliance/installed.json").stdout)["baseline"] == digest


def test_an_audit_changes_nothing_on_the_node(auditor: Auditor, node: PracticeNode) -> None:
    auditor()  # a first login makes its own traces (systemd's user manager)
    before = node.inside(STATE).stdout.splitlines()
    assert auditor("--recheck")[0] == 0
    assert sorted(set(before) ^ set(node.inside(STATE).stdout.splitlines())) == []


# --- drifts made by hand -----------------------------------------------------------------------------


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


#: Few enough to see at a glance which of them was not found.
AT_ONCE = 8


def rounds() -> list[list[str]]:
    """The drifts that are made at once: no two of them are found as the same.

    What an audit costs is nearly the same for one drift as for eight.
    """

    def fits(name: str, others: list[str]) -> bool:
        if DRIFTS[name].alone or len(others) == AT_ONCE:
            return False
        return not any(DRIFTS[each].alone or DRIFTS[each].finds & DRIFTS[name].finds for each in others)

    made: list[list[str]] = []
    for name in DRIFTS:
        for others in made:
            if fits(name, others):
                others.append(name)
                break
        else:
            made.append([name])
    return made


def test_there_are_thirty_of_them_at_least() -> None:
    assert len(DRIFTS) >= 30
    assert sorted(name for one in rounds() for name in one) == sorted(DRIFTS)


@pytest.mark.parametrize("together", rounds(), ids=lambda together: f"{together[0]} +{len(together) - 1}")
def test_of_drifts_exactly_these_are_found(
    auditor: Auditor, node: PracticeNode, together: list[str]
) -> None:
    words = {
        "{station}": auditor.lab.operator[0],
        "{station6}": auditor.lab.operator[1],
        "{second}": node.address4.rpartition(".")[0] + ".77/24",
    }

    def filled(command: str, number: int) -> str:
        for word, value in {**words, "/run/kept": f"/run/kept-{number}-"}.items():
            command = command.replace(word, value)
        return command

    with contextlib.ExitStack() as undone:
        for number, name in enumerate(together):
            undone.callback(node.inside, filled(DRIFTS[name].undo, number))
            node.inside(filled(DRIFTS[name].do, number))
        code, result = auditor()
    assert code == 8
    assert found(result) == frozenset().union(*(DRIFTS[name].finds for name in together)), told(result)
    broken = {text.partition(":")[0] for one in result["drift"] for text in one["breaks"]}
    assert broken >= frozenset().union(*(DRIFTS[name].breaks for name in together)), told(result)
    assert all(one["found"] != one["wanted"] and one["do"] for one in result["drift"])


def test_undone_there_is_no_drift_left_and_none_after_a_power_cut(
    auditor: Auditor, node: PracticeNode
) -> None:
    code, result = auditor("--recheck")
    assert code == 0, told(result)
    node.reboot(power_cut=True)
    code, result = auditor()
    assert code == 0, told(result)


# --- who vouches for the baseline --------------------------------------------------------------------


def test_a_station_that_did_not_install_says_that_the_node_vouches_for_itself(
    auditor: Auditor, tmp_path: Path
) -> None:
    stranger = Auditor(auditor.operator, auditor.lab, tmp_path)
    digest = auditor()[1]["reference"]["baseline"]
    code, result = stranger()
    assert (code, result["reference"]["source"]) == (0, "node"), told(result)
    code, result = stranger("--baseline", digest)
    assert (code, result["reference"]["source"]) == (0, "digest"), told(result)
    code, result = stranger("--baseline", "0" * 64)
    assert (code, result["trouble"]["error"]) == (5, "PreflightFailed")


def test_the_text_is_for_people(auditor: Auditor, node: PracticeNode) -> None:
    where = ["-i", str(auditor.lab.inventory), "--state", str(auditor.state)]
    node.inside("ip address add 10.1.2.3/32 dev lo")
    try:
        done = auditor.operator.run(["appliance", "audit", *where], check=False)
    finally:
        node.inside("ip address del 10.1.2.3/32 dev lo")
    assert done.returncode == 8
    assert (
        "  routes: network.addresses\n    found:  lo: 10.1.2.3/32 is not in the inventory\n" in done.stdout
    )
    assert done.stdout.endswith(f"1 difference on {node.name} (1 node audited)\n")


def test_a_node_that_does_not_answer_is_unreachable(auditor: Auditor, node: PracticeNode) -> None:
    node.inside("systemctl stop ssh.socket ssh.service")
    try:
        code, result = auditor()
    finally:
        node.inside("systemctl start ssh.service")
    assert (code, result["trouble"]["error"]) == (6, "NodeUnreachable")


def test_a_node_audits_itself_at_its_console(auditor: Auditor, node: PracticeNode) -> None:
    """With the toolkit of its own staged copy, and the digest that the station's record has."""
    digest = auditor()[1]["reference"]["baseline"]
    text = (auditor.lab.inventory / "inventory.yml").read_text()
    head, _, rest = text.partition("ssh:\n")
    local = head + rest[rest.index("revert_after") :].replace("connection: ssh", "connection: local")
    node.run("mkdir -p /root/site && cat > /root/site/inventory.yml", input=local)
    tool = "/root/toolkit/bin/appliance audit -i /root/site --state /root/state --json"
    node.inside(f"sh {COPY}/bootstrap.sh --unverified --to /root/toolkit", timeout=900)
    done = node.inside(f"{tool} --baseline {shlex.quote(digest)}", check=False)
    result = json.loads(done.stdout)["nodes"][node.name]
    assert (done.returncode, result["reference"]["source"]) == (0, "digest"), told(result)
    node.inside("rm -r /root/toolkit /root/site")
    assert node.inside("ls /root/state", check=False).returncode != 0, "an audit keeps nothing"


def test_what_another_installation_takes_over_is_told(auditor: Auditor, installer: Installer) -> None:
    node = auditor.lab.node
    node.inside("echo x > /usr/local/bin/tool")
    code, _, log = installer()
    assert code == 0, log
    assert "right from now on for audits: files /usr/local/bin/tool" in log
    assert installer.record(node, "record")["details"]["taken_over"] == ["files /usr/local/bin/tool"]
    code, result = auditor()
    assert code == 0, told(result)
