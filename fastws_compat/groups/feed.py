"""The messages of one group in one process, in order. Data in, steps out; there is no I/O here.

A message from the layer is passed on if it is the next one. Otherwise it waits, and the messages before it
are read from the store. The steps contain every offset once and in order, or say where some may be missing.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import NamedTuple

from fastws_compat.connections.jsontext import dumps
from fastws_compat.groups.entries import Kept
from fastws_compat.groups.positions import Position
from fastws_compat.groups.ring import Ring
from fastws_compat.groups.stores import Hole, Reading
from fastws_compat.layers.wire import Change

# Seconds that messages may be out of order on the layer before the store is read.
GRACE = 0.02
# The maximum number and size of waiting messages. Beyond it, all of them are read from the store.
MAX_PENDING = 1_000
MAX_PENDING_BYTES = 4 * 1024 * 1024


class Values:
    """The last values of a group at one position, as JSON texts."""

    def __init__(self, texts: dict[str, str], at: Position) -> None:
        self.texts = texts
        self.at = at

    def covers(self, position: Position) -> bool:
        """Whether they are of the same epoch, and contain all changes up to the position."""
        return self.at.epoch == position.epoch and self.at.offset >= position.offset

    def apply(self, change: Change, position: Position) -> None:
        if self.covers(position):
            return
        self.at = position
        edit = json.loads(change.data)
        self.texts.update((key, dumps(value)) for key, value in edit.get("set", {}).items())
        for key in edit.get("del", ()):
            self.texts.pop(key, None)


class Hand(NamedTuple):
    """Pass an entry to the members."""

    entry: Kept


class Lost(NamedTuple):
    """Tell the members that messages before this position may be missing, and none after it."""

    position: Position


Step = Hand | Lost


def can_recover(position: Position, reading: Reading) -> bool:
    """Whether everything after the position is available, without a gap."""
    return (
        position.epoch == reading.epoch
        and reading.base <= position.offset <= reading.top
        and position.offset > reading.hole
        and (position.offset == reading.top or reading.first <= position.offset + 1)
    )


class Feed:
    """The ordered messages of one group. `epoch` is None until the store has been read."""

    def __init__(self, ring: Ring) -> None:
        self.epoch: str | None = None
        # The offset of the newest message that has been passed on.
        self.top = 0
        self.ring = ring
        # By sender, the newest message that is not kept, until it has been reported to the store.
        self.holes: dict[str | None, Hole] = {}
        # Whether the store must be read although no gap is visible.
        self.doubts = True
        # The newest offset that the store is known to have.
        self._known_top = 0
        self._pending: dict[Position, Kept] = {}
        self._pending_bytes = 0

    @property
    def delay(self) -> float | None:
        """Seconds after which the store must be read; None if nothing is missing.

        A sender that was interrupted before it published is not waited for if the store, which keeps as many
        entries as the ring, may soon drop its message.
        """
        if self.doubts or 2 * len(self._pending) >= self.ring.count:
            return 0
        return GRACE if self._pending or self._known_top > self.top else None

    @property
    def seen(self) -> int:
        """The highest offset that is known to have existed in the current epoch."""
        return max([self.top, *(offset for epoch, offset in self._pending if epoch == self.epoch)])

    @property
    def has_hole(self) -> bool:
        """Whether the store does not know yet that a message is not kept."""
        return bool(self.holes)

    @property
    def has_pending(self) -> bool:
        return bool(self._pending)

    def receive(self, epoch: str, entry: Kept) -> list[Step]:
        """Take a message from the layer."""
        if epoch == self.epoch and entry.offset <= self.top:
            return []
        if epoch == self.epoch and entry.offset == self.top + 1:
            return [self._hand(entry), *self._continue()]
        self._wait(Position(epoch, entry.offset), entry)
        self.doubts = self.doubts or epoch != self.epoch
        return []

    def _wait(self, position: Position, entry: Kept) -> None:
        self._pending[position] = entry
        self._pending_bytes += entry.size
        if len(self._pending) > MAX_PENDING or self._pending_bytes > MAX_PENDING_BYTES:
            self._forget_pending(self._pending)
            self.doubts = True

    def check(self, reading: Reading, seen: int) -> None:
        """Compare with what the store has; `seen` is the value of `self.seen` when the store was read."""
        if reading.epoch != self.epoch or reading.top < seen or self.has_hole:
            self.doubts = True
        else:
            self._known_top = max(self._known_top, reading.top)

    def apply(self, reading: Reading) -> list[Step]:
        """Take the entries that the store has after `top`, or after the beginning of a new epoch."""
        steps: list[Step]
        if self.epoch is None:
            steps = [self._jump(reading.epoch, reading.top)]
        elif reading.epoch == self.epoch:
            steps = self._take(reading)
        else:
            steps = self._change_epoch(reading)
        self._known_top = reading.top
        self._forget_pending(filter(self._is_settled, self._pending))
        return [*steps, *self._continue()]

    def _is_settled(self, position: Position) -> bool:
        """Whether the entry needs no step: it is from an old epoch, or has been passed on."""
        return position.epoch != self.epoch or position.offset <= self.top

    def _take(self, reading: Reading) -> list[Step]:
        steps: list[Step] = []
        for entry in reading.entries:
            if entry.offset > self.top + 1:
                steps.append(self._jump(reading.epoch, entry.offset - 1))
            if entry.offset == self.top + 1:
                steps.append(self._hand(entry))
        if not reading.entries and reading.top > self.top:
            steps.append(self._jump(reading.epoch, reading.top))
        return steps

    def _change_epoch(self, reading: Reading) -> list[Step]:
        """Continue at the beginning of the new epoch, or at its end if its first entries are gone."""
        entries = [entry for entry in reading.entries if entry.offset > reading.base]
        is_whole = reading.first <= reading.base + 1 or reading.top == reading.base
        if not is_whole or (reading.top > reading.base and not entries):
            return [self._jump(reading.epoch, reading.top)]
        jump = self._jump(reading.epoch, reading.base)
        return [jump, *self._take(reading._replace(entries=tuple(entries)))]

    def skip(self) -> list[Step]:
        """Continue with the waiting messages, because the store does not respond."""
        if not self._pending:
            return []
        epoch = self.epoch or next(reversed(self._pending)).epoch
        offsets = [offset for its_epoch, offset in self._pending if its_epoch == epoch]
        return [self._jump(epoch, min(offsets) - 1), *self._continue()] if offsets else []

    def _continue(self) -> list[Step]:
        """Pass on the waiting messages whose predecessors have arrived."""
        steps: list[Step] = []
        while self.epoch is not None and (entry := self._pop(Position(self.epoch, self.top + 1))):
            steps.append(self._hand(entry))
        return steps

    def _hand(self, entry: Kept) -> Hand:
        self.top = entry.offset
        self.ring.add(entry)
        return Hand(entry)

    def _jump(self, epoch: str, offset: int) -> Lost:
        self.epoch, self.top = epoch, offset
        self.ring.clear()
        return Lost(Position(epoch, offset))

    def _pop(self, position: Position) -> Kept | None:
        entry = self._pending.pop(position, None)
        self._pending_bytes -= 0 if entry is None else entry.size
        return entry

    def _forget_pending(self, positions: Iterable[Position]) -> None:
        for position in list(positions):
            self._pop(position)
