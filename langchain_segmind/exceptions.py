"""What can go wrong, as one tree.

```text
SegmindError                          ModelError
├── SegmindInvalidRequestError        4xx: ModelInvalidRequestError
│   ├── SegmindInvalidInputError      refused here, unsent: also ValueError
│   │   └── SegmindIdempotencyError   its key was first used for another call
│   ├── SegmindContextOverflowError   too long: ContextOverflowError
│   ├── SegmindMethodNotAllowedError  405
│   ├── SegmindNotAcceptableError     406, about the request
│   └── SegmindJobFailedError         a queued job ran and failed
│       └── SegmindJobContextOverflowError  its prompt was too long
├── SegmindAuthenticationError        401: ModelAuthenticationError
├── SegmindPermissionDeniedError      403: ModelPermissionDeniedError
│   └── SegmindInsufficientCreditsError  406, about credits or a limit
├── SegmindModelNotFoundError         404, 410: ModelNotFoundError
│   └── SegmindJobNotFoundError       a job is unknown, or has expired
├── SegmindRateLimitError             429: ModelRateLimitError
├── SegmindAPIError                   5xx, Segmind's or a proxy's: ModelAPIError
│   └── SegmindResponseError          an answer that cannot be used
├── SegmindJournalError               a journal that cannot be read or written
├── SegmindConnectionError            no connection: ModelConnectionError
├── SegmindOutcomeUnknownError        a journal's call of which nothing more was heard
└── SegmindTimeoutError               too slow: ModelTimeoutError
```

Each one is also langchain-core's error behind the colon, or its parent's.
"""

from __future__ import annotations

from http import HTTPStatus
from typing import TYPE_CHECKING

from langchain_core.exceptions import (
    ContextOverflowError,
    ModelAPIError,
    ModelAuthenticationError,
    ModelConnectionError,
    ModelError,
    ModelInvalidRequestError,
    ModelNotFoundError,
    ModelPermissionDeniedError,
    ModelRateLimitError,
    ModelTimeoutError,
)

if TYPE_CHECKING:
    from langchain_segmind.credits import Credits


class SegmindError(ModelError):
    """Whatever went wrong between this package and Segmind."""

    advice: str = ""
    """What to do about it, in one sentence; it ends the message."""

    def __init__(
        self,
        message: str,
        *,
        status_code: int | None = None,
        request_id: str | None = None,
        credits: Credits | None = None,
        retry_after: float | None = None,
        outcome_unknown: bool = False,
        lost_before: int = 0,
    ) -> None:
        """Keep the facts beside the sentence.

        Args:
            message: What happened, and what to do.
            status_code: The HTTP status, where there was one.
            request_id: Segmind's id of the request, or of the queued job.
            credits: The accounting the answer carried.
            retry_after: Seconds until it makes sense to try again, where the server said so.
            outcome_unknown: The request was sent and its answer was lost: it may have been billed.
            lost_before: Earlier attempts of which the same is true.
        """
        super().__init__(message)
        self.message = message
        self.status_code = status_code
        self.request_id = request_id
        self.credits = credits
        self.retry_after = retry_after
        self.outcome_unknown = outcome_unknown
        self.lost_attempts = int(outcome_unknown and (credits is None or credits.cost is None))
        """How often the call was sent without anyone knowing whether, or for how much, it was
        billed; more than once only under `retry_unknown_outcome`."""
        if outcome_unknown:
            # LangChain's retry middleware asks this; sending again could pay twice.
            self.is_retryable = False
        self.add_lost(lost_before)

    def add_lost(self, attempts: int) -> None:
        """Count earlier attempts that may have been billed: whatever came later, it is not free."""
        if attempts:
            self.lost_attempts += attempts
            self.outcome_unknown, self.is_retryable = True, False


class SegmindInvalidRequestError(SegmindError, ModelInvalidRequestError):
    """Segmind refused the request as malformed (400, 422 and 4xx that have no class here)."""

    advice = "Check the messages and parameters of this call; sending it again will not help."


class SegmindInvalidInputError(SegmindInvalidRequestError, ValueError):
    """The input was refused here, before anything was sent or billed."""


class SegmindIdempotencyError(SegmindInvalidInputError):
    """The idempotency key was first used for another call; nothing was sent."""

    advice = (
        "Give each call a key of its own; a key stands for one prompt, model, host, account and "
        "set of parameters until the journal forgets it: journal.forget(key)."
    )


class SegmindContextOverflowError(SegmindInvalidRequestError, ContextOverflowError):
    """The prompt does not fit into the model's context."""

    advice = "Shorten the prompt (langchain_core.messages.trim_messages) or take a larger model."


class SegmindMethodNotAllowedError(SegmindInvalidRequestError):
    """The URL does not take this HTTP method (405)."""

    advice = "Check base_url: it must be the root of a Segmind API."


class SegmindNotAcceptableError(SegmindInvalidRequestError):
    """The request was not acceptable for a reason other than credits (406)."""

    advice = "A parameter value was rejected; change it as the message says."


class SegmindJobFailedError(SegmindInvalidRequestError):
    """A queued job ran and failed (status FAILED, HTTP 422); it was not billed."""

    advice = "The job was not billed; check the messages and parameters, then call again."


class SegmindJobContextOverflowError(SegmindJobFailedError, SegmindContextOverflowError):
    """A queued job that failed because its prompt does not fit into the model's context."""

    advice: str = SegmindContextOverflowError.advice


class SegmindAuthenticationError(SegmindError, ModelAuthenticationError):
    """The API key is missing or not valid (401)."""

    advice = (
        "Set SEGMIND_API_KEY, or pass api_key=..., to a key from "
        "https://cloud.segmind.com/console; langchain-segmind doctor checks it."
    )


class SegmindPermissionDeniedError(SegmindError, ModelPermissionDeniedError):
    """The account or team may not call this model (403)."""

    advice = "Ask the owner of the Segmind workspace for access, or choose another model."


class SegmindInsufficientCreditsError(SegmindPermissionDeniedError):
    """The account has not enough credits, or its team's spend limit is reached (406)."""

    advice = "Top up at https://cloud.segmind.com/billing or raise the team's limit, then go on."


class SegmindLowCreditsWarning(UserWarning):
    """The balance has fallen below `low_credits`."""


class SegmindModelNotFoundError(SegmindError, ModelNotFoundError):
    """No model has this slug (404), or it has been retired (410)."""

    advice = "Check model=... against https://www.segmind.com/models, and base_url."


class SegmindJobNotFoundError(SegmindModelNotFoundError):
    """No queued job has this request id, or its record has expired (404)."""

    advice = (
        "Records expire about an hour after submission; a job older than that must be run anew."
    )


class SegmindRateLimitError(SegmindError, ModelRateLimitError):
    """Too many requests for this account's plan (429)."""

    advice = (
        "Wait for the window to reset, or pace calls with rate_limiter=SegmindRateLimiter(...)."
    )


class SegmindAPIError(SegmindError, ModelAPIError):
    """Segmind, or a proxy before it, had a problem of its own (5xx).

    Segmind's own are not billed. Where a proxy gave up waiting (504, 520, 522, 524, or what is
    not in Segmind's JSON), a model may have run: `outcome_unknown` is True then.
    """

    advice = (
        "The call was not billed and may be sent again; on a request just changed, suspect a "
        "parameter."
    )


class SegmindResponseError(SegmindAPIError):
    """An answer came that cannot be used; it may have been billed, so it is not asked for again."""

    is_retryable = False
    advice = (
        "It may have been billed; check base_url and any proxy in between before you call again."
    )
    answer: bytes | None = None
    """The output of a queued job that was paid for and is no answer, as JSON."""


class SegmindJournalError(SegmindError):
    """The journal cannot be read or written."""

    advice = "Nothing is sent that cannot be written down: mend the journal's store, then go on."


class SegmindOutcomeUnknownError(SegmindError):
    """A call of this identity was sent before, and what came of it cannot be found out."""

    advice = (
        "With retry_unknown_outcome=True it is sent again, and may be paid for twice; "
        "journal.forget(key) does so for one call."
    )


class SegmindConnectionError(SegmindError, ModelConnectionError):
    """No connection to Segmind, or one that broke before the answer was complete."""

    advice = (
        "Check the network, base_url and proxy settings: langchain-segmind doctor says which it is."
    )


class SegmindTimeoutError(SegmindError, ModelTimeoutError):
    """The answer did not come within `timeout`, or a queued job within `queue_timeout`."""

    advice = "Raise timeout=..., or use queue=True, which is made for slow generations."


def is_retryable(error: BaseException) -> bool:
    """Tell what may be sent again: it cost nothing, and may succeed next time.

    For what retries by a rule of yours, as LangGraph's `RetryPolicy(retry_on=is_retryable)`.

    Args:
        error: Of this package, or of another one that raises langchain-core's `ModelError`s;
            whatever else it is, the answer is no.
    """
    return isinstance(error, ModelError) and error.is_retryable


_BY_STATUS: dict[int, type[SegmindError]] = {
    401: SegmindAuthenticationError,
    403: SegmindPermissionDeniedError,
    404: SegmindModelNotFoundError,
    405: SegmindMethodNotAllowedError,
    406: SegmindNotAcceptableError,
    410: SegmindModelNotFoundError,
    429: SegmindRateLimitError,
}
_CREDIT_WORDS = ("credit", "balance", "spend", "billing", "payment", "quota", "budget", "funds")
_CONTEXT_WORDS = (
    "context length",
    "context_length",
    "context window",
    "context size",
    "maximum context",
    "prompt is too long",
    "too many tokens",
    "maximum input length",
    "input is too long",
    "reduce the length",
    "`max_new_tokens` must be <=",
)


def job_error_class(server_message: str) -> type[SegmindJobFailedError]:
    """Choose the class for a job that failed, by its words."""
    words = server_message.lower()
    is_overflow = any(word in words for word in _CONTEXT_WORDS)
    return SegmindJobContextOverflowError if is_overflow else SegmindJobFailedError


def error_class(status_code: int, server_message: str) -> type[SegmindError]:
    """Choose the class for an answered status; 406 and overflow are told apart by their words."""
    words = server_message.lower()
    match status_code:
        case 406 if any(word in words for word in _CREDIT_WORDS):
            return SegmindInsufficientCreditsError
        case 400 | 413 | 422 if any(word in words for word in _CONTEXT_WORDS):
            return SegmindContextOverflowError
        case _ if status_code in _BY_STATUS:
            return _BY_STATUS[status_code]
        case _ if status_code >= HTTPStatus.INTERNAL_SERVER_ERROR:
            return SegmindAPIError
        case _ if status_code >= HTTPStatus.BAD_REQUEST:
            return SegmindInvalidRequestError
        case _:
            return SegmindResponseError
