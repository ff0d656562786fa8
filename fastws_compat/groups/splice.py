"""The place of an entry in a serialized message of the layer, which the script of the store fills in.

A store on the server of the layer thus keeps an entry and publishes the message in one call.
"""

from __future__ import annotations

from secrets import token_hex
from typing import Any

from fastws_compat.layers.wire import Payload, pack

# What stands for the epoch and the offset, with their lengths in the script.
EPOCH, OFFSET = token_hex(4), token_hex(8)
PLACE = {"epoch": EPOCH, "offset": OFFSET}

Parts = tuple[bytes, bytes, bytes]


def cut(serialized: bytes) -> Parts:
    """The parts around the epoch and the offset; ValueError if they are not in the serialized message."""
    head, rest = serialized.split(EPOCH.encode())
    middle, tail = rest.split(OFFSET.encode())
    return head, middle, tail


def can_splice(layer: Any) -> bool:
    """Whether a message that the script has put together is read as one that the layer has serialized."""
    try:
        head, middle, tail = cut(layer.serialize(_sample(**PLACE)))
        return bool(layer.deserialize(head + b"k3x9ab2c" + middle + b"%016d" % 17 + tail) == _sample())
    except Exception:  # any serializer may be configured
        return False


def _sample(epoch: str = "k3x9ab2c", offset: str = "0000000000000017") -> dict[str, Any]:
    """A message that is large enough for a serializer that compresses some of them."""
    return pack("g", Payload("text", "x" * 100_000), None, {"epoch": epoch, "offset": offset})
