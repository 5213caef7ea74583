"""Llama on Segmind for LangChain: `ChatSegmindLlama`, and the errors it raises."""

from langchain_segmind._version import __version__
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
    SegmindInsufficientCreditsError,
    SegmindInvalidInputError,
    SegmindInvalidRequestError,
    SegmindJobContextOverflowError,
    SegmindJobFailedError,
    SegmindJobNotFoundError,
    SegmindLowCreditsWarning,
    SegmindMethodNotAllowedError,
    SegmindModelNotFoundError,
    SegmindNotAcceptableError,
    SegmindPermissionDeniedError,
    SegmindRateLimitError,
    SegmindResponseError,
    SegmindTimeoutError,
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
    "SegmindInsufficientCreditsError",
    "SegmindInvalidInputError",
    "SegmindInvalidRequestError",
    "SegmindJobContextOverflowError",
    "SegmindJobFailedError",
    "SegmindJobNotFoundError",
    "SegmindLowCreditsWarning",
    "SegmindMethodNotAllowedError",
    "SegmindModelNotFoundError",
    "SegmindNotAcceptableError",
    "SegmindPermissionDeniedError",
    "SegmindRateLimitError",
    "SegmindRateLimiter",
    "SegmindResponseError",
    "SegmindTimeoutError",
    "__version__",
    "get_credits_callback",
]
