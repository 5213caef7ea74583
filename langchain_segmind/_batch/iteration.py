"""An async iterator, read by a program without an event loop."""

from __future__ import annotations

import asyncio
import queue
import threading
from contextlib import aclosing, suppress
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Awaitable, Callable, Generator

T = TypeVar("T")


def iterate(
    items: AsyncGenerator[T], close: Callable[[], Awaitable[object]], ahead: int
) -> Generator[T]:
    """Give the items of an async generator that runs on a loop of its own, in a thread.

    A loop that ran only while the caller waits would leave requests unread in between, until
    their time is over.

    Args:
        items: Closed at the end, on its loop.
        close: Called after that, on the same loop.
        ahead: How many items may be waiting for the caller.
    """
    reader = _Reader(items, close, ahead)
    reader.start()
    try:
        while (item := reader.come.get()) is not _END:
            yield item
            reader.make_room()
    finally:
        reader.end()
        reader.join()
    if reader.failure is not None:
        raise reader.failure


_END: Any = object()


class _Reader(threading.Thread):
    def __init__(
        self, items: AsyncGenerator[Any], close: Callable[[], Awaitable[object]], ahead: int
    ) -> None:
        super().__init__(name="segmind-batch", daemon=True)
        self.come: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self.failure: BaseException | None = None
        self._items = items
        self._close = close
        self._room = asyncio.Semaphore(ahead)
        self._started = threading.Event()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._task: asyncio.Task[None] | None = None

    def run(self) -> None:
        try:
            asyncio.run(self._read())
        except asyncio.CancelledError:
            pass  # The caller has left.
        except BaseException as failure:
            self.failure = failure
        finally:
            self._started.set()
            self.come.put(_END)

    async def _read(self) -> None:
        self._loop, self._task = asyncio.get_running_loop(), asyncio.current_task()
        self._started.set()
        try:
            async with aclosing(self._items) as items:
                async for item in items:
                    await self._room.acquire()
                    self.come.put(item)
        finally:
            await self._close()

    def make_room(self) -> None:
        """Let one more item come."""
        self._call(self._room.release)

    def end(self) -> None:
        """Let nothing more come."""
        self._started.wait()
        if self._task is not None:
            self._call(self._task.cancel)

    def _call(self, call: Callable[[], object]) -> None:
        with suppress(RuntimeError):  # The loop is closed.
            if self._loop is not None:
                self._loop.call_soon_threadsafe(call)
