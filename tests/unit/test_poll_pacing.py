"""When jobs are asked after: a hundred of them, simulated over the very flows that run."""

from __future__ import annotations

import random
from contextlib import ExitStack
from typing import TYPE_CHECKING

import pytest

from langchain_segmind._protocol.pacing import PollPacing
from langchain_segmind._protocol.retry import RateLimit
from tests.flows import UNIX
from tests.simulation import Limit, Simulation

if TYPE_CHECKING:
    from tests.simulation import Refuse

SEEDS = range(1, 6)


def refuse_briefly(
    times: int, every: int, seconds: float | None = 0.05, *, first: int = 0
) -> Refuse:
    """Refuse so many polls, one in `every`, for so long, if that is named."""
    seen = refused = 0

    def refuse(now: float) -> dict[str, str] | None:
        nonlocal seen, refused
        seen += 1
        if refused == times or seen < first or seen % every:
            return None
        refused += 1
        if seconds is None:
            return {}
        return {"x_rate_limit_reset_at_utc": f"{UNIX + now + seconds:.3f}"}

    return refuse


def refuse_share(share: float, seed: int, *, named: bool) -> Refuse:
    """Refuse a share of the polls, for 0.05 s if that is named."""
    chance = random.Random(seed)

    def refuse(now: float) -> dict[str, str] | None:
        if chance.random() >= share:
            return None
        return {"x_rate_limit_reset_at_utc": f"{UNIX + now + 0.05:.3f}"} if named else {}

    return refuse


@pytest.mark.parametrize("seed", SEEDS)
class TestTheLastJob:
    @pytest.mark.parametrize("every", [1, 20, 45])
    @pytest.mark.parametrize("jobs", [1, 100])
    def test_waits_little_for_six_short_429s(self, jobs: int, every: int, seed: int) -> None:
        """At the start, or spread over the run."""
        clean = Simulation(jobs=jobs, seed=seed).run()
        refused = Simulation(refuse_briefly(6, every), jobs=jobs, seed=seed).run()
        assert refused.now <= 2.5 * max(clean.now, 1.0)

    @pytest.mark.parametrize("jobs", [4, 100])
    def test_waits_little_for_six_whose_moment_is_past(self, jobs: int, seed: int) -> None:
        """As one named in whole seconds is, or any for a clock that is ahead."""
        clean = Simulation(jobs=jobs, seed=seed).run()
        refused = Simulation(refuse_briefly(6, 1, -0.5), jobs=jobs, seed=seed).run()
        assert refused.now <= 2.5 * max(clean.now, 1.0)

    @pytest.mark.parametrize("first", [1, 30, 60, 90, 136])
    def test_waits_little_for_six_that_name_no_moment(self, first: int, seed: int) -> None:
        clean = Simulation(seed=seed).run()
        refused = Simulation(refuse_briefly(6, 1, None, first=first), seed=seed).run()
        assert refused.refusals == 6
        assert refused.now <= 2.5 * clean.now

    @pytest.mark.parametrize("jobs", [1, 2, 4, 20])
    def test_waits_little_for_six_at_first_that_name_none(self, jobs: int, seed: int) -> None:
        clean = Simulation(jobs=jobs, seed=seed).run()
        refused = Simulation(refuse_briefly(6, 1, None), jobs=jobs, seed=seed).run()
        assert refused.now <= 2.5 * max(clean.now, 1.0)

    @pytest.mark.parametrize("reset", ["named", "unnamed"])
    def test_waits_little_where_three_in_a_hundred_are_refused(self, reset: str, seed: int) -> None:
        clean = Simulation(seed=seed).run()
        refuse = refuse_share(0.03, seed, named=reset == "named")
        refused = Simulation(refuse, seed=seed).run()
        assert refused.refusals > 0
        assert refused.now <= 4 * clean.now


@pytest.mark.parametrize("seed", SEEDS)
class TestALimit:
    @pytest.mark.parametrize(("limit", "longest"), [(50, 1.0), (500, 60.0), (1000, 60.0)])
    def test_is_found_with_few_refusals(self, limit: int, longest: float, seed: int) -> None:
        """For each ten that are let through, about one is refused."""
        run = Simulation(Limit(limit), longest=longest, seed=seed).run()
        assert run.refusals <= 0.15 * (run.polls - run.refusals)

    @pytest.mark.parametrize(("limit", "longest"), [(50, 1.0), (500, 60.0), (1000, 60.0)])
    def test_is_used_to_the_full(self, limit: int, longest: float, seed: int) -> None:
        """One poll a job is the least; the jobs end with the window in which those are done."""
        run = Simulation(Limit(limit), longest=longest, seed=seed).run()
        assert run.now <= max(longest, 60.0 * (100 // limit)) + 5.0

    @pytest.mark.parametrize(("limit", "longest"), [(50, 1.0), (500, 60.0), (1000, 60.0)])
    def test_that_names_only_moments_past_is_kept_to(
        self, limit: int, longest: float, seed: int
    ) -> None:
        """As for a clock that is an hour ahead: it is asked ever less often, one at a time."""
        run = Simulation(Limit(limit, ahead=3600.0), longest=longest, seed=seed).run()
        assert run.refusals <= 60
        assert run.now <= max(longest, 60.0 * (100 // limit)) + 20.0

    def test_whose_rest_is_named_refuses_but_once(self, seed: int) -> None:
        """The polls under way when the first is refused; from then on polls are known to count."""
        run = Simulation(Limit(50, names_rest=True), longest=1.0, seed=seed).run()
        unnamed = Simulation(Limit(50), longest=1.0, seed=seed).run()
        assert run.refusals <= 15
        assert run.refusals < unnamed.refusals


class TestPacing:
    @pytest.mark.parametrize("interval", [0.1, 0.2, 1.0])
    def test_a_dozen_jobs_go_in_step_and_hardly_wait_for_it(self, interval: float) -> None:
        """Who asks more often goes in shorter steps: none waits for an interval and a half."""
        polls, moments = PollPacing(), [each * interval / 100 for each in range(100)]
        with ExitStack() as jobs:
            for _ in range(12):
                jobs.enter_context(polls.count_job())
            waits = [polls.seconds_to_next_poll(9, interval, now=at, jitter=1.0) for at in moments]
        assert max(waits) < 1.5 * interval
        ends = {round(at + wait, 6) for at, wait in zip(moments, waits, strict=True)}
        assert len(ends) <= 11

    def test_a_refusal_stops_everyone_until_its_end_and_no_longer(self) -> None:
        polls = PollPacing()
        polls.record_refusal(7.0, now=0.0, jitter=0.5)
        assert polls.seconds_until_allowed(now=1.0) == 6.0
        assert polls.seconds_until_allowed(now=7.0) == 0.0

    def test_those_who_waited_do_not_come_back_at_once(self) -> None:
        polls = PollPacing()
        polls.record_refusal(7.0, now=0.0, jitter=0.5)
        waits = [polls.seconds_until_allowed(now=1.0) for _ in range(150)]
        assert len(set(waits)) == 150
        assert 6.9 < waits[-1] < 8.5

    def test_one_refusal_without_a_date_stops_nobody_and_several_in_a_row_do(self) -> None:
        polls = PollPacing()
        polls.record_refusal(None, now=0.0, jitter=0.5)
        assert polls.seconds_until_allowed(now=0.0) == 0.0
        polls.record_refusal(None, now=0.0, jitter=1.0)
        assert polls.seconds_until_allowed(now=0.0) == pytest.approx(0.125)
        polls.record_success()
        polls.record_refusal(None, now=9.0, jitter=0.5)
        assert polls.seconds_until_allowed(now=9.0) == 0.0

    def test_pauses_grow_while_refusals_go_on(self) -> None:
        polls = PollPacing()
        now, waits = 0.0, []
        for _ in range(16):
            polls.record_refusal(None, now=now, jitter=1.0)
            waits.append(polls.seconds_until_allowed(now=now))
            now += waits[-1]
        assert sum(waits[:6]) < 1.5
        assert waits[:14] == sorted(waits[:14])
        assert waits[-1] == pytest.approx(8.0)

    def test_while_they_are_refused_one_poll_goes_at_a_time(self) -> None:
        polls = PollPacing()
        for _ in range(2):
            polls.record_refusal(None, now=0.0, jitter=0.5)
        assert polls.seconds_until_allowed(now=1.0) == 0.0
        assert polls.seconds_until_allowed(now=1.0) == pytest.approx(0.1)
        polls.record_success()
        assert [polls.seconds_until_allowed(now=1.1) for _ in range(2)] == [0.0, 0.0]

    def test_what_is_left_matters_once_polls_are_known_to_count(self) -> None:
        """A plan whose requests are used up says nothing about polls that do not count."""
        polls = PollPacing()
        polls.observe(RateLimit(0, 30.0), sent=0, now=0.0)
        assert polls.seconds_until_allowed(now=1.0) == 0.0
        polls.record_refusal(0.0, now=2.0, jitter=0.5)
        assert polls.seconds_until_allowed(now=3.0) == 27.0

    def test_polls_under_way_are_counted_in(self) -> None:
        """Two are left when the first is answered, and two more have gone since."""
        polls = PollPacing()
        polls.record_refusal(0.0, now=0.0, jitter=0.5)
        sent = [(polls.seconds_until_allowed(now=1.0), polls.sent)[1] for _ in range(3)]
        polls.observe(RateLimit(2, 30.0), sent=sent[0], now=2.0)
        assert polls.seconds_until_allowed(now=2.0) == 30.0
