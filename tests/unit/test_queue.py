"""The queue's flows, stepped without a socket: what is sent, when, and what is never sent."""

from __future__ import annotations

import gc
import json
import logging
import weakref
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from langchain_core.exceptions import ContextOverflowError

from langchain_segmind import (
    Credits,
    SegmindAPIError,
    SegmindAuthenticationError,
    SegmindConnectionError,
    SegmindError,
    SegmindInvalidInputError,
    SegmindJobFailedError,
    SegmindJobNotFoundError,
    SegmindRateLimitError,
    SegmindResponseError,
    SegmindTimeoutError,
)
from langchain_segmind._protocol.account import Account
from langchain_segmind._protocol.answers import read_output
from langchain_segmind._protocol.calls import Exchanges
from langchain_segmind._protocol.queue import run_job, wait_for_job
from langchain_segmind._protocol.responses import UnusableAnswerError, completion_from, decode_json
from langchain_segmind._protocol.retry import align_delay, poll_delay
from langchain_segmind._protocol.types import (
    AcquireSlot,
    Request,
    Response,
    Sleep,
    TransportFailure,
)
from tests.flows import Driver, completion, reply, scripted

if TYPE_CHECKING:
    from collections.abc import Callable

    from langchain_segmind._protocol.answers import Finished
    from langchain_segmind._protocol.types import Flow

ID = "5f0c9c1e-job"
METRICS = {"cost": 0.25, "remaining_credits": 9.5, "queue_time": 1.5, "inference_time": 2.5}
SUBMITTED = reply({"request_id": ID, "status": "QUEUED", "poll_url": "https://elsewhere.example/"})
RUNNING = reply({"status": "PROCESSING", "request_id": ID, "metrics": {}})
DONE = reply({"status": "COMPLETED", "request_id": ID, "metrics": METRICS})
RESULT = reply(
    {"status": "COMPLETED", "error": None, "output": json.dumps(completion()), "metrics": METRICS}
)
FAILED = reply({"status": "FAILED", "error": "CUDA out of memory"}, 422)
GONE = reply({"error": f"Request {ID} not found"}, 404)
HTML = reply(b"<html><h1>502 Bad Gateway</h1></html>", 200)
RESET = TransportFailure("lost", "connection reset by peer")
UNSENT = TransportFailure("unsent", "connection refused", sent=False)
TIMEOUT = TransportFailure("timeout", "no answer in time")
GAVE_UP = reply({"error": "no"}, 504)
BAD_GATEWAY = reply(b"<html><h1>502 Bad Gateway</h1></html>", 502)
HALF = TransportFailure("lost", "payload is not complete", head=Response(200, {}))
PASSING = {
    "500": reply({"error": "oops"}, 500),
    "503 of a proxy": reply(b"<h1>Unavailable</h1>", 503),
    "504": GAVE_UP,
    "524": reply({"error": "no"}, 524),
    "502 in HTML": BAD_GATEWAY,
    "429": reply({"error": "slow down"}, 429),
    "reset": RESET,
    "refused": UNSENT,
    "time-out": TIMEOUT,
    "half a body": HALF,
    "HTML as 200": HTML,
    "empty": reply(b""),
    "null": reply(None),
    "cut JSON": reply(b'{"status": "COMPL'),
    "no status": reply({"metrics": {}}),
}


def by_path(
    submit: Callable[[], Response | TransportFailure] | Response | TransportFailure = SUBMITTED,
    polls: Callable[[], Response | TransportFailure] | Response | TransportFailure = RESULT,
    status: Callable[[], Response | TransportFailure] | Response | TransportFailure = DONE,
) -> Callable[[Request], Response | TransportFailure]:
    """Answer a submit, a poll for the answer and one for the status, each in its own way."""

    def answer(request: Request) -> Response | TransportFailure:
        if request.method == "POST":
            chosen = submit
        else:
            chosen = status if request.path.endswith("/status") else polls
        return chosen() if callable(chosen) else chosen

    return answer


def in_turn(*outcomes: Response | TransportFailure) -> Callable[[], Response | TransportFailure]:
    """Give one outcome after the other, the last one for ever."""
    answer = scripted(*outcomes)
    return lambda: answer(Request("GET", "/"))


def queue_of(driver: Driver, *, timeout: float = 600.0) -> Exchanges:
    return Exchanges(Account(), driver.clock, queue_timeout=timeout)


def running(
    driver: Driver,
    *,
    queue: Exchanges | None = None,
    retries: int = 2,
    on_submit: Callable[[str], object] | None = None,
) -> Flow[Finished]:
    """Give the flow of a job that is submitted and waited for."""
    settings = replace(queue or queue_of(driver), max_retries=retries, on_submit=on_submit)
    return run_job("slug", b"{}", settings)


class TestTheWay:
    def test_submits_and_polls_until_the_answer_is_there(self) -> None:
        """One POST, and GETs of one kind; nothing goes where the body points."""
        driver = Driver(by_path(polls=in_turn(RUNNING, RUNNING, RESULT)))
        finished = driver.run(running(driver))
        assert driver.sent == ["POST /v2/slug", *[f"GET /v2/requests/{ID}"] * 3]
        assert finished.completion == completion()
        assert finished.accounting.credits == Credits(remaining=9.5, cost=0.25)
        assert finished.accounting.request_id == ID
        assert finished.accounting.extra == {"queue_time": 1.5, "inference_time": 2.5}

    def test_times_that_are_none_are_left_out(self) -> None:
        odd = {"queue_time": float("nan"), "inference_time": 10**400, "total_time": [1]}
        record = {"status": "COMPLETED", "output": "Hi", "metrics": odd}
        driver = Driver(by_path(polls=reply(record)))
        assert driver.run(running(driver)).accounting.extra == {}

    def test_polls_start_quick_and_slow_down(self) -> None:
        """The first poll comes after a tenth of the interval, later ones after all of it."""
        driver = Driver(by_path(polls=in_turn(*[RUNNING] * 20, RESULT)))
        driver.run(running(driver))
        assert driver.waits[0] <= 0.1
        assert driver.waits[:6] == sorted(driver.waits[:6])
        assert 0.75 <= driver.waits[-1] <= 1.0

    def test_asks_the_limiter_for_polls_as_polls(self) -> None:
        """A limiter can tell what is a poll."""
        driver = Driver(by_path(polls=in_turn(RUNNING, RESULT)))
        driver.run(running(driver))
        assert driver.permits == [AcquireSlot(), AcquireSlot(poll=True), AcquireSlot(poll=True)]

    def test_names_the_job_before_it_waits(self) -> None:
        """The hook has the id before the first poll, so that a crash leaves it known."""
        driver = Driver(by_path())
        seen: list[tuple[str, int]] = []
        driver.run(running(driver, on_submit=lambda job: seen.append((job, len(driver.requests)))))
        assert seen == [(ID, 1)]

    def test_a_hook_that_raises_loses_no_answer(self, caplog: pytest.LogCaptureFixture) -> None:
        """What the user's function does is logged; the job has been paid for."""
        driver = Driver(by_path())
        flow = running(driver, on_submit=lambda _: 1 / 0)
        assert driver.run(flow).completion == completion()
        assert ID in caplog.text

    def test_notes_the_balance(self) -> None:
        """What a job left is the account's last balance."""
        driver = Driver(by_path())
        queue = queue_of(driver)
        driver.run(running(driver, queue=queue))
        assert queue.account.ledger.balance == 9.5

    @pytest.mark.parametrize(
        "refusal",
        [
            *(reply({"error": "not ready"}, status) for status in (400, 404, 409)),
            reply({"status": "PROCESSING"}, 202),
            reply({"output": None}),
        ],
        ids=["400", "404", "409", "202", "no status"],
    )
    def test_an_answer_that_is_refused_is_asked_for_once_its_status_tells(
        self, refusal: Response
    ) -> None:
        """It is not documented what the answer of an unfinished job is."""
        polls = by_path(polls=in_turn(refusal, RUNNING, RESULT), status=in_turn(RUNNING, DONE))
        driver = Driver(polls)
        assert driver.run(running(driver)).completion == completion()
        answer, status = f"GET /v2/requests/{ID}", f"GET /v2/requests/{ID}/status"
        assert driver.sent[1:] == [answer, status, status, answer, answer]


class TestParts:
    def test_an_answer_keeps_the_providers_own_json(self) -> None:
        driver = Driver(by_path())
        assert driver.run(running(driver)).raw == json.dumps(completion()).encode()

    def test_a_turn_that_was_waited_for_is_not_held_against_the_job(self) -> None:
        """The limiter may take longer than the job is given."""
        driver = Driver(by_path())
        flow = running(driver, queue=queue_of(driver, timeout=5.0))
        assert next(flow) == AcquireSlot()
        driver.now = 100.0
        request = flow.send(None)
        assert isinstance(request, Request)
        assert request.deadline == 105.0
        assert isinstance(flow.send(SUBMITTED), Sleep)
        flow.close()


class TestMoney:
    @pytest.mark.parametrize("status", [429, 500, 502, 503])
    def test_an_answered_submit_is_sent_again(self, status: int) -> None:
        """It cost nothing: the job is submitted again, and once it is, never more."""
        driver = Driver(by_path(submit=in_turn(reply({"error": "no"}, status), SUBMITTED)))
        driver.run(running(driver))
        assert driver.posts == 2

    @pytest.mark.parametrize("status", [400, 401, 403, 404, 405, 406, 410, 422])
    def test_a_refused_submit_is_not(self, status: int) -> None:
        driver = Driver(by_path(submit=reply({"error": "no"}, status)))
        with pytest.raises(SegmindError) as caught:
            driver.run(running(driver))
        assert (driver.posts, caught.value.status_code) == (1, status)

    @pytest.mark.parametrize(
        "lost",
        [RESET, TIMEOUT, HALF, GAVE_UP, BAD_GATEWAY],
        ids=["reset", "time-out", "half", "504", "502 in HTML"],
    )
    def test_a_submit_of_unknown_outcome_is_not(self, lost: Response | TransportFailure) -> None:
        """And nobody who queues is advised to use the queue."""
        driver = Driver(by_path(submit=lost))
        with pytest.raises(SegmindError) as caught:
            driver.run(running(driver))
        assert driver.sent == ["POST /v2/slug"]
        assert caught.value.outcome_unknown
        assert "not billed" not in str(caught.value)
        assert "queue=True" not in str(caught.value)

    def test_an_unsent_submit_is_sent_again(self) -> None:
        driver = Driver(by_path(submit=in_turn(UNSENT, SUBMITTED)))
        driver.run(running(driver))
        assert driver.posts == 2

    def test_retries_end(self) -> None:
        driver = Driver(by_path(submit=reply({"error": "no"}, 500)))
        with pytest.raises(SegmindAPIError):
            driver.run(running(driver))
        assert driver.posts == 3

    @pytest.mark.parametrize(
        "body",
        [b"", b"null", b"[]", b"<html>", b'{"request_id": "ab', b"{}", b'{"request_id": null}'],
    )
    def test_a_submit_whose_answer_is_useless_is_not_sent_again(self, body: bytes) -> None:
        """The job may be running: it says so, and names the id of the header where one came."""
        driver = Driver(by_path(submit=reply(body, x_request_id="from-header")))
        with pytest.raises(SegmindResponseError) as caught:
            driver.run(running(driver))
        assert driver.posts == 1
        assert caught.value.outcome_unknown
        assert not caught.value.is_retryable
        assert caught.value.request_id == "from-header"

    @pytest.mark.parametrize("fault", PASSING.values(), ids=PASSING)
    def test_polls_survive_what_passes(self, fault: Response | TransportFailure) -> None:
        """Whatever breaks a poll, it is repeated, and nothing is posted."""
        driver = Driver(
            by_path(
                polls=in_turn(RUNNING, fault, fault, RUNNING, fault, RESULT),
                status=in_turn(fault, fault, RUNNING, fault, DONE),
            )
        )
        assert driver.run(running(driver)).completion == completion()
        assert driver.posts == 1

    @pytest.mark.parametrize("fault", PASSING.values(), ids=PASSING)
    def test_what_does_not_pass_ends_at_the_deadline(
        self, fault: Response | TransportFailure
    ) -> None:
        """The error names the job and the way to its answer, and is not to be retried."""
        driver = Driver(by_path(polls=fault, status=fault))
        with pytest.raises(SegmindTimeoutError, match=f"llm.resume\\('{ID}'\\)") as caught:
            driver.run(running(driver, queue=queue_of(driver, timeout=20.0)))
        assert driver.posts == 1
        assert driver.now <= 20.0
        assert (caught.value.request_id, caught.value.is_retryable) == (ID, False)

    def test_requests_end_at_the_deadline(self) -> None:
        """No GET is given longer than the queue has."""
        driver = Driver(by_path(polls=RUNNING))
        with pytest.raises(SegmindTimeoutError, match="its status was PROCESSING"):
            driver.run(running(driver, queue=queue_of(driver, timeout=5.0)))
        assert all((request.deadline or 99.0) <= 5.0 for request in driver.requests)

    def test_the_submit_gets_no_longer_than_the_queue(self) -> None:
        driver = Driver(by_path(submit=reply({"error": "no"}, 500)))
        with pytest.raises(SegmindAPIError):
            driver.run(running(driver, queue=queue_of(driver, timeout=0.2)))
        assert driver.posts == 1


class TestEnds:
    @pytest.mark.parametrize("status", [200, 422])
    def test_a_failed_job_says_why(self, status: int) -> None:
        driver = Driver(by_path(polls=reply({"status": "FAILED", "error": "no GPU"}, status)))
        with pytest.raises(SegmindJobFailedError, match="no GPU") as caught:
            driver.run(running(driver))
        error = caught.value
        assert (error.request_id, error.outcome_unknown, driver.posts) == (ID, False, 1)

    def test_a_job_that_fails_after_a_while_says_why(self) -> None:
        driver = Driver(by_path(polls=in_turn(RUNNING, FAILED)))
        with pytest.raises(SegmindJobFailedError, match="CUDA out of memory"):
            driver.run(running(driver))

    def test_a_422_without_a_status_is_a_failed_job(self) -> None:
        driver = Driver(by_path(polls=reply({"error": {"message": "no GPU"}}, 422)))
        with pytest.raises(SegmindJobFailedError, match="no GPU"):
            driver.run(running(driver))

    def test_a_job_with_too_long_a_prompt_is_an_overflow(self) -> None:
        """What LangChain does about overflows works for the queue too."""
        words = "This model's maximum context length is 8192 tokens"
        driver = Driver(by_path(polls=reply({"status": "FAILED", "error": words}, 422)))
        with pytest.raises(ContextOverflowError) as caught:
            driver.run(running(driver))
        assert isinstance(caught.value, SegmindJobFailedError)

    def test_an_unknown_job_is_believed_once_it_had_time_to_appear(self) -> None:
        driver = Driver(by_path(polls=in_turn(GONE, RESULT), status=in_turn(GONE, GONE, DONE)))
        assert driver.run(running(driver)).completion == completion()
        driver = Driver(by_path(polls=GONE, status=GONE))
        with pytest.raises(SegmindJobNotFoundError, match="about an hour") as caught:
            driver.run(running(driver))
        assert caught.value.request_id == ID
        assert 5.0 <= driver.now <= 10.0

    def test_a_revoked_key_ends_the_wait_and_leaves_the_id(self) -> None:
        refused = reply({"error": "Invalid API key"}, 401)
        driver = Driver(by_path(polls=refused, status=refused))
        with pytest.raises(SegmindAuthenticationError, match=ID) as caught:
            driver.run(running(driver))
        assert (caught.value.request_id, caught.value.outcome_unknown) == (ID, True)

    def test_a_proxys_page_of_403_is_waited_out(self) -> None:
        driver = Driver(by_path(polls=in_turn(reply(b"<h1>Blocked</h1>", 403), RESULT)))
        assert driver.run(running(driver)).completion == completion()

    @pytest.mark.parametrize("output", [None, "", 7, True, {}, [], {"foo": 1}, {"error": "bad"}])
    def test_a_completed_job_without_an_answer_names_its_id(self, output: object) -> None:
        result = reply({"status": "COMPLETED", "output": output, "metrics": METRICS})
        driver = Driver(by_path(polls=result))
        with pytest.raises(SegmindResponseError, match="billed") as caught:
            driver.run(running(driver))
        assert caught.value.request_id == ID
        assert caught.value.credits == Credits(remaining=9.5, cost=0.25)

    @pytest.mark.parametrize(
        "job",
        [
            *("../v1/x", "a/b", "..", ".", "a%2fb", "a\\b", "a b", "a\n", "ä", "", "x" * 201),
            *(7, ["a"], "?a", "a#b", "a;b", ".hidden", "-x"),
        ],
    )
    def test_an_id_that_could_leave_its_segment_is_refused(self, job: object) -> None:
        """No URL is built from it; the job that runs under it is spoken of."""
        driver = Driver(by_path(submit=reply({"request_id": job})))
        with pytest.raises(SegmindResponseError, match="request_id") as caught:
            driver.run(running(driver))
        assert driver.sent == ["POST /v2/slug"]
        assert caught.value.outcome_unknown


class TestResuming:
    def test_fetches_at_once_and_posts_nothing(self) -> None:
        driver = Driver(by_path())
        assert driver.run(wait_for_job(ID, queue_of(driver))).completion == completion()
        assert driver.sent == [f"GET /v2/requests/{ID}"]

    def test_waits_for_a_job_that_still_runs(self) -> None:
        driver = Driver(by_path(polls=in_turn(RUNNING, RESULT)))
        driver.run(wait_for_job(ID, queue_of(driver)))
        assert driver.sent == [f"GET /v2/requests/{ID}"] * 2
        assert len(driver.waits) == 1

    def test_an_expired_id_says_so(self) -> None:
        """At once: its status says the same, and there is nothing to wait for."""
        driver = Driver(by_path(polls=GONE, status=GONE))
        with pytest.raises(SegmindJobNotFoundError, match="about an hour"):
            driver.run(wait_for_job(ID, queue_of(driver)))
        assert (len(driver.sent), driver.waits) == (2, [])

    @pytest.mark.parametrize("job", ["../credits", "a/b", "..", "", 7, None])
    def test_what_is_no_id_is_not_asked_for(self, job: object) -> None:
        driver = Driver(by_path())
        with pytest.raises(SegmindInvalidInputError, match="request id"):
            driver.run(wait_for_job(job, queue_of(driver)))
        assert driver.sent == []


class TestCancelling:
    def test_leaves_the_id_in_the_log(self, caplog: pytest.LogCaptureFixture) -> None:
        driver = Driver(by_path(polls=RUNNING))
        flow = running(driver)
        next(flow)
        assert isinstance(flow.send(None), Request)
        assert isinstance(flow.send(SUBMITTED), Sleep)
        with caplog.at_level(logging.WARNING, "langchain_segmind"):
            flow.close()
        assert f"llm.resume('{ID}')" in caplog.text

    def test_says_what_a_lost_submit_means(self, caplog: pytest.LogCaptureFixture) -> None:
        flow = running(Driver(by_path()))
        next(flow)
        assert isinstance(flow.send(None), Request)
        flow.close()
        assert "billed" in caplog.text

    def test_says_nothing_of_what_was_never_sent(self, caplog: pytest.LogCaptureFixture) -> None:
        flow = running(Driver(by_path()))
        assert next(flow) == AcquireSlot()
        flow.close()
        assert caplog.messages == []

    def test_a_call_that_is_answered_logs_nothing(self, caplog: pytest.LogCaptureFixture) -> None:
        driver = Driver(by_path())
        driver.run(running(driver))
        assert caplog.messages == []


def read_completion(output: object) -> dict[str, Any]:
    """Read an output twice: what a journal keeps of it says the same."""
    read, raw = read_output(output)
    assert completion_from(decode_json(raw)) == read
    return read


class TestOutputs:
    def test_provider_json_as_a_string_an_object_and_encoded_again(self) -> None:
        data = completion()
        for output in (data, json.dumps(data), json.dumps(json.dumps(data))):
            assert read_completion(output) == data

    @pytest.mark.parametrize("text", ["Hi!", "{not json", '{"answer": 1}', '"Hi!"', "[1]", "7"])
    def test_plain_text_stays_as_it_is(self, text: str) -> None:
        """Also where it happens to be JSON: json_mode's answers are."""
        [choice] = read_completion(text)["choices"]
        assert choice["message"] == {"role": "assistant", "content": text}

    def test_a_text_that_is_json_without_end_is_a_text(self) -> None:
        text = '{"choices": ' + "[" * 200 + "]" * 200 + "}"
        [choice] = read_completion(text)["choices"]
        assert choice["message"]["content"] == text

    def test_an_error_in_an_output_is_none(self) -> None:
        with pytest.raises(UnusableAnswerError, match="overloaded"):
            read_completion('{"error": {"message": "overloaded"}}')

    @given(st.recursive(st.none() | st.booleans() | st.integers() | st.text(), st.lists))
    def test_no_output_breaks_it(self, output: object) -> None:
        with suppress(UnusableAnswerError):
            assert read_completion(output)["choices"]


class TestPacing:
    def test_the_wait_grows_to_the_interval(self) -> None:
        waits = [poll_delay(polls, 2.0, 1, 1.0) for polls in range(10)]
        assert waits[0] == pytest.approx(0.2)
        assert waits == sorted(waits)
        assert waits[-1] == 2.0
        assert poll_delay(10**9, 2.0, 1, 0.0) == 1.5

    def test_many_jobs_share_the_polls(self) -> None:
        """A thousand jobs are asked after 150 times a second, together."""
        waits = [poll_delay(0, 1.0, 1000, jitter / 10) for jitter in range(11)]
        assert sum(waits) / len(waits) == pytest.approx(1000 / 150)

    def test_many_jobs_go_in_step(self) -> None:
        ends = {round(12.34 + align_delay(12.34, delay / 100, 1.0), 6) for delay in range(20)}
        assert ends == {12.4, 12.6}

    def test_a_429_on_one_job_slows_all_of_them(self) -> None:
        """Another job of the account does not poll before the reset that the first was told."""
        driver = Driver(by_path(polls=reply({}, 429, retry_after="20")))
        queue = queue_of(driver)
        flows = [running(driver, queue=queue) for _ in range(2)]
        for flow in flows:
            next(flow)
            flow.send(None)
            assert isinstance(flow.send(SUBMITTED), Sleep)
        driver.now = 1.0
        assert flows[0].send(None) == AcquireSlot(poll=True)
        assert isinstance(flows[0].send(None), Request)
        flows[0].send(reply({}, 429, retry_after="20"))
        held = flows[1].send(None)
        assert isinstance(held, Sleep)
        assert 20.0 <= held.seconds <= 22.0

    def test_a_wait_for_the_limit_is_logged(self, caplog: pytest.LogCaptureFixture) -> None:
        refused = reply({}, 429, retry_after="20")
        driver = Driver(by_path(polls=in_turn(refused, RESULT)))
        with caplog.at_level(logging.INFO, "langchain_segmind"):
            driver.run(running(driver))
        assert caplog.messages == ["Polls are at the plan's limit, waiting 20.0 s"]

    def test_it_comes_back_to_speed(self) -> None:
        """After 429s without a date, waits grow, and shrink again with polls that are answered."""
        refused = [reply({}, 429)] * 12
        driver = Driver(by_path(polls=in_turn(*refused, *[RUNNING] * 60, RESULT)))
        driver.run(running(driver))
        assert max(driver.waits[:30]) > 1.5
        assert driver.waits[-1] <= 1.0

    def test_a_refused_poll_goes_as_soon_as_the_server_said(self) -> None:
        """No backoff of its own on top of that."""
        driver = Driver(by_path(polls=in_turn(reply({}, 429, retry_after="0.05"), RESULT)))
        driver.run(running(driver))
        assert driver.waits[1] == pytest.approx(0.05)

    def test_a_limit_far_away_does_not_freeze_the_jobs(self) -> None:
        driver = Driver(by_path(polls=in_turn(reply({}, 429, retry_after="1e9"), RESULT)))
        driver.run(running(driver))
        assert driver.now < 130


# --- A model of the server -----------------------------------------------------------------------


@dataclass
class Server:
    """Segmind as far as money goes: it bills jobs that complete, and breaks as it is told."""

    faults: list[str]
    billed: list[str] = field(default_factory=list)
    posts: int = 0

    def answer(self, request: Request) -> Response | TransportFailure:
        fault = self.faults.pop(0) if self.faults else "none"
        if request.method == "POST":
            return self._submit(fault)
        healthy = self._show(request)
        return _broken(fault, healthy)

    def _submit(self, fault: str) -> Response | TransportFailure:
        self.posts += 1
        if fault in ("500", "429", "html 503", "404"):
            return _broken(fault, SUBMITTED)
        if fault == "unsent":
            return UNSENT
        if fault == "drop before":
            return RESET
        self.billed.append(f"job-{len(self.billed)}")
        return _broken(fault, reply({"request_id": self.billed[-1], "status": "QUEUED"}))

    def _show(self, request: Request) -> Response:
        job = request.path.split("/")[3]
        if job not in self.billed:
            return GONE
        return DONE if request.path.endswith("/status") else RESULT


def _broken(fault: str, healthy: Response) -> Response | TransportFailure:
    broken: dict[str, Response | TransportFailure] = {
        "500": reply({"error": "oops"}, 500),
        "429": reply({"error": "slow"}, 429),
        "html 503": reply(b"<h1>503</h1>", 503),
        "unsent": UNSENT,
        "drop before": RESET,
        "drop after": RESET,
        "time-out": TIMEOUT,
        "half": HALF,
        "html": HTML,
        "null": reply(None),
        "404": GONE,
    }
    return broken.get(fault, healthy)


FAULTS = st.sampled_from(
    [
        "none",
        "none",
        "500",
        "429",
        "html 503",
        "unsent",
        "drop before",
        "drop after",
        "time-out",
        "half",
        "html",
        "null",
        "404",
    ]
)


@settings(max_examples=4 * settings().max_examples)
@given(st.lists(FAULTS, max_size=30), st.floats(0, 1), st.integers(0, 3))
def test_nothing_is_paid_twice_and_nothing_paid_for_is_lost(
    faults: list[str], jitter: float, retries: int
) -> None:
    """Whatever breaks: the answer, or an error that names the job, or nothing was billed."""
    server = Server(faults)
    driver = Driver(server.answer, jitter=lambda: jitter)
    submitted: list[str] = []
    outcome = _outcome(driver, running(driver, retries=retries, on_submit=submitted.append))
    if not isinstance(outcome, SegmindError):
        assert outcome.completion == completion()
        assert outcome.accounting.request_id == submitted[0]
    elif submitted:
        assert (outcome.request_id, outcome.is_retryable) == (submitted[0], False)
    elif server.billed:
        assert (outcome.outcome_unknown, outcome.is_retryable) == (True, False)
    assert len(server.billed) <= 1
    assert server.posts <= retries + 1


def _outcome(driver: Driver, flow: Flow[Finished]) -> Finished | SegmindError:
    try:
        return driver.run(flow)
    except SegmindError as error:
        return error


@given(st.lists(FAULTS, max_size=20))
def test_a_lost_answer_can_be_fetched_later(faults: list[str]) -> None:
    """Once the id is known, resuming comes to the answer, whatever breaks on the way there."""
    server = Server([fault for fault in faults if fault != "404"], billed=["job-0"])
    driver = Driver(server.answer)
    assert driver.run(wait_for_job("job-0", queue_of(driver))).completion == completion()
    assert server.posts == 0


@pytest.mark.parametrize(
    ("outcome", "kind"),
    [(UNSENT, SegmindConnectionError), (reply({}, 429, retry_after="500"), SegmindRateLimitError)],
)
def test_errors_of_the_submit_are_those_of_any_post(outcome: Any, kind: type[SegmindError]) -> None:
    driver = Driver(by_path(submit=outcome))
    with pytest.raises(kind):
        driver.run(running(driver, retries=0))


class _Headers(dict[str, str]):
    """Headers that a test can see go."""


def test_a_job_that_is_waited_for_holds_no_earlier_answer() -> None:
    """Each has kilobytes of headers, and ten thousand jobs may wait."""
    flow = running(Driver(scripted(SUBMITTED)))
    held: list[weakref.ref[_Headers]] = []
    outcome: Response | None = None
    sleeps = 0
    while sleeps < 2:
        command, outcome = flow.send(outcome), None
        if isinstance(command, Request):
            answer = SUBMITTED if command.method == "POST" else RUNNING
            headers = _Headers(answer.headers)
            outcome = answer._replace(headers=headers)
            held.append(weakref.ref(headers))
            del headers
        sleeps += isinstance(command, Sleep)
    gc.collect()
    assert len(held) >= 2
    assert all(reference() is None for reference in held)
    flow.close()
