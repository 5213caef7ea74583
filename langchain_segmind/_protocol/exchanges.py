"""What a model may ask of Segmind, under its settings: each question is a flow."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from langchain_segmind._protocol.balance import fetch_balance
from langchain_segmind._protocol.calls import post
from langchain_segmind._protocol.tracking import track_account

if TYPE_CHECKING:
    from collections.abc import Callable

    from langchain_segmind._journals.entries import Journal
    from langchain_segmind._journals.identity import Scope
    from langchain_segmind._protocol.account import Account
    from langchain_segmind._protocol.answers import Finished
    from langchain_segmind._protocol.calls import Clock
    from langchain_segmind._protocol.queue import Queue
    from langchain_segmind._protocol.retry import RetryPolicy
    from langchain_segmind._protocol.types import Flow, Response, T
    from langchain_segmind.credits import CreditBalance


@dataclass(frozen=True, slots=True)
class Exchanges:
    """The exchanges with one account."""

    account: Account
    clock: Clock
    policy: RetryPolicy
    timeout: float | None
    """Seconds that a request may take with all its retries."""
    queue: Queue
    through_queue: bool
    """Whether completions are jobs of the queue (v2), or single calls (v1)."""
    on_submit: Callable[[str], object] | None
    min_credits: float | None
    low_credits: float | None
    pause: Callable[[float], object] | None
    redact: Callable[[str], str]

    def complete(
        self, model: str, body: bytes, *, accept_stream: bool = False
    ) -> Flow[Response | Finished]:
        """Pay for a completion: through the queue a finished answer, else v1's response."""
        flow: Flow[Response | Finished]
        if self.through_queue:
            flow = self._run_job(model, body)
        else:
            flow = post(
                f"/v1/{model}",
                body,
                policy=self.policy,
                timeout=self.timeout,
                account=self.account,
                clock=self.clock,
                accept_stream=accept_stream,
            )
        return self._track(flow, min_credits=self.min_credits)

    def fetch(self, request_id: object) -> Flow[Finished]:
        """Wait for the answer of a job that was submitted before; it costs nothing."""
        from langchain_segmind._protocol.queue import wait_for_job

        return self._track(wait_for_job(request_id, queue=self.queue))

    def fetch_balance(self) -> Flow[CreditBalance]:
        """Ask what the account holds; it costs nothing."""
        return self._track(
            fetch_balance(
                policy=self.policy, timeout=self.timeout, account=self.account, clock=self.clock
            )
        )

    def complete_once(
        self, model: str, body: bytes, journal: Journal, scope: Scope, *, account: tuple[str, ...]
    ) -> Flow[Finished]:
        """Pay for a completion, unless the journal says that it was paid for already.

        Args:
            model: The slug.
            body: What is sent.
            journal: Where it is kept what was paid for.
            scope: Where the call belongs.
            account: What tells hosts and keys apart; only a hash of it is kept.
        """
        from langchain_segmind._protocol.journaled import answer_once

        return answer_once(
            scope,
            sent=(*account, model, body),
            journal=journal,
            send=lambda: self.complete(model, body),
            fetch=self.fetch,
            clock=self.clock,
            timeout=self.queue.timeout if self.through_queue else self.timeout,
            through_queue=self.through_queue,
            retry_unknown_outcome=self.policy.retry_unknown_outcome,
        )

    def _run_job(self, model: str, body: bytes) -> Flow[Finished]:
        from langchain_segmind._protocol.queue import run_job

        return run_job(
            model,
            body,
            queue=self.queue,
            policy=self.policy,
            timeout=self.timeout,
            on_submit=self.on_submit,
        )

    def _track(self, flow: Flow[T], *, min_credits: float | None = None) -> Flow[T]:
        return track_account(
            flow,
            self.account,
            clock=self.clock,
            min_credits=min_credits,
            low_credits=self.low_credits,
            pause=self.pause,
            redact=self.redact,
        )
