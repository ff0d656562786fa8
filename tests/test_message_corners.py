"""Typed messages: rare forms of types, and clients that leave at a bad moment."""

from __future__ import annotations

import asyncio
import json
import logging
import warnings
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Annotated, Any, Literal, NotRequired
from unittest import TestCase

import pytest
from django.contrib.sessions.backends.signed_cookies import SessionStore
from pydantic import (
    AliasChoices,
    AliasGenerator,
    AliasPath,
    BaseModel,
    ConfigDict,
    Field,
    Json,
    RootModel,
    computed_field,
    field_serializer,
    field_validator,
)
from pydantic.alias_generators import to_camel, to_pascal
from pydantic.dataclasses import dataclass as pydantic_dataclass
from typing_extensions import TypedDict

from fastws_compat import (
    Call,
    Depends,
    ErrorFrame,
    FastAPI,
    MessageRouter,
    Reply,
    TypedWebSocket,
    WebSocket,
    WebSocketDisconnect,
)
from fastws_compat.auth import login_required
from fastws_compat.exceptions import DeclarationError, ResponseValidationError
from fastws_compat.messages import serializers
from fastws_compat.messages.contract import compile_contract
from fastws_compat.testclient import TestClient
from fastws_compat.testclient.messages import encode
from tests.fake_server import CONNECT, TIMEOUT, FakeServer, converse, text
from tests.typed_apps import serving, typed


class Post(BaseModel):
    type: Literal["post"] = "post"
    text: str = ""


def connect(application: Any) -> Any:
    return TestClient(application).websocket_connect("/")


class Plain(TypedDict):
    text: str


async def shout(message: Plain) -> Plain:
    return {"text": message["text"].upper()}


class Numbers(BaseModel):
    values: list[int]


def test_a_function_for_a_dict_without_a_tag() -> None:
    with connect(serving(Plain, Plain, shout)) as socket:
        socket.send_json({"text": "hi"})
        assert socket.receive_json() == {"text": "HI"}


async def undeclared(message: Post):  # type: ignore[no-untyped-def]
    return Post(text="back")


def test_a_function_need_not_say_what_it_returns() -> None:
    with connect(serving(Post, Post, undeclared)) as socket:
        socket.send_message(Post())
        assert socket.receive_message() == Post(text="back")


async def slow_to_leave() -> AsyncIterator[None]:
    yield
    await asyncio.Event().wait()


async def hangs(message: Post, held: Annotated[None, Depends(slow_to_leave)]) -> Post:
    return Post(text="back")


def test_the_cleanup_after_a_message_is_bounded(settings: Any, caplog: pytest.LogCaptureFixture) -> None:
    settings.FASTWS = {"CLEANUP_TIMEOUT": 0.05}
    with connect(serving(Post, Post, hangs)) as socket:
        socket.send_message(Post())
        assert socket.receive_message().status == 500
    assert "The cleanup of a dependency took longer than 0.05 s" in caplog.text


left: list[str] = []


async def reads_on(message: Post, websocket: WebSocket) -> None:
    try:
        await websocket.receive_text()
    finally:
        left.append("function")


def test_a_client_that_leaves_in_the_middle_of_an_answer() -> None:
    left.clear()
    app, handlers = FastAPI(), MessageRouter()
    handlers.on(reads_on)

    @app.websocket("/", handlers=handlers)
    async def endpoint(websocket: TypedWebSocket[Post, None]) -> None:
        await websocket.accept()
        await websocket.serve()
        left.append("endpoint")

    with connect(app) as socket:
        socket.send_message(Post())
    assert left == ["function", "endpoint"]


async def who(message: Post, user: Annotated[Any, Depends(login_required)]) -> Post:
    return Post(text=user.name)


@pytest.mark.parametrize("session", [{}, {"session": SessionStore()}], ids=["alone", "beside a session"])
def test_a_user_that_is_no_model_is_not_reloaded(session: dict[str, Any]) -> None:
    app = serving(Post, Post, who)
    user = SimpleNamespace(name="robot", is_authenticated=True, is_active=True)

    async def with_user(scope: Any, receive: Any, send: Any) -> None:
        await app({**scope, **session, "user": user}, receive, send)

    with connect(with_user) as socket:
        socket.send_message(Post())
        assert socket.receive_message() == Post(text="robot")


# Declarations


async def takes_later(message: Later) -> None: ...  # type: ignore[name-defined]  # noqa: F821


async def returns_later(message: Post) -> Later: ...  # type: ignore[name-defined]  # noqa: F821


@pytest.mark.parametrize("function", [takes_later, returns_later])
def test_a_function_whose_type_is_not_defined(function: Any) -> None:
    with pytest.raises(DeclarationError, match="Later"):
        with connect(serving(Post, Post, function)):
            pass


class Ask(Call):  # type: ignore[type-arg]
    type: Literal["ask"] = "ask"


async def answer(message: Ask) -> Post: ...


def test_a_call_without_its_reply_has_no_answer() -> None:
    with pytest.raises(DeclarationError, match="the reply of Ask"):
        serving(Ask, Post, answer)


@dataclass
class Unfinished:
    later: Later  # type: ignore[name-defined]  # noqa: F821


def test_no_alias_generator_renames_the_id() -> None:
    """Clients and error frames call it `id`."""

    class Reached(Reply):
        model_config = ConfigDict(alias_generator=to_pascal)
        kind: Literal["reached"] = "reached"

    class Reach(Call[Reached]):
        model_config = ConfigDict(alias_generator=to_pascal)
        kind: Literal["reach"] = "reach"

    async def endpoint(websocket: Any) -> None:
        await websocket.accept()
        async for call in websocket:
            await websocket.reply(call, Reached())

    with connect(typed(endpoint, Reach, Reached)) as socket:
        socket.send_json({"Kind": "reach", "id": 7})
        assert socket.receive_json() == {"Kind": "reached", "id": 7}


@dataclass
class Point:
    x: int = 0


class Strict(BaseModel):
    model_config = ConfigDict(alias_generator=AliasGenerator(serialization_alias=to_pascal), extra="forbid")

    kind: Literal["strict"] = "strict"
    own_id: int

    @computed_field  # type: ignore[prop-decorator]
    @property
    def twice(self) -> int:
        return 2 * self.own_id


class Other(BaseModel):
    model_config = ConfigDict(alias_generator=AliasGenerator(serialization_alias=to_pascal), extra="forbid")

    kind: Literal["other"] = "other"
    own_id: int


class Entry(TypedDict):
    own_id: int
    far: NotRequired[Annotated[int, Field(serialization_alias="Far.Away")]]


@pydantic_dataclass(config=ConfigDict(alias_generator=AliasGenerator(serialization_alias=str.upper)))
class Loud:
    own_id: int = 0


class Inheriting(BaseModel):
    """Its TypedDicts and dataclasses have its aliases, unless they have a configuration of their own."""

    model_config = ConfigDict(
        alias_generator=AliasGenerator(alias=to_camel, serialization_alias=to_pascal), extra="forbid"
    )

    kind: Literal["inheriting"] = "inheriting"
    entry: Entry = {"own_id": 0}
    many: list[Point | Entry] = []
    loud: Loud | str = ""
    named: dict[str, list[Entry]] = {}


class Plainly(BaseModel):
    model_config = ConfigDict(alias_generator=to_camel)

    kind: Literal["plainly"] = "plainly"
    entry: Entry = {"own_id": 0}
    point: Point | None = None


class Ids(RootModel[list[int]]): ...


class Nested(BaseModel):
    the_one: Strict | None = None
    either: Other | Strict | str | dict[str, int] = ""
    all_of_them: list[Strict | Other] = []
    pair: tuple[int, Strict] | None = None
    by_name: dict[str, Annotated[Strict, "documented"]] = {}
    ids: Ids = Ids([])
    plain: Plain = {"text": ""}
    point: Point | list[Any] | None = None
    anything: Any = None
    untyped: list = []  # type: ignore[type-arg]
    free: dict = {}  # type: ignore[type-arg]


@pytest.mark.parametrize(
    "message",
    [
        Nested(the_one=Strict(own_id=1), either=Strict(own_id=2), point=Point(4)),
        Nested(either=Other(own_id=2), pair=(5, Strict(own_id=6)), anything={"OwnId": 1}),
        Nested(either={"Kind": 1}, point=[{"x": 1}], untyped=[{"OwnId": 1}], free={"OwnId": 1}),
        Nested(all_of_them=[Other(own_id=3), Strict(own_id=3)], by_name={"a": Strict(own_id=7)}),
        Nested(ids=Ids([1]), plain={"text": "OwnId"}),
        Strict(own_id=8),
        Inheriting.model_validate({"entry": {"ownId": 1, "far": 2}, "many": [Point(3), {"ownId": 4}]}),
        Inheriting.model_validate({"loud": Loud(5)}),
        Inheriting.model_validate({"named": {"a": [{"ownId": 6}]}}),
        Plainly.model_validate({"entry": {"ownId": 1, "far": 2}, "point": Point(3)}),
    ],
)
def test_what_is_sent_under_other_names_is_read_back(message: Any) -> None:
    """In a test, in a subscription and where examples are checked, at any depth."""
    outgoing = compile_contract(None, Nested | Strict | Inheriting | Plainly, "a test").outgoing
    frame = outgoing.encode(message)
    assert "own_id" not in frame
    assert outgoing.decode(frame) == message


class Renamed(BaseModel):
    """Read by other names than it is written by."""

    model_config = ConfigDict(alias_generator=AliasGenerator(serialization_alias=to_pascal), extra="forbid")

    kind: Literal["renamed"] = Field("renamed", validation_alias="k", serialization_alias="K")
    own_id: int = Field(validation_alias=AliasChoices("id", "number"))
    far: int = Field(0, validation_alias=AliasPath("far", 0))
    points: list[Point] = []

    @computed_field  # type: ignore[prop-decorator]
    @property
    def twice(self) -> int:
        return 2 * self.own_id


class ReadByName(BaseModel):
    model_config = ConfigDict(
        alias_generator=to_camel, extra="forbid", validate_by_name=True, validate_by_alias=False
    )

    kind: Literal["by_name"] = "by_name"
    entry: Entry = {"own_id": 0}


class ReadByAlias(BaseModel):
    """Its TypedDict is read by its validation aliases."""

    model_config = ConfigDict(alias_generator=AliasGenerator(validation_alias=to_pascal), extra="forbid")

    kind: Literal["by_alias"] = Field("by_alias", alias="kind")
    entry: Entry = {"own_id": 0}


@pytest.mark.parametrize(
    ("message", "frame"),
    [
        (
            Renamed.model_validate({"k": "renamed", "id": 3, "points": [{"x": 4}]}),
            {"k": "renamed", "id": 3, "far": 0, "points": [{"x": 4}]},
        ),
        (ReadByName(entry={"own_id": 5}), {"kind": "by_name", "entry": {"own_id": 5}}),
        (
            ReadByAlias.model_validate({"kind": "by_alias", "Entry": {"OwnId": 6}}),
            {"kind": "by_alias", "Entry": {"OwnId": 6}},
        ),
        ({"k": "renamed"}, {"k": "renamed"}),
    ],
)
def test_the_client_sends_the_names_that_the_route_reads(message: Any, frame: Any) -> None:
    contract = compile_contract(Renamed, None, "a test")
    sent = encode(contract, message)["text"]
    assert json.loads(sent) == frame


@pydantic_dataclass(config=ConfigDict(extra="forbid"))
class Doubled:
    number: int
    parts: Json[list[int]] = "[1]"  # type: ignore[assignment]

    @computed_field  # type: ignore[prop-decorator]
    @property
    def twice(self) -> int:
        return 2 * self.number


@pytest.mark.parametrize(
    "message", [ReadByName(entry={"own_id": 5}), Strict(own_id=8), Nested(), Doubled(3, parts="[2]")]
)
def test_what_the_client_sends_arrives(message: Any) -> None:
    contract = compile_contract(type(message), None, "a test")
    assert contract.incoming.read(encode(contract, message)["text"]) == message


def test_a_typeddict_alone_is_read_back() -> None:
    outgoing = compile_contract(None, Entry, "a test").outgoing
    frame = outgoing.encode({"own_id": 1, "far": 2})
    assert frame == '{"own_id":1,"Far.Away":2}'
    assert outgoing.decode(frame) == {"own_id": 1, "far": 2}


class Aging(BaseModel):
    n: int = 1

    @field_serializer("n")
    def old(self, n: int) -> int:
        warnings.warn("n is old", DeprecationWarning, stacklevel=2)
        return n


def misfits() -> Iterator[Any]:
    yield Post.model_construct(text=1)
    yield Numbers.model_construct()
    yield Point("far")  # type: ignore[arg-type]
    yield Numbers.model_construct(values=["one"])


@pytest.mark.parametrize("action", ["ignore", "default", "always", "error"])
@pytest.mark.parametrize("is_strict", [True, False])
def test_no_filter_of_warnings_lets_a_misfit_out(
    action: Any, is_strict: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(serializers, "IS_STRICT", is_strict)
    outgoing = compile_contract(None, Post | Point | Numbers, "a test").outgoing
    TestCase().assertWarns(UserWarning, warnings.warn, "unittest resets what modules were warned of")
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter(action)
        for misfit in misfits():
            with pytest.raises(ResponseValidationError):
                outgoing.encode(misfit)
        assert outgoing.encode(Post(text="a")) == '{"type":"post","text":"a"}'
        assert outgoing.encode(Point(2)) == '{"x":2}'
    assert caught == []


def test_a_serializer_of_the_project_may_warn() -> None:
    outgoing = compile_contract(None, Aging, "a test").outgoing
    with pytest.warns(DeprecationWarning, match="n is old"):
        assert outgoing.encode(Aging()) == '{"n":1}'


def test_python_that_ignores_the_record_of_warnings_is_noticed() -> None:
    assert serializers.IS_STRICT
    assert not serializers._raises(lambda value: b"", 0)


def test_a_dataclass_whose_field_is_not_defined() -> None:
    with pytest.raises(DeclarationError, match="Later"):
        serving(Unfinished | Post, None, undeclared)


# Frames


class Explained(ErrorFrame):
    type: Literal["error"] = "error"
    help: str = "x" * 1000


async def fails(message: Post, websocket: TypedWebSocket[Post, Explained]) -> None:
    await websocket.send_error(400, "\x00" * 200)


def test_a_long_text_in_an_error_frame_is_cut_until_it_fits() -> None:
    with connect(serving(Post, Explained, fails)) as socket:
        socket.send_message(Post())
        frame = socket.receive_text()
    assert len(frame.encode()) <= 2048
    assert ("\x00" * 200).startswith(json.loads(frame)["detail"])
    assert json.loads(frame)["detail"]


class Deep(BaseModel):
    text: str

    @field_validator("text")
    @classmethod
    def descend(cls, value: str) -> str:
        return cls.descend(value)


def test_a_validator_that_recurses_too_deeply_is_an_error_of_the_client() -> None:
    async def take(message: Deep) -> None: ...

    take.__annotations__["message"] = Deep
    with connect(serving(Deep, None, take)) as socket:
        socket.send_json({"text": "x"})
        assert socket.receive_json()["status"] == 400


async def say(message: str) -> str:
    return message


def test_the_client_reads_back_a_text() -> None:
    with connect(serving(str, str, say)) as socket:
        socket.send_message("hi")
        assert socket.receive_message() == "hi"


async def sends_raw(message: Post, websocket: WebSocket) -> None:
    await websocket.send_json({"type": "post"})


def test_the_client_refuses_a_message_of_a_route_that_sends_none() -> None:
    with connect(serving(Post, None, sends_raw)) as socket:
        socket.send_message(Post())
        with pytest.raises(ResponseValidationError, match="the route sends none"):
            socket.receive_message()


def test_a_message_before_accept_is_the_same_mistake_as_elsewhere() -> None:
    app = FastAPI()

    @app.websocket("/")
    async def endpoint(websocket: TypedWebSocket[Post, Post]) -> None:
        await websocket.send_message(Post())

    with pytest.raises(RuntimeError, match=r"websocket\.accept"), connect(app):
        pass


# Streams


async def of_later() -> AsyncIterator[Later]:  # type: ignore[name-defined]  # noqa: F821
    yield None


def test_a_stream_whose_item_is_not_defined() -> None:
    with pytest.raises((DeclarationError, NameError), match="Later"):
        FastAPI().websocket("/")(of_later)


def test_a_stream_may_leave_before_it_accepts() -> None:
    app, ended = FastAPI(), []

    @app.websocket("/")
    async def prices(websocket: TypedWebSocket[None, Post]) -> AsyncIterator[Post]:
        try:
            raise WebSocketDisconnect(1001)
        finally:
            ended.append(True)
        yield Post()

    with pytest.raises(WebSocketDisconnect), connect(app):
        pass
    assert ended == [True]


def test_a_stream_whose_task_is_cancelled_cleans_up() -> None:
    app, ended = FastAPI(), []

    @app.websocket("/ws")
    async def prices() -> AsyncIterator[Post]:
        try:
            yield Post()
            await asyncio.Event().wait()
        finally:
            ended.append(True)

    async def main() -> None:
        server = FakeServer(CONNECT)
        task = server.start(app)
        await server.wait_sent("websocket.send")
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await server.wait_ended()

    asyncio.run(main())
    assert ended == [True]


def test_a_function_whose_task_is_cancelled_cleans_up() -> None:
    events: list[str] = []

    async def held() -> AsyncIterator[None]:
        try:
            yield
        finally:
            events.append("cleaned up")

    async def wait(message: Post) -> None:
        events.append("called")
        begun.set()
        await asyncio.Event().wait()

    begun = asyncio.Event()
    app, handlers = FastAPI(), MessageRouter()
    handlers.on(dependencies=[Depends(held)])(wait)

    @app.websocket("/ws", handlers=handlers)
    async def endpoint(websocket: TypedWebSocket[Post, None]) -> None:
        await websocket.accept()
        await websocket.serve()

    async def main() -> None:
        server = FakeServer(CONNECT, text('{"type": "post"}'))
        task = server.start(app)
        await asyncio.wait_for(begun.wait(), TIMEOUT)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await server.wait_ended()

    asyncio.run(main())
    assert events == ["called", "cleaned up"]


async def lose(message: Any) -> None:
    """Fail to send messages, as a server does whose client has gone."""
    if message["type"] == "websocket.send":
        raise OSError("gone")


def test_a_stream_ends_when_the_client_can_no_longer_be_reached() -> None:
    app, ended = FastAPI(), []

    @app.websocket("/ws")
    async def prices() -> AsyncIterator[Post]:
        try:
            while True:
                yield Post()
        finally:
            ended.append(True)

    sent = converse(app, on_send=lose)
    assert [message["type"] for message in sent] == ["websocket.accept"]
    assert ended == [True]


def test_a_stream_ends_when_an_answer_can_no_longer_be_sent(caplog: pytest.LogCaptureFixture) -> None:
    """A client that says something and leaves at once; the stream learned of it as its own mistake."""
    app, ended = FastAPI(), []
    failed = asyncio.Event()

    async def lose_answers(message: Any) -> None:
        if "415" in message.get("text", ""):
            failed.set()
            raise OSError("gone")

    @app.websocket("/ws")
    async def prices() -> AsyncIterator[Post]:
        try:
            await failed.wait()
            await asyncio.sleep(0)
            while True:
                yield Post()
                await asyncio.sleep(0)
        finally:
            ended.append(True)

    converse(app, text("hello"), on_send=lose_answers)
    assert ended == [True]
    assert [record for record in caplog.records if record.levelno >= logging.WARNING] == []


def test_a_stream_whose_cleanup_awaits_what_was_cancelled_has_failed(
    caplog: pytest.LogCaptureFixture,
) -> None:
    app = FastAPI()

    @app.websocket("/ws")
    async def prices() -> AsyncIterator[Post]:
        helper = asyncio.create_task(asyncio.Event().wait())
        try:
            while True:
                yield Post()
        finally:
            helper.cancel()
            await helper

    sent = converse(app, on_send=lose)
    assert [message["type"] for message in sent] == ["websocket.accept"]
    [record] = [record for record in caplog.records if record.levelname == "ERROR"]
    assert record.exc_info is not None
    assert record.exc_info[0] is asyncio.CancelledError
