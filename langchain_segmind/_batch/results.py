"""What became of a request, and the line that says so."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from langchain_segmind._batch.requests import key_of
from langchain_segmind._protocol.responses import completion_from, decode_json, text_of
from langchain_segmind.exceptions import SegmindError

if TYPE_CHECKING:
    from collections.abc import Mapping

_JSON = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"))


class SchemaMismatchError(SegmindError):
    """An answer was paid for, and does not fit the schema; its text is kept."""


@dataclass(frozen=True, slots=True)
class BatchResult:
    """What became of one request, or of one of its samples."""

    custom_id: str
    """The request's."""
    sample: int = 0
    """Which of its answers, from 0."""
    error: SegmindError | None = None
    """Why there is no answer, or none that fits; None where all is well."""
    parsed: Any = None
    """With a schema: the object that the answer holds."""
    raw: bytes | None = field(default=None, repr=False)
    """The provider's chat completion, as JSON."""
    request_id: str | None = None
    """Segmind's."""
    cost: float | None = 0.0
    """Credits that this run paid for it; None where the answer did not say."""
    lost_attempts: int = 0
    """How often this run sent it, beside that, and may have paid for it without an answer."""
    replayed: bool = False
    """Whether an earlier run, or another process, had paid for it."""

    @property
    def key(self) -> str:
        """The idempotency key under which the journal has it."""
        return key_of(self.custom_id, self.sample)

    @property
    def completion(self) -> Mapping[str, Any]:
        """The provider's chat completion; empty where there is none."""
        return completion_from(decode_json(self.raw)) if self.raw else {}

    @property
    def text(self) -> str:
        """The text of the answer; empty where there is none."""
        choices = self.completion.get("choices")
        return text_of(choices[0]["message"].get("content")) if choices else ""

    @property
    def is_unknown(self) -> bool:
        """Whether it may have been paid for, and nobody can say."""
        return self.error is not None and self.error.outcome_unknown

    def after(self, before: BatchResult) -> BatchResult:
        """Add what an answer before this one cost, which did not fit."""
        costs = (before.cost, self.cost)
        cost = None if None in costs else sum(cost or 0.0 for cost in costs)
        return replace(self, cost=cost, lost_attempts=before.lost_attempts + self.lost_attempts)

    def as_line(self, *, with_sample: bool = False) -> bytes:
        """Write it as a line of OpenAI's batch output.

        Args:
            with_sample: Say which sample it is.
        """
        response = None
        if self.raw is not None:
            body = decode_json(self.raw)
            response = {"status_code": 200, "request_id": self.request_id, "body": body}
        key = self.key.encode("utf-8", "replace")
        record = {
            "id": f"batch_req_{hashlib.blake2b(key, digest_size=12).hexdigest()}",
            "custom_id": self.custom_id,
            **({"sample": self.sample} if with_sample else {}),
            "response": response,
            "error": None if self.error is None else _describe(self.error),
        }
        return f"{_JSON.encode(record)}\n".encode("utf-8", "replace")


def _describe(error: SegmindError) -> dict[str, Any]:
    """Say what went wrong, in OpenAI's form and with what is known beside it."""
    facts = {
        "code": type(error).__name__,
        "message": error.message,
        "status_code": error.status_code,
        "request_id": error.request_id,
        "outcome_unknown": error.outcome_unknown or None,
    }
    return {name: value for name, value in facts.items() if value is not None}
