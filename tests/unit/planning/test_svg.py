"""Drawings: whole XML that reaches nowhere, with bars as long as what they show."""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING
from xml.etree import ElementTree as ET

from appliance.planning.article import article_plan
from appliance.planning.cost import plan_cost
from appliance.planning.size_plan import SizeRequest, plan_size
from appliance.planning.svg import cost_svg, memory_parts, memory_svg
from tests.unit.planning.public_models import LLAMA_8B

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

SVG = "{http://www.w3.org/2000/svg}"


def test_bars_fill_the_memory(described: Callable[..., Path]) -> None:
    plan = plan_size(SizeRequest(model=described(LLAMA_8B), gpu="h100-sxm", mig="2g.20gb,3g.40gb"))
    text = memory_svg(plan)
    root = ET.fromstring(text)  # noqa: S314 - our own text
    bars = [each for each in root.iter(f"{SVG}rect") if each.find(f"{SVG}title") is not None]
    assert len(bars) == 4 * len(plan.sizings) == 8
    for number, sizing in enumerate(plan.sizings):
        parts = memory_parts(sizing)
        assert sum(parts.values()) == sizing.place.memory
        assert all(part >= 0 for part in parts.values())
        row = bars[4 * number : 4 * number + 4]
        for bar, part in zip(row, parts.values(), strict=True):
            assert abs(float(bar.get("width", "")) / 700 - part / sizing.place.memory) < 0.001
    words = " ".join(each.text or "" for each in root.iter())
    assert "3g.40gb of NVIDIA H100 SXM5 80GB: 39.50 GiB" in words
    assert "weights: 14.96 GiB" in words
    assert memory_svg(plan) == text


def test_prices_are_drawn_where_they_are() -> None:
    plan = article_plan(Decimal(15))
    root = ET.fromstring(cost_svg(plan))  # noqa: S314 - our own text
    words = [each.text or "" for each in root.iter(f"{SVG}text")]
    for said in (
        "15.94 at 207 M, 20 %",
        "7.97 at 414 M, 40 %",
        "API 15.00",
        "break-even 220 M",
        "capacity",
    ):
        assert said in words
    circles = [(float(each.get("cx", "")), float(each.get("cy", ""))) for each in root.iter(f"{SVG}circle")]
    line = float(next(root.iter(f"{SVG}line")).get("y1", ""))
    *points, even = circles
    assert even[1] == line  # break-even lies on the API's price
    assert points[0][1] < line < points[1][1]  # 15.94 above it, 7.97 below
    assert points[0][0] < even[0] < points[1][0]


def test_names_from_outside_stay_text(described: Callable[..., Path]) -> None:
    """Nothing a drawing says is markup, and nothing of it is fetched."""
    plan = plan_size(SizeRequest(model=described(LLAMA_8B), gpu="h100-sxm"))
    price = plan_cost(api_price=Decimal(1), items={"<script>": Decimal(1)}, millions=[Decimal(1)])
    for text in (memory_svg(plan), cost_svg(price)):
        assert "<script" not in text
        assert "href" not in text
        assert text.count("http") == 1  # the name of SVG itself
