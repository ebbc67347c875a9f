"""After a server was away, a while in which nobody asks again.

Each node has a feed of its own, and all of one sink's are run one after the other: a hundred nodes would
else wait a hundred times for one server that does not answer.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from appliance.errors import ExportSinkUnready

if TYPE_CHECKING:
    from collections.abc import Callable

_SECONDS: Final = 5.0


class Pause:
    """What a server last failed with, as long as that counts.

    Args:
        clock: seconds that never go back.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._until = 0.0
        self._fault = ""

    def heed(self) -> None:
        """Say once more what failed, while it is not worth another try.

        Raises:
            ExportSinkUnready: it failed a moment ago.
        """
        if self._fault and self._clock() < self._until:
            # Another one each time: one that is raised again keeps what every frame on its way held.
            raise ExportSinkUnready(self._fault)

    def begin(self, fault: ExportSinkUnready) -> None:
        self._until, self._fault = self._clock() + _SECONDS, fault.message
