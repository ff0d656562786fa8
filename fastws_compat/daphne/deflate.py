"""Compressed messages (RFC 7692, section 7.2): building their frames, and inflating them within a limit."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterator
from functools import cache
from typing import Any

from fastws_compat.daphne import frames
from fastws_compat.daphne.fragments import InvalidPayload, PartialBinary, PartialText
from fastws_compat.daphne.negotiation import EXTENSION, Agreement
from fastws_compat.deflate import DeflateOptions
from fastws_compat.types import Message

FrameOf = Callable[[Message], bytes]

# How each message's data ends before it is sent, and again before it is inflated.
TAIL = b"\x00\x00\xff\xff"
# An empty final block: the inflater is at its end after it only if the data before it was complete.
FINAL_BLOCK = b"\x03\x00"

# The maximum output and input of one inflating call: zlib copies the input that it has not reached.
MAX_INFLATED_AT_ONCE = 64 * 1024
MAX_DEFLATED_AT_ONCE = 16 * 1024
# A client may end the data of a message with a final block. Each one starts a new inflater, so
# thousands of them would take too long.
MAX_FINAL_BLOCKS = 16
# The limit where neither the route nor daphne has one: that of uvicorn. A small frame may hold a gigabyte.
MAX_INFLATED = 16 * 1024 * 1024


def frames_for(agreement: Agreement, options: DeflateOptions) -> FrameOf:
    """The function that makes a connection's frames.

    Without context takeover it is the same one for all connections with the same parameters, and so are the
    frames. With it a frame belongs to one connection, must be sent, and in the order in which it was made.
    """
    bits, level, threshold = agreement.server_max_window_bits, options["level"], options["threshold"]
    make = independent_frames if agreement.server_no_context_takeover else consecutive_frames
    return make(bits, level, threshold)


@cache
def independent_frames(bits: int, level: int, threshold: int) -> FrameOf:
    """Frames that are each compressed by themselves; plain ones where that does not make them smaller."""

    def frame_of(message: Message) -> bytes:
        plain = frames.of(message)
        if is_short(plain, threshold):
            return plain
        frame = compressed(plain, new_deflater(bits, level))
        return frame if len(frame) < len(plain) else plain

    return frame_of


def consecutive_frames(bits: int, level: int, threshold: int) -> FrameOf:
    """Frames that refer to the frames before them."""
    deflater = new_deflater(bits, level)

    def frame_of(message: Message) -> bytes:
        plain = frames.of(message)
        return plain if is_short(plain, threshold) else compressed(plain, deflater)

    return frame_of


def new_deflater(bits: int, level: int) -> Any:
    # In zlib's default, too, a hash table has half as many entries as the window has bytes.
    return zlib.compressobj(level, zlib.DEFLATED, -bits, max(1, bits - 7))


def is_short(plain: bytes, threshold: int) -> bool:
    """Whether a frame is sent as it is. An empty one always is: a deflater may have nothing to flush."""
    return len(plain) - frames.header_size(plain) < max(1, threshold)


def compressed(plain: bytes, deflater: Any) -> bytes:
    """A whole, unmasked frame with its payload compressed."""
    payload = memoryview(plain)[frames.header_size(plain) :]
    data = deflater.compress(payload) + deflater.flush(zlib.Z_SYNC_FLUSH)
    return frames.build(frames.RSV1 | plain[0], data[: -len(TAIL)])


class CorruptData(InvalidPayload):
    """The data cannot be inflated."""


class InflatesTooFar(ValueError):
    """The message is larger than the limit; nothing beyond the limit has been inflated."""


class Inflater:
    """Inflates the messages of one connection. Without context takeover it holds nothing between them."""

    __slots__ = ("_bits", "_final_blocks", "_is_empty", "_keeps_context", "_left", "_limit", "_stream")

    def __init__(self, bits: int, keeps_context: bool, limit: int) -> None:
        self._bits = max(9, bits)  # a larger window inflates what was deflated with a smaller one
        self._keeps_context = keeps_context
        self._limit = limit
        self._stream: Any = None

    def begin(self) -> None:
        """Begin a message."""
        self._left, self._final_blocks, self._is_empty = self._limit, 0, True
        if self._stream is None:
            self._stream = zlib.decompressobj(-self._bits)

    def inflate(self, data: bytes) -> Iterator[bytes]:
        """What the next bytes of a message hold, in pieces of bounded size."""
        self._is_empty = self._is_empty and not data
        for start in range(0, len(data), MAX_DEFLATED_AT_ONCE):
            rest: bytes | None = data[start : start + MAX_DEFLATED_AT_ONCE]
            while rest is not None:
                piece = self._next(rest)
                if piece:
                    yield piece
                rest = self._rest(piece)

    def end(self) -> Iterator[bytes]:
        """What remains at the end of a message."""
        if self._is_empty:  # a deflater had nothing to flush
            return
        yield from self.inflate(TAIL)
        if not self._keeps_context:
            stream, self._stream = self._stream, None
            if decompress(stream, FINAL_BLOCK, 1) or not stream.eof:
                raise CorruptData("the compressed data is incomplete")

    def _next(self, data: bytes) -> bytes:
        piece = decompress(self._stream, data, min(self._left + 1, MAX_INFLATED_AT_ONCE))
        self._left -= len(piece)
        if self._left < 0:
            raise InflatesTooFar
        return piece

    def _rest(self, piece: bytes) -> bytes | None:
        """What has not been inflated yet; None if nothing is left, neither here nor inside of zlib."""
        stream = self._stream
        if stream.eof:
            self._count_final_block()
            # A client that does this has begun a new stream too, and does not refer to the old window.
            self._stream = zlib.decompressobj(-self._bits)
            return stream.unused_data or None
        rest: bytes = stream.unconsumed_tail
        return rest if rest or len(piece) == MAX_INFLATED_AT_ONCE else None

    def _count_final_block(self) -> None:
        self._final_blocks += 1
        if self._final_blocks > MAX_FINAL_BLOCKS:
            raise CorruptData("the compressed data has too many final blocks")


def decompress(stream: Any, data: bytes, most: int) -> bytes:
    try:
        inflated: bytes = stream.decompress(data, most)
    except zlib.error:
        raise CorruptData("the compressed data is invalid") from None
    return inflated


def inflater_for(agreement: Agreement, limit: int) -> Inflater:
    return Inflater(agreement.client_max_window_bits, not agreement.client_no_context_takeover, limit)


class PartialCompressed:
    """The pieces of a compressed message, each inflated on arrival."""

    __slots__ = ("_inflater", "_plain", "fragments")

    def __init__(self, plain: PartialBinary | PartialText, inflater: Inflater) -> None:
        self._plain = plain
        self._inflater = inflater
        self.fragments = 0
        inflater.begin()

    @property
    def size(self) -> int:
        return self._plain.size

    def add(self, piece: bytes) -> None:
        for inflated in self._inflater.inflate(piece):
            self._plain.add(inflated)

    def message(self) -> Message:
        for inflated in self._inflater.end():
            self._plain.add(inflated)
        return self._plain.message()


class Accepted:
    """Has autobahn accept compressed messages, whose data it passes on as it is."""

    EXTENSION_NAME = EXTENSION

    def start_decompress_message(self) -> None:
        """Do nothing: `PartialCompressed` begins the message."""

    def decompress_message_data(self, data: bytes, max_output_len: int | None = None) -> bytes:
        return data

    def end_decompress_message(self) -> None:
        """Do nothing: `PartialCompressed` ends the message."""


ACCEPTED = Accepted()
