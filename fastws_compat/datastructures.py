"""What a connection's scope is read with: URLs, headers, multi-dicts, state. Behaves as Starlette's does."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import (
    Callable,
    ItemsView,
    Iterable,
    Iterator,
    KeysView,
    Mapping,
    MutableMapping,
    Sequence,
    ValuesView,
)
from functools import cached_property
from operator import itemgetter
from typing import Any, BinaryIO, Literal, NamedTuple, TypeVar, cast, overload
from urllib.parse import SplitResult, parse_qsl, urlencode, urlsplit

from pydantic_core import CoreSchema, core_schema

T = TypeVar("T")
K = TypeVar("K")
V = TypeVar("V", covariant=True)

DEFAULT_PORTS = {"http": 80, "https": 443, "ws": 80, "wss": 443}

# RFC 3986, 3.2.2, plus a port. Nothing else may stand in a Host header, or it could change what comes after
# the host in a URL that is built from it.
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
    host: str
    port: int


class ParsedHost(NamedTuple):
    """The two parts of a Host header; an IPv6 host keeps its brackets."""

    host: str
    port: str | None

    @property
    def authority(self) -> str:
        return self.host if self.port is None else f"{self.host}:{self.port}"

    @property
    def is_valid_port(self) -> bool:
        digits = (self.port or "").lstrip("0")
        return len(digits) <= 5 and int(digits or 0) <= 65535


def parse_host_header(host_header: str | None) -> ParsedHost | None:
    """The host and port that a Host header names; None if it is missing or malformed."""
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
    """A URL in parts, made from a string, a scope or the parts; `replace` gives a new one."""

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
        return urlsplit(self._url)

    @property
    def scheme(self) -> str:
        return self.components.scheme

    @property
    def netloc(self) -> str:
        return self.components.netloc

    @property
    def path(self) -> str:
        return self.components.path

    @property
    def query(self) -> str:
        return self.components.query

    @property
    def fragment(self) -> str:
        return self.components.fragment

    @property
    def username(self) -> str | None:
        return self.components.username

    @property
    def password(self) -> str | None:
        return self.components.password

    @property
    def hostname(self) -> str | None:
        return self.components.hostname

    @property
    def port(self) -> int | None:
        return self.components.port

    @property
    def is_secure(self) -> bool:
        return self.scheme in ("https", "wss")

    def replace(self, **kwargs: Any) -> URL:
        """This URL with other components; also `hostname`, `port`, `username` and `password`."""
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
        # Unlike `hostname` with its letters as they were written and its brackets.
        host = self.netloc.rpartition("@")[2]
        return host if host.endswith("]") else host.rsplit(":", 1)[0]

    def include_query_params(self, **kwargs: Any) -> URL:
        params = self._params()
        params.update({name: str(value) for name, value in kwargs.items()})
        return self.replace(query=urlencode(params.multi_items()))

    def replace_query_params(self, **kwargs: Any) -> URL:
        return self.replace(query=urlencode([(name, str(value)) for name, value in kwargs.items()]))

    def remove_query_params(self, keys: str | Sequence[str]) -> URL:
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
    # Without a host before it, what follows a leading `//` would be read as the host.
    return "/%2F" + path[2:] if path.startswith("//") else path


class URLPath(str):
    """The path of a named route, which knows whether it leads to HTTP or a socket, and to which host."""

    def __new__(cls, path: str, protocol: Literal["http", "websocket", ""] = "", host: str = "") -> URLPath:
        assert protocol in ("http", "websocket", "")
        return str.__new__(cls, _relative(path.replace("\\", "%5C")))

    def __init__(self, path: str, protocol: Literal["http", "websocket", ""] = "", host: str = "") -> None:
        self.protocol = protocol
        self.host = host

    def make_absolute_url(self, base_url: str | URL) -> URL:
        """The full URL below `base_url`: `ws` or `wss` for a socket, secure if `base_url` is."""
        base = URL(base_url) if isinstance(base_url, str) else base_url
        schemes = {"http": ("http", "https"), "websocket": ("ws", "wss")}
        scheme = schemes[self.protocol][base.is_secure] if self.protocol else base.scheme
        return URL(scheme=scheme, netloc=self.host or base.netloc, path=base.path.rstrip("/") + str(self))


class ImmutableMultiDict(Mapping[K, V]):
    """A mapping whose keys may come more than once: `[key]` is the last value, `getlist` gives all."""

    _dict: dict[K, V]
    _list: list[tuple[K, V]]

    def __init__(
        self, *args: ImmutableMultiDict[K, V] | Mapping[K, V] | Iterable[tuple[K, V]], **kwargs: Any
    ) -> None:
        if len(args) >= 2:
            raise AssertionError("Too many arguments.")
        self._list = _pairs(args[0] if args else None)
        if kwargs:
            self._list += cast("list[tuple[K, V]]", list(kwargs.items()))
        self._dict = dict(self._list)

    def getlist(self, key: Any) -> list[V]:
        return [value for name, value in self._list if name == key]

    def keys(self) -> KeysView[K]:
        return self._dict.keys()

    def values(self) -> ValuesView[V]:
        return self._dict.values()

    def items(self) -> ItemsView[K, V]:
        return self._dict.items()

    def multi_items(self) -> list[tuple[K, V]]:
        return list(self._list)

    def __getitem__(self, key: K) -> V:
        return self._dict[key]

    def get(self, key: K, default: Any = None) -> Any:
        # Mapping's own `get` asks for the KeyError first.
        return self._dict.get(key, default)

    def __contains__(self, key: object) -> bool:
        return key in self._dict

    def __iter__(self) -> Iterator[K]:
        return iter(self._dict)

    def __len__(self) -> int:
        return len(self._dict)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, type(self)):
            return False
        first = itemgetter(0)
        return sorted(self._list, key=first) == sorted(other._list, key=first)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.multi_items()!r})"


def _pairs(value: Any) -> list[tuple[Any, Any]]:
    if not value:
        return []
    if hasattr(value, "multi_items"):
        return list(value.multi_items())
    return list(value.items() if hasattr(value, "items") else value)


class MultiDict(ImmutableMultiDict[Any, Any]):
    """A multi-dict that can be changed."""

    def __setitem__(self, key: Any, value: Any) -> None:
        self.setlist(key, [value])

    def __delitem__(self, key: Any) -> None:
        self._list = self._without(key)
        del self._dict[key]

    def _without(self, key: Any) -> list[tuple[Any, Any]]:
        return [(name, value) for name, value in self._list if name != key]

    def pop(self, key: Any, default: Any = None) -> Any:
        self._list = self._without(key)
        return self._dict.pop(key, default)

    def popitem(self) -> tuple[Any, Any]:
        key, value = self._dict.popitem()
        self._list = self._without(key)
        return key, value

    def poplist(self, key: Any) -> list[Any]:
        values = self.getlist(key)
        self.pop(key)
        return values

    def clear(self) -> None:
        self._dict.clear()
        self._list.clear()

    def setdefault(self, key: Any, default: Any = None) -> Any:
        if key not in self._dict:
            self.append(key, default)
        return self._dict[key]

    def setlist(self, key: Any, values: list[Any]) -> None:
        if values:
            self._list = [*self._without(key), *((key, value) for value in values)]
            self._dict[key] = values[-1]
        else:
            self.pop(key)

    def append(self, key: Any, value: Any) -> None:
        self._list.append((key, value))
        self._dict[key] = value

    def update(self, *args: MultiDict | Mapping[Any, Any] | list[tuple[Any, Any]], **kwargs: Any) -> None:
        new = MultiDict(*args, **kwargs)
        self._list = [pair for pair in self._list if pair[0] not in new] + new._list
        self._dict.update(new._dict)


class QueryParams(ImmutableMultiDict[str, str]):
    """The query string as a multi-dict of strings."""

    def __init__(
        self,
        *args: ImmutableMultiDict[Any, Any] | Mapping[Any, Any] | list[tuple[Any, Any]] | str | bytes,
        **kwargs: Any,
    ) -> None:
        value = args[0] if len(args) == 1 and not kwargs else None
        if type(value) is bytes or isinstance(value, (str, bytes)):
            self._list = pairs = _parse_query(value)
            self._dict = dict(pairs)
        else:
            self._convert(*args, **kwargs)

    def _convert(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(
            *(_parse_query(arg) if isinstance(arg, (str, bytes)) else arg for arg in args), **kwargs
        )
        self._list = [(str(key), str(value)) for key, value in self._list]
        self._dict = {str(key): str(value) for key, value in self._dict.items()}

    def __str__(self) -> str:
        return urlencode(self._list)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({str(self)!r})"


def _parse_query(query: str | bytes) -> list[tuple[str, str]]:
    if not query:
        return []
    text = query.decode("latin-1") if isinstance(query, bytes) else query
    if "%" in text or "+" in text:
        return parse_qsl(text, keep_blank_values=True)
    # Nothing to decode: a split is all that parse_qsl() would do, in a quarter of its time.
    pairs = []
    for pair in text.split("&"):
        if pair:
            name, _, value = pair.partition("=")
            pairs.append((name, value))
    return pairs


class Headers(Mapping[str, str]):
    """Headers by name in any case; `[name]` is the first value, `getlist` gives all."""

    def __init__(
        self,
        headers: Mapping[str, str] | None = None,
        raw: list[tuple[bytes, bytes]] | None = None,
        scope: MutableMapping[str, Any] | None = None,
    ) -> None:
        self._list: list[tuple[bytes, bytes]]
        if headers is not None:
            if raw is not None:
                raise AssertionError('Cannot set both "headers" and "raw".')
            if scope is not None:
                raise AssertionError('Cannot set both "headers" and "scope".')
            self._list = [(_name(key), value.encode("latin-1")) for key, value in headers.items()]
        elif raw is not None:
            if scope is not None:
                raise AssertionError('Cannot set both "raw" and "scope".')
            self._list = raw
        elif scope is not None:
            # Servers may give any iterable; the list goes back so that every reader sees the same one.
            self._list = scope["headers"] = list(scope["headers"])
        else:
            self._list = []

    @property
    def raw(self) -> list[tuple[bytes, bytes]]:
        return list(self._list)

    def keys(self) -> list[str]:  # type: ignore[override]
        return [name.decode("latin-1") for name, _ in self._list]

    def values(self) -> list[str]:  # type: ignore[override]
        return [value.decode("latin-1") for _, value in self._list]

    def items(self) -> list[tuple[str, str]]:  # type: ignore[override]
        return [(name.decode("latin-1"), value.decode("latin-1")) for name, value in self._list]

    @overload
    def get(self, key: str) -> str | None: ...
    @overload
    def get(self, key: str, default: str) -> str: ...
    @overload
    def get(self, key: str, default: T) -> str | T: ...
    def get(self, key: str, default: Any = None) -> Any:
        # Mapping's own `get` asks for the KeyError first, which is most of its time.
        wanted = key.lower().encode("latin-1")
        for name, value in self._list:
            if name == wanted:
                return value.decode("latin-1")
        return default

    def getlist(self, key: str) -> list[str]:
        wanted = _name(key)
        return [value.decode("latin-1") for name, value in self._list if name == wanted]

    def mutablecopy(self) -> MutableHeaders:
        return MutableHeaders(raw=self._list[:])

    def __getitem__(self, key: str) -> str:
        value = self.get(key)
        if value is None:
            raise KeyError(key)
        return value

    def __contains__(self, key: Any) -> bool:
        return self.get(key) is not None

    def __iter__(self) -> Iterator[str]:
        return iter(self.keys())

    def __len__(self) -> int:
        return len(self._list)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Headers) and sorted(self._list) == sorted(other._list)

    def __repr__(self) -> str:
        unique = dict(self.items())
        shown = f"{unique!r}" if len(unique) == len(self) else f"raw={self.raw!r}"
        return f"{type(self).__name__}({shown})"


class MutableHeaders(Headers):
    """Headers that can be changed; `raw` is the list itself."""

    @property
    def raw(self) -> list[tuple[bytes, bytes]]:
        return self._list

    def __setitem__(self, key: str, value: str) -> None:
        """Give `key` one value, where its first one stood."""
        name, pair = _name(key), (_name(key), value.encode("latin-1"))
        places = self._places(name)
        self._drop(places[1:])
        if places:
            self._list[places[0]] = pair
        else:
            self._list.append(pair)

    def __delitem__(self, key: str) -> None:
        """Remove every value of `key`; a missing one is no error."""
        self._drop(self._places(_name(key)))

    def _places(self, name: bytes) -> list[int]:
        return [place for place, pair in enumerate(self._list) if pair[0] == name]

    def _drop(self, places: list[int]) -> None:
        # In place: a response shares this list.
        for place in reversed(places):
            del self._list[place]

    def __ior__(self, other: Mapping[str, str]) -> MutableHeaders:
        _check_mapping(other)
        self.update(other)
        return self

    def __or__(self, other: Mapping[str, str]) -> MutableHeaders:
        _check_mapping(other)
        new = self.mutablecopy()
        new.update(other)
        return new

    def setdefault(self, key: str, value: str) -> str:
        """The header's value; `value`, which it then has, if it had none."""
        name, raw = _name(key), value.encode("latin-1")
        for other, found in self._list:
            if other == name:
                return found.decode("latin-1")
        self._list.append((name, raw))
        return value

    def update(self, other: Mapping[str, str]) -> None:
        for key, value in other.items():
            self[key] = value

    def append(self, key: str, value: str) -> None:
        """Add a value and keep those that are there."""
        self._list.append((_name(key), value.encode("latin-1")))

    def add_vary_header(self, vary: str) -> None:
        self["vary"] = ", ".join([*self.getlist("vary"), vary])


def _name(key: str) -> bytes:
    return key.lower().encode("latin-1")


def _check_mapping(other: object) -> None:
    if not isinstance(other, Mapping):
        raise TypeError(f"Expected a mapping but got {type(other).__name__}")


class State:
    """A dict with attribute access: `websocket.state`, `app.state`."""

    _state: dict[str, Any]

    def __init__(self, state: dict[str, Any] | None = None) -> None:
        super().__setattr__("_state", {} if state is None else state)

    def __setattr__(self, key: str, value: Any) -> None:
        self._state[key] = value

    def __getattr__(self, key: str) -> Any:
        try:
            return self._state[key]
        except KeyError:
            raise AttributeError(f"'{type(self).__name__}' object has no attribute '{key}'")

    def __delattr__(self, key: str) -> None:
        del self._state[key]

    def __getitem__(self, key: str) -> Any:
        return self._state[key]

    def __setitem__(self, key: str, value: Any) -> None:
        self._state[key] = value

    def __delitem__(self, key: str) -> None:
        del self._state[key]

    def __iter__(self) -> Iterator[str]:
        return iter(self._state)

    def __len__(self) -> int:
        return len(self._state)


class UploadFile:
    """A file of a form. None ever arrives on a socket; here so that annotations and signatures still work."""

    def __init__(
        self,
        file: BinaryIO,
        *,
        size: int | None = None,
        filename: str | None = None,
        headers: Headers | None = None,
    ) -> None:
        self.file = file
        self.size = size
        self.filename = filename
        self.headers = headers or Headers()

    @property
    def content_type(self) -> str | None:
        return self.headers.get("content-type")

    async def write(self, data: bytes) -> None:
        if self.size is not None:
            self.size += len(data)
        self.file.write(data)

    async def read(self, size: int = -1) -> bytes:
        return self.file.read(size)

    async def seek(self, offset: int) -> None:
        self.file.seek(offset)

    async def close(self) -> None:
        self.file.close()

    def __repr__(self) -> str:
        return (
            f"{type(self).__name__}(filename={self.filename!r}, size={self.size!r}, headers={self.headers!r})"
        )

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: Callable[[Any], CoreSchema]) -> CoreSchema:
        return core_schema.no_info_plain_validator_function(_check_upload)

    @classmethod
    def __get_pydantic_json_schema__(cls, schema: CoreSchema, handler: Any) -> dict[str, Any]:
        return {"type": "string", "contentMediaType": "application/octet-stream"}


def _check_upload(value: Any) -> UploadFile:
    if not isinstance(value, UploadFile):
        raise ValueError(f"Expected UploadFile, received: {type(value)}")
    return value


class FormData(ImmutableMultiDict[str, UploadFile | str]):
    """The fields of a form; `close` closes its files."""

    async def close(self) -> None:
        for _, value in self.multi_items():
            if isinstance(value, UploadFile):
                await value.close()


class DefaultPlaceholder:
    """A default that can be told from the same value given by a caller."""

    def __init__(self, value: Any) -> None:
        self.value = value

    def __bool__(self) -> bool:
        return bool(self.value)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, DefaultPlaceholder) and other.value == self.value


def Default(value: T) -> T:
    """`value` as a default that `isinstance(x, DefaultPlaceholder)` recognises."""
    return cast(T, DefaultPlaceholder(value))
