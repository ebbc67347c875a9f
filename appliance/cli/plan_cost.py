"""``appliance plan cost``: what a token costs on hardware of one's own, and where an API costs less."""

from __future__ import annotations

from pathlib import Path  # noqa: TC003 - Typer reads it at run time
from typing import TYPE_CHECKING, Annotated

import typer

from appliance.cli.console import print_result
from appliance.cli.options import AsJson  # noqa: TC001 - Typer reads it at run time
from appliance.errors import Usage

if TYPE_CHECKING:
    from decimal import Decimal


def cost(
    *,
    api_price: Annotated[
        str,
        typer.Option(
            "--api-price", metavar="USD", help="Of a million tokens, mixed as you would use them."
        ),
    ],
    monthly: Annotated[
        str | None,
        typer.Option("--monthly", metavar="USD", help="What the node costs a month, all in all."),
    ] = None,
    item: Annotated[
        list[str] | None,
        typer.Option("--item", metavar="NAME=USD", help="A part of that sum; may be repeated."),
    ] = None,
    speed: Annotated[
        str | None,
        typer.Option("--tokens-per-second", metavar="N", help="What the node sustains, as measured."),
    ] = None,
    days: Annotated[int, typer.Option("--days", help="In a month.", min=1, max=31)] = 30,
    millions: Annotated[
        list[str] | None,
        typer.Option("--millions", metavar="M", help="Millions of tokens a month; may be repeated."),
    ] = None,
    utilisation: Annotated[
        list[str] | None,
        typer.Option("--utilisation", metavar="PERCENT", help="Of what the node can do; may be repeated."),
    ] = None,
    article: Annotated[
        bool, typer.Option("--article", help="The article's own table, and where its prose contradicts it.")
    ] = False,
    explain: Annotated[bool, typer.Option("--explain", help="Show every sum.")] = False,
    svg: Annotated[Path | None, typer.Option("--svg", metavar="FILE", help="Also draw it.")] = None,
    as_json: AsJson = False,
) -> None:
    """Say what a million tokens cost, at which volume an API costs the same, and whether that is in reach.

    The API's price has no default: the whole answer hangs on it.

    \b
    Examples:
      appliance plan cost --api-price 15 --monthly 3300 --tokens-per-second 400 --utilisation 40
      appliance plan cost --api-price 3 --item hosting=900 --item hardware=2400 --millions 414
      appliance plan cost --api-price 15 --article

    \b
    Exit codes:
      2  an option is missing
      3  an amount is impossible, or items do not add up to the sum
    """  # noqa: D301 - \b is Typer's mark for "do not wrap"
    from appliance.cli.plan_text import cost_text, cost_values
    from appliance.planning.article import article_plan, contradictions
    from appliance.planning.cost import amount, plan_cost
    from appliance.planning.svg import cost_svg

    price = amount(api_price, "--api-price")
    if article:
        if monthly or item or speed or millions or utilisation:
            raise Usage(
                "--article has its own numbers",
                found="other amounts beside it",
                wanted="--article and --api-price alone",
            )
        plan, wrong = article_plan(price), contradictions()
    else:
        plan = plan_cost(
            api_price=price,
            monthly=None if monthly is None else amount(monthly, "--monthly"),
            items=_items(item or []),
            tokens_per_second=None if speed is None else amount(speed, "--tokens-per-second"),
            days=days,
            millions=[amount(each, "--millions") for each in millions or ()],
            utilisations=[
                amount(each.removesuffix("%").strip(), "--utilisation") / 100 for each in utilisation or ()
            ],
        )
        wrong = ()
    if svg is not None:
        from appliance.cli.plan_size import write_beside

        write_beside(svg, cost_svg(plan))
    print_result(cost_text(plan, wrong, explain=explain), cost_values(plan, wrong), as_json=as_json)


def _items(texts: list[str]) -> dict[str, Decimal]:
    from appliance.planning.cost import amount

    found: dict[str, Decimal] = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if not equals or not name.strip() or name.strip() in found:
            raise Usage(
                "an item is misspelled, or named twice", found=text, wanted="NAME=USD, each name once"
            )
        found[name.strip()] = amount(value, f"--item {name.strip()}")
    return found
