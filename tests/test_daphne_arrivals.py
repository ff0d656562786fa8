"""New connections on daphne: what is read once is answered as if Twisted and autobahn had read it."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Iterator
from itertools import pairwise
from types import SimpleNamespace
from typing import Any

import pytest
from daphne.ws_protocol import WebSocketFactory
from django.test import override_settings

from fastws_compat.connections.deadlines import Deadlines
from fastws_compat.connections.states import DEFLATE
from fastws_compat.daphne import arrivals
from fastws_compat.daphne.lifespan import Lifespan
from fastws_compat.daphne.protocol import WebSocketProtocol
from fastws_compat.daphne.server import Server
from fastws_compat.deflate import DEFAULTS
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
    *(
        b"/%",
        b"/%zz%4",
        b"/%2e%2e/a",
        b"/../a",
        b"/./a",
        b"/a%23b",
        b"/a%3fb=1",
        b"/a?",
        b"/a??b",
        b"/?a=%ff%00",
    ),
    *(
        b"/%c3%a9%E2%82%AC",
        b"/%ed%a0%80",
        b"/a\\b",
        b"/a:1",
        b"/:",
        b"/@h",
        b"/a?x=//[",
        b"/a?" + b"a=b&" * 2_000,
    ),
    *(b"ws://h/a", b"ws://h:1/a?b", b"HTTP://h", b"http:///a", b"http://[::1/a", b"h:80", b"/\x7f", b"/a\tb"),
]
PROTOCOLS = [
    *(b"a,", b",a", b"a,,b", b"a, b, a", b"a,A", b"a\t,\tb", b"a b, c", b"a;q=1", b'"a", "a"', b"a=b,a=c"),
    *(b"%61, a", b"@,a", b",".join(b"p%d" % n for n in range(500)), b"x" * 3_000),
]
EXTENSIONS = [
    *(b"permessage-deflate", b"permessage-deflate, permessage-deflate", b"Permessage-Deflate"),
    *(
        b"permessage-deflate; server_max_window_bits=" + bits
        for bits in (b"8", b"9", b"15", b"16", b"x", b"", b"010")
    ),
    *(
        b"permessage-deflate; client_max_window_bits=" + bits
        for bits in (b"8", b"9", b"15", b"16", b"x", b"", b'"9"')
    ),
    *(
        b"permessage-deflate; " + switch
        for switch in (b"server_no_context_takeover", b"client_no_context_takeover")
    ),
    b"permessage-deflate; server_no_context_takeover=1",
    b"permessage-deflate; client_no_context_takeover; client_no_context_takeover",
    b"permessage-deflate; unknown, permessage-deflate; client_max_window_bits; server_max_window_bits=10",
    b"permessage-deflate;client_max_window_bits;server_no_context_takeover;client_no_context_takeover",
    *(
        b"permessage-deflate;",
        b";permessage-deflate",
        b"permessage-deflate;;",
        b"permessage-deflate=1",
        b"",
        b",",
    ),
    *(b"x-webkit-deflate-frame", b"mux; max-channels=4; flow-control, permessage-deflate", b'a; b="c,d;e"'),
    *(
        b'a; b="',
        b'a; b="\\"',
        b"a; b=c=d",
        b"a; =b",
        b"a b",
        b"=",
        b'"a"',
        b"a;b=\t c",
        b"\ta\t;\tb",
        b"\xe9",
    ),
    b", ".join([b"permessage-deflate; server_max_window_bits=%d" % bits for bits in range(200)]),
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
    *(
        b"X-Forwarded-For: ::1",
        b"X-Forwarded-For: [::1]:80 , b",
        b"X-Forwarded-For: ,",
        b"X-Forwarded-For: a b",
    ),
    *(
        b"X-Forwarded-Proto: WSS",
        b"X-Forwarded-Proto: https, http",
        b"X-Forwarded-Port: -1",
        b"X-Forwarded-For:\t1",
    ),
    *(
        b"Host: [::1]",
        b"Host: ::1",
        b"Host: a:",
        b"Host: a:0",
        b"Host: a:99999",
        b"Host: a, b",
        b"Host: a/b",
        b"Host: @",
    ),
    *(b"Host: \xe9", b"Host: a:80:90", b"Host: user@a", b"Host: .", b"Host: 1.2.3.4:80"),
    *(
        b"Upgrade: websocket, websocket",
        b"Upgrade: websocket/13",
        b'Upgrade: "websocket"',
        b"Upgrade:",
        b"Upgrade: ,",
    ),
    *(
        b"Connection: Keep-Alive,Upgrade",
        b"Connection: upgrade, keep-alive",
        b"Connection: up grade",
        b"Connection:",
    ),
    *(
        b"Connection: keep-alive,  Upgrade",
        b"Connection: keep-alive, Upgrade, x-a",
        b"Connection: upgrade,upgrade",
    ),
    *(
        b"Sec-WebSocket-Key: " + KEY[:-2],
        b"Sec-WebSocket-Key: " + KEY + b"=",
        b"Sec-WebSocket-Key: a b" + KEY[3:],
    ),
    *(
        b"Sec-WebSocket-Key: " + KEY + b", " + KEY,
        b"Sec-WebSocket-Key:",
        b"Sec-WebSocket-Key: \xe9" + KEY[2:],
    ),
    *(b"Sec-WebSocket-Version: 013", b"Sec-WebSocket-Version: +13", b"Sec-WebSocket-Version: 1_3"),
    *(b"Sec-WebSocket-Version:", b"Sec-WebSocket-Version: 13 ", b"Sec-WebSocket-Version: 0"),
    *(b"Origin:", b"Origin: http://a, http://b", b"Origin: http://a http://b", b"Origin: http://[::1]:80"),
    *(
        b"Origin: file:///a",
        b"Origin: http://a:x",
        b"Origin: http://[",
        b"Origin: \xe9",
        b"Origin: HTTP://LOCALHOST:80/",
    ),
    *(
        b"Sec-WebSocket-Origin: null",
        b"Sec-WebSocket-Accept: a",
        b"Sec-WebSocket-Key1: 4 @1",
        b"Te: trailers",
    ),
    *(
        b"Http2-Settings: AAMAAABkAARAAAAAAAIAAAAA",
        b"Proxy-Connection: close",
        b"Keep-Alive: 5",
        b"Trailer: x-a",
    ),
    *(b"Content-Length: -1", b"Content-Length: x", b"Content-Length:", b"content-length: 0", b"Expect: x"),
    *(
        b"Transfer-Encoding: chunked, chunked",
        b"Transfer-Encoding:",
        b"Content-Type: a/b",
        b"DAPHNE-ROOT-PATH: %2Fx",
    ),
    *(
        b"Daphne_Root_Path: /x",
        b"X-A: \x1cb",
        b"X-A: a\x7fb",
        b"X-A: " + b"a" * 16_000,
        b"X-A: " + b"a" * 17_000,
    ),
    *(b"X-A: a\r b", b"X-A: a\nb", b"X-A: a\r\n b", b"X-A: a\r\n\tb: c", b"\tfolded", b"X-A: a\rb"),
    *(
        b"X" * 300 + b": a",
        b"X-A",
        b"X-A:b:c",
        b'X-"A: b',
        b"X-(A): b",
        b"X/A: b",
        b"\x00: a",
        b"GET / HTTP/1.1",
    ),
    *(b"Sec-WebSocket-Protocol: " + offer for offer in PROTOCOLS),
    *(b"Sec-WebSocket-Extensions: " + offer for offer in EXTENSIONS),
]
STARTS = [
    b"POST %s HTTP/1.1",
    b"GET %s HTTP/1.0",
    b"GET %s HTTP/1.2",
    b"GET  %s HTTP/1.1",
    b"get %s HTTP/1.1",
    b"GET %s",
]


# The addresses of both ends of a connection.
IPV4 = SimpleNamespace(host="127.0.0.1", port=1), SimpleNamespace(host="127.0.0.1", port=8000)
IPV6 = SimpleNamespace(host="::1", port=1, flowInfo=0, scopeID=0), SimpleNamespace(host="::1", port=8000)
UNIX = SimpleNamespace(name=b""), SimpleNamespace(name=b"/run/daphne.sock")

# What else a client may send on the connection.
PRECEDING = [
    b"GET /first HTTP/1.1\r\nHost: a\r\n\r\n",
    b"GET /first HTTP/1.0\r\nConnection: keep-alive\r\n\r\n",
    b"POST /first HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\nbody",
    b"POST /first HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nbody\r\n0\r\n\r\n",
    b"OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n",
    b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    b"PROXY TCP4 1.2.3.4 5.6.7.8 9 10\r\n",
    b"\r\n",
    b"\x16\x03\x01\x00\xa5\x01\x00",
    b" ",
]
FOLLOWING = [
    *(b"x", b"\r\n", REQUEST, b"GET / HTTP/1.1\r\nHost: a\r\n\r\n", b"\x00" * 70_000),
    *(
        test_daphne.masked(1, b"early"),
        test_daphne.masked(1, b"early")[:3],
        test_daphne.masked(8, b"\x03\xe8"),
    ),
    *(
        test_daphne.masked(1, b"frag", fin=False),
        test_daphne.masked(9, b"") * 3,
        test_daphne.masked(1, b"e", rsv=4),
    ),
    *(test_daphne.masked(2, b"\xff") + b"\x81", test_daphne.masked(1, b"\xff"), test_daphne.masked(0, b"")),
]


class Transport(test_daphne.Transport):
    """One that has a plain socket, as far as `Arrival` can see."""

    protocol: Any
    ends = IPV4
    disconnecting = property(lambda self: bool(self.closed))

    def setTcpNoDelay(self, enabled: bool) -> None:
        assert enabled
        if self.ends is UNIX:
            raise OSError("Operation not supported")  # as in Twisted 22.4

    def writeSequence(self, parts: list[bytes]) -> None:
        self.write(b"".join(parts))

    stopConsuming = loseConnection = test_daphne.Transport.loseConnection

    def getPeer(self) -> Any:
        return self.ends[0]

    def getHost(self) -> Any:
        return self.ends[1]


class Arrived:
    """A server with one connection."""

    is_lost = False

    def __init__(self, ends: Any = IPV4, **options: Any) -> None:
        self.scopes: list[Any] = []
        self.actions: list[Any] = []
        self.server = Server(self._application, endpoints=["none"], action_logger=self._log, **options)
        self.server.connections = {}
        self.server.websockets = set()
        self.server.left = set()
        self.server.lifespan = Lifespan(self._application)
        self.server.ws_factory = None
        self.server.ws_factory.setProtocolOptions(allowNullOrigin=True, openHandshakeTimeout=5)
        self.server.http_factory = None
        self.transport = Transport()
        self.transport.ends = ends
        self.transport.protocol = self.server.http_factory.buildProtocol(None)
        self.transport.protocol.makeConnection(self.transport)

    async def _application(self, scope: Any, receive: Any, send: Any) -> None:
        self.scopes.append(
            {key: value for key, value in scope.items() if key not in ("state", "fastws_compat.turn")}
        )
        if scope["type"] == "http":
            return
        await receive()
        offered = scope["subprotocols"]
        compression = {"options": DEFAULTS, "max_size": None}
        await send(
            {
                "type": "websocket.accept",
                "subprotocol": offered[-1] if offered else None,
                DEFLATE: compression,
            }
        )
        while (message := await receive())["type"] == "websocket.receive":
            await send({**message, "type": "websocket.send"})
        self.scopes.append(message)

    def _log(self, protocol: str, action: str, details: dict[str, Any]) -> None:
        if protocol == "websocket":
            self.actions.append((action, details["path"], details["client"]))

    def receive(self, data: bytes) -> None:
        if self.transport.connected:
            self.transport.protocol.dataReceived(data)

    def lose(self) -> None:
        if self.is_lost:
            return
        self.is_lost = True
        test_daphne.Connection.lose(
            SimpleNamespace(transport=self.transport, protocol=self.transport.protocol)
        )  # type: ignore[arg-type]


@pytest.fixture(autouse=True)
def _sockets(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(arrivals, "plain_socket", lambda transport: transport)


async def outcome(chunks: list[bytes], close: bytes = CLOSE, **options: Any) -> tuple[Any, ...]:
    """What the application saw, what the client received, and how the connection was closed.

    An empty chunk stands for a client that leaves.
    """
    arrived = Arrived(**options)
    for chunk in chunks:
        arrived.receive(chunk) if chunk else arrived.lose()
    await test_daphne.settle()
    transport = arrived.transport
    produced = transport.reading, transport.producer is transport.protocol
    for frame in (test_daphne.masked(1, b"hello"), test_daphne.masked(9, b"ping"), close):
        arrived.receive(frame)
        await test_daphne.settle()
    found = arrived.scopes, transport.take(), transport.closed, produced, arrived.actions
    arrived.lose()
    await test_daphne.settle()
    # daphne looks for those of HTTP once a second.
    assert not any(isinstance(kept, WebSocketProtocol) for kept in arrived.server.connections)
    assert not arrived.server.websockets
    return found


def requests(count: int) -> Iterator[list[bytes]]:
    """Requests that differ from an ordinary one in up to three ways, some of them in pieces."""
    for seed in range(count):
        rng = random.Random(seed)
        first, lines, end, before, more = FIRST, HEADERS[:], b"\r\n", b"", b""
        for _ in range(rng.randint(0, 3)):
            match rng.randint(0, 12):
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
                    more = rng.choice(FOLLOWING)
                case 8:
                    lines += [
                        b"X-%d: %s" % (n, b"x" * rng.randint(0, 60))
                        for n in range(rng.choice([5, 99, 300, 600]))
                    ]
                case 9:
                    before = rng.choice(PRECEDING)
                case _:
                    lines.insert(rng.randint(0, len(lines)), rng.choice(LINES))
                    if rng.random() < 0.6:  # in the place of the usual one
                        name = lines[0].partition(b":")[0]
                        lines = [line for n, line in enumerate(lines) if n == 0 or not line.startswith(name)]
        request = before + end.join([first, *lines, b"", b""])
        data = request + more
        match rng.randint(0, 9):
            case 0:
                cuts = sorted(rng.randint(0, len(data)) for _ in range(rng.randint(1, 4)))
            case 1 | 2:
                cuts = [len(before), len(request)]
            case _:
                cuts = []
        pieces = [data[start:stop] for start, stop in pairwise([0, *cuts, len(data)])]
        leaves = [b""] if rng.random() < 0.05 else []
        yield [piece for piece in pieces if piece] + leaves


PROXIED = {
    f"proxy_forwarded_{part}_header": f"X-Forwarded-{name}"
    for part, name in (("address", "For"), ("port", "Port"), ("proto", "Proto"))
}


# The server's options, and whether it trusts the header Daphne-Root-Path.
SERVERS: dict[str, tuple[dict[str, Any], bool]] = {
    "direct": ({}, False),
    "proxy": (PROXIED, False),
    "root path": ({"root_path": "/root"}, True),
    "IPv6": ({"ends": IPV6, "server_name": ""}, False),
    "Unix": ({"ends": UNIX}, False),
}


@pytest.mark.parametrize("server", SERVERS)
def test_a_request_that_is_read_once_has_the_outcome_of_the_ordinary_way(
    monkeypatch: pytest.MonkeyPatch, server: str
) -> None:
    read, found = arrivals.read, []
    options, is_trusted = SERVERS[server]

    def counted(data: bytes) -> Any:
        found.append(result := read(data))
        return result

    async def main() -> None:
        for chunks in requests(300):
            monkeypatch.setattr(arrivals, "read", counted)
            once = await outcome(chunks, **options)
            monkeypatch.setattr(arrivals, "read", lambda data: None)
            assert once == await outcome(chunks, **options), chunks

    with override_settings(FASTWS={"DAPHNE_ROOT_PATH_HEADER": is_trusted}):
        asyncio.run(main())
    # Both ways are taken often.
    assert 50 < sum(each is not None for each in found) < 250


@pytest.mark.parametrize(
    ("old", "new", "more"),
    [
        (b"Version: 13", b"Version: 8", b""),
        (b"Version: 13", b"Version: 013", b""),
        (b"Version: 13", b"Version: x", b""),
        (b"\r\n\r\n", b"\r\nContent-Length: 11\r\n\r\n", test_daphne.masked(1, b"early")),
        (b"\r\n\r\n", b"\r\nTransfer-Encoding: chunked\r\n\r\n", b"0\r\n\r\n"),
    ],
)
def test_another_version_and_a_body_are_refused(old: bytes, new: bytes, more: bytes) -> None:
    async def main() -> None:
        request = REQUEST.replace(old, new) + more
        scopes, answer, *_ = await outcome([request, test_daphne.masked(1, b"hello")])
        assert scopes == []
        assert answer.startswith(b"HTTP/1.1 400 Bad Request\r\n")
        assert answer.count(b"Sec-WebSocket-Version: 13\r\n") == (not more)

    asyncio.run(main())


def test_a_request_in_pieces_has_the_outcome_of_a_whole_one() -> None:
    async def main() -> None:
        whole = await outcome([REQUEST])
        assert [message["type"] for message in whole[0]] == ["websocket", "websocket.disconnect"]
        for cut in range(1, len(REQUEST)):
            assert await outcome([REQUEST[:cut], REQUEST[cut:]]) == whole, cut
        assert await outcome([bytes([byte]) for byte in REQUEST]) == whole

    asyncio.run(main())


def test_what_a_client_sends_early_is_read_wherever_its_packets_end() -> None:
    masked = test_daphne.masked
    early = masked(1, b"early") + masked(2, b"\r\n\r\n" + bytes(200)) + masked(9, b"") + masked(1, b"last")

    async def main() -> None:
        apart = await outcome([REQUEST, early])
        assert apart[1].count(b"early") == apart[1].count(b"last") == 1
        for cut in range(1, len(early) + 1):
            assert await outcome([REQUEST + early[:cut], early[cut:] or masked(10, b"")]) == apart, cut
        long = masked(2, bytes(40_000), mask=bytes(4))
        assert await outcome([REQUEST + long]) == await outcome([REQUEST, long])

    asyncio.run(main())


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
            "peer",
            "_valid_events",
            "_results",
        }
        assert str(ours.peer) == stock.peer
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


def test_an_error_of_one_that_has_waited_is_its_own(monkeypatch: pytest.MonkeyPatch, settings: Any) -> None:
    """It begins when another handshake has been answered, which must not notice."""
    settings.FASTWS = {"MAX_HANDSHAKES": 1}
    monkeypatch.setattr(WebSocketProtocol, "client_socket", object())  # these transports have no socket

    async def main() -> None:
        first, second, third = Arrived(), Arrived(), Arrived()
        monkeypatch.setattr(second.server, "protocol_connected", lambda protocol: 1 / 0)
        for arrived in (first, second, third):
            arrived.receive(REQUEST)
        await test_daphne.settle()
        answers = [arrived.transport.take()[:12] for arrived in (first, second, third)]
        assert answers == [b"HTTP/1.1 101", b"HTTP/1.1 500", b"HTTP/1.1 101"]
        for arrived in (first, second, third):
            arrived.lose()
        await test_daphne.settle()

    asyncio.run(main())


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
