"""The examples run as a reader would run them, and what they print and pay is looked at."""

from __future__ import annotations

import ast
import asyncio
import json
import re
import runpy
import subprocess
import sys
import threading
import time
from contextlib import contextmanager, suppress
from importlib.metadata import metadata, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from langchain_segmind.credits import format_credits
from langchain_segmind.gateway import ScriptedEngine, Settings, serve
from langchain_segmind.journals import SqliteJournal

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from langchain_segmind.gateway import RunningGateway

EXAMPLES = Path(__file__).parents[2] / "examples"
SHORT = ("chain", "agent", "rag", "extract", "bulk", "distill", "durable_agent", "trace_costs")


class Stage:
    """A gateway that the examples talk to, and what they print."""

    def __init__(self, patch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
        self._patch = patch
        self._capsys = capsys

    @contextmanager
    def answering(
        self, answer: Callable[[dict[str, Any]], Any], **settings: Any
    ) -> Iterator[RunningGateway]:
        """Let a function answer, and the environment name the gateway."""
        with serve(Settings(**settings), ScriptedEngine(answer)) as gateway:
            self._patch.setenv("SEGMIND_API_KEY", gateway.api_key)
            self._patch.setenv("SEGMIND_BASE_URL", gateway.url)
            self._patch.setenv("PYTHONPATH", str(EXAMPLES.parent))
            yield gateway

    def run(self, name: str, *arguments: str) -> str:
        """Run an example in this process, and give what it printed."""
        path = str(EXAMPLES / f"{name}.py")
        self._patch.setattr(sys, "argv", [path, *arguments])
        runpy.run_path(path, run_name="__main__")
        return self._capsys.readouterr().out


@pytest.fixture
def stage(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Stage:
    """Give a stage for one test."""
    return Stage(monkeypatch, capsys)


def said(body: dict[str, Any]) -> str:
    """Give the last message of a body."""
    return str(body["messages"][-1]["content"])


def bill(gateway: RunningGateway, calls: int) -> str:
    """Write what an example has to print when it is billed for so many calls."""
    assert gateway.account.charge_count == calls
    cost = sum(charge.cost for charge in gateway.account.charges)
    return f"{calls} calls: {format_credits(cost)} credits, {gateway.account.remaining} left"


# --- All of them -------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [*SHORT, "ray_batch"])
def test_is_short(name: str) -> None:
    assert len((EXAMPLES / f"{name}.py").read_text("utf-8").splitlines()) < 60


@pytest.mark.parametrize("name", SHORT)
def test_without_a_key_it_says_what_to_do(
    stage: Stage, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit, match=r"^SegmindAuthenticationError: .*Set SEGMIND_API_KEY"):
        stage.run(name)


def test_the_index_names_every_example() -> None:
    index = (EXAMPLES / "README.md").read_text("utf-8")
    there = {path.name for path in EXAMPLES.iterdir() if path.suffix in (".py", ".ipynb")}
    assert there <= set(re.findall(r"\[`?([\w.]+\.(?:py|ipynb))`?\]\(\1\)", index))


# --- One by one --------------------------------------------------------------------------------


def test_the_chain_hands_each_answer_on(stage: Stage) -> None:
    """The second prompt holds what the first one brought."""

    def answer(body: dict[str, Any]) -> str:
        if text := re.search(r"nothing else:\n\n(.*)", said(body)):
            return f"Which thing is told of in <{text[1]}>?"
        return f"Words on {said(body)[8:-1]}."

    with stage.answering(answer) as gateway:
        printed = stage.run("chain")
        assert printed.splitlines() == [
            "Once: Which thing is told of in <Words on a volcano.>?",
            "Batch, an echo: Which thing is told of in <Words on an echo.>?",
            "Batch, a shadow: Which thing is told of in <Words on a shadow.>?",
            "Stream: Words on a rainbow.",
            bill(gateway, 7),
        ]


def call(name: str, /, **parameters: str) -> str:
    """Write a call as Llama 3.1 was trained to."""
    return json.dumps({"name": name, "parameters": parameters})


def test_the_agent_answers_from_what_is_installed(stage: Stage) -> None:
    """The version it tells is the one that the tool found."""

    def answer(body: dict[str, Any]) -> str:
        if len(body["messages"]) == 2:
            return call("describe_package", name="httpx")
        if len(body["messages"]) == 4:
            return call("find_packages", word="next generation HTTP")
        found = re.search(r"httpx ([\d.]+): ", said({"messages": body["messages"][:4]}))
        listed = re.search(r"httpx: [^\"\\]+", said(body))
        return f"Found {found and found[1]}, {listed and listed[0]}"

    with stage.answering(answer) as gateway:
        printed = stage.run("agent", "Which", "httpx", "is", "here?")
        assert "Which httpx is here?" in printed
        assert f"Found {version('httpx')}, httpx: {metadata('httpx')['Summary']}\n" in printed
        assert printed.endswith(bill(gateway, 3) + "\n")


def test_the_agent_comes_to_an_end(stage: Stage) -> None:
    """A model that would go on for ever is paid for six times."""
    with stage.answering(lambda _: call("describe_package", name="no-such")) as gateway:
        printed = stage.run("agent")
        assert "No package 'no-such' is installed." in printed
        assert printed.endswith(bill(gateway, 6) + "\n")


def test_rag_answers_from_the_passages_it_names(stage: Stage) -> None:
    def answer(body: dict[str, Any]) -> str:
        [before, *_] = re.split(r"evaluated\s+from\s+left\s+to\s+right", said(body))
        number = re.findall(r"\n\n\[(\d)\] ", before)[-1]
        return f"When the definition is executed [{number}]."

    with stage.answering(answer) as gateway:
        printed = stage.run("rag")
        [body] = gateway.account.billed_bodies
        cited = re.search(r"definition is executed (\[\d\])", printed)
        assert cited
        assert f"\n{cited[1]} help('function'): " in printed
        assert said(body).endswith("\n\nQuestion: When are default parameter values evaluated?")
        assert f"'cost': {gateway.account.charges[0].cost}" in printed


@pytest.mark.parametrize(
    ("question", "found"), [('"', 0), ("??", 0), ("AND NOT *", 4), ("What is a lambda?", 4)]
)
def test_rag_searches_for_any_text(stage: Stage, question: str, found: int) -> None:
    with stage.answering(lambda _: "They do not hold the answer."):
        printed = stage.run("rag", question)
    assert printed.startswith(f"{question}\n\nThey do not hold the answer.\n\n")
    assert printed.count("] help('") == found


HISTORY = {
    "software": "Python",
    "author": "Guido van Rossum",
    "predecessor": "ABC",
    "homes": [{"organisation": "CWI", "since": 1990}],
}


def test_extraction_asks_again_for_what_does_not_fit(stage: Stage, tmp_path: Path) -> None:
    (notes := tmp_path / "notes.txt").write_text("A text of one's own.", "utf-8")
    replies = [json.dumps(HISTORY | {"homes": [{"organisation": "CWI", "since": 90}]})]
    replies.append(json.dumps(HISTORY))
    with stage.answering(lambda _: replies.pop(0)) as gateway:
        printed = stage.run("extract", str(notes))
        found, _, rest = printed.partition("\n}\n")
        assert json.loads(found + "}") == HISTORY
        assert rest == bill(gateway, 2) + "\n"
        first, second = gateway.account.billed_bodies
        assert "A text of one's own." in said(first)
        assert "greater than or equal to 1900" in said(second)


def test_extraction_shows_a_reply_that_never_fits(stage: Stage) -> None:
    with stage.answering(lambda _: "I would rather not.") as gateway:
        printed = stage.run("extract")
        assert "The reply was: I would rather not." in printed
        assert printed.endswith(bill(gateway, 2) + "\n")


def test_the_cost_of_a_call_is_printed_with_its_span(stage: Stage) -> None:
    """In a process of its own: OpenTelemetry prints to where stdout was when it was imported."""
    with stage.answering(lambda _: "A very wet joke.") as gateway:
        command = [sys.executable, str(EXAMPLES / "trace_costs.py")]
        span = json.loads(subprocess.run(command, capture_output=True, check=True).stdout)
        [charge] = gateway.account.charges
        assert span["attributes"]["gen_ai.usage.cost"] == charge.cost


def kill_when(condition: Callable[[], bool], name: str, *arguments: str) -> None:
    """Run an example in a process of its own, and kill it when it has come so far."""
    command = [sys.executable, str(EXAMPLES / f"{name}.py"), *arguments]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT) as child:
        try:
            for _ in range(6000):
                if condition():
                    return
                assert child.poll() is None, child.communicate()
                time.sleep(0.01)
            raise AssertionError("it did not come so far")
        finally:
            child.kill()


def test_the_durable_agent_pays_each_step_once(
    stage: Stage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed while each of its three steps was answered, and asked once more at the end."""
    monkeypatch.chdir(tmp_path)
    may_answer = threading.Semaphore(0)

    async def answer(body: dict[str, Any]) -> str:
        await asyncio.to_thread(may_answer.acquire)
        if len(body["messages"]) == 2:
            return call("measure_packages")
        if len(body["messages"]) == 4:
            return call("describe_package", name="langchain-segmind")
        return f"It is for this: {said(body)}"

    def states() -> list[str]:
        return [entry.state for entry in journal.entries()]

    journal = SqliteJournal("agent.journal.sqlite")
    with stage.answering(answer) as gateway:
        for answered in ([], ["answered"], ["answered"] * 2):
            stopped = [*answered, "submitted"]
            kill_when(lambda stopped=stopped: states() == stopped, "durable_agent")  # type: ignore[misc]
            may_answer.release()
        printed = [stage.run("durable_agent") for _ in range(2)]
        summary = metadata("langchain-segmind")["Summary"]
        assert all(summary in each for each in printed)
        assert printed[1].endswith("This time: 0 calls, 0.000000 credits.\n")
        assert gateway.account.charge_count == gateway.account.post_count == 3
    journal.close()


# --- Batches -----------------------------------------------------------------------------------


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Give a folder for what an example writes."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_bulk_pays_for_each_prompt_once(stage: Stage, folder: Path) -> None:
    """The second run is asked for more, and pays for those alone."""
    with stage.answering(lambda body: f"What of {hash(said(body))}?") as gateway:
        first = stage.run("bulk", "12", "6000")
        again = stage.run("bulk", "20", "6000")
        assert len(first.splitlines()) == 12
        assert set(first.splitlines()) < set(again.splitlines())
        assert len(again.splitlines()) == gateway.account.post_count == 20


def teach(body: dict[str, Any]) -> str:
    """Write questions, two of them the same, or answer one."""
    if topic := re.search(r"that (.*) may ask on (.*)\.", said(body)):
        questions = [f"What does {topic[1]} think of {topic[2]}?", f"What IS {topic[2]}?"]
        return json.dumps({"questions": [*questions, f"What is {topic[2]}"]})
    return f"This: {said(body)}"


def test_a_list_of_topics_becomes_a_file_for_fine_tuning(stage: Stage, folder: Path) -> None:
    (folder / "topics.txt").write_text("the tides\nknots", "utf-8")
    with stage.answering(teach) as gateway:
        printed = stage.run("distill", "topics.txt")
        pairs = (folder / "distilled.jsonl").read_text("utf-8")
        cost = sum(charge.cost for charge in gateway.account.charges)
        assert gateway.account.post_count == 6 + 8
        assert printed == f"8 pairs on 2 topics in distilled.jsonl; {cost:.6f} credits in all.\n"
        assert stage.run("distill", "topics.txt") == printed
        assert gateway.account.post_count == 6 + 8
    turns = [json.loads(line)["messages"] for line in pairs.splitlines()]
    assert all(answer["content"] == f"This: {question['content']}" for question, answer in turns)
    assert [turn["role"] for turn in turns[0]] == ["user", "assistant"]
    again = (folder / "distilled.jsonl").read_text("utf-8")
    assert sorted(again.splitlines()) == sorted(pairs.splitlines())


def test_the_budget_of_a_fine_tuning_file_holds_for_all_runs(stage: Stage, folder: Path) -> None:
    """A longer list of topics has what the runs before it left, of both of their batches."""

    def teach_at_length(body: dict[str, Any]) -> str:
        return teach(body).replace("?", "? Please." + " Please." * 190)

    topics = folder / "topics.txt"
    with stage.answering(teach_at_length, prompt_price=0.0, completion_price=1e-4) as gateway:
        for text in ("the tides", "the tides\nknots", "the tides\nknots\nthe Silk Road"):
            topics.write_text(text, "utf-8")
            with suppress(SystemExit):
                stage.run("distill", "topics.txt")
        assert 0.4 < sum(charge.cost for charge in gateway.account.charges) <= 0.5


# --- The notebook ------------------------------------------------------------------------------


def code_cells() -> list[dict[str, Any]]:
    """Read the notebook's code, with what it printed when it was run last."""
    notebook = json.loads((EXAMPLES / "tour.ipynb").read_text("utf-8"))
    return [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]


def guide(body: dict[str, Any]) -> str:
    """Answer what the tour asks."""
    if said(body).startswith("Result of"):
        return f"The tool said {said(body).splitlines()[-1]}."
    if '"name": "installed_version"' in said(body):
        return call("installed_version", package="pydantic")
    if "response_format" in body:
        return '{"name": "Paris", "country": "France"}'
    return f"You said: {said(body)}"


async def run_cell(source: str, names: dict[str, Any]) -> None:
    """Run a cell, with the `await` that notebooks allow.

    In this process: a kernel would bring thirty packages, and hide warnings from pytest.
    """
    code = compile(source, "tour.ipynb", "exec", ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
    if (awaitable := eval(code, names)) is not None:
        await awaitable


@pytest.mark.parametrize("who", ["Llama 3.1 70B on Segmind", "SmolLM2-135M-Instruct"])
async def test_the_tour_runs_from_top_to_bottom(
    stage: Stage, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], who: str
) -> None:
    """With a key in the environment, and without one, on a gateway of its own."""
    pytest.importorskip("matplotlib")
    monkeypatch.setenv("MPLBACKEND", "agg")  # Nobody looks at it here.
    names: dict[str, Any] = {"__name__": "tour"}
    with stage.answering(guide) as gateway:
        if who.startswith("Smol"):
            monkeypatch.delenv("SEGMIND_API_KEY")
            small = "langchain_segmind.gateway.LlamaEngine"
            monkeypatch.setattr(small, lambda _: ScriptedEngine(guide))
        for cell in code_cells():
            await run_cell("".join(cell["source"]), names)
        account = names["gateway"].account if who.startswith("Smol") else gateway.account
    printed = capsys.readouterr().out
    assert printed.startswith(who)
    assert "You said: Name one fact about bees, in one sentence." in printed
    assert f'The tool said {{"output": "pydantic: {version("pydantic")}"}}.' in printed
    assert "name='Paris' country='France'" in printed
    assert "The same answer, and no further cost: True" in printed
    assert re.search(
        r"^1 .*the vision slugs take images. Nothing was sent.$", printed, re.MULTILINE
    )
    assert printed.endswith(f"credits; {account.remaining} are left.\n")
    assert account.charge_count == account.post_count
    assert names["spent"][-1] <= names["budget"]
    [line, limit] = names["axes"].get_lines()
    assert list(line.get_ydata()) == names["spent"]
    assert set(limit.get_ydata()) == {names["budget"]}


def test_the_tour_shows_what_it_printed() -> None:
    """It was run from top to bottom, by the model it says, and names no place on a machine."""
    cells = code_cells()
    assert [cell["execution_count"] for cell in cells] == [*range(1, len(cells) + 1)]
    shown = []
    for cell in cells:
        assert cell["outputs"], cell["source"]
        pictures = [each for each in cell["outputs"] if each["output_type"] == "display_data"]
        assert len(pictures) == ("axes" in "".join(cell["source"]))
        printed = [each for each in cell["outputs"] if each not in pictures]
        assert {(each["output_type"], each["name"]) for each in printed} == {("stream", "stdout")}
        shown.append("".join(text for each in printed for text in each["text"]))
    assert shown[0].startswith("SmolLM2-135M-Instruct on this machine answers.")
    assert not re.search(r"127\.0|localhost|/(home|root|tmp|usr|Users)/|\\Users", "".join(shown))
