"""What was measured, against its targets: a table, its data and two charts.

`python -m benchmarks.report` draws the charts anew from results.json.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.contestants import (
    BATCH,
    BATCH_QUEUE,
    CORE,
    JOURNAL,
    OURS,
    PEERS,
    QUEUE,
    ROW_PEERS,
)

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

Results = dict[str, dict[str, Any]]
"""By the name of the contestant: the median of each measure."""


@dataclass(frozen=True)
class Row:
    """One target and what was measured for it."""

    number: str
    what: str
    measured: str
    against: str
    target: float
    ratio: float
    at_least: bool = False

    @property
    def holds(self) -> bool:
        """Whether the target is met."""
        return self.ratio >= self.target if self.at_least else self.ratio <= self.target

    def cells(self) -> tuple[str, ...]:
        """Give the row's cells in Markdown."""
        sign = "≥" if self.at_least else "≤"
        verdict = "yes" if self.holds else "**no**"
        target = f"{sign} {self.target:.3g}"
        return (
            self.number,
            self.what,
            self.measured,
            self.against,
            target,
            f"{self.ratio:.2f}",
            verdict,
        )


def rows(found: Mapping[str, Results]) -> list[Row]:
    """Judge each target."""
    return [
        *_calls(found),
        *_in_flight(found),
        _threads(found["threads"][OURS]),
        *_imports_and_memory(found),
        *_growth(found),
        _streams(found["stream"]),
        *_polls(found.get("polls")),
        *_paid_once(found["journal"], found["rows"]),
    ]


def _threads(ours: Mapping[str, Any]) -> Row:
    return _against("4", "`batch`, 64 threads", ours, ("one thread", {"cpu": ours["alone"]}), 1.3)


def _calls(found: Mapping[str, Results]) -> list[Row]:
    sync, parallel = found["sync"], found["parallel"]
    return [
        *_beside("1", "`invoke`", sync, "httpx", 1.0),
        *_beside("1", "`invoke`", sync, "httpx2", 1.0),
        _against("1", "`invoke`", sync[OURS], _best(sync, "cpu"), 0.75),
        *_beside("2", "`ainvoke`, 64 in flight", parallel, "httpx over aiohttp", 1.15),
        *_beside("2", "`ainvoke`, 64 in flight", parallel, "aiohttp", 1.25),
        _against("2", "`ainvoke`, 64 in flight", parallel[OURS], _best(parallel, "cpu"), 0.5),
    ]


def _beside(number: str, what: str, found: Results, raw: str, target: float) -> list[Row]:
    """Compare with a raw client and a model that does nothing, apart and in turn."""
    apart = {"cpu": found[raw]["cpu"] + found[CORE]["cpu"]}
    both = found[f"{raw} + {CORE}"]
    return [
        _against(number, what, found[OURS], (f"{raw}, plus a {CORE}", apart), target),
        _against(number, what, found[OURS], ("the two in turn in one process", both), target),
    ]


def _in_flight(found: Mapping[str, Results]) -> list[Row]:
    flight, memory = found["flight"], found["flight memory"]
    ours = flight[OURS]
    # A peer that gives errors for answers is no fast one.
    without_errors = {name: flight[name] for name in PEERS if not flight[name].get("errors")}
    best = max(without_errors, key=lambda name: float(without_errors[name]["rate"]))
    rate = float(without_errors[best]["rate"])
    peer, least = _best(memory, "bytes")
    few, many = found["abatch"][OURS]["few"], found["abatch"][OURS]["cpu"]
    limit = float(flight["aiohttp"]["rate"])
    return [
        Row(
            "3",
            "all at once, 0.2 s answers",
            f"{ours['rate']:.0f} calls/s, {ours['errors']:.0f} errors",
            f"{best}: {rate:.0f} calls/s",
            2.4,
            ours["rate"] / rate,
            at_least=True,
        ),
        Row(
            "3",
            "all at once, 0.2 s answers",
            f"{ours['rate']:.0f} calls/s, {ours['errors']:.0f} errors",
            f"aiohttp: {limit:.0f} calls/s",
            0.55,
            ours["rate"] / limit,
            at_least=True,
        ),
        Row(
            "3",
            "memory per call in flight",
            _kib(memory[OURS]["bytes"]),
            f"{peer}: {_kib(least['bytes'])}",
            1.0,
            memory[OURS]["bytes"] / least["bytes"],
        ),
        Row(
            "3",
            "`abatch`, the most prompts",
            _us(many),
            f"100 prompts: {_us(few)}",
            1.1,
            many / few,
        ),
    ]


def _imports_and_memory(found: Mapping[str, Results]) -> list[Row]:
    seconds, memory = found["import"]["seconds"], found["memory"]
    peer, least = _best(memory, "bytes")
    return [
        Row(
            "5",
            "`import langchain_segmind`",
            f"{seconds['ours'] * 1e3:.0f} ms",
            f"langchain-core's chat models: {seconds['core'] * 1e3:.0f} ms",
            1.05,
            seconds["ratio"],
        ),
        Row(
            "5",
            "resident memory after a call",
            _mib(memory[OURS]["bytes"]),
            f"{peer}: {_mib(least['bytes'])}",
            1.0,
            memory[OURS]["bytes"] / least["bytes"],
        ),
    ]


def _growth(found: Mapping[str, Results]) -> list[Row]:
    """Compare the cost at double size; linear is a factor of two, with some noise."""
    sizes = {
        "history of 4,000 messages": ("history 4000", "history 2000", "2,000"),
        "reply of 2 MB": ("reply 2000000", "reply 1000000", "1 MB"),
        "256 bound tools": ("tools 256", "tools 128", "128"),
    }
    return [
        _against("6", what, found[double][OURS], (said, found[once][OURS]), 2.2)
        for what, (double, once, said) in sizes.items()
    ]


def _streams(stream: Results) -> Row:
    # 25 µs, on a machine on which langchain-mistralai took 24.
    return _against("7", "stream, a chunk", stream[OURS], _best(stream, "cpu"), 25 / 24)


def _polls(polls: Results | None) -> list[Row]:
    if polls is None:
        return []
    share = polls[OURS]["share"]
    return [
        Row("8", "polling 1,000 jobs", f"{share:.3f} of a core", "a tenth of a core", 0.1, share)
    ]


def _paid_once(journal: Results, rows: Results) -> list[Row]:
    """Compare calls and rows that a journal keeps with those that none keeps, and with a peer."""
    plain, queued, peer = rows[OURS], rows[QUEUE], _best(rows, "cpu", ROW_PEERS)
    return [
        _against("9", "`invoke` with a journal", journal[JOURNAL], ("without", journal[OURS]), 1.3),
        _against("10", "`batch`, a row", rows[BATCH], ("`ainvoke`", plain), 2.0),
        _against(
            "10",
            "`batch` through the queue",
            rows[BATCH_QUEUE],
            ("`ainvoke` through it, with a journal", queued),
            2.0,
        ),
        _against("10", "`batch`, a row", rows[BATCH], peer, 1 / 3),
        _against("10", "`batch` through the queue", rows[BATCH_QUEUE], peer, 1 / 3),
    ]


def _against(
    number: str,
    what: str,
    ours: Mapping[str, Any],
    other: tuple[str, Mapping[str, Any]],
    target: float,
) -> Row:
    whose, theirs = other
    against = f"{whose}: {_us(theirs['cpu'])}"
    return Row(number, what, _us(ours["cpu"]), against, target, ours["cpu"] / theirs["cpu"])


def _best(
    results: Results, measure: str, peers: Sequence[str] = PEERS
) -> tuple[str, dict[str, Any]]:
    name = min(peers, key=lambda peer: float(results[peer].get(measure, "inf")))
    return name, results[name]


def _us(microseconds: float) -> str:
    return f"{microseconds:,.0f} µs"


def _kib(size: float) -> str:
    return f"{size / 1024:.0f} KiB"


def _mib(size: float) -> str:
    return f"{size / 1024**2:.0f} MiB"


# --- Writing -----------------------------------------------------------------------------------

_HEADS = ("", "What", "Ours", "Against", "Target", "Ratio", "Holds")
_TABLES = {
    "sync": ("One call after another", "cpu"),
    "parallel": ("64 calls in flight", "cpu"),
    "threads": ("64 threads", "cpu"),
    "journal": ("One call after another, with a journal", "cpu"),
    "rows": ("A row, 64 in flight", "rows"),
    "stream": ("A chunk of a stream", "cpu"),
    "flight": ("All at once, 0.2 s answers", "rate"),
    "flight memory": ("Memory per call in flight", "bytes"),
    "memory": ("Resident memory after a call", "bytes"),
}


def write(measured: dict[str, Any], folder: Path, *, keep: bool) -> None:
    """Print the judgement, and keep it beside the benchmarks."""
    judged = table(_HEADS, [row.cells() for row in rows(measured["results"])])
    print(judged)
    if not keep:
        return
    versions = ", ".join(f"{name} {version}" for name, version in measured["versions"].items())
    about = (
        f"Python {measured['python']}, {versions}. CPU time is user and system time of the process "
        "that calls, a call, against a local server that answers at once; medians of interleaved "
        "rounds. Machines differ, ratios hold. `python -m benchmarks` repeats it."
    )
    parts = [
        "# Results",
        about,
        judged,
        "![Answers a second, and rows a minute](speed.svg)",
        "![The CPU time of a call](results.svg)",
        *_everyone(measured["results"]),
    ]
    (folder / "results.md").write_text("\n\n".join(parts) + "\n", encoding="utf-8")
    (folder / "results.json").write_text(json.dumps(measured, indent=1) + "\n", encoding="utf-8")
    draw(measured["results"], folder)


def _everyone(found: Mapping[str, Results]) -> list[str]:
    parts = []
    for name, (title, measure) in _TABLES.items():
        lines = [(who, _shown(values, measure)) for who, values in found[name].items()]
        parts.append(table(("", title), lines))
    return parts


def _shown(values: Mapping[str, Any], measure: str) -> str:
    if "failed" in values:
        return str(values["failed"])
    if measure == "bytes":
        return _kib(values[measure])
    if measure == "cpu":
        return _us(values[measure])
    if measure == "rows":
        return f"{_us(values['cpu'])}, {values['rate'] * 60:,.0f} rows a minute"
    return f"{values[measure]:,.0f} calls/s, {values['errors']:.0f} errors"


def table(heads: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    """Lay out a Markdown table."""
    rule = ["---"] * len(heads)
    return "\n".join("| " + " | ".join(line) + " |" for line in (heads, rule, *lines))


# --- Drawing -----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Panel:
    """Bars of one measure, the best first."""

    experiment: str
    title: str
    measure: str
    shown: Sequence[str]
    unit: float = 1

    def bars(self, found: Mapping[str, Results]) -> list[tuple[str, float]]:
        """Find who is drawn how long; whoever made errors out of answers is not."""
        measured = found.get(self.experiment, {})
        values = [
            (name, measured[name][self.measure] * self.unit)
            for name in self.shown
            if self.measure in measured.get(name, {}) and not measured[name].get("errors")
        ]
        return sorted(values, key=lambda bar: bar[1], reverse=self.measure == "rate")


SPEED = (
    Panel("flight", "Answers a second: 1,000 calls at once, of 0.2 s each", "rate", (OURS, *PEERS)),
    Panel(
        "rows",
        "Rows a minute of a batch: 64 in flight, each answered at once",
        "rate",
        (BATCH, BATCH_QUEUE, *ROW_PEERS),
        unit=60,
    ),
)
COST = (
    Panel("sync", "µs of CPU time: an invoke", "cpu", (OURS, *PEERS)),
    Panel("parallel", "µs of CPU time: an ainvoke, 64 of them in flight", "cpu", (OURS, *PEERS)),
)
_WIDTH, _BAR, _LEFT = 500, 18, 185
_STYLE = """<style>
svg { --paper: #fff; --ink: #24292f; --own: #0a7d5a; --other: #9aa5b1 }
@media (prefers-color-scheme: dark) {
svg { --paper: #0d1117; --ink: #e6edf3; --own: #2fbf8f; --other: #57606a }
}
text { font: 13px system-ui, sans-serif; fill: var(--ink) }
.title { font-weight: 600 }
.paper { fill: var(--paper) }
.own { fill: var(--own) }
.other { fill: var(--other) }
</style>"""


def draw(found: Mapping[str, Results], folder: Path) -> None:
    """Draw what a user feels, and what a call costs."""
    for name, panels in (("speed", SPEED), ("results", COST)):
        (folder / f"{name}.svg").write_text(chart(found, panels), encoding="utf-8")


def chart(found: Mapping[str, Results], panels: Sequence[Panel]) -> str:
    """Draw bars, opaque, for light pages and dark ones; ours are set off."""
    drawn: list[str] = []
    top = 8
    for panel in panels:
        if not (bars := panel.bars(found)):
            continue
        most = max(value for _, value in bars)
        top += 20
        drawn.append(f'<text class="title" x="12" y="{top}">{panel.title}</text>')
        for who, value in bars:
            top += _BAR + 6
            length = (_WIDTH - _LEFT - 80) * value / most
            kind = "own" if who in (OURS, BATCH, BATCH_QUEUE) else "other"
            size = f'width="{length:.0f}" height="{_BAR}"'
            drawn += [
                f'<text x="12" y="{top}">{who}</text>',
                f'<rect class="{kind}" x="{_LEFT}" y="{top - 13}" {size}/>',
                f'<text x="{_LEFT + length + 6:.0f}" y="{top}">{value:,.0f}</text>',
            ]
        top += 14
    head = f'<svg xmlns="http://www.w3.org/2000/svg" width="560" viewBox="0 0 {_WIDTH} {top + 8}">'
    paper = f'<rect class="paper" width="{_WIDTH}" height="{top + 8}" rx="6"/>'
    return "\n".join([head, _STYLE, paper, *drawn, "</svg>", ""])


if __name__ == "__main__":
    _HERE = Path(__file__).parent
    draw(json.loads((_HERE / "results.json").read_text("utf-8"))["results"], _HERE)
