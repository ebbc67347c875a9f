"""Prices, break-even, and the article's table."""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from appliance.cli.plan_text import cost_text, cost_values
from appliance.errors import PlanInvalid
from appliance.planning.article import article_plan, contradictions
from appliance.planning.cost import amount, cents, percent, plan_cost, tokens_text
from appliance.planning.svg import cost_svg

if TYPE_CHECKING:
    from collections.abc import Callable

money = st.decimals(Decimal("0.01"), Decimal(10) ** 9, places=2)
volumes = st.decimals(Decimal("0.001"), Decimal(10) ** 6, places=3)


def test_the_articles_table() -> None:
    """3,300 divided by 207 is 15.942…, by 414 7.971…, by 828 3.985…"""
    plan = article_plan(Decimal(15))
    assert [cents(row.price) for row in plan.rows] == ["15.94", "7.97", "3.99"]
    assert [str(row.millions) for row in plan.rows] == ["207", "414", "828"]
    assert [percent(row.utilisation or Decimal(0)) for row in plan.rows] == ["20 %", "40 %", "80 %"]
    assert plan.capacity == Decimal("1036.8")
    assert [cents(row.api) for row in plan.rows] == ["3,105.00", "6,210.00", "12,420.00"]


def test_break_even_at_both_prices_of_the_article() -> None:
    table, prose = article_plan(Decimal(15)), article_plan(Decimal(3))
    assert (table.break_even, prose.break_even) == (220, 1100)
    assert (table.reachable, prose.reachable) == (True, False)
    assert percent(table.break_even_utilisation or Decimal(0)) == "21 %"
    assert percent(prose.break_even_utilisation or Decimal(0)) == "106 %"


def test_where_the_article_contradicts_itself() -> None:
    price, total, calls, payback = contradictions()
    assert "15.00 USD" in price.comes_to
    assert "220 M (21 % of capacity)" in price.comes_to
    assert "1,100 M (106 % of capacity)" in price.comes_to
    assert total.says.startswith("13,275.00")
    assert "11,270.00 USD; 2,005.00 USD unexplained" in total.comes_to
    assert "0.033 to 0.066 USD" in calls.comes_to  # 3,300 / 100,000 and / 50,000
    # three months of 50,000 calls at 0.033 or 0.126, less 87 a month
    assert "4,689.00 to 18,639.00 USD" in payback.comes_to


@settings(deadline=None)  # a loaded machine is no fault
@given(money, money, volumes)
def test_at_break_even_both_cost_the_same(monthly: Decimal, price: Decimal, volume: Decimal) -> None:
    plan = plan_cost(api_price=price, monthly=monthly, millions=[volume])
    (row,) = plan.rows
    assert abs(plan.break_even * price - monthly) < Decimal("1e-30")
    assert abs(row.price * volume - monthly) < Decimal("1e-30")
    assert row.api == price * volume
    if volume > plan.break_even:
        assert row.price <= price
        assert row.saves > 0
    assert plan.reachable is None


@settings(deadline=None)
@given(money, money, st.decimals(1, 100_000, places=1), st.integers(1, 31))
def test_reachable_is_within_capacity(monthly: Decimal, price: Decimal, speed: Decimal, days: int) -> None:
    plan = plan_cost(
        api_price=price, monthly=monthly, tokens_per_second=speed, days=days, utilisations=[Decimal(1)]
    )
    (full,) = plan.rows
    assert full.millions == plan.capacity == speed * 86400 * days / 1_000_000
    assert full.utilisation == 1
    assert plan.reachable == (monthly <= price * full.millions)


@settings(deadline=None)
@given(*(st.decimals(Decimal("0.000001"), Decimal(10) ** 15, places=6) for _ in range(4)))
def test_any_amounts_can_be_shown(
    monthly: Decimal, price: Decimal, speed: Decimal, volume: Decimal
) -> None:
    volume = min(volume, speed * 86400 * 30 / 1_000_000)
    plan = plan_cost(api_price=price, monthly=monthly, tokens_per_second=speed, millions=[volume])
    assert "break-even: " in cost_text(plan, (), explain=True)
    assert cost_svg(plan).endswith("</svg>\n")
    assert cost_values(plan, ())["reachable"] is plan.reachable


def test_items_are_summed_and_compared() -> None:
    items = {"hosting": Decimal(900), "hardware": Decimal(2400)}
    plan = plan_cost(api_price=Decimal(15), items=items, millions=[Decimal(207)])
    assert plan.monthly == 3300
    assert plan.figures[0].how == "hosting 900.00 + hardware 2,400.00"
    with pytest.raises(PlanInvalid, match="do not add up") as caught:
        plan_cost(api_price=Decimal(15), items={"all": Decimal(11270)}, monthly=Decimal(13275))
    assert "2,005.00 USD are unexplained" in (caught.value.wanted or "")


@pytest.mark.parametrize(
    "call",
    [
        lambda: plan_cost(api_price=Decimal(15)),
        lambda: plan_cost(api_price=Decimal(0), monthly=Decimal(1)),
        lambda: plan_cost(api_price=Decimal(15), monthly=Decimal(-1)),
        lambda: plan_cost(api_price=Decimal(15), monthly=Decimal(1), millions=[Decimal(0)]),
        lambda: plan_cost(api_price=Decimal(15), monthly=Decimal(1), utilisations=[Decimal("0.2")]),
        lambda: plan_cost(api_price=Decimal(15), monthly=Decimal(1), tokens_per_second=Decimal(0)),
        lambda: plan_cost(api_price=Decimal(15), items={"refund": Decimal(-5), "all": Decimal(9)}),
        lambda: amount("much", "--monthly"),
        lambda: amount("", "--monthly"),
        lambda: amount("NaN", "--monthly"),
        lambda: amount("Infinity", "--monthly"),
        lambda: amount("1e99", "--monthly"),
        lambda: plan_cost(api_price=Decimal("1e-9"), monthly=Decimal(1)),
    ],
)
def test_impossible_amounts(call: Callable[[], object]) -> None:
    with pytest.raises(PlanInvalid) as caught:
        call()
    assert caught.value.found is not None
    assert caught.value.wanted


def test_amounts_as_people_write_them() -> None:
    assert amount("$3,300.50", "x") == amount("3300.50", "x") == Decimal("3300.5")
    assert cents(Decimal("3.985")) == "3.99"  # halves up, not to even
    assert cents(Decimal("1234567.005")) == "1,234,567.01"
    assert (tokens_text(Decimal("1036.8")), tokens_text(Decimal(1100))) == ("1,036.8 M", "1,100 M")


@pytest.mark.parametrize(
    ("asked", "found"),
    [
        ({"utilisations": [Decimal("1.01")]}, "1,047.2 M, 101 % of capacity"),
        ({"millions": [Decimal(207), Decimal(2000)]}, "2,000 M, 193 % of capacity"),
    ],
)
def test_more_than_the_node_can_do_is_no_volume_to_save_by(
    asked: dict[str, list[Decimal]], found: str
) -> None:
    with pytest.raises(PlanInvalid, match="cannot do as many") as caught:
        plan_cost(
            api_price=Decimal(15),
            monthly=Decimal(3300),
            tokens_per_second=Decimal(400),
            **asked,  # type: ignore[arg-type]
        )
    assert caught.value.found == found
    assert "1,036.8 M" in (caught.value.wanted or "")
