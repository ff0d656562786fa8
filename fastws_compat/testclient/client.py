"""A client for tests that runs an application in process: no server, no port, no async test."""

from __future__ import annotations

import base64
import http.client
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, MutableMapping, Sequence
from contextlib import AbstractContextManager, ExitStack
from email.message import Message as MimeHeaders
from http.cookiejar import Cookie, CookieJar
from http.cookies import Morsel, SimpleCookie
from inspect import isclass
from typing import TYPE_CHECKING, Any, Literal, NoReturn, Self, TypeVar, cast
from urllib.parse import SplitResult, parse_qs, quote, unquote, urlencode, urljoin, urlsplit
from urllib.request import Request

from asgiref.compatibility import guarantee_single_callable

from fastws_compat.connections.states import RAISE_EXCEPTIONS
from fastws_compat.datastructures import Headers
from fastws_compat.porting import foreign
from fastws_compat.testclient.portal import GRACE, Conversation, Portal, in_sync_thread, open_portal, use
from fastws_compat.types import ASGIApp, Message, Receive, Scope, Send
from fastws_compat.websockets import WebSocketDisconnect

if TYPE_CHECKING:
    from django.contrib.auth.models import AbstractBaseUser
    from django.test import Client


# A `SimpleCookie` is a mapping to morsels; httpx's `Cookies` have a jar.
CookieTypes = Mapping[str, str] | Mapping[str, Morsel[str]] | Iterable[tuple[str, str]] | CookieJar
ParamTypes = Mapping[str, Any] | Iterable[tuple[str, Any]] | str
Mode = Literal["text", "binary"]
T = TypeVar("T")

PORTS = {"ws": 80, "wss": 443}
# https://url.spec.whatwg.org/#percent-encoded-bytes; an escape that is already there stays.
PRINTABLE = {chr(code) for code in range(0x20, 0x7F)}
QUERY_SAFE = "".join(PRINTABLE - set(' "#<>'))
PATH_SAFE = "".join(PRINTABLE - set(' "#<>?`{}'))
DEFAULT_HEADERS = {"accept": "*/*", "accept-encoding": "gzip, deflate", "connection": "keep-alive"}
INTERRUPTIONS = (KeyboardInterrupt, SystemExit)
HTTP_VERBS = {"get", "options", "head", "post", "put", "patch", "delete", "request", "stream"}


class WebSocketDenialResponse(WebSocketDisconnect):
    """The handshake was refused with an HTTP response, which this exception holds."""

    def __init__(
        self,
        status_code: int,
        *,
        headers: Iterable[tuple[bytes, bytes]] = (),
        content: bytes = b"",
    ) -> None:
        super().__init__(code=1006)  # what a browser reports for it
        self.status_code = status_code
        self.headers = Headers(raw=[(name.lower(), value) for name, value in headers])
        self.content = content

    @property
    def reason_phrase(self) -> str:
        return http.client.responses.get(self.status_code, "")

    @property
    def is_success(self) -> bool:
        return 200 <= self.status_code < 300

    @property
    def is_error(self) -> bool:
        return 400 <= self.status_code < 600

    @property
    def text(self) -> str:
        mime = MimeHeaders()
        mime["content-type"] = self.headers.get("content-type", "")
        return self.content.decode(mime.get_content_charset("utf-8"), errors="replace")

    @property
    def cookies(self) -> dict[str, str]:
        jar = SimpleCookie()
        for value in self.headers.getlist("set-cookie"):
            jar.load(value)
        return {name: morsel.value for name, morsel in jar.items()}

    def json(self) -> Any:
        return json.loads(self.content)

    def __str__(self) -> str:
        return f"{self.status_code} {self.reason_phrase}"


class WebSocketTestSession:
    """The client's end of one connection, open inside `with`."""

    def __init__(self, client: TestClient, scope: Scope, timeout: float | None) -> None:
        self.app = client.app
        self.scope = scope
        self.accepted_subprotocol: str | None = None
        self.extra_headers: list[tuple[bytes, bytes]] | None = None
        self._open_portal = client._open_portal
        self._grace = client.grace
        self._timeout = timeout
        self._accepted = False
        self._opened: Conversation | None = None

    @property
    def _conversation(self) -> Conversation:
        if self._opened is None:
            raise RuntimeError("Open the connection first: `with client.websocket_connect(...) as socket:`.")
        return self._opened

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            portal = stack.enter_context(self._open_portal())
            self._accepted = False
            self._opened = Conversation(portal, self.app, self.scope)
            stack.push(self._end)
            self.send({"type": "websocket.connect"})
            answer = self._get("answer to the handshake", None)
            self._raise_on_close(answer)
            self._accepted = True
            self.accepted_subprotocol = answer.get("subprotocol")
            self.extra_headers = answer.get("headers")
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *exc_info: Any) -> None:
        self._stack.__exit__(*exc_info)

    def _end(self, kind: object, exc: BaseException | None, traceback: object) -> None:
        conversation = self._conversation
        ended_itself = conversation.ended
        grace = self._farewell(exc)
        in_time = conversation.finish(grace)
        own = conversation.exception
        if own is None and not in_time and (exc is None or isinstance(exc, WebSocketDisconnect)):
            raise _overtime(conversation, grace)
        if own is None or own is exc or isinstance(exc, INTERRUPTIONS):
            return
        if exc is not None and not ended_itself and foreign.means(own, WebSocketDisconnect):
            return  # the test's failure says more than how the application took our hanging up
        raise own

    def _farewell(self, exc: BaseException | None) -> float:
        """Hang up; how many seconds the application may then take to end."""
        if isinstance(exc, INTERRUPTIONS):
            return 0
        if not self._accepted:
            return self._grace if isinstance(exc, WebSocketDisconnect) else 0
        self._conversation.put(_disconnect(1000))
        self._conversation.settle()
        return self._grace if self._conversation.is_over else 0

    def send(self, message: Message) -> None:
        """Send an ASGI message to the application; its own exception if it has died."""
        if self._conversation.exception is not None:
            raise self._conversation.exception
        self._conversation.put(message)

    def send_text(self, data: str) -> None:
        self.send({"type": "websocket.receive", "text": data})

    def send_bytes(self, data: bytes) -> None:
        self.send({"type": "websocket.receive", "bytes": data})

    def send_json(self, data: Any, mode: Mode = "text") -> None:
        text = json.dumps(data, separators=(",", ":"), ensure_ascii=False)
        if mode == "text":
            self.send_text(text)
        else:
            self.send_bytes(text.encode())

    def close(self, code: int = 1000, reason: str | None = None) -> None:
        """Hang up with a code; the application's `receive` raises or returns it."""
        self.send(_disconnect(code, reason))

    def receive(self, *, timeout: float | None = None) -> Message:
        """The next ASGI message of the application; TimeoutError after `timeout` or the client's seconds."""
        return self._get("message", timeout)

    def receive_text(self, *, timeout: float | None = None) -> str:
        return cast(str, self._receive_frame(timeout)["text"])

    def receive_bytes(self, *, timeout: float | None = None) -> bytes:
        return cast(bytes, self._receive_frame(timeout)["bytes"])

    def receive_json(self, mode: Mode = "text", *, timeout: float | None = None) -> Any:
        message = self._receive_frame(timeout)
        return json.loads(message["text"] if mode == "text" else message["bytes"].decode())

    def _receive_frame(self, timeout: float | None) -> Message:
        message = self.receive(timeout=timeout)
        self._raise_on_close(message)
        return message

    def _get(self, expected: str, timeout: float | None) -> Message:
        conversation = self._conversation
        message = conversation.get(expected, self._timeout if timeout is None else timeout)
        if message is None:
            raise RuntimeError(f"{conversation} has returned, so no {expected} can come from it.")
        return message

    def _raise_on_close(self, message: Message) -> None:
        if message["type"] == "websocket.close":
            raise WebSocketDisconnect(code=message.get("code", 1000), reason=message.get("reason", ""))
        if message["type"] == "websocket.http.response.start":
            raise WebSocketDenialResponse(
                status_code=message["status"], headers=message.get("headers", ()), content=self._read_body()
            )

    def _read_body(self) -> bytes:
        body: list[bytes] = []
        more = True
        while more:
            message = self._get("rest of the denial response", None)
            body.append(message.get("body", b""))
            more = message.get("more_body", False)
        return b"".join(body)


def _single_callable(app: Any) -> ASGIApp:
    """An application of ASGI 2 as one of ASGI 3; a class that is awaited, as WebSocketEndpoint, is one."""
    if isclass(app) and hasattr(app, "__await__"):
        make: Any = app

        async def call(scope: Scope, receive: Receive, send: Send) -> None:
            await make(scope, receive, send)

        return call
    return cast(ASGIApp, guarantee_single_callable(app))  # type: ignore[no-untyped-call]


def _overtime(conversation: Conversation, grace: float) -> TimeoutError:
    return TimeoutError(
        f"{conversation} was still at work {grace:g} s after its connection had ended, and was cancelled; "
        "TestClient(grace=...) gives it longer."
    )


def _disconnect(code: int, reason: str | None = None) -> Message:
    return {"type": "websocket.disconnect", "code": code, "reason": reason}


class ClientHeaders(MutableMapping[str, str]):
    """The headers that a client sends with every handshake, by names without case."""

    def __init__(self, headers: Mapping[str, str]) -> None:
        self._values = {name.lower(): value for name, value in headers.items()}

    def __getitem__(self, name: str) -> str:
        return self._values[name.lower()]

    def __setitem__(self, name: str, value: str) -> None:
        self._values[name.lower()] = value

    def __delitem__(self, name: str) -> None:
        del self._values[name.lower()]

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self._values!r})"


class Cookies(dict[str, str]):
    """The cookies that a client sends with every handshake."""

    def __init__(self, cookies: CookieTypes = ()) -> None:
        super().__init__()
        self.update(cookies)

    def __setitem__(self, name: str, value: str | Morsel[str]) -> None:
        text = value.coded_value if isinstance(value, Morsel) else value
        if not isinstance(text, str):
            raise TypeError(f"The cookie {name!r} is {value!r}: give a str or a Morsel.")
        super().__setitem__(name, text)

    def update(self, cookies: CookieTypes = ()) -> None:  # type: ignore[override]
        for name, value in _cookie_pairs(cookies, "http://testserver/"):
            self[name] = value

    def set(self, name: str, value: str) -> None:
        self[name] = value

    def delete(self, name: str) -> None:
        self.pop(name, None)


class TestClient:
    """Opens WebSocket connections to an ASGI application; as a context manager it runs the lifespan too.

    A wait for the application ends after `timeout` seconds (None: never) in a TimeoutError.
    An application that knows its connection to be over has `grace` seconds to finish its work; one that is
    still at work then is cancelled, and leaving the connection raises TimeoutError.
    With `raise_server_exceptions=False` this library's applications close with 1011 as on a server.
    `follow_redirects` and `base_url` are for HTTP: as in Starlette, a socket's URL is relative to ws://testserver.
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
        grace: float = GRACE,
    ) -> None:
        if backend != "asyncio" or backend_options:
            raise ValueError("TestClient runs on asyncio alone: leave out backend and backend_options.")
        self.app: ASGIApp = _single_callable(app)
        self.app_state: dict[str, Any] = {}
        self.base_url = base_url
        self.raise_server_exceptions = raise_server_exceptions
        self.root_path = root_path
        self.follow_redirects = follow_redirects
        self.client = client
        self.timeout = timeout
        self.grace = grace
        self.headers = headers or {}
        self.cookies = cookies or {}
        self._portal: Portal | None = None

    @property
    def headers(self) -> ClientHeaders:
        return self._headers

    @headers.setter
    def headers(self, headers: Mapping[str, str]) -> None:
        own = ClientHeaders(headers)
        own.setdefault("user-agent", "testclient")
        self._headers = ClientHeaders(dict(_merged(DEFAULT_HEADERS, own)))

    @property
    def cookies(self) -> Cookies:
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
        if target.scheme not in PORTS:
            raise ValueError(f"A WebSocket URL begins with ws:// or wss://, or is relative, not {url!r}.")
        if params is not None:
            target = target._replace(query=_encode_params(params))
        handshake = [
            *self._handshake_headers(target, subprotocols, headers or {}),
            *self._cookie_header(headers or {}, _cookie_pairs(cookies or {}, _http_url(target))),
        ]
        if (auth := auth or _userinfo(target)) is not None:
            handshake = _merged(handshake, {"authorization": _basic(*auth)})
        scope = self._scope(target, handshake)
        return WebSocketTestSession(self, scope, self.timeout if timeout is None else timeout)

    def _handshake_headers(
        self, target: SplitResult, subprotocols: Sequence[str] | None, headers: Mapping[str, str]
    ) -> list[tuple[str, str]]:
        own = dict(headers)
        own.setdefault("connection", "upgrade")
        own.setdefault("sec-websocket-key", "testserver==")
        own.setdefault("sec-websocket-version", "13")
        if subprotocols is not None:
            own.setdefault("sec-websocket-protocol", ", ".join(subprotocols))
        merged = _merged(self.headers, own)
        has_host = any(name == "host" for name, _ in merged)
        return merged if has_host else [("host", _netloc(target)), *merged]

    def _cookie_header(
        self, headers: Mapping[str, str], cookies: Iterable[tuple[str, str]]
    ) -> list[tuple[str, str]]:
        jar = {**self.cookies, **Cookies(cookies)}
        if not jar or "cookie" in self.headers or any(name.lower() == "cookie" for name in headers):
            return []
        return [("cookie", "; ".join(f"{name}={value}" for name, value in jar.items()))]

    def _scope(self, target: SplitResult, headers: list[tuple[str, str]]) -> Scope:
        path = quote(_without_dots(target.path), safe=PATH_SAFE) or "/"
        offered = next((value for name, value in headers if name == "sec-websocket-protocol"), None)
        return {
            "type": "websocket",
            "path": unquote(unquote(path)),  # Starlette's client decodes twice too
            "raw_path": path.encode("ascii"),
            "root_path": self.root_path,
            "scheme": target.scheme,
            "query_string": quote(target.query, safe=QUERY_SAFE).encode("ascii"),
            "headers": [(name.encode("ascii"), value.encode("ascii")) for name, value in headers],
            "client": self.client,
            "server": [_host(target), target.port or PORTS[target.scheme]],
            "subprotocols": [] if offered is None else [name.strip() for name in offered.split(",")],
            "state": self.app_state.copy(),
            "extensions": {"websocket.http.response": {}},
            RAISE_EXCEPTIONS: self.raise_server_exceptions,
        }

    def _open_portal(self) -> AbstractContextManager[Portal]:
        return open_portal() if self._portal is None else use(self._portal)

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            portal = stack.enter_context(open_portal())
            lifespan = Conversation(portal, self.app, {"type": "lifespan", "state": self.app_state})
            stack.callback(lifespan.finish, self.grace)
            self._tell(lifespan, "startup")
            stack.callback(self._tell, lifespan, "shutdown")
            self._portal = portal
            stack.callback(setattr, self, "_portal", None)
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._stack.close()

    def _tell(self, lifespan: Conversation, event: str) -> None:
        """Send a lifespan event; an application that returns instead of answering has no lifespan."""
        lifespan.put({"type": f"lifespan.{event}"})
        answer = lifespan.get(f"answer to lifespan.{event}", self.timeout)
        if answer is not None and answer["type"] == f"lifespan.{event}.failed":
            lifespan.get("exception", self.timeout)
            raise RuntimeError(f"The application's lifespan failed at {event}: {answer.get('message', '')}")

    def force_login(self, user: AbstractBaseUser, backend: str | None = None) -> None:
        """Django's: connections made from now on belong to the session of this user."""
        self._as_django(lambda django: django.force_login(user, backend))

    def login(self, **credentials: Any) -> bool:
        """Django's: log in with credentials; False if they are wrong."""
        return self._as_django(lambda django: django.login(**credentials))

    def logout(self) -> None:
        """Django's: end the session and forget its cookie."""
        self._as_django(lambda django: django.logout())

    def _as_django(self, act: Callable[[Client], T]) -> T:
        """Use a `django.test.Client` with the same session cookie, which is taken over afterwards."""
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
        if name in HTTP_VERBS:
            raise AttributeError(f"TestClient has no {name}: HTTP stays with Django, use django.test.Client.")
        raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")


def _merged(
    base: Mapping[str, str] | Sequence[tuple[str, str]], own: Mapping[str, str]
) -> list[tuple[str, str]]:
    """The headers of `base` that `own` does not replace, then those of `own`."""
    names = {name.lower() for name in own}
    pairs = base.items() if isinstance(base, Mapping) else base
    kept = [(name, value) for name, value in pairs if name not in names]
    return [*kept, *((name.lower(), value) for name, value in own.items())]


def _cookie_pairs(cookies: Any, url: str) -> Iterable[tuple[str, Any]]:
    """The names and values of cookies in any form; of a jar those that belong to `url`."""
    jar = getattr(cookies, "jar", cookies)
    if isinstance(jar, CookieJar):
        return [(cookie.name, cookie.value) for cookie in jar if _belongs(cookie, url)]
    if isinstance(cookies, str | bytes):
        raise TypeError("cookies= takes a mapping, pairs, a SimpleCookie or a cookie jar, no text.")
    return cookies.items() if isinstance(cookies, Mapping) else cookies


def _belongs(cookie: Cookie, url: str) -> bool:
    """Whether a client would send `cookie` to `url`: domain, path, age and `secure` fit."""
    jar, request = CookieJar(), Request(url)
    jar.set_cookie(cookie)
    jar.add_cookie_header(request)
    return request.has_header("Cookie")


def _http_url(target: SplitResult) -> str:
    return target._replace(scheme="https" if target.scheme == "wss" else "http").geturl()


def _host(target: SplitResult) -> str:
    return (target.hostname or "").encode("idna").decode("ascii")


def _netloc(target: SplitResult) -> str:
    """The value of the Host header: without user, and without the scheme's own port."""
    host = _host(target)
    host = f"[{host}]" if ":" in host else host
    return host if target.port in (None, PORTS[target.scheme]) else f"{host}:{target.port}"


def _without_dots(path: str) -> str:
    """The path without its "." and ".." segments (RFC 3986, 5.2.4)."""
    kept: list[str] = []
    for segment in path.split("/"):
        if segment == ".." and kept not in ([], [""]):
            kept.pop()
        elif segment not in (".", ".."):
            kept.append(segment)
    return "/".join(kept)


def _encode_params(params: ParamTypes) -> str:
    if isinstance(params, str):
        values: dict[str, list[Any]] = dict(parse_qs(params, keep_blank_values=True))
    else:
        values = {}
        for name, value in params.items() if isinstance(params, Mapping) else params:
            values.setdefault(name, []).extend(value if isinstance(value, (list, tuple)) else [value])
    return urlencode([(name, _as_text(value)) for name, items in values.items() for value in items])


def _as_text(value: Any) -> str:
    """As a query parameter: `true` and `false` as in JSON, None as nothing."""
    if isinstance(value, bool):
        return "true" if value else "false"
    return "" if value is None else str(value)


def _userinfo(target: SplitResult) -> tuple[str, str] | None:
    if not (target.username or target.password):
        return None
    return unquote(target.username or ""), unquote(target.password or "")


def _basic(user: str, password: str) -> str:
    return "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode("ascii")
