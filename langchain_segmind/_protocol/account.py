"""What this process knows of a Segmind account: its balance, and how fast it may be asked.

One `Account` for each host and key, shared by every model, thread and event loop of the process;
a forked child starts without knowledge. It does no I/O; the clock's readings are arguments.
"""

from __future__ import annotations

import hashlib
import secrets
import threading
from collections import OrderedDict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING
from urllib.parse import urlsplit
from weakref import WeakValueDictionary

from langchain_segmind._protocol.pacing import LONG_AGO, PollPacing, RequestWindow
from langchain_segmind._protocol.per_process import PerProcess
from langchain_segmind._protocol.retry import RetryBudget

if TYPE_CHECKING:
    from pydantic import SecretStr

ACCOUNTS_REMEMBERED = 1_000
"""How many are kept though no model uses them: a server whose users bring keys sees many."""


class Ledger:
    """The last balance seen, told apart from older ones that arrive late."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._balance: float | None = None
        self._seen_at = LONG_AGO
        self._stated_at = LONG_AGO
        self._crossed: set[float] = set()

    @property
    def balance(self) -> float | None:
        """What the account had left when it was last seen; None where no answer has said."""
        return self._balance

    def note(self, remaining: float | None, *, asked_at: float, now: float) -> None:
        """Take the balance an answer carries, where it is news.

        Calls overlap: an answer to a request sent before the last balance was seen may be older
        than that balance. Since calls only ever spend, it is then believed where it is lower.
        """
        with self._lock:
            if remaining is None or asked_at < self._stated_at:
                return
            known = self._balance
            if known is None or remaining < known or asked_at >= self._seen_at:
                self._balance, self._seen_at = remaining, now

    def set_balance(self, balance: float, *, now: float) -> None:
        """Take the balance that `get_credits` was told: it settles what came before."""
        with self._lock:
            self._balance, self._seen_at, self._stated_at = balance, now, now

    def falls_below(self, threshold: float) -> bool:
        """Tell, once for each time, that the balance has fallen below a threshold."""
        with self._lock:
            is_below = self._balance is not None and self._balance < threshold
            if not is_below:
                self._crossed.discard(threshold)
                return False
            is_news = threshold not in self._crossed
            self._crossed.add(threshold)
            return is_news


@dataclass(frozen=True, slots=True)
class _Knowledge:
    ledger: Ledger = field(default_factory=Ledger)
    requests: RequestWindow = field(default_factory=RequestWindow)
    polls: PollPacing = field(default_factory=PollPacing)
    retries: RetryBudget = field(default_factory=RetryBudget)


class Account:
    """One key at one host."""

    def __init__(self) -> None:
        self._knowledge = PerProcess(_Knowledge)

    @property
    def ledger(self) -> Ledger:
        """The balance."""
        return self._knowledge.get().ledger

    @property
    def requests(self) -> RequestWindow:
        """When requests may go."""
        return self._knowledge.get().requests

    @property
    def polls(self) -> PollPacing:
        """When jobs may be asked after."""
        return self._knowledge.get().polls

    @property
    def retries(self) -> RetryBudget:
        """How many retries there are."""
        return self._knowledge.get().retries


_SALT = secrets.token_bytes(16)
_LOCK = PerProcess(threading.Lock)
_ACCOUNTS: WeakValueDictionary[tuple[str, bytes], Account] = WeakValueDictionary()
"""By host and hash: no key is kept, nor anything that outlives the process."""
_RECENT: OrderedDict[tuple[str, bytes], Account] = OrderedDict()
"""Those that are remembered even while no model uses them."""


def account_of(base_url: str, api_key: SecretStr) -> Account:
    """Give what this process knows of a key at a host."""
    digest = hashlib.blake2b(api_key.get_secret_value().encode(), key=_SALT).digest()
    name = (urlsplit(base_url).netloc.lower(), digest)
    with _LOCK.get():
        account = _ACCOUNTS.get(name)
        if account is None:
            account = _ACCOUNTS[name] = Account()
        _RECENT[name] = account
        _RECENT.move_to_end(name)
        if len(_RECENT) > ACCOUNTS_REMEMBERED:
            _RECENT.popitem(last=False)
        return account
