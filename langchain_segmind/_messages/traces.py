"""What a call cost, written where traces keep what is not text.

LangChain hands its tracers the tokens and the text of an answer. What it cost is in its metadata,
which a trace that hides texts hides with them, and which no OpenTelemetry span has as an attribute.
"""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Any, TypeVar

from langchain_core.messages import AIMessage
from langchain_core.outputs import ChatGenerationChunk, ChatResult

if TYPE_CHECKING:
    from uuid import UUID

    from langchain_core.callbacks.manager import BaseRunManager

Answer = TypeVar("Answer", ChatResult, ChatGenerationChunk)

COST_ATTRIBUTES = ("gen_ai.usage.cost", "llm.cost.total")
"""OpenTelemetry has no convention yet: the first is the common name beside its `gen_ai.usage`, the
second is OpenInference's."""


def traced(answer: Answer, run_manager: BaseRunManager | None) -> Answer:
    """Tell whoever traces this run what its answer cost; a trace must not cost the answer.

    langchain-core names no run to a plain `stream`, whose cost is in its metadata alone.
    """
    if run_manager is None or not run_manager.handlers:
        return answer
    message = answer.generations[0].message if isinstance(answer, ChatResult) else answer.message
    if not isinstance(message, AIMessage) or "credits" not in message.response_metadata:
        return answer  # A chunk of a stream; the last one has the metadata.
    for handler in run_manager.handlers:
        with suppress(Exception):
            _tell_tracer(handler, run_manager.run_id, message)
        with suppress(Exception):
            _tell_span(handler, run_manager.run_id, message)
    return answer


def _tell_tracer(handler: Any, run_id: UUID, message: AIMessage) -> None:
    """Add to the run that LangChain's own tracers keep (LangSmith's, and OpenInference's)."""
    run = getattr(handler, "run_map", {}).get(str(run_id))
    if run is None:
        return
    cost = message.response_metadata["credits"]["cost"]
    request_id = message.response_metadata.get("request_id")
    facts = {"segmind_cost": cost, "segmind_request_id": request_id}
    # A new dict: the old one may be shared with other runs.
    told = {name: value for name, value in facts.items() if value is not None}
    run.extra["metadata"] = {**(run.extra.get("metadata") or {}), **told}
    if message.usage_metadata is not None and cost is not None:
        # LangSmith adds this up. In the message itself, langchain-core could not: see `credits`.
        run.outputs = {"usage_metadata": {**message.usage_metadata, "total_cost": cost}}


def _tell_span(handler: Any, run_id: UUID, message: AIMessage) -> None:
    """Add to the span that an instrumentation keeps for a run (OpenInference, OpenLLMetry)."""
    cost = message.response_metadata["credits"]["cost"]
    if hasattr(handler, "get_span"):
        span = handler.get_span(run_id)
    else:
        span = getattr(getattr(handler, "spans", {}).get(run_id), "span", None)
    if span is not None and cost is not None:
        span.set_attributes(dict.fromkeys(COST_ATTRIBUTES, cost))
