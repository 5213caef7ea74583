from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from langchain_core.messages import AIMessage

from langchain_segmind._tool_calling.native_calls import read_native_calls
from langchain_segmind._tool_calling.toolset import ToolSet

GET = ToolSet.compile([{"type": "function", "function": {"name": "get"}}])
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner),
)


def native(name: object = "get", arguments: object = "{}", call_id: object = "c1") -> Any:
    return {"id": call_id, "function": {"name": name, "arguments": arguments}}


@pytest.mark.parametrize("arguments", ['{"a": 1}', {"a": 1}])
def test_a_call_is_read_whether_or_not_its_arguments_are_encoded(arguments: object) -> None:
    calls, invalid = read_native_calls([native("get", arguments)], GET, cut=False)
    assert (calls[0]["name"], calls[0]["args"], calls[0]["id"]) == ("get", {"a": 1}, "c1")
    assert invalid == []


@pytest.mark.parametrize("arguments", ["", None, {}, "{}"])
def test_a_call_may_need_no_arguments(arguments: object) -> None:
    calls, _ = read_native_calls([native("get", arguments)], GET, cut=True)
    assert calls[0]["args"] == {}


@pytest.mark.parametrize(
    ("call", "why"),
    [
        (native(None), "names no tool"),
        (native(["get"]), "names no tool"),
        (native("get", "{"), "no JSON:"),
        (native("get", "[1]"), "no JSON object"),
        (native("get", 7), "no JSON object"),
        (native("get", '{"a":' + "[" * 200 + "]" * 200 + "}"), "no JSON"),
        ({"function": {}}, "names no tool"),
    ],
)
def test_what_cannot_run_says_why(call: Any, why: str) -> None:
    calls, invalid = read_native_calls([call], GET, cut=False)
    assert calls == []
    assert why in (invalid[0]["error"] or "")


@pytest.mark.parametrize(("name", "called"), [("put", "put"), ("functions.Get", "get")])
def test_another_name_is_left_to_langchain_and_another_case_is_understood(
    name: str, called: str
) -> None:
    """An executor answers that there is no such tool, so that the model can mend its call."""
    calls, _ = read_native_calls([native(name)], GET, cut=False)
    assert calls[0]["name"] == called


def test_what_the_token_limit_cut_off_is_told_as_that() -> None:
    calls, invalid = read_native_calls([native(), native("get", '{"a')], GET, cut=True)
    assert len(calls) == 1
    assert invalid[0]["args"] == '{"a'
    assert "cut short" in (invalid[0]["error"] or "")


def test_half_a_surrogate_pair_is_mended() -> None:
    calls, _ = read_native_calls([native("get", r'{"a": "\ud800"}')], GET, cut=False)
    assert calls[0]["args"] == {"a": "\ufffd"}


@given(st.lists(JSON | st.builds(native, JSON, JSON | JSON.map(json.dumps), JSON), max_size=4))
def test_whatever_comes_fits_into_a_message(raws: list[Any]) -> None:
    calls, invalid = read_native_calls(raws, GET, cut=True)
    AIMessage("", tool_calls=calls, invalid_tool_calls=invalid).model_dump_json()
    assert all(call["name"] for call in calls)
