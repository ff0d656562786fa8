"""The newest entries of each group in memory, for members that catch up."""

from __future__ import annotations

from collections import OrderedDict

from fastws_compat import conf
from fastws_compat.groups.entries import Kept


class Ring:
    """The entries of one group, by offset. They may have gaps."""

    def __init__(self, budget: Budget, count: int) -> None:
        self.budget = budget
        self.count = count
        self._entries: dict[int, Kept] = {}

    def __len__(self) -> int:
        return len(self._entries)

    def add(self, entry: Kept) -> None:
        if (known := self._entries.get(entry.offset)) is not None:
            # What the store has replaces a copy: it has the time of the store.
            self._entries[entry.offset] = entry
            self.budget.size += entry.size - known.size
            return
        self._entries[entry.offset] = entry
        self.budget.grow(self, entry.size)
        if len(self._entries) > self.count:
            self.drop_oldest()

    def after(self, offset: int, limit: int) -> list[Kept]:
        """The entries that follow the offset without a gap."""
        self.budget.touch(self)
        found: list[Kept] = []
        while len(found) < limit and (entry := self._entries.get(offset + 1)):
            found.append(entry)
            offset += 1
        return found

    def drop_oldest(self) -> None:
        """Drop the entry that was added first."""
        self.budget.size -= self._entries.pop(next(iter(self._entries))).size

    def clear(self) -> None:
        self.budget.size -= sum(entry.size for entry in self._entries.values())
        self._entries.clear()

    def close(self) -> None:
        self.clear()
        self.budget.forget(self)


class Budget:
    """The memory that the rings of one event loop may take; the least recently used are emptied first."""

    def __init__(self) -> None:
        self.size = 0
        self._rings: OrderedDict[Ring, None] = OrderedDict()

    def touch(self, ring: Ring) -> None:
        self._rings[ring] = None
        self._rings.move_to_end(ring)

    def grow(self, ring: Ring, size: int) -> None:
        self._rings.setdefault(ring)
        self.size += size
        limit = conf.get("RING_BYTES")
        while self.size > limit:
            self._shrink()

    def _shrink(self) -> None:
        ring = next(iter(self._rings))
        if len(ring):
            ring.drop_oldest()
        else:
            del self._rings[ring]

    def forget(self, ring: Ring) -> None:
        self._rings.pop(ring, None)
