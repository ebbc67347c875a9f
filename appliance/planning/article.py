"""The cost table of the article this project began with, reproduced, and where its prose contradicts it.

The article prices one node at 3,300 USD a month and shows three volumes.  Its numbers come out; what it
concludes from them does not.  Each contradiction is computed here from the article's own figures: nobody
has to believe a remark.  The figures are those of the project's study of the article; where the study
gives a sum without its items, so does this.
"""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from typing import Final

from appliance.planning.cost import CostPlan, cents, divided, percent, plan_cost, tokens_text

MONTHLY: Final = Decimal(3300)
MILLIONS: Final = (Decimal(207), Decimal(414), Decimal(828))
TOKENS_PER_SECOND: Final = Decimal(400)
"""What 207 M at a fifth of capacity implies, over 30 days: 1,036.8 M."""

TABLE_API_PRICE: Final = Decimal(15)  # USD per million, which the table's API column implies
PROSE_API_PRICE: Final = Decimal(3)  # USD per million, in the prose
_SUM: Final = (Decimal(13_275), Decimal(11_270))  # USD a month: as printed, and what is listed for it
_CALLS: Final = (50_000, 100_000)  # a month
_HOSPITAL_CALL: Final = (Decimal("0.033"), Decimal("0.126"))  # USD for a call to the API
_HOSPITAL_OWN: Final = Decimal(87)  # USD a month, for running one's own
_QUARTER: Final = 3  # months


@dataclass(frozen=True)
class Contradiction:
    """Something the article says, and what its own numbers say."""

    about: str
    says: str
    comes_to: str


def article_plan(api_price: Decimal) -> CostPlan:
    """The article's table, beside an API of this price."""
    return plan_cost(
        api_price=api_price, monthly=MONTHLY, tokens_per_second=TOKENS_PER_SECOND, millions=MILLIONS
    )


def contradictions() -> tuple[Contradiction, ...]:
    """Where the article contradicts itself, computed from its own figures."""
    table, prose = article_plan(TABLE_API_PRICE), article_plan(PROSE_API_PRICE)
    printed, listed = _SUM
    low, high = (divided(MONTHLY, Decimal(calls)) for calls in reversed(_CALLS))
    least, most = ((price * _CALLS[0] - _HOSPITAL_OWN) * _QUARTER for price in _HOSPITAL_CALL)
    return (
        Contradiction(
            "the API's price",
            f"{cents(PROSE_API_PRICE)} USD per million in the prose, and a break-even within reach",
            f"the table's API column is {cents(TABLE_API_PRICE)} USD per million: break-even "
            f"{_break_even(table)}; at {cents(PROSE_API_PRICE)} USD it is {_break_even(prose)}, "
            "more than the node can do: own hardware never costs less",
        ),
        Contradiction(
            "the monthly sum",
            f"{cents(printed)} USD a month",
            f"its items come to {cents(listed)} USD; {cents(printed - listed)} USD unexplained",
        ),
        Contradiction(
            "calls a month",
            f"{_CALLS[0]:,} to {_CALLS[1]:,} calls are worth a node of {cents(MONTHLY)} USD",
            f"only if the API charges {low:.3f} to {high:.3f} USD or more for a call",
        ),
        Contradiction(
            "the hospital's payback within a quarter",
            f"{_HOSPITAL_CALL[0]} to {_HOSPITAL_CALL[1]} USD for each of {_CALLS[0]:,} calls, against "
            f"{cents(_HOSPITAL_OWN)} USD a month",
            f"saves {cents(least)} to {cents(most)} USD in a quarter: only hardware that costs no more is "
            "paid back by then",
        ),
    )


def _break_even(plan: CostPlan) -> str:
    share = plan.break_even_utilisation
    return f"{tokens_text(plan.break_even)} ({percent(share) if share is not None else '?'} of capacity)"
