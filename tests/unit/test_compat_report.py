"""What `make compat` makes of failures: expected, new, or expected in vain."""

from __future__ import annotations

from compat.report import Sorted

REASONS = {"test_stream": "No stream.", "TestA::test_\\w+": "Not here.", "test_gone": "Gone."}


def _sorted(*failed: str) -> Sorted:
    return Sorted({"failed": dict.fromkeys(failed, "assert False")}, REASONS)


def test_a_failure_that_a_pattern_names_is_counted_by_its_reason() -> None:
    """Whatever its parameters are."""
    found = _sorted("tests/test_x.py::test_stream[a-b]", "tests/test_x.py::TestA::test_b")
    assert found.expected == {"No stream.": 1, "Not here.": 1}
    assert found.new == {}


def test_a_longer_name_is_another_test() -> None:
    found = _sorted("tests/test_x.py::test_streams", "tests/test_x.py::test_no_test_stream")
    assert len(found.new) == 2


def test_a_pattern_that_names_no_failure_is_stale() -> None:
    """What was mended, or renamed, does not stay on the list."""
    assert _sorted("tests/test_x.py::test_stream").stale == ["TestA::test_\\w+", "test_gone"]
