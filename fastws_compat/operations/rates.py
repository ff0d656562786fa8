"""Messages per second, from two consecutive answers of the processes."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from fastws_compat.operations.records import Traffic

# Seconds between the two answers: with fewer the rate is unsteady, with more it is out of date.
SHORTEST, LONGEST = 1.0, 60.0
MAX_SAMPLES = 100

Sample = Mapping[str, Traffic]


@dataclass(frozen=True, slots=True)
class Rates:
    """The rates of all processes together; None for what is not known."""

    # Messages per second.
    messages_in: float | None
    messages_out: float | None
    # The lag of the process whose event loop is latest, in seconds.
    lag: float | None


class Meter:
    """Remembers the answers, and compares each with an earlier one."""

    __slots__ = ("_samples",)

    def __init__(self) -> None:
        self._samples: deque[tuple[float, Sample]] = deque(maxlen=MAX_SAMPLES)

    def read(self, now: float, sample: Sample) -> Rates:
        before = self._before(now)
        self._samples.append((now, sample))
        lags = [each.lag for each in sample.values() if each.lag is not None]
        return Rates(
            _rate("messages_in", now, sample, before),
            _rate("messages_out", now, sample, before),
            max(lags, default=None),
        )

    def _before(self, now: float) -> tuple[float, Sample] | None:
        """The latest earlier answer that can be compared."""
        fitting = (each for each in reversed(self._samples) if SHORTEST <= now - each[0] <= LONGEST)
        return next(fitting, None)


def _rate(name: str, now: float, sample: Sample, before: tuple[float, Sample] | None) -> float | None:
    if before is None:
        return None
    gains = list(_gains(name, sample, before[1]))
    known = [gain for gain in gains if gain is not None]
    return sum(known) / (now - before[0]) if known and len(known) == len(gains) else None


def _gains(name: str, sample: Sample, before: Sample) -> Iterator[int | None]:
    """How much the count of each process that was there before has grown."""
    for process in sample.keys() & before.keys():
        count, earlier = getattr(sample[process], name), getattr(before[process], name)
        yield None if count is None or earlier is None else max(0, count - earlier)
