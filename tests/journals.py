"""What the journals of this package promise beyond the contract of any journal."""

from __future__ import annotations

import asyncio
import copy
import multiprocessing
import threading
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import pytest

from langchain_segmind import SegmindJournalError
from langchain_segmind._journals.sql import SqlJournal
from langchain_segmind.testing import JournalContract

if TYPE_CHECKING:
    from langchain_segmind.journals import Journal, JournalEntry

Make = Callable[..., SqlJournal]


def claim(journal: Journal, key: str) -> JournalEntry:
    found = journal.claim(key, "f", lease_seconds=60)
    assert found.is_new
    return found.entry


def turn(content: bytes) -> bytes:
    return bytes(255 - byte for byte in content)


def claim_and_tell(journal: Journal, told: Any) -> None:
    told.send(claim(journal, "child").key)
    journal.close()


class JournalStories(JournalContract):
    """The stories of a store that is made by `make`."""

    @pytest.fixture
    def make(self) -> Make:
        raise NotImplementedError

    @pytest.fixture
    def journal(self, make: Make) -> Iterator[SqlJournal]:
        journal = make()
        yield journal
        journal.close()

    def test_answers_and_errors_are_stored_sealed(self, make: Make) -> None:
        """Who has the functions reads them, and who has others is told so."""
        sealed = make(encrypt=turn, decrypt=turn)
        entry = claim(sealed, "a")
        sealed.update(entry, state="answered", answer=b"answer", error="error")
        bare = make()
        stored = bare.get("a")
        assert stored is not None
        assert stored.answer == turn(b"answer")
        found = sealed.get("a")
        assert found is not None
        assert (found.answer, found.error) == (b"answer", "error")
        wrong = make(encrypt=turn, decrypt=lambda content: content[99])
        with pytest.raises(SegmindJournalError, match="Give the encrypt and decrypt"):
            wrong.get("a")
        for journal in (sealed, bare, wrong):
            journal.close()

    def test_half_a_pair_is_refused(self, make: Make) -> None:
        with pytest.raises(ValueError, match="encrypt and decrypt go together"):
            make(encrypt=turn)

    @pytest.mark.parametrize("copied", [copy.copy, copy.deepcopy])
    def test_a_copy_is_on_the_same_store(
        self, journal: SqlJournal, copied: Callable[[SqlJournal], SqlJournal]
    ) -> None:
        entry = claim(journal, "a")
        twin = copied(journal)
        assert twin.get("a") == entry
        twin.close()

    async def test_a_cancelled_claim_leaves_nothing_behind(self, journal: SqlJournal) -> None:
        """Nobody would send it, and until its lease had passed nobody else could."""
        for number in range(20):
            waiting = asyncio.create_task(journal.aclaim("a", "f", lease_seconds=60))
            for _ in range(number):
                await asyncio.sleep(0)
            waiting.cancel()
            await asyncio.wait([waiting])
            await journal.aclose()
            if waiting.cancelled():
                assert await journal.aget("a") is None
            assert await journal.aforget("a") != waiting.cancelled()

    async def test_a_cancelled_update_is_written(self, journal: SqlJournal) -> None:
        """What was paid for is kept, whoever waits for it."""
        entry = claim(journal, "a")
        waiting = asyncio.create_task(journal.aupdate(entry, state="submitted", request_id="r-1"))
        await asyncio.sleep(0)
        waiting.cancel()
        await asyncio.wait([waiting])
        await journal.aclose()
        found = await journal.aget("a")
        assert found is not None
        assert found.request_id == "r-1"

    def test_loops_come_and_go(self, journal: SqlJournal) -> None:
        """One is closed while it is written for; others run at once, each in a thread."""

        async def leave() -> None:
            asyncio.get_running_loop().call_soon(asyncio.get_running_loop().stop)
            await journal.aclaim("left", "f", lease_seconds=60)

        loop = asyncio.new_event_loop()
        left = loop.create_task(leave())
        loop.run_forever()

        async def claim_some(name: str) -> int:
            claims = (journal.aclaim(f"{n}", name, lease_seconds=60) for n in range(50))
            return sum(claim.is_new for claim in await asyncio.gather(*claims))

        new: list[int] = []
        threads = [
            threading.Thread(target=lambda name=str(n): new.append(asyncio.run(claim_some(name))))
            for n in range(4)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert sum(new) == 50
        left.cancel()
        loop.run_until_complete(asyncio.wait([left]))
        loop.close()

    def test_threads_share_a_journal(self, journal: SqlJournal) -> None:
        """Of the claims of one key, one is new."""
        new: list[bool] = []

        def claim_all() -> None:
            new.extend(journal.claim(f"{n}", "f", lease_seconds=60).is_new for n in range(40))

        threads = [threading.Thread(target=claim_all) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert (len(new), sum(new)) == (320, 40)

    def test_a_fork_while_others_write_serves_both(self, journal: SqlJournal) -> None:
        """The child has no locks, threads or connections of its parent's, and the parent all."""
        claims: list[JournalEntry] = []
        stop = threading.Event()

        def write() -> None:
            while not stop.is_set():
                claims.append(claim(journal, f"{len(claims)}"))

        writer = threading.Thread(target=write)
        writer.start()
        context = multiprocessing.get_context("fork")
        for _ in range(5):
            ours, theirs = context.Pipe()
            child = context.Process(target=claim_and_tell, args=(journal, theirs))
            child.start()
            assert ours.poll(60)
            assert ours.recv() == "child"
            child.join()
            assert child.exitcode == 0
            assert journal.forget("child")
        stop.set()
        writer.join()
        assert [entry.key for entry in journal.entries()] == [entry.key for entry in claims]
