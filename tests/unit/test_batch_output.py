"""The file of answers survives what happens to files."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import pytest

from langchain_segmind._batch.output import OutputError, OutputFile, count_answers
from langchain_segmind._batch.results import BatchResult
from langchain_segmind.exceptions import SegmindJobFailedError

if TYPE_CHECKING:
    from pathlib import Path

RAW = b'{"choices": [{"message": {"content": "hi"}}]}'
ANSWER = BatchResult('a "b"', raw=RAW).as_line()
ERROR = BatchResult("c", error=SegmindJobFailedError("no")).as_line()


def test_answers_stay_errors_go_and_a_torn_end_is_cut_off(tmp_path: Path) -> None:
    path = tmp_path / "out.jsonl"
    path.write_bytes(ERROR + ANSWER + ERROR + ANSWER[:-5])
    output = OutputFile(str(path))
    assert path.read_bytes() == ANSWER
    assert 'a "b"' in output.answered
    assert "c" not in output.answered
    output.write(ERROR)
    output.close()
    assert path.read_bytes() == ANSWER + ERROR
    assert count_answers(str(path)) == 1
    assert [each.name for each in tmp_path.iterdir()] == ["out.jsonl"]


def test_one_run_at_a_time_has_it(tmp_path: Path) -> None:
    path = str(tmp_path / "out.jsonl")
    output = OutputFile(path)
    with pytest.raises(OutputError, match="Another run"):
        OutputFile(path)
    output.close()
    OutputFile(path).close()


@pytest.mark.parametrize("content", [b"text", b"{}\n", b'{"custom_id": "a"}\n', ANSWER + b"[]\n"])
def test_another_file_is_left_as_it_is(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "out.jsonl"
    path.write_bytes(content)
    with pytest.raises(OutputError, match="something else"):
        OutputFile(str(path))
    assert path.read_bytes() == content


@pytest.mark.skipif(sys.platform == "win32", reason="it has no such limit")
def test_a_line_that_does_not_fit_is_not_there_at_all(tmp_path: Path) -> None:
    import resource  # noqa: PLC0415 - Windows has none.

    path = tmp_path / "out.jsonl"
    output = OutputFile(str(path))
    output.write(ANSWER)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (len(ANSWER) + 10, hard))
    try:
        with pytest.raises(OSError, match=r"No space|too large"):
            output.write(ANSWER)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert path.read_bytes() == ANSWER
    output.close()


def test_a_completion_of_several_lines_becomes_one(tmp_path: Path) -> None:
    pretty = b'{\n  "choices": [{"message": {"content": "\xc3\xbc"}}]\n}'
    line = BatchResult("a", raw=pretty).as_line()
    assert line.count(b"\n") == 1
    assert '"ü"'.encode() in line
