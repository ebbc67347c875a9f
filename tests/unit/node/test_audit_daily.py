"""A node's daily audit, from settings to exit status: each result kept, told, and handed over once."""

from __future__ import annotations

import json
from ipaddress import ip_address
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from appliance.bundle import durable
from appliance.definition.inventory import Inventory, Management, NodeEntry
from appliance.errors import ApplianceError, PreflightFailed, SettingsInvalid, SpaceExhausted
from appliance.export.sources.local import DatagramSource
from appliance.node.audit import daily, results
from appliance.node.audit.asking import APART
from appliance.node.audit.drift import Drift, NodeAudit
from appliance.node.audit.packing import node_settings

if TYPE_CHECKING:
    from collections.abc import Iterator

NODE = NodeEntry("gpu-01", "ssh", ip_address("10.20.0.11"), 22, ())
SITE = Inventory(Path("inventory.yml"), "clinic", Management((), ()), None, (NODE,))
DIGEST = "d" * 64
SAME = NodeAudit("gpu-01", source="node", baseline=DIGEST, taken="2026-11-29T12:00:00Z", seconds=2.5)
EVIL = Drift("files", "/usr/bin/evil", "there", "not there", ("quiet.modules: none",))
DRIFTED = NodeAudit("gpu-01", (EVIL,), source="node", baseline=DIGEST)
TROUBLED = NodeAudit("gpu-01", trouble=PreflightFailed("gpu-01 cannot be audited", found="no python3"))


class Node:
    """A node whose audits come out as a test says; everything else is real."""

    def __init__(self, folder: Path) -> None:
        self.settings, self.kept, self.exporter = (
            folder / name for name in ("audit.json", "kept", "export")
        )
        self.settings.write_text(node_settings(SITE, NODE))
        self.audit = SAME

    def files(self) -> list[str]:
        return sorted(path.name for path in self.kept.iterdir())


@pytest.fixture
def node(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Node:
    made = Node(tmp_path)
    monkeypatch.setattr(daily, "SETTINGS", made.settings)
    monkeypatch.setattr(daily, "FOLDER", made.kept)
    monkeypatch.setattr(daily, "EXPORTER", made.exporter)
    monkeypatch.setattr(daily, "carried_data", lambda: None)

    def audit_by(connection: Any, inventory: Inventory, _: object) -> NodeAudit:
        assert (connection.node.connection, inventory.site) == ("local", "clinic")
        if made.audit.trouble:
            raise made.audit.trouble
        return made.audit

    monkeypatch.setattr(daily, "audit_by", audit_by)
    return made


@pytest.fixture
def exporter(node: Node) -> Iterator[DatagramSource]:
    source = DatagramSource(node.exporter)
    yield source
    source.close()


def records(source: DatagramSource) -> list[bytes]:
    """What came to it."""
    return [each.record for each in source.read()]


def fields(data: bytes) -> dict[str, Any]:
    record = json.loads(data)
    assert record["stream"] == "audit"
    found: dict[str, Any] = record["fields"]
    return found


@pytest.mark.parametrize(("audit", "code"), [(SAME, 0), (DRIFTED, 8), (TROUBLED, 5)])
def test_what_came_of_it_is_the_exit_status_and_the_record(
    node: Node, exporter: DatagramSource, audit: NodeAudit, code: int
) -> None:
    node.audit = audit
    assert daily.main() == code
    (taken,) = records(exporter)
    head = {"site": "clinic", "host": "gpu-01", "number": 1, "exit_code": code}
    assert fields(taken) == {**head, **json.loads(json.dumps(audit.as_dict()))}
    assert json.loads((node.kept / "0000000001.json").read_bytes()) == json.loads(taken)


def test_without_an_exporter_results_wait_and_go_out_in_their_order(
    node: Node, capsys: pytest.CaptureFixture[str]
) -> None:
    for audit in (SAME, DRIFTED):
        node.audit = audit
        daily.main()
    assert node.files() == ["0000000001.waiting.json", "0000000002.waiting.json"]
    told = capsys.readouterr().out
    assert f"2 results wait in {node.kept}: there is no exporter ({node.exporter})" in told
    assert "1 difference, baseline " + DIGEST in told
    assert "  files: /usr/bin/evil" in told
    source = DatagramSource(node.exporter)
    node.audit = SAME
    assert daily.main() == 0
    assert [fields(each)["number"] for each in records(source)] == [1, 2, 3]
    assert node.files() == [f"000000000{number}.json" for number in (1, 2, 3)]
    daily.main()
    assert [fields(each)["number"] for each in records(source)] == [4], "each once"
    source.close()


def test_results_are_for_root_alone(node: Node) -> None:
    daily.main()
    assert node.kept.stat().st_mode & 0o777 == 0o700


def test_the_place_of_results_is_left_out_of_every_comparison() -> None:
    assert str(daily.FOLDER.parent) in APART


def test_what_was_damaged_on_the_disk_keeps_no_other_result_back(
    node: Node, exporter: DatagramSource, capsys: pytest.CaptureFixture[str]
) -> None:
    node.kept.mkdir()
    damaged = node.kept / "0000000004.waiting.json"
    damaged.write_bytes(b"\0" * 20)
    assert daily.main() == 0
    assert [fields(each)["number"] for each in records(exporter)] == [5]
    assert f"{damaged} is not what was written" in capsys.readouterr().err
    assert damaged.exists()


def test_one_that_had_to_go_is_named(
    node: Node, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(results, "MOST", 2)
    for _ in range(3):
        daily.main()
    assert "result 1 was never handed over and had to go" in capsys.readouterr().err
    assert node.files() == ["0000000002.waiting.json", "0000000003.waiting.json"]


def full(*_: object) -> None:
    raise OSError(28, "No space left on device")


@pytest.mark.parametrize(("audit", "code"), [(SAME, 5), (DRIFTED, 8)])
def test_on_a_full_disk_a_result_is_told_all_the_same_and_the_audit_fails(
    node: Node, exporter: DatagramSource, monkeypatch: pytest.MonkeyPatch, audit: NodeAudit, code: int
) -> None:
    monkeypatch.setattr(durable, "write_file", full)
    node.audit = audit
    assert daily.main() == code >= SpaceExhausted.exit_code
    assert [fields(each)["number"] for each in records(exporter)] == [1]
    assert node.files() == []


def test_neither_kept_nor_handed_over_is_said(
    node: Node, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(durable, "write_file", full)
    assert daily.main() == 5
    told = capsys.readouterr().err
    assert "is full" in told
    assert f"result 1 is not kept, and not handed over: there is no exporter ({node.exporter})" in told


@pytest.mark.parametrize(
    "text",
    [
        None,
        "",
        "[]",
        "{}",
        '{"format": 2, "declared": {}}',
        '{"format": 1, "declared": []}',
        '{"format": 1, "declared": {"node": {}}}',
        node_settings(SITE, NODE).replace("10.20.0.11", "10.20.0.999"),
    ],
)
def test_settings_that_are_none_are_refused(
    node: Node, capsys: pytest.CaptureFixture[str], text: str | None
) -> None:
    if text is None:
        node.settings.unlink()
    else:
        node.settings.write_text(text)
    with pytest.raises(SettingsInvalid) as caught:
        daily.read_settings(node.settings)
    assert isinstance(caught.value, ApplianceError)
    assert daily.main() == 3
    assert "appliance install writes it again" in capsys.readouterr().err


def test_of_many_differences_the_log_names_some_and_the_record_has_all(
    node: Node, exporter: DatagramSource, capsys: pytest.CaptureFixture[str]
) -> None:
    many = tuple(Drift("files", f"/{number}", "there", "not there") for number in range(30))
    node.audit = NodeAudit("gpu-01", many, source="node", baseline=DIGEST)
    assert daily.main() == 8
    told = capsys.readouterr().out
    assert "  files: /19\n  and 10 more\n" in told
    assert len(fields(records(exporter)[0])["drift"]) == 30
