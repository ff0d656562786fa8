"""New connections on daphne: what is read once is answered as if Twisted and autobahn had read it."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest
from daphne.ws_protocol import WebSocketFactory

from fastws_compat.daphne import arrivals
from fastws_compat.daphne.deadlines import Deadlines
from fastws_compat.daphne.lifespan import Lifespan
from fastws_compat.daphne.server import Server
from tests import test_daphne

CLOSE = test_daphne.masked(8, b"\x03\xf6bye")  # 1014, which autobahn does not know
KEY = b"dGhlIHNhbXBsZSBub25jZQ=="
FIRST = b"GET /a?b=1 HTTP/1.1"
HEADERS = [
    b"Host: localhost:8000",
    b"Upgrade: websocket",
    b"Connection: Upgrade",
    b"Sec-WebSocket-Key: " + KEY,
    b"Sec-WebSocket-Version: 13",
    b"Origin: http://localhost",
    b"Cookie: a=b; c=d",
]
REQUEST = b"\r\n".join([FIRST, *HEADERS, b"", b""])

TARGETS = [
    *(
        b"/",
        b"//evil/a",
        b"/a//b",
        b"/a#b",
        b"/a?b#c",
        b"*",
        b"http://h/a",
        b"/%ff%00",
        b"/a;p=1?[",
        b'/"<>\\^`{|}',
    ),
    *(b"/\xc3\xa9", b"/a?\xc3\xa9", b"", b"a", b"/a b", b"/" + b"a" * 17_000, b"//[", b"/?a=1&a=2;b"),
]
LINES = [
    *(
        b"Host: other",
        b"Host: [::1]:80",
        b"Host: a:b",
        b"Host:",
        b"Host: a:99999999999",
        b"Host: a_b",
        b"host: LOCAL",
    ),
    *(b"Upgrade: WebSocket", b"Upgrade: websocket, h2c", b"Upgrade: h2c, websocket", b"Upgrade: h2c"),
    *(
        b"Connection: keep-alive, Upgrade",
        b"Connection: upgrade",
        b"Connection: close",
        b"Connection: Upgrade, close",
    ),
    *(
        b"Sec-WebSocket-Key: short",
        b"Sec-WebSocket-Key: " + b"!" * 22 + b"==",
        b"Sec-WebSocket-Key:  " + KEY + b"\t",
    ),
    *(b"Sec-WebSocket-Version: 8", b"Sec-WebSocket-Version: x", b"Sec-WebSocket-Version: 13, 8"),
    *(
        b"Sec-WebSocket-Protocol: a, b",
        b"Sec-WebSocket-Protocol: a,a",
        b"Sec-WebSocket-Protocol:",
        b"Sec-WebSocket-Protocol: ,",
    ),
    *(
        b"Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits",
        b"Sec-WebSocket-Extensions: ;=;,,",
    ),
    *(
        b"Origin: null",
        b"Origin: nonsense",
        b"X-A: \xff",
        b"X-A: a\x85b",
        b"X-A: a\x0bb",
        b"X-A: a\x00b",
        b"X-A:\ta\tb ",
    ),
    *(
        b"X_A: forged",
        b"X A: b",
        b"X-A : b",
        b": b",
        b"no colon",
        b" folded",
        b"X-A:",
        b"X-A: 1",
        b"x-a: 2",
        b"X-\xe9: a",
    ),
    *(
        b"Content-Length: 0",
        b"Content-Length: 2",
        b"Transfer-Encoding: chunked",
        b"Transfer-Encoding: identity",
    ),
    *(
        b"Expect: 100-continue",
        b"Daphne-Root-Path: /x",
        b"X-Forwarded-For: 1.2.3.4, 5.6.7.8",
        b"X-Forwarded-For:",
    ),
    *(b"X-Forwarded-Port: 99", b"X-Forwarded-Port: x", b"X-Forwarded-Proto: https", b"Cookie: a=b; bad; =c"),
]
STARTS = [
    b"POST %s HTTP/1.1",
    b"GET %s HTTP/1.0",
    b"GET %s HTTP/1.2",
    b"GET  %s HTTP/1.1",
    b"get %s HTTP/1.1",
    b"GET %s",
]


class Transport(test_daphne.Transport):
    """One that has a plain socket, as far as `Arrival` can see."""

    protocol: Any
    disconnecting = property(lambda self: bool(self.closed))

    def setTcpNoDelay(self, enabled: bool) -> None:
        assert enabled

    def writeSequence(self, parts: list[bytes]) -> None:
        self.write(b"".join(parts))

    stopConsuming = loseConnection = test_daphne.Transport.loseConnection


class Arrived:
    """A server with one connection."""

    def __init__(self, **options: Any) -> None:
        self.scopes: list[Any] = []
        self.server = Server(self._application, endpoints=["none"], **options)
        self.server.connections = {}
        self.server.websockets = set()
        self.server.lifespan = Lifespan(self._application)
        self.server.ws_factory = None
        self.server.ws_factory.setProtocolOptions(allowNullOrigin=True, openHandshakeTimeout=5)
        self.server.http_factory = None
        self.transport = Transport()
        self.transport.protocol = self.server.http_factory.buildProtocol(None)
        self.transport.protocol.makeConnection(self.transport)

    async def _application(self, scope: Any, receive: Any, send: Any) -> None:
        self.scopes.append(
            {key: value for key, value in scope.items() if key not in ("state", "fastws_compat.turn")}
        )
        if scope["type"] == "http":
            return
        await receive()
        await send({"type": "websocket.accept"})
        while (message := await receive())["type"] == "websocket.receive":
            await send({"type": "websocket.send", "text": message["text"]})
        self.scopes.append(message)

    def receive(self, data: bytes) -> None:
        if self.transport.connected:
            self.transport.protocol.dataReceived(data)

    def lose(self) -> None:
        test_daphne.Connection.lose(
            SimpleNamespace(transport=self.transport, protocol=self.transport.protocol)
        )  # type: ignore[arg-type]


@pytest.fixture(autouse=True)
def _sockets(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(arrivals, "plain_socket", lambda transport: transport)


async def outcome(chunks: list[bytes], close: bytes = CLOSE, **options: Any) -> tuple[list[Any], bytes, str]:
    """What the application saw, what the client received, and how the connection was closed."""
    arrived = Arrived(**options)
    for chunk in chunks:
        arrived.receive(chunk)
    await test_daphne.settle()
    for frame in (test_daphne.masked(1, b"hello"), test_daphne.masked(9, b"ping"), close):
        arrived.receive(frame)
        await test_daphne.settle()
    found = arrived.scopes, arrived.transport.take(), arrived.transport.closed
    arrived.lose()
    await test_daphne.settle()
    return found


def requests(count: int) -> Iterator[list[bytes]]:
    """Requests that differ from an ordinary one in up to three ways, some of them in pieces."""
    for seed in range(count):
        rng = random.Random(seed)
        first, lines, end, more = FIRST, HEADERS[:], b"\r\n", b""
        for _ in range(rng.randint(0, 3)):
            match rng.randint(0, 11):
                case 0 | 1:
                    first = b"GET %s HTTP/1.1" % rng.choice(TARGETS)
                case 2:
                    first = rng.choice(STARTS) % b"/a"
                case 3:
                    lines.pop(rng.randrange(len(lines)))
                case 4:
                    rng.shuffle(lines)
                case 5:
                    lines.append(rng.choice(lines))
                case 6:
                    end = rng.choice([b"\n", b"\r\n", b"\r", b"\r\n\r\n"])
                case 7:
                    more = rng.choice([b"x", b"\r\n", test_daphne.masked(1, b"early"), REQUEST])
                case 8:
                    lines += [
                        b"X-%d: %s" % (n, b"x" * rng.randint(0, 60))
                        for n in range(rng.choice([5, 99, 300, 600]))
                    ]
                case _:
                    lines.insert(rng.randint(0, len(lines)), rng.choice(LINES))
                    if rng.random() < 0.6:  # in the place of the usual one
                        name = lines[0].partition(b":")[0]
                        lines = [line for n, line in enumerate(lines) if n == 0 or not line.startswith(name)]
        data = end.join([first, *lines, b"", b""]) + more
        cut = rng.randint(0, len(data)) if rng.random() < 0.1 else 0
        yield [piece for piece in (data[:cut], data[cut:]) if piece]


PROXIED = {
    f"proxy_forwarded_{part}_header": f"X-Forwarded-{name}"
    for part, name in (("address", "For"), ("port", "Port"), ("proto", "Proto"))
}


@pytest.mark.parametrize("options", [{}, PROXIED], ids=["direct", "proxy"])
def test_a_request_that_is_read_once_has_the_outcome_of_the_ordinary_way(
    monkeypatch: pytest.MonkeyPatch, options: dict[str, str]
) -> None:
    read, found = arrivals.read, []

    def counted(data: bytes) -> Any:
        found.append(result := read(data))
        return result

    async def main() -> None:
        for chunks in requests(500):
            monkeypatch.setattr(arrivals, "read", counted)
            once = await outcome(chunks, **options)
            monkeypatch.setattr(arrivals, "read", lambda data: None)
            assert once == await outcome(chunks, **options), chunks

    asyncio.run(main())
    # Both ways are taken often.
    assert 80 < sum(each is not None for each in found) < 420


@pytest.mark.parametrize("line", LINES)
def test_an_unusual_line_has_the_outcome_of_the_ordinary_way(
    monkeypatch: pytest.MonkeyPatch, line: bytes
) -> None:
    name = line.partition(b":")[0].lower()
    lines = [line, *(each for each in HEADERS if each.partition(b":")[0].lower() != name)]
    request = [b"\r\n".join([FIRST, *lines, b"", b""])]

    async def main() -> None:
        once = await outcome(request)
        monkeypatch.setattr(arrivals, "read", lambda data: None)
        assert once == await outcome(request)

    asyncio.run(main())


@pytest.mark.parametrize("close", [CLOSE, test_daphne.masked(8, b""), test_daphne.masked(3, b"")])
def test_its_end_is_that_of_the_ordinary_way(monkeypatch: pytest.MonkeyPatch, close: bytes) -> None:
    async def main() -> None:
        once = await outcome([REQUEST], close)
        assert [message["type"] for message in once[0]] == ["websocket", "websocket.disconnect"]
        monkeypatch.setattr(arrivals, "read", lambda data: None)
        assert once == await outcome([REQUEST], close)

    asyncio.run(main())


def test_a_connection_begins_with_what_autobahn_sets() -> None:
    """What its class has, is what autobahn would set in each connection."""

    async def main() -> None:
        factory = WebSocketFactory(None)
        factory.setProtocolOptions(openHandshakeTimeout=0)
        stock: Any = factory.buildProtocol(None)
        stock.makeConnection(test_daphne.Transport())
        ours: Any = test_daphne.Connection(test_daphne.recorder([])).protocol
        own = {
            "transport",
            "factory",
            "send_queue",
            "_transport_details",
            "is_open",
            "_valid_events",
            "_results",
        }
        for name in vars(stock).keys() - own - set(stock.CONFIG_ATTRS):
            value = getattr(stock, name)
            assert type(getattr(ours, name)) is type(value), name
            if isinstance(value, (type(None), bool, int, str, bytes)):
                assert getattr(ours, name) == value, name

    asyncio.run(main())


def test_a_client_that_sends_nothing_is_dropped() -> None:
    """By Twisted's own means, but at the end of a time that all such clients share."""

    async def main() -> None:
        arrived = Arrived()
        first = arrived.transport.protocol
        assert isinstance(first, arrivals.Arrival)
        first.time_out()
        assert arrived.transport.closed
        assert arrived.transport.protocol is not first
        arrived.lose()
        arrived = Arrived()
        arrived.lose()  # before it has sent anything
        assert not arrived.server.http_factory.silent._due

    asyncio.run(main())


def test_an_error_in_the_beginning_is_500(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async def main() -> None:
        arrived = Arrived()
        monkeypatch.setattr(arrived.server, "protocol_connected", lambda protocol: 1 / 0)
        arrived.receive(REQUEST)
        assert arrived.transport.take().startswith(b"HTTP/1.1 500 ")
        arrived.lose()

    asyncio.run(main())
    assert "The handshake failed on " in caplog.text


def test_one_timer_serves_all_deadlines() -> None:
    async def main() -> None:
        loop, late, done = asyncio.get_running_loop(), [], asyncio.Event()

        def is_late(name: str) -> None:
            late.append(name)
            if name == "third":
                done.set()

        deadlines: Deadlines[str] = Deadlines(loop, 0.05, is_late)
        for name in ("first", "second"):
            deadlines.add(name)
        deadlines.discard("second")
        deadlines.discard("nobody")
        loop.call_later(0.02, deadlines.add, "third")
        await asyncio.wait_for(done.wait(), 30)
        assert late == ["first", "third"]
        assert not deadlines._is_armed

    asyncio.run(main())
