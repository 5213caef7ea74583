"""The journal in a Postgres table, on a real server."""

from __future__ import annotations

import asyncio
import copy
import importlib
import multiprocessing
import os
import pickle
import threading
from typing import TYPE_CHECKING, Any

import pytest

from langchain_segmind import SegmindJournalError
from langchain_segmind.journals import PostgresJournal
from tests.journals import JournalStories, Make, claim
from tests.postgres import PASSWORD, Server, run_server

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from psycopg_pool import ConnectionPool

if not os.environ.get("REQUIRE_POSTGRES"):
    pytest.importorskip("psycopg_pool", reason="psycopg is of the extra 'postgres'")
psycopg = importlib.import_module("psycopg")
psycopg_pool = importlib.import_module("psycopg_pool")

# From Python 3.12 on a fork beside threads is warned of; that it works is what is tested.
pytestmark = pytest.mark.filterwarnings("ignore:.*multi-threaded, use of fork:DeprecationWarning")


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with run_server() as running:
        yield running


@pytest.fixture
def conninfo(server: Server) -> str:
    """Give the conninfo of a schema of the test's own."""
    name = f"s{os.urandom(6).hex()}"
    with psycopg.connect(server.conninfo, autocommit=True) as connection:
        connection.execute(f"CREATE SCHEMA {name}")
    return f"{server.conninfo} options='-c search_path={name}'"


@pytest.fixture
def journal(conninfo: str) -> Iterator[PostgresJournal]:
    journal = PostgresJournal(conninfo)
    yield journal
    journal.close()


class TestPostgresJournal(JournalStories):
    @pytest.fixture
    def make(self, conninfo: str) -> Make:
        return lambda **ciphers: PostgresJournal(conninfo, **ciphers)


async def test_the_loop_goes_on_while_another_program_writes(
    journal: PostgresJournal, conninfo: str
) -> None:
    await journal.aget("a")
    with psycopg.connect(conninfo) as other:
        other.execute("LOCK TABLE segmind_journal")
        waiting = asyncio.create_task(journal.aclaim("a", "f", lease_seconds=60))
        for _ in range(50):
            await asyncio.sleep(0.001)
        assert not waiting.done()
    assert (await waiting).is_new


async def test_a_restart_of_the_server_is_survived(
    journal: PostgresJournal, server: Server
) -> None:
    """Also by connections that are idle, and all of them are dead then."""
    claims = (journal.aclaim(f"{number}", "f", lease_seconds=60) for number in range(20))
    entries = [claim.entry for claim in await asyncio.gather(*claims)]
    await asyncio.to_thread(server.control, "restart", "-m", "fast")
    moved = await asyncio.gather(
        *(journal.aupdate(entry, state="submitted", request_id=entry.key) for entry in entries)
    )
    assert [entry.request_id for entry in moved if entry] == [entry.key for entry in entries]


def test_a_server_that_is_gone_is_an_error(journal: PostgresJournal, server: Server) -> None:
    """It names the database and never the password."""
    server.control("stop", "-m", "fast")
    try:
        with pytest.raises(SegmindJournalError, match="Check that the server runs") as caught:
            journal.get("a")
    finally:
        server.control("start")
    assert "dbname=postgres" in str(caught.value)
    assert PASSWORD not in str(caught.value)
    assert journal.get("a") is None


@pytest.fixture
def cut_after(monkeypatch: pytest.MonkeyPatch, conninfo: str) -> Callable[[bytes], None]:
    """Have a connection lost, once, when a statement has been done and nobody has heard of it."""

    def cut_after(command: bytes) -> None:
        execute = psycopg.Cursor.execute
        commands = [command]

        def execute_and_cut(cursor: Any, sql: Any, *values: Any, **options: Any) -> Any:
            done = execute(cursor, sql, *values, **options)
            if isinstance(sql, bytes) and commands and sql.startswith(commands[0]):
                commands.clear()
                pid = cursor.connection.info.backend_pid
                with psycopg.connect(conninfo, autocommit=True) as other:
                    other.execute("SELECT pg_terminate_backend(%s, 9000)", (pid,))
                execute(cursor, "SELECT 1")
            return done

        monkeypatch.setattr(psycopg.Cursor, "execute", execute_and_cut)

    return cut_after


def test_a_claim_that_was_made_unheard_is_ours(
    journal: PostgresJournal, cut_after: Callable[[bytes], None]
) -> None:
    journal.get("a")
    cut_after(b"INSERT")
    found = journal.claim("a", "f", lease_seconds=60)
    assert found.is_new
    assert journal.get("a") == found.entry


def test_an_update_that_was_made_unheard_is_ours(
    journal: PostgresJournal, cut_after: Callable[[bytes], None]
) -> None:
    entry = claim(journal, "a")
    cut_after(b"UPDATE")
    moved = journal.update(entry, state="submitted", request_id="r-1")
    assert moved is not None
    assert moved == journal.get("a")
    assert journal.update(entry, state="submitted", request_id="r-2") is None


def test_a_release_that_was_made_unheard_is_ours(
    journal: PostgresJournal, cut_after: Callable[[bytes], None]
) -> None:
    entry = claim(journal, "a")
    cut_after(b"DELETE")
    assert journal.release(entry)


def test_the_password_is_shown_nowhere(conninfo: str) -> None:
    """The pickle has it, since it is needed to connect elsewhere."""
    journal = PostgresJournal(conninfo)
    assert repr(journal).startswith("PostgresJournal('host=/tmp/")
    with psycopg_pool.ConnectionPool(conninfo, open=False) as pool:
        shown = [repr(journal), repr(PostgresJournal(pool))]
    assert all(PASSWORD not in text and "dbname=postgres" in text for text in shown)
    wrong = PostgresJournal(conninfo.replace(PASSWORD, "wrong-secret"))
    with pytest.raises(SegmindJournalError, match="password authentication failed") as caught:
        wrong.get("a")
    assert "wrong-secret" not in str(caught.value)
    with pytest.raises(ValueError, match="no connection string of libpq") as refused:
        PostgresJournal("host=localhost password=a se-cret")
    assert "se-cret" not in str(refused.value)


def test_a_deleted_table_says_what_to_do(journal: PostgresJournal, conninfo: str) -> None:
    claim(journal, "a")
    with psycopg.connect(conninfo, autocommit=True) as other:
        other.execute("DROP TABLE segmind_journal")
    with pytest.raises(SegmindJournalError, match="Its table was deleted: restore it"):
        journal.claim("b", "f", lease_seconds=60)


def test_a_table_of_a_newer_version_is_refused(conninfo: str) -> None:
    with psycopg.connect(conninfo, autocommit=True) as other:
        other.execute("CREATE TABLE segmind_journal (id INT)")
        other.execute("COMMENT ON TABLE segmind_journal IS 'langchain-segmind journal 2'")
    journal = PostgresJournal(conninfo)
    with pytest.raises(SegmindJournalError, match=r"journal 2'.*update langchain-segmind"):
        journal.get("a")
    journal.close()


def test_the_table_is_made_once_by_many(conninfo: str) -> None:
    """CREATE TABLE IF NOT EXISTS alone fails where several run it at once."""
    journals = [PostgresJournal(conninfo) for _ in range(8)]
    found: list[object] = []
    threads = [
        threading.Thread(target=lambda mine=journal: found.append(mine.get("a")))
        for journal in journals
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [None] * 8
    for journal in journals:
        journal.close()


@pytest.fixture
def pool(conninfo: str) -> Iterator[ConnectionPool[Any]]:
    """Give a pool as LangGraph's checkpointer wants it: its rows are dicts."""
    options = {"autocommit": True, "row_factory": psycopg.rows.dict_row}
    with psycopg_pool.ConnectionPool(conninfo, kwargs=options, min_size=1) as opened:
        yield opened


async def test_a_pool_of_the_users_is_used_and_left_open(pool: ConnectionPool[Any]) -> None:
    journal = PostgresJournal(pool)
    entry = claim(journal, "a")
    assert await journal.aget("a") == copy.deepcopy(journal).get("a") == entry
    journal.close()
    assert not pool.closed
    with pytest.raises(TypeError, match="cannot be pickled: give it a conninfo"):
        pickle.dumps(journal)


def refused(journal: PostgresJournal, told: Any) -> None:
    try:
        journal.get("a")
    except SegmindJournalError as error:
        told.send(str(error))


def test_a_pool_does_not_cross_a_fork(pool: ConnectionPool[Any]) -> None:
    journal = PostgresJournal(pool)
    claim(journal, "a")
    context = multiprocessing.get_context("fork")
    ours, theirs = context.Pipe()
    child = context.Process(target=refused, args=(journal, theirs))
    child.start()
    assert "give PostgresJournal a conninfo" in ours.recv()
    child.join()
    assert journal.get("a")
    journal.close()


async def test_an_async_pool_serves_its_loop(conninfo: str, server: Server) -> None:
    """It is cancelled and restarted like the others, and refuses calls that block."""
    async with psycopg_pool.AsyncConnectionPool(conninfo, min_size=1) as pool:
        journal = PostgresJournal(pool)
        waiting = asyncio.create_task(journal.aclaim("a", "f", lease_seconds=60))
        await asyncio.sleep(0)
        waiting.cancel()
        await asyncio.wait([waiting])
        async with asyncio.timeout(60):  # The claim comes about, and is taken back.
            while not (claimed := await journal.aclaim("a", "f", lease_seconds=60)).is_new:
                pass
        await asyncio.to_thread(server.control, "restart", "-m", "fast")
        moved = await journal.aupdate(claimed.entry, state="answered", answer=b"{}")
        assert moved == await journal.aget("a")
        with pytest.raises(SegmindJournalError, match="conninfo or a ConnectionPool"):
            journal.get("a")
        await journal.aclose()
