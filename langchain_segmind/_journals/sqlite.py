"""A journal in one SQLite file, for all processes of a machine."""

from __future__ import annotations

import os
import weakref
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

from langchain_segmind._journals.sql import Cipher, SqlJournal

if TYPE_CHECKING:
    from langchain_segmind._journals.steps import Task

T = TypeVar("T")


class SqliteJournal(SqlJournal):
    """A journal in one SQLite file: for the threads, tasks and processes of one machine.

    The file is made on first use, for its owner alone (0600). A journal may be pickled, copied
    and carried over a fork: each has a connection of its own to the same path.

    Example:
        ```python
        from langchain_segmind.journals import SqliteJournal

        journal = SqliteJournal("run.sqlite")
        for entry in journal.entries("unknown"):
            print(entry.key, entry.request_id, entry.error)
        ```
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        encrypt: Cipher | None = None,
        decrypt: Cipher | None = None,
        sync_seconds: float = 0.0,
    ) -> None:
        """Keep what was paid for in a SQLite file, which is opened on first use.

        Args:
            path: The file, not on a network file system: its locks do not hold there.
            encrypt: Seals answers and errors before they are stored.
            decrypt: Opens what `encrypt` sealed.
            sync_seconds: How much of what was written a power cut may take; of a process that is
                killed nothing is ever lost. With 0 each claim and request id is on the disk before
                the next step, for a tenth of a millisecond of CPU and what the disk takes.

        Raises:
            ValueError: Only one of the two was given.
        """
        super().__init__(encrypt=encrypt, decrypt=decrypt)
        from langchain_segmind._journals.operation_queue import OperationQueue

        self.path = os.path.abspath(path)
        self.sync_seconds = sync_seconds
        self._queue = OperationQueue(self.path, sync_seconds)
        weakref.finalize(self, self._queue.close)

    def __repr__(self) -> str:
        return f"SqliteJournal({self.path!r})"

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle and copy by the path."""
        return partial(
            type(self),
            self.path,
            encrypt=self.encrypt,
            decrypt=self.decrypt,
            sync_seconds=self.sync_seconds,
        ), ()

    def close(self) -> None:
        """Write what is waiting, and close the file; the next call opens it again."""
        self._queue.close()

    def _run(self, task: Task[T]) -> T:
        return self._queue.run(task)

    async def _arun(self, task: Task[T]) -> T:
        return await self._queue.arun(task)
