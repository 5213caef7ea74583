"""Whole answers, of v1 and of queued jobs, in one form."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, NamedTuple

from langchain_segmind._protocol.bounded_json import loads_bounded
from langchain_segmind._protocol.responses import (
    UnusableAnswerError,
    completion_from,
    decode_json,
    error_from_answer,
    request_id_of,
    shorten,
)
from langchain_segmind._protocol.streamed_completion import assemble
from langchain_segmind.credits import LOST_ATTEMPTS, Credits, amount

if TYPE_CHECKING:
    from collections.abc import Mapping

    from langchain_segmind._protocol.types import Response


class Accounting(NamedTuple):
    """What an answer says about itself beside its text."""

    credits: Credits
    request_id: str | None
    extra: Mapping[str, Any]
    """More for `response_metadata`: times, the seed, the attempts that were lost."""

    @classmethod
    def from_response(cls, response: Response) -> Accounting:
        """Read the headers of a v1 answer."""
        headers = response.headers
        extra: dict[str, Any] = {"generation_time": amount(headers.get("x-generation-time"))}
        if (seed := headers.get("x-seed-value")) is not None:
            extra["seed"] = seed
        accounting = cls(Credits.from_headers(headers), request_id_of(headers), extra)
        return accounting.after(response.lost_before)

    @property
    def lost(self) -> int:
        """Earlier attempts of this call that may have been billed; none of an answer kept."""
        return 0 if "replayed" in self.extra else self.extra.get(LOST_ATTEMPTS, 0)

    def after(self, lost: int) -> Accounting:
        """Say how many earlier attempts may have been billed, if there were any."""
        return self._replace(extra={**self.extra, LOST_ATTEMPTS: lost}) if lost else self

    @classmethod
    def from_metrics(cls, metrics: object, request_id: str) -> Accounting:
        """Read the metrics of a queued job."""
        names = ("queue_time", "inference_time", "total_time")
        found = metrics if isinstance(metrics, dict) else {}
        times = {name: amount(found.get(name)) for name in names}
        known = {name: seconds for name, seconds in times.items() if seconds is not None}
        return cls(Credits.from_metrics(metrics), request_id, known)


class Finished(NamedTuple):
    """An answer that was read to its end."""

    completion: Mapping[str, Any]
    """The provider's chat completion, in OpenAI's shape."""
    accounting: Accounting
    raw: bytes
    """The completion as JSON, as the provider wrote it where it wrote JSON."""


def read_response(response: Response) -> Finished:
    """Read a whole answer of v1, JSON or an ended event stream; else `SegmindResponseError`."""
    try:
        completion, raw = _read_body(response)
    except UnusableAnswerError as error:
        why = str(error)
    else:
        return Finished(completion, Accounting.from_response(response), raw)
    raise error_from_answer(response, why)


def _read_body(response: Response) -> tuple[dict[str, Any], bytes]:
    if response.headers.get("content-type", "").lower().startswith("text/event-stream"):
        completion = assemble(response.body)
        return completion, json.dumps(completion).encode()
    return completion_from(decode_json(response.body)), response.body


def read_output(output: object) -> tuple[dict[str, Any], bytes]:
    """Give the completion in a job's output, and its JSON.

    The output is the provider's JSON, as a string or an object, or plain text.
    """
    text, decoded = _decode_output(output)
    if isinstance(decoded, dict) and ("choices" in decoded or "error" in decoded):
        return completion_from(decoded), (json.dumps(decoded) if text is None else text).encode()
    if not isinstance(output, (str, list)) or not output:
        raise UnusableAnswerError(f"its output is no answer: {shorten(repr(output))}")
    # Text, or a list of its parts: also text that happens to be JSON.
    message = {"role": "assistant", "content": output}
    completion = {"choices": [{"index": 0, "message": message, "finish_reason": None}]}
    return completion, json.dumps(completion).encode()


def _decode_output(output: object) -> tuple[str | None, object]:
    """Give the innermost JSON text of an output, if it is one, and its value."""
    text = None
    for _ in range(3):  # As encoded as it is documented, and once more.
        if not isinstance(output, str):
            break
        try:
            text, output = output, loads_bounded(output)
        except ValueError:
            break
    return text, output
