"""A request of a batch, and the forms of a line that stand for one."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

from langchain_segmind._messages.parameters import ALIASES, PER_CALL
from langchain_segmind._messages.profiles import PROFILES

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

LONGEST_ID = 200
"""Characters of a `custom_id`: a journal's key, which has a few more, may have 255."""
_LINE = frozenset(["custom_id", "id", "method", "url", "body"])
_URL = "/v1/chat/completions"
_OF_OPENAI = ("response_format", "tools", "tool_choice", "frequency_penalty", "presence_penalty")
_OURS = frozenset(["api_key", "segmind_api_key", "request_timeout", "timeout"])
_SHORT = frozenset(["custom_id", "id", "messages", "prompt", *PER_CALL, *ALIASES, *_OF_OPENAI])
_SHORT -= _OURS
_NO_PARAMETER = frozenset(["custom_id", "id", "messages", "prompt"])
_NOT_HERE = {
    "idempotency_key": "the custom_id is the key",
    "resume": "a journal's jobs are fetched by themselves",
    "stream": "an answer is written when it is whole",
    "n": "--samples asks for several answers",
}
_ROLES = ("user", "assistant", "system")


class BadRequestError(ValueError):
    """A line, or a record, stands for no request."""


@dataclass(frozen=True, slots=True)
class BatchRequest:
    """One prompt, under an id by which its answers are known."""

    custom_id: str
    """Its own in the batch, of 1 to 200 characters: what is answered once is not asked again."""
    messages: Any
    """What `llm.invoke` takes: a text, messages, or a prompt value."""
    parameters: Mapping[str, Any] = field(default_factory=dict)
    """What the call is given beside them: `temperature`, `max_tokens`, `model` and the like."""

    @classmethod
    def from_record(cls, record: object) -> BatchRequest:
        """Read OpenAI's batch line, `{"id", "messages"}` or `{"id", "prompt"}`.

        Raises:
            BadRequestError: It is none of them.
        """
        if not isinstance(record, dict):
            raise BadRequestError("it is no JSON object")
        body = record
        if "body" in record:
            _check_line(record)
            body = record["body"]
        elif wrong := record.keys() - _SHORT:
            names = ", ".join(sorted(wrong))
            raise BadRequestError(f"{names}: no field of a request, and no parameter of the model")
        custom_id, messages = _id_of(record), _messages_of(body)
        parameters = {name: value for name, value in body.items() if name not in _NO_PARAMETER}
        return cls(custom_id, messages, _without_empty(parameters) if parameters else parameters)


def plain_id(record: Any) -> str | None:
    """Give the id of a record that is surely right at a glance; the rest takes more patience."""
    if type(record) is not dict:
        return None
    body = record.get("body")
    if body is None:
        body, is_other = record, not _SHORT.issuperset(record)
    else:
        is_other = record.get("method", "POST") != "POST" or record.get("url", _URL) != _URL
        is_other = is_other or not _LINE.issuperset(record) or type(body) is not dict
    custom_id = record.get("custom_id") or record.get("id")
    if is_other or type(custom_id) is not str or not _is_id(custom_id):
        return None
    for name, value in body.items():
        if (is_fine := _PLAIN.get(name)) is None or not is_fine(value):
            return None
    return custom_id if "messages" in body or "prompt" in body else None


def _is_id(text: str) -> bool:
    """Tell whether a journal's keys have room for it; see `key_of`."""
    return 0 < len(text) + text.count("#") <= LONGEST_ID and text.isprintable()


def _check_line(record: dict[str, Any]) -> None:
    if not isinstance(record["body"], dict):
        raise BadRequestError("its body is no JSON object")
    if wrong := record.keys() - _LINE:
        raise BadRequestError(f"{', '.join(sorted(wrong))}: no field of a line")
    if record.get("method", "POST") != "POST":
        raise BadRequestError(f"its method is {record['method']!r}: only POST is sent")
    if not str(record.get("url", _URL)).endswith("/chat/completions"):
        raise BadRequestError(f"its url is {record['url']!r}: only chat completions are sent")


def _id_of(record: dict[str, Any]) -> str:
    custom_id = record.get("custom_id")
    if custom_id is None and (custom_id := record.get("id")) is None:
        raise BadRequestError("it has no custom_id, nor an id")
    if type(custom_id) is int:
        return str(custom_id)
    if not isinstance(custom_id, str) or not _is_id(custom_id):
        raise BadRequestError(
            f"its custom_id is no text of 1 to {LONGEST_ID} printable characters (# counts twice)"
        )
    return custom_id


def _messages_of(body: dict[str, Any]) -> list[Any]:
    messages = body.get("messages")
    if messages is None and isinstance(prompt := body.get("prompt"), str):
        return [{"role": "user", "content": prompt}]
    if not isinstance(messages, list) or not messages:
        raise BadRequestError("it has no messages, nor a prompt")
    if not all(isinstance(message, dict) and "role" in message for message in messages):
        raise BadRequestError("a message is no object with a role and content")
    return messages


def _without_empty(parameters: dict[str, Any]) -> dict[str, Any]:
    """Leave out what says nothing, and refuse what a batch says otherwise."""
    for name, why in _NOT_HERE.items():
        if name in parameters and parameters.pop(name) not in (None, False, 1):
            raise BadRequestError(f"{name} cannot be given: {why}")
    return {name: value for name, value in parameters.items() if value is not None}


def _is_text(value: Any) -> bool:
    return type(value) is str and not value.isspace() and value != ""


def _are_plain(messages: Any) -> bool:
    if type(messages) is not list:
        return False
    for message in messages:
        if (
            type(message) is not dict
            or len(message) != len(_PARTS)
            or message.get("role") not in _ROLES
            or not _is_text(message.get("content"))
        ):
            return False
    return len(messages) > 0


_MOST = 1 << 31
_PARTS = ("role", "content")
_PLAIN: dict[str, Callable[[Any], bool]] = {
    "custom_id": lambda _: True,
    "id": lambda _: True,
    "messages": _are_plain,
    "prompt": _is_text,
    "model": lambda value: type(value) is str and value in PROFILES,
    "temperature": lambda value: type(value) in (int, float) and 0 <= value <= 2,  # noqa: PLR2004 - as the API has it.
    "top_p": lambda value: type(value) in (int, float) and 0 < value <= 1,
    "max_tokens": lambda value: type(value) is int and 1 <= value <= _MOST,
    "seed": lambda value: type(value) is int and -_MOST <= value <= _MOST,
    "stop": lambda value: type(value) is str and value != "",
}


# --- Identity --------------------------------------------------------------------------------


class Place(NamedTuple):
    """Whose answer a journal's key stands for."""

    custom_id: str
    sample: int
    retry: int


_KEY = re.compile(r"(?P<id>(?:[^#]|##)*)(?:#(?P<sample>\d+)(?:/retry-(?P<retry>\d+))?)?", re.DOTALL)


def key_of(custom_id: str, sample: int = 0, retry: int = 0) -> str:
    """Give the idempotency key of an answer: the first sample's is the `custom_id` itself.

    A `#` in an id is doubled, so that no id looks like the sample of another one.
    """
    name = custom_id.replace("#", "##") if "#" in custom_id else custom_id
    if retry:
        return f"{name}#{sample}/retry-{retry}"
    return f"{name}#{sample}" if sample else name


def place_of(key: str) -> Place | None:
    """Read such a key; None for one of another kind."""
    found = _KEY.fullmatch(key)
    if found is None:
        return None
    name = found["id"].replace("##", "#")
    return Place(name, int(found["sample"] or 0), int(found["retry"] or 0))
