"""Plots as SVG: what fills a GPU's memory, and what a token costs by volume.  Values in, text out.

Self-contained: no script, no style sheet, no font and no address but the names of SVG itself.
"""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING, Final

from appliance.planning.cost import cents, percent, tokens_text
from appliance.planning.figures import bytes_text

if TYPE_CHECKING:
    from appliance.planning.cost import CostPlan
    from appliance.planning.size_plan import SizePlan
    from appliance.planning.sizing import Sizing

_WIDE: Final = 720
_BAR: Final = 36  # height of a bar
_ROW: Final = 74  # height of a bar with its words
_COLOURS: Final = {"weights": "#4464a1", "engine": "#c08a2d", "cache": "#4d9a6a", "kept free": "#d9d9d9"}
_CURVE: Final = (120, 60, 560, 280)  # left, top, width, height of the plot of prices
_POINTS: Final = 120


def memory_parts(sizing: Sizing) -> dict[str, int]:
    """What fills the memory of one GPU or slice, in bytes; together all of it."""
    overhead = next(each.value for each in sizing.figures if each.name == "overhead")
    parts = {"weights": sizing.weights, "engine": int(overhead), "cache": sizing.room}
    return {**parts, "kept free": sizing.place.memory - sum(parts.values())}


def memory_svg(plan: SizePlan) -> str:
    """A bar for each kind of place, from 0 to all its memory."""
    lines = [_text(10, 24, f"{plan.model.shape.architecture}, {plan.weights.precision}", size=16)]
    for number, sizing in enumerate(plan.sizings):
        top, left = 50 + number * _ROW, 10.0
        lines.append(_text(10, top, f"{sizing.place.name}: {bytes_text(sizing.place.memory)}"))
        for name, part in memory_parts(sizing).items():
            width = (_WIDE - 20) * part / sizing.place.memory
            lines.append(
                f'<rect x="{left:.1f}" y="{top + 8}" width="{width:.1f}" height="{_BAR}" '
                f'fill="{_COLOURS[name]}"><title>{escape(f"{name}: {bytes_text(part)}")}</title></rect>'
            )
            left += width
    foot = 50 + len(plan.sizings) * _ROW
    for number, (name, colour) in enumerate(_COLOURS.items()):
        left = 10 + number * 150
        lines.append(f'<rect x="{left}" y="{foot}" width="14" height="14" fill="{colour}"/>')
        lines.append(_text(left + 20, foot + 12, name))
    return _document(foot + 30, lines)


def cost_svg(plan: CostPlan) -> str:
    """The price of a million tokens over the month's volume, beside the API's."""
    left, top, wide, high = _CURVE
    volumes = [plan.break_even * 2, *(row.millions for row in plan.rows)]
    most = float(max([*volumes, plan.capacity] if plan.capacity is not None else volumes))
    ceiling = max([float(plan.api_price) * 2, *(float(row.price) * 1.1 for row in plan.rows)])
    monthly = float(plan.monthly)

    def at(volume: float, price: float) -> tuple[float, float]:
        return left + wide * volume / most, top + high * (1 - price / ceiling)

    first = min(monthly / ceiling, most)
    steps = [first + (most - first) * step / _POINTS for step in range(_POINTS + 1)]
    curve = " ".join("{:.1f},{:.1f}".format(*at(volume, monthly / volume)) for volume in steps)
    api = at(0, float(plan.api_price))[1]
    lines = [
        _text(10, 24, "USD for a million tokens, by millions of tokens a month", size=16),
        f'<rect x="{left}" y="{top}" width="{wide}" height="{high}" fill="none" stroke="#888"/>',
        f'<polyline points="{curve}" fill="none" stroke="#4464a1" stroke-width="2"/>',
        f'<line x1="{left}" y1="{api:.1f}" x2="{left + wide}" y2="{api:.1f}" stroke="#b0413e"/>',
        _text(10, api + 4, f"API {cents(plan.api_price)}"),
        _text(left, top + high + 20, "0"),
        _text(
            left + wide - 60,
            top + high + 20,
            tokens_text(max(volumes) if plan.capacity is None else max([*volumes, plan.capacity])),
        ),
    ]
    for row in plan.rows:
        x, y = at(float(row.millions), float(row.price))
        share = f", {percent(row.utilisation)}" if row.utilisation is not None else ""
        lines.append(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="4" fill="#4464a1"/>')
        lines.append(_text(x + 6, y - 6, f"{cents(row.price)} at {tokens_text(row.millions)}{share}"))
    x, y = at(float(plan.break_even), float(plan.api_price))
    lines.append(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="5" fill="none" stroke="#b0413e" stroke-width="2"/>')
    lines.append(_text(x + 8, y + 18, f"break-even {tokens_text(plan.break_even)}"))
    if plan.capacity is not None:
        edge = at(float(plan.capacity), 0)[0]
        lines.append(
            f'<line x1="{edge:.1f}" y1="{top}" x2="{edge:.1f}" y2="{top + high}" '
            'stroke="#888" stroke-dasharray="4 3"/>'
        )
        lines.append(_text(edge - 60, top - 8, "capacity"))
    return _document(top + high + 40, lines)


def _text(x: float, y: float, text: str, *, size: int = 12) -> str:
    return (
        f'<text x="{x:.1f}" y="{y:.1f}" font-size="{size}" font-family="sans-serif">{escape(text)}</text>'
    )


def _document(height: float, lines: list[str]) -> str:
    head = f'<svg xmlns="http://www.w3.org/2000/svg" width="{_WIDE}" height="{height:.0f}">'
    ground = f'<rect width="{_WIDE}" height="{height:.0f}" fill="#ffffff"/>'
    return "\n".join([head, ground, *lines, "</svg>", ""])
