"""What the soak found: a table by quarter, and a verdict on each thing that was to stay flat."""

from __future__ import annotations

import sys
from statistics import median
from typing import TYPE_CHECKING, Any

from benchmarks.soak_calls import ANSWERED, CANCELLED, ELSEWHERE, REFUSED, UNKNOWN

if TYPE_CHECKING:
    import tracemalloc
    from collections.abc import Sequence

    from benchmarks.soak_calls import Tally

WARM_UP = 30
"""Samples, a quarter of an hour, in which memory may grow: caches fill, arenas settle."""
FLAT = {"rss": ("KiB of memory", 1024, 50), "malloc": ("KiB of it that C code holds", 1024, 50)}
FLAT["blocks"] = ("blocks that Python holds", 1, 100)
"""What may be added in 1,000 calls: fifty bytes a call are less than any container takes."""
SLACK = 3
"""How many more threads or file descriptors may be open than at first: connections that idle."""

Sample = dict[str, Any]


def print_report(samples: Sequence[Sample], tally: Tally, paid: Sample) -> bool:
    """Print everything, and say whether it is as it should be."""
    _say(f"{tally.last} calls in {samples[-1]['seconds'] / 60:.1f} minutes\n")
    _print_quarters(samples)
    _print_counts(tally)
    verdicts = [*_sizes(samples), *_money(paid, tally)]
    for what, good in verdicts:
        _say(f"{'ok ' if good else 'NO '} {what}")
    for words, count in tally.strange.items():
        _say(f"\n{count} times: {words}")
    return all(good for _, good in verdicts) and not tally.strange


_TITLES = ("quarter", "calls", "RSS MiB", "malloc MiB", "blocks", "objects", "fds", "threads")


def _print_quarters(samples: Sequence[Sample]) -> None:
    _print_row((*_TITLES, "tasks", "tables"))
    for index in range(4):
        part = samples[len(samples) * index // 4 : len(samples) * (index + 1) // 4]
        if part:
            _print_row((str(index + 1), *_cells(part)))
    _say("")


def _print_row(cells: Sequence[str]) -> None:
    _say(" ".join(f"{cell:>13}" for cell in cells))


def _cells(part: Sequence[Sample]) -> list[str]:
    counted = [sample["objects"]["all"] for sample in part if "objects" in sample]
    megabytes = ([sample[name] / 2**20 for sample in part] for name in ("rss", "malloc"))
    return [
        str(part[-1]["calls"]),
        *(f"{min(found):.1f}-{max(found):.1f}" for found in megabytes),
        _range(part, "blocks"),
        _span(counted) if counted else "",
        *(_range(part, name) for name in ("fds", "threads", "tasks")),
        _span([sum(sample["tables"].values()) for sample in part]),
    ]


def _range(part: Sequence[Sample], name: str) -> str:
    return _span([sample[name] for sample in part])


def _span(values: Sequence[int]) -> str:
    low, high = min(values), max(values)
    return str(low) if low == high else f"{low}-{high}"


def _print_counts(tally: Tally) -> None:
    for name, count in sorted(tally.counts.items()):
        _say(f"{count:>8}  {name}")
    _say("")


def _sizes(samples: Sequence[Sample]) -> list[tuple[str, bool]]:
    warm = samples[WARM_UP:]
    if len(warm) < WARM_UP:
        return [("too short to tell whether memory grows", True)]
    found = []
    for name, (unit, size, most) in FLAT.items():
        slope = _slope([(sample["calls"], sample[name]) for sample in warm]) / size * 1000
        found.append((f"{slope:+.2f} {unit} for each 1,000 calls after warm-up", slope < most))
    third = len(warm) // 3
    for name in ("fds", "threads", "tasks"):
        first, last = (median(s[name] for s in part) for part in (warm[:third], warm[-third:]))
        found.append((f"{name}: {first:g} at first, {last:g} at last", last <= first + SLACK))
    before, after = warm[0]["tables"], warm[-1]["tables"]
    grown = [f"{name} to {size}" for name, size in after.items() if size > before.get(name, 0) + 1]
    return [*found, (f"the package's own tables: {grown or 'none has grown'}", not grown)]


def _slope(points: Sequence[tuple[float, float]]) -> float:
    """Fit a line (least squares)."""
    middle_x = sum(x for x, _ in points) / len(points)
    middle_y = sum(y for _, y in points) / len(points)
    spread = sum((x - middle_x) ** 2 for x, _ in points)
    return sum((x - middle_x) * (y - middle_y) for x, y in points) / spread


def _money(report: Sample, tally: Tally) -> list[tuple[str, bool]]:
    told = list(zip(tally.outcomes, tally.paid, strict=True))[: tally.last + 1]
    charged = sum(paid - ord("0") for _, paid in told)
    by_outcome = {
        name: sum(1 for outcome, paid in told if outcome == code and paid > ord("0"))
        for name, code in (
            ("answered", ANSWERED),
            ("known to be of unknown outcome", UNKNOWN),
            ("cancelled by the caller", CANCELLED),
        )
    }
    answered = sum(1 for outcome, _ in told if outcome == ANSWERED)
    twice = sum(1 for _, paid in told if paid > ord("1"))
    lost = sum(1 for outcome, paid in told if paid > ord("0") and outcome in (REFUSED, ELSEWHERE))
    sums = " + ".join(f"{count} {name}" for name, count in by_outcome.items())
    return [
        (f"billed: {charged} calls = {sums}", charged == sum(by_outcome.values())),
        (f"answered: {answered}, each of them paid for", answered == by_outcome["answered"]),
        (f"paid twice: {twice}", twice == 0),
        (f"paid, and the caller was told it was not: {lost}", lost == 0),
        (
            f"credits: {report['spent']:.6f} spent, {report['posts']} POSTs",
            report["charges"] == charged,
        ),
    ]


def print_growth(before: tracemalloc.Snapshot, after: tracemalloc.Snapshot) -> None:
    """Print which lines hold more memory than before."""
    for each in after.compare_to(before, "lineno")[:25]:
        _say(str(each))


def _say(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()
