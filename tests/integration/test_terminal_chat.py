"""The chat, as a person meets it: in a real terminal, or with a pipe on either side."""

from __future__ import annotations

import asyncio
import io
import json
import os
import re
import select
import subprocess
import sys
import threading
import time
from contextlib import contextmanager, suppress
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

import pytest

from langchain_segmind.cli.options import main
from langchain_segmind.credits import format_credits
from langchain_segmind.gateway import RunningGateway, ScriptedEngine, Settings, engines, serve
from langchain_segmind.gateway.models import model_file
from tests.servers import refused_url, wait_for

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

PATIENCE = 60.0
"""Seconds until a test gives up on a text; a terminal shows it within one or two."""


_LEADER = """
import os, signal, sys
signal.signal(signal.SIGINT, signal.SIG_DFL)
terminal = os.open(sys.argv[1], os.O_RDWR)
for each in range(3):
    os.dup2(terminal, each)
os.execv(sys.argv[2], sys.argv[2:])
"""
"""Who leads a session and opens a terminal is who its Ctrl-C reaches; but a shell that runs the
tests in the background has it ignored by all that they start."""


# --- In a terminal --------------------------------------------------------------------------------


class Terminal:
    """The other end of a pseudo-terminal in which the chat runs."""

    def __init__(self, gateway: RunningGateway, *arguments: str, **variables: str) -> None:
        ours, theirs = os.openpty()
        self._end = ours
        self._seen = ""
        self.process = subprocess.Popen(
            [
                *(sys.executable, "-c", _LEADER, os.ttyname(theirs)),
                *(sys.executable, "-m", "langchain_segmind", *arguments),
            ],
            start_new_session=True,
            pass_fds=[theirs],
            env={
                **{name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ},
                "SEGMIND_API_KEY": gateway.api_key,
                "SEGMIND_BASE_URL": gateway.url,
                "TERM": "xterm",
                "COLUMNS": "100",
                **variables,
            },
        )
        os.close(theirs)

    def type(self, text: str) -> None:
        os.write(self._end, text.encode())

    def press_ctrl_d(self) -> None:
        """Wait for the prompt first: before it, the terminal would keep the key to itself."""
        self.see("you> ")
        self.type("\x04")

    def interrupt(self, told: str) -> None:
        """Press Ctrl-C until it is answered: Python may miss one that comes before its `select`."""
        for patience in (10.0, 10.0, PATIENCE):
            self.type("\x03")
            with suppress(AssertionError):
                self.see(told, patience)
                return
        raise AssertionError(f"{told!r} did not come")

    def see(self, text: str, patience: float = PATIENCE) -> str:
        """Wait for a text to be shown; give what was shown before it, without colours."""
        deadline = time.monotonic() + patience
        while text not in (plain := uncoloured(self._seen)):
            ready, _, _ = select.select([self._end], [], [], max(0, deadline - time.monotonic()))
            assert ready, f"{text!r} did not come:\n{plain}"
            self._seen += os.read(self._end, 65536).decode("utf-8", "replace")
        before, _, self._seen = plain.partition(text)
        return before

    @property
    def raw(self) -> str:
        """What was sent to the terminal and not yet seen, with what colours it and moves in it."""
        return self._seen

    def leave(self) -> tuple[int, str]:
        """Read to the end; give the exit code and what was shown last."""
        try:
            while data := os.read(self._end, 65536):
                self._seen += data.decode("utf-8", "replace")
        except OSError:  # Linux's way to say that nobody is at the other end any more.
            pass
        return self.process.wait(PATIENCE), uncoloured(self._seen)

    def close(self) -> None:
        os.close(self._end)
        self.process.kill()
        self.process.wait(PATIENCE)


def uncoloured(shown: str) -> str:
    return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", shown).replace("\r\n", "\n")


@contextmanager
def terminal(gateway: RunningGateway, *arguments: str, **variables: str) -> Iterator[Terminal]:
    if sys.platform == "win32":
        pytest.skip("there are no pseudo-terminals of this kind")
    opened = Terminal(gateway, *arguments, **variables)
    try:
        yield opened
    finally:
        opened.close()


def test_a_conversation_is_remembered_and_its_cost_is_told() -> None:
    with (
        serve(engine=ScriptedEngine(lambda _: "It has **four** legs.\x1b]0;owned\x07")) as gateway,
        terminal(gateway) as person,
    ):
        person.see("10.00 credits are left")
        person.see("you> ")
        person.type("What is a cat?\n")
        shown = person.see(" left\n")
        person.type("And \\\na dog?\n")
        person.see(" left\n")
        person.type("/clear\n/foo\n/credits\nHello?\n")
        forgotten = person.see(" left\n")
        person.press_ctrl_d()
        code, last = person.leave()
        bodies = [post.json()["messages"] for post in gateway.account.posts]
        spent = 10.0 - gateway.account.remaining
    assert "four legs." in shown
    assert "\x1b]" not in shown  # A model must not steer the terminal.
    assert "There is no command /foo" in forgotten
    assert [message["content"] for message in bodies[1]] == [
        "What is a cat?",
        "It has **four** legs.\x1b]0;owned\x07",
        "And \na dog?",
    ]
    assert len(bodies[2]) == 1
    assert code == 0
    assert f"3 calls cost {format_credits(spent)} credits." in last


def test_what_is_pasted_is_one_message() -> None:
    """Each of its lines would be a call of its own to pay for."""
    readline = pytest.importorskip("readline")
    if "libedit" in (readline.__doc__ or ""):
        pytest.skip("libedit knows no bracketed paste")
    with serve() as gateway, terminal(gateway) as person:
        person.see("you> ")
        person.type("\x1b[200~one\ntwo\x1b[201~\n")
        person.see(" left\n")
        person.press_ctrl_d()
        assert person.leave()[0] == 0
    (post,) = gateway.account.posts
    assert post.json()["messages"][0]["content"] == "one\ntwo"


def tool_user(body: dict[str, Any]) -> str:
    """Call the calculator, then the clock with a zone that is none, then answer."""
    results = [each for each in body["messages"] if "Result of" in each["content"]]
    results += [each for each in body["messages"] if "Error of" in each["content"]]
    calls = [
        {"name": "calculate", "parameters": {"left": 0.17, "operation": "*", "right": 2350}},
        {"name": "current_time", "parameters": {"time_zone": "Tokio"}},
    ]
    return json.dumps(calls[len(results)]) if len(results) < len(calls) else "It is 399.5."


def test_tools_are_called_shown_and_paid_for() -> None:
    with serve(engine=ScriptedEngine(tool_user)) as gateway, terminal(gateway) as person:
        person.see("you> ")
        person.type("/tools\n")
        shown = person.see("3 calls, ")
        person.see(" left\n")
        person.type("/quit\n")
        code, last = person.leave()
    assert re.search(r'call +calculate\(left=0.17, operation="\*", right=2350\)', shown)
    assert re.search(r"result +399\.5\n", shown)
    assert re.search(r"result +'Tokio' is no time zone", shown)
    assert "It is 399.5." in shown
    assert (code, gateway.account.post_count) == (0, 3)
    assert "3 calls cost" in last


class Slow:
    """An engine's answer that waits until it is let go."""

    def __init__(self) -> None:
        self.free = threading.Event()
        self.asked = 0

    async def answer(self, _: dict[str, Any]) -> str:
        self.asked += 1
        await asyncio.to_thread(self.free.wait, PATIENCE)
        return "Here I am."


def test_ctrl_c_interrupts_an_answer_and_not_the_chat() -> None:
    slow = Slow()
    with serve(engine=ScriptedEngine(slow.answer)) as gateway, terminal(gateway) as person:
        person.see("you> ")
        person.interrupt("(Ctrl-D or /quit leaves.)")
        person.type("Hello?\n")
        wait_for(lambda: slow.asked == 1)
        person.interrupt("Interrupted: what was sent may be billed.")
        slow.free.set()
        person.type("/resume\nAre you there?\n")
        person.see("There is no answer to fetch.")
        person.see("Here I am.")
        person.type("/quit\n")
        assert person.leave()[0] == 0
        assert len(gateway.account.posts[-1].json()["messages"]) == 1


def test_what_is_typed_meanwhile_waits_for_its_turn() -> None:
    """It would end up in the middle of what is shown, and be gone at the next prompt."""
    slow = Slow()
    with serve(engine=ScriptedEngine(slow.answer)) as gateway, terminal(gateway) as person:
        person.see("you> ")
        person.type("Hello?\n")
        wait_for(lambda: slow.asked == 1)
        person.type("And you")
        slow.free.set()
        assert "And you" not in person.see("Here I am.")
        person.see("you> And you")
        person.type("?\n")
        person.see(" left\n")
        person.press_ctrl_d()
        assert person.leave()[0] == 0
    assert gateway.account.posts[-1].json()["messages"][-1]["content"] == "And you?"


def test_a_wait_for_the_limit_is_told() -> None:
    """A 429 may hold an answer for a minute."""
    with serve(Settings(rpm=2, rate_window=3.0)) as gateway, terminal(gateway) as person:
        person.see("you> ")
        for _ in range(3):
            person.type("Hello?\n")
            shown = person.see(" left\n")
        person.press_ctrl_d()
        assert person.leave()[0] == 0
    assert re.search(r"429, waiting \d\.\d s, 1 of 2 retries", shown)


def test_commands_and_models_are_completed() -> None:
    pytest.importorskip("readline")
    with serve() as gateway, terminal(gateway) as person:
        person.see("you> ")
        person.type("/cre\t\n")
        person.see("10.00 credits are left.")
        person.type("/mo\tllama-v3p1-8\t\n")
        person.see("The model is llama-v3p1-8b-instruct.")
        person.press_ctrl_d()
        assert person.leave()[0] == 0


@pytest.mark.llama
@pytest.mark.skipif(
    find_spec("xllamacpp") is None or not model_file().is_file(), reason="there is no model here"
)
def test_a_chat_on_this_machine_needs_no_account(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO("What is the capital of France?"))
    assert main(["chat", "--local", "--max-tokens", "30"]) == 0
    printed = capsys.readouterr()
    assert printed.out.strip()
    assert "nothing leaves it or costs" in printed.err


def test_a_small_model_does_not_ramble(monkeypatch: pytest.MonkeyPatch) -> None:
    """It would go on for as long as it may: the chat's usual 1,024 tokens take half a minute."""
    asked: list[int] = []

    def answer(body: dict[str, Any]) -> str:
        asked.append(body["max_tokens"])
        return "Hello!"

    monkeypatch.setattr(engines, "choose_engine", lambda _: ScriptedEngine(answer))
    monkeypatch.setattr(engines, "lacks_small_model", lambda _: False)
    monkeypatch.setattr(sys, "stdin", io.StringIO("Hello?"))
    assert main(["chat", "--local"]) == 0
    assert asked == [256]


def test_what_a_chat_on_this_machine_lacks_is_told(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """No llama.cpp, and nothing fetched in vain."""
    monkeypatch.setenv("SEGMIND_GATEWAY_MODEL_DIR", str(tmp_path))
    monkeypatch.setattr(engines, "has_llama", lambda: False)
    assert main(["chat", "--local"]) == 1
    assert "pip install 'langchain-segmind[llama]'" in capsys.readouterr().err
    assert main(["chat", "--local", "--base-url", "http://x"]) == 2


def test_a_queued_answer_that_was_interrupted_is_fetched_and_paid_once() -> None:
    slow = Slow()
    with (
        serve(engine=ScriptedEngine(slow.answer)) as gateway,
        terminal(gateway, "--queue") as person,
    ):
        person.see("you> ")
        person.type("Hello?\n")
        person.see("queued as ")
        person.interrupt("/resume fetches the answer")
        slow.free.set()
        person.type("/resume\n")
        person.see("Here I am.")
        person.see(" left\n")
        person.press_ctrl_d()
        assert person.leave()[0] == 0
    assert (gateway.account.post_count, gateway.account.charge_count) == (1, 1)


def test_an_empty_account_can_be_topped_up_meanwhile() -> None:
    with serve(Settings(credits=0)) as gateway, terminal(gateway) as person:
        person.see("The account is empty: top up at https://cloud.segmind.com/billing")
        person.see("you> ")
        person.type("Hello?\n")
        person.see("Not enough credits")
        person.see("/credits sees the new balance.")
        gateway.account.top_up(1.0)
        person.type("/credits\n")
        person.see("1.00 credits are left.")
        person.type("/model nope\nHello?\n")
        person.see("/model takes another one.")
        person.type("/model llama-v3p1-8b-instruct\nHello?\n")
        person.see(" left\n")
        person.press_ctrl_d()
        assert person.leave()[0] == 0
    assert [charge.path for charge in gateway.account.charges] == ["v1"]


# --- With pipes -----------------------------------------------------------------------------------


@pytest.fixture
def piped(
    gateway: RunningGateway, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Any:
    """Pipe a text into the chat; give exit code, stdout and stderr."""
    monkeypatch.setenv("SEGMIND_API_KEY", gateway.api_key)
    monkeypatch.setenv("SEGMIND_BASE_URL", gateway.url)

    def run(text: str, *arguments: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "stdin", io.StringIO(text))
        code = main(list(arguments))
        printed = capsys.readouterr()
        return code, printed.out, printed.err

    return run


def test_what_is_piped_in_is_one_message_and_one_bill(gateway: RunningGateway, piped: Any) -> None:
    gateway.engine = ScriptedEngine(lambda _: "# Fine\n\nAll **well**.")
    code, out, err = piped("Sum this up:\n\n/quit\nsecond line\n")
    assert (code, out) == (0, "# Fine\n\nAll **well**.\n")
    left = gateway.account.remaining
    assert err == f"{format_credits(10.0 - left)} credits, {format_credits(left)} left\n"
    (post,) = gateway.account.posts
    assert post.json()["messages"] == [
        {"role": "user", "content": "Sum this up:\n\n/quit\nsecond line"}
    ]
    assert post.json()["max_tokens"] == 1024


def test_a_command_can_be_piped_too(gateway: RunningGateway, piped: Any) -> None:
    assert piped("/credits\n") == (0, "", "10.00 credits are left.\n")
    assert gateway.account.post_count == 0


@pytest.mark.parametrize(
    ("text", "arguments", "told"),
    [
        ("", [], "There is no message"),
        ("hi", ["--model", "nope"], "Segmind answered 404"),
        ("hi", ["--model", "llama3-8b"], "Did you mean 'llama-v3-8b-instruct'?"),
        ("hi", ["--model", "meta-llama/Llama-3-8B"], "Did you mean 'llama-v3-8b-instruct'?"),
        ("hi", ["--model", "no/pe"], "model: 'no/pe' is no model slug"),
        ("hi", ["--base-url", "ftp://x"], "base_url: base_url must be an http(s) URL"),
        ("hi", ["--min-credits", "11"], "is below min_credits=11"),
    ],
)
def test_what_goes_wrong_is_told_on_stderr_and_costs_nothing(
    text: str, arguments: list[str], told: str, gateway: RunningGateway, piped: Any
) -> None:
    code, out, err = piped(text, *arguments)
    assert (code, out) == (1, "")
    assert told in err
    assert "Traceback" not in err
    assert "/model takes" not in err  # Nothing follows what is piped in.
    assert gateway.account.charge_count == 0


@pytest.mark.parametrize("slug", ["llama3-8b", "meta-llama/Llama-3-8B"])
def test_a_model_is_offered_by_its_own_name(slug: str, piped: Any) -> None:
    _, _, err = piped(f"/model {slug}\n")
    assert re.search(r"Did you mean '?llama-v3-8b-instruct'?\?", err)


def test_a_server_that_is_not_there_is_named(piped: Any) -> None:
    url = refused_url()
    code, _, err = piped("hi", "--base-url", url)
    assert code == 1
    assert f"(at {url})" in err
    assert "langchain-segmind doctor" in err


def test_without_a_key_both_ways_to_start_are_told(
    piped: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("SEGMIND_API_KEY")
    code, _, err = piped("hi")
    assert code == 1
    assert "https://cloud.segmind.com/console" in err
    assert "langchain-segmind chat --local" in err


def test_a_wrong_key_is_told_and_not_shown(piped: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SEGMIND_API_KEY", "SG_ffffffffffffffff")
    code, _, err = piped("hi")
    assert code == 1
    assert "401: Invalid API key" in err
    assert "ffff" not in err


@pytest.mark.parametrize(("argument", "extra"), [("chat", "chat"), ("--local", "llama")])
def test_without_the_extra_it_says_what_to_install(argument: str, extra: str) -> None:
    script = (
        "import runpy, sys; sys.modules['rich.console'] = None;"
        "runpy.run_module('langchain_segmind', run_name='__main__')"
    )
    outcome = subprocess.run(
        [sys.executable, "-c", script, argument], capture_output=True, check=False, text=True
    )
    assert outcome.returncode == 1
    told = f"The chat needs rich: pip install 'langchain-segmind[{extra}]'\n"
    assert outcome.stderr.startswith(told)
