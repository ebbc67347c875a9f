"""Which changes to a node can be made at once: asking about eight costs hardly more than about one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

#: Few enough to see at a glance which of them was not found, or did something else.
AT_ONCE: Final = 8


def rounds(effects: Mapping[str, Collection[str] | None]) -> list[list[str]]:
    """Names of changes, grouped so that no two of a group have an effect in common.

    Args:
        effects: what each change is found by; None: it is made alone.
    """
    made: list[list[str]] = []
    for name, effect in effects.items():
        for others in made:
            beside = [effects[each] for each in others]
            if effect is None or len(others) == AT_ONCE:
                continue
            if all(each is not None and not set(each) & set(effect) for each in beside):
                others.append(name)
                break
        else:
            made.append([name])
    return made
