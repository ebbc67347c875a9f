"""The dashboard asks for what a receiver gives: Prometheus' own grammar reads each expression."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

import promql_parser
import pytest

from appliance.export.dashboard.reading import dashboard
from appliance.export.metrics import _HELP, metrics_text
from appliance.export.receiver import Receiver
from appliance.export.sinks.outlets import outlets
from tests.unit.export.nodes import NOW, Node, identity

if TYPE_CHECKING:
    from collections.abc import Iterator

BOARD = json.loads(dashboard())
TARGETS = [
    pytest.param(target, id=f"{panel['title']} {target['refId']}")
    for panel in BOARD["panels"]
    for target in panel["targets"]
]
#: What Grafana puts in (its documentation, "Global variables" and "Variable syntax").
FILLED_IN = {"$__rate_interval": "1m", "$node": ".*"}
_SAMPLE = re.compile(r"(\w+)(?:\{(.*)\})? \S+")
#: Not about what a receiver has, but about what only a sender or the wall's watcher knows.
OF_SENDERS = {
    "epoch",
    "waiting_blocks",
    "ended",
    "source_waits",
    "source_trouble",
    "send_faults_total",
    "spool_bytes",
    "spool_limit_bytes",
    "line_received_total",
    "line_faults",
    "line_watched",
}


@pytest.fixture(scope="module")
def given(tmp_path_factory: pytest.TempPathFactory) -> dict[str, set[str]]:
    """Labels of each metric that a receiver wrote, of two nodes, one of which was never heard."""
    node, folder = Node(), tmp_path_factory.mktemp("receiver")
    node.many(9)
    receiver = Receiver(folder, [node.identity.sender, identity("gpu-02").sender], outlets(syslog=True))
    receiver.take(node.stream([*node.blocks[:2], *node.blocks[7:]]))
    receiver.take(node.checkpoint_datagrams(node.checkpoint(oldest=4)))
    receiver.take([b"garbage" * 20])
    status = {"side": "receiver", "time": NOW, "packets": 1, "bytes": 2, "socket_drops": 3}
    text = metrics_text(status | receiver.status())
    receiver.close()
    found: dict[str, set[str]] = {}
    for line in text.splitlines():
        if sample := _SAMPLE.fullmatch(line):
            labels = re.findall(r'(\w+)="', sample[2] or "")
            found.setdefault(sample[1], set()).update(labels)
    return found


def parsed(expression: str) -> Any:
    for variable, value in FILLED_IN.items():
        expression = expression.replace(variable, value)
    assert "$" not in expression
    return promql_parser.parse(expression)


def selectors(node: Any) -> Iterator[Any]:
    """Every selector of time series within an expression."""
    if isinstance(node, promql_parser.VectorSelector):
        yield node
    inner = [getattr(node, name, None) for name in ("lhs", "rhs", "expr", "vector_selector")]
    for each in [*inner, *(getattr(node, "args", None) or [])]:
        if each is not None:
            yield from selectors(each)


@pytest.mark.parametrize("target", TARGETS)
def test_each_expression_names_what_a_receiver_gives(
    target: dict[str, Any], given: dict[str, set[str]]
) -> None:
    found = list(selectors(parsed(target["expr"])))
    assert found
    labels: set[str] = set()
    for each in found:
        assert each.name in given, each.name
        labels |= given[each.name]
        assert {matcher.name for matcher in each.matchers.matchers} <= given[each.name], each.name
    shown = set(re.findall(r"\{\{(\w+)\}\}", target["legendFormat"]))
    assert shown <= labels
    grouped = re.findall(r"(?:by|on) \(([^)]*)\)", target["expr"])
    assert {name for each in grouped for name in each.split(", ")} <= labels


def test_what_grows_is_asked_for_by_its_rate_and_nothing_else_is() -> None:
    """A counter as it is says nothing; the rate of what may fall is none."""
    for panel in BOARD["panels"]:
        for target in panel["targets"]:
            rated = set(re.findall(r"rate\((\w+)", target["expr"]))
            assert all(each.endswith("_total") for each in rated)
            bare = {each.name for each in selectors(parsed(target["expr"]))} - rated
            assert {each for each in bare if each.endswith("_total")} <= {"appliance_export_blocks_total"}


def test_everything_a_receiver_gives_is_on_the_dashboard_or_left_out_on_purpose() -> None:
    asked = {
        each.name.removeprefix("appliance_export_")
        for panel in BOARD["panels"]
        for target in panel["targets"]
        for each in selectors(parsed(target["expr"]))
    }
    assert set(_HELP) - OF_SENDERS - asked == {"packets_total", "filling_total"}


def test_panels_have_places_of_their_own_and_say_what_they_are() -> None:
    taken: set[tuple[int, int]] = set()
    for panel in BOARD["panels"]:
        at = panel["gridPos"]
        cells = {
            (x, y) for x in range(at["x"], at["x"] + at["w"]) for y in range(at["y"], at["y"] + at["h"])
        }
        assert not cells & taken
        assert at["x"] + at["w"] <= 24
        taken |= cells
        assert panel["description"].endswith(".")
    assert len({panel["id"] for panel in BOARD["panels"]}) == len(BOARD["panels"])


def test_the_variables_are_those_that_are_used(given: dict[str, set[str]]) -> None:
    names = {each["name"] for each in BOARD["templating"]["list"]}
    assert set(re.findall(r"\$\{?([a-z]\w*)", dashboard().decode())) == names
    (query,) = (each["query"]["query"] for each in BOARD["templating"]["list"] if each["name"] == "node")
    metric, label = re.fullmatch(r"label_values\((\w+), (\w+)\)", query).groups()  # type: ignore[union-attr]
    assert label in given[metric]
