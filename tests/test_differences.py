"""Intended differences from FastAPI, as described in docs/porting.md; each test says what FastAPI does."""

import asyncio
import copy
import gc
import inspect
import pickle
import threading
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import suppress
from contextvars import ContextVar
from dataclasses import dataclass
from types import SimpleNamespace
from typing import TYPE_CHECKING, Annotated, Any
from unittest.mock import MagicMock
from weakref import ref

import pytest
from pydantic import BaseModel

import fastws_compat
from fastws_compat import (
    APIRouter,
    BackgroundTasks,
    Body,
    Depends,
    FastAPI,
    File,
    Form,
    Header,
    HTTPException,
    MessageRouter,
    Path,
    Query,
    Request,
    Response,
    TypedWebSocket,
    UploadFile,
    WebSocket,
    WebSocketDisconnect,
    WebSocketState,
)
from fastws_compat.auth import login_required, permission_required, user_passes_test
from fastws_compat.connections.pipe import mark_disconnected
from fastws_compat.connections.states import DEFLATE
from fastws_compat.connections.tracebacks import bare
from fastws_compat.endpoints import WebSocketEndpoint
from fastws_compat.exceptions import DeclarationError, FastAPIError
from fastws_compat.logins.gate import Login
from fastws_compat.messages.contract import compile_contract
from fastws_compat.routing import APIWebSocketRoute
from fastws_compat.security import HTTPBearer, OAuth2PasswordRequestForm
from fastws_compat.security.base import SecurityBase
from fastws_compat.testclient import TestClient, WebSocketDenialResponse
from tests.fake_server import (
    CONNECT,
    FakeServer,
    Message,
    connected,
    converse,
    disconnect,
    text,
    websocket_scope,
)

if TYPE_CHECKING:
    from decimal import Decimal


def refusal(app: FastAPI, url: str = "/ws") -> WebSocketDisconnect:
    with pytest.raises(WebSocketDisconnect) as caught:
        with TestClient(app).websocket_connect(url):
            pass
    return caught.value


def close_after_accept(app: FastAPI, **options: Any) -> WebSocketDisconnect:
    with pytest.raises(WebSocketDisconnect) as caught:
        with TestClient(app, **options).websocket_connect("/ws") as websocket:
            websocket.receive_text()
    return caught.value


# --- errors are listed once ---


def needs(q: int) -> int:
    return q


def test_error_of_a_shared_dependency_is_listed_once():
    """FastAPI lists an error twice if two dependencies share the dependency that has it."""
    app = FastAPI()

    @app.websocket("/ws", dependencies=[Depends(needs)])
    async def endpoint(websocket: WebSocket, one: Annotated[int, Depends(needs)], two: int = Depends(needs)):
        pass

    assert [error["loc"] for error in refusal(app).reason] == [["query", "q"]]


def test_error_of_a_dependency_called_twice_is_listed_once():
    """The same applies to a dependency that is called again because of `use_cache=False`."""
    app = FastAPI()

    @app.websocket("/ws")
    async def endpoint(
        websocket: WebSocket, one: int = Depends(needs), two: int = Depends(needs, use_cache=False)
    ):
        pass

    assert [error["loc"] for error in refusal(app).reason] == [["query", "q"]]


def test_errors_of_two_dependencies_with_the_same_parameter_are_both_listed():
    """Two dependencies that read the same name cause two errors, as in FastAPI."""
    app = FastAPI()

    @app.websocket("/ws")
    async def endpoint(websocket: WebSocket, q: int, one: int = Depends(needs)):
        pass

    assert [error["loc"] for error in refusal(app).reason] == [["query", "q"], ["query", "q"]]


# --- mistakes are found at the decorator ---


def test_def_endpoint():
    """FastAPI accepts a `def` endpoint and fails at the first connection."""

    def chat(websocket: WebSocket):
        pass

    with pytest.raises(DeclarationError, match="endpoint chat is a plain 'def': write 'async def chat'"):
        FastAPI().websocket("/ws")(chat)


def test_class_as_an_endpoint():
    """FastAPI accepts it and fails at the first connection."""

    class Plain:
        pass

    class Chat(WebSocketEndpoint):
        pass

    for endpoint in (Plain, Chat):
        with pytest.raises(
            DeclarationError, match=f"endpoint {endpoint.__name__} is a class: declare it with"
        ):
            FastAPI().websocket("/ws")(endpoint)


def get_user(): ...


TAKE_DEPENDENCIES = [
    lambda given: FastAPI(dependencies=given),
    lambda given: APIRouter(dependencies=given),
    lambda given: FastAPI().include_router(APIRouter(), dependencies=given),
    lambda given: APIRouter().include_router(APIRouter(), dependencies=given),
    lambda given: FastAPI().websocket("/ws", dependencies=given)(get_room),
    lambda given: APIRouter().websocket("/ws", dependencies=given)(get_room),
    lambda given: FastAPI().add_api_websocket_route("/ws", get_room, dependencies=given),
    lambda given: APIRouter().add_api_websocket_route("/ws", get_room, dependencies=given),
    lambda given: APIWebSocketRoute("/ws", get_room, dependencies=given),
    lambda given: fastws_compat.websocket("/ws", dependencies=given)(get_room),
    lambda given: MessageRouter(dependencies=given),
    lambda given: MessageRouter().on(dependencies=given),
]


@pytest.mark.parametrize("declare", TAKE_DEPENDENCIES)
def test_dependencies_without_a_list_or_without_depends(declare):
    """FastAPI raises an AttributeError or a TypeError that names neither the option nor the endpoint."""
    sentence = r"^dependencies= of .+ has get_user without Depends: write Depends\(get_user\)\.$"
    with pytest.raises(DeclarationError, match=sentence):
        declare([get_user])
    for given in (get_user, Depends(get_user), Depends, "get_user", b"get_user", {"user": get_user}):
        with pytest.raises(
            DeclarationError, match=r"^dependencies= of .+ is not a list: write dependencies="
        ):
            declare(given)
    for given, name in ((None, "NoneType"), ("get_user", "str"), (Depends, "Depends")):
        sentence = (
            rf"^dependencies= of .+ has {name}, which is not a dependency: write Depends\(function\)\.$"
        )
        with pytest.raises(DeclarationError, match=sentence):
            declare([given])


def test_dependencies_from_an_iterator_are_kept():
    """FastAPI makes a list of them; here they were lost, and with them a login that was required."""
    app = FastAPI(dependencies=map(Depends, [get_user]))
    inner, other = (APIRouter(dependencies=map(Depends, [get_user])) for _ in range(2))
    app.include_router(inner, prefix="/inner", dependencies=map(Depends, [get_user]))
    inner.include_router(other, dependencies=map(Depends, [get_user]))
    other.websocket("/ws", dependencies=map(Depends, [get_user]))(get_room)
    [served] = app.routes[-1].routes
    assert [depends.dependency for depends in served.dependencies] == [get_user] * 6
    route = APIWebSocketRoute("/ws", get_room, dependencies=map(Depends, [get_user]))
    assert [step.call for step in route.plan.steps] == [get_user]
    router = MessageRouter(dependencies=map(Depends, [get_user]))
    for function in (get_user, get_room):
        router.on(dependencies=map(Depends, [get_user]))(function)
    assert [len(handler.dependencies) for handler in router.handlers] == [2, 2]


async def get_room(websocket: WebSocket): ...


@pytest.mark.parametrize("including", [FastAPI, APIRouter])
def test_include_router_with_an_application(including):
    """FastAPI raises an AttributeError."""
    sentence = r"include_router\(\) got a FastAPI, which is not an APIRouter: write app\.mount"
    with pytest.raises(DeclarationError, match=sentence):
        including().include_router(FastAPI())


@pytest.mark.parametrize("key", ["404", str, None])
def test_exception_handler_for_what_no_endpoint_can_raise(key):
    """FastAPI fails when the first client connects, or never calls the handler."""
    for declare in (
        lambda: FastAPI().exception_handler(key)(get_room),
        lambda: FastAPI(exception_handlers={key: get_room}),
    ):
        with pytest.raises(DeclarationError, match="handler get_room is registered for"):
            declare()


@pytest.mark.parametrize(
    "decorator",
    [
        FastAPI().websocket,
        FastAPI().websocket_route,
        APIRouter().websocket,
        APIRouter().websocket_route,
        fastws_compat.websocket,
    ],
)
def test_decorator_without_parentheses(decorator):
    """FastAPI takes the function for the path and declares no route."""

    async def chat(websocket: WebSocket): ...

    with pytest.raises(DeclarationError, match="decorator of chat has no path: write it with one"):
        decorator(chat)


def test_generator_endpoint():
    """FastAPI accepts a generator as endpoint and fails at the first connection."""

    async def chat(websocket: WebSocket):
        yield

    with pytest.raises(DeclarationError, match="endpoint chat is a generator"):
        FastAPI().websocket("/ws")(chat)


class Tick(BaseModel):
    number: int


def test_annotated_generator_endpoint_is_a_stream():
    app = FastAPI()

    @app.websocket("/ws")
    async def numbers() -> AsyncIterator[Tick]:
        yield Tick(number=1)

    with TestClient(app).websocket_connect("/ws") as socket:
        assert socket.receive_json() == {"number": 1}


@pytest.mark.parametrize("option", ["summary", "description", "tags", "deprecated", "include_in_schema"])
@pytest.mark.parametrize("owner", [FastAPI, APIRouter])
def test_options_that_describe_a_route(owner, option):
    value = {"tags": ["numbers"], "deprecated": True, "include_in_schema": False}.get(option, "Numbers.")
    target = owner()

    @target.websocket("/ws", **{option: value})
    async def chat(websocket: WebSocket): ...

    assert getattr(target.routes[0], option) == value


def test_unannotated_websocket():
    """FastAPI reads a parameter `websocket` without annotation from the query string."""

    async def chat(websocket):
        pass

    with pytest.raises(DeclarationError, match="Parameter 'websocket' of chat has no annotation"):
        FastAPI().websocket("/ws")(chat)


def test_unannotated_websocket_of_a_dependency():
    """The same applies to a dependency."""

    def user(websocket):
        pass

    async def chat(websocket: WebSocket, user: Annotated[Any, Depends(user)]):
        pass

    with pytest.raises(DeclarationError, match="Parameter 'websocket' of user has no annotation"):
        FastAPI().websocket("/ws")(chat)


@pytest.mark.parametrize(
    ("guard", "name"),
    [
        (HTTPBearer(), "HTTPBearer"),
        (login_required, "login_required"),
        (permission_required("shop.view_order"), r"permission_required\(shop.view_order\)"),
        (permission_required, "permission_required"),
    ],
)
def test_guard_without_depends(guard, name):
    """FastAPI reads the value from the query, or passes the guard itself."""

    async def by_default(websocket: WebSocket, user: str = guard): ...

    async def by_annotation(websocket: WebSocket, user: Annotated[str, guard]): ...

    for endpoint in (by_default, by_annotation):
        with pytest.raises(DeclarationError, match=f"Parameter 'user' of by_.* has {name} without Depends, "):
            FastAPI().websocket("/ws")(endpoint)


class Account:
    """A class that pydantic does not know, such as a model of Django's."""


def test_parameter_that_pydantic_cannot_validate():
    """FastAPI advises to check that it is a valid response field."""

    async def chat(websocket: WebSocket, user: Account): ...

    sentence = (
        r"Parameter 'user' of chat has an annotation that pydantic cannot validate: .*Account'>\. "
        r"If a dependency returns it, write Annotated\[\.\.\., Depends\(function\)\]\."
    )
    with pytest.raises(FastAPIError, match=sentence):
        FastAPI().websocket("/ws")(chat)


class TokenBearer(HTTPBearer):
    """A project's own scheme."""


class Signed(SecurityBase):
    """A scheme without options."""


@pytest.mark.parametrize("guard", [HTTPBearer, TokenBearer, Signed, permission_required, user_passes_test])
def test_guard_that_is_not_called(guard):
    """FastAPI calls the class with parameters of the query, which may be missing, and lets everybody in."""

    async def chat(websocket: WebSocket, user: Annotated[Any, Depends(guard)]): ...

    async def plain(websocket: WebSocket): ...

    name = guard.__name__
    sentence = rf"has Depends\({name}\), which lets everybody in: write Depends\({name}\(\.\.\.\)\)"
    with pytest.raises(DeclarationError, match=f"Parameter 'user' of chat {sentence}"):
        FastAPI().websocket("/ws")(chat)
    with pytest.raises(DeclarationError, match=f"dependencies= of plain {sentence}"):
        FastAPI().websocket("/ws", dependencies=[Depends(guard)])(plain)


def test_scheme_that_a_project_creates_from_the_socket():
    class Ticket(HTTPBearer):
        def __init__(self, websocket: WebSocket):
            self.text = websocket.headers["ticket"]

    app = FastAPI()

    @app.websocket("/ws")
    async def chat(websocket: WebSocket, ticket: Annotated[Ticket, Depends(Ticket)]):
        await websocket.accept()
        await websocket.send_text(ticket.text)

    with TestClient(app).websocket_connect("/ws", headers={"ticket": "7"}) as client:
        assert client.receive_text() == "7"


def test_request_parameter():
    """FastAPI omits a `Request` parameter from the call, which then fails."""

    async def chat(websocket: WebSocket, request: Request):
        pass

    with pytest.raises(DeclarationError, match="Parameter 'request' of chat is a Request"):
        FastAPI().websocket("/ws")(chat)


def test_request_parameter_of_a_dependency():
    """The same applies to a dependency."""

    def user(request: Request):
        pass

    async def chat(websocket: WebSocket, user: Annotated[Any, Depends(user)]):
        pass

    with pytest.raises(DeclarationError, match="Parameter 'request' of user is a Request"):
        FastAPI().websocket("/ws")(chat)


def test_annotation_that_cannot_be_resolved():
    """FastAPI accepts an annotation that only type checkers can resolve and fails at the first connection."""

    async def chat(websocket: WebSocket, amount: "Decimal"):
        pass

    with pytest.raises(DeclarationError, match="Annotation 'Decimal' of parameter 'amount' of chat"):
        FastAPI().websocket("/ws")(chat)


@pytest.mark.parametrize(
    "annotation",
    [list["Decimal"], Annotated[list["Decimal"], Query()], "list[Decimal]", Annotated["Decimal", "x"]],
)
def test_part_of_an_annotation_that_cannot_be_resolved(annotation):
    """FastAPI refuses the first two too, with a page of pydantic's."""

    async def chat(websocket: WebSocket, amount: annotation):
        pass

    with pytest.raises(
        DeclarationError, match=r"^Annotation '.*Decimal.*' of parameter 'amount' of chat cannot"
    ):
        FastAPI().websocket("/ws")(chat)


def test_dependency_whose_class_cannot_be_resolved():
    """FastAPI's refusal is a TypeError that names neither the parameter nor the function."""

    async def chat(websocket: WebSocket, amount: Annotated["Decimal", Depends()]):
        pass

    with pytest.raises(DeclarationError, match=r"^Annotation 'Decimal' of parameter 'amount' of chat cannot"):
        FastAPI().websocket("/ws")(chat)


def test_metadata_of_an_annotation_is_not_a_name():
    async def chat(websocket: WebSocket, amounts: list[Annotated[int, "Decimal"]] = Query()):
        pass

    FastAPI().websocket("/ws")(chat)


def test_path_parameter_that_is_not_in_the_path():
    """FastAPI refuses every connection to a route whose `Path()` parameter is not in its path."""

    async def chat(websocket: WebSocket, room: Annotated[str, Path()]):
        pass

    with pytest.raises(
        DeclarationError, match=r"Path parameter 'room' is not in '/ws/{room_id}' \(endpoint chat\)"
    ):
        FastAPI().websocket("/ws/{room_id}")(chat)


def test_path_parameter_of_a_dependency_that_is_not_in_the_path():
    """The same applies to a dependency."""

    def number(room: Annotated[int, Path()]):
        pass

    async def chat(websocket: WebSocket, number: Annotated[Any, Depends(number)]):
        pass

    with pytest.raises(DeclarationError, match="Path parameter 'room' is not in '/ws'"):
        FastAPI().websocket("/ws")(chat)


def test_http_verbs():
    """FastAPI serves HTTP too; here it stays with Django."""
    with pytest.raises(AttributeError, match="serves HTTP, which stays with Django"):
        FastAPI().get("/")


@pytest.mark.parametrize(
    ("name", "advice"), [("get", "urls.py"), ("middleware", "MIDDLEWARE"), ("openapi", "drf-spectacular")]
)
def test_advice_on_http(name, advice):
    with pytest.raises(AttributeError, match=advice):
        getattr(FastAPI(), name)


# --- how a connection ends ---


def test_numbers_of_the_states():
    """Starlette numbers DISCONNECTED 2 and RESPONSE 3."""
    assert {state.name: state.value for state in WebSocketState} == {
        "CONNECTING": 0,
        "CONNECTED": 1,
        "RESPONSE": 2,
        "DISCONNECTED": 3,
    }


def test_endpoint_that_returns_without_closing():
    """FastAPI sends nothing and leaves the end to the server."""
    app = FastAPI()

    @app.websocket("/ws")
    async def endpoint(websocket: WebSocket):
        await websocket.accept()

    closed = close_after_accept(app)
    assert (closed.code, closed.reason) == (1000, "")


def test_endpoint_that_returns_before_accept():
    """FastAPI sends nothing, and the handshake hangs or ends in HTTP 500."""
    app = FastAPI()

    @app.websocket("/ws")
    async def endpoint(websocket: WebSocket):
        pass

    assert refusal(app).code == 1000


def test_unhandled_exception_closes():
    """FastAPI passes the exception to the server, which ends the connection in its own way."""
    app = FastAPI()

    @app.websocket("/ws")
    async def endpoint(websocket: WebSocket):
        await websocket.accept()
        raise ValueError

    assert close_after_accept(app, raise_server_exceptions=False).code == 1011


def test_disconnect_that_escapes_is_no_error():
    """FastAPI passes an uncaught WebSocketDisconnect to the server, which logs it as an error."""
    app = FastAPI()

    @app.websocket("/ws")
    async def endpoint(websocket: WebSocket):
        await websocket.accept()
        await websocket.receive_text()

    assert [message["type"] for message in converse(app, disconnect())] == ["websocket.accept"]


def test_handler_of_exception():
    """FastAPI never runs the handler of `Exception` for a socket."""
    app = FastAPI()

    @app.websocket("/ws")
    async def endpoint(websocket: WebSocket):
        await websocket.accept()
        raise ValueError("reason")

    @app.exception_handler(Exception)
    async def handle(websocket, exc):
        await websocket.close(4000, str(exc))

    closed = close_after_accept(app)
    assert (closed.code, closed.reason) == (4000, "reason")


def test_http_exception_after_accept():
    """FastAPI sends an HTTP response to the open socket, and every server reacts in its own way."""
    app = FastAPI()

    @app.websocket("/ws")
    async def endpoint(websocket: WebSocket):
        await websocket.accept()
        raise HTTPException(404, "no such room")

    closed = close_after_accept(app)
    assert (closed.code, closed.reason) == (4404, "no such room")


def test_http_exception_before_accept_without_the_extension():
    """FastAPI sends a denial response even to a server that does not support it."""
    app = FastAPI()

    @app.websocket("/ws")
    async def endpoint(websocket: WebSocket):
        raise HTTPException(404)

    assert [message["type"] for message in converse(app)] == ["websocket.close"]


# --- what FastAPI injects and then ignores ---


def test_background_tasks_run():
    """FastAPI injects BackgroundTasks for a socket but never runs them."""
    app = FastAPI()
    notes = []

    def dependency(tasks: BackgroundTasks):
        tasks.add_task(notes.append, "of the dependency")

    @app.websocket("/ws")
    async def endpoint(
        websocket: WebSocket, tasks: BackgroundTasks, value: Annotated[None, Depends(dependency)]
    ):
        await websocket.accept()
        tasks.add_task(notes.append, "of the endpoint")
        notes.append("endpoint")

    with TestClient(app).websocket_connect("/ws"):
        pass
    assert notes == ["endpoint", "of the dependency", "of the endpoint"]


def test_headers_of_a_response_go_out_with_accept():
    """FastAPI injects a Response for a socket but drops what is set on it."""
    app = FastAPI()

    def dependency(response: Response):
        response.set_cookie("seen", "1")

    @app.websocket("/ws", dependencies=[Depends(dependency)])
    async def endpoint(websocket: WebSocket, response: Response):
        response.headers["X-Room"] = "lobby"
        await websocket.accept()

    with TestClient(app).websocket_connect("/ws") as websocket:
        headers = dict(websocket.extra_headers or [])
    assert headers[b"x-room"] == b"lobby"
    assert headers[b"set-cookie"].startswith(b"seen=1")
    assert b"content-length" not in headers


def test_reason_of_a_validation_error_stays_in_the_process():
    """FastAPI passes the list of errors to the server as the close reason, which is not text."""
    app = FastAPI()

    @app.websocket("/ws")
    async def endpoint(websocket: WebSocket, q: Annotated[int, Query()]):
        pass

    assert converse(app) == [{"type": "websocket.close", "code": 1008, "reason": ""}]
    assert refusal(app).reason[0]["loc"] == ["query", "q"]


def test_denial_response_of_a_test_client_is_no_httpx_response():
    """Starlette's WebSocketDenialResponse is an httpx.Response too; this one has its attributes."""
    app = FastAPI()

    @app.websocket("/ws")
    async def endpoint(websocket: WebSocket):
        raise HTTPException(403, "no")

    denied = refusal(app)
    assert isinstance(denied, WebSocketDenialResponse)
    assert (denied.status_code, denied.json()) == (403, {"detail": "no"})


def test_path_parameter_of_a_mount_above_is_in_path_params():
    """FastAPI fills a `Path()` parameter from a mount or host above; here it would be refused at import."""
    app, sub = FastAPI(), FastAPI()

    @sub.websocket("/ws")
    async def endpoint(websocket: WebSocket):
        await websocket.accept()
        await websocket.send_json(websocket.path_params)

    app.mount("/{tenant}", sub)
    with TestClient(app).websocket_connect("/acme/ws") as socket:
        assert socket.receive_json() == {"tenant": "acme"}


@pytest.mark.parametrize("value", [None, 1])
def test_a_cookie_that_is_no_text_is_refused_when_it_is_given(value: Any) -> None:
    with pytest.raises(TypeError, match=r"The value of the cookie 'a' must be a str or a Morsel, not "):
        TestClient(FastAPI(), cookies={"a": value})


def test_one_class_of_http_exceptions():
    """FastAPI's HTTPException is a subclass of Starlette's, which its API key classes raise."""
    from fastws_compat.exceptions import HTTPException
    from fastws_compat.security import APIKeyHeader

    assert type(APIKeyHeader(name="x").make_not_authenticated_error()) is HTTPException


def test_client_that_does_not_raise_shows_what_clients_see():
    """FastAPI's test client raises the exception of a socket whatever `raise_server_exceptions` says."""
    app = FastAPI()

    @app.websocket("/ws")
    async def endpoint(websocket: WebSocket):
        await websocket.accept()
        raise ValueError

    client = TestClient(app, raise_server_exceptions=False)
    with client.websocket_connect("/ws") as socket, pytest.raises(WebSocketDisconnect) as closed:
        socket.receive_text()
    assert closed.value.code == 1011


# --- endpoints that can never be called are refused at import ---


class Item(BaseModel):
    name: str


@dataclass
class Data:
    name: str


class Loose:
    def __init__(self, *args: Any) -> None: ...


def star(*args): ...


def double_star(**kwargs): ...


def undecorated(function):
    async def wrapper(*args, **kwargs): ...

    return wrapper


def positional(websocket: WebSocket, /): ...


def body_of(annotation: Any):
    def dependency(value): ...

    dependency.__annotations__["value"] = annotation
    return dependency


UNCALLABLE = {
    "star": (star, r"Parameter '\*args' of star .* write out the parameters, or put @functools.wraps"),
    "double star": (double_star, r"Parameter '\*\*kwargs' of double_star"),
    "decorated": (undecorated(star), r"'\*args' of .*wrapper"),
    "class": (Loose, r"'\*args' of Loose"),
    "mock": (MagicMock(), r"'\*args'"),
    "positional": (positional, r"'websocket' of positional is positional-only"),
    "form login": (
        OAuth2PasswordRequestForm,
        "'username' of OAuth2PasswordRequestForm is read from the body",
    ),
    **{
        f"body {number}": (body_of(annotation), "Parameter 'value' of dependency is read from the body")
        for number, annotation in enumerate(
            [
                Item,
                Data,
                dict,
                list[int],
                UploadFile,
                list[UploadFile],
                Annotated[int, Body()],
                Annotated[int, Body(embed=True)],
                Annotated[Item, Form()],
                Annotated[str, Form()],
                Annotated[bytes, File()],
            ]
        )
    },
}


def as_endpoint(call: Any) -> None:
    async def endpoint(*args: Any, **kwargs: Any): ...

    endpoint.__signature__ = inspect.signature(call, eval_str=True)
    endpoint.__name__ = getattr(call, "__name__", "mock")
    FastAPI().websocket("/ws")(endpoint)


def as_dependency(call: Any) -> None:
    async def endpoint(websocket: WebSocket, value: Annotated[Any, Depends(call)]): ...

    FastAPI().websocket("/ws")(endpoint)


def deep(call: Any) -> None:
    def dependency(value: Annotated[Any, Depends(call)]): ...

    async def endpoint(websocket: WebSocket): ...

    APIRouter().websocket("/ws", dependencies=[Depends(dependency)])(endpoint)


@pytest.mark.parametrize("place", [as_endpoint, as_dependency, deep])
@pytest.mark.parametrize(("call", "sentence"), UNCALLABLE.values(), ids=UNCALLABLE)
def test_endpoint_that_can_never_be_called_is_refused_at_import(place: Any, call: Any, sentence: str):
    """FastAPI fails when the first client connects, and reports nothing."""
    with pytest.raises(DeclarationError, match=sentence):
        place(call)


def test_failed_validation_leaves_one_line_without_values(caplog):
    """FastAPI logs nothing."""
    app = FastAPI()

    @app.websocket("/ws")
    async def endpoint(websocket: WebSocket, number: int): ...

    refusal(app, "/ws?number=s3cret")
    assert caplog.messages == [
        "WebSocket /ws: the handshake does not fit its parameters: query.number (int_parsing)"
    ]


# --- how a connection is closed ---


def closing(code: Any, reason: Any = None, accept: bool = True) -> FastAPI:
    app = FastAPI()

    @app.websocket("/ws")
    async def endpoint(websocket: WebSocket):
        if accept:
            await websocket.accept()
        await websocket.close(code, reason)

    return app


def test_http_status_as_close_code():
    """FastAPI refuses with 403 before accept; after accept, the server cannot send the code."""
    denied = refusal(closing(404, accept=False))
    assert isinstance(denied, WebSocketDenialResponse)
    assert denied.status_code == 404
    assert close_after_accept(closing(404)).code == 4404


def test_close_code_that_no_frame_can_carry():
    """FastAPI passes any code on: its test client reports it, and a server fails."""
    with pytest.raises(ValueError, match="cannot be closed with 1006"):
        close_after_accept(closing(1006))
    assert close_after_accept(closing(1006), raise_server_exceptions=False).code == 1011


def test_close_reason_of_any_kind():
    """FastAPI passes any reason on; a server fails if it is not text or has more than 123 bytes."""
    assert close_after_accept(closing(4000, ValueError("why"))).reason == "why"
    assert close_after_accept(closing(4000, "x" * 200)).reason == "x" * 123


def test_answer_that_cannot_be_sent_raises_before_the_server_is_given_it():
    """FastAPI leaves the check of headers and subprotocol to the server."""
    app = FastAPI()

    @app.websocket("/ws")
    async def endpoint(websocket: WebSocket):
        await websocket.accept(headers=[(b"x-room", b"1\r\nset-cookie: a=b")])

    with pytest.raises(ValueError, match=r"Invalid value .* of header b'x-room'"):
        with TestClient(app).websocket_connect("/ws"):
            pass


@pytest.mark.parametrize(
    ("subprotocol", "error", "text"),
    [
        (7, TypeError, "A subprotocol must be a str, not int."),
        ("a\r\nset-cookie: a=b", ValueError, "Invalid subprotocol 'a\\r\\nset-cookie: a=b'."),
    ],
)
def test_subprotocol_that_cannot_be_sent_raises(subprotocol, error, text):
    app = FastAPI()

    @app.websocket("/ws")
    async def endpoint(websocket: WebSocket):
        await websocket.accept(subprotocol=subprotocol)

    with pytest.raises(error) as caught:
        with TestClient(app).websocket_connect("/ws"):
            pass
    assert str(caught.value) == text


def test_detail_that_is_no_json_is_text():
    """FastAPI's handler raises TypeError for it."""
    app = FastAPI()

    @app.websocket("/ws")
    async def endpoint(websocket: WebSocket):
        raise HTTPException(403, ValueError("why"))

    denied = refusal(app)
    assert isinstance(denied, WebSocketDenialResponse)
    assert denied.json() == {"detail": "why"}


def test_middleware_of_starlette_is_refused():
    """Starlette's ASGI middleware might work by chance; like all foreign classes, it is refused at import."""
    from starlette.middleware.trustedhost import TrustedHostMiddleware

    with pytest.raises(DeclarationError, match=r"uses starlette.*TrustedHostMiddleware, which"):
        FastAPI().add_middleware(TrustedHostMiddleware, allowed_hosts=["example.com"])


def test_work_after_the_disconnect_is_awaited():
    """FastAPI's test client cancels what an endpoint does after the disconnect."""
    app, done = FastAPI(), []

    @app.websocket("/ws")
    async def endpoint(websocket: WebSocket):
        await websocket.accept()
        try:
            await websocket.receive_text()
        except WebSocketDisconnect:
            await asyncio.sleep(0.1)
            done.append("saved")

    with TestClient(app).websocket_connect("/ws"):
        pass
    assert done == ["saved"]


def test_router_alone_has_the_default_handlers():
    """FastAPI's exception handlers belong to the application; a router alone lets the exception propagate."""
    router = APIRouter()

    @router.websocket("/ws")
    async def endpoint(websocket: WebSocket):
        raise HTTPException(409)

    with pytest.raises(WebSocketDenialResponse) as denied:
        with TestClient(router).websocket_connect("/ws"):
            pass
    assert denied.value.status_code == 409


@pytest.mark.parametrize("error", [ConnectionResetError, BrokenPipeError, OSError])
def test_accept_to_a_client_that_is_gone(error):
    """FastAPI passes the server's error on; Starlette turns it into WebSocketDisconnect only after accept."""

    server = FakeServer(CONNECT, error=error("gone"))
    websocket = WebSocket(websocket_scope(), server.receive, server.send)
    with pytest.raises(WebSocketDisconnect) as gone:
        asyncio.run(websocket.accept())
    assert gone.value.code == 1006
    assert websocket.application_state is WebSocketState.DISCONNECTED


# --- a failed send also changes the client's state ---


def client_gone(error: Exception | None) -> FakeServer:
    """A server whose client sent a text and then left; sends fail with `error`."""
    return FakeServer(CONNECT, text("said before"), disconnect(1006), error=error)


SENDS = {
    "send_text": lambda websocket: websocket.send_text("x"),
    "send_bytes": lambda websocket: websocket.send_bytes(b"x"),
    "send_json": lambda websocket: websocket.send_json(1),
    "send_json binary": lambda websocket: websocket.send_json(1, mode="binary"),
    "send": lambda websocket: websocket.send({"type": "websocket.send", "text": "x"}),
    "close": lambda websocket: websocket.close(),
}
LOST = [
    OSError(),
    ConnectionResetError(),
    RuntimeError("Unexpected message, after sending 'websocket.close'."),
]


@pytest.mark.parametrize("error", LOST, ids=lambda error: type(error).__name__)
@pytest.mark.parametrize("send", SENDS)
def test_client_state_after_a_send_that_failed(send, error):
    """FastAPI leaves `client_state` at CONNECTED, so a check before `close()` does not prevent an error."""
    server = client_gone(None)
    websocket = WebSocket(websocket_scope(), server.receive, server.send)

    async def main() -> list[str]:
        await websocket.accept()
        server.error = error
        with pytest.raises(WebSocketDisconnect):
            await SENDS[send](websocket)
        assert websocket.client_state is WebSocketState.DISCONNECTED
        if websocket.client_state != WebSocketState.DISCONNECTED:
            await websocket.close()
        return [(await websocket.receive())["type"] for _ in range(2)]

    # What the client sent before can still be received, as in FastAPI.
    assert asyncio.run(main()) == ["websocket.receive", "websocket.disconnect"]
    with pytest.raises(RuntimeError, match="once a disconnect message has been received"):
        asyncio.run(websocket.receive())


@pytest.mark.parametrize("error", LOST, ids=lambda error: type(error).__name__)
def test_close_after_the_disconnect_does_nothing(error):
    """FastAPI raises WebSocketDisconnect if the server reports that the client is gone."""
    server = FakeServer(CONNECT, disconnect(1001))
    websocket = WebSocket(websocket_scope(), server.receive, server.send)

    async def main() -> None:
        await websocket.accept()
        with pytest.raises(WebSocketDisconnect):
            await websocket.receive_text()
        server.error = error
        await websocket.close()

    asyncio.run(main())
    assert websocket.application_state is WebSocketState.DISCONNECTED


def test_close_after_a_disconnect_that_the_endpoint_has_not_seen():
    """The endpoint learns of it; it has to clean up."""
    server = FakeServer(CONNECT)
    websocket = WebSocket(websocket_scope(), server.receive, server.send)

    async def main() -> None:
        await websocket.accept()
        mark_disconnected(websocket, disconnect(4000))
        with pytest.raises(WebSocketDisconnect) as closed:
            await websocket.close()
        assert closed.value.code == 4000

    asyncio.run(main())


def test_send_that_fails_because_the_connection_was_closed_on_the_endpoints_behalf():
    """It raises the disconnect with its code."""

    async def kicked(message: Message) -> None:
        if message["type"] == "websocket.send":
            mark_disconnected(websocket, disconnect(4403))
            raise RuntimeError("Unexpected ASGI message 'websocket.send', after sending 'websocket.close'.")

    server = FakeServer(CONNECT, on_send=kicked)
    websocket = WebSocket(websocket_scope(), server.receive, server.send)

    async def main() -> None:
        await websocket.accept()
        with pytest.raises(WebSocketDisconnect) as closed:
            await websocket.send_text("x")
        assert closed.value.code == 4403

    asyncio.run(main())


# --- a disconnect of another socket is an error ---


def dead_socket() -> WebSocket:
    server = client_gone(ConnectionResetError("gone"))
    websocket = WebSocket(websocket_scope(), server.receive, server.send)
    websocket.client_state = websocket.application_state = WebSocketState.CONNECTED
    return websocket


def test_disconnect_of_another_socket_is_an_error(caplog):
    """FastAPI's server logs every WebSocketDisconnect that the endpoint does not catch."""
    app = FastAPI()

    @app.websocket("/ws")
    async def endpoint(websocket: WebSocket):
        await websocket.accept()
        await dead_socket().send_text("to a member that has left")

    assert converse(app)[-1]["code"] == 1011
    assert [record.getMessage() for record in caplog.records] == ["Exception in WebSocket /ws"]


def test_disconnect_of_another_socket_in_a_group_of_exceptions(caplog):
    app = FastAPI()

    @app.websocket("/ws")
    async def endpoint(websocket: WebSocket):
        await websocket.accept()
        async with asyncio.TaskGroup() as group:
            group.create_task(dead_socket().send_text("to a member that has left"))

    assert converse(app)[-1]["code"] == 1011
    assert [record.getMessage() for record in caplog.records] == ["Exception in WebSocket /ws"]


async def caught(websocket: WebSocket) -> WebSocketDisconnect:
    """What a socket raised some time ago, as code that keeps exceptions may keep it."""
    with pytest.raises(WebSocketDisconnect) as found:
        await websocket.send_text("to a member that has left")
    return bare(found.value)


def raising(fail: Callable[[WebSocket], Awaitable[Any]]) -> FastAPI:
    """An application whose endpoint accepts and then fails."""
    app = FastAPI()

    @app.websocket("/ws")
    async def endpoint(websocket: WebSocket):
        await websocket.accept()
        await fail(websocket)

    return app


async def reraised(websocket: WebSocket) -> None:
    raise await caught(dead_socket())


async def beside_own(websocket: WebSocket) -> None:
    inner = ExceptionGroup("inner", [await caught(dead_socket())])
    raise ExceptionGroup("outer", [WebSocketDisconnect(), inner])


async def from_a_task(websocket: WebSocket) -> None:
    await asyncio.create_task(dead_socket().send_text("to a member that has left"))


async def closed_on_its_behalf(websocket: WebSocket) -> None:
    other = dead_socket()
    mark_disconnected(other, disconnect(1001))
    await other.send_text("to a member that has been closed")


async def closed_while_it_sent(websocket: WebSocket) -> None:
    async def close(message: Message) -> None:
        mark_disconnected(other, disconnect(4403))
        raise RuntimeError("after sending 'websocket.close'")

    other = WebSocket(websocket_scope(), FakeServer().receive, close)
    other.client_state = other.application_state = WebSocketState.CONNECTED
    await other.send_text("to a member that is being closed")


def logged_out(other: WebSocket) -> WebSocket:
    Login(other, SimpleNamespace(state=WebSocketState.RESPONSE), "1").end(4401, "")
    return other


async def sends_after_logout(websocket: WebSocket) -> None:
    await logged_out(dead_socket()).send_text("to a member that has logged out")


async def accepts_after_logout(websocket: WebSocket) -> None:
    server = FakeServer(CONNECT)
    await logged_out(WebSocket(websocket_scope(), server.receive, server.send)).accept()


async def receives_typed(websocket: WebSocket) -> None:
    server = FakeServer(CONNECT, disconnect(1001))
    other = TypedWebSocket[str, str](websocket_scope(), server.receive, server.send)
    other.bind(compile_contract(str, str, "a test"))
    await other.accept()
    await other.receive_message()


async def translated(websocket: WebSocket) -> None:
    raise RuntimeError("cannot go on") from await caught(websocket)


OF_ANOTHER = [
    reraised,
    beside_own,
    from_a_task,
    closed_on_its_behalf,
    closed_while_it_sent,
    sends_after_logout,
    accepts_after_logout,
    receives_typed,
]


@pytest.mark.parametrize("fail", OF_ANOTHER)
def test_disconnect_of_another_socket_however_it_is_raised(fail: Any, caplog: pytest.LogCaptureFixture):
    assert converse(raising(fail))[-1]["code"] == 1011
    assert [record.getMessage() for record in caplog.records] == ["Exception in WebSocket /ws"]


def test_disconnect_of_another_socket_in_the_same_process(caplog):
    """It is raised by a task of the endpoint that did not expect it."""
    app, members, over = FastAPI(), dict[str, WebSocket](), asyncio.Event()

    @app.websocket("/{name}")
    async def endpoint(websocket: WebSocket, name: str):
        await websocket.accept()
        members[name] = websocket
        if name == "reader":
            await asyncio.create_task(members["other"].receive_text())
        await over.wait()

    async def main() -> None:
        other = connected(app, path="/other")
        await other.wait_sent("websocket.accept")
        reader = connected(app, path="/reader")
        await reader.wait_sent("websocket.accept")
        other.hang_up()
        await reader.wait_ended()
        assert reader.closes == [1011]
        over.set()
        await other.wait_ended()
        assert other.closes == []

    asyncio.run(main())
    assert [record.getMessage() for record in caplog.records] == ["Exception in WebSocket /{name}"]


async def own_from_another(websocket: WebSocket) -> None:
    raise WebSocketDisconnect(4000) from await caught(dead_socket())


async def pickled(websocket: WebSocket) -> None:
    raise pickle.loads(pickle.dumps(await caught(dead_socket())))


async def second_socket(websocket: WebSocket) -> None:
    """As middleware makes one whose scope is a copy of the connection's."""
    scope = {**websocket.scope, "root_path": "/app"}
    second = WebSocket(scope, client_gone(ConnectionResetError("gone")).receive, no_client)
    second.client_state = second.application_state = WebSocketState.CONNECTED
    await second.send_text("x")


async def no_client(message: Message) -> None:
    raise ConnectionResetError("gone")


@pytest.mark.parametrize("leave", [own_from_another, pickled, second_socket])
def test_disconnect_that_is_not_known_to_be_another_sockets(leave: Any, caplog: pytest.LogCaptureFixture):
    assert converse(raising(leave))[-1]["code"] == 1000
    assert caplog.records == []


def test_error_that_was_caused_by_the_own_disconnect(caplog):
    """It is an error like any other, whatever its cause. The client has left, so no close frame is sent."""
    app, gone = raising(translated), ConnectionResetError("gone")

    async def client_left(message: Message) -> None:
        if message["type"] == "websocket.send":
            raise gone

    assert converse(app, on_send=client_left)[-1]["type"] == "websocket.accept"
    assert [record.getMessage() for record in caplog.records] == ["Exception in WebSocket /ws"]


def test_disconnect_shows_and_keeps_nothing_of_its_socket():
    async def main() -> tuple[WebSocketDisconnect, Any]:
        websocket = dead_socket()
        return await caught(websocket), ref(websocket)

    exc, websocket = asyncio.run(main())
    gc.collect()
    assert websocket() is None
    assert repr(exc) == "WebSocketDisconnect()"
    assert str(exc) == ""
    assert vars(copy.copy(exc)) == {"code": 1006, "reason": ""}
    assert vars(pickle.loads(pickle.dumps(exc))) == {"code": 1006, "reason": ""}


def test_disconnect_that_the_endpoint_raises_itself(caplog):
    """FastAPI's server logs it, and the client sees 1006."""
    app = FastAPI()

    @app.websocket("/ws")
    async def endpoint(websocket: WebSocket):
        await websocket.accept()
        raise WebSocketDisconnect(4000)

    assert converse(app)[-1]["code"] == 1000
    assert caplog.records == []


def test_disconnect_of_another_socket_goes_to_the_handler_for_exceptions():
    app, handled = FastAPI(), []

    @app.exception_handler(Exception)
    async def handle(websocket: WebSocket, exc: Exception):
        handled.append(type(exc))

    @app.websocket("/{member}")
    async def endpoint(websocket: WebSocket, member: str):
        await websocket.accept()
        await (dead_socket() if member == "other" else websocket).send_text("hello")
        await websocket.receive_text()

    converse(app, disconnect(1001), path="/own")
    assert handled == []
    converse(app, path="/other")
    assert handled == [WebSocketDisconnect]


def test_client_state_after_an_accept_that_failed():
    """FastAPI leaves `client_state` at CONNECTED here too."""
    server = client_gone(ConnectionResetError("gone"))
    websocket = WebSocket(websocket_scope(), server.receive, server.send)

    async def main() -> None:
        with pytest.raises(WebSocketDisconnect) as end:
            await websocket.accept()
        assert end.value.code == 1006
        assert websocket.client_state is WebSocketState.DISCONNECTED
        assert await websocket.receive() == {"type": "websocket.disconnect", "code": 1006, "reason": ""}

    asyncio.run(main())


def test_client_state_after_a_refusal_that_failed():
    """FastAPI leaves `client_state` at CONNECTED here too."""
    server = client_gone(ConnectionResetError("gone"))
    websocket = WebSocket(websocket_scope(), server.receive, server.send)

    async def main() -> None:
        await websocket.receive()
        with pytest.raises(WebSocketDisconnect):
            await websocket.close()
        assert websocket.client_state is WebSocketState.DISCONNECTED

    asyncio.run(main())


def test_sync_dependencies_beside_a_sync_generator_share_its_thread():
    threads = []

    def generator():
        threads.append(threading.get_ident())
        yield
        threads.append(threading.get_ident())

    def beside():
        threads.append(threading.get_ident())

    app = FastAPI()

    @app.websocket("/ws", dependencies=[Depends(beside), Depends(generator)])
    async def endpoint(websocket: WebSocket):
        await websocket.accept()

    for _ in range(3):
        close_after_accept(app)
    assert [threads[i : i + 3] for i in (0, 3, 6)] == [[threads[i]] * 3 for i in (0, 3, 6)]


def test_locals_of_a_sync_dependency_last_and_context_variables_do_not():
    from asgiref.local import Local

    local, variable = Local(), ContextVar("variable", default="unset")

    def dependency():
        local.value = "thread"
        variable.set("thread")

    app = FastAPI()

    @app.websocket("/ws", dependencies=[Depends(dependency)])
    async def endpoint(websocket: WebSocket):
        await websocket.accept()
        await websocket.send_json([local.value, variable.get()])

    with TestClient(app).websocket_connect("/ws") as websocket:
        assert websocket.receive_json() == ["thread", "unset"]


def test_closed_socket_in_a_loop_lets_other_tasks_run():
    app = FastAPI()

    @app.websocket("/ws")
    async def endpoint(websocket: WebSocket):
        others = asyncio.Event()
        asyncio.get_running_loop().call_soon(others.set)
        failures = 0
        while not others.is_set() and failures < 100:
            with suppress(RuntimeError):
                await websocket.receive_text()
            failures += 1
        await websocket.accept()
        await websocket.send_json(failures)

    with TestClient(app).websocket_connect("/ws") as websocket:
        assert websocket.receive_json() == 17


# --- a marker inside another type is refused ---


@pytest.mark.parametrize(
    ("annotation", "marker"),
    [
        (Annotated[str, Depends(needs)] | None, "Depends"),
        (list[Annotated[str, Depends(needs)]], "Depends"),
        (Annotated[Annotated[str, Depends(needs)] | None, "documentation"], "Depends"),
        (Annotated[str, Header()] | None, "Header"),
        (Annotated[str, Query(alias="key")] | None, "Query"),
    ],
)
def test_a_marker_inside_another_type_is_refused(annotation: Any, marker: str) -> None:
    async def endpoint(websocket, value=None):
        raise NotImplementedError

    endpoint.__annotations__ = {"websocket": WebSocket, "value": annotation}
    sentence = rf"Parameter 'value' of endpoint has {marker}\(\) inside another type, where it has no effect"
    with pytest.raises(DeclarationError, match=sentence):
        FastAPI().websocket("/ws")(endpoint)


def test_a_query_constraint_inside_a_list_is_for_its_items() -> None:
    app = FastAPI()

    @app.websocket("/ws")
    async def endpoint(
        websocket: WebSocket, value: Annotated[list[Annotated[str, Query(min_length=2)]], Query()]
    ) -> None:
        await websocket.accept()
        await websocket.send_json(value)

    with TestClient(app).websocket_connect("/ws?value=ab&value=cd") as websocket:
        assert websocket.receive_json() == ["ab", "cd"]
    assert refusal(app, "/ws?value=a").code == 1008


# --- messages are compressed only where the route asks for it ---


def test_a_server_is_told_to_compress_only_if_the_route_asks_for_it() -> None:
    async def endpoint(websocket: WebSocket) -> None:
        await websocket.accept()

    app, extensions = FastAPI(), {DEFLATE: {}}
    app.websocket("/plain")(endpoint)
    app.websocket("/deflate", deflate=True)(endpoint)
    answers = [converse(app, path=path, extensions=extensions)[0] for path in ("/plain", "/deflate")]
    assert [DEFLATE in answer for answer in answers] == [False, True]


# --- paths ---


def test_empty_path_on_an_application_is_refused():
    app = FastAPI()  # FastAPI accepts it, and no server sends a connection with this path
    with pytest.raises(AssertionError, match="Routed paths must start with '/': ''"):

        @app.websocket("")
        async def endpoint(websocket: WebSocket): ...
