"""A release is stopped where its tag, its version and the changelog disagree."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from tests.packaging.distributions import ROOT

if TYPE_CHECKING:
    from pathlib import Path

SCRIPT = ROOT / ".github" / "release_notes.py"
CHANGELOG = """# Changelog

## Unreleased

- Later.

## 1.2.3 - 2026-11-30

- New.
- Mended.

## 1.2.2 - 2026-11-01

- Old.
"""

pytestmark = pytest.mark.skipif(not SCRIPT.exists(), reason="this tree is no checkout")


def released(folder: Path, version: str, tag: str) -> subprocess.CompletedProcess[str]:
    (folder / "pyproject.toml").write_text(f'[project]\nversion = "{version}"\n')
    (folder / "CHANGELOG.md").write_text(CHANGELOG)
    command = [sys.executable, str(SCRIPT), tag]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)


@pytest.mark.parametrize(
    ("version", "notes"), [("1.2.3", "- New.\n- Mended.\n"), ("1.2.2", "- Old.\n")]
)
def test_the_notes_are_the_section_of_the_version(tmp_path: Path, version: str, notes: str) -> None:
    assert released(tmp_path, version, f"v{version}").stdout == notes


@pytest.mark.parametrize(
    ("version", "tag", "why"),
    [
        ("1.2.3", "v1.2.4", "the tag is v1.2.4, and pyproject.toml says 1.2.3"),
        ("1.2.3", "1.2.3", "the tag is 1.2.3, and pyproject.toml says 1.2.3"),
        ("1.3.0", "v1.3.0", "CHANGELOG.md has no section '## 1.3.0 - YYYY-MM-DD'"),
    ],
)
def test_what_disagrees_is_not_released(tmp_path: Path, version: str, tag: str, why: str) -> None:
    outcome = released(tmp_path, version, tag)
    assert (outcome.returncode, outcome.stdout) == (1, "")
    assert outcome.stderr == f"Not released: {why}.\n"
