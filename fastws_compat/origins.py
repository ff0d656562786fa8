"""Which pages may open a socket: the handshake carries the visitor's cookies, whatever site the page is from.

The same-origin policy does not apply to WebSockets, so the `Origin` header has to be checked here against
cross-site WebSocket hijacking.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from functools import lru_cache
from typing import Any, NamedTuple

from django.conf import settings
from django.core.exceptions import DisallowedHost
from django.http import HttpRequest
from django.utils.http import is_same_domain

from fastws_compat import conf
from fastws_compat.connections.refusal import refuse
from fastws_compat.connections.states import ORIGIN_CHECKED, RAISE_EXCEPTIONS
from fastws_compat.logger import logger
from fastws_compat.requests import parse_cookie
from fastws_compat.routing.unmatched import run_router
from fastws_compat.types import ASGIApp, Receive, Scope, Send

Exempt = Callable[[Scope], bool]

COMMUNICATOR = (
    " In a test, give WebsocketCommunicator the headers that a browser sends: "
    'headers=[(b"host", b"testserver"), (b"origin", b"http://testserver"), (b"cookie", ...)].'
)

PORTS = {"http": 80, "https": 443, "ws": 80, "wss": 443}
# RFC 6454, 6.2: scheme, host and port; no user, no path. Browsers write all of it in lower case.
ORIGIN = re.compile(
    r"([a-z][a-z0-9+.-]*)://(?:([a-z0-9_.-]+|\[[0-9a-f:.]+\])(?::([0-9]{1,5}))?)?", re.IGNORECASE | re.ASCII
)
# Only in settings, and only in this position: any subdomain, and the domain itself.
SUBDOMAINS = re.compile(r"://\*\.(?=\w)")
# The origin of a page in a sandboxed frame, of a `data:` URL, and in Firefox of a file.
OPAQUE = "null"
EVERY = "*"


class Origin(NamedTuple):
    """Pages with equal origins belong to one site. The host of a pattern may begin with a period."""

    scheme: str
    host: str
    port: int | None


def parse(text: str) -> Origin | None:
    """The parts of an origin, or None if the text is not an origin."""
    if text == OPAQUE:
        return Origin("", "", None)
    match = ORIGIN.fullmatch(text)
    if match is None:
        return None
    scheme, host, port = match[1].lower(), (match[2] or "").lower(), match[3]
    number = int(port) if port else PORTS.get(scheme)
    if number is not None and (
        number > 65535 or not host
    ):  # `file://` has no host, but `http://` must have one
        return None
    return Origin(scheme, host, number)


@lru_cache(maxsize=1000)
def parse_pattern(text: str) -> Origin | None:
    """The parts of an origin as settings write it (`https://*.example.com:8443`), or None."""
    return parse(SUBDOMAINS.sub("://.", text))


@lru_cache(maxsize=4)
def _headers_read(secure_header: str) -> dict[bytes, str]:
    """The headers that Django's rules read, with their keys in META; `secure_header` is such a key."""
    secure = secure_header.removeprefix("HTTP_").replace("_", "-").lower()
    names = ("host", "x-forwarded-host", "x-forwarded-port", secure)
    return {name.encode(): f"HTTP_{name.upper().replace('-', '_')}" for name in names}


class Handshake(HttpRequest):
    """A handshake as a Django request, so that Django's rules for Host and proxies apply."""

    def __init__(self, scope: Scope) -> None:
        # HttpRequest's own constructor makes what no rule looks at: two QueryDicts, files and cookies.
        self.secure = scope.get("scheme") in ("wss", "https")
        server = scope.get("server") or ("unknown", 0)
        self.META = meta = {"SERVER_NAME": str(server[0]), "SERVER_PORT": str(server[1] or 0)}
        #: The values of its Origin headers.
        self.sent: list[str] = []
        keys = _headers_read((settings.SECURE_PROXY_SSL_HEADER or [""])[0])
        for name, value in scope["headers"]:
            name = name.lower()
            if name == b"origin":
                self.sent.append(value.decode("latin1"))
            if (key := keys.get(name)) is not None:
                text = value.decode("latin1")
                meta[key] = f"{meta[key]},{text}" if key in meta else text

    def _get_scheme(self) -> str:
        return "https" if self.secure else "http"

    @property
    def is_complete(self) -> bool:
        """Whether the client sent the name of the host; every browser does."""
        return "HTTP_HOST" in self.META or "HTTP_X_FORWARDED_HOST" in self.META

    @property
    def origin(self) -> str | None:
        """The origin of the site's own pages; raises DisallowedHost for a Host that is not allowed."""
        return f"{self.scheme}://{self.get_host()}" if self.is_complete else None


class OriginCheck:
    """Refuses handshakes from pages of other sites, with 403 and one line in the log.

    It is outermost, so it also refuses a path that the `URLRouter` below it does not have.

    An `exempt` connection may have a session cookie without an Origin, which no browser sends.
    """

    def __init__(self, inner: ASGIApp, exempt: Exempt | None = None) -> None:
        #: The application that gets the handshakes that are allowed.
        self.inner = inner
        #: Says whether a client may have a session cookie without an Origin; None allows it to nobody.
        self.exempt = exempt

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        __tracebackhide__ = True
        problem = objection(scope, self.exempt) if scope["type"] == "websocket" else None
        if problem is None:
            await run_router(self.inner, {**scope, ORIGIN_CHECKED: True}, receive, send)
        else:
            logger.warning("WebSocket refused: %s", problem)
            await refuse(scope, send, 403, reason="origin")


def objection(scope: Scope, exempt: Exempt | None = None) -> str | None:
    """The reason to refuse this handshake, in words for the log; None if it may be accepted."""
    handshake = Handshake(scope)
    try:
        own = handshake.origin
    except DisallowedHost as exc:
        return str(exc)
    sent = handshake.sent
    if not sent:
        problem = _objection_without(scope, exempt)
        # A server's scope has a scheme, that of Channels' communicator does not.
        return problem and (problem if "scheme" in scope else problem + COMMUNICATOR)
    if len(sent) > 1:
        return "it has several Origin headers."
    return None if allows_every(conf.get("ALLOWED_ORIGINS")) else _objection_to(sent[0], own)


def _objection_to(sent: str, own_text: str | None) -> str | None:
    origin = parse(sent)
    if origin is None:
        return f"its Origin {sent[:100]!r} is invalid."
    if sent == own_text:
        return None
    own = parse(own_text or "")
    if origin == own or is_trusted(origin):
        return None
    return (
        f"its Origin {sent[:100]!r} is not the site's own ({_text(own)}). If it should be allowed, add it "
        "to CSRF_TRUSTED_ORIGINS or FASTWS['ALLOWED_ORIGINS']; behind a proxy, see SECURE_PROXY_SSL_HEADER."
    )


def _objection_without(scope: Scope, exempt: Exempt | None) -> str | None:
    """Browsers always send an Origin. A client without one is a program, and needs no session cookie."""
    if conf.get("ORIGIN_REQUIRED"):
        return "it has no Origin header, and FASTWS['ORIGIN_REQUIRED'] is on."
    # The test client needs no Origin, as Django's needs no CSRF token.
    if RAISE_EXCEPTIONS in scope or (exempt is not None and exempt(scope)):
        return None
    if has_session_cookie(scope):
        return "it has a session cookie but no Origin header; clients that are not browsers use tokens."
    return None


def has_session_cookie(scope: Scope) -> bool:
    """Whether the client sent a session cookie."""
    name = settings.SESSION_COOKIE_NAME
    return any(
        parse_cookie(value.decode("latin1")).get(name) for key, value in scope["headers"] if key == b"cookie"
    )


def is_trusted(origin: Origin) -> bool:
    """Whether the settings list this origin, or a pattern that it matches."""
    return any(matches(origin, pattern) for pattern in _patterns())


def allows_every(origins: Any) -> bool:
    """Whether a value of `ALLOWED_ORIGINS` allows every origin: it contains `"*"`."""
    return EVERY in listed(origins)


def is_pattern(text: str) -> bool:
    """Whether the text is valid in `ALLOWED_ORIGINS`; an invalid one allows nothing."""
    return text == EVERY or parse_pattern(text) is not None


def listed(origins: Any) -> list[str]:
    """The strings in a setting that lists origins; none if it is not a list, such as a single string."""
    if not isinstance(origins, list | tuple | set | frozenset):
        return []
    return [origin for origin in origins if isinstance(origin, str)]


def matches(origin: Origin, pattern: str) -> bool:
    """Whether an origin matches a pattern (`https://example.com`, `https://*.example.com:8443`)."""
    wanted = parse_pattern(pattern)
    return (
        wanted is not None
        and (origin.scheme, origin.port) == (wanted.scheme, wanted.port)
        and _is_host(origin.host, wanted.host)
    )


def _is_host(host: str, wanted: str) -> bool:
    # Electron's `app://.` has a period as its host, which is not a pattern.
    return host == wanted or (wanted != "." and is_same_domain(host, wanted))


def _patterns() -> Iterator[str]:
    yield from listed(conf.get("ALLOWED_ORIGINS"))
    yield from listed(settings.CSRF_TRUSTED_ORIGINS)


def _text(origin: Origin | None) -> str:
    if origin is None:
        return "unknown without a Host"
    port = "" if origin.port == PORTS.get(origin.scheme) else f":{origin.port}"
    return f"{origin.scheme}://{origin.host}{port}"
