"""A booted practice node, and an operator's side that leads to it and nowhere else.

The test process stays where it is.  What the operator does is run in a network namespace of its own:
``operator.run(["appliance", "install", …])``.  Nothing here skips: without root or the tools, the
fixtures fail, because a test not run is not a test passed.
"""

from __future__ import annotations

import contextlib
import json
import os
import shlex
import subprocess
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from appliance.lab.places import LABS_VARIABLE, Places
from appliance.lab.reach import ssh_command
from appliance.lab.status import lab_status
from tests.node.at_station import APPLIANCE, at_station

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.conftest import Holders

    NewLab = Callable[..., contextlib.AbstractContextManager["PracticeLab"]]
    NewBundle = Callable[..., Path]
    NewInstaller = Callable[..., "Installer"]

DEMO = Path(__file__).resolve().parents[2] / "bundles/demo.yaml"

#: What preflight looks for in a bundle, by name: nothing of a small bundle that holds it gets installed.
SYSTEM = {"system": ("debian", {"netplan.io": b"netplan", "nftables": b"nftables", "ufw": b"ufw"})}

#: Seconds that a command on a node may take, on a machine that does much else.
PATIENCE = 240

Done = subprocess.CompletedProcess[str]


@dataclass(frozen=True)
class Operator:
    """The operator's side: a network namespace with loopback and the labs' bridges, nothing else.

    The operator's addresses are each lab's: ``lab.operator``, and ``lab.foreign`` outside the
    management networks.
    """

    netns: str
    environment: dict[str, str] = field(default_factory=lambda: dict(os.environ))

    def command(self, command: list[str]) -> list[str]:
        """The command line that runs ``command`` there; ``appliance`` is the program under test."""
        program = [APPLIANCE, *command[1:]] if command[0] == "appliance" else command
        return ["ip", "netns", "exec", self.netns, *program]

    def run(self, command: list[str], *, check: bool = True, timeout: float = 900, **more: Any) -> Done:
        """Run a command there, its output captured as text; unless ``check`` is off, it must succeed."""
        return run(self.command(command), check=check, timeout=timeout, **{"env": self.environment, **more})

    def start(self, command: list[str], **more: Any) -> subprocess.Popen[str]:
        """Start a command there without waiting for it: a listener, a capture, an install to cut off."""
        defaults = {
            "stdin": subprocess.DEVNULL,
            "stdout": subprocess.PIPE,
            "stderr": subprocess.STDOUT,
            "env": self.environment,
        }
        return subprocess.Popen(self.command(command), text=True, **{**defaults, **more})

    def lab_status(self, name: str) -> dict[str, Any]:
        """One lab's part of ``appliance lab status --json``, without starting that for each look."""
        labs = Path(self.environment.get(LABS_VARIABLE, Places.labs))
        status: dict[str, Any] = json.loads(json.dumps(lab_status(Places(labs), name).as_dict()))
        return status


@dataclass(frozen=True)
class PracticeNode:
    """A booted node, reached from the operator's side."""

    lab: str
    name: str
    address4: str
    address6: str
    mac: str
    operator_side: Operator
    inventory: Path

    def run(self, command: str, *, check: bool = True, timeout: float = PATIENCE, **more: Any) -> Done:
        """Run a shell command line on the node as root, over an SSH connection of its own.

        As ``appliance lab shell`` does, without starting that.
        """
        ssh = ssh_command(self.inventory, self.address4, connect_timeout=60)
        shell = [*ssh, "--", shlex.join(["sh", "-c", command])]
        return self.operator_side.run(shell, check=check, timeout=timeout, **more)

    def inside(self, command: str, *, check: bool = True, timeout: float = PATIENCE) -> Done:
        """Run a shell command line on the node as root, not over its network: works when SSH is cut."""
        enter = ["nsenter", "--target", str(self.leader), "--all", "--", "sh", "-c", command]
        return run(enter, check=check, timeout=timeout)

    @property
    def leader(self) -> int:
        """Process id, here, of the node's PID 1; another after every boot."""
        nodes = self.operator_side.lab_status(self.lab)["nodes"]
        return int(next(node["leader"] for node in nodes if node["name"] == self.name))

    def reboot(self, *, power_cut: bool = False) -> None:
        """Switch the node off and on; when this returns, root can log in again."""
        cut = ["--power-cut"] if power_cut else []
        self.operator_side.run(["appliance", "lab", "reboot", self.name, *cut], timeout=900)


@dataclass(frozen=True)
class PracticeLab:
    """A lab that is up; ``inventory`` is a complete inventory folder, as `appliance install -i` takes."""

    name: str
    inventory: Path
    nodes: tuple[PracticeNode, ...]
    management: tuple[str, str]
    operator: tuple[str, str]
    foreign: tuple[str, str]

    @property
    def node(self) -> PracticeNode:
        """The first node."""
        return self.nodes[0]


def run(command: list[str], *, check: bool, timeout: float, **more: Any) -> Done:
    """Run a command here, output captured as text; unless ``check`` is off, the test fails if it does."""
    defaults = {"stdin": None if "input" in more else subprocess.DEVNULL, "capture_output": True}
    done = subprocess.run(command, check=False, timeout=timeout, text=True, **{**defaults, **more})
    if check and done.returncode != 0:
        pytest.fail(f"{command} ended with {done.returncode}\n{done.stdout}\n{done.stderr}")
    return done


@contextlib.contextmanager
def operator_side(netns: str) -> Iterator[Operator]:
    """A network namespace of that name, with nothing in it but loopback."""
    run(["ip", "netns", "add", netns], check=True, timeout=60)
    try:
        run(["ip", "-n", netns, "link", "set", "lo", "up"], check=True, timeout=60)
        yield Operator(netns)
    finally:
        run(["ip", "netns", "delete", netns], check=True, timeout=60)


@pytest.fixture(scope="session")
def operator() -> Iterator[Operator]:
    """The operator's side of this test run."""
    # The one step that may ask the package archive, so it runs where that can be reached.
    run([APPLIANCE, "lab", "prepare"], check=True, timeout=1800)
    with operator_side(f"appliance-test-{os.getpid()}") as side:
        yield side


@pytest.fixture(scope="session")
def new_lab(operator: Operator) -> NewLab:
    """Boots fresh labs, each in about a second and gone after its block.

    Used as ``with new_lab(nodes=2) as lab:``.
    """
    made = 0

    @contextlib.contextmanager
    def make(nodes: int = 1, suite: str = "trixie") -> Iterator[PracticeLab]:
        nonlocal made
        made += 1
        name = f"test{os.getpid()}x{made}"
        operator.run(["appliance", "lab", "up", name, "--nodes", str(nodes), "--suite", suite])
        try:
            yield lab_named(operator, name)
        finally:
            operator.run(["appliance", "lab", "down", name])

    return make


@pytest.fixture(scope="session")
def practice_lab(new_lab: NewLab) -> Iterator[PracticeLab]:
    """One lab with one node, shared by the session: for tests that leave it as it is."""
    with new_lab() as lab:
        yield lab


@pytest.fixture(scope="session")
def practice_node(practice_lab: PracticeLab) -> PracticeNode:
    """The shared lab's node."""
    return practice_lab.node


@pytest.fixture(scope="module")
def fresh_lab(new_lab: NewLab) -> Iterator[PracticeLab]:
    """A lab with one node of the test module's own, to install on and to break."""
    with new_lab() as lab:
        yield lab


@pytest.fixture(scope="session")
def bookworm_image() -> str:
    """The suite's name, once what its nodes are made from is there; asks the package archive for that."""
    run([APPLIANCE, "lab", "prepare", "--suite", "bookworm"], check=True, timeout=1800)
    return "bookworm"


@pytest.fixture(scope="module")
def bookworm_lab(new_lab: NewLab, bookworm_image: str) -> Iterator[PracticeLab]:
    """A lab with one node of Debian 12, of the test module's own."""
    with new_lab(suite=bookworm_image) as lab:
        yield lab


def lab_named(operator: Operator, name: str) -> PracticeLab:
    """A lab that is up."""
    values = operator.lab_status(name)
    inventory = Path(values["inventory"])
    nodes = [
        PracticeNode(name, node["name"], *node["addresses"], node["mac"], operator, inventory)
        for node in values["nodes"]
    ]
    return PracticeLab(
        name=name,
        inventory=inventory,
        nodes=tuple(nodes),
        management=tuple(values["management"]),
        operator=tuple(values["operator"]),
        foreign=tuple(values["foreign"]),
    )


@pytest.fixture(scope="session")
def trusted(holders: Holders, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The file of a root of one holder, alice, who may release and patch."""
    folder = tmp_path_factory.mktemp("trust")
    holder = f"alice={holders.key('alice')}.pub:root,release,patch"
    command = [APPLIANCE, "trust", "init", "--holder", holder, "--solo", "--out", str(folder)]
    run(command, check=True, timeout=240)
    return folder / "root.1.json"


@pytest.fixture(scope="session")
def new_bundle(trusted: Path, holders: Holders) -> NewBundle:
    """Makes the bundle of a definition in a folder, signed by alice, from what this station can fetch.

    Where ``lock.json`` lies in the folder already, it is of that lock, and no registry is asked.
    """

    def make(definition: Path, folder: Path, *store: str) -> Path:
        lock, out = folder / "lock.json", folder / "bundle"
        if not lock.exists():
            at_station("lock", definition, "--out", lock, *store)
        at_station("build", definition, "--lock", lock, "--root", trusted, "--out", out, *store)
        at_station("sign", out, "--key", holders.key("alice"))
        return out

    return make


@pytest.fixture(scope="session")
def demo(new_bundle: NewBundle, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The demonstration's bundle."""
    return new_bundle(DEMO, tmp_path_factory.mktemp("demo"))


class Installer:
    """Installs a bundle on one lab's nodes."""

    timeout = 1200.0

    def __init__(self, operator: Operator, lab: PracticeLab, bundle: Path, root: Path, state: Path) -> None:
        self.operator, self.lab, self.state = operator, lab, state
        fixed = ["-i", str(lab.inventory), "--trust", str(root), "--state", str(state), "--json"]
        self.command = ["appliance", "install", str(bundle), *fixed]

    def __call__(self, *options: str) -> tuple[int, Any, str]:
        """Exit code, the JSON result, and what was told on the way."""
        done = self.operator.run([*self.command, *options], check=False, timeout=self.timeout)
        return done.returncode, json.loads(done.stdout), done.stderr

    def record(self, node: PracticeNode, stage: str) -> Any:
        (path,) = self.state.glob(f"runs/*/{node.name}/{stage}.json")
        return json.loads(path.read_text())


@pytest.fixture(scope="session")
def new_installer(
    operator: Operator, demo: Path, trusted: Path, tmp_path_factory: pytest.TempPathFactory
) -> NewInstaller:
    """Makes the installer of a lab, with records of its own; of the demonstration if not told otherwise."""

    def make(lab: PracticeLab, bundle: Path = demo) -> Installer:
        return Installer(operator, lab, bundle, trusted, tmp_path_factory.mktemp("state"))

    return make
