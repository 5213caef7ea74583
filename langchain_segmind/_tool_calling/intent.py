"""Tell a call from an example of one, and from one that somebody else wrote.

A model that explains a tool, or repeats what a page says, writes just what it would write to call
it. Only the words around it tell them apart, and only clear words count: without them a call is a
call.
"""

import re
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from operator import itemgetter
from typing import Literal

from langchain_segmind._tool_calling.literals import Span
from langchain_segmind._tool_calling.scanner import Found
from langchain_segmind._tool_calling.toolset import ToolSet

_NEAR = 240
"""How many characters around a call are read for what it is meant to be."""


def meant_calls(text: str, found: Sequence[Found], tools: ToolSet) -> list[Found]:
    """Those that are meant as calls; examples, quotations and program text stay text."""
    quotations = _quotations(text) if found else []
    meant: list[Found] = []
    end, is_quoted = 0, False
    for group in _groups(text, found):
        lead = _lead(text, end, group[0])
        is_program = _is_program(text, group)
        for item in group:
            if end == 0 or "\n" in text[end : item.start]:
                is_quoted = _is_quoted_in_its_line(text, item)
            end = item.end
            if not (
                lead == "example"
                or is_quoted
                or (item.as_code and is_program)
                or _is_within(item, quotations)
                or (lead == "quotation" and _words_of(text, item) in tools.conversation)
            ):
                meant.append(item)
    return meant


def _groups(text: str, found: Sequence[Found]) -> Iterator[list[Found]]:
    """Put together the calls between which only separators stand."""
    group: list[Found] = []
    for item in found:
        if group and not _SEPARATORS.fullmatch(text, min(group[-1].end, item.start), item.start):
            yield group
            group = []
        group.append(item)
    if group:
        yield group


def _lead(text: str, previous_end: int, item: Found) -> Literal["example", "quotation", ""]:
    """What the words before a call, and those right behind it, say of it."""
    before = text[max(previous_end, item.start - _NEAR) : item.start]
    words = _OPENING.sub("", before).rstrip().rpartition("\n\n")[2]
    if _EXAMPLE_BEFORE.search(words) or _REFUSAL_BEFORE.search(words):
        return "example"
    after = text[item.end : item.end + _NEAR].replace("</function>", "").lstrip("` \t\r\n;,.)")
    if _EXAMPLE_AFTER.search(after.partition("\n")[0][: _NEAR // 2]):
        return "example"
    if _WORD.search(words) is None or _SENTENCE_END.search(words):
        words = re.split(r"[\n{\[<]", text[item.end : item.end + _NEAR])[0]
        if _WORD.search(words) is None:
            return ""
    announced = _ANNOUNCEMENT.search(words) and not _QUOTING.search(words)
    return "" if announced else "quotation"


def _words_of(text: str, item: Found) -> str:
    """A call as it is written, without the brackets of the list that it is in."""
    return text[item.start : item.end].strip("[] \n")


def _is_quoted_in_its_line(text: str, item: Found) -> bool:
    """Whether a call's line begins as a quotation, or has words before the call in inline code."""
    line = text.rfind("\n", 0, item.start) + 1
    if _QUOTATION.match(text, line, item.start):
        return True
    before = text[max(line, item.start - _NEAR) : item.start]
    marks = _BACKTICKS.findall(before)
    is_inline = len(marks) % 2 == 1 and len(marks[-1]) < len("```")
    return is_inline and _WORD.search(before) is not None


def _is_program(text: str, group: Sequence[Found]) -> bool:
    """Whether the line before or after bare lines of Python belongs to a program."""
    start, end = group[0].start, group[-1].end
    before = text[max(0, start - _NEAR) : start].rstrip().rpartition("\n")[2]
    after = text[end : end + _NEAR].lstrip(" \t\r\n;,").partition("\n")[0]
    return bool(_PROGRAM_LINE.match(before) or _PROGRAM_LINE.match(after))


def _is_within(item: Found, stretches: Sequence[Span]) -> bool:
    at = bisect_right(stretches, item.start, key=itemgetter(0)) - 1
    return at >= 0 and item.end <= stretches[at][1]


def _quotations(text: str) -> list[Span]:
    """Where somebody else speaks: `<tool_response>…</tool_response>`; one may lack its end."""
    stretches: list[Span] = []
    opening: re.Match[str] | None = None
    end = 0
    for tag in _QUOTING_TAG.finditer(text):
        if opening is None and not tag["closing"]:
            opening, end = tag, 0
        elif opening is not None and tag["closing"]:
            end = tag.start()  # Of it, or of what is quoted in it.
            if tag["name"].lower() == opening["name"].lower():
                stretches.append((opening.end(), end))
                opening = None
    if opening is not None:
        stretches.append((opening.end(), end if opening["line"] is None else len(text)))
    return stretches


# Each backtick for itself: a run of them can be divided in more ways than there is time to try.
_OPENING = re.compile(
    r"(?:(?m:^)[ \t]{0,8}\d{1,3}[.)]|\s|`\w{0,16}|<\|?[\w\-]{1,32}+\|?>|\[TOOL_CALLS\]){1,24}\Z"
)
_SEPARATORS = re.compile(r"(?:[\s;,\[\]`*+\-\u2022]|\d{1,3}[.)]|<\|\w{1,32}\|>|json){0,80}")
_WORD = re.compile(r"[^\W\d_]{2}|[^\W\d_A-Za-z]")
_SENTENCE_END = re.compile(r"[.!?…\u3002\uff01\uff1f\u0964\u061f][\"')\]*_\u2019\u201d]{0,3}\Z")
_ANNOUNCEMENT = re.compile(
    r"\b(?:(?:I|we)(?:['\u2019](?:ll|m|re)| will| am| are)|let me|let['\u2019]s)\b", re.IGNORECASE
)
_QUOTING = re.compile(
    r"\b(?:sa(?:id|ys?)|(?:quot|cit|writ|contain|mention|includ|show|repeat|return|stat)\w*|reads?|wrote"
    r"|sent|tells?|told)\b",
    re.IGNORECASE,
)
_QUOTATION = re.compile(
    r"\s*(?:(?:[*+\-\u2022]|\(?(?:\d{1,3}|[a-z])[.)]|\[[\d x]{1,3}\])\s+){0,3}(?:>|&gt;)",
    re.IGNORECASE,
)
_BACKTICKS = re.compile(r"`+")
_QUOTING_TAG = re.compile(
    r"""(?P<line> ^ \s{0,8} )? < \s{0,4} (?P<closing> / )? \s{0,4} (?P<name>
          (?:tool|function|search|retrieval) [_\-]? (?:response|result|output)s? | (?:block)?quote
        | observation | documents? | context | (?:web_?)?page | user | e?mail | message | q | cite
        | results? | (?:document|page|web)_?content | user_(?:input|message|query) | article | html
        | body | passage | excerpt | snippet | source | transcript | examples?
        ) \b [^<>]{0,80} >""",
    re.VERBOSE | re.IGNORECASE | re.MULTILINE,
)
_PROGRAM_LINE = re.compile(
    r"\s*(?:import |from \w+ import|(?:async )?(?:def|for|with) |class |if |while |return\b|await "
    r"|(?:else|elif|except|finally|try)\b.{0,80}:|print\(|(?!functions\.)\w+\.[\w.]+\("
    r"|[\w.]+\s*=(?!=)|@|//|>>>|\$ )"
)
_EXAMPLE_BEFORE = re.compile(
    r"""\b(?: for\ (?:example|instance) | e\.g\. | hypothetical | would\ write | something\ like
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
