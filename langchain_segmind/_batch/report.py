"""What is said before, during and after a run: problems, estimates, progress, bill and standing."""

from __future__ import annotations

import re
import time
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from langchain_segmind.credits import format_credits

if TYPE_CHECKING:
    from langchain_segmind._batch.history import History
    from langchain_segmind._batch.reading import Check
    from langchain_segmind._batch.results import BatchResult

ASSUMED_PRICE = 1e-6
"""Credits a token before any answer has said: what hosted models of 70B cost, 0.9 a million."""
ASSUMED_ANSWER = 256
"""Tokens of an answer before any was seen."""


@dataclass(slots=True)
class Tally:
    """The results of a run, counted as they come."""

    total: int
    """How many answers are wanted."""
    spent_before: float = 0.0
    """Credits that earlier runs paid."""
    done: int = 0
    failed: int = 0
    unknown: int = 0
    replayed: int = 0
    """Of those done, how many were paid for before."""
    paid: int = 0
    spent: float = 0.0
    """Credits that this run paid."""
    unstated: int = 0
    """Answers that did not say what they cost."""
    lost: int = 0
    """Answers that were lost and asked for again: perhaps paid for, beside `spent`."""
    cut: int = 0
    errors: Counter[str] = field(default_factory=Counter)
    """By their class."""
    words: dict[str, str] = field(default_factory=dict)
    """What the first of each class said."""
    started: float = field(default_factory=time.monotonic)

    def count(self, result: BatchResult) -> None:
        """Count a result."""
        if result.error is None:
            self.done += 1
            self.replayed += result.replayed
        else:
            name = type(result.error).__name__
            self.errors[name] += 1
            self.words.setdefault(name, result.error.message)
            self.unknown += result.is_unknown
            self.failed += not result.is_unknown
        if result.raw is not None and not result.replayed:
            self.paid += 1
            self.cut += _CUT.search(result.raw) is not None
        self.unstated += result.cost is None and not result.is_unknown
        self.spent += result.cost or 0.0
        self.lost += result.lost_attempts

    @property
    def left(self) -> int:
        """How many answers have not come to anything yet."""
        return max(self.total - self.done - self.failed - self.unknown, 0)

    @property
    def spent_in_all(self) -> float:
        """Credits that this run and earlier ones paid."""
        return self.spent_before + self.spent

    @property
    def a_minute(self) -> float:
        """Answers a minute that were paid for, since the start."""
        return 60 * self.paid / max(time.monotonic() - self.started, 1e-3)

    @property
    def projected(self) -> float | None:
        """Credits that all of it will cost; None before the first answer."""
        if not self.paid:
            return None
        return self.spent_in_all + self.left * self.spent / self.paid

    def facts(self, balance: float | None) -> dict[str, str]:
        """Say how it goes, in words that can stand behind their numbers."""
        facts = {
            "done": f"{self.done:,} of {self.total:,}",
            "failed": f"{self.failed:,}",
            "unknown": f"{self.unknown:,}",
            "rows a minute": f"{self.a_minute:,.0f}",
            "credits spent": format_money(self.spent_in_all),
        }
        if self.projected is not None:
            facts["projected"] = format_money(self.projected)
            facts["to go"] = format_time(60 * self.left / self.a_minute)
        if balance is not None:
            facts["left on the account"] = format_money(balance)
        return facts


def describe_problems(name: str, check: Check) -> str:
    """Say what is wrong with the input, with line numbers."""
    lines = [f"{name}:{number}: {problem}" for number, problem in check.problems]
    if (more := check.problem_count - len(check.problems)) > 0:
        lines.append(f"and {more:,} more")
    lines.append(f"{check.problem_count:,} bad lines. Nothing was sent.")
    return "\n".join(lines)


def estimate(
    check: Check, samples: int, left: int, answered: int, max_tokens: int | None
) -> tuple[float, str]:
    """Give credits that what is left will cost, before an answer has said, and how that is put."""
    answer = min(max_tokens or ASSUMED_ANSWER, ASSUMED_ANSWER)
    credits = left * (check.prompt_tokens / max(check.count, 1) + answer) * ASSUMED_PRICE
    rest = f", {answered:,} of them answered before" if answered else ""
    return credits, (
        f"{check.count * samples:,} answers{rest}; {left:,} to pay for. All prompts have some "
        f"{check.prompt_tokens * samples:,.0f} tokens. Estimate for what is left: "
        f"{format_money(credits)} credits, at {ASSUMED_PRICE * 1e6:g} credit a million tokens and "
        f"{answer} tokens an answer."
    )


def describe_history(history: History, total: int, written: int) -> str:
    """Say what stands how."""
    states = history.states
    known = sum(states.values())
    answered, paid = states["answered"], format_money(history.spent)
    lines = [
        f"{answered:,} of {total:,} answered, for {paid} credits; {written:,} of them written",
        f"{states['submitted']:,} submitted: the next run fetches them, for nothing more",
        f"{states['sending']:,} being sent by another run",
        f"{states['unknown']:,} unknown: perhaps paid for; --retry-unknown sends them again",
        f"{max(total - known, 0):,} not sent",
    ]
    return "".join(f"{line}\n" for line in lines)


def bill(tally: Tally, balance: float | None, seconds: float) -> str:
    """Say what a run came to, and what it cost."""
    in_all = format_money(tally.spent_in_all)
    paid = f"{_answers(tally.paid)} paid with {format_money(tally.spent)} credits"
    others = f"{tally.failed:,} failed, {tally.unknown:,} unknown, {tally.left:,} left to do"
    before = f"{tally.replayed:,} of them before"
    lines = [
        f"{tally.done:,} of {tally.total:,} answered ({before}), {others}",
        f"{paid} in {format_time(seconds)}; {in_all} in all runs",
    ]
    if balance is not None:
        lines[-1] += f"; {format_money(balance)} left on the account"
    for name, count in tally.errors.most_common(5):
        lines.append(f"{count:,} x {name}: {tally.words[name]}")
    if tally.unknown:
        lines.append(
            "--retry-unknown sends those of unknown fate again, and may pay for them twice"
        )
    if tally.unstated:
        lines.append(f"{_answers(tally.unstated)} without a word of the cost")
    if tally.lost:
        lines.append(f"{_answers(tally.lost)} lost and asked for again: perhaps paid for, too")
    if tally.cut:
        lines.append(f"{_answers(tally.cut)} cut short by max_tokens")
    return "\n".join(lines)


def _answers(count: int) -> str:
    return f"{count:,} answer{'' if count == 1 else 's'}"


_CUT = re.compile(rb'"finish_reason":\s*"length"')
_SMALL_AMOUNT = 0.1


def format_money(amount: float) -> str:
    """Give credits with as many digits as a person reads."""
    return format_credits(round(amount, 4 if abs(amount) >= _SMALL_AMOUNT else 6))


def format_time(seconds: float) -> str:
    """Give a span of time as `1:02:03`."""
    minutes, seconds = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{seconds:02}"
