"""Journaled calls through kills, faults and broken stores, stepped by hand: the bill is exact."""

from __future__ import annotations

import heapq
import itertools
import random
from collections import Counter
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from math import inf
from typing import TYPE_CHECKING, Any

from hypothesis import given
from hypothesis import strategies as st

from langchain_segmind._protocol.account import Account
from langchain_segmind._protocol.calls import Clock, Exchanges
from langchain_segmind._protocol.journaled import JournaledCall
from langchain_segmind._protocol.submit_limit import MOST_SUBMITS, SubmitLimit
from langchain_segmind._protocol.types import (
    EnterSubmit,
    JournalFailure,
    Request,
    Response,
    Sleep,
    TransportFailure,
    UseJournal,
)
from langchain_segmind.exceptions import (
    SegmindError,
    SegmindOutcomeUnknownError,
    SegmindResponseError,
    SegmindTimeoutError,
)
from langchain_segmind.journals import Claim, Journal, JournalEntry
from tests.flows import UNIX, completion, reply

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from langchain_segmind._protocol.answers import Finished
    from langchain_segmind._protocol.types import Command, Flow, Outcome


@dataclass
class World:
    """What outlives every process: the time, the store, and what Segmind billed."""

    chance: random.Random
    faults: float = 0.0
    """The share of requests that go wrong."""
    broken: float = 0.0
    """The share of journal operations that fail, half of them after they were done."""
    read_only_from: float = inf
    """When the store's disk is full."""
    job_ttl: float = 3600.0
    """Seconds for which Segmind keeps a job."""
    now: float = 0.0
    entries: dict[str, JournalEntry] = field(default_factory=dict)
    kept: set[str] = field(default_factory=set)
    """Keys whose answer was in the store at some time, and could be read."""
    dead: set[str] = field(default_factory=set)
    bills: Counter[str] = field(default_factory=Counter)
    jobs: dict[str, tuple[str, float]] = field(default_factory=dict)
    """The answer, or nothing where the job fails, and when it is done."""
    numbers: Iterator[int] = field(default_factory=itertools.count)

    @property
    def clock(self) -> Clock:
        return Clock(lambda: self.now, lambda: UNIX + self.now, self.chance.random)

    def happens(self, share: float) -> bool:
        return self.chance.random() < share

    # --- Segmind ---

    def answer(self, request: Request) -> Response | TransportFailure:
        if request.method == "GET":
            return self._poll(request)
        fault = self.chance.choice(FAULTS) if self.happens(self.faults) else ""
        if fault in UNBILLED:
            return UNBILLED[fault]
        _, version, key = request.path.split("/")
        answer = self._bill(key)
        if fault in BILLED:
            return BILLED[fault]
        if version == "v1":
            return reply(completion(answer))
        job = f"job-{len(self.jobs)}"
        if fault == "failing":
            self.bills[key] -= 1
            answer = ""
        self.jobs[job] = answer, self.now + self.chance.choice([0.1, 2.0, 60.0])
        return reply({"request_id": job, "status": "QUEUED"})

    def _bill(self, key: str) -> str:
        self.bills[key] += 1
        return f"answer {self.bills[key]} to {key}"

    def _poll(self, request: Request) -> Response | TransportFailure:
        if self.happens(self.faults):
            return self.chance.choice([UNBILLED["refused"], BILLED["lost"]])
        answer, done_at = self.jobs[request.path.split("/")[3]]
        if self.now > done_at + self.job_ttl:
            return reply({"error": "not found"}, 404)
        if self.now < done_at:
            return reply({"status": "PROCESSING"})
        if not answer:
            return reply({"status": "FAILED", "error": "out of memory"}, 422)
        return reply({"status": "COMPLETED", "output": completion(answer), "metrics": {}})


Answer = Response | TransportFailure
UNBILLED: dict[str, Answer] = {
    "unsent": TransportFailure("unsent", "refused", sent=False),
    "refused": reply({"error": "oops"}, 503),
    "slow down": reply({"error": "slow down"}, 429),
    "eaten": TransportFailure("timeout", "no answer in time"),
}
BILLED: dict[str, Answer] = {
    "lost": TransportFailure("lost", "reset by peer"),
    "page": reply(b"<html>Bad gateway</html>", 502),
    "garbled": reply(b"<html>Fine</html>"),
}
FAULTS = [*UNBILLED, *BILLED, "failing"]


class StoreError(Exception):
    """Of a store that is not one of ours."""


class MemoryJournal(Journal):
    """One process's way to the store of a world."""

    def __init__(self, world: World, process: str) -> None:
        self.world, self.process = world, process

    @contextmanager
    def _reaching_the_store(self, *, writes: bool = True) -> Iterator[None]:
        is_broken = self.world.happens(self.world.broken)
        is_full = writes and self.world.now > self.world.read_only_from
        if is_full or self.process in self.world.dead or (is_broken and self.world.happens(0.5)):
            raise StoreError("nothing was written")
        yield
        if is_broken:
            raise StoreError("it was written, and the connection broke")

    def _stored(self, key: str) -> JournalEntry | None:
        entry = self.world.entries.get(key)
        if entry is None or entry.state != "sending":
            return entry
        if entry.holder in self.world.dead or self.world.now > entry.lease_until:
            entry = self.world.entries[key] = entry._replace(state="unknown")
        return entry

    def _is(self, entry: JournalEntry) -> bool:
        stored = self._stored(entry.key)
        read = entry.claim_id, entry.state
        return stored is not None and (stored.claim_id, stored.state) == read

    def claim(
        self, key: str, fingerprint: str, *, lease_seconds: float, replace_unknown: bool = False
    ) -> Claim:
        with self._reaching_the_store():
            stored = self._stored(key)
            if stored is not None and not (replace_unknown and stored.state == "unknown"):
                return Claim(stored, is_new=False)
            entry = JournalEntry(
                key,
                fingerprint,
                "sending",
                f"{self.world.chance.random()}",
                self.process,
                lease_until=self.world.now + lease_seconds,
            )
            self.world.entries[key] = entry
            return Claim(entry, is_new=True)

    def update(self, entry: JournalEntry, **change: Any) -> JournalEntry | None:
        with self._reaching_the_store():
            if not self._is(entry):
                return None
            moved = self.world.entries[entry.key]._replace(**change)
            self.world.entries[entry.key] = moved
            if moved.state == "answered" and not moved.error:
                self.world.kept.add(entry.key)
            return moved

    def release(self, entry: JournalEntry) -> bool:
        with self._reaching_the_store():
            return self._is(entry) and bool(self.world.entries.pop(entry.key))

    def get(self, key: str) -> JournalEntry | None:
        with self._reaching_the_store(writes=False):
            return self._stored(key)

    def get_many(self, keys: Iterable[str]) -> dict[str, JournalEntry]:
        raise NotImplementedError

    def entries(self, *_: Any, **__: Any) -> Iterator[JournalEntry]:
        raise NotImplementedError

    def forget(self, key: str) -> bool:
        raise NotImplementedError

    def purge(self, *, older_than: Any) -> int:
        raise NotImplementedError

    def close(self) -> None:
        raise NotImplementedError


class Submits(SubmitLimit):
    """Counts how many more may come in; nobody blocks the only thread."""

    def __init__(self) -> None:
        super().__init__()
        self.free = MOST_SUBMITS

    def release(self) -> None:
        self.free += 1


@dataclass
class Process:
    """Makes calls with a journal, and performs what they ask for."""

    world: World
    queue: bool
    insists: bool = False
    name: str = field(init=False)
    submits: Submits = field(init=False)

    def __post_init__(self) -> None:
        self.name = f"process {next(self.world.numbers)}"
        self.submits = Submits()

    @property
    def is_dead(self) -> bool:
        return self.name in self.world.dead

    def call(self, key: str) -> Flow[Finished]:
        exchanges = Exchanges(
            Account(),
            self.world.clock,
            retry_unknown_outcome=self.insists,
            through_queue=self.queue,
        )
        return JournaledCall(
            exchanges,
            model=key,
            body=b"{}",
            journal=MemoryJournal(self.world, self.name),
            key=key,
            fingerprint=key,
            submits=self.submits if self.queue else None,
        ).answer()

    def perform(self, command: Command) -> tuple[float, Outcome]:
        """Give the seconds that a command takes, and what comes of it."""
        match command:
            case Sleep(seconds):
                return seconds, None
            case Request():
                return self.world.chance.choice([0.05, 0.2, 3.0]), self.world.answer(command)
            case UseJournal(journal, method, arguments, options):
                try:
                    return 0.001, getattr(journal, method)(*arguments, **options)
                except StoreError as error:
                    return 0.001, JournalFailure(error)
        return 0.0, None


@dataclass
class Running:
    """A call that is under way."""

    process: Process
    key: str
    flow: Flow[Finished]


@dataclass
class Story:
    """Calls of several processes at once, some of which are dropped and begun anew."""

    world: World
    processes: list[Process]
    keys: list[str]
    drops: int
    results: dict[str, list[Any]] = field(default_factory=dict)
    """The answers' texts, and the errors, of each key."""
    _events: list[Any] = field(default_factory=list)
    _order: Iterator[int] = field(default_factory=itertools.count)

    def live_through(self) -> None:
        """Let each process call each key some times; then all is mended."""
        calls = [(process, key) for process in self.processes for key in self.keys]
        self.run(calls * 3)
        self.world.faults, self.world.broken = 0.0, 0.0
        self.world.read_only_from, self.world.job_ttl = inf, 3600.0
        self.drops = 0

    def ask_last(self, key: str, *, insists: bool = False) -> Any:
        """Ask once more, and again where somebody else's claim was waited for in vain."""
        process = replace(self.processes[0], insists=insists)
        for _ in range(3):
            self.run([(process, key)])
            if not isinstance(self.results[key][-1], SegmindTimeoutError):
                break
        return self.results[key][-1]

    def run(self, calls: list[tuple[Process, str]]) -> None:
        """Run until each call has come to something."""
        for process, key in calls:
            self._begin(process, key)
        for _ in range(20_000):
            if not self._events:
                return
            self.world.now, _, running, command, outcome = heapq.heappop(self._events)
            if not self._is_dropped(running):
                self._step(running, command, outcome)
        raise AssertionError("it does not come to an end")

    def _begin(self, process: Process, key: str) -> None:
        self._push(0.0, Running(process, key, process.call(key)))

    def _push(
        self, delay: float, running: Running, command: Any = None, outcome: Any = None
    ) -> None:
        event = self.world.now + delay, next(self._order), running, command, outcome
        heapq.heappush(self._events, event)

    def _step(self, running: Running, command: Command | None, outcome: Outcome) -> None:
        try:
            command = command or running.flow.send(outcome)
        except StopIteration as stop:
            text = stop.value.completion["choices"][0]["message"]["content"]
            self.results.setdefault(running.key, []).append(text)
        except SegmindError as error:
            self.results.setdefault(running.key, []).append(error)
        else:
            if isinstance(command, EnterSubmit):
                self._enter(running, command)
            elif not self._is_dropped(running):
                delay, outcome = running.process.perform(command)
                self._push(delay, running, None, outcome)

    def _enter(self, running: Running, command: EnterSubmit) -> None:
        """Go on at once where there is room, as whoever has just been let in does."""
        if not running.process.submits.free:
            self._push(0.05, running, command)
            return
        running.process.submits.free -= 1
        self._step(running, None, None)

    def _is_dropped(self, running: Running) -> bool:
        """Drop a call now and then, and begin it anew: it is cancelled, or its process killed."""
        process = running.process
        if not process.is_dead:
            if not self.drops or not self.world.happens(0.05):
                return False
            self.drops -= 1
            if self.world.happens(0.5):
                self.world.dead.add(process.name)
        running.flow.close()
        self._begin(replace(process) if process.is_dead else process, running.key)
        return True


def shares() -> st.SearchStrategy[float]:
    return st.sampled_from([0.0, 0.1, 0.5])


@st.composite
def stories(draw: st.DrawFn) -> Story:
    """Give calls of few keys by several processes, and how much is to go wrong."""
    chance = random.Random(draw(st.integers(0, 2**32)))
    world = World(
        chance,
        faults=draw(shares()),
        broken=draw(shares()),
        read_only_from=draw(st.sampled_from([inf, 0.1, 1.0, 5.0])),
        job_ttl=draw(st.sampled_from([0.5, 5.0, 3600.0])),
    )
    queue = draw(st.booleans())
    processes = [Process(world, queue) for _ in range(draw(st.integers(1, 3)))]
    keys = ["a", "b", "c"][: draw(st.integers(1, 3))]
    return Story(world, processes, keys, drops=draw(st.integers(0, 8)))


def is_forgotten(world: World, entry: JournalEntry) -> bool:
    """Tell whether Segmind no longer has the answer, or will not when it is asked."""
    _, done_at = world.jobs[entry.request_id or ""]
    return world.now > done_at + world.job_ttl - 10


@given(stories())
def test_nobody_pays_twice_and_what_was_paid_for_is_delivered_or_named(story: Story) -> None:
    story.live_through()
    for key in story.keys:
        entry = story.world.entries.get(key)
        last = story.ask_last(key)
        answers = [result for result in story.results[key] if isinstance(result, str)]
        assert set(answers) <= {f"answer 1 to {key}"}
        assert story.world.bills[key] <= 1
        assert answers or isinstance(last, (SegmindOutcomeUnknownError, SegmindResponseError))
        if entry is not None and entry.state == "submitted":
            assert last == f"answer 1 to {key}" or is_forgotten(story.world, entry)
        if key in story.world.kept:
            assert last == f"answer 1 to {key}"


@given(stories())
def test_whoever_would_rather_pay_twice_gets_every_answer(story: Story) -> None:
    story.live_through()
    for key in story.keys:
        last = story.ask_last(key, insists=True)
        assert last == f"answer {story.world.bills[key]} to {key}" or isinstance(
            last, SegmindResponseError
        )


@given(stories())
def test_every_submit_leaves_its_place_to_the_next(story: Story) -> None:
    story.live_through()
    assert all(process.submits.free == MOST_SUBMITS for process in story.processes)
