"""Which ids were seen, in eight bytes each: a set of a million strings takes a hundred and more."""

from __future__ import annotations

from array import array
from bisect import bisect_left
from itertools import accumulate

_BUCKETS = 64


class IdSet:
    """The hashes of ids; two of a million share one once in thirty million runs."""

    def __init__(self) -> None:
        self._buckets = [array("q") for _ in range(_BUCKETS)]
        self._starts: list[int] = []
        self._is_sorted = False

    def add(self, name: str) -> None:
        """Note an id."""
        hashed = hash(name)
        self._buckets[hashed % _BUCKETS].append(hashed)
        self._is_sorted = False

    def __contains__(self, name: str) -> bool:
        return self.index(name) is not None

    def index(self, name: str) -> int | None:
        """Give the place of an id among all, which adding another one changes; None without."""
        if not self._is_sorted:
            self._buckets = [array("q", sorted(bucket)) for bucket in self._buckets]
            self._starts = [0, *accumulate(map(len, self._buckets))]
            self._is_sorted = True
        number = (hashed := hash(name)) % _BUCKETS
        bucket = self._buckets[number]
        place = bisect_left(bucket, hashed)
        is_here = place < len(bucket) and bucket[place] == hashed
        return self._starts[number] + place if is_here else None

    def __len__(self) -> int:
        return sum(map(len, self._buckets))

    def count_repeats(self) -> int:
        """Count the ids that had been noted before."""
        return sum(len(bucket) - len(set(bucket)) for bucket in self._buckets)
