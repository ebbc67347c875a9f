"""Forked processes that share out thousands of short tasks.

Threads would spend a fifth of the time of each short file handing the interpreter's lock around.  A forked
process has everything from the one it was forked from, so that all it is told is a number; what it reads
stays in its own small buffers, and the rest is shared until somebody writes to it.
"""

from __future__ import annotations

import ctypes
import gc
import mmap
import multiprocessing
import os
import signal
import threading
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from typing import TYPE_CHECKING, Any, Final, Generic, Self, TypeVar

from appliance.errors import Interrupted

if TYPE_CHECKING:
    from collections.abc import Callable
    from concurrent.futures import Future

Answer = TypeVar("Answer")

_PR_SET_PDEATHSIG: Final = 1  # prctl(2)


def can_fork() -> bool:
    """Whether this program may be forked: a lock that another thread holds would stay locked for ever."""
    return threading.active_count() == 1


class Forked(Generic[Answer]):
    """Processes that do tasks, each of which is a number; to be used in a ``with`` statement.

    They are forked when the first task is given.  Leaving the block ends them, whatever they are at.

    Args:
        count: how many processes.
        begin: called once in each of them, with what says whether nobody waits for answers any more, which
            costs next to nothing to ask; returns what does a task.
    """

    def __init__(self, count: int, begin: Callable[[Callable[[], bool]], Callable[[int], Answer]]) -> None:
        self._stop = _Stop()
        self._pool = ProcessPoolExecutor(
            count,
            mp_context=multiprocessing.get_context("fork"),
            initializer=_begin,
            initargs=(begin, self._stop, os.getpid()),  # inherited, not copied
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End the processes, and wait until they have ended; tasks that none has begun are cancelled."""
        self._stop.set()
        self._pool.shutdown(cancel_futures=True)

    def submit(self, number: int) -> Future[Answer]:
        """Have a task done.

        Raises:
            Interrupted: one of the processes was ended by somebody else.
        """
        try:
            return self._pool.submit(_do, number)
        except BrokenProcessPool as fault:
            raise _ended() from fault


def answer(future: Future[Answer]) -> Answer:
    """What a process answered.

    Raises:
        Interrupted: one of them was ended by somebody else; nothing of it is to be relied on.
        and what the task raised.
    """
    try:
        return future.result()
    except BrokenProcessPool as fault:
        raise _ended() from fault


def _ended() -> Interrupted:
    return Interrupted(
        "a process of this program was ended while it worked",
        hint="where memory ran out the system's log says so; run the same command again",
    )


class _Stop:
    """One byte that all processes see."""

    def __init__(self) -> None:
        self._shared = mmap.mmap(-1, 1)

    def set(self) -> None:
        self._shared[0] = 1

    def is_set(self) -> bool:
        return self._shared[0] != 0


_task: Callable[[int], Any]


def _begin(begin: Callable[[Callable[[], bool]], Callable[[int], Any]], stop: _Stop, parent: int) -> None:
    global _task  # noqa: PLW0603 - the one way a pool leaves to keep something in a process
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the process that shares out the work
    # If that one is killed, nobody closes the pipe this one waits at: its brothers hold the other end too.
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:  # killed before it could be asked for
        os.kill(os.getpid(), signal.SIGKILL)
    gc.freeze()  # looking for garbage among what is shared would copy it
    _task = begin(stop.is_set)


def _do(number: int) -> Any:
    return _task(number)
