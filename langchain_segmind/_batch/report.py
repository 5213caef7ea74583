"""What is said before and after a run: problems of the input, estimate, bill and standing."""

from __future__ import annotations

from typing import TYPE_CHECKING

from langchain_segmind._batch.tally import Tally, format_money, format_time

if TYPE_CHECKING:
    from langchain_segmind._batch.history import History
    from langchain_segmind._batch.reading import Check

ASSUMED_PRICE = 1e-6
"""Credits a token before any answer has said: what hosted models of 70B cost, 0.9 a million."""
ASSUMED_ANSWER = 256
"""Tokens of an answer before any was seen."""


def describe_problems(name: str, check: Check) -> str:
    """Say what is wrong with the input, with line numbers."""
    lines = [f"{name}:{number}: {problem}" for number, problem in check.problems]
    if (more := check.problem_count - len(check.problems)) > 0:
        lines.append(f"and {more:,} more")
    lines.append(f"{check.problem_count:,} bad lines. Nothing was sent.")
    return "\n".join(lines)


def estimate(check: Check, left: int, max_tokens: int | None) -> float:
    """Give credits that what is left will cost, before an answer has said."""
    prompt = check.prompt_tokens / max(check.count, 1)
    answer = min(max_tokens or ASSUMED_ANSWER, ASSUMED_ANSWER)
    return left * (prompt + answer) * ASSUMED_PRICE


def describe_plan(check: Check, samples: int, left: int, guess: float, answered: int) -> str:
    """Say what is going to be paid."""
    prompts = check.prompt_tokens * samples
    rest = f", {answered:,} of them answered before" if answered else ""
    return (
        f"{check.count * samples:,} answers{rest}; {left:,} to pay for. All prompts have some "
        f"{prompts:,.0f} tokens. Estimate for what is left: {format_money(guess)} credits, at "
        f"{ASSUMED_PRICE * 1e6:g} a million tokens and {ASSUMED_ANSWER} an answer at most."
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
    return "\n".join(lines)


def bill(tally: Tally, balance: float | None, seconds: float) -> str:
    """Say what a run came to, and what it cost."""
    in_all = format_money(tally.spent_in_all)
    paid = f"{tally.paid:,} answers paid with {format_money(tally.spent)} credits"
    others = f"{tally.failed:,} failed, {tally.unknown:,} unknown, {tally.left:,} left to do"
    before = f"{tally.replayed:,} of them before"
    lines = [
        f"{tally.done:,} of {tally.total:,} answered ({before}), {others}",
        f"{paid} in {format_time(seconds)}; {in_all} in all runs",
    ]
    if balance is not None:
        lines[-1] += f"; {format_money(balance)} left on the account"
    lines += [f"{count:,} x {name}" for name, count in tally.errors.most_common(5)]
    if tally.unstated:
        lines.append(f"{tally.unstated:,} answers did not say what they cost")
    if tally.cut:
        lines.append(f"{tally.cut:,} answers were cut short by max_tokens")
    return "\n".join(lines)
