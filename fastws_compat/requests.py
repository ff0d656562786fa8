"""The connection that a handshake opens: each attribute is read from the scope at first use and cached."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, Generic, NoReturn, cast
from urllib.parse import quote

from fastws_compat.connections.states import SESSION
from fastws_compat.datastructures import URL, Address, Headers, QueryParams, State
from fastws_compat.types import Message, Receive, Scope, Send

if TYPE_CHECKING:
    from functools import cached_property as lazy

    from typing_extensions import TypeVar

    StateT = TypeVar("StateT", bound=Mapping[str, Any] | State, default=State)
else:
    from typing import TypeVar

    StateT = TypeVar("StateT")

    class lazy:
        """`functools.cached_property` without the lock that it takes before Python 3.12."""

        def __init__(self, compute):
            self.compute = compute
            self.name = compute.__name__
            self.__doc__ = compute.__doc__

        def __get__(self, connection, owner=None):
            if connection is None:
                return self
            value = self.compute(connection)
            setattr(connection, self.name, value)
            return value


class Cookies(dict[str, str]):
    """The cookies of a handshake by name."""

    def __sentry_repr__(self) -> str:
        return f"<{type(self).__name__}: {len(self)}>"


class CachedAlias:
    """Starlette's private name for a cached attribute; AttributeError until it is computed."""

    def __init__(self, public: str) -> None:
        self.public = public

    def __set_name__(self, owner: type, name: str) -> None:
        self.name = name

    def __get__(self, connection: Any, owner: type | None = None) -> Any:
        if connection is None:
            return self
        try:
            return vars(connection)[self.public]
        except KeyError:
            kind = type(connection).__name__
            raise AttributeError(f"{kind!r} object has no attribute {self.name!r}") from None

    def __set__(self, connection: Any, value: Any) -> None:
        vars(connection)[self.public] = value

    def __delete__(self, connection: Any) -> None:
        self.__get__(connection)
        del vars(connection)[self.public]


class HTTPConnection(Mapping[str, Any], Generic[StateT]):
    """What HTTP and WebSocket connections have in common; also a mapping of its scope.

    Two connections are equal only if they are the same one.
    """

    def __init__(self, scope: Scope, receive: Receive | None = None) -> None:
        if scope["type"] not in ("http", "websocket"):
            raise AssertionError(f"A connection needs a scope of type 'websocket', not {scope['type']!r}")
        #: The scope of the connection.
        self.scope = scope

    def __class_getitem__(cls, item: Any) -> type[HTTPConnection[Any]]:
        # `WebSocket[MyState]` names the type of `state` for a type checker; at run time it is the class.
        return cls

    def __getitem__(self, key: str) -> Any:
        return self.scope[key]

    def __iter__(self) -> Iterator[str]:
        return iter(self.scope)

    def __len__(self) -> int:
        return len(self.scope)

    def __repr__(self) -> str:
        """The route and the id of the connection. Nothing that the client sent appears in logs."""
        route, session = self.scope.get("route"), self.scope.get(SESSION)
        parts = [type(self).__name__, getattr(route, "path", None), getattr(session, "id", None)]
        return f"<{' '.join(filter(None, parts))}>"

    # Sentry would otherwise record every item of the mapping.
    __sentry_repr__ = __repr__

    __eq__ = object.__eq__

    def __hash__(self) -> int:
        return object.__hash__(self)

    # Starlette's private names, which third-party code reads, sets and deletes.
    if TYPE_CHECKING:
        _base_url: URL
        _cookies: dict[str, str]
        _headers: Headers
        _query_params: QueryParams
        _state: StateT
        _url: URL
    else:
        _base_url = CachedAlias("base_url")
        _cookies = CachedAlias("cookies")
        _headers = CachedAlias("headers")
        _query_params = CachedAlias("query_params")
        _state = CachedAlias("state")
        _url = CachedAlias("url")

    @property
    def app(self) -> Any:
        """The application that handles the connection."""
        return self.scope["app"]

    @lazy
    def url(self) -> URL:
        """The URL of the handshake."""
        return URL(scope=self.scope)

    @lazy
    def base_url(self) -> URL:
        """The URL of the outermost app, also inside a mount."""
        root_path = self.scope.get("app_root_path", self.scope.get("root_path", ""))
        path = root_path if root_path.endswith("/") else f"{root_path}/"
        return URL(scope={**self.scope, "path": path, "query_string": b""})

    @lazy
    def headers(self) -> Headers:
        """The headers of the handshake."""
        return Headers(scope=self.scope)

    @lazy
    def query_params(self) -> QueryParams:
        """The parameters of the query string."""
        return QueryParams(self.scope["query_string"])

    @property
    def path_params(self) -> dict[str, Any]:
        """The parameters of the path, converted to their types."""
        params: dict[str, Any] = self.scope.get("path_params", {})
        return params

    @lazy
    def cookies(self) -> dict[str, str]:
        """The cookies of all Cookie headers; HTTP/2 clients may send several."""
        cookies = Cookies()
        for name, value in self.headers._list:
            if name == b"cookie":
                add_cookies(cookies, value.decode("latin-1"))
        return cookies

    @property
    def client(self) -> Address | None:
        """The host and port of the client, or None if the server does not know them."""
        client = self.scope.get("client")
        return None if client is None else Address(*client)

    @property
    def session(self) -> Any:
        """The session that Django or a session middleware has loaded."""
        session = self._of_middleware("session", "SessionMiddleware")
        if hasattr(session, "mark_accessed"):  # Starlette's; its middleware then adds `Vary: Cookie`
            session.mark_accessed()
        return session

    @property
    def auth(self) -> Any:
        """What the authentication middleware has set, such as `AuthCredentials`."""
        return self._of_middleware("auth", "AuthenticationMiddleware")

    @property
    def user(self) -> Any:
        """The user that Django or an authentication middleware has found."""
        return self._of_middleware("user", "AuthenticationMiddleware")

    def _of_middleware(self, name: str, middleware: str) -> Any:
        if name not in self.scope:
            raise AssertionError(f"{middleware} must be installed to access request.{name}")
        return self.scope[name]

    @lazy
    def state(self) -> StateT:
        """State of this connection. It starts as a copy of the state that the lifespan yielded."""
        return cast(StateT, State(self.scope.setdefault("state", {})))

    def url_for(self, name: str, /, **path_params: Any) -> URL:
        """The absolute URL of the route with this name."""
        provider = self.scope.get("router") or self.scope.get("app")
        if provider is None:
            raise RuntimeError(
                "The `url_for` method can only be used inside a Starlette application or with a router."
            )
        return cast(URL, provider.url_path_for(name, **path_params).make_absolute_url(base_url=self.base_url))


def parse_cookie(header: str) -> dict[str, str]:
    """The cookies of one header."""
    return add_cookies({}, header)


def add_cookies(cookies: dict[str, str], header: str) -> dict[str, str]:
    """Add the cookies of a header, parsed as leniently as browsers require. The last one of a name wins.

    Django's parser does the same, but importing it imports half of Django.
    """
    for pair in header.split(";"):
        name, equals, value = pair.partition("=")
        if not equals:  # a bare word is a value without a name, bugzilla.mozilla.org/169091
            name, value = "", name
        name, value = name.strip(), value.strip()
        if name or value:
            cookies[name] = _unquoted(value) if value[:1] == '"' else value
    return cookies


def _unquoted(value: str) -> str:
    from http import cookies  # slow to import, and browsers do not quote values themselves

    return cookies._unquote(value)


async def empty_receive() -> NoReturn:
    raise RuntimeError("Receive channel has not been made available")


async def empty_send(message: Message) -> NoReturn:
    raise RuntimeError("Send channel has not been made available")


class Request(HTTPConnection[StateT]):
    """An HTTP connection, for annotations. It has no body, because Django serves HTTP here."""

    def __init__(self, scope: Scope, receive: Receive = empty_receive, send: Send = empty_send) -> None:
        super().__init__(scope)
        if scope["type"] != "http":
            raise AssertionError(f"A Request needs a scope of type 'http', not {scope['type']!r}")
        self._receive = receive
        self._send = send

    @property
    def method(self) -> str:
        """The HTTP method, in capitals."""
        return cast(str, self.scope["method"])


def with_root_path(root_path: str, scope: Scope) -> Scope:
    """The scope with this root path, which its path starts with (ASGI) even if a proxy has removed it."""
    path: str = scope["path"]
    if path == root_path or path.startswith(f"{root_path}/"):
        return {**scope, "root_path": root_path}
    raw_path = quote(root_path).encode() + (scope.get("raw_path") or quote(path).encode())
    return {**scope, "root_path": root_path, "path": root_path + path, "raw_path": raw_path}


def get_route_path(scope: Scope) -> str:
    """The path below `root_path`, which routes are matched against."""
    path: str = scope["path"]
    root_path: str = scope.get("root_path", "")
    if not root_path:
        return path
    rest = path.removeprefix(root_path)
    # A prefix must end at a segment boundary: "/api" is not a prefix of "/apis".
    return rest if not rest or rest.startswith("/") else path
