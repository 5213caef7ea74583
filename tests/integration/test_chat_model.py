"""What LangChain's users do with a chat model, over a real socket."""

from __future__ import annotations

import asyncio
import warnings
from typing import TYPE_CHECKING, Any

import pytest
from langchain_core.caches import InMemoryCache
from langchain_core.callbacks import BaseCallbackHandler, get_usage_metadata_callback
from langchain_core.load import dumps, loads
from langchain_core.messages import AIMessage, AIMessageChunk, HumanMessage, trim_messages
from langchain_core.output_parsers import StrOutputParser
from langchain_core.outputs import ChatGeneration, ChatResult
from langchain_core.prompts import ChatPromptTemplate
from langchain_core.runnables import ConfigurableField
from pydantic import ValidationError

from langchain_segmind import (
    ChatSegmindLlama,
    SegmindAuthenticationError,
    SegmindInvalidInputError,
    SegmindModelNotFoundError,
)
from langchain_segmind.gateway import RunningGateway, ScriptedEngine

if TYPE_CHECKING:
    from uuid import UUID

    from langchain_core.outputs import LLMResult

KEY = "SG_0123456789abcdef"


def test_an_answer_carries_usage_credits_and_where_it_came_from(
    llm: ChatSegmindLlama, gateway: RunningGateway
) -> None:
    reply = llm.invoke("Hello there")
    (charge,) = gateway.account.charges
    assert reply.content == "You said: Hello there"
    assert reply.usage_metadata is not None
    assert reply.usage_metadata["input_tokens"] == charge.prompt_tokens
    metadata = reply.response_metadata
    assert metadata["model_name"] == "llama-v3p1-70b-instruct"
    assert metadata["model_provider"] == "segmind"
    assert metadata["finish_reason"] == "stop"
    assert metadata["request_id"] == charge.request_id
    assert metadata["generation_time"] >= 0
    assert metadata["credits"] == {
        "remaining": pytest.approx(charge.remaining),
        "cost": pytest.approx(charge.cost),
    }


@pytest.mark.parametrize("streaming", [False, True])
@pytest.mark.parametrize("generate", ["generate", "agenerate"])
async def test_credits_are_in_generation_info_and_llm_output_too(
    llm: ChatSegmindLlama, generate: str, *, streaming: bool
) -> None:
    """With several prompts, costs add up and the last balance counts."""
    llm.streaming = streaming
    result = getattr(llm, generate)([[HumanMessage("a")], [HumanMessage("b c")]])
    result = await result if generate == "agenerate" else result
    infos = [generations[0].generation_info or {} for generations in result.generations]
    costs = [info["credits"]["cost"] for info in infos]
    assert result.llm_output.keys() == {"model_name", "credits", "token_usage"}
    assert result.llm_output["credits"]["cost"] == pytest.approx(sum(costs))
    assert result.llm_output["credits"]["remaining"] == infos[1]["credits"]["remaining"]


@pytest.mark.parametrize("colour", ["invoke", "ainvoke"])
async def test_callbacks_are_told_of_the_credits_of_a_streamed_answer_too(
    llm: ChatSegmindLlama, colour: str
) -> None:
    outputs: list[Any] = []

    class Listener(BaseCallbackHandler):
        def on_llm_end(self, response: LLMResult, **_: Any) -> None:
            outputs.append(response.llm_output)

    llm.streaming = True
    reply = getattr(llm, colour)("hello", {"callbacks": [Listener()]})
    reply = await reply if colour == "ainvoke" else reply
    (output,) = outputs
    assert output["credits"] == reply.response_metadata["credits"]
    assert output["token_usage"] == reply.usage_metadata


def test_each_choice_becomes_a_generation(gateway: RunningGateway, llm: ChatSegmindLlama) -> None:
    choices = [{"message": {"role": "assistant", "content": text}} for text in ("a", None)]
    parts = [{"type": "text", "text": "b"}, {"type": "text", "text": "c"}]
    choices.append({"message": {"role": "assistant", "content": parts}})  # type: ignore[dict-item]
    gateway.engine = ScriptedEngine(lambda _: {"choices": choices})
    result = llm.generate([[HumanMessage("x")]], n=3)
    assert [generation.text for generation in result.generations[0]] == ["a", "", "bc"]


def test_a_stream_is_one_chunk_with_everything(llm: ChatSegmindLlama) -> None:
    (chunk,) = llm.stream("Hello")
    assert isinstance(chunk, AIMessageChunk)
    assert chunk.content == "You said: Hello"
    assert chunk.usage_metadata is not None
    assert chunk.response_metadata["credits"]["cost"] > 0
    assert chunk.chunk_position == "last"


async def test_every_way_to_ask_gives_the_same_answer(llm: ChatSegmindLlama) -> None:
    expected = "You said: hi"
    assert llm.invoke("hi").content == expected
    assert (await llm.ainvoke("hi")).content == expected
    assert [c.content async for c in llm.astream("hi")] == [expected]
    assert [r.content for r in llm.batch(["hi", "hi"])] == [expected] * 2
    assert [r.content for r in await llm.abatch(["hi", "hi"])] == [expected] * 2
    events = [event async for event in llm.astream_events("hi")]
    assert events[-1]["data"]["output"].content == expected
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # langchain-core marks v3 as beta.
        assert str(llm.stream_events("hi", version="v3").text) == expected
    chain = ChatPromptTemplate.from_template("{word}") | llm | StrOutputParser()
    assert chain.invoke({"word": "hi"}) == expected
    await llm.aclose()


async def test_awaiting_does_not_block_the_loop(
    gateway: RunningGateway, llm: ChatSegmindLlama
) -> None:
    """Fifty calls wait side by side for an engine that answers only when all of them are there."""
    arrived = 0
    everybody: asyncio.Event | None = None

    async def meet(_: dict[str, Any]) -> str:
        nonlocal arrived, everybody
        everybody = everybody or asyncio.Event()
        arrived += 1
        if arrived == 50:
            everybody.set()
        await asyncio.wait_for(everybody.wait(), 20)
        return "together"

    gateway.engine = ScriptedEngine(meet)
    replies = await asyncio.gather(*(llm.ainvoke("x") for _ in range(50)))
    assert {reply.content for reply in replies} == {"together"}
    await llm.aclose()


def test_parameters_of_one_call_win_over_the_models(
    gateway: RunningGateway, llm: ChatSegmindLlama
) -> None:
    llm.invoke(
        "hi",
        model="llama-v3p1-8b-instruct",
        temperature=0.5,
        max_tokens=7,
        top_p=0.9,
        seed=1,
        stop=["END"],
        presence_penalty=0.1,
    )
    (post,) = gateway.account.posts
    assert post.path == "/v1/llama-v3p1-8b-instruct"
    assert post.json() == {
        "messages": [{"role": "user", "content": "hi"}],
        "temperature": 0.5,
        "max_tokens": 7,
        "top_p": 0.9,
        "seed": 1,
        "stop": ["END"],
        "presence_penalty": 0.1,
    }


@pytest.mark.parametrize(
    "wrong",
    [
        {"temperature": 3},
        {"temperature": float("nan")},
        {"max_tokens": 0},
        {"top_p": 0},
        {"seed": "x"},
        {"stop": [""]},
        {"model": "../v2/x"},
        {"api_key": KEY},
        {"base_url": "http://x"},
    ],
)
def test_bad_parameters_of_one_call_cost_nothing(
    gateway: RunningGateway, llm: ChatSegmindLlama, wrong: dict[str, Any]
) -> None:
    with pytest.raises(SegmindInvalidInputError):
        llm.invoke("hi", **wrong)
    assert gateway.account.post_count == 0


@pytest.mark.parametrize("prompt", [[], [HumanMessage("\ud800")]])
def test_bad_prompts_cost_nothing(
    gateway: RunningGateway, llm: ChatSegmindLlama, prompt: list[HumanMessage]
) -> None:
    with pytest.raises(SegmindInvalidInputError):
        llm.invoke(prompt)
    assert gateway.account.post_count == 0


@pytest.mark.parametrize(
    "wrong",
    [
        {"temperature": -1},
        {"max_tokens": 0},
        {"top_p": 1.1},
        {"max_retries": -1},
        {"timeout": 0},
        {"timeout": (1, 2, 3, 4, 5)},
        {"base_url": "ftp://x"},
        {"base_url": "api.segmind.com"},
        {"base_url": "http://user:secret@x"},
        {"base_url": "http://x/?a=b"},
        {"model": "a/b"},
        {"model": ".."},
        {"default_headers": {"x-api-key": "other"}},
        {"default_headers": {"a b": "c"}},
        {"default_headers": {"a": "b\r\nc: d"}},
    ],
)
def test_bad_settings_are_refused_at_construction(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        ChatSegmindLlama(api_key=KEY, **wrong)


def test_arguments_have_names() -> None:
    """What stands without one may be a key: it is not repeated."""
    with pytest.raises(TypeError, match=r"by name, as ChatSegmindLlama\(model=") as caught:
        ChatSegmindLlama(KEY)  # type: ignore[call-arg]
    assert KEY not in str(caught.value)


@pytest.mark.parametrize("queue", [False, True])
@pytest.mark.parametrize("way", ["invoke", "stream"])
def test_a_model_by_another_name_is_answered_with_its_own(
    way: str, queue: bool, gateway: RunningGateway
) -> None:
    """By Segmind's 404, since Segmind may know a name that is not known here."""
    given: dict[str, Any] = {"api_key": gateway.api_key, "base_url": gateway.url, "queue": queue}
    with ChatSegmindLlama(model="Llama-3.1-70B-Instruct", **given) as llm:
        told = r"answered 404.*Did you mean 'llama-v3p1-70b-instruct'\?"
        with pytest.raises(SegmindModelNotFoundError, match=told):
            list(getattr(llm, way)("hi"))
    with pytest.raises(ValidationError, match=r"Did you mean 'llama-v3p1-8b-instruct'\?"):
        ChatSegmindLlama(model="meta-llama/Llama-3.1-8B-Instruct", **given)
    told = r"Did you mean 'llama-v3p1-8b-instruct'\? Nothing was sent\.$"
    with pytest.raises(SegmindInvalidInputError, match=told):
        llm.invoke("hi", model="meta-llama/Llama-3.1-8B-Instruct")


@pytest.mark.parametrize(
    "prompt", ["", " ", [], [("system", ""), ("user", "")], [("system", "Be brief."), ("user", "")]]
)
def test_an_empty_prompt_is_not_paid_for(
    prompt: Any, llm: ChatSegmindLlama, gateway: RunningGateway
) -> None:
    with pytest.raises(SegmindInvalidInputError, match=r"empty|no message"):
        llm.invoke(prompt)
    assert gateway.account.post_count == 0
    assert llm.get_num_tokens_from_messages([HumanMessage("")]) > 0


@pytest.mark.parametrize("key", ["", " ", None])
def test_without_a_key_the_error_says_what_to_set(key: str | None) -> None:
    with pytest.raises(SegmindAuthenticationError, match="SEGMIND_API_KEY"):
        ChatSegmindLlama(api_key=key)


def test_an_unknown_parameter_is_warned_about_and_sent_along(gateway: RunningGateway) -> None:
    with pytest.warns(UserWarning, match="the body of every call") as told:
        llm = ChatSegmindLlama(
            api_key=gateway.api_key,
            base_url=gateway.url,
            top_k=1,  # type: ignore[call-arg]
        )
    assert llm.model_kwargs == {"top_k": 1}
    assert told[0].filename == __file__
    llm.close()


class Fixed(ChatSegmindLlama):
    """A subclass that answers by itself, as fakes do: it has no credits to tell of."""

    def _generate(self, *_: Any, **__: Any) -> ChatResult:
        return ChatResult(generations=[ChatGeneration(message=AIMessage("fixed"))])


def test_a_subclass_may_answer_without_metadata() -> None:
    result = Fixed(api_key=KEY).generate([[HumanMessage("hi")], [HumanMessage("ho")]])
    assert [generations[0].text for generations in result.generations] == ["fixed", "fixed"]
    assert Fixed(api_key=KEY).invoke("hi").content == "fixed"


def test_aliases_and_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SEGMIND_BASE_URL", "http://127.0.0.1:9/v1/")
    llm = ChatSegmindLlama(model_name="llama-v3-8b-instruct", segmind_api_key=KEY)
    assert (llm.model, llm.base_url) == ("llama-v3-8b-instruct", "http://127.0.0.1:9")
    assert llm.api_key is not None
    assert llm.api_key.get_secret_value() == KEY


def test_stop_is_enforced_even_where_the_model_ignores_it(
    gateway: RunningGateway, llm: ChatSegmindLlama
) -> None:
    gateway.engine = ScriptedEngine(lambda _: "one two END three")
    reply = llm.invoke("x", stop=["END", "three"])
    assert reply.content == "one two "
    assert reply.response_metadata["finish_reason"] == "stop"


def test_a_cached_answer_costs_nothing_and_says_so(
    gateway: RunningGateway, llm: ChatSegmindLlama
) -> None:
    """Other settings are other answers."""
    cached = llm.model_copy(update={"cache": InMemoryCache()})
    first, again = cached.invoke("x"), cached.invoke("x")
    assert first.response_metadata["credits"]["cost"] > 0
    assert again.response_metadata["credits"] == {"remaining": None, "cost": 0.0}
    assert again.content == first.content
    cached.invoke("x", temperature=0.5)
    cached.model_copy(update={"model": "llama-v3p1-8b-instruct"}).invoke("x")
    assert gateway.account.post_count == 3


def test_fields_can_be_configured_per_call(gateway: RunningGateway, llm: ChatSegmindLlama) -> None:
    field = ConfigurableField(id="t")
    configurable = llm.configurable_fields(temperature=field)
    configurable.invoke("x", config={"configurable": {"t": 0.25}})
    assert gateway.account.posts[0].json()["temperature"] == 0.25


class Seen(BaseCallbackHandler):
    """Keeps what tracers are told."""

    def __init__(self) -> None:
        self.metadata: dict[str, Any] = {}
        self.params: dict[str, Any] = {}

    def on_chat_model_start(
        self, serialized: dict[str, Any], messages: Any, *, run_id: UUID, **kwargs: Any
    ) -> None:
        self.metadata = kwargs["metadata"]
        self.params = kwargs["invocation_params"]


def test_tracers_are_told_model_and_provider(llm: ChatSegmindLlama) -> None:
    seen = Seen()
    llm.invoke("x", config={"callbacks": [seen]}, model="llama-v3p1-8b-instruct", temperature=0.5)
    assert seen.metadata["ls_provider"] == "segmind"
    assert seen.metadata["ls_model_name"] == "llama-v3p1-8b-instruct"
    assert seen.metadata["ls_temperature"] == 0.5
    assert seen.metadata["lc_versions"].keys() >= {"langchain-core", "langchain-segmind"}
    assert KEY not in str(seen.metadata) + str(seen.params)


def test_usage_is_counted_by_langchains_own_callback(llm: ChatSegmindLlama) -> None:
    with get_usage_metadata_callback() as usage:
        llm.invoke("one")
        llm.invoke("two")
    assert usage.usage_metadata["llama-v3p1-70b-instruct"]["input_tokens"] > 1


@pytest.mark.filterwarnings("ignore::langchain_core._api.LangChainBetaWarning")
def test_a_model_survives_dumps_and_loads(monkeypatch: pytest.MonkeyPatch) -> None:
    """A class that langchain-core does not list by name is loaded by naming it."""
    monkeypatch.setenv("SEGMIND_API_KEY", KEY)
    llm = ChatSegmindLlama(temperature=0.5, timeout=(1, 2), model_kwargs={"n": 2})
    text = dumps(llm)
    assert KEY not in text
    loaded = loads(
        text,
        valid_namespaces=["langchain_segmind"],
        allowed_objects=[ChatSegmindLlama],
        secrets_from_env=True,
    )
    assert loaded.asdict() == llm.asdict()
    assert loaded.api_key == llm.api_key


def test_tokens_are_counted_without_a_download(llm: ChatSegmindLlama) -> None:
    history = [HumanMessage("word " * 50), AIMessage("short"), HumanMessage("end")]
    assert 50 <= llm.get_num_tokens("word " * 50) <= 60
    kept = trim_messages(history, max_tokens=30, token_counter=llm, strategy="last")
    assert [message.content for message in kept] == ["short", "end"]


@pytest.mark.parametrize(
    ("model", "images", "context"),
    [
        ("llama-v3p1-70b-instruct", False, 131_072),
        ("llama-v3p2-11b-vision-instruct", True, 131_072),
    ],
)
def test_profiles_say_what_a_model_can_do(model: str, images: bool, context: int) -> None:
    profile = ChatSegmindLlama(api_key=KEY, model=model).profile
    assert profile is not None
    assert (profile["image_inputs"], profile["max_input_tokens"]) == (images, context)
    assert profile["tool_calling"]
    assert not profile["structured_output"]


def test_a_vision_model_is_sent_its_image(gateway: RunningGateway) -> None:
    uri = "data:image/png;base64,iVBORw0KGgo="
    block = {"type": "image", "base64": "iVBORw0KGgo=", "mime_type": "image/png"}
    with ChatSegmindLlama(
        api_key=gateway.api_key, base_url=gateway.url, model="llama-v3p2-90b-vision-instruct"
    ) as llm:
        llm.invoke([HumanMessage(["What is it?", block])])
    (message,) = gateway.account.posts[0].json()["messages"]
    assert message["content"] == [
        {"type": "text", "text": "What is it?"},
        {"type": "image_url", "image_url": {"url": uri}},
    ]
