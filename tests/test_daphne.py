"""The completed daphne without a server: its pure parts, and the protocol on a fake transport."""

from __future__ import annotations

import asyncio
import gc
import itertools
import logging
import random
import re
import signal
import socket
import subprocess
import sys
import weakref
from collections.abc import Awaitable, Callable
from contextlib import suppress
from contextvars import ContextVar
from io import StringIO
from types import SimpleNamespace
from typing import Any

import pytest
from autobahn.twisted.websocket import WebSocketServerProtocol
from autobahn.websocket.utf8validator import Utf8Validator
from daphne.management.commands.runserver import Command
from django.test import override_settings
from hypothesis import given
from hypothesis import strategies as st

from fastws_compat import FastAPI, WebSocket, daphne
from fastws_compat.connections import census
from fastws_compat.connections.interrupt import Cleanup
from fastws_compat.connections.peers import closed_by_peers
from fastws_compat.connections.pipe import hang_up
from fastws_compat.connections.registry import everywhere
from fastws_compat.connections.tally import Tally
from fastws_compat.daphne import (
    choice,
    frames,
    handshake,
    hooks,
    masks,
    portable,
    reloader,
    shutdown,
    versions,
)
from fastws_compat.daphne.fragments import MAX_FRAGMENTS, InvalidText, PartialText
from fastws_compat.daphne.handshake import Upgrade
from fastws_compat.daphne.inbox import MAX_BYTES, MESSAGE_OVERHEAD, Inbox
from fastws_compat.daphne.lifespan import Lifespan
from fastws_compat.daphne.phases import ClientDisconnected
from fastws_compat.daphne.protocol import HANDSHAKE_ATTRIBUTES
from fastws_compat.daphne.writer import MAX_BYTES_PER_TURN
from fastws_compat.origins import OriginCheck
from tests.fake_server import converse
from tests.sizes import IS_FULL

# Frames


def masked(
    opcode: int, payload: bytes, *, fin: bool = True, rsv: int = 0, mask: bytes = b"\x01\x02\x03\x04"
) -> bytes:
    """A client's frame."""
    head, *rest = frames.build(opcode, payload)[: -len(payload) or None]
    first = (head if fin else head & 0x7F) | rsv << 4
    body = bytes(byte ^ mask[i % 4] for i, byte in enumerate(payload))
    return bytes([first, rest[0] | 0x80, *rest[1:]]) + mask + body


@pytest.mark.parametrize("size", [0, 1, 125, 126, 1024, 1025, 65535])
def test_a_masked_frame_is_read_back(size: int) -> None:
    payload = random.Random(size).randbytes(size)
    data = b"??" + masked(frames.BINARY, payload, mask=b"\xff\x00\x10\x99") + b"rest"
    assert frames.read(data, 2, 0) == (frames.BINARY, payload, len(data) - 4)
    assert frames.end(data, 2) == len(data) - 4


@pytest.mark.parametrize("unmask", [masks.unmask, masks.unmask_in_python])
def test_payloads_of_every_length_are_unmasked(unmask: Callable[[bytes, bytes], bytes]) -> None:
    key = b"\x00\xff\x10\x99"
    for size in [*range(70), 125, 126, 1023, 1024, 1025, 65535]:
        payload = random.Random(size).randbytes(size)
        assert unmask(bytes(byte ^ key[i % 4] for i, byte in enumerate(payload)), key) == payload


def test_payloads_are_unmasked_in_python_without_websockets(monkeypatch: pytest.MonkeyPatch) -> None:
    compiled = pytest.importorskip("websockets.speedups").apply_mask
    assert masks.fastest() is compiled is masks.unmask
    monkeypatch.setitem(sys.modules, "websockets.speedups", None)
    assert masks.fastest() is masks.unmask_in_python


@pytest.mark.parametrize("size", [0, 1, 125])
def test_a_short_text_that_is_all_the_data_is_read_back(size: int) -> None:
    data = masked(frames.TEXT, b"x" * size)
    assert frames.read_short_text(data) == b"x" * size
    assert frames.read_short_text(data[:-1]) is None
    assert frames.read_short_text(data + b"more") is None


@pytest.mark.parametrize(
    "data",
    [
        b"",
        masked(frames.TEXT, b"x" * 126),
        masked(frames.BINARY, b"binary"),
        masked(frames.TEXT, b"fragment", fin=False),
        masked(frames.TEXT, b"reserved", rsv=4),
        frames.build(frames.TEXT, b"unmasked"),
    ],
)
def test_other_data_is_not_a_short_text(data: bytes) -> None:
    assert frames.read_short_text(data) is None


def test_a_frame_of_64_kib_has_a_long_length() -> None:
    assert frames.build(frames.TEXT, b"x" * 65536)[:10] == bytes([0x81, 127, 0, 0, 0, 0, 0, 1, 0, 0])


@pytest.mark.parametrize(
    "data",
    [
        masked(frames.TEXT, b"cut")[:-1],
        masked(frames.TEXT, b"fragment", fin=False),
        masked(frames.TEXT, b"reserved", rsv=4),
        masked(0x9, b"ping"),
        masked(0x8, b"\x03\xe8"),
        masked(0x3, b"unknown opcode"),
        frames.build(frames.TEXT, b"unmasked"),
        bytes([0x81, 254, 0, 5]) + bytes(4) + b"short",
        masked(frames.TEXT, b"over the limit"),
        masked(frames.TEXT, b"x" * 65536),
    ],
)
def test_an_unusual_frame_is_left_to_autobahn(data: bytes) -> None:
    assert frames.read(data, 0, 10) is None


@pytest.mark.parametrize("cut_at", range(14))
def test_the_end_of_a_frame_without_its_header_is_the_end_of_the_data(cut_at: int) -> None:
    data = masked(frames.BINARY, b"x" * 65536)[:cut_at]
    assert frames.end(data, 0) == cut_at


# The handshake


def upgrade(target: bytes = b"/", *headers: tuple[bytes, bytes]) -> Upgrade:
    return Upgrade(target, list(headers), "1.1", "ws", ("127.0.0.1", 1), ("127.0.0.1", 2))


@pytest.mark.parametrize(
    ("target", "path"),
    [
        (b"/a/b;c=1", "/a/b;c=1"),
        (b"//evil/a", "//evil/a"),
        (b"ws://evil/a", "ws://evil/a"),
        (b"/a%20b%2Fc", "/a b/c"),
    ],
)
def test_the_path_is_the_one_of_the_request_line(target: bytes, path: str) -> None:
    scope = upgrade(target + b"?x=1?2").scope("/root", trust_root_path_header=False)
    assert (scope["path"], scope["raw_path"], scope["query_string"]) == (path, target, b"x=1?2")
    assert scope["root_path"] == "/root"


@pytest.mark.parametrize(("trusted", "root_path"), [(True, "/evil"), (False, "")])
def test_the_root_path_header_needs_the_operators_setting(trusted: bool, root_path: str) -> None:
    scope = upgrade(b"/evil/a", (b"daphne-root-path", b"%2Fevil"), (b"x", b"1")).scope("", trusted)
    assert scope["root_path"] == root_path
    assert scope["headers"] == [(b"x", b"1")]


def test_repeated_headers_stay_apart_and_underscores_are_dropped() -> None:
    given = [
        (b"x-a", b"1"),
        (b"x_b", b"2"),
        (b"x-a", b"3"),
        (b"sec-websocket-protocol", b"a, b"),
        (b"host", b"h"),
    ]
    found = upgrade(b"/", *given, (b"sec-websocket-protocol", b"c")).scope("", False)
    assert [header for header in found["headers"] if header[0] == b"x-a"] == [(b"x-a", b"1"), (b"x-a", b"3")]
    assert b"x_b" not in dict(found["headers"])
    assert found["subprotocols"] == ["a", "b", "c"]


def test_two_hosts_are_ambiguous() -> None:
    assert upgrade(b"/", (b"host", b"a"), (b"host", b"b")).repeated_header == "host"
    assert upgrade(b"/", (b"host", b"a"), (b"origin", b"b")).repeated_header is None


def test_the_accepting_answer_is_the_one_of_the_rfc() -> None:
    answer = handshake.acceptance(b"dGhlIHNhbXBsZSBub25jZQ==", "chat", [(b"Set-Cookie", b"\xe9")], "daphne")
    assert answer.startswith(b"HTTP/1.1 101 Switching Protocols\r\nServer: daphne\r\n")
    assert b"\r\nSec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n" in answer  # RFC 6455, 1.3
    assert answer.endswith(b"\r\nSec-WebSocket-Protocol: chat\r\nSet-Cookie: \xe9\r\n\r\n")


@pytest.mark.parametrize(
    "header",
    [
        (b"x", b"a\r\nb: c"),
        (b"x", b"a\nb"),
        (b"x", b"\0"),
        (b"x y", b""),
        (b"", b""),
        (b"x:", b""),
        (b"upgrade", b"x"),
    ],
)
def test_a_header_that_would_break_out_is_refused(header: tuple[bytes, bytes]) -> None:
    with pytest.raises(ValueError):
        handshake.acceptance(b"key", None, [header], "")


def test_a_refusal_ends_with_the_connection() -> None:
    headers = [(b"transfer-encoding", b"chunked"), (b"connection", b"keep-alive"), (b"server", b"mine")]
    answer = handshake.refusal(401, headers, b"no", more_body=False, server="daphne")
    assert answer == (
        b"HTTP/1.1 401 Unauthorized\r\nserver: mine\r\nContent-Length: 2\r\nConnection: close\r\n\r\nno"
    )


def test_an_unknown_status_has_no_phrase() -> None:
    assert handshake.refusal(599, [], b"", more_body=True, server="").startswith(b"HTTP/1.1 599 \r\n")


# The inbox


def test_the_inbox_is_full_of_many_or_of_large_messages() -> None:
    async def main() -> None:
        inbox = Inbox(asyncio.get_running_loop())
        for _ in range(MAX_BYTES // MESSAGE_OVERHEAD):
            assert not inbox.put({"type": "x"}, 0)
        assert inbox.put({"type": "x"}, 0)
        low: list[bool] = []
        inbox.on_low = lambda: low.append(inbox.is_low)
        while not low:
            await inbox.get()
        assert low == [True]
        assert inbox.put({"type": "x"}, MAX_BYTES)

    asyncio.run(main())


def test_a_cancelled_receiver_takes_no_message_with_it() -> None:
    async def main() -> None:
        inbox = Inbox(asyncio.get_running_loop())
        first, second = asyncio.create_task(inbox.get()), asyncio.create_task(inbox.get())
        await asyncio.sleep(0)
        inbox.put({"type": "x"}, 0)
        first.cancel()
        assert await second == {"type": "x"}

    asyncio.run(main())


def test_a_message_for_a_waiting_receiver_keeps_its_place_if_that_is_cancelled() -> None:
    async def main() -> None:
        inbox = Inbox(asyncio.get_running_loop())
        waiting = asyncio.create_task(inbox.get())
        await asyncio.sleep(0)
        inbox.put({"type": "first"}, 0)
        inbox.put({"type": "second"}, 0)
        waiting.cancel()
        await asyncio.wait([waiting])
        assert waiting.cancelled()
        assert [await inbox.get(), await inbox.get()] == [{"type": "first"}, {"type": "second"}]

    asyncio.run(main())


def test_receivers_may_be_cancelled_one_after_the_other() -> None:
    async def main() -> None:
        inbox = Inbox(asyncio.get_running_loop())
        first, second = asyncio.create_task(inbox.get()), asyncio.create_task(inbox.get())
        await asyncio.sleep(0)
        inbox.put({"type": "x"}, 0)
        first.cancel()
        # When the first has offered the message to the second, which has not run since.
        asyncio.get_running_loop().call_soon(second.cancel)
        await asyncio.wait([first, second])
        assert first.cancelled()
        assert second.cancelled()
        assert await inbox.get() == {"type": "x"}

    asyncio.run(main())


def test_receivers_that_are_cancelled_together_return_their_messages_in_order() -> None:
    async def main() -> None:
        inbox = Inbox(asyncio.get_running_loop())
        receivers = [asyncio.create_task(inbox.get()) for _ in range(3)]
        await asyncio.sleep(0)
        for number in range(4):
            inbox.put({"type": str(number)}, 0)
        for receiver in receivers:
            receiver.cancel()
        await asyncio.wait(receivers)
        assert [(await inbox.get())["type"] for _ in range(4)] == ["0", "1", "2", "3"]

    asyncio.run(main())


def test_receivers_that_wait_together_get_a_message_each() -> None:
    async def main() -> None:
        inbox = Inbox(asyncio.get_running_loop())
        receivers = [asyncio.create_task(inbox.get()) for _ in range(3)]
        await asyncio.sleep(0)
        for number in range(3):
            inbox.put({"type": str(number)}, 0)
        assert [message["type"] for message in await asyncio.gather(*receivers)] == ["0", "1", "2"]
        assert inbox.is_empty

    asyncio.run(main())


def test_a_message_is_not_handed_to_a_receiver_that_was_cancelled_before() -> None:
    async def main() -> None:
        inbox = Inbox(asyncio.get_running_loop())
        first, second = asyncio.create_task(inbox.get()), asyncio.create_task(inbox.get())
        await asyncio.sleep(0)
        first.cancel()
        inbox.put({"type": "x"}, 0)
        assert await second == {"type": "x"}
        assert inbox.is_empty

    asyncio.run(main())


def test_every_waiting_receiver_gets_the_last_message() -> None:
    async def main() -> None:
        inbox = Inbox(asyncio.get_running_loop())
        receivers = [asyncio.create_task(inbox.get()) for _ in range(3)]
        await asyncio.sleep(0)
        inbox.end({"type": "last"})
        assert await asyncio.gather(*receivers) == [{"type": "last"}] * 3
        assert inbox.is_empty

    asyncio.run(main())


def test_only_the_first_last_message_counts() -> None:
    async def main() -> None:
        inbox = Inbox(asyncio.get_running_loop())
        inbox.end({"type": "last"})
        inbox.end({"type": "later"})
        assert await inbox.get() == {"type": "last"}
        assert inbox.is_empty

    asyncio.run(main())


def test_a_receiver_that_comes_after_the_last_message_was_taken_waits() -> None:
    """A loop that ignores the disconnect must not block the process."""

    async def main() -> None:
        inbox = Inbox(asyncio.get_running_loop())
        inbox.end({"type": "last"})
        assert await inbox.get() == {"type": "last"}
        late = asyncio.create_task(inbox.get())
        await asyncio.sleep(0)
        assert not late.done()
        late.cancel()

    asyncio.run(main())


def test_a_cancelled_receiver_leaves_the_last_message_to_another() -> None:
    async def main() -> None:
        inbox = Inbox(asyncio.get_running_loop())
        first, second = asyncio.create_task(inbox.get()), asyncio.create_task(inbox.get())
        await asyncio.sleep(0)
        inbox.end({"type": "last"})
        first.cancel()
        assert await second == {"type": "last"}
        assert inbox.is_empty

    asyncio.run(main())


# The lifespan


def test_an_application_without_a_lifespan_starts() -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        raise ValueError("websocket only")

    assert asyncio.run(Lifespan(app).startup())


def test_a_failed_startup_says_so() -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await send({"type": "lifespan.startup.failed", "message": "no database"})

    assert not asyncio.run(Lifespan(app).startup())


def test_a_failed_startup_that_is_also_raised_is_reported_once(caplog: pytest.LogCaptureFixture) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await send({"type": "lifespan.startup.failed", "message": "no database"})
        raise ConnectionError("no database")

    async def main() -> bool:
        started = await Lifespan(app).startup()
        await settle()
        return started

    assert not asyncio.run(main())
    assert caplog.messages == ["Application startup failed: no database"]


def test_an_application_that_fails_while_it_serves_is_reported(caplog: pytest.LogCaptureFixture) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "lifespan.startup.complete"})
        raise ConnectionError("no database")

    async def main() -> bool:
        started = await Lifespan(app).startup()
        await settle()
        return started

    assert asyncio.run(main())
    assert caplog.messages == ["Exception in the lifespan of the application: no database"]


def test_shutdown_waits_for_the_application() -> None:
    ended = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        assert (await receive())["type"] == "lifespan.startup"
        scope["state"]["a"] = 1
        await send({"type": "lifespan.startup.complete"})
        assert (await receive())["type"] == "lifespan.shutdown"
        ended.append(True)
        await send({"type": "lifespan.shutdown.complete"})

    async def main() -> Lifespan:
        lifespan = Lifespan(app)
        assert await lifespan.startup()
        await lifespan.shutdown(5)
        await lifespan.shutdown(5)
        return lifespan

    assert asyncio.run(main()).state == {"a": 1}
    assert ended == [True]


def test_shutdown_does_not_wait_for_ever(caplog: pytest.LogCaptureFixture) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "lifespan.startup.complete"})
        await asyncio.Event().wait()

    async def main() -> None:
        lifespan = Lifespan(app)
        await lifespan.startup()
        await lifespan.shutdown(0.01)

    asyncio.run(main())
    assert "did not shut down in time" in caplog.text


# The protocol on a fake transport


class Transport:
    """The part of a Twisted transport that the protocol uses; with `TLS`, it has no plain socket."""

    TLS = True

    def __init__(self) -> None:
        self.written = bytearray()
        self.connected = True
        self.reading = True
        self.closed = ""
        self.producer: Any = None

    def write(self, data: bytes) -> None:
        self.written += data

    def pauseProducing(self) -> None:
        self.reading = False

    def resumeProducing(self) -> None:
        self.reading = True

    def registerProducer(self, producer: Any, streaming: bool) -> None:
        self.producer = producer

    def unregisterProducer(self) -> None:
        self.producer = None

    def loseConnection(self) -> None:
        self.connected, self.closed = False, self.closed or "closed"

    def abortConnection(self) -> None:
        self.connected, self.closed = False, self.closed or "aborted"

    def getPeer(self) -> Any:
        return SimpleNamespace(host="127.0.0.1", port=1)

    getHost = getPeer

    def take(self) -> bytes:
        written = bytes(self.written)
        self.written.clear()
        return written


Application = Callable[[Any, Any, Any], Awaitable[None]]

REQUEST = (
    b"GET /a?b=1 HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
)


class Socket:
    """A socket that cannot be written to at once, and from which the events are read."""

    def __init__(self) -> None:
        self.events: list[bytes | OSError] = []

    def recv(self, size: int) -> bytes:
        event = self.events.pop(0)
        if isinstance(event, OSError):
            raise event
        return event

    def send(self, data: bytes) -> int:
        raise BlockingIOError

    def setsockopt(self, *option: int) -> None:
        pass


class Connection:
    """A protocol with a transport and a running application."""

    def __init__(self, application: Application, **options: Any) -> None:
        from twisted.web.http_headers import Headers

        from fastws_compat.daphne.server import Server

        self.server = Server(application, endpoints=["none"])
        self.server.connections = {}
        self.server.websockets = set()
        self.server.left = set()
        self.server.lifespan = Lifespan(application)
        self.server.ws_factory = None
        factory = self.server.ws_factory
        factory.setProtocolOptions(**{"openHandshakeTimeout": 0, "allowNullOrigin": True, **options})
        factory.request = SimpleNamespace(
            uri=b"/a?b=1",
            requestHeaders=Headers({b"Host": [b"localhost"], b"Sec-WebSocket-Version": [b"13"]}),
            clientproto=b"HTTP/1.1",
            client_scheme="http",
            client_addr=None,
            server_addr=None,
        )
        self.transport = Transport()
        self.protocol = factory.buildProtocol(None)
        self.protocol.makeConnection(self.transport)

    def receive(self, data: bytes) -> None:
        self.protocol.dataReceived(data)

    def read(self, *events: bytes | OSError) -> list[Any]:
        """Have the reactor read from a socket on which this happens; returns what it is told each time."""
        self.protocol._socket.events.extend(events)
        return [self.transport.doRead() for _ in events]

    def lose(self) -> None:
        from twisted.internet.error import ConnectionLost
        from twisted.python.failure import Failure

        self.transport.connected = False
        self.transport.unregisterProducer()
        self.protocol.connectionLost(Failure(ConnectionLost()))

    async def open(self, plain_socket: bool = False) -> Connection:
        if plain_socket:
            self.transport._tempDataLen, self.transport.dataBuffer = 0, b""
            self.protocol._socket = Socket()
        self.receive(REQUEST)
        await settle()
        assert self.transport.take().startswith(b"HTTP/1.1 101 ")
        return self

    @property
    def task(self) -> asyncio.Task[None]:
        task: asyncio.Task[None] = self.server.connections[self.protocol]["application_instance"]
        return task


async def settle() -> None:
    """Let every task run that is ready."""
    for _ in range(20):
        await asyncio.sleep(0)


def recorder(messages: list[Any]) -> Application:
    """An application that accepts and records what it receives."""

    async def application(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await send({"type": "websocket.accept"})
        while True:
            messages.append(await receive())

    return application


SEEDS = 300


def test_autobahn_and_the_fast_path_read_the_same() -> None:
    """Streams of valid and invalid frames, split at random: the results are the same as with autobahn."""

    async def main() -> None:
        for seed in range(SEEDS):
            rng = random.Random(seed)
            stream = b"".join(random_frame(rng) for _ in range(rng.randint(1, 12)))
            limit = rng.choice([0, 0, 300, 70_000])
            cuts = sorted(rng.sample(range(len(stream) + 1), min(len(stream), rng.choice([0, 1, 3, 30]))))
            chunks = [stream[a:b] for a, b in zip([0, *cuts], [*cuts, len(stream)], strict=True) if b > a]
            expected = autobahns(chunks, limit)
            # From Twisted, and from the socket.
            messages, answers, is_open = await ours(chunks, limit, plain_socket=bool(seed % 2))
            assert messages == expected[0], f"seed {seed}"
            # Each response must also follow the same piece of the stream.
            assert [*map(without_reasons, answers)] == [*map(without_reasons, expected[1])], f"seed {seed}"
            assert is_open == expected[2], f"seed {seed}"

    asyncio.run(main())


def without_reasons(answers: bytes) -> bytes:
    """The responses, with one wording for text that is not UTF-8."""
    reasons = rb"invalid UTF-8 at byte \d+|(?:encountered invalid UTF-8|UTF-8 text).*? index \d+"
    return re.sub(rb"\x88.\x03\xef(?:%b)" % reasons, b"\x88 1007", answers)


def test_the_reactor_is_told_how_the_socket_ended() -> None:
    from twisted.internet.main import CONNECTION_DONE, CONNECTION_LOST

    async def main() -> None:
        messages: list[Any] = []
        connection = await Connection(recorder(messages)).open(plain_socket=True)
        whole, half = masked(frames.TEXT, b"whole"), masked(frames.TEXT, b"halves")
        pieces = whole, BlockingIOError(), whole + half[:7], half[7:], b"", ConnectionResetError()
        read = connection.read(*pieces)
        assert read == [None, None, None, None, CONNECTION_DONE, CONNECTION_LOST]
        await settle()
        assert [message["text"] for message in messages] == ["whole", "whole", "halves"]
        connection.lose()
        assert "doRead" not in vars(connection.transport)  # a cycle would be left to the collector
        connection.task.cancel()
        await settle()

    asyncio.run(main())


def test_short_texts_stop_being_read_while_the_application_is_busy() -> None:
    async def main() -> None:
        is_free, texts = asyncio.Event(), []

        async def application(scope: Any, receive: Any, send: Any) -> None:
            await receive()
            await send({"type": "websocket.accept"})
            await is_free.wait()
            while True:
                texts.append((await receive())["text"])

        connection = await Connection(application).open(plain_socket=True)
        read = 0
        while connection.transport.reading:
            connection.read(masked(frames.TEXT, str(read).encode()))
            read += 1
        assert MAX_BYTES // (MESSAGE_OVERHEAD + 4) <= read <= MAX_BYTES // MESSAGE_OVERHEAD
        is_free.set()
        await settle()
        assert texts == [str(number) for number in range(read)]
        assert connection.transport.reading
        connection.lose()
        connection.task.cancel()
        await settle()

    asyncio.run(main())


@pytest.mark.parametrize("end", ["paused", "closed"])
def test_a_lost_connection_is_freed_without_the_collector(end: str) -> None:
    async def main() -> None:
        lost = asyncio.Event()

        async def application(scope: Any, receive: Any, send: Any) -> None:
            await receive()
            await send({"type": "websocket.accept"})
            if end == "closed":
                await send({"type": "websocket.close"})
            await lost.wait()

        connection = await Connection(application).open(plain_socket=True)
        if end == "paused":
            connection.read(masked(frames.BINARY, bytes(60_000)) * 5)
            assert not connection.transport.reading
        protocol = weakref.ref(connection.protocol)
        connection.lose()
        lost.set()
        await settle()
        gc.disable()
        del connection
        try:
            assert protocol() is None
        finally:
            gc.enable()

    asyncio.run(main())


IMPOSSIBLE = [
    b"\xff",
    b"\xc0",
    b"\x80",
    b"\xed\xa0",
    b"\xf4\x90",
    b"\xe0\x9f",
    b"\xf0\x8f",
    b"\xc3x",
]


@pytest.mark.parametrize("bad", IMPOSSIBLE)
@pytest.mark.parametrize("fragmented", [True, False], ids=["fragment by fragment", "byte by byte"])
def test_a_text_that_cannot_become_utf_8_is_refused_at_once(bad: bytes, fragmented: bool) -> None:
    """Before its frame or its message is complete, as in Autobahn's cases 6.4.1 to 6.4.4."""
    text = "κόσμε".encode() + bad
    pieces = [masked(frames.TEXT if at == 0 else 0, text[at : at + 1], fin=False) for at in range(len(text))]
    if not fragmented:
        frame = masked(frames.TEXT, text + b"x" * 300)
        head = len(frame) - 300 - len(text)
        pieces = [frame[:head], *(frame[at : at + 1] for at in range(head, head + len(text)))]

    async def main() -> None:
        received: list[Any] = []
        connection = await Connection(recorder(received)).open()
        for piece in pieces[:-1]:
            connection.receive(piece)
        assert connection.transport.take() == b""
        connection.receive(pieces[-1])
        assert connection.transport.take()[2:4] == (1007).to_bytes(2, "big")
        await settle()
        assert [(message["type"], message.get("code")) for message in received] == [
            ("websocket.disconnect", 1007)
        ]
        connection.receive(b"x" * 100)  # further data is not kept
        assert connection.protocol._partial is None
        connection.lose()

    asyncio.run(main())


PARTS = st.one_of(
    st.binary(max_size=9), st.text(max_size=9).map(str.encode), st.sampled_from([b"\xed\xa0", *IMPOSSIBLE])
)


@given(st.lists(PARTS, max_size=9), st.data())
def test_a_text_in_pieces_is_rejected_at_the_first_possible_piece(
    parts: list[bytes], draw: st.DataObject
) -> None:
    whole = b"".join(parts)
    cuts = draw.draw(st.lists(st.integers(0, len(whole)), max_size=9).map(sorted))
    validator, partial = Utf8Validator(), PartialText()
    verdict: str | None = None
    for start, stop in zip([0, *cuts], [*cuts, len(whole)], strict=True):
        if not validator.validate(whole[start:stop])[0]:
            with pytest.raises(InvalidText):
                partial.add(whole[start:stop])
            break
        partial.add(whole[start:stop])
    else:
        with suppress(InvalidText):
            verdict = partial.message()["text"]
    try:
        assert verdict == whole.decode()
    except UnicodeDecodeError:
        assert verdict is None


@pytest.mark.parametrize("pieces", [[b"ab\xff"], [b"\xc3", b"\xa9\xff"], [b"abc\xf0\x9f", b"\x99"]])
def test_the_first_byte_that_is_not_utf_8_is_named(pieces: list[bytes]) -> None:
    partial = PartialText()
    with pytest.raises(InvalidText) as raised:
        for piece in pieces:
            partial.add(piece)
        partial.message()
    with pytest.raises(UnicodeDecodeError) as expected:
        b"".join(pieces).decode()
    assert str(raised.value) == f"invalid UTF-8 at byte {expected.value.start}"


@pytest.mark.sized
@pytest.mark.parametrize("kind", [frames.TEXT, frames.BINARY])
def test_a_message_has_a_maximum_of_fragments(
    kind: int, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Even if they are empty or contain one byte each, or if control frames come between them."""
    maximum = MAX_FRAGMENTS if IS_FULL else 4000
    monkeypatch.setattr("fastws_compat.daphne.reader.MAX_FRAGMENTS", maximum)

    async def main() -> None:
        received: list[Any] = []
        connection = await Connection(recorder(received)).open()
        connection.receive(masked(kind, b"a", fin=False))
        connection.receive((masked(0, b"", fin=False) + masked(0xA, b"?")) * (maximum - 1001))
        connection.receive(masked(0, b"\n", fin=False) * 999)
        connection.receive(masked(0, b"z"))
        await settle()
        assert connection.transport.take() == b""
        (message,) = received
        assert message[("", "text", "bytes")[kind]] in ("a" + "\n" * 999 + "z", b"a" + b"\n" * 999 + b"z")

        connection.receive(masked(kind, b"a", fin=False))
        connection.receive(masked(0, b"", fin=False) * (maximum - 1))
        assert connection.transport.take() == b""
        connection.receive(masked(0, b"", fin=False) * 1000)
        assert connection.transport.take()[2:4] == (1009).to_bytes(2, "big")
        await settle()
        assert received[1:] == [
            {"type": "websocket.disconnect", "code": 1009, "reason": "a message of too many fragments"}
        ]
        connection.lose()

    asyncio.run(main())
    assert [record.levelname for record in caplog.records] == ["WARNING"]


def random_frame(rng: random.Random) -> bytes:
    kind = rng.random()
    text = "".join(rng.choice("ab é€🙂") for _ in range(rng.choice([0, 1, 30, 130, 400])))
    mask = rng.randbytes(4)
    if kind < 0.5:
        return masked(frames.TEXT, text.encode(), mask=mask)
    if kind < 0.65:
        return masked(frames.BINARY, rng.randbytes(rng.choice([0, 5, 126, 2000, 66_000])), mask=mask)
    if kind < 0.8:
        data = text.encode()
        if rng.random() < 0.2:
            at_byte = rng.randint(0, len(data))
            data = data[:at_byte] + rng.choice(IMPOSSIBLE) + data[at_byte:]
        at = sorted(rng.randint(0, len(data)) for _ in range(2))
        parts = [data[: at[0]], data[at[0] : at[1]], data[at[1] :]]
        ping = masked(0x9, b"in between", mask=mask) if rng.random() < 0.5 else b""
        return (
            masked(frames.TEXT, parts[0], fin=False)
            + ping
            + masked(0, parts[1], fin=False, mask=mask)
            + masked(0, parts[2])
        )
    if kind < 0.9:
        return masked(rng.choice([0x9, 0xA]), rng.randbytes(rng.randint(0, 125)), mask=mask)
    if kind < 0.93:
        code = rng.choice([1000, 1001, 1005, 3000, 4999, 5000, 0])
        return masked(0x8, code.to_bytes(2, "big") + rng.choice([b"", b"bye", b"\xff"]), mask=mask)
    if kind < 0.96:
        return masked(frames.TEXT, rng.choice([b"\xff", b"ab\xc3", b"\xed\xa0\x80", b"\xc0\x80"]), mask=mask)
    bad = bytearray(masked(frames.TEXT, b"bad", mask=mask))
    bad[0] = rng.randrange(256)
    bad[1] = rng.choice([bad[1], 3, 0xFE, 0xFF, rng.randrange(256)])
    return bytes(bad)


async def ours(chunks: list[bytes], limit: int, plain_socket: bool) -> tuple[list[Any], list[bytes], bool]:
    messages: list[Any] = []
    answers: list[bytes] = []
    connection = Connection(recorder(messages), maxMessagePayloadSize=limit, maxFramePayloadSize=limit)
    await connection.open(plain_socket)
    receive = connection.read if plain_socket else connection.receive
    for chunk in chunks:
        receive(chunk)
        answers.append(connection.transport.take())
        await settle()
    received = [(m.get("text"), m.get("bytes")) for m in messages if m["type"] == "websocket.receive"]
    is_open = connection.protocol.state == connection.protocol.STATE_OPEN
    result = received, answers, is_open
    connection.task.cancel()
    connection.lose()
    await settle()
    return result


def autobahns(chunks: list[bytes], limit: int) -> tuple[list[Any], list[bytes], bool]:
    from autobahn.twisted.websocket import WebSocketServerFactory, WebSocketServerProtocol

    received: list[Any] = []
    answers: list[bytes] = []

    class Protocol(WebSocketServerProtocol):
        def onMessage(self, payload: bytes, isBinary: bool) -> None:
            received.append((None, payload) if isBinary else (payload.decode(), None))

    factory = WebSocketServerFactory()
    factory.protocol = Protocol
    factory.setProtocolOptions(
        failByDrop=False,
        echoCloseCodeReason=True,
        openHandshakeTimeout=0,
        closeHandshakeTimeout=0,
        maxMessagePayloadSize=limit,
        maxFramePayloadSize=limit,
    )
    protocol, transport = factory.buildProtocol(None), Transport()
    protocol.makeConnection(transport)
    protocol.dataReceived(REQUEST)
    transport.take()
    for chunk in chunks:
        protocol.dataReceived(chunk)
        answers.append(transport.take())
    return received, answers, protocol.state == protocol.STATE_OPEN


def test_the_options_of_a_connection_are_those_of_its_server() -> None:
    async def main() -> None:
        small = await Connection(recorder([]), maxMessagePayloadSize=10, autoPingTimeout=7).open()
        large = await Connection(recorder([]), maxMessagePayloadSize=20).open()
        assert (small.protocol.maxMessagePayloadSize, small.protocol.autoPingTimeout) == (10, 7)
        assert large.protocol.maxMessagePayloadSize == 20
        for connection, code in ((small, b"\x03\xf1"), (large, b"")):
            connection.receive(masked(frames.TEXT, b"x" * 15))
            assert connection.transport.take()[2:4] == code
            connection.lose()

    asyncio.run(main())


def test_a_shared_frame_waits_for_the_client_and_is_refused_once_it_has_left() -> None:
    async def main() -> None:
        connection = await Connection(recorder([])).open()
        protocol = connection.protocol
        connection.transport.take()
        protocol.pauseProducing()  # the buffer is full
        waiting = [asyncio.create_task(protocol.write_in_turn(name, 1)) for name in (b"first", b"second")]
        await settle()
        assert (connection.transport.take(), protocol.messages_out) == (b"", 0)
        protocol.resumeProducing()
        await asyncio.gather(*waiting)
        assert (connection.transport.take(), protocol.messages_out) == (b"firstsecond", 2)
        protocol.pauseProducing()
        late = asyncio.create_task(protocol.write_in_turn(b"late", 1))
        await settle()
        connection.lose()
        for writing in (late, protocol.write_in_turn(b"late", 1)):
            with pytest.raises(OSError, match="The client has disconnected"):
                await writing
        await settle()

    asyncio.run(main())


async def counted_by_several_tasks(send: Any, size: int) -> None:
    """Send numbers, each as soon as it is taken."""
    numbers = itertools.count()

    async def count() -> None:
        for _ in range(100):
            await send({"type": "websocket.send", "bytes": next(numbers).to_bytes(2, "big") + bytes(size)})

    await asyncio.gather(count(), count(), count())


def test_messages_of_several_tasks_keep_their_order() -> None:
    """Also when a task lets others run, after much that was sent."""
    size = MAX_BYTES_PER_TURN // 20

    async def main() -> None:
        connection = await Connection(recorder([])).open()
        connection.transport.take()
        await counted_by_several_tasks(connection.protocol.send, size)
        written = connection.transport.take()
        each = len(written) // 300
        numbers = [
            int.from_bytes(written[at + each - size - 2 :][:2], "big") for at in range(0, 300 * each, each)
        ]
        assert numbers == list(range(300))

    asyncio.run(main())


def test_messages_of_several_tasks_keep_their_order_on_uvicorn() -> None:
    sent: list[int] = []

    async def send(message: Any) -> None:
        sent.append(int.from_bytes(message["bytes"][:2], "big"))

    asyncio.run(counted_by_several_tasks(Tally().yielding(send), 0))
    assert sent == list(range(300))


@pytest.mark.parametrize("plain_socket", [False, True])
def test_sizes_of_messages(monkeypatch: pytest.MonkeyPatch, plain_socket: bool) -> None:
    """As the setting says when the server starts: of those that the application gets, and those written."""
    monkeypatch.setattr(census, "_totals", {})
    monkeypatch.setattr(census, "is_on", True)
    app = FastAPI()

    @app.websocket("/a")
    async def echo(websocket: WebSocket) -> None:
        await websocket.accept()
        async for each in websocket.iter_text():
            await websocket.send_text(each)

    async def main() -> None:
        plain = await Connection(app).open()
        assert plain.protocol.sizes is None
        with override_settings(FASTWS={"METRICS_SIZES": True}):
            connection = Connection(app)
        protocol = (await connection.open(plain_socket)).protocol
        for size in (64, 300):
            frame = masked(frames.TEXT, b"x" * size)
            connection.read(frame) if plain_socket else connection.receive(frame)
            await settle()
        [session] = [each for each in everywhere() if each.server is protocol]
        assert session.sizes is protocol.sizes
        assert protocol.write_at_once(b"frame", 2000)
        await protocol.write_in_turn(b"frame", 2000)
        assert not protocol.write_at_once(bytes(MAX_BYTES_PER_TURN), 2000)  # other tasks get a turn first
        protocol.disconnected = True
        assert not protocol.write_at_once(b"frame", 2000)
        connection.receive(masked(frames.TEXT, b"late"))
        assert (protocol.messages_in, protocol.messages_out) == (2, 4)
        protocol.disconnected = False
        connection.receive(masked(0x8, b"\x03\xe8"))
        await settle()
        connection.lose()
        plain.lose()
        await settle()

    asyncio.run(main())
    totals = census.snapshot(everywhere)[1]["/a"]
    assert (totals.sizes_in.counts[:4], totals.sizes_in.sum) == ([1, 0, 1, 0], 364)
    assert (totals.sizes_out.counts[:4], totals.sizes_out.sum) == ([1, 0, 1, 2], 4364)


def test_an_open_socket_keeps_no_options_and_nothing_of_its_handshake() -> None:
    async def main() -> None:
        connection = await Connection(recorder([])).open()
        kept = vars(connection.protocol)
        assert not kept.keys() & {*WebSocketServerProtocol.CONFIG_ATTRS, *HANDSHAKE_ATTRIBUTES}
        assert not any(value == REQUEST for value in kept.values())
        connection.lose()

    asyncio.run(main())


def test_a_client_that_floods_is_paused_and_goes_on_without_a_loss() -> None:
    count, received = 5000, []

    async def main() -> None:
        ready = asyncio.Event()

        async def application(scope: Any, receive: Any, send: Any) -> None:
            await receive()
            await send({"type": "websocket.accept"})
            await ready.wait()
            while len(received) < count:
                received.append((await receive())["text"])

        connection = await Connection(application).open()
        connection.receive(b"".join(masked(frames.TEXT, b"%d" % i) for i in range(count)))
        assert not connection.transport.reading
        assert not connection.protocol.inbox.is_low
        ready.set()
        await connection.task
        await settle()
        assert connection.transport.reading
        connection.lose()

    asyncio.run(main())
    assert received == [str(i) for i in range(count)]


def test_send_waits_for_the_client_and_wakes_when_it_leaves() -> None:
    sent = []

    async def application(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await send({"type": "websocket.accept"})
        await receive()
        for number in range(3):
            await send({"type": "websocket.send", "text": str(number)})
            sent.append(number)

    async def main() -> None:
        connection = await Connection(application).open()
        connection.transport.producer.pauseProducing()
        connection.receive(masked(frames.TEXT, b"go"))
        await settle()
        assert sent == []
        connection.transport.producer.resumeProducing()
        await settle()
        assert sent == [0, 1, 2]
        assert connection.transport.take().startswith(b"\x81\x010\x81\x011\x81\x012")

        connection = await Connection(application).open()
        connection.transport.producer.pauseProducing()
        connection.receive(masked(frames.TEXT, b"go"))
        await settle()
        task = connection.task
        connection.lose()
        with pytest.raises(OSError, match="disconnected"):
            await task

    asyncio.run(main())


def test_only_the_last_ping_is_answered_to_a_client_that_does_not_read() -> None:
    async def main() -> None:
        connection = await Connection(recorder([])).open()
        connection.transport.producer.pauseProducing()
        for number in range(1000):
            connection.receive(masked(0x9, b"%d" % number))
        assert connection.transport.take() == b""
        connection.transport.producer.resumeProducing()
        assert connection.transport.take() == frames.build(0xA, b"999")
        connection.task.cancel()
        connection.lose()

    asyncio.run(main())


def test_a_paused_client_is_pinged_but_not_held_to_its_pong() -> None:
    async def main() -> None:
        connection = await Connection(recorder([]), autoPingTimeout=30).open()
        protocol = connection.protocol
        protocol._ping()
        assert protocol.autoPingTimeoutCall is not None
        connection.task.cancel()
        protocol._pause_reading()
        assert protocol.autoPingTimeoutCall is None
        connection.transport.take()
        protocol._ping()
        assert connection.transport.take() == frames.build(0x9, b"")
        assert protocol.autoPingTimeoutCall is None
        connection.lose()
        await settle()

    asyncio.run(main())


def test_early_data_is_delivered_after_accept_and_bounded_before() -> None:
    async def main() -> None:
        answer = asyncio.Event()
        received = []

        async def application(scope: Any, receive: Any, send: Any) -> None:
            await receive()
            await answer.wait()
            await send({"type": "websocket.accept"})
            received.append(await receive())

        connection = Connection(application)
        connection.receive(REQUEST)
        connection.receive(masked(frames.TEXT, b"early"))
        connection.receive(REQUEST * 1000)  # a second handshake does not start a second application
        assert not connection.transport.reading
        answer.set()
        await settle()
        assert received == [{"type": "websocket.receive", "text": "early"}]
        connection.lose()
        await settle()

    asyncio.run(main())


def test_a_stuck_close_is_cut_off() -> None:
    async def main() -> None:
        connection = await Connection(recorder([]), closeHandshakeTimeout=0.01).open()
        task = connection.task
        # The peer sends a close frame, and then does not read what is still to be written.
        connection.transport.loseConnection = lambda: None  # type: ignore[method-assign]
        connection.receive(masked(0x8, b"\x03\xe8"))
        assert connection.protocol._abort_timer is not None
        while connection.transport.connected:
            await asyncio.sleep(0.001)
        assert connection.transport.closed == "aborted"
        task.cancel()
        connection.lose()
        await settle()

    asyncio.run(main())


@pytest.mark.parametrize("message", [{}, {"text": None}, {"text": "a", "bytes": b"b"}])
def test_a_message_has_text_or_bytes(message: dict[str, Any]) -> None:
    raised: list[Exception] = []

    async def application(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await send({"type": "websocket.accept"})
        try:
            await send({"type": "websocket.send", **message})
        except ValueError as error:
            raised.append(error)

    async def main() -> None:
        connection = await Connection(application).open()
        connection.lose()

    asyncio.run(main())
    assert len(raised) == 1


@pytest.mark.parametrize("status", [101, 199, 600])
def test_a_refusal_needs_a_final_status(status: int) -> None:
    async def application(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        with pytest.raises(RuntimeError, match="Invalid HTTP status code"):
            await send({"type": "websocket.http.response.start", "status": status})
        await send({"type": "websocket.close"})

    async def main() -> None:
        connection = Connection(application)
        connection.receive(REQUEST)
        await settle()
        assert connection.transport.take().startswith(b"HTTP/1.1 403 Forbidden\r\n")
        connection.lose()

    asyncio.run(main())


def test_a_client_that_leaves_before_the_answer_is_gone() -> None:
    seen = []

    async def application(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        seen.append(await receive())
        with pytest.raises(OSError):
            await send({"type": "websocket.accept"})
        seen.append("raised")

    async def main() -> None:
        connection = Connection(application)
        connection.receive(REQUEST)
        await settle()
        connection.lose()
        await settle()
        assert connection.server.connections == {}
        assert connection.server.websockets == set()

    asyncio.run(main())
    assert seen == [{"type": "websocket.disconnect", "code": 1006, "reason": ""}, "raised"]


@pytest.fixture
def without_timers(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave it to the test when daphne checks its connections."""
    monkeypatch.setattr("daphne.server.reactor", SimpleNamespace(callLater=lambda *arguments: None))


def held(go: asyncio.Event, then: Callable[[], None] = lambda: None) -> Application:
    """An application that accepts, waits for `go` and ends with what `then` does."""

    async def application(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await send({"type": "websocket.accept"})
        await go.wait()
        then()

    return application


def raise_once() -> None:
    raise LookupError("once")


def cancel() -> None:
    raise asyncio.CancelledError


async def run_to_end(task: asyncio.Task[None]) -> None:
    """Let a task that was woken finish without running its callbacks."""
    for _ in range(20):
        if task.done():
            return
        await asyncio.sleep(0)


@pytest.mark.usefixtures("without_timers")
@pytest.mark.parametrize(
    ("then", "code", "lines"), [(lambda: None, 1000, 0), (raise_once, 1011, 1), (cancel, 1011, 0)]
)
def test_daphne_checks_an_application_before_it_reports_its_end(
    then: Callable[[], None], code: int, lines: int, caplog: pytest.LogCaptureFixture
) -> None:
    """daphne's own check, once a second, may run between the end of a task and its callbacks."""
    told: list[Any] = []

    async def main() -> None:
        go = asyncio.Event()
        connection = await Connection(held(go, then)).open()
        task, protocol = connection.task, connection.protocol
        task.add_done_callback(told.append)
        go.set()
        await run_to_end(task)
        assert told == []
        connection.server.application_checker()
        await settle()
        assert told == [task]
        assert connection.transport.take() == frames.build(0x8, code.to_bytes(2, "big"))
        connection.lose()
        assert protocol not in connection.server.connections

    asyncio.run(main())
    assert caplog.text.count("Exception inside application: once") == lines


def leave() -> None:
    raise ClientDisconnected("The client has disconnected.")


@pytest.mark.usefixtures("without_timers")
@pytest.mark.parametrize(("then", "lines"), [(raise_once, 1), (leave, 0)])
def test_an_application_that_daphne_finds_ended_after_its_client_left_is_logged_once(
    then: Callable[[], None], lines: int, caplog: pytest.LogCaptureFixture
) -> None:
    """That its client has left is not logged at all."""

    async def main() -> None:
        go = asyncio.Event()
        connection = await Connection(held(go, then)).open()
        task, protocol = connection.task, connection.protocol
        connection.lose()
        go.set()
        await run_to_end(task)
        connection.server.application_checker()
        await settle()
        assert protocol not in connection.server.connections
        assert protocol not in connection.server.left

    asyncio.run(main())
    assert caplog.text.count("Exception inside application") == lines


@pytest.mark.usefixtures("without_timers")
def test_an_application_that_ended_reports_once_before_daphne_checks(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def application(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await send({"type": "websocket.accept"})
        raise LookupError("once")

    async def main() -> None:
        connection = await Connection(application).open()
        connection.server.application_checker()
        connection.lose()

    asyncio.run(main())
    assert caplog.text.count("Exception inside application: once") == 1


def test_an_error_that_cannot_be_logged_ends_the_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(error: BaseException) -> None:
        raise RecursionError

    async def application(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await send({"type": "websocket.accept"})
        await receive()
        raise LookupError

    async def main() -> None:
        connection = await Connection(application).open()
        monkeypatch.setattr("fastws_compat.daphne.protocol.for_log", fail)
        connection.receive(masked(frames.TEXT, b"go"))
        await settle()
        assert connection.transport.take() == frames.build(0x8, (1011).to_bytes(2, "big"))
        connection.lose()

    asyncio.run(main())


@pytest.mark.parametrize("kind", [SystemExit, KeyboardInterrupt])
def test_an_application_cannot_end_the_process(
    kind: type[BaseException], monkeypatch: pytest.MonkeyPatch
) -> None:
    from fastws_compat.daphne.server import call

    async def application(scope: Any, receive: Any, send: Any) -> None:
        raise kind

    async def main() -> None:
        unused: Any = None
        with pytest.raises(RuntimeError, match=f"The application raised {kind.__name__}"):
            await call(application, {}, unused, unused)
        monkeypatch.setattr(signal, "getsignal", lambda number: signal.default_int_handler)
        ends = KeyboardInterrupt if kind is KeyboardInterrupt else RuntimeError
        with pytest.raises(ends):  # Ctrl-C, where the server does not handle it
            await call(application, {}, unused, unused)

    asyncio.run(main())


def test_every_application_begins_in_the_context_of_the_server() -> None:
    name, found = ContextVar("name", default="nobody"), []

    async def application(scope: Any, receive: Any, send: Any) -> None:
        found.append((scope["type"], name.get()))
        await receive()

    def watch() -> None:
        found.append(("port", name.get()))

    async def main() -> None:
        connection = Connection(application)
        server: Any = connection.server
        name.set("somebody else")
        connection.receive(REQUEST)
        page = object()
        server.connections[page] = {}
        server.create_application(page, {"type": "http"}).put_nowait({"type": "http.disconnect"})
        server.ports = [SimpleNamespace(startReading=watch, stopReading=watch)]
        for is_full in (True, False):
            server.pause_listening(is_full)
        await settle()
        connection.lose()
        await settle()

    asyncio.run(main())
    assert sorted(found) == [(kind, "nobody") for kind in ("http", "port", "port", "websocket")]


# Closing from the server's side


@pytest.mark.usefixtures("without_timers")
def test_daphnes_check_does_not_cancel_an_application_that_cleans_up() -> None:
    async def main() -> None:
        go = asyncio.Event()

        async def application(scope: Any, receive: Any, send: Any) -> None:
            await receive()
            await send({"type": "websocket.accept"})
            cleanup = Cleanup()
            cleanup.begin()
            await go.wait()
            cleanup.end()
            await asyncio.Event().wait()

        connection = await Connection(application).open()
        server, details = connection.server, connection.server.connections[connection.protocol]
        connection.lose()
        for _ in range(3):
            details["disconnected"] = 1.0  # long ago
            server.application_checker()
        assert connection.task.cancelling() == 0
        go.set()
        await settle()
        details["disconnected"] = 1.0
        server.application_checker()
        server.application_checker()
        assert connection.task.cancelling() == 1  # and now it knows
        await settle()
        assert server.connections == {}

    asyncio.run(main())


def test_a_connection_whose_application_has_ended_may_be_lost_later() -> None:
    async def application(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await send({"type": "websocket.accept"})
        await receive()

    async def main() -> None:
        connection = await Connection(application).open()
        connection.server.protocol_disconnected(connection.protocol)  # it was paused, and the client left
        connection.receive(masked(frames.TEXT, b"go"))
        await settle()
        assert connection.server.connections == {}
        connection.lose()
        assert connection.server.websockets == set()

    asyncio.run(main())


def test_disconnect_is_detected_without_reading() -> None:
    from fastws_compat.daphne.writer import handle_of

    here, there = socket.socketpair()
    tcp = SimpleNamespace(getHandle=lambda: here)
    tls = SimpleNamespace(transport=tcp)
    with here, there:
        assert handle_of(tcp) is handle_of(tls) is here
        there.send(b"unread")
        assert closed_by_peers([here.fileno()]) == set()
        there.shutdown(socket.SHUT_WR)
        assert closed_by_peers([here.fileno(), there.fileno()]) == {here.fileno()}
        assert here.recv(100) == b"unread"


def test_disconnect_is_not_detected_without_support_of_the_system(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr("select.poll")
    assert not closed_by_peers([0])


def test_the_last_cancellations_free_one_cleanup_after_the_other() -> None:
    seen: list[str] = []

    async def cleans_up(seconds: float) -> None:
        cleanup = Cleanup()
        cleanup.begin()
        try:
            await asyncio.sleep(seconds)
        finally:
            cleanup.end()
        seen.append("cleaned up")

    async def hangs() -> None:
        try:
            await cleans_up(5)
        finally:
            seen.append("hung")
            try:
                await asyncio.sleep(5)
            finally:
                seen.append("hung too")

    async def main() -> None:
        tasks = [asyncio.create_task(work) for work in (cleans_up(shutdown.CLEANUP_TIMEOUT / 2), hangs())]
        await settle()
        await shutdown.cancel_late(tasks)
        assert [task.cancelled() for task in tasks] == [False, True]

    asyncio.run(main())
    assert seen == ["cleaned up", "hung", "hung too"]


def python(program: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", LEAVING + program]
    return subprocess.run(command, check=True, capture_output=True, text=True, timeout=30)


LEAVING = """
import atexit, logging, threading, time
from fastws_compat.daphne.shutdown import exit_by
logging.basicConfig()
atexit.register(print, "exited in order")
work = threading.Event()
"""


def test_a_process_leaves_although_a_thread_is_at_work() -> None:
    left = python("threading.Thread(target=work.wait, name='busy').start(); exit_by(time.monotonic() + 0.1)")
    assert left.stdout == ""
    assert "Exited although these threads had not ended in time: busy" in left.stderr


def test_a_process_without_threads_at_work_exits_in_order() -> None:
    left = python("exit_by(time.monotonic() + 60)")
    assert (left.stdout, left.stderr) == ("exited in order\n", "")


def test_a_slow_exit_without_threads_is_not_cut_off() -> None:
    left = python("atexit.register(time.sleep, 1); exit_by(time.monotonic() + 0.5)")
    assert (left.stdout, left.stderr) == ("exited in order\n", "")


def test_a_program_that_goes_on_after_its_server_is_left_alone() -> None:
    left = python(
        "exit_by(time.monotonic())\n"
        "[watch.join() for watch in threading.enumerate() if watch.name == 'fastws-shutdown']\n"
        "threading.Timer(0.2, print, ['work done']).start()"
    )
    assert left.stdout == "work done\nexited in order\n"


# Installation


def test_nothing_happens_where_there_is_no_daphne() -> None:
    program = (
        "import sys; from fastws_compat import daphne; assert daphne.install() == daphne.mode() == 'absent';"
        "assert not any(name.split('.')[0] in ('twisted', 'autobahn') for name in sys.modules)"
    )
    subprocess.run([sys.executable, "-c", program], check=True)


def test_install_completes_the_command_line_and_runserver(monkeypatch: pytest.MonkeyPatch) -> None:
    import daphne.cli
    import daphne.server
    from daphne.management.commands.runserver import Command

    from fastws_compat import daphne as completed
    from fastws_compat.daphne.server import Server

    monkeypatch.setattr(daphne.cli.CommandLineInterface, "server_class", daphne.server.Server)
    monkeypatch.setattr(Command, "server_cls", daphne.server.Server)
    assert completed.install() == completed.install() == completed.mode() == "complete"
    assert daphne.cli.CommandLineInterface.server_class is Server
    assert Command.server_cls is Server


def test_stock_daphne_has_djangos_reloader(monkeypatch: pytest.MonkeyPatch, settings: Any) -> None:
    import daphne.server
    from daphne.management.commands.runserver import Command
    from django.core.management.commands import runserver

    from fastws_compat import daphne as completed
    from fastws_compat.daphne import reloader

    monkeypatch.setattr(Command, "server_cls", daphne.server.Server)
    monkeypatch.setattr(Command, "run", Command.run)
    completed.install()
    assert Command.run is reloader.run
    settings.FASTWS = {"DAPHNE": "stock"}
    completed.install()
    assert (Command.run, Command.server_cls) == (runserver.Command.run, daphne.server.Server)


def test_the_reloader_starts_children_until_one_does_not_ask_for_it(monkeypatch: pytest.MonkeyPatch) -> None:
    codes = [reloader.RELOAD, reloader.RELOAD, 5]
    monkeypatch.setattr(reloader, "run_child", lambda: codes.pop(0))
    before = signal.getsignal(signal.SIGTERM)
    try:
        with pytest.raises(SystemExit) as ended:
            reloader.supervise()
    finally:
        signal.signal(signal.SIGTERM, before)
    assert (ended.value.code, codes) == (5, [])


STUBBORN = (
    "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print(flush=True); time.sleep(60)"
)


def test_the_reloader_kills_a_child_that_does_not_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reloader, "CHILD_TIMEOUT", 0.1)
    with subprocess.Popen([sys.executable, "-c", STUBBORN], stdout=subprocess.PIPE) as child:
        assert child.stdout is not None
        child.stdout.readline()
        reloader.stop(child)
        assert child.wait(30) == -signal.SIGKILL


# The lines of `runserver`


@pytest.fixture
def explained(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> Command:
    """The command of `runserver`, with its lines in `caplog`."""
    command = Command(stdout=StringIO())
    monkeypatch.setattr(reloader.Command, "run", lambda command, **options: None)
    reloader.run(command, use_reloader=False)
    channels = logging.getLogger("django.channels.server")
    monkeypatch.setattr(channels, "propagate", True)
    caplog.set_level(logging.INFO, channels.name)
    return command


def lines(caplog: pytest.LogCaptureFixture) -> list[str]:
    found = [each.getMessage() for each in caplog.records if each.name == "django.channels.server"]
    caplog.clear()
    return [re.sub(r"\d+\.\d s", "N s", each) for each in found]


def console_app() -> FastAPI:
    app = FastAPI()

    @app.websocket("/a")
    async def echo(websocket: WebSocket, refuse: bool = False) -> None:
        await websocket.accept()
        async for each in websocket.iter_text():
            if each == "operator":
                await hang_up(websocket, 4403, "abuse", "operator")
            await websocket.send_text(each)

    return app


class Named:
    is_authenticated = True

    def __init__(self, name: str) -> None:
        self.name = name

    def get_username(self) -> str:
        return self.name


@pytest.mark.parametrize(
    ("name", "sent", "line"),
    [
        ("admin", [(1, b"hi"), (8, b"\x03\xe9")], "1001 by client, N s, 1 in, 1 out, admin"),
        (None, [(8, b"")], "1005 by client, N s, 0 in, 0 out"),
        ("ann\x1b", [], "1006 by lost, N s, 0 in, 0 out, ann\N{REPLACEMENT CHARACTER}"),
        ("bob", [(1, b"operator")], "4403 by operator, N s, 1 in, 0 out, bob"),
        ("bob", [(1, b"\xff")], "1007 by server, N s, 0 in, 0 out, bob"),
    ],
)
def test_runserver_says_how_a_socket_ended(
    explained: Command,
    caplog: pytest.LogCaptureFixture,
    name: str | None,
    sent: list[tuple[int, bytes]],
    line: str,
) -> None:
    app = console_app()

    async def as_user(scope: Any, receive: Any, send: Any) -> None:
        await app({**scope, "user": None if name is None else Named(name)}, receive, send)

    async def main() -> None:
        connection = Connection(as_user)
        connection.server.action_logger = explained.log_action
        await connection.open()
        assert lines(caplog) == ["WebSocket HANDSHAKING /a [None]", "WebSocket CONNECT /a [None]"]
        for opcode, payload in sent:
            connection.receive(masked(opcode, payload))
            await settle()
        connection.lose()
        await settle()

    asyncio.run(main())
    assert lines(caplog) == [f"WebSocket DISCONNECT /a [None] {line}"]


async def hidden(scope: Any, receive: Any, send: Any) -> None:
    """Middleware that hides the server's `send` from our application, and so its socket."""
    app = console_app()

    async def sent(message: Any) -> None:
        await send(message)

    await app({**scope, "user": Named("nobody")}, receive, sent)


@pytest.mark.parametrize("application", [recorder([]), hidden], ids=["another application", "middleware"])
def test_runserver_says_how_a_socket_ended_of_which_it_does_not_know_the_user(
    explained: Command, caplog: pytest.LogCaptureFixture, application: Application
) -> None:
    async def main() -> None:
        connection = Connection(application)
        connection.server.action_logger = explained.log_action
        await connection.open()
        lines(caplog)
        connection.receive(masked(8, b"\x03\xe8"))
        connection.lose()
        await settle()

    asyncio.run(main())
    assert lines(caplog) == ["WebSocket DISCONNECT /a [None] 1000 by client, N s, 0 in, 0 out"]


async def decline(websocket: WebSocket) -> None:
    await websocket.close()


async def fail(websocket: WebSocket) -> None:
    raise RuntimeError


@pytest.mark.parametrize(
    ("endpoint", "origin", "line", "sentences"),
    [
        (
            decline,
            True,
            "403 origin",
            ["WebSocket refused: it has no Origin header, and FASTWS['ORIGIN_REQUIRED'] is on."],
        ),
        (decline, False, "403 endpoint", []),
        (fail, False, "500 error", ["Exception in WebSocket /a"]),
        (None, False, "403 not_found", ["No WebSocket route for '/a'"]),
    ],
)
def test_runserver_says_why_a_handshake_was_refused(
    explained: Command,
    caplog: pytest.LogCaptureFixture,
    endpoint: Any,
    origin: bool,
    line: str,
    sentences: list[str],
) -> None:
    """The sentence is in the library's own log, so the line of `runserver` does not repeat it."""
    app = FastAPI()
    if endpoint is not None:
        app.add_api_websocket_route("/a", endpoint)

    async def main() -> None:
        connection = Connection(OriginCheck(app))
        connection.server.action_logger = explained.log_action
        with override_settings(FASTWS={"ORIGIN_REQUIRED": origin}):
            connection.receive(REQUEST)
            await settle()
        connection.lose()
        await settle()

    asyncio.run(main())
    assert [each.getMessage() for each in caplog.records if each.name == "fastws_compat"] == sentences
    assert lines(caplog) == [
        "WebSocket HANDSHAKING /a [None]",
        f"WebSocket REJECT /a [None] {line}",
    ]


@pytest.mark.parametrize(("stopping", "end"), [(True, " 503 stopping"), (False, "")])
def test_runserver_shows_a_refusal_by_the_server(
    explained: Command, caplog: pytest.LogCaptureFixture, stopping: bool, end: str
) -> None:
    async def main() -> None:
        connection = Connection(recorder([]))
        connection.server.action_logger = explained.log_action
        connection.server.stopping = stopping
        host = b"Host: localhost" if stopping else b"Host: a\r\nHost: b"
        # As in a server, outside of every task.
        asyncio.get_running_loop().call_soon(connection.receive, REQUEST.replace(b"Host: localhost", host))
        await settle()
        connection.lose()

    asyncio.run(main())
    assert lines(caplog) == [f"WebSocket REJECT /a [None]{end}"]


def test_runserver_writes_other_lines_as_before(explained: Command, caplog: pytest.LogCaptureFixture) -> None:
    explained.log_action(
        "http",
        "complete",
        {"method": "GET", "path": "/", "status": 200, "time_taken": 0.1, "client": "127.0.0.1:5", "size": 3},
    )
    assert lines(caplog)[0].startswith("HTTP GET / 200 ")


def test_lines_of_a_project_stay(monkeypatch: pytest.MonkeyPatch) -> None:
    class Own(Command):
        def log_action(self, protocol: str, action: str, details: dict[str, Any]) -> None: ...

    own = Own(stdout=StringIO())
    reloader.explain_sockets(own)
    assert "log_action" not in vars(own)


def test_the_server_calls_each_hook_once(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[Any] = []

    async def application(scope: Any, receive: Any, send: Any) -> None: ...

    monkeypatch.setattr(hooks, "_callbacks", {})
    hooks.before_serving(calls.append)
    hooks.before_serving(calls.append)
    hooks.run_callbacks(application)
    assert calls == [application]


def test_a_projects_own_server_class_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    import daphne.cli
    import daphne.server

    class Own(daphne.server.Server):
        pass

    monkeypatch.setattr(daphne.cli.CommandLineInterface, "server_class", Own)
    from fastws_compat import daphne as completed

    completed.install()
    assert daphne.cli.CommandLineInterface.server_class is Own


def test_a_projects_own_server_class_for_runserver_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    from daphne.server import Server

    class Own(Server):
        pass

    monkeypatch.setattr(Command, "server_cls", Own)
    before = Command.run
    daphne.install()
    assert (Command.server_cls, Command.run) == (Own, before)


def test_the_last_setting_of_stock_applies(monkeypatch: pytest.MonkeyPatch, settings: Any) -> None:
    import daphne.cli
    import daphne.server

    from fastws_compat import daphne as completed

    monkeypatch.setattr(completed, "_mode", "absent")
    monkeypatch.setattr(daphne.cli.CommandLineInterface, "server_class", daphne.server.Server)
    assert completed.install() == completed.mode() == "complete"
    settings.FASTWS = {"DAPHNE": "stock"}
    assert completed.install() == completed.mode() == "stock"
    assert daphne.cli.CommandLineInterface.server_class is daphne.server.Server


@pytest.mark.parametrize(
    ("version", "complete"), [("4.2.1", False), ("4.2.2", True), ("4.2.9", True), ("4.3.0", False)]
)
def test_an_unknown_daphne_gets_the_portable_mode(
    version: str, complete: bool, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("daphne.__version__", version)
    assert choice.choose()[0] == ("complete" if complete else "portable")
    assert (version in caplog.text) is not complete


def test_a_daphne_that_lacks_a_name_gets_the_portable_mode(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(versions.NEEDED, "daphne.server:Server", "run no_such_name")
    assert versions.obstacle() == "no Server.no_such_name"


def test_a_version_is_its_leading_numbers() -> None:
    assert versions.leading_numbers("4.2.3") == (4, 2, 3)
    assert versions.leading_numbers("4.3.dev1") == (4, 3)


def test_the_portable_mode_maps_close_codes() -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        for code in (1000, 1001, 1008, 1011, 1012, 4400, None):
            await send({"type": "websocket.close", "code": code})
        await send({"type": "websocket.close"})

    sent = converse(portable.portable(app))
    assert [message.get("code") for message in sent] == [1000, 4012, 4008, 4011, 4012, 4400, None, None]


def test_the_portable_mode_closes_sockets_whose_application_did_not_start() -> None:
    calls: list[str] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        calls.append(scope["type"])
        if scope["type"] == "lifespan":
            await send({"type": "lifespan.startup.failed", "message": "no database"})

    served = portable.with_lifespan(app, Lifespan(app))
    assert converse(served, type="http") == []
    assert calls == ["http"]
    assert converse(served) == [{"type": "websocket.close", "code": 1011}]
    assert calls == ["http", "lifespan"]


def test_the_portable_server_runs_the_mapped_application() -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "websocket.close", "code": 1008})

    server = portable.server_class()(app, endpoints=["none"])
    assert converse(server.application) == [{"type": "websocket.close", "code": 4008}]


@pytest.fixture
def live_case(monkeypatch: pytest.MonkeyPatch) -> Any:
    from channels.testing import ChannelsLiveServerTestCase
    from daphne.testing import DaphneProcess

    monkeypatch.setattr(ChannelsLiveServerTestCase, "ProtocolServerProcess", DaphneProcess)
    return ChannelsLiveServerTestCase


def test_a_live_server_is_completed_when_its_test_case_changes_a_setting(live_case: Any) -> None:
    from django.test import modify_settings

    from fastws_compat.daphne.live import LiveServerProcess

    with modify_settings(ALLOWED_HOSTS={"append": "localhost"}):
        assert live_case.ProtocolServerProcess is LiveServerProcess


def test_a_projects_own_live_server_process_stays(live_case: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    class Own(live_case.ProtocolServerProcess):  # type: ignore[misc, name-defined]
        pass

    monkeypatch.setattr(live_case, "ProtocolServerProcess", Own)
    daphne.install_live()
    assert live_case.ProtocolServerProcess is Own
