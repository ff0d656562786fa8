"""A client for tests that runs an application in process: no server, no port, no async test."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack
from inspect import isclass
from typing import TYPE_CHECKING, Any, NoReturn, Self, TypeVar, cast
from urllib.parse import SplitResult, quote, unquote, urljoin, urlsplit

from asgiref.compatibility import guarantee_single_callable

from fastws_compat.connections.states import RAISE_EXCEPTIONS
from fastws_compat.testclient import urls
from fastws_compat.testclient.conversation import DEFAULT_GRACE, Conversation
from fastws_compat.testclient.headers import (
    ClientHeaders,
    Cookies,
    CookieTypes,
    HeaderTypes,
    cookie_pairs,
    header_pairs,
    merged,
)
from fastws_compat.testclient.portal import Portal, in_sync_thread, keep_open, open_portal
from fastws_compat.testclient.session import WebSocketTestSession
from fastws_compat.testclient.urls import ParamTypes
from fastws_compat.types import ASGIApp, Receive, Scope, Send

if TYPE_CHECKING:
    from django.contrib.auth.models import AbstractBaseUser
    from django.test import Client

T = TypeVar("T")

DEFAULT_HEADERS = {"accept": "*/*", "accept-encoding": "gzip, deflate", "connection": "keep-alive"}
HTTP_METHODS = {"get", "options", "head", "post", "put", "patch", "delete", "request", "stream"}


class TestClient:
    """Opens WebSocket connections to an ASGI application; as a context manager it runs the lifespan too.

    Waiting for the application raises TimeoutError after `timeout` seconds (None for no timeout).
    After the end of its connection an application has `grace` seconds to finish; if it is still running then,
    it is cancelled and leaving the connection raises TimeoutError.
    With `raise_server_exceptions=False` this library's applications close with 1011, as on a server.
    `follow_redirects` and `base_url` affect HTTP only: as in Starlette, the URL of a socket is relative to
    ws://testserver.
    """

    __test__ = False

    def __init__(
        self,
        app: ASGIApp,
        base_url: str = "http://testserver",
        raise_server_exceptions: bool = True,
        root_path: str = "",
        backend: str = "asyncio",
        backend_options: Mapping[str, Any] | None = None,
        cookies: CookieTypes | None = None,
        headers: Mapping[str, str] | None = None,
        follow_redirects: bool = True,
        client: tuple[str, int] = ("testclient", 50000),
        *,
        timeout: float | None = 10,
        grace: float = DEFAULT_GRACE,
    ) -> None:
        if backend != "asyncio" or backend_options:
            raise ValueError("TestClient supports only asyncio: leave out backend and backend_options.")
        #: The application under test.
        self.app: ASGIApp = _single_callable(app)
        #: The state that the lifespan has set.
        self.app_state: dict[str, Any] = {}
        #: The URL of the application, for HTTP only.
        self.base_url = base_url
        #: Whether an exception of the endpoint is raised in the test.
        self.raise_server_exceptions = raise_server_exceptions
        #: The path below which the application is served.
        self.root_path = root_path
        #: Accepted for Starlette's sake; it has no effect on sockets.
        self.follow_redirects = follow_redirects
        #: The host and port of the client in the scope.
        self.client = client
        #: Seconds until waiting for the application raises TimeoutError.
        self.timeout = timeout
        #: Seconds that an endpoint may work on after its connection has ended.
        self.grace = grace
        self.headers = headers
        self.cookies = cookies or {}
        #: Calls functions in the application's event loop; None outside of `with`.
        self.portal: Portal | None = None

    @property
    def headers(self) -> ClientHeaders:
        """Headers that are sent with every handshake."""
        return self._headers

    @headers.setter
    def headers(self, headers: HeaderTypes | None) -> None:
        own = ClientHeaders(headers)
        own.setdefault("user-agent", "testclient")
        self._headers = ClientHeaders(merged(DEFAULT_HEADERS, own))

    @property
    def cookies(self) -> Cookies:
        """The cookie jar that all connections of the client share."""
        return self._cookies

    @cookies.setter
    def cookies(self, cookies: CookieTypes) -> None:
        self._cookies = Cookies(cookies)

    def websocket_connect(
        self,
        url: str,
        subprotocols: Sequence[str] | None = None,
        *,
        params: ParamTypes | None = None,
        headers: Mapping[str, str] | None = None,
        cookies: CookieTypes | None = None,
        auth: tuple[str, str] | None = None,
        timeout: float | None = None,
    ) -> WebSocketTestSession:
        """A session that connects when entered: `with client.websocket_connect("/ws") as websocket:`."""
        target = urlsplit(urljoin("ws://testserver", url))
        if target.scheme not in urls.PORTS:
            raise ValueError(f"A WebSocket URL must begin with ws:// or wss:// or be relative, not {url!r}.")
        if params is not None:
            target = target._replace(query=urls.encode_params(params))
        handshake = [
            *self._handshake_headers(target, subprotocols, headers or {}),
            *self._cookie_header(headers or {}, cookie_pairs(cookies or {}, urls.http_url(target))),
        ]
        if (auth := auth or urls.userinfo(target)) is not None:
            handshake = merged(handshake, {"authorization": urls.basic_auth(*auth)})
        return WebSocketTestSession(
            self.app,
            self._scope(target, handshake),
            self._open_portal,
            timeout=self.timeout if timeout is None else timeout,
            grace=self.grace,
        )

    def _handshake_headers(
        self, target: SplitResult, subprotocols: Sequence[str] | None, headers: Mapping[str, str]
    ) -> list[tuple[str, str]]:
        defaults = {
            "connection": "upgrade",
            "sec-websocket-key": "testserver==",
            "sec-websocket-version": "13",
        }
        if subprotocols is not None:
            defaults["sec-websocket-protocol"] = ", ".join(subprotocols)
        missing = [pair for pair in defaults.items() if pair[0] not in dict(headers)]
        headers_sent = merged(self.headers, [*header_pairs(headers), *missing])
        has_host = any(name == "host" for name, _ in headers_sent)
        return headers_sent if has_host else [("host", urls.host_header(target)), *headers_sent]

    def _cookie_header(
        self, headers: Mapping[str, str], cookies: Iterable[tuple[str, str]]
    ) -> list[tuple[str, str]]:
        jar = {**self.cookies, **Cookies(cookies)}
        if not jar or "cookie" in self.headers or any(name.lower() == "cookie" for name in headers):
            return []
        return [("cookie", "; ".join(f"{name}={value}" for name, value in jar.items()))]

    def _scope(self, target: SplitResult, headers: list[tuple[str, str]]) -> Scope:
        path = quote(urls.without_dots(target.path), safe=urls.PATH_SAFE) or "/"
        offered = next((value for name, value in headers if name == "sec-websocket-protocol"), None)
        return {
            "type": "websocket",
            "path": unquote(unquote(path)),  # Starlette's client decodes twice too
            "raw_path": path.encode("ascii"),
            "root_path": self.root_path,
            "scheme": target.scheme,
            "query_string": quote(target.query, safe=urls.QUERY_SAFE).encode("ascii"),
            "headers": [(name.encode("ascii"), value.encode("ascii")) for name, value in headers],
            "client": self.client,
            "server": [urls.host_of(target), target.port or urls.PORTS[target.scheme]],
            "subprotocols": [] if offered is None else [name.strip() for name in offered.split(",")],
            "state": self.app_state.copy(),
            "extensions": {"websocket.http.response": {}},
            RAISE_EXCEPTIONS: self.raise_server_exceptions,
        }

    def _open_portal(self) -> AbstractContextManager[Portal]:
        return open_portal() if self.portal is None else keep_open(self.portal)

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            portal = stack.enter_context(open_portal())
            lifespan = Conversation(portal, self.app, {"type": "lifespan", "state": self.app_state})
            stack.callback(lifespan.finish, self.grace)
            self._run_event(lifespan, "startup")
            stack.callback(self._run_event, lifespan, "shutdown")
            self.portal = portal
            stack.callback(setattr, self, "portal", None)
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._stack.close()

    def _run_event(self, lifespan: Conversation, event: str) -> None:
        """Send a lifespan event; an application that returns without answering has no lifespan."""
        lifespan.put({"type": f"lifespan.{event}"})
        answer = lifespan.get(f"response to lifespan.{event}", self.timeout)
        if answer is not None and answer["type"] == f"lifespan.{event}.failed":
            lifespan.get("exception", self.timeout)
            raise RuntimeError(f"The application's lifespan failed at {event}: {answer.get('message', '')}")

    def force_login(self, user: AbstractBaseUser, backend: str | None = None) -> None:
        """Log in as Django's test client does: later connections belong to this user's session."""
        self._as_django(lambda django: django.force_login(user, backend))

    def login(self, **credentials: Any) -> bool:
        """Log in with credentials as Django's test client does; False if they are wrong."""
        return self._as_django(lambda django: django.login(**credentials))

    def logout(self) -> None:
        """Log out as Django's test client does: end the session and delete its cookie."""
        self._as_django(lambda django: django.logout())

    def _as_django(self, act: Callable[[Client], T]) -> T:
        """Call `act` with a `django.test.Client` that has the same session cookie, and adopt its new one."""
        from django.conf import settings
        from django.test import Client

        django, name = Client(), settings.SESSION_COOKIE_NAME
        if name in self.cookies:
            django.cookies[name] = self.cookies[name]
        result = in_sync_thread(lambda: act(django))
        self.cookies.delete(name)
        if name in django.cookies:
            self.cookies.set(name, django.cookies[name].value)
        return result

    def __getattr__(self, name: str) -> NoReturn:
        if name in HTTP_METHODS:
            raise AttributeError(f"TestClient has no {name}: Django serves HTTP, so use django.test.Client.")
        raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")


def _single_callable(app: Any) -> ASGIApp:
    """The application as ASGI 3, which includes awaitable classes such as WebSocketEndpoint."""
    if isclass(app) and hasattr(app, "__await__"):
        make: Any = app

        async def call(scope: Scope, receive: Receive, send: Send) -> None:
            await make(scope, receive, send)

        return call
    return cast(ASGIApp, guarantee_single_callable(app))  # type: ignore[no-untyped-call]
