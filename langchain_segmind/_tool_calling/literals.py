"""Read one value of a model's reply: JSON, Python literals, or the mixture that models write.

One pass from left to right with a stack of its own: no recursion, no evaluation, and no going
back, so the cost is linear in what is read. A value that cannot be read to its end is not thrown
away: `Broken` keeps what was understood so far, from which a caller may save the sound parts.
"""

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

from langchain_segmind._protocol.bounded_json import replace_surrogates

MAX_DEPTH = 100
"""No call of a real tool is nested deeper; brackets beyond it are somebody's attack."""


@dataclass(frozen=True, slots=True)
class PythonCall:
    """A call written in Python: `name(keyword=value)`."""

    name: str
    positional: list["Value"]
    keywords: dict[str, "Value"]


Value: TypeAlias = "bool | int | float | str | list[Value] | dict[str, Value] | PythonCall | None"
Span: TypeAlias = tuple[int, int]


@dataclass(frozen=True, slots=True)
class Whole:
    """A value that was read to its end."""

    value: Value
    start: int
    end: int
    elements: list[Span]
    """Where the elements stand if the value is a list."""


@dataclass(frozen=True, slots=True)
class Broken:
    """A value whose reading stopped."""

    start: int
    at: int
    """The place of the first thing that does not fit."""

    end: int
    """The end of that thing: the end of the text where the text is cut short."""

    string_at: int
    """The start of the last string read: if a quote is missing, all after it is in doubt."""

    frames: list["Frame"]
    """The containers that are still open, outermost first."""

    closed: bool
    """Whether the last thing read is a string or a container, to which nothing can be missing."""

    @property
    def missing(self) -> str:
        """The brackets that would close what is open."""
        return "".join(_CLOSERS.get(frame.opener, ")") for frame in reversed(self.frames))


@dataclass(slots=True)
class Frame:
    """A container that is still open."""

    opener: str
    """One of `{`, `[`, `(`, or the name of a function."""

    start: int
    expects: "Expectation"
    items: list[Value] = field(default_factory=list)
    named: dict[str, Value] = field(default_factory=dict)
    spans: list[Span] = field(default_factory=list)
    key: str | None = None
    value_start: int = 0

    def value(self) -> Value:
        """What the container holds."""
        match self.opener:
            case "{":
                return self.named
            case "[" | "(":
                return self.items
            case name:
                return PythonCall(name, self.items, self.named)


Expectation: TypeAlias = Literal["key", "colon", "value", "separator"]

# Python before 3.11.5 misreads a possessive group (gh-106052): here, as in the other patterns, only
# single characters are possessive, and a group's alternatives start differently, so that there is
# one way to match it and no more to try.
_TOKEN = re.compile(
    r"""\s*+ (?:
      (?P<open> [{\[(] )
    | (?P<close> [}\])] )
    | (?P<comma> , )
    | (?P<colon> : )
    | (?P<string>
          \"\"\" [^"\\]*+ (?: (?: \\. | "(?!"") ) [^"\\]*+ )* \"\"\"
        | ''' [^'\\]*+ (?: (?: \\. | '(?!'') ) [^'\\]*+ )* '''
        | (?!\"\"\") " [^"\\]*+ (?: \\. [^"\\]*+ )* "
        | (?!''') ' [^'\\]*+ (?: \\. [^'\\]*+ )* ' )
    | (?P<number> [+-]? (?: (?: 0 | [1-9][0-9]*+ ) (?: \.[0-9]++ )? | \.[0-9]++ )
          (?: [eE][+-]?[0-9]++ )? (?! [\w.] ) )
    | (?P<call> \w [\w.\-]{0,127}+ \( )
    | (?P<keyword> \w {1,128}+ \s{0,8}+ = (?! = ) )
    | (?P<word> \w [\w.\-]*+ )
    )""",
    re.VERBOSE | re.DOTALL,
)
_SPACE = re.compile(r"\s*+")
_CLOSERS = {"{": "}", "[": "]", "(": ")"}
_WORDS: dict[str, Value] = {
    spelled: value
    for word, value in (("true", True), ("false", False), ("null", None), ("none", None))
    for spelled in (word, word.capitalize(), word.upper())
}


def read_value(text: str, start: int) -> Whole | Broken:
    """Read the container or Python call that begins at `start`."""
    return _Reader(text, start).read()


def read_literal(text: str) -> Value:
    """Give the value that is the whole of a text; ValueError for none, or one with a call in it."""
    text = text.strip()
    token = _TOKEN.fullmatch(text)
    if token is not None and token.lastgroup in {"string", "number", "word"}:
        return _scalar(token.lastgroup, text)
    read = read_value(text, 0)
    if isinstance(read, Broken) or read.end != len(text) or holds_call(read.value):
        raise ValueError("no literal")
    return read.value


def read_objects(text: str) -> Iterator[Whole]:
    """Read the objects of a text, up to one that is broken: what lies inside that is no reply."""
    start = _OBJECT.search(text)
    while start is not None:
        read = read_value(text, start.start())
        if isinstance(read, Broken):
            return
        yield read
        start = _OBJECT.search(text, read.end)


_OBJECT = re.compile(r"\{\s*(?:[\"'}]|\w+\s*[:\"'])")


def holds_call(value: Value) -> bool:
    """Whether a value is a call in Python, or holds one at any depth."""
    waiting: list[Value] = [value]
    for item in waiting:
        if isinstance(item, dict):
            waiting += item.values()
        elif isinstance(item, list):
            waiting += item
    return any(isinstance(item, PythonCall) for item in waiting)


class _Reader:
    def __init__(self, text: str, start: int) -> None:
        self._text = text
        self._start = start
        self._position = start
        self._string_at = start
        self._frames: list[Frame] = []
        self._result: Whole | None = None
        self._closed = False

    def read(self) -> Whole | Broken:
        while self._result is None:
            token = _TOKEN.match(self._text, self._position)
            if token is None:
                return self._broken_without_token()
            try:
                self._take(token, token.lastgroup or "")
            except ValueError:
                return self._broken_at(token.start(token.lastgroup or 0), token.end())
            self._position = token.end()
        return self._result

    def _broken_without_token(self) -> Broken:
        at = _SPACE.match(self._text, self._position).end()  # type: ignore[union-attr]
        if self._text[at : at + 1] in {'"', "'"}:  # A string that never ends.
            self._string_at = at
            return self._broken_at(at, len(self._text))
        return self._broken_at(at, min(len(self._text), at + 1))

    def _broken_at(self, at: int, end: int) -> Broken:
        return Broken(self._start, at, end, self._string_at, self._frames, self._closed)

    def _take(self, token: re.Match[str], kind: str) -> None:
        """Take a token, if it is of a kind that the innermost container expects."""
        start, frame = token.start(kind), self._frames[-1] if self._frames else _OUTSIDE
        expects = frame.expects
        match kind:
            case "string" | "number" | "word" if expects == "value" and self._frames:
                self._add(_scalar(kind, token[kind]), start, token.end())
            case "string" | "word" | "number" if expects == "key":
                plain = token["word"] or token["number"]
                frame.key, frame.expects = plain or _text_of(token["string"]), "colon"
            case "colon" if expects == "colon":
                frame.expects, frame.value_start = "value", token.end()
            case "comma" if expects == "separator":
                frame.expects = "key" if frame.opener == "{" else "value"
            case "open" | "call" if expects == "value" and len(self._frames) < MAX_DEPTH:
                opener = token["open"] or token["call"][:-1]
                self._frames.append(Frame(opener, start, "key" if opener == "{" else "value"))
            case "keyword" if expects == "value" and frame.opener not in _CLOSERS:
                if frame.key is not None:
                    raise ValueError
                frame.key, frame.value_start = token["keyword"][:-1].rstrip(), token.end()
            case "close" if self._frames:
                self._close(frame, token)
            case _:
                raise ValueError
        self._closed = kind in {"string", "close"}
        if kind == "string":
            self._string_at = start

    def _close(self, frame: Frame, token: re.Match[str]) -> None:
        if _CLOSERS.get(frame.opener, ")") != token["close"]:
            raise ValueError
        if frame.expects == "colon" or (frame.expects == "value" and frame.key is not None):
            raise ValueError
        self._frames.pop()
        if self._frames:
            self._add(frame.value(), frame.start, token.end())
        else:
            self._result = Whole(frame.value(), frame.start, token.end(), frame.spans)

    def _add(self, value: Value, start: int, end: int) -> None:
        frame = self._frames[-1]
        if frame.key is None:
            frame.items.append(value)
            frame.spans.append((start, end))
        else:
            frame.named[frame.key] = value
            frame.key = None
        frame.expects = "separator"


_OUTSIDE = Frame("[", 0, "value")
"""What a reading begins in; nothing is ever put into it."""


def _scalar(kind: str, written: str) -> Value:
    if kind == "string":
        return _text_of(written)
    if kind == "word":
        if written not in _WORDS:
            raise ValueError("no word of JSON or Python")
        return _WORDS[written]
    if written.lstrip("+-").isdecimal():
        return int(written)  # Python refuses more than 4300 digits.
    if math.isfinite(number := float(written)):
        return number
    raise ValueError


def _text_of(quoted: str) -> str:
    """A string literal's text; an escape that JSON does not know stands for itself."""
    quote = 3 if quoted[:3] in {'"""', "'''"} and len(quoted) > len('"""') else 1
    inner = quoted[quote:-quote]
    return replace_surrogates(_ESCAPE.sub(_unescape, inner)) if "\\" in inner else inner


_ESCAPE = re.compile(r"\\(?:u([0-9a-fA-F]{4})|x([0-9a-fA-F]{2})|(.))", re.DOTALL)
_ESCAPED = {
    "n": "\n", "t": "\t", "r": "\r", "b": "\b", "f": "\f", "\n": "",
    "\\": "\\", "/": "/", '"': '"', "'": "'",
}  # fmt: skip


def _unescape(escape: re.Match[str]) -> str:
    unit, byte, letter = escape.groups()
    return chr(int(unit or byte, 16)) if unit or byte else _ESCAPED.get(letter, escape[0])
