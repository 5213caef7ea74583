"""One call of the model: the body it sends, and how its answer is to be read.

`streaming` reads a stream of events; both readings end in the same messages.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeGuard, cast

from langchain_core.messages import AIMessage
from langchain_core.messages.ai import UsageMetadata
from langchain_core.outputs import ChatGeneration, ChatResult

from langchain_segmind._messages.profiles import did_you_mean
from langchain_segmind._messages.stop import StopCutter
from langchain_segmind._protocol.answers import Finished, read_response
from langchain_segmind._protocol.responses import text_of
from langchain_segmind._tool_calling.toolset import ParsedReply
from langchain_segmind.credits import CACHED, PROVIDER, llm_output_of
from langchain_segmind.exceptions import SegmindJobNotFoundError, SegmindModelNotFoundError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from langchain_segmind._journals.identity import Scope
    from langchain_segmind._messages.structured_output import StructuredOutputParser
    from langchain_segmind._protocol.answers import Accounting
    from langchain_segmind._protocol.types import Flow, Response
    from langchain_segmind._tool_calling.toolset import ToolSet


@dataclass(slots=True)
class Call:
    """A call that is ready to be sent."""

    model: str
    body: bytes = field(repr=False)
    tools: ToolSet | None = None
    stop: tuple[str, ...] = ()
    answers_wrapped: bool = False
    """Whether decoding is constrained to a call or a wrapped answer (`strict`)."""
    answer: StructuredOutputParser | None = None
    """Reads the object of a `response_format`, which is all that the content is to be then."""
    resumes: object = None
    """The request id of a job that has this call's answer; nothing is posted then."""
    scope: Scope | None = None
    """Where a journal keeps its answer."""
    redact: Callable[[str], str] = str
    """Masks the API key in what a server may echo into the metadata."""

    def read(self, exchange: Flow[Response | Finished]) -> Flow[ChatResult]:
        """Read the answer that an exchange comes to."""
        return self.result((yield from self.complete(exchange)))

    def complete(self, exchange: Flow[Response | Finished]) -> Flow[Response | Finished]:
        """Go through an exchange; of a model that is not found, name the one that may be meant."""
        try:
            return (yield from exchange)
        except SegmindModelNotFoundError as error:
            if not isinstance(error, SegmindJobNotFoundError):
                error.message += did_you_mean(self.model)
                error.args = (error.message,)
            raise

    def result(self, reply: Response | Finished) -> ChatResult:
        """Read a whole answer: of v1, JSON or a finished event stream, or of a queued job."""
        completion, accounting, _ = reply if isinstance(reply, Finished) else read_response(reply)
        others = {**completion, "usage": None}  # The usage is that of all choices together.
        generations = [
            self._generation(choice, others if index else completion, accounting)
            for index, choice in enumerate(completion["choices"])
        ]
        first = cast("AIMessage", generations[0].message)  # `generation` makes no other.
        return ChatResult(generations=generations, llm_output=llm_output_of(first))

    def _generation(
        self, choice: Mapping[str, Any], completion: Mapping[str, Any], accounting: Accounting
    ) -> ChatGeneration:
        message = choice["message"]
        text = text_of(message.get("content"))
        is_cut = choice.get("finish_reason") == "length"
        if self.stop:
            cutter = StopCutter(self.stop)
            text = cutter.feed(text) + cutter.finish()
            if cutter.cut:
                choice, is_cut = {**choice, "finish_reason": "stop"}, True
        parsed = self.parse(text, message.get("tool_calls"), cut=is_cut)
        return self.generation(parsed, choice, completion, accounting)

    def parse(self, text: str, native: object, *, cut: bool) -> ParsedReply:
        """Take a whole reply apart, into calls and what remains."""
        if native or self.tools is None:
            parsed = self.with_native_calls(ParsedReply(text), native, cut=cut)
        else:
            from langchain_segmind._tool_calling.parser import parse_tool_calls

            parsed = parse_tool_calls(text, self.tools, truncated=cut, strict=self.answers_wrapped)
        if self.answer is None:
            return parsed
        return self.answer.take_answer(parsed, text, self.tools)

    def with_native_calls(self, parsed: ParsedReply, native: object, *, cut: bool) -> ParsedReply:
        """Add the calls that came beside the text, should the gateway come to forward tools."""
        if not isinstance(native, list) or not native:
            return parsed
        from langchain_segmind._tool_calling.native_calls import read_native_calls

        calls, invalid = read_native_calls(native, self.tools, cut=cut)
        return ParsedReply(
            parsed.content, parsed.tool_calls + calls, parsed.invalid_tool_calls + invalid
        )

    def generation(
        self,
        parsed: ParsedReply,
        choice: Mapping[str, Any],
        completion: Mapping[str, Any],
        accounting: Accounting,
    ) -> ChatGeneration:
        """Give the message of a choice, and what is known of it."""
        reason = choice.get("finish_reason")
        reason = reason if isinstance(reason, str) else None
        if parsed.tool_calls and reason != "length":
            reason = "tool_calls"  # Read from the text, so that the back end cannot know it.
        info = {"finish_reason": reason, "credits": accounting.credits.as_dict()}
        if choice.get("logprobs"):
            info["logprobs"] = choice["logprobs"]
        calls: dict[str, Any] = {}
        if parsed.tool_calls or parsed.invalid_tool_calls:  # pydantic checks empty lists, too.
            calls["tool_calls"] = parsed.tool_calls
            calls["invalid_tool_calls"] = parsed.invalid_tool_calls
        return ChatGeneration(
            message=AIMessage(
                content=parsed.content,
                **calls,
                usage_metadata=usage_from(completion.get("usage")),
                response_metadata=self._metadata(completion, reason, accounting),
            ),
            generation_info=info,
        )

    def _metadata(
        self, completion: Mapping[str, Any], reason: str | None, accounting: Accounting
    ) -> dict[str, Any]:
        model, id_ = completion.get("model"), completion.get("id")
        told = {
            "model_name": model if isinstance(model, str) and model else self.model,
            "finish_reason": reason,
            "request_id": accounting.request_id,
            **accounting.extra,
        }
        if isinstance(id_, str):
            told["id"] = id_
        metadata = {
            name: self.redact(value) if isinstance(value, str) else value
            for name, value in told.items()
        }
        metadata["model_provider"] = PROVIDER
        metadata["credits"] = accounting.credits.as_dict()
        if reason in _NORMALIZED:
            metadata["normalized_finish_reason"] = _NORMALIZED[reason]
            metadata["finish_state"] = "complete"  # Segmind suspends no turn.
        return metadata


_NORMALIZED = {
    "stop": "stop",
    "tool_calls": "tool_call",
    "function_call": "tool_call",
    "length": "length",
    "content_filter": "content_filter",
}
"""OpenAI's reasons in the words of langchain-core, which has them since 1.8.4."""


def usage_from(usage: object) -> UsageMetadata | None:
    """Read OpenAI's `usage`; None where a count is missing or no number."""
    if not isinstance(usage, dict):
        return None
    prompt, completion = usage.get("prompt_tokens"), usage.get("completion_tokens")
    if not _is_count(prompt) or not _is_count(completion):
        return None
    total = usage.get("total_tokens")
    return UsageMetadata(
        input_tokens=prompt,
        output_tokens=completion,
        total_tokens=total if _is_count(total) else prompt + completion,
    )


_MOST_TOKENS = 10**12
"""Python refuses to print integers of more than 4300 digits, and their sums are longer still."""


def _is_count(value: object) -> TypeGuard[int]:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < _MOST_TOKENS


def combine_llm_outputs(outputs: Sequence[Mapping[str, Any] | None]) -> dict[str, Any]:
    """Add up the `llm_output` of several prompts; the last balance is the one that counts."""
    known = [output for output in outputs if output]
    if len(known) <= 1:
        return dict(known[0]) if known else {}
    accounts = [output["credits"] for output in known]
    costs = [account["cost"] for account in accounts if account["cost"] is not None]
    balances = [account["remaining"] for account in accounts if account["remaining"] is not None]
    combined: dict[str, Any] = {
        "model_name": known[-1]["model_name"],
        "credits": {
            "remaining": balances[-1] if balances else None,
            "cost": sum(costs) if costs else None,
        },
    }
    if usages := [output["token_usage"] for output in known if "token_usage" in output]:
        combined["token_usage"] = {
            name: sum(usage[name] for usage in usages)
            for name in ("input_tokens", "output_tokens", "total_tokens")
        }
    return combined


def mark_as_free(generation: ChatGeneration) -> ChatGeneration:
    """Say that an answer from LangChain's cache cost nothing; the balance then is not known."""
    message = generation.message
    if not isinstance(message, AIMessage):
        return generation
    free = CACHED.as_dict()
    changes: dict[str, Any] = {"response_metadata": {**message.response_metadata, "credits": free}}
    usage = message.usage_metadata
    if usage is not None and "input_tokens" not in usage:
        changes["usage_metadata"] = None  # langchain-core wrote a cost where there was no usage.
    return ChatGeneration(
        message=message.model_copy(update=changes),
        generation_info={**(generation.generation_info or {}), "credits": free},
    )
