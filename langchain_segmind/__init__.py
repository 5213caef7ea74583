"""Llama on Segmind for LangChain: `ChatSegmindLlama`, and the errors it raises."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

from langchain_segmind._version import __version__

if TYPE_CHECKING:
    from langchain_segmind import batch
    from langchain_segmind.chat_models import ChatSegmindLlama
    from langchain_segmind.credits import (
        CreditBalance,
        Credits,
        CreditsCallbackHandler,
        get_credits_callback,
    )
    from langchain_segmind.exceptions import (
        SegmindAPIError,
        SegmindAuthenticationError,
        SegmindConnectionError,
        SegmindContextOverflowError,
        SegmindError,
        SegmindIdempotencyError,
        SegmindInsufficientCreditsError,
        SegmindInvalidInputError,
        SegmindInvalidRequestError,
        SegmindJobContextOverflowError,
        SegmindJobFailedError,
        SegmindJobNotFoundError,
        SegmindJournalError,
        SegmindLowCreditsWarning,
        SegmindMethodNotAllowedError,
        SegmindModelNotFoundError,
        SegmindNotAcceptableError,
        SegmindOutcomeUnknownError,
        SegmindPermissionDeniedError,
        SegmindRateLimitError,
        SegmindResponseError,
        SegmindTimeoutError,
        is_retryable,
    )
    from langchain_segmind.rate_limiters import SegmindRateLimiter

__all__ = [
    "ChatSegmindLlama",
    "CreditBalance",
    "Credits",
    "CreditsCallbackHandler",
    "SegmindAPIError",
    "SegmindAuthenticationError",
    "SegmindConnectionError",
    "SegmindContextOverflowError",
    "SegmindError",
    "SegmindIdempotencyError",
    "SegmindInsufficientCreditsError",
    "SegmindInvalidInputError",
    "SegmindInvalidRequestError",
    "SegmindJobContextOverflowError",
    "SegmindJobFailedError",
    "SegmindJobNotFoundError",
    "SegmindJournalError",
    "SegmindLowCreditsWarning",
    "SegmindMethodNotAllowedError",
    "SegmindModelNotFoundError",
    "SegmindNotAcceptableError",
    "SegmindOutcomeUnknownError",
    "SegmindPermissionDeniedError",
    "SegmindRateLimitError",
    "SegmindRateLimiter",
    "SegmindResponseError",
    "SegmindTimeoutError",
    "__version__",
    "batch",
    "get_credits_callback",
    "is_retryable",
]

_HOMES = {
    "ChatSegmindLlama": "chat_models",
    "CreditBalance": "credits",
    "Credits": "credits",
    "CreditsCallbackHandler": "credits",
    "SegmindRateLimiter": "rate_limiters",
    "get_credits_callback": "credits",
}
"""The names that are no errors; all are loaded on first use, for a command line that says at once
what it can do."""
_MODULES = ("batch", "chat_models", "credits", "exceptions", "rate_limiters")


def __getattr__(name: str) -> object:
    """Import a public name when it is first asked for."""
    if name in _MODULES:
        return importlib.import_module(f"{__name__}.{name}")
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    home = importlib.import_module(f"{__name__}.{_HOMES.get(name, 'exceptions')}")
    found: object = getattr(home, name)
    globals()[name] = found
    return found


def __dir__() -> list[str]:
    """List the public names, loaded or not."""
    return __all__
