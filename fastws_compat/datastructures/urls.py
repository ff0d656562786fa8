"""Addresses, hosts and URLs, as strings and as components."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import MutableMapping, Sequence
from functools import cached_property
from typing import Any, Literal, NamedTuple
from urllib.parse import SplitResult, parse_qsl, urlencode, urlsplit

from fastws_compat.datastructures.multidicts import MultiDict

DEFAULT_PORTS = {"http": 80, "https": 443, "ws": 80, "wss": 443}

# RFC 3986, 3.2.2, plus a port. Anything else in a Host header is rejected, because it could change the rest
# of a URL that is built from it.
_HOST = re.compile(
    r"""
    (?P<host>
        [a-z0-9._~%!$&'()*+,;=-]+                                   # a name or an IPv4 address
        | \[ (?: (?P<ipv6> [a-f0-9]* : [a-f0-9.:]+ )
               | (?-i:v) [a-f0-9]+ \. [a-z0-9._~!$&'()*+,;=:-]+     # IPvFuture
             ) \]
    )
    (?: : (?P<port> [0-9]+ ) )?
    """,
    re.IGNORECASE | re.VERBOSE,
)


class Address(NamedTuple):
    """One end of a connection."""

    #: The name or IP address of the host.
    host: str
    #: The number of the port.
    port: int


class ParsedHost(NamedTuple):
    """The two parts of a Host header; an IPv6 host keeps its brackets."""

    #: The name or IP address; an IPv6 address keeps its brackets.
    host: str
    #: The port as text; None if the header has none.
    port: str | None

    @property
    def authority(self) -> str:
        """The host, and the port if there is one, as in a URL."""
        return self.host if self.port is None else f"{self.host}:{self.port}"

    @property
    def is_valid_port(self) -> bool:
        """Whether the port is missing or a number up to 65535."""
        digits = (self.port or "").lstrip("0")
        return len(digits) <= 5 and int(digits or 0) <= 65535


def parse_host_header(host_header: str | None) -> ParsedHost | None:
    """The host and port of a Host header; None if it is missing or malformed."""
    match = None if host_header is None else _HOST.fullmatch(host_header)
    if match is None or (match["ipv6"] and not _is_ipv6(match["ipv6"])):
        return None
    return ParsedHost(match["host"], match["port"])


def _is_ipv6(text: str) -> bool:
    try:
        ipaddress.IPv6Address(text)
    except ValueError:
        return False
    return True


class URL:
    """A URL, made from a string, a scope or its components; `replace` returns a new one."""

    def __init__(
        self, url: str = "", scope: MutableMapping[str, Any] | None = None, **components: Any
    ) -> None:
        if scope is not None:
            if url:
                raise AssertionError('Cannot set both "url" and "scope".')
            if components:
                raise AssertionError('Cannot set both "scope" and "**components".')
            url = _url_of(scope)
        elif components:
            if url:
                raise AssertionError('Cannot set both "url" and "**components".')
            url = URL("").replace(**components).components.geturl()
        self._url = url

    @cached_property
    def components(self) -> SplitResult:
        """The parts of the URL, as `urllib.parse.urlsplit` returns them."""
        return urlsplit(self._url)

    @property
    def scheme(self) -> str:
        """What precedes `://`, such as `wss`."""
        return self.components.scheme

    @property
    def netloc(self) -> str:
        """The host with its port and credentials, if the URL has them."""
        return self.components.netloc

    @property
    def path(self) -> str:
        """The path, without the query."""
        return self.components.path

    @property
    def query(self) -> str:
        """What follows `?`, without the question mark."""
        return self.components.query

    @property
    def fragment(self) -> str:
        """What follows `#`, without the number sign."""
        return self.components.fragment

    @property
    def username(self) -> str | None:
        """The user name before the host; None if there is none."""
        return self.components.username

    @property
    def password(self) -> str | None:
        """The password before the host; None if there is none."""
        return self.components.password

    @property
    def hostname(self) -> str | None:
        """The host in lower case, without the port; None for a relative URL."""
        return self.components.hostname

    @property
    def port(self) -> int | None:
        """The number of the port; None if the URL does not name one."""
        return self.components.port

    @property
    def is_secure(self) -> bool:
        """Whether the scheme is `https` or `wss`."""
        return self.scheme in ("https", "wss")

    def replace(self, **kwargs: Any) -> URL:
        """A copy with other components, including `hostname`, `port`, `username` and `password`."""
        if not kwargs.keys().isdisjoint(("username", "password", "hostname", "port")):
            kwargs["netloc"] = self._netloc(
                kwargs.pop("hostname", None),
                kwargs.pop("port", self.port),
                kwargs.pop("username", self.username),
                kwargs.pop("password", self.password),
            )
        return type(self)(self.components._replace(**kwargs).geturl())

    def _netloc(self, hostname: str | None, port: Any, username: Any, password: Any) -> str:
        netloc = self._raw_hostname() if hostname is None else _bracketed(hostname)
        if port is not None:
            netloc += f":{port}"
        if username is None:
            return netloc
        return f"{username}@{netloc}" if password is None else f"{username}:{password}@{netloc}"

    def _raw_hostname(self) -> str:
        # Unlike `hostname`, this keeps the letter case and the brackets.
        host = self.netloc.rpartition("@")[2]
        return host if host.endswith("]") else host.rsplit(":", 1)[0]

    def include_query_params(self, **kwargs: Any) -> URL:
        """Return the URL with parameters added to the query, or replaced in it."""
        params = self._params()
        params.update({name: str(value) for name, value in kwargs.items()})
        return self.replace(query=urlencode(params.multi_items()))

    def replace_query_params(self, **kwargs: Any) -> URL:
        """Return the URL with these parameters as its whole query."""
        return self.replace(query=urlencode([(name, str(value)) for name, value in kwargs.items()]))

    def remove_query_params(self, keys: str | Sequence[str]) -> URL:
        """Return the URL without these parameters in the query."""
        params = self._params()
        for key in [keys] if isinstance(keys, str) else keys:
            params.pop(key)
        return self.replace(query=urlencode(params.multi_items()))

    def _params(self) -> MultiDict:
        return MultiDict(parse_qsl(self.query, keep_blank_values=True))

    def __eq__(self, other: object) -> bool:
        return str(self) == str(other)

    def __str__(self) -> str:
        return self._url

    def __sentry_repr__(self) -> str:
        return repr(self.replace(query="", fragment=""))

    def __repr__(self) -> str:
        shown = self.replace(password="********") if self.password else self
        return f"{type(self).__name__}({str(shown)!r})"


def _url_of(scope: MutableMapping[str, Any]) -> str:
    netloc = _host_of(scope)
    path = scope["path"].replace("?", "%3F").replace("#", "%23").replace("\\", "%5C")
    query = scope.get("query_string", b"").decode()
    if netloc is not None:
        return SplitResult(scope.get("scheme", "http"), netloc, path, query, "").geturl()
    path = _relative(path)
    return f"{path}?{query}" if query else path


def _host_of(scope: MutableMapping[str, Any]) -> str | None:
    for name, value in scope["headers"]:
        if name == b"host":
            parsed = parse_host_header(value.decode("latin-1"))
            if parsed is not None and parsed.is_valid_port:
                return parsed.authority
            break
    if scope.get("server") is None:
        return None
    host, port = scope["server"]
    if ":" in host and not host.startswith("["):
        host = f"[{host}]"
    return host if port == DEFAULT_PORTS[scope.get("scheme", "http")] else f"{host}:{port}"


def _bracketed(hostname: str) -> str:
    if ":" in hostname and not hostname.startswith("[") and _is_ipv6(hostname):
        return f"[{hostname}]"
    return hostname


def _relative(path: str) -> str:
    # Without a host, what follows a leading `//` would be parsed as the host.
    return "/%2F" + path[2:] if path.startswith("//") else path


class URLPath(str):
    """The path of a named route, with the protocol and the host of the route."""

    def __new__(cls, path: str, protocol: Literal["http", "websocket", ""] = "", host: str = "") -> URLPath:
        assert protocol in ("http", "websocket", "")
        return str.__new__(cls, _relative(path.replace("\\", "%5C")))

    def __init__(self, path: str, protocol: Literal["http", "websocket", ""] = "", host: str = "") -> None:
        #: "http" or "websocket"; empty if it is unknown.
        self.protocol = protocol
        #: The host of the route; empty if it has none of its own.
        self.host = host

    def make_absolute_url(self, base_url: str | URL) -> URL:
        """The full URL below `base_url`. A socket gets `ws`, or `wss` if `base_url` is secure."""
        base = URL(base_url) if isinstance(base_url, str) else base_url
        schemes = {"http": ("http", "https"), "websocket": ("ws", "wss")}
        scheme = schemes[self.protocol][base.is_secure] if self.protocol else base.scheme
        return URL(scheme=scheme, netloc=self.host or base.netloc, path=base.path.rstrip("/") + str(self))
