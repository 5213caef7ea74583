"""One conversation: its turns, its commands, its bill."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from langchain_core.messages import AIMessage, HumanMessage

from langchain_segmind.chat_models import MODELS, nearest_model
from langchain_segmind.cli.demo_tools import demo_tools
from langchain_segmind.cli.setup_checks import BILLING, SEGMIND, describe_balance, fault_of
from langchain_segmind.credits import format_credits
from langchain_segmind.exceptions import (
    SegmindContextOverflowError,
    SegmindError,
    SegmindInsufficientCreditsError,
    SegmindJobFailedError,
    SegmindJobNotFoundError,
    SegmindModelNotFoundError,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from langchain_core.messages import BaseMessage, ToolCall
    from langchain_core.tools import BaseTool

    from langchain_segmind.chat_models import ChatSegmindLlama
    from langchain_segmind.cli.screen import Screen

LOW_CREDITS = 0.05
"""Credits below which an answer's cost is followed by where to get more."""
ROUNDS = 4
"""Calls of the model that one /tools may cost."""
QUESTION = "What time is it in Tokyo, and what is 17% of 2350?"
INTERRUPTED = 130

HELP = """/tools [question]  let the model use a clock and a calculator, and watch it
/credits           ask what is left; it costs nothing
/model [slug]      show the model, or take another one
/clear             forget the conversation, which every turn sends, and pays for, again
/resume            with --queue: fetch an answer that was not waited for
/help              show this
/quit              leave, as Ctrl-D does; Ctrl-C interrupts an answer
A line that ends with a backslash goes on in the next one."""

_HINTS: tuple[tuple[type[SegmindError], str], ...] = (
    (SegmindContextOverflowError, "/clear starts a new conversation."),
    (SegmindInsufficientCreditsError, "/credits sees the new balance."),
    (SegmindModelNotFoundError, "/model takes another one."),
)


class Session:
    """Keeps the history; nothing is sent but by a turn or a command of the person."""

    def __init__(self, llm: ChatSegmindLlama, screen: Screen, submitted: list[str]) -> None:
        """Start with no history; `submitted` gets the ids of the model's queued jobs."""
        self._llm = llm
        self._screen = screen
        self._submitted = submitted
        self._history: list[BaseMessage] = []
        self._question = HumanMessage("")
        self._spent = 0.0
        self._calls = 0
        self._commands: dict[str, Callable[[str], None]] = {
            "/tools": self._show_tools,
            "/credits": self._show_credits,
            "/model": self._choose_model,
            "/clear": self._clear,
            "/resume": self._resume,
            "/help": lambda _: self._screen.say(HELP),
        }

    def talk(self) -> int:
        """Take turns until the person leaves.

        Raises:
            SegmindError: Key, account or network are not in order.
        """
        self._greet()
        self._screen.complete(self._complete)
        while True:
            try:
                line = self._screen.read()
            except KeyboardInterrupt:
                self._screen.say("(Ctrl-D or /quit leaves.)", "dim")
                continue
            except EOFError:
                self._screen.say("")
                break
            if line.strip() in ("/quit", "/exit"):
                break
            if line.strip():
                self._handle(line)
        if self._calls:
            start = f"{self._calls} calls cost" if self._calls > 1 else "One call cost"
            self._screen.say(f"{start} {format_credits(self._spent)} credits.", "dim")
        return 0

    def _complete(self, line: str) -> list[str]:
        """Give what a line may go on with: a command, or the model of /model."""
        name, space, rest = line.partition(" ")
        if not space:
            known = (*self._commands, "/quit") if line.startswith("/") else ()
            return [f"{command} " for command in known if command.startswith(line)]
        return [slug for slug in MODELS if name == "/model" and slug.startswith(rest)]

    def answer_once(self, text: str) -> int:
        """Answer all that was piped in, as one message or command; give the exit code."""
        if not text.strip():
            self._screen.say("There is no message: pipe one in, or run this in a terminal.")
            return 1
        if self._llm.min_credits is not None:
            self._llm.get_credits()
        return self._handle(text.strip())

    def _greet(self) -> None:
        with self._screen.waiting():
            balance = self._llm.get_credits()
        self._screen.say(f"{self._llm.model} at {self._llm.base_url}", "bold")
        self._suggest_model()
        if self._llm.base_url != SEGMIND:
            self._screen.say("This is not Segmind itself: another model may answer.", "dim")
        if balance.total <= 0:
            self._screen.say(f"The account is empty: top up at {BILLING}, then /credits.", "yellow")
        else:
            self._screen.say(f"{describe_balance(balance)}. /tools shows tools, /help the rest.")

    def _handle(self, line: str) -> int:
        """Do what a line says; what goes wrong is told, and the conversation goes on."""
        try:
            self._dispatch(line)
        except SegmindError as error:
            if isinstance(error, (SegmindJobFailedError, SegmindJobNotFoundError)):
                self._submitted.clear()
            hints = [hint for kind, hint in _HINTS if isinstance(error, kind)]
            hints *= self._screen.is_interactive  # Nothing follows what is piped in.
            self._screen.say(" ".join([str(error), *hints]), "red")
            self._offer_resume()
            return 1
        except KeyboardInterrupt:
            self._screen.say("Interrupted: what was sent may be billed.", "yellow")
            self._offer_resume()
            return INTERRUPTED
        return 0

    def _dispatch(self, line: str) -> None:
        name, _, rest = line.partition(" ")
        if not line.startswith("/"):
            self._turn(line)
        elif name in self._commands:
            self._commands[name](rest.strip())
        else:
            start = f"There is no command {name}. /help lists them; with a space before it, it is"
            self._screen.say(f"{start} sent as text.", "yellow")

    def _offer_resume(self) -> None:
        if self._submitted:
            self._screen.say("/resume fetches the answer, without paying again.", "yellow")

    # --- Turns ---

    def _turn(self, text: str) -> None:
        self._question = HumanMessage(text)
        self._submitted.clear()
        with self._screen.waiting():
            answer = self._llm.invoke([*self._history, self._question])
        self._take_answer(answer)

    def _take_answer(self, answer: AIMessage) -> None:
        self._submitted.clear()
        self._history += [self._question, answer]
        self._screen.answer(answer.text)
        if answer.response_metadata.get("finish_reason") == "length":
            self._screen.say(f"(cut short: --max-tokens is {self._llm.max_tokens})", "yellow")
        self._charge([answer])

    def _charge(self, answers: Sequence[AIMessage]) -> None:
        """Say what answers cost, as far as they say so themselves."""
        bills = [answer.response_metadata["credits"] for answer in answers]
        costs = [bill["cost"] for bill in bills if bill["cost"] is not None]
        left = next((b["remaining"] for b in bills[::-1] if b["remaining"] is not None), None)
        self._calls += len(bills)
        self._spent += sum(costs)
        calls = f"{len(bills)} calls, " if len(bills) > 1 else ""
        is_told = len(costs) == len(bills)
        cost = f"{format_credits(sum(costs))} credits" if is_told else "cost not told"
        balance = "" if left is None else f", {format_credits(left)} left"
        self._screen.say(f"{calls}{cost}{balance}", "dim")
        if left is not None and left < LOW_CREDITS:
            self._screen.say(f"That is little: top up at {BILLING}", "yellow")

    # --- Commands ---

    def _show_credits(self, _: str) -> None:
        with self._screen.waiting():
            balance = self._llm.get_credits()
        self._screen.say(f"{describe_balance(balance)}.")

    def _choose_model(self, slug: str) -> None:
        if slug:
            if fault := fault_of(model=slug):
                self._screen.say(fault, "red")
                return
            self._llm.model = slug
        self._screen.say(f"The model is {self._llm.model}.", "bold")
        self._suggest_model()
        if self._llm.model not in MODELS or not slug:
            self._screen.say(f"Known here: {', '.join(MODELS)}")

    def _suggest_model(self) -> None:
        if meant := nearest_model(self._llm.model):
            self._screen.say(f"Did you mean {meant}? /model {meant} takes it.", "yellow")

    def _clear(self, _: str) -> None:
        self._history.clear()
        self._screen.say("The conversation is forgotten.")

    def _resume(self, _: str) -> None:
        if not self._submitted:
            self._screen.say("There is no answer to fetch.")
            return
        with self._screen.waiting():
            answer = self._llm.resume(self._submitted[-1])
        self._take_answer(answer)

    def _show_tools(self, question: str) -> None:
        """Let the model call tools until it answers, and show what it calls and gets."""
        tools = demo_tools()
        question = question or QUESTION
        self._screen.say(f"The model may call {' and '.join(tools)}. It is asked: {question}")
        messages: list[BaseMessage] = [HumanMessage(question)]
        answers: list[AIMessage] = []
        try:
            for choice in ("any", *("auto",) * (ROUNDS - 2), "none"):
                bound = self._llm.bind_tools(list(tools.values()), tool_choice=choice)
                with self._screen.waiting():
                    answers.append(answer := bound.invoke(messages))
                for bad in answer.invalid_tool_calls:
                    self._screen.step("not run", f"{bad['name']} {bad['args']}: {bad['error']}")
                results = [self._run(tools[call["name"]], call) for call in answer.tool_calls]
                if not results:
                    break
                messages += [answer, *results]
            self._screen.answer(answer.text)
            self._history += [messages[0], AIMessage(answer.text)]
        finally:
            self._submitted.clear()
            if answers:
                self._charge(answers)

    def _run(self, tool: BaseTool, call: ToolCall) -> BaseMessage:
        spelled = {
            name: json.dumps(each, ensure_ascii=False) for name, each in call["args"].items()
        }
        given = ", ".join(f"{name}={value}" for name, value in spelled.items())
        self._screen.step("call", f"{call['name']}({given})")
        result: BaseMessage = tool.invoke(call)
        self._screen.step("result", result.text)
        return result
