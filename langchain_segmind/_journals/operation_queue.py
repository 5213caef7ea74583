"""One SQLite file as a process has it open: threads take turns, and tasks share a thread.

What tasks hand in while that thread writes is written afterwards in one transaction, so that one
switch of threads, and one commit, serves many.
"""

from __future__ import annotations

import asyncio
import os
import sqlite3
import threading
import weakref
from collections import deque
from contextlib import suppress
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias, TypeVar

from langchain_segmind._journals.database import Database, check_file, explain, identify, is_busy

if TYPE_CHECKING:
    from collections.abc import Sequence

    from langchain_segmind._journals.steps import Operation, Task

T = TypeVar("T")
Result: TypeAlias = tuple[Any, Exception | None]


class _Order(NamedTuple):
    """What a task has handed in."""

    operation: Operation[Any]
    durable: bool | None
    future: asyncio.Future[Any] | None
    """None where nobody waits for it."""


class OperationQueue:
    """The operations of this process on one file."""

    def __init__(self, path: str, sync_seconds: float) -> None:
        self.path = path
        self.sync_seconds = sync_seconds
        self.file: tuple[int, int] | None = None
        self.reset()
        with _FORKING:
            _QUEUES.add(self)

    def reset(self) -> None:
        """Leave orders, locks and thread behind: after a fork they are another process's."""
        self.lock = threading.Lock()
        self.database: Database | None = None
        self._orders: deque[_Order] = deque()
        self._wake = threading.Event()
        self._starting = threading.Lock()
        self._writer: threading.Thread | None = None

    def run(self, task: Task[T]) -> T:
        """Do this after whoever is at it."""
        with self.lock:
            try:
                database = self._connect(durable=task.durable)
                return database.run(task.operation())
            except sqlite3.Error as error:
                raise explain(error, self.path) from error

    async def arun(self, task: Task[T]) -> T:
        """Hand this to the thread, and wait on the loop for what comes of it."""
        loop = asyncio.get_running_loop()
        future: asyncio.Future[T] = loop.create_future()
        self._orders.append(_Order(task.operation, task.durable, future))
        # Not at once: what other tasks hand in meanwhile is written with it.
        loop.call_soon(self._wake_writer)
        try:
            return await future
        except asyncio.CancelledError:
            if task.undo is not None:  # Orders are done one after the other.
                self._orders.append(_Order(task.undo, durable=False, future=None))
                self._wake_writer()
            raise

    def _wake_writer(self) -> None:
        if not self._orders:
            return  # They went with one that came before.
        with self._starting:
            if self._writer is None:
                self._writer = threading.Thread(
                    target=self._write, name="segmind-journal", daemon=True
                )
                self._writer.start()
        self._wake.set()

    def close(self) -> None:
        """Do what was handed in, close the file, and end the thread."""
        with self.lock:
            self._work_off()
            self.disconnect()
        with self._starting:
            self._writer = None
        self._wake.set()

    def disconnect(self) -> None:
        """Close the file; the caller has the lock."""
        if self.database is not None:
            self.database.close()
            self.database = None

    def _connect(self, *, durable: bool | None) -> Database:
        if self.file is not None and (durable is not None or self.database is None):
            check_file(self.path, self.file)
        if self.database is None:
            self.database = Database(self.path, self.sync_seconds)
            self.file = identify(self.path)
        if durable is not None:
            self.database.synchronize(durable=durable)
        return self.database

    # --- The thread ---

    def _write(self) -> None:
        while self._writer is threading.current_thread():
            self._wake.wait()
            self._wake.clear()
            with self.lock:
                self._work_off()

    def _work_off(self) -> None:
        """Do all that was handed in; the caller has the lock."""
        orders = [self._orders.popleft() for _ in range(len(self._orders))]
        waiting: dict[asyncio.AbstractEventLoop, list[tuple[asyncio.Future[Any], Result]]] = {}
        for order, result in zip(orders, self._do(orders), strict=True):
            if order.future is not None:
                waiting.setdefault(order.future.get_loop(), []).append((order.future, result))
        for loop, results in waiting.items():
            with suppress(RuntimeError):  # The loop is closed, and nobody waits there.
                loop.call_soon_threadsafe(_hand_over, results)

    def _do(self, orders: Sequence[_Order]) -> list[Result]:
        if len(orders) > 1:
            try:
                return self._do_together(orders)
            except Exception as error:
                if isinstance(error, sqlite3.OperationalError) and is_busy(error):
                    # Each alone would wait as long again.
                    return [(None, explain(error, self.path)) for _ in orders]
        return [self._do_one(order) for order in orders]

    def _do_together(self, orders: Sequence[_Order]) -> list[Result]:
        """Do them in one transaction, or none of them."""
        database = self._connect(durable=any(order.durable for order in orders))
        with database.transaction():
            return [(database.run(order.operation()), None) for order in orders]

    def _do_one(self, order: _Order) -> Result:
        try:
            return self._connect(durable=order.durable).run(order.operation()), None
        except sqlite3.Error as error:
            return None, explain(error, self.path)
        except Exception as error:
            return None, error


def _hand_over(results: Sequence[tuple[asyncio.Future[Any], Result]]) -> None:
    """Give tasks what came of their orders, on their loop."""
    for future, (result, error) in results:
        if future.done():  # It was cancelled.
            continue
        if error is not None:
            future.set_exception(error)
        else:
            future.set_result(result)


# --- Forks ---

_FORKING = threading.Lock()
_QUEUES: weakref.WeakSet[OperationQueue] = weakref.WeakSet()
_HELD: list[OperationQueue] = []


def _before_fork() -> None:
    """Close every file: a connection must not be carried over a fork, not even unused.

    SQLite counts the locks of a file per process, in memory that a child inherits. What the child
    opens then takes no lock of its own at all, and others delete the log beneath it.
    """
    _FORKING.acquire()
    for queue in list(_QUEUES):
        queue.lock.acquire()
        _HELD.append(queue)
        queue.disconnect()


def _after_in_parent() -> None:
    while _HELD:
        _HELD.pop().lock.release()
    _FORKING.release()


def _after_in_child() -> None:
    while _HELD:
        _HELD.pop().reset()
    _FORKING.release()


if hasattr(os, "register_at_fork"):  # Windows has no fork.
    os.register_at_fork(
        before=_before_fork, after_in_parent=_after_in_parent, after_in_child=_after_in_child
    )
