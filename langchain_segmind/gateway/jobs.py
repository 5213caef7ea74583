"""The jobs of v2: submitted, run, asked for, forgotten."""

from __future__ import annotations

import json
import threading
from collections import OrderedDict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from langchain_segmind.gateway.errors import ApiError

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
    doomed: bool = False
    """Chosen by fault injection to fail."""
    status: Status = "QUEUED"
    started_at: float = 0.0
    finished_at: float = 0.0
    output: str | None = None
    error: str | None = None
    charge: Charge | None = None

    @property
    def http_status(self) -> int:
        """The HTTP status under which the job is shown."""
        return 422 if self.status == "FAILED" else 200

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

    def status_body(self) -> dict[str, Any]:
        """Answer `GET /v2/requests/{id}/status`."""
        body = {
            "status": self.status,
            "request_id": self.request_id,
            "metrics": self.metrics(),
        }
        return body if self.error is None else {**body, "error": self.error}

    def result_body(self) -> dict[str, Any]:
        """Answer `GET /v2/requests/{id}`."""
        return {
            "status": self.status,
            "request_id": self.request_id,
            "error": self.error,
            "output": self.output,
            "metrics": self.metrics(),
        }


class JobStore:
    """The jobs of the last hour."""

    def __init__(self, ttl: float, clock: Callable[[], float]) -> None:
        """Keep a job for `ttl` seconds after its submission."""
        self._ttl = ttl
        self._clock = clock
        self._lock = threading.Lock()
        self._jobs: OrderedDict[str, Job] = OrderedDict()

    def __len__(self) -> int:
        """Count the jobs that are remembered."""
        with self._lock:
            self._forget_old()
            return len(self._jobs)

    def add(self, job: Job) -> None:
        """Remember a job."""
        with self._lock:
            self._forget_old()
            self._jobs[job.request_id] = job

    def get(self, request_id: str) -> Job:
        """Find a job, unless it was never submitted or is forgotten."""
        job = self.find(request_id)
        if job is None:
            raise ApiError(404, f"Request {request_id} not found")
        return job

    def find(self, request_id: str) -> Job | None:
        """Find a job, if there is one."""
        with self._lock:
            self._forget_old()
            return self._jobs.get(request_id)

    def _forget_old(self) -> None:
        oldest = self._clock() - self._ttl
        while self._jobs and next(iter(self._jobs.values())).submitted_at <= oldest:
            self._jobs.popitem(last=False)
