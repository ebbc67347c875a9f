"""Doing several things at the same time: all of them, or the first failure and an end to the rest."""

from __future__ import annotations

from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from typing import TYPE_CHECKING

from appliance.sources.stopping import Stopped, check

if TYPE_CHECKING:
    import threading
    from collections.abc import Callable, Sequence


def together(tasks: Sequence[Callable[[], None]], workers: int, stop: threading.Event) -> None:
    """Run ``tasks`` in ``workers`` threads.

    When one fails, or the operator interrupts, ``stop`` is set, tasks not begun are dropped, those
    running are waited for, and the first failure is raised; ``Stopped`` only if there is no other.
    """

    def unless_stopped(task: Callable[[], None]) -> None:
        check(stop)
        task()

    with ThreadPoolExecutor(max(workers, 1)) as pool:
        futures = [pool.submit(unless_stopped, task) for task in tasks]
        try:
            _, unfinished = wait(futures, return_when=FIRST_EXCEPTION)
        except BaseException:
            stop.set()
            pool.shutdown(wait=False, cancel_futures=True)
            raise
        if unfinished:
            stop.set()
            pool.shutdown(cancel_futures=True)
    faults = [fault for future in futures if not future.cancelled() and (fault := future.exception())]
    for fault in sorted(faults, key=lambda fault: isinstance(fault, Stopped)):
        raise fault
