"""The one file by which a node audits itself: it runs on a bare Python, and has no more than it runs."""

from __future__ import annotations

import base64
import json
import os
import subprocess
import sys
import zipfile
from dataclasses import replace
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest

from appliance.definition.host import Audit, Host
from appliance.definition.inventory_record import read_record
from appliance.definition.inventory_schema import parse_inventory
from appliance.node.audit import daily
from appliance.node.audit.baseline import declared_digest
from appliance.node.audit.packing import MODULES, auditor_variables, node_settings, pack_auditor
from appliance.node.host_data import host_data, load_host_data

INVENTORY = """\
format: 1
site: clinic
management: {networks: ["10.20.0.0/28"], operator: ["10.20.0.1"]}
ssh: {user: appliance, known_hosts: known_hosts}
nodes:
  gpu-01: {address: "10.20.0.11", interfaces: {mgmt: {match: {name: eno1}, addresses: ["10.20.0.11/24"]}}}
  gpu-02: {address: "10.20.0.12", interfaces: {mgmt: {match: {name: eno1}, addresses: ["10.20.0.12/24"]}}}
"""
SITE = parse_inventory(INVENTORY, Path("/site/inventory.yml"))[0]
DAILY = replace(SITE, host=Host(audit=Audit(daily=True)))

#: Runs the program on this machine, of which only a folder is looked at, and tells what it loaded.
RUN = """
import json, sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
folder = Path(sys.argv[2])
from appliance.node.audit import asking, daily
asking.HOME, asking.TREES, asking.LOGIN_FILES = str(folder / "home"), (str(folder / "home"),), ()
daily.SETTINGS, daily.FOLDER, daily.EXPORTER = (folder / name for name in ("audit.json", "kept", "export"))
code = daily.main()
print(json.dumps({"code": code, "loaded": sorted(name for name in sys.modules)}))
"""


def unpacked(data: bytes) -> dict[str, bytes]:
    with zipfile.ZipFile(BytesIO(data)) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("program") / "audit.pyz"
    path.write_bytes(pack_auditor())
    return path


def python(*arguments: str) -> subprocess.CompletedProcess[str]:
    """A Python with nothing but its standard library, as the service starts it."""
    command = [sys.executable, "-I", "-S", "-B", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)


@pytest.fixture(scope="module")
def told(program: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Any], Path]:
    folder = tmp_path_factory.mktemp("node")
    (folder / "home").mkdir()
    (folder / "audit.json").write_text(node_settings(DAILY, DAILY.nodes[0]))
    done = python("-c", RUN, str(program), str(folder))
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1]), folder


@pytest.mark.skipif(os.geteuid() != 0, reason="a node is asked as root")
def test_on_a_bare_python_it_asks_concludes_and_keeps(told: tuple[dict[str, Any], Path]) -> None:
    values, folder = told
    assert values["code"] == 8, "this machine is no node of the clinic's"
    (kept,) = (folder / "kept").iterdir()
    fields = json.loads(kept.read_bytes())["fields"]
    assert (fields["host"], fields["site"], fields["result"], fields["number"]) == (
        *("gpu-01", "clinic", "drift"),
        1,
    )
    assert fields["reference"]["source"] == "none"
    assert "the baseline" in [each["what"] for each in fields["drift"]]
    assert fields["compared"]["promises"] > 20


def test_it_has_every_module_that_it_runs_and_no_other(told: tuple[dict[str, Any], Path]) -> None:
    values, _ = told
    names = {path.removesuffix(".py").removesuffix("/__init__").replace("/", ".") for path in MODULES}
    ours = {"appliance" if name == "__init__" else f"appliance.{name}" for name in names}
    loaded = {name for name in values["loaded"] if name.partition(".")[0] == "appliance"}
    sent = {name for name in ours if name.startswith("appliance.node.remote.")}
    assert loaded == ours - sent, "those of remote/ are read, and run by a Python of their own"
    others = {name.partition(".")[0] for name in values["loaded"]} - {"appliance", "__main__"}
    assert {name for name in others - sys.stdlib_module_names if not name.startswith("_")} == set()


def test_as_an_application_it_says_what_it_lacks(program: Path) -> None:
    """On this machine no role has written what the inventory declares."""
    done = python(str(program))
    assert done.returncode == 3
    assert str(daily.SETTINGS) in done.stderr
    assert "appliance install writes it again" in done.stderr


def test_the_same_toolkit_makes_the_same_bytes_and_carries_the_roles_data() -> None:
    data = pack_auditor()
    assert data == pack_auditor()
    files = unpacked(data)
    assert set(files) == {
        *(f"appliance/{path}" for path in MODULES),
        "__main__.py",
        "appliance/node/audit/host_data.json",
    }
    assert host_data(json.loads(files["appliance/node/audit/host_data.json"])) == load_host_data()


def test_a_node_is_told_what_the_inventory_declares_for_it_to_the_same_digest(tmp_path: Path) -> None:
    path = tmp_path / "audit.json"
    path.write_text(node_settings(DAILY, DAILY.nodes[1]))
    inventory, node = daily.read_settings(path)
    assert (node.name, node.connection, inventory.ssh) == ("gpu-02", "local", None)
    assert declared_digest(inventory, node) == declared_digest(DAILY, DAILY.nodes[1])
    assert "gpu-01" not in path.read_text()
    assert "/site" not in path.read_text()


def test_every_node_gets_the_program_and_its_own_settings_where_the_site_wants_that() -> None:
    assert auditor_variables(SITE, SITE.nodes) == {}
    given = auditor_variables(DAILY, DAILY.nodes)
    assert set(given) == {"gpu-01", "gpu-02"}
    for name, values in given.items():
        assert base64.b64decode(values["appliance_auditor"]["program"]) == pack_auditor()
        declared = json.loads(values["appliance_auditor"]["settings"])["declared"]
        assert read_record(declared)[1].name == name
