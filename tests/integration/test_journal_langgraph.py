"""Agents and graphs with a journal: each step is paid for once, whatever happens to the process."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from operator import add
from pathlib import Path
from textwrap import dedent
from typing import TYPE_CHECKING, Annotated, Any, TypedDict

import pytest
from langgraph.checkpoint.sqlite import SqliteSaver
from langgraph.func import entrypoint, task
from langgraph.graph import START, StateGraph
from langgraph.types import Command, RetryPolicy, interrupt

from langchain_segmind import ChatSegmindLlama, SegmindError
from langchain_segmind.gateway import ScriptedEngine, Settings, serve
from tests.postgres import run_server

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from langchain_segmind.gateway import RunningGateway


class State(TypedDict):
    """The answers so far."""

    answers: Annotated[list[str], add]


@pytest.fixture
def counting() -> Iterator[RunningGateway]:
    """Answer each paid call with its number, so that a replay is told from a new answer."""
    count = iter(range(1, 1000))
    with serve(engine=ScriptedEngine(lambda _: f"answer {next(count)}")) as gateway:
        yield gateway


@pytest.fixture
def llm(counting: RunningGateway, tmp_path: Path) -> Callable[..., ChatSegmindLlama]:
    """Give models on one journal, as processes would have that come one after the other."""
    return lambda **settings: ChatSegmindLlama(
        api_key=counting.api_key,
        base_url=counting.url,
        journal=tmp_path / "run.sqlite",
        poll_interval=0.01,
        **settings,
    )


@pytest.fixture
def saver(tmp_path: Path) -> Iterator[SqliteSaver]:
    """Keep checkpoints in a file."""
    with SqliteSaver.from_conn_string(str(tmp_path / "checkpoints.sqlite")) as saver:
        yield saver


THREAD: Any = {"configurable": {"thread_id": "t"}}


def graph(saver: Any, **nodes: Any) -> Any:
    """Build a graph of nodes, one after the other."""
    builder: Any = StateGraph(State)
    before = START
    for name, node in nodes.items():
        builder.add_node(name, node)
        builder.add_edge(before, name)
        before = name
    return builder.compile(checkpointer=saver)


def resume_after_break(saver: Any, ask: Callable[[], list[str]]) -> list[str]:
    """Run a graph whose node breaks once behind its calls, resume it, and give its answers."""
    broken = [True]

    def node(_state: State) -> State:
        answers = ask()
        if broken:
            raise OSError(broken.pop())
        return {"answers": answers}

    app = graph(saver, node=node)
    with pytest.raises(OSError, match="True"):
        app.invoke({"answers": []}, THREAD)
    answers: list[str] = app.invoke(None, THREAD)["answers"]
    return answers


def paid(gateway: RunningGateway) -> int:
    return len(gateway.account.charges)


def test_a_node_that_broke_after_its_call_is_resumed_for_nothing(
    llm: Any, saver: SqliteSaver, counting: RunningGateway
) -> None:
    answers = resume_after_break(
        saver, lambda: [llm().invoke(prompt).text for prompt in ("hi", "hi", "ho")]
    )
    assert answers == ["answer 1", "answer 2", "answer 3"]
    assert paid(counting) == 3


@pytest.mark.parametrize("mode", ["updates", "messages"])
@pytest.mark.parametrize("way", ["invoke", "stream"])
def test_a_run_whose_tokens_are_watched_is_resumed_for_nothing(
    way: str, mode: Any, llm: Any, saver: SqliteSaver, counting: RunningGateway
) -> None:
    """A graph that is asked for messages has `invoke` stream, too."""
    broken = [True]

    def node(_state: State) -> State:
        asked = llm()
        (answer,) = asked.stream("hi") if way == "stream" else [asked.invoke("hi")]
        if broken:
            raise OSError(broken.pop())
        return {"answers": [answer.text]}

    app = graph(saver, node=node)
    with pytest.raises(OSError, match="True"):
        list(app.stream({"answers": []}, THREAD, stream_mode=mode))
    list(app.stream(None, THREAD, stream_mode=mode))
    assert app.get_state(THREAD).values["answers"] == ["answer 1"]
    assert paid(counting) == 1


def test_a_human_in_the_loop_is_asked_about_the_same_answer(
    llm: Any, saver: SqliteSaver, counting: RunningGateway
) -> None:
    def node(_state: State) -> State:
        answer = llm().invoke("hi").text
        return {"answers": [answer, interrupt(answer)]}

    app = graph(saver, node=node)
    app.invoke({"answers": []}, THREAD)
    result = app.invoke(Command(resume="fine"), THREAD)
    assert result["answers"] == ["answer 1", "fine"]
    assert paid(counting) == 1


def test_a_retry_of_a_node_that_used_an_answer_gets_a_fresh_one(
    llm: Any, saver: SqliteSaver, counting: RunningGateway
) -> None:
    """A node that retries a bad answer must not be given it for ever."""

    def node(_state: State) -> State:
        answer = llm().invoke("hi").text
        if answer != "answer 3":
            raise ValueError(answer)
        return {"answers": [answer]}

    builder: Any = StateGraph(State)
    policy = RetryPolicy(max_attempts=5, initial_interval=0.01, retry_on=ValueError)
    builder.add_node("node", node, retry_policy=policy)
    builder.add_edge(START, "node")
    app = builder.compile(checkpointer=saver)
    assert app.invoke({"answers": []}, THREAD)["answers"] == ["answer 3"]
    assert paid(counting) == 3


def test_a_retry_of_a_node_that_got_no_answer_gets_the_one_that_was_paid_for(
    saver: SqliteSaver, tmp_path: Path
) -> None:
    async def slow(_body: Any) -> str:
        await asyncio.sleep(1.5)
        return "Hello!"

    with serve(engine=ScriptedEngine(slow)) as gateway:
        patience = iter([0.7, 30.0])

        def node(_state: State) -> State:
            model = ChatSegmindLlama(
                api_key=gateway.api_key,
                base_url=gateway.url,
                journal=tmp_path / "run.sqlite",
                poll_interval=0.01,
                queue_timeout=next(patience),
            )
            return {"answers": [model.invoke("hi").text]}

        builder: Any = StateGraph(State)
        policy = RetryPolicy(max_attempts=2, initial_interval=0.01, retry_on=SegmindError)
        builder.add_node("node", node, retry_policy=policy)
        builder.add_edge(START, "node")
        app = builder.compile(checkpointer=saver)
        assert app.invoke({"answers": []}, THREAD)["answers"] == ["Hello!"]
        assert gateway.account.post_count == 1


def test_equal_calls_at_once_have_an_answer_each(
    llm: Any, saver: SqliteSaver, counting: RunningGateway
) -> None:
    answers = resume_after_break(
        saver, lambda: [message.text for message in llm().batch(["hi"] * 3)]
    )
    assert sorted(answers) == ["answer 1", "answer 2", "answer 3"]
    assert paid(counting) == 3


def test_a_fork_and_a_new_turn_get_new_answers(
    llm: Any, saver: SqliteSaver, counting: RunningGateway
) -> None:
    def node(_state: State) -> State:
        return {"answers": [llm().invoke("hi").text]}

    app = graph(saver, node=node)
    app.invoke({"answers": []}, THREAD)
    start = [state for state in app.get_state_history(THREAD) if state.next == ("node",)][-1]
    forks = [app.invoke(None, start.config)["answers"][-1] for _ in range(2)]
    app.invoke({"answers": []}, THREAD)
    assert forks == ["answer 2", "answer 3"]
    assert paid(counting) == 4


def test_a_subgraph_and_a_task_are_resumed_for_nothing(
    llm: Any, saver: SqliteSaver, counting: RunningGateway
) -> None:
    broken = [True]

    def inner(_state: State) -> State:
        answer = llm().invoke("hi").text
        if broken:
            raise OSError(broken.pop())
        return {"answers": [answer]}

    app = graph(saver, outer=graph(None, inner=inner))

    @task
    def step() -> str:
        answer: str = llm().invoke("hi").text
        if broken:
            raise OSError(broken.pop())
        return answer

    @entrypoint(checkpointer=saver)
    def flow(_given: str) -> str:
        return step().result()

    with pytest.raises(OSError, match="True"):
        app.invoke({"answers": []}, THREAD)
    assert app.invoke(None, THREAD)["answers"] == ["answer 1"]
    broken.append(True)
    other: Any = {"configurable": {"thread_id": "u"}}
    with pytest.raises(OSError, match="True"):
        flow.invoke("go", other)
    assert flow.invoke(None, other) == "answer 2"
    assert paid(counting) == 2


def test_without_a_thread_nothing_is_kept(llm: Any, counting: RunningGateway) -> None:
    """Nobody could resume it: each run is a new one."""

    def node(_state: State) -> State:
        return {"answers": [llm().invoke("hi").text]}

    app = graph(None, node=node)
    assert app.invoke({"answers": []})["answers"] == ["answer 1"]
    assert app.invoke({"answers": []})["answers"] == ["answer 2"]
    assert list(llm().journal.entries()) == []


AGENT = """
    import os, sys, time
    from langchain.agents import create_agent
    from langchain_segmind import ChatSegmindLlama

    KILL_AT = sys.argv[3]

    def kill_at(moment, step=-1):
        if moment == KILL_AT:
            while (saved := saver.get_tuple(config)) is None or saved.metadata["step"] < step:
                time.sleep(0.001)  # With "async" it is written while the next node runs.
            os.kill(os.getpid(), 9)

    def add(a: int, b: int) -> int:
        '''Add two numbers.'''
        kill_at("tool", 1)
        return a + b

    {saver}
    llm = ChatSegmindLlama(
        base_url=sys.argv[1], journal={journal}, poll_interval=0.01,
        on_submit=lambda _: kill_at("submit", 0),
    )
    with open_saver() as saver:
        agent = create_agent(llm, [add], checkpointer=saver)
        config = {{"configurable": {{"thread_id": "t"}}}}
        given = None if agent.get_state(config).next else {{"messages": [("user", "1 + 2?")]}}
        for _ in agent.stream(given, config, durability=sys.argv[2], stream_mode="updates"):
            kill_at("between")
        print(agent.get_state(config).values["messages"][-1].text)
"""
SQLITE = """
    from langgraph.checkpoint.sqlite import SqliteSaver

    def open_saver():
        return SqliteSaver.from_conn_string("checkpoints.sqlite")
"""
POSTGRES = """
    from contextlib import contextmanager
    from langgraph.checkpoint.postgres import PostgresSaver
    from langchain_segmind.journals import PostgresJournal

    @contextmanager
    def open_saver():
        with PostgresSaver.from_conn_string(os.environ["DSN"]) as saver:
            saver.setup()
            yield saver
"""


SUBGRAPH = """
    import os, sys, time
    from operator import add
    from typing import Annotated, TypedDict
    from langgraph.checkpoint.sqlite import SqliteSaver
    from langgraph.config import get_config
    from langgraph.graph import START, StateGraph
    from langchain_segmind import ChatSegmindLlama

    KILL_AT = sys.argv[3]

    class State(TypedDict):
        answers: Annotated[list[str], add]

    def kill_at(moment):
        if moment == KILL_AT:
            namespace, _, _ = place["checkpoint_ns"].rpartition("|")
            where = {"configurable": {"thread_id": "t", "checkpoint_ns": namespace}}
            step = moment.startswith("second")
            while (saved := saver.get_tuple(where)) is None or saved.metadata["step"] < step:
                time.sleep(0.001)  # With "async" it is written while the next node runs.
            os.kill(os.getpid(), 9)

    def node(name):
        def ask(state):
            place.update(get_config()["configurable"])
            answer = llm.invoke(name).text
            kill_at(f"{name} answered")
            return {"answers": [answer]}
        return ask

    def chain(**nodes):
        builder, before = StateGraph(State), START
        for name, node in nodes.items():
            builder.add_node(name, node)
            builder.add_edge(before, name)
            before = name
        return builder

    def paid():
        return any(entry.state == "answered" for entry in llm.journal.entries())

    place = {}
    llm = ChatSegmindLlama(
        base_url=sys.argv[1], journal="run.sqlite", poll_interval=0.01,
        on_submit=lambda _: kill_at(f"{'second' if paid() else 'first'} submitted"),
    )
    with SqliteSaver.from_conn_string("checkpoints.sqlite") as saver:
        inner = chain(first=node("first"), second=node("second")).compile()
        app = chain(outer=inner).compile(checkpointer=saver)
        config = {"configurable": {"thread_id": "t"}}
        given = None if app.get_state(config).next else {"answers": []}
        print(app.invoke(given, config, durability=sys.argv[2])["answers"])
"""


def replies(body: dict[str, Any]) -> str:
    """Call the tool, and say what it gave."""
    if len(body["messages"]) == 1:
        return '{"type": "function", "name": "add", "parameters": {"a": 1, "b": 2}}'
    return "It is 3."


def run_agent(script: str, gateway: RunningGateway, where: Path, *args: str, **more: str) -> Any:
    environment = {**os.environ, "SEGMIND_API_KEY": gateway.api_key, **more}
    environment["PYTHONPATH"] = str(Path.cwd())
    command = [sys.executable, "-W", "error::ResourceWarning", "-c", dedent(script)]
    return subprocess.run(
        [*command, gateway.url, *args],
        cwd=where,
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def agent_script(saver: str, journal: str) -> str:
    return dedent(AGENT).format(saver=dedent(saver), journal=journal)


@pytest.mark.parametrize("durability", ["sync", "async"])
def test_an_agent_that_is_killed_pays_each_step_once(durability: str, tmp_path: Path) -> None:
    """Killed as its job was submitted, in its tool and between its nodes; then let run."""
    script = agent_script(SQLITE, '"run.sqlite"')
    with serve(Settings(), engine=ScriptedEngine(replies)) as gateway:
        for moment in ("submit", "tool", "between"):
            killed = run_agent(script, gateway, tmp_path, durability, moment)
            assert killed.returncode == -signal.SIGKILL, killed.stderr
        done = run_agent(script, gateway, tmp_path, durability, "never")
    assert done.stdout.strip() == "It is 3.", done.stderr
    assert len(gateway.account.charges) == gateway.account.post_count == 2


@pytest.mark.parametrize("durability", ["sync", "async"])
def test_a_subgraph_that_is_killed_in_its_nodes_pays_each_call_once(
    durability: str, counting: RunningGateway, tmp_path: Path
) -> None:
    for moment in ("first submitted", "first answered", "second submitted", "second answered"):
        killed = run_agent(SUBGRAPH, counting, tmp_path, durability, moment)
        assert killed.returncode == -signal.SIGKILL, killed.stderr
    done = run_agent(SUBGRAPH, counting, tmp_path, durability, "never")
    assert done.stdout.strip() == "['answer 1', 'answer 2']", done.stderr
    assert len(counting.account.charges) == counting.account.post_count == 2


def test_an_agent_on_postgres_pays_each_step_once(tmp_path: Path) -> None:
    script = agent_script(POSTGRES, 'PostgresJournal(os.environ["DSN"])')
    with (
        run_server() as server,
        serve(Settings(), engine=ScriptedEngine(replies)) as gateway,
    ):
        for moment in ("submit", "tool", "never"):
            done = run_agent(script, gateway, tmp_path, "sync", moment, DSN=server.conninfo)
    assert done.stdout.strip() == "It is 3.", done.stderr
    assert len(gateway.account.charges) == gateway.account.post_count == 2
