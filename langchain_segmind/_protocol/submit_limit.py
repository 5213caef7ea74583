"""How many submits may be under way whose request id is not yet in the journal."""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from typing import TYPE_CHECKING

from langchain_segmind._protocol.per_process import PerProcess

if TYPE_CHECKING:
    from collections.abc import Callable

MOST_SUBMITS = 4
"""A kill loses sight of as many submits at most; on a round trip of 150 ms they are 1,600 a minute,
more than Segmind's largest plan allows."""


class SubmitLimit:
    """A semaphore for threads and event loops alike: first come, first served."""

    def __init__(self, most: int = MOST_SUBMITS) -> None:
        self._lock = threading.Lock()
        self._free = most
        self._waiting: deque[_Turn] = deque()

    def acquire(self) -> None:
        """Wait, blocking, until there is room."""
        arrived = threading.Event()
        turn = self._enter(arrived.set)
        try:
            arrived.wait()
        except BaseException:
            self._withdraw(turn)
            raise

    async def aacquire(self) -> None:
        """Wait, on the event loop, until there is room."""
        loop, arrived, thread = asyncio.get_running_loop(), asyncio.Event(), threading.get_ident()

        def call() -> None:
            if thread == threading.get_ident():
                arrived.set()  # Nobody has to be woken who sleeps until something comes.
            else:
                loop.call_soon_threadsafe(arrived.set)

        turn = self._enter(call)
        if turn.has_come:
            return
        try:
            await arrived.wait()
        except BaseException:
            self._withdraw(turn)
            raise

    def release(self) -> None:
        """Make room for whoever has waited longest."""
        with self._lock:
            turn = self._waiting.popleft() if self._waiting else None
            if turn is None:
                self._free += 1
                return
            turn.has_come = True
        try:
            turn.call()
        except RuntimeError:  # Its event loop was closed while it waited.
            self.release()

    def _enter(self, call: Callable[[], object]) -> _Turn:
        turn = _Turn(call)
        with self._lock:
            if self._free:
                self._free -= 1
                turn.has_come = True
            else:
                self._waiting.append(turn)
        if turn.has_come:
            call()
        return turn

    def _withdraw(self, turn: _Turn) -> None:
        with self._lock:
            if not turn.has_come:
                self._waiting.remove(turn)
                return
        self.release()


class _Turn:
    """One who waits."""

    def __init__(self, call: Callable[[], object]) -> None:
        self.call = call
        self.has_come = False


SUBMITS = PerProcess(SubmitLimit)
"""The limit of this process."""
