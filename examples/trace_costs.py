"""What calls cost, in traces: of OpenTelemetry (`pip install opentelemetry-sdk`) and LangSmith."""

from __future__ import annotations

import sys
from typing import Any

from langchain_core.callbacks import BaseCallbackHandler
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import ConsoleSpanExporter, SimpleSpanProcessor
from opentelemetry.trace import Span, StatusCode, Tracer, use_span

from langchain_segmind import ChatSegmindLlama, SegmindError


class CostSpans(BaseCallbackHandler):
    """Makes a span of each call to a model, as a child of the span that is current."""

    def __init__(self, tracer: Tracer) -> None:
        """Start with no call under way."""
        self._tracer, self._spans = tracer, dict[Any, Span]()

    def on_chat_model_start(self, *_: Any, run_id: Any, **__: Any) -> None:
        """Start the span of a call."""
        self._spans[run_id] = self._tracer.start_span("chat")

    def on_llm_end(self, response: Any, *, run_id: Any, **_: Any) -> None:
        """Write into it what was used, and what it cost in credits (US dollars)."""
        message = response.generations[0][0].message
        used = {**(message.usage_metadata or {}), **message.response_metadata["credits"]}
        with use_span(self._spans.pop(run_id), end_on_exit=True) as span:
            for name in {"input_tokens", "output_tokens", "cost"} & used.keys():
                if used[name] is not None:  # Segmind may not have said.
                    span.set_attribute(f"gen_ai.usage.{name}", used[name])

    def on_llm_error(self, error: BaseException, *, run_id: Any, **_: Any) -> None:
        """Write the name of the error into it; its words may quote a text."""
        with use_span(self._spans.pop(run_id), end_on_exit=True) as span:
            span.set_status(StatusCode.ERROR, type(error).__name__)


def keep_costs(outputs: dict[str, Any]) -> dict[str, Any]:
    """Make of a run's outputs what LangSmith adds up: `Client(hide_outputs=keep_costs)`."""
    if "generations" not in outputs:  # Those of a chain.
        return {}
    message = outputs["generations"][0][0]["message"]["kwargs"]
    tokens, cost = message.get("usage_metadata"), message["response_metadata"]["credits"]["cost"]
    return {"usage_metadata": {**(tokens or {}), "total_cost": cost}}


if __name__ == "__main__":
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(ConsoleSpanExporter()))
    spans = CostSpans(provider.get_tracer(__name__))
    try:
        ChatSegmindLlama(callbacks=[spans]).invoke("Tell me a joke on cats")
    except SegmindError as error:
        sys.exit(f"{type(error).__name__}: {error}")
