"""The roles on a booted node: the playbook run by the installer's own driver, with packages staged by hand.

The bundle is thin on purpose: packages and nothing else.  The whole way, from a definition to a serving
node, is tested elsewhere.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from appliance.content import content_root
from tests.injected import injected, pytest_terminal_summary

__all__ = ["injected", "pytest_terminal_summary"]

if TYPE_CHECKING:
    from collections.abc import Callable

STAGED = "/var/lib/appliance/staged/" + "0" * 64

#: Named by a definition; everything else in the component is what these need.
ROOTS = ["ufw", "nftables", "netplan.io", "openssh-server", "python3"]

#: Also staged, for tests of their own; not installed unless named.
OTHERS = ["ifupdown", "auditd", "kmod", "chrony"]

NETWORK_ROLES = ("base", "revert", "network_isolation", "firewall")

_RUN = """
import json, sys
from pathlib import Path
from appliance.node.ansible.driver import Playbook, run_playbook
from appliance.progress import Silent
spec = json.load(sys.stdin)
events = []
places = [Path(spec[name]) for name in ("file", "roles")]
playbook = Playbook(*places, spec["hosts"], spec["variables"], spec["check"])
folder, log = (Path(spec[name]) for name in ("folder", "log"))
run_playbook(playbook, folder=folder, log=log, progress=Silent(), on_event=events.append)
json.dump(events, sys.stdout)
"""


@dataclass(frozen=True)
class Run:
    """A finished run: the callback's events, and Ansible's own output for when a test fails."""

    events: list[dict[str, Any]]
    log: str

    def results(self, *statuses: str) -> dict[str, dict[str, Any]]:
        """Results with one of the statuses, by task."""
        return {
            event["task"]: event
            for event in self.events
            if event["event"] == "result" and event["status"] in statuses
        }

    @property
    def changed(self) -> list[str]:
        return sorted(self.results("changed"))

    @property
    def failed(self) -> dict[str, str]:
        """Messages of failed and unreachable tasks."""
        return {task: event["message"] for task, event in self.results("failed", "unreachable").items()}


@dataclass
class Site:
    """One node and what the installer would pass to the roles; a test may change ``site`` and ``node``."""

    lab: Any
    folder: Path
    components: dict[str, Any]
    site: dict[str, Any] = field(default_factory=dict)
    node: dict[str, Any] = field(default_factory=dict)

    def play(
        self,
        *,
        check: bool = False,
        tags: tuple[str, ...] = NETWORK_ROLES,
        before_confirmation: str = "",
        **more: Any,
    ) -> Run:
        """Run the site's playbook, roles of the network only.

        ``before_confirmation``: a command that happens on the node just before the change is confirmed.
        ``more``: variables of roles, beside those of the playbook.
        """
        spec = self._spec(check=check, tags=tags, before_confirmation=before_confirmation, **more)
        log = Path(spec["log"])
        try:
            done = self._operator.run([sys.executable, "-c", _RUN], input=json.dumps(spec), timeout=600)
        finally:
            self._close_connections()
        return Run(json.loads(done.stdout), log.read_text())

    def start(self) -> subprocess.Popen[str]:
        """Begin a play and return at once; the process leads a group of its own.  Its result is lost."""
        spec = self.folder / "spec.json"
        spec.write_text(json.dumps(self._spec()))
        with spec.open() as stdin, (self.folder / "start.log").open("w") as output:
            return self._operator.start(
                [sys.executable, "-c", _RUN], stdin=stdin, stdout=output, start_new_session=True
            )

    @property
    def _operator(self) -> Any:
        return self.lab.node.operator_side

    def _spec(
        self,
        *,
        check: bool = False,
        tags: tuple[str, ...] = NETWORK_ROLES,
        before_confirmation: str = "",
        **more: Any,
    ) -> dict[str, Any]:
        from appliance.node.connection import open_connections

        inventory = read_inventory(self.lab)
        connections = open_connections(inventory, inventory.nodes, self.folder)
        log = self.folder / "ansible.log"
        log.unlink(missing_ok=True)
        return {
            "file": str(self._playbook(tags, before_confirmation)),
            "roles": str(content_root() / "roles"),
            "hosts": {
                name: {**connection.ansible(), "appliance_node": self.node}
                for name, connection in connections.items()
            },
            "variables": {"appliance_bundle": self._bundle(), "appliance_site": self.site, **more},
            "check": check,
            "folder": str(self.folder),
            "log": str(log),
        }

    def _close_connections(self) -> None:
        """No shared connection outlives its play: a later one must be able to fail."""
        leave = ["ssh", "-F", str(self.folder / "ssh_config"), "-O", "exit", self.lab.node.name]
        self._operator.run(leave, check=False)

    def _playbook(self, tags: tuple[str, ...], before_confirmation: str) -> Path:
        """The real playbook, but only tasks that carry one of the tags; the driver has no such option."""
        import yaml

        (play,) = yaml.safe_load((content_root() / "playbooks/site.yml").read_text())
        play["tasks"] = [task for task in play["tasks"] if set(task["tags"]) & set(tags)]
        if before_confirmation:
            play["tasks"].insert(-1, {"name": "Meanwhile", "ansible.builtin.command": before_confirmation})
        path = self.folder / "site.yml"
        path.write_text(yaml.safe_dump([play], sort_keys=False))
        return path

    def _bundle(self) -> dict[str, Any]:
        return {
            "digest": "0" * 64,
            "components": self.components,
            "inference": {"engine": "engine", "model": "model", "file": "tiny.gguf", "name": "demo"},
        }


@pytest.fixture(scope="session")
def debian_component(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[dict[str, str]]]:
    """A folder with the packages and their index, and the manifest's list of them."""
    from appliance.definition.components import Debian
    from appliance.definition.names import Target
    from appliance.progress import Silent
    from appliance.sources.debian_packages import DebianPackages
    from appliance.sources.station import Station, read_settings
    from appliance.sources.store import Store

    folder = tmp_path_factory.mktemp("system")
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "appliance/store"
    station = Station(Store(cache), read_settings(os.environ), Silent(), folder)
    target = Target(distribution="debian", suite="trixie", architecture="amd64", python="3.13")
    source = DebianPackages(target, station)
    found = source.resolve(
        Debian(kind="debian", packages=(*ROOTS, *OTHERS)), lambda _: pytest.fail("no such package")
    )
    source.fetch(found)
    artefacts = source.describe(found)
    for artefact in artefacts:
        (folder / artefact.path).hardlink_to(station.store.path(artefact.sha256))
    files = [
        {"name": each.name, "version": each.version, "path": f"payload/system/{each.path}"}
        for each in artefacts
    ]
    return folder, files


@pytest.fixture(scope="session")
def stage(debian_component: tuple[Path, list[dict[str, str]]]) -> Callable[[Any], None]:
    """Puts the packages where the installer would."""

    def put(node: Any) -> None:
        node.run(f"mkdir -p {STAGED}/payload/system")
        packed = subprocess.run(
            ["tar", "-cC", str(debian_component[0]), "."], capture_output=True, check=True
        )
        unpack = ["tar", "-xC", f"{STAGED}/payload/system", "--no-same-owner"]
        shell = ["appliance", "lab", "shell", node.name, "--", *unpack]
        command = node.operator_side.command(shell)
        subprocess.run(
            command, input=packed.stdout, check=True, timeout=240, env=node.operator_side.environment
        )

    return put


@pytest.fixture(scope="session")
def new_site(
    debian_component: tuple[Path, list[dict[str, str]]], tmp_path_factory: pytest.TempPathFactory
) -> Callable[[Any], Site]:
    """What the installer knows of a lab's node."""
    from appliance.definition.inventory import node_values, site_values

    def make(lab: Any) -> Site:
        inventory = read_inventory(lab)
        components = {
            "system": {
                "kind": "debian",
                "path": f"{STAGED}/payload/system",
                "files": debian_component[1],
                "packages": ROOTS,
            },
            "toolkit": {"kind": "toolkit", "path": f"{STAGED}/payload/toolkit", "files": []},
        }
        return Site(
            lab=lab,
            folder=tmp_path_factory.mktemp("s"),  # short: a socket's path has at most 107 bytes
            components=components,
            site=site_values(inventory),
            node=node_values(inventory.nodes[0]),
        )

    return make


def read_inventory(lab: Any) -> Any:
    """The lab's own inventory, as the program reads it."""
    from appliance.definition.inventory_schema import parse_inventory

    path = lab.inventory / "inventory.yml"
    return parse_inventory(path.read_text(), path)[0]
