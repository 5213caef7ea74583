"""Which ids were seen, in eight bytes each: a set of a million strings takes a hundred and more."""

from __future__ import annotations

from array import array
from bisect import bisect_left

_BUCKETS = 64


class IdSet:
    """The hashes of ids; two of a million share one once in thirty million runs."""

    def __init__(self) -> None:
        """Start empty."""
        self._buckets = [array("q") for _ in range(_BUCKETS)]
        self._is_sorted = False

    def add(self, name: str) -> None:
        """Note an id."""
        hashed = hash(name)
        self._buckets[hashed % _BUCKETS].append(hashed)
        self._is_sorted = False

    def __contains__(self, name: str) -> bool:
        if not self._is_sorted:
            self._buckets = [array("q", sorted(bucket)) for bucket in self._buckets]
            self._is_sorted = True
        hashed = hash(name)
        bucket = self._buckets[hashed % _BUCKETS]
        place = bisect_left(bucket, hashed)
        return place < len(bucket) and bucket[place] == hashed

    def __len__(self) -> int:
        return sum(map(len, self._buckets))

    def find_repeated(self) -> set[int]:
        """Give the hashes that were noted twice."""
        found: set[int] = set()
        for bucket in self._buckets:
            once: set[int] = set(bucket)
            if len(once) < len(bucket):
                found.update(each for each in once if bucket.count(each) > 1)
        return found
