"""Build the distributions, and make environments that hold one of them and nothing else."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Mapping

ROOT = Path(__file__).parents[2]
UV = (sys.executable, "-m", "uv")
NO_INDEX = ("Failed to fetch", "dns error", "error sending request", "Connection refused")
"""What uv says when no package index can be reached."""


def run(
    *command: object, cwd: Path | None = None, env: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """Run a command without this process's settings; the caller judges what came of it."""
    return subprocess.run(
        [str(part) for part in command],
        cwd=cwd,
        env={**neutral_environment(), **(env or {})},
        capture_output=True,
        text=True,
        check=False,
        timeout=200,
    )


def neutral_environment() -> dict[str, str]:
    """Give the variables of this process that are none of Python's, pytest's or ours."""
    ours = ("PYTHON", "PYTEST", "SEGMIND", "COV")
    return {name: value for name, value in os.environ.items() if not name.startswith(ours)}


def checked(outcome: subprocess.CompletedProcess[str]) -> str:
    """Give what a command printed; show all of it where it failed."""
    assert outcome.returncode == 0, outcome.stdout + outcome.stderr
    return outcome.stdout


@dataclass(frozen=True)
class Distributions:
    """What a release uploads."""

    wheel: Path
    sdist: Path

    @classmethod
    def build(cls, folder: Path) -> Distributions:
        """Build the sdist from this tree, and the wheel from the sdist.

        A release names the folder of what it is about to upload in DISTRIBUTIONS instead.
        """
        if built := os.environ.get("DISTRIBUTIONS"):
            folder = ROOT / built
        else:
            checked(run(sys.executable, "-m", "build", "--no-isolation", "--outdir", folder, ROOT))
        [wheel], [sdist] = folder.glob("*.whl"), folder.glob("*.tar.gz")
        return cls(wheel, sdist)


@dataclass(frozen=True)
class Environment:
    """A virtual environment."""

    folder: Path

    @classmethod
    def holding(cls, requirement: str, folder: Path) -> Environment:
        """Install a package and what it depends on; skip where no index can be reached."""
        checked(run(*UV, "venv", "--quiet", "--python", sys.executable, folder))
        made = cls(folder)
        outcome = run(*UV, "pip", "install", "--quiet", "--python", made.python, requirement)
        if outcome.returncode and any(sign in outcome.stderr for sign in NO_INDEX):
            pytest.skip("no package index can be reached")
        checked(outcome)
        return made

    @property
    def python(self) -> Path:
        """Where its interpreter is."""
        return self.folder / "bin" / "python"
