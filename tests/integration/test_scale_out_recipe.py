"""The recipe for Dask, as the page has it, on threads: no cluster is needed."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from langchain_segmind.gateway import Faults, RunningGateway, Settings, serve
from tests.integration.snippets import snippets_of

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "scale-out.md").read_text("utf-8")
ROWS = 60


@pytest.fixture
def gateway(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[RunningGateway]:
    """Run a gateway that breaks one answer in seven, and a folder with prompts."""
    third = 1 / 21
    broken = Faults(error_rate=third, drop_after_rate=third, half_body_rate=third)
    monkeypatch.chdir(tmp_path)
    lines = [json.dumps({"id": row, "prompt": f"question {row}"}) for row in range(ROWS)]
    (tmp_path / "prompts.jsonl").write_text("\n".join(lines), "utf-8")
    with serve(Settings(post_faults=broken, poll_faults=broken, fault_seed=1)) as running:
        monkeypatch.setenv("SEGMIND_API_KEY", running.api_key)
        monkeypatch.setenv("SEGMIND_BASE_URL", running.url)
        yield running


def run_recipe() -> list[dict[str, Any]]:
    """Run the page's recipe on the prompts that are there, at a pace that keeps nobody waiting."""
    recipe = list(snippets_of(PAGE))[-1].source.replace("minute=50", "minute=10000")
    exec(compile(recipe, "scale-out.md", "exec"), {"json": json, "Path": Path})
    lines = [
        line for path in Path("rows").iterdir() for line in path.read_text("utf-8").split("\n")
    ]
    return sorted((json.loads(line) for line in lines if line.strip()), key=by_id)


def by_id(row: dict[str, Any]) -> int:
    return int(row["id"])


def test_every_row_once_and_none_paid_twice(gateway: RunningGateway) -> None:
    """The second run fetches what it can, asks for what was not billed, and names the rest."""
    runs = [run_recipe() for _ in range(3)]
    for rows in runs:
        assert [row["id"] for row in rows] == list(range(ROWS))
        assert all(("answer" in row) != ("error" in row) for row in rows)
        answers = {row["id"]: row["answer"] for row in rows if "answer" in row}
        assert all(answer == f"You said: question {row}" for row, answer in answers.items())
    prompts = [body["messages"][-1]["content"] for body in gateway.account.billed_bodies]
    assert len(set(prompts)) == len(prompts)
    lost = [row for row in runs[-1] if "error" in row]
    assert all("SegmindOutcomeUnknownError" in row["error"] for row in lost)
    assert 0 < len(lost) < ROWS // 7
    assert len(prompts) == ROWS


def test_the_page_says_what_the_benchmarks_measured() -> None:
    """Within a factor of two: what is renewed there may not leave the page behind."""
    figures = json.loads((ROOT / "benchmarks" / "results.json").read_text("utf-8"))["results"]
    call = figures["parallel"]["langchain-segmind"]["cpu"]
    assert "a core makes about 1,000 calls a second" in PAGE
    assert 500 < 1e6 / call < 2000
    memory = figures["flight memory"]["langchain-segmind"]["bytes"] / 1024
    assert "some 30 KiB for a call in flight" in PAGE
    assert 15 < memory < 60


def test_the_table_follows_from_the_limits() -> None:
    rows = re.findall(r"^\| ([\d,]+) \| ([\d.]+) \| ([\d.]+) % \| (\d+) \|", PAGE, re.MULTILINE)
    assert [row[0] for row in rows] == ["5", "50", "60", "120", "500", "1,000"]
    for limit, calls, share, flying in rows:
        per_second = float(limit.replace(",", "")) / 60
        assert float(calls) == pytest.approx(per_second, rel=0.05)
        assert float(share) == pytest.approx(per_second * 1e-3 * 100, rel=0.25)
        assert int(flying) == pytest.approx(per_second * 10, abs=0.5)
