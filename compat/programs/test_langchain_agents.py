"""`create_agent` with every middleware that comes with LangChain."""

from __future__ import annotations

import json
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

import pytest
from langchain.agents import create_agent, middleware
from langchain.agents.middleware import AgentMiddleware
from langchain_core.decisions import BaseDecisionModel, ClassifierResponse
from langchain_core.messages import AIMessage, HumanMessage, ToolMessage
from langchain_core.tools import tool
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.types import Command

from langchain_segmind import ChatSegmindLlama, is_retryable

if TYPE_CHECKING:
    from pathlib import Path

    from langgraph.graph.state import CompiledStateGraph

    from langchain_segmind.gateway import Script


@tool
def add(a: int, b: int) -> int:
    """Add two numbers."""
    return a + b


@tool
def fail(times: int) -> str:
    """Fail."""
    raise ValueError(f"failed {times} times")


def call(name: str, /, **parameters: Any) -> str:
    """Write a call as Llama does."""
    return json.dumps({"name": name, "parameters": parameters})


ADD = call("add", a=1, b=2)
TESTED: set[str] = {"AgentMiddleware"}


def made(name: str, *given: Any, **kwargs: Any) -> Any:
    """Make a middleware, and remember that it was."""
    TESTED.add(name)
    return getattr(middleware, name)(*given, **kwargs)


def agent(*middleware: Any, **kwargs: Any) -> CompiledStateGraph[Any, Any, Any, Any]:
    """Make an agent with two tools."""
    return create_agent(ChatSegmindLlama(), [add, fail], middleware=middleware, **kwargs)


def run(agent: Any, text: str = "1 + 2?", **config: Any) -> list[Any]:
    """Run an agent; give its messages."""
    return agent.invoke({"messages": [("user", text)]}, config)["messages"]  # type: ignore[no-any-return]


def results(messages: list[Any]) -> list[str]:
    """Give what tools came to."""
    return [str(message.content) for message in messages if isinstance(message, ToolMessage)]


class Decider(BaseDecisionModel):
    """Has a Llama decide: LangChain asks a decision model where it needs probabilities."""

    model: str = "llama"

    @property
    def _provider(self) -> str:
        return "segmind"

    def _classify(self, state: Any, questions: Any) -> ClassifierResponse:
        form = {"title": "Answers", "type": "object", "properties": {"answers": {"type": "object"}}}
        given = ChatSegmindLlama().with_structured_output(form).invoke(f"{state} {questions}")
        return ClassifierResponse(model=self.model, answers=given["answers"])  # type: ignore[index]


def test_context_is_edited(scripted_segmind: Script) -> None:
    """An old result is not sent again."""
    edit = middleware.ClearToolUsesEdit(trigger=1, keep=0)
    scripted_segmind.will_say(ADD, "It is 3.")
    run(agent(made("ContextEditingMiddleware", edits=[edit])))
    assert "[cleared]" in scripted_segmind.bodies[1]["messages"][-1]["content"]


def test_files_are_searched(scripted_segmind: Script, tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("needle")
    scripted_segmind.will_say(call("grep_search", pattern="needle"), "There.")
    search = made("FilesystemFileSearchMiddleware", root_path=str(tmp_path), use_ripgrep=False)
    assert "a.txt" in results(run(agent(search)))[0]


def test_a_human_decides(scripted_segmind: Script) -> None:
    scripted_segmind.will_say(ADD, "It is 7.")
    asks = made("HumanInTheLoopMiddleware", interrupt_on={"add": True})
    graph, config = agent(asks, checkpointer=InMemorySaver()), {"configurable": {"thread_id": "1"}}
    graph.invoke({"messages": [("user", "1 + 2?")]}, config)
    edited = {"name": "add", "args": {"a": 3, "b": 4}}
    decision = {"decisions": [{"type": "edit", "edited_action": edited}]}
    messages = graph.invoke(Command(resume=decision), config)["messages"]
    assert results(messages)[0].endswith("7")
    assert messages[-1].content == "It is 7."


def test_a_tool_is_emulated(scripted_segmind: Script) -> None:
    scripted_segmind.will_say(ADD, "99", "It is 99.")
    emulates = made("LLMToolEmulator", model=ChatSegmindLlama())
    assert results(run(agent(emulates))) == ["99"]


def test_tools_are_selected(scripted_segmind: Script) -> None:
    """It asks again, once, where the reply names what there is not."""
    scripted_segmind.will_say('{"tools": "all"}', '{"tools": ["add"]}', "It is 3.")
    run(agent(made("LLMToolSelectorMiddleware", max_tools=1)))
    assert '"name": "fail"' not in scripted_segmind.bodies[2]["messages"][0]["content"]


def test_calls_of_the_model_are_limited(scripted_segmind: Script) -> None:
    scripted_segmind.will_say(ADD, ADD, ADD)
    run(agent(made("ModelCallLimitMiddleware", run_limit=2)))
    assert len(scripted_segmind.bodies) == 2


def test_another_model_steps_in(scripted_segmind: Script) -> None:
    scripted_segmind.will_say("From the second.")
    gone = ChatSegmindLlama(model="no-such-model")
    falls_back = made("ModelFallbackMiddleware", ChatSegmindLlama())
    answer = create_agent(gone, middleware=[falls_back]).invoke({"messages": [("user", "Hi")]})
    assert answer["messages"][-1].content == "From the second."


def test_no_answer_passes_for_a_refusal(scripted_segmind: Script) -> None:
    """Segmind's answers say of none that it is one."""
    scripted_segmind.will_say("I cannot help with that.")
    assert run(agent(made("ModelRefusalMiddleware")))[-1].content == "I cannot help with that."


@pytest.mark.segmind(rpm=1, rate_window=0.2)
def test_a_model_is_asked_again(scripted_segmind: Script) -> None:
    """Of what cost nothing."""
    scripted_segmind.will_say("One.", "Two.")
    retry = made("ModelRetryMiddleware", retry_on=is_retryable, initial_delay=0.3, jitter=False)
    graph = create_agent(ChatSegmindLlama(max_retries=0), middleware=[retry])
    assert [run(graph)[-1].content for _ in range(2)] == ["One.", "Two."]


def test_personal_data_stays_here(scripted_segmind: Script) -> None:
    scripted_segmind.will_say("Hello.")
    run(agent(made("PIIMiddleware", "email")), "I am a@example.org")
    assert "a@example.org" not in json.dumps(scripted_segmind.bodies)


def test_providers_search_for_tools_is_refused_in_words(scripted_segmind: Script) -> None:
    """Segmind has none."""
    searches = made("ProviderToolSearchMiddleware", searchable_tools=["add"])
    with pytest.raises(ValueError, match="server-side tool search"):
        run(agent(searches))
    assert not scripted_segmind.bodies


def test_a_shell_runs(scripted_segmind: Script, tmp_path: Path) -> None:
    scripted_segmind.will_say(call("shell", command="echo $((20 + 3))"), "23.")
    policy = middleware.HostExecutionPolicy()
    shell = made("ShellToolMiddleware", tmp_path, execution_policy=policy)
    assert "23" in results(run(agent(shell)))[0]


def test_a_long_talk_is_summarized(scripted_segmind: Script) -> None:
    scripted_segmind.will_say("They greeted.", "Good.")
    sums_up = made(
        "SummarizationMiddleware", ChatSegmindLlama(), trigger=("messages", 3), keep=("messages", 1)
    )
    talk = [HumanMessage("Hi"), AIMessage("Hello"), HumanMessage("How are you?")]
    agent(sums_up).invoke({"messages": talk})
    assert "They greeted." in scripted_segmind.bodies[1]["messages"][0]["content"]


def test_todos_are_kept(scripted_segmind: Script) -> None:
    todos = [{"content": "add", "status": "in_progress"}]
    scripted_segmind.will_say(call("write_todos", todos=todos), "Done.")
    state = agent(made("TodoListMiddleware")).invoke({"messages": [("user", "Plan.")]})
    assert state["todos"] == todos


def test_calls_of_a_tool_are_limited(scripted_segmind: Script) -> None:
    scripted_segmind.will_say(ADD, ADD, "Enough.")
    limited = results(run(agent(made("ToolCallLimitMiddleware", tool_name="add", run_limit=1))))
    assert limited[0] == "3"
    assert "limit" in limited[1]


def test_a_model_is_told_of_an_error(scripted_segmind: Script) -> None:
    scripted_segmind.will_say(call("fail", times=1), "It failed.")
    tells = made("ToolErrorMiddleware", on_error=lambda error, _: f"Sorry: {error}")
    assert "failed 1 times" in results(run(agent(tells)))[0]


def test_a_tool_is_tried_again(scripted_segmind: Script) -> None:
    scripted_segmind.will_say(call("fail", times=1), "It failed.")
    retries = made("ToolRetryMiddleware", max_retries=1, initial_delay=0.0)
    assert "2 attempts" in results(run(agent(retries)))[0]


@pytest.mark.parametrize("risk", [0.0, 1.0])
def test_a_risky_call_is_stopped(scripted_segmind: Script, risk: float) -> None:
    """The Llama is the one that judges it."""
    verdict = {"answers": {"is_risky": {"type": "noul", "noul": risk}}}
    scripted_segmind.will_say(ADD, json.dumps(verdict), "Done.")
    judges = made("AutoModeMiddleware", tools=["add"], classifier=Decider())
    graph = agent(judges, checkpointer=InMemorySaver())
    ran = results(run(graph, configurable={"thread_id": "1"})) == ["3"]
    assert ran is (risk < 0.5)


def test_a_model_is_chosen(scripted_segmind: Script) -> None:
    large = ChatSegmindLlama(model="llama-v3p1-405b-instruct")
    choices = {"large": middleware.ModelChoice(large, "hard questions")}
    answer = {"type": "choice", "choice": "large", "probabilities": {"large": 1.0}, "confidence": 1}
    scripted_segmind.will_say(
        json.dumps({"answers": {"model_route": answer}}), "From the large one."
    )
    routes = made(
        "ModelRouterMiddleware", choices=choices, instructions="Which?", classifier=Decider()
    )
    assert run(agent(routes))[-1].response_metadata["model_name"] == large.model


@pytest.mark.skipif(
    tuple(map(int, version("langchain-core").split(".")[:3])) < (1, 8, 4),
    reason="langchain-core reads why an answer ended since 1.8.4.",
)
def test_the_end_of_an_answer_is_told_in_cores_words(scripted_segmind: Script) -> None:
    scripted_segmind.will_say(ADD)
    *_, end = ChatSegmindLlama().bind_tools([add]).stream_events("1 + 2?", version="v3")
    told = {"normalized_finish_reason": "tool_call", "finish_state": "complete"}
    assert end["event"] == "message-finish"
    assert told.items() <= end.items()


def test_every_middleware_was_tested() -> None:
    """A new one of LangChain's shows here."""
    stock = {
        name
        for name in middleware.__all__
        if isinstance(kind := getattr(middleware, name), type) and issubclass(kind, AgentMiddleware)
    }
    assert stock == TESTED
