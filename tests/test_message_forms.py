"""Typed messages of unusual forms: which member of a union a frame is, and what its fields are called."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Annotated, Any, Generic, Literal, NewType, Required, TypeVar

import pytest
from pydantic import (
    AfterValidator,
    AliasGenerator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Discriminator,
    Field,
    RootModel,
    Tag,
    computed_field,
    model_validator,
)
from pydantic.alias_generators import to_camel
from pydantic.dataclasses import dataclass as pydantic_dataclass
from typing_extensions import ReadOnly, TypeAliasType, TypedDict

from fastws_compat import Call, FastAPI, MessageRouter, MessageValidationError, Reply, TypedWebSocket
from fastws_compat.exceptions import DeclarationError
from fastws_compat.messages.contract import compile_contract
from fastws_compat.messages.members import types_of
from fastws_compat.messages.names import base_of
from fastws_compat.testclient import TestClient
from tests.typed_apps import echo, serving

T = TypeVar("T")
ReplyT = TypeVar("ReplyT", bound=Reply)


class Post(BaseModel):
    type: Literal["post"] = "post"
    text: str = ""


class Named(BaseModel):
    """What a function answers: its name, and the message that it got."""

    name: str
    message: Any = None


def connect(application: Any) -> Any:
    return TestClient(application).websocket_connect("/")


def answering(form: Any, members: dict[str, Any]) -> FastAPI:
    """An application with a function for each member, which answers with its name."""
    return serving(form, Named, *(naming(name, member) for name, member in members.items()))


def naming(name: str, member: Any) -> Any:
    async def function(message: Any) -> Named:
        return Named(name=name, message=message)

    function.__annotations__ = {"message": member, "return": Named}
    return function


# The function for a message


class ByA(TypedDict):
    a: int


class ByB(TypedDict):
    b: int


class First(TypedDict):
    kind: Literal["v"]
    version: Literal[1]


class Second(TypedDict):
    kind: Literal["v"]
    version: Literal[2]


class Other(TypedDict):
    kind: Literal["w"]


@dataclass
class Holder(Generic[T]):
    value: T


UserId = NewType("UserId", int)
Versions = Annotated[First | Second, Field(discriminator="version")]
Go = Literal["go"]


def by_keys(value: Any) -> str:
    return "a" if "a" in value else "b"


@pytest.mark.parametrize(
    ("form", "members", "frames"),
    [
        (ByA | ByB, {"a": ByA, "b": ByB}, {'{"a":1}': "a", '{"b":1}': "b"}),
        (
            Annotated[Versions | Other, Field(discriminator="kind")],
            {"first": First, "second": Second, "other": Other},
            {
                '{"kind":"v","version":1}': "first",
                '{"kind":"v","version":2}': "second",
                '{"kind":"w"}': "other",
            },
        ),
        (
            Annotated[Annotated[ByA, Tag("a")] | Annotated[ByB, Tag("b")], Discriminator(by_keys)],
            {"a": ByA, "b": ByB},
            {'{"a":1}': "a", '{"b":1}': "b"},
        ),
        (
            Holder[int] | Holder[str],
            {"n": Holder[int], "s": Holder[str]},
            {'{"value":1}': "n", '{"value":"x"}': "s"},
        ),
        (list[int] | list[str], {"n": list[int], "s": list[str]}, {"[1]": "n", '["x"]': "s"}),
        (UserId | Post, {"id": UserId, "post": Post}, {"7": "id", '{"type":"post"}': "post"}),
        (UserId, {"id": UserId}, {"7": "id"}),
        (Go | Post, {"go": Go, "post": Post}, {'"go"': "go", '{"type":"post"}': "post"}),
        (Any, {"any": Any}, {"null": "any", '{"type":"post"}': "any"}),
    ],
)
def test_the_function_of_the_member_that_a_frame_is(
    form: Any, members: dict[str, Any], frames: dict[str, str]
) -> None:
    with connect(answering(form, members)) as socket:
        for frame, name in frames.items():
            socket.send_text(frame)
            assert socket.receive_json()["name"] == name
        socket.send_text("{")
        assert socket.receive_json()["status"] == 400


@pytest.mark.parametrize(
    "form",
    [
        ByA | Post | list[int] | UserId | Holder[int] | Annotated[int, Field(gt=3)],
        Annotated[Versions | Other, Field(discriminator="kind")],
        Versions | Post,
        Annotated[Annotated[ByA, Tag("a")] | Annotated[ByB, Tag("b")], Discriminator(by_keys)],
        ByA,
    ],
)
@pytest.mark.parametrize(
    "frame", ['{"a":"x"}', '{"kind":"v","version":3}', '{"b":"x"}', '{"kind":"v","version":1}']
)
def test_functions_change_no_errors(form: Any, frame: str) -> None:
    found = []
    for has_functions in (False, True):
        incoming = compile_contract(form, None, "A route", has_functions=has_functions).incoming
        assert incoming.gives_choices is has_functions
        try:
            found.append(getattr(incoming.read(frame), "message", incoming.read(frame)))
        except MessageValidationError as exc:
            found.append(exc.errors())
    assert found[0] == found[1]


# Validators around messages


class Bid(BaseModel):
    type: Literal["bid"] = "bid"
    text: str = ""


class Ask(BaseModel):
    type: Literal["ask"] = "ask"


def loud(message: Any) -> Any:
    """A validator of any message."""
    if "quiet" in str(message):
        raise ValueError("too quiet")
    return message


LOUD = AfterValidator(loud)
Talk = TypeAliasType("Talk", Annotated[Post | Bid, LOUD])


@pytest.mark.parametrize("has_functions", [False, True])
@pytest.mark.parametrize(
    "form",
    [
        Annotated[Post | Bid, LOUD],
        Annotated[Post | Bid, Field(discriminator="type"), LOUD],
        Annotated[Post | Bid, LOUD, Field(discriminator="type")],
        Annotated[Post | Bid | bytes, LOUD],
        Annotated[Post | bytes, LOUD],
        Annotated[Post, LOUD] | Bid,
        Annotated[Post | Bid, Field(title="talk"), LOUD] | Ask,
        Talk,
    ],
)
def test_a_validator_around_messages_is_called(form: Any, has_functions: bool) -> None:
    functions = {base_of(member).__name__: base_of(member) for member in types_of(form)}
    application = answering(form, functions) if has_functions else echo(form)
    with connect(application) as socket:
        for text, status in (("quiet", 422), ("loud", None)):
            socket.send_json({"type": "post", "text": text})
            assert socket.receive_json().get("status") == status
        if "bytes" in functions:
            socket.send_bytes(b"quiet")
            assert socket.receive_json()["status"] == 422


def test_a_validator_may_return_another_class() -> None:
    counted = Annotated[Post, AfterValidator(lambda post: len(post.text))]
    with connect(answering(counted | Bid, {"count": counted, "bid": Bid})) as socket:
        socket.send_json({"type": "post", "text": "four"})
        assert socket.receive_json() == {"name": "count", "message": 4}
        socket.send_json({"type": "bid"})
        assert socket.receive_json()["name"] == "bid"


class Wrapped(BaseModel):
    n: int

    @model_validator(mode="wrap")
    @classmethod
    def number(cls, value: Any, handler: Any) -> Any:
        return handler(value).n


def test_a_model_that_validates_to_another_class_is_named() -> None:
    match = "message of / returned a value of int, which is none of its messages"
    with pytest.raises(TypeError, match=match), connect(answering(Wrapped, {"n": Wrapped})) as socket:
        socket.send_json({"n": 1})


def test_a_validator_that_hides_the_function_of_a_message() -> None:
    with pytest.raises(DeclarationError, match="AfterValidator beside several messages, some of"):
        answering(Annotated[ByA | ByB, LOUD], {"a": ByA, "b": ByB})
    with connect(answering(Annotated[ByA | ByB, BeforeValidator(loud)], {"a": ByA, "b": ByB})) as socket:
        socket.send_json({"b": 1})
        assert socket.receive_json()["name"] == "b"


def test_a_binary_frame_beside_messages_without_a_class() -> None:
    with connect(answering(ByA | bytes, {"a": ByA, "raw": bytes})) as socket:
        for _ in range(2):
            socket.send_bytes(b"x")
            assert socket.receive_json() == {"name": "raw", "message": "x"}
            socket.send_text('{"a":1}')
            assert socket.receive_json() == {"name": "a", "message": {"a": 1}}


def test_the_endpoint_receives_messages_without_a_class_as_they_are() -> None:
    app, handlers = FastAPI(), MessageRouter()

    @handlers.on
    async def count(message: ByA | ByB) -> Named:
        return Named(name="function", message=message)

    @app.websocket("/", handlers=handlers)
    async def endpoint(websocket: TypedWebSocket[ByA | ByB, Named]) -> None:
        await websocket.accept()
        await websocket.send_message(Named(name="endpoint", message=await websocket.receive_message()))
        await websocket.serve()

    with connect(app) as socket:
        for name in ("endpoint", "function"):
            socket.send_text('{"b":2}')
            assert socket.receive_json() == {"name": name, "message": {"b": 2}}


# Root models


class Ping(RootModel[Literal["ping"]]):
    pass


class Pong(RootModel[Literal["pong"]]):
    pass


@pytest.mark.parametrize("form", [Ping, Ping | Pong])
def test_the_value_of_a_root_model_is_no_tag(form: Any) -> None:
    assert compile_contract(form, form, "A route").tag == "type"
    with connect(echo(form)) as socket:
        socket.send_text('"ping"')
        assert socket.receive_json() == "ping"


# Names of fields

Camel = ConfigDict(alias_generator=to_camel)


class AliasedDict(TypedDict):
    kind: Annotated[Literal["dict"], Field(alias="@type")]


class RequiredDict(TypedDict, total=False):
    kind: ReadOnly[Required[Annotated[Literal["required"], Field(alias="@type")]]]


@pydantic_dataclass
class Aliased:
    kind: Annotated[Literal["dataclass"], Field(alias="@type")] = "dataclass"


@dataclass
class Standard:
    kind: Annotated[Literal["standard"], Field(alias="@type")] = "standard"


class CamelDict(TypedDict):
    __pydantic_config__ = Camel  # type: ignore[misc]
    msg_type: Literal["dict"]


@pydantic_dataclass(config=Camel)
class CamelDataclass:
    msg_type: Literal["dataclass"] = "dataclass"


class CamelModel(BaseModel):
    model_config = Camel
    msg_type: Literal["model"] = "model"


@pydantic_dataclass(config=ConfigDict(alias_generator=AliasGenerator(alias=to_camel)))
class Generated:
    msg_type: Literal["generated"] = "generated"


@pytest.mark.filterwarnings("ignore:Item 'kind' on TypedDict")
@pytest.mark.parametrize(
    ("form", "tag", "values"),
    [
        (AliasedDict, "@type", ["dict"]),
        (RequiredDict, "@type", ["required"]),
        (Aliased, "@type", ["dataclass"]),
        (Standard, "@type", ["standard"]),
        (
            AliasedDict | RequiredDict | Aliased | Standard,
            "@type",
            ["dict", "required", "dataclass", "standard"],
        ),
        (CamelDict, "msgType", ["dict"]),
        (CamelDataclass, "msgType", ["dataclass"]),
        (CamelModel, "msgType", ["model"]),
        (Generated, "msgType", ["generated"]),
        (
            CamelDict | CamelDataclass | CamelModel | Generated,
            "msgType",
            ["dict", "dataclass", "model", "generated"],
        ),
    ],
)
def test_the_tag_has_the_name_that_it_has_in_frames(form: Any, tag: str, values: list[str]) -> None:
    contract = compile_contract(form, form, "A route")
    assert contract.tag == tag
    assert list(contract.received_by_tag) == list(contract.sent_by_tag) == values
    with connect(echo(form)) as socket:
        for value in values:
            socket.send_json({tag: value})
            assert socket.receive_json() == {tag: value}
        socket.send_json({tag: "unknown"})
        assert socket.receive_json()[tag] == "error"


class Child(CamelModel):
    more: int = 1


class Wide(BaseModel):
    model_config = Camel
    long_name: int


def test_what_is_sent_may_have_the_names_of_fields() -> None:
    app = FastAPI()
    values: list[Any] = [Child(), {"msg_type": "model"}, {"msgType": "model"}]

    @app.websocket("/")
    async def endpoint(websocket: TypedWebSocket[None, CamelModel]) -> None:
        await websocket.accept()
        for value in values:
            await websocket.send_message(value)

    @app.websocket("/wide")
    async def wide(websocket: TypedWebSocket[None, Wide]) -> None:
        await websocket.accept()
        await websocket.send_message({"long_name": 1})  # type: ignore[arg-type]

    with connect(app) as socket:
        assert [socket.receive_json() for _ in values] == [{"msgType": "model"}] * 3
    with TestClient(app).websocket_connect("/wide") as socket:
        assert socket.receive_json() == {"longName": 1}


class Item(BaseModel):
    model_config = ConfigDict(extra="forbid")
    name: str = Field("x", serialization_alias="itemName")

    @computed_field
    def size(self) -> int:
        return len(self.name)


class Pair(BaseModel):
    items: tuple[Item, ...]


def test_two_items_of_any_number_are_read_back() -> None:
    for count in range(4):
        value = Pair(items=(Item(),) * count)
        assert (
            compile_contract(None, Pair, "A route").outgoing.decode(value.model_dump_json(by_alias=True))
            == value
        )


# Unions inside others


class Dropped(BaseModel):
    type: Literal["dropped"] = "dropped"


def guess(value: Any) -> str:
    return "post" if "text" in value else "dropped"


GUESSED = Annotated[Annotated[Post, Tag("post")] | Annotated[Dropped, Tag("dropped")], Discriminator(guess)]


class Moved(BaseModel):
    type: Literal["moved"] = "moved"


@pytest.mark.parametrize("form", [GUESSED | Moved, GUESSED | Moved | bytes])
def test_a_function_of_the_project_decides_inside_another_union(form: Any) -> None:
    contract = compile_contract(form, None, "A route")
    assert list(contract.received_by_tag) == ["post", "dropped", "moved"]
    assert contract.incoming.read('{"text":"x"}') == Post(text="x")
    assert contract.incoming.read('{"type":"moved"}') == Moved()


Mixed = TypeAliasType("Mixed", ByA | bytes)


def test_no_json_is_read_as_bytes() -> None:
    with connect(echo(Mixed | ByB)) as socket:
        socket.send_text('"text"')
        assert socket.receive_json()["status"] == 422
        socket.send_bytes(b"raw")
        assert socket.receive_bytes() == b"raw"


class Page(Reply, Generic[T]):
    type: Literal["page"] = "page"
    items: list[T] = []


U = TypeVar("U")
OrPost = TypeAliasType("OrPost", T | Post, type_params=(T,))
Swapped = TypeAliasType("Swapped", Annotated[OrPost[U] | Holder[T], "noted"], type_params=(T, U))


def test_aliases_with_arguments_are_unions_too() -> None:
    assert compile_contract(OrPost[Moved], None, "A route").receives == (Moved, Post)
    assert compile_contract(Swapped[int, Moved], None, "A route").receives == (Moved, Post, Holder[int])
    with connect(echo(OrPost[Moved])) as socket:
        socket.send_text('{"type":"unknown"}')
        assert socket.receive_json()["detail"][0]["type"] == "union_tag_invalid"


# Generic calls


class Fetch(Call[ReplyT], Generic[ReplyT]):
    type: Literal["fetch"] = "fetch"


class Renamed(Fetch[ReplyT], Generic[T, ReplyT]):
    other: T


class Paged(Call[Page[T]], Generic[T]):
    type: Literal["paged"] = "paged"


class Either(Call[Page[T] | Reply], Generic[T]):
    pass


class Concrete(Renamed[str, Page[int]]):
    pass


@pytest.mark.parametrize(
    ("call", "reply"),
    [
        (Fetch[Page[int]], Page[int]),
        (Renamed[str, Page[int]], Page[int]),
        (Paged[int], Page[int]),
        (Either[int], Page[int] | Reply),
        (Concrete, Page[int]),
        (Call[Page[int]], Page[int]),
    ],
)
def test_a_generic_call_knows_its_reply(call: Any, reply: Any) -> None:
    assert compile_contract(call, reply, "A route").replies == {call: reply}


def test_a_generic_call_without_arguments_has_no_reply() -> None:
    with pytest.raises(DeclarationError, match="takes Fetch, whose reply ReplyT is not among"):
        compile_contract(Fetch, Page[int], "A route")


def test_a_generic_call_is_answered() -> None:
    app, handlers = FastAPI(), MessageRouter()

    @handlers.on
    async def page(message: Paged[int]) -> Page[int]:
        return Page[int](items=[1])

    @app.websocket("/", handlers=handlers)
    async def endpoint(websocket: TypedWebSocket[Paged[int], Page[int]]) -> None:
        await websocket.accept()
        await websocket.serve()

    with connect(app) as socket:
        socket.send_message(Paged[int](id=1))
        assert socket.receive_message() == Page[int](id=1, items=[1])
        assert json.loads(Page[int](id=1, items=[1]).model_dump_json())["items"] == [1]
