"""Sums over the connections that have ended and the handshakes that were refused, by route."""

from __future__ import annotations

import copy
import threading
from bisect import bisect_left
from collections import Counter
from collections.abc import Callable
from time import monotonic
from typing import Any, Protocol, TypeVar

from fastws_compat.connections import hooks, tally
from fastws_compat.connections.outcomes import NO_ROUTE, Closed, Reason, template_of
from fastws_compat.connections.tally import Counts
from fastws_compat.types import Scope

# Upper bounds of the histograms, in seconds.
DURATIONS = (1, 10, 60, 300, 1800, 3600, 14400, 86400)
LAGS = (0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 5)
HANDSHAKES = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 4)
# The maximum number of close codes that are counted under their own number, and of classes of exceptions:
# an endpoint may pass on what a client sent.
MAX_CODES = MAX_EXCEPTIONS = 100
OTHER = "other"


class Histogram:
    """How many values are at most as large as each of the bounds, and their sum."""

    __slots__ = ("bounds", "counts", "observers", "sum")

    def __init__(self, bounds: tuple[float, ...]) -> None:
        self.bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.sum = 0.0
        # Called with each value.
        self.observers: tuple[Callable[[float], None], ...] = ()

    def __copy__(self) -> Histogram:
        twin = Histogram(self.bounds)
        twin.counts, twin.sum = self.counts[:], self.sum
        return twin

    def add(self, value: float) -> None:
        self.counts[bisect_left(self.bounds, value)] += 1
        self.sum += value
        if self.observers:
            hooks.run(self.observers, value)


class Totals:
    """The sums of one route."""

    def __init__(self) -> None:
        self.opened = 0
        self.messages_in = self.messages_out = self.bytes_in = self.bytes_out = 0
        # By code and by who closed first, by status and reason, by class.
        self.closed: Counter[tuple[int | str, str]] = Counter()
        self.refused: Counter[tuple[int, str]] = Counter()
        self.exceptions: Counter[str] = Counter()
        # Seconds for which endpoints were found not to be receiving.
        self.away = 0.0
        self.durations = Histogram(DURATIONS)
        self.handshakes = Histogram(HANDSHAKES)

    def copy(self) -> Totals:
        twin = copy.copy(self)
        for name in ("closed", "refused", "exceptions", "durations", "handshakes"):
            setattr(twin, name, copy.copy(getattr(self, name)))
        return twin

    def add(self, closed: tuple[int | str, str], counts: Counts, age: float) -> None:
        """Add a connection that was accepted and has ended."""
        received, sent, bytes_in, bytes_out = counts
        self.opened += 1
        self.closed[closed] += 1
        self.durations.add(age)
        self.messages_in += received or 0
        self.messages_out += sent or 0
        self.bytes_in += bytes_in or 0
        self.bytes_out += bytes_out or 0


class Counted(Protocol):
    """A connection at its end."""

    begun: float

    @property
    def template(self) -> str: ...

    def settle(self) -> str: ...

    @property
    def is_accepted(self) -> bool: ...

    @property
    def refusal(self) -> tuple[int, Reason] | None: ...

    @property
    def closed(self) -> Closed: ...

    @property
    def counts(self) -> Counts: ...


LiveT = TypeVar("LiveT")

# Whether anything reads the sums or listens to `hooks`. What does turns it on (`start`).
is_on = False
_readers = 0
# Held while a connection moves from the live ones to the sums, so that no reader sees it twice or not at all.
lock = threading.Lock()
_totals: dict[str, Totals] = {}
_sent_codes: set[int] = set()
# How late the sweepers' timers were.
lag = Histogram(LAGS)
_exceptions: set[str] = set()


def start() -> None:
    """Begin to count; sizes and times too, also where that costs a call per message."""
    global is_on, _readers
    _readers += 1
    is_on = tally.is_thorough = True
    if _answered not in hooks.answered:
        hooks.answered.insert(0, _answered)


def stop() -> None:
    """Undo one `start`; the last one ends the counting."""
    global is_on, _readers
    _readers -= 1
    if _readers == 0:
        is_on = tally.is_thorough = False
        hooks.answered.remove(_answered)


def _answered(connection: Counted) -> None:
    if is_on:
        totals_of(connection.template).handshakes.add(monotonic() - connection.begun)


def totals_of(template: str) -> Totals:
    found = _totals.get(template)
    if found is None:
        found = _totals.setdefault(template, Totals())
    return found


def retire(connection: Counted, live: set[Any]) -> None:
    """Move a connection that has ended from the live ones to the sums."""
    totals = totals_of(connection.settle())
    closed = _label(*connection.closed) if connection.is_accepted else None
    counts, refusal, age = connection.counts, connection.refusal, monotonic() - connection.begun
    with lock:
        live.discard(connection)
        if closed is not None:
            totals.add(closed, counts, age)
        elif refusal is not None:
            totals.refused[refusal] += 1
    hooks.run(hooks.ended, connection)


def _label(code: int, by: str) -> tuple[int | str, str]:
    """The code as it is counted: clients may choose among thousands, so theirs count as `other`."""
    if by != "client" and len(_sent_codes) < MAX_CODES:
        _sent_codes.add(code)
    return code if 1000 <= code <= 1015 or code in _sent_codes else OTHER, by


def refused(scope: Scope | None, status: int, reason: Reason) -> None:
    """Count a handshake that was refused before its session began."""
    if not is_on:
        return
    totals = totals_of(NO_ROUTE if scope is None else template_of(scope))
    with lock:
        totals.refused[status, reason] += 1
    hooks.run(hooks.refused, scope, status, reason)


def failed(template: str, exc: BaseException) -> None:
    """Count an exception of an application."""
    if not is_on:
        return
    name = type(exc).__qualname__
    if name not in _exceptions and len(_exceptions) >= MAX_EXCEPTIONS:
        name = OTHER
    totals = totals_of(template)
    with lock:
        _exceptions.add(name)
        totals.exceptions[name] += 1


def snapshot(live: Callable[[], list[LiveT]]) -> tuple[list[LiveT], dict[str, Totals]]:
    """The live connections and the sums by route at one moment."""
    with lock:
        return live(), {template: totals.copy() for template, totals in _totals.items()}
