"""Replies in the shapes that Llama 3.x is known to give, each with the source of its shape."""

import json
from dataclasses import replace
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from langchain_segmind._tool_calling.parser import ToolCallStream, parse_tool_calls
from langchain_segmind._tool_calling.toolset import Conversation, ParsedReply, ToolSet

CORPUS = Path(__file__).parent / "tool_corpus"
TOOLS = ToolSet.compile(json.loads((CORPUS / "tools.json").read_text(encoding="utf-8")))


def entries(name: str) -> list[Any]:
    lines = (CORPUS / f"{name}.jsonl").read_text(encoding="utf-8").splitlines()
    return [pytest.param(json.loads(line), id=f"{name}-{at}") for at, line in enumerate(lines, 1)]


def tools_of(entry: dict[str, Any]) -> ToolSet:
    """Give the tools, and what users and tools have said in the conversation."""
    return replace(TOOLS, conversation=Conversation(entry.get("said", ())))


def parsed(entry: dict[str, Any]) -> ParsedReply:
    truncated = entry.get("truncated", False)
    return parse_tool_calls(entry["reply"], tools_of(entry), truncated=truncated)


def calls_of(reply: ParsedReply) -> list[list[Any]]:
    return [[call["name"], call["args"]] for call in reply.tool_calls]


@pytest.mark.parametrize("entry", entries("positive"))
def test_a_call_is_taken_out_of_the_reply(entry: dict[str, Any]) -> None:
    """What a model meant as a call becomes one, and the words around it remain."""
    reply = parsed(entry)
    assert calls_of(reply) == entry["calls"]
    assert reply.invalid_tool_calls == []
    assert reply.content == entry["content"]


@pytest.mark.parametrize("entry", entries("negative"))
def test_an_answer_stays_as_it_is(entry: dict[str, Any]) -> None:
    """An answer that is JSON, shows an example or talks of a tool is left alone, byte for byte."""
    assert parsed(entry) == ParsedReply(entry["reply"])


@pytest.mark.parametrize("entry", entries("broken"))
def test_a_broken_call_is_reported_and_its_siblings_survive(entry: dict[str, Any]) -> None:
    """What was cut short or cannot be read is never run, and takes no sound call with it."""
    reply = parsed(entry)
    assert [call["name"] for call in reply.invalid_tool_calls] == entry["invalid"]
    assert all(call["error"] for call in reply.invalid_tool_calls)
    assert calls_of(reply) == entry["calls"]
    assert reply.content == entry["content"]


@pytest.mark.parametrize("size", [1, 2, 5, 17])
@pytest.mark.parametrize("entry", [*entries("positive"), *entries("negative"), *entries("broken")])
def test_a_stream_adds_up_to_the_whole(entry: dict[str, Any], size: int) -> None:
    """However a reply is cut into pieces, the same text and the same calls come out."""
    text, truncated, whole, piecewise = (
        entry["reply"],
        entry.get("truncated", False),
        count(),
        count(),
    )
    tools = tools_of(entry)
    expected = parse_tool_calls(text, tools, truncated=truncated, new_id=lambda: f"{next(whole)}")
    stream = ToolCallStream(tools, new_id=lambda: f"{next(piecewise)}")
    shown = "".join(stream.feed(text[at : at + size]) for at in range(0, len(text), size))
    rest = stream.finish(truncated=truncated)
    assert (shown + rest.content, rest.tool_calls, rest.invalid_tool_calls) == (
        expected.content,
        expected.tool_calls,
        expected.invalid_tool_calls,
    )
