"""What came of it, for the terminal and for docs/compatibility.md."""

from __future__ import annotations

import re
import tomllib
from collections import Counter, defaultdict
from pathlib import Path
from typing import Any

from compat.environments import ROOT

PAGE = ROOT / "docs" / "compatibility.md"
EXPECTED = Path(__file__).parent / "expected.toml"
MARKS = re.compile("<!-- results -->.*<!-- /results -->", re.DOTALL)
TITLES = {
    "suite": "Suites, with our model for their fakes",
    "partner": "LangChain's standard suite, as partner packages run it",
    "program": "Programs",
}
Rows = dict[str, dict[str, Any]]


class Sorted:
    """The failures of a suite: what was expected, what is new, and what was expected in vain."""

    def __init__(self, row: dict[str, Any], reasons: dict[str, str]) -> None:
        self.expected: Counter[str] = Counter()
        self.new: dict[str, str] = {}
        stale = set(reasons)
        for test, why in row["failed"].items():
            named = [
                pattern
                for pattern in reasons
                if re.search(rf"(?:::|/)(?:{pattern})(?:\[.*\])?$", test)
            ]
            stale.difference_update(named)
            if named:
                self.expected[reasons[named[0]]] += 1
            else:
                self.new[test] = why
        self.stale = sorted(stale)


def write(rows: Rows, date: str) -> int:
    """Put the tables into the page, between their marks, and tell of what is new.

    Returns:
        1 where anything is, else 0: what the command ends with.
    """
    expected = tomllib.loads(EXPECTED.read_text("utf-8"))["reason"]
    found = {key: Sorted(row, _patterns(expected, row["name"])) for key, row in rows.items()}
    tables = [_table(kind, rows, found) for kind in TITLES]
    text = "\n\n".join(["<!-- results -->", f"Last run on {date}.", *tables, _reasons(rows, found)])
    page = MARKS.sub(lambda _: f"{text}\n\n<!-- /results -->", PAGE.read_text("utf-8"))
    PAGE.write_text(page, "utf-8")
    lines = [line for key, one in found.items() for line in _news(rows[key]["name"], one)]
    print("\n".join(lines) or "Nothing failed that is not expected to.")
    return bool(lines)


def _patterns(expected: list[dict[str, Any]], name: str) -> dict[str, str]:
    """Give a suite's patterns, each with its reason."""
    return {pattern: one["why"] for one in expected for pattern in one.get(name, [])}


def _news(name: str, found: Sorted) -> list[str]:
    new = [f"{name}: NEW {test}\n    {' '.join(why.split())}" for test, why in found.new.items()]
    return [*new, *(f"{name}: fails no more, or is no more: {it}" for it in found.stale)]


def _table(kind: str, rows: Rows, found: dict[str, Sorted]) -> str:
    lines = [
        f"### {TITLES[kind]}",
        "",
        "| | versions | passed | cannot pass | skipped | fails without us | new failures |",
        "| --- | --- | ---: | ---: | ---: | ---: | ---: |",
    ]
    for key, row in rows.items():
        if row["kind"] != kind:
            continue
        versions = ", ".join(f"{package} {number}" for package, number in row["versions"].items())
        expected, new = found[key].expected.total(), len(found[key].new)
        counts = (row["passed"], expected, row["skipped"], len(row["fails_without_us"]), new)
        lines.append(f"| {row['name']} | {versions} | {' | '.join(map(str, counts))} |")
    return "\n".join(lines)


def _reasons(rows: Rows, found: dict[str, Sorted]) -> str:
    """List why tests cannot pass, the most frequent reason first."""
    total, places = Counter[str](), defaultdict[str, list[str]](list)
    for key, one in found.items():
        total.update(one.expected)
        for reason, count in one.expected.items():
            places[reason].append(f"{rows[key]['name']} {count}")
    lines = [
        "### What cannot pass, and why",
        "",
        "| reason | tests | where |",
        "| --- | ---: | --- |",
    ]
    lines += [f"| {why} | {many} | {', '.join(places[why])} |" for why, many in total.most_common()]
    return "\n".join(lines)
