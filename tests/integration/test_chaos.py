"""Two thousand queued prompts while a third of all answers breaks; then a killed process."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from textwrap import dedent
from typing import TYPE_CHECKING, Any

import pytest

from langchain_segmind import ChatSegmindLlama
from langchain_segmind.gateway import Faults, Settings, serve
from tests.servers import wait_for

if TYPE_CHECKING:
    from langchain_core.language_models import LanguageModelInput

    from langchain_segmind.gateway import Post, RunningGateway

PROMPTS = 2000
BROKEN_POSTS = Faults(error_rate=1 / 3)
"""Answered errors only: a submit whose answer is lost is not sent again, by rule."""
BROKEN_GETS = Faults(
    error_rate=1 / 15,
    drop_before_rate=1 / 15,
    drop_after_rate=1 / 15,
    half_body_rate=1 / 15,
    malformed_rate=1 / 15,
)


@pytest.fixture(autouse=True)
def _hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    """Wait less, and poll more, than is polite."""
    monkeypatch.setattr("langchain_segmind._protocol.retry.POLLS_PER_SECOND", 400)
    monkeypatch.setattr("langchain_segmind._protocol.retry.BASE_DELAY", 0.2)


async def test_every_prompt_is_answered_and_paid_once() -> None:
    """2,000 results, each its own prompt's, and 2,000 billed jobs with 2,000 bodies."""
    prompts: list[LanguageModelInput] = [f"prompt {number}" for number in range(PROMPTS)]
    with serve(Settings(post_faults=BROKEN_POSTS, poll_faults=BROKEN_GETS)) as gateway:
        ids: list[str] = []
        llm = model(gateway, on_submit=ids.append)
        answers = await llm.abatch(prompts, {"max_concurrency": 100})
        await llm.aclose()
    assert [answer.content for answer in answers] == [f"You said: {each}" for each in prompts]
    assert sorted(gateway.account.billed_ids) == sorted(ids)
    paid = [body["messages"][0]["content"] for body in gateway.account.billed_bodies]
    assert sorted(paid) == sorted(map(str, prompts))
    assert gateway.account.post_count > PROMPTS * 1.3, "too few POSTs broke to show anything"


WORKER = """
    import sys
    from langchain_segmind import ChatSegmindLlama
    from langchain_segmind._protocol import retry

    retry.BASE_DELAY = 0.1
    url, key, path = sys.argv[1:]
    with open(path, "a", buffering=1) as kept:
        llm = ChatSegmindLlama(
            base_url=url, api_key=key, queue=True, max_retries=30, poll_interval=0.1,
            on_submit=lambda request_id: kept.write(request_id + "\\n"),
        )
        llm.batch([f"prompt {number}" for number in range(400)], {"max_concurrency": 16})
"""


def test_what_a_killed_process_had_submitted_is_recovered_by_id(tmp_path: Path) -> None:
    """The hook wrote the ids down; another process fetches every answer, and pays nothing."""
    kept = tmp_path / "ids"
    kept.touch()
    with serve(Settings(post_faults=BROKEN_POSTS, poll_faults=BROKEN_GETS)) as gateway:
        worker = start(gateway, kept)
        try:
            wait_for(lambda: len(kept.read_text().split()) >= 50)
        finally:
            worker.send_signal(signal.SIGKILL if os.name == "posix" else signal.SIGTERM)
            worker.wait()
        ids = kept.read_text().split()
        posts = settled(gateway)
        with model(gateway) as llm, ThreadPoolExecutor(8) as pool:
            answers = list(pool.map(llm.resume, ids))
    assert gateway.account.post_count == posts
    assert 50 <= len(ids) < 400
    by_id = {post.request_id: prompt_of(post) for post in gateway.account.posts}
    assert [answer.content for answer in answers] == [f"You said: {by_id[each]}" for each in ids]
    paid = [body["messages"][0]["content"] for body in gateway.account.billed_bodies]
    assert len(paid) == len(set(paid)), "a prompt was paid for twice"
    # A worker killed between the answer to its submit and the hook leaves one job a thread unnamed.
    assert len(set(gateway.account.billed_ids) - set(ids)) <= 16


def prompt_of(post: Post) -> str:
    text: str = post.json()["messages"][0]["content"]
    return text


def model(gateway: RunningGateway, **settings: Any) -> ChatSegmindLlama:
    return ChatSegmindLlama(
        api_key=gateway.api_key,
        base_url=gateway.url,
        queue=True,
        poll_interval=0.5,
        max_retries=30,
        **settings,
    )


def start(gateway: RunningGateway, kept: Path) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-c", dedent(WORKER), gateway.url, gateway.api_key, str(kept)],
        cwd=Path(__file__).parents[2],
    )


def settled(gateway: RunningGateway) -> int:
    """Wait until nothing more arrives from a dead process; give the number of POSTs."""
    wait_for(lambda: all(job.finished_at for job in list(gateway.jobs._jobs.values())))
    return gateway.account.post_count
