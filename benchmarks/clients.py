"""The bytes that clients send and expect.

Frames are masked with zeros, which costs the server as much as any other mask.
"""

from __future__ import annotations

import socket

HANDSHAKE = (
    "GET {path} HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n"
    "X-Token: secret\r\nCookie: session=0123456789abcdef\r\n\r\n"
)


def frame(payload: bytes, opcode: int = 1) -> bytes:
    size = len(payload)
    if size < 126:
        head = bytes((0x80 | opcode, 0x80 | size))
    elif size < 1 << 16:
        head = bytes((0x80 | opcode, 0x80 | 126)) + size.to_bytes(2, "big")
    else:
        head = bytes((0x80 | opcode, 0x80 | 127)) + size.to_bytes(8, "big")
    return head + bytes(4) + payload


def answer_size(size: int) -> int:
    """The size of an unmasked frame with this many bytes of payload."""
    return size + (2 if size < 126 else 4 if size < 1 << 16 else 10)


def connect(port: int, path: str, until: bytes = b"\r\n\r\n", source: str = "127.0.0.1") -> socket.socket:
    """A socket whose handshake was accepted, with the response already read."""
    client = socket.create_connection(("127.0.0.1", port), 30, (source, 0))
    client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    client.sendall(HANDSHAKE.format(path=path).encode())
    answer = b""
    while until not in answer:
        more = client.recv(4096)
        if not more:
            break
        answer += more
    assert answer.startswith(b"HTTP/1.1 101"), answer
    return client


def answer(port: int, path: str, request: bytes, until: bytes = b"\r\n\r\n") -> int:
    """The bytes of the frame that answers a frame."""
    with connect(port, path, until) as client:
        client.sendall(request)
        file = client.makefile("rb")
        head = file.read(2)
        extended = {126: 2, 127: 8}.get(head[1], 0)
        size = int.from_bytes(file.read(extended), "big") if extended else head[1]
        assert len(file.read(size)) == size, "the server closed"
        return 2 + extended + size
