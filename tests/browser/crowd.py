"""Holds many open sockets: python -m tests.browser.crowd PORT PATH COUNT

Prints "ready" when all are open; ends with stdin.
"""

from __future__ import annotations

import asyncio
import sys

HANDSHAKE = (
    "GET {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
)


async def main(port: int, path: str, count: int) -> None:
    writers = []
    for _ in range(count):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(HANDSHAKE.format(path=path, port=port).encode())
        assert b" 101 " in await reader.readline()
        writers.append(writer)
    print("ready", flush=True)
    await asyncio.to_thread(sys.stdin.read)


asyncio.run(main(int(sys.argv[1]), sys.argv[2], int(sys.argv[3])))
