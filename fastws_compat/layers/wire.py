"""The wire format of group messages on a channel layer.

A message on the layer is an ordinary Channels message. Its key `fastws` holds what the sockets need:

    {"type": "fastws.message", "fastws": {"group": "chat.1", "json": '{"text":"hi"}'}}

One of `json` (a text frame that contains JSON), `text`, `bytes`, `close` ([code, reason]) or `state` (a
change of the last values) is present. Optional keys are `exclude` (the id of a member), and `from` and
`number` (the sender, and its count of messages to the group). A message that is kept has `epoch` and
`offset`, and may have a `key`. One that should have been kept and could not be has `kept: False`.
`trace` is the span of its sending, written as in the header `traceparent`; only contrib.messaging reads it.
A group with a `type` of its own uses that type, and repeats the content as top-level keys for plain Channels
consumers.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

from fastws_compat.connections.closing import close_code, close_reason
from fastws_compat.layers.content import advice, dump, dump_model, is_model, text_of
from fastws_compat.types import Message

KEY = "fastws"
TYPE = "fastws.message"

Kind = Literal["json", "text", "bytes"]
KINDS: dict[Kind, type] = {"json": str, "text": str, "bytes": bytes}
OPTIONAL_TEXT = (str, type(None))


@dataclass(frozen=True, slots=True)
class Payload:
    """An encoded message: the text or the bytes of its WebSocket frame."""

    kind: Kind
    data: str | bytes

    @property
    def value(self) -> Any:
        """The content, with JSON parsed."""
        return json.loads(self.data) if self.kind == "json" else self.data

    @property
    def frame(self) -> Message:
        """The ASGI message that sends it."""
        return {"type": "websocket.send", "bytes" if self.kind == "bytes" else "text": self.data}


@dataclass(frozen=True, slots=True)
class Close:
    """Close the sockets of all members."""

    code: int
    reason: str


@dataclass(frozen=True, slots=True)
class Change:
    """A change of a group's last values, as JSON text: `{"set": {key: value}}` or `{"del": [key]}`."""

    data: str


class Envelope(NamedTuple):
    """A group message as it came from the layer."""

    group: str
    content: Payload | Close | Change
    exclude: str | None
    sender: str | None
    number: int
    # The place of a message that is kept.
    epoch: str | None = None
    offset: int = 0
    key: str | None = None
    # False for a message that should have been kept.
    kept: bool | None = None


def encode(message: Any) -> Payload:
    """The payload for a `str` (as text), `bytes`, or a dict, list, pydantic model or dataclass (as JSON).

    Raises TypeError if the message is, or contains, a value that `layers.content` does not accept.
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
            "A group message must be a dict, list, pydantic model, str or bytes, "
            f"not {kind.__name__}{advice(kind)}."
        )
    text.encode()  # a lone surrogate must fail here, not at each member
    return Payload("text", text)


def pack(group: str, payload: Payload, own_type: str | None, extra: Mapping[str, Any]) -> dict[str, Any]:
    """The layer's message for a payload; with `own_type`, plain Channels consumers can read it, too."""
    wire = {"group": group, payload.kind: payload.data, **extra}
    if own_type is None:
        return {"type": TYPE, KEY: wire}
    value = payload.value
    fields = value if isinstance(value, dict) else {payload.kind: value}
    return {**fields, "type": own_type, KEY: wire}


def pack_change(group: str, change: Change, extra: Mapping[str, Any]) -> dict[str, Any]:
    """The layer's message for a change of the last values."""
    return {"type": TYPE, KEY: {"group": group, "state": change.data, **extra}}


def pack_close(group: str, close: Close, extra: Mapping[str, Any]) -> dict[str, Any]:
    """The layer's message for a close."""
    return {"type": TYPE, KEY: {"group": group, "close": [close.code, close.reason], **extra}}


def unpack(message: Mapping[str, Any]) -> Envelope | None:
    """The group message in a message from the layer; None if plain Channels code sent it.

    Raises ValueError if it has the key `fastws` but not the format above.
    """
    if KEY not in message:
        return None
    wire = message[KEY]
    try:
        exclude, sender, number = wire.get("exclude"), wire.get("from"), wire.get("number", 0)
        _expect(wire["group"], str)
        _expect(number, int)
        _expect(exclude, OPTIONAL_TEXT)
        _expect(sender, OPTIONAL_TEXT)
        content = _content(wire)
        if "epoch" in wire:
            return Envelope(wire["group"], content, exclude, sender, number, *_place(wire))
        if (kept := wire.get("kept")) is None:
            return Envelope(wire["group"], content, exclude, sender, number)
        return Envelope(wire["group"], content, exclude, sender, number, key=_key(wire), kept=kept)
    except (KeyError, TypeError, ValueError, AttributeError):
        raise ValueError("its format is not that of a group message")


def _place(wire: Mapping[str, Any]) -> tuple[str, int, str | None]:
    """Epoch, offset and key of a message that is kept. A script writes the offset as digits."""
    _expect(wire["epoch"], str)
    return wire["epoch"], int(wire["offset"]), _key(wire)


def _key(wire: Mapping[str, Any]) -> str | None:
    key = wire.get("key")
    _expect(key, OPTIONAL_TEXT)
    return key


def _content(wire: Mapping[str, Any]) -> Payload | Close | Change:
    for kind, type in KINDS.items():
        if kind in wire:
            _expect(wire[kind], type)
            return Payload(kind, wire[kind])
    if "state" in wire:
        _expect(wire["state"], str)
        return Change(wire["state"])
    code, reason = wire["close"]
    _expect(reason, str)
    return Close(close_code(code), close_reason(reason))


def _expect(value: Any, type: Any) -> None:
    if not isinstance(value, type):
        raise TypeError(value)
