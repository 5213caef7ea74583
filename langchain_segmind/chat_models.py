"""`ChatSegmindLlama`: Segmind's Llama models as a LangChain chat model.

A call is built, run and read: `_prepare` makes the body, a flow of `_flows` describes the
exchange, `_http` performs it, and `_call` reads the answer.
"""

from __future__ import annotations

import inspect
import random
import time
from collections.abc import Callable  # noqa: TC003 - pydantic reads it at run time.
from contextlib import aclosing, closing
from typing import TYPE_CHECKING, Any, Literal, Self, TypeVar, cast, overload

from langchain_core.language_models import BaseChatModel, LangSmithParams, ModelProfile
from langchain_core.utils import from_env, secret_from_env
from pydantic import ConfigDict, Field, PrivateAttr, SecretStr, field_validator, model_validator

from langchain_segmind import _http
from langchain_segmind._account import account_of
from langchain_segmind._call import Call, combined_llm_output, free_of_charge
from langchain_segmind._doors import Settings
from langchain_segmind._flows import Surroundings, fetch_balance, post, watched
from langchain_segmind._messages import text_of_wire, to_wire
from langchain_segmind._parameters import (
    Amount,
    MaxTokens,
    ModelSlug,
    Probability,
    Seconds,
    Stop,
    Temperature,
    as_timeout,
    check_overrides,
    check_passed_on,
    checked_headers,
    checked_timeout,
    encoded,
    is_slug,
    known_or_passed_on,
    normalized_base_url,
    total_seconds,
    warn_of_plain_http,
)
from langchain_segmind._profiles import PROFILES
from langchain_segmind._prompting import BoundTools, prompted
from langchain_segmind._replies import error_from_failure
from langchain_segmind._retry import RetryPolicy
from langchain_segmind._tokens import PER_MESSAGE, PER_PROMPT, estimate_tokens
from langchain_segmind._tools import parse_tool_choice
from langchain_segmind._traces import traced
from langchain_segmind._version import __version__
from langchain_segmind.exceptions import SegmindAuthenticationError
from langchain_segmind.rate_limiters import SegmindRateLimiter, pause_of

if TYPE_CHECKING:
    from collections.abc import (
        AsyncGenerator,
        AsyncIterator,
        Generator,
        Iterator,
        Mapping,
        Sequence,
    )
    from types import TracebackType
    from typing import Unpack

    from langchain_core.callbacks import AsyncCallbackManagerForLLMRun, CallbackManagerForLLMRun
    from langchain_core.language_models import LanguageModelInput
    from langchain_core.messages import AIMessage, BaseMessage
    from langchain_core.outputs import ChatGeneration, ChatGenerationChunk, ChatResult, Generation
    from langchain_core.runnables import Runnable, RunnableConfig
    from langchain_core.tools import BaseTool
    from pydantic import BaseModel

    from langchain_segmind._account import Account
    from langchain_segmind._arguments import Arguments
    from langchain_segmind._call import Finished
    from langchain_segmind._exchange import Flow, Reply
    from langchain_segmind._structured import Method
    from langchain_segmind.credits import CreditBalance

DEFAULT_MODEL = "llama-v3p1-70b-instruct"
DEFAULT_BASE_URL = "https://api.segmind.com"
DEFAULT_TIMEOUT = 120.0
"""Seconds: the gateway itself gives up on a v1 call after some 60 to 100."""

_Method = TypeVar("_Method", bound="Callable[..., Any]")
_Model = TypeVar("_Model", bound="BaseModel")
_WORLD = Surroundings(time.monotonic, time.time, random.random)
_SENT = ("temperature", "max_tokens", "top_p", "seed")
"""The fields that go into the body under their own names."""


def _inspected(method: _Method) -> _Method:
    """Keep a signature ready: langchain-core asks for it at each call, a tenth of which it was."""
    method.__signature__ = inspect.signature(method)  # type: ignore[attr-defined]
    return method


class ChatSegmindLlama(BaseChatModel):
    """A Llama model hosted by Segmind.

    Example:
        ```python
        from langchain_segmind import ChatSegmindLlama

        llm = ChatSegmindLlama(temperature=0)  # reads SEGMIND_API_KEY
        answer = llm.invoke("Tell me a joke on cats")
        print(answer.content, answer.response_metadata["credits"])
        ```
    """

    model: ModelSlug = Field(default=DEFAULT_MODEL, alias="model_name")
    """The slug, the last part of the model's URL on segmind.com; `llama-v3p1-70b-instruct` if not
    given."""

    api_key: SecretStr | None = Field(
        default_factory=secret_from_env("SEGMIND_API_KEY", default=None),
        alias="segmind_api_key",
    )
    """The API key; from the environment variable SEGMIND_API_KEY where it is not given."""

    base_url: str = Field(
        default_factory=from_env("SEGMIND_BASE_URL", default=DEFAULT_BASE_URL),
        validate_default=True,
    )
    """The root of the API, with or without a trailing `/v1`; else from the environment variable
    SEGMIND_BASE_URL, else `https://api.segmind.com`."""

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

    timeout: float | tuple[float | None, ...] | None = DEFAULT_TIMEOUT
    """Seconds (120 if not given), a (connect, read, write, pool) tuple of them, an `httpx.Timeout`,
    or None for no limit.

    Its longest step is also the deadline of the whole call, retries and waits included."""

    max_retries: int = Field(default=2, ge=0)
    """How often a call is sent again that was answered with 429 or 5xx or was never sent."""

    retry_unknown_outcome: bool = False
    """Whether to send again what was sent and whose answer was lost: it may be billed twice."""

    streaming: bool = False
    """Whether to ask the gateway for a stream; it sends none today, and both are understood."""

    queue: bool = False
    """Whether calls go through Segmind's queue (v2), which is made for slow generations: submitted
    once, asked after, and fetched. The answers are the same, and one that was not waited for is
    not lost: see `resume`."""

    poll_interval: Seconds = 1.0
    """Seconds between two questions after a queued job, at most, while few jobs are waited for."""

    queue_timeout: Seconds = 600.0
    """Seconds to wait for a queued job, from its submission or from `resume`."""

    on_submit: Callable[[str], object] | None = Field(default=None, exclude=True, repr=False)
    """Called with the request id of every queued job as soon as it is known, before the wait.

    What it writes down can be fetched with `resume`, even by another process. It runs where the
    call runs, on the event loop too, so it has to be quick; what it raises is logged."""

    min_credits: Amount | None = None
    """Credits (US dollars). Refuse calls while the last balance seen for this key is below: nothing
    is sent then.

    Any model of this process that uses the key at this host may have seen it. After topping up,
    `get_credits` sees the new balance, and calls go through again."""

    low_credits: Amount | None = None
    """Credits. Warn (`SegmindLowCreditsWarning`) each time the balance falls below."""

    default_headers: dict[str, str] = Field(default_factory=dict, exclude=True, repr=False)
    """Headers to send along; not shown and not serialized, since they may hold secrets."""

    http_client: Any = Field(default=None, exclude=True, repr=False)
    """An `httpx.Client` to use for blocking calls instead of our own; yours to close."""

    http_async_client: Any = Field(default=None, exclude=True, repr=False)
    """An `httpx.AsyncClient` to use for async calls instead of our own; yours to close."""

    model_kwargs: dict[str, Any] = Field(default_factory=dict)
    """More fields for the body of every call."""

    # Inputs may be keys, or headers that hold one: an error names the field, not the value.
    model_config = ConfigDict(populate_by_name=True, hide_input_in_errors=True)

    _clients: _http.Clients | None = PrivateAttr(default=None)
    _clients_given: tuple[Any, ...] = PrivateAttr(default=())

    # --- Construction ---

    if TYPE_CHECKING:

        def __init__(self, **arguments: Unpack[Arguments]) -> None:
            """Take any field by its name or its alias."""

    @model_validator(mode="before")
    @classmethod
    def _pass_on_unknown(cls, values: Any) -> Any:
        if not isinstance(values, dict):
            return values
        known = {name for name, field in cls.model_fields.items()}
        known |= {field.alias for field in cls.model_fields.values() if field.alias}
        return known_or_passed_on(dict(values), known)

    @field_validator("base_url", mode="before")
    @classmethod
    def _check_base_url(cls, url: Any) -> str:
        base_url = normalized_base_url(DEFAULT_BASE_URL if url is None else str(url))
        warn_of_plain_http(base_url)
        return base_url

    @field_validator("timeout", mode="before")
    @classmethod
    def _check_timeout(cls, timeout: Any) -> Any:
        return checked_timeout(timeout)

    @field_validator("default_headers", mode="after")
    @classmethod
    def _check_headers(cls, headers: dict[str, str]) -> dict[str, str]:
        return checked_headers(headers)

    @field_validator("model_kwargs", mode="after")
    @classmethod
    def _check_model_kwargs(cls, model_kwargs: dict[str, Any]) -> dict[str, Any]:
        check_passed_on(model_kwargs)
        return model_kwargs

    @model_validator(mode="after")
    def _check_and_sign(self) -> Self:
        self._join_limiter(account_of(self.base_url, self._checked_key()))
        self._add_version("langchain-segmind", __version__)
        return self

    def _checked_key(self) -> SecretStr:
        key = self.api_key
        if key is None or not key.get_secret_value().strip():
            raise SegmindAuthenticationError(
                f"There is no API key. {SegmindAuthenticationError.advice} To try it without an "
                "account: python -m langchain_segmind.gateway is a local Segmind."
            )
        if not (value := key.get_secret_value()).isascii() or not value.isprintable():
            raise SegmindAuthenticationError(
                f"The API key has characters that no key has. {SegmindAuthenticationError.advice}"
            )
        return key

    # --- A call: build, run, read ---

    @_inspected
    def _generate(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> ChatResult:
        call, clients = self._prepare(messages, stop, kwargs), self._connected()
        reply = _http.run(self._flow(call, clients), clients, self.rate_limiter)
        return traced(call.result(reply), run_manager)

    @_inspected
    async def _agenerate(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: AsyncCallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> ChatResult:
        call, clients = self._prepare(messages, stop, kwargs), self._connected()
        reply = await _http.arun(self._flow(call, clients), clients, self.rate_limiter)
        return traced(call.result(reply), run_manager)

    def _stream(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> Iterator[ChatGenerationChunk]:
        call, clients = self._prepare(messages, stop, kwargs), self._connected()
        reply = _http.run(self._flow(call, clients, stream=True), clients, self.rate_limiter)
        if reply.chunks is None:
            yield traced(call.emulated_stream(call.result(reply)), run_manager)
            return
        reader, broken = call.reader(reply), None
        try:
            with closing(cast("Generator[bytes]", reply.chunks)) as chunks:
                for chunk in chunks:
                    yield from reader.feed(chunk)
                    if reader.is_done:
                        break
        except _http.StreamBrokenError as error:
            broken = clients.redacted(error.failure)
        if broken is not None and not reader.is_complete:
            raise error_from_failure(broken)
        yield traced(reader.finish(), run_manager)

    async def _astream(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: AsyncCallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> AsyncIterator[ChatGenerationChunk]:
        call, clients = self._prepare(messages, stop, kwargs), self._connected()
        flow = self._flow(call, clients, stream=True)
        reply = await _http.arun(flow, clients, self.rate_limiter)
        if reply.chunks is None:
            yield traced(call.emulated_stream(call.result(reply)), run_manager)
            return
        reader, broken = call.reader(reply), None
        try:
            async with aclosing(cast("AsyncGenerator[bytes]", reply.chunks)) as chunks:
                async for chunk in chunks:
                    for generation in reader.feed(chunk):
                        yield generation
                    if reader.is_done:
                        break
        except _http.StreamBrokenError as error:
            broken = clients.redacted(error.failure)
        if broken is not None and not reader.is_complete:
            raise error_from_failure(broken)
        yield traced(reader.finish(), run_manager)

    def _prepare(
        self, messages: Sequence[BaseMessage], stop: list[str] | None, options: dict[str, Any]
    ) -> Call:
        """Check what this call was given and write its body; nothing has been sent yet."""
        given = {name: getattr(self, name) for name in (*_SENT, "stop")}
        if options or stop is not None:
            own = options if stop is None else {**options, "stop": stop}
            given |= check_overrides(own)
            check_passed_on(options)
        model = given.pop("model", None) or self.model
        if not is_slug(model):  # A copy or an assignment may have brought it.
            check_overrides({"model": model})
        resumes = given.pop("resume", None)
        wire = () if resumes else to_wire(messages, model=model, images=self._takes_images(model))
        prompt = prompted(wire, given)
        body = {"messages": prompt.messages, **self.model_kwargs, **prompt.fields}
        if self.streaming and not self.queue:
            body["stream"] = True
        return Call(
            model=model,
            body=encoded({name: value for name, value in body.items() if value is not None}),
            tools=prompt.tools,
            stop=tuple(given["stop"] or ()),
            answers_wrapped=prompt.answers_wrapped,
            resumes=resumes,
        )

    def _flow(
        self, call: Call, clients: _http.Clients, *, stream: bool = False
    ) -> Flow[Reply | Finished]:
        """Describe the exchange that answers a call, and watch what it does to the account."""
        account = clients.account
        policy = RetryPolicy(self.max_retries, self.retry_unknown_outcome)
        timeout = total_seconds(self.timeout)
        flow: Flow[Reply | Finished]
        if call.resumes or self.queue:
            flow = self._queue_flow(call, account, policy, timeout)
        else:
            path = f"/v1/{call.model}"
            flow = post(
                path, call.body, policy=policy, timeout=timeout, world=_WORLD, accept_stream=stream
            )
        # To resume costs nothing, so no balance is too low for it.
        floor = None if call.resumes else self.min_credits
        return watched(
            flow,
            account,
            world=_WORLD,
            min_credits=floor,
            low_credits=self.low_credits,
            pause=pause_of(self.rate_limiter),
        )

    def _queue_flow(
        self, call: Call, account: Account, policy: RetryPolicy, timeout: float | None
    ) -> Flow[Finished]:
        from langchain_segmind._queue import Queue, queued, resumed  # noqa: PLC0415 - not for v1.

        queue = Queue(self.poll_interval, self.queue_timeout, account, _WORLD)
        if call.resumes:
            return resumed(call.resumes, queue=queue)
        return queued(
            call.model,
            call.body,
            queue=queue,
            policy=policy,
            timeout=timeout,
            on_submit=self.on_submit,
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
        bound model or a structured output chain, call `bound.invoke([], resume=request_id)`
        (of a chain with `include_raw`, the model in it).

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
        return self._told(tools, kwargs).invoke([], config, stop=stop, resume=request_id)

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
        return await self._told(tools, kwargs).ainvoke([], config, stop=stop, resume=request_id)

    def _told(
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
        return _http.run(self._balance_flow(clients), clients)

    async def aget_credits(self) -> CreditBalance:
        """Ask what the account holds: see `get_credits`."""
        clients = self._connected()
        return await _http.arun(self._balance_flow(clients), clients)

    def _balance_flow(self, clients: _http.Clients) -> Flow[CreditBalance]:
        asking = fetch_balance(
            policy=RetryPolicy(self.max_retries),
            timeout=total_seconds(self.timeout),
            account=clients.account,
            world=_WORLD,
        )
        return watched(asking, clients.account, world=_WORLD, low_credits=self.low_credits)

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
            max_repairs: How often the model is asked again, for money, when its reply does not fit.
            **kwargs: Parameters for every call.

        The chain raises `OutputParserException`, with the text, for a reply that holds no JSON
        object, or none that fits a pydantic class. Of a dict or TypedDict schema the object is
        given as it is.

        Raises:
            ValueError: The schema or the method is none of these, or the schema cannot be used.
        """
        from langchain_segmind._structured import structured_chain  # noqa: PLC0415 - slow.

        return structured_chain(
            self,
            schema,
            method,
            include_raw=include_raw,
            strict=strict,
            max_repairs=max_repairs,
            options=kwargs,
        )

    # --- Clients ---

    def close(self) -> None:
        """Close the connections of blocking calls; a later call opens new ones."""
        if self._clients is not None:
            self._clients.close()

    async def aclose(self) -> None:
        """Close the connections of the running event loop and those of blocking calls."""
        if self._clients is not None:
            await self._clients.aclose()

    def __enter__(self) -> Self:
        """Close the connections at the end of a `with` block."""
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    async def __aenter__(self) -> Self:
        """Close the connections at the end of an `async with` block."""
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.aclose()

    def _connected(self) -> _http.Clients:
        """Give this model's clients, anew where a copy or an assignment changed their settings."""
        own = (self.http_client, self.http_async_client)
        given = (self.base_url, self.api_key, self.default_headers, self.timeout, *own)
        clients = self._clients
        if clients is None or self._clients_given != given:
            # Compared as given, since checking and converting take longer than all the rest.
            settings = Settings(
                normalized_base_url(self.base_url),
                self._checked_key(),
                dict(self.default_headers),
                as_timeout(self.timeout),
                *own,
            )
            if clients is None or clients.settings != settings:
                clients = self._clients = _http.Clients(settings)
            self._clients_given = (*given[:2], settings.default_headers, *given[3:])
        self._join_limiter(clients.account)
        return clients

    def _join_limiter(self, account: Account) -> None:
        """Let the limiter count with all models that use this key at this host."""
        if isinstance(self.rate_limiter, SegmindRateLimiter):
            self.rate_limiter = self.rate_limiter.joined_to(account)

    def __setattr__(self, name: str, value: Any) -> None:
        """Keep an assigned key as secret as one given at construction."""
        secret = name == "api_key" and isinstance(value, str)
        super().__setattr__(name, SecretStr(value) if secret else value)

    def model_copy(self, *, update: Mapping[str, Any] | None = None, deep: bool = False) -> Self:
        """Copy; a key among the updates stays secret."""
        copy = super().model_copy(update=update, deep=deep)
        if isinstance(copy.api_key, str):
            copy.api_key = SecretStr(copy.api_key)
        return copy

    def __copy__(self) -> Self:
        """Copy shallowly, as `model_copy` does, without what was derived from the settings."""
        copied = super().__copy__()
        copied.__dict__.pop("_serialized", None)  # langchain-core's cached part of the cache key.
        return copied

    def __deepcopy__(self, memo: dict[int, Any] | None = None) -> Self:
        """Copy everything but the user's own clients, which cannot be copied and are shared."""
        memo = {} if memo is None else memo
        for client in (self.http_client, self.http_async_client):
            memo[id(client)] = client
        return super().__deepcopy__(memo)

    def __getstate__(self) -> dict[Any, Any]:
        """Pickle the settings: no connections, and no key that came from the environment."""
        if self.http_client is not None or self.http_async_client is not None:
            raise TypeError(
                "A ChatSegmindLlama with an http_client of its own cannot be pickled: build it in "
                "the other process, or leave http_client out."
            )
        state = super().__getstate__()
        fields = dict(state["__dict__"])
        if "api_key" not in self.model_fields_set:
            fields["api_key"] = None
        private = {"_clients": None, "_clients_given": ()}
        return {**state, "__dict__": fields, "__pydantic_private__": private}

    def __setstate__(self, state: dict[Any, Any]) -> None:
        """Unpickle; a key that was left out is read from this process's environment."""
        super().__setstate__(state)
        if "api_key" not in self.model_fields_set:
            self.__dict__["api_key"] = secret_from_env("SEGMIND_API_KEY", default=None)()
        if self.api_key is not None:
            self._join_limiter(account_of(self.base_url, self.api_key))

    # --- What LangChain asks ---

    @property
    def _llm_type(self) -> str:
        return "segmind-llama"

    @property
    def _identifying_params(self) -> dict[str, Any]:
        named = ("base_url", *_SENT, "stop")
        given = {name: value for name in named if (value := getattr(self, name)) is not None}
        return {"model": self.model, "model_name": self.model, **given, **self.model_kwargs}

    @property
    def lc_secrets(self) -> dict[str, str]:
        """Serialize the key as the name of its environment variable."""
        return {"api_key": "SEGMIND_API_KEY"}

    @property
    def lc_attributes(self) -> dict[str, Any]:
        """Serialize the base URL also where it came from the environment."""
        return {"base_url": self.base_url}

    @classmethod
    def is_lc_serializable(cls) -> bool:
        """Tell that `langchain_core.load.dumps` works."""
        return True

    @classmethod
    def get_lc_namespace(cls) -> list[str]:
        """Give the place where `langchain_core.load.loads` finds the class."""
        return ["langchain_segmind", "chat_models"]

    def _resolve_model_profile(self) -> ModelProfile | None:
        return PROFILES.get(self.model)

    def _get_ls_params(self, stop: list[str] | None = None, **kwargs: Any) -> LangSmithParams:
        params = super()._get_ls_params(stop=stop or self.stop, **kwargs)
        params["ls_provider"] = "segmind"
        return params

    def _combine_llm_outputs(self, llm_outputs: list[dict[str, Any] | None], /) -> dict[str, Any]:
        return combined_llm_output(llm_outputs)

    def _convert_cached_generations(self, cache_val: list[Generation]) -> list[ChatGeneration]:
        return [free_of_charge(kept) for kept in super()._convert_cached_generations(cache_val)]

    def get_num_tokens(self, text: str) -> int:
        """Estimate the tokens of a text without a download; exact with `custom_get_token_ids`."""
        if self.custom_get_token_ids is not None:
            return len(self.custom_get_token_ids(text))
        return estimate_tokens(text)

    def get_num_tokens_from_messages(
        self, messages: Sequence[BaseMessage], tools: Sequence[Any] | None = None
    ) -> int:
        """Estimate the tokens of a prompt, with its tools, without a download."""
        wire = to_wire(messages, model=self.model, images=True)
        given = {} if tools is None else {"tools": list(tools)}
        texts = [text_of_wire(message) for message in prompted(wire, given).messages]
        return PER_PROMPT + sum(PER_MESSAGE + self.get_num_tokens(text) for text in texts)
