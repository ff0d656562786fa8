"""The entries of a group's history, and the frames that clients of `live.js` receive."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import UTC, datetime
from operator import index
from typing import Any

from fastws_compat.connections.jsontext import dumps
from fastws_compat.layers.wire import Change, Payload
from fastws_compat.types import Message

# The size in memory of an entry without content, in bytes.
OVERHEAD = 250
# The maximum size of a key in bytes; the head of a binary frame, which contains it, has 64 KiB.
MAX_KEY = 1_000


@dataclass(frozen=True, slots=True)
class Entry:
    """A message as `Group.history` returns it."""

    #: The number of the message in its group, for as long as the history has the same epoch.
    offset: int
    #: When it was sent.
    time: datetime
    #: What was sent.
    message: Any


@dataclass(frozen=True, slots=True)
class Kept:
    """A message or a change of state, as a store keeps it."""

    offset: int
    # Unique among the messages to the group.
    id: str
    # Seconds since 1970, by the clock of the store.
    time: float
    content: Payload | Change
    # The id of the member that is excluded.
    exclude: str | None = None
    key: str | None = None
    # Whether it came over the layer: `time` is then when it arrived, by the clock of this process.
    is_copy: bool = False

    @property
    def size(self) -> int:
        """The approximate size of the entry in memory, in bytes."""
        return len(self.content.data) + OVERHEAD

    @property
    def moment(self) -> datetime:
        return datetime.fromtimestamp(self.time, UTC)


def key_text(key: object) -> str:
    """A key, which often comes from a client, as text that every server can write.

    Raises ValueError if it is too long.
    """
    data = str(key).encode("utf-8", "replace")
    if len(data) > MAX_KEY:
        raise ValueError(f"A key of {len(data)} bytes exceeds the maximum of {MAX_KEY}.")
    return data.decode()


def count_of(value: int, name: str) -> int:
    """A number of entries, or an offset; ValueError if it is negative, TypeError if it is no integer."""
    number = index(value)
    if number < 0:
        raise ValueError(f"{name}={number} is negative.")
    return number


def text_frame(kind: str, **fields: Any) -> Message:
    """A frame for clients of `live.js`: `{"fastws": kind, ...}`."""
    return {"type": "websocket.send", "text": dumps({"fastws": kind, **fields})}


def message_frame(payload: Payload, group: str, offset: int | None, key: str | None) -> Message:
    """A message in its envelope, built around the existing JSON text."""
    fields: dict[str, Any] = {"fastws": "message", "group": group}
    if offset is not None:
        fields["offset"] = offset
    if key is not None:
        fields["key"] = key
    head = dumps(fields)
    if payload.kind == "bytes":
        return _binary(head.encode(), payload.data)
    if payload.kind == "text":
        return _text(head, "text", json.dumps(payload.data, ensure_ascii=False))
    return _text(head, "data", payload.data)


def _text(head: str, name: str, json_text: Any) -> Message:
    return {"type": "websocket.send", "text": f'{head[:-1]},"{name}":{json_text}}}'}


def _binary(head: bytes, data: Any) -> Message:
    return {"type": "websocket.send", "bytes": len(head).to_bytes(2, "big") + head + data}


def change_frame(change: Change, group: str, offset: int) -> Message:
    """A change of state. Its JSON text is the end of the frame."""
    head = dumps({"fastws": "state", "group": group, "offset": offset})
    return {"type": "websocket.send", "text": f"{head[:-1]},{change.data[1:]}"}


def snapshot_frame(values: dict[str, str], group: str, offset: int) -> Message:
    """All values, built from their existing JSON texts."""
    head = dumps({"fastws": "state", "group": group, "offset": offset})
    pairs = ",".join(f"{dumps(key)}:{value}" for key, value in values.items())
    return {"type": "websocket.send", "text": f'{head[:-1]},"all":{{{pairs}}}}}'}
