"""What traces say of a call: model, tokens and cost; never the key; no text where it is hidden."""

from __future__ import annotations

import asyncio
import json
import runpy
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from langchain_core.caches import InMemoryCache
from langchain_core.output_parsers import StrOutputParser
from langchain_core.prompts import ChatPromptTemplate
from langchain_core.tools import tool
from langchain_core.tracers import LangChainTracer
from langchain_core.tracers.context import collect_runs
from langsmith import Client
from openinference.instrumentation.langchain import LangChainInstrumentor
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import StatusCode

from langchain_segmind import ChatSegmindLlama, SegmindAuthenticationError
from langchain_segmind.gateway import RunningGateway, ScriptedEngine, Settings, serve
from tests.servers import COLOURS, KEY, FaultServer, faults, http, model

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.servers import Received, Wire

SECRET, ANSWER = "the lost umbrella", "A very wet joke."
CHAIN_INPUT = {"topic": SECRET}
EXAMPLE = runpy.run_path(str(Path(__file__).parents[2] / "examples" / "trace_costs.py"))

pytestmark = pytest.mark.filterwarnings(
    # OpenInference asks whether a message's text can be called.
    "ignore:Calling .text:DeprecationWarning"
)


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


# --- OpenTelemetry spans of the example -----------------------------------------------------------


@pytest.fixture
def exporter() -> InMemorySpanExporter:
    return InMemorySpanExporter()


@pytest.fixture
def provider(exporter: InMemorySpanExporter) -> TracerProvider:
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    return provider


def exported(exporter: InMemorySpanExporter) -> str:
    """Give everything that leaves the process, as JSON."""
    return f"[{','.join(span.to_json() for span in exporter.get_finished_spans())}]"


def used(exporter: InMemorySpanExporter) -> list[dict[str, Any]]:
    """Give the attributes of each span."""
    return [dict(span.attributes or {}) for span in exporter.get_finished_spans()]


def bill(gateway: RunningGateway) -> list[dict[str, Any]]:
    """Give the attributes that the spans of what was billed should have."""
    return [
        {
            "gen_ai.usage.input_tokens": charge.prompt_tokens,
            "gen_ai.usage.output_tokens": charge.completion_tokens,
            "gen_ai.usage.cost": charge.cost,
        }
        for charge in gateway.account.charges
    ]


@pytest.mark.parametrize("colour", COLOURS)
def test_each_call_has_a_span_with_its_cost_and_without_texts(
    colour: str,
    llm: ChatSegmindLlama,
    gateway: RunningGateway,
    provider: TracerProvider,
    exporter: InMemorySpanExporter,
) -> None:
    spans = EXAMPLE["CostSpans"](provider.get_tracer("test"))
    chain = ChatPromptTemplate.from_template("A joke on {topic}!") | llm | StrOutputParser()
    with provider.get_tracer("test").start_as_current_span("request") as request:
        assert run(colour, chain, CHAIN_INPUT, callbacks=[spans]) == ANSWER
        list(llm.stream("hi", {"callbacks": [spans]}))
    *calls, _ = exporter.get_finished_spans()
    assert [call.parent for call in calls] == [request.get_span_context()] * 2
    assert used(exporter)[:2] == bill(gateway)
    for secret in (SECRET, ANSWER, KEY):
        assert secret not in exported(exporter)


def test_an_answer_from_the_cache_costs_nothing_in_its_span_either(
    llm: ChatSegmindLlama,
    gateway: RunningGateway,
    provider: TracerProvider,
    exporter: InMemorySpanExporter,
) -> None:
    spans = EXAMPLE["CostSpans"](provider.get_tracer("test"))
    cached = llm.model_copy(update={"cache": InMemoryCache(), "callbacks": [spans]})
    cached.invoke("hi")
    cached.invoke("hi")
    assert [each["gen_ai.usage.cost"] for each in used(exporter)] == [
        gateway.account.charges[0].cost,
        0.0,
    ]


def test_the_span_of_a_failed_call_names_the_error(
    provider: TracerProvider, exporter: InMemorySpanExporter
) -> None:
    spans = EXAMPLE["CostSpans"](provider.get_tracer("test"))
    refusal = http({"error": f"{KEY} is no key"}, 401)
    with faults(refusal) as server, pytest.raises(SegmindAuthenticationError):
        model(server, callbacks=[spans]).invoke(SECRET)
    (span,) = exporter.get_finished_spans()
    assert (span.status.status_code, span.status.description) == (
        StatusCode.ERROR,
        "SegmindAuthenticationError",
    )
    assert KEY not in exported(exporter)


# --- OpenTelemetry spans of an instrumentation ----------------------------------------------------

HIDDEN = {"OPENINFERENCE_HIDE_INPUTS": "true", "OPENINFERENCE_HIDE_OUTPUTS": "true"}


@contextmanager
def instrumented(provider: TracerProvider) -> Iterator[None]:
    """Let OpenInference make spans meanwhile."""
    LangChainInstrumentor().instrument(tracer_provider=provider)
    try:
        yield
    finally:
        LangChainInstrumentor().uninstrument()


@pytest.mark.parametrize("colour", COLOURS)
def test_openinference_has_the_model_the_tokens_and_the_cost_in_what_was_put_out(
    colour: str,
    llm: ChatSegmindLlama,
    gateway: RunningGateway,
    provider: TracerProvider,
    exporter: InMemorySpanExporter,
) -> None:
    with instrumented(provider):
        message = run(colour, llm.bind_tools([get_weather]), "Is it wet in Oslo?")
        assert run(colour, get_weather, message.tool_calls[0]).content == "It is wet in Oslo."
    (call,) = [each for each in used(exporter) if "llm.model_name" in each]
    (charge,) = gateway.account.charges
    assert call["llm.model_name"] == "llama-v3p1-70b-instruct"
    assert call["llm.token_count.prompt"] == charge.prompt_tokens
    assert call["llm.token_count.completion"] == charge.completion_tokens
    assert json.loads(call["output.value"])["llm_output"]["credits"]["cost"] == charge.cost
    assert KEY not in exported(exporter)


@pytest.mark.parametrize("colour", COLOURS)
def test_openinference_keeps_model_and_tokens_where_texts_are_hidden(
    colour: str,
    llm: ChatSegmindLlama,
    provider: TracerProvider,
    exporter: InMemorySpanExporter,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Without a prompt template, whose span OpenInference does not hide."""
    for name, value in HIDDEN.items():
        monkeypatch.setenv(name, value)
    with instrumented(provider):
        assert run(colour, llm | StrOutputParser(), SECRET) == ANSWER
    (call,) = [each for each in used(exporter) if "llm.model_name" in each]
    assert call["llm.token_count.total"] > 0
    assert SECRET not in exported(exporter)
    assert ANSWER not in exported(exporter)


@pytest.mark.parametrize("colour", COLOURS)
def test_a_failed_call_shows_no_key_that_the_server_echoes(
    colour: str, provider: TracerProvider, exporter: InMemorySpanExporter
) -> None:
    refusal = http({"error": f"{KEY} is no key"}, 401)
    with (
        instrumented(provider),
        faults(refusal) as server,
        pytest.raises(SegmindAuthenticationError),
    ):
        run(colour, model(server), SECRET)
    assert "is no key" in exported(exporter)
    assert KEY not in exported(exporter)


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


def ingest(received: Received, _: Wire) -> bytes:
    """Take what a LangSmith client posts."""
    return http({"batch_ingest_config": INGESTION} if received.line.startswith("GET") else {})


@pytest.fixture
def langsmith() -> Iterator[FaultServer]:
    with faults(ingest) as server:
        yield server


def posted_run(langsmith: FaultServer) -> dict[str, Any]:
    """Give the model's run, what came later merged into what came first."""
    found: dict[str, dict[str, Any]] = {}
    for received in langsmith.requests:
        batch = received.json if received.body else {}
        for each in (*batch.get("post", ()), *batch.get("patch", ())):
            found.setdefault(each["id"], {}).update(each)
    (of_model,) = [each for each in found.values() if each.get("run_type") == "llm"]
    return of_model


def trace(
    langsmith: FaultServer, llm: ChatSegmindLlama, colour: str, **options: Any
) -> dict[str, Any]:
    """Run a chain that LangSmith traces, and give the model's run."""
    client = Client(api_url=langsmith.url, api_key="lsv2_x", **options)
    chain = ChatPromptTemplate.from_template("A joke on {topic}!") | llm | StrOutputParser()
    assert run(colour, chain, CHAIN_INPUT, callbacks=[LangChainTracer(client=client)]) == ANSWER
    client.flush()
    return posted_run(langsmith)


def tokens_of(gateway: RunningGateway) -> dict[str, int]:
    (charge,) = gateway.account.charges
    tokens = {"input_tokens": charge.prompt_tokens, "output_tokens": charge.completion_tokens}
    return {**tokens, "total_tokens": sum(tokens.values())}


@pytest.mark.parametrize("colour", COLOURS)
def test_langsmith_has_model_tokens_and_cost(
    colour: str, langsmith: FaultServer, llm: ChatSegmindLlama, gateway: RunningGateway
) -> None:
    posted = trace(langsmith, llm, colour)
    metadata = posted["extra"]["metadata"]
    assert metadata["ls_provider"] == "segmind"
    assert metadata["ls_model_name"] == "llama-v3p1-70b-instruct"
    assert metadata["ls_temperature"] == 0.5
    assert metadata["usage_metadata"] == tokens_of(gateway)
    message = posted["outputs"]["generations"][0][0]["message"]["kwargs"]
    assert message["response_metadata"]["credits"]["cost"] == gateway.account.charges[0].cost
    assert message["response_metadata"]["request_id"] == gateway.account.charges[0].request_id
    assert not [received for received in langsmith.requests if KEY.encode() in received.body]


@pytest.mark.parametrize("colour", COLOURS)
def test_langsmith_can_add_up_costs_where_texts_are_hidden(
    colour: str, langsmith: FaultServer, llm: ChatSegmindLlama, gateway: RunningGateway
) -> None:
    posted = trace(langsmith, llm, colour, hide_inputs=True, hide_outputs=EXAMPLE["keep_costs"])
    cost = gateway.account.charges[0].cost
    assert posted["outputs"] == {"usage_metadata": {**tokens_of(gateway), "total_cost": cost}}
    everything = b"".join(received.body for received in langsmith.requests)
    assert SECRET.encode() not in everything
    assert ANSWER.encode() not in everything


def test_what_a_subclass_adds_to_dict_is_traced(gateway: RunningGateway) -> None:
    """langchain-core has deprecated `dict`, and keeps to what it says."""

    class Tagged(ChatSegmindLlama):
        def dict(self, **_: Any) -> dict[str, Any]:
            return {"team": "umbrellas"}

    with collect_runs() as runs, Tagged(api_key=KEY, base_url=gateway.url) as llm:
        llm.invoke("hi")
    assert (runs.traced_runs[0].extra or {})["invocation_params"]["team"] == "umbrellas"
