"""WebSocket frames as bytes (RFC 6455, section 5): building them, and reading the plain ones."""

from __future__ import annotations

from struct import pack

from fastws_compat.daphne.masks import unmask
from fastws_compat.types import Message

TEXT = 0x1
BINARY = 0x2
# Marks the first frame of a compressed message (RFC 7692, 6).
RSV1 = 0x40

# The first byte of a whole text or binary message: a plain one, and a compressed one.
FINAL_TEXT, FINAL_BINARY = 0x80 | TEXT, 0x80 | BINARY
COMPRESSED = (FINAL_TEXT | RSV1, FINAL_BINARY | RSV1)

# The headers of text frames with up to 125 bytes, by size: most messages are that short.
SHORT_TEXT = tuple(bytes((FINAL_TEXT, size)) for size in range(126))


def build(opcode: int, payload: bytes) -> bytes:
    """One whole, unmasked frame."""
    size = len(payload)
    if size < 126:
        return bytes((0x80 | opcode, size)) + payload
    if size < 0x10000:
        return pack("!BBH", 0x80 | opcode, 126, size) + payload
    return pack("!BBQ", 0x80 | opcode, 127, size) + payload


def of(message: Message) -> bytes:
    """The plain frame for a `websocket.send` message."""
    text, data = message.get("text"), message.get("bytes")
    if (text is None) == (data is None):
        raise ValueError("'websocket.send' takes either text or bytes.")
    if text is not None:
        payload = text.encode()
        size = len(payload)
        return SHORT_TEXT[size] + payload if size < 126 else build(TEXT, payload)
    payload = data if isinstance(data, bytes) else memoryview(data).tobytes()  # type: ignore[arg-type]
    return build(BINARY, payload)


def header_size(frame: bytes) -> int:
    """The size of an unmasked frame's header."""
    return {126: 4, 127: 10}.get(frame[1], 2)


def read(
    data: bytes, start: int, limit: int, text: int = FINAL_TEXT, binary: int = FINAL_BINARY
) -> tuple[int, bytes, int] | None:
    """The message in the single masked frame at `start`, as (opcode, payload, end of the frame).

    `text` and `binary` are the first bytes of the frames to read. None for everything else: control frames,
    fragments, protocol errors, payloads of 64 KiB or more or over `limit`, and incomplete frames.
    """
    available = len(data)
    if available - start < 6:
        return None
    first, length = data[start], data[start + 1]
    if first != text and first != binary:
        return None
    if 128 <= length < 254:
        size, mask = length - 128, start + 2
    elif length == 254:
        size, mask = int.from_bytes(data[start + 2 : start + 4], "big"), start + 4
        if size < 126:
            return None
    else:
        return None
    end = mask + 4 + size
    if end > available or 0 < limit < size:
        return None
    return first & 0xF, unmask(data[mask + 4 : end], data[mask : mask + 4]), end


def read_short_text(data: bytes) -> bytes | None:
    """The payload if `data` is one text of up to 125 bytes in a single masked frame, and nothing else."""
    size = len(data) - 6
    if size < 0 or data[1] - 128 != size or size > 125 or data[0] != FINAL_TEXT:
        return None
    return unmask(data[6:], data[2:6])


def end(data: bytes, start: int) -> int:
    """The end of the frame at `start` according to its header; the end of `data` if that comes first."""
    available = len(data)
    if available - start < 2:
        return available
    length = data[start + 1] & 0x7F
    header = 2 + (4 if data[start + 1] & 0x80 else 0)
    extended = {126: 2, 127: 8}.get(length, 0)
    if available - start < 2 + extended:
        return available
    if extended:
        length = int.from_bytes(data[start + 2 : start + 2 + extended], "big")
    return min(available, start + header + extended + length)
