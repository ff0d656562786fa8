"""Where this library differs from FastAPI on purpose; one sentence each, the same as in docs/porting.md."""

import asyncio
import threading
from contextlib import suppress
from contextvars import ContextVar
from typing import TYPE_CHECKING, Annotated, Any

import pytest

from fastws_compat import (
    BackgroundTasks,
    Depends,
    FastAPI,
    HTTPException,
    Path,
    Query,
    Request,
    Response,
    WebSocket,
    WebSocketDisconnect,
    WebSocketState,
)
from fastws_compat.exceptions import DeclarationError
from fastws_compat.testclient import TestClient, WebSocketDenialResponse

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


def test_error_that_two_roads_lead_to_is_listed_once():
    """FastAPI lists an error twice when two dependencies share the one that has it."""
    app = FastAPI()

    @app.websocket("/ws", dependencies=[Depends(needs)])
    async def endpoint(websocket: WebSocket, one: Annotated[int, Depends(needs)], two: int = Depends(needs)):
        pass

    assert [error["loc"] for error in refusal(app).reason] == [["query", "q"]]


def test_error_of_a_dependency_called_twice_is_listed_once():
    """The same holds for a dependency that is called again because of `use_cache=False`."""
    app = FastAPI()

    @app.websocket("/ws")
    async def endpoint(
        websocket: WebSocket, one: int = Depends(needs), two: int = Depends(needs, use_cache=False)
    ):
        pass

    assert [error["loc"] for error in refusal(app).reason] == [["query", "q"]]


def test_errors_of_two_dependencies_with_the_same_parameter_are_both_listed():
    """Two dependencies that read the same name are two roads to two errors, as with FastAPI."""
    app = FastAPI()

    @app.websocket("/ws")
    async def endpoint(websocket: WebSocket, q: int, one: int = Depends(needs)):
        pass

    assert [error["loc"] for error in refusal(app).reason] == [["query", "q"], ["query", "q"]]


# --- mistakes are found at the decorator ---


def test_def_endpoint():
    """FastAPI takes a `def` endpoint and fails at the first connection."""

    def chat(websocket: WebSocket):
        pass

    with pytest.raises(DeclarationError, match="endpoint chat is a plain 'def': write 'async def chat'"):
        FastAPI().websocket("/ws")(chat)


def test_generator_endpoint():
    """FastAPI takes a generator as endpoint and fails at the first connection."""

    async def chat(websocket: WebSocket):
        yield

    with pytest.raises(DeclarationError, match="endpoint chat is a generator"):
        FastAPI().websocket("/ws")(chat)


def test_unannotated_websocket():
    """FastAPI reads a `websocket` without annotation from the query string."""

    async def chat(websocket):
        pass

    with pytest.raises(DeclarationError, match="Parameter 'websocket' of chat has no annotation"):
        FastAPI().websocket("/ws")(chat)


def test_unannotated_websocket_of_a_dependency():
    """The same holds in a dependency."""

    def user(websocket):
        pass

    async def chat(websocket: WebSocket, user: Annotated[Any, Depends(user)]):
        pass

    with pytest.raises(DeclarationError, match="Parameter 'websocket' of user has no annotation"):
        FastAPI().websocket("/ws")(chat)


def test_request_parameter():
    """FastAPI leaves a `Request` parameter out of the call, which then fails."""

    async def chat(websocket: WebSocket, request: Request):
        pass

    with pytest.raises(DeclarationError, match="Parameter 'request' of chat is a Request"):
        FastAPI().websocket("/ws")(chat)


def test_request_parameter_of_a_dependency():
    """The same holds in a dependency."""

    def user(request: Request):
        pass

    async def chat(websocket: WebSocket, user: Annotated[Any, Depends(user)]):
        pass

    with pytest.raises(DeclarationError, match="Parameter 'request' of user is a Request"):
        FastAPI().websocket("/ws")(chat)


def test_annotation_that_cannot_be_resolved():
    """FastAPI takes an annotation that only type checkers know and fails at the first connection."""

    async def chat(websocket: WebSocket, amount: "Decimal"):
        pass

    with pytest.raises(DeclarationError, match="Annotation 'Decimal' of parameter 'amount' of chat"):
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
    """The same holds in a dependency."""

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


def test_exception_that_nobody_handles_closes():
    """FastAPI lets the exception out to the server, which ends the connection in its own way."""
    app = FastAPI()

    @app.websocket("/ws")
    async def endpoint(websocket: WebSocket):
        await websocket.accept()
        raise ValueError

    assert close_after_accept(app, raise_server_exceptions=False).code == 1011


def test_disconnect_that_escapes_is_no_error():
    """FastAPI lets an uncaught WebSocketDisconnect out to the server, which logs it as an error."""
    app = FastAPI()
    sent: list[dict[str, Any]] = []
    messages = iter([{"type": "websocket.connect"}, {"type": "websocket.disconnect", "code": 1001}])

    @app.websocket("/ws")
    async def endpoint(websocket: WebSocket):
        await websocket.accept()
        await websocket.receive_text()

    async def receive():
        return next(messages)

    async def send(message):
        sent.append(message)

    asyncio.run(app({"type": "websocket", "path": "/ws", "headers": [], "query_string": b""}, receive, send))
    assert [message["type"] for message in sent] == ["websocket.accept"]


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
    """FastAPI sends an HTTP response into the open socket, which every server refuses in its own way."""
    app = FastAPI()

    @app.websocket("/ws")
    async def endpoint(websocket: WebSocket):
        await websocket.accept()
        raise HTTPException(404, "no such room")

    closed = close_after_accept(app)
    assert (closed.code, closed.reason) == (4404, "no such room")


def test_http_exception_before_accept_without_the_extension():
    """FastAPI sends a denial response even to a server that does not know it."""
    app = FastAPI()
    sent: list[dict[str, Any]] = []

    @app.websocket("/ws")
    async def endpoint(websocket: WebSocket):
        raise HTTPException(404)

    async def receive():
        return {"type": "websocket.connect"}

    async def send(message):
        sent.append(message)

    asyncio.run(app({"type": "websocket", "path": "/ws", "headers": [], "query_string": b""}, receive, send))
    assert [message["type"] for message in sent] == ["websocket.close"]


# --- what FastAPI injects and then forgets ---


def test_background_tasks_run():
    """FastAPI injects BackgroundTasks on a socket and never runs them."""
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
    """FastAPI injects a Response on a socket and drops what is set on it."""
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
    """FastAPI hands the list of errors to the server as close reason, which is no text."""
    app = FastAPI()
    sent: list[dict[str, Any]] = []

    @app.websocket("/ws")
    async def endpoint(websocket: WebSocket, q: Annotated[int, Query()]):
        pass

    async def receive():
        return {"type": "websocket.connect"}

    async def send(message):
        sent.append(message)

    asyncio.run(app({"type": "websocket", "path": "/ws", "headers": [], "query_string": b""}, receive, send))
    assert sent == [{"type": "websocket.close", "code": 1008, "reason": ""}]
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


def test_socket_used_in_vain_lets_others_run():
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
