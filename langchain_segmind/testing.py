"""Tests that any `Journal` has to pass, run by pytest.

A store's tests derive from the class and say how a journal is made:

```python
from langchain_segmind.testing import JournalContract


class TestMyJournal(JournalContract):
    @pytest.fixture
    def journal(self):
        return MyJournal(...)
```

The journal has to be one that can be pickled: several processes share it.
"""

from __future__ import annotations

import asyncio
import multiprocessing
import pickle
import sys
import time
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest

from langchain_segmind._journals import holders

if TYPE_CHECKING:
    from multiprocessing.connection import Connection
    from multiprocessing.context import BaseContext

    from langchain_segmind.journals import Journal, JournalEntry

__all__ = ["JournalContract"]

_PROCESSES = 16
_PAST = -60.0
"""A lease that has passed, and the margin after it."""


def _processes() -> BaseContext:
    """Give processes that begin anew, quickly where the system can."""
    if "forkserver" not in multiprocessing.get_all_start_methods():
        return multiprocessing.get_context("spawn")
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([__name__, "langchain_segmind._journals.pools"])
    return context


def _claim(journal: Journal, key: str, lease_seconds: float = 60.0) -> JournalEntry:
    claim = journal.claim(key, "f", lease_seconds=lease_seconds)
    assert claim.is_new
    return claim.entry


def _race(journal: Journal, start: Any, results: Any) -> None:
    start.wait()
    results.put(journal.claim("one", "f", lease_seconds=60).is_new)
    journal.close()


def _hold(journal: Journal, where: str, lease_seconds: float, pipe: Connection) -> None:
    """Claim a key, and be killed with it."""
    if where == "elsewhere":
        holders._machine = lambda: ("another", "1")  # noqa: SLF001 - There is but one machine here.
    pipe.send(_claim(journal, "held", lease_seconds).created_at)
    pipe.recv()


def _claim_at(journal: Journal, clock: float, pipe: Connection) -> None:
    """Claim a key on a machine whose clock is wrong."""
    time.time = lambda: clock
    pipe.send(_claim(journal, "skewed").created_at)
    journal.close()


class JournalContract:
    """What a journal promises."""

    @pytest.fixture
    def journal(self) -> Journal:
        """Give an empty journal."""
        raise NotImplementedError

    def test_a_key_is_claimed_once(self, journal: Journal) -> None:
        """The second one sees the claim of the first, and what it was made with."""
        entry = _claim(journal, "a")
        again = journal.claim("a", "other", lease_seconds=60, replace_unknown=True)
        assert again == (entry, False)
        assert (entry.key, entry.fingerprint, entry.state) == ("a", "f", "sending")
        assert entry.created_at == entry.updated_at
        assert entry.lease_until == pytest.approx(entry.created_at + 60)

    def test_an_entry_moves_on_and_keeps_what_it_has(self, journal: Journal) -> None:
        """What an update leaves out stays; what it gives back is what is read later."""
        submitted = journal.update(_claim(journal, "a"), state="submitted", request_id="r-1")
        assert submitted is not None
        answered = journal.update(
            submitted, state="answered", answer=b"\0{}\xff", accounting={"cost": 0.5, "of": None}
        )
        assert answered is not None
        assert (answered.request_id, answered.answer) == ("r-1", b"\0{}\xff")
        assert answered == journal.get("a") == journal.claim("a", "f", lease_seconds=60).entry

    def test_of_two_who_read_the_same_one_moves_it_on(self, journal: Journal) -> None:
        """Whoever comes second is told so, and changes nothing."""
        entry = _claim(journal, "a")
        assert journal.update(entry, state="submitted", request_id="first")
        assert journal.update(entry, state="submitted", request_id="second") is None
        assert not journal.release(entry)
        found = journal.get("a")
        assert found is not None
        assert found.request_id == "first"

    def test_a_claim_that_was_forgotten_moves_nothing(self, journal: Journal) -> None:
        """The next claim of the key is another one, in the same state though it is."""
        old = _claim(journal, "a")
        assert journal.forget("a")
        new = _claim(journal, "a")
        assert journal.update(old, state="submitted") is None
        assert not journal.release(old)
        assert journal.get("a") == new

    def test_anyone_can_finish_what_was_submitted(self, journal: Journal) -> None:
        """Another journal on the same store answers it by the entry that it read."""
        journal.update(_claim(journal, "a"), state="submitted", request_id="r-1")
        other: Journal = pickle.loads(pickle.dumps(journal))  # noqa: S301 - It is our own.
        read = other.get("a")
        assert read is not None
        assert other.update(read, state="answered", answer=b"{}")
        other.close()
        found = journal.get("a")
        assert found is not None
        assert found.state == "answered"

    def test_what_came_to_nothing_is_released(self, journal: Journal) -> None:
        """The key is free again."""
        assert journal.release(_claim(journal, "a"))
        assert journal.get("a") is None
        assert _claim(journal, "a")

    def test_a_claim_whose_lease_has_passed_is_unknown_to_everyone(self, journal: Journal) -> None:
        """Whoever looks sees it, and the claimer comes too late."""
        entries = [_claim(journal, key, _PAST) for key in "abcd"]
        assert journal.claim("a", "f", lease_seconds=60).entry.state == "unknown"
        assert journal.get_many(["b"])["b"].state == "unknown"
        assert [entry.key for entry in journal.entries("unknown")] == list("abcd")
        assert journal.update(entries[3], state="submitted") is None

    def test_an_unknown_is_replaced_on_request_alone(self, journal: Journal) -> None:
        """And only for the same call; nothing of the old claim is left."""
        entry = _claim(journal, "a")
        journal.update(entry, state="unknown", request_id="r-1", error="lost")
        assert not journal.claim("a", "f", lease_seconds=60).is_new
        assert not journal.claim("a", "g", lease_seconds=60, replace_unknown=True).is_new
        again = journal.claim("a", "f", lease_seconds=60, replace_unknown=True)
        assert again.is_new
        assert again.entry.claim_id != entry.claim_id
        found = journal.get("a")
        assert found == again.entry
        assert found.request_id is found.error is None

    def test_many_are_read_at_once(self, journal: Journal) -> None:
        """Keys that have no entry are left out."""
        found = {key: _claim(journal, key) for key in ("a", "b", "ключ '%s' ?")}
        assert journal.get_many([*found, "none"]) == found
        assert journal.get_many([]) == {}

    async def test_entries_come_in_the_order_in_which_they_were_made(
        self, journal: Journal
    ) -> None:
        """More than fit on one page, and without their answers unless these are asked for."""
        for start in range(0, 1200, 100):
            claims = (
                journal.aclaim(f"{number}", "f", lease_seconds=60)
                for number in range(start, start + 100)
            )
            await asyncio.gather(*claims)
        keys = [entry.key for entry in journal.entries()]
        assert sorted(keys, key=int) == [str(number) for number in range(1200)]
        assert [int(key) // 100 for key in keys] == sorted(int(key) // 100 for key in keys)
        entry = journal.get_many(["1199"])["1199"]
        journal.update(entry, state="answered", answer=b"{}", accounting={"cost": 1})
        (without,) = journal.entries("answered")
        (with_answer,) = [found async for found in journal.aentries("answered", answers=True)]
        assert (without.answer, without.accounting) == (None, {"cost": 1})
        assert with_answer == journal.get("1199")

    def test_what_is_old_is_purged_and_what_is_under_way_stays(self, journal: Journal) -> None:
        """A job can still be fetched, and a claim can still be answered."""
        for key in ("sending", "submitted", "answered", "unknown"):
            entry = _claim(journal, key)
            if key != "sending":
                assert journal.update(entry, state=key)
        assert journal.purge(older_than=timedelta(hours=1)) == 0
        ended = ["unknown", "answered"]
        assert journal.purge(older_than=-1.0) == len(ended)
        assert {entry.key for entry in journal.entries()} == {"sending", "submitted"}

    def test_what_is_forgotten_is_gone(self, journal: Journal) -> None:
        """Only once."""
        _claim(journal, "a")
        assert journal.forget("a")
        assert not journal.forget("a")
        assert journal.get("a") is None

    def test_a_store_that_was_closed_has_it_all(self, journal: Journal) -> None:
        """Closed twice or not: the next call opens it."""
        entry = _claim(journal, "a")
        journal.close()
        journal.close()
        assert journal.get("a") == entry

    async def test_what_can_be_awaited_does_the_same(self, journal: Journal) -> None:
        """One life of a key, and its end."""
        entry, is_new = await journal.aclaim("a", "f", lease_seconds=60)
        assert is_new
        submitted = await journal.aupdate(entry, state="submitted", request_id="r-1")
        assert submitted is not None
        assert await journal.aupdate(entry, state="submitted") is None
        assert not await journal.arelease(entry)
        assert await journal.aget("a") == submitted == (await journal.aget_many("ab"))["a"]
        assert [found async for found in journal.aentries("submitted")] == [submitted]
        assert await journal.apurge(older_than=0) == 0
        assert await journal.aforget("a")
        assert (await journal.aclaim("a", "f", lease_seconds=60)).is_new
        await journal.aclose()

    def test_of_many_processes_one_has_the_claim(self, journal: Journal) -> None:
        """They all start at once."""
        context = _processes()
        start, results = context.Barrier(_PROCESSES), context.Queue()
        started = [
            context.Process(target=_race, args=(journal, start, results))  # type: ignore[attr-defined]
            for _ in range(_PROCESSES)
        ]
        for process in started:
            process.start()
        assert sum(results.get(timeout=120) for _ in started) == 1
        for process in started:
            process.join()

    @pytest.mark.skipif(sys.platform != "linux", reason="Linux tells who has died.")
    def test_a_claim_of_a_process_that_was_killed_is_unknown_at_once(
        self, journal: Journal
    ) -> None:
        """Its lease has long to go."""
        self._kill_holder(journal, "here", 3600)
        claim = journal.claim("held", "f", lease_seconds=60)
        assert (claim.entry.state, claim.is_new) == ("unknown", False)
        assert journal.claim("held", "f", lease_seconds=60, replace_unknown=True).is_new

    @pytest.mark.parametrize(("lease", "state"), [(3600.0, "sending"), (_PAST, "unknown")])
    def test_on_another_machine_the_lease_decides(
        self, journal: Journal, lease: float, state: str
    ) -> None:
        """Nobody can see from here that it was killed."""
        self._kill_holder(journal, "elsewhere", lease)
        assert journal.claim("held", "f", lease_seconds=60).entry.state == state

    @pytest.mark.parametrize("clock", [0.0, 9e9])
    def test_the_clocks_of_the_machines_do_not_matter(self, journal: Journal, clock: float) -> None:
        """A claim from a machine that lives in another century is like any other."""
        now = _claim(journal, "a").created_at
        context = _processes()
        ours, theirs = context.Pipe()
        process = context.Process(target=_claim_at, args=(journal, clock, theirs))  # type: ignore[attr-defined]
        process.start()
        assert ours.recv() == pytest.approx(now, abs=120)
        process.join()

    @staticmethod
    def _kill_holder(journal: Journal, where: str, lease_seconds: float) -> None:
        context = _processes()
        ours, theirs = context.Pipe()
        holder = context.Process(target=_hold, args=(journal, where, lease_seconds, theirs))  # type: ignore[attr-defined]
        holder.start()
        ours.recv()
        holder.kill()
        holder.join()
