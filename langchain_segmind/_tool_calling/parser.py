"""From the text of a reply to its tool calls, and to the text that remains.

Llama 3.1 writes its calls as text, in the form it was trained on or in one like it. The parser
takes out what is a call of a bound tool and leaves the rest as it is. Calls that were cut short or
cannot be read are reported, never run.
"""

import re
import secrets
from collections.abc import Callable, Sequence
from contextlib import suppress

from langchain_segmind._tool_calling.intent import select_calls
from langchain_segmind._tool_calling.literals import read_literal, read_objects
from langchain_segmind._tool_calling.scanner import FoundCall, scan, scan_ahead, skip
from langchain_segmind._tool_calling.shapes import forced_request, sort_calls
from langchain_segmind._tool_calling.toolset import ParsedReply, ToolSet


def new_call_id() -> str:
    """An identifier for a call, since the model gives none."""
    return f"call_{secrets.token_hex(12)}"


def parse_tool_calls(
    text: str,
    tools: ToolSet,
    *,
    truncated: bool = False,
    strict: bool = False,
    new_id: Callable[[], str] = new_call_id,
) -> ParsedReply:
    """Take the calls out of a reply.

    Args:
        text: The whole reply.
        tools: The tools that are bound; a call of any other counts only where a reply is nothing
            but calls, so that the model is told of its mistake.
        truncated: Whether the reply ended at the token limit.
        strict: Whether decoding was constrained to a call or `{"answer": ...}`.
        new_id: Makes the identifier of each call.
    """
    answer = _answer_in(text) if strict else None
    if answer is not None:
        return ParsedReply(answer)
    if len(text) > _LONGEST or _OPENER.search(text) is None:
        return ParsedReply(text)
    found = select_calls(text, scan(text, tools, truncated=truncated), tools)
    sure = [item for item in found if not item.request.is_doubtful]
    if len(sure) < len(found) and _text_besides(text, found).strip():
        found = sure
    found = found or _bare_arguments(text, tools)
    calls, invalid = sort_calls((item.request, new_id()) for item in found)
    return ParsedReply(_text_besides(text, found), calls, invalid)


class ToolCallStream:
    """Takes the calls out of a reply while it arrives.

    Text that cannot become part of a call is let out at once; the rest waits for `finish`.
    """

    def __init__(
        self,
        tools: ToolSet,
        *,
        strict: bool = False,
        new_id: Callable[[], str] = new_call_id,
    ) -> None:
        self._tools = tools
        self._strict = strict
        self._new_id = new_id
        self._parts: list[str] = []
        self._unread = 0
        self._look_at = 0
        self._settled = 0
        self._released = 0
        self._calling = False

    def feed(self, delta: str) -> str:
        """Take a piece of the reply; return the text that is certain by now."""
        self._parts.append(delta)
        self._unread += len(delta)
        if self._calling or self._tools.forced or self._unread < self._look_at:
            return ""
        text, self._unread = "".join(self._parts), 0
        self._parts = [text]
        if self._strict and self._released == 0 and text.lstrip()[:1] in {"{", ""}:
            return ""
        self._settled, self._calling = scan_ahead(text, self._tools, start=self._settled)
        start, end = self._released, _start_of_wrapping(text, self._settled)
        self._released = end = max(start, end)
        waiting = len(text) - end
        self._look_at = max(0 if waiting < _EAGER else waiting // 2, len(text) // 100)
        return text[start:end]

    def finish(self, *, truncated: bool) -> ParsedReply:
        """The calls, and the text that was not let out before."""
        text = "".join(self._parts)
        reply = parse_tool_calls(
            text, self._tools, truncated=truncated, strict=self._strict, new_id=self._new_id
        )
        rest = reply.content[self._released :]
        return ParsedReply(rest, reply.tool_calls, reply.invalid_tool_calls)


_LONGEST = 2 * 1024 * 1024
"""Characters of a reply, some four times what a context of 128k holds; a longer one is all text."""

_OPENER = re.compile(r"[{\[(<]")
"""Without one there is no call: most answers are told by a glance."""

_EAGER = 400
"""Up to this length what waits is looked at with every piece; beyond, at each half more."""


def _answer_in(text: str) -> str | None:
    """The text of `{"answer": "..."}`, also if the reply was cut inside it."""
    for ending in ("", '"}', "}"):
        with suppress(ValueError):
            match read_literal(text + ending):
                case {"answer": str(answer), **others} if not others:
                    return answer
    return None


def _bare_arguments(text: str, tools: ToolSet) -> list[FoundCall]:
    """The object that holds a forced call's arguments, though it does not say which call."""
    for read in read_objects(text) if tools.forced else ():
        if (request := forced_request(read.value, tools)) is not None:
            return [FoundCall(read.start, read.end, request)]
    return []


# What remains of the text.


def _text_besides(text: str, found: Sequence[FoundCall]) -> str:
    """The text without its calls, their separators and the marks wrapped around them."""
    pieces: list[str] = []
    gap = ""
    position = 0
    for start, end in _stretches(text, found):
        piece = text[position:start]
        if piece:
            pieces += [gap, piece]
            gap = ""
        gap = gap or text[start : skip(_SPACE, text, start)] if pieces else ""
        position = end
    if text[position:]:
        pieces += [gap, text[position:]]
    return "".join(pieces)


def _stretches(text: str, found: Sequence[FoundCall]) -> list[tuple[int, int]]:
    """The stretches that calls take up, grown over what only belongs to them."""
    stretches: list[tuple[int, int]] = []
    for item in found:
        is_joined = stretches and skip(_JOINT, text, stretches[-1][1]) >= item.start
        start = stretches.pop()[0] if is_joined else item.start
        stretches.append((start, item.end))
    return [_grow(text, start, end) for start, end in stretches]


def _grow(text: str, start: int, end: int) -> tuple[int, int]:
    end = skip(_STRAY_BRACKETS, text, end)
    left = _start_of_wrapping(text, start)
    fenced = "```" in text[left:start]
    closing = _CLOSING_FENCE.match(text, end)
    if fenced and closing is None:  # The block holds more than calls: it keeps its marks.
        left = _skip_space_back(text, start)
    return left, skip(_AFTER, text, end) if closing is None else closing.end()


def _skip_space_back(text: str, position: int) -> int:
    while position > 0 and text[position - 1].isspace():
        position -= 1
    return position


def _start_of_wrapping(text: str, position: int) -> int:
    """Go back over space, fence openings, special tokens and tags."""
    for _ in range(_MOST_MARKS):
        position = _skip_space_back(text, position)
        mark = _WRAPPING_BEFORE.search(text, max(0, position - 48), position)
        if mark is None:
            break
        position = mark.start()
    return position


_MOST_MARKS = 16
_MARK = (
    r"<\|start_header_id\|>\w{1,16}<\|end_header_id\|>|<\|\w{1,32}\|>"
    r"|</?\|?tool[_-]?(?:calls?|use)\|?>|\[/?TOOL_CALLS\]"
)
_SPACE = re.compile(r"\s*+")
# Two backticks are one mark, as they are when the third has come: else a stream lets out too much.
_WRAPPING_BEFORE = re.compile(rf"(?:```[\w+\-]{{0,16}}|`{{1,2}}|{_MARK}|[;\[])\Z")
_JOINT = re.compile(rf"(?:[\s;,\[\]]++|```\w{{0,16}}|{_MARK}|</?function>)*")
_AFTER = re.compile(rf"(?:[\s;,]++|{_MARK}|</function>|`(?!``))*(?:```\s*+\Z)?")
_STRAY_BRACKETS = re.compile(r"[}\]]{1,4}(?=\s*+(?:\Z|[\n;<`]))")
_CLOSING_FENCE = re.compile(rf"(?:[\s;,]++|{_MARK})*(?:```(?:[\s;,]++|{_MARK})*|\Z)")
