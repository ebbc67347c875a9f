"""What ``appliance-revert`` saves, puts back, and when it keeps its hands off; on a root in a folder."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable


@pytest.fixture(scope="module")
def program(role_module: Callable[[str], Any]) -> Any:
    return role_module("revert/files/usr/local/sbin/appliance-revert")


@pytest.fixture(scope="module")
def snapshot(program: Any) -> Any:
    return program.network_restore.network_state


ADDRESSES = [
    {"ifname": "lo", "addr_info": [{"local": "127.0.0.1", "prefixlen": 8, "scope": "host"}]},
    {
        "ifname": "eno1",
        "addr_info": [
            {"local": "10.0.0.2", "prefixlen": 24, "scope": "global"},
            {"local": "fe80::1", "prefixlen": 64, "scope": "link"},
        ],
    },
]

UNITS = (
    "Id=systemd-networkd.service\nLoadState=loaded\nActiveState=active\nUnitFileState=enabled\n\n"
    "Id=networking.service\nLoadState=not-found\nActiveState=inactive\nUnitFileState=\n\n"
    "Id=ufw.service\nLoadState=loaded\nActiveState=inactive\nUnitFileState=enabled\n"
)


def make_node(program: Any, root: Path) -> Any:
    """A node below ``root`` whose commands answer from memory and are written down."""

    class MemoryNode(program.Node):
        def __init__(self) -> None:
            super().__init__(root)
            self.ran: list[str] = []
            self.heard: dict[str, str] = {}
            self.addresses: list[dict[str, Any]] = ADDRESSES
            self.routes: list[dict[str, Any]] = [
                {"dst": "default", "gateway": "10.0.0.1", "dev": "eno1", "protocol": "static"},
                {"dst": "10.0.0.0/24", "dev": "eno1", "protocol": "kernel"},
            ]
            self.links: list[dict[str, Any]] = [{"ifname": "eno1", "mtu": 1500}]
            self.broken: set[str] = set()
            self.units = UNITS

        def run(self, *command: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
            words = " ".join(command)
            self.ran.append(words)
            self.heard[words] = stdin
            answers = {
                "ip -json address show": json.dumps(self.addresses),
                "ip -json -4 route show": json.dumps(self.routes),
                "ip -json -details link show": json.dumps(self.links),
                "nft list tables": "table ip filter\ntable inet own\n",
                "nft list table inet own": "table inet own {\n}\n",
                "iptables-save": "*filter\n:INPUT ACCEPT [0:0]\nCOMMIT\n",
            }
            text = self.units if words.startswith("systemctl show") else answers.get(words, "")
            return subprocess.CompletedProcess(command, int(words in self.broken), text, "broken")

        def has(self, name: str) -> bool:
            return name != "netplan"

        def pause(self, seconds: float) -> None:
            self.ran.append(f"pause {seconds}")

    (root / "etc/systemd/system").mkdir(parents=True)
    (root / "etc/netplan").mkdir(parents=True)
    (root / "etc/netplan/50.yaml").write_text("before\n")
    (root / "etc/netplan/50.yaml").chmod(0o600)
    (root / "etc/resolv.conf").symlink_to("../run/resolv.conf")
    (root / "var/lib/appliance/revert").mkdir(parents=True)
    (root / "proc/sys/kernel/random").mkdir(parents=True)
    (root / "proc/sys/kernel/random/boot_id").write_text("this-boot\n")
    settings = root / "proc/sys/net/ipv6/conf/eno1"
    settings.mkdir(parents=True)
    (settings / "accept_ra").write_text("1\n")
    return MemoryNode()


@pytest.fixture
def node(program: Any, tmp_path: Path) -> Any:
    return make_node(program, tmp_path)


@pytest.fixture
def revert(program: Any, node: Any) -> Any:
    return program.Revert(node)


def change(root: Path) -> None:
    (root / "etc/netplan/50.yaml").unlink()
    (root / "etc/netplan/90-appliance.yaml").write_text("after\n")
    (root / "etc/resolv.conf").unlink()
    (root / "etc/resolv.conf").write_text("# none\n")
    (root / "etc/ufw").mkdir()
    (root / "etc/ufw/ufw.conf").write_text("ENABLED=yes\n")
    (root / "proc/sys/net/ipv6/conf/eno1/accept_ra").write_text("0\n")


def test_restoring_brings_back_files_links_and_settings_and_removes_what_was_not_there(
    revert: Any, tmp_path: Path
) -> None:
    revert.arm(60)
    change(tmp_path)
    done = revert.restore()
    assert done["restored"] is True
    assert done["fired"]["faults"] == []
    assert (tmp_path / "etc/netplan/50.yaml").read_text() == "before\n"
    assert (tmp_path / "etc/netplan/50.yaml").stat().st_mode & 0o777 == 0o600
    assert not (tmp_path / "etc/netplan/90-appliance.yaml").exists()
    assert str((tmp_path / "etc/resolv.conf").readlink()) == "../run/resolv.conf"
    assert not (tmp_path / "etc/ufw").exists()
    assert (tmp_path / "proc/sys/net/ipv6/conf/eno1/accept_ra").read_text() == "1"


def test_settings_of_the_ssh_server_are_undone_and_read_again(
    revert: Any, node: Any, tmp_path: Path
) -> None:
    settings = tmp_path / "etc/ssh/sshd_config.d"
    settings.mkdir(parents=True)
    (settings / "50-theirs.conf").write_text("theirs\n")
    revert.arm(60)
    (settings / "00-appliance.conf").write_text("ours\n")
    revert.restore()
    assert [path.name for path in settings.iterdir()] == ["50-theirs.conf"]
    assert "systemctl reload ssh.service" in node.ran


def test_a_server_that_does_not_run_is_not_told_to_read(revert: Any, node: Any) -> None:
    node.broken.add("systemctl is-active --quiet ssh.service")
    revert.arm(60)
    revert.restore()
    assert "systemctl reload ssh.service" not in node.ran


def test_arming_again_keeps_the_first_snapshot_and_renews_the_time(
    revert: Any, node: Any, tmp_path: Path
) -> None:
    """The second change of a run must not make the first one's result the state to go back to."""
    revert.arm(60)
    change(tmp_path)
    revert.arm(90)
    assert "OnActiveSec=90s" in (tmp_path / "etc/systemd/system/appliance-revert.timer").read_text()
    assert node.ran.count("systemctl restart appliance-revert.timer") == 2
    revert.restore()
    assert (tmp_path / "etc/netplan/50.yaml").read_text() == "before\n"


def test_the_timer_is_enabled_so_that_it_outlives_a_reboot(revert: Any, node: Any, tmp_path: Path) -> None:
    revert.arm(60)
    assert "systemctl enable appliance-revert.timer appliance-revert-boot.service" in node.ran
    units = tmp_path / "etc/systemd/system"
    assert "WantedBy=timers.target" in (units / "appliance-revert.timer").read_text()
    boot = (units / "appliance-revert-boot.service").read_text()
    assert "WantedBy=sysinit.target" in boot
    (before,) = [line for line in boot.splitlines() if line.startswith("Before=")]
    assert {"network-pre.target", "systemd-networkd.service", "ufw.service"} <= set(before[7:].split())


def test_a_restore_that_is_killed_is_started_again(revert: Any, tmp_path: Path) -> None:
    revert.arm(60)
    service = (tmp_path / "etc/systemd/system/appliance-revert.service").read_text()
    assert "Restart=on-failure" in service
    assert "StartLimitIntervalSec=0" in service
    assert "SuccessExitStatus=3" in service  # it came to its end, with faults: once more would not help


def test_nothing_is_armed_when_systemd_refuses(revert: Any, node: Any) -> None:
    node.broken.add("systemctl restart appliance-revert.timer")
    with pytest.raises(OSError, match=r"systemctl restart appliance-revert\.timer: broken"):
        revert.arm(60)


def test_confirming_leaves_nothing_but_the_changed_network(revert: Any, tmp_path: Path) -> None:
    revert.arm(60)
    change(tmp_path)
    assert revert.confirm()["confirmed"] is True
    assert not revert.pending.exists()
    assert list((tmp_path / "etc/systemd/system").iterdir()) == []
    assert (tmp_path / "etc/netplan/90-appliance.yaml").read_text() == "after\n"
    assert revert.restore()["restored"] is False  # too late for the timer
    assert revert.confirm()["confirmed"] is False


def test_after_it_fired_there_is_nothing_to_confirm(revert: Any) -> None:
    revert.arm(60)
    revert.restore()
    answer = revert.confirm()
    assert answer["confirmed"] is False
    assert answer["fired"]["armed"]


def test_a_change_that_was_undone_is_told_until_a_later_one_is_confirmed(revert: Any) -> None:
    revert.arm(60)
    revert.restore()
    revert.arm(60)
    assert revert.status()["fired"]
    revert.confirm()
    assert revert.status()["fired"] is None


def test_one_failing_step_is_written_down_and_the_next_is_taken(
    revert: Any, node: Any, tmp_path: Path
) -> None:
    revert.arm(60)
    change(tmp_path)
    node.broken.add("systemctl restart systemd-networkd.service")
    done = revert.restore()
    assert done["fired"]["faults"] == ["units: systemctl restart systemd-networkd.service: broken"]
    assert "iptables-restore" in node.ran
    assert (tmp_path / "proc/sys/net/ipv6/conf/eno1/accept_ra").read_text() == "1"


def test_addresses_are_those_of_before_and_no_others(revert: Any, node: Any) -> None:
    revert.arm(60)
    node.addresses = [
        {"ifname": "eno1", "addr_info": [{"local": "10.9.9.9", "prefixlen": 8, "scope": "global"}]}
    ]
    revert.restore()
    assert "ip address replace 10.0.0.2/24 dev eno1" in node.ran
    assert "ip address del 10.9.9.9/8 dev eno1" in node.ran
    assert "ip -4 route replace default via 10.0.0.1 dev eno1 proto static" in node.ran


def test_a_route_that_the_change_brought_goes(revert: Any, node: Any) -> None:
    revert.arm(60)
    node.routes = [{"dst": "10.40.0.0/16", "gateway": "10.0.0.9", "dev": "eno1", "protocol": "static"}]
    revert.restore()
    assert "ip -4 route del 10.40.0.0/16 via 10.0.0.9 dev eno1 proto static" in node.ran
    assert "ip -4 route replace default via 10.0.0.1 dev eno1 proto static" in node.ran


def test_bonds_and_vlans_that_the_change_made_go_and_packets_have_the_size_of_before(
    revert: Any, node: Any
) -> None:
    """Before the services start: they could not have the cards otherwise.  A bond of before stays."""
    old = {"ifname": "bond0", "mtu": 1500, "linkinfo": {"info_kind": "bond"}}
    node.links = [{"ifname": "eno1", "mtu": 1500}, old]
    revert.arm(60)
    node.links = [
        {"ifname": "eno1", "mtu": 9000},
        old,
        {"ifname": "data", "mtu": 9000, "linkinfo": {"info_kind": "bond"}},
        {"ifname": "storage", "mtu": 9000, "linkinfo": {"info_kind": "vlan"}},
    ]
    node.ran.clear()
    assert revert.restore()["fired"]["faults"] == []
    order = [
        node.ran.index(words)
        for words in (
            "ip link del dev storage",
            "ip link del dev data",
            "systemctl restart systemd-networkd.service",
            "ip link set dev eno1 mtu 1500",
        )
    ]
    assert order == sorted(order)
    assert "ip link del dev bond0" not in node.ran


def test_a_link_that_the_change_took_down_comes_up(revert: Any, node: Any) -> None:
    node.links = [{"ifname": "eno1", "mtu": 1500, "flags": ["UP"]}, {"ifname": "eno2", "mtu": 1500}]
    revert.arm(60)
    node.links = [{"ifname": "eno1", "mtu": 1500}, {"ifname": "eno2", "mtu": 1500}]
    revert.restore()
    assert "ip link set dev eno1 up" in node.ran
    assert "ip link set dev eno2 up" not in node.ran


def test_tables_of_nftables_own_come_back(revert: Any, node: Any) -> None:
    """Those of iptables do by themselves, and nft could not read its own listing of them."""
    revert.arm(60)
    node.ran.clear()
    revert.restore()
    assert node.heard["nft -f -"] == "table inet own\ndelete table inet own\ntable inet own {\n}\n"
    assert node.ran.index("iptables-restore") < node.ran.index("nft -f -")


def test_nothing_blocks_while_the_rest_is_put_back(revert: Any, node: Any, tmp_path: Path) -> None:
    """The rules of ufw go first and the filter of before comes last."""
    init = tmp_path / "usr/lib/ufw/ufw-init"
    init.parent.mkdir(parents=True)
    init.touch()
    revert.arm(60)
    revert.restore()
    order = [
        node.ran.index(f"{init} force-stop"),
        node.ran.index("systemctl restart systemd-networkd.service"),
        len(node.ran) - node.ran[::-1].index("iptables-restore"),
    ]
    assert order == sorted(order)


def test_services_are_on_or_off_as_before(revert: Any, node: Any) -> None:
    revert.arm(60)
    node.ran.clear()
    node.units = UNITS.replace("=active", "=inactive").replace("=enabled", "=disabled", 1)
    revert.restore()
    assert "systemctl enable systemd-networkd.service" in node.ran
    assert "systemctl enable ufw.service" not in node.ran  # it is
    assert not [words for words in node.ran if words.endswith(" networking.service")]


def test_the_qualification_looks_where_the_program_keeps_that_a_change_is_pending(program: Any) -> None:
    """Not at what an arming that was cut off has left: that is not pending, and nothing will be undone."""
    from appliance.node.qualification.installed import PENDING

    armed = program.Revert(program.Node("/")).armed
    assert f"[ -e {armed} ] && echo pending" in PENDING


def test_an_interrupted_save_is_not_taken_for_a_snapshot(revert: Any) -> None:
    (revert.state / "pending.new/files").mkdir(parents=True)
    assert revert.status()["pending"] is False
    assert revert.arm(60)["pending"] is True


def test_the_firewall_and_network_roles_change_nothing_that_is_not_saved(snapshot: Any) -> None:
    """Whoever adds a unit or a kernel setting to a role adds it here too."""
    import yaml

    roles = Path(__file__).parents[3] / "roles"
    network = yaml.safe_load((roles / "network_isolation/defaults/main.yml").read_text())
    firewall = yaml.safe_load((roles / "firewall/defaults/main.yml").read_text())
    assert set(network["network_isolation_settings"]) == set(snapshot.SETTINGS)
    changed = {*network["network_isolation_services_off"], *firewall["firewall_rivals"]}
    changed.remove("ifup@*.service")  # instances are started by networking.service and udev
    assert changed <= set(snapshot.UNITS)


def test_what_is_masked_for_good_is_not_among_what_is_put_back(snapshot: Any) -> None:
    """A masked unit can be neither enabled nor started: the revert would call that a fault."""
    from fnmatch import fnmatchcase

    from appliance.node.host_data import load_host_data, patterns

    stopped = patterns(load_host_data().stopped)
    assert "avahi-daemon.service" in stopped
    assert [unit for unit in snapshot.UNITS if any(fnmatchcase(unit, each) for each in stopped)] == []


def test_a_socket_is_off_before_the_service_that_it_would_start_again(snapshot: Any) -> None:
    order = list(snapshot.UNITS)
    for name in ("systemd-networkd", "systemd-resolved"):
        sockets = [unit for unit in order if unit.startswith(name) and unit.endswith(".socket")]
        assert sockets
        assert all(order.index(socket) < order.index(f"{name}.service") for socket in sockets)


PROCESSES = {
    "shared": [
        ("python3", 90000),
        ("sudo (user)", 90000),
        ("sshd-session", 4200),
        ("sshd", 100),
        ("systemd", 1),
    ],
    "old OpenSSH": [("sh", 90000), ("sshd", 4200), ("sshd", 100), ("systemd", 1)],
    "started by a socket": [("sh", 90000), ("sshd", 4200), ("systemd", 1)],
    "console": [("bash", 90000), ("login", 4200), ("systemd", 1)],
}


@pytest.mark.parametrize("kind", PROCESSES)
def test_a_connection_is_as_old_as_the_nearest_process_of_its_server(
    snapshot: Any, tmp_path: Path, kind: str
) -> None:
    """Not as the command that is run over it, and not as the server that listens."""
    above = [os.getpid(), *range(900_001, 900_009)]
    chain = PROCESSES[kind]
    for place, (name, ticks) in enumerate(chain):
        pid = 1 if name == "systemd" else above[place]
        parent = 1 if place + 2 >= len(chain) else above[place + 1]
        rest = f"S {parent} " + " ".join("0" * 17) + f" {ticks} 0 0"
        (tmp_path / f"proc/{pid}").mkdir(parents=True)
        (tmp_path / f"proc/{pid}/stat").write_text(f"{pid} ({name}) {rest}\n")
    began = snapshot.Node(tmp_path).ssh_began()
    assert began == (None if kind == "console" else 4200 / os.sysconf("SC_CLK_TCK"))


def test_the_time_of_this_very_process_is_after_the_kernels_start(snapshot: Any) -> None:
    fields = Path("/proc/self/stat").read_text().rpartition(")")[2].split()
    began = int(fields[19]) / os.sysconf("SC_CLK_TCK")
    assert 0 < began <= snapshot.Node().uptime()


def test_a_command_that_hangs_is_ended_and_told(snapshot: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(snapshot.Node, "PATIENCE", 0.1)
    done = snapshot.Node().run("sleep", "600")
    assert (done.returncode, done.stderr) == (124, "no end within 0.1 s")


def test_a_command_that_is_not_there_fails(snapshot: Any) -> None:
    assert snapshot.Node().run("appliance-no-such-command").returncode == 127


@pytest.mark.parametrize("kind", ["file", "link", "folder", "other mode", "gone", "file for folder"])
def test_a_path_is_put_back_as_it_was(program: Any, tmp_path: Path, kind: str) -> None:
    files = program.lasting_files
    kept, target = tmp_path / "kept", tmp_path / "target"
    (kept / "below").mkdir(parents=True)
    (kept / "below/file").write_text("text")
    (kept / "link").symlink_to("below/file")
    files.copy(kept, target)
    assert files.same(kept, target)
    if kind == "file":
        (target / "below/file").write_text("else")
    elif kind == "link":
        (target / "link").unlink()
        (target / "link").symlink_to("elsewhere")
    elif kind == "folder":
        (target / "more").mkdir()
    elif kind == "other mode":
        (target / "below/file").chmod(0o600)
    else:
        files.remove(target)
    if kind == "file for folder":
        target.write_text("a file")
    assert not files.same(kept, target)
    files.put(kept, target)
    assert files.same(kept, target)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["kept", "target"]


def test_what_is_right_already_is_not_written(program: Any, tmp_path: Path) -> None:
    """Not even on a full disk, where it could only become worse."""
    files = program.lasting_files
    for name in ("kept", "target"):
        (tmp_path / name).write_text("text")
    before = (tmp_path / "target").stat()
    files.put(tmp_path / "kept", tmp_path / "target")
    assert (tmp_path / "target").stat() == before


def test_a_file_is_on_the_disk_before_it_has_its_name(
    program: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    order: list[str] = []
    fsync, rename = os.fsync, Path.rename
    monkeypatch.setattr(
        os,
        "fsync",
        lambda number: (order.append(str(Path(f"/proc/self/fd/{number}").readlink())), fsync(number)),
    )
    monkeypatch.setattr(Path, "rename", lambda *words: (order.append("rename"), rename(*words))[1])
    program.lasting_files.write(tmp_path / "one", "text")
    assert order == [str(tmp_path / ".one.appliance-revert"), "rename", str(tmp_path)]
    order.clear()
    (tmp_path / "tree").mkdir()
    (tmp_path / "tree/two").write_text("text")
    program.lasting_files.put(tmp_path / "tree", tmp_path / "other")
    draft = str(tmp_path / ".other.appliance-revert")
    assert order == [f"{draft}/two", draft, "rename", str(tmp_path)]
