from __future__ import annotations

import copy
import pickle
import re
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from typing import TYPE_CHECKING

import pytest
from langchain_core.exceptions import ContextOverflowError, ModelConnectionError, ModelError

import langchain_segmind
from langchain_segmind import Credits, SegmindError, exceptions
from langchain_segmind.exceptions import error_class, job_error_class

if TYPE_CHECKING:
    from collections.abc import Callable

ALL = {
    name: kind
    for name, kind in vars(exceptions).items()
    if isinstance(kind, type) and issubclass(kind, SegmindError)
}


def drawn_tree() -> dict[str, str | None]:
    """Read the tree in the module's docstring: each class, and the one it hangs on."""
    parents: dict[str, str | None] = {}
    path: list[str] = []
    for line in (exceptions.__doc__ or "").splitlines():
        if match := re.match(r"([│├└─ ]*)(Segmind\w+)", line):
            depth = len(match[1]) // 4
            path[depth:] = [match[2]]
            parents[match[2]] = path[depth - 1] if depth else None
    return parents


def test_the_tree_that_is_drawn_is_the_tree_that_is() -> None:
    parents = drawn_tree()
    assert set(parents) == set(ALL)
    for name, parent in parents.items():
        assert parent is None or ALL[parent] in ALL[name].__bases__


def test_the_errors_that_langchain_core_names_are_the_ones_drawn() -> None:
    for name, core in re.findall(
        r"(Segmind\w+Error) .*\((Model\w+|Context\w+)\)", exceptions.__doc__ or ""
    ):
        assert core in {base.__name__ for base in ALL[name].__mro__}


@pytest.mark.parametrize("name", ALL)
def test_every_error_is_public_a_model_error_and_says_what_to_do(name: str) -> None:
    assert name in langchain_segmind.__all__
    assert issubclass(ALL[name], ModelError)
    assert ALL[name].advice or name == "SegmindError"


def full(kind: type[SegmindError]) -> SegmindError:
    return kind(
        "told",
        status_code=429,
        request_id="r-1",
        credits=Credits(1.0, 2.0),
        retry_after=3.0,
        outcome_unknown=True,
    )


@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize(
    "copied", [copy.copy, copy.deepcopy, lambda e: pickle.loads(pickle.dumps(e))]
)
def test_every_error_survives_pickling_and_copying_with_all_it_knows(
    name: str, copied: Callable[[SegmindError], SegmindError]
) -> None:
    error = full(ALL[name])
    error.add_note("a note")
    twin = copied(error)
    assert type(twin) is type(error)
    assert vars(twin) == vars(error)
    assert str(twin) == "told"
    assert not twin.is_retryable


def fail() -> None:
    raise full(exceptions.SegmindRateLimitError)


def test_an_error_crosses_a_process_pool() -> None:
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        error = pool.submit(fail).exception()
    assert isinstance(error, exceptions.SegmindRateLimitError)
    assert error.credits == Credits(1.0, 2.0)


def test_what_may_have_been_billed_is_not_retryable() -> None:
    assert exceptions.SegmindTimeoutError("slow").is_retryable
    assert not exceptions.SegmindTimeoutError("slow", outcome_unknown=True).is_retryable
    assert exceptions.SegmindAPIError("broken").is_retryable
    assert not exceptions.SegmindResponseError("odd").is_retryable
    assert not exceptions.SegmindInsufficientCreditsError("poor").is_retryable


def test_whether_to_send_again_is_told_of_any_error() -> None:
    """Of another provider's too, as behind `with_fallbacks`; of what is no model's, never."""
    assert exceptions.is_retryable(exceptions.SegmindRateLimitError("slow down"))
    assert not exceptions.is_retryable(exceptions.SegmindAPIError("lost", outcome_unknown=True))
    assert exceptions.is_retryable(ModelConnectionError("theirs"))
    assert not exceptions.is_retryable(ValueError("ours"))


def test_every_status_has_a_class() -> None:
    for status in range(100, 1000):
        kind = error_class(status, "")
        assert kind in ALL.values()
        assert issubclass(kind, exceptions.SegmindAPIError) == (not 400 <= status < 500)


def test_a_job_that_overflowed_is_both() -> None:
    kind = job_error_class("maximum context length is 8192")
    assert issubclass(kind, exceptions.SegmindJobFailedError)
    assert issubclass(kind, ContextOverflowError)
    assert job_error_class("no") is exceptions.SegmindJobFailedError
