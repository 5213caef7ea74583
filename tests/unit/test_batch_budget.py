"""A budget holds whatever answers cost, as long as prices are by the token."""

from __future__ import annotations

import asyncio
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from langchain_segmind._batch.budget import (
    LONGEST_ANSWER,
    UNSEEN_ANSWER,
    Budget,
    BudgetReachedError,
    Size,
)

PRICES = st.floats(1e-7, 1e-4)


async def spend(budget: Budget, prompt_price: float, answer_price: float, seed: int) -> int:
    """Answer calls of all sizes, some at a time, until the budget refuses one."""
    chance = random.Random(seed)

    async def call() -> None:
        most = chance.choice((None, chance.randrange(1, 300)))
        size = await budget.reserve(Size(chance.randrange(5, 500), most))
        try:
            await asyncio.sleep(0)
            used = chance.randrange(size.prompt // 2, size.prompt + 1)
            told = chance.randrange(1, (size.completion or 0) + 1)
            usage = {"prompt_tokens": used, "completion_tokens": told}
            cost = prompt_price * used + answer_price * told
            budget.learn(size, usage, cost)
        except BaseException:
            budget.settle(size, None)
            raise
        budget.settle(size, cost)

    calls = 0
    while calls < 2000:
        outcomes = await asyncio.gather(*(call() for _ in range(16)), return_exceptions=True)
        refused = [outcome for outcome in outcomes if outcome is not None]
        calls += 16 - len(refused)
        if refused:
            assert {type(outcome) for outcome in refused} == {BudgetReachedError}
            break
    return calls


@given(PRICES, PRICES, st.integers(0, 1000))
def test_a_budget_is_never_passed(prompt: float, answer: float, seed: int) -> None:
    """It covers at least the assumed first call, and is used but for the dearest call or so."""
    limit = max(800 * (prompt + answer) * 20, 0.002)
    budget = Budget(limit)
    asyncio.run(spend(budget, prompt, answer, seed))
    assert budget.spent <= limit


def test_answers_of_a_cheap_model_say_nothing_of_a_dear_one() -> None:
    """A file may name a model on each line, and the dear ones may come last."""

    async def spend() -> float:
        budget, cheap, dear = Budget(0.01), Size(100, 100, "8b"), Size(100, 100, "405b")
        usage = {"prompt_tokens": 100, "completion_tokens": 100}
        for size, cost in [*[(cheap, 1e-6)] * 20, *[(dear, 9e-4)] * 20]:
            calls = [asyncio.create_task(budget.reserve(size)) for _ in range(16)]
            await asyncio.wait(calls, timeout=0)
            for call in [each for each in calls if each.done() and not each.exception()]:
                budget.learn(call.result(), usage, cost)
                budget.settle(call.result(), cost)
            for call in calls:
                call.cancel()
            await asyncio.wait(calls)
        return budget.spent

    assert 0.0075 < asyncio.run(spend()) <= 0.01


def test_what_is_lost_stays_counted_at_its_dearest() -> None:
    async def lose() -> None:
        budget = Budget(0.0131)
        size = await budget.reserve(Size(10, 100))
        budget.learn(size, {"prompt_tokens": 10, "completion_tokens": 10}, 0.001)
        budget.settle(size, 0.001)
        for _ in range(2):  # 10 and 100 tokens, at 0.0001 each at most, are 0.011.
            budget.settle(await budget.reserve(size), None)

    with pytest.raises(
        BudgetReachedError, match=r"0\.001 of 0\.0131 credits are spent, 0\.011 more"
    ):
        asyncio.run(lose())


async def test_what_was_sent_again_is_counted_twice() -> None:
    """For an answer that came, and at its dearest for the one that was lost before it."""
    budget = Budget(0.012)
    size = await budget.reserve(Size(10, 100))
    budget.learn(size, {"prompt_tokens": 10, "completion_tokens": 10}, 0.001)
    budget.settle(size, 0.001, lost=1)  # 10 and 100 tokens, at 0.0001 each at most, are 0.011.
    with pytest.raises(BudgetReachedError, match=r"0\.001 of 0\.012 credits .*, 0\.011 more"):
        await budget.reserve(size)


@pytest.mark.parametrize(("limit", "most"), [(5.0, LONGEST_ANSWER), (0.005, UNSEEN_ANSWER)])
def test_an_answer_is_bounded_where_its_call_does_not_say(limit: float, most: int) -> None:
    assert asyncio.run(Budget(limit).reserve(Size(10, None))).completion == most


def test_what_the_account_is_to_keep_is_kept() -> None:
    async def reserve() -> None:
        await Budget(None, min_credits=1.0, balance=lambda: 1.00001).reserve(Size(100, 100))

    with pytest.raises(BudgetReachedError, match="are to stay"):
        asyncio.run(reserve())


async def test_a_model_that_ignores_max_tokens_passes_the_budget_but_once() -> None:
    """Nobody can know before its first answer; from then on each call is counted as long."""
    budget, size = Budget(0.001), Size(10, 100)
    reserved = await budget.reserve(size)
    budget.learn(reserved, {"prompt_tokens": 10, "completion_tokens": 400}, 0.0006)
    budget.settle(reserved, 0.0006)
    with pytest.raises(BudgetReachedError, match=r"one more call may cost 0\.0012\."):
        await budget.reserve(size)
