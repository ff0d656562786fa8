"""What a group sends, and its form on a channel layer.

A message on the layer is a dict of Channels' kind. Under the key `fastws` it carries what our sockets need:

    {"type": "fastws.message", "fastws": {"group": "chat.1", "json": '{"text":"hi"}'}}

with `json` (a text frame that holds JSON), `text`, `bytes` or `close` ([code, reason]), and, where they are
needed, `exclude` (the id of a socket), `from` and `number` (a sender, and its count for the group). A group
with a type of its own says that type, and repeats what it sends as keys for the consumers that know it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from fastws_compat.connections.closing import close_code, close_reason
from fastws_compat.layers.content import dump, dump_model, is_model, text_of, way_out
from fastws_compat.types import Message

KEY = "fastws"
TYPE = "fastws.message"

Kind = Literal["json", "text", "bytes"]
KINDS: dict[Kind, type] = {"json": str, "text": str, "bytes": bytes}


@dataclass(frozen=True, slots=True)
class Payload:
    """One message, encoded: the text or the bytes of the frame that carries it."""

    kind: Kind
    data: str | bytes

    @property
    def value(self) -> Any:
        """What was sent, with JSON parsed."""
        return json.loads(self.data) if self.kind == "json" else self.data

    @property
    def frame(self) -> Message:
        """The ASGI message that carries it."""
        return {"type": "websocket.send", "bytes" if self.kind == "bytes" else "text": self.data}


@dataclass(frozen=True, slots=True)
class Close:
    """The members' sockets are to be closed."""

    code: int
    reason: str


@dataclass(frozen=True, slots=True)
class Envelope:
    """What a group was sent, as it came from the layer."""

    group: str
    content: Payload | Close
    exclude: str | None
    sender: str | None
    number: int


def encode(message: Any) -> Payload:
    """The payload for a `str` (as text), `bytes`, or a dict, list, pydantic model or dataclass (as JSON).

    Raises TypeError for what `groups.content` does not know, at the top or inside.
    """
    kind = type(message)
    if issubclass(kind, (dict, list, tuple)):
        return Payload("json", dump(message))
    if issubclass(kind, (bytes, bytearray, memoryview)):
        return Payload("bytes", bytes(message))
    if is_model(kind):
        return Payload("json", dump_model(message))
    text = text_of(message)
    if text is None:
        raise TypeError(
            f"A group sends a dict, list, pydantic model, str or bytes, not {kind.__name__}{way_out(kind)}."
        )
    text.encode()  # a lone surrogate has to fail here, not at each member
    return Payload("text", text)


def pack(group: str, payload: Payload, own_type: str | None, extra: Mapping[str, Any]) -> dict[str, Any]:
    """The layer's message for a payload; with `own_type` it also reads as a plain Channels message."""
    wire = {"group": group, payload.kind: payload.data, **extra}
    if own_type is None:
        return {"type": TYPE, KEY: wire}
    value = payload.value
    fields = value if isinstance(value, dict) else {payload.kind: value}
    return {**fields, "type": own_type, KEY: wire}


def pack_close(group: str, close: Close, extra: Mapping[str, Any]) -> dict[str, Any]:
    """The layer's message that closes the members' sockets."""
    return {"type": TYPE, KEY: {"group": group, "close": [close.code, close.reason], **extra}}


def unpack(message: Mapping[str, Any]) -> Envelope | None:
    """What a message from the layer holds for our sockets; None if it was not sent by a group of ours.

    ValueError for one that says it was, and is not of the form above.
    """
    if KEY not in message:
        return None
    wire = message[KEY]
    try:
        exclude, sender, number = wire.get("exclude"), wire.get("from"), wire.get("number", 0)
        _expect(wire["group"], str)
        _expect(number, int)
        _expect(exclude, str | None)
        _expect(sender, str | None)
        return Envelope(wire["group"], _content(wire), exclude, sender, number)
    except (KeyError, TypeError, ValueError, AttributeError):
        raise ValueError("it is not of the form that groups send")


def _content(wire: Mapping[str, Any]) -> Payload | Close:
    for kind, type in KINDS.items():
        if kind in wire:
            _expect(wire[kind], type)
            return Payload(kind, wire[kind])
    code, reason = wire["close"]
    _expect(reason, str)
    return Close(close_code(code), close_reason(reason))


def _expect(value: Any, type: Any) -> None:
    if not isinstance(value, type):
        raise TypeError(value)
