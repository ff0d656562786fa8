"""One client process: plain sockets and epoll, so that the server is what is measured.

`servers.load` starts several with an order in JSON, waits for "ready" from each, says "go" to all and adds up
the rates that they print. A frame's mask is all zeros, which costs the server the same.
"""

from __future__ import annotations

import json
import select
import socket
import sys
import time
from typing import Any

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
    """The bytes of an unmasked frame with so much payload."""
    return size + (2 if size < 126 else 4 if size < 1 << 16 else 10)


def connect(port: int, path: str, until: bytes = b"\r\n\r\n") -> socket.socket:
    """A socket that has been accepted, and has read until there."""
    client = socket.create_connection(("127.0.0.1", port), 30)
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


def wait_for_go() -> None:
    print("ready", flush=True)
    sys.stdin.readline()


def echo(order: dict[str, Any]) -> float:
    """Messages per second; every socket sends its next message when it has the last one back."""
    payload = order["payload"].encode() * order.get("times", 1)
    request = frame(payload, 2 if order["kind"] == "bytes" else 1)
    sockets = [connect(order["port"], order["path"]) for _ in range(order["sockets"])]
    clients = {client.fileno(): client for client in sockets}
    size = answer_size(len(payload))
    missing = dict.fromkeys(clients, size)
    poll = select.epoll()
    for fileno in clients:
        poll.register(fileno, select.EPOLLIN)
    wait_for_go()
    for client in sockets:
        client.sendall(request)
    count, start = 0, time.perf_counter()
    while (now := time.perf_counter()) < start + order["seconds"]:
        for fileno, _ in poll.poll(1):
            received = len(clients[fileno].recv(1 << 20))
            assert received, "the server closed"
            missing[fileno] -= received
            if missing[fileno] <= 0:
                missing[fileno] = size
                clients[fileno].sendall(request)
                count += 1
    return count / (now - start)


def connects(order: dict[str, Any]) -> float:
    """Connections per second: TCP and handshake, then closed; so many sockets at a time."""
    wait_for_go()
    count, start = 0, time.perf_counter()
    while (now := time.perf_counter()) < start + order["seconds"]:
        clients = [connect(order["port"], order["path"]) for _ in range(order["sockets"])]
        for client in clients:
            client.close()
        count += len(clients)
    return count / (now - start)


def hold(order: dict[str, Any]) -> float:
    """Open sockets until told to end; how many there are."""
    sockets = [connect(order["port"], order["path"]) for _ in range(order["sockets"])]
    wait_for_go()
    return len(sockets)


WORK = {"echo": echo, "connects": connects, "hold": hold}


if __name__ == "__main__":
    order = json.loads(sys.argv[1])
    print(json.dumps(WORK[order["work"]](order)))
