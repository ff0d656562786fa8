"""Sums over the connections that have ended and the handshakes that were refused, by route."""

from __future__ import annotations

import copy
import math
import threading
from bisect import bisect_left, bisect_right
from collections import Counter, defaultdict, deque
from collections.abc import Callable, Iterable, Sequence
from time import monotonic
from typing import Any, Protocol, TypeVar

from fastws_compat.connections import hooks, tally
from fastws_compat.connections.outcomes import NO_ROUTE, Closed, Reason, template_of
from fastws_compat.types import Scope

# Upper bounds of the histograms, in seconds.
DURATIONS = (1, 10, 60, 300, 1800, 3600, 14400, 86400)
LAGS = (0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 5)
# Upper bounds of the sizes of messages, in bytes.
SIZES = (64, 256, 1024, 4096, 16384, 65536, 262144, 1048576)
HANDSHAKES = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 4)
# The maximum number of close codes that are counted under their own number, and of classes of exceptions:
# an endpoint may pass on what a client sent.
MAX_CODES = MAX_EXCEPTIONS = 100
OTHER = "other"
# Seconds for which a lag counts as recent, and how many are kept.
RECENT, MAX_LAGS = 60.0, 1200
# How many ended connections may wait for a reader of the sums before they are added without one.
MAX_ENDED = 256


# The names of the counts of a connection.
COUNTED = ("messages_in", "messages_out", "bytes_in", "bytes_out")


# The names of the histograms of a route.
HISTOGRAMS = ("durations", "handshakes", "sizes_in", "sizes_out")


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

    def add_all(self, values: Iterable[float]) -> None:
        """Add values; the observers are not called."""
        ordered, below = sorted(values), 0
        for place, bound in enumerate(self.bounds):
            upto = bisect_right(ordered, bound, below)
            self.counts[place] += upto - below
            below = upto
        self.counts[-1] += len(ordered) - below
        self.sum += sum(ordered)

    def merge(self, other: Histogram) -> None:
        self.counts = [mine + theirs for mine, theirs in zip(self.counts, other.counts, strict=True)]
        self.sum += other.sum


# The sizes of the messages of a connection, in and out.
Sizes = tuple[Histogram, Histogram]


def new_sizes() -> Sizes:
    return Histogram(SIZES), Histogram(SIZES)


# A connection that was accepted and has ended: its template, the seconds until its handshake was answered
# and until its end, its first close, the sizes of its messages, its counts.
Ended = tuple[str, float, float, Closed, Sizes | None, int | None, int | None, int | None, int | None]


class Totals:
    """The sums of one route."""

    def __init__(self) -> None:
        self.opened = 0
        self.messages_in = self.messages_out = self.bytes_in = self.bytes_out = 0
        # Which of these four some connections did not know; their sums are too low.
        self.unknown: frozenset[str] = frozenset()
        # By code and by who closed first, by status and reason, by class.
        self.closed: Counter[tuple[int | str, str]] = Counter()
        self.refused: Counter[tuple[int, str]] = Counter()
        self.exceptions: Counter[str] = Counter()
        # Seconds for which endpoints were found not to be receiving.
        self.away = 0.0
        self.durations = Histogram(DURATIONS)
        self.handshakes = Histogram(HANDSHAKES)
        self.sizes_in, self.sizes_out = new_sizes()

    def copy(self) -> Totals:
        twin = copy.copy(self)
        for name in ("closed", "refused", "exceptions", *HISTOGRAMS):
            setattr(twin, name, copy.copy(getattr(self, name)))
        return twin

    def add(self, ended: Sequence[Ended]) -> None:
        """Add connections that were accepted and have ended."""
        _, waits, ages, closed, sizes, *counts = zip(*ended, strict=True)
        self.opened += len(ended)
        self.handshakes.add_all(waits)
        self.durations.add_all(ages)
        for (code, by), number in Counter(closed).items():
            self.closed[_label(code, by)] += number
        for name, column in zip(COUNTED, counts, strict=True):
            known = column
            if None in column:
                known = tuple(count for count in column if count is not None)
                self.unknown |= {name}
            setattr(self, name, getattr(self, name) + sum(known))
        for each in filter(None, sizes):
            self.add_sizes(each)

    def add_sizes(self, sizes: Sizes | None) -> None:
        """Add the sizes of the messages of a connection, if they are measured."""
        if sizes is not None:
            self.sizes_in.merge(sizes[0])
            self.sizes_out.merge(sizes[1])


class Counted(Protocol):
    """A connection at its end."""

    begun: float

    @property
    def waited(self) -> float | None: ...

    @property
    def template(self) -> str: ...

    def settle(self) -> Ended | None: ...

    @property
    def refusal(self) -> tuple[int, Reason] | None: ...


LiveT = TypeVar("LiveT")

# Whether anything reads the sums or listens to `hooks`. What does turns it on (`start`).
is_on = False
_readers = 0
# Held while a connection moves from the live ones to the sums, so that no reader sees it twice or not at all.
lock = threading.Lock()
_totals: dict[str, Totals] = {}
# Connections that are not in the sums yet: a reader adds them all at once, which costs less than one by one.
_ended: list[Ended] = []
_sent_codes: set[int] = set()
# How late the sweepers' timers were.
lag = Histogram(LAGS)
# The latest of them, each with the time of the measurement.
_lags: deque[tuple[float, float]] = deque(maxlen=MAX_LAGS)
_exceptions: set[str] = set()


def start() -> None:
    """Begin to count; sizes and times too, also where that costs a call per message."""
    global is_on, _readers
    _readers += 1
    is_on = tally.is_thorough = True


def stop() -> None:
    """Undo one `start`; the last one ends the counting."""
    global is_on, _readers
    _readers -= 1
    if _readers == 0:
        is_on = tally.is_thorough = False


def note_lag(seconds: float) -> None:
    """Note how late a timer of an event loop was."""
    lag.add(seconds)
    _lags.append((monotonic(), seconds))


def lag_p99() -> float | None:
    """The 99th percentile of the lag in the last minute; None if nothing was measured, as without sockets."""
    begin = monotonic() - RECENT
    recent = sorted(seconds for at, seconds in list(_lags) if at >= begin)
    return recent[math.ceil(0.99 * len(recent)) - 1] if recent else None


def totals_of(template: str) -> Totals:
    found = _totals.get(template)
    if found is None:
        found = _totals.setdefault(template, Totals())
    return found


def retire(connection: Counted, live: set[Any]) -> None:
    """Move a connection that has ended from the live ones to the sums."""
    ended = connection.settle()
    if ended is None:
        _retire_refused(connection, live)
    else:
        with lock:
            live.discard(connection)
            _ended.append(ended)
            if len(_ended) >= MAX_ENDED:
                _add_ended()
    if hooks.ended:
        hooks.run(hooks.ended, connection)


def _retire_refused(connection: Counted, live: set[Any]) -> None:
    totals, refusal = totals_of(connection.template), connection.refusal
    with lock:
        live.discard(connection)
        if refusal is not None:
            totals.refused[refusal] += 1
            # The server's own answer is not noted; nothing takes long between it and the end.
            waited = connection.waited
            totals.handshakes.add(monotonic() - connection.begun if waited is None else waited)


def _add_ended() -> None:
    """Add the connections that have ended to the sums of their routes; the caller holds the lock."""
    by_template: defaultdict[str, list[Ended]] = defaultdict(list)
    for ended in _ended:
        by_template[ended[0]].append(ended)
    _ended.clear()
    for template, connections in by_template.items():
        totals_of(template).add(connections)


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
        _add_ended()
        return live(), {template: totals.copy() for template, totals in _totals.items()}
