"""The real ufw builds the filter of a node with flows; the kernel lets through what was declared."""

from __future__ import annotations

import json
import os
import shutil
from importlib.util import find_spec
from ipaddress import ip_address, ip_network
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jinja2
import pytest

from appliance.node.qualification import flows as declared_flows
from appliance.node.qualification import rules as judged_rules
from tests.unit.node.test_qualify_flows import NODE
from tests.unit.roles.unpacked import enter

if TYPE_CHECKING:
    from collections.abc import Callable

pytestmark = pytest.mark.archive

RECORDED = Path(__file__).parents[1] / "node/recorded"
ROLE = Path(__file__).parents[3] / "roles/firewall"
FILES = (
    "default/ufw",
    "ufw/ufw.conf",
    *(f"ufw/{when}{six}.rules" for when in ("before", "after") for six in ("", "6")),
)

INTERFACES = [
    {"name": "mgmt", "device": "eno1", "addresses": ["10.20.0.11/24"]},
    {"name": "data", "device": "data", "addresses": ["10.30.0.11/24", "fd30::11/64"]},
    {"name": "export", "device": "eno2", "addresses": ["10.60.0.9/30"]},
]
NCCL = {
    "name": "nccl",
    "interface": "data",
    "directions": ["in", "out"],
    "protocol": "tcp",
    "ports": ["50000:50999", "4791"],
    "peers": ["10.30.0.12", "fd30::12"],
    "answers": True,
}
RDMA = {**NCCL, "name": "rdma", "directions": ["in"], "protocol": "udp", "ports": ["4791"]}
LOGS = {
    "name": "logs",
    "interface": "export",
    "directions": ["out"],
    "protocol": "udp",
    "ports": ["5140"],
    "peers": ["10.60.0.10"],
    "answers": False,
}
TIME = {
    **LOGS,
    "name": "time",
    "interface": "mgmt",
    "ports": ["123"],
    "peers": ["10.20.0.60"],
    "answers": True,
}
GOSSIP = {**RDMA, "name": "gossip", "directions": ["in", "out"], "ports": ["7946"], "answers": False}
HINTS = {**LOGS, "name": "hints", "interface": "mgmt", "ports": ["5141"], "peers": ["10.20.0.60"]}

# way, protocol, source, target, port: what must come of it
ATTEMPTS = [
    (("in", "tcp", "10.20.0.1", "10.20.0.11", 22), "answered"),
    (("in", "tcp", "10.20.0.60", "10.20.0.11", 22), "nothing"),
    (("out", "tcp", "10.20.0.11", "10.20.0.1", 22), "nothing"),
    (("in", "tcp", "10.30.0.12", "10.30.0.11", 50000), "answered"),
    (("in", "tcp", "10.30.0.12", "10.30.0.11", 50999), "answered"),
    (("in", "tcp", "10.30.0.12", "10.30.0.11", 51000), "nothing"),
    (("in", "tcp", "10.30.0.99", "10.30.0.11", 50000), "nothing"),
    (("in", "tcp", "fd30::12", "fd30::11", 50000), "answered"),
    (("out", "tcp", "10.30.0.11", "10.30.0.12", 4791), "answered"),
    (("out", "tcp", "fd30::11", "fd30::12", 50500), "answered"),
    (("out", "tcp", "10.30.0.11", "10.30.0.99", 50000), "nothing"),
    (("out", "tcp", "10.30.0.11", "10.30.0.12", 443), "nothing"),
    (("out", "udp", "10.30.0.11", "10.30.0.12", 50000), "nothing"),
    (("in", "udp", "10.30.0.12", "10.30.0.11", 4791), "answered"),
    (("in", "udp", "10.30.0.99", "10.30.0.11", 4791), "nothing"),
    (("out", "udp", "10.30.0.11", "10.30.0.12", 4791), "nothing"),
    (("out", "udp", "10.30.0.11", "10.30.0.12", 7946), "arrived"),
    (("in", "udp", "10.30.0.12", "10.30.0.11", 7946), "arrived"),
    # from the flow's own port to the flow's own port, as some do: what comes back is begun by the peer
    (("out", "udp", "10.30.0.11", "10.30.0.12", 7946, 7946), "answered"),
    (("in", "udp", "fd30::12", "fd30::11", 7946, 7946), "answered"),
    (("out", "udp", "10.60.0.9", "10.60.0.10", 5140), "arrived"),
    (("out", "udp", "10.60.0.9", "10.60.0.10", 5141), "nothing"),
    (("in", "udp", "10.60.0.10", "10.60.0.9", 5140), "nothing"),
    (("in", "tcp", "10.60.0.10", "10.60.0.9", 22), "nothing"),
    (("out", "udp", "10.20.0.11", "10.20.0.60", 123), "answered"),
    (("in", "udp", "10.20.0.60", "10.20.0.11", 123), "nothing"),
    (("out", "udp", "10.20.0.11", "10.20.0.60", 5141), "arrived"),
    (("out", "udp", "10.20.0.11", "10.20.0.1", 123), "nothing"),
]

#: The number of chrony's user here, and what must come of it where the site's clock is a peer of logs.
CHRONY = 103
ASKED = [
    (("out", "udp", "10.60.0.9", "10.60.0.10", 123, 0, CHRONY), "answered"),
    (("out", "udp", "10.60.0.9", "10.60.0.10", 123), "nothing"),
    (("out", "udp", "10.60.0.9", "10.60.0.10", 123, 0, CHRONY + 1), "nothing"),
    (("out", "udp", "10.60.0.9", "10.60.0.10", 124, 0, CHRONY), "nothing"),
    (("out", "udp", "10.20.0.11", "10.20.0.1", 123, 0, CHRONY), "nothing"),
    (("in", "udp", "10.60.0.10", "10.60.0.9", 123), "nothing"),
]

#: What somebody else may have left: a table of its own that redirects packets.
FOREIGN = """
table inet helpful {
    chain pre { type nat hook prerouting priority dstnat; policy accept; tcp dport 80 redirect to :8000; }
}
"""


def render(variables: dict[str, Any]) -> dict[str, str]:
    """The role's templates as Ansible's lookup renders them."""
    environment = jinja2.Environment(trim_blocks=True, undefined=jinja2.StrictUndefined, autoescape=False)  # noqa: S701
    return {
        f"/etc/{name}": environment.from_string((ROLE / f"templates/etc/{name}.j2").read_text()).render(
            variables
        )
        + "\n"
        for name in FILES
    }


#: Two levels of logging, and time servers.
CASES = [
    pytest.param(("low", []), id="low"),
    pytest.param(("medium", []), id="medium"),
    pytest.param(
        ("low", ["10.60.0.10"]),
        id="clock",
        marks=pytest.mark.skipif(os.geteuid() != 0, reason="only root makes sockets of two users"),
    ),
]


@pytest.fixture(scope="module", params=CASES)
def built(
    request: pytest.FixtureRequest,
    role_module: Callable[[str], Any],
    unpacked: Callable[[str], Path],
) -> dict[str, Any]:
    """What ufw made of it, and what came of every attempt."""
    level, servers = request.param
    admit = role_module("firewall/filter_plugins/appliance_admit.py")
    flows = role_module("firewall/filter_plugins/appliance_flows.py")
    admitted = admit.appliance_admit(INTERFACES, ["10.20.0.0/28"])
    asked = admit.appliance_ask(INTERFACES, servers)
    attempts = [*ATTEMPTS, *(ASKED if servers else [])]
    rules = flows.appliance_flows([NCCL, RDMA, LOGS, TIME, HINTS, GOSSIP], INTERFACES)
    variables = {
        "firewall_admitted": admitted,
        "firewall_flow_rules": rules,
        "firewall_asked": asked,
        "firewall_mute": flows.appliance_mute(rules, admitted + asked),
        "firewall_ssh_port": 22,
        "firewall_log_level": level,
    }
    spec = {
        "files": render(variables),
        "admitted": admitted,
        "flows": rules,
        "port": 22,
        "foreign": FOREIGN,
        "attempts": [words for words, _ in attempts],
    }
    root = unpacked("trixie")
    (root / "etc/passwd").write_text(
        f"root:x:0:0::/root:/bin/sh\n_chrony:x:{CHRONY}:{CHRONY}::/:/bin/false\n"
    )
    place_programs(root)
    (root / "try/spec.json").write_text(json.dumps(spec))
    done = enter(root, "cd /try; python3 flows_in_namespaces.py <spec.json")
    assert done.returncode == 0, done.stderr
    return {**json.loads(done.stdout), "level": level, "asked": asked, "attempts": attempts}


def place_programs(root: Path) -> None:
    """The module, what it imports of Ansible, and the script that tries."""
    place = root / "try"
    shutil.rmtree(place, ignore_errors=True)
    specification = find_spec("ansible")
    assert specification is not None
    assert specification.origin is not None
    ansible = Path(specification.origin).parent
    shutil.copytree(ansible / "module_utils", place / "ansible/module_utils")
    (place / "ansible/__init__.py").touch()  # as Ansible sends it to a node
    for path in ROLE.glob("module_utils/*.py"):
        shutil.copy(path, place / "ansible/module_utils" / path.name)
    shutil.copy(ROLE / "library/ufw_policy.py", place)
    shutil.copy(Path(__file__).with_name("flows_in_namespaces.py"), place)


def test_everything_worked_before(built: dict[str, Any]) -> None:
    """Otherwise silence afterwards would prove nothing."""
    assert built["before"] == ["answered"] * len(built["attempts"])


def test_what_is_declared_works_and_nothing_else(built: dict[str, Any]) -> None:
    wrong = [
        f"{' '.join(map(str, words))}: {found}, not {wanted}"
        for (words, wanted), found in zip(built["attempts"], built["after"], strict=True)
        if found != wanted
    ]
    assert wrong == []


def test_the_qualification_judges_this_very_filter(built: dict[str, Any]) -> None:
    """Its tests read a recording, which must stay true."""
    if built["asked"]:
        devices = {interface["name"]: interface["device"] for interface in INTERFACES}
        declared = (
            *declared_flows.flow_rules(NODE, devices),
            *declared_flows.time_rules(NODE, (ip_address("10.60.0.10"),), devices),
        )
        both = [judged_rules.parse_save(built["live"][family]) for family in ("v4", "v6")]
        networks = (ip_network("10.20.0.0/28"),)
        assert judged_rules.judge_out(*both, networks, 22, declared).kept
        assert judged_rules.judge_in(*both, networks, 22, declared).kept
    elif built["level"] == "low":
        for family, name in (("v4", "iptables"), ("v6", "ip6tables")):
            assert built["live"][family] == (RECORDED / f"{name}-save-flows.txt").read_text()
    else:
        assert built["live"]["v4"] != (RECORDED / "iptables-save-flows.txt").read_text()


def test_what_is_live_is_what_was_built_and_a_table_of_others_shows_and_goes(built: dict[str, Any]) -> None:
    assert built["same"] is True
    assert "table inet helpful" in built["shown"]
    assert built["clean"] is True


REFUSED = """
import json, ufw_policy
spec = json.load(open("spec.json"))
spec["files"]["/etc/ufw/ufw.conf"] = "ENABLED=yes\\nLOGLEVEL=full\\n"
try:
    ufw_policy.build(spec["files"], ufw_policy.ufw_rules(spec))
except ufw_policy.Refused as refusal:
    print(refusal)
"""


@pytest.mark.usefixtures("built")
def test_a_level_that_logs_without_limit_is_refused(unpacked: Callable[[str], Path]) -> None:
    root = unpacked("trixie")
    (root / "try/refused.py").write_text(REFUSED)
    done = enter(root, "cd /try; python3 refused.py")
    assert "that logs without limit" in done.stdout, done.stderr
