"""A scripted stand-in for a large Llama: answers in its format, by rules, with no model behind.

The standard suite asks for judgements that a model of 135M parameters cannot make: which tool
serves a question, and with which arguments. This answers those, so that what is tested is the
package: what it sends, and what it makes of a reply.
"""

from __future__ import annotations

import json
import re
from typing import Any

from langchain_segmind.gateway.engines.schemas import minimal_instance

ARGUMENTS: dict[str, dict[str, Any]] = {
    "magic_function": {"input": 3},
    "magic_function_no_args": {},
    "my_adder_tool": {"a": 3, "b": 4},
    "greeting_generator": {"answer_style": "Pirate"},
    "get_weather": {"location": "San Francisco, CA"},
}
"""What a large model would pass to the tools of the standard suite."""


def answer(body: dict[str, Any]) -> str:
    """Answer as a large Llama would."""
    prompt = "\n".join(str(message["content"]) for message in body["messages"])
    last = str(body["messages"][-1]["content"])
    if last.startswith(("Result of", "Error of")):
        return "Here is what the tool said."
    if tools := re.findall(r'"function": \{\s+"name": "([\w.-]+)"', prompt):
        return call(tools[0], last)
    form = body.get("response_format") or {}
    if form.get("type") == "json_schema":
        return json.dumps(minimal_instance(form["json_schema"]["schema"]))
    if form.get("type") == "json_object":
        return '{"setup": "Why did the cat sit?", "punchline": "Because it could."}'
    return "Hello! I am a scripted Llama, and how are you?"


def call(tool: str, question: str) -> str:
    """Call a tool in the form Llama 3.1 was trained on."""
    if tool == "unicode_customer":
        name = re.search(r"named '([^']+)'", question)
        parameters: dict[str, Any] = {"customer_name": name[1] if name else "", "description": "x"}
    else:
        parameters = ARGUMENTS[tool]
    return json.dumps({"name": tool, "parameters": parameters}, ensure_ascii=False)
