"""Draw what is better seen than read.

`python docs/images/diagrams.py` writes the SVG files beside it.

They are opaque and follow the reader's light or dark; no font and no script is loaded.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from html import escape
from pathlib import Path

HERE = Path(__file__).parent
WIDTH = 640
LINE = 19
PADDING = 9
LIGHT = "--paper: #fff; --ink: #24292f; --line: #8b949e; --plain: #f3f4f6;"
LIGHT += " --free: #d9f2e3; --paid: #dbe8ff; --open: #fdeccb;"
DARK = "--paper: #0d1117; --ink: #e6edf3; --line: #7d8590; --plain: #21262d;"
DARK += " --free: #12402a; --paid: #173463; --open: #55390a;"
SVG = """<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}"
 role="img" aria-label="{title}">
<style>
svg {{ {light} }}
@media (prefers-color-scheme: dark) {{ svg {{ {dark} }} }}
text {{ font: 13px system-ui, "Segoe UI", "Noto Sans", Helvetica, Arial, sans-serif; }}
text {{ fill: var(--ink); }}
.head {{ font-weight: 600; }}
rect {{ stroke: var(--line); fill: var(--plain); }}
.paper {{ fill: var(--paper); }}
.free {{ fill: var(--free); }} .paid {{ fill: var(--paid); }} .open {{ fill: var(--open); }}
path {{ stroke: var(--line); stroke-width: 1.5; fill: none; }}
.dashed {{ stroke-dasharray: 5 4; }}
.tip {{ fill: var(--line); stroke: none; }}
</style>
<defs><marker id="tip" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" markerHeight="7"
 orient="auto"><path class="tip" d="M0 0 8 4 0 8z"/></marker></defs>
<rect class="paper" width="{width}" height="{height}" rx="8" stroke="none"/>
{drawn}
</svg>
"""


@dataclass(frozen=True)
class Box:
    """Some lines of text in a frame, the first of them set off."""

    text: str
    kind: str = "plain"

    @property
    def height(self) -> int:
        """Pixels."""
        return (self.text.count("\n") + 1) * LINE + 2 * PADDING

    def at(self, x: float, y: float, width: float) -> str:
        """Draw it."""
        lines = self.text.split("\n")
        head = ' class="head"'
        words = "".join(
            f'<text x="{x + 10}" y="{y + PADDING + 14 + n * LINE}"{head if n == 0 else ""}>'
            f"{escape(line)}</text>"
            for n, line in enumerate(lines)
        )
        frame = f'x="{x}" y="{y}" width="{width}" height="{self.height}" rx="6"'
        return f'<rect class="{self.kind}" {frame}/>{words}'


def arrow(path: str, *, dashed: bool = False) -> str:
    """Draw a way to its tip."""
    return f'<path class="{"dashed" if dashed else ""}" d="{path}" marker-end="url(#tip)"/>'


def write(name: str, title: str, height: float, drawn: list[str], width: int = WIDTH) -> None:
    """Write a picture."""
    svg = SVG.format(
        width=width,
        height=height,
        title=escape(title),
        light=LIGHT,
        dark=DARK,
        drawn="\n".join(drawn),
    )
    (HERE / f"{name}.svg").write_text(svg, "utf-8")


# --- The life of a call ------------------------------------------------------------------------


@dataclass(frozen=True)
class Step:
    """What happens to every call, and the ways that lead off."""

    box: Box
    ways: list[Box] = field(default_factory=list)
    again: bool = False
    """Whether the first of the ways leads back."""


LIFE = [
    Step(
        Box("invoke(…)\nchecked before it is sent"),
        [Box("a wrong parameter, or below min_credits\nan error: nothing was sent", "free")],
    ),
    Step(
        Box("with a journal:\nis the call known?"),
        [
            Box("answered before\nthe same answer, for 0 credits", "free"),
            Box("submitted before\non to the polls: nothing is posted", "free"),
            Box(
                "sent before, and its answer was lost\nSegmindOutcomeUnknownError: not sent again",
                "open",
            ),
        ],
    ),
    Step(
        Box("POST"),
        [
            Box(
                "never sent; 429 or 5xx of Segmind\nnot billed: sent again, max_retries times",
                "free",
            ),
            Box("any other error of Segmind\nnot billed: an error that says what to do", "free"),
            Box(
                "lost: time-out, reset, a proxy gave up\n"
                "perhaps billed: not sent again,\noutcome_unknown=True",
                "open",
            ),
        ],
        again=True,
    ),
    Step(
        Box("v1: 200\nqueue: a request id"),
        [Box("v1: billed\nthe answer, with its cost and what is left", "paid")],
    ),
    Step(
        Box("queue: polls\nGETs are free, and repeated\nuntil queue_timeout"),
        [
            Box("FAILED\nnot billed: SegmindJobFailedError", "free"),
            Box(
                "nobody waits: killed, cancelled, too late\n"
                "resume(id) fetches it for about an hour;\nwith a journal the same call again does",
                "open",
            ),
        ],
    ),
    Step(Box("COMPLETED: billed once\nthe answer, with its cost", "paid")),
]
LEFT, RIGHT, GAP, BETWEEN = 16, 262, 10, 26


def draw_life() -> None:
    """Draw what can become of a call: sent or not, billed or not, and where its answer is."""
    drawn, y, wide = [], 16, RIGHT - LEFT - 44
    for step, following in zip(LIFE, [*LIFE[1:], None], strict=True):
        drawn.append(step.box.at(LEFT, y, wide))
        middle, turn = y + step.box.height / 2, LEFT + wide
        top = y
        for number, way in enumerate(step.ways):
            drawn.append(way.at(RIGHT, top, WIDTH - RIGHT - 16))
            to = top + way.height / 2 if number else middle
            drawn.append(arrow(f"M{turn} {middle}H{RIGHT - 22}V{to}H{RIGHT - 2}"))
            if step.again and number == 0:
                back = f"M{RIGHT + 60} {top}V{top - 12}H{LEFT + wide - 40}V{y - 2}"
                drawn.append(arrow(back, dashed=True))
            top += way.height + GAP
        bottom = max(y + step.box.height, top - GAP)
        if following:
            down = f"M{LEFT + 40} {y + step.box.height}V{bottom + BETWEEN - 2}"
            drawn.append(arrow(down))
        y = bottom + BETWEEN
    write("life-of-a-call", "What can become of a call", y - BETWEEN + 16, drawn)


# --- Who talks to whom -------------------------------------------------------------------------


def draw_parts() -> None:
    """Draw the app, the package, and what stands behind its base URL."""
    app = Box("your app\nchains, agents, a web service,\na notebook, batch")
    own = Box("langchain-segmind\ntools and schemas in the prompt,\nretries, credits, rate limits")
    kept = Box("journal: SQLite or Postgres\nwhat was paid for, and by whom")
    there = Box("Segmind\nv1, and v2, its queue\nLlama 3 to 3.2, 8B to 405B", "paid")
    here = Box(
        "the local Segmind\na small Llama, scripted answers,\n"
        "or your own OpenAI-like server;\nwith faults on request",
        "free",
    )
    left, right, wide = 16, 372, 252
    drawn = [
        app.at(left, 16, wide),
        own.at(left, 130, wide),
        kept.at(left, 244, wide),
        there.at(right, 60, wide),
        here.at(right, 190, wide),
        arrow(f"M{left + 120} {16 + app.height}V128"),
        arrow(f"M{left + 120} {130 + own.height}V242", dashed=True),
        arrow(f"M{left + wide} 150H318V98H{right - 2}"),
        arrow(f"M{left + wide} 178H318V236H{right - 2}"),
        f'<text x="{right}" y="48">SEGMIND_BASE_URL: not set</text>',
        f'<text x="{right}" y="178">http://127.0.0.1:8765</text>',
    ]
    write("parts", "The app, the package, and Segmind or its local stand-in", 316, drawn)


# --- A prompt's way ----------------------------------------------------------------------------

ACTORS = [
    "your app",
    "chat_models\n_messages\n_tool_calling",
    "a flow\n_protocol",
    "a driver\n_transport",
    "Segmind",
]
WAY = [
    (0, 1, "invoke(messages)"),
    (1, 1, "roles, tools, schemas\nbecome a body"),
    (1, 2, "complete(body)"),
    (2, 3, "UseJournal, if any"),
    (3, 2, "not known: claimed"),
    (2, 3, "AcquireSlot"),
    (2, 3, "Request"),
    (3, 4, "POST, with the key"),
    (4, 3, "200, what is left"),
    (3, 2, "Response"),
    (2, 2, "again? an error?\ndone? balance noted"),
    (2, 1, "answer"),
    (1, 1, "text, calls,\ntokens, credits"),
    (1, 0, "AIMessage"),
]


def draw_way() -> None:
    """Draw who says what to whom in a call; with a journal, which is asked first."""
    apart, wide = 158, 124
    middles = [16 + wide / 2 + apart * number for number in range(len(ACTORS))]
    y = 106
    words = []
    for here, there, text in WAY:
        start, end = middles[here], middles[there]
        if here == there:
            box = Box(text)
            words.append(box.at(start - 78, y - 12, 156).replace(' class="head"', ""))
            y += box.height + 14
            continue
        toward = 3 if end > start else -3
        words.append(f'<text x="{(start + end) / 2}" y="{y}" text-anchor="middle">{text}</text>')
        words.append(arrow(f"M{start} {y + 7}H{end - toward}", dashed=end < start))
        y += 34
    heads = [Box(name).at(x - wide / 2, 12, wide) for name, x in zip(ACTORS, middles, strict=True)]
    lives = [
        f'<path class="dashed" d="M{x} {12 + Box(name).height}V{y - 8}"/>'
        for name, x in zip(ACTORS, middles, strict=True)
    ]
    write(
        "way-of-a-prompt",
        "A prompt's way to the wire and back",
        y + 8,
        [*lives, *heads, *words],
        788,
    )


if __name__ == "__main__":
    draw_life()
    draw_parts()
    draw_way()
