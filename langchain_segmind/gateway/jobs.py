"""The jobs of v2: submitted, run, asked for, forgotten."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from collections.abc import Callable

    from langchain_segmind.gateway.account import Charge

Status = Literal["QUEUED", "PROCESSING", "COMPLETED", "FAILED"]


@dataclass
class Job:
    """One submission and what has become of it."""

    request_id: str
    slug: str
    body: bytes
    submitted_at: float
    must_fail: bool = False
    """Chosen by fault injection to fail."""
    status: Status = "QUEUED"
    started_at: float = 0.0
    finished_at: float = 0.0
    output: str | None = None
    error: str | None = None
    charge: Charge | None = None

    def start(self, now: float) -> None:
        """Note that the job has left the queue."""
        self.status, self.started_at = "PROCESSING", now

    def complete(self, completion: Any, charge: Charge, now: float) -> None:
        """Keep the provider's JSON, as a string: the result encodes it a second time."""
        self.output, self.charge, self.finished_at = json.dumps(completion), charge, now
        self.status, self.body = "COMPLETED", b""

    def fail(self, error: str, now: float) -> None:
        """Keep the reason."""
        self.error, self.finished_at = error, now
        self.status, self.body = "FAILED", b""

    def metrics(self) -> dict[str, float]:
        """Measure the job; what it cost is known only when it was billed."""
        metrics: dict[str, float] = {"retry_count": 0}
        if self.started_at:
            metrics["queue_time"] = round(self.started_at - self.submitted_at, 6)
        if self.finished_at:
            metrics["inference_time"] = round(self.finished_at - self.started_at, 6)
            metrics["total_time"] = round(self.finished_at - self.submitted_at, 6)
        if self.charge is not None:
            metrics["cost"] = self.charge.cost
            metrics["remaining_credits"] = self.charge.remaining
        return metrics

    def result_body(self) -> dict[str, Any]:
        """Answer `GET /v2/requests/{id}`."""
        return {**self.status_body(), "error": self.error, "output": self.output}

    def status_body(self) -> dict[str, Any]:
        """Answer `GET /v2/requests/{id}/status`."""
        body = {"status": self.status, "request_id": self.request_id, "metrics": self.metrics()}
        return body if self.error is None else {**body, "error": self.error}


class JobStore:
    """The jobs of the last hour, in the order of their submission."""

    def __init__(self, ttl: float, clock: Callable[[], float]) -> None:
        """Keep a job for `ttl` seconds after its submission."""
        self._ttl = ttl
        self._clock = clock
        self._jobs: dict[str, Job] = {}

    def __len__(self) -> int:
        """Count the jobs that are remembered."""
        return len(self._jobs)

    def add(self, job: Job) -> None:
        """Remember a job."""
        self._forget_old()
        self._jobs[job.request_id] = job

    def find(self, request_id: str) -> Job | None:
        """Find a job, unless it was never submitted or is forgotten."""
        self._forget_old()
        return self._jobs.get(request_id)

    def _forget_old(self) -> None:
        oldest = self._clock() - self._ttl
        while self._jobs and (first := next(iter(self._jobs.values()))).submitted_at <= oldest:
            del self._jobs[first.request_id]
