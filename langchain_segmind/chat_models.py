"""`ChatSegmindLlama`: Segmind's Llama models as a LangChain chat model.

A call is built, run and read: `_prepare` writes the body, a flow of `_protocol` describes
the exchange, a driver of `_transport` performs it, and `_messages` reads the answer.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable  # noqa: TC003 - pydantic reads it at run time.
from contextlib import aclosing, closing
from functools import cache
from typing import TYPE_CHECKING, Any, Literal, TypeVar, overload

from pydantic import Field, field_validator, model_validator

from langchain_segmind._messages.incoming import Call, combine_llm_outputs, mark_as_free
from langchain_segmind._messages.outgoing import convert_prompt
from langchain_segmind._messages.parameters import (
    PER_CALL,
    Amount,
    CallParameters,
    MaxTokens,
    ModelSlug,
    Probability,
    Seconds,
    Stop,
    Temperature,
    encode_body,
    pass_on_unknown,
    rename_aliases,
    take_request_id,
)
from langchain_segmind._messages.profiles import PROFILES, nearest_slug
from langchain_segmind._messages.prompt import BoundTools, render_prompt
from langchain_segmind._messages.streaming import stream_generations
from langchain_segmind._messages.tokens import TokenCounter
from langchain_segmind._protocol.calls import Clock, Exchanges
from langchain_segmind._tool_calling.toolset import parse_tool_choice
from langchain_segmind._transport import driver
from langchain_segmind._transport.base_chat_model import BaseSegmindChatModel, keep_signature
from langchain_segmind.rate_limiters import pause_of

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator, Sequence
    from typing import Unpack

    from langchain_core.callbacks import (
        AsyncCallbackManagerForLLMRun,
        BaseRunManager,
        CallbackManagerForLLMRun,
    )
    from langchain_core.language_models import LangSmithParams, LanguageModelInput, ModelProfile
    from langchain_core.messages import AIMessage, BaseMessage
    from langchain_core.outputs import ChatGeneration, ChatGenerationChunk, ChatResult, Generation
    from langchain_core.runnables import Runnable, RunnableConfig
    from langchain_core.tools import BaseTool
    from pydantic import BaseModel

    from langchain_segmind._journals.identity import Scope
    from langchain_segmind._messages.arguments import Arguments
    from langchain_segmind._messages.structured_output import Method
    from langchain_segmind._protocol.answers import Finished
    from langchain_segmind._protocol.types import Flow, Response
    from langchain_segmind._transport.clients import Clients
    from langchain_segmind.credits import CreditBalance

DEFAULT_MODEL = "llama-v3p1-70b-instruct"
MODELS = tuple(PROFILES)
"""The slugs that are known here; any other is passed on as it is."""
nearest_model = nearest_slug
"""Finds the one of them that a name means, as others spell it."""
_Model = TypeVar("_Model", bound="BaseModel")
_CLOCK = Clock(time.monotonic, time.time, random.random)


class ChatSegmindLlama(TokenCounter, BaseSegmindChatModel):
    """A Llama model hosted by Segmind.

    Its arguments, which are also its fields:
        model, model_kwargs: The slug, and what else the body of every call has.
        temperature, max_tokens, top_p, seed, stop: Sampling; also for a single call.
        api_key, base_url: Else from SEGMIND_API_KEY and SEGMIND_BASE_URL.
        timeout, max_retries, retry_unknown_outcome: Seconds for a call, and its retries.
        min_credits, low_credits, rate_limiter: When to refuse calls, to warn, to wait.
        queue, poll_interval, queue_timeout, on_submit: Segmind's queue, and how to wait.
        journal: Keeps what was paid for: the path of a SQLite file, or a `Journal`.
        streaming, http_client, http_async_client, default_headers: How Segmind is reached.

    Example:
        ```python
        from langchain_segmind import ChatSegmindLlama

        llm = ChatSegmindLlama(temperature=0)  # reads SEGMIND_API_KEY
        answer = llm.invoke("Tell me a joke on cats")
        print(answer.content, answer.response_metadata["credits"])
        ```
    """

    model: ModelSlug = DEFAULT_MODEL
    """The slug, the last part of the model's URL on segmind.com."""

    temperature: Temperature | None = None
    """Randomness, 0 to 2; the model's own default where it is not given."""

    max_tokens: MaxTokens | None = None
    """The longest answer, in tokens."""

    top_p: Probability | None = None
    """The share of probability to sample from, above 0 and up to 1."""

    seed: int | None = None
    """Makes sampling repeatable where the model honours it."""

    stop: Stop | None = None
    """Texts that end the answer; sent on, and enforced here too."""

    max_retries: int = Field(default=2, ge=0)
    """How often a call is sent again that was answered with 429 or 5xx or was never sent."""

    retry_unknown_outcome: bool = False
    """Whether to send again what was sent and whose answer was lost: it may be billed twice."""

    streaming: bool = False
    """Whether to ask the gateway for a stream; it sends none today, and both are understood."""

    queue: bool | None = None
    """Whether calls go through Segmind's queue (v2), which is made for slow generations: submitted
    once, then asked for the answer. The answers are the same, and one that was not waited for is
    not lost: see `resume`. If not given, they do where there is a `journal`."""

    journal: Any = Field(default=None, exclude=True)
    """Where it is kept what was paid for, so that nothing is paid for twice: the path of a SQLite
    file, or a `Journal`.

    A call has an identity by its `idempotency_key`, by that in its config's `metadata`, or by its
    place in a LangGraph run with a `thread_id`. A later call of the same identity, of any process,
    is given the same answer."""

    poll_interval: Seconds = 1.0
    """Seconds between two questions after a queued job, at most, while few jobs are waited for."""

    queue_timeout: Seconds = 600.0
    """Seconds to wait for a queued job, from its submission or from `resume`."""

    on_submit: Callable[[str], object] | None = Field(default=None, exclude=True, repr=False)
    """Called with the request id of every queued job as soon as it is known, before the wait: what
    it writes down can be fetched with `resume`. It runs where the call runs, on the event loop too,
    so it has to be quick; what it raises is logged."""

    min_credits: Amount | None = None
    """Credits (US dollars). Refuse calls while the last balance seen for this key is below.

    Any model of this process that uses the key at this host may have seen it. After topping up,
    `get_credits` sees the new balance, and calls go through again."""

    low_credits: Amount | None = None
    """Credits. Warn (`SegmindLowCreditsWarning`) each time the balance falls below."""

    model_kwargs: dict[str, Any] = Field(default_factory=dict, validate_default=True)
    """More fields for the body of every call."""

    # --- Construction ---

    if TYPE_CHECKING:
        # Editors show this where the call is typed, and pydantic's own words if it were not here.
        def __init__(self, **arguments: Unpack[Arguments]) -> None:
            """A Llama model hosted by Segmind.

            Its arguments, which are also its fields:
                model, model_kwargs: The slug, and what else the body of every call has.
                temperature, max_tokens, top_p, seed, stop: Sampling; also for a single call.
                api_key, base_url: Else from SEGMIND_API_KEY and SEGMIND_BASE_URL.
                timeout, max_retries, retry_unknown_outcome: Seconds for a call, and its retries.
                min_credits, low_credits, rate_limiter: When to refuse calls, to warn, to wait.
                queue, poll_interval, queue_timeout, on_submit: Segmind's queue, and how to wait.
                journal: Keeps what was paid for: the path of a SQLite file, or a `Journal`.
                streaming, http_client, http_async_client, default_headers: How Segmind is reached.
            """

    @model_validator(mode="before")
    @classmethod
    def _pass_on_unknown(cls, values: Any) -> Any:
        if not isinstance(values, dict):
            return values
        return pass_on_unknown(rename_aliases(values), cls.model_fields)

    @field_validator("journal", mode="before")
    @classmethod
    def _open_journal(cls, journal: Any) -> Any:
        from langchain_segmind._journals.opening import open_journal

        return None if journal is None else open_journal(journal)

    @field_validator("model_kwargs", mode="after")
    @classmethod
    def _check_model_kwargs(cls, model_kwargs: dict[str, Any]) -> dict[str, Any]:
        _call_parameters().check_names(model_kwargs)
        return model_kwargs

    # --- A call: build, run, read ---

    @keep_signature
    def _generate(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> ChatResult:
        call, clients = self._prepare(messages, stop, run_manager, kwargs)
        flow = call.read(self._exchange(call, clients))
        return driver.run(flow, clients, self._limiter())

    @keep_signature
    async def _agenerate(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: AsyncCallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> ChatResult:
        call, clients = self._prepare(messages, stop, run_manager, kwargs)
        flow = call.read(self._exchange(call, clients))
        return await driver.arun(flow, clients, self._limiter())

    def _stream(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> Iterator[ChatGenerationChunk]:
        call, clients = self._prepare(messages, stop, run_manager, kwargs)
        flow = stream_generations(call, self._exchange(call, clients, stream=True))
        with closing(driver.stream(flow, clients, self._limiter())) as chunks:
            yield from chunks

    async def _astream(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: AsyncCallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> AsyncIterator[ChatGenerationChunk]:
        call, clients = self._prepare(messages, stop, run_manager, kwargs)
        flow = stream_generations(call, self._exchange(call, clients, stream=True))
        async with aclosing(driver.astream(flow, clients, self._limiter())) as chunks:
            async for chunk in chunks:
                yield chunk

    def _prepare(
        self,
        messages: Sequence[BaseMessage],
        stop: list[str] | None,
        run_manager: BaseRunManager | None,
        options: dict[str, Any],
    ) -> tuple[Call, Clients]:
        """Check what this call was given and write its body; nothing has been sent yet."""
        given = _call_parameters().of_call(self, options, stop)
        model = given.pop("model")
        resumes = take_request_id(given)
        scope = self._scope(given.pop("idempotency_key", None), run_manager)
        images = self._takes_images(model)
        wire = () if resumes else convert_prompt(messages, model=model, images=images)
        prompt = render_prompt(wire, given)
        body = {"messages": prompt.messages, **self.model_kwargs, **prompt.fields}
        if self.streaming and scope is None and not self._through_queue:
            body["stream"] = True
        clients = self._connected()
        call = Call(
            model=model,
            body=encode_body({name: value for name, value in body.items() if value is not None}),
            tools=prompt.tools,
            stop=tuple(given["stop"] or ()),
            answers_wrapped=prompt.answers_wrapped,
            answer=prompt.answer,
            resumes=resumes,
            scope=scope,
            redact=clients.redactor.text,
        )
        return call, clients

    def _scope(self, idempotency_key: object, run_manager: BaseRunManager | None) -> Scope | None:
        """Find the identity of a call, which only a journal has a use for."""
        if self.journal is None and idempotency_key is None:
            return None
        from langchain_segmind._journals.identity import scope_of

        return scope_of(self.journal, idempotency_key, self._metadata_of(run_manager))

    @property
    def _through_queue(self) -> bool:
        return self.journal is not None if self.queue is None else self.queue

    def _exchange(
        self, call: Call, clients: Clients, *, stream: bool = False
    ) -> Flow[Response | Finished]:
        """Describe the exchange that answers a call."""
        exchanges = self._exchanges(clients)
        if call.resumes:
            return exchanges.fetch(call.resumes)
        if call.scope is None:
            return exchanges.complete(call.model, call.body, accept_stream=stream)
        settings = clients.settings
        return exchanges.complete_once(
            call.model,
            call.body,
            self.journal,
            call.scope,
            account=(settings.base_url, settings.api_key.get_secret_value()),
        )

    def _exchanges(self, clients: Clients) -> Exchanges:
        return Exchanges(
            clients.account,
            _CLOCK,
            max_retries=self.max_retries,
            retry_unknown_outcome=self.retry_unknown_outcome,
            timeout=clients.total_seconds,
            through_queue=self._through_queue,
            poll_interval=self.poll_interval,
            queue_timeout=self.queue_timeout,
            on_submit=self.on_submit,
            min_credits=self.min_credits,
            low_credits=self.low_credits,
            pause=pause_of(self._limiter()),
            redact=clients.redactor.text,
        )

    def _takes_images(self, model: str) -> bool:
        profile = self.profile if model == self.model else PROFILES.get(model)
        return bool((profile or {}).get("image_inputs"))

    # --- Money ---

    def resume(
        self,
        request_id: str,
        *,
        tools: Sequence[dict[str, Any] | type | Callable[..., Any] | BaseTool] | None = None,
        stop: list[str] | None = None,
        config: RunnableConfig | None = None,
        **kwargs: Any,
    ) -> AIMessage:
        """Fetch the answer of a job that was submitted before, waiting for it if need be.

        Nothing is posted, so nothing is paid. Segmind keeps a job for about an hour. The message
        is the one that the call would have given, if it is told what the call was told: with a
        bound model or a structured output chain, call `bound.invoke([], resume=request_id)`.

        Example:
            ```python
            from langchain_segmind import ChatSegmindLlama

            ids: list[str] = []
            ChatSegmindLlama(queue=True, on_submit=ids.append).invoke("Tell me a joke on cats")
            print(ChatSegmindLlama().resume(ids[0]).text)  # the same joke, paid for once
            ```

        Args:
            request_id: From an error, `on_submit`, or the log.
            tools: The tools that the call was given.
            stop: The call's own texts that end the answer.
            config: Callbacks, tags and the like.
            **kwargs: What else `bind_tools` or the call was given.

        Raises:
            SegmindJobNotFoundError: The id is unknown, or has expired.
            SegmindJobFailedError: The job failed.
            SegmindTimeoutError: It is not finished after `queue_timeout`.
            SegmindError: Segmind refused the question, or its answer cannot be used.
        """
        return self._rebind(tools, kwargs).invoke([], config, stop=stop, resume=request_id)

    async def aresume(
        self,
        request_id: str,
        *,
        tools: Sequence[dict[str, Any] | type | Callable[..., Any] | BaseTool] | None = None,
        stop: list[str] | None = None,
        config: RunnableConfig | None = None,
        **kwargs: Any,
    ) -> AIMessage:
        """Fetch the answer of a job that was submitted before: see `resume`."""
        return await self._rebind(tools, kwargs).ainvoke([], config, stop=stop, resume=request_id)

    def _rebind(
        self, tools: Sequence[Any] | None, options: dict[str, Any]
    ) -> Runnable[LanguageModelInput, AIMessage]:
        return self.bind_tools(tools, **options) if tools else self.bind(**options)

    def get_credits(self) -> CreditBalance:
        """Ask what the account holds. It costs nothing, and is a way to check a key.

        Models with `min_credits` go by the balance it sees: call it after topping up.

        Raises:
            SegmindAuthenticationError: The key is not valid.
            SegmindInsufficientCreditsError: Segmind has no credits on record for it.
            SegmindError: Segmind could not be asked.
        """
        clients = self._connected()
        return driver.run(self._exchanges(clients).fetch_balance(), clients)

    async def aget_credits(self) -> CreditBalance:
        """Ask what the account holds: see `get_credits`."""
        clients = self._connected()
        return await driver.arun(self._exchanges(clients).fetch_balance(), clients)

    # --- Tools and structured output ---

    def bind_tools(
        self,
        tools: Sequence[dict[str, Any] | type | Callable[..., Any] | BaseTool],
        *,
        tool_choice: Any = None,
        strict: bool | None = None,
        parallel_tool_calls: bool | None = None,
        **kwargs: Any,
    ) -> Runnable[LanguageModelInput, AIMessage]:
        """Let the model call tools; Segmind forwards none, so they go into the prompt.

        Example:
            ```python
            from langchain_segmind import ChatSegmindLlama


            def get_weather(location: str) -> str:
                '''Get the weather at a location.'''
                return f"It is sunny in {location}."


            llm = ChatSegmindLlama().bind_tools([get_weather])
            print(llm.invoke("What is the weather in San Francisco, CA?").tool_calls)
            ```

        Args:
            tools: Functions, pydantic classes, TypedDicts, LangChain tools or OpenAI-format dicts.
            tool_choice: "auto" (the default), "none", "any" (also "required" and True), a tool's
                name, or OpenAI's dict for one.
            strict: Constrain decoding, to a call or an answer, where the back end honours it.
            parallel_tool_calls: False asks for at most one call a turn.
            **kwargs: Parameters for every call of the bound model.

        Raises:
            ValueError: `tool_choice` names no tool, a tool has no name or is built into another
                provider, or a schema cannot be used.
        """
        bound = BoundTools.of(tools)
        parse_tool_choice(tool_choice, bound.compiled.names)
        options = {
            "tool_choice": tool_choice,
            "strict": strict,
            "parallel_tool_calls": parallel_tool_calls,
        }
        given = {name: value for name, value in options.items() if value is not None}
        return self.bind(tools=bound, **given, **kwargs)

    @overload
    def with_structured_output(
        self,
        schema: type[_Model],
        *,
        method: Method = ...,
        include_raw: Literal[False] = ...,
        strict: bool | None = ...,
        max_repairs: int = ...,
        **kwargs: Any,
    ) -> Runnable[LanguageModelInput, _Model]: ...

    @overload
    def with_structured_output(
        self,
        schema: dict[str, Any] | type,
        *,
        method: Method = ...,
        include_raw: Literal[True],
        strict: bool | None = ...,
        max_repairs: int = ...,
        **kwargs: Any,
    ) -> Runnable[LanguageModelInput, dict[str, Any]]: ...

    @overload
    def with_structured_output(
        self,
        schema: dict[str, Any] | type,
        *,
        method: Method = ...,
        include_raw: bool = ...,
        strict: bool | None = ...,
        max_repairs: int = ...,
        **kwargs: Any,
    ) -> Runnable[LanguageModelInput, dict[str, Any] | BaseModel]: ...

    def with_structured_output(
        self,
        schema: dict[str, Any] | type,
        *,
        method: Method = "json_schema",
        include_raw: bool = False,
        strict: bool | None = None,
        max_repairs: int = 0,
        **kwargs: Any,
    ) -> Runnable[LanguageModelInput, dict[str, Any] | BaseModel]:
        """Answer in the form of a schema.

        Example:
            ```python
            from langchain_segmind import ChatSegmindLlama
            from pydantic import BaseModel


            class City(BaseModel):
                name: str
                country: str


            print(ChatSegmindLlama().with_structured_output(City).invoke("Tell me about Paris."))
            ```

        Args:
            schema: A pydantic class, a TypedDict, a JSON schema or an OpenAI function.
            method: "json_schema" constrains decoding and also says the schema in words;
                "function_calling" forces a call of a tool of that form; "json_mode" asks for some
                JSON object and leaves the rest to your prompt.
            include_raw: Give `raw`, `parsed` and `parsing_error` instead of raising.
            strict: Sent on with the schema.
            max_repairs: How often the model is asked again, for money, when its reply does not fit;
                under an `idempotency_key` of `k` as `k/repair-1` and so on.
            **kwargs: Parameters for every call.

        The chain raises `OutputParserException`, with the text, for a reply that holds no JSON
        object, or none that fits a pydantic class. Of a dict or TypedDict schema the object is
        given as it is.

        Raises:
            ValueError: The schema or the method is none of these, or the schema cannot be used.
        """
        from langchain_segmind._messages.structured_output import structured_chain

        return structured_chain(
            self,
            schema,
            method,
            include_raw=include_raw,
            strict=strict,
            max_repairs=max_repairs,
            options=kwargs,
        )

    # --- What LangChain asks ---

    @property
    def model_name(self) -> str:
        """The slug, under the name that LangChain's own models use."""
        return self.model

    @property
    def _llm_type(self) -> str:
        return "segmind-llama"

    @property
    def _identifying_params(self) -> dict[str, Any]:
        named = ("base_url", *PER_CALL)
        given = {name: value for name in named if (value := getattr(self, name)) is not None}
        return {**given, "model_name": self.model, **self.model_kwargs}

    def _get_invocation_params(
        self, stop: list[str] | None = None, **kwargs: Any
    ) -> dict[str, Any]:
        """As langchain-core's, without the way through its deprecated `dict` at each call."""
        if type(self).dict is not ChatSegmindLlama.dict:  # A subclass adds to what is traced.
            return super()._get_invocation_params(stop, **kwargs)
        return {**self._identifying_params, "_type": self._llm_type, "stop": stop, **kwargs}

    def _resolve_model_profile(self) -> ModelProfile | None:
        return PROFILES.get(self.model)

    def _get_ls_params(self, stop: list[str] | None = None, **kwargs: Any) -> LangSmithParams:
        params = super()._get_ls_params(stop=stop or self.stop, **kwargs)
        params["ls_provider"] = "segmind"
        return params

    def _combine_llm_outputs(self, llm_outputs: list[dict[str, Any] | None], /) -> dict[str, Any]:
        return combine_llm_outputs(llm_outputs)

    def _convert_cached_generations(self, cache_val: list[Generation]) -> list[ChatGeneration]:
        return [mark_as_free(kept) for kept in super()._convert_cached_generations(cache_val)]


@cache
def _call_parameters() -> CallParameters:
    """Give what checks parameters; it is made with the first model, and not at its first call."""
    return CallParameters(ChatSegmindLlama.model_fields)
