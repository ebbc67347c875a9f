"""What a token costs on hardware of one's own, and from which volume on that is less than an API's price.

Money is decimal and exact until it is shown; the only division is the last step of each figure::

    price of a million tokens = monthly cost / millions of tokens
    break-even                = monthly cost / the API's price of a million
    capacity                  = tokens per second * 86,400 * days
"""

from __future__ import annotations

from dataclasses import dataclass
from decimal import ROUND_HALF_UP, Context, Decimal, InvalidOperation
from typing import TYPE_CHECKING, Final

from appliance.errors import PlanInvalid
from appliance.planning.figures import Figure

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

_MILLION: Final = Decimal(1_000_000)
_SECONDS: Final = 86_400  # of a day
_MOST: Final = Decimal(10) ** 15
_LEAST: Final = Decimal("0.000001")
_EXACT: Final = Context(prec=80, rounding=ROUND_HALF_UP)  # more digits than bounded amounts can need


@dataclass(frozen=True)
class CostRow:
    """One volume: millions of tokens a month, part of capacity (None: unknown), prices in USD."""

    millions: Decimal
    utilisation: Decimal | None
    price: Decimal
    api: Decimal

    @property
    def saves(self) -> Decimal:
        """What the month costs less than the API (below zero: more)."""
        return self.api - self.price * self.millions


@dataclass(frozen=True)
class CostPlan:
    """The answer.  Money in USD a month, volumes in millions of tokens a month."""

    monthly: Decimal
    items: Mapping[str, Decimal]
    api_price: Decimal
    capacity: Decimal | None
    rows: tuple[CostRow, ...]
    break_even: Decimal
    reachable: bool | None
    figures: tuple[Figure, ...]

    @property
    def break_even_utilisation(self) -> Decimal | None:
        """The part of capacity at which both cost the same; above 1 that is never."""
        return None if self.capacity is None else divided(self.break_even, self.capacity)


def plan_cost(
    *,
    api_price: Decimal,
    monthly: Decimal | None = None,
    items: Mapping[str, Decimal] | None = None,
    tokens_per_second: Decimal | None = None,
    days: int = 30,
    millions: Sequence[Decimal] = (),
    utilisations: Sequence[Decimal] = (),
) -> CostPlan:
    """Price and break-even for these volumes.

    Args:
        api_price: USD for a million tokens, input and output as they are mixed in your use.
        monthly: USD a month for everything; may be left out where ``items`` name it all.
        items: USD a month by what it is for.
        tokens_per_second: what the hardware sustains, measured.
        days: in a month.
        millions: volumes to show.
        utilisations: volumes to show, as parts of capacity.

    Raises:
        PlanInvalid: an amount is missing or impossible, or items do not add up to the sum that is named.
    """
    items = dict(items or {})
    cost = _monthly(monthly, items)
    _above(api_price, "--api-price")
    capacity = None
    if tokens_per_second is not None:
        _above(tokens_per_second, "--tokens-per-second")
        capacity = tokens_per_second * _SECONDS * days / _MILLION
    if utilisations and capacity is None:
        raise PlanInvalid(
            "a part of capacity means nothing without the capacity",
            found="--utilisation alone",
            wanted="--tokens-per-second, as measured",
        )
    volumes = [_above(each, "--millions") for each in millions]
    volumes += [_above(each, "--utilisation") * (capacity or 0) for each in utilisations]
    if capacity is not None and (beyond := [each for each in volumes if each > capacity]):
        raise PlanInvalid(
            "the node cannot do as many tokens a month",
            found=f"{tokens_text(max(beyond))}, {percent(divided(max(beyond), capacity))} of capacity",
            wanted=f"at most {tokens_text(capacity)}: {tokens_per_second} tokens a second for {days} days",
            hint="plan more nodes by the cost of all of them and what they do together",
        )
    rows = tuple(
        CostRow(
            each,
            None if capacity is None else divided(each, capacity),
            divided(cost, each),
            api_price * each,
        )
        for each in sorted(dict.fromkeys(volumes))
    )
    break_even = divided(cost, api_price)
    plan = CostPlan(
        monthly=cost,
        items=items,
        api_price=api_price,
        capacity=capacity,
        rows=rows,
        break_even=break_even,
        reachable=None if capacity is None else break_even <= capacity,
        figures=(),
    )
    return CostPlan(**{**vars(plan), "figures": _figures(plan, tokens_per_second, days)})


def amount(text: str, option: str) -> Decimal:
    """A decimal number somebody wrote: ``3300``, ``3,300``, ``$3300.50``.

    Raises:
        PlanInvalid: it is none, or out of all bounds.
    """
    try:
        value = Decimal(text.strip().removeprefix("$").replace(",", "").replace("_", ""))
    except InvalidOperation as fault:
        raise PlanInvalid(f"{option} is no amount", found=text, wanted="a number, such as 3300") from fault
    if not value.is_finite() or abs(value) > _MOST:
        raise PlanInvalid(f"{option} is no amount", found=text, wanted="a number, such as 3300")
    return value


def divided(number: Decimal, by: Decimal) -> Decimal:
    """A quotient to more digits than anybody shows."""
    return _EXACT.divide(number, by)


def cents(value: Decimal) -> str:
    """Money to cents, halves up, as people round it."""
    return f"{_EXACT.quantize(value, Decimal('0.01')):,}"


def percent(part: Decimal) -> str:
    """A part in whole percent, halves up."""
    return f"{_EXACT.quantize(part * 100, Decimal(1)):,} %"


def tokens_text(millions: Decimal) -> str:
    """Millions of tokens, to a tenth where that is not zero."""
    rounded = _EXACT.quantize(millions, Decimal("0.1"))
    whole = _EXACT.quantize(rounded, Decimal(1))
    return f"{whole if whole == rounded else rounded:,} M"


def _monthly(monthly: Decimal | None, items: Mapping[str, Decimal]) -> Decimal:
    for name, each in items.items():
        _above(each, f"--item {name}")
    listed = sum(items.values(), Decimal(0))
    if monthly is None:
        if not items:
            raise PlanInvalid(
                "what the month costs is missing",
                found="neither --monthly nor --item",
                wanted="a sum, or what it is made of",
                hint="--monthly 3300, or --item hosting=900 --item hardware=2400",
            )
        return listed
    if items and listed != monthly:
        raise PlanInvalid(
            "the items do not add up to the sum that is named",
            found=f"items of {cents(listed)} USD, sum of {cents(monthly)} USD",
            wanted=f"the same; {cents(monthly - listed)} USD are unexplained",
            hint="name what is missing, or leave --monthly out",
        )
    return _above(monthly, "--monthly")


def _above(value: Decimal, option: str) -> Decimal:
    if value < _LEAST:
        raise PlanInvalid(f"{option} is no possible amount", found=str(value), wanted="more than nothing")
    return value


def _figures(plan: CostPlan, speed: Decimal | None, days: int) -> tuple[Figure, ...]:
    given = "given"
    how = " + ".join(f"{name} {cents(each)}" for name, each in plan.items.items()) or "as it was given"
    found = [
        Figure("monthly", plan.monthly, "USD", how, given),
        Figure("api_price", plan.api_price, "USD per million tokens", "as it was given", given),
    ]
    if plan.capacity is not None:
        how = f"{speed} tokens a second * 86,400 * {days} days"
        found.append(
            Figure("capacity", plan.capacity, "million tokens", how, f"{given}: --tokens-per-second")
        )
    for row in plan.rows:
        how = f"{cents(plan.monthly)} / {tokens_text(row.millions)}"
        found.append(Figure("price", row.price, "USD per million tokens", how, "the lines above"))
    how = f"{cents(plan.monthly)} / {cents(plan.api_price)}"
    found.append(Figure("break_even", plan.break_even, "million tokens", how, "the lines above"))
    return tuple(found)
