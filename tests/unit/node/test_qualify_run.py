"""A whole qualification, of a machine that is no node: a namespace of this one with nothing in it."""

from __future__ import annotations

import dataclasses
import json
import os
import re
import subprocess
from ipaddress import ip_address, ip_interface, ip_network
from pathlib import Path
from typing import TYPE_CHECKING
from xml.etree import ElementTree as ET

import pytest

from appliance.bundle.manifest import Component, Inference, Manifest, PayloadFile, Target
from appliance.definition.inventory import Interface, Inventory, Management, Match, NodeEntry
from appliance.errors import NodeUnreachable
from appliance.node import qualification
from appliance.node.connection import LocalConnection
from appliance.node.probe import OutboundProbe
from appliance.node.qualify import qualify
from appliance.progress import Silent

if TYPE_CHECKING:
    from appliance.node.report import QualificationReport

DIGEST = "ab" * 32
NODE = NodeEntry(
    "self",
    "local",
    ip_address("10.0.0.11"),
    22,
    (Interface("mgmt", Match(name="lo"), (ip_interface("10.0.0.11/24"),)),),
)
INVENTORY = Inventory(
    Path("inventory.yml"),
    "here",
    Management((ip_network("10.0.0.0/28"),), (ip_address("10.0.0.1"),)),
    None,
    (NODE,),
)
MODEL = PayloadFile(
    "payload/model/tiny.gguf", 1, "0" * 64, "tiny.gguf", "1", "CC0-1.0", {"kind": "generated"}
)
MANIFEST = Manifest(
    product="demo",
    version="1.0.0",
    sequence=1,
    created="2030-01-01T00:00:00Z",
    target=Target("debian", "trixie", "amd64", "3.13"),
    inference=Inference("engine", "model", "tiny.gguf", "demo"),
    components={"model": Component("tiny-gguf", (MODEL,))},
    files={},
)


@dataclasses.dataclass(frozen=True)
class Enclosed(LocalConnection):
    """This machine, seen from a network namespace with nothing in it."""

    host: str = "local://"

    def argv(self, command: str, *options: str) -> list[str]:
        return ["unshare", "--net", "sh", "-c", command]

    @property
    def testinfra(self) -> str:
        return self.host


class Told(Silent):
    """A progress display that remembers."""

    def __init__(self) -> None:
        self.total = 0
        self.items: list[str] = []

    def begin(self, phase: str, items: int, size: int | None = None) -> None:
        self.total = items

    def item(self, name: str) -> None:
        self.items.append(name)


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> tuple[QualificationReport, Path, Told]:
    """One run, in surroundings that try to take part."""
    if os.geteuid() != 0:
        pytest.skip("network namespaces need root")
    folder, told = tmp_path_factory.mktemp("record"), Told()
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    (elsewhere / "conftest.py").write_text("raise SystemExit('read a conftest of somebody else')")
    (elsewhere / "pytest.ini").write_text("[pytest]\naddopts = --nonsense\n")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(elsewhere)
        patch.setenv("PYTEST_ADDOPTS", "--nonsense")
        patch.setenv("PYTEST_PLUGINS", "nonsense")
        patch.setenv("PYTHONPATH", str(elsewhere))
        report = qualify(INVENTORY, NODE, MANIFEST, Enclosed(NODE), folder, told, digest=DIGEST)
    return report, folder / "report", told


def test_a_machine_that_is_no_node_fails_and_every_promise_is_accounted_for(
    done: tuple[QualificationReport, Path, Told],
) -> None:
    report, folder, told = done
    assert report.verdict == "failed"
    names = [item.name for item in report.items]
    assert told.total == len(names) == len(set(names)), (folder / "pytest.log").read_text()
    assert told.items == names
    assert "qualification.complete" not in names
    failed = {item.name for item in report.failed}
    assert {"inference.answers", "inference.active", "installed.bundle", "installed.read-only"} <= failed


def test_what_needs_somebody_outside_is_not_run_when_there_is_nobody(
    done: tuple[QualificationReport, Path, Told],
) -> None:
    not_run = {item.name: item.reason for item in done[0].not_run}
    assert {"outbound.tcp-v4", "inbound.closed", "inbound.ssh-login", "control.listeners"} <= set(not_run)
    assert all(not_run.values())
    assert any("tested itself" in note for note in done[0].notes)


def test_in_an_empty_namespace_nothing_gets_out(done: tuple[QualificationReport, Path, Told]) -> None:
    report = done[0]
    assert report.after is not None
    tried = [each for each in report.after.attempts if each.target in {"elsewhere", "wire"}]
    assert tried
    assert not [str(each) for each in tried if each.escaped]


def test_the_three_files_say_the_same(done: tuple[QualificationReport, Path, Told]) -> None:
    report, folder, _ = done
    values = json.loads((folder / "report.json").read_text(encoding="utf-8"))
    assert values["digest"] == DIGEST
    assert [each["name"] for each in values["items"]] == [item.name for item in report.items]
    suite = ET.parse(folder / "report.xml").getroot()  # noqa: S314 - our own
    assert suite.get("failures") == str(len(report.failed))
    assert report.summary in (folder / "report.txt").read_text(encoding="utf-8")


def test_every_promise_is_described(done: tuple[QualificationReport, Path, Told]) -> None:
    """docs/qualification.md lists every promise under its stable name, and no other."""
    text = (Path(__file__).parents[3] / "docs" / "qualification.md").read_text(encoding="utf-8")
    listed = [line.split("`")[1] for line in text.splitlines() if line.startswith("| `")]
    names = [item.name for item in done[0].items]
    # This node exports nothing, has no encrypted drive and no divided GPU, so it promises nothing of these.
    left_out = [
        *_promised("test_export.py", "export"),
        *_promised("test_gpus.py", "gpus"),
        *(name for name in _promised("test_storage.py", "storage") if name not in names),
    ]
    assert not any(name.startswith("export.") for name in names)
    assert [name for name in left_out if name.startswith("storage.")] == [
        "storage.mounted",
        "storage.opening",
    ]
    assert not any(name.startswith("gpus.") for name in names)
    assert len(left_out) == 8
    assert sorted(listed) == sorted([*names, *left_out])


def _promised(module: str, subject: str) -> list[str]:
    """Names of promises in a module of the qualification."""
    source = Path(qualification.__file__).with_name(module).read_text(encoding="utf-8")
    return re.findall(rf'@promise\(\s*"({subject}\.[a-z-]+)"', source)


def test_tests_that_do_not_run_are_a_broken_promise(tmp_path: Path) -> None:
    connection = Enclosed(NODE, host="nonsense://nowhere")
    report = qualify(INVENTORY, NODE, MANIFEST, connection, tmp_path, Silent(), digest=DIGEST)
    assert [item.name for item in report.failed] == ["qualification.complete"]
    assert "Unknown connection type" in report.failed[0].found
    assert report.verdict == "failed"


def test_tests_that_take_too_long_are_stopped_and_not_judged_is_broken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("appliance.node.qualify.LONGEST", 0.05)
    report = qualify(INVENTORY, NODE, MANIFEST, Enclosed(NODE), tmp_path, Silent(), digest=DIGEST)
    assert "qualification.complete" in {item.name for item in report.failed}
    assert "pytest ended with -9" in report.failed[-1].found


class Unreachable(Enclosed):
    """A node that nobody answers for."""

    def run(
        self, command: str, *, stdin: bytes = b"", timeout: float | None = 60
    ) -> subprocess.CompletedProcess[bytes]:
        return subprocess.CompletedProcess([], 255, b"", b"No route to host")


def test_a_node_that_cannot_be_reached_is_one_error_and_no_report(tmp_path: Path) -> None:
    with pytest.raises(NodeUnreachable) as raised:
        qualify(INVENTORY, NODE, MANIFEST, Unreachable(NODE), tmp_path, Silent(), digest=DIGEST)
    assert raised.value.found == "No route to host"
    assert not list((tmp_path / "report").glob("report.*"))


def test_a_bundle_whose_model_is_not_in_it_is_our_own_fault(tmp_path: Path) -> None:
    empty = dataclasses.replace(MANIFEST, components={"model": Component("tiny-gguf", ())})
    with pytest.raises(ValueError, match=r"tiny\.gguf"):
        qualify(INVENTORY, NODE, empty, Enclosed(NODE), tmp_path, Silent(), digest=DIGEST)


def test_a_probe_of_before_reaches_the_tests(tmp_path: Path) -> None:
    """With nobody outside it is not judged, but it stands in the report."""
    before = OutboundProbe("2030-01-01T00:00:00Z", (), ())
    report = qualify(
        INVENTORY, NODE, MANIFEST, Enclosed(NODE), tmp_path, Silent(), digest=DIGEST, before=before
    )
    assert report.before == before
    assert "before: 2030-01-01T00:00:00Z" in (tmp_path / "report" / "report.txt").read_text(
        encoding="utf-8"
    )
