"""Run suites and programs of others on the newest versions of everything; write what came of it.

    python -m compat            all of suites.toml
    python -m compat langgraph  the entries of this name alone; other rows stay as they are
    python -m compat none       nothing: what expected.toml says by now is applied to what is known

It ends with 1 where a test failed that expected.toml does not name, or one that it names did not.
"""

from __future__ import annotations

import json
import os
import re
import sys
import tomllib
from collections import Counter
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from compat import report
from compat.environments import ROOT, Environment, test_requirements

HERE = Path(__file__).parent
WORK = ROOT / ".compat"
RESULTS = HERE / "results.json"
NAMES_A_MODEL = re.compile(r"Chat\w*Model|Fake\w*Model")
IS_STANDARD = re.compile(r"ChatModelIntegrationTests")
OPTIONS = ("--override-ini=addopts=", "-p", "no:cacheprovider", "--continue-on-collection-errors")
PATIENCE = "--timeout=20"
"""Seconds for a test: some wait for a second chunk for ever."""

Tests = dict[str, dict[str, str]]


@dataclass(frozen=True)
class Row:
    """What came of one suite."""

    kind: str
    name: str
    versions: dict[str, str]
    passed: int
    skipped: int
    failed: dict[str, str]
    """What failed with our model, and what pytest says of it."""
    fails_without_us: list[str]
    """What fails on the suite's own fakes, too."""


def main(chosen: list[str]) -> int:
    """Run what was chosen, and write the page."""
    entries = tomllib.loads((HERE / "suites.toml").read_text("utf-8"))
    results = json.loads(RESULTS.read_text("utf-8")) if RESULTS.exists() else {}
    for kind, run in RUNS.items():
        for entry in entries[kind]:
            names = {entry["package"], entry.get("name")}
            if chosen and names.isdisjoint(chosen):
                continue
            print(f"{kind} of {entry['package']} …", flush=True)
            row = run(entry)
            results[f"{kind} {row.name}"] = asdict(row)
            RESULTS.write_text(json.dumps(results, indent=2, ensure_ascii=False) + "\n", "utf-8")
    return report.write(results, datetime.now(UTC).date().isoformat())


def run_suite(entry: dict[str, Any]) -> Row:
    """Run a suite with our model for its fakes, and what fails with its fakes once more."""
    package = entry["package"]
    environment, versions, source = _prepared(package, entry.get("with", []))
    files = _naming(NAMES_A_MODEL, source, entry["tests"])
    plugin = ("-p", "compat.stand_in", PATIENCE, *OPTIONS, *_left_out(entry))
    tests = environment.test(source, *plugin, *files, env=_variables())
    tests = {name: test for name, test in tests.items() if test["has_model"]}
    failed = [name for name, test in tests.items() if test["outcome"] == "failed"]
    theirs: list[str] = []
    if failed:
        own = environment.test(source, *plugin, "--own-fakes", *failed, env=_variables())
        theirs = [name for name in failed if own.get(name, {}).get("outcome") == "failed"]
    return _row("suite", package, versions, tests, theirs)


def run_partner(entry: dict[str, Any]) -> Row:
    """Run a partner's edition of the standard suite."""
    package = entry["package"]
    environment, versions, source = _prepared(package, ["langchain-tests"])
    files = _naming(IS_STANDARD, source, "tests/integration_tests")
    module = f"--partner={package.replace('-', '_')}"
    plugin = ("-p", "compat.partners", module, PATIENCE, *OPTIONS, *_left_out(entry))
    tests = environment.test(source, *plugin, *files, env=_variables())
    return _row("partner", package, versions, tests, [])


def run_program(entry: dict[str, Any]) -> Row:
    """Run a program of ours on a framework."""
    packages = [entry["package"], *entry.get("with", [])]
    environment = Environment(f"program-{entry['name']}", WORK)
    environment.install(*packages)
    file = HERE / "programs" / f"test_{entry['name']}.py"
    tests = environment.test(HERE / "programs", file, "-p", "no:cacheprovider", env=_variables())
    return _row("program", entry["name"], environment.versions(packages), tests, [])


RUNS = {"suite": run_suite, "partner": run_partner, "program": run_program}


def _prepared(package: str, others: list[str]) -> tuple[Environment, dict[str, str], Path]:
    """Install a package's newest version, and what its tests need."""
    environment = Environment(package, WORK)
    environment.install(package, *others)
    versions = environment.versions([package, "langchain-core"])
    source = environment.source(package, versions[package])
    environment.install(f"{package}=={versions[package]}", *others, *test_requirements(source))
    return environment, versions, source


def _left_out(entry: dict[str, Any]) -> list[str]:
    return [f"-k not {entry['without']}"] if "without" in entry else []


def _naming(pattern: re.Pattern[str], source: Path, folder: str) -> list[str]:
    """Find the test files that have to do with a chat model."""
    files = sorted((source / folder).rglob("test_*.py"))
    return [
        str(file.relative_to(source)) for file in files if pattern.search(file.read_text("utf-8"))
    ]


def _variables() -> dict[str, str]:
    """Give the environment of a run: no real key, no tracing, no services in containers."""
    own = {name: value for name, value in os.environ.items() if not name.startswith("SEGMIND_")}
    set_here = {"PYTHONPATH": str(ROOT), "NO_DOCKER": "true", "LANGSMITH_TRACING": "false"}
    keys = dict.fromkeys(("OPENAI_API_KEY", "ANTHROPIC_API_KEY"), "not-a-key")
    return own | set_here | keys


def _row(kind: str, name: str, versions: dict[str, str], tests: Tests, theirs: list[str]) -> Row:
    outcomes = Counter(test["outcome"] for test in tests.values())
    failed = {
        name: test["why"]
        for name, test in tests.items()
        if test["outcome"] == "failed" and name not in theirs
    }
    return Row(kind, name, versions, outcomes["passed"], outcomes["skipped"], failed, theirs)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
