"""A time limit for what a model does, whatever it does: its calls run on threads that nobody waits for any longer.

Python cannot end a thread, so a call that hangs keeps its own. Their number is bounded: a model of which several calls
hang is not asked any more, until they end or another model takes its place.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from queue import SimpleQueue
from typing import Any, TypeVar

CALLS_AT_ONCE = 8  # of one model; so many threads it can hold at most
MOST_HANGING = 4  # of them; then it is not asked
OVERDUE = "no answer within"  # how the error of a call begins that was given up
Answer = TypeVar("Answer")


class Overdue(Exception):
    """A model gave no answer in time, or was not asked because earlier calls of it hang."""


class Calls:
    """The calls of one model."""

    def __init__(self) -> None:
        self._slots, self._lock = threading.Semaphore(CALLS_AT_ONCE), threading.Lock()
        self._hanging: set[Future[Any]] = set()

    @property
    def hang(self) -> bool:
        """Whether so many calls hang that the model is not asked."""
        return len(self._hanging) >= MOST_HANGING

    def run(self, work: Callable[[], Answer], seconds: float) -> Answer:
        """What `work` returns, or raises.

        Raises:
            Overdue: it did not end within `seconds` (it goes on, unheard), or was not begun because others hang.
        """
        if self.hang:
            raise Overdue(f"not asked, because {MOST_HANGING} earlier calls hang")
        until = time.monotonic() + seconds
        if not self._slots.acquire(timeout=seconds):
            raise Overdue(f"{OVERDUE} {seconds:g} s: {CALLS_AT_ONCE} earlier calls are not done")
        call: Future[Answer] = Future()
        call.add_done_callback(self._ended)
        _thread().inbox.put((call, work))
        try:
            return call.result(max(0.0, until - time.monotonic()))
        except TimeoutError:
            with self._lock:
                if not call.done():
                    self._hanging.add(call)
                    raise Overdue(f"{OVERDUE} {seconds:g} s") from None
            return call.result()  # it was done in this very moment, or raised this error itself

    def _ended(self, call: Future[Any]) -> None:
        with self._lock:
            self._hanging.discard(call)
        self._slots.release()


class _Thread(threading.Thread):
    """Does one piece of work after the other; a daemon, so that one that hangs does not hold up the end."""

    def __init__(self) -> None:
        super().__init__(name="model", daemon=True)
        self.inbox: SimpleQueue[tuple[Future[Any], Callable[[], Any]]] = SimpleQueue()

    def run(self) -> None:
        while True:
            call, work = self.inbox.get()
            try:
                call.set_result(work())
            except BaseException as error:  # whatever it is, it belongs to the caller
                call.set_exception(error)
            del call, work
            _idle.append(self)


_idle: list[_Thread] = []  # threads are used again, because OpenMP keeps memory for each


def _thread() -> _Thread:
    try:
        return _idle.pop()
    except IndexError:
        thread = _Thread()
        thread.start()
        return thread
