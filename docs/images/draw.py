"""Draw the pictures of synthetic-data.md, by a run against the local Segmind.

`python docs/images/draw.py` writes progress.svg and credits.svg beside this file.
"""

from __future__ import annotations

import io
import random
import tempfile
import time
from pathlib import Path

from rich.console import Console

from langchain_segmind import ChatSegmindLlama, batch
from langchain_segmind._batch.progress import draw
from langchain_segmind._batch.report import Tally
from langchain_segmind.gateway import ScriptedEngine, Settings, serve

HERE = Path(__file__).parent
COUNT, BUDGET = 600, 0.12
COLUMNS = 70
"""As few as the command has, so that a phone's letters can be read."""
COMMAND = "langchain-segmind batch prompts.jsonl answers.jsonl --budget 0.12"
TERMINAL = """<svg xmlns="http://www.w3.org/2000/svg" width="560"
 viewBox="0 0 {terminal_width} {terminal_height}">
<style>text {{ font: 20px monospace; white-space: pre; }} {styles}</style>
<rect width="100%" height="100%" rx="8" fill="#292929"/>
<g transform="translate(9, 9)">{backgrounds}<g>{matrix}</g></g><defs>{lines}</defs></svg>
"""
# Without a ground of its own, in colours that can be read on a light page and on a dark one.
CHART = """<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 640 240" font-family="sans-serif"
 font-size="12">
<path d="M60 20V200H620" fill="none" stroke="#7a7a7a"/>
<path d="M60 {limit}H620" stroke="#d24a4a" stroke-dasharray="6 4"/>
<text x="64" y="{above}" fill="#d24a4a">budget: {budget} credits</text>
<polyline points="{points}" fill="none" stroke="#3f7fdf" stroke-width="2"/>
<text x="{x}" y="{y}" text-anchor="end" fill="#3f7fdf">{spent:.4f} spent on {count} answers</text>
<text x="60" y="218" fill="#7a7a7a">0 s</text><text x="620" y="218" text-anchor="end"
 fill="#7a7a7a">{seconds:.0f} s</text></svg>
"""


def main() -> None:
    """Run a batch until its budget is reached, and draw what it came to."""
    chance = random.Random(14)
    engine = ScriptedEngine(lambda _: "word " * chance.randrange(100, 500))
    rows = ({"id": n, "prompt": f"Tell a story of number {n}."} for n in range(COUNT))
    tally, spent = Tally(COUNT), [(0.0, 0.0)]
    console = Console(
        record=True, width=COLUMNS, file=io.StringIO(), force_terminal=True, highlight=False
    )
    with tempfile.TemporaryDirectory() as folder, serve(Settings(), engine) as gateway:
        llm = ChatSegmindLlama(
            api_key=gateway.api_key, base_url=gateway.url, journal=f"{folder}/run", max_tokens=500
        )
        try:
            for result in batch.run_sync(rows, llm, in_flight=16, budget=BUDGET):
                tally.count(result)
                spent.append((time.monotonic() - tally.started, tally.spent))
                if tally.done == COUNT // 2:
                    console.print(f"$ {COMMAND}")
                    console.print(draw(tally, gateway.account.remaining), "")
        except batch.BudgetReachedError as end:
            print(end)
    (HERE / "progress.svg").write_text(console.export_svg(code_format=TERMINAL), "utf-8")
    (HERE / "credits.svg").write_text(chart(spent), "utf-8")


def chart(spent: list[tuple[float, float]]) -> str:
    """Draw credits over time."""
    seconds, most = spent[-1][0], BUDGET * 1.1
    points = [(60 + 560 * when / seconds, 200 - 180 * paid / most) for when, paid in spent]
    limit = 200 - 180 * BUDGET / most
    return CHART.format(
        limit=f"{limit:.1f}",
        above=f"{limit - 6:.1f}",
        budget=BUDGET,
        points=" ".join(f"{x:.1f},{y:.1f}" for x, y in points),
        x=610,
        y=f"{points[-1][1] + 100:.1f}",
        spent=spent[-1][1],
        count=len(spent) - 1,
        seconds=seconds,
    )


if __name__ == "__main__":
    main()
