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
_END: Any = object()


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
    come: queue.SimpleQueue[Any] = queue.SimpleQueue()
    runner = asyncio.Runner(loop_factory=asyncio.new_event_loop)
    loop, room = runner.get_loop(), asyncio.Semaphore(ahead)

    async def read() -> None:
        try:
            async with aclosing(items):
                async for item in items:
                    await room.acquire()
                    come.put(item)
        finally:
            await close()

    task = loop.create_task(read())

    def work() -> None:
        with runner, suppress(asyncio.CancelledError):
            runner.run(asyncio.wait([task]))
        come.put(_END)

    def call(function: Callable[[], object]) -> None:
        with suppress(RuntimeError):  # The loop is closed.
            loop.call_soon_threadsafe(function)

    thread = threading.Thread(target=work, name="segmind-batch", daemon=True)
    thread.start()
    try:
        while (item := come.get()) is not _END:
            yield item
            call(room.release)
    finally:
        call(task.cancel)
        thread.join()
    if not task.cancelled():
        task.result()
