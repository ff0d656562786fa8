"""Typed messages: what a route takes and sends, and what becomes of everything else."""

from __future__ import annotations

import json
import logging
import subprocess
import sys
from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from enum import Enum, StrEnum
from typing import Annotated, Any, Generic, Literal, TypeVar
from uuid import UUID

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import (
    AliasChoices,
    AliasPath,
    BaseModel,
    ConfigDict,
    Discriminator,
    Field,
    FiniteFloat,
    Tag,
    computed_field,
    field_validator,
)
from pydantic_core import core_schema
from typing_extensions import TypeAliasType, TypedDict

from fastws_compat import (
    APIRouter,
    Depends,
    ErrorFrame,
    FastAPI,
    MessageValidationError,
    Reply,
    TypedWebSocket,
    WebSocket,
    WebSocketDisconnect,
)
from fastws_compat.endpoints import WebSocketEndpoint
from fastws_compat.exceptions import DeclarationError, ResponseValidationError
from fastws_compat.groups import Group
from fastws_compat.messages import message_validation_exception_handler
from fastws_compat.routing import websocket_session
from fastws_compat.testclient import TestClient, WebSocketDenialResponse
from tests.messages import Found, Post, Said, Search
from tests.servers.test_messages import BAD, POST
from tests.servers.typed import In, Out, app
from tests.typed_apps import echo, typed


def connect(path: str, application: Any = app) -> Any:
    return TestClient(application).websocket_connect(path)


def ask(socket: Any, frame: str | bytes) -> Any:
    socket.send_bytes(frame) if isinstance(frame, bytes) else socket.send_text(frame)
    return socket.receive_json()


# The table of answers


@pytest.mark.parametrize("kind", BAD)
def test_answer(kind: str) -> None:
    frame, status, _ = BAD[kind]
    with connect("/answer") as socket:
        answer = ask(socket, frame)
        assert (answer["type"], answer["status"]) == ("error", status)
        assert "id" not in answer
        assert ask(socket, POST) == {"type": "said", "text": "hi"}


@pytest.mark.parametrize("path", ["/close", "/router/closing", "/router/answering"])
@pytest.mark.parametrize("kind", BAD)
def test_close(kind: str, path: str) -> None:
    frame, _, code = BAD[kind]
    with connect(path) as socket:
        socket.send_bytes(frame) if isinstance(frame, bytes) else socket.send_text(frame)
        with pytest.raises(WebSocketDisconnect) as caught:
            socket.receive_message()
        assert caught.value.code == code


@pytest.mark.parametrize("path", ["/raise", "/handled/raise"])
@pytest.mark.parametrize("kind", BAD)
def test_raise(kind: str, path: str) -> None:
    frame, status, code = BAD[kind]
    with pytest.raises(MessageValidationError) as caught:
        with connect(path) as socket:
            socket.send_bytes(frame) if isinstance(frame, bytes) else socket.send_text(frame)
            socket.receive_message()
    error = caught.value
    assert (error.status, error.close_code, error.body) == (status, code, frame)
    assert error.errors()[0]["loc"][0] == "message"


@pytest.mark.parametrize("path", ["/raise", "/handled/raise"])
def test_a_raised_error_closes_with_one_line_and_no_traceback(
    path: str, caplog: pytest.LogCaptureFixture
) -> None:
    client = TestClient(app, raise_server_exceptions=False)
    with client.websocket_connect(path) as socket:
        socket.send_text('{"type":"nope"}')
        with pytest.raises(WebSocketDisconnect) as caught:
            socket.receive_message()
    assert caught.value.code == 4422
    [record] = caplog.records
    assert record.levelno == logging.WARNING
    assert record.exc_info is None


@pytest.mark.parametrize("kind", BAD)
def test_handler_of_the_application(kind: str) -> None:
    frame, status, code = BAD[kind]
    with connect("/handled/talk") as socket:
        assert ask(socket, frame) == {"handled": status, "code": code}
        assert ask(socket, POST) == {"type": "said", "text": "hi"}


def test_answers_are_not_logged(caplog: pytest.LogCaptureFixture) -> None:
    with connect("/answer") as socket:
        ask(socket, "{bad")
    with connect("/close") as socket:
        socket.send_text("{bad")
        with pytest.raises(WebSocketDisconnect):
            socket.receive_message()
    assert caplog.records == []


def test_the_built_in_handler_can_be_called() -> None:
    application = FastAPI()
    seen = []

    @application.exception_handler(MessageValidationError)
    async def handler(websocket: Any, exc: MessageValidationError) -> None:
        seen.append(exc.body)
        await message_validation_exception_handler(websocket, exc)

    @application.websocket("/")
    async def endpoint(websocket: TypedWebSocket[Post, Said]) -> None:
        await websocket.accept()
        async for _ in websocket:
            pass

    with connect("/", application) as socket:
        answer = ask(socket, '{"type":"x","id":"c7"}')
    assert (answer["status"], answer["id"]) == (422, "c7")
    assert seen == ['{"type":"x","id":"c7"}']


def test_a_handler_may_close() -> None:
    application = FastAPI()

    @application.exception_handler(MessageValidationError)
    async def handler(websocket: WebSocket, exc: MessageValidationError) -> None:
        await websocket.close(exc.close_code)

    @application.websocket("/")
    async def endpoint(websocket: TypedWebSocket[Post, Said]) -> None:
        await websocket.accept()
        async for _ in websocket:
            pass

    with connect("/", application) as socket:
        socket.send_text("[]")
        with pytest.raises(WebSocketDisconnect) as caught:
            socket.receive_message()
    assert caught.value.code == 4422


def test_the_exact_answer() -> None:
    with connect("/answer") as socket:
        socket.send_text('{"type":"post","text":"","id":"c7"}')
        assert socket.receive_text() == (
            '{"type":"error","status":422,"detail":[{"type":"string_too_short","loc":["message","post","text"],'
            '"msg":"String should have at least 1 character"}],"id":"c7"}'
        )


@pytest.mark.parametrize(
    ("sent", "echoed"),
    [
        ('"c7"', "c7"),
        ("7", 7),
        ("-1", -1),
        (f'"{"x" * 64}"', "x" * 64),
        (f'"{"x" * 65}"', None),
        ("true", None),
        ("1.0", None),
        ("null", None),
        ("[1]", None),
        ("1" * 4000, None),
    ],
)
def test_ids_are_echoed_by_their_form(sent: str, echoed: Any) -> None:
    with connect("/answer") as socket:
        answer = ask(socket, f'{{"type":"nope","id":{sent}}}')
        assert answer.get("id") == echoed
        assert ("id" in answer) == (echoed is not None)


def test_true_is_no_id_of_a_call() -> None:
    with connect("/answer") as socket:
        assert ask(socket, '{"type":"search","q":"x","id":true}')["status"] == 422


def test_details_are_short() -> None:
    long = "ä" * 5000
    with connect("/answer") as socket:
        [item] = ask(socket, json.dumps({"type": long}))["detail"]
        assert len(item["msg"]) <= 200
        assert item["msg"].endswith("…")
        assert item.keys() == {"type", "loc", "msg"}
    with connect("/", echo(dict[str, dict[str, int]])) as socket:
        socket.send_json({long: {long + str(number): "x" for number in range(50)}})
        text = socket.receive_text()
        assert len(text.encode()) <= 2048
        assert 1 <= len(json.loads(text)["detail"]) <= 5


class Nested(BaseModel):
    inner: dict[str, Nested] | int


class Numbers(BaseModel):
    numbers: list[int]


@pytest.mark.parametrize(("count", "kind"), [(1000, "int_parsing"), (1001, "too_many_errors")])
def test_more_errors_than_anybody_reads_are_only_counted(count: int, kind: str) -> None:
    with connect("/", echo(Numbers)) as socket:
        answer = ask(socket, json.dumps({"id": 7, "numbers": ["x"] * count}))
        assert (answer["status"], answer["id"], answer["detail"][0]["type"]) == (422, 7, kind)
        assert ask(socket, '{"numbers": [1]}') == {"numbers": [1]}


def test_a_deep_location_fits_the_frame() -> None:
    value: Any = "x"
    for _ in range(60):
        value = {"inner": {"ö" * 150: value}}
    with connect("/", echo(Nested)) as socket:
        socket.send_json(value)
        text = socket.receive_text()
        assert len(text.encode()) <= 2048
        assert json.loads(text)["status"] == 422


def test_ten_bad_one_good_ten_bad_stays_open_and_eleven_close() -> None:
    with connect("/answer") as socket:
        for _ in range(2):
            for _ in range(10):
                assert ask(socket, "{bad")["status"] == 400
            assert ask(socket, POST) == {"type": "said", "text": "hi"}
        for _ in range(10):
            ask(socket, "[]")
        socket.send_bytes(b"x")
        with pytest.raises(WebSocketDisconnect) as caught:
            socket.receive_message()
        assert caught.value.code == 1003


@pytest.mark.parametrize(("path", "most"), [("/once", 1), ("/router/answering", 0)])
def test_max_invalid(path: str, most: int) -> None:
    with connect(path) as socket:
        for _ in range(most):
            ask(socket, "[]")
        socket.send_text("[]")
        with pytest.raises(WebSocketDisconnect) as caught:
            socket.receive_message()
        assert caught.value.code == 4422


def test_max_invalid_none() -> None:
    with connect("/patient") as socket:
        for _ in range(30):
            ask(socket, "[]")


def test_misfits_count_under_raise_and_under_a_handler() -> None:
    application = FastAPI(on_invalid="raise", max_invalid=2)

    @application.websocket("/")
    async def endpoint(websocket: TypedWebSocket[Post, Said]) -> None:
        await websocket.accept()
        while True:
            try:
                await websocket.receive_message()
            except MessageValidationError:
                await websocket.send_message(Said(text="no"))
            except WebSocketDisconnect:
                break

    with connect("/", application) as socket:
        for _ in range(2):
            assert ask(socket, "[]") == {"type": "said", "text": "no"}
        socket.send_text("[]")
        with pytest.raises(WebSocketDisconnect) as caught:
            socket.receive_message()
        assert caught.value.code == 4422
    with connect("/handled/talk") as socket:
        for _ in range(10):
            ask(socket, "[]")
        socket.send_text("{bad")
        with pytest.raises(WebSocketDisconnect) as caught:
            socket.receive_message()
        assert caught.value.code == 1007


def test_the_innermost_option_wins() -> None:
    application = FastAPI(on_invalid="close")
    inner = APIRouter(max_invalid=3)

    @inner.websocket("/inner", on_invalid="raise")
    async def endpoint(websocket: TypedWebSocket[Post, Said]) -> None: ...

    application.include_router(inner)
    contract = application.routes[0].expanded()[0].contract  # type: ignore[attr-defined]
    assert (contract.on_invalid, contract.max_invalid) == ("raise", 3)


def test_error_frames_are_counted_and_never_answered() -> None:
    with connect("/answer") as socket:
        for _ in range(10):
            socket.send_json({"type": "error", "status": 422})
        assert ask(socket, POST) == {"type": "said", "text": "hi"}
        for _ in range(11):
            socket.send_json({"type": "error"})
        with pytest.raises(WebSocketDisconnect) as caught:
            socket.receive_message()
        assert caught.value.code == 4422


# Heartbeat


@pytest.mark.parametrize("frame", ['{"type":"ping"}', ' {"type" : "\\u0070ing"} '])
def test_heartbeat(frame: str) -> None:
    with connect("/answer") as socket:
        assert ask(socket, frame) == {"type": "pong"}
    with connect("/close") as socket:
        socket.send_text(frame)
        with pytest.raises(WebSocketDisconnect):
            socket.receive_message()


@pytest.mark.parametrize("form", [dict[str, Any], str, None])
def test_heartbeat_comes_before_a_message_that_would_fit(form: Any) -> None:
    with connect("/", echo(form, heartbeat=True)) as socket:
        assert ask(socket, '{"type":"ping"}') == {"type": "pong"}


def test_heartbeat_of_another_tag() -> None:
    class Act(BaseModel):
        action: Literal["act"] = "act"

    with connect("/", echo(Act, heartbeat=True)) as socket:
        assert ask(socket, '{"action":"ping"}') == {"action": "pong"}
        assert ask(socket, '{"type":"ping"}')["action"] == "error"


# Declarations


def declare(form: Any, out: Any = None, **options: Any) -> None:
    async def endpoint(websocket: Any) -> None: ...

    typed(endpoint, form, out, **options)


class Ping(BaseModel):
    type: Literal["ping"] = "ping"


class Step(Enum):
    OPEN = "open"
    CLOSE = "close"


class Opening(BaseModel):
    step: Literal[Step.OPEN] = Step.OPEN


class Closing(BaseModel):
    step: Literal[Step.CLOSE] = Step.CLOSE


class BadError(BaseModel):
    type: Literal["error"] = "error"


class FullError(ErrorFrame):
    more: int


class OwnError(ErrorFrame):
    more: int = 3


class TextError(ErrorFrame):
    detail: str


class NumberError(ErrorFrame):
    id: int | None = None


class LongError(ErrorFrame):
    more: str = "x" * 2000


@pytest.mark.parametrize(
    ("form", "out", "options", "words"),
    [
        (Post | str, None, {}, "'str' beside Post"),
        (None, Said | str, {}, "'str' beside Said"),
        (Post | bytes, None, {"binary_json": True}, "binary_json=True and takes 'bytes'"),
        (None, Post, {"binary_json": True}, "no JSON"),
        (Ping | Post, None, {"heartbeat": True}, "rename the tag of Ping"),
        (Post, BadError, {}, "inherit from ErrorFrame"),
        (Post, FullError, {}, "'more' fit every error"),
        (Post, TextError, {}, "'detail' fit every error"),
        (Post, NumberError, {}, "'id' fit every error"),
        (Post, LongError, {}, "LongError, which are longer than 2048 bytes"),
        (Search, Said, {}, "whose reply Found is not among"),
        (Post, Said, {"receives": Post}, "receives="),
        (Post, Said, {"on_invalid": "ignore"}, "'answer', 'close', 'raise'"),
        (Post, Said, {"max_invalid": -1}, "max_invalid=-1"),
        (Post, Said, {"heartbeat": "yes"}, "heartbeat='yes': write True or False"),
        (Post, Said, {"binary_json": 1}, "binary_json=1: write True or False"),
        (object(), None, {}, "pydantic"),
        (Opening | Closing, None, {}, "'step' is Step.OPEN, .*: let Step inherit from StrEnum"),
    ],
)
def test_declaration_that_cannot_work(form: Any, out: Any, options: dict[str, Any], words: str) -> None:
    with pytest.raises(DeclarationError, match=words):
        declare(form, out, **options)


def test_a_route_of_starlette_has_no_messages() -> None:
    async def endpoint(websocket: TypedWebSocket[Post, Said]) -> None: ...

    class Endpoint(WebSocketEndpoint):
        async def on_connect(self, websocket: TypedWebSocket[Post, Said]) -> None: ...  # type: ignore[override]

    for call in (endpoint, Endpoint):
        with pytest.raises(
            DeclarationError, match=r"declare it with websocket\(\) instead of websocket_route"
        ):
            FastAPI().router.add_websocket_route("/", call)
    with pytest.raises(DeclarationError, match="validates no messages"):
        websocket_session(endpoint)


def test_types_are_needed() -> None:
    with pytest.raises(DeclarationError, match=r"TypedWebSocket\[In, Out\]"):

        @FastAPI().websocket("/")
        async def endpoint(websocket: TypedWebSocket) -> None: ...  # type: ignore[type-arg]

    for item in (Post, (Post,), (Post, Said, Said)):
        with pytest.raises(DeclarationError, match="two types"):
            TypedWebSocket[item]  # type: ignore[index]


@pytest.mark.parametrize(
    "options",
    [
        {"heartbeat": True},
        {"binary_json": True},
        {"on_invalid": "close"},
        {"max_invalid": 3},
        {"max_invalid": None},
        {"max_invalid": 3, "receives": Post},
    ],
)
def test_options_of_typed_sockets_need_one(options: dict[str, Any]) -> None:
    async def endpoint(websocket: WebSocket) -> None: ...

    name = next(iter(options))
    for owner in (FastAPI(), APIRouter()):
        with pytest.raises(
            DeclarationError, match=rf"endpoint has {name}=, which needs a TypedWebSocket: write"
        ):
            owner.websocket("/", **options)(endpoint)


def test_plain_routes_may_stand_beside_typed_ones() -> None:
    """A router's `on_invalid` and `max_invalid` are for its typed routes, and the plain ones ignore them."""

    async def endpoint(websocket: WebSocket) -> None: ...

    application, router = FastAPI(max_invalid=3), APIRouter(on_invalid="close")
    router.websocket("/plain", heartbeat=False, binary_json=False)(endpoint)
    router.websocket("/typed")(speak)
    application.include_router(router, prefix="/inner")
    plain, typed = application.routes[0].expanded()
    assert plain.contract is None  # type: ignore[attr-defined]
    assert (typed.contract.on_invalid, typed.contract.max_invalid) == ("close", 3)  # type: ignore[attr-defined]


def test_options_of_routes_are_not_those_of_routers() -> None:
    router = APIRouter()
    for make in (FastAPI, APIRouter, lambda **options: FastAPI().include_router(router, **options)):
        with pytest.raises(TypeError, match=r"'heartbeat': it is an option of websocket\(\)\.$"):
            make(heartbeat=True)
    with pytest.raises(TypeError, match=r"'max_invalid': it is an option of websocket\(\), APIRouter\(\) or"):
        FastAPI().include_router(router, max_invalid=3)


def test_tags_are_a_list() -> None:
    with pytest.raises(TypeError, match=r"tags='chat': write a list, tags=\['chat'\]"):
        FastAPI().websocket("/", tags="chat")


def test_endpoint_and_dependencies_name_the_same_messages() -> None:
    async def other(websocket: TypedWebSocket[Post, None]) -> None: ...

    with pytest.raises(DeclarationError, match="name the same messages"):

        @FastAPI().websocket("/", dependencies=[Depends(other)])
        async def endpoint(websocket: TypedWebSocket[Post, Said]) -> None: ...


def test_all_get_the_same_socket() -> None:
    application = FastAPI()
    seen: list[Any] = []

    async def plain(websocket: WebSocket) -> None:
        seen.append(websocket)

    async def typed(websocket: TypedWebSocket[Post, Said]) -> None:
        seen.append(websocket)

    @application.websocket("/", dependencies=[Depends(plain), Depends(typed)])
    async def endpoint(websocket: WebSocket) -> None:
        seen.append(websocket)
        await websocket.accept()

    with connect("/", application):
        pass
    assert seen[0] is seen[1] is seen[2]
    assert type(seen[0]) is TypedWebSocket[Post, Said]
    assert isinstance(seen[0], WebSocket)


def test_caps_hold_for_typed_routes() -> None:
    app = FastAPI()

    @app.websocket("/", max_connections=1)
    async def endpoint(websocket: TypedWebSocket[Post, Said]) -> None:
        await websocket.accept()
        async for _ in websocket:
            pass

    client = TestClient(app)
    with client.websocket_connect("/"):
        with pytest.raises(WebSocketDenialResponse) as refused:
            with client.websocket_connect("/"):
                pass
    assert refused.value.status_code == 503


def test_parametrized_classes_are_cached() -> None:
    assert TypedWebSocket[Post, Said] is TypedWebSocket[Post, Said]
    limited = Annotated[Post | Search, Field(discriminator="type")]
    assert TypedWebSocket[limited, Said | Found] is TypedWebSocket[limited, Said | Found]
    assert issubclass(TypedWebSocket[Post, Said], TypedWebSocket)


class Once(BaseModel):
    n: int


class Twice(BaseModel):
    n: int


@pytest.mark.parametrize(
    "forms",
    [
        (Once | Twice, Twice | Once),
        (Annotated[Once | Twice, {"not": "hashable"}], Annotated[Twice | Once, {"not": "hashable"}]),
    ],
)
def test_of_messages_that_fit_equally_the_first_one_of_the_route_counts(forms: Any) -> None:
    got: list[Any] = []

    async def endpoint(websocket: Any) -> None:
        await websocket.accept()
        got.append(await websocket.receive_message())

    for form in forms:
        assert TypedWebSocket[form, None] is TypedWebSocket[form, None]
        assert Group[form] is Group[form]
        with connect("/", typed(endpoint, form)) as socket:
            socket.send_text('{"n": 1}')
    assert got == [Once(n=1), Twice(n=1)]
    assert Group[forms[0]] is not Group[forms[1]]
    assert TypedWebSocket[list[Once | Twice], None] is not TypedWebSocket[list[Twice | Once], None]


def test_a_plain_route_is_as_it_was() -> None:
    application = FastAPI()

    @application.websocket("/")
    async def endpoint(websocket: WebSocket) -> None:
        assert type(websocket) is WebSocket
        await websocket.accept()

    route: Any = application.routes[0]
    assert (route.contract, route.plan.socket) == (None, None)
    assert "run" not in vars(route)
    with connect("/", application):
        pass


def test_a_process_without_typed_sockets_does_not_import_their_machinery() -> None:
    script = """
import sys
from fastws_compat import FastAPI, WebSocket
from fastws_compat.testclient import TestClient
app = FastAPI()
@app.websocket("/")
async def endpoint(websocket: WebSocket):
    await websocket.accept()
    await websocket.send_json(await websocket.receive_json())
with TestClient(app).websocket_connect("/") as socket:
    socket.send_json(1)
    socket.receive_json()
print([name for name in sys.modules if name.startswith("fastws_compat.messages")])
"""
    found = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"


# Types that are defined later


def test_a_model_below_an_endpoint_of_an_app() -> None:
    with pytest.raises(DeclarationError, match=r"'Later'.* move its definition up"):

        @FastAPI().websocket("/")
        async def endpoint(websocket: TypedWebSocket[Later, None]) -> None: ...  # noqa: F821


def test_a_model_below_an_endpoint_of_a_router(monkeypatch: pytest.MonkeyPatch) -> None:
    router = APIRouter()

    @router.websocket("/")
    async def endpoint(websocket: TypedWebSocket[Later | Post, Said]) -> None:  # type: ignore[name-defined]
        await websocket.accept()
        async for message in websocket:
            await websocket.send_message(Said(text=type(message).__name__))

    with pytest.raises(DeclarationError, match="'Later'"):
        FastAPI().include_router(router)

    class Later(BaseModel):
        type: Literal["later"]

    monkeypatch.setitem(globals(), "Later", Later)
    application = FastAPI()
    application.include_router(router)
    with connect("/", application) as socket:
        assert ask(socket, '{"type":"later"}') == {"type": "said", "text": "Later"}


class HasLater(BaseModel):
    later: Afterwards  # type: ignore[name-defined]  # noqa: F821


def test_a_model_whose_field_is_not_defined() -> None:
    with pytest.raises(DeclarationError, match="'Afterwards'"):
        declare(HasLater)
    with pytest.raises(DeclarationError, match="'Afterwards'"):
        declare("HasLater | Post")
    router = APIRouter()

    @router.websocket("/")
    async def endpoint(websocket: TypedWebSocket[HasLater, None]) -> None: ...

    with pytest.raises(DeclarationError, match="'Afterwards'"):
        FastAPI().include_router(router)


# Tags


class Red(StrEnum):
    RED = "red"
    BLUE = "blue"


class ByEnum(BaseModel):
    kind: Literal[Red.RED] = Field(Red.RED, alias="colour")
    value: int


class ByEnumToo(BaseModel):
    kind: Literal[Red.BLUE] = Field(Red.BLUE, alias="colour")
    value: int


class DictMessage(TypedDict):
    type: Literal["dict"]
    n: int


@dataclass
class DataMessage:
    n: int
    type: Literal["data"] = "data"


class TwoValues(BaseModel):
    type: Literal["a", "b"]


class Untagged(BaseModel):
    n: int


ALIAS_OF_ALIASES = TypeAliasType(
    "Third",
    TypeAliasType("Second", TypeAliasType("First", Post | Said)),
)


def contract(form: Any, out: Any = None) -> Any:
    async def endpoint(websocket: Any) -> None: ...

    route: Any = typed(endpoint, form, out).routes[0]
    return route.contract


@pytest.mark.parametrize(
    ("form", "tag", "values"),
    [
        (Post | Search, "type", ["post", "search"]),
        (Post, "type", ["post"]),
        (Annotated[Post | Search, Field(discriminator="type")], "type", ["post", "search"]),
        (ByEnum | ByEnumToo, "colour", ["red", "blue"]),
        (ALIAS_OF_ALIASES, "type", ["post", "said"]),
        (DictMessage | DataMessage | Post | bytes, "type", ["dict", "data", "post"]),
        (TwoValues | Post, "type", []),
        (Untagged, "type", []),
        (None, "type", []),
    ],
)
def test_tags_are_found(form: Any, tag: str, values: list[Any]) -> None:
    found = contract(form, Found)
    assert found.tag == tag
    assert list(found.received_by_tag) == values


class Circle(BaseModel):
    type: Literal["shape"] = "shape"
    shape: Literal["circle"] = "circle"


class Square(BaseModel):
    type: Literal["shape"] = "shape"
    shape: Literal["square"] = "square"


Shape = Annotated[Circle | Square, Field(discriminator="shape")]
Drawing = Annotated[Shape | Post, Field(discriminator="type")]


def test_a_discriminated_union_inside_of_another() -> None:
    assert list(contract(Drawing).received_by_tag) == ["post"]
    with connect("/", echo(Drawing)) as socket:
        socket.send_message(Square())
        assert socket.receive_message() == Square()
        assert ask(socket, POST) == {"type": "post", "text": "hi"}
        assert ask(socket, '{"type":"shape"}')["detail"][0]["loc"] == ["message", "shape"]


def test_the_tag_of_errors_is_that_of_out_if_in_has_none() -> None:
    assert contract(Untagged, ByEnum | ByEnumToo).tag == "colour"


class Won(BaseModel):
    status: Literal["won"] = "won"


class Lost(BaseModel):
    status: Literal["lost"] = "lost"


@pytest.mark.parametrize(
    ("form", "out", "tag"),
    [
        (Untagged, Won | Lost, "type"),
        (Untagged, Won, "type"),
        (Won | Lost, Circle | Square, "shape"),
        (Annotated[Won | Lost, Field(discriminator="status")], None, "type"),
    ],
)
def test_a_field_that_errors_have_themselves_is_not_their_tag(form: Any, out: Any, tag: str) -> None:
    async def endpoint(websocket: Any) -> None:
        await websocket.accept()
        async for _ in websocket:
            pass

    with connect("/", typed(endpoint, form, out)) as socket:
        answer = ask(socket, '{"status": "drawn", "id": 7}')
        assert (answer[tag], answer["status"], answer["id"]) == ("error", 422, 7)


def test_a_route_that_only_documents_has_any_tag() -> None:
    app = FastAPI()

    @app.websocket("/ws", receives=Untagged, sends=Won | Lost)
    async def endpoint(websocket: WebSocket) -> None: ...

    assert app.routes[0].contract.tag == "status"  # type: ignore[attr-defined]


class Level(Enum):
    LOW = [1]
    HIGH = {"level": 2}


class Magic(BaseModel):
    level: Literal[Level.LOW] = Level.LOW
    magic: Literal[b"x"] = b"x"
    n: int


def test_a_constant_that_is_no_text_or_number_is_no_tag() -> None:
    found = contract(Magic, Magic)
    assert (found.tag, found.received_by_tag, found.sent_by_tag) == ("type", {}, {})
    with connect("/", echo(Magic)) as socket:
        assert ask(socket, '{"n": 1}') == {"level": [1], "magic": "x", "n": 1}


def test_tags_with_values_of_an_enum() -> None:
    with connect("/", echo(ByEnum | ByEnumToo)) as socket:
        assert ask(socket, '{"colour":"blue","value":1}') == {"colour": "blue", "value": 1}
        answer = ask(socket, '{"colour":"green"}')
        assert (answer["colour"], answer["status"]) == ("error", 422)
        assert isinstance(socket.app.routes[0].contract.tag, str)


# Sending

T = TypeVar("T")


class Box(BaseModel, Generic[T]):
    content: T


class Rich(BaseModel):
    type: Literal["rich"] = "rich"
    id_: UUID = Field(alias="id")
    day: date
    price: Decimal
    boxed: Box[int] | Box[str]
    maybe: Said | Found | None = None

    @computed_field  # type: ignore[prop-decorator]
    @property
    def double(self) -> Decimal:
        return self.price * 2


RICH = Rich(id=UUID(int=7), day=date(2026, 1, 2), price=Decimal("1.50"), boxed=Box[str](content="x"))


@pytest.mark.parametrize(
    ("form", "value", "text"),
    [
        (
            Rich,
            RICH,
            '{"type":"rich","id":"00000000-0000-0000-0000-000000000007","day":"2026-01-02","price":"1.50",'
            '"boxed":{"content":"x"},"maybe":null,"double":"3.00"}',
        ),
        (Rich, RICH.model_dump(by_alias=True), None),
        (DictMessage | DataMessage, {"type": "dict", "n": 1}, '{"type":"dict","n":1}'),
        (DictMessage | DataMessage, DataMessage(2), '{"n":2,"type":"data"}'),
        (list[int], [1, 2], "[1,2]"),
        (Box[int] | Box[str], Box[str](content="1"), '{"content":"1"}'),
        (str, "{", "{"),
        (Said | Search, {"type": "said", "text": "ä"}, '{"type":"said","text":"ä"}'),
    ],
)
def test_what_is_sent(form: Any, value: Any, text: str | None) -> None:
    assert sent(form, value) == text or text is None


def sent(form: Any, value: Any) -> Any:
    async def endpoint(websocket: Any) -> None:
        await websocket.accept()
        await websocket.send_message(value)

    with connect("/", typed(endpoint, None, form)) as socket:
        return socket.receive()["text"]


class Secret(Said):
    password: str = "secret"


class Celsius:
    """A class that is no model and tells pydantic how to read and write it."""

    def __init__(self, degrees: int) -> None:
        self.degrees = degrees

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: Any) -> core_schema.CoreSchema:
        written = core_schema.plain_serializer_function_ser_schema(lambda one: f"{one.degrees} °C")
        return core_schema.no_info_after_validator_function(
            cls._of, core_schema.str_schema(), serialization=written
        )

    @classmethod
    def _of(cls, text: str) -> Celsius:
        return cls(int(text.removesuffix(" °C")))


def test_a_class_with_a_schema_of_its_own_has_its_serializer() -> None:
    with connect("/", echo(Celsius | Said)) as socket:
        socket.send_text('"21 °C"')
        assert socket.receive_message().degrees == 21
        assert ask(socket, '{"type":"said","text":"x"}') == {"type": "said", "text": "x"}


def test_a_bare_enum_is_sent_by_its_value() -> None:
    outgoing = contract(None, Opening | Closing).outgoing
    assert outgoing.encode(Closing()) == '{"step":"close"}'


def test_of_a_subclass_only_the_fields_of_the_member_are_sent() -> None:
    assert sent(Said, Secret(text="x")) == '{"type":"said","text":"x"}'


@pytest.mark.parametrize(
    ("form", "value"),
    [
        (Said, {"type": "said"}),
        (Said, Post(text="x")),
        (Said, Said.model_construct(text=7)),
        (Said, Said.model_construct()),
        (Said, "text"),
        (Said, b"bytes"),
        (Box[Any], Box[Any](content=object())),
        (None, Said(text="x")),
        (str, b"x"),
        (Annotated[str, Field(max_length=1)], "xx"),
        (bytes, "x"),
    ],
)
def test_a_misfit_never_reaches_the_wire(form: Any, value: Any) -> None:
    with pytest.raises(ResponseValidationError):
        sent(form, value)


def test_the_error_of_a_misfit_says_nothing_of_how_it_was_found() -> None:
    with pytest.raises(ResponseValidationError) as caught:
        sent(bytes, Said(text="x"))
    assert caught.value.__context__ is None


def test_a_misfit_is_a_bug_of_the_server() -> None:
    client = TestClient(app, raise_server_exceptions=False)
    with client.websocket_connect("/answer") as socket:
        socket.send_message(Post(text="misfit"))
        with pytest.raises(WebSocketDisconnect) as caught:
            socket.receive_message()
        assert caught.value.code == 1011


def test_errors_of_the_endpoint() -> None:
    with connect("/answer") as socket:
        socket.send_message(Post(text="418"))
        assert socket.receive_message() == ErrorFrame(status=418, detail="I'm a Teapot")
        socket.send_message(Search(id=3, q="404"))
        assert socket.receive_message() == ErrorFrame(status=404, detail="no hits", id=3)


def test_an_own_class_of_errors_is_what_is_sent() -> None:
    application = FastAPI()

    @application.websocket("/")
    async def endpoint(websocket: TypedWebSocket[Post, Said | OwnError]) -> None:
        await websocket.accept()
        async for _ in websocket:
            await websocket.send_message(OwnError(status=400, more=4))

    with connect("/", application) as socket:
        assert ask(socket, "[]")["more"] == 3
        socket.send_message(Post(text="x"))
        assert socket.receive_json() == {"type": "error", "status": 400, "detail": None, "more": 4}
        socket.send_text("{bad")
        assert isinstance(socket.receive_message(), OwnError)


def test_any_detail_can_be_sent() -> None:
    class Odd:
        def __str__(self) -> str:
            return "odd"

    details: list[Any] = [
        {"a": [1, None, "x" * 500]},
        Odd(),
        ["\ud800"],
        list(range(9)),
        {"b": "x" * 3800},
    ]
    details.append({str(number): "ü" * 150 for number in range(20)})
    application = FastAPI()

    @application.websocket("/")
    async def endpoint(websocket: TypedWebSocket[Post, Said]) -> None:
        await websocket.accept()
        for detail in details:
            await websocket.send_error(400, detail, to=Post(text="x"))

    with connect("/", application) as socket:
        for _ in details:
            text = socket.receive_text()
            assert len(text.encode()) <= 2048
            assert json.loads(text).keys() == {"type", "status", "detail"}


def test_reply_of_the_wrong_class() -> None:
    application = FastAPI()

    class Other(Reply):
        type: Literal["other"] = "other"

    @application.websocket("/")
    async def endpoint(websocket: TypedWebSocket[Search, Found]) -> None:
        await websocket.accept()
        async for message in websocket:
            with pytest.raises(ResponseValidationError):
                await websocket.reply(message, Other())  # type: ignore[type-var, arg-type]
            answer = Found(hits=["x"])
            await websocket.reply(message, answer)
            assert answer.id == ""

    with connect("/", application) as socket:
        socket.send_message(Search(id="a", q="x"))
        assert socket.receive_message() == Found(id="a", hits=["x"])


# The rest


def test_validators_of_the_project_reach_the_client() -> None:
    class Checked(BaseModel):
        n: int

        @field_validator("n")
        @classmethod
        def even(cls, value: int) -> int:
            if value % 2:
                raise ValueError("must be even")
            return value

    with connect("/", echo(Checked)) as socket:
        assert ask(socket, '{"n":1}')["detail"][0]["msg"] == "Value error, must be even"


def test_receive_before_accept_is_the_same_mistake_as_elsewhere() -> None:
    application = FastAPI()

    @application.websocket("/")
    async def endpoint(websocket: TypedWebSocket[Post, Said]) -> None:
        await websocket.receive_message()

    with pytest.raises(RuntimeError, match="accept"), connect("/", application):
        pass


def test_raw_methods_stay_raw() -> None:
    application = FastAPI()

    @application.websocket("/")
    async def endpoint(websocket: TypedWebSocket[Post, Said]) -> None:
        await websocket.accept()
        await websocket.send_json(await websocket.receive_json())
        assert (await websocket.receive())["text"] == "x"

    with connect("/", application) as socket:
        assert ask(socket, '{"any":"thing"}') == {"any": "thing"}
        socket.send_text("x")


def test_a_socket_that_no_route_made() -> None:
    socket = TypedWebSocket[Post, Said]({"type": "websocket"}, None, None)  # type: ignore[arg-type]
    assert socket.contract.receives == (Post,)


def test_documented_types_change_nothing() -> None:
    application = FastAPI()

    @application.websocket("/", receives=Post, sends=Said, tags=["chat"], deprecated=True)
    async def endpoint(websocket: WebSocket) -> None:
        """A tab in a room.

        And more.
        """
        assert type(websocket) is WebSocket
        await websocket.accept()
        await websocket.send_json(await websocket.receive_json())

    route: Any = application.routes[0]
    assert (route.contract.receives, route.contract.sends) == ((Post,), (Said,))
    assert not route.contract.enforced
    assert (route.summary, route.description) == ("A tab in a room.", "And more.")
    assert (route.tags, route.deprecated, route.include_in_schema) == (["chat"], True, True)
    with connect("/", application) as socket:
        socket.send_json({"type": "said", "text": "x"})
        assert socket.receive_message() == Said(text="x")


def test_routers_describe_their_routes() -> None:
    application = FastAPI()
    router = APIRouter(tags=["inner"], include_in_schema=False)
    router.websocket("/", tags=["own"])(speak)
    application.include_router(router, tags=["outer"], deprecated=True)
    route: Any = application.routes[0].expanded()[0]
    assert (route.tags, route.deprecated, route.include_in_schema) == (
        ["outer", "inner", "own"],
        True,
        False,
    )


async def speak(websocket: TypedWebSocket[In, Out]) -> None: ...


def test_the_client_says_what_it_cannot_do() -> None:
    application = FastAPI()

    @application.websocket("/plain")
    async def plain(websocket: WebSocket) -> None:
        await websocket.accept()

    @application.websocket("/text")
    async def text(websocket: TypedWebSocket[str, str]) -> None:
        await websocket.accept()
        await websocket.receive_message()

    with connect("/plain", application) as socket, pytest.raises(RuntimeError, match="receives="):
        socket.send_message(Post(text="x"))
    with connect("/text", application) as socket:
        with pytest.raises(TypeError, match="does not take bytes"):
            socket.send_message(b"x")
        socket.send_message("x")


@dataclass
class Measured:
    degrees: float
    type: Literal["measured"] = "measured"


def test_the_client_sends_values_of_every_form_as_json() -> None:
    application = echo(Measured | Post)
    with connect("/", application) as socket:
        socket.send_message(Measured(21.5))
        assert socket.receive_message() == Measured(21.5)
        socket.send_message("no message")  # text, for a route that takes JSON: a JSON string
        assert socket.receive_json()["status"] == 422


def test_the_client_reads_back_what_was_sent() -> None:
    application = echo(Rich | bytes)
    with connect("/", application) as socket:
        socket.send_message(RICH)
        assert socket.receive_message() == RICH
        socket.send_message(b"\x00")
        assert socket.receive_message(timeout=1) == b"\x00"


leaves = st.none() | st.booleans() | st.integers() | st.floats() | st.text()
values = st.recursive(
    leaves, lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner), max_leaves=10
)
tagged = st.fixed_dictionaries(
    {"type": st.sampled_from(["post", "search", "error", "ping", "x"])},
    optional={"id": leaves, "text": values, "q": leaves},
)
frames = st.binary() | st.text() | (values | tagged).map(json.dumps)
text_with_halves = st.text(st.characters(exclude_categories=()))


PATHS = ["/answer", "/close", "/raise", "/handled/talk", "/binary", "/upload", "/silent"]
END = '{"type":"post","text":"END","id":"END"}'


@settings(max_examples=100, deadline=None)
@given(st.sampled_from(PATHS), st.lists(frames | text_with_halves, min_size=1, max_size=13))
def test_whatever_is_sent_ends_in_a_frame_or_a_code(path: str, sent: list[str | bytes]) -> None:
    records: list[logging.LogRecord] = []
    handler = logging.Handler()
    handler.emit = records.append  # type: ignore[method-assign]
    logging.getLogger("fastws_compat").addHandler(handler)
    client = TestClient(app, raise_server_exceptions=False)
    try:
        with client.websocket_connect(path) as socket:
            for frame in [*sent, END]:
                socket.send_bytes(frame) if isinstance(frame, bytes) else socket.send_text(frame)
            answer: Any = {}
            while "END" not in (answer.get("text") or "") and answer.get("code") is None:
                answer = socket.receive()
            assert answer.get("code") in (None, 1003, 1007, 4422)
    finally:
        logging.getLogger("fastws_compat").removeHandler(handler)
    assert all(record.exc_info is None for record in records)


def test_types_without_a_hash() -> None:
    form = Annotated[Post, {"not": "hashable"}]
    assert TypedWebSocket[form, None] is TypedWebSocket[form, None]
    with connect("/", echo(form)) as socket:
        assert ask(socket, POST) == {"type": "post", "text": "hi"}


def test_a_class_has_its_messages_once() -> None:
    with pytest.raises(TypeError, match="has its messages already"):
        TypedWebSocket[Post, Said][Post, Said]  # type: ignore[index]


@pytest.mark.parametrize(
    ("form", "good", "bad"),
    [
        (Annotated[str, Field(max_length=3)], "abc", "abcd"),
        (Annotated[bytes, Field(max_length=3)], b"abc", b"abcd"),
    ],
)
def test_raw_messages_may_have_constraints(form: Any, good: Any, bad: Any) -> None:
    with connect("/", echo(form)) as socket:
        socket.send_message(good)
        assert socket.receive_message() == good
        socket.send_message(bad)
        assert socket.receive_json()["status"] == 422


class Weighed(BaseModel):
    value: float


class Finite(BaseModel):
    value: FiniteFloat


@pytest.mark.parametrize("number", ["NaN", "Infinity", "-Infinity", "1e400"])
def test_numbers_that_json_does_not_have(number: str) -> None:
    """As in FastAPI, unless the model refuses them."""
    with connect("/", echo(Weighed)) as socket:
        assert ask(socket, f'{{"value": {number}}}') == {"value": None}
    with connect("/", echo(Finite)) as socket:
        assert ask(socket, f'{{"value": {number}}}')["detail"][0]["type"] == "finite_number"


class ManyNames(BaseModel):
    kind: Literal["many"] = Field("many", validation_alias=AliasChoices("t", "kind"))


def test_what_pydantic_refuses_is_a_mistake_of_the_declaration() -> None:
    class Other(BaseModel):
        kind: Literal["other"] = Field("other", validation_alias=AliasChoices("t", "kind"))

    with pytest.raises(DeclarationError, match=r"pydantic refuses: .* discriminated union$"):
        declare(ManyNames | Other)


class Deep(BaseModel):
    kind: Literal["deep"] = Field("deep", validation_alias=AliasPath("head", "kind"))


class ByName(BaseModel):
    model_config = ConfigDict(populate_by_name=True)

    kind: Literal["named"] = Field("named", alias="Kind")


class ByAlias(BaseModel):
    kind: Literal["alias"] = Field("alias", alias="Kind")


@pytest.mark.parametrize(
    ("form", "fitting", "missing"),
    [
        (ManyNames, [{"t": "many"}, {"kind": "many"}], {"k": "many"}),
        (Deep, [{"head": {"kind": "deep"}}], {"kind": "deep"}),
        (ByName, [{"Kind": "named"}, {"kind": "named"}], {}),
        (ByAlias, [{"Kind": "alias"}], {"kind": "alias"}),
    ],
)
def test_the_tag_of_a_message_alone_is_found_wherever_its_model_reads_it(
    form: Any, fitting: list[Any], missing: Any
) -> None:
    with connect("/", echo(form)) as socket:
        for frame in fitting:
            assert ask(socket, json.dumps(frame)) == form().model_dump(by_alias=True, mode="json")
        assert ask(socket, json.dumps(missing))["detail"][0]["type"] == "union_tag_not_found"


def test_own_ways_to_tell_messages_apart_stay() -> None:
    kind = Discriminator(lambda value: "post" if "text" in value else "n")
    form = Annotated[Annotated[Post, Tag("post")] | Annotated[Untagged, Tag("n")], kind]
    with connect("/", echo(form)) as socket:
        assert ask(socket, '{"text":"x"}') == {"type": "post", "text": "x"}
        assert ask(socket, '{"n":1}') == {"n": 1}
