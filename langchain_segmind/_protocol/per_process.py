"""What a forked child makes anew, so that no lock of its parent matters to it."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Generic, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

Value = TypeVar("Value")


class PerProcess(Generic[Value]):
    """A value of which each process has its own.

    A child that is forked while a thread holds a lock finds it held for ever: that thread is not
    there. Comparing process ids needs no hook into the fork.
    """

    def __init__(
        self, make: Callable[[], Value], leave: Callable[[Value], object] = lambda _: None
    ) -> None:
        """Make the value of this process; each child will make its own when it first asks.

        `leave` is given what a child has of its parent's, which it must not use.
        """
        self._make = make
        self._leave = leave
        self._values = {os.getpid(): make()}

    def get(self) -> Value:
        """Give the value of the process that asks."""
        pid = os.getpid()
        value = self._values.get(pid)
        return self._adopt(pid) if value is None else value

    def _adopt(self, pid: int) -> Value:
        value = self._values.setdefault(pid, self._make())  # One for all threads that ask at once.
        for other in [known for known in list(self._values) if known != pid]:
            if (left := self._values.pop(other, None)) is not None:
                self._leave(left)  # Gone: its number may be given to a child of ours.
        return value
