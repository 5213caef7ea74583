"""What traces tell of a call: model, tokens and cost; never the key; no text where it is hidden."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from textwrap import dedent
from typing import TYPE_CHECKING, Any

import pytest
from langchain_core.messages import BaseMessage, HumanMessage
from langchain_core.output_parsers import StrOutputParser
from langchain_core.prompts import ChatPromptTemplate
from langchain_core.tools import tool
from langchain_core.tracers import LangChainTracer
from langchain_core.tracers.run_collector import RunCollectorCallbackHandler
from langsmith import Client
from openinference.instrumentation.langchain import LangChainInstrumentor
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from langchain_segmind import ChatSegmindLlama, SegmindAuthenticationError
from langchain_segmind.gateway import RunningGateway, ScriptedEngine, Settings, serve
from tests.servers import COLOURS, KEY, faults, http, model

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

SECRET, ANSWER = "the lost umbrella", "A very wet joke."
CHAIN_INPUT = {"topic": SECRET}

pytestmark = pytest.mark.filterwarnings(
    # OpenInference asks whether a message's text can be called.
    "ignore:Calling .text:DeprecationWarning"
)


HIDDEN = {"OPENINFERENCE_HIDE_INPUTS": "true", "OPENINFERENCE_HIDE_OUTPUTS": "true"}
OPENINFERENCE = {
    "model": "llm.model_name",
    "input": "llm.token_count.prompt",
    "output": "llm.token_count.completion",
    "cost": "llm.cost.total",
}
OPENLLMETRY = {
    "model": "gen_ai.request.model",
    "input": "gen_ai.usage.input_tokens",
    "output": "gen_ai.usage.output_tokens",
    "cost": "gen_ai.usage.cost",
}
"""What each calls what we look for."""


@contextmanager
def recorded() -> Iterator[InMemorySpanExporter]:
    """Keep the spans that OpenInference makes meanwhile."""
    exporter, provider = InMemorySpanExporter(), TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    LangChainInstrumentor().instrument(tracer_provider=provider)
    try:
        yield exporter
    finally:
        LangChainInstrumentor().uninstrument()


def told(spans: InMemorySpanExporter) -> str:
    """Give everything that leaves the process, as JSON."""
    return f"[{','.join(span.to_json() for span in spans.get_finished_spans())}]"


def calls(spans: str, names: Mapping[str, str]) -> list[dict[str, Any]]:
    """Give what the spans of the model's calls tell, by our names."""
    attributes = [span["attributes"] for span in json.loads(spans)]
    return [
        {name: each.get(key) for name, key in names.items()}
        for each in attributes
        if names["model"] in each
    ]


def bill(gateway: RunningGateway) -> list[dict[str, Any]]:
    """Say what the spans of the model's calls should tell."""
    return [
        {
            "model": "llama-v3p1-70b-instruct",
            "input": charge.prompt_tokens,
            "output": charge.completion_tokens,
            "cost": charge.cost,
        }
        for charge in gateway.account.charges
    ]


@tool
def get_weather(location: str) -> str:
    """Get the weather at a location."""
    return f"It is wet in {location}."


def answer(body: dict[str, Any]) -> str:
    call = '{"name": "get_weather", "parameters": {"location": "Oslo"}}'
    return call if "get_weather" in str(body) else ANSWER


@pytest.fixture
def gateway() -> Iterator[RunningGateway]:
    with serve(Settings(api_key=KEY), ScriptedEngine(answer)) as running:
        yield running


@pytest.fixture
def llm(gateway: RunningGateway) -> Iterator[ChatSegmindLlama]:
    with ChatSegmindLlama(api_key=KEY, base_url=gateway.url, temperature=0.5) as model:
        yield model


def run(colour: str, runnable: Any, given: Any, **config: Any) -> Any:
    if colour == "sync":
        return runnable.invoke(given, config)
    return asyncio.run(runnable.ainvoke(given, config))


# --- OpenTelemetry --------------------------------------------------------------------------------


@pytest.mark.parametrize("colour", COLOURS)
def test_the_spans_of_a_chain_and_a_tool_tell_model_tokens_and_cost(
    colour: str, llm: ChatSegmindLlama, gateway: RunningGateway
) -> None:
    chain = ChatPromptTemplate.from_template("A joke on {topic}!") | llm | StrOutputParser()
    with recorded() as spans:
        assert run(colour, chain, CHAIN_INPUT) == ANSWER
        message = run(colour, llm.bind_tools([get_weather]), "Is it wet in Oslo?")
        assert run(colour, get_weather, message.tool_calls[0]).content == "It is wet in Oslo."
    assert calls(told(spans), OPENINFERENCE) == bill(gateway)
    assert KEY not in told(spans)


@pytest.mark.filterwarnings("ignore:.*v3.*is in beta")
def test_streamed_events_tell_their_cost_and_plain_streams_have_it_in_their_metadata(
    llm: ChatSegmindLlama, gateway: RunningGateway
) -> None:
    """A plain `stream` does not learn from langchain-core which run it belongs to."""
    with recorded() as spans:
        assert llm.stream_events("hi", version="v3").output.text == ANSWER
        chunks = list(llm.stream("hi"))
    (first, second), charges = calls(told(spans), OPENINFERENCE), bill(gateway)
    assert first == charges[0]
    assert second == {**charges[1], "cost": None}
    assert chunks[0].response_metadata["credits"]["cost"] == charges[1]["cost"]


@pytest.mark.parametrize("colour", COLOURS)
def test_hidden_texts_leave_model_tokens_and_cost(
    colour: str,
    llm: ChatSegmindLlama,
    gateway: RunningGateway,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Without a prompt template, whose span OpenInference does not hide."""
    for name, value in HIDDEN.items():
        monkeypatch.setenv(name, value)
    with recorded() as spans:
        assert run(colour, llm | StrOutputParser(), SECRET) == ANSWER
    assert calls(told(spans), OPENINFERENCE) == bill(gateway)
    assert SECRET not in told(spans)
    assert ANSWER not in told(spans)


def test_a_failed_call_tells_no_key_that_the_server_echoes() -> None:
    refusal = http({"error": f"{KEY} is no key"}, 401)
    with recorded() as spans, faults(refusal) as server, model(server) as llm:
        with pytest.raises(SegmindAuthenticationError):
            llm.invoke(SECRET)
        with pytest.raises(SegmindAuthenticationError):
            asyncio.run(llm.ainvoke(SECRET))
    assert len(calls(told(spans), OPENINFERENCE)) == 2
    assert "is no key" in told(spans)
    assert KEY not in told(spans)


OPENLLMETRY_PROCESS = """
    import asyncio, sys
    from langchain_core.output_parsers import StrOutputParser
    from langchain_core.prompts import ChatPromptTemplate
    from opentelemetry.instrumentation.langchain import LangchainInstrumentor
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import SimpleSpanProcessor
    from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

    from langchain_segmind import ChatSegmindLlama

    url, key, topic = sys.argv[1:]
    spans, provider = InMemorySpanExporter(), TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(spans))
    LangchainInstrumentor().instrument(tracer_provider=provider)
    llm = ChatSegmindLlama(base_url=url, api_key=key)
    chain = ChatPromptTemplate.from_template("A joke on {topic}!") | llm | StrOutputParser()
    chain.invoke({"topic": topic})
    asyncio.run(chain.ainvoke({"topic": topic}))
    print(f"[{','.join(span.to_json() for span in spans.get_finished_spans())}]")
"""


def test_openllmetry_is_told_the_cost_and_hides_every_text(gateway: RunningGateway) -> None:
    """In a process of its own: what it has patched stays patched."""
    told = subprocess.run(
        [sys.executable, "-c", dedent(OPENLLMETRY_PROCESS), gateway.url, KEY, SECRET],
        cwd=Path(__file__).parents[2],
        env={**os.environ, "TRACELOOP_TRACE_CONTENT": "false"},
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    assert calls(told, OPENLLMETRY) == bill(gateway)
    assert len(gateway.account.charges) == 2
    for secret in (KEY, SECRET, ANSWER, "A joke on"):
        assert secret not in told


# --- LangChain's tracers --------------------------------------------------------------------------


def test_each_run_is_told_its_own_cost_and_nothing_is_shared(
    llm: ChatSegmindLlama, gateway: RunningGateway
) -> None:
    """Though the runs of one `generate` are given the same metadata."""
    collector, metadata = RunCollectorCallbackHandler(), {"user": "u1"}
    prompts: list[list[BaseMessage]] = [[HumanMessage("short")], [HumanMessage("a long prompt")]]
    llm.generate(prompts, callbacks=[collector], metadata=metadata)
    runs = [run.extra["metadata"] for run in collector.traced_runs]
    assert [run["segmind_cost"] for run in runs] == [each.cost for each in gateway.account.charges]
    assert [run["segmind_request_id"] for run in runs] == gateway.account.billed_ids
    assert [run["user"] for run in runs] == ["u1", "u1"]
    assert metadata == {"user": "u1"}


def test_a_tracer_that_fails_costs_no_answer(llm: ChatSegmindLlama) -> None:
    class Broken(RunCollectorCallbackHandler):
        @property
        def run_map(self) -> Any:
            raise LookupError

        @run_map.setter
        def run_map(self, value: Any) -> None:
            """Take nothing."""

        def get_span(self, run_id: object) -> object:
            raise LookupError

    assert llm.invoke("hi", {"callbacks": [Broken()]}).content == ANSWER


# --- LangSmith ------------------------------------------------------------------------------------


INGESTION = {
    "use_multipart_endpoint": False,
    "size_limit": 100,
    "size_limit_bytes": 2**20,
    "scale_up_nthreads_limit": 1,
    "scale_up_qsize_trigger": 1000,
    "scale_down_nempty_trigger": 4,
}
"""What the client asks before it posts; batches in JSON are easier to read than multipart."""


class LangSmith(ThreadingHTTPServer):
    """Takes what a LangSmith client posts."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Taking)
        self.url = f"http://127.0.0.1:{self.server_address[1]}"
        self.bodies: list[bytes] = []

    def runs(self, run_type: str) -> list[dict[str, Any]]:
        """Give the runs of a type, what came later merged into what came first."""
        found: dict[str, dict[str, Any]] = {}
        for body in self.bodies:
            batch = json.loads(body)
            for run in (*batch.get("post", ()), *batch.get("patch", ())):
                found.setdefault(run["id"], {}).update(run)
        return [run for run in found.values() if run.get("run_type") == run_type]


class _Taking(BaseHTTPRequestHandler):
    server: LangSmith

    def do_GET(self) -> None:
        self._say({"batch_ingest_config": INGESTION})

    def do_POST(self) -> None:
        self.server.bodies.append(self.rfile.read(int(self.headers["content-length"])))
        self._say({})

    def _say(self, answer: dict[str, Any]) -> None:
        body = json.dumps(answer).encode()
        self.send_response(200)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - as it is inherited.
        """Keep quiet."""


@pytest.fixture
def langsmith() -> Iterator[LangSmith]:
    with LangSmith() as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def traced_chain(langsmith: LangSmith, llm: ChatSegmindLlama, colour: str, **options: Any) -> None:
    client = Client(api_url=langsmith.url, api_key="lsv2_x", **options)
    chain = ChatPromptTemplate.from_template("A joke on {topic}!") | llm | StrOutputParser()
    assert run(colour, chain, CHAIN_INPUT, callbacks=[LangChainTracer(client=client)]) == ANSWER
    client.flush()


@pytest.mark.parametrize("colour", COLOURS)
def test_langsmith_is_told_model_tokens_and_cost(
    colour: str, langsmith: LangSmith, llm: ChatSegmindLlama, gateway: RunningGateway
) -> None:
    traced_chain(langsmith, llm, colour)
    (posted,) = langsmith.runs("llm")
    (charge,) = gateway.account.charges
    tokens = {"input_tokens": charge.prompt_tokens, "output_tokens": charge.completion_tokens}
    tokens["total_tokens"] = sum(tokens.values())
    metadata = posted["extra"]["metadata"]
    assert metadata["ls_provider"] == "segmind"
    assert metadata["ls_model_name"] == "llama-v3p1-70b-instruct"
    assert metadata["ls_temperature"] == 0.5
    assert metadata["usage_metadata"] == tokens
    assert metadata["segmind_cost"] == charge.cost
    assert metadata["segmind_request_id"] == charge.request_id
    assert posted["outputs"]["usage_metadata"] == {**tokens, "total_cost": charge.cost}
    assert KEY.encode() not in b"".join(langsmith.bodies)


@pytest.mark.parametrize("colour", COLOURS)
def test_langsmith_is_told_the_cost_where_texts_are_hidden(
    colour: str, langsmith: LangSmith, llm: ChatSegmindLlama, gateway: RunningGateway
) -> None:
    traced_chain(langsmith, llm, colour, hide_inputs=True, hide_outputs=True)
    (posted,) = langsmith.runs("llm")
    assert posted["extra"]["metadata"]["segmind_cost"] == gateway.account.charges[0].cost
    everything = b"".join(langsmith.bodies)
    assert SECRET.encode() not in everything
    assert ANSWER.encode() not in everything
