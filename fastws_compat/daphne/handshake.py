"""The HTTP side of a WebSocket: the request as an ASGI scope, and the responses as bytes."""

from __future__ import annotations

import functools
from base64 import b64encode
from collections.abc import Iterable
from dataclasses import dataclass
from hashlib import sha1
from http import HTTPStatus
from typing import Any
from urllib.parse import unquote

from fastws_compat.connections.answers import check_subprotocol, checked_headers
from fastws_compat.connections.states import DEFLATE
from fastws_compat.types import Scope

Header = tuple[bytes, bytes]
Headers = Iterable[Header]

GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"  # RFC 6455, 1.3

# What a server that refuses a version must send (RFC 6455, 4.2.2).
VERSION: Header = (b"Sec-WebSocket-Version", b"13")

# Headers of the handshake itself; an application that sent them too would contradict the server.
RESERVED_HEADERS = frozenset(
    [b"upgrade", b"connection", b"sec-websocket-accept", b"sec-websocket-extensions"]
)
# The connection closes after a refusal, so the server decides how its body is framed.
FRAMING_HEADERS = frozenset([b"connection", b"transfer-encoding"])

# 2.3 close reason, 2.4 send raises OSError, 2.5 disconnect reason; denial responses are an extension.
ASGI = {"version": "3.0", "spec_version": "2.5"}


@dataclass(frozen=True, slots=True)
class Upgrade:
    """The client's request to open a WebSocket, as it arrived."""

    target: bytes
    headers: list[Header]
    http_version: str
    scheme: str
    client: tuple[str, int] | None
    server: tuple[str, int] | None

    @classmethod
    def from_request(cls, request: Any) -> Upgrade:
        """From daphne's `WebRequest`, which has already evaluated the proxy headers."""
        headers = [
            (name.lower(), value)
            for name, values in request.requestHeaders.getAllRawHeaders()
            for value in values
        ]
        version = request.clientproto.rpartition(b"/")[2].decode("ascii")
        addresses = (request.client_addr, request.server_addr)
        return cls.of(request.uri, headers, version, request.client_scheme, *addresses)

    @classmethod
    def of(
        cls, target: bytes, headers: list[Header], version: str, scheme: str, client: Any, server: Any
    ) -> Upgrade:
        """From what daphne knows of a request: its scheme is that of HTTP, and its addresses are lists."""
        return cls(
            target,
            headers,
            version,
            "wss" if scheme in ("https", "wss") else "ws",
            tuple(client) if client else None,
            tuple(server) if server else None,
        )

    def values(self, name: bytes) -> list[bytes]:
        return [value for key, value in self.headers if key == name]

    @property
    def subprotocols(self) -> list[str]:
        offers = b",".join(self.values(b"sec-websocket-protocol")).decode("latin-1").split(",")
        return [offer.strip() for offer in offers if offer.strip()]

    @property
    def extensions(self) -> str:
        """The WebSocket extensions that the client offers, as they arrived."""
        return b",".join(self.values(b"sec-websocket-extensions")).decode("latin-1")

    @property
    def repeated_header(self) -> str | None:
        """A header that is repeated although two readers might then believe different values; or None."""
        return next((name for name in ("host", "origin") if len(self.values(name.encode())) > 1), None)

    @property
    def has_version(self) -> bool:
        """Whether it is the one of RFC 6455; version 8 is a draft with another Origin header."""
        return self.values(b"sec-websocket-version") == [b"13"]

    @property
    def has_body(self) -> bool:
        """Whether a body follows, which must not be read as frames."""
        lengths = self.values(b"content-length")
        return bool(self.values(b"transfer-encoding")) or any(length.strip(b"0") for length in lengths)

    @property
    def objection(self) -> tuple[str, int] | None:
        """Why a request that autobahn would accept is refused, with the status; None if it is not."""
        if (name := self.repeated_header) is not None:
            return f"The header {name!r} is repeated.", 403 if name == "origin" else 400
        if not self.has_version:
            return "The WebSocket version must be 13.", 400
        return ("A WebSocket handshake must not have a body.", 400) if self.has_body else None

    def scope(self, root_path: str, trust_root_path_header: bool) -> Scope:
        """The ASGI connection scope; its path is the whole path of the request line."""
        path, _, query = self.target.partition(b"?")
        if trust_root_path_header and (given := self.values(b"daphne-root-path")):
            root_path = unquote(given[-1].decode("latin-1"))
        return {
            "type": "websocket",
            "asgi": dict(ASGI),
            "http_version": self.http_version,
            "scheme": self.scheme,
            "path": unquote(path.decode("ascii")),
            "raw_path": path,
            "query_string": query,
            "root_path": root_path,
            # With an underscore a client could forge a header that has a dash (CVE-2015-0219).
            "headers": [
                header
                for header in self.headers
                if b"_" not in header[0] and header[0] != b"daphne-root-path"
            ],
            "client": self.client,
            "server": self.server,
            "subprotocols": self.subprotocols,
            "extensions": {"websocket.http.response": {}, DEFLATE: {}},
        }


def acceptance(
    key: bytes, subprotocol: str | None, headers: Headers, server: str, extensions: str | None = None
) -> bytes:
    """The response that turns the connection into a WebSocket."""
    given = checked_headers(headers)
    names = {name.lower() for name, _ in given}
    if taken := names & RESERVED_HEADERS:
        raise ValueError(f"The server sets the header {min(taken)!r} itself; leave it out.")
    first = []
    if subprotocol is not None:
        check_subprotocol(subprotocol)
        first.append((b"Sec-WebSocket-Protocol", subprotocol.encode("latin-1")))
    if extensions is not None:
        first.append((b"Sec-WebSocket-Extensions", extensions.encode("latin-1")))
    start = acceptance_start("" if b"server" in names else server)
    accept = b64encode(sha1(key + GUID).digest())
    return b"\r\n".join([start + accept, *map(line, first), *map(line, given), b"", b""])


@functools.lru_cache(maxsize=8)
def acceptance_start(server: str) -> bytes:
    """What all acceptances of a server begin with, up to the value that answers the client's key."""
    given = [*server_header(server, set()), (b"Upgrade", b"websocket"), (b"Connection", b"Upgrade")]
    return head(101, given)[:-2] + b"Sec-WebSocket-Accept: "


def refusal(status: int, headers: Headers, body: bytes, more_body: bool, server: str) -> bytes:
    """An HTTP response up to the first part of its body; the connection closes after it."""
    given = [header for header in checked_headers(headers) if header[0].lower() not in FRAMING_HEADERS]
    names = {name.lower() for name, _ in given}
    if not more_body and b"content-length" not in names:
        given.append((b"Content-Length", b"%d" % len(body)))
    return head(status, [*server_header(server, names), *given, (b"Connection", b"close")]) + body


def server_header(server: str, names: set[bytes]) -> Headers:
    return [(b"Server", server.encode("latin-1"))] if server and b"server" not in names else []


def head(status: int, headers: Headers) -> bytes:
    return b"\r\n".join([b"HTTP/1.1 %d %s" % (status, phrase(status)), *map(line, headers), b"", b""])


def line(header: Header) -> bytes:
    return b"%s: %s" % header


@functools.lru_cache(maxsize=64)
def phrase(status: int) -> bytes:
    try:
        return HTTPStatus(status).phrase.encode()
    except ValueError:
        return b""
