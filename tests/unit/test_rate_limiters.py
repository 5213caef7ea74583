"""The rate limiter, over a clock that only moves when somebody sleeps."""

from __future__ import annotations

import asyncio
import copy
import logging
import pickle
from collections import Counter
from contextlib import suppress
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st
from langchain_core.rate_limiters import BaseRateLimiter

from langchain_segmind import ChatSegmindLlama, SegmindError, SegmindRateLimiter
from langchain_segmind._protocol.account import Account
from langchain_segmind._protocol.calls import Exchanges
from langchain_segmind._protocol.pacing import RequestWindow
from langchain_segmind._protocol.retry import RateLimit
from langchain_segmind.rate_limiters import WINDOW
from tests.flows import UNIX, Driver, reply, scripted
from tests.servers import ask, faults, http, model

if TYPE_CHECKING:
    from collections.abc import Callable

COLOURS = ("sync", "async")


class Clock:
    """Seconds that pass by sleeping."""

    def __init__(self) -> None:
        self.now = 100.0
        self.slept: list[float] = []
        self.meanwhile: Callable[[], object] = lambda: None

    def limiter(self, requests_per_minute: int) -> SegmindRateLimiter:
        return SegmindRateLimiter(
            requests_per_minute=requests_per_minute,
            clock=lambda: self.now,
            sleep=self.sleep,
            async_sleep=self.async_sleep,
        )

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.meanwhile()
        self.now += seconds

    async def async_sleep(self, seconds: float) -> None:
        self.sleep(seconds)


def acquire(limiter: SegmindRateLimiter, colour: str, *, blocking: bool = True) -> bool:
    if colour == "sync":
        return limiter.acquire(blocking=blocking)
    return asyncio.run(limiter.aacquire(blocking=blocking))


def joined(llm: ChatSegmindLlama) -> SegmindRateLimiter:
    """Give the limiter that a model's exchanges ask."""
    limiter = llm._limiter()
    assert isinstance(limiter, SegmindRateLimiter)
    return limiter


@pytest.mark.parametrize("colour", COLOURS)
class TestWaiting:
    def test_the_plan_goes_at_once_and_the_next_when_its_minute_is_over(self, colour: str) -> None:
        clock = Clock()
        limiter = clock.limiter(5)
        assert all(acquire(limiter, colour) for _ in range(5))
        assert clock.slept == []
        acquire(limiter, colour)
        assert clock.slept == [WINDOW]

    def test_one_that_may_not_block_is_told(self, colour: str) -> None:
        clock = Clock()
        limiter = clock.limiter(1)
        assert acquire(limiter, colour, blocking=False)
        assert not acquire(limiter, colour, blocking=False)
        clock.now += WINDOW
        assert acquire(limiter, colour, blocking=False)
        assert clock.slept == []

    def test_everyone_waits_for_the_reset_of_a_429(self, colour: str) -> None:
        """It may come while one sleeps; from the reset on, the whole plan is there again."""
        clock, account = Clock(), Account()
        limiter = clock.limiter(2).joined_to(account)
        acquire(limiter, colour)
        acquire(limiter, colour)
        clock.meanwhile = lambda: account.requests.pause(300.0)
        acquire(limiter, colour)
        assert clock.now == 300.0
        clock.slept.clear()
        acquire(limiter, colour)
        assert clock.slept == []

    def test_a_limiter_can_be_told_of_a_429_that_another_process_saw(self, colour: str) -> None:
        clock = Clock()
        limiter = clock.limiter(2)
        limiter.pause(40.0)
        assert not acquire(limiter, colour, blocking=False)
        acquire(limiter, colour)
        assert clock.slept == [40.0]

    def test_a_wait_that_is_cut_short_gives_its_place_back(self, colour: str) -> None:
        clock = Clock()
        limiter = clock.limiter(1)
        acquire(limiter, colour)
        clock.meanwhile = lambda: 1 / 0
        for _ in range(3):
            with pytest.raises(ZeroDivisionError):
                acquire(limiter, colour)
        assert clock.slept == [WINDOW] * 3

    def test_models_of_one_key_and_host_share_a_minute(self, colour: str) -> None:
        """Each with a limiter of its own; another key, or another host, is not concerned."""
        clock = Clock()

        def model(key: str, host: str) -> SegmindRateLimiter:
            llm = ChatSegmindLlama(api_key=key, base_url=host, rate_limiter=clock.limiter(1))
            return joined(llm)

        host = f"https://{colour}.example"
        assert acquire(model("SG_1", host), colour, blocking=False)
        assert not acquire(model("SG_1", f"{host}/v1/"), colour, blocking=False)
        assert acquire(model("SG_2", host), colour, blocking=False)
        assert acquire(model("SG_1", f"{host}:8443"), colour, blocking=False)


async def test_waiting_does_not_block_the_loop() -> None:
    """Another task runs while one waits for its place."""
    limiter = SegmindRateLimiter(
        requests_per_minute=1, async_sleep=lambda _: asyncio.sleep(0.01), clock=lambda: clock.now
    )
    clock = Clock()
    await limiter.aacquire()
    waiting = asyncio.create_task(limiter.aacquire())
    await asyncio.sleep(0)
    assert not waiting.done()
    clock.now += WINDOW
    assert await waiting


async def test_a_cancelled_task_gives_its_place_back() -> None:
    clock = Clock()
    limiter = SegmindRateLimiter(requests_per_minute=1, clock=lambda: clock.now)
    await limiter.aacquire()
    waiting = asyncio.create_task(limiter.aacquire())
    await asyncio.sleep(0)
    waiting.cancel()
    await asyncio.gather(waiting, return_exceptions=True)
    clock.now += WINDOW
    assert await limiter.aacquire(blocking=False)


def test_a_large_plan_does_not_go_all_at_once() -> None:
    """A thousand connections would open together, and their requests reach the next minute."""
    window = RequestWindow()
    slots = [window.reserve(now=0.0, limit=1000, seconds=WINDOW) for _ in range(1500)]
    assert slots == [n // 50 + (WINDOW - 20 if n >= 1000 else 0.0) for n in range(1500)]


@pytest.mark.parametrize("seconds", [60.0, WINDOW])
@given(st.lists(st.floats(0, 30), min_size=1, max_size=60), st.integers(1, 5))
def test_no_window_of_time_gets_more_than_the_limit(
    seconds: float, gaps: list[float], limit: int
) -> None:
    """Wherever the server's own minute begins; the limiter's is not shorter."""
    window, now, slots = RequestWindow(), 0.0, []
    for gap in gaps:
        now += gap
        slots.append(window.reserve(now=now, limit=limit, seconds=seconds))
        assert slots[-1] >= now
    for start in slots:
        assert sum(start <= slot < start + 60.0 for slot in slots) <= limit


@given(st.lists(st.tuples(st.integers(0, 150), st.sampled_from(["reserve", "release", "wait"]))))
def test_who_goes_earlier_for_one_that_gave_up_passes_no_limit(
    steps: list[tuple[int, str]],
) -> None:
    """A number says how many reserve, who gives up, or how many of ten seconds pass."""
    window, now, slots = RequestWindow(), 0.0, []
    for number, step in steps:
        if step == "reserve":
            slots += [window.reserve(now=now, limit=60, seconds=WINDOW) for _ in range(number)]
        elif step == "wait":
            now += number / 10
        elif number < len(slots) and slots[number] > now:
            window.release(slots.pop(number))
        slots = [window.advance(slot, now=now, limit=60, seconds=WINDOW) for slot in slots]
    for start in slots:
        assert sum(start <= slot < start + WINDOW for slot in slots) <= 60
        assert sum(start <= slot < start + 1.0 for slot in slots) <= 50


class TestCopies:
    def test_copies_share_and_pickles_start_anew(self) -> None:
        limiter = SegmindRateLimiter(requests_per_minute=1)
        assert limiter.acquire(blocking=False)
        assert not copy.deepcopy(limiter).acquire(blocking=False)
        other = pickle.loads(pickle.dumps(limiter))
        assert other.requests_per_minute == 1
        assert other.acquire(blocking=False)

    def test_a_model_with_one_can_be_copied_and_pickled(self) -> None:
        """In this process a pickled model joins its account again."""
        llm = ChatSegmindLlama(
            api_key="SG_pickled", rate_limiter=SegmindRateLimiter(requests_per_minute=1)
        )
        assert joined(llm).acquire(blocking=False)
        for other in (copy.deepcopy(llm), pickle.loads(pickle.dumps(llm)), llm.model_copy()):
            assert not joined(other).acquire(blocking=False)

    def test_a_limiter_assigned_later_joins_with_the_first_call(self) -> None:
        llm = ChatSegmindLlama(api_key="SG_assigned")
        llm.rate_limiter = SegmindRateLimiter(requests_per_minute=1)
        account = llm._connected().account
        assert joined(llm).acquire(blocking=False)
        assert not account.requests.reserve_now(now=0.0, limit=1, seconds=1e9)

    def test_nonsense_is_refused(self) -> None:
        with pytest.raises(ValueError, match="at least 1"):
            SegmindRateLimiter(requests_per_minute=0)


class TestServersWord:
    """Answers of any status may name what is left, and until when."""

    def test_what_would_be_refused_waits_for_the_reset(self) -> None:
        """A plan given too high: the server has one left, and has not yet seen the second."""
        clock, account = Clock(), Account()
        limiter = clock.limiter(1000).joined_to(account)
        limiter.acquire()
        account.requests.observe(RateLimit(1, 30.0), asked_at=clock.now, now=clock.now)
        assert limiter.acquire(blocking=False)
        assert not limiter.acquire(blocking=False)
        limiter.acquire()
        assert clock.now == 130.0

    def test_requests_under_way_are_counted_in(self) -> None:
        """Three were sent after the one that is answered: of the three left, none is."""
        clock, account = Clock(), Account()
        limiter = clock.limiter(1000).joined_to(account)
        limiter.acquire()
        asked_at, clock.now = clock.now, clock.now + 0.1
        for _ in range(3):
            limiter.acquire()
        account.requests.observe(RateLimit(3, 30.0), asked_at=asked_at, now=clock.now)
        assert not limiter.acquire(blocking=False)

    def test_an_answer_that_was_overtaken_gives_nothing_back(self) -> None:
        clock, account = Clock(), Account()
        limiter = clock.limiter(1000).joined_to(account)
        account.requests.observe(RateLimit(0, 30.0), asked_at=clock.now, now=clock.now)
        account.requests.observe(RateLimit(5, 30.2), asked_at=clock.now, now=clock.now)
        assert not limiter.acquire(blocking=False)

    def test_what_is_left_may_be_named_when_the_answer_is_given(self) -> None:
        """All six are counted by then; what the last of them says is not less than that."""
        clock, account = Clock(), Account()
        limiter = clock.limiter(10).joined_to(account)
        for _ in range(6):
            clock.now += 0.1
            limiter.acquire()
        account.requests.observe(RateLimit(4, 60.0), asked_at=100.1, now=clock.now)
        assert not limiter.acquire(blocking=False)
        account.requests.observe(RateLimit(4, 60.0), asked_at=clock.now, now=clock.now)
        account.requests.observe(RateLimit(4, 60.0), asked_at=100.2, now=clock.now)
        assert [limiter.acquire(blocking=False) for _ in range(5)] == [True] * 4 + [False]

    def test_a_window_of_the_server_that_begins_early_does_not_pass_the_plan(self) -> None:
        """It had begun with the first of ten, and the others are no minute old."""
        clock, account = Clock(), Account()
        limiter = clock.limiter(10).joined_to(account)
        limiter.acquire()
        clock.now += 50.0
        for _ in range(9):
            limiter.acquire()
        clock.now += 15.0
        assert limiter.acquire(blocking=False)
        account.requests.observe(RateLimit(9, 60.0), asked_at=clock.now, now=clock.now)
        assert not limiter.acquire(blocking=False)

    def test_a_new_window_begins_where_the_last_has_ended(self) -> None:
        """However short they are: what is left of one says nothing about the next."""
        clock, account = Clock(), Account()
        limiter = clock.limiter(1000).joined_to(account)
        account.requests.observe(RateLimit(0, 0.3), asked_at=clock.now, now=clock.now)
        clock.now += 0.4
        account.requests.observe(RateLimit(1, 0.3), asked_at=clock.now, now=clock.now)
        assert [limiter.acquire(blocking=False) for _ in range(2)] == [True, False]

    def test_a_plan_given_too_low_grows_by_halves_of_what_is_left(self) -> None:
        """Others may use the key: half of it, until the next answer says what is left then."""
        clock, account = Clock(), Account()
        limiter = clock.limiter(1).joined_to(account)
        limiter.acquire()
        account.requests.observe(RateLimit(8, 30.0), asked_at=clock.now, now=clock.now)
        assert [limiter.acquire(blocking=False) for _ in range(5)] == [True] * 4 + [False]
        account.requests.observe(RateLimit(4, 30.0), asked_at=clock.now, now=clock.now)
        assert [limiter.acquire(blocking=False) for _ in range(3)] == [True] * 2 + [False]

    def test_who_waits_already_hears_of_it(self) -> None:
        clock, account = Clock(), Account()
        limiter = clock.limiter(1).joined_to(account)
        limiter.acquire()
        answer = RateLimit(8, 30.0)
        clock.meanwhile = lambda: account.requests.observe(
            answer, asked_at=clock.now, now=clock.now
        )
        limiter.acquire()
        assert clock.now < 105.0

    @pytest.mark.parametrize(("allowed", "seconds"), [(60, 66), (600, 76)])
    def test_who_waited_for_a_plan_given_too_low_goes_in_the_next_minute(
        self, allowed: int, seconds: int
    ) -> None:
        """Ten were told: the last would have waited for a minute for each ten of all."""
        clock, account = Clock(), Account()
        limiter = clock.limiter(10).joined_to(account)
        waiting, went = [limiter._waits() for _ in range(allowed)], Counter[float]()
        while waiting:
            left = [waits for waits in waiting if next(waits, None) is not None]
            went[clock.now], waiting = len(waiting) - len(left), left
            if clock.now < 160.0:
                answer = RateLimit(allowed - went.total(), 160.0 - clock.now)
                account.requests.observe(answer, asked_at=clock.now, now=clock.now)
            clock.now += 1.0
        assert max(went) - min(went) <= seconds
        assert max(went.values()) <= 50

    def test_after_the_reset_the_plan_counts_again(self) -> None:
        clock, account = Clock(), Account()
        limiter = clock.limiter(1).joined_to(account)
        account.requests.observe(RateLimit(0, 30.0), asked_at=clock.now, now=clock.now)
        clock.now += 31.0
        assert [limiter.acquire(blocking=False) for _ in range(2)] == [True, False]

    @pytest.mark.parametrize("status", [200, 400, 503])
    def test_answers_of_any_status_are_heard(self, status: int) -> None:
        driver, account = Driver(scripted(reply({}, status, **self._named(0)))), Account()
        flow = Exchanges(account, driver.clock, max_retries=0).complete("x", b"")
        with suppress(SegmindError):
            driver.run(flow)
        assert account.requests.reserve(now=driver.now, limit=5, seconds=60.0) == 30.0

    def _named(self, remaining: int) -> dict[str, str]:
        reset = f"{UNIX + 30}"
        return {"x_rate_limit_remaining": f"{remaining}", "x_rate_limit_reset_at_utc": reset}

    def test_a_wait_for_the_plan_is_told(self, caplog: pytest.LogCaptureFixture) -> None:
        limiter = Clock().limiter(1)
        with caplog.at_level(logging.INFO, "langchain_segmind"):
            limiter.acquire()
            limiter.acquire()
        assert caplog.messages == ["The plan's limit is reached, waiting 62.0 s"]


class TestLearning:
    @pytest.mark.parametrize("form", ["unix", "iso"])
    def test_a_429_pauses_the_account_until_its_reset(self, form: str) -> None:
        reset = f"{UNIX + 40}" if form == "unix" else "2023-11-14T22:14:00Z"
        driver, account = self._refused(x_rate_limit_reset_at_utc=reset)
        assert account.requests.reserve(now=driver.now, limit=5, seconds=60.0) == 40.0

    def test_a_reset_far_away_pauses_for_a_while_only(self) -> None:
        driver, account = self._refused(retry_after="99999")
        assert account.requests.reserve(now=driver.now, limit=5, seconds=60.0) == 120.0

    def test_a_429_without_a_date_pauses_nobody(self) -> None:
        driver, account = self._refused()
        assert account.requests.reserve(now=driver.now, limit=5, seconds=60.0) == driver.now

    def _refused(self, **headers: str) -> tuple[Driver, Account]:
        driver, account = Driver(scripted(reply({"error": "slow"}, 429, **headers))), Account()
        flow = Exchanges(account, driver.clock, max_retries=0).complete("x", b"")
        with pytest.raises(Exception, match="429"):
            driver.run(flow)
        return driver, account


class Shared(BaseRateLimiter):
    """A limiter of the user's, which several processes could share."""

    def __init__(self) -> None:
        self.pauses: list[float] = []

    def acquire(self, *, blocking: bool = True) -> bool:
        return True

    async def aacquire(self, *, blocking: bool = True) -> bool:
        return True

    def pause(self, seconds: float) -> None:
        self.pauses.append(seconds)
        raise ConnectionError("The others cannot be reached.")


@pytest.mark.parametrize("colour", COLOURS)
def test_a_limiter_of_the_users_is_told_of_each_429(colour: str) -> None:
    """Before the retry, which goes on whatever it does with the news; and of no other refusal."""
    refused = http({"error": "slow"}, 429, {"retry-after": "0.25"})
    broken = http({"error": "later"}, 503, {"retry-after": "0.1"})
    with faults(refused, broken, http()) as server:
        limiter = Shared()
        llm = model(server, rate_limiter=limiter)
        assert ask(llm, colour).text == "Hello!"
    assert limiter.pauses == [0.25]
