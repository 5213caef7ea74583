"""Find where the calls of a reply stand.

The scanner goes from one place that can start a call to the next: an opening bracket, a
`<function=` tag, or a tool's name at the start of a line. It tries to read a call there, and goes
on behind what it read, so every part of the text is read a bounded number of times. What cannot
be read to its end loses only itself: the scanner goes on at the next place that can start a call.
"""

import re
from dataclasses import dataclass

from langchain_segmind._tool_calling.literals import (
    Broken,
    Span,
    Value,
    Whole,
    read_value,
)
from langchain_segmind._tool_calling.shapes import (
    ToolRequest,
    broken_call_in,
    doubtful_requests,
    lacks_arguments,
    list_of_calls,
    looks_like_a_call,
    requests_in,
    with_arguments,
)
from langchain_segmind._tool_calling.toolset import ToolSet

_MOST_READ = 5000
"""A text with more calls and broken values than this is no reply but an attack."""

_CONTEXT = 100
"""How far the scanner looks back to see what a candidate follows, and ahead of what it read."""


@dataclass(frozen=True, slots=True)
class FoundCall:
    """A call, sound or not, and the text that it takes up."""

    start: int
    end: int
    request: ToolRequest
    as_code: bool = False
    """Whether it is written as a bare line of Python, which may just as well be program text."""


def scan(text: str, tools: ToolSet, *, truncated: bool) -> list[FoundCall]:
    """Find the calls of a whole text."""
    scanner = _Scanner(text, tools, truncated=truncated)
    while candidate := scanner.next_candidate():
        scanner.read(candidate)
    return scanner.found


def scan_ahead(text: str, tools: ToolSet, *, start: int) -> tuple[int, bool]:
    """Tell up to where from `start` on no call can be, and whether there is one behind it."""
    scanner = _Scanner(text, tools, truncated=True, position=start)
    while True:
        candidate = scanner.next_candidate()
        unsure = _unsure_from(text, scanner.position, tools)
        if candidate is None or candidate.start() > unsure:
            return unsure, False
        scanner.read(candidate)
        if scanner.found or scanner.reach + _CONTEXT > len(text):
            return candidate.start(), bool(scanner.found)


class _Scanner:
    def __init__(self, text: str, tools: ToolSet, *, truncated: bool, position: int = 0) -> None:
        self._text = text
        self._tools = tools
        self._truncated = truncated
        self._failures = 0
        self.found: list[FoundCall] = []
        self.position = position
        self.reach = 0
        """How far what was read last went."""

    def next_candidate(self) -> re.Match[str] | None:
        """Find the next place that can start a call."""
        if self._failures + len(self.found) >= _MOST_READ:
            return None
        return self._tools.starts.search(self._text, self.position)

    def read(self, candidate: re.Match[str]) -> None:
        """Take what is a call there, and go on behind what was read."""
        start = candidate.start()
        if candidate["tagged"]:
            self.position = self._read_tag(start, candidate["tagged"], candidate.end("tagged"))
        elif candidate["bare"]:
            self.position = self._read_bare(start, candidate["bare"])
        else:
            self.position = self._read_value(start)

    def _value_at(self, position: int) -> Whole | Broken:
        """Read a value; what lacks only brackets at the very end of the reply is whole."""
        read = read_value(self._text, position)
        self.reach = read.end
        if isinstance(read, Whole):
            return read
        self._failures += 1
        closing = _CLOSING.match(self._text, read.at)
        if closing is None or not self._is_mended_by(closing, read):
            self.reach = max(read.end, closing.end() if closing else 0)
            return read
        self.reach = len(self._text)
        if self._truncated:
            return read
        end = closing.start("tag") if closing["tag"] else closing.end("brackets")
        match read_value(self._text[position : read.at] + read.missing, 0):
            case Whole(value, elements=elements):
                spans = [(position + first, position + last) for first, last in elements]
                return Whole(value, position, end, spans)
        return read

    def _is_mended_by(self, closing: re.Match[str], broken: Broken) -> bool:
        """Whether all that is wrong with a value are the brackets at the very end."""
        brackets = sum(closing[0].count(closer) for closer in "}])")
        is_last = closing["tag"] is not None or closing.end() == len(self._text)
        is_finished = broken.closed or closing[0].strip()  # A number may have been cut short.
        if not (is_last and is_finished and broken.frames) or broken.string_at == broken.at:
            return False
        frame = broken.frames[-1]
        is_between_items = frame.expects == "separator" and not lacks_arguments(frame)
        return is_between_items and len(broken.frames) - brackets <= 1

    # A JSON object, a JSON list, or a Python list of calls.

    def _read_value(self, start: int) -> int:
        read = self._value_at(start)
        is_quoted = _KEY_OR_QUOTE.search(self._text, max(0, start - _CONTEXT), start) is not None
        if isinstance(read, Whole):
            is_apart = not _names_stand_apart(read.value) or self._fills_its_lines(read)
            if is_apart and not is_quoted:
                self._take_whole(read)
            return read.end
        if is_quoted:
            return _resume_at(read)
        calls = list_of_calls(read)
        if calls is not None and calls.spans:  # Those that were finished before the list broke.
            self._take_elements(calls.items, [(start, calls.spans[0][1]), *calls.spans[1:]])
            start = calls.spans[-1][1]
        call = broken_call_in(read, self._tools, cut=read.end >= len(self._text))
        return _resume_at(read) if call is None else self._take_broken(start, read, *call)

    def _fills_its_lines(self, read: Whole) -> bool:
        before = self._text[max(0, read.start - _CONTEXT) : read.start]
        start = read.start - len(before) + len(before.rstrip("[ \t"))
        is_last = _END_OF_PAIRS.match(self._text, read.end) is not None
        return is_last and self._stands_alone(start)

    def _take_whole(self, read: Whole) -> None:
        if requests := self._requests(read.value, read.start):
            self.found += [FoundCall(read.start, read.end, request) for request in requests]
        elif isinstance(read.value, list) and (spans := list(read.elements)):
            spans[0] = (read.start, spans[0][1])
            spans[-1] = (spans[-1][0], read.end)
            self._take_elements(read.value, spans)

    def _take_elements(self, values: list[Value], spans: list[Span]) -> None:
        """Take the calls of a list, if calls are all it holds."""
        taken = [self._requests(value, spans[0][0]) for value in values]
        if all(each or looks_like_a_call(value) for each, value in zip(taken, values, strict=True)):
            for requests, (start, end) in zip(taken, spans, strict=True):
                self.found += [FoundCall(start, end, request) for request in requests]

    def _requests(self, value: Value, start: int) -> list[ToolRequest]:
        """The calls of a value: those without a doubt, or others where only calls precede it."""
        if requests := requests_in(value, self._tools):
            return requests
        doubtful = doubtful_requests(value, self._tools)
        end = self.found[-1].end if self.found else 0
        return doubtful if doubtful and _ONLY_MARKS.fullmatch(self._text, end, start) else []

    # A value whose reading stopped.

    def _take_broken(self, start: int, broken: Broken, name: str, arguments_at: int) -> int:
        end = self._end_of_broken(broken)
        cut = end == len(self._text) and broken.end >= end
        error = "The reply stops inside the call." if cut else "The call cannot be read."
        raw = self._text[arguments_at:end].strip()
        return self._take(start, end, ToolRequest(name, {}, raw, error))

    def _end_of_broken(self, broken: Broken) -> int:
        end = _END_OF_BROKEN.search(self._text, max(broken.string_at, broken.start) + 1)
        while end is not None and end["start"] is None and end.start() < broken.at:
            end = _END_OF_BROKEN.search(self._text, end.end())
        if end is None:
            return len(self._text)
        return end.start() if end["start"] is None else end.start("start")

    def _take(self, start: int, end: int, request: ToolRequest) -> int:
        self.found.append(FoundCall(start, end, request))
        return end

    # `<function=name>{…}</function>`

    def _read_tag(self, start: int, name: str, after: int) -> int:
        self.reach = after
        if after == len(self._text):
            return after
        arguments_at = skip(_AFTER_NAME, self._text, after)
        if self._text[arguments_at : arguments_at + 1] != "{":
            return self._read_tag_without_object(start, after, name)
        read = self._value_at(arguments_at)
        if isinstance(read, Broken):
            return self._take_broken(start, read, name, arguments_at)
        return self._take_named(start, name, read)

    def _take_named(self, start: int, name: str, read: Whole) -> int:
        """Take a call whose name stands outside of what was read."""
        closing = _CLOSING_TAG.match(self._text, skip(_AFTER_VALUE, self._text, read.end))
        end = skip(_STRAY_CLOSERS, self._text, read.end) if closing is None else closing.end()
        return self._take(start, end, with_arguments(name, read.value, self._tools))

    def _read_tag_without_object(self, start: int, after: int, name: str) -> int:
        """`<function=name></function>`: a call of a tool that needs no arguments."""
        self.reach = skip(_TAG_CONTENT, self._text, after)
        raw = self._text[after : self.reach].strip(" \r\n\t>")
        is_empty = not raw.strip(" \r\n\t>/(){}")
        closing = _END_OF_TAG.match(self._text, self.reach)
        if closing is None or not (is_empty or closing["tag"]):
            return after
        if not is_empty:
            request = ToolRequest(name, {}, raw, "The arguments are not a JSON object.")
        elif closing["tag"] is None and (self._truncated or self._tools.required(name)):
            request = ToolRequest(name, {}, "", "The reply stops inside the call.")
        else:
            request = with_arguments(name, {}, self._tools)
        return self._take(start, closing.end(), request)

    # `name(…)`, `name {…}`, `name>{…}</function>`

    def _read_bare(self, start: int, written: str) -> int:
        self.reach = after = start + len(written)
        if not self._stands_alone(start):
            return after
        name = self._tools.find_name(written) or written
        arguments_at = skip(_BARE_GAP, self._text, after)
        if self._text[arguments_at : arguments_at + 1] == "{":
            is_marked = ">" in self._text[after:arguments_at]
            return self._read_bare_object(start, name, arguments_at, is_marked=is_marked)
        if self._text[after : after + 1] == "(":
            return self._read_bare_python(start, name, after)
        return after

    def _read_bare_object(self, start: int, name: str, at: int, *, is_marked: bool) -> int:
        """Read an object behind a name: its arguments, or just text beside it."""
        read = self._value_at(at)
        known = self._tools.properties(name).keys()
        if isinstance(read, Broken):
            if is_marked or known & {*read.frames[0].named, read.frames[0].key}:
                return self._take_broken(start, read, name, at)
            return _resume_at(read)
        value = read.value
        fits = isinstance(value, dict) and (value.keys() <= known or looks_like_a_call(value))
        is_apart = is_marked or _LINE_END.match(self._text, read.end)
        closing = _CLOSING_TAG.match(self._text, skip(_AFTER_VALUE, self._text, read.end))
        return self._take_named(start, name, read) if closing or (fits and is_apart) else read.end

    def _read_bare_python(self, start: int, name: str, after: int) -> int:
        read = self._value_at(start)
        if isinstance(read, Broken):
            if _KEYWORD_ARGUMENT.match(self._text, after):
                return self._take_broken(start, read, name, after)
            return _resume_at(read)
        if _LINE_END.match(self._text, read.end):
            as_code = not _SPECIAL_BEFORE.search(self._text, max(0, start - _CONTEXT), start)
            for request in requests_in(read.value, self._tools):
                self.found.append(FoundCall(start, read.end, request, as_code=as_code))
        return read.end

    def _stands_alone(self, start: int) -> bool:
        """Whether nothing but marks stand before this place in its line, or only other calls do."""
        if self.found and _BETWEEN.fullmatch(self._text, self.found[-1].end, start):
            return True
        begin = max(0, start - _CONTEXT)
        if _SPECIAL_BEFORE.search(self._text, begin, start):
            return True
        line = self._text.rfind("\n", begin, start) + 1
        starts_here = line > 0 or begin == 0 or self._text[begin - 1] == "\n"
        return starts_here and _MARKS.fullmatch(self._text, max(line, begin), start) is not None


def _names_stand_apart(value: Value) -> bool:
    """Whether a list may hold names beside their arguments, as a list of anything else does."""
    return isinstance(value, list) and any(isinstance(item, (str, list)) for item in value)


def _resume_at(broken: Broken) -> int:
    """Go on inside the last string: if its quote is missing, calls may stand in what it took."""
    if broken.start < broken.string_at < broken.at or broken.string_at == broken.at:
        return max(broken.string_at, broken.start) + 1
    return max(broken.at, broken.start + 1)


def _unsure_from(text: str, position: int, tools: ToolSet) -> int:
    """Where the end of a text begins that may be the beginning of a call, by what will follow."""
    reach = max(map(len, tools.spellings), default=0) + _CONTEXT
    places = [len(text), text.find("<", max(position, len(text) - reach))]
    brackets = _BRACKET.finditer(text, max(position, len(text) - _BRACKET_LENGTH))
    places += (at for at in map(re.Match.start, brackets) if _UNDECIDED.match(text, at))
    line = text.rfind("\n", max(0, len(text) - reach)) + 1
    if line > 0 or len(text) <= reach:
        for at in range(max(line, position), skip(_MARKS, text, line) + 1):
            rest = text[at:]
            if any(name.startswith(rest) or rest.startswith(name) for name in tools.spellings):
                places.append(at)
    return min(at for at in places if at >= 0)


def skip(pattern: re.Pattern[str], text: str, position: int) -> int:
    """Give the place behind what a pattern matches here, if it does."""
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
_AFTER_NAME = re.compile(r"[\s>=:,()\[`\"']{0,40}")
_BARE_GAP = re.compile(r"\s{0,8}[>=]?\s{0,8}\(?\s{0,8}(?=\{)")
_KEYWORD_ARGUMENT = re.compile(r"\s{0,4}\(\s{0,40}\w{1,128}\s{0,4}=")
_END_OF_TAG = re.compile(rf"(?P<tag>{_TAG}|<function\s{{0,4}}/?>)|(?:<\|\w{{1,32}}\|>\s*+)*\Z")
_TAG_CONTENT = re.compile(r"[^<]{0,2000}+")
_AFTER_VALUE = re.compile(r"[\s>})\]`\"';]{0,40}")
_STRAY_CLOSERS = re.compile(r"(?:[>)\]}`]{1,8}(?=\s|[;,<]|\Z))?")
_LINE_END = re.compile(r"[ \t]*+(?:[)\]`>]{1,4}[ \t]*+)?(?:\Z|[\r\n;,<])")
_END_OF_PAIRS = re.compile(r"(?:[ \t]*+[\]`)>;,.])*[ \t]*+(?:\Z|[\r\n<]|\[\s*+[\[\"'])")
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
