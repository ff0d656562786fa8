"""Messages are numbered by their sender, so that a process notices what it was not given."""

from __future__ import annotations

import asyncio
import os
from itertools import count
from typing import Any
from uuid import uuid4

from fastws_compat.layers.client import counters
from fastws_compat.layers.wire import Envelope
from fastws_compat.logger import logger

# So many groups, and so many senders of one group, are remembered.
MOST_GROUPS = 10_000
MOST_SENDERS = 1_000
# Concurrent sends may overtake each other on a layer; what has not come by then is lost.
PATIENCE = 2.0


class Numbering:
    """The numbers that this process gives to what it sends."""

    def __init__(self) -> None:
        self._begin()

    def _begin(self) -> None:
        self._pid = os.getpid()
        self._sender = uuid4().hex[:16]
        self._counts: dict[tuple[str, str], count[int]] = {}

    def next(self, layer: str, group: str) -> dict[str, Any]:
        """What the next message for the group of that layer says about its sender."""
        if self._pid != os.getpid() or len(self._counts) > MOST_GROUPS:
            self._begin()
        return {"from": self._sender, "number": next(self._counts.setdefault((layer, group), count()))}


class Gaps:
    """What should have come to one hub and has not."""

    def __init__(self) -> None:
        self._expected: dict[str, dict[str, int]] = {}
        self._missing = 0
        self._report: asyncio.TimerHandle | None = None

    def see(self, envelope: Envelope) -> None:
        """Take note of a message that came."""
        if envelope.sender is None:
            return
        senders = self._expected.setdefault(envelope.group, {})
        if len(senders) > MOST_SENDERS:
            senders.clear()
        expected = senders.get(envelope.sender, envelope.number)
        if envelope.number >= expected:
            senders[envelope.sender] = envelope.number + 1
        if envelope.number != expected:
            self._count(envelope.number - expected if envelope.number > expected else -1)

    def forget(self, group: str) -> None:
        self._expected.pop(group, None)

    def _count(self, number: int) -> None:
        self._missing = max(0, self._missing + number)
        if self._report is None:
            self._report = asyncio.get_running_loop().call_later(PATIENCE, self._tell)

    def _tell(self) -> None:
        self._report = None
        if self._missing:
            counters["lost"] += self._missing
            logger.warning("%d messages of groups did not reach this process", self._missing)
            self._missing = 0
