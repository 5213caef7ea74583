from __future__ import annotations

import gzip
import tracemalloc
import zlib
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from langchain_segmind._transport.content_encoding import BodyDecoder, UnreadableBodyError


def decoded(encoding: str, *chunks: bytes, limit: int = 1000) -> bytes:
    decoder = BodyDecoder(encoding, limit)
    body = b"".join(map(decoder.feed, chunks))
    decoder.finish()
    return body


def split(data: bytes, cuts: list[int]) -> list[bytes]:
    edges = [0, *sorted(cut % (len(data) + 1) for cut in cuts), len(data)]
    return [data[start:end] for start, end in pairwise(edges)]


@pytest.mark.parametrize("encoding", ["", "identity", " Identity "])
def test_a_plain_body_passes(encoding: str) -> None:
    assert decoded(encoding, b"some ", b"text") == b"some text"


@pytest.mark.parametrize("encoding", ["gzip", "x-gzip", "GZIP"])
def test_gzip_is_undone(encoding: str) -> None:
    assert decoded(encoding, gzip.compress(b"some text")) == b"some text"


def test_deflate_is_undone() -> None:
    assert decoded("deflate", zlib.compress(b"some text")) == b"some text"


@pytest.mark.parametrize("encoding", ["br", "zstd", "gzip, gzip", "nonsense"])
def test_another_encoding_is_refused_by_name(encoding: str) -> None:
    with pytest.raises(UnreadableBodyError, match=encoding):
        BodyDecoder(encoding)


def test_what_is_no_gzip_is_damaged() -> None:
    with pytest.raises(UnreadableBodyError, match="damaged"):
        decoded("gzip", b"{}")


def test_gzip_without_its_end_is_cut_short() -> None:
    with pytest.raises(UnreadableBodyError, match="cut short"):
        decoded("gzip", gzip.compress(b"some text")[:-9])


def test_padding_behind_gzip_is_ignored_within_bounds() -> None:
    assert decoded("gzip", gzip.compress(b"some text") + b"\0" * 9, b"\0" * 9) == b"some text"
    with pytest.raises(UnreadableBodyError, match="larger"):
        decoded("gzip", gzip.compress(b"some text"), *[b"\0" * 500] * 3)


def test_a_body_may_be_as_large_as_the_limit_and_no_larger() -> None:
    assert len(decoded("", b"x" * 500, b"x" * 500)) == 1000
    with pytest.raises(UnreadableBodyError, match="larger than 1000 bytes"):
        decoded("", b"x" * 500, b"x" * 501)


def test_a_bomb_stops_at_the_limit() -> None:
    """Ten megabytes wait in ten kilobytes; not more than the limit and one byte come out."""
    decoder = BodyDecoder("gzip", 1000)
    with pytest.raises(UnreadableBodyError, match="larger"):
        decoder.feed(gzip.compress(b"0" * 10_000_000))


def test_a_bomb_takes_no_memory() -> None:
    """A hundred megabytes wait in a hundred kilobytes."""
    bomb = gzip.compress(b"0" * 100_000_000)
    decoder = BodyDecoder("gzip", 1_000_000)
    tracemalloc.start()
    try:
        with pytest.raises(UnreadableBodyError, match="larger"):
            decoder.feed(bomb)
        assert tracemalloc.get_traced_memory()[1] < 3_000_000
    finally:
        tracemalloc.stop()


@given(st.binary(max_size=300), st.lists(st.integers(0, 1000), max_size=8))
def test_any_split_of_gzip_gives_the_same(data: bytes, cuts: list[int]) -> None:
    assert decoded("gzip", *split(gzip.compress(data), cuts)) == data


@given(st.binary(max_size=3000), st.lists(st.integers(0, 3000), max_size=8), st.booleans())
def test_no_input_in_any_split_gives_more_than_the_limit(
    data: bytes,
    cuts: list[int],
    compress: bool,
) -> None:
    decoder = BodyDecoder("gzip", 100)
    size = 0
    try:
        for chunk in split(gzip.compress(data) if compress else data, cuts):
            size += len(decoder.feed(chunk))
        decoder.finish()
    except UnreadableBodyError:
        pass
    assert size <= 100
