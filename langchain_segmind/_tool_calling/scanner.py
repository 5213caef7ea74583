"""Find where the calls of a reply stand.

The scanner goes from one place that can start a call to the next: an opening bracket, a
`<function=` tag, or a tool's name at the start of a line. It tries to read a call there, and goes
on behind what it read, so every part of the text is read a bounded number of times. What cannot
be read to its end loses only itself: the scanner goes on at the next place that can start a call.
"""

import re
from dataclasses import dataclass

from langchain_segmind._tool_calling.literals import Broken, Frame, Span, Value, Whole, read_value
from langchain_segmind._tool_calling.shapes import (
    BrokenCall,
    Request,
    broken_call_in,
    lacks_arguments,
    list_of_calls,
    looks_like_a_call,
    pairs_in,
    requests_in,
    unknown_request,
    with_arguments,
)
from langchain_segmind._tool_calling.toolset import ToolSet

_PATIENCE = 5000
"""A text with more calls and broken values than this is no reply but an attack."""

LOOK_BACK = 100
"""How far back the scanner looks to see what a candidate follows."""


@dataclass(frozen=True, slots=True)
class Found:
    """A call, sound or not, and the text that it takes up."""

    start: int
    end: int
    request: Request
    as_code: bool = False
    """Whether it is written as a bare line of Python, which may just as well be program text."""


@dataclass(frozen=True, slots=True)
class Scan:
    """What a text holds."""

    found: list[Found]
    settled: int
    """Up to here nothing that may yet be added to the text can change what was found."""
    position: int
    """Where to go on when text was added."""


def scan(text: str, tools: ToolSet, *, truncated: bool) -> Scan:
    """Find the calls of a whole text."""
    scanner = _Scanner(text, tools, truncated=truncated)
    while scanner.advance():
        pass
    return scanner.result()


def scan_ahead(text: str, tools: ToolSet, *, start: int) -> Scan:
    """Look from `start` on for the first call, or the first thing that may yet become one."""
    scanner = _Scanner(text, tools, truncated=True, start=start, goes_on=True)
    while scanner.advance() and not scanner.holds_back:
        pass
    return scanner.result()


class _Scanner:
    def __init__(
        self,
        text: str,
        tools: ToolSet,
        *,
        truncated: bool,
        start: int = 0,
        goes_on: bool = False,
    ) -> None:
        self._text = text
        self._tools = tools
        self._truncated = truncated
        self._goes_on = goes_on
        self._found: list[Found] = []
        self._open_at = len(text)
        self._failures = 0
        self._position = start

    @property
    def holds_back(self) -> bool:
        """Whether there is a call, or what may become one, so that text must wait for it."""
        return bool(self._found) or self._open_at < len(self._text)

    def advance(self) -> bool:
        """Read the next place that can start a call; whether there was one."""
        candidate = None
        if self._failures + len(self._found) < _PATIENCE:
            candidate = self._tools.starts.search(self._text, self._position)
        if self._goes_on and self._waits_before(candidate):
            return False
        if candidate is not None:
            self._position = self._read(candidate)
        return candidate is not None

    def _waits_before(self, candidate: re.Match[str] | None) -> bool:
        """Whether a bracket that came first may yet start a call, by what will follow it."""
        end = len(self._text) if candidate is None else candidate.start()
        start = max(self._position, len(self._text) - _BRACKET_LENGTH)
        for bracket in _BRACKET.finditer(self._text, start, end):
            if _UNDECIDED.match(self._text, bracket.start()):
                self._open_at = min(self._open_at, bracket.start())
                return True
        return False

    def result(self) -> Scan:
        settled = min([self._open_at, *(found.start for found in self._found[:1])])
        return Scan(self._found, settled, min(self._position, settled))

    def _read(self, candidate: re.Match[str]) -> int:
        """Read what may be a call; the place to go on from."""
        start = candidate.start()
        if candidate.lastgroup == "tagged" or candidate["tag"]:
            return self._read_tag(candidate)
        if candidate["bare"]:
            return self._read_bare(start, candidate["bare"])
        quoted = _follows_key_or_quote(self._text, start)
        return self._read_value(start, start, quoted=quoted)

    # A JSON object, a JSON list, or a Python list of calls.

    def _read_value(self, start: int, value_at: int, *, quoted: bool) -> int:
        read = self._value_at(value_at)
        if isinstance(read, Broken) and not quoted:
            return self._take_broken(start, read)
        if isinstance(read, Broken):
            return _resume_at(read)
        if not quoted:
            self._take_whole(read)
        return read.end

    def _take_whole(self, read: Whole) -> bool:
        if isinstance(read.value, list):
            return self._take_list(read)
        requests = self._requests(read.value, read.start)
        self._found += [Found(read.start, read.end, request) for request in requests or ()]
        return requests is not None

    def _requests(self, value: Value, start: int) -> list[Request] | None:
        """The calls of a value: of bound tools, or of unknown ones where only calls precede it."""
        requests = requests_in(value, self._tools)
        unknown = None if requests else unknown_request(value)
        if unknown is None:
            return requests
        end = self._found[-1].end if self._found else 0
        return [unknown] if _ONLY_MARKS.fullmatch(self._text, end, start) else None

    def _take_list(self, read: Whole) -> bool:
        """Take the calls of a list, if calls are all it holds."""
        spans = list(read.elements)
        if isinstance(read.value, list) and (pairs := pairs_in(read.value, self._tools)):
            self._found += [
                Found(start, end, request)
                for request, (start, _), (_, end) in zip(
                    pairs, spans[::2], spans[1::2], strict=True
                )
            ]
            return True
        if spans:
            spans[0] = (read.start, spans[0][1])
            spans[-1] = (spans[-1][0], read.end)
        return self._take_elements(read.value if isinstance(read.value, list) else [], spans)

    def _take_elements(self, values: list[Value], spans: list[Span]) -> bool:
        start = spans[0][0] if spans else 0
        taken = [self._requests(value, start) for value in values]
        calls = [
            bool(requests) or looks_like_a_call(value)
            for requests, value in zip(taken, values, strict=True)
        ]
        if not any(taken) or not all(calls):
            return False
        for requests, (start, end) in zip(taken, spans, strict=True):
            self._found += [Found(start, end, request) for request in requests or ()]
        return True

    # A value whose reading stopped.

    def _take_broken(self, start: int, broken: Broken) -> int:
        mended = None if self._truncated else self._replace_in_value(broken)
        if mended is not None and self._take_whole(mended):
            return mended.end
        self._mark_open(start, broken)
        cut = broken.end >= len(self._text)
        call = broken_call_in(broken, self._tools, cut=cut)
        if call is None:
            self._take_finished_elements(broken)
            return _resume_at(broken)
        return self._take_broken_call(start, broken, call)

    def _take_broken_call(self, start: int, broken: Broken, call: BrokenCall) -> int:
        self._take_finished_elements(broken)
        end = self._end_of_broken(broken)
        cut = end == len(self._text) and broken.end >= end
        error = "The reply stops inside the call." if cut else "The call cannot be read."
        raw = self._text[call.arguments_at : end].strip()
        calls = list_of_calls(broken)
        if calls is not None and calls.spans:
            start = calls.spans[-1][1]
        self._found.append(Found(start, end, Request(call.name, {}, raw, error)))
        return end

    def _take_finished_elements(self, broken: Broken) -> None:
        """Take the calls of a broken list that were finished before it broke."""
        calls = list_of_calls(broken)
        if calls is not None:
            spans = [(broken.start, end) for _, end in calls.spans[:1]] + calls.spans[1:]
            self._take_elements(calls.items, spans)

    def _mark_open(self, start: int, broken: Broken) -> None:
        closed = _skip(_CLOSING, self._text, broken.at)
        if (
            broken.end >= len(self._text)
            or _UNFINISHED_TAG.match(self._text, closed)
            or self._mendable(broken) is not None  # As it will be, unless the reply is cut short.
        ):
            self._open_at = min(self._open_at, start)

    def _replace_in_value(self, broken: Broken) -> Whole | None:
        """The value, if all that is wrong with it are the brackets at the very end of the reply."""
        rest = self._mendable(broken)
        if rest is None:
            return None
        end = rest.start("tag") if rest["tag"] else rest.end("brackets")
        value, elements = _folded(broken.frames)
        return Whole(value, broken.start, end, elements)

    def _mendable(self, broken: Broken) -> re.Match[str] | None:
        """What stands where the missing brackets should."""
        rest = _CLOSING.match(self._text, broken.at)
        if rest is None or not broken.frames or broken.string_at == broken.at:
            return None
        brackets = sum(rest[0].count(closer) for closer in "}])")
        if rest["tag"] is None and rest.end() != len(self._text):
            return None
        if not broken.closed and not rest[0].strip():
            return None
        if len(broken.frames) - brackets > 1 or not _is_between_items(broken.frames[-1]):
            return None
        return rest

    def _end_of_broken(self, broken: Broken) -> int:
        end = _END_OF_BROKEN.search(self._text, max(broken.string_at, broken.start) + 1)
        while end is not None and end["start"] is None and end.start() < broken.at:
            end = _END_OF_BROKEN.search(self._text, end.end())
        if end is None:
            return len(self._text)
        return end.start("start") if end["start"] is not None else end.start()

    # `<function=name>{…}</function>`

    def _read_tag(self, tag: re.Match[str]) -> int:
        name = tag["tagged"]
        start, after = tag.start(), tag.end("tagged")
        if after == len(self._text):
            self._open_at = min(self._open_at, start)
            return after
        gap = _AFTER_NAME.match(self._text, after)
        position = gap.end() if gap else after
        if self._text[position : position + 1] == "{":
            return self._read_tagged_object(start, name, position)
        if _KEYWORD_ARGUMENT.match(self._text, after):
            return self._read_tagged_python(start, after, name)
        return self._read_empty_tag(start, after, name)

    def _read_tagged_object(self, start: int, name: str, position: int) -> int:
        read = self._value_at(position)
        if isinstance(read, Broken):
            mended = None if self._truncated else self._replace_in_value(read)
            if mended is None:
                self._mark_open(start, read)
                call = BrokenCall(name, position)
                return self._take_broken_call(start, read, call)
            read = mended
        return self._take_tagged(start, name, read)

    def _take_tagged(self, start: int, name: str, read: Whole) -> int:
        end = _after_arguments(self._text, read.end)
        self._found.append(Found(start, end, with_arguments(name, read.value, self._tools)))
        return end

    def _read_tagged_python(self, start: int, after: int, name: str) -> int:
        read = self._value_at(after - len(name))
        if isinstance(read, Broken):
            self._mark_open(start, read)
            return self._take_broken_call(start, read, BrokenCall(name, after))
        end = _after_arguments(self._text, read.end)
        requests = requests_in(read.value, self._tools) or ()
        self._found += [Found(start, end, request) for request in requests]
        return end

    def _read_empty_tag(self, start: int, after: int, name: str) -> int:
        """`<function=name></function>`: a call of a tool that needs no arguments."""
        closing = _EMPTY_TAG.match(self._text, after)
        if closing is None:
            return self._read_odd_tag(start, after, name)
        if closing["closed"] is None and (self._truncated or self._tools.required(name)):
            self._open_at = min(self._open_at, start)
            error = "The reply stops inside the call."
            self._found.append(Found(start, closing.end(), Request(name, {}, "", error)))
            return closing.end()
        self._found.append(Found(start, closing.end(), with_arguments(name, {}, self._tools)))
        return closing.end()

    def _read_odd_tag(self, start: int, after: int, name: str) -> int:
        content = _TAG_CONTENT.match(self._text, after)
        closing = _CLOSING_TAG.match(self._text, content.end()) if content else None
        if closing is None:
            self._mark_open_at_end(start, content.end() if content else after)
            return after
        raw = self._text[after : closing.start()].strip(" \n\t>")
        error = "The arguments are not a JSON object."
        self._found.append(Found(start, closing.end(), Request(name, {}, raw, error)))
        return closing.end()

    # `name(…)`, `name {…}`, `name>{…}</function>`

    def _read_bare(self, start: int, written: str) -> int:
        after = start + len(written)
        if not self._stands_alone(start):
            return after
        gap = _BARE_GAP.match(self._text, after)
        position = gap.end() if gap else after
        if self._text[position : position + 1] == "{":
            return self._read_bare_object(start, position, written)
        if self._text[after : after + 1] == "(":
            return self._read_bare_python(start, after)
        return after

    def _read_bare_object(self, start: int, position: int, written: str) -> int:
        name = written if written in self._tools else written.removesuffix(".call")
        gap = self._text[start + len(written) : position]
        read = self._value_at(position)
        if isinstance(read, Broken):
            mended = None if self._truncated else self._replace_in_value(read)
            if mended is None:
                return self._take_broken_bare(start, read, BrokenCall(name, position), gap)
            read = mended
        if not self._means_arguments(name, read, gap):
            self._mark_open_at_end(start, read.end)
            return read.end
        return self._take_tagged(start, name, read)

    def _take_broken_bare(self, start: int, broken: Broken, call: BrokenCall, gap: str) -> int:
        self._mark_open(start, broken)
        root = broken.frames[0]
        keys = {*root.named, root.key}
        if ">" in gap or keys & self._tools.properties(call.name).keys():
            return self._take_broken_call(start, broken, call)
        return _resume_at(broken)

    def _means_arguments(self, name: str, read: Whole, gap: str) -> bool:
        """Whether an object behind a name is its arguments, and not just text beside it."""
        if _CLOSING_TAG.match(self._text, _skip(_JUNK, self._text, read.end)):
            return True
        known = self._tools.properties(name).keys()
        value = read.value
        fits = isinstance(value, dict) and (value.keys() <= known or looks_like_a_call(value))
        return fits and (">" in gap or _LINE_END.match(self._text, read.end) is not None)

    def _read_bare_python(self, start: int, after: int) -> int:
        read = self._value_at(start)
        if isinstance(read, Broken):
            return self._take_broken_python(start, after, read)
        if not _LINE_END.match(self._text, read.end):
            self._mark_open_at_end(start, read.end)
            return read.end
        requests = requests_in(read.value, self._tools) or ()
        tagged = _SPECIAL_BEFORE.search(self._text, max(0, start - LOOK_BACK), start) is not None
        for request in requests:
            self._found.append(Found(start, read.end, request, as_code=not tagged))
        return read.end

    def _take_broken_python(self, start: int, after: int, read: Broken) -> int:
        self._mark_open(start, read)
        mended = None if self._truncated else self._replace_in_value(read)
        if mended is not None and self._take_whole(mended):
            return mended.end
        call = broken_call_in(read, self._tools, cut=True)
        if call is None or not _KEYWORD_ARGUMENT.match(self._text, after):
            return _resume_at(read)
        return self._take_broken_call(start, read, BrokenCall(call.name, after))

    def _stands_alone(self, start: int) -> bool:
        """Whether nothing but marks stand before this place in its line, or only other calls do."""
        if self._found and _BETWEEN.fullmatch(self._text, self._found[-1].end, start):
            return True
        begin = max(0, start - LOOK_BACK)
        line = max(self._text.rfind("\n", begin, start) + 1, begin)
        if line == begin and begin > 0 and self._text[begin - 1] != "\n":
            return _SPECIAL_BEFORE.search(self._text, begin, start) is not None
        return _MARKS.fullmatch(self._text, line, start) is not None or (
            _SPECIAL_BEFORE.search(self._text, line, start) is not None
        )

    def _mark_open_at_end(self, start: int, end: int) -> None:
        if _skip(_JUNK, self._text, end) + LOOK_BACK > len(self._text):
            self._open_at = min(self._open_at, start)

    def _value_at(self, position: int) -> Whole | Broken:
        read = read_value(self._text, position)
        self._failures += isinstance(read, Broken)
        return read


def _folded(frames: list[Frame]) -> tuple[Value, list[Span]]:
    """The value of containers that were left open, as if they were closed here."""
    value: Value = frames[-1].value()
    for outer, inner in zip(frames[-2::-1], frames[:0:-1], strict=True):
        if outer.key is None:
            outer.items.append(value)
            outer.spans.append((inner.start, inner.start))
        else:
            outer.named[outer.key] = value
            outer.key = None
        value = outer.value()
    return value, frames[0].spans


def _is_between_items(frame: Frame) -> bool:
    """Whether nothing but the closing bracket is missing from a container."""
    return frame.expects == "separator" and not lacks_arguments(frame)


def _resume_at(broken: Broken) -> int:
    """Go on inside the last string: if its quote is missing, calls may stand in what it took."""
    if broken.start < broken.string_at < broken.at or broken.string_at == broken.at:
        return max(broken.string_at, broken.start) + 1
    return max(broken.at, broken.start + 1)


def _follows_key_or_quote(text: str, start: int) -> bool:
    """Whether a bracket is a value of JSON around it, or quoted: then it is no call of its own."""
    return _KEY_OR_QUOTE.search(text, max(0, start - LOOK_BACK), start) is not None


def _after_arguments(text: str, position: int) -> int:
    closing = _CLOSING_TAG.match(text, _skip(_JUNK, text, position))
    if closing is not None:
        return closing.end()
    return _skip(_STRAY, text, position)


def _skip(pattern: re.Pattern[str], text: str, position: int) -> int:
    found = pattern.match(text, position)
    return found.end() if found else position


_BRACKET = re.compile(r"[{\[]")
_BRACKET_LENGTH = 400
"""More than the longest match of `_UNDECIDED`."""
_UNDECIDED = re.compile(
    r"""[{\[] \s{0,40} (?: \{ \s{0,40} )? (?:
        " [^"\\\n]{0,200} (?: " \s{0,8} (?: [:,] \s{0,40} )? )?
      | ' [^'\\\n]{0,200} (?: ' \s{0,8} (?: [:,] \s{0,40} )? )?
      | [\w.\-]{0,128} \s{0,8} :? \s{0,40} )? \Z""",
    re.VERBOSE,
)

_TAG = r"<\|?/\s{0,4}function\b[^<>\n]{0,80}>?"
_CLOSING_TAG = re.compile(rf"{_TAG}|<function\s{{0,4}}/?>|/>")
_CLOSING = re.compile(
    rf"(?P<brackets>[\s}}\])]*+)[\s>;,.`\"']*+(?:<\|\w{{1,32}}\|>\s*+)*"
    rf"(?P<tag>{_TAG})?"
)
_UNFINISHED_TAG = re.compile(r"(?:<[^<>\n]{0,100})?\Z")
_AFTER_NAME = re.compile(r"[\s>=:,(\[`\"']{0,40}")
_BARE_GAP = re.compile(r"\s{0,8}[>=]?\s{0,8}\(?\s{0,8}(?=\{)")
_KEYWORD_ARGUMENT = re.compile(r"\s{0,4}\(\s{0,40}\w{1,128}\s{0,4}=")
_EMPTY_TAG = re.compile(rf"[\s>/(){{}}]{{0,40}}(?:(?P<closed>{_TAG})|(?:<\|\w{{1,32}}\|>\s*+)*\Z)")
_TAG_CONTENT = re.compile(r"[^<]{0,2000}+")
_JUNK = re.compile(r"[\s>})\]`\"';]{0,40}")
_STRAY = re.compile(r"(?:[>)\]}`]{1,8}(?=\s|[;,<]|\Z))?")
_LINE_END = re.compile(r"[ \t]*+(?:[)\]`>]{1,4}[ \t]*+)?(?:\Z|[\r\n;,<])")
_MARKS = re.compile(r"[\s>*\-`$\d.]{0,20}")
_BETWEEN = re.compile(r"[\s;,]{1,40}")
_ONLY_MARKS = re.compile(
    r"(?:[\s;,\]}]++|\[(?:/?TOOL_CALLS\])?|`\w{0,16}|<\|start_header_id\|>\w{1,16}|</?\|?[\w\-]{1,32}\|?>)*"
)
_SPECIAL_BEFORE = re.compile(r"(?:<\|\w{1,32}\|>|<tool[_-]?calls?>|\[TOOL_CALLS\])\s*\Z")
_KEY_OR_QUOTE = re.compile(r"(?:[\"']\s{0,40}:\s{0,40}|[\"'\\])\Z")
_END_OF_BROKEN = re.compile(
    rf"""(?: (?<= [}}\])>] ) [\s;,]{{0,40}} | ; \s{{0,40}} | \n | \n\s{{0,8}}\n
           | ```\w{{0,16}}\s{{0,40}} )
        (?P<start> \{{\s{{0,40}}["'](?:name|type|function)["']\s{{0,4}}: | <function\b )
    | {_TAG} | ``` | \n\s{{0,8}}\n""",
    re.VERBOSE,
)
