"""Where a run goes on: decided from records alone.

Stages that prove something are always run: they are what an auditor would ask for, and they are quick
when nothing has changed (the copy is compared by block, Ansible finds nothing to change).  The one thing
a rerun may leave out is an ``apply`` that ended well just before the run was cut off in a later stage.
After a failed qualification, ``apply`` runs again: something has to be put right.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from appliance.node.runs import Stage

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from appliance.node.runs import Identity, Record


@dataclass(frozen=True)
class Resume:
    """What a rerun on one node does: whether apply is left out, and the words for it."""

    skip_apply: bool
    text: str


def resume(
    node: str, records: Mapping[Stage, Record], identity: Identity, others: Sequence[str] = ()
) -> Resume:
    """Decide for one node.

    Args:
        node: its name, for the words.
        records: what earlier runs of the same bundle left; ``running`` means cut off.
        identity: what is to be installed now.
        others: bundles that earlier runs applied to this node (start of their digest).
    """
    changed = sorted(
        {
            words
            for record in records.values()
            for words, same in (
                ("the bundle", record.identity.bundle == identity.bundle),
                ("the settings", record.identity.settings == identity.settings),
                ("this program", record.identity.toolkit == identity.toolkit),
            )
            if not same
        }
    )
    if changed:
        return Resume(False, f"{node}: {' and '.join(changed)} changed since the last run: starting over")
    if not records:
        other = f" (before: {', '.join(others)}): starting over" if others else ""
        return Resume(False, f"{node}: first run of this bundle{other}")
    done = {stage for stage, record in records.items() if record.result == "done"}
    if set(Stage) <= done:
        return Resume(False, f"{node}: installed before; proving it again")
    stopped = next(stage for stage in Stage if stage not in done)
    record = records.get(stopped)
    cut_off = record is None or record.result in {"running", "interrupted"}
    if Stage.APPLY.before(stopped) and cut_off:
        return Resume(True, f"{node}: applied before; going on at {stopped}")
    why = "was not reached" if record is None else f"ended {record.result!r}"
    if record is not None and record.result == "running":
        why = "was cut off"
    return Resume(False, f"{node}: going on at {stopped}, which {why}")
