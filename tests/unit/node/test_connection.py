"""How a node is reached: the generated SSH configuration, judged by OpenSSH itself."""

from __future__ import annotations

import subprocess
from dataclasses import replace
from ipaddress import ip_address
from typing import TYPE_CHECKING

import pytest

from appliance.definition.inventory import Inventory, Management, NodeEntry, Ssh
from appliance.node.connection import LocalConnection, SshConnection, open_connections, ssh_config
from appliance.node.script import start_command

if TYPE_CHECKING:
    from pathlib import Path

NODE = NodeEntry("gpu-01", "ssh", ip_address("fd20::11"), 2222, ())


def asked(config: Path, name: str = "gpu-01") -> dict[str, str]:
    """What OpenSSH makes of a configuration for one host."""
    shown = subprocess.run(
        ["ssh", "-F", str(config), "-G", name], check=True, capture_output=True, text=True
    ).stdout
    return dict(line.split(" ", 1) for line in shown.splitlines() if " " in line)


@pytest.fixture(params=["plain", "with space", "with%percent", "with%%two %C"])
def folder(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    folder = tmp_path / request.param
    folder.mkdir()
    return folder


def test_openssh_understands_it_as_meant(folder: Path) -> None:
    ssh = Ssh("root", folder / "key", folder / "known_hosts")
    config = folder / "ssh_config"
    config.write_text(ssh_config(ssh, [NODE], folder))
    found = asked(config)
    escaped = str(folder).replace("%", "%%")
    assert found["hostname"] == "fd20::11"
    assert found["port"] == "2222"
    assert found["user"] == "root"
    assert found["identityfile"].strip('"') == f"{escaped}/key"
    assert found["identitiesonly"] == "yes"
    # Some versions show this one with its tokens expanded.
    shown = found["userknownhostsfile"].strip('"')
    assert shown in {f"{folder}/known_hosts", f"{escaped}/known_hosts"}
    assert found["globalknownhostsfile"] == "/dev/null"
    assert found["stricthostkeychecking"] == "true"
    assert found["batchmode"] == "yes"
    assert found["updatehostkeys"] == "false"
    assert found["forwardagent"] == "no"
    assert found["passwordauthentication"] == "yes"
    assert found["preferredauthentications"] == "publickey"


def test_without_a_key_the_agent_is_asked(tmp_path: Path) -> None:
    config = tmp_path / "ssh_config"
    config.write_text(ssh_config(Ssh("root", None, tmp_path / "known_hosts"), [NODE], tmp_path))
    found = asked(config)
    assert found["identityfile"] == "none"
    assert found.get("identityagent", "SSH_AUTH_SOCK") != "none"


def test_each_node_has_its_own_place(tmp_path: Path) -> None:
    other = replace(NODE, name="gpu-02", address=ip_address("10.20.0.12"), port=22)
    config = tmp_path / "ssh_config"
    config.write_text(ssh_config(Ssh("root", None, tmp_path / "known_hosts"), [NODE, other], tmp_path))
    assert asked(config, "gpu-02")["hostname"] == "10.20.0.12"
    assert asked(config, "gpu-01")["hostname"] == "fd20::11"


def test_nobody_else_can_read_the_configuration(tmp_path: Path) -> None:
    inventory = Inventory(
        tmp_path / "inventory.yml",
        "site",
        Management((), ()),
        Ssh("operator", None, tmp_path / "known_hosts"),
        (NODE, replace(NODE, name="here", connection="local")),
    )
    connections = open_connections(inventory, inventory.nodes, tmp_path)
    assert isinstance(connections["gpu-01"], SshConnection)
    assert isinstance(connections["here"], LocalConnection)
    assert (tmp_path / "ssh_config").stat().st_mode & 0o077 == 0
    assert connections["gpu-01"].ansible()["ansible_become"] is True
    assert connections["gpu-01"].testinfra.endswith("&sudo=true")


def test_a_script_gets_what_follows_it() -> None:
    """The text of the script comes first on standard input; the rest is the script's own."""
    script = b"import sys; print(sys.stdin.read().upper(), end='')"
    connection = LocalConnection(NODE)
    done = connection.run(start_command(script, "test"), stdin=script + b"the rest")
    assert (done.returncode, done.stdout) == (0, b"THE REST")


def test_a_machine_without_python_is_told_by_the_exit_status(tmp_path: Path) -> None:
    done = subprocess.run(
        ["/bin/sh", "-c", start_command(b"", "test")], env={"PATH": str(tmp_path)}, check=False
    )
    assert done.returncode == 127
