"""MessageRouter: a function for each message, with dependencies and permissions of its own."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Iterator
from threading import Event
from typing import Annotated, Any, Literal

import pytest
from django.contrib.auth.models import Permission, User
from django.core.exceptions import PermissionDenied
from django.http import Http404
from pydantic import BaseModel
from typing_extensions import TypedDict

from fastws_compat import (
    APIRouter,
    BackgroundTasks,
    Depends,
    ErrorFrame,
    FastAPI,
    Header,
    HTTPException,
    MessageRouter,
    TypedWebSocket,
    WebSocket,
    WebSocketDisconnect,
    WebSocketException,
)
from fastws_compat.auth import get_user, login_required, permission_required
from fastws_compat.exceptions import DeclarationError
from fastws_compat.groups import Group
from fastws_compat.testclient import TestClient
from tests.messages import Found, Post, Said, Search
from tests.typed_apps import serving


class Ban(BaseModel):
    type: Literal["ban"] = "ban"
    user: str


class Drawn(TypedDict):
    type: Literal["drawn"]
    x: int


calls: list[str] = []
Token = Annotated[str, Header()]


async def room(slug: str) -> str:
    calls.append("room")
    return f"room {slug}"


async def fresh(slug: str) -> AsyncIterator[str]:
    calls.append("begin")
    try:
        yield f"fresh {slug}"
    finally:
        calls.append("end")


def sync_fresh(limit: int = 3) -> Iterator[int]:
    calls.append("sync begin")
    yield limit
    calls.append("sync end")


async def nested(fresh: Annotated[str, Depends(fresh)], room: Annotated[str, Depends(room)]) -> str:
    return f"{fresh}, {room}"


commands = MessageRouter()


@commands.on
async def post(
    message: Post,
    websocket: WebSocket,
    room: Annotated[str, Depends(room)],
    nested: Annotated[str, Depends(nested)],
    again: Annotated[str, Depends(fresh)],
    limit: Annotated[int, Depends(sync_fresh)],
    tasks: BackgroundTasks,
    x_token: Token = "none",
) -> Said | None:
    tasks.add_task(calls.append, "task")
    match message.text:
        case "403":
            raise PermissionDenied
        case "404":
            raise Http404
        case "409":
            raise HTTPException(409, "taken")
        case "boom":
            raise ValueError("boom")
        case "lookup":
            raise LookupError("lookup")
        case "close":
            raise WebSocketException(4000, "enough")
        case "silent":
            return None
    return Said(text=f"{message.text}|{room}|{nested}|{again}|{limit}|{x_token}")


@commands.on
async def search(message: Search) -> Found:
    if message.q == "409":
        raise HTTPException(409)
    return Found(hits=[message.q])


@commands.on()
def sync(message: Ban) -> Said:
    return Said(text=message.user)


@commands.on
async def data(message: bytes) -> bytes:
    return message


@commands.on
async def drawn(message: Drawn) -> Drawn:
    return message


app = FastAPI()
router = APIRouter(prefix="/rooms")


@router.websocket("/{slug}", handlers=commands)
async def endpoint(
    websocket: TypedWebSocket[Post | Search | Ban | Drawn | bytes, Said | Found | Drawn | bytes],
    room: Annotated[str, Depends(room)],
) -> None:
    await websocket.accept()
    await websocket.serve()
    calls.append("served")


app.include_router(router)


def connect(path: str = "/rooms/lobby", **options: Any) -> Any:
    calls.clear()
    return TestClient(app).websocket_connect(path, **options)


def ask(socket: Any, message: Any) -> Any:
    socket.send_message(message)
    return socket.receive_message()


def test_each_message_has_its_function() -> None:
    with connect() as socket:
        assert ask(socket, Search(id=1, q="x")) == Found(id=1, hits=["x"])
        assert ask(socket, Ban(user="bob")) == Said(text="bob")
        assert ask(socket, b"\x00") == b"\x00"
        socket.send_json({"type": "drawn", "x": 1})
        assert socket.receive_message() == {"type": "drawn", "x": 1}
    assert calls == ["room", "served"]


def test_dependencies_of_a_message() -> None:
    """What the handshake has solved keeps its value; the rest is called once per message and unwound."""
    with connect("/rooms/lobby?limit=5", headers={"x-token": "t"}) as socket:
        expected = Said(text="a|room lobby|fresh lobby, room lobby|fresh lobby|5|t")
        assert ask(socket, Post(text="a")) == expected
        socket.send_message(Post(text="silent"))
        assert ask(socket, Search(id=1, q="x")) == Found(id=1, hits=["x"])
    each = ["begin", "sync begin", "task", "sync end", "end"]
    assert calls == ["room", *each, *each, "served"]


def test_parameters_of_functions_are_validated_in_the_handshake() -> None:
    with pytest.raises(WebSocketDisconnect) as caught, connect("/rooms/lobby?limit=much"):
        pass
    assert caught.value.code == 1008


@pytest.mark.parametrize(
    ("text", "frame"),
    [
        ("403", ErrorFrame(status=403, detail="Forbidden")),
        ("404", ErrorFrame(status=404, detail="Not Found")),
        ("409", ErrorFrame(status=409, detail="taken")),
    ],
)
def test_refusals_are_frames_and_the_socket_lives(
    text: str, frame: ErrorFrame, caplog: pytest.LogCaptureFixture
) -> None:
    with connect() as socket:
        assert ask(socket, Post(text=text)) == frame
        assert ask(socket, Ban(user="bob")) == Said(text="bob")
    assert calls == ["room", "begin", "sync begin", "end", "served"]
    assert caplog.records == []


def test_an_error_for_a_call_has_its_id() -> None:
    with connect() as socket:
        assert ask(socket, Search(id="c1", q="409")) == ErrorFrame(status=409, detail="Conflict", id="c1")


def test_an_id_that_is_too_long_is_not_echoed() -> None:
    with connect() as socket:
        socket.send_message(Search(id="x" * 64, q="409"))
        assert socket.receive_message().id == "x" * 64
        socket.send_message(Search(id="x" * 65, q="409"))
        assert socket.receive_message() == ErrorFrame(status=409, detail="Conflict")


def test_another_exception_is_a_frame_and_a_traceback(caplog: pytest.LogCaptureFixture) -> None:
    with connect() as socket:
        assert ask(socket, Post(text="boom")) == ErrorFrame(status=500, detail="Internal Server Error")
        assert ask(socket, Ban(user="bob")) == Said(text="bob")
    [record] = caplog.records
    assert record.levelno == logging.ERROR
    assert record.exc_info is not None


def test_a_handler_of_the_application_gets_other_exceptions(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Any] = []

    async def handler(websocket: Any, exc: Exception) -> None:
        seen.append(exc)
        await websocket.send_message(Said(text="handled"))

    monkeypatch.setattr(app, "middleware_stack", None)
    monkeypatch.setattr(
        app, "exception_handlers", {**app.exception_handlers, LookupError: handler, HTTPException: handler}
    )
    with connect() as socket:
        assert ask(socket, Post(text="lookup")) == Said(text="handled")
        assert ask(socket, Post(text="409")) == ErrorFrame(status=409, detail="taken")
        assert ask(socket, Ban(user="bob")) == Said(text="bob")
    assert [type(each) for each in seen] == [LookupError]
    monkeypatch.setattr(app, "middleware_stack", None)
    monkeypatch.setattr(app, "exception_handlers", {Exception: handler})
    with connect() as socket:
        assert ask(socket, Post(text="boom")) == Said(text="handled")
        assert ask(socket, Ban(user="bob")) == Said(text="bob")


def test_a_websocket_exception_closes() -> None:
    with connect() as socket:
        socket.send_message(Post(text="close"))
        with pytest.raises(WebSocketDisconnect) as caught:
            socket.receive_message()
        assert (caught.value.code, caught.value.reason) == (4000, "enough")


@pytest.mark.parametrize(("text", "errors"), [("quiet", 0), ("answer", 1), ("409", 0), ("handled", 0)])
def test_a_function_may_close_the_socket(text: str, errors: int, caplog: pytest.LogCaptureFixture) -> None:
    """`serve` returns; only an answer after the end is a mistake."""
    app, handlers, served = FastAPI(), MessageRouter(), []

    @app.exception_handler(KeyError)
    async def close(websocket: WebSocket, exc: KeyError) -> None:
        await websocket.close(4005, "bye")

    @handlers.on
    async def post(message: Post, websocket: WebSocket) -> Said | None:
        if message.text == "handled":
            raise KeyError
        await websocket.close(4005, "bye")
        if message.text == "409":
            raise HTTPException(409)
        return Said(text="too late") if message.text == "answer" else None

    @app.websocket("/", handlers=handlers)
    async def endpoint(websocket: TypedWebSocket[Post, Said]) -> None:
        await websocket.accept()
        await websocket.serve()
        served.append(text)

    with TestClient(app).websocket_connect("/") as socket:
        socket.send_message(Post(text=text))
        with pytest.raises(WebSocketDisconnect) as caught:
            socket.receive_message()
    assert caught.value.code == 4005
    assert served == [text]
    assert len(caplog.records) == errors


def test_background_tasks_run_after_the_answer(caplog: pytest.LogCaptureFixture) -> None:
    """An exception in them is logged, and the client gets no second answer."""
    app, handlers, answered = FastAPI(), MessageRouter(), [Event() for _ in range(3)]

    async def work(message: Search) -> None:
        while not answered[int(message.id)].is_set():
            await asyncio.sleep(0.01)
        if message.q == "bad":
            raise HTTPException(409)

    @handlers.on
    async def search(message: Search, tasks: BackgroundTasks) -> Found:
        tasks.add_task(work, message)
        return Found(hits=[message.q])

    @app.websocket("/", handlers=handlers)
    async def endpoint(websocket: TypedWebSocket[Search, Found]) -> None:
        await websocket.accept()
        await websocket.serve()

    with TestClient(app).websocket_connect("/") as socket:
        for id, q in enumerate(["good", "bad", "good"]):
            assert ask(socket, Search(id=id, q=q)) == Found(id=id, hits=[q])
            answered[id].set()
    assert [record.exc_info and record.exc_info[0] for record in caplog.records] == [HTTPException]


def test_overrides_hold_for_messages_too() -> None:
    app.dependency_overrides[fresh] = lambda: "other"
    try:
        with connect() as socket:
            assert "|other, room lobby|other|" in ask(socket, Post(text="a")).text
    finally:
        app.dependency_overrides.clear()


def test_serve_needs_functions() -> None:
    application = FastAPI()

    @application.websocket("/")
    async def endpoint(websocket: TypedWebSocket[Post, Said]) -> None:
        await websocket.accept()
        await websocket.serve()

    with pytest.raises(RuntimeError, match="handlers="):
        with TestClient(application).websocket_connect("/"):
            pass


# Permissions

guarded = MessageRouter()


@guarded.on(dependencies=[Depends(permission_required("auth.delete_user"))])
async def ban(message: Ban, user: Annotated[Any, Depends(get_user)]) -> Said:
    return Said(text=user.first_name)


@guarded.on
async def who(message: Post, user: Annotated[Any, Depends(login_required)]) -> Said:
    return Said(text=user.first_name)


protected = FastAPI()


@protected.websocket("/open", handlers=guarded)
async def for_all(websocket: TypedWebSocket[Ban | Post, Said]) -> None:
    await websocket.accept()
    await websocket.serve()


@protected.websocket("/user", handlers=guarded)
async def for_users(
    websocket: TypedWebSocket[Ban | Post, Said], user: Annotated[Any, Depends(login_required)]
) -> None:
    await websocket.accept()
    await websocket.serve()


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("path", ["/open", "/user"])
def test_permissions_are_checked_afresh_for_each_message(path: str) -> None:
    user = User.objects.create_user("ann", first_name="Ann")
    permission = Permission.objects.get(codename="delete_user")
    client = TestClient(protected)
    client.force_login(user)
    with client.websocket_connect(path) as socket:
        assert ask(socket, Ban(user="bob")).status == 403
        user.user_permissions.add(permission)
        assert ask(socket, Ban(user="bob")) == Said(text="Ann")
        User.objects.filter(pk=user.pk).update(first_name="Anna")
        assert ask(socket, Post(text="who")) == Said(text="Anna")
        assert ask(socket, Ban(user="bob")) == Said(text="Anna")
        user.user_permissions.remove(permission)
        assert ask(socket, Ban(user="bob")).status == 403
        assert ask(socket, Post(text="who")) == Said(text="Anna")


@pytest.mark.django_db(transaction=True)
def test_a_visitor_gets_401_and_the_socket_lives() -> None:
    with TestClient(protected).websocket_connect("/open") as socket:
        assert ask(socket, Ban(user="bob")).status == 401
        assert ask(socket, Post(text="who")).status == 401


@pytest.mark.django_db(transaction=True)
def test_a_user_of_other_code_is_reloaded() -> None:
    user = User.objects.create_user("ann", first_name="Ann")

    async def with_user(scope: Any, receive: Any, send: Any) -> None:
        await protected({**scope, "user": user}, receive, send)

    with TestClient(with_user).websocket_connect("/open") as socket:
        assert ask(socket, Post(text="who")) == Said(text="Ann")
        User.objects.filter(pk=user.pk).update(first_name="Anna")
        assert ask(socket, Post(text="who")) == Said(text="Anna")
        User.objects.filter(pk=user.pk).delete()
        assert ask(socket, Post(text="who")).status == 401


# Declarations


async def for_post(message: Post) -> None: ...


async def for_both(message: Post | Search) -> Found: ...


async def says(message: Post) -> Said: ...


async def for_nothing(text: str) -> None: ...


async def for_search(message: Search) -> None: ...


async def body(message: Post, other: Said) -> None: ...


async def several(message: Post) -> AsyncIterator[Said]:
    yield Said(text=message.text)


async def typed(message: Post, websocket: TypedWebSocket[Post, None]) -> None: ...


@pytest.mark.parametrize(
    ("form", "out", "functions", "words"),
    [
        (Post | Ban, None, [for_post], "takes Ban, but handlers= has no function"),
        (Post, None, [for_post, for_post], "Post has two functions"),
        (Ban, None, [for_post], "no parameter for a message"),
        (Post, None, [for_nothing], "no parameter for a message"),
        (Post, None, [says], "returns Said, which is not among"),
        (Post | Search, Found, [for_post, for_search], "has to return Found, the reply of Search"),
        (Post, Said, [body], "read from the body"),
        (Post, Said, [several], "several of the handlers of endpoint is a generator"),
        (Post, Said, [typed], "name the same messages"),
    ],
)
def test_router_that_cannot_work(form: Any, out: Any, functions: list[Any], words: str) -> None:
    with pytest.raises(DeclarationError, match=words):
        serving(form, out, *functions)


def test_one_function_for_several_messages() -> None:
    serving(Post | Search, Found, for_both)


async def current(slug: str) -> str:
    return slug


async def for_text(
    slug: str,
    room: Annotated[str, Depends(current)],
    message: str,
    again: str = Depends(current),
    token: Token = "none",
) -> str:
    return " ".join([slug, room, message, again, token])


def test_a_message_is_told_from_other_parameters_of_its_type() -> None:
    app, handlers = FastAPI(), MessageRouter()
    handlers.on(for_text)

    @app.websocket("/{slug}", handlers=handlers)
    async def endpoint(websocket: TypedWebSocket[str, str]) -> None:
        await websocket.accept()
        await websocket.serve()

    with TestClient(app).websocket_connect("/lobby") as socket:
        assert ask(socket, "hi") == "lobby lobby hi lobby none"


@pytest.mark.parametrize("is_annotated", [(False, False, False), (True, True, False), (True, True, True)])
def test_what_is_said_of_a_message_makes_it_no_other(is_annotated: tuple[bool, bool, bool]) -> None:
    def kind(message: Any, is_annotated: bool) -> Any:
        return Annotated[message, "documented"] if is_annotated else message

    in_route, in_out, in_function = is_annotated

    async def found(message: Any) -> Any:
        return Found(hits=[message.q])

    async def said(message: Any) -> Any:
        return Said(text=message.text)

    found.__annotations__ = {"message": kind(Search, in_function), "return": kind(Found, in_function)}
    said.__annotations__ = {"message": kind(Post, in_function), "return": kind(Said, in_function)}
    app, handlers = FastAPI(), MessageRouter()
    handlers.on(found)
    handlers.on(said)

    async def endpoint(websocket: Any) -> None:
        await websocket.accept()
        await websocket.join(Group[kind(Said, in_function)]("room"))
        await websocket.serve()

    received = kind(Search, in_route) | kind(Post, in_route)
    sent = kind(Found, in_out) | kind(Said, in_out)
    endpoint.__annotations__["websocket"] = TypedWebSocket[received, sent]
    app.websocket("/", handlers=handlers)(endpoint)
    with TestClient(app).websocket_connect("/") as socket:
        assert ask(socket, Search(id=1, q="x")) == Found(id=1, hits=["x"])
        assert ask(socket, Post(text="hi")) == Said(text="hi")


def test_limit_of_a_generator_holds_until_its_cleanup_has_ended() -> None:
    app, handlers, held = FastAPI(), MessageRouter(), []

    def is_held() -> bool:
        return depends.concurrency.semaphore().locked()

    async def limited() -> AsyncIterator[None]:
        held.append(is_held())
        yield
        held.append(is_held())

    depends = Depends(limited, max_concurrency=1)

    @handlers.on(dependencies=[depends])
    async def post(message: Post) -> Said:
        return Said(text=f"{is_held()}")

    @app.websocket("/", handlers=handlers)
    async def endpoint(websocket: TypedWebSocket[Post, Said]) -> None:
        await websocket.accept()
        await websocket.serve()

    with TestClient(app).websocket_connect("/") as socket:
        for _ in range(2):
            socket.send_message(Post(text="hi"))
            assert socket.receive_message() == Said(text="True")
    assert held == [True] * 4


def test_handlers_is_a_router() -> None:
    with pytest.raises(DeclarationError, match="MessageRouter"):

        @FastAPI().websocket("/", handlers=[for_post])
        async def endpoint(websocket: TypedWebSocket[Post, None]) -> None: ...
