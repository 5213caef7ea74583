"""The balance and the ledger."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest

from langchain_segmind.gateway import Account, Settings, serve
from langchain_segmind.gateway.errors import ApiError


def account(balance: float = 10.0, free: float = 0.0) -> Account:
    return Account(balance, free, prompt_price=0.1, completion_price=0.2)


class TestCharge:
    def test_counts_prompt_and_answer(self) -> None:
        opened = account()
        charge = opened.charge("a", "v1", prompt_tokens=3, completion_tokens=2)

        assert charge.cost == pytest.approx(0.7)
        assert charge.remaining == opened.remaining == pytest.approx(9.3)
        assert opened.charges == [charge]

    def test_spends_the_gift_first(self) -> None:
        opened = account(balance=1.0, free=0.5)
        opened.charge("a", "v1", prompt_tokens=7, completion_tokens=0)

        assert opened.credits == pytest.approx(0.8)
        assert opened.free_credits == 0.0

    def test_never_goes_below_zero(self) -> None:
        opened = account(balance=0.25)
        charge = opened.charge("a", "v1", prompt_tokens=100, completion_tokens=0)

        assert (charge.cost, opened.remaining) == (0.25, 0.0)

    def test_is_exact_under_threads(self) -> None:
        opened = account(balance=1000.0)
        with ThreadPoolExecutor(8) as threads:
            list(threads.map(lambda n: opened.charge(str(n), "v2", 1, 0), range(2000)))

        assert opened.remaining == pytest.approx(800.0)
        assert opened.charge_count == len(set(opened.billed_ids)) == 2000


class TestRequire:
    def test_refuses_a_prompt_that_costs_more_than_is_left(self) -> None:
        with pytest.raises(ApiError, match=r"have 0\.5000000000 .* needs 0\.6000000000"):
            account(balance=0.5).require(6)

    def test_lets_one_through_after_topping_up(self) -> None:
        opened = account(balance=0.0)
        opened.top_up(1.0)
        opened.require(6)


class TestCreditsEndpoint:
    def test_shows_both_kinds_and_costs_nothing(self) -> None:
        settings = Settings(credits=0.0, free_credits=0.0184921035)
        with serve(settings) as gateway:
            headers = {"x-api-key": gateway.api_key}
            response = httpx.get(f"{gateway.url}/v1/get-user-credits", headers=headers)

        assert response.json() == {"credits": 0.0, "free-credits": 0.0184921035}
        assert (gateway.account.post_count, gateway.account.charge_count) == (0, 0)


class TestLedger:
    def test_tells_what_was_billed_by_its_body(self) -> None:
        body = {"messages": [{"role": "user", "content": "once"}]}
        with serve() as gateway:
            url = f"{gateway.url}/v1/llama-v3p1-8b-instruct"
            httpx.post(url, json=body, headers={"x-api-key": gateway.api_key})
            httpx.post(url, json=body, headers={"x-api-key": "wrong"})

        assert gateway.account.post_count == 2
        assert gateway.account.billed_bodies == [body]


class TestSettings:
    @pytest.mark.parametrize(
        "bad",
        [{"port": 70_000}, {"credits": float("nan")}, {"api_key": ""}, {"workers": 0}],
    )
    def test_refuses_nonsense(self, bad: dict[str, object]) -> None:
        with pytest.raises(ValueError, match=r"port|Credits|key|workers"):
            Settings(**bad)  # type: ignore[arg-type]

    def test_hides_the_key(self) -> None:
        assert "SG_" not in repr(Settings())
