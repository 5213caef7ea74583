"""Properties that hold for every reply, and for the hostile ones above all."""

import re
from dataclasses import replace
from itertools import count
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from langchain_core.messages.tool import tool_call

from langchain_segmind._tool_calling import scanner
from langchain_segmind._tool_calling.literals import Broken, read_value
from langchain_segmind._tool_calling.parser import ToolCallStream, parse_tool_calls
from langchain_segmind._tool_calling.prompt import render_tool_calls
from langchain_segmind._tool_calling.toolset import ParsedReply, ToolSet


def tools_named(*names: str) -> ToolSet:
    return ToolSet.compile([{"type": "function", "function": {"name": name}} for name in names])


TOOLS = tools_named("get", "get_weather", "3d.print-it")
CALL = '{"name": "get_weather", "parameters": {"city": "Oslo"}}'

NAMES = st.from_regex(r"[A-Za-z0-9_.\-]{1,24}", fullmatch=True)
HARD_TEXT = st.text() | st.sampled_from(
    [
        "```",
        "`",
        "}}",
        '"',
        "\\",
        "<|eot_id|>",
        "<function=get>{}</function>",
        CALL,
        "[get()]",
        "; {",
    ]
)
JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | HARD_TEXT,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(HARD_TEXT, inner, max_size=4),
    max_leaves=12,
)
ARGUMENTS = st.dictionaries(HARD_TEXT, JSON, max_size=4)
FRAGMENTS = st.lists(
    st.sampled_from(
        [
            *(CALL, "[get(a=1)]", "get(", "get()", "get{", "3d.print-it", ".call(", "[1]", '"get"'),
            *("\n", "\n\n", "```json\n", "```", "`", "; ", ", ", ":", "=", "<", " ", "{", "}"),
            *("[", "]", '"', "'", "\\", "<function=get>", "</function>", "<|eom_id|>"),
            *('{"name": "get", ', '"parameters": {', '"a": 1', "{'a': ", '{"tool_calls": ['),
            *("<|python_tag|>", "Hello there.", "for example ", "> ", "<tool_response>", "1. `"),
            *('{"name": "nope", "parameters": {}}', '["get", {}]', "functions.", "GET", '"""'),
        ]
    )
    | st.text(max_size=6),
    max_size=14,
).map("".join)


@given(st.lists(st.tuples(NAMES, ARGUMENTS), min_size=1, max_size=4))
def test_what_is_rendered_is_read_back(calls: list[tuple[str, dict[str, Any]]]) -> None:
    """A history's calls, parsed as a reply, are the same calls: no name, value or text is lost."""
    tools = tools_named(*(name for name, _ in calls))
    numbers = count()
    written = [tool_call(name=name, args=args, id=f"{at}") for at, (name, args) in enumerate(calls)]
    reply = parse_tool_calls(render_tool_calls(written), tools, new_id=lambda: f"{next(numbers)}")
    assert reply == ParsedReply("", written)


def letters(text: str) -> str:
    """What of a text must not be lost: everything but marks, brackets and their kind."""
    text = re.sub(r"<\|\w*\|>|</?function|```\w*", "", text)
    return "".join(re.findall(r"[^\W_]", text))


def is_within(part: str, whole: str) -> bool:
    rest = iter(whole)
    return all(letter in rest for letter in part)


@settings(max_examples=4 * settings().max_examples)
@given(FRAGMENTS, st.booleans())
@example(text='{"name": "get", "parameters": {"a": 1}} and more', truncated=False)
def test_no_name_is_invented_and_no_text_made_up(text: str, truncated: bool) -> None:
    """Whatever the model writes: beside text only bound tools are called, and no text is new."""
    reply = parse_tool_calls(text, TOOLS, truncated=truncated)
    calls = [*reply.tool_calls, *reply.invalid_tool_calls]
    assert not reply.content.strip() or all(call["name"] in TOOLS for call in calls)
    assert len({call["id"] for call in calls}) == len(calls)
    assert is_within(reply.content, text)
    if not calls:
        assert reply.content == text


@given(
    st.text(alphabet="abc xyz.,!?\n", max_size=40), st.text(alphabet="abc xyz.,!?\n", max_size=40)
)
def test_the_words_around_a_call_remain(before: str, after: str) -> None:
    reply = parse_tool_calls(f"{before}\n{CALL}\n{after}", TOOLS)
    assert letters(reply.content) == letters(before + after)


@settings(max_examples=4 * settings().max_examples)
@given(FRAGMENTS, st.lists(st.integers(1, 20), max_size=30), st.booleans())
def test_a_stream_is_the_whole_however_it_is_cut(
    text: str,
    sizes: list[int],
    truncated: bool,
) -> None:
    """The pieces let out and the rest make the same text, with the same calls."""
    whole, piecewise = count(), count()
    expected = parse_tool_calls(text, TOOLS, truncated=truncated, new_id=lambda: f"{next(whole)}")
    stream = ToolCallStream(TOOLS, new_id=lambda: f"{next(piecewise)}")
    shown, position = "", 0
    for size in [*sizes, len(text)]:
        shown += stream.feed(text[position : position + size])
        position += size
    rest = stream.finish(truncated=truncated)
    assert shown + rest.content == expected.content
    assert rest.tool_calls == expected.tool_calls
    assert rest.invalid_tool_calls == expected.invalid_tool_calls


class TestStream:
    def test_prose_is_let_out_at_once(self) -> None:
        stream = ToolCallStream(TOOLS)
        assert stream.feed("Hello, how are") == "Hello, how are"
        assert stream.feed(" you?") == " you?"

    def test_a_footnote_waits_no_longer_than_it_must(self) -> None:
        stream = ToolCallStream(TOOLS)
        assert stream.feed("As shown in [") == "As shown in"
        assert stream.feed("1], it rains.") == " [1], it rains."

    def test_three_quotes_may_yet_be_closed(self) -> None:
        """Taken for an empty string and one more quote, they once let a call out as text."""
        text = 'get("""""x"""'
        stream = ToolCallStream(TOOLS)
        shown = "".join(stream.feed(letter) for letter in text)
        assert shown + stream.finish(truncated=False).content == ""
        assert parse_tool_calls(text, TOOLS).content == ""

    def test_a_closing_tag_may_yet_come(self) -> None:
        """It mends what is broken before it, so that this has to wait for it."""
        text = "get(()</function>"
        stream = ToolCallStream(TOOLS)
        shown = "".join(stream.feed(letter) for letter in text)
        assert shown + stream.finish(truncated=False).content == ""
        assert parse_tool_calls(text, TOOLS).content == ""

    def test_a_bracket_may_yet_start_a_call_though_others_came_after_it(self) -> None:
        """What an object's long key holds was once read as a list of its own, and let out."""
        text = """{"a key with ['A', 'b":" {"name":"get_weather"']"""
        expected = parse_tool_calls(text, TOOLS, new_id=lambda: "").content
        assert expected != text
        for size in range(1, len(text)):
            stream = ToolCallStream(TOOLS)
            pieces = [stream.feed(text[at : at + size]) for at in range(0, len(text), size)]
            assert "".join(pieces) + stream.finish(truncated=False).content == expected

    @pytest.mark.parametrize("size", [1, 2, 3, 5])
    def test_as_many_marks_are_dropped_as_of_the_whole(self, size: int) -> None:
        text = ";" * 35 + "```\nget()\nget()\n```"
        stream = ToolCallStream(TOOLS)
        shown = [stream.feed(text[at : at + size]) for at in range(0, len(text), size)]
        rest = stream.finish(truncated=False)
        assert "".join(shown) + rest.content == parse_tool_calls(text, TOOLS).content

    def test_a_call_never_shows(self) -> None:
        stream = ToolCallStream(TOOLS)
        shown = "".join(stream.feed(letter) for letter in f"One moment.\n\n{CALL}")
        assert shown == "One moment."
        assert [call["name"] for call in stream.finish(truncated=False).tool_calls] == [
            "get_weather"
        ]

    def test_a_strict_answer_comes_unwrapped(self) -> None:
        stream = ToolCallStream(TOOLS, strict=True)
        assert stream.feed('{"answer": "Hel') == ""
        assert stream.feed('lo"}') == ""
        assert stream.finish(truncated=False) == ParsedReply("Hello")


class TestStrict:
    def test_an_answer_is_unwrapped_only_when_strict(self) -> None:
        assert parse_tool_calls('{"answer": "Hi"}', TOOLS, strict=True).content == "Hi"
        assert parse_tool_calls('{"answer": "Hi"}', TOOLS).content == '{"answer": "Hi"}'

    def test_an_answer_cut_short_keeps_its_words(self) -> None:
        reply = parse_tool_calls('{"answer": "Hi the', TOOLS, strict=True, truncated=True)
        assert reply.content == "Hi the"

    def test_a_call_is_still_a_call(self) -> None:
        assert len(parse_tool_calls(CALL, TOOLS, strict=True).tool_calls) == 1


def tool_of(name: str, *required: str) -> dict[str, Any]:
    properties: dict[str, Any] = {key: {} for key in required}
    return {"name": name, "parameters": {"properties": properties, "required": list(required)}}


def forced(*tools: dict[str, Any]) -> ToolSet:
    compiled = ToolSet.compile(tools)
    return replace(compiled, forced=compiled.names)


class TestForced:
    """Under a forced choice the model need not say which tool it calls, where just one fits."""

    TOOLS = forced(
        tool_of("W", "city", "degrees"), tool_of("find", "query"), tool_of("get", "query")
    )

    @pytest.mark.parametrize(
        ("reply", "content"),
        [
            ('{"city": "Paris", "degrees": 21}', ""),
            (
                'Here it is:\n```json\n{"city": "Paris", "degrees": 21}\n```\nBye.',
                "Here it is:\nBye.",
            ),
            ('{"note": 1}\n\n{"city": "Paris", "degrees": 21}', '{"note": 1}'),
            ('{"parameters": {"city": "Paris", "degrees": 21}}', ""),
            ('{"W": {"city": "Paris", "degrees": 21}}', ""),
            ('{"name": "Weather", "parameters": {"city": "Paris", "degrees": 21}}', ""),
            ('{"arguments": {"city": "Paris", "degrees": 21}, "name": "Weather"}', ""),
            ('{"type": "object", "properties": {"city": "Paris", "degrees": 21}}', ""),
        ],
    )
    @pytest.mark.parametrize("size", [3, 1000])
    def test_bare_arguments_are_the_call_they_fit(
        self, reply: str, content: str, size: int
    ) -> None:
        stream = ToolCallStream(self.TOOLS)
        shown = [stream.feed(reply[at : at + size]) for at in range(0, len(reply), size)]
        rest = stream.finish(truncated=False)
        assert [(c["name"], c["args"]) for c in rest.tool_calls] == [
            ("W", {"city": "Paris", "degrees": 21})
        ]
        assert "".join(shown) + rest.content == content

    @pytest.mark.parametrize(
        "reply",
        [
            '{"query": "tides"}',  # Two tools take that.
            '{"city": "Paris"}',
            '{"city": "Paris", "degrees": 21, "wind": 3}',
            '{"city": "Paris", "degrees": 21',
            '{"name": "Weather", "parameters": {"city": "Paris"}}',
            '{"name": "Anna", "age": 3}',
            '[{"query": 1}, {}]',
            "I cannot.",
        ],
    )
    def test_what_fits_no_tool_or_several_stays_text(self, reply: str) -> None:
        assert parse_tool_calls(reply, self.TOOLS, truncated=True) == ParsedReply(reply)

    def test_a_free_choice_takes_no_bare_arguments(self) -> None:
        reply = '{"city": "Paris", "degrees": 21}'
        tools = replace(self.TOOLS, forced=())
        assert parse_tool_calls(reply, tools) == ParsedReply(reply)


HOSTILE = [
    *("{", "[", "(", "<", "`", "```", "\\", '\\"', '"', "'", "; ", "`[", '"""', "<|", "}; {"),
    *("<function=", "<function=get>", "<function=get{", "[get(", "\nget(a=", "\nget{", "[1,"),
    *('{"name": "get", "parameters": {', '[{"name": "get"', '{"a":', '{[("', '["', '{"":{"":'),
    *('{"x": "\\', '{"tool_calls":['),
]


@pytest.mark.parametrize("unit", HOSTILE)
def test_a_hostile_reply_is_read_a_bounded_number_of_times(
    unit: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Twice the brackets, tags or backslashes cost about twice the reading, and no stack."""
    read: list[int] = []

    def counted(text: str, start: int) -> Any:
        result = read_value(text, start)
        end = max(result.at, result.string_at) if isinstance(result, Broken) else result.end
        read.append(end - start)
        return result

    monkeypatch.setattr(scanner, "read_value", counted)
    text = "get " + unit * (30_000 // len(unit))
    parse_tool_calls(text, TOOLS)
    assert sum(read) <= 4 * len(text)


@pytest.mark.parametrize(
    "unit", ["`", " ", "\n", "<|", "<tool>", "```\n", "`a", "```json", "[", ";"]
)
def test_no_run_of_marks_before_a_call_is_divided_in_every_way(unit: str) -> None:
    """A hundred backticks once took for ever: the time-out of the tests would end this one."""
    for around in (unit * 100, "Well: " + unit * 100, unit * 100 + "r "):
        for call in (CALL, "<function=get>{}</function>", "get()", "<function=get>"):
            parse_tool_calls(f"{around}{call}", TOOLS)
            parse_tool_calls(f"{around}{call}{around}", TOOLS)


def test_more_calls_than_any_model_writes_are_no_calls() -> None:
    """What is too much stays text, so that nothing is lost."""
    reply = parse_tool_calls(f"{CALL}\n" * 6000, TOOLS)
    assert len(reply.tool_calls) == 5000
    assert reply.content == f"{CALL}\n" * 1000
    text = " " * 2_100_000 + CALL
    assert parse_tool_calls(text, TOOLS) == ParsedReply(text)


def test_half_a_surrogate_pair_in_an_argument_is_mended() -> None:
    for quoted in (r'"\ud800"', r"'\ud800'", r'"""\ud800"""'):
        reply = parse_tool_calls(f'{{"name": "get", "parameters": {{"a": {quoted}}}}}', TOOLS)
        assert reply.tool_calls[0]["args"] == {"a": "\ufffd"}


@pytest.mark.parametrize("unit", ["{", "[", "```\n", "\\", "<function="])
def test_a_call_behind_hostile_text_is_still_found(unit: str) -> None:
    reply = parse_tool_calls(unit * 20_000 + "\n\n" + CALL, TOOLS)
    assert [call["name"] for call in reply.tool_calls] == ["get_weather"]


def test_deep_arguments_do_not_exhaust_the_stack() -> None:
    text = '{"name": "get", "parameters": ' + '{"a": ' * 50_000 + "1" + "}" * 50_001
    reply = parse_tool_calls(text, TOOLS)
    assert reply.tool_calls == []
    assert reply.invalid_tool_calls[0]["name"] == "get"


def test_numbers_are_taken_as_they_are() -> None:
    reply = parse_tool_calls(
        '{"name": "get", "parameters": {"a": 12345678901234567890, "a": 2}}', TOOLS
    )
    assert reply.tool_calls[0]["args"] == {"a": 2}
    huge = parse_tool_calls('{"name": "get", "parameters": {"a": ' + "9" * 5000 + "}}", TOOLS)
    assert huge.tool_calls == []


@pytest.mark.parametrize("ending", ["", "\n"])
def test_a_number_at_the_end_may_have_been_cut_short(ending: str) -> None:
    """A bracket that is missing behind it is not added: 12 may have been the beginning of 1200."""
    text = '{"name": "get_weather", "parameters": {"days": 12' + ending
    assert parse_tool_calls(text, TOOLS).tool_calls == []
    assert [call["name"] for call in parse_tool_calls(text, TOOLS).invalid_tool_calls] == [
        "get_weather"
    ]


def test_a_bracket_that_is_missing_before_a_closing_tag_is_added() -> None:
    reply = parse_tool_calls('<function=get_weather>{"city": "Oslo"</function> Done.', TOOLS)
    assert [call["args"] for call in reply.tool_calls] == [{"city": "Oslo"}]
    assert reply.content == "Done."
