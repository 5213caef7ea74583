"""Credits: what answers say, what is remembered of it, and what follows."""

from __future__ import annotations

import dataclasses
import gc
import warnings
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import pytest
from langchain_core.messages import AIMessage
from langchain_core.outputs import ChatGeneration, LLMResult
from pydantic import SecretStr

from langchain_segmind import (
    CreditBalance,
    Credits,
    SegmindAPIError,
    SegmindAuthenticationError,
    SegmindConnectionError,
    SegmindError,
    SegmindInsufficientCreditsError,
    SegmindLowCreditsWarning,
    SegmindModelNotFoundError,
    SegmindOutcomeUnknownError,
    SegmindResponseError,
    SegmindTimeoutError,
    get_credits_callback,
)
from langchain_segmind._protocol import account as accounts
from langchain_segmind._protocol.account import Account, Ledger, account_of
from langchain_segmind._protocol.calls import Exchanges
from langchain_segmind._protocol.types import Response, TransportFailure
from langchain_segmind.credits import CreditsCallbackHandler, format_credits
from tests.flows import Driver, reply, scripted

if TYPE_CHECKING:
    from langchain_segmind._protocol.types import Flow


class TestReading:
    @pytest.mark.parametrize(
        ("cost", "amount"),
        [
            *(("0.25", 0.25), ("1e-7", 1e-7), ("-3", -3), ("", None), ("n/a", None)),
            *(("nan", None), ("inf", None), ("1e308", None), ("-1e13", None), ("9" * 5000, None)),
        ],
    )
    def test_headers(self, cost: str, amount: float | None) -> None:
        assert Credits.from_headers({"x-cost": cost}) == Credits(remaining=None, cost=amount)

    @pytest.mark.parametrize("metrics", [None, "text", [], {"cost": True}, {"cost": [1]}])
    def test_metrics_that_say_nothing(self, metrics: object) -> None:
        assert Credits.from_metrics(metrics) == Credits()

    def test_metrics(self) -> None:
        metrics = {"cost": 0.25, "remaining_credits": "9.5"}
        assert Credits.from_metrics(metrics) == Credits(remaining=9.5, cost=0.25)

    @pytest.mark.parametrize(
        ("amount", "text"),
        [
            *((0.01014750000000001, "0.0101475"), (1e6, "1,000,000.00"), (5, "5.00")),
            *((0.0184921035, "0.0184921035"), (12.5, "12.50"), (-3.25, "-3.25"), (0, "0.00")),
            *((12_345_678.9, "12,345,678.90"), (1e-7, "0.0000001"), (-1e-11, "0.00")),
            (999_999.9999837999, "999,999.9999838"),
        ],
    )
    def test_money_reads_as_money(self, amount: float, text: str) -> None:
        assert format_credits(amount) == text

    def test_a_balance_adds_up_and_cannot_be_changed(self) -> None:
        balance = CreditBalance(credits=1.0, free_credits=0.5)
        assert balance.total == 1.5
        with pytest.raises(dataclasses.FrozenInstanceError):
            balance.credits = 2.0  # type: ignore[misc]


class TestBalanceFlow:
    def test_reads_and_states_it(self) -> None:
        driver, account = Driver(scripted(reply({"credits": 1.0, "free-credits": 0.5}))), Account()
        assert driver.run(self._flow(driver, account)) == CreditBalance(1.0, 0.5)
        assert driver.sent == ["GET /v1/get-user-credits"]
        assert account.ledger.balance == 1.5

    def test_a_missing_part_is_nothing(self) -> None:
        driver = Driver(scripted(reply({"credits": "2.5"})))
        assert driver.run(self._flow(driver, Account())) == CreditBalance(2.5, 0.0)

    @pytest.mark.parametrize(
        "fault",
        [
            reply({}, 500),
            reply({}, 429),
            reply(b"<h1>Gateway Time-out</h1>", 504),
            TransportFailure("lost", "reset"),
            TransportFailure("timeout", "no answer in time"),
            TransportFailure("unsent", "refused", sent=False),
        ],
    )
    def test_it_is_asked_again_whatever_broke(self, fault: Response | TransportFailure) -> None:
        driver = Driver(scripted(fault, fault, reply({"credits": 1, "free-credits": 0})))
        assert driver.run(self._flow(driver, Account())).total == 1.0

    def test_a_lost_answer_costs_nothing_and_says_so(self) -> None:
        driver = Driver(scripted(TransportFailure("lost", "reset")))
        told = "reset. Nothing was billed. Check the network"
        with pytest.raises(SegmindConnectionError, match=told) as caught:
            driver.run(self._flow(driver, Account()))
        assert not caught.value.outcome_unknown
        assert len(driver.requests) == 3

    def test_a_proxy_that_gives_up_costs_nothing_here(self) -> None:
        driver = Driver(scripted(reply(b"<h1>Gateway Time-out</h1>", 504)))
        with pytest.raises(SegmindAPIError) as caught:
            driver.run(self._flow(driver, Account()))
        assert not caught.value.outcome_unknown

    def test_no_record_says_so(self) -> None:
        driver = Driver(scripted(reply({"error": "No credits found for the user"}, 404)))
        with pytest.raises(SegmindInsufficientCreditsError, match="No credits found"):
            driver.run(self._flow(driver, Account()))

    def test_another_404_is_not_told_as_an_empty_account(self) -> None:
        driver = Driver(scripted(reply({"detail": "Not Found"}, 404)))
        with pytest.raises(SegmindModelNotFoundError, match="Check base_url"):
            driver.run(self._flow(driver, Account()))

    def test_a_wrong_key_says_so(self) -> None:
        driver = Driver(scripted(reply({"error": "Invalid API key"}, 401)))
        with pytest.raises(SegmindAuthenticationError):
            driver.run(self._flow(driver, Account()))

    @pytest.mark.parametrize("body", [b"", b"<html>", b"[]", b"{}", b'{"credits": "a lot"}'])
    def test_nonsense_is_no_balance(self, body: bytes) -> None:
        driver, account = Driver(scripted(reply(body))), Account()
        with pytest.raises(SegmindResponseError, match="no balance"):
            driver.run(self._flow(driver, account))
        assert account.ledger.balance is None

    def _flow(self, driver: Driver, account: Account) -> Flow[CreditBalance]:
        return Exchanges(account, driver.clock, timeout=60.0).fetch_balance()


class TestLedger:
    def test_an_answer_that_comes_late_does_not_raise_the_balance(self) -> None:
        """Calls overlap: the one sent first may be answered last."""
        ledger = Ledger()
        ledger.note(4.0, asked_at=1.0, now=3.0)
        ledger.note(5.0, asked_at=0.0, now=4.0)
        assert ledger.balance == 4.0
        ledger.note(3.0, asked_at=0.0, now=5.0)
        assert ledger.balance == 3.0

    def test_a_call_sent_later_knows_better(self) -> None:
        ledger = Ledger()
        ledger.note(4.0, asked_at=1.0, now=3.0)
        ledger.note(9.0, asked_at=3.0, now=4.0)
        assert ledger.balance == 9.0

    def test_a_stated_balance_settles_what_was_asked_before(self) -> None:
        """After topping up, an old answer does not lock the account again."""
        ledger = Ledger()
        ledger.set_balance(9.0, now=3.0)
        ledger.note(0.1, asked_at=2.0, now=4.0)
        assert ledger.balance == 9.0
        ledger.note(8.9, asked_at=3.5, now=5.0)
        assert ledger.balance == 8.9

    def test_what_says_nothing_changes_nothing(self) -> None:
        ledger = Ledger()
        ledger.note(None, asked_at=0.0, now=1.0)
        assert ledger.balance is None

    def test_accounts_are_told_apart_by_host_and_key_and_keep_no_key(self) -> None:
        one = account_of("https://a.example/x", SecretStr("SG_one"))
        assert account_of("https://A.example", SecretStr("SG_one")) is one
        assert account_of("https://b.example", SecretStr("SG_one")) is not one
        assert account_of("https://a.example", SecretStr("SG_two")) is not one
        gc.collect()
        assert b"SG_one" not in repr(dict(accounts._ACCOUNTS)).encode()

    def test_of_many_accounts_those_in_use_and_the_last_are_remembered(self) -> None:
        used = account_of("https://a.example", SecretStr("SG_used"))
        account_of("https://a.example", SecretStr("SG_idle")).ledger.set_balance(1.0, now=0.0)
        for number in range(accounts.ACCOUNTS_REMEMBERED):
            account_of("https://a.example", SecretStr(f"SG_{number}")).ledger.set_balance(
                2.0, now=0.0
            )
        gc.collect()
        assert account_of("https://a.example", SecretStr("SG_used")) is used
        assert account_of("https://a.example", SecretStr("SG_idle")).ledger.balance is None
        assert account_of("https://a.example", SecretStr(f"SG_{number}")).ledger.balance == 2.0
        assert len(accounts._RECENT) == accounts.ACCOUNTS_REMEMBERED


class TestFloor:
    def test_nothing_is_sent_below_it(self) -> None:
        driver, account = Driver(scripted(reply({}))), Account()
        account.ledger.set_balance(0.4, now=0.0)
        with pytest.raises(SegmindInsufficientCreditsError, match="get_credits") as caught:
            driver.run(self._call(driver, account, min_credits=0.5))
        assert driver.sent == []
        assert "seen, 0.40 credits, is below min_credits=0.50. Nothing" in str(caught.value)
        assert caught.value.credits == Credits(remaining=0.4)

    def test_what_looks_like_the_floor_is_told_apart_from_it(self) -> None:
        driver, account = Driver(scripted(reply({}))), Account()
        account.ledger.set_balance(4.999999999999, now=0.0)
        with pytest.raises(SegmindInsufficientCreditsError, match=r"just under 5\.00 credits"):
            driver.run(self._call(driver, account, min_credits=5))

    def test_an_unknown_balance_and_one_that_suffices_let_calls_through(self) -> None:
        driver, account = Driver(scripted(reply({}, x_remaining_credits="0.5"))), Account()
        driver.run(self._call(driver, account, min_credits=0.5))
        driver.run(self._call(driver, account, min_credits=0.5))
        assert driver.posts == 2

    def test_an_answer_below_it_stops_the_next_call(self) -> None:
        driver, account = Driver(scripted(reply({}, x_remaining_credits="0.4"))), Account()
        driver.run(self._call(driver, account, min_credits=0.5))
        with pytest.raises(SegmindInsufficientCreditsError):
            driver.run(self._call(driver, account, min_credits=0.5))
        assert driver.posts == 1

    def test_an_error_tells_the_balance_too(self) -> None:
        refusal = reply({"error": "no"}, 400, x_remaining_credits="0.1")
        driver, account = Driver(scripted(refusal)), Account()
        with pytest.raises(SegmindError):
            driver.run(self._call(driver, account))
        assert account.ledger.balance == 0.1

    def test_a_crossing_warns_once(self) -> None:
        """Falling warns, staying low does not, rising and falling again does."""
        driver, account = Driver(scripted()), Account()
        told = []
        for balance in (1.2, 0.9, 0.8, 1.5, 0.7, 0.6):
            driver.now += 1.0
            driver._answer = scripted(reply({}, x_remaining_credits=str(balance)))
            with warnings.catch_warnings(record=True) as caught:
                warnings.simplefilter("always")
                driver.run(self._call(driver, account, low_credits=1.0))
            told += [balance] if caught else []
            assert all(one.category is SegmindLowCreditsWarning for one in caught)
        assert told == [0.9, 0.7]

    def test_a_warning_made_an_error_costs_no_answer(
        self, caplog: pytest.LogCaptureFixture
    ) -> None:
        driver, account = Driver(scripted(reply({}, x_remaining_credits="0.4"))), Account()
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            answer = driver.run(self._call(driver, account, low_credits=0.5))
        assert answer.status == 200
        assert "low_credits=0.5" in caplog.text

    def _call(self, driver: Driver, account: Account, **limits: Any) -> Flow[Any]:
        return Exchanges(account, driver.clock, max_retries=0, **limits).complete("x", b"")


class TestCallback:
    def test_adds_up(self) -> None:
        with get_credits_callback() as cb:
            for remaining in (9.0, 8.0):
                cb.on_llm_end(answered(cost=0.5, remaining=remaining))
        assert (cb.cost, cb.calls, cb.remaining) == (1.0, 2, 8.0)
        assert cb.tokens == {"input_tokens": 6, "output_tokens": 4, "total_tokens": 10}

    def test_a_cached_answer_is_no_call(self) -> None:
        handler = CreditsCallbackHandler()
        handler.on_llm_end(answered(cost=0.0, remaining=None))
        assert (handler.cost, handler.calls, handler.cached) == (0.0, 0, 1)
        assert handler.tokens["total_tokens"] == 0

    def test_further_choices_of_an_answer_cost_nothing_more(self) -> None:
        handler, result = CreditsCallbackHandler(), answered(cost=0.5, remaining=9.0)
        result.generations[0] *= 3
        handler.on_llm_end(result)
        assert (handler.cost, handler.calls) == (0.5, 1)

    def test_an_answer_that_was_paid_for_and_useless_counts(self) -> None:
        handler = CreditsCallbackHandler()
        handler.on_llm_error(SegmindAPIError("broken", credits=Credits(8.0, 0.25)))
        handler.on_llm_error(ValueError("another"))
        assert (handler.cost, handler.calls, handler.remaining) == (0.25, 0, 8.0)

    def test_what_may_have_been_paid_for_is_unknown(self) -> None:
        """Lost answers, and answers that name no cost; not what was refused, or never sent."""
        handler = CreditsCallbackHandler()
        handler.on_llm_error(SegmindConnectionError("lost", outcome_unknown=True))
        handler.on_llm_error(
            SegmindAPIError("504", credits=Credits(remaining=8.0), outcome_unknown=True)
        )
        handler.on_llm_end(answered(cost=None, remaining=7.0))
        assert (handler.unknown, handler.cost, handler.calls) == (3, 0.0, 1)
        handler.on_llm_error(SegmindConnectionError("never sent"))
        handler.on_llm_error(SegmindOutcomeUnknownError("before", outcome_unknown=True))
        handler.on_llm_error(
            SegmindResponseError("odd", credits=Credits(6.0, 0.5), outcome_unknown=True)
        )
        assert (handler.unknown, handler.cost, handler.remaining) == (3, 0.5, 6.0)

    def test_a_job_that_is_fetched_after_all_is_unknown_no_more(self) -> None:
        handler = CreditsCallbackHandler()
        for _ in range(2):
            handler.on_llm_error(
                SegmindTimeoutError("slow", request_id="r-1", outcome_unknown=True)
            )
        assert handler.unknown == 1
        handler.on_llm_end(answered(cost=0.5, remaining=9.0))
        assert (handler.unknown, handler.cost) == (0, 0.5)

    def test_sums_are_money(self) -> None:
        """0.1 and 0.2 are 0.3, as on the bill."""
        handler = CreditsCallbackHandler()
        for cost in (0.1, 0.2):
            handler.on_llm_end(answered(cost=cost, remaining=1e6))
        assert handler.cost == 0.3
        assert "(cost=0.30, calls=2, cached=0, unknown=0, remaining=1000000.00," in repr(handler)
        assert CreditBalance(0.1, 0.2).total == 0.3

    def test_a_bill_reads_as_money(self) -> None:
        """Without an exponent, and without a comma that could end a field."""
        handler = CreditsCallbackHandler()
        handler.on_llm_end(answered(cost=1.17e-05, remaining=1e6))
        assert str(handler) == "1 call: 0.0000117 credits, 1,000,000.00 left"
        handler.on_llm_error(SegmindTimeoutError("slow", outcome_unknown=True))
        assert "1 call: 0.0000117 credits, 1 of unknown cost," in str(handler)
        assert repr(Credits(None, 1.17e-05)) == "Credits(remaining=None, cost=0.0000117)"
        told = "CreditBalance(credits=1000000.00, free_credits=0.000001, total=1000000.000001)"
        assert repr(CreditBalance(1e6, 1e-6)) == told

    def test_other_providers_are_not_counted(self) -> None:
        handler = CreditsCallbackHandler()
        handler.on_llm_end(LLMResult(generations=[[ChatGeneration(message=AIMessage("hi"))]]))
        handler.on_llm_end(LLMResult(generations=[[]]))
        assert handler.calls == 0

    def test_a_block_in_a_block_counts_for_both(self) -> None:
        with get_credits_callback() as outer:
            with get_credits_callback() as inner:
                inner.on_llm_end(answered(cost=0.5, remaining=9.0))
                inner.on_llm_error(SegmindAPIError("broken", credits=Credits(8.0, 0.25)))
            assert inner.cost == outer.cost == 0.75
        assert "cost=0.75" in repr(outer)


def answered(*, cost: float | None, remaining: float | None) -> LLMResult:
    message = AIMessage(
        "hi",
        response_metadata={
            "model_provider": "segmind",
            "request_id": "r-1",
            "credits": {"remaining": remaining, "cost": cost},
        },
        usage_metadata={"input_tokens": 3, "output_tokens": 2, "total_tokens": 5},
    )
    return LLMResult(generations=[[ChatGeneration(message=message)]])


@pytest.mark.parametrize(
    ("date", "as_of"),
    [
        ({"date": "Mon, 01 Jan 2001 00:00:00 GMT"}, datetime(2001, 1, 1, tzinfo=UTC)),
        ({"date": "yesterday"}, None),
        ({}, None),
    ],
)
def test_a_balance_knows_when_it_was_so(date: dict[str, str], as_of: datetime | None) -> None:
    balance = CreditBalance.from_answer({"credits": 1, "free-credits": 2}, date)
    assert balance == CreditBalance(1.0, 2.0)
    assert balance is not None
    assert balance.as_of == as_of
