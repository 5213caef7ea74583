"""The script of Segmind's API page runs, with only its URL and its key changed."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from langchain_segmind.gateway import serve

HERE = Path(__file__).parent / "axios"
NODE, NPM = shutil.which("node"), shutil.which("npm")

pytestmark = pytest.mark.skipif(not (NODE and NPM), reason="there is no node or no npm here")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which axios is installed."""
    made = tmp_path_factory.mktemp("axios")
    shutil.copy(HERE / "package.json", made)
    options = ["--no-audit", "--no-fund", "--no-package-lock", "--ignore-scripts"]
    try:
        subprocess.run(
            [str(NPM), "install", *options], cwd=made, capture_output=True, check=True, timeout=60
        )
    except (subprocess.CalledProcessError, subprocess.TimeoutExpired):
        pytest.skip("npm could not install axios")
    return made


def run(folder: Path, url: str, key: str) -> subprocess.CompletedProcess[str]:
    script = (HERE / "seed.js").read_text()
    changed = script.replace("https://api.segmind.com", url).replace("YOUR API-KEY", key)
    (folder / "seed.js").write_text(changed)
    return subprocess.run(
        [str(NODE), "seed.js"], cwd=folder, capture_output=True, text=True, check=False, timeout=30
    )


def test_it_prints_the_answer(folder: Path) -> None:
    with serve() as gateway:
        outcome = run(folder, gateway.url, gateway.api_key)

    assert outcome.stderr == ""
    assert "object: 'chat.completion'" in outcome.stdout
    assert gateway.account.charge_count == 1


def test_it_prints_the_error(folder: Path) -> None:
    with serve() as gateway:
        outcome = run(folder, gateway.url, "SG_wrong")

    assert "error: 'Invalid API key'" in outcome.stderr
    assert "status_code: 401" in outcome.stderr
