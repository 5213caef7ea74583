"""What makes two calls the same: the identity under which a journal keeps an answer."""

from __future__ import annotations

import hashlib
import sys
import threading
from collections import OrderedDict
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NamedTuple

from langchain_segmind._protocol.per_process import PerProcess
from langchain_segmind.exceptions import SegmindInvalidInputError

if TYPE_CHECKING:
    from collections.abc import Generator, Hashable, Mapping

LONGEST_KEY = 255
"""Characters of an idempotency key, as Stripe has it."""
EXECUTIONS_REMEMBERED = 10_000
"""Node executions of LangGraph whose answers are counted, the last ones used."""


class Scope(NamedTuple):
    """Where a call belongs, before what it sends is known."""

    name: str
    execution: Hashable = None
    """The execution of a LangGraph node, in which equal calls are told apart by counting."""
    is_whole: bool = False
    """Whether the name alone is the identity, whatever is sent."""


def fingerprint_of(*parts: str | bytes) -> str:
    """Hash what is sent, and where to: a hash tells whether it is the same, and no more."""
    hashed = hashlib.blake2b(digest_size=16, person=b"segmind-journal")
    for part in parts:
        encoded = part.encode() if isinstance(part, str) else part
        hashed.update(len(encoded).to_bytes(8, "big") + encoded)  # Its length tells it from others.
    return hashed.hexdigest()


def scope_of(
    journal: object, idempotency_key: object, metadata: Mapping[str, Any] | None
) -> Scope | None:
    """Find a call's scope: its own key, its config's, or its place in a LangGraph run.

    Raises:
        SegmindInvalidInputError: A key is no text of 1 to 255 characters, or has no journal.
    """
    if journal is None:
        raise SegmindInvalidInputError(
            "idempotency_key needs a journal to be kept in: "
            'ChatSegmindLlama(journal="run.sqlite"). Nothing was sent.'
        )
    if idempotency_key is not None:
        return Scope(_check_key(idempotency_key), is_whole=True)
    metadata = metadata or {}
    if (key := metadata.get("idempotency_key")) is not None:
        return Scope(_check_key(key))
    thread, namespace = metadata.get("thread_id"), metadata.get("langgraph_checkpoint_ns")
    if thread is None or not namespace:
        return None
    return Scope(f"langgraph/{thread}/{namespace}", (thread, namespace, _first_attempt_time()))


def _check_key(key: object) -> str:
    if isinstance(key, int) and not isinstance(key, bool):
        key = str(key)  # A row's number.
    if not isinstance(key, str) or not 1 <= len(key) <= LONGEST_KEY or not key.isprintable():
        raise SegmindInvalidInputError(
            f"idempotency_key={str(key)[:40]!r} is refused: a text of 1 to {LONGEST_KEY} "
            "printable characters. Nothing was sent."
        )
    return key


def _first_attempt_time() -> float | None:
    """Tell one execution of a node from the next: a retry keeps this time, a resume has its own."""
    if "langgraph" not in sys.modules:
        return None
    from langgraph.runtime import get_runtime

    try:
        execution = get_runtime().execution_info
    except (RuntimeError, KeyError):  # Called outside of the node's own context.
        return None
    return None if execution is None else execution.node_first_attempt_time


class Deliveries:
    """Which of its equal calls each node execution has had answered, and which are under way.

    What was delivered is not given again to a retry of the node, which had a reason to ask anew.
    A new process, and a new execution, count from zero, and so are given the same answers in the
    same order.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._taken: OrderedDict[Hashable, dict[str, set[int]]] = OrderedDict()

    @contextmanager
    def reserve(self, scope: Scope, fingerprint: str) -> Generator[str]:
        """Give the key of a call; its number among its equals stays taken if the call succeeds."""
        if scope.execution is None:
            yield scope.name if scope.is_whole else f"{scope.name}/{fingerprint}"
            return
        with self._lock:
            taken = self._numbers(scope.execution).setdefault(fingerprint, set())
            number = next(number for number in range(len(taken) + 1) if number not in taken)
            taken.add(number)
        try:
            yield f"{scope.name}/{fingerprint}/{number}"
        except BaseException:
            with self._lock:
                taken.discard(number)
            raise

    def _numbers(self, execution: Hashable) -> dict[str, set[int]]:
        numbers = self._taken.setdefault(execution, {})
        self._taken.move_to_end(execution)
        if len(self._taken) > EXECUTIONS_REMEMBERED:
            self._taken.popitem(last=False)
        return numbers


DELIVERIES = PerProcess(Deliveries)
"""What this process counts."""
