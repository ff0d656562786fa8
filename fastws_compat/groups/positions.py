"""Positions in the history of a group, and the claims that a client of `live.js` makes in its URL."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import NamedTuple
from urllib.parse import parse_qsl

# The query parameter with which a client signals that it understands envelopes.
PARAMETER = "fastws"
# The maximum length of its value; the rest is ignored.
MAX_LENGTH = 4096

POSITION = re.compile(r"([A-Za-z0-9]{1,32}):([0-9]{1,40})", re.ASCII)
CLAIM = re.compile(r"([A-Za-z0-9\-_.]{1,99}):(|[A-Za-z0-9]{1,32}):([0-9]{1,40})(?::([^:,]{1,64}))?", re.ASCII)
# In the place of the version: the client has never joined the group, and the position is that of its page.
FIRST = "-"
ID = re.compile(r"@([A-Za-z0-9.\-]{1,64})", re.ASCII)


class Position(NamedTuple):
    """The place after a message: everything up to the offset has been seen."""

    epoch: str
    offset: int

    def __str__(self) -> str:
        return f"{self.epoch}:{self.offset}"


def parse_position(text: object) -> Position | None:
    """The position in a text; None if it is not one."""
    match = POSITION.fullmatch(text) if isinstance(text, str) else None
    return None if match is None else Position(match[1], int(match[2]))


@dataclass(frozen=True, slots=True)
class Claim:
    """A client's claim about one group: its position, and the version of the roster that it knows."""

    position: Position | None
    version: str | None
    # Whether the client has never joined the group: it has the position of its page, and none of the values.
    is_first: bool = False


@dataclass(frozen=True, slots=True)
class Claims:
    """The claims in a client's URL. They are not authenticated."""

    # The ids of its earlier connections.
    ids: frozenset[str] = frozenset()
    groups: dict[str, Claim] = field(default_factory=dict)

    def of(self, group: str) -> Claim:
        return self.groups.get(group, NO_CLAIM)


NO_CLAIM = Claim(None, None)


def claims_of(query: bytes) -> Claims | None:
    """The claims in the query string of a handshake; None if the client is not `live.js`."""
    if PARAMETER.encode() not in query:
        return None
    texts = [text for name, text in _pairs(query) if name == PARAMETER]
    return parse_claims(texts[-1]) if texts else None


def _pairs(query: bytes) -> Iterator[tuple[str, str]]:
    yield from parse_qsl(query.decode("latin-1"), keep_blank_values=True, separator="&")


def parse_claims(text: str) -> Claims:
    """The claims in the value of the parameter; malformed parts count as absent."""
    ids: set[str] = set()
    groups: dict[str, Claim] = {}
    for item in _items(text):
        if match := ID.fullmatch(item):
            ids.add(match[1])
        elif match := CLAIM.fullmatch(item):
            name, epoch, offset, version = match.groups()
            position, is_first = Position(epoch, int(offset)) if epoch else None, version == FIRST
            groups.setdefault(name, Claim(position, None if is_first else version, is_first))
    return Claims(frozenset(ids), groups)


def _items(text: str) -> list[str]:
    """The parts of the text, without one that the maximum length has cut."""
    items = text[:MAX_LENGTH].split(",")
    return items if len(text) <= MAX_LENGTH else items[:-1]
