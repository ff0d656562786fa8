"""`manage.py asyncapi`: what the document says, that it is stable, and that its examples are true."""

from __future__ import annotations

import io
import json
import math
import shlex
import subprocess
import sys
from datetime import UTC, date, datetime
from decimal import Decimal
from enum import Enum
from ipaddress import IPv4Interface, IPv4Network, IPv6Interface, IPv6Network
from pathlib import Path
from types import ModuleType
from typing import Annotated, Any, Literal
from uuid import UUID

import jsonschema
import pytest
from django.core.management import CommandError, call_command
from django.urls import clear_script_prefix, set_script_prefix
from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    IPvAnyInterface,
    IPvAnyNetwork,
    TypeAdapter,
    create_model,
)
from pydantic_core import MISSING

from fastws_compat import (
    Call,
    Depends,
    ErrorFrame,
    FastAPI,
    Query,
    Reply,
    Security,
    TypedWebSocket,
    WebSocket,
)
from fastws_compat.auth import superuser_required, user_passes_test
from fastws_compat.messages.frames import Id
from fastws_compat.messages.members import adapter_of, name_of_type
from fastws_compat.messages.names import base_of
from fastws_compat.schema import asyncapi
from fastws_compat.schema.definitions import generate
from fastws_compat.schema.description import CLOSE_CODES, Site
from fastws_compat.schema.examples import Maker, NoExample
from fastws_compat.schema.typescript import Client
from fastws_compat.security import (
    APIKeyHeader,
    OAuth2AuthorizationCodeBearer,
    OAuth2PasswordBearer,
    OpenIdConnect,
)
from tests import zoo
from tests.described import sites

ROOT = Path(__file__).resolve().parents[1]
Object = dict[str, Any]


def described(application: Any, **options: Any) -> Object:
    return asyncapi.document(Site(application), **options)


@pytest.fixture(scope="module")
def document() -> Object:
    return described(zoo.app)


class Answer(Reply):
    type: Literal["answer"] = "answer"


class Message(BaseModel):
    type: Literal["message"] = "message"
    text: Annotated[str, Field(max_length=10)]


def serve(monkeypatch: pytest.MonkeyPatch, settings: Any, application: Any) -> None:
    module = ModuleType("described_asgi")
    module.application = application  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "described_asgi", module)
    settings.ASGI_APPLICATION = "described_asgi.application"


def run(*arguments: str) -> str:
    out = io.StringIO()
    call_command("asyncapi", *arguments, stdout=out)
    return out.getvalue()


# The document


def test_info(document: Object) -> None:
    assert document["asyncapi"] == "3.1.0"
    assert document["info"] == {
        "title": "Zoo",
        "version": "2.0",
        "description": "Routes of every kind.",
        "termsOfService": "https://example.com/terms",
        "contact": {"name": "Keeper", "email": "keeper@example.com"},
        "license": {"name": "MIT"},
        "tags": [{"name": "Inner"}],
    }


def test_a_channel_per_route_that_is_published(document: Object) -> None:
    addresses = {key: channel["address"] for key, channel in document["channels"].items()}
    assert addresses["room"] == "/ws/rooms/{slug}"
    assert addresses["documented"] == "/ws/{number}/documented"
    assert addresses["v1:echo"] == "/v1/{version}/echo"
    assert {key for key, address in addresses.items() if address.endswith("/echo")} == {
        "echo.tenant-ws-echo",
        "echo.v2-version-echo",
        "v1:echo",
        "sub:echo",
    }
    assert "hidden" not in addresses
    assert list(addresses) == sorted(addresses)


def test_parameters(document: Object) -> None:
    room = document["channels"]["room"]
    expected = {"description": "Which room.", "examples": ["lobby"], "x-schema": {"type": "string"}}
    assert room["parameters"] == {"slug": expected}
    binding = room["bindings"]["ws"]
    assert (binding["method"], binding["bindingVersion"]) == ("GET", "0.1.0")
    after = binding["query"]["properties"]["after"]
    description = "The last message that the client has."
    assert after == {"type": "integer", "minimum": 0, "default": 0, "description": description}
    assert list(binding["headers"]["properties"]) == ["x-trace"]
    assert list(binding["x-cookies"]["properties"]) == ["lang"]


def test_parameters_of_models_functions_mounts_and_convertors(document: Object) -> None:
    channels = document["channels"]
    assert list(channels["prices"]["bindings"]["ws"]["query"]["properties"]) == ["tag", "limit"]
    assert list(channels["routed"]["bindings"]["ws"]["query"]["properties"]) == ["in-room"]
    assert channels["prices"]["parameters"]["symbol"]["enum"] == ["a", "b"]
    assert list(channels["v1:echo"]["parameters"]) == ["version"]
    assert channels["documented"]["parameters"]["number"]["x-schema"] == {"type": "integer"}


def test_operations(document: Object) -> None:
    operations = document["operations"]
    names = [reference["$ref"].rpartition("/")[2] for reference in operations["room.receive"]["messages"]]
    assert names == ["Post-Input", "Typing", "HeartbeatPing"]
    search = operations["room.receive.Search"]
    replies = [reference["$ref"] for reference in search["reply"]["messages"]]
    assert replies == ["#/channels/room/messages/Found", "#/channels/room/messages/ErrorFrame"]
    assert search["reply"]["channel"] == {"$ref": "#/channels/room"}
    sent = [reference["$ref"].rpartition("/")[2] for reference in operations["room.send"]["messages"]]
    assert sent == ["Said", "Found", "ErrorFrame", "HeartbeatPong"]
    assert search["security"] == [{"$ref": "#/components/securitySchemes/session"}]


def test_a_plain_socket_has_no_messages(document: Object) -> None:
    assert "messages" not in document["channels"]["plain"]
    assert not [key for key in document["operations"] if key.startswith(("plain.", "starlette."))]


def test_a_route_that_only_documents_has_no_error_frames(document: Object) -> None:
    assert list(document["channels"]["documented"]["messages"]) == ["Post-Input", "Search", "Said", "Found"]
    assert document["channels"]["documented"]["x-deprecated"] is True


def test_what_is_sent_is_required(document: Object) -> None:
    schemas = document["components"]["schemas"]
    assert schemas["Post-Input"]["required"] == ["type", "text"]
    assert schemas["Found"]["required"] == ["id", "type", "hits"]
    output = schemas["Everything-Output"]
    assert "secret" not in output["properties"]
    assert sorted(output["required"]) == sorted(output["properties"])
    assert schemas["Line"]["required"] == ["kind", "points"]


def is_none(value: Any) -> bool:
    return value is None


class Partial(BaseModel):
    type: Literal["partial"] = "partial"
    name: str | MISSING = MISSING
    size: int | MISSING | None = 1
    color: Annotated[str | None, Field(exclude_if=is_none)] = None
    kind: int | str = 1


def test_what_may_be_missing_is_not_required() -> None:
    app = FastAPI()

    @app.websocket("/ws")
    async def partial(websocket: TypedWebSocket[None, Partial]) -> None: ...

    found = described(app)
    sent = json.loads(app.routes[0].contract.outgoing.encode(Partial(size=MISSING)))  # type: ignore[attr-defined]
    assert sent == {"type": "partial", "kind": 1}
    assert found["components"]["schemas"]["Partial"]["required"] == ["type", "kind"]
    jsonschema.Draft7Validator({**found, "$ref": "#/components/schemas/Partial"}).validate(sent)


def test_schemas_are_of_draft_07(document: Object) -> None:
    text = json.dumps(document["components"])
    assert '"prefixItems"' not in text
    assert '"discriminator"' not in text
    assert "(?P<" not in text
    everything = document["components"]["schemas"]["Everything-Input"]["properties"]
    assert everything["title"]["type"] == "string"
    pair = document["components"]["schemas"]["Box_int_-Input"]["properties"]["pair"]
    assert (pair["items"], pair["additionalItems"]) == ([{"type": "integer"}, {"type": "string"}], False)
    for schema in schemas_in(document["components"]["schemas"]):
        assert "$ref" not in schema or len(schema) == 1


def schemas_in(found: Any) -> list[Object]:
    if isinstance(found, list):
        return [schema for item in found for schema in schemas_in(item)]
    if not isinstance(found, dict):
        return []
    return [found, *(schema for item in found.values() for schema in schemas_in(item))]


def test_error_frames(document: Object) -> None:
    frame = document["components"]["schemas"]["ErrorFrame"]
    assert frame["required"] == ["type", "status", "detail"]
    forms = [{"type": "string"}, {"type": "array", "items": {"type": "object"}}, {}]
    assert frame["properties"]["detail"]["anyOf"] == forms
    assert frame["properties"]["id"] == {"$ref": "#/components/schemas/Id"}
    other = document["components"]["schemas"]["ErrorFrameAction"]
    assert other["required"] == ["action", "status", "detail"]
    sent = list(document["channels"]["actions"]["messages"])[-2:]
    assert sent == [
        "ErrorFrameAction",
        "HeartbeatPongAction",
    ]
    messages = document["components"]["messages"]
    assert messages["Problem"]["name"] == messages["ErrorFrameAction"]["name"] == "error"
    assert "ErrorFrame" not in document["channels"]["boxes"]["messages"]


def test_raw_frames(document: Object) -> None:
    messages = document["components"]["messages"]
    assert messages["bytes"]["contentType"] == "application/octet-stream"
    assert messages["str"]["contentType"] == "text/plain"


def test_security(document: Object) -> None:
    schemes = document["components"]["securitySchemes"]
    assert schemes["session"]["name"] == "sessionid"
    assert schemes["APIKeyHeader"] == {"type": "httpApiKey", "in": "header", "name": "X-Key"}
    assert 'new WebSocket(url, ["bearer", token])' in schemes["WebSocketBearer"]["description"]
    assert schemes["OAuth2AuthorizationCodeBearer"]["flows"]["authorizationCode"]["availableScopes"] == {
        "read": "Read."
    }
    # AsyncAPI has no relative URLs.
    assert schemes["OAuth2PasswordBearer"]["scheme"] == "bearer"


def test_schemes_of_one_name_and_relative_urls() -> None:
    app = FastAPI()
    schemes = (
        APIKeyHeader(name="X-One"),
        APIKeyHeader(name="X-Two"),
        APIKeyHeader(name="X-One"),
        OpenIdConnect(openIdConnectUrl="/openid"),
    )

    @app.websocket("/ws", dependencies=[Depends(scheme) for scheme in schemes])
    async def keys(websocket: WebSocket) -> None: ...

    found = described(app)["components"]["securitySchemes"]
    assert {key: scheme.get("name") for key, scheme in found.items()} == {
        "APIKeyHeader": "X-One",
        "APIKeyHeader2": "X-Two",
        "OpenIdConnect": None,
    }
    assert found["OpenIdConnect"]["description"] == "OpenID Connect: /openid"


def test_permissions() -> None:
    app = FastAPI()

    @app.websocket("/a", dependencies=[Depends(superuser_required), Depends(user_passes_test(is_tall))])
    async def guarded(websocket: WebSocket) -> None: ...

    said = described(app)["channels"]["guarded"]["description"]
    assert said.startswith("Requires a superuser; a user who passes `is_tall`.")
    zoo_channels = described(zoo.app)["channels"]
    assert zoo_channels["room"]["x-permissions"] == ["auth.view_user"]
    said = "The message `ban` requires the permission `auth.delete_user`."
    assert said in zoo_channels["routed"]["description"]


def is_tall(user: Any) -> bool:
    return False


def test_limits_and_close_codes(document: Object) -> None:
    room = document["channels"]["room"]
    assert room["x-limits"] == {"rate_limit": "20/s"}
    assert {"4401", "4422", "4429", "1008"} <= room["x-close-codes"].keys()
    assert "4429" not in document["channels"]["plain"]["x-close-codes"]
    documented = (ROOT / "docs" / "reference" / "close-codes.md").read_text()
    assert all(f"| {code} |" in documented for code in CLOSE_CODES)


def test_servers() -> None:
    app = FastAPI(
        servers=[{"url": "https://a.example.com/api/", "description": "Live."}, {"url": "/relative"}]
    )
    assert described(app)["servers"] == {
        "site": {"host": "a.example.com", "protocol": "wss", "pathname": "/api", "description": "Live."}
    }
    assert described(app, server="ws://b:8000")["servers"] == {"site": {"host": "b:8000", "protocol": "ws"}}
    assert "servers" not in described(FastAPI())
    assert described(zoo.app)["servers"]["sub-example-com"]["host"] == "{sub}.example.com"


class Color(Enum):
    RED = "red"
    BLUE = "blue"


class Filters(BaseModel):
    size: int = 1
    internal: int = Query(0, include_in_schema=False)


def test_parameters_that_are_enums_or_left_out() -> None:
    app = FastAPI()

    @app.websocket("/ws/{color}")
    async def painted(
        websocket: WebSocket, color: Color, secret: Annotated[int, Query(include_in_schema=False)] = 1
    ) -> None: ...

    @app.websocket("/filtered")
    async def filtered(websocket: WebSocket, filters: Annotated[Filters, Query()]) -> None: ...

    channels = described(app)["channels"]
    assert channels["painted"]["parameters"]["color"]["enum"] == ["red", "blue"]
    assert "query" not in channels["painted"].get("bindings", {}).get("ws", {})
    assert list(channels["filtered"]["bindings"]["ws"]["query"]["properties"]) == ["size"]


def test_routes_with_one_name_and_one_path() -> None:
    app = FastAPI()
    for _ in range(3):

        @app.websocket("/ws")
        async def twin(websocket: WebSocket) -> None: ...

    assert list(described(app)["channels"]) == ["twin.ws", "twin.ws.2", "twin.ws.3"]


class Told(ErrorFrame):
    hint: str = ""
    detail: Annotated[Any, Field(examples=["Too tall."])]


class Codec:
    """A class that pydantic can only recognize."""


class Opaque(BaseModel):
    model_config = ConfigDict(extra="forbid", arbitrary_types_allowed=True)
    type: Literal["opaque"] = "opaque"
    codec: Codec | None = None


def test_schemas_of_own_error_frames_and_of_what_json_cannot_say() -> None:
    app = FastAPI()

    @app.websocket("/ws")
    async def told(websocket: TypedWebSocket[Opaque, Told]) -> None: ...

    schemas = described(app)["components"]["schemas"]
    assert schemas["Told"]["properties"]["hint"]["type"] == "string"
    assert schemas["Told"]["properties"]["detail"]["examples"] == ["Too tall."]
    assert schemas["Opaque"]["additionalProperties"] is False


class Order(BaseModel):
    type: Literal["order"] = "order"
    most: float = float("inf")
    least: Annotated[float, Field(ge=-math.inf, examples=[-math.inf])] = math.nan


def test_what_json_cannot_say_is_left_out() -> None:
    app = FastAPI()

    @app.websocket("/ws")
    async def orders(websocket: TypedWebSocket[Order, None], most: float = math.inf) -> None: ...

    text = asyncapi.text(described(app))
    found = json.loads(text, parse_constant=pytest.fail)  # no browser reads Infinity
    assert found["components"]["schemas"]["Order"]["properties"] == {
        "type": {"const": "order", "type": "string"},
        "most": {"type": "number"},
        "least": {"type": "number"},
    }
    assert found["channels"]["orders"]["bindings"]["ws"]["query"]["properties"] == {
        "most": {"type": "number"}
    }


class Dated(BaseModel):
    model_config = ConfigDict(
        json_schema_extra={"examples": [{"day": date(2026, 1, 31), "price": Decimal("1.50")}]}
    )
    day: date
    price: Decimal


def test_examples_of_a_model_may_be_python() -> None:
    app = FastAPI()

    @app.websocket("/ws")
    async def dated(websocket: TypedWebSocket[Dated, None]) -> None: ...

    examples = json.loads(asyncapi.text(described(app)))["components"]["messages"]["Dated"]["examples"]
    assert examples == [{"payload": {"day": "2026-01-31", "price": "1.50"}}]
    assert "export interface Dated" in Client(Site(app)).declarations()


@pytest.mark.parametrize("host", ["https://a.example.com/api/", "https://a.example.com"])
def test_the_path_of_servers(host: str) -> None:
    app = FastAPI(servers=[{"url": host}])
    path = "/api" if host.endswith("/api/") else "/below"
    known = {"host": "a.example.com", "protocol": "wss", "pathname": path}
    assert described(app, prefix="/below")["servers"] == {"site": known}
    here = {"host": "b:80", "protocol": "ws", "pathname": "/below"}
    assert described(app, here="ws://b:80", prefix="/below")["servers"] == {"site": here, "site2": known}
    assert described(app, here=host, prefix="/below")["servers"] == {"site": known}
    assert described(zoo.app, prefix="/below")["servers"]["sub-example-com"]["pathname"] == "/below"


def test_the_command_knows_the_script_name() -> None:
    set_script_prefix("/below/")
    try:
        found = json.loads(run("--server", "wss://example.com"))
        assert found["servers"]["site"]["pathname"] == "/below"
    finally:
        clear_script_prefix()


code = OAuth2AuthorizationCodeBearer(
    "https://example.com/auth",
    "https://example.com/token",
    scopes={"read": "Read.", "write": "Write."},
    scheme_name="code",
)


def reader(token: Annotated[str, Security(code, scopes=["read"])]) -> None: ...


def test_oauth2_scopes() -> None:
    oidc = OpenIdConnect(openIdConnectUrl="https://example.com/oidc", scheme_name="oidc")
    relative = OAuth2PasswordBearer("token", scheme_name="relative")
    app = FastAPI()

    @app.websocket("/a", dependencies=[Security(reader, scopes=["write"]), Depends(code)])
    async def first(websocket: TypedWebSocket[Message, None]) -> None: ...

    @app.websocket("/b", dependencies=[Security(oidc, scopes=["x"]), Security(relative, scopes=["y", "z"])])
    async def second(websocket: TypedWebSocket[Message, None]) -> None: ...

    found = described(app)
    schemes = found["components"]["securitySchemes"]

    def of(operation: str) -> list[Object]:
        references = found["operations"][operation]["security"]
        return [schemes[reference["$ref"].rpartition("/")[2]] for reference in references]

    assert [one.get("scopes") for one in of("first.receive")] == [["write", "read"], None]
    assert schemes.keys() == {"code", "code.write.read", "oidc.x", "relative.y.z"}
    assert [one["type"] for one in of("first.receive")] == ["oauth2", "oauth2"]
    [oidc_scheme, bearer] = of("second.receive")
    assert (oidc_scheme["type"], oidc_scheme["scopes"]) == ("openIdConnect", ["x"])
    assert bearer["description"].endswith("Scopes: y, z.")


def test_classes_of_one_name_that_mean_different_things() -> None:
    """A call and a plain model whose fields agree are two messages; two plain ones are one."""
    fields: Any = {"type": (Literal["ask"], "ask")}
    call = create_model("Ask", __base__=Call[Answer], **fields)
    plain = create_model("Ask", id=(Id, ...), **fields)
    again = create_model("Ask", __base__=plain)
    app = FastAPI()

    for number, kind in enumerate([plain, call, again]):

        async def endpoint(websocket: Any) -> None: ...

        endpoint.__annotations__["websocket"] = TypedWebSocket[kind, Answer]  # type: ignore[valid-type]
        app.add_api_websocket_route(f"/{number}", endpoint, name=f"route{number}")
    found = described(app)
    keys = {name: next(iter(channel["messages"])) for name, channel in found["channels"].items()}
    assert keys == {"route0": "Ask", "route1": "Ask2", "route2": "Ask"}
    messages = found["components"]["messages"]
    assert "correlationId" not in messages["Ask"]
    assert messages["Ask2"]["correlationId"] == {"location": "$message.payload#/id"}
    assert messages["Ask"]["payload"] == messages["Ask2"]["payload"]
    assert "route1.receive.Ask2" in found["operations"]


# The schemas, in Python


@pytest.mark.parametrize("name", ["demo", "zoo", "guide0", "guide1", "guide2"])
def test_the_schemas_are_schemas(name: str) -> None:
    found = asyncapi.document(sites()[name])
    checked = 0
    for schema in found.get("components", {}).get("schemas", {}).values():
        jsonschema.Draft7Validator.check_schema(schema)
        checked += 1
    for channel in found["channels"].values():
        for part in ("query", "headers", "x-cookies"):
            jsonschema.Draft7Validator.check_schema(channel["bindings"]["ws"].get(part, {}))
        for parameter in channel.get("parameters", {}).values():
            jsonschema.Draft7Validator.check_schema(parameter["x-schema"])
    assert checked


MOMENT = datetime(2026, 2, 3, 4, 5, 6, tzinfo=UTC)
SAID = zoo.Said(number=1, user="ann", text="hi", sent_at=MOMENT)
CORPUS: list[Any] = [
    SAID,
    zoo.Found(id="c1", hits=[SAID]),
    zoo.Found(id=7),
    zoo.Tree(name="a", children=[zoo.Tree(name="b")]),
    zoo.Box[zoo.Said](value=SAID, many={"x": SAID}),
    zoo.Price(symbol="a", price=Decimal("1.50")),
    zoo.Done(),
    zoo.Point(x=1, y=2.5),
    zoo.Everything(
        **{"uuid": UUID(int=1), "day": MOMENT.date(), "amount": Decimal("0.1"), "class": "c", "code": "abc"},
        **{"rating": 0.5, "box": zoo.Box[int](value=1), "anything": [1, None], "odd-name": "x"},
    ),
]


@pytest.mark.parametrize("value", CORPUS, ids=lambda value: type(value).__name__)
def test_what_is_sent_fits_the_published_schema_and_comes_back(document: Object, value: Any) -> None:
    """As `send_message` serializes it; a client that reads it gets an equal message."""
    kind = type(value)
    adapter = adapter_of(kind, "A test")
    text = adapter.dump_json(value, by_alias=True)
    title = kind.__name__
    [message] = [
        one for key, one in document["components"]["messages"].items()
        if one["title"] == title and not key.endswith("-Input")
    ]  # fmt: skip
    schema = rooted(message["payload"]) | {"components": document["components"]}
    jsonschema.Draft7Validator(schema).validate(json.loads(text))
    assert adapter.validate_json(text) == value
    broken = {**json.loads(text), **dict.fromkeys(set(json.loads(text)) - {"anything"}, object)}
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.Draft7Validator(schema).validate(broken)


def test_what_clients_send_is_read_as_the_schema_says(document: Object) -> None:
    """Each example is a message for the server, and one without a required field is none."""
    site = Site(zoo.app)
    tried = 0
    for channel in site.channels:
        for message in channel.spoken.received:
            for example in message.examples:
                if channel.contract is None or message.is_beat:
                    continue
                adapter = next(
                    adapter_of(kind, "A test")
                    for kind in channel.contract.receives
                    if name_of_type(base_of(kind)) == message.title
                )
                adapter.validate_json(json.dumps(example))
                schema = site.vocabulary.schemas.get(str(message.payload.get("$ref")).rpartition("/")[2], {})
                for field in schema.get("required", ()):
                    less = {name: value for name, value in example.items() if name != field}
                    root = {**rooted(message.payload), "components": {"schemas": site.vocabulary.schemas}}
                    assert not jsonschema.Draft7Validator(root).is_valid(less)
                tried += 1
    assert tried > 10


# Examples


@pytest.mark.parametrize("name", ["demo", "zoo", "guide0", "guide1", "guide2"])
def test_examples_fit_their_schemas(name: str) -> None:
    found = asyncapi.document(sites()[name])
    components = found.get("components", {})
    for key, message in components.get("messages", {}).items():
        for example in message.get("examples", ()):
            schema = {**message["payload"], "components": components}
            (
                jsonschema.Draft7Validator(schema if "$ref" not in schema else rooted(schema)).validate(
                    example["payload"]
                ),
                key,
            )


def rooted(schema: Object) -> Object:
    """A schema whose reference is not hidden by the keys beside it, as draft-07 has it."""
    return {"allOf": [{"$ref": schema["$ref"]}], "components": schema.get("components", {})}


def test_nearly_every_message_has_an_example(document: Object) -> None:
    messages = document["components"]["messages"]
    assert {key for key, message in messages.items() if "examples" not in message} <= {
        "bytes",
        "str",
        "Everything-Output",
    }


def test_examples_of_the_model_are_published_as_they_are(document: Object) -> None:
    examples = document["components"]["messages"]["WithExamples"]["examples"]
    assert examples == [{"payload": example} for example in zoo.EXAMPLES]
    assert document["components"]["messages"]["Post-Input"]["examples"][0]["payload"]["text"] == "Hello"


@pytest.mark.parametrize(
    "schema",
    [
        {"type": "integer", "minimum": 5},
        {"type": "integer", "exclusiveMinimum": 5, "maximum": 6},
        {"type": "integer", "maximum": -3},
        {"type": "number", "exclusiveMinimum": 0, "exclusiveMaximum": 0.5},
        {"type": "integer", "multipleOf": 7, "minimum": 50},
        {"type": "string", "minLength": 10, "maxLength": 11},
        {"type": "string", "maxLength": 2},
        {"type": "array", "items": {"type": "string"}, "minItems": 3},
        {"type": "array", "items": {"type": "string"}, "maxItems": 0},
        {"type": "string", "pattern": "^[A-Z]+$"},
        {"type": "array", "items": True, "minItems": 1},
        {"allOf": [{"type": "integer", "minimum": 3}], "description": "An inherited number."},
        {"anyOf": [{"type": "string", "pattern": "^never-[0-9]{40}$"}, {"type": "integer"}]},
    ],
)
def test_made_values_fit(schema: Object) -> None:
    jsonschema.Draft7Validator(schema).validate(Maker({}).make(schema))


NEVER = {"type": "string", "pattern": "^never-[0-9]{40}$"}


@pytest.mark.parametrize(
    "schema",
    [
        NEVER,
        {"type": "string", "pattern": "("},  # no regular expression of Python
        {"type": "integer", "minimum": 2, "maximum": 1},
        {"anyOf": [NEVER, NEVER]},
        {"type": "array", "items": NEVER, "minItems": 1},
    ],
)
def test_no_example_for_what_cannot_be_made(schema: Object) -> None:
    with pytest.raises(NoExample):
        Maker({}).make(schema)


@pytest.mark.parametrize(
    "kind", [IPv4Interface, IPv6Interface, IPvAnyInterface, IPvAnyNetwork, IPv4Network, IPv6Network]
)
def test_addresses_have_examples(kind: Any) -> None:
    adapter = TypeAdapter(kind)
    found, schemas, _ = generate([("it", "validation", adapter.core_schema)])
    adapter.validate_python(Maker(schemas).make(found["it", "validation"]))


class Even(BaseModel):
    type: Literal["even"] = "even"
    number: Annotated[int, AfterValidator(lambda number: number if number % 2 == 0 else int("odd"))]


def test_no_example_that_the_server_would_not_take() -> None:
    app = FastAPI()

    @app.websocket("/ws")
    async def numbers(websocket: TypedWebSocket[Even, None]) -> None: ...

    assert "examples" not in described(app)["components"]["messages"]["Even"]


# The command


DOCUMENT_OF_THE_ZOO = """
import django
from django.conf import settings
from django.core.management import call_command
django.setup()
settings.ASGI_APPLICATION = "tests.zoo.app"
call_command("asyncapi")
"""


def python(code: str, **environment: str) -> str:
    """What a new process prints."""
    environment = {"PATH": "", "DJANGO_SETTINGS_MODULE": "wsproject.settings", **environment}
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_same_bytes_on_each_run() -> None:
    first, second = (python(DOCUMENT_OF_THE_ZOO, PYTHONHASHSEED=seed) for seed in "12")
    assert first == second
    assert json.loads(first)["info"]["title"] == "Zoo"


def test_it_prints_and_writes(tmp_path: Path) -> None:
    file = tmp_path / "new" / "asyncapi.json"
    printed = run()
    assert json.loads(printed)["channels"]["chat"]["address"] == "/ws/chat/{slug}"
    assert run("--out", str(file)) == ""
    assert file.read_text() == printed


def test_check(settings: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    app = FastAPI()

    @app.websocket("/ws/first")
    async def first(websocket: TypedWebSocket[Message, None]) -> None: ...

    serve(monkeypatch, settings, app)
    file = tmp_path / "asyncapi.json"
    with pytest.raises(CommandError, match="cannot be read"):
        run("--out", str(file), "--check")
    assert not file.exists()
    run("--out", str(file))
    before = file.read_bytes()
    assert run("--out", str(file), "--check") == run("--check", str(file)) == ""

    @app.websocket("/ws/second")
    async def second(websocket: WebSocket, page: Annotated[int, Query()] = 1) -> None: ...

    for arguments in (["--out", str(file), "--check"], ["--check", str(file)]):
        with pytest.raises(CommandError, match=r"not up to date.*asyncapi --out[\s\S]*second"):
            run(*arguments)
    assert file.read_bytes() == before


def test_the_command_that_a_failed_check_prints_writes_the_file(
    settings: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    serve(monkeypatch, settings, FastAPI())
    file = tmp_path / "the sockets.json"
    options = ["--server", "wss://example.com/a b", "--spec", "3.0.0"]
    for text in (None, "{}"):
        if text is not None:
            file.write_text(text)
        with pytest.raises(CommandError) as caught:
            run("--check", str(file), *options)
        line = str(caught.value).partition("manage.py asyncapi ")[2].partition("\n")[0]
        assert shlex.split(line) == ["--out", str(file), *options]
        run(*shlex.split(line))
        assert run("--check", str(file), *options) == ""


def test_a_file_that_cannot_be_written(tmp_path: Path) -> None:
    with pytest.raises(CommandError, match="cannot be written"):
        run("--out", str(tmp_path))


def test_an_application_with_a_mistake(
    settings: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "mistaken_asgi.py").write_text(
        "from fastws_compat import FastAPI\napplication = FastAPI()\n"
        "@application.websocket('/ws')\ndef plain(websocket): ...\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    settings.ASGI_APPLICATION = "mistaken_asgi.application"
    with pytest.raises(CommandError, match="write 'async def plain'"):
        run()


def test_check_without_a_file() -> None:
    with pytest.raises(CommandError, match="--check needs a file"):
        run("--check")


def test_a_server_without_a_host() -> None:
    with pytest.raises(CommandError, match="wss://host/prefix"):
        run("--server", "example.com")


def test_an_application_that_cannot_be_imported(settings: Any) -> None:
    settings.ASGI_APPLICATION = "no_such_module.application"
    with pytest.raises(CommandError, match="cannot be imported"):
        run()


def test_spec() -> None:
    assert json.loads(run("--spec", "3.0.0"))["asyncapi"] == "3.0.0"


# What it costs


def test_a_serving_process_does_not_import_it() -> None:
    code = (
        "import json, sys, django; django.setup(); import wsproject.asgi, fastws_compat.messages;"
        "print(json.dumps([name for name in sys.modules if name.startswith('fastws_compat.schema.')]))"
    )
    assert set(json.loads(python(code))) <= {"fastws_compat.schema.catalogue"}
