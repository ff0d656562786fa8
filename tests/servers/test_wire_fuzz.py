"""Seeded garbage on the wire: the process survives, logs at most one line per client, and never sends 500.

Each case is a seed; `.ci/slow` runs 25 times as many.
"""

from __future__ import annotations

import asyncio
import base64
import random
import struct
from collections.abc import Callable, Iterable

import pytest

from tests.servers.client import KEY
from tests.servers.conftest import Running, Server, on_servers
from tests.servers.test_bad_input import new_lines
from tests.servers.test_specification import talk
from tests.sizes import size

pytestmark = [pytest.mark.servers, pytest.mark.sized, pytest.mark.unmeasured]

APP = "tests.servers.sockets:app"
TIMES = size("FASTWS_FUZZ", 1, 25)
# On each server.
FRAMES = 2000 * TIMES
HANDSHAKES = 800 * TIMES
AT_A_TIME = 100
# How long a client waits for a response to a partial handshake or a frame, which may not come.
HANDSHAKE_WAIT = 0.5
WAIT = 0.15
PATHS = ("/text/1", "/json", "/policy", "/return/after", "/raise/after")


def handshake(path: str, headers: bytes = b"") -> bytes:
    return (
        f"GET {path} HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        f"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {KEY.decode()}\r\n"
    ).encode() + headers


# Frames


def random_payload(dice: random.Random) -> bytes:
    size = dice.choice((0, 1, 2, 5, 124, 125, 126, 127, 1000, 65535, 65536)) if dice.random() < 0.3 else 8
    return dice.choice(
        (
            dice.randbytes(size),
            b"x" * size,
            b'{"a": [1, 2.5e3, null]}',
            b"[" * dice.randint(1, 3000),
            b'"\\ud800"',
            b"NaN",
            b"9" * dice.randint(1, 5000),
            "\N{EURO SIGN}".encode()[: dice.randint(0, 3)],
            b"\xed\xa0\x80",
            struct.pack("!H", dice.choice((0, 999, 1000, 1001, 1004, 1005, 1006, 1015, 3000, 4999, 5000))),
        )
    )


def random_frame(dice: random.Random) -> bytes:
    payload = random_payload(dice)
    opcode = dice.choice((0, 1, 1, 1, 2, 8, 9, 10)) if dice.random() < 0.9 else dice.randrange(16)
    first = opcode | (0x80 if dice.random() < 0.7 else 0)
    if dice.random() < 0.1:
        first |= dice.choice((0x10, 0x20, 0x40, 0x70))
    masked = dice.random() < 0.95
    claimed = (
        len(payload) if dice.random() < 0.9 else dice.choice((0, 1, 126, 2**16, 2**31, 2**63, 2**64 - 1))
    )
    return bytes((first,)) + length(dice, claimed, masked) + masked_payload(dice, payload, masked)


def length(dice: random.Random, size: int, masked: bool) -> bytes:
    """The length of a frame, sometimes not in its shortest form."""
    mark, longer = 0x80 if masked else 0, dice.random() < 0.05
    if size < 126 and not longer:
        return bytes((mark | size,))
    if size < 65536 and not (longer and size > 125):
        return struct.pack("!BH", mark | 126, size)
    return struct.pack("!BQ", mark | 127, size)


def masked_payload(dice: random.Random, payload: bytes, masked: bool) -> bytes:
    if not masked:
        return payload
    mask = dice.randbytes(4)
    stream = (mask * (len(payload) // 4 + 1))[: len(payload)]
    return mask + bytes(a ^ b for a, b in zip(payload, stream, strict=True))


def frames_case(seed: int) -> bytes:
    dice = random.Random(seed)
    frames = b"".join(random_frame(dice) for _ in range(dice.randint(1, 4)))
    goodbye = b"\x88\x82\0\0\0\0\x03\xe8" if dice.random() < 0.8 else b""
    return handshake(dice.choice(PATHS)) + b"\r\n" + frames + goodbye


# Handshakes


def handshake_case(seed: int) -> bytes:
    dice = random.Random(seed)
    lines = handshake(dice.choice((*PATHS, *ODD_PATHS))).split(b"\r\n")[:-1]
    for _ in range(dice.randint(1, 3)):
        MUTATIONS[dice.randrange(len(MUTATIONS))](dice, lines)
    return b"\r\n".join(lines) + b"\r\n\r\n"


ODD_PATHS = (
    "/",
    "//text/1",
    "/text/%ff",
    "/text/%00",
    "/text/%0a",
    "/text/1?limit=x",
    "/%2e%2e/",
    "/text/1#a",
)
HEADERS = (
    *(b"Origin: null", b"Origin: http://[::1", b"Cookie: a=1; b", b"Cookie: \xff", b"X_Under: 1", b"X: "),
    *(b"Sec-WebSocket-Protocol: a, b", b"Sec-WebSocket-Protocol: ,,", b"Sec-WebSocket-Protocol: \x01"),
    *(b"Sec-WebSocket-Extensions: permessage-deflate", b"Sec-WebSocket-Extensions: x; y=;", b"Host: other"),
    *(b"Sec-WebSocket-Version: 8", b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==", b"Content-Length: 5"),
    *(b"Transfer-Encoding: chunked", b"Daphne-Root-Path: /text", b"Authorization: Basic !!!", b"Expect: x"),
)


def add_header(dice: random.Random, lines: list[bytes]) -> None:
    lines.insert(dice.randint(1, len(lines)), dice.choice(HEADERS))


def drop_line(dice: random.Random, lines: list[bytes]) -> None:
    if len(lines) > 2:
        lines.pop(dice.randrange(1, len(lines)))


def double_line(dice: random.Random, lines: list[bytes]) -> None:
    lines.insert(1, dice.choice(lines[1:]))


def break_byte(dice: random.Random, lines: list[bytes]) -> None:
    number = dice.randrange(len(lines))
    line = bytearray(lines[number])
    if line:
        line[dice.randrange(len(line))] = dice.randrange(256)
    lines[number] = bytes(line)


def other_method(dice: random.Random, lines: list[bytes]) -> None:
    lines[0] = lines[0].replace(b"GET", dice.choice((b"POST", b"HEAD", b"get", b"OPTIONS", b"X" * 50)))


def other_version(dice: random.Random, lines: list[bytes]) -> None:
    lines[0] = lines[0].replace(b"HTTP/1.1", dice.choice((b"HTTP/1.0", b"HTTP/9.9", b"HTTP", b"")))


def other_key(dice: random.Random, lines: list[bytes]) -> None:
    key = base64.b64encode(dice.randbytes(dice.choice((0, 8, 15, 16, 17, 64))))
    lines.insert(1, b"Sec-WebSocket-Key: " + key)


def long_header(dice: random.Random, lines: list[bytes]) -> None:
    lines.append(b"X-Long: " + b"x" * dice.choice((1000, 8000, 20000)))


MUTATIONS: tuple[Callable[[random.Random, list[bytes]], None], ...] = (
    *(add_header, drop_line, double_line, break_byte),
    *(other_method, other_version, other_key, long_header),
)


# The clients


class Listener(asyncio.Protocol):
    """Keeps the bytes received even if a reset follows at once, unlike a stream."""

    def __init__(self) -> None:
        self.found = bytearray()
        self.changed = asyncio.Event()
        self.over = False

    def data_received(self, data: bytes) -> None:
        self.found += data
        self.changed.set()

    def connection_lost(self, exc: Exception | None) -> None:
        self.over = True
        self.changed.set()


async def answer(running: Running, data: bytes, timeout: float) -> bytes:
    """The response to these bytes until the server closes or is silent; it must start within `timeout`."""
    loop = asyncio.get_running_loop()
    transport, listener = await loop.create_connection(Listener, "127.0.0.1", running.port)
    transport.write(data)
    try:
        while not listener.over:
            listener.changed.clear()
            async with asyncio.timeout(WAIT if listener.found else timeout):
                await listener.changed.wait()
    except TimeoutError:
        pass
    finally:
        transport.abort()
    return bytes(listener.found)


async def play(running: Running, cases: Iterable[tuple[int, bytes]], timeout: float) -> dict[int, bytes]:
    """The responses to all cases, several at a time."""
    answers: dict[int, bytes] = {}
    todo = iter(cases)

    async def client() -> None:
        for seed, data in todo:
            answers[seed] = await answer(running, data, timeout)

    await asyncio.gather(*(client() for _ in range(AT_A_TIME)))
    return answers


def check(running: Running, count: int) -> None:
    """Assert that the server is running and has logged no traceback and no unhandled error."""
    assert talk(running.url("/text/1"), "alive") == ["alive"]
    logs = running.logs()
    # "/raise/after" is the endpoint's own error, with its one traceback.
    assert logs.count("Traceback") == logs.count("ValueError: secret detail")
    assert len(new_lines(running)) <= count


@on_servers("daphne")
def test_frames(server: Server) -> None:
    running = server.start(APP)
    # Each handshake is complete, so it is answered, possibly late on a busy machine.
    answers = asyncio.run(play(running, ((seed, frames_case(seed)) for seed in range(FRAMES)), timeout=10))
    odd = {seed: found[:80] for seed, found in answers.items() if not found.startswith(b"HTTP/1.1 101 ")}
    assert odd == {}
    check(running, FRAMES)


def test_handshakes(server: Server) -> None:
    running = server.start(APP)
    answers: dict[int, bytes] = {}
    played, wait, most = 0, HANDSHAKE_WAIT, HANDSHAKES // 2
    # The server waits for a client that sends too little. Most clients get a response, late on busy machines.
    while sum(map(bool, answers.values())) <= most and wait < 10:
        unanswered = (seed for seed in range(HANDSHAKES) if not answers.get(seed))
        cases = [(seed, handshake_case(seed)) for seed in unanswered]
        answers |= asyncio.run(play(running, cases, wait))
        played, wait = played + len(cases), wait * 4
    odd = {seed: found[:80] for seed, found in answers.items() if found and not is_fair(found)}
    assert odd == {}
    assert sum(map(bool, answers.values())) > most
    check(running, played)


def is_fair(found: bytes) -> bool:
    status = found.split(b" ", 2)[1]
    return status == b"101" or status[:1] == b"4"
