"""What comes back: HTTP answers into completions, or into the error that says what to do."""

from __future__ import annotations

import errno
import json
import os
import re
from html import unescape
from http import HTTPStatus
from types import NoneType
from typing import TYPE_CHECKING, Any

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
    """Decode a body.

    Raises:
        UnusableAnswerError: It is empty, no JSON, cut short or nested too deeply.
    """
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
    """Check that decoded JSON has OpenAI's chat completion shape, as Segmind passes it on.

    Raises:
        UnusableAnswerError: It has another one.
    """
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


def error_from_response(
    reply: Response,
    now: float,
    *,
    to_queue: bool = False,
    billable: bool = True,
    lost_before: int = 0,
    is_final: bool = False,
) -> SegmindError:
    """Turn an answered status into its error, with the server's words and what to do.

    Args:
        reply: The answer.
        now: The Unix time, in seconds.
        to_queue: Whether a job was to be submitted.
        billable: Whether the request could have cost anything.
        lost_before: Attempts before it whose outcome is unknown.
        is_final: Whether nothing would have sent it again, as `retry_unknown_outcome` does.
    """
    words = words_of(reply.body).removeprefix(f"{reply.status} ")
    kind = error_class(reply.status, words)
    wait = retry_after(reply.headers, now) if may_pass(reply.status) else None
    by_proxy = billable and is_outcome_unknown(reply)
    who = "A proxy, not Segmind," if by_proxy else "Segmind"
    if by_proxy:
        advice = _advice_on_proxy(to_queue=to_queue, is_final=is_final)
    else:
        earlier = _earlier(to_queue=to_queue) if lost_before else ""
        advice = _advice(kind, reply.status, wait, earlier)
    return kind(
        f"{who} answered {reply.status}{f': {words}' if words else ''}. {advice}",
        status_code=reply.status,
        request_id=request_id_of(reply.headers),
        credits=Credits.from_headers(reply.headers),
        retry_after=wait,
        outcome_unknown=by_proxy or reply.status < HTTPStatus.MULTIPLE_CHOICES,
        lost_before=lost_before,
    )


def _advice_on_proxy(*, to_queue: bool, is_final: bool) -> str:
    what_to_do = _UNKNOWN_JOB if to_queue else "queue=True is made for slow generations."
    why = _not_repeated(is_final=is_final)
    return f"The request may have reached a model and been billed, {why} {what_to_do}"


def _advice(kind: type[SegmindError], status: int, wait: float | None, earlier: str) -> str:
    advice = kind.advice
    if HTTPStatus.MULTIPLE_CHOICES <= status < HTTPStatus.BAD_REQUEST:
        advice = "Redirects are not followed, since they would carry the key away. Check base_url."
    elif wait and status == HTTPStatus.TOO_MANY_REQUESTS:
        advice = f"The limit resets in {wait:.0f} s. {kind.advice}"
    elif earlier and kind is SegmindAPIError:
        advice = ""  # Its own is that nothing was billed.
    return f"{earlier} {advice}".strip()


def _earlier(*, to_queue: bool) -> str:
    earlier = "An earlier attempt of this call had been sent and may have been billed."
    return f"{earlier} {_UNKNOWN_JOB}" if to_queue else earlier


def _not_repeated(*, is_final: bool) -> str:
    if is_final:
        return "and is not sent again."
    return "so it is not sent again by itself (retry_unknown_outcome=True changes that)."


def error_from_failure(
    failure: TransportFailure,
    *,
    to_queue: bool = False,
    lost_before: int = 0,
    is_final: bool = False,
) -> SegmindError:
    """Turn a failed exchange into its error; what may have been billed says so.

    Args:
        failure: What happened.
        to_queue: Whether a job was to be submitted.
        lost_before: Attempts before it whose outcome is unknown.
        is_final: Whether nothing would have sent it again, as `retry_unknown_outcome` does.
    """
    head = failure.head
    facts: dict[str, Any] = {"outcome_unknown": failure.sent, "lost_before": lost_before}
    if head is not None:
        facts["status_code"] = head.status
        facts["request_id"] = request_id_of(head.headers)
        facts["credits"] = Credits.from_headers(head.headers)
    detail = shorten(failure.detail)
    sent = f"The request had been sent and may have been billed, {_not_repeated(is_final=is_final)}"
    if failure.kind == "timeout" and failure.sent:
        advice = f"Raise timeout=... {_UNKNOWN_JOB}" if to_queue else SegmindTimeoutError.advice
        return SegmindTimeoutError(f"Segmind gave {detail}. {sent} {advice}", **facts)
    if failure.kind == "unreadable" or head is not None:
        message = f"Segmind's answer cannot be used: {detail}. {SegmindResponseError.advice}"
        return SegmindResponseError(message, **facts)
    what = "The connection to Segmind broke" if failure.sent else "Segmind cannot be reached"
    fate = sent if failure.sent else "Nothing was sent."
    if lost_before and not failure.sent:
        fate = f"Nothing was sent this time. {_earlier(to_queue=to_queue)}"
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
_UNKNOWN_JOB = "If a job was taken, it runs under an id that is not known here."
