"""What `ChatSegmindLlama(...)` takes, as type checkers are to see it.

Left to themselves they read the fields: no name that has an alias, no string for a secret, nothing
that a validator converts. This module is never imported when the package runs.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, TypedDict

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from os import PathLike

    from langchain_core.caches import BaseCache
    from langchain_core.callbacks import Callbacks
    from langchain_core.language_models import ModelProfile
    from langchain_core.rate_limiters import BaseRateLimiter
    from pydantic import SecretStr

    from langchain_segmind._journals.entries import Journal
    from langchain_segmind._transport.settings import AsyncHttpClient, HttpClient, HttpTimeout


class Arguments(TypedDict, total=False):
    """The fields of the model and of langchain-core's base class, and the aliases."""

    model: str
    model_name: str
    api_key: SecretStr | str | None
    segmind_api_key: SecretStr | str | None
    base_url: str | None
    temperature: float | None
    max_tokens: int | None
    max_completion_tokens: int | None
    top_p: float | None
    seed: int | None
    stop: str | Sequence[str] | None
    stop_sequences: str | Sequence[str] | None
    timeout: float | tuple[float | None, ...] | HttpTimeout | None
    request_timeout: float | tuple[float | None, ...] | HttpTimeout | None
    max_retries: int
    retry_unknown_outcome: bool
    streaming: bool
    queue: bool | None
    journal: str | PathLike[str] | Journal | None
    poll_interval: float
    queue_timeout: float
    on_submit: Callable[[str], object] | None
    min_credits: float | None
    low_credits: float | None
    default_headers: Mapping[str, str]
    http_client: HttpClient | None
    http_async_client: AsyncHttpClient | None
    model_kwargs: dict[str, Any]

    name: str | None
    cache: BaseCache | bool | None
    verbose: bool
    callbacks: Callbacks
    tags: list[str] | None
    metadata: dict[str, Any] | None
    custom_get_token_ids: Callable[[str], list[int]] | None
    rate_limiter: BaseRateLimiter | None
    disable_streaming: bool | Literal["tool_calling"]
    output_version: str | None
    profile: ModelProfile | None
