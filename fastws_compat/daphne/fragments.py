"""A message that arrives in pieces, split into fragments by the client or into packets by the network."""

from __future__ import annotations

import re
from codecs import utf_8_decode
from io import BytesIO, StringIO

from fastws_compat.types import Message

# Maximum number of frames in one message: a limit in bytes alone would never be reached by empty frames.
# Autobahn's test cases 9.3.1 and 9.4.1 send 65,537.
MAX_FRAGMENTS = 131_072

# The first two bytes of a surrogate. Python's decoder waits for the third because of "surrogatepass".
SURROGATE = re.compile(rb"\xed[\xa0-\xbf]")


class InvalidPayload(ValueError):
    """The payload is not what the message's type requires, which closes with 1007."""


class InvalidText(InvalidPayload):
    """The text is not UTF-8, and no further bytes can make it so."""

    def __init__(self, offset: int) -> None:
        super().__init__(f"invalid UTF-8 at byte {offset}")


class PartialBinary:
    """The pieces of a binary message in one buffer, so that a small piece has no overhead."""

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
    """The pieces of a text message, each decoded on arrival; raises InvalidText at the first invalid byte."""

    __slots__ = ("_buffer", "_pending", "fragments", "size")

    def __init__(self) -> None:
        self._buffer = StringIO()
        self._pending = b""  # the first bytes of a character
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
