"""Pools of connections to Postgres: how steps are run on one, and what its errors mean."""

from __future__ import annotations

import asyncio
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import suppress
from functools import cache, partial
from typing import TYPE_CHECKING, Any, TypeVar

import psycopg
from psycopg.conninfo import conninfo_to_dict
from psycopg.rows import tuple_row
from psycopg_pool import AsyncConnectionPool, ConnectionPool

from langchain_segmind.exceptions import SegmindJournalError

if TYPE_CHECKING:
    from collections.abc import Coroutine

    from langchain_segmind._journals.steps import Operation, Steps, Task

T = TypeVar("T")
_VERSION = "langchain-segmind journal 1"
_CONNECTIONS = 4
"""Of one process, to a server that takes a hundred by default."""

_ASK_VERSION = "SELECT obj_description(to_regclass('segmind_journal'), 'pg_class')"
# One message, and so one transaction; the lock (of a number that is ours) makes others wait, whom
# CREATE TABLE IF NOT EXISTS alone would fail.
_CREATE = f"""
SELECT pg_advisory_xact_lock(7310292640817235);
CREATE TABLE IF NOT EXISTS segmind_journal (
    id BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    key TEXT NOT NULL UNIQUE,
    fingerprint TEXT NOT NULL,
    state TEXT NOT NULL,
    claim_id TEXT NOT NULL,
    holder TEXT NOT NULL,
    request_id TEXT,
    accounting TEXT,
    created_at DOUBLE PRECISION NOT NULL,
    updated_at DOUBLE PRECISION NOT NULL,
    lease_until DOUBLE PRECISION NOT NULL,
    error BYTEA,
    answer BYTEA
);
COMMENT ON TABLE segmind_journal IS '{_VERSION}'
"""


class _LostError(Exception):
    """A connection broke, so that nobody knows whether what was sent has been done."""


def name_of(given: str | ConnectionPool[Any] | AsyncConnectionPool[Any]) -> str:
    """Name the database to people: its host and name, and neither user nor password."""
    conninfo = given if isinstance(given, str) else given.conninfo
    if not isinstance(conninfo, str):
        return "a pool"
    try:
        parts = conninfo_to_dict(conninfo)
    except psycopg.ProgrammingError:
        # Its message quotes what it could not read, and that may be the password.
        raise ValueError(
            "conninfo is no connection string of libpq: write postgresql://user@host/database, or "
            "host=... dbname=... user=..."
        ) from None
    return " ".join(f"{name}={parts[name]}" for name in ("host", "port", "dbname") if name in parts)


def make(
    given: str | ConnectionPool[Any] | AsyncConnectionPool[Any], name: str, *, is_inherited: bool
) -> Pool | AsyncPool:
    """Make what runs steps in this process."""
    if isinstance(given, str):
        kwargs = {"autocommit": True}
        own = ConnectionPool(given, kwargs=kwargs, min_size=0, max_size=_CONNECTIONS, open=False)
        return Pool(own, name, conninfo=given)
    if is_inherited:
        raise SegmindJournalError(
            f"The pool of the journal {name} belongs to the process that this one was forked from: "
            "give PostgresJournal a conninfo, or a pool that was made after the fork."
        )
    return Pool(given, name) if isinstance(given, ConnectionPool) else AsyncPool(given, name)


class Pool:
    """Runs steps on the connections of a pool; those of tasks in threads."""

    def __init__(
        self, pool: ConnectionPool[Any], name: str, *, conninfo: str | None = None
    ) -> None:
        """Take a pool of the user's, or with a conninfo one that is ours to open and close."""
        self._pool = pool
        self._name = name
        self._conninfo = conninfo
        self._is_ready = False
        self._threads = ThreadPoolExecutor(_CONNECTIONS, thread_name_prefix="segmind-journal")

    def close(self) -> None:
        """Finish what tasks have begun, and close what is ours."""
        self._threads.shutdown()
        if self._conninfo is not None:
            self._pool.close()

    def run(self, task: Task[T]) -> T:
        """Run steps, and once more where the connection turned out to be dead."""
        try:
            self._make_ready()
            with suppress(_LostError):
                return self._attempt(task.operation)
            self._pool.check()  # After a restart of the server the others are dead, too.
            return self._attempt(task.second or task.operation)
        except (psycopg.Error, _LostError) as error:
            raise _explain(error, self._name) from None

    async def arun(self, task: Task[T]) -> T:
        """Run steps in a thread, and wait for it on the loop."""
        done = self._threads.submit(self.run, task)
        try:
            return await asyncio.shield(asyncio.wrap_future(done))
        except asyncio.CancelledError:
            if task.undo is not None:
                self._threads.submit(self._undo, done, task.undo)
            raise

    def _undo(self, done: Future[Any], operation: Operation[Any]) -> None:
        wait([done])  # It is under way: who came first has a thread.
        self._attempt(operation)

    def _make_ready(self) -> None:
        if self._is_ready:
            return
        if self._conninfo is None:
            self._attempt(partial(_make_table, self._name))
        else:
            # The pool would go on trying for half a minute, and could not say why it failed.
            with psycopg.connect(self._conninfo, autocommit=True) as connection:
                _drive(_make_table(self._name), connection)
            self._pool.open()
        self._is_ready = True

    def _attempt(self, operation: Operation[T]) -> T:
        with self._pool.connection() as connection:
            try:
                return _drive(operation(), connection)
            except psycopg.OperationalError as error:
                if connection.closed:
                    raise _LostError(str(error)) from None
                raise


class AsyncPool:
    """Runs the steps of tasks on the connections of a user's `AsyncConnectionPool`."""

    def __init__(self, pool: AsyncConnectionPool[Any], name: str) -> None:
        self._pool = pool
        self._name = name
        self._is_ready = False
        self._running: set[asyncio.Task[Any]] = set()

    def close(self) -> None:
        """Leave the pool to its owner."""

    def run(self, _task: Task[T]) -> T:
        """Refuse: the pool serves its own loop alone."""
        raise SegmindJournalError(
            "A PostgresJournal with an AsyncConnectionPool serves ainvoke, astream and abatch "
            "alone: give it a conninfo or a ConnectionPool, which serve both."
        )

    async def arun(self, task: Task[T]) -> T:
        """Run steps, and once more where the connection turned out to be dead."""
        running = self._begin(self._arun(task))
        try:
            return await asyncio.shield(running)
        except asyncio.CancelledError:
            if task.undo is not None:
                undo = task.undo
                running.add_done_callback(lambda _: self._begin(self._attempt(undo)))
            raise

    def _begin(self, steps: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
        running = asyncio.get_running_loop().create_task(steps)
        self._running.add(running)  # The loop itself does not hold what nobody awaits.
        running.add_done_callback(self._running.discard)
        return running

    async def _arun(self, task: Task[T]) -> T:
        try:
            if not self._is_ready:
                await self._attempt(partial(_make_table, self._name))
                self._is_ready = True
            with suppress(_LostError):
                return await self._attempt(task.operation)
            await self._pool.check()
            return await self._attempt(task.second or task.operation)
        except (psycopg.Error, _LostError) as error:
            raise _explain(error, self._name) from None

    async def _attempt(self, operation: Operation[T]) -> T:
        async with self._pool.connection() as connection:
            try:
                return await _adrive(operation(), connection)
            except psycopg.OperationalError as error:
                if connection.closed:
                    raise _LostError(str(error)) from None
                raise


def _make_table(name: str) -> Steps[None]:
    rows = yield _ASK_VERSION, ()
    if rows[0][0] is None:
        yield _CREATE, ()
    elif rows[0][0] != _VERSION:
        raise SegmindJournalError(
            f"The table of the journal {name} is a {rows[0][0]!r}, and this langchain-segmind "
            f"reads {_VERSION!r}: update langchain-segmind, or use another database."
        )


def _drive(steps: Steps[T], connection: psycopg.Connection[Any]) -> T:
    rows: Any = None
    with connection.cursor(row_factory=tuple_row) as cursor:
        try:
            while True:
                sql, parameters = steps.send(rows)
                rows = cursor.execute(_render(sql), parameters or None).fetchall()
        except StopIteration as end:
            return end.value  # type: ignore[no-any-return]


async def _adrive(steps: Steps[T], connection: psycopg.AsyncConnection[Any]) -> T:
    rows: Any = None
    async with connection.cursor(row_factory=tuple_row) as cursor:
        try:
            while True:
                sql, parameters = steps.send(rows)
                await cursor.execute(_render(sql), parameters or None)
                rows = await cursor.fetchall()
        except StopIteration as end:
            return end.value  # type: ignore[no-any-return]


@cache
def _render(sql: str) -> bytes:
    # One time for all of a statement, and that of its arrival: where it had to wait, the lease does
    # not begin later than the claimer thinks, who asked before.
    clock = "extract(epoch from statement_timestamp())::double precision"
    return sql.replace("{now}", f"({clock})").replace("?", "%s").encode()


def _explain(error: Exception, name: str) -> SegmindJournalError:
    """Say what went wrong with the database, and what to do."""
    told = error.diag.message_primary if isinstance(error, psycopg.Error) else None
    advice = "Check that the server runs, and that this role may read and write segmind_journal."
    if isinstance(error, psycopg.errors.UndefinedTable):
        advice = (
            "Its table was deleted: restore it, or make a new PostgresJournal to begin anew; then "
            "what was paid for is paid again."
        )
    return SegmindJournalError(f"The journal {name} cannot be used: {told or error}. {advice}")
