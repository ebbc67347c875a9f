"""What a node keeps of an installation: what was learnt at once, what was installed after its proof."""

from __future__ import annotations

from typing import TYPE_CHECKING

from appliance.node.journal import USUAL, commit_journal, complete_journal

if TYPE_CHECKING:
    from appliance.node.asking import Answer
    from appliance.node.connection import Connection
    from appliance.node.journal import Kept, Place
    from appliance.trust.installation import Decision


def keep_now(connection: Connection, answer: Answer, place: Place = USUAL) -> Kept:
    """Root, revocation and time floor; the first state, where a journal begins.

    Raises:
        ApplianceError: as ``commit_journal``.
    """
    kept, decision = _agreed(answer)
    if not answer.commits_now:
        return complete_journal(connection, kept, place)
    return commit_journal(connection, kept, decision.now, place)


def keep_afterwards(connection: Connection, answer: Answer, kept: Kept, place: Place = USUAL) -> Kept:
    """Sequence, digest and nonces.

    Args:
        connection: to the node.
        answer: what it said before.
        kept: what ``keep_now`` left.
        place: where it is kept.

    Raises:
        ApplianceError: as ``commit_journal``.
    """
    _, decision = _agreed(answer)
    if not answer.commits_afterwards:
        return kept
    return commit_journal(connection, kept, decision.afterwards, place)


def _agreed(answer: Answer) -> tuple[Kept, Decision]:
    if answer.refusals or answer.kept is None or answer.decision is None:
        raise ValueError("a node that did not agree keeps nothing")
    return answer.kept, answer.decision
