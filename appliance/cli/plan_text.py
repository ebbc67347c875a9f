"""Plans as text for people, with small plots, and as JSON values."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Sequence

    from appliance.planning.article import Contradiction
    from appliance.planning.cost import CostPlan
    from appliance.planning.figures import Figure
    from appliance.planning.size_plan import SizePlan
    from appliance.planning.sizing import Sizing

_BAR: Final = 48  # columns of a plot


def size_text(plan: SizePlan, *, explain: bool) -> str:
    """The whole answer of ``plan size``."""
    from appliance.planning.figures import decimal_text

    shape = plan.model.shape
    told = ", as the model's own description says" if plan.cache_bits == plan.model.cache_bits else ""
    lines = [
        f"{plan.model.path}: {shape.architecture}, {shape.family}, {plan.weights.parameters:,} parameters",
        f"weights {plan.weights.precision}: {decimal_text(plan.weights.total)}, from {plan.weights.source}",
        f"cache in {plan.cache_bits} bits{told}; longest sequence {shape.context:,} tokens",
    ]
    if plan.policy is not None:
        lines.append(
            f"policy {plan.policy.name}: kept (at least {plan.policy.weight_bits} bits for weights, "
            f"{plan.policy.cache_bits} for the cache)"
        )
    for sizing in plan.sizings:
        lines += ["", *_place(sizing)]
    for name, fault in plan.too_large:
        lines += ["", f"{name}: does not hold it", f"  found: {fault.found}", f"  wanted: {fault.wanted}"]
    lines += ["", _verdict(plan)]
    lines += [f"would do: {each.text}" for each in plan.suggestions]
    if plan.precisions:
        rows = [("weights in", "take", "embedding and head too", "policy")]
        rows += [
            (
                each.name,
                decimal_text(each.total),
                decimal_text(each.throughout) if each.throughout != each.total else "",
                ("allowed" if each.allowed else "refused") if plan.policy else "",
            )
            for each in plan.precisions
        ]
        lines += ["", *table(rows)]
    lines += ["", *(f"note: {each}" for each in shape.notes), *_assumed(plan)]
    if explain:
        for sizing in plan.sizings:
            lines += ["", f"how, on {sizing.place.name}:", *_explained(sizing.figures)]
    return "\n".join(lines)


def _place(sizing: Sizing) -> list[str]:
    """One place: its memory as a plot, and how many sequences of each length."""
    from appliance.planning.figures import bytes_text
    from appliance.planning.svg import memory_parts

    place = sizing.place
    together = f"{place.together} GPUs for an instance, " if place.together > 1 else ""
    spare = f", {place.spare} GPUs unused" if place.spare else ""
    lines = [f"{place.name}: {together}instances: {place.instances}{spare}"]
    reached = 0
    for name, part in memory_parts(sizing).items():
        bar = _bar(place.memory, reached, reached + part)
        lines.append(f"  {name:<10}{bytes_text(part):>12}  |{bar}|")
        reached += part
    if sizing.tokens is not None:
        lines.append(f"  {sizing.tokens:,} tokens in the cache of an instance")
    rows = [("  sequences of", "in an instance", "in all")]
    rows += [
        (f"  {context:,} tokens", f"{number:,}", f"{number * place.instances:,}")
        for context, number in sizing.lengths
    ]
    return [*lines, *table(rows, right=(1, 2))]


def _verdict(plan: SizePlan) -> str:
    from appliance.counting import counted

    if plan.demand is None:
        best = max(plan.sizings, key=lambda each: each.longest)
        if not best.longest:
            return "DOES NOT FIT: the weights do, but not one token of cache"
        many = counted(best.sequences(best.longest), "sequence")
        return f"fits with {many} of {best.longest:,} tokens, on {best.place.name}"
    asked = f"{counted(plan.demand.sequences, 'sequence')} of {plan.demand.context:,} tokens"
    if plan.fits:
        served = counted(plan.served, "sequence")
        return f"fits with {served} of {plan.demand.context:,} tokens; asked for: {plan.demand.sequences:,}"
    return f"DOES NOT FIT: {asked} asked for, and there is room for {plan.served:,}"


def _assumed(plan: SizePlan) -> list[str]:
    from appliance.planning.figures import bytes_text

    engine = plan.engine
    return [
        f"{engine.name} uses {engine.utilisation} of the memory ({engine.utilisation_source})",
        f"{engine.name} takes {bytes_text(engine.overhead)} itself ({engine.overhead_source})",
    ]


def size_values(plan: SizePlan) -> dict[str, object]:
    """The whole answer of ``plan size`` as JSON values; sizes in bytes."""
    from appliance.planning.svg import memory_parts

    return {
        "model": str(plan.model.path),
        "architecture": plan.model.shape.architecture,
        "parameters": plan.weights.parameters,
        "weights": {
            "precision": plan.weights.precision,
            "bits": plan.weights.bits,
            "bytes": plan.weights.total,
            "source": plan.weights.source,
        },
        "cache_bits": plan.cache_bits,
        "policy": plan.policy.name if plan.policy else None,
        "engine": plan.engine.name,
        "fits": plan.fits,
        "demand": {"sequences": plan.demand.sequences, "context": plan.demand.context}
        if plan.demand
        else None,
        "served": plan.served if plan.demand else None,
        "places": [
            {
                "gpu": each.place.gpu.name,
                "slice": each.place.slice.name if each.place.slice else None,
                "tensor_parallel": each.place.together,
                "instances": each.place.instances,
                "unused_gpus": each.place.spare,
                "memory": memory_parts(each),
                "tokens_in_cache": each.tokens,
                "longest": each.longest,
                "sequences": {str(context): number for context, number in each.lengths},
                "figures": [figure.as_dict() for figure in each.figures],
            }
            for each in plan.sizings
        ],
        "too_large": [{"place": name, **fault.as_dict()} for name, fault in plan.too_large],
        "precisions": {each.name: each.total for each in plan.precisions},
        "suggestions": [each.text for each in plan.suggestions],
        "notes": list(plan.model.shape.notes),
    }


def cost_text(plan: CostPlan, wrong: Sequence[Contradiction], *, explain: bool) -> str:
    """The whole answer of ``plan cost``."""
    from appliance.planning.cost import cents, percent, tokens_text

    lines = [f"{cents(plan.monthly)} USD a month; API: {cents(plan.api_price)} USD for a million tokens"]
    if plan.capacity is not None:
        lines.append(f"capacity: {tokens_text(plan.capacity)} tokens a month")
    if plan.rows:
        highest = max([plan.api_price, *(row.price for row in plan.rows)])
        scale = int(highest * 1000) or 1
        rows = [("tokens", "of capacity", "USD per million", "API, a month", "saves", "")]
        rows += [
            (
                tokens_text(row.millions),
                percent(row.utilisation) if row.utilisation is not None else "",
                cents(row.price),
                cents(row.api),
                cents(row.saves),
                f"|{_bar(scale, 0, int(row.price * 1000))}|",
            )
            for row in plan.rows
        ]
        rows.append(
            ("API", "", cents(plan.api_price), "", "", f"|{_bar(scale, 0, int(plan.api_price * 1000))}|")
        )
        lines += ["", *table(rows, right=(0, 1, 2, 3, 4))]
    lines += ["", _break_even(plan)]
    if wrong:
        lines += ["", "where the article contradicts itself:"]
        for each in wrong:
            lines += [f"  {each.about}", f"    it says:  {each.says}", f"    but:      {each.comes_to}"]
    if explain:
        lines += ["", "how:", *_explained(plan.figures)]
    return "\n".join(lines)


def _break_even(plan: CostPlan) -> str:
    from appliance.planning.cost import percent, tokens_text

    text = f"break-even: {tokens_text(plan.break_even)} tokens a month"
    share = plan.break_even_utilisation
    if share is None:
        return f"{text}; whether that is in reach, --tokens-per-second would tell"
    if plan.reachable:
        return f"{text}, {percent(share)} of capacity"
    return f"{text}, {percent(share)} of capacity: NEVER, the API costs less at any volume the node can do"


def cost_values(plan: CostPlan, wrong: Sequence[Contradiction]) -> dict[str, object]:
    """The whole answer of ``plan cost`` as JSON values; amounts as text, exact or to cents."""
    from appliance.planning.cost import cents

    share = plan.break_even_utilisation
    return {
        "monthly": str(plan.monthly),
        "items": {name: str(each) for name, each in plan.items.items()},
        "api_price": str(plan.api_price),
        "capacity_millions": None if plan.capacity is None else str(plan.capacity),
        "rows": [
            {
                "millions": str(row.millions),
                "utilisation": None if row.utilisation is None else f"{row.utilisation:.4f}",
                "price": cents(row.price).replace(",", ""),
                "api_monthly": cents(row.api).replace(",", ""),
                "saves": cents(row.saves).replace(",", ""),
            }
            for row in plan.rows
        ],
        "break_even_millions": f"{plan.break_even:.4f}",
        "break_even_utilisation": None if share is None else f"{share:.4f}",
        "reachable": plan.reachable,
        "contradictions": [
            {"about": each.about, "says": each.says, "comes_to": each.comes_to} for each in wrong
        ],
        "figures": [each.as_dict() for each in plan.figures],
    }


def _explained(figures: Sequence[Figure]) -> list[str]:
    lines = []
    for each in figures:
        value = f"{each.value:,}" if isinstance(each.value, int) else f"{each.value:,.4f}"
        lines += [f"  {each.name} = {value} {each.unit}", f"      {each.how}", f"      from: {each.source}"]
    return lines


def table(rows: Sequence[tuple[str, ...]], *, right: tuple[int, ...] = ()) -> list[str]:
    """Columns side by side; those in ``right`` end on one line."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return [
        "  ".join(
            text.rjust(width) if column in right else text.ljust(width)
            for column, (text, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]


def _bar(size: int, begin: int, end: int) -> str:
    """A bar from ``begin`` to ``end`` of ``size``, in eighths of a column."""
    from rich.bar import Bar
    from rich.console import Console

    console = Console(file=io.StringIO(), width=_BAR, color_system=None, legacy_windows=False)
    with console.capture() as captured:
        console.print(Bar(size=float(size), begin=float(begin), end=float(end), width=_BAR))
    return captured.get().rstrip("\n").ljust(_BAR)
