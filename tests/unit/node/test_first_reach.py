"""What a node could reach before it was isolated is tried once, and travels from run to run."""

from __future__ import annotations

from dataclasses import dataclass, replace
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

from appliance.node import probe_outbound
from appliance.node.first_reach import first_reach, keep_first_reach
from appliance.node.probe import OutboundProbe
from appliance.node.runs import Run
from appliance.progress import Silent

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

OPEN = OutboundProbe("2030-01-01T00:00:00Z", (), (), (), (), {"root": ""})


@dataclass
class Station:
    """A station that keeps records in ``state``; ``found`` are probes in turn."""

    state: Path
    found: Iterator[OutboundProbe]

    def keep(self, digest: str, site: str = "lab", node: str = "gpu-01") -> OutboundProbe | None:
        run = Run(self.state, digest * 16, site)
        connection: Any = SimpleNamespace(node=SimpleNamespace(name=node))
        inventory: Any = SimpleNamespace(site=site)
        keep_first_reach(connection, inventory, run, self.state, Silent())
        return first_reach(run.node(node))


@pytest.fixture
def station(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Station:
    station = Station(tmp_path, iter([OPEN, replace(OPEN, time="2031-01-01T00:00:00Z")]))
    monkeypatch.setattr(probe_outbound, "probe_outbound", lambda *_: next(station.found))
    return station


def test_it_is_tried_once_whatever_bundle_comes_later(station: Station) -> None:
    assert station.keep("aaaa") == OPEN
    assert station.keep("aaaa") == OPEN
    assert station.keep("bbbb") == OPEN


@pytest.mark.parametrize(("site", "node"), [("other", "gpu-01"), ("lab", "gpu-02")])
def test_another_site_s_or_node_s_is_not_taken_for_it(station: Station, site: str, node: str) -> None:
    station.keep("aaaa")
    assert station.keep("aaaa", site, node) != OPEN


def test_where_nothing_was_kept_there_is_none(tmp_path: Path) -> None:
    assert first_reach(tmp_path) is None
    (tmp_path / "before.json").write_text("torn")
    assert first_reach(tmp_path) is None
