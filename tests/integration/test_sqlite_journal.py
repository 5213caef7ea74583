"""The journal in a SQLite file."""

from __future__ import annotations

import asyncio
import contextlib
import multiprocessing
import os
import pickle
import resource
import sqlite3
import stat
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from langchain_segmind import SegmindJournalError
from langchain_segmind._journals import filesystems
from langchain_segmind.journals import SqliteJournal
from tests.journals import JournalStories, Make, claim

if TYPE_CHECKING:
    from collections.abc import Iterator

# From Python 3.12 on a fork beside threads is warned of; that it works is what is tested.
pytestmark = pytest.mark.filterwarnings("ignore:.*multi-threaded, use of fork:DeprecationWarning")
FORK = multiprocessing.get_context("fork")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "run.sqlite"


class TestSqliteJournal(JournalStories):
    @pytest.fixture
    def make(self, path: Path) -> Make:
        return lambda **ciphers: SqliteJournal(path, **ciphers)

    @contextlib.contextmanager
    def holding_the_lock(self, path: Path) -> Iterator[None]:
        with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            yield

    async def test_the_loop_goes_on_while_another_program_writes(
        self, journal: SqliteJournal, path: Path
    ) -> None:
        await journal.aget("a")
        with self.holding_the_lock(path):
            waiting = asyncio.create_task(journal.aclaim("a", "f", lease_seconds=60))
            for _ in range(50):
                await asyncio.sleep(0.001)
            assert not waiting.done()
        assert (await waiting).is_new


def test_a_journal_is_its_owners_alone(path: Path) -> None:
    """The log beside it, too, whatever the umask."""
    before = os.umask(0)
    journal = SqliteJournal(path)
    claim(journal, "a")
    os.umask(before)
    modes = {found.name: stat.S_IMODE(found.stat().st_mode) for found in path.parent.iterdir()}
    assert modes == dict.fromkeys(("run.sqlite", "run.sqlite-wal", "run.sqlite-shm"), 0o600)
    journal.close()


@pytest.mark.parametrize(("sync_seconds", "modes"), [(0.0, [2, 2]), (3600.0, [2, 1])])
def test_a_claim_is_brought_to_the_disk_when_it_is_time_to(
    path: Path, sync_seconds: float, modes: list[int]
) -> None:
    """Each one, or the first one in so many seconds; 2 is SQLite's FULL, and 1 NORMAL."""
    journal = pickle.loads(pickle.dumps(SqliteJournal(path, sync_seconds=sync_seconds)))
    found = []
    for key in "ab":
        claim(journal, key)
        connection = journal._queue.database._connection
        found += connection.execute("PRAGMA synchronous").fetchone()
    assert found == modes
    journal.close()


def test_a_journal_shows_its_path_and_keeps_it(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(path.parent)
    journal = SqliteJournal("run.sqlite")
    monkeypatch.chdir("/")
    claim(journal, "a")
    assert repr(journal) == f"SqliteJournal({str(path)!r})"
    assert path.exists()
    journal.close()


def test_a_deleted_file_is_an_error_until_it_is_back(path: Path) -> None:
    """SQLite would go on writing where nobody reads, and a new file would have forgotten."""
    journal = SqliteJournal(path)
    entry = claim(journal, "a")
    path.rename(path.with_suffix(".old"))
    for _ in range(2):
        with pytest.raises(
            SegmindJournalError, match=r"was deleted or replaced.*Put the file back"
        ):
            journal.claim("b", "f", lease_seconds=60)
    for change in (lambda: journal.update(entry, state="unknown"), lambda: journal.forget("a")):
        with pytest.raises(SegmindJournalError, match="was deleted or replaced"):
            change()
    path.with_suffix(".old").rename(path)
    assert journal.get("a") == entry
    journal.close()


def test_a_file_that_was_deleted_while_closed_is_not_made_anew(path: Path) -> None:
    journal = SqliteJournal(path)
    claim(journal, "a")
    journal.close()
    path.unlink()
    with pytest.raises(SegmindJournalError, match="was deleted or replaced"):
        journal.get("a")
    assert not path.exists()


def test_a_deleted_table_says_what_to_do(path: Path) -> None:
    journal = SqliteJournal(path)
    claim(journal, "a")
    with contextlib.closing(sqlite3.connect(path)) as other:
        other.execute("DROP TABLE segmind_journal")
    with pytest.raises(SegmindJournalError, match="its table was deleted; restore the file"):
        journal.claim("b", "f", lease_seconds=60)
    journal.close()


def test_a_file_of_a_newer_version_is_refused(path: Path) -> None:
    with contextlib.closing(sqlite3.connect(path)) as other:
        other.execute("PRAGMA user_version=2")
    with pytest.raises(SegmindJournalError, match=r"has version 2.*update langchain-segmind"):
        SqliteJournal(path).get("a")


def test_a_file_that_is_no_database_is_refused(path: Path) -> None:
    path.write_text("a line that is no database, and that is long enough to be one" * 9)
    with pytest.raises(SegmindJournalError, match="no SQLite database; use another path"):
        SqliteJournal(path).get("a")


def test_a_folder_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(SegmindJournalError, match=r"No such file or directory. Its folder has to"):
        SqliteJournal(tmp_path / "none" / "run.sqlite").get("a")


def errors_as_nobody(path: Path, told: Any) -> None:
    if os.getuid() == 0:
        os.setuid(65534)  # Root may write everywhere.
    journal = SqliteJournal(path)
    try:
        journal.claim("b", "f", lease_seconds=60)
    except SegmindJournalError as error:
        told.send(str(error))


def test_a_read_only_file_is_an_error(path: Path) -> None:
    journal = SqliteJournal(path)
    claim(journal, "a")
    journal.close()
    path.chmod(0o444)
    for folder in list(path.parents)[:-2]:
        folder.chmod(folder.stat().st_mode | 0o055)
    path.parent.chmod(0o555)
    ours, theirs = FORK.Pipe()
    process = FORK.Process(target=errors_as_nobody, args=(path, theirs))
    process.start()
    assert "make the file and its folder" in ours.recv() or sys.platform == "darwin"
    process.join()


def fill_the_disk(path: Path, told: Any) -> None:
    resource.setrlimit(resource.RLIMIT_FSIZE, (400_000, 400_000))
    journal = SqliteJournal(path)
    for number in range(1000):
        try:
            journal.update(claim(journal, f"{number}"), state="answered", answer=b"x" * 9000)
        except SegmindJournalError as error:
            told.send((number, str(error)))
            break
    os._exit(0)


def test_a_full_disk_is_an_error_and_loses_nothing(path: Path) -> None:
    ours, theirs = FORK.Pipe()
    process = FORK.Process(target=fill_the_disk, args=(path, theirs))
    process.start()
    number, error = ours.recv()
    process.join()
    assert "free some space" in error
    journal = SqliteJournal(path)
    assert len(list(journal.entries("answered"))) == number
    journal.close()


@pytest.mark.parametrize(
    ("kind", "point", "is_refused"),
    [
        ("nfs4", "/data", True),
        ("fuse.sshfs", "/data/a\\040b", True),
        ("ext4", "/data", False),
        ("cifs", "/dat", False),
    ],
)
def test_a_network_file_system_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str, point: str, *, is_refused: bool
) -> None:
    """That of the mount which holds the file, and no other."""
    mounts = tmp_path / "mountinfo"
    mounts.write_text(
        "22 1 0:1 / / rw - ext4 /dev/a rw\n"
        f"23 22 0:2 / {point} rw,noatime shared:1 - {kind} host:/a rw\n"
        "24 22 0:3 / /other rw - nfs host:/b rw\n"
    )
    monkeypatch.setattr(filesystems, "MOUNTS", mounts)
    found = filesystems.network_file_system(Path("/data/a b/run.sqlite"))
    assert found == (kind if is_refused else None)


def test_a_journal_on_a_network_file_system_says_what_to_use(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mounts = tmp_path / "mountinfo"
    mounts.write_text("22 1 0:1 / / rw - 9p /dev/a rw\n")
    monkeypatch.setattr(filesystems, "MOUNTS", mounts)
    with pytest.raises(SegmindJournalError, match=r"\(9p\).*local disk, or PostgresJournal"):
        SqliteJournal(path).get("a")
    assert not path.exists()
