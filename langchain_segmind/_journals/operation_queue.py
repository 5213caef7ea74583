"""Where the threads and tasks of a process hand in what is to be written to one SQLite file.

Whoever has the lock writes for all who wait, in one transaction: a commit that reaches the disk
takes a millisecond or several, and so they share it. A task has a thread wait for it.
"""

from __future__ import annotations

import asyncio
import os
import threading
import weakref
from collections import deque
from contextlib import suppress
from typing import TYPE_CHECKING, Any, TypeVar

from langchain_segmind._journals.database import (
    Database,
    check_file,
    explain,
    identify,
    is_busy,
)
from langchain_segmind.exceptions import SegmindJournalError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from langchain_segmind._journals.steps import Operation, Task

T = TypeVar("T")


class _PendingOperation:
    """One operation that was handed in, and what came of it."""

    __slots__ = ("durable", "error", "future", "is_done", "operation", "result")

    def __init__(
        self, operation: Operation[Any], *, durable: bool, future: asyncio.Future[Any] | None = None
    ) -> None:
        self.operation = operation
        self.durable = durable
        self.future = future
        self.is_done = False
        self.result: Any = None
        self.error: Exception | None = None

    def run(self, database: Database) -> None:
        try:
            self.result = database.run(self.operation())
        except Exception as error:
            self.fail(error, database.path)
        self.is_done = True

    def fail(self, error: Exception, path: str) -> None:
        import sqlite3

        self.error = explain(error, path) if isinstance(error, sqlite3.Error) else error
        self.is_done = True

    def notify(self) -> None:
        """Hand the result to the task that waits, on its loop."""
        if self.future is None or self.future.done():  # It was cancelled.
            return
        if self.error is not None:
            self.future.set_exception(self.error)
        else:
            self.future.set_result(self.result)


class OperationQueue:
    """The operations of this process on one file."""

    def __init__(self, path: str) -> None:
        """Open nothing yet."""
        self.path = path
        self.file: tuple[int, int] | None = None
        self.reset()
        with _FORKING:
            _QUEUES.add(self)

    def reset(self) -> None:
        """Leave operations, locks and thread behind: after a fork they are another process's."""
        self.lock = threading.Lock()
        self.pending: deque[_PendingOperation] = deque()
        self.database: Database | None = None
        self._wake = threading.Event()
        self._starting = threading.Lock()
        self._writer: threading.Thread | None = None

    def run(self, task: Task[T]) -> T:
        """Write this, and what others have handed in, unless they have written it already."""
        operation = _PendingOperation(task.operation, durable=task.durable)
        self.pending.append(operation)
        with self.lock:
            if not operation.is_done:
                self._write()
        if operation.error is not None:
            raise operation.error
        if not operation.is_done:
            raise _interruption(self.path)
        return operation.result  # type: ignore[no-any-return]

    async def arun(self, task: Task[T]) -> T:
        """Hand this in, and wait on the loop for what comes of it."""
        future = asyncio.get_running_loop().create_future()
        self._submit(_PendingOperation(task.operation, durable=task.durable, future=future))
        try:
            return await future  # type: ignore[no-any-return]
        except asyncio.CancelledError:
            if task.undo is not None:  # Orders are written in the operation in which they came.
                self._submit(_PendingOperation(task.undo, durable=False))
            raise

    def _submit(self, operation: _PendingOperation) -> None:
        """Hand this in for the thread that writes."""
        self.pending.append(operation)
        with self._starting:
            if self._writer is None:
                self._writer = threading.Thread(
                    target=self._write_on, name="segmind-journal", daemon=True
                )
                self._writer.start()
        self._wake.set()

    def close(self) -> None:
        """Write what is waiting, close the file, and end the thread."""
        with self.lock:
            if self.pending:
                self._write()
            self.disconnect()
        with self._starting:
            self._writer = None
        self._wake.set()

    def disconnect(self) -> None:
        """Close the file; the caller has the lock."""
        if self.database is not None:
            self.database.close()
            self.database = None

    def _write_on(self) -> None:
        while self._writer is threading.current_thread():
            self._wake.wait()
            self._wake.clear()
            with self.lock:
                if self.pending:
                    self._write()

    def _write(self) -> None:
        """Write all that was handed in; the caller has the lock."""
        pending = [self.pending.popleft() for _ in range(len(self.pending))]
        try:
            self._run(pending)
        finally:
            self._notify_loops(pending)

    def _run(self, pending: Sequence[_PendingOperation]) -> None:
        try:
            durable = any(operation.durable for operation in pending)
            database = self._connect(durable=durable)
            database.synchronize(durable=durable)
            if len(pending) > 1 and _run_together(pending, database):
                return
        except Exception as error:
            for operation in pending:
                operation.fail(error, self.path)
            return
        for operation in pending:
            operation.run(database)

    def _connect(self, *, durable: bool) -> Database:
        if self.file is not None and (durable or self.database is None):
            check_file(self.path, self.file)
        if self.database is None:
            self.database = Database(self.path)
            self.file = identify(self.path)
        return self.database

    def _notify_loops(self, pending: Sequence[_PendingOperation]) -> None:
        """Wake the loops of those who wait, each once."""
        loops: dict[asyncio.AbstractEventLoop, list[_PendingOperation]] = {}
        for operation in pending:
            if not operation.is_done:
                operation.error = _interruption(self.path)
            if operation.future is not None:
                loops.setdefault(operation.future.get_loop(), []).append(operation)
        for loop, told in loops.items():
            with suppress(RuntimeError):  # The loop is closed, and nobody waits there.
                loop.call_soon_threadsafe(_notify_all, told)


def _run_together(pending: Sequence[_PendingOperation], database: Database) -> bool:
    """Run them in one transaction; tell whether all of it was committed."""
    import sqlite3

    connection = database.connection
    try:
        connection.execute("BEGIN IMMEDIATE")
    except sqlite3.OperationalError as error:
        if is_busy(error):
            raise  # Each alone would wait as long again.
        return False
    try:
        results = [database.run(operation.operation()) for operation in pending]
        connection.execute("COMMIT")
    except Exception:
        return False
    else:
        for operation, result in zip(pending, results, strict=True):
            operation.result, operation.is_done = result, True
        return True
    finally:
        if connection.in_transaction:
            connection.execute("ROLLBACK")


def _notify_all(pending: Sequence[_PendingOperation]) -> None:
    for operation in pending:
        operation.notify()


def _interruption(path: str) -> SegmindJournalError:
    return SegmindJournalError(
        f"Writing to the journal {path} was interrupted. {SegmindJournalError.advice}"
    )


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
