"""Write the tables of docs/quiet-host.md anew from the data of the role quiet_host.

    python scripts/quiet_host_page.py

What stands between `<!-- table: NAME -->` and `<!-- end -->` is made; everything else is left as it is.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

from appliance.node.host_data import load_host_data

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from appliance.node.host_data import Entry

PAGE = Path(__file__).parents[1] / "docs/quiet-host.md"
_BLOCK = re.compile(r"(<!-- table: ([a-z-]+) -->\n).*?(<!-- end -->)", re.DOTALL)


def tables() -> dict[str, str]:
    """Every table by name."""
    data = load_host_data()
    unit, script = ((word, "comes with", "reason", "control") for word in ("unit", "script"))
    served = [entry.control for entry in data.every() for _ in entry.what]
    return {
        "stopped": _table(unit, _of(data.stopped)),
        "clocks": _table(unit, _of(data.clocks)),
        "scripts": _table(script, _of(data.scripts_off)),
        "files": _table(("file", "read by", "reason", "control"), _of(data.files)),
        "kernel": _table(("setting", "value", "reason", "control"), _valued(data.kernel)),
        "modules": _table(("modules", "when", "reason", "control"), _conditional(data.modules_off)),
        "modules-needed": _table(("modules", "reason"), _plain(data.modules_needed)),
        "audit": _table(("rule", "reason", "control"), _plain(data.audit)),
        "ssh": _table(("keyword", "value", "reason", "control"), _valued(data.ssh)),
        "quiet": _table(("unit", "reason"), _plain(data.quiet)),
        "quiet-scripts": _table(("script", "reason"), _plain(data.quiet_scripts)),
        "controls": _table(
            ("control", "title", "settings"),
            ((name, title, str(served.count(name))) for name, title in data.controls.items()),
        ),
        "catalogue": f"Controls are those of {data.catalogue}.\n",
    }


def render(page: str) -> str:
    """The page with its tables made anew; KeyError for a table that there is none of."""
    made = tables()
    return _BLOCK.sub(lambda block: f"{block[1]}\n{made[block[2]]}\n{block[3]}", page)


def _plain(entries: Sequence[Entry]) -> Iterable[tuple[str, ...]]:
    """Control only where there is one."""
    return ((_code(each.what), each.reason, *filter(None, [each.control])) for each in entries)


def _of(entries: Sequence[Entry]) -> Iterable[tuple[str, ...]]:
    return ((_code(each.what), each.of, each.reason, each.control) for each in entries)


def _valued(entries: Sequence[Entry]) -> Iterable[tuple[str, ...]]:
    for each in entries:
        since = f" ({each.newer} and later)" if each.newer else ""
        yield (_code(each.what) + since, _code((each.value,)), each.reason, each.control)


def _conditional(entries: Sequence[Entry]) -> Iterable[tuple[str, ...]]:
    for each in entries:
        when = each.off_if.replace("=", ": ")
        yield (_code(each.what), f"`{when}`" if when else "always", each.reason, each.control)


def _code(words: Sequence[str]) -> str:
    return " ".join(f"`{word}`" for word in words).replace("|", r"\|")


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


if __name__ == "__main__":
    PAGE.write_text(render(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
