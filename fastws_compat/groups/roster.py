"""Who is present in a group: the changes, and the copy of the list that one hub keeps."""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

# The infos as JSON texts, by key.
People = dict[str, str]

# The number of versions that a reconnecting client may lag behind and still get only the changes.
MAX_DIFFS = 256


@dataclass(frozen=True, slots=True)
class Person:
    """A person who is present: the key, the info, since when, and with how many sockets."""

    #: The key that identifies the person in the group.
    key: str
    #: The newest info that one of the person's sockets gave.
    info: Any
    #: When the first of the sockets joined.
    since: datetime
    #: The number of sockets that the person has in the group.
    sockets: int


@dataclass(frozen=True, slots=True)
class Diff:
    """The changes of one step of the store; `version` counts the steps of an epoch."""

    epoch: str
    version: int
    joined: People = field(default_factory=dict)
    left: list[str] = field(default_factory=list)
    changed: People = field(default_factory=dict)
    # The last infos of people who have left; other processes do not need them.
    last: People = field(default_factory=dict)
    # Those of the joined who were present before, until the store lost its data.
    again: frozenset[str] = frozenset()

    def __bool__(self) -> bool:
        return bool(self.joined or self.left or self.changed)

    @property
    def present(self) -> People:
        return {**self.joined, **self.changed}

    def as_json(self) -> list[Any]:
        return [self.epoch, self.version, self.joined, self.left, self.changed]


@dataclass(frozen=True, slots=True)
class Change:
    """How the list differs from an earlier version."""

    joined: People
    left: list[str]
    changed: People

    def __bool__(self) -> bool:
        return bool(self.joined or self.left or self.changed)


class Roster:
    """A copy of the list. It follows the diffs in order of their versions; after a gap, the store is read.

    After the store has lost its data, people stay in the list for `lease` seconds, because every process
    needs up to that long to register its sockets again.
    """

    def __init__(self, lease: float) -> None:
        self.people: People = {}
        self.epoch: str | None = None
        self.version = 0
        # Whether the copy must be compared with the store.
        self.stale = True
        self._lease = lease
        self._pending: dict[int, Diff] = {}
        # By key, when a person whom the store has lost is considered gone.
        self._unsure: dict[str, float] = {}
        # The info that changed keys had when `take` was called last; None if they were absent.
        self._before: dict[str, str | None] = {}
        self._recent: deque[Diff] = deque(maxlen=MAX_DIFFS)

    @property
    def name(self) -> str:
        """The version as clients keep it. While anybody's presence is unsure, only this process knows it."""
        return f"{self.epoch}.{self.version}{'~' if self._unsure else ''}"

    @property
    def has_gap(self) -> bool:
        return bool(self._pending)

    @property
    def has_news(self) -> bool:
        """Whether `take` returns a change, or may return one."""
        return bool(self._before)

    def check(self, epoch: str, version: int) -> None:
        """Compare the version with that of the store."""
        if (epoch, version) != (self.epoch, self.version):
            self.stale = True

    def is_due(self, now: float) -> bool:
        """Whether to compare the list with the store."""
        return self.stale or any(at <= now for at in self._unsure.values())

    def survivors(self, diff: Diff) -> frozenset[str]:
        """Those of the joined who were present before the store lost its data, and were missing since."""
        is_new = self.epoch not in (None, diff.epoch)
        return frozenset(diff.joined.keys() & (self.people if is_new else self._unsure).keys())

    def apply(self, diff: Diff) -> None:
        """Apply a diff, and those that were waiting for it."""
        if diff.epoch != self.epoch:
            self.stale = True
        elif diff.version > self.version:
            self._pending[diff.version] = diff
            self._apply_pending()

    def _apply_pending(self) -> None:
        while diff := self._pending.pop(self.version + 1, None):
            self.version = diff.version
            self._recent.append(diff)
            for key, info in diff.present.items():
                self._set(key, info)
            for key in diff.left:
                self._set(key, None)

    def compare(self, epoch: str, version: int, people: People, now: float) -> None:
        """Replace the copy with the store's list, unless the copy is newer."""
        if epoch == self.epoch and version < self.version:
            return
        if self.epoch not in (None, epoch):
            # The store has lost everything: joins apply at once, and the others have one lease to come back.
            self._doubt(self.people.keys() - people.keys(), now)
        if epoch != self.epoch or version != self.version:
            self._recent.clear()
        waiting = self._pending if epoch == self.epoch else {}
        self._pending = {number: diff for number, diff in waiting.items() if number > version}
        self.epoch, self.version = epoch, version
        self._replace(people, now)
        self._apply_pending()

    def _doubt(self, keys: Iterable[str], now: float) -> None:
        for key in keys:
            self._unsure.setdefault(key, now + self._lease)

    def _replace(self, people: People, now: float) -> None:
        for key, info in people.items():
            self._set(key, info)
        for key in self.people.keys() - people.keys():
            if self._unsure.get(key, now) <= now:
                self._set(key, None)

    def _set(self, key: str, info: str | None) -> None:
        self._unsure.pop(key, None)
        before = self.people.get(key)
        if info == before:
            return
        self._before.setdefault(key, before)
        if info is None:
            del self.people[key]
        else:
            self.people[key] = info

    def take(self) -> Change:
        """What has changed since the last call."""
        before, self._before = self._before, {}
        return change_between(before, self.people)

    def since(self, name: str) -> Change | None:
        """What has changed since a version that a client knows; None if the version is unknown."""
        if name == self.name and not self._unsure:
            return Change({}, [], {})
        for skipped, diff in enumerate(self._recent):
            if f"{self.epoch}.{diff.version - 1}" == name and not self._unsure:
                return self._merged([*self._recent][skipped:])
        return None

    def _merged(self, diffs: Iterable[Diff]) -> Change:
        before: dict[str, str | None] = {}
        for diff in diffs:
            for key in diff.joined:
                before.setdefault(key, None)
            for key in (*diff.left, *diff.changed):
                before.setdefault(key, "")  # differs from every JSON text
        return change_between(before, self.people)


def change_between(before: Mapping[str, str | None], people: People) -> Change:
    """How the keys of `before` have changed."""
    now = {key: people.get(key) for key in before}
    there = {key: info for key, info in now.items() if info is not None}
    return Change(
        {key: info for key, info in there.items() if before[key] is None},
        [key for key, info in now.items() if info is None and before[key] is not None],
        {key: info for key, info in there.items() if before[key] not in (None, info)},
    )


def presence_text(group: str, roster: Roster, limit: int, change: Change | None) -> str:
    """The text of a presence frame: the change or the whole list, and only the count above the limit."""
    count = len(roster.people)
    # A client that knows only the count needs the whole list when it comes back, whatever has changed.
    version = roster.name if count <= limit else f"{roster.name}~"
    fields = {"group": json.dumps(group), "version": json.dumps(version), "count": str(count)}
    if count <= limit:
        fields |= {"all": _object(roster.people)} if change is None else _fields(change)
    return "".join(('{"fastws":"presence"', *(f',"{name}":{text}' for name, text in fields.items()), "}"))


def _fields(change: Change) -> dict[str, str]:
    return {
        "joined": _object(change.joined),
        "left": json.dumps(change.left),
        "changed": _object(change.changed),
    }


def _object(people: People) -> str:
    return f"{{{','.join(f'{json.dumps(key)}:{info}' for key, info in people.items())}}}"
