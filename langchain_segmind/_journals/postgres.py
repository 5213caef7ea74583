"""A journal in a Postgres table, for several machines."""

from __future__ import annotations

import os
import weakref
from functools import partial
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar

from langchain_segmind._journals.sql import Cipher, SqlJournal

if TYPE_CHECKING:
    from psycopg_pool import AsyncConnectionPool, ConnectionPool

    from langchain_segmind._journals.pools import AsyncPool, Pool
    from langchain_segmind._journals.steps import Task

    Given: TypeAlias = str | ConnectionPool[Any] | AsyncConnectionPool[Any]

T = TypeVar("T")


class PostgresJournal(SqlJournal):
    """A journal in the table `segmind_journal` of a Postgres database, made on first use.

    It takes psycopg 3: `pip install "langchain-segmind[postgres]"`. With a conninfo it may be
    pickled, copied and carried over a fork; a pool of your own belongs to one process, and an
    `AsyncConnectionPool` serves awaitable calls alone.

    Example:
        ```python
        from langchain_segmind.journals import PostgresJournal

        journal = PostgresJournal("postgresql://user@host/database")
        ```
    """

    def __init__(
        self,
        conninfo: Given,
        *,
        encrypt: Cipher | None = None,
        decrypt: Cipher | None = None,
    ) -> None:
        """Keep what was paid for in Postgres, which is connected to on first use.

        Args:
            conninfo: libpq's connection string or URL, or a pool of psycopg_pool.
            encrypt: Seals answers and errors before they are stored.
            decrypt: Opens what `encrypt` sealed.

        Raises:
            ImportError: psycopg is not installed.
            ValueError: The conninfo cannot be read, or only one of the two functions was given.
        """
        super().__init__(encrypt=encrypt, decrypt=decrypt)
        try:
            from langchain_segmind._journals import pools
        except ImportError as error:
            raise ImportError(
                "PostgresJournal needs psycopg: pip install 'langchain-segmind[postgres]'"
            ) from error
        self._given = conninfo
        self._name = pools.name_of(conninfo)
        # One of each process, since a fork copies neither threads nor connections that serve. What
        # a child inherits stays referred to: closing it would end the parent's sessions.
        self._pools: dict[int, Pool | AsyncPool] = {}
        weakref.finalize(self, _close, self._pools)

    def __repr__(self) -> str:
        return f"PostgresJournal({self._name!r})"

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle with the conninfo, password and all, for it is needed to connect elsewhere."""
        if not isinstance(self._given, str):
            raise TypeError(f"{self!r} has a pool, which cannot be pickled: give it a conninfo")
        return self._maker(), ()

    def __copy__(self) -> PostgresJournal:
        return self._maker()()

    def __deepcopy__(self, memo: dict[int, Any]) -> PostgresJournal:
        """Share a pool of the user's, which cannot be copied."""
        return self._maker()()

    def _maker(self) -> partial[PostgresJournal]:
        return partial(type(self), self._given, encrypt=self.encrypt, decrypt=self.decrypt)

    def close(self) -> None:
        """Close the connections; a pool of the user's stays open."""
        _close(self._pools)

    def _run(self, task: Task[T]) -> T:
        return self._pool().run(task)

    async def _arun(self, task: Task[T]) -> T:
        return await self._pool().arun(task)

    def _pool(self) -> Pool | AsyncPool:
        pool = self._pools.get(os.getpid())
        if pool is None:
            from langchain_segmind._journals import pools

            is_inherited = bool(self._pools)
            made = pools.make(self._given, self._name, is_inherited=is_inherited)
            pool = self._pools.setdefault(os.getpid(), made)  # Another thread may be faster.
        return pool


def _close(pools: dict[int, Pool | AsyncPool]) -> None:
    pool = pools.pop(os.getpid(), None)
    if pool is not None:
        pool.close()
