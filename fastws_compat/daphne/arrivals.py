"""New connections: an ordinary WebSocket request is read once, and every other one goes through Twisted."""

from __future__ import annotations

import re
from contextlib import suppress
from typing import Any

from daphne.utils import parse_x_forwarded_for
from twisted.internet.protocol import Protocol

from fastws_compat.daphne.handshake import Header, Upgrade
from fastws_compat.daphne.writer import plain_socket

# Twisted allows more headers; it and autobahn decide about everything that this does not match.
MAX_BYTES = 16384
REQUEST = re.compile(
    rb"GET (/(?!/)[!\"$-~]*) HTTP/1\.1\r\n((?:[!#$%&'*+\-.^_`|~0-9A-Za-z]+:[\t -~]*\r\n){4,100})\r\n"
)
# The headers of a handshake (RFC 6455, 4.1) as clients send them.
REQUIRED = {
    b"host": re.compile(rb"[A-Za-z0-9.\-]+(?::\d{1,5})?"),
    b"upgrade": re.compile(rb"websocket", re.IGNORECASE),
    b"connection": re.compile(rb"(?:keep-alive, ?)?upgrade", re.IGNORECASE),
    b"sec-websocket-key": re.compile(rb"[A-Za-z0-9+/]{22}=="),
    b"sec-websocket-version": re.compile(rb"13"),
}
# Headers that change how the request is read.
UNUSUAL = {b"content-length", b"transfer-encoding", b"expect", b"daphne-root-path"}


def read(data: bytes) -> tuple[bytes, list[Header]] | None:
    """The target and the headers of an ordinary request for a WebSocket; None for everything else."""
    match = REQUEST.fullmatch(data) if len(data) <= MAX_BYTES else None
    if match is None:
        return None
    lines = [line.partition(b":") for line in match[2][:-2].split(b"\r\n")]
    headers = [(name.lower(), value.strip(b" \t")) for name, _, value in lines]
    found = dict(headers)
    is_ordinary = len(found) == len(headers) and found.keys().isdisjoint(UNUSUAL) and not _repeats(found)
    if is_ordinary and all(pattern.fullmatch(found.get(name, b"")) for name, pattern in REQUIRED.items()):
        return match[1], headers
    return None


def _repeats(headers: dict[bytes, bytes]) -> bool:
    """Whether the client offers a subprotocol twice, which autobahn refuses."""
    offers = [offer.strip() for offer in headers.get(b"sec-websocket-protocol", b"").split(b",")]
    return len(offers) != len(set(offers))


def upgrade_of(target: bytes, headers: list[Header], transport: Any, server: Any) -> Upgrade:
    """The client's request, with the proxy headers evaluated as daphne does."""
    peer, host = transport.getPeer(), transport.getHost()
    client, address, scheme = None, None, "http"
    if hasattr(peer, "host"):
        client, address = [str(peer.host), peer.port], (str(host.host), host.port)
    if server.proxy_forwarded_address_header:
        client, scheme = parse_x_forwarded_for(
            {name: [value] for name, value in headers},
            server.proxy_forwarded_address_header,
            server.proxy_forwarded_port_header,
            server.proxy_forwarded_proto_header,
            client,
            scheme,
        )
    return Upgrade.of(target, headers, "1.1", scheme, client, address)


class Arrival(Protocol):
    """A connection until its first data arrives."""

    factory: Any

    def makeConnection(self, transport: Any) -> None:
        self.transport = transport
        if plain_socket(transport) is None:
            self.go_on()  # only TLS knows the protocol
        else:
            with suppress(OSError):  # a Unix socket under an older Twisted
                transport.setTcpNoDelay(True)
            self.factory.silent.add(self)

    def dataReceived(self, data: bytes) -> None:
        self.factory.silent.discard(self)
        found = read(data)
        if found is None:
            self.go_on().dataReceived(data)
            return
        server = self.factory.server
        upgrade = upgrade_of(*found, self.transport, server)
        server.ws_factory.begin(self.transport, upgrade)

    def connectionLost(self, reason: Any = None) -> None:
        self.factory.silent.discard(self)

    def go_on(self) -> Any:
        """Leave the connection to Twisted's HTTP channel, which is returned."""
        transport: Any = self.transport
        channel = self.factory.channel(transport.getPeer())
        if plain_socket(transport) is None and hasattr(transport, "wrappedProtocol"):
            transport.wrappedProtocol = channel
        else:
            transport.protocol = channel
        channel.makeConnection(transport)
        return channel

    def time_out(self) -> None:
        """Do what the HTTP channel does with a client that sends nothing."""
        channel = self.go_on()._channel
        channel.setTimeout(None)
        channel.timeoutConnection()
