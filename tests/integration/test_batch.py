"""`langchain-segmind batch` in a pipe, against the local gateway: what comes in and goes out."""

from __future__ import annotations

import itertools
import json
import os
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from langchain_segmind.gateway import EngineError, Faults, ScriptedEngine, Settings, serve
from tests.integration.batches import Batch, echoed, text_of

if TYPE_CHECKING:
    from langchain_segmind.gateway import RunningGateway


@pytest.fixture
def batch(tmp_path: Path, gateway: RunningGateway) -> Batch:
    """Give the command in a folder of its own."""
    return Batch(tmp_path, gateway)


def said(body: dict[str, Any]) -> str:
    return str(body["messages"][-1]["content"])


# --- In and out -----------------------------------------------------------------------------------


def test_each_line_is_answered_in_the_form_of_openai(batch: Batch) -> None:
    openai = {"messages": [{"role": "user", "content": "Say 1"}], "temperature": 0.5}
    batch.write(
        [
            {"custom_id": "a", "method": "POST", "url": "/v1/chat/completions", "body": openai},
            {"id": "b", "messages": [{"role": "system", "content": "Be."}, *openai["messages"]]},  # type: ignore[misc]
            "",
            {"id": 3, "prompt": "Sag ü \U0001f600", "max_tokens": 3},
        ]
    )
    code, out, err = batch.run("--system", "Rhyme.", "--model", "llama-v3p1-8b-instruct")
    assert (code, out) == (0, "")
    assert "3 of 3 answered" in err
    assert batch.texts() == {"a": "You said: Say 1", "b": "You said: Say 1", "3": "You said: Sag"}
    line = next(line for line in batch.lines() if line["custom_id"] == "a")
    assert set(line) == {"id", "custom_id", "response", "error"}
    assert line["response"]["status_code"] == 200
    assert line["response"]["request_id"] in batch.gateway.account.billed_ids
    bodies = {said(body): body for body in batch.gateway.account.billed_bodies}
    assert bodies["Sag ü \U0001f600"]["messages"][0] == {"role": "system", "content": "Rhyme."}
    assert [post.path for post in batch.gateway.account.posts] == ["/v2/llama-v3p1-8b-instruct"] * 3


def test_a_deleted_output_is_written_again_for_nothing(batch: Batch) -> None:
    batch.ask(50)
    assert batch.run()[0] == 0
    before = sorted(batch.answers.read_text("utf-8").splitlines())
    batch.answers.unlink()
    code, _, err = batch.run()
    assert code == 0
    assert "50 of 50 answered (50 of them before)" in err
    assert sorted(batch.answers.read_text("utf-8").splitlines()) == before
    assert batch.gateway.account.post_count == 50


def test_a_torn_line_is_mended_and_nothing_is_written_twice(batch: Batch) -> None:
    batch.ask(20)
    batch.run()
    whole = batch.answers.read_bytes()
    batch.answers.write_bytes(whole[:-40])
    assert batch.run()[0] == 0
    assert batch.texts() == echoed(20)
    assert sorted(batch.answers.read_bytes().splitlines()) == sorted(whole.splitlines())
    assert batch.gateway.account.post_count == 20


def test_what_is_in_the_output_is_not_paid_again_where_the_journal_is_lost(batch: Batch) -> None:
    batch.ask(10)
    batch.run()
    batch.journal.unlink()
    batch.ask(12)
    assert batch.run()[0] == 0
    assert batch.texts() == echoed(12)
    assert batch.gateway.account.post_count == 12


def test_a_changed_prompt_is_an_error_and_not_an_old_answer(batch: Batch) -> None:
    batch.ask(2)
    batch.run()
    batch.write([{"id": "row-0", "prompt": "Say 0"}, {"id": "row-1", "prompt": "Say more"}])
    code, _, err = batch.run("--errors", str(batch.errors))
    assert code == 1
    assert "1 x SegmindIdempotencyError" in err
    assert [line["custom_id"] for line in batch.lines(batch.errors)] == ["row-1"]
    assert batch.gateway.account.post_count == 2


def test_requests_can_be_piped_in(batch: Batch) -> None:
    lines = "".join(json.dumps({"id": f"row-{n}", "prompt": f"Say {n}"}) + "\n" for n in range(9))
    assert batch.run("-", text=lines)[0] == 0
    assert batch.texts() == echoed(9)


def test_v1_is_called_where_the_queue_is_not_wanted(batch: Batch) -> None:
    batch.ask(5)
    assert batch.run("--no-queue")[0] == 0
    assert batch.run("--no-queue")[0] == 0
    assert batch.texts() == echoed(5)
    assert [charge.path for charge in batch.gateway.account.charges] == ["v1"] * 5


BAD = [
    ("{", "it is no JSON"),
    ("[]", "it is no JSON object"),
    ('{"id": "x"}', "it has no messages"),
    ('{"id": "x", "messages": []}', "it has no messages"),
    ('{"prompt": "x"}', "it has no custom_id"),
    ('{"id": "x", "messages": [{"role": "robot", "content": "x"}]}', "robot"),
    ('{"id": "x", "messages": [{"role": [], "content": "x"}]}', "unhashable"),
    ('{"id": "x", "prompt": "x", "model": {}}', "model"),
    ('{"id": "x\\ty", "prompt": "x"}', "printable"),
    ('{"id": "x", "prompt": "x", "temperature": 3}', "temperature=3 is refused"),
    ('{"id": "x", "prompt": "x", "temprature": 1}', "temprature"),
    ('{"id": "x", "prompt": "\\ud800"}', "surrogate"),
    ('{"custom_id": "x", "url": "/v1/embeddings", "body": {"messages": []}}', "embeddings"),
    ('{"custom_id": "x", "body": {"messages": [{"role": "user", "content": "x"}], "n": 2}}', "n "),
    ('{"id": "row-1", "prompt": "Say 1"}', "custom_id 'row-1' was on line 2 already"),
    ('{"id": "x", "prompt": "x"} {}', "more than one JSON object"),
]


@pytest.mark.parametrize(("line", "problem"), BAD, ids=[problem for _, problem in BAD])
def test_a_bad_line_is_told_with_its_number_before_anything_is_paid(
    line: str, problem: str, batch: Batch
) -> None:
    good = [{"id": f"row-{n}", "prompt": f"Say {n}"} for n in range(3)]
    batch.write([*good, line])
    code, out, err = batch.run()
    assert (code, out) == (2, "")
    assert f"{batch.requests}:4: " in err
    assert problem in err
    assert "Traceback" not in err
    assert not batch.answers.exists()
    assert batch.gateway.account.post_count == 0


def test_a_file_of_something_else_is_never_written_over(batch: Batch) -> None:
    batch.ask(2)
    for content in (b"my only copy", b'{"mine": true}\n'):
        batch.answers.write_bytes(content)
        code, _, err = batch.run()
        assert (code, batch.answers.read_bytes()) == (2, content)
        assert "holds something else" in err
    assert batch.gateway.account.post_count == 0


def test_bad_lines_are_told_in_their_order_and_all_are_counted(batch: Batch) -> None:
    """What is repeated is only known at the end of the file."""
    good = [{"id": n, "prompt": "x"} for n in range(30)]
    batch.write([*good, good[29], "{", *good[5:28], "{"])
    code, _, err = batch.run()
    numbers = [int(number) for number in re.findall(r"jsonl:(\d+): ", err)]
    assert (code, numbers) == (2, list(range(31, 51)))
    assert "jsonl:31: custom_id '29' was on line 30 already" in err
    assert err.endswith("and 6 more\n26 bad lines. Nothing was sent.\n")


@pytest.mark.skipif(sys.platform == "win32", reason="it has no such files")
@pytest.mark.parametrize("option", [(), ("--status",)])
def test_what_is_no_file_cannot_hold_answers(option: tuple[str, ...], batch: Batch) -> None:
    """A device or pipe would be read without end, and the answers that are there count."""
    os.mkfifo(batch.folder / "pipe")
    batch.ask(1)
    for name in ("/dev/full", "/dev/null", "pipe", ".", "-"):
        batch.answers = batch.folder / name if name != "-" else Path(name)
        code, _, err = batch.run("--journal", "run.sqlite", *option)
        assert (code, err) == (
            2,
            f"{batch.answers} is no file: answers are added to one. Nothing was sent.\n",
        )
    assert batch.gateway.account.post_count == 0


def test_one_file_cannot_be_two_things(batch: Batch) -> None:
    batch.ask(2)
    batch.answers.symlink_to(batch.requests)
    code, _, err = batch.run()
    assert (code, err.strip()) == (
        2,
        "REQUESTS, ANSWERS, --errors and --journal have to be different files.",
    )
    assert batch.run("--errors", str(batch.requests))[0] == 2
    batch.answers.unlink()
    assert batch.run("--journal", str(batch.answers))[0] == 2
    assert not batch.answers.exists()
    assert batch.gateway.account.post_count == 0


# --- What fails -----------------------------------------------------------------------------------


def test_what_failed_is_told_and_asked_anew(batch: Batch) -> None:
    """A failed job was not billed; its error leaves the file when there is an answer."""
    failed: set[str] = set()

    def answer(body: dict[str, Any]) -> str:
        if said(body) in {"Say 3", "Say 7"} and said(body) not in failed:
            failed.add(said(body))
            raise EngineError(500, "Out of luck.")
        return f"You said: {said(body)}"

    batch.gateway.engine = ScriptedEngine(answer)
    batch.ask(10)
    code, _, err = batch.run()
    assert code == 1
    assert "8 of 10 answered" in err
    assert "2 failed" in err
    errors = [line for line in batch.lines() if line["error"]]
    assert {line["custom_id"] for line in errors} == {"row-3", "row-7"}
    assert "Out of luck." in errors[0]["error"]["message"]
    assert batch.run()[0] == 0
    assert len(batch.lines()) == 10
    assert batch.texts() == echoed(10)
    batch.check_bill()


def test_a_wrong_model_is_told_in_words(batch: Batch) -> None:
    """Before anything is sent, and in the bill with what Segmind said."""
    batch.ask(2)
    code, _, err = batch.run("--model", "llama-3.1-70b-instruct")
    assert code == 1
    assert "Did you mean llama-v3p1-70b-instruct?" in err
    assert "2 x SegmindModelNotFoundError: Segmind answered 404: " in err
    batch.ask(1, model="llama-v3p1-70b-instuct")
    assert "Did you mean 'llama-v3p1-70b-instruct'?" in batch.run()[2]


def test_a_lost_submit_is_unknown_until_it_is_risked(tmp_path: Path) -> None:
    with serve(Settings(post_faults=Faults(drop_after_rate=0.3))) as gateway:
        batch = Batch(tmp_path, gateway)
        batch.ask(30)
        code, _, err = batch.run("--errors", str(batch.errors))
        unknown = {line["custom_id"] for line in batch.lines(batch.errors)}
        assert code == 1
        assert 0 < len(unknown) < 30
        assert f"{len(unknown)} unknown" in err
        assert "\n--retry-unknown sends those of unknown fate again" in err
        assert all(line["error"]["outcome_unknown"] for line in batch.lines(batch.errors))
        code, _, err = batch.run("--errors", str(batch.errors))
        assert (code, "to pay for" in err) == (1, False)
        assert gateway.account.post_count == 30
        assert {line["custom_id"] for line in batch.lines(batch.errors)} == unknown
        gateway.post_faults.faults = Faults()
        assert batch.run("--retry-unknown")[0] == 0
    assert batch.texts() == echoed(30)


def test_a_wait_for_the_limit_is_told_once(tmp_path: Path) -> None:
    """A 429 may hold all rows for a minute."""
    with serve(Settings(rpm=3, rate_window=4.0)) as gateway:
        batch = Batch(tmp_path, gateway)
        batch.ask(5)
        code, _, err = batch.run("--no-queue")
    assert code == 0, err
    assert len(re.findall(r"^429, waiting \d\.\d s", err, re.MULTILINE)) == 1, err


def test_polls_that_break_and_jobs_that_fail_cost_nothing_more(tmp_path: Path) -> None:
    faults = Faults(error_rate=0.1, drop_before_rate=0.1, half_body_rate=0.1)
    with serve(Settings(poll_faults=faults, failing_jobs_rate=0.1)) as gateway:
        batch = Batch(tmp_path, gateway)
        batch.ask(60)
        codes = [batch.run()[0] for _ in range(3)]
        batch.check_bill()
    assert codes[-1] == 0
    assert batch.texts() == echoed(60)


def test_a_wrong_key_sends_nothing(batch: Batch, monkeypatch: pytest.MonkeyPatch) -> None:
    batch.ask(5)
    environment = {**batch.environment, "SEGMIND_API_KEY": "SG_ffffffffffffffff"}
    monkeypatch.setattr(Batch, "environment", environment)
    code, _, err = batch.run()
    assert code == 2
    assert "401" in err
    assert "ffff" not in err
    assert batch.gateway.account.post_count == 0


@pytest.mark.parametrize(
    ("option", "told"),
    [
        ("--budget=nan", "invalid number value: 'nan'"),
        ("--budget=inf", "invalid number value: 'inf'"),
        ("--budget=-1", "-1 is less than 0"),
        ("--samples=1.5", "invalid whole number value: '1.5'"),
    ],
)
def test_what_is_no_amount_is_told(option: str, told: str, batch: Batch) -> None:
    batch.ask(1)
    code, _, err = batch.run(option)
    assert code == 2
    assert told in err


def test_a_file_without_requests_is_told(batch: Batch) -> None:
    batch.ask(0)
    assert batch.run() == (0, "", f"There are no requests in {batch.requests}.\n")


# --- Samples and schemas --------------------------------------------------------------------------

SCHEMA = {
    "type": "object",
    "properties": {"name": {"type": "string"}, "age": {"type": "integer"}},
    "required": ["name", "age"],
}


def test_each_line_is_answered_as_often_as_wanted(batch: Batch) -> None:
    numbers = itertools.count()
    batch.gateway.engine = ScriptedEngine(lambda _: f"answer {next(numbers)}")
    batch.ask(4)
    assert batch.run()[0] == 0
    batch.answers.unlink()
    assert batch.run("--samples", "3")[0] == 0
    lines = batch.lines()
    assert {(line["custom_id"], line["sample"]) for line in lines} == {
        (f"row-{n}", sample) for n in range(4) for sample in range(3)
    }
    assert len({text_of(line) for line in lines}) == 12
    assert batch.gateway.account.post_count == 12  # The first sample was there.


def test_answers_fit_the_schema_or_are_told_with_their_text(batch: Batch) -> None:
    def answer(body: dict[str, Any]) -> str:
        return '{"name": "Tom"}' if said(body).startswith("Say 2") else '{"name": "Tom", "age": 3}'

    batch.gateway.engine = ScriptedEngine(answer)
    (batch.folder / "cat.json").write_text(json.dumps(SCHEMA), "utf-8")
    batch.ask(4)
    code, _, err = batch.run("--schema", "cat.json")
    assert code == 1
    assert "1 x SchemaMismatchError" in err
    wrong = next(line for line in batch.lines() if line["error"])
    assert (wrong["custom_id"], text_of(wrong)) == ("row-2", '{"name": "Tom"}')
    assert batch.gateway.account.posts[0].json()["response_format"]["type"] == "json_schema"
    assert batch.run("--schema", "cat.json")[0] == 1
    assert batch.gateway.account.post_count == 4
    assert len(batch.lines()) == 4


def test_what_does_not_fit_is_asked_again_so_often_and_each_time_paid_once(batch: Batch) -> None:
    asked = itertools.count()
    batch.gateway.engine = ScriptedEngine(
        lambda _: '{"name": 1}' if next(asked) < 3 else '{"name": "Tom", "age": 3}'
    )
    (batch.folder / "cats.py").write_text(
        "from pydantic import BaseModel\n\nclass Cat(BaseModel):\n    name: str\n    age: int\n"
    )
    batch.ask(1)
    options = ("--schema", "cats:Cat", "--schema-retries")
    assert batch.run(*options, "1")[0] == 1
    assert batch.gateway.account.post_count == 2
    assert batch.run(*options, "3")[0] == 0
    assert batch.gateway.account.post_count == 4
    batch.answers.unlink()
    assert batch.run(*options, "3")[0] == 0
    assert batch.gateway.account.post_count == 4
    assert [text_of(line) for line in batch.lines()] == ['{"name": "Tom", "age": 3}']


@pytest.mark.parametrize(
    ("schema", "problem"),
    [
        ("nothing.json", "cannot be read"),
        ("no.module:Row", "cannot be imported"),
        ("json:JSONDecoder", "is no pydantic model"),
        ("bad", "object"),
    ],
)
def test_a_schema_that_is_none_is_told_first(schema: str, problem: str, batch: Batch) -> None:
    (batch.folder / "bad").write_text('{"type": "array"}', "utf-8")
    batch.ask(1)
    code, _, err = batch.run("--schema", schema)
    assert code == 2
    assert problem in err
    assert batch.gateway.account.post_count == 0
