"""The SQLite file of a journal: how it is made, opened and checked, and what its errors mean."""

from __future__ import annotations

import os
import random
import re
import sqlite3
import time
from contextlib import contextmanager
from functools import cache
from itertools import count
from math import inf
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from langchain_segmind._journals.filesystems import network_file_system
from langchain_segmind._journals.steps import WHEN
from langchain_segmind.exceptions import SegmindJournalError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from langchain_segmind._journals.steps import Steps

T = TypeVar("T")
VERSION = 1
LOCK_TIMEOUT = 30.0
"""Seconds to wait while another process writes."""

# What is long comes last: who reads states does not read past it.
_SCHEMA = """
CREATE TABLE segmind_journal (
    id INTEGER PRIMARY KEY,
    key TEXT NOT NULL UNIQUE,
    fingerprint TEXT NOT NULL,
    state TEXT NOT NULL,
    claim_id TEXT NOT NULL,
    holder TEXT NOT NULL,
    request_id TEXT,
    accounting TEXT,
    created_at REAL NOT NULL,
    updated_at REAL NOT NULL,
    lease_until REAL NOT NULL,
    error BLOB,
    answer BLOB
)
"""


class Database:
    """One connection to the file; whoever uses it holds its queue's lock."""

    def __init__(self, path: str, sync_seconds: float) -> None:
        """Open the file, or make it."""
        self._connection = _open(path)
        self._sync_seconds = sync_seconds
        self._syncs = True  # SQLite's default is FULL.
        self._synced_at = -inf

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()

    def synchronize(self, *, durable: bool) -> None:
        """Have the next commit, and all before it, outlive a power cut, if it is time to."""
        now = time.monotonic()
        syncs = durable and now - self._synced_at >= self._sync_seconds
        if syncs:
            self._synced_at = now
        if syncs != self._syncs:
            self._connection.execute(f"PRAGMA synchronous={'FULL' if syncs else 'NORMAL'}")
            self._syncs = syncs

    def run(self, steps: Steps[T]) -> T:
        """Run steps to their end."""
        rows: Sequence[tuple[Any, ...]] | None = None
        try:
            while True:
                sql, parameters = steps.send(rows)  # type: ignore[arg-type]
                # All who share a file are on one machine, and so they have one clock.
                now = time.time_ns() / 1e9
                statement, has_clock = _render(sql)
                given = (*parameters, now) if has_clock else parameters
                cursor = self._connection.execute(statement, given)
                rows = [(now,)] * cursor.rowcount if sql.endswith(WHEN) else cursor.fetchall()
        except StopIteration as end:
            return end.value  # type: ignore[no-any-return]

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """Commit what is run here at once, or nothing of it."""
        self._connection.execute("BEGIN IMMEDIATE")
        try:
            yield
            self._connection.execute("COMMIT")
        finally:
            if self._connection.in_transaction:
                self._connection.execute("ROLLBACK")


@cache
def _render(sql: str) -> tuple[str, bool]:
    """Number the parameters, and make the clock the last one; tell whether it is asked.

    RETURNING would cost half of what the write does.
    """
    sql, numbers = sql.removesuffix(WHEN), count(1)
    numbered = re.sub(r"\?", lambda _: f"?{next(numbers)}", sql)
    return numbered.replace("{now}", f"?{next(numbers)}"), "{now}" in sql


def check_file(path: str, file: tuple[int, int]) -> None:
    """Make sure that a path still leads to the file that was opened there.

    SQLite would go on to write into a deleted one, which nobody would ever read, and a new one
    would have forgotten everything.
    """
    if identify(path) != file:
        raise SegmindJournalError(
            f"The journal {path} was deleted or replaced while it was in use. Put the file back; "
            "without it, what was paid for would be paid again. To begin anew on purpose, make a "
            "new SqliteJournal."
        )


def identify(path: str) -> tuple[int, int] | None:
    """Give what tells a file from any other; nothing, where there is none."""
    try:
        status = os.stat(path)
    except OSError:
        return None
    return status.st_dev, status.st_ino


def _open(path: str) -> sqlite3.Connection:
    kind = network_file_system(Path(path).resolve())
    if kind:
        raise SegmindJournalError(
            f"The journal {path} is on a network file system ({kind}), where SQLite's locks do "
            "not hold. Use a local disk, or PostgresJournal for several machines."
        )
    _make_private(path)
    return _connect(path)


def _make_private(path: str) -> None:
    """Make a file that its owner alone reads; SQLite makes those beside it with the same mode.

    One that exists is not even opened: closing it would drop the locks that other connections of
    this process have on it, as POSIX has it.
    """
    try:
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600))
    except FileExistsError:
        return
    except OSError as error:
        raise SegmindJournalError(
            f"The journal {path} cannot be made: {error.strerror}. Its folder has to exist, and "
            "has to be writable."
        ) from error


def _connect(path: str) -> sqlite3.Connection:
    connection = sqlite3.connect(
        path, timeout=LOCK_TIMEOUT, isolation_level=None, check_same_thread=False
    )
    try:
        connection.execute("PRAGMA fullfsync=ON")  # macOS's fsync alone does not reach the disk.
        _set_wal(connection, time.monotonic() + LOCK_TIMEOUT)
        _make_table(connection, path)
    except BaseException:
        connection.close()
        raise
    return connection


def _set_wal(connection: sqlite3.Connection, deadline: float) -> None:
    """Switch to the write-ahead log, which SQLite does not wait for where two do so at once."""
    while True:
        try:
            connection.execute("PRAGMA journal_mode=WAL").fetchall()
        except sqlite3.OperationalError as error:
            if not is_busy(error) or time.monotonic() > deadline:
                raise
            time.sleep(random.uniform(0.001, 0.02))  # noqa: S311 - Not for secrets.
        else:
            return


def _make_table(connection: sqlite3.Connection, path: str) -> None:
    if _version(connection) == 0:
        connection.execute("BEGIN IMMEDIATE")
        if _version(connection) == 0:
            connection.execute(_SCHEMA)
            connection.execute(f"PRAGMA user_version={VERSION}")
        connection.execute("COMMIT")
    if (version := _version(connection)) != VERSION:
        raise SegmindJournalError(
            f"The journal {path} has version {version} and this langchain-segmind reads version "
            f"{VERSION}: update langchain-segmind, or use another file."
        )


def _version(connection: sqlite3.Connection) -> int:
    return int(connection.execute("PRAGMA user_version").fetchone()[0])


def is_busy(error: sqlite3.Error) -> bool:
    """Tell whether others held the lock for too long."""
    return _code(error) in {5, 6}  # SQLITE_BUSY, SQLITE_LOCKED


_REASONS = {
    5: f"another program has held its lock for {LOCK_TIMEOUT:.0f} s; end that program",
    8: "it is read-only; make the file and its folder writable",
    10: "the disk failed or is full; free some space",
    13: "the disk is full; free some space",
    14: "it cannot be opened; its folder has to exist, and both have to be readable and writable",
    26: "the file is no SQLite database; use another path",
}


def explain(error: sqlite3.Error, path: str) -> SegmindJournalError:
    """Say what went wrong with the file, and what to do."""
    reason = _REASONS.get(_code(error), "restore it, or use another path")
    if "no such table" in str(error):
        reason = (
            "its table was deleted; restore the file, or use another path to begin anew: then "
            "what was paid for is paid again"
        )
    return SegmindJournalError(f"The journal {path} cannot be used: {error}: {reason}.")


def _code(error: sqlite3.Error) -> int:
    return getattr(error, "sqlite_errorcode", 0) & 0xFF  # Extended codes add bits above.
