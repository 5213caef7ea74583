"""A pytest plugin: writes what came of each test, and whether a model of ours was in it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from compat.segmind import seen

if TYPE_CHECKING:
    from collections.abc import Generator


def pytest_addoption(parser: pytest.Parser) -> None:
    """Take where it is written."""
    parser.addoption("--outcomes", required=True, help="a file for what came of each test")


def pytest_configure(config: pytest.Config) -> None:
    """Listen to the reports."""
    config.pluginmanager.register(_Outcomes(Path(config.getoption("--outcomes"))))


class _Outcomes:
    """What came of the tests of a run."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self._tests: dict[str, dict[str, Any]] = {}

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> Generator[None, object, object]:
        """Notice which tests make or call a model."""
        before = seen.total()
        done = yield
        self._tests[item.nodeid]["has_model"] = seen.total() > before
        return done

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Keep the worst of set-up, call and tear-down."""
        test = self._tests.setdefault(report.nodeid, {"outcome": "passed", "why": ""})
        if report.failed or (report.skipped and test["outcome"] == "passed"):
            test |= {"outcome": report.outcome, "why": _why(report)}

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        """Keep a module that could not be imported, too."""
        if report.failed:
            why = _why(report)
            self._tests[report.nodeid] = {"outcome": "failed", "why": why, "has_model": True}

    def pytest_sessionfinish(self) -> None:
        """Write them."""
        self._file.write_text(json.dumps(self._tests, indent=1), "utf-8")


def _why(report: pytest.TestReport | pytest.CollectReport) -> str:
    """Give what pytest's short summary gives."""
    crash = getattr(report.longrepr, "reprcrash", None)
    if crash is not None:
        return str(crash.message)[:300]
    return report.longreprtext.strip().splitlines()[-1][:300]
