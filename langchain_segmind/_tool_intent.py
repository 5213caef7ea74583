"""Tell a call from an example of one.

A model that explains a tool writes just what it would write to call it. Only the words around it
tell the two apart, and only clear words count: without them a call is a call.
"""

import re
from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

from langchain_segmind._tool_scan import Found

_NEAR = 240
"""How many characters around a call are read for what it is meant to be."""


def meant_calls(text: str, found: Sequence[Found]) -> list[Found]:
    """Those that are meant as calls; examples and program text stay text."""
    if not found:
        return []
    code = _code_blocks(text, found) if any(item.as_code for item in found) else []
    meant: list[Found] = []
    example = _is_example(text, 0, found[0])
    for previous, item in pairwise([None, *found]):
        if item is None:
            continue
        if previous is not None and _SEPARATORS.fullmatch(text, previous.end, item.start) is None:
            example = _is_example(text, previous.end, item)
        if not example and not (item.as_code and _is_program(text, item, code)):
            meant.append(item)
    return meant


def _is_example(text: str, previous_end: int, item: Found) -> bool:
    before = text[max(previous_end, item.start - _NEAR) : item.start]
    after = text[item.end : item.end + _NEAR]
    said_before = _last_paragraph(before)
    if _EXAMPLE_BEFORE.search(said_before) or _REFUSAL_BEFORE.search(said_before):
        return True
    if _EXAMPLE_AFTER.search(_next_line(after)):
        return True
    return _in_a_sentence(before, after)


def _last_paragraph(before: str) -> str:
    """The words that lead up to a call, without the fence or tag that opens it."""
    words = _OPENING.sub("", before).rstrip()
    return words.rpartition("\n\n")[2]


def _next_line(after: str) -> str:
    """The words that follow a call, without the fence or tag that closes it."""
    return after.replace("</function>", "").lstrip("` \t\r\n;,.)").partition("\n")[0][: _NEAR // 2]


def _in_a_sentence(before: str, after: str) -> bool:
    """Whether a call is a word of a sentence: in inline code, with words on both sides of it."""
    line_before = before.rpartition("\n")[2]
    if not line_before.endswith("`") or line_before.endswith("``"):
        return False
    words_before = line_before.strip("`*->. \t")
    words_after = after.partition("\n")[0].lstrip("`")
    return bool(words_before) and _WORD.search(words_after) is not None


def _is_program(text: str, item: Found, code: "Sequence[_Block]") -> bool:
    """Whether a bare line of Python belongs to a program that the model shows."""
    at = bisect_right(code, item.start, key=_start_of) - 1
    if at >= 0 and item.end <= code[at].end:
        return code[at].is_program
    before = text[max(0, item.start - _NEAR) : item.start].rstrip().rpartition("\n")[2]
    after = text[item.end : item.end + _NEAR].lstrip(" \t\r\n;,").partition("\n")[0]
    return bool(_PROGRAM_LINE.match(before) or _PROGRAM_LINE.match(after))


class _Block(NamedTuple):
    """The inside of a fenced block."""

    start: int
    end: int
    is_program: bool
    """Whether it holds anything besides calls."""


def _start_of(block: _Block) -> int:
    return block.start


def _code_blocks(text: str, found: Sequence[Found]) -> list[_Block]:
    """The fenced blocks, each looked at once however many calls it holds; the last may be open."""
    fences = [fence.span() for fence in _FENCE.finditer(text)]
    fences.append((len(text), len(text)))
    starts = [item.start for item in found]
    blocks: list[_Block] = []
    for (_, start), (end, _) in zip(fences[::2], fences[1::2], strict=False):
        first, last = bisect_left(starts, start), bisect_left(starts, end)
        inside = [item for item in found[first:last] if item.end <= end]
        blocks.append(_Block(start, end, bool(inside) and _rest_of(text, start, end, inside) != ""))
    return blocks


def _rest_of(text: str, start: int, end: int, inside: Sequence[Found]) -> str:
    """What a code block holds besides calls."""
    edges = [start, *(edge for item in inside for edge in (item.start, item.end)), end]
    rest = "".join(text[left:right] for left, right in zip(edges[::2], edges[1::2], strict=True))
    return re.sub(r"[\s;,\[\]]+|^\s*#.*$", "", rest, flags=re.MULTILINE)


_FENCE = re.compile(r"```[\w+\-]{0,20}")
# Each backtick for itself: a run of them can be divided in more ways than there is time to try.
_OPENING = re.compile(r"(?:\s|`\w{0,16}|<\|?[\w\-]{1,32}+\|?>|\[TOOL_CALLS\]){1,24}\Z")
_SEPARATORS = re.compile(r"(?:[\s;,\[\]`]|<\|\w{1,32}\|>|json){0,80}")
_WORD = re.compile(r"^[\s,]*[A-Za-z]{2}")
_PROGRAM_LINE = re.compile(
    r"\s*(?:import |from \w+ import|def |class |for |if |while |return\b|print\(|with |try:|"
    r"[\w.]+\s*=(?!=)|#|//|>>>|\$ )"
)
_EXAMPLE_BEFORE = re.compile(
    r"""\b(?: for\ (?:example|instance) | e\.g\. | hypothetical | would\ write
      | (?:an?|this|following|simple|some)\ (?:\w+\ )?examples?\b | examples?:
      | (?:example|sample)\ (?:of|call|usage|request|format|invocation)\b
      | (?:call|calls|request|it|that|json)\ (?:would|might|could|should|will)\ look\ like
      | (?:calls?|requests?|usage|syntax|format)\ looks?\ (?:something\ )?like
      | the\ (?:general\ )?(?:format|syntax|form|structure)\ (?:is|for)\b
      | you\ (?:could|might|would)\ (?:say|write|send|type)
      | you\ (?:can|could|would)\ [^.!?\n]{0,60}\ like\ this
      | if\ (?:you|someone)\ (?:wanted|asked|wished|needed|were)\b
      | if\ (?:a|the)\ user\ (?:wants|asks|wishes|needs|wanted|asked|were)\b
    )""",
    re.VERBOSE | re.IGNORECASE,
)
_REFUSAL_BEFORE = re.compile(
    r"""\b(?: (?:will|would|should|do|did|must)(?:\ not\b|n['\u2019]t) | won['\u2019]t | never )
      \ (?:\w+\ ){0,2}(?:call|invoke|emit|send)\b [^.!?]* \Z""",
    re.VERBOSE | re.IGNORECASE,
)
_EXAMPLE_AFTER = re.compile(
    r"""(?: \b(?:just|only|merely)\ an?\ (?:\w+\ )?(?:example|illustration) | \bis\ an\ example\ of
        | \bfor\ illustration | \A(?:just\ |simply\ |please\ |then\ )?replace\ .{1,60}\ with\b
        | \b(?:where|here)\ [`"']?(?:name|parameters)\b )""",
    re.VERBOSE | re.IGNORECASE,
)
