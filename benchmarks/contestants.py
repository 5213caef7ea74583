"""Everyone who is measured, each built with nothing but a key and an address."""

from __future__ import annotations

import asyncio
import json
from contextlib import aclosing
from dataclasses import dataclass
from functools import partial
from itertools import count
from pathlib import Path
from tempfile import mkdtemp
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from langchain_core.callbacks import AsyncCallbackManagerForLLMRun, CallbackManagerForLLMRun
    from langchain_core.language_models import BaseChatModel
    from langchain_core.messages import BaseMessage

    from langchain_segmind import ChatSegmindLlama

PROMPT = "Tell me a joke on cats"
KEY = "SG_0123456789abcdef"
MODEL = "llama-v3p1-70b-instruct"
BODY = {"messages": [{"role": "user", "content": PROMPT}]}
HEADERS = {"x-api-key": KEY}

OURS = "langchain-segmind"
PEERS = ("langchain-mistralai", "langchain-fireworks", "langchain-openai", "langchain-groq")
CORE = "core model that does nothing"
RAW = ("httpx", "httpx over aiohttp", "aiohttp")
JOURNAL = f"{OURS}, journal"
QUEUE = f"{OURS}, queue"
"""With a journal, too, as the two below."""
BATCH = "batch.run"
BATCH_QUEUE = "batch.run, queue"
LITELLM = "litellm.batch_completion"
DISTILABEL = "distilabel's OpenAILLM"
ROW_PEERS = (LITELLM, DISTILABEL)


@dataclass
class Contestant:
    """One way to ask for a completion."""

    call: Callable[[], object] | None = None
    acall: Callable[[], Awaitable[object]] | None = None
    model: BaseChatModel | None = None
    batch: Callable[[int], object] | None = None
    """Answers so many rows, or raises."""


def build(name: str, base_url: str) -> Contestant:
    """Build a contestant; its imports happen here, so that only its own count."""
    if name.endswith(f" + {CORE}"):
        return _in_turn(build(name.removesuffix(f" + {CORE}"), base_url), build(CORE, base_url))
    if name in _RAW:
        return _RAW[name](f"{base_url}/v1/{MODEL}")
    if name in _ROWS:
        return _ROWS[name](base_url)
    model = _MODELS[name](base_url)
    return Contestant(lambda: model.invoke(PROMPT), lambda: model.ainvoke(PROMPT), model)


# --- Chat models -------------------------------------------------------------------------------


def _segmind(base_url: str) -> BaseChatModel:
    from langchain_segmind import ChatSegmindLlama

    return ChatSegmindLlama(api_key=KEY, base_url=base_url)


def _mistralai(base_url: str) -> BaseChatModel:
    from langchain_mistralai import ChatMistralAI

    return ChatMistralAI(model=MODEL, api_key=KEY, base_url=f"{base_url}/v1")


def _fireworks(base_url: str) -> BaseChatModel:
    from langchain_fireworks import ChatFireworks

    return ChatFireworks(model_name=MODEL, api_key=KEY, base_url=f"{base_url}/v1")


def _openai(base_url: str) -> BaseChatModel:
    from langchain_openai import ChatOpenAI

    return ChatOpenAI(model=MODEL, api_key=KEY, base_url=f"{base_url}/v1")


def _groq(base_url: str) -> BaseChatModel:
    from langchain_groq import ChatGroq

    return ChatGroq(model_name=MODEL, api_key=KEY, base_url=base_url)


def _nothing(_base_url: str) -> BaseChatModel:
    from langchain_core.language_models import BaseChatModel
    from langchain_core.messages import AIMessage, AIMessageChunk
    from langchain_core.outputs import ChatGeneration, ChatGenerationChunk, ChatResult

    answer = ChatResult(generations=[ChatGeneration(message=AIMessage("A cat sat."))])

    class Nothing(BaseChatModel):
        @property
        def _llm_type(self) -> str:
            return "nothing"

        # Spelled out, as in any model: langchain-core inspects the signature at each call.
        def _generate(
            self,
            messages: list[BaseMessage],
            stop: list[str] | None = None,
            run_manager: CallbackManagerForLLMRun | None = None,
            **kwargs: Any,
        ) -> ChatResult:
            return answer

        async def _agenerate(
            self,
            messages: list[BaseMessage],
            stop: list[str] | None = None,
            run_manager: AsyncCallbackManagerForLLMRun | None = None,
            **kwargs: Any,
        ) -> ChatResult:
            return answer

    class Streaming(Nothing):
        def _stream(self, *_: Any, **__: Any) -> Any:
            for _each in range(500):
                yield ChatGenerationChunk(message=AIMessageChunk(content=" word"))
            yield ChatGenerationChunk(message=AIMessageChunk(content="", chunk_position="last"))

    return Streaming() if _base_url.endswith("stream") else Nothing()


_MODELS: dict[str, Callable[[str], BaseChatModel]] = {
    OURS: _segmind,
    "langchain-mistralai": _mistralai,
    "langchain-fireworks": _fireworks,
    "langchain-openai": _openai,
    "langchain-groq": _groq,
    CORE: _nothing,
}


def _in_turn(first: Contestant, second: Contestant) -> Contestant:
    """Do one after the other: together they cost more than each alone, whose code stays cached."""

    def call() -> None:
        assert first.call is not None
        assert second.call is not None
        first.call()
        second.call()

    async def acall() -> None:
        assert first.acall is not None
        assert second.acall is not None
        await first.acall()
        await second.acall()

    return Contestant(call, acall)


# --- Rows, each paid for once -------------------------------------------------------------------


def _journaled(base_url: str, *, queue: bool) -> ChatSegmindLlama:
    from langchain_segmind import ChatSegmindLlama

    journal = Path(mkdtemp()) / "journal.sqlite"
    return ChatSegmindLlama(api_key=KEY, base_url=base_url, journal=journal, queue=queue)


def _each_once(base_url: str, *, queue: bool) -> Contestant:
    model, keys = _journaled(base_url, queue=queue), map(str, count())
    return Contestant(
        lambda: model.invoke(PROMPT, idempotency_key=next(keys)),
        lambda: model.ainvoke(PROMPT, idempotency_key=next(keys)),
    )


def _batch(base_url: str, *, queue: bool) -> Contestant:
    from langchain_segmind import batch

    model, ids = _journaled(base_url, queue=queue), map(str, count())
    runner = asyncio.Runner()

    async def answer(rows: int) -> None:
        requests = ({"id": next(ids), "prompt": PROMPT} for _ in range(rows))
        async with aclosing(batch.run(requests, model)) as results:
            async for result in results:
                if result.error is not None:
                    raise result.error

    return Contestant(batch=lambda rows: runner.run(answer(rows)))


def _litellm(base_url: str) -> Contestant:
    import litellm

    def answer(rows: int) -> None:
        prompts = [BODY["messages"]] * rows
        answers = litellm.batch_completion(
            f"openai/{MODEL}", prompts, api_base=f"{base_url}/v1", api_key=KEY
        )
        for error in answers:
            if isinstance(error, Exception):
                raise error

    return Contestant(batch=answer)


def _distilabel(base_url: str) -> Contestant:
    from distilabel.models import OpenAILLM

    model = OpenAILLM(model=MODEL, base_url=f"{base_url}/v1", api_key=KEY)
    model.load()

    def answer(rows: int) -> None:
        answers = model.generate_outputs([BODY["messages"]] * rows)
        if not all(each["generations"][0] for each in answers):
            raise ValueError("a row has no answer")

    return Contestant(batch=answer)


_ROWS: dict[str, Callable[[str], Contestant]] = {
    JOURNAL: partial(_each_once, queue=False),
    QUEUE: partial(_each_once, queue=True),
    BATCH: partial(_batch, queue=False),
    BATCH_QUEUE: partial(_batch, queue=True),
    LITELLM: _litellm,
    DISTILABEL: _distilabel,
}


# --- Raw clients -------------------------------------------------------------------------------


def _httpx(url: str) -> Contestant:
    import httpx

    client = httpx.Client(timeout=120)
    # A thousand in flight need as many connections; httpx's own limit is 100.
    limits = httpx.Limits(max_connections=None, max_keepalive_connections=None)
    aclient = httpx.AsyncClient(timeout=120, limits=limits)
    return Contestant(
        lambda: client.post(url, json=BODY, headers=HEADERS),
        lambda: aclient.post(url, json=BODY, headers=HEADERS),
    )


def _httpx2(url: str) -> Contestant:
    import httpx2

    client = httpx2.Client(timeout=120)
    return Contestant(lambda: client.post(url, json=BODY, headers=HEADERS))


def _httpx_over_aiohttp(url: str) -> Contestant:
    import aiohttp
    import httpx
    from httpx_aiohttp import AiohttpTransport

    def session() -> aiohttp.ClientSession:
        return aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0))

    client = httpx.AsyncClient(transport=AiohttpTransport(client=session), timeout=120)
    return Contestant(acall=lambda: client.post(url, json=BODY, headers=HEADERS))


def _aiohttp(url: str) -> Contestant:
    import aiohttp

    sessions: dict[asyncio.AbstractEventLoop, aiohttp.ClientSession] = {}

    async def acall() -> object:
        loop = asyncio.get_running_loop()
        if loop not in sessions:
            sessions[loop] = aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0))
        async with sessions[loop].post(url, data=json.dumps(BODY), headers=HEADERS) as answer:
            return await answer.read()

    return Contestant(acall=acall)


_RAW: dict[str, Callable[[str], Contestant]] = {
    "httpx": _httpx,
    "httpx2": _httpx2,
    "httpx over aiohttp": _httpx_over_aiohttp,
    "aiohttp": _aiohttp,
}
