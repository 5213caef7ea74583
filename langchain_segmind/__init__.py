"""Llama on Segmind for LangChain: `ChatSegmindLlama`, and the errors it raises."""

from langchain_segmind._version import __version__
from langchain_segmind.chat_models import ChatSegmindLlama
from langchain_segmind.credits import Credits
from langchain_segmind.exceptions import (
    SegmindAPIError,
    SegmindAuthenticationError,
    SegmindConnectionError,
    SegmindContextOverflowError,
    SegmindError,
    SegmindInsufficientCreditsError,
    SegmindInvalidInputError,
    SegmindInvalidRequestError,
    SegmindJobFailedError,
    SegmindJobNotFoundError,
    SegmindMethodNotAllowedError,
    SegmindModelNotFoundError,
    SegmindNotAcceptableError,
    SegmindPermissionDeniedError,
    SegmindRateLimitError,
    SegmindResponseError,
    SegmindTimeoutError,
)

__all__ = [
    "ChatSegmindLlama",
    "Credits",
    "SegmindAPIError",
    "SegmindAuthenticationError",
    "SegmindConnectionError",
    "SegmindContextOverflowError",
    "SegmindError",
    "SegmindInsufficientCreditsError",
    "SegmindInvalidInputError",
    "SegmindInvalidRequestError",
    "SegmindJobFailedError",
    "SegmindJobNotFoundError",
    "SegmindMethodNotAllowedError",
    "SegmindModelNotFoundError",
    "SegmindNotAcceptableError",
    "SegmindPermissionDeniedError",
    "SegmindRateLimitError",
    "SegmindResponseError",
    "SegmindTimeoutError",
    "__version__",
]
