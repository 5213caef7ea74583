"""What the local Segmind does with a request, knowing nothing of HTTP."""

from __future__ import annotations

import asyncio
import secrets
import time
from collections import deque
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

from langchain_segmind.gateway.account import Account, RateLimit
from langchain_segmind.gateway.errors import (
    FORBIDDEN,
    NOT_FOUND,
    POLLING_ERROR,
    SERVER_ERROR,
    ApiError,
)
from langchain_segmind.gateway.exchange import log_failure
from langchain_segmind.gateway.faults import FaultSource
from langchain_segmind.gateway.jobs import Job, JobStore
from langchain_segmind.gateway.validation import parse_body, prompt_size

if TYPE_CHECKING:
    from collections.abc import Callable

    from langchain_segmind.gateway.account import Charge, PathName
    from langchain_segmind.gateway.engines.base import Engine
    from langchain_segmind.gateway.page import Exchange
    from langchain_segmind.gateway.settings import Settings

SHOWN_EXCHANGES = 20
"""The latest requests, for the page."""


class Answer(NamedTuple):
    """A completion, and what is known about it."""

    completion: Any
    charge: Charge
    seconds: float
    seed: int


class Gateway:
    """One account, its jobs, and the engine that answers."""

    def __init__(
        self, settings: Settings, engine: Engine, clock: Callable[[], float] = time.time
    ) -> None:
        """Set up a gateway; `start` it on the event loop that serves it."""
        self.settings = settings
        self.engine = engine
        self.clock = clock
        self.account = Account(
            settings.credits,
            settings.free_credits,
            settings.prompt_price,
            settings.completion_price,
        )
        self.jobs = JobStore(settings.job_ttl, clock)
        self.rate_limit = RateLimit(settings.rpm, settings.rate_window, clock)
        self.post_faults = FaultSource(settings.post_faults, settings.fault_seed)
        self.poll_faults = FaultSource(settings.poll_faults, settings.fault_seed + 1)
        self.exchanges: deque[Exchange] = deque(maxlen=SHOWN_EXCHANGES)
        self._job_faults = FaultSource(settings.post_faults, settings.fault_seed + 2)
        self._workers = asyncio.Semaphore(settings.workers)
        self._tasks: set[asyncio.Task[Any]] = set()

    async def start(self) -> None:
        """Get the engine ready, on the event loop that serves it."""
        await self.engine.start()

    async def stop(self) -> None:
        """Give up what is still running, and the engine."""
        await self.interrupt()
        await self.engine.close()

    async def interrupt(self) -> None:
        """Fail the calls that are still running, so that they can be answered."""
        running = list(self._tasks)
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)

    async def pause(self, seconds: float) -> None:
        """Wait, unless the gateway is stopped meanwhile."""
        if seconds > 0:
            await asyncio.wait({self._track(asyncio.sleep(seconds))})

    def check_slug(self, slug: str) -> None:
        """Refuse a model that is unknown, retired or out of reach."""
        if slug in self.settings.retired_slugs:
            raise ApiError(410, f"The model {slug} has been retired")
        if slug in self.settings.forbidden_slugs:
            raise ApiError(403, FORBIDDEN)
        if slug not in self.settings.slugs:
            raise ApiError(404, NOT_FOUND)

    async def call(self, request_id: str, slug: str, raw: bytes) -> Answer:
        """Run a call of v1: answered within its limit, or failed and not billed."""
        body = self._parse(slug, raw)
        self.account.require(prompt_size(body))
        return await self._answer(request_id, "v1", body, self.settings.v1_limit)

    def submit(self, request_id: str, slug: str, raw: bytes) -> Job:
        """Queue a job of v2; its body is judged when it runs."""
        self.account.require(1)
        must_fail = self._job_faults.random.random() < self.settings.failing_jobs_rate
        job = Job(request_id, slug, raw, self.clock(), must_fail)
        self.jobs.add(job)
        self._track(self._run(job))
        return job

    async def _run(self, job: Job) -> None:
        async with self._workers:
            job.start(self.clock())
            try:
                answer = await self._work(job)
            except ApiError as error:
                job.fail(error.message, self.clock())
            else:
                job.complete(answer.completion, answer.charge, self.clock())

    async def _work(self, job: Job) -> Answer:
        if job.must_fail:
            raise ApiError(500, "Inference failed")
        return await self._answer(job.request_id, "v2", self._parse(job.slug, job.body))

    def _parse(self, slug: str, raw: bytes) -> dict[str, Any]:
        """Read a body, which then names its model as a provider's does."""
        body = parse_body(raw, vision=slug in self.settings.vision_slugs)
        return {"seed": secrets.randbits(31), **body, "model": slug}

    async def _answer(
        self, request_id: str, path: PathName, body: dict[str, Any], limit: float | None = None
    ) -> Answer:
        started = time.perf_counter()
        completion = await self._complete(body, limit)
        seconds = time.perf_counter() - started
        match completion:
            case {"usage": {"prompt_tokens": int(prompt), "completion_tokens": int(generated)}}:
                pass
            case _:  # What an engine does not tell is estimated.
                prompt, generated = prompt_size(body), 0
        charge = self.account.charge(request_id, path, prompt, generated)
        return Answer(completion, charge, seconds, body["seed"])

    async def _complete(self, body: dict[str, Any], limit: float | None) -> Any:
        task = self._track(self.engine.complete(body))
        await asyncio.wait({task}, timeout=limit)
        if not task.done():
            task.cancel()
            raise ApiError(500, POLLING_ERROR)
        try:
            return task.result()
        except ApiError:
            raise
        except asyncio.CancelledError:
            raise ApiError(503, "The gateway is being stopped") from None
        except Exception as error:
            log_failure(f"The engine {self.engine.name} failed")
            raise ApiError(500, SERVER_ERROR) from error

    def _track(self, coroutine: Any) -> asyncio.Task[Any]:
        task = asyncio.create_task(coroutine)
        self._tasks.add(task)
        task.add_done_callback(partial(_forget, self._tasks))
        return task


def _forget(tasks: set[asyncio.Task[Any]], task: asyncio.Task[Any]) -> None:
    tasks.discard(task)
    if not task.cancelled():
        # Marks the exception as seen: whoever gave up on the task no longer asks for it.
        task.exception()
