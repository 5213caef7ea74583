"""What comes back: HTTP answers into completions, or into the error that says what to do."""

from __future__ import annotations

import errno
import json
import os
import re
from html import unescape
from http import HTTPStatus
from types import NoneType
from typing import TYPE_CHECKING, Any, NamedTuple

from langchain_segmind._protocol.bounded_json import TooDeepError, loads_bounded, replace_surrogates
from langchain_segmind._protocol.retry import is_outcome_unknown, may_pass, retry_after
from langchain_segmind.credits import Credits
from langchain_segmind.exceptions import (
    SegmindAPIError,
    SegmindConnectionError,
    SegmindError,
    SegmindResponseError,
    SegmindTimeoutError,
    error_class,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

    from langchain_segmind._protocol.types import Response, TransportFailure

EXCERPT = 400
"""Characters of the server's own words that an error repeats."""
MOST_CHOICES = 128
"""OpenAI's limit of `n`; each choice becomes a message, a hundred times as large as its JSON."""
MOST_CALLS = 1000
"""Native tool calls of one message, for the same reason."""


class UnusableAnswerError(Exception):
    """A body that is no completion; the text says why."""


def decode_json(body: bytes | str) -> Any:
    """Decode a body; one that is empty, no JSON or too deep is an `UnusableAnswerError`."""
    if not body.strip():
        raise UnusableAnswerError("its body is empty")
    try:
        return loads_bounded(body)
    except TooDeepError:
        raise UnusableAnswerError("its body is nested too deeply") from None
    except ValueError:
        words = words_of(body.encode() if isinstance(body, str) else body)
        raise UnusableAnswerError(f"its body is no JSON: {words}") from None


def completion_from(data: Any) -> dict[str, Any]:
    """Check that decoded JSON has OpenAI's chat completion shape, as Segmind passes it on."""
    if not isinstance(data, dict):
        raise UnusableAnswerError("its body is no JSON object")
    choices = data.get("choices")
    if not choices and data.get("error"):
        raise UnusableAnswerError(f"it reports an error: {shorten(_error_words(data))}")
    if not isinstance(choices, list) or not choices:
        raise UnusableAnswerError("it has no choices")
    if len(choices) > MOST_CHOICES:
        raise UnusableAnswerError(f"it has {len(choices)} choices")
    for choice in choices:
        message = choice.get("message") if isinstance(choice, dict) else None
        if not isinstance(message, dict):
            raise UnusableAnswerError("a choice has no message")
        if not isinstance(message.get("content"), (str, list, NoneType)):
            raise UnusableAnswerError("a message's content is neither text nor a list of parts")
        calls = message.get("tool_calls")
        if isinstance(calls, list) and len(calls) > MOST_CALLS:
            raise UnusableAnswerError(f"a message has {len(calls)} tool calls")
    return data


def text_of(content: str | list[Any] | None) -> str:
    """Give the text of a message's content: null, a string, or a list of parts."""
    if isinstance(content, str):
        return replace_surrogates(content)
    parts = (part.get("text") if isinstance(part, dict) else part for part in content or ())
    return replace_surrogates("".join(part for part in parts if isinstance(part, str)))


# --- Errors ------------------------------------------------------------------------------------


class Sending(NamedTuple):
    """What an error says of a request, beside what it came to."""

    to_queue: bool = False
    """Whether a job was to be submitted."""
    lost_before: int = 0
    """Attempts before it whose outcome is unknown."""
    is_final: bool = False
    """Whether nothing would have sent it again, as `retry_unknown_outcome` does."""

    def describe_earlier(self) -> str:
        """Say what became of the attempts before."""
        if not self.lost_before:
            return ""
        earlier = "An earlier attempt of this call had been sent and may have been billed."
        return f"{earlier} {_UNKNOWN_JOB}" if self.to_queue else earlier

    def describe_last(self) -> str:
        """Say that it is not repeated."""
        if self.is_final:
            return "and is not sent again."
        return "so it is not sent again by itself (retry_unknown_outcome=True changes that)."


_SENT_ONCE = Sending()


def error_from_response(
    reply: Response, now: float, sending: Sending = _SENT_ONCE, *, billable: bool = True
) -> SegmindError:
    """Turn a status, answered at a Unix time, into its error: the server's words, and what to do.

    Where it could not cost anything, it was not `billable`.
    """
    words = words_of(reply.body).removeprefix(f"{reply.status} ")
    kind = error_class(reply.status, words)
    wait = retry_after(reply.headers, now) if may_pass(reply.status) else None
    by_proxy = billable and is_outcome_unknown(reply)
    who = "A proxy, not Segmind," if by_proxy else "Segmind"
    if by_proxy:
        what_to_do = _UNKNOWN_JOB if sending.to_queue else _SLOW
        why = sending.describe_last()
        advice = f"The request may have reached a model and been billed, {why} {what_to_do}"
    else:
        advice = _advice(kind, reply.status, wait, sending.describe_earlier())
    return kind(
        f"{who} answered {reply.status}{f': {words}' if words else ''}. {advice}",
        status_code=reply.status,
        request_id=request_id_of(reply.headers),
        credits=Credits.from_headers(reply.headers),
        retry_after=wait,
        outcome_unknown=by_proxy or reply.status < HTTPStatus.MULTIPLE_CHOICES,
        lost_before=sending.lost_before,
    )


def _advice(kind: type[SegmindError], status: int, wait: float | None, earlier: str) -> str:
    advice = kind.advice
    if HTTPStatus.MULTIPLE_CHOICES <= status < HTTPStatus.BAD_REQUEST:
        advice = "Redirects are not followed, since they would carry the key away. Check base_url."
    elif wait and status == HTTPStatus.TOO_MANY_REQUESTS:
        advice = f"The limit resets in {wait:.0f} s. {kind.advice}"
    elif earlier and kind is SegmindAPIError:
        advice = ""  # Its own is that nothing was billed.
    return f"{earlier} {advice}".strip()


def error_from_failure(failure: TransportFailure, sending: Sending = _SENT_ONCE) -> SegmindError:
    """Turn a failed exchange into its error; what may have been billed says so."""
    head = failure.head
    facts: dict[str, Any] = {"outcome_unknown": failure.sent, "lost_before": sending.lost_before}
    if head is not None:
        facts["status_code"] = head.status
        facts["request_id"] = request_id_of(head.headers)
        facts["credits"] = Credits.from_headers(head.headers)
    detail = shorten(failure.detail)
    sent = f"The request had been sent and may have been billed, {sending.describe_last()}"
    if failure.kind == "timeout" and failure.sent:
        is_job = sending.to_queue
        advice = f"Raise timeout=... {_UNKNOWN_JOB}" if is_job else SegmindTimeoutError.advice
        return SegmindTimeoutError(f"Segmind gave {detail}. {sent} {advice}", **facts)
    if failure.kind == "unreadable" or head is not None:
        message = f"Segmind's answer cannot be used: {detail}. {SegmindResponseError.advice}"
        return SegmindResponseError(message, **facts)
    what = "The connection to Segmind broke" if failure.sent else "Segmind cannot be reached"
    fate = sent if failure.sent else "Nothing was sent."
    if sending.lost_before and not failure.sent:
        fate = f"Nothing was sent this time. {sending.describe_earlier()}"
    kind = SegmindTimeoutError if failure.kind == "timeout" else SegmindConnectionError
    advice = _MORE_FILES if _NO_FILES_LEFT in detail else SegmindConnectionError.advice
    return kind(f"{what}: {detail}. {fate} {advice}", **facts)


def error_from_answer(reply: Response, why: str) -> SegmindResponseError:
    """Say why a 200 cannot be used."""
    return SegmindResponseError(
        f"Segmind answered {reply.status}, but {why}. {SegmindResponseError.advice}",
        status_code=reply.status,
        request_id=request_id_of(reply.headers),
        credits=Credits.from_headers(reply.headers),
        outcome_unknown=True,
        lost_before=reply.lost_before,
    )


def request_id_of(headers: Mapping[str, str]) -> str | None:
    """Read `x-request-id`."""
    return headers.get("x-request-id") or None


def words_of(body: bytes) -> str:
    """Give the server's own words from a JSON, HTML or plain body, without their full stop."""
    text = body[: 64 * 1024].decode("utf-8-sig", "replace").strip()
    try:
        return shorten(_error_words(loads_bounded(text))).rstrip(".")
    except ValueError:
        pass
    return shorten(_text_of_page(text) if text[:1] == "<" else text).rstrip(".")


def _text_of_page(page: str) -> str:
    page = _UNSEEN.sub(" ", page)
    title = _TITLE.search(page)
    if title is not None and title[1].strip() in page[title.end() :]:
        page = page[title.end() :]  # Its headline says the same once more.
    return unescape(_NO_CHARACTER.sub("?", _TAG.sub(" ", page)))


_UNSEEN = re.compile(r"<(script|style)\b[^<>]*>[^<]*</\1>", re.IGNORECASE)
_TITLE = re.compile(
    r"<title\b[^<>]*>(?:[^<|]*\|)?(?:\s*[0-9]{3}\b:?)?([^<]*)</title>", re.IGNORECASE
)
"""The words of a page's title, behind a status, and behind Cloudflare's name of the host."""
_TAG = re.compile(r"<[^<>]*>")
_NO_CHARACTER = re.compile(r"&#[xX]?[0-9a-fA-F]{8,}")
"""A reference so long that `unescape` may raise, or that spells a key as the redactor does not."""


def _error_words(data: Any) -> str:
    """Find the message in Segmind's `{"error": …}` and in the shapes that proxies use."""
    if not isinstance(data, dict):
        return _spell(data)
    found = []
    for name in ("error", "error_description", "message", "detail"):
        value = data.get(name)
        if isinstance(value, dict):
            value = value.get("message") or _spell(value)
        if isinstance(value, str) and value and value not in found:
            found.append(value)
    return ": ".join(found) or _spell(data)


def _spell(data: Any) -> str:
    try:
        return json.dumps(data, ensure_ascii=False)
    except RecursionError:  # It could be read, but from less far down the stack.
        return "(nested too deeply to be shown)"


def shorten(text: str) -> str:
    """Fit text from outside into one line of a message."""
    line = " ".join(replace_surrogates(text).split())
    line = line if len(line) <= EXCERPT else line[:EXCERPT] + " …"
    return "".join(character if character.isprintable() else "?" for character in line)


_NO_FILES_LEFT = os.strerror(errno.EMFILE)
_MORE_FILES = (
    "Each call in flight is a connection, and so an open file: raise the limit (ulimit -n), or let "
    "fewer calls go at once (max_concurrency in the config of a batch)."
)
_SLOW = "queue=True is made for slow generations."
_UNKNOWN_JOB = "If a job was taken, it runs under an id that is not known here."
