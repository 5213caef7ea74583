"""A chat model's account: its key and host, its connections, and how it is copied and pickled."""

from __future__ import annotations

import inspect
from contextlib import aclosing, closing, contextmanager
from contextvars import ContextVar
from functools import partial
from typing import TYPE_CHECKING, Any, Self, TypeVar, cast

from langchain_core.language_models import BaseChatModel
from langchain_core.runnables import ensure_config
from langchain_core.utils import from_env, secret_from_env
from pydantic import (
    ConfigDict,
    Field,
    PrivateAttr,
    SecretStr,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_validator,
)
from pydantic_core import InitErrorDetails, PydanticCustomError

from langchain_segmind._protocol.account import account_of
from langchain_segmind._transport.clients import Clients
from langchain_segmind._transport.imports import import_for_calls
from langchain_segmind._transport.settings import (
    Settings,
    as_timeout,
    checked_client,
    checked_headers,
    checked_timeout,
    normalized_base_url,
    warn_of_plain_http,
)
from langchain_segmind._version import __version__
from langchain_segmind.credits import CACHED, Money, llm_output_of
from langchain_segmind.exceptions import SegmindAuthenticationError, is_retryable
from langchain_segmind.rate_limiters import DeferredRateLimiter, SegmindRateLimiter

if TYPE_CHECKING:
    from collections.abc import (
        AsyncGenerator,
        AsyncIterator,
        Callable,
        Generator,
        Iterator,
        Mapping,
    )

    from langchain_core.callbacks import (
        AsyncCallbackManagerForLLMRun,
        BaseRunManager,
        CallbackManagerForLLMRun,
    )
    from langchain_core.language_models import LanguageModelInput
    from langchain_core.messages import AIMessage, AIMessageChunk, BaseMessage
    from langchain_core.outputs import ChatResult
    from langchain_core.rate_limiters import BaseRateLimiter
    from langchain_core.runnables import Runnable, RunnableConfig

    from langchain_segmind._protocol.account import Account

DEFAULT_BASE_URL = "https://api.segmind.com"
DEFAULT_TIMEOUT = 120.0
"""Seconds: the gateway itself gives up on a v1 call after some 60 to 100."""

_METADATA: ContextVar[Mapping[str, Any] | None] = ContextVar("metadata", default=None)
"""That of the call under way: langchain-core gives `_stream` no run manager that has it."""

_Method = TypeVar("_Method", bound="Callable[..., Any]")


def keep_signature(method: _Method) -> _Method:
    """Keep a signature ready: langchain-core asks for it at each call, a tenth of which it was."""
    return cast("_Method", _SignedMethod(method))


class _SignedMethod:
    """A method whose signature is at hand where it is bound: Python makes one anew at each look."""

    def __init__(self, method: Callable[..., Any]) -> None:
        self._method = method
        self._signature = inspect.signature(partial(method, None))

    def __get__(self, model: object, kind: object = None) -> Callable[..., Any]:
        if model is None:
            return self._method
        bound = partial(self._method, model)
        bound.__signature__ = self._signature  # type: ignore[attr-defined]
        return bound


class BaseSegmindChatModel(BaseChatModel):
    """What any chat model on Segmind needs before it can say a word."""

    api_key: SecretStr | None = Field(
        default_factory=secret_from_env("SEGMIND_API_KEY", default=None),
    )
    """The API key; from the environment variable SEGMIND_API_KEY where it is not given."""

    base_url: str = Field(
        default_factory=from_env("SEGMIND_BASE_URL", default=DEFAULT_BASE_URL),
        validate_default=True,
    )
    """The root of the API, with or without a trailing `/v1`; else from the environment variable
    SEGMIND_BASE_URL, else `https://api.segmind.com`."""

    timeout: float | tuple[float | None, ...] | None = DEFAULT_TIMEOUT
    """Seconds (120 if not given), a (connect, read, write, pool) tuple of them, a `Timeout` of
    httpx or httpx2, or None for no limit.

    Its longest step is also the deadline of the whole call, retries and waits included."""

    default_headers: dict[str, str] = Field(default_factory=dict, exclude=True, repr=False)
    """Headers to send along; not shown and not serialized, since they may hold secrets."""

    http_client: Any = Field(default=None, exclude=True, repr=False)
    """An `httpx2.Client`, or one of httpx, to use for blocking calls; yours to close."""

    http_async_client: Any = Field(default=None, exclude=True, repr=False)
    """An `httpx2.AsyncClient`, or one of httpx, to use for async calls; yours to close."""

    model_config = ConfigDict(
        populate_by_name=True, hide_input_in_errors=True, ignored_types=(_SignedMethod,)
    )

    _connected_as: tuple[tuple[Any, ...], Clients] | None = PrivateAttr(default=None)
    """The settings as they were given, and the clients that were built for them."""

    def __init__(self, *values: Any, **settings: Any) -> None:
        if values:
            del values, settings  # A traceback shows what a frame holds: a key among it.
            name = type(self).__name__
            raise TypeError(
                f"{name} takes its arguments by name, as {name}(model='llama-v3p1-70b-instruct')"
            )
        refused: BaseException
        try:
            super().__init__(**settings)
        except ValidationError as error:
            refused = _without_inputs(error)
        except (SegmindAuthenticationError, TypeError, KeyboardInterrupt) as error:
            refused = error.with_traceback(None)
        else:
            return
        del settings
        raise refused  # Here, where the error with the inputs is no longer its context.

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

    @field_validator("http_client", "http_async_client", mode="after")
    @classmethod
    def _check_client(cls, client: Any, info: ValidationInfo) -> Any:
        return checked_client(client, info.field_name or "")

    @model_validator(mode="after")
    def _check_and_sign(self) -> Self:
        import_for_calls()
        self._join_limiter(account_of(self.base_url, self._checked_key()))
        self._add_version("langchain-segmind", __version__)
        return self

    def _checked_key(self) -> SecretStr:
        key = self.api_key
        if key is None or not key.get_secret_value().strip():
            raise SegmindAuthenticationError(
                f"There is no API key. {SegmindAuthenticationError.advice} To try it without an "
                "account, run a local Segmind: langchain-segmind gateway"
            )
        if not key.get_secret_value().isascii() or not key.get_secret_value().isprintable():
            raise SegmindAuthenticationError(
                f"The API key has characters that no key has. {SegmindAuthenticationError.advice}"
            )
        return key

    def with_retry(
        self,
        *,
        retry_if_exception_type: tuple[type[BaseException], ...]
        | Callable[[BaseException], bool] = is_retryable,
        **options: Any,
    ) -> Runnable[LanguageModelInput, AIMessage]:
        """Call again what failed, beyond `max_retries`; what may have been paid for, never.

        Args:
            retry_if_exception_type: What to call again for, if it is not `is_retryable` that
                decides: errors whose outcome is unknown among them may be paid for twice.
            **options: As of any `Runnable`: `stop_after_attempt` (3 calls in all) and the waits.
        """
        return super().with_retry(retry_if_exception_type=retry_if_exception_type, **options)

    # --- Metadata ---

    def _metadata_of(self, run_manager: BaseRunManager | None) -> Mapping[str, Any] | None:
        return _METADATA.get() if run_manager is None else run_manager.metadata

    # langchain-core has no public place between an answer it put together of a stream and the
    # callbacks that are told of it; nor any that knows the run of such a stream. What was tried:
    # docs/decisions/streamed-answers.md
    def _generate_with_cache(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **options: Any,
    ) -> ChatResult:
        with _remember(None if run_manager is None else run_manager.metadata):
            return _with_llm_output(
                super()._generate_with_cache(messages, stop, run_manager, **options)
            )

    async def _agenerate_with_cache(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: AsyncCallbackManagerForLLMRun | None = None,
        **options: Any,
    ) -> ChatResult:
        with _remember(None if run_manager is None else run_manager.metadata):
            return _with_llm_output(
                await super()._agenerate_with_cache(messages, stop, run_manager, **options)
            )

    def stream(
        self,
        input: LanguageModelInput,  # noqa: A002 - Its name in langchain-core.
        config: RunnableConfig | None = None,
        **options: Any,
    ) -> Iterator[AIMessageChunk]:
        """Give the answer in pieces as they come; of Segmind, today, that is one."""
        chunks = super().stream(input, config, **options)
        with closing(cast("Generator[AIMessageChunk]", chunks)):
            with _remember({**ensure_config(config)["metadata"], **(self.metadata or {})}):
                first = next(chunks, None)  # Until then `_stream` is told what it is to do.
            if first is not None:
                yield first
                yield from chunks

    async def astream(
        self,
        input: LanguageModelInput,  # noqa: A002 - Its name in langchain-core.
        config: RunnableConfig | None = None,
        **options: Any,
    ) -> AsyncIterator[AIMessageChunk]:
        """Give the answer in pieces as they come: see `stream`."""
        chunks = super().astream(input, config, **options)
        async with aclosing(cast("AsyncGenerator[AIMessageChunk]", chunks)):
            with _remember({**ensure_config(config)["metadata"], **(self.metadata or {})}):
                first = await anext(chunks, None)
            if first is not None:
                yield first
                async for chunk in chunks:
                    yield chunk

    # --- Clients ---

    def close(self) -> None:
        """Close the connections of blocking calls; a later call opens new ones."""
        if self._connected_as is not None:
            self._connected_as[1].close()

    async def aclose(self) -> None:
        """Close the connections of the running event loop and those of blocking calls."""
        if self._connected_as is not None:
            await self._connected_as[1].aclose()

    def __enter__(self) -> Self:
        """Close the connections at the end of a `with` block."""
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    async def __aenter__(self) -> Self:
        """Close the connections at the end of an `async with` block."""
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    def _connected(self) -> Clients:
        """Give this model's clients, anew where a copy or an assignment changed their settings."""
        own = (self.http_client, self.http_async_client)
        given = (self.base_url, self.api_key, self.default_headers, self.timeout, *own)
        # Not looked up by name, for which pydantic takes longer than for all the rest.
        before, clients = (self.__pydantic_private__ or {}).get("_connected_as") or (None, None)
        if clients is None or before != given:
            # Compared as given, since checking and converting would take longer still.
            settings = Settings(
                normalized_base_url(self.base_url),
                self._checked_key(),
                dict(self.default_headers),
                as_timeout(self.timeout),
                checked_client(self.http_client, "http_client"),
                checked_client(self.http_async_client, "http_async_client"),
            )
            if clients is None or clients.settings != settings:
                clients = Clients(settings)
            self._connected_as = (*given[:2], settings.default_headers, *given[3:]), clients
        self._join_limiter(clients.account)
        return clients

    def _join_limiter(self, account: Account) -> None:
        """Let the limiter count with all models that use this key at this host."""
        limiter = self.rate_limiter
        if limiter is None:
            return
        if isinstance(limiter, DeferredRateLimiter):
            limiter = limiter.limiter
        if isinstance(limiter, SegmindRateLimiter):
            limiter = limiter.joined_to(account)
        if limiter is not getattr(self.rate_limiter, "limiter", None):
            self.rate_limiter = DeferredRateLimiter(limiter)

    def _limiter(self) -> BaseRateLimiter | None:
        """Give the limiter that exchanges ask."""
        limiter = self.rate_limiter
        return limiter.limiter if isinstance(limiter, DeferredRateLimiter) else limiter

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
        for name in copied.__dict__.keys() - type(self).model_fields.keys():
            del copied.__dict__[name]  # Such as langchain-core's part of the key of its cache.
        return copied

    def __deepcopy__(self, memo: dict[int, Any] | None = None) -> Self:
        """Copy everything but the user's own clients, which cannot be copied and are shared."""
        memo = {} if memo is None else memo
        for client in (self.http_client, self.http_async_client):
            memo[id(client)] = client
        return super().__deepcopy__(memo)

    def __repr_args__(self) -> Iterator[tuple[str, Any]]:
        """Show the model, and what else was set; of one that was refused, nothing is."""
        yield "model", getattr(self, "model", None)
        given: set[str] = getattr(self, "__pydantic_fields_set__", set())
        for name, field in type(self).model_fields.items():
            if name in given - {"model", "metadata", "profile"} and field.repr:
                value = getattr(self, name)
                is_money = name in {"min_credits", "low_credits"} and value is not None
                yield name, Money(value) if is_money else value

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
        return {**state, "__dict__": fields, "__pydantic_private__": {"_connected_as": None}}

    def __setstate__(self, state: dict[Any, Any]) -> None:
        """Unpickle; a key that was left out is read from this process's environment."""
        super().__setstate__(state)
        if "api_key" not in self.model_fields_set:
            self.__dict__["api_key"] = secret_from_env("SEGMIND_API_KEY", default=None)()
        if self.api_key is not None:
            self._join_limiter(account_of(self.base_url, self.api_key))

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


def _without_inputs(error: ValidationError) -> ValidationError:
    """Give an error that names the fields and not what was given: keys, headers, passwords.

    Pydantic can hide inputs in the text, and not in `errors()` and `json()`, which are logged.
    """
    lines = [
        InitErrorDetails(
            type=PydanticCustomError(line["type"], line["msg"]), loc=line["loc"], input=None
        )
        for line in error.errors(include_url=False, include_context=False, include_input=False)
    ]
    return ValidationError.from_exception_data(error.title, lines, hide_input=True)


@contextmanager
def _remember(metadata: Mapping[str, Any] | None) -> Iterator[None]:
    """Let `_stream` know a config's metadata, also where a callback makes `invoke` stream."""
    token = _METADATA.set(metadata)
    try:
        yield
    finally:
        _METADATA.reset(token)


def _with_llm_output(result: ChatResult) -> ChatResult:
    """Give the result that LangChain made of a stream the `llm_output` of any other answer."""
    message = cast("AIMessage", result.generations[0].message)
    credits = message.response_metadata.get("credits")  # A subclass may answer without.
    if result.llm_output is None and credits not in (None, CACHED.as_dict()):
        result.llm_output = llm_output_of(message)
    return result
