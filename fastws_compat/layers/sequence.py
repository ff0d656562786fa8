"""Sequence numbers of group messages, by which a receiving process notices a loss."""

from __future__ import annotations

import asyncio
import os
from itertools import count
from typing import Any
from uuid import uuid4

from fastws_compat.layers.client import DEFAULT, health
from fastws_compat.layers.wire import Envelope
from fastws_compat.logger import logger

# The maximum number of groups whose counts a sender keeps, and of senders that a receiver keeps per group.
MAX_GROUPS = 10_000
MAX_SENDERS = 1_000
# Seconds after which a missing message counts as lost: concurrent sends may overtake each other on a layer.
ARRIVAL_TIMEOUT = 2.0


class Numbering:
    """Numbers the messages that this process sends."""

    def __init__(self) -> None:
        self._reset()

    def _reset(self) -> None:
        self._pid = os.getpid()
        # A sender for each layer: two of them may lead to the same groups.
        self._senders: dict[str, str] = {}
        self._counts: dict[tuple[str, str], count[int]] = {}

    def next(self, layer: str, group: str) -> dict[str, Any]:
        """The sender and the number of the next message for a group: keys of the wire format."""
        if self._pid != os.getpid() or len(self._counts) > MAX_GROUPS:
            self._reset()
        sender = self._senders.get(layer) or self._senders.setdefault(layer, uuid4().hex[:16])
        return {"from": sender, "number": next(self._counts.setdefault((layer, group), count()))}


class LossDetector:
    """Counts the messages that one hub should have received and has not."""

    def __init__(self, alias: str = DEFAULT) -> None:
        self._alias = alias
        # The next number from each sender, by group.
        self.expected: dict[str, dict[str, int]] = {}
        self._missing = 0
        self._timer: asyncio.TimerHandle | None = None

    def record(self, envelope: Envelope) -> None:
        """Take account of a message that has arrived."""
        if envelope.sender is None:
            return
        senders = self.expected.setdefault(envelope.group, {})
        if len(senders) > MAX_SENDERS:
            senders.clear()
        expected = senders.get(envelope.sender, envelope.number)
        if envelope.number >= expected:
            senders[envelope.sender] = envelope.number + 1
        if envelope.number != expected:
            self._add_missing(envelope.number - expected if envelope.number > expected else -1)

    def forget(self, group: str) -> None:
        self.expected.pop(group, None)

    def _add_missing(self, number: int) -> None:
        self._missing = max(0, self._missing + number)
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(ARRIVAL_TIMEOUT, self._report)

    def _report(self) -> None:
        self._timer = None
        if self._missing:
            health(self._alias).count("lost", self._missing)
            logger.warning("%d group messages did not reach this process", self._missing)
            self._missing = 0
