"""Read one value of a model's reply: JSON, Python literals, or the mixture that models write.

One pass from left to right with a stack of its own: no recursion, no evaluation, and no going
back, so the cost is linear in what is read. A value that cannot be read to its end is not thrown
away: `Broken` keeps what was understood so far, from which a caller may save the sound parts.
"""

import json
import math
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import ClassVar, Literal, TypeAlias

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
    | (?P<number> -? (?: 0 | [1-9][0-9]*+ ) (?: \.[0-9]++ )? (?: [eE][+-]?[0-9]++ )? (?! [\w.] ) )
    | (?P<call> \w [\w.\-]{0,127}+ \( )
    | (?P<keyword> \w {1,128}+ \s{0,8}+ = (?! = ) )
    | (?P<word> \w [\w.\-]*+ )
    )""",
    re.VERBOSE | re.DOTALL,
)
_SPACE = re.compile(r"\s*+")
_CLOSERS = {"{": "}", "[": "]", "(": ")"}
_WORDS: dict[str, Value] = {
    "true": True,
    "True": True,
    "false": False,
    "False": False,
    "null": None,
    "None": None,
}


class _UnreadableError(ValueError):
    """The token does not fit here."""


def read_value(text: str, start: int) -> Whole | Broken:
    """Read the container or Python call that begins at `start`."""
    return _Reader(text, start).read()


def read_literal(text: str) -> Value:
    """Give the object or list that is the whole of a text, in JSON or Python; None if it is none.

    What holds a call is no literal: nothing is ever evaluated.
    """
    text = text.strip()
    read = read_value(text, 0)
    whole = isinstance(read, Whole) and read.end == len(text) and not holds_call(read.value)
    return read.value if whole else None  # type: ignore[union-attr]


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
                return self._broken_at(self._position)
            try:
                self._take(token)
            except _UnreadableError:
                return self._broken_at(token.start(token.lastgroup or 0), token.end())
            self._position = token.end()
        return self._result

    def _broken_at(self, position: int, end: int | None = None) -> Broken:
        space = _SPACE.match(self._text, position)
        at = space.end() if space else position
        rest = self._text[at : at + 1]
        if rest in {'"', "'"} and end is None:  # A string that never ends.
            self._string_at, end = at, len(self._text)
        end = min(len(self._text), at + 1) if end is None else end
        return Broken(self._start, at, end, self._string_at, self._frames, self._closed)

    def _take(self, token: re.Match[str]) -> None:
        kind = token.lastgroup or ""
        if kind == "close":
            self._close(token)
            return
        if self._frames:
            step = self._STEPS.get(f"{self._frames[-1].expects} {kind}")
            if step is None:
                raise _UnreadableError
            step(self, self._frames[-1], token)
        else:
            self._open(token)
        self._closed = kind == "string"
        if self._closed:
            self._string_at = token.start("string")

    def _take_value(self, _: Frame, token: re.Match[str]) -> None:
        self._add(_scalar(token), token.start(token.lastgroup or 0), token.end())

    def _take_container(self, _: Frame, token: re.Match[str]) -> None:
        self._open(token)

    def _take_keyword(self, frame: Frame, token: re.Match[str]) -> None:
        if frame.opener in _CLOSERS or frame.key is not None:
            raise _UnreadableError
        frame.key = token["keyword"][:-1].rstrip()
        frame.value_start = token.end()

    def _take_key(self, frame: Frame, token: re.Match[str]) -> None:
        frame.key = token["word"] or _text_of(token["string"])
        frame.expects = "colon"

    def _take_colon(self, frame: Frame, token: re.Match[str]) -> None:
        frame.expects = "value"
        frame.value_start = token.end()

    def _take_comma(self, frame: Frame, _: re.Match[str]) -> None:
        frame.expects = "key" if frame.opener == "{" else "value"

    _STEPS: ClassVar[dict[str, Callable[["_Reader", Frame, re.Match[str]], None]]] = {
        "value open": _take_container,
        "value call": _take_container,
        "value keyword": _take_keyword,
        "value string": _take_value,
        "value number": _take_value,
        "value word": _take_value,
        "separator comma": _take_comma,
        "key string": _take_key,
        "key word": _take_key,
        "colon colon": _take_colon,
    }
    """What to do with each kind of token, by what the innermost container expects."""

    def _open(self, token: re.Match[str]) -> None:
        if len(self._frames) == MAX_DEPTH:
            raise _UnreadableError
        opener = token["open"] or (token["call"] or "")[:-1]
        if not opener:
            raise _UnreadableError
        start = token.start(token.lastgroup or 0)
        self._frames.append(Frame(opener, start, "key" if opener == "{" else "value"))

    def _close(self, token: re.Match[str]) -> None:
        frame = self._frames[-1] if self._frames else None
        if frame is None or _CLOSERS.get(frame.opener, ")") != token["close"]:
            raise _UnreadableError
        if frame.expects == "colon" or (frame.expects == "value" and frame.key is not None):
            raise _UnreadableError
        self._frames.pop()
        value = frame.value()
        if self._frames:
            self._add(value, frame.start, token.end())
        else:
            self._result = Whole(value, frame.start, token.end(), frame.spans)
        self._closed = True

    def _add(self, value: Value, start: int, end: int) -> None:
        frame = self._frames[-1]
        if frame.key is None:
            frame.items.append(value)
            frame.spans.append((start, end))
        else:
            frame.named[frame.key] = value
            frame.key = None
        frame.expects = "separator"


def _scalar(token: re.Match[str]) -> Value:
    match token.lastgroup:
        case "string":
            return _text_of(token["string"])
        case "number":
            return _number(token["number"])
        case _:
            word = token["word"]
            if word not in _WORDS:
                raise _UnreadableError
            return _WORDS[word]


def _number(digits: str) -> int | float:
    if not digits.lstrip("-").isdecimal():
        number = float(digits)
        if math.isfinite(number):
            return number
    elif len(digits) <= _LONGEST_INTEGER:
        return int(digits)
    raise _UnreadableError


_LONGEST_INTEGER = 4000
"""Python refuses to read integers of more than 4300 digits."""


def _text_of(quoted: str) -> str:
    """A string literal's text; an escape that JSON does not know stands for itself."""
    quote = 3 if quoted[:3] in {'"""', "'''"} and len(quoted) > len('"""') else 1
    inner = quoted[quote:-quote]
    if "\\" not in inner:
        return inner
    if quoted[0] == '"' and quote == 1:
        try:
            return replace_surrogates(str(json.loads(quoted, strict=False)))
        except ValueError:
            pass
    return replace_surrogates(_ESCAPE.sub(_unescaped, inner))


_ESCAPE = re.compile(
    r"\\(?:u([dD][89abAB][0-9a-fA-F]{2})\\u([dD][c-fC-F][0-9a-fA-F]{2})"
    r"|u([0-9a-fA-F]{4})|x([0-9a-fA-F]{2})|(.))",
    re.DOTALL,
)
_ESCAPED = {
    "n": "\n", "t": "\t", "r": "\r", "b": "\b", "f": "\f", "\n": "",
    "\\": "\\", "/": "/", '"': '"', "'": "'",
}  # fmt: skip


def _unescaped(escape: re.Match[str]) -> str:
    high, low, unit, byte, letter = escape.groups()
    if high:
        return bytes.fromhex(high + low).decode("utf-16-be")
    if unit or byte:
        return chr(int(unit or byte, 16))
    return _ESCAPED.get(letter, escape[0])
