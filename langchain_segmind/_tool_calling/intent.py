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
from langchain_segmind._tool_calling.scanner import FoundCall
from langchain_segmind._tool_calling.toolset import ToolSet

_CONTEXT = 240
"""How many characters around a call are read for what it is meant to be."""


def select_calls(text: str, found: Sequence[FoundCall], tools: ToolSet) -> list[FoundCall]:
    """Those that are meant as calls; examples, quotations and program text stay text."""
    quotations = _quotations(text, found, tools) if found else []
    meant: list[FoundCall] = []
    end, is_quoted = 0, False
    for group in _groups(text, found):
        lead = _lead(text, end, group[0])
        is_program = _is_program(text, group)
        for item in group:
            if end == 0 or "\n" in text[end : item.start]:
                is_quoted = _is_quoted_in_its_line(text, item)
            end = item.end
            words = text[item.start : end].strip("[] \n")  # Without the list that it is in.
            if not (
                lead == "example"
                or is_quoted
                or (item.as_code and is_program)
                or _is_within(item.start, quotations)
                or (lead == "quotation" and words in tools.conversation)
            ):
                meant.append(item)
    return meant


def _groups(text: str, found: Sequence[FoundCall]) -> Iterator[list[FoundCall]]:
    """Put together the calls between which only separators stand."""
    group: list[FoundCall] = []
    for item in found:
        if group and not _SEPARATORS.fullmatch(text, min(group[-1].end, item.start), item.start):
            yield group
            group = []
        group.append(item)
    if group:
        yield group


def _lead(text: str, previous_end: int, item: FoundCall) -> Literal["example", "quotation", ""]:
    """What the words before a call, and those right behind it, say of it."""
    before = text[max(previous_end, item.start - _CONTEXT) : item.start]
    words = _OPENING.sub("", before).rstrip().rpartition("\n\n")[2]
    if _EXAMPLE_BEFORE.search(words) or _REFUSAL_BEFORE.search(words):
        return "example"
    after = text[item.end : item.end + _CONTEXT].replace("</function>", "").lstrip("` \t\r\n;,.)")
    if _EXAMPLE_AFTER.search(after.partition("\n")[0][: _CONTEXT // 2]):
        return "example"
    if not words.strip(_BULLETS) or _SENTENCE_END.search(words):
        words = re.split(r"[\n{\[<]", text[item.end : item.end + _CONTEXT])[0]
        if _WORD.search(words) is None:
            return ""
    announced = _ANNOUNCEMENT.search(words) and not _QUOTING.search(words)
    return "" if announced else "quotation"


def _is_quoted_in_its_line(text: str, item: FoundCall) -> bool:
    """Whether a call's line begins as a quotation, or has words before the call in inline code."""
    line = text.rfind("\n", 0, item.start) + 1
    if _QUOTATION.match(text, line, item.start):
        return True
    before = text[max(line, item.start - _CONTEXT) : item.start]
    if before.endswith(_QUOTATION_MARKS):
        return True
    marks = _BACKTICKS.findall(before)
    is_inline = len(marks) % 2 == 1 and len(marks[-1]) < len("```")
    return is_inline and _WORD.search(before) is not None


def _is_program(text: str, group: Sequence[FoundCall]) -> bool:
    """Whether the line before or after bare lines of Python belongs to a program."""
    start, end = group[0].start, group[-1].end
    before = text[max(0, start - _CONTEXT) : start].rstrip().rpartition("\n")[2]
    after = text[end : end + _CONTEXT].lstrip(" \t\r\n;,").partition("\n")[0]
    return bool(_PROGRAM_LINE.match(before) or _PROGRAM_LINE.match(after))


def _is_within(position: int, stretches: Sequence[Span]) -> bool:
    at = bisect_right(stretches, position, key=itemgetter(0)) - 1
    return at >= 0 and position < stretches[at][1]


def _quotations(text: str, found: Sequence[FoundCall], tools: ToolSet) -> list[Span]:
    """Where somebody else speaks: elements other than calls, and comments.

    Those in which models are known to quote may lack their end.
    """
    calls = [(item.start, item.end) for item in found]
    opened: dict[str, list[re.Match[str]]] = {}
    stretches: list[Span] = []
    last = 0
    for tag in _TAG.finditer(text):
        name = (tag["name"] or "!--").lower()
        if _OWN.fullmatch(name) or name in tools or _is_within(tag.start(), calls):
            continue
        if not (tag["closing"] or tag["closed"]):
            opened.setdefault(name, []).append(tag)
            continue
        last = tag.start()
        if opened.get(name):
            stretches.append((opened[name].pop().end(), last))
    for name, tags in opened.items():
        if _QUOTING_NAME.fullmatch(name):
            stretches += [(tag.end(), last if tag["line"] is None else len(text)) for tag in tags]
    return _merge(stretches)


def _merge(stretches: list[Span]) -> list[Span]:
    """Make one of those that overlap."""
    merged: list[Span] = []
    for start, end in sorted(stretches):
        if merged and start <= merged[-1][1]:
            merged[-1] = (merged[-1][0], max(end, merged[-1][1]))
        else:
            merged.append((start, end))
    return merged


# Each backtick for itself: a run of them can be divided in more ways than there is time to try.
_OPENING = re.compile(
    r"(?:(?m:^)[ \t]{0,8}\d{1,3}[.)]|\s|`(?:json|py(?:thon)?|tool_\w{1,8})?|<\|?[\w\-]{1,32}+\|?>"
    r"|\[TOOL_CALLS\]){1,24}\Z"
)
_SEPARATORS = re.compile(r"(?:[\s;,\[\]`*+\-\u2022]|\d{1,3}[.)]|<\|\w{1,32}\|>|json){0,80}")
_BULLETS = "*+-\u2022 \t\n"
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
    r"\s*(?:(?:[*+\-\u2022]|\(?(?:\d{1,3}|[a-z])[.)]|\[[\d x]{1,3}\])\s+){0,3}"
    r"(?:>|&gt;|\||//|/\*)",
    re.IGNORECASE,
)
_QUOTATION_MARKS = ('"', "'", "\u201c", "\u2018", "\u201e", "\u00ab", "\u2039", "\u300c", "\u300e")
_BACKTICKS = re.compile(r"`+")
_TAG = re.compile(
    r"""(?P<line> ^ \s{0,8} )? (?:
        < \s{0,4} (?P<closing> / )? \s{0,4} (?P<name> [a-z][\w:.\-]{0,40} ) \b [^<>]{0,80} >
      | <!-- | (?P<closed> --> ) )""",
    re.VERBOSE | re.IGNORECASE | re.MULTILINE,
)
_OWN = re.compile(
    r"""(?:(?:call|execute|invoke|run|use)[_\-])? (?:tool|function|api)s?
          (?:[_\-]? (?:block|call|calling|code|invocation|request|use))? s?
        | (?:\w+[_\-])?calls? | invoke | actions? | json | python(?:_tag)?
        | (?:final_)?answer | response | reply | assistant""",
    re.VERBOSE,
)
"""Elements in which a model writes a call of its own."""
_QUOTING_NAME = re.compile(
    r"""!-- | (?:tool|function|search|retrieval) [_\-]? (?:response|result|output)s?
        | (?:block)?quote | observation | documents? | context | (?:web_?)?page | user | e?mail
        | message | q | cite | results? | (?:document|page|web)_?content
        | user_(?:input|message|query) | article | html | body | passage | excerpt | snippet
        | source | transcript | examples? | output""",
    re.VERBOSE,
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
