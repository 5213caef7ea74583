"""Draws what `make demo` prints on a terminal: docs/demo-light.svg and docs/demo-dark.svg.

Of the demo's parts those are shown that fit on a page; the words are the small model's own.
"""

from __future__ import annotations

import os
import pty
import re
import sys
from pathlib import Path

from rich.console import Console
from rich.terminal_theme import TerminalTheme
from rich.text import Text

ROOT = Path(__file__).parents[1]
SHOWN = ("A conversation", "A structured answer", "An agent with a tool", "Bill")
COLUMNS = 48
"""So few that the letters can be read on a phone."""
# Nothing is loaded from elsewhere: the fonts are those that a reader has. On a wide page letters
# are no larger than those around them.
SVG = """\
<svg xmlns="http://www.w3.org/2000/svg" width="480" viewBox="0 0 {width} {height}" \
role="img" aria-label="What make demo prints">
<style>
.{unique_id}-matrix {{ font: {char_height}px ui-monospace, SFMono-Regular, Menlo, Consolas, \
"DejaVu Sans Mono", monospace; line-height: {line_height}px; }}
{styles}
</style>
<defs>
<clipPath id="{unique_id}-clip-terminal">
<rect width="{terminal_width}" height="{terminal_height}"/>
</clipPath>
{lines}
</defs>
{chrome}
<g transform="translate(14, 28)" clip-path="url(#{unique_id}-clip-terminal)">
{backgrounds}
<g class="{unique_id}-matrix">
{matrix}
</g>
</g>
</svg>
"""
BLACK_TO_WHITE = {
    "light": ["#24292f", "#b3261e", "#116329", "#7d4e00", "#0550ae", "#8250df", "#0b6e75"],
    "dark": ["#c9d1d9", "#ff7b72", "#7ee787", "#e3b341", "#79c0ff", "#d2a8ff", "#76e3ea"],
}
PAPER = {"light": "#ffffff", "dark": "#0d1117"}
FRAME = "#8b949e"


def main() -> None:
    """Run the demo once and draw it twice."""
    parts = run_demo().split("\n\x1b[1m\n── ")
    kept = [part for part in parts[1:] if part.startswith(SHOWN)]
    printed = "\n\x1b[1m\n── ".join([parts[0], *kept]).rstrip()
    for scheme in PAPER:
        draw(printed, scheme)


def run_demo() -> str:
    """Give what the demo prints on a terminal, on the small model."""
    os.environ.pop("SEGMIND_API_KEY", None)
    os.environ.pop("NO_COLOR", None)
    os.environ["COLUMNS"] = str(COLUMNS)
    printed = b""

    def read(terminal: int) -> bytes:
        nonlocal printed
        piece = os.read(terminal, 65_536)
        printed += piece
        return piece

    if pty.spawn([sys.executable, str(ROOT / "examples" / "demo.py")], read):
        sys.exit("The demo failed.")
    return printed.decode().replace("\r\n", "\n")


def draw(printed: str, scheme: str) -> None:
    """Draw a terminal's output for light or for dark pages."""
    colours = [rgb(colour) for colour in [*BLACK_TO_WHITE[scheme], BLACK_TO_WHITE[scheme][0]]]
    theme = TerminalTheme(rgb(PAPER[scheme]), colours[0], colours, colours)
    with Path(os.devnull).open("w", encoding="utf-8") as nowhere:
        console = Console(record=True, width=COLUMNS, file=nowhere, force_terminal=True)
        console.print(Text("$ make demo", style="bold"))
        console.print(Text.from_ansi(printed))
        svg = console.export_svg(title="", theme=theme, code_format=SVG, unique_id=scheme)
    # Of the window the paper and its edge stay, without title and buttons.
    svg = svg.replace("rgba(255,255,255,0.35)", FRAME)
    svg = re.sub(r"<text class=\"[\w-]*title\".*?</text>", "", svg, flags=re.DOTALL)
    svg = re.sub(r"<g transform=\"translate\(26,22\)\">.*?</g>", "", svg, flags=re.DOTALL)
    (ROOT / "docs" / f"demo-{scheme}.svg").write_text(svg, "utf-8")


def rgb(colour: str) -> tuple[int, int, int]:
    """Read a colour of CSS."""
    return int(colour[1:3], 16), int(colour[3:5], 16), int(colour[5:7], 16)


if __name__ == "__main__":
    main()
