"""A message that arrives in pieces, as its client fragments it and as the network cuts it."""

from __future__ import annotations

import re
from codecs import utf_8_decode
from io import BytesIO, StringIO

from fastws_compat.types import Message

# Frames of one message. Frames without payload count towards no limit in bytes, so their number has one.
# Autobahn's cases 9.3.1 and 9.4.1 send 65,537.
MAX_FRAGMENTS = 131_072

# The beginning of a surrogate. Python's decoder waits for its third byte, for the sake of "surrogatepass".
SURROGATE = re.compile(rb"\xed[\xa0-\xbf]")


class InvalidText(ValueError):
    """The text is not UTF-8, whatever is still to come."""

    def __init__(self, offset: int) -> None:
        super().__init__(f"not UTF-8 from byte {offset} on")


class PartialBinary:
    """The pieces of a binary message in one buffer, in which small pieces take no more than their bytes."""

    __slots__ = ("_buffer", "fragments", "size")

    def __init__(self) -> None:
        self._buffer = BytesIO()
        self.fragments = self.size = 0

    def add(self, piece: bytes) -> None:
        self.size += len(piece)
        self._buffer.write(piece)

    def message(self) -> Message:
        return {"type": "websocket.receive", "bytes": self._buffer.getvalue()}


class PartialText:
    """The pieces of a text message, each decoded when it comes: InvalidText at the first impossible byte."""

    __slots__ = ("_buffer", "_pending", "fragments", "size")

    def __init__(self) -> None:
        self._buffer = StringIO()
        self._pending = b""  # the beginning of a character
        self.fragments = self.size = 0

    def add(self, piece: bytes) -> None:
        self._decode(piece, False)
        self.size += len(piece)

    def message(self) -> Message:
        self._decode(b"", True)
        return {"type": "websocket.receive", "text": self._buffer.getvalue()}

    def _decode(self, piece: bytes, final: bool) -> None:
        data = self._pending + piece
        try:
            text, used = utf_8_decode(data, "strict", final)
        except UnicodeDecodeError as exc:
            raise InvalidText(self.size - len(self._pending) + exc.start) from None
        self._buffer.write(text)
        self._pending = data[used:]
        if SURROGATE.fullmatch(self._pending):
            raise InvalidText(self.size + len(piece) - len(self._pending))
