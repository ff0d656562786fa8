"""Stock daphne against the completed one, with bare ASGI functions: echo, and a broadcast to many sockets.

    python benchmarks/daphne_echo.py [--quick]

Both servers run in turn in one invocation, each run in a new process; medians and their ratio are printed.
The client is one process that reads and writes plain sockets, so that the server is what is measured.
"""

from __future__ import annotations

import argparse
import os
import select
import socket
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

if os.environ.get("COMPLETED"):
    from fastws_compat.daphne import install

    install()

KINDS = ("stock", "completed")
TEXT = "x" * 32

sends: list[Any] = []


async def app(scope: Any, receive: Any, send: Any) -> None:
    """Echo; a text "broadcast" sends a message to every socket that said "join"."""
    if scope["type"] != "websocket":
        raise ValueError("websockets only")
    await receive()
    await send({"type": "websocket.accept"})
    while (message := await receive())["type"] == "websocket.receive":
        text = message["text"]
        if text == "join":
            sends.append(send)
        elif text == "broadcast":
            for other in sends:
                await other({"type": "websocket.send", "text": TEXT})
        else:
            await send({"type": "websocket.send", "text": text})


# The client


def frame(text: str) -> bytes:
    """A masked text frame; a mask of zeros costs the server the same."""
    return bytes((0x81, 0x80 | len(text))) + bytes(4) + text.encode()


def connect(port: int) -> socket.socket:
    client = socket.create_connection(("127.0.0.1", port), 10)
    client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    client.sendall(
        b"GET / HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
    )
    answer = b""
    while b"\r\n\r\n" not in answer:
        answer += client.recv(4096)
    return client


def echo(port: int, sockets: int, seconds: float) -> float:
    """Messages per second when every socket sends its next message as soon as it has the last one back."""
    clients = {client.fileno(): client for client in (connect(port) for _ in range(sockets))}
    poll = select.epoll()
    request, answer = frame(TEXT), 2 + len(TEXT)
    for fileno, client in clients.items():
        poll.register(fileno, select.EPOLLIN)
        client.sendall(request)
    count, start = 0, time.perf_counter()
    while (now := time.perf_counter()) < start + seconds:
        for fileno, _ in poll.poll(1):
            assert len(clients[fileno].recv(4096)) == answer
            clients[fileno].send(request)
            count += 1
    for client in clients.values():
        client.close()
    return count / (now - start)


def broadcast(port: int, sockets: int, rounds: int) -> float:
    """Deliveries per second; the next broadcast is asked for when the last socket has this one."""
    clients = {client.fileno(): client for client in (connect(port) for _ in range(sockets))}
    poll = select.epoll()
    for fileno, client in clients.items():
        poll.register(fileno, select.EPOLLIN)
        client.sendall(frame("join"))
    control = connect(port)
    # Joined are they all when an echo comes back on each socket.
    for client in clients.values():
        client.sendall(frame("here"))
        assert len(client.recv(64)) == 6
    start = time.perf_counter()
    for _ in range(rounds):
        control.sendall(frame("broadcast"))
        missing = sockets * (2 + len(TEXT))
        while missing:
            for fileno, _ in poll.poll(10):
                missing -= len(clients[fileno].recv(4096))
    elapsed = time.perf_counter() - start
    for client in (control, *clients.values()):
        client.close()
    return rounds * sockets / elapsed


# The servers


def start(kind: str) -> tuple[subprocess.Popen[bytes], int]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    root = Path(__file__).resolve().parents[1]
    process = subprocess.Popen(
        [sys.executable, "-m", "daphne", "-v", "0", "-p", str(port), "benchmarks.daphne_echo:app"],
        cwd=root,
        env={**os.environ, "PYTHONPATH": str(root), "COMPLETED": "1" if kind == "completed" else ""},
        stderr=subprocess.DEVNULL,
    )
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
            return process, port
        except OSError:
            if process.poll() is not None:
                sys.exit("The server did not start.")
            select.select([], [], [], 0.02)


def measure(kind: str, quick: bool) -> dict[str, float]:
    process, port = start(kind)
    try:
        return {
            "echo, 50 sockets": echo(port, 50, 1 if quick else 3),
            "broadcast to 1,000": broadcast(port, 1000, 10 if quick else 30),
        }
    finally:
        process.terminate()
        process.wait(10)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="one short run of each")
    quick = parser.parse_args().quick
    runs: dict[str, list[dict[str, float]]] = {kind: [] for kind in KINDS}
    for _ in range(1 if quick else 5):
        for kind in KINDS:
            runs[kind].append(measure(kind, quick))
    print(f"{'messages per second':<22}" + "".join(f"{kind:>12}" for kind in KINDS) + f"{'ratio':>8}")
    for case in runs["stock"][0]:
        stock, completed = (statistics.median(run[case] for run in runs[kind]) for kind in KINDS)
        print(f"{case:<22}{stock:>12,.0f}{completed:>12,.0f}{completed / stock:>8.2f}")


if __name__ == "__main__":
    main()
