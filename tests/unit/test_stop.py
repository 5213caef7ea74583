from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from langchain_segmind._messages.stop import StopCutter


def cut(stop: list[str], *pieces: str) -> str:
    cutter = StopCutter(stop)
    return "".join(map(cutter.feed, pieces)) + cutter.finish()


def test_text_without_a_stop_sequence_passes_at_once() -> None:
    cutter = StopCutter([])
    assert cutter.feed("hello") == "hello"
    assert cutter.finish() == ""
    assert not cutter.cut


def test_text_ends_before_a_stop_sequence() -> None:
    assert cut(["END"], "to the END of it") == "to the "


def test_a_stop_sequence_may_come_in_pieces() -> None:
    assert cut(["END"], "to the E", "N", "D of it") == "to the "


def test_what_only_looked_like_a_stop_sequence_is_given_back() -> None:
    cutter = StopCutter(["END"])
    assert cutter.feed("the EN") == "the "
    assert cutter.feed("!") == "EN!"
    assert not cutter.cut


def test_the_sequence_that_ends_first_counts() -> None:
    assert cut(["abcX", "c"], "abcX") == "ab"


def test_nothing_comes_after_a_cut() -> None:
    cutter = StopCutter(["."])
    assert cutter.feed("one. two") == "one"
    assert cutter.cut
    assert cutter.feed(" three") == ""
    assert cutter.finish() == ""


@given(
    st.lists(st.text("ab.", min_size=1, max_size=4), min_size=1, max_size=3),
    st.lists(st.text("ab.", max_size=6), max_size=8),
)
def test_any_split_gives_what_the_whole_gives(stop: list[str], pieces: list[str]) -> None:
    assert cut(stop, *pieces) == cut(stop, "".join(pieces))


@given(st.lists(st.text("ab.", min_size=1, max_size=4)), st.text("ab.", max_size=30))
def test_no_stop_sequence_is_left_and_nothing_before_it_is_lost(stop: list[str], text: str) -> None:
    kept = cut(stop, text)
    assert text.startswith(kept)
    assert not any(sequence in kept for sequence in stop)
    assert kept == text or any(text.startswith(sequence, len(kept)) for sequence in stop)
