"""Pydantic models that are filled from all query parameters, headers or cookies."""

from dataclasses import dataclass
from typing import Annotated, Any, Literal

import pytest
from pydantic import (
    AliasChoices,
    AliasPath,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    Json,
    RootModel,
    model_validator,
)

from tests.parity.asking import ask, errors, raw_ask


class Filter(BaseModel):
    limit: int = Field(100, gt=0, le=100)
    order: Literal["up", "down"] = "up"
    tags: list[str] = []


class Strict(BaseModel):
    model_config = ConfigDict(extra="forbid")
    limit: int = 10


class Open(BaseModel):
    model_config = ConfigDict(extra="allow")
    limit: int = 10


class Token(BaseModel):
    x_token: str
    x_count: int = 0


def serving(lib, annotation, source="Query", default=..., **options):
    """An application that answers with the model's values, or with the value if it is not a model."""
    app = lib.FastAPI()
    marker = getattr(lib, source)(**options)

    async def answer(websocket, value):
        await websocket.accept()
        await websocket.send_json(value.model_dump() if isinstance(value, BaseModel) else repr(value))

    if default is ...:

        @app.websocket("/ws")
        async def required(websocket: lib.WebSocket, value: Annotated[annotation, marker]):
            await answer(websocket, value)

    else:

        @app.websocket("/ws")
        async def optional(websocket: lib.WebSocket, value: Annotated[annotation, marker] = default):
            await answer(websocket, value)

    return app


# --- query ---


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("", {"limit": 100, "order": "up", "tags": []}),
        ("limit=3", {"limit": 3, "order": "up", "tags": []}),
        ("order=down&tags=a&tags=b", {"limit": 100, "order": "down", "tags": ["a", "b"]}),
        ("tags=a", {"limit": 100, "order": "up", "tags": ["a"]}),
        ("limit=1&limit=2", {"limit": 2, "order": "up", "tags": []}),
        ("other=1", {"limit": 100, "order": "up", "tags": []}),
    ],
)
def test_model_of_the_query(lib, query, expected):
    assert ask(lib, serving(lib, Filter), f"/ws?{query}") == expected


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("limit=0", [("greater_than", ["query", "limit"])]),
        ("limit=x&order=y", [("int_parsing", ["query", "limit"]), ("literal_error", ["query", "order"])]),
        ("limit=", [("int_parsing", ["query", "limit"])]),
    ],
)
def test_errors_of_a_model_of_the_query(lib, query, expected):
    found = errors(lib, serving(lib, Filter), f"/ws?{query}")

    assert [(error["type"], error["loc"]) for error in found] == expected


def test_missing_field_of_a_model_shows_what_was_sent(lib):
    class Model(BaseModel):
        a: int
        b: int

    found = errors(lib, serving(lib, Model), "/ws?a=1")
    assert found == [{"type": "missing", "loc": ["query", "b"], "msg": "Field required", "input": {"a": "1"}}]


def test_extra_of_the_query_is_forbidden(lib):
    assert errors(lib, serving(lib, Strict), "/ws?limit=1&tool=plumbus") == [
        {
            "type": "extra_forbidden",
            "loc": ["query", "tool"],
            "msg": "Extra inputs are not permitted",
            "input": "plumbus",
        }
    ]


def test_repeated_extra_is_forbidden_as_a_list(lib):
    [error] = errors(lib, serving(lib, Strict), "/ws?tool=a&tool=b")

    assert (error["loc"], error["input"]) == (["query", "tool"], ["a", "b"])


def test_extra_of_the_query_is_allowed(lib):
    assert ask(lib, serving(lib, Open), "/ws?limit=1&a=x&b=y&b=z") == {"limit": 1, "a": "x", "b": ["y", "z"]}


def test_model_as_default_value(lib):
    app = lib.FastAPI()

    @app.websocket("/ws")
    async def endpoint(websocket: lib.WebSocket, value: Filter = lib.Query()):
        await websocket.accept()
        await websocket.send_json(value.limit)

    assert ask(lib, app, "/ws?limit=5") == 5


def test_model_with_a_default_instance(lib):
    app = serving(lib, Filter, default=Filter(limit=7))

    assert ask(lib, app)["limit"] == 100
    assert ask(lib, app, "/ws?limit=5")["limit"] == 5


def test_two_models_of_the_query(lib):
    class Page(BaseModel):
        page: int = 1

    app = lib.FastAPI()

    @app.websocket("/ws")
    async def endpoint(
        websocket: lib.WebSocket, one: Annotated[Filter, lib.Query()], two: Annotated[Page, lib.Query()]
    ):
        await websocket.accept()
        await websocket.send_json([one.limit, two.page])

    assert ask(lib, app, "/ws?limit=5&page=2") == [5, 2]


def test_model_beside_plain_parameters(lib):
    app = lib.FastAPI()

    @app.websocket("/ws")
    async def endpoint(
        websocket: lib.WebSocket, model: Annotated[Filter, lib.Query()], limit: str, other: int = 1
    ):
        await websocket.accept()
        await websocket.send_json([model.limit, limit, other])

    assert ask(lib, app, "/ws?limit=5&other=2") == [5, "5", 2]


def test_forbidding_model_beside_plain_parameters(lib):
    app = lib.FastAPI()

    @app.websocket("/ws")
    async def endpoint(websocket: lib.WebSocket, model: Annotated[Strict, lib.Query()], other: int = 1):
        pass

    assert [error["loc"] for error in errors(lib, app, "/ws?limit=5&other=2")] == [["query", "other"]]


def test_model_in_a_dependency(lib):
    def limit(model: Annotated[Filter, lib.Query()]):
        return model.limit

    app = lib.FastAPI()

    @app.websocket("/ws")
    async def endpoint(websocket: lib.WebSocket, value: Annotated[int, lib.Depends(limit)]):
        await websocket.accept()
        await websocket.send_json(value)

    assert ask(lib, app, "/ws?limit=5") == 5


# --- optional models ---


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("", "None"),
        ("other=1", "None"),
        ("limit=5", {"limit": 5, "order": "up", "tags": []}),
        ("tags=a", {"limit": 100, "order": "up", "tags": ["a"]}),
    ],
)
@pytest.mark.parametrize("annotation", [Filter | None, None | Filter], ids=str)
def test_optional_model(lib, annotation, query, expected):
    assert ask(lib, serving(lib, annotation, default=None), f"/ws?{query}") == expected


def test_optional_model_without_default_is_missing(lib):
    found = errors(lib, serving(lib, Filter | None))

    assert found == [{"type": "missing", "loc": ["query"], "msg": "Field required", "input": None}]


def test_optional_model_that_forbids_extras(lib):
    app = serving(lib, Strict | None, default=None)

    assert ask(lib, app) == "None"
    assert [error["loc"] for error in errors(lib, app, "/ws?other=1")] == [["query", "other"]]


def test_optional_model_that_allows_extras(lib):
    app = serving(lib, Open | None, default=None)

    assert ask(lib, app) == "None"
    assert ask(lib, app, "/ws?other=1") == {"limit": 10, "other": "1"}


def test_optional_model_is_found_by_any_alias(lib):
    class Model(BaseModel):
        a: int = Field(0, validation_alias=AliasChoices("one", "two"))

    app = serving(lib, Model | None, default=None)

    assert ask(lib, app, "/ws?two=2") == {"a": 2}
    assert ask(lib, app, "/ws?a=2") == "None"


@pytest.mark.parametrize("source", ["Header", "Cookie"])
def test_optional_model_elsewhere(lib, source):
    class Model(BaseModel):
        token: str

    app = serving(lib, Model | None, source, default=None)
    sent = {"headers": {"token": "a"} if source == "Header" else {"cookie": "token=a"}}

    assert ask(lib, app) == "None"
    assert ask(lib, app, **sent) == {"token": "a"}


def test_optional_header_model_that_forbids_extras_sees_every_header(lib):
    found = errors(lib, serving(lib, Strict | None, "Header", default=None))

    assert ["header", "host"] in [error["loc"] for error in found]


def test_optional_header_model_is_found_without_case(lib):
    class Model(BaseModel):
        token: str = Field(alias="X-Token")

    assert ask(lib, serving(lib, Model | None, "Header", default=None), headers={"x-token": "a"}) == {
        "token": "a"
    }


def test_union_of_two_models_is_no_parameter_model(lib):
    with pytest.raises(AssertionError, match=r"^Query parameter 'value' must be one of the supported types$"):
        serving(lib, Filter | Strict)


# --- aliases ---


class Aliased(BaseModel):
    plain: int = 0
    alias: int = Field(0, alias="aliasAlias")
    valid: int = Field(0, validation_alias="validAlias")
    choices: int = Field(0, validation_alias=AliasChoices("one", "two"))


@pytest.mark.parametrize(
    ("query", "name"),
    [
        ("plain=1", "plain"),
        ("aliasAlias=1", "alias"),
        ("validAlias=1", "valid"),
        ("one=1", "choices"),
        ("two=1", "choices"),
        ("alias=1", None),
        ("valid=1", None),
        ("choices=1", None),
    ],
)
@pytest.mark.parametrize("source", ["Query", "Cookie"])
def test_aliases_of_a_model(lib, source, query, name):
    sent = {"url": f"/ws?{query}"} if source == "Query" else {"headers": {"cookie": query}}
    values = ask(lib, serving(lib, Aliased, source), **sent)

    assert [key for key, value in values.items() if value] == ([name] if name else [])


def test_error_of_an_aliased_field(lib):
    found = errors(lib, serving(lib, Aliased), "/ws?aliasAlias=x&validAlias=x&two=x")

    assert [error["loc"] for error in found] == [
        ["query", "aliasAlias"],
        ["query", "validAlias"],
        ["query", "two"],
    ]


def test_missing_aliased_fields(lib):
    class Model(BaseModel):
        a: int = Field(alias="aAlias")
        b: int = Field(validation_alias="bAlias")
        c: int = Field(validation_alias=AliasChoices("one", "two"))

    found = errors(lib, serving(lib, Model))
    assert [error["loc"] for error in found] == [["query", "aAlias"], ["query", "bAlias"], ["query", "one"]]


def test_unused_choice_is_an_extra(lib):
    class Model(BaseModel):
        model_config = ConfigDict(extra="allow")
        a: int = Field(0, validation_alias=AliasChoices("one", "two"))

    assert ask(lib, serving(lib, Model), "/ws?one=1&two=2") == {"a": 1, "two": "2"}


@pytest.mark.parametrize(
    ("config", "query", "found"),
    [
        ({"validate_by_name": True}, "a=1", 1),
        ({"validate_by_name": True}, "alias=1", 1),
        ({"validate_by_name": True}, "alias=1&a=2", 1),
        ({"populate_by_name": True}, "a=1", 1),
        ({"validate_by_alias": False, "validate_by_name": True}, "a=1", 1),
        ({"validate_by_alias": False, "validate_by_name": True}, "alias=1", 0),
        ({}, "a=1", 0),
    ],
    ids=str,
)
@pytest.mark.parametrize("source", ["Query", "Header", "Cookie"])
def test_model_validated_by_name(lib, source, config, query, found):
    class Model(BaseModel):
        model_config = ConfigDict(**config)
        a: int = Field(0, alias="alias")

    pairs = dict(pair.split("=") for pair in query.split("&"))
    sent = {
        "Query": {"url": f"/ws?{query}"},
        "Header": {"headers": pairs},
        "Cookie": {"headers": {"cookie": query.replace("&", "; ")}},
    }
    assert ask(lib, serving(lib, Model, source), **sent[source]) == {"a": found}


def test_list_in_a_model_validated_by_name(lib):
    class Model(BaseModel):
        model_config = ConfigDict(validate_by_name=True)
        a: list[int] = Field([], alias="alias")

    assert ask(lib, serving(lib, Model), "/ws?a=1&a=2") == {"a": [1, 2]}


def test_alias_generator(lib):
    class Model(BaseModel):
        model_config = ConfigDict(alias_generator=str.upper)
        token: str

    assert ask(lib, serving(lib, Model), "/ws?TOKEN=a") == {"token": "a"}
    assert [error["loc"] for error in errors(lib, serving(lib, Model))] == [["query", "TOKEN"]]


def test_alias_path_in_a_model(lib):
    class Model(BaseModel):
        a: str = Field("default", validation_alias=AliasPath("words", 1))

    assert ask(lib, serving(lib, Model), "/ws?words=a&words=b") == {"a": "b"}
    assert ask(lib, serving(lib, Model), "/ws?words=a") == {"a": "default"}


def test_loc_by_name(lib):
    class Model(BaseModel):
        model_config = ConfigDict(loc_by_alias=False)
        a: int = Field(alias="alias")

    assert [error["loc"] for error in errors(lib, serving(lib, Model), "/ws?alias=x")] == [["query", "a"]]


# --- headers ---


def test_model_of_the_headers(lib):
    app = serving(lib, Token, "Header")

    assert ask(lib, app, headers={"X-Token": "a", "x-count": "3"}) == {"x_token": "a", "x_count": 3}


def test_header_with_underscores_does_not_fill_a_model(lib):
    [error] = errors(lib, serving(lib, Token, "Header"), headers={"x_token": "a"})

    assert (error["type"], error["loc"]) == ("missing", ["header", "x-token"])
    assert "x_token" not in error["input"]


def test_header_model_without_conversion(lib):
    app = serving(lib, Token, "Header", convert_underscores=False)

    assert ask(lib, app, headers={"x_token": "a"}) == {"x_token": "a", "x_count": 0}
    assert [error["loc"] for error in errors(lib, app, headers={"x-token": "a"})] == [["header", "x_token"]]


def test_invalid_header_is_named_as_it_is_sent(lib):
    found = errors(lib, serving(lib, Token, "Header"), headers={"x-token": "a", "x-count": "x"})

    assert [(error["loc"], error["input"]) for error in found] == [(["header", "x-count"], "x")]


def test_invalid_header_named_by_name(lib):
    class Model(BaseModel):
        model_config = ConfigDict(loc_by_alias=False)
        x_count: int

    found = errors(lib, serving(lib, Model, "Header"), headers={"x-count": "x"})
    assert [error["loc"] for error in found] == [["header", "x_count"]]


def test_alias_in_a_header_model_is_literal(lib):
    class Model(BaseModel):
        a: str = Field("default", alias="x_one")
        b: str = Field("default", validation_alias="x-two")
        c: str = Field("default", validation_alias=AliasChoices("x_three", "x-four"))

    app = serving(lib, Model, "Header")

    assert ask(lib, app, headers={"x_one": "1", "x-two": "2", "x-four": "4"}) == {
        "a": "1",
        "b": "2",
        "c": "4",
    }
    assert ask(lib, app, headers={"x-one": "1", "x_two": "2"}) == {
        "a": "default",
        "b": "default",
        "c": "default",
    }


def test_list_in_a_header_model(lib):
    class Model(BaseModel):
        x_tag: list[str] = []

    headers = [(b"x-tag", b"a"), (b"x-tag", b"b")]
    assert raw_ask(serving(lib, Model, "Header"), headers) == {"x_tag": ["a", "b"]}


def test_extra_headers_are_forbidden(lib):
    class Model(BaseModel):
        model_config = ConfigDict(extra="forbid")
        x_token: str

    app = serving(lib, Model, "Header")

    assert raw_ask(app, [(b"x-token", b"a")]) == {"x_token": "a"}
    found = errors(lib, app, headers={"x-token": "a", "tool": "plumbus"})
    assert ("extra_forbidden", ["header", "tool"], "plumbus") in [
        (error["type"], error["loc"], error["input"]) for error in found
    ]


def test_extra_headers_are_allowed(lib):
    class Model(BaseModel):
        model_config = ConfigDict(extra="allow")
        x_token: str = "default"

    headers = [(b"x-token", b"a"), (b"x-other", b"1"), (b"y", b"2"), (b"y", b"3")]
    assert raw_ask(serving(lib, Model, "Header"), headers) == {
        "x_token": "a",
        "x-other": "1",
        "y": ["2", "3"],
    }


def test_unconverted_name_of_a_field_is_no_extra_header(lib):
    class Model(BaseModel):
        model_config = ConfigDict(extra="allow")
        x_token: str = "default"

    assert raw_ask(serving(lib, Model, "Header"), [(b"x_token", b"a")]) == {"x_token": "default"}


def test_header_model_validated_by_name_with_dashes(lib):
    class Model(BaseModel):
        model_config = ConfigDict(validate_by_name=True)
        x_token: str = Field("default", alias="other")

    app = serving(lib, Model, "Header")

    assert ask(lib, app, headers={"x-token": "a"}) == {"x_token": "a"}
    assert ask(lib, app, headers={"other": "a"}) == {"x_token": "a"}


# --- markers as fields of a model ---


@pytest.mark.parametrize("place", ["parameter model", "dependency"])
def test_marker_as_default_of_a_field(lib, place):
    class Page(BaseModel):
        limit: int = lib.Query(100, gt=0)
        word: str = lib.Query("none", alias="w")

    marker = lib.Query() if place == "parameter model" else lib.Depends()
    app = lib.FastAPI()

    @app.websocket("/ws")
    async def endpoint(websocket: lib.WebSocket, page: Annotated[Page, marker]):
        await websocket.accept()
        await websocket.send_json([page.limit, page.word])

    assert ask(lib, app) == [100, "none"]
    assert ask(lib, app, "/ws?limit=3&w=x") == [3, "x"]


def test_marker_as_default_of_a_field_is_validated(lib):
    class Page(BaseModel):
        limit: int = lib.Query(100, gt=0)

    assert [error["loc"] for error in errors(lib, serving(lib, Page), "/ws?limit=0")] == [["query", "limit"]]


def test_marker_in_annotated_field(lib):
    class Page(BaseModel):
        limit: Annotated[int, lib.Query(gt=0, alias="l")] = 100

    assert ask(lib, serving(lib, Page)) == {"limit": 100}
    assert ask(lib, serving(lib, Page), "/ws?l=3") == {"limit": 3}
    assert [error["loc"] for error in errors(lib, serving(lib, Page), "/ws?l=0")] == [["query", "l"]]


def test_header_marker_as_default_of_a_field(lib):
    class Model(BaseModel):
        a_b: str = lib.Header("default", convert_underscores=False)
        c_d: str = "default"

    assert ask(lib, serving(lib, Model, "Header"), headers={"a_b": "1", "c-d": "2"}) == {
        "a_b": "1",
        "c_d": "2",
    }


def test_marker_as_default_of_a_dataclass_field(lib):
    @dataclass
    class Page:
        limit: int = lib.Query(100, gt=0, alias="l")
        token: Annotated[str, lib.Header()] = "none"

    app = lib.FastAPI()

    @app.websocket("/ws")
    async def endpoint(websocket: lib.WebSocket, page: Page = lib.Depends()):
        await websocket.accept()
        await websocket.send_json([page.limit, page.token])

    assert ask(lib, app, "/ws?l=3", headers={"token": "a"}) == [3, "a"]
    assert [error["loc"] for error in errors(lib, app, "/ws?l=0")] == [["query", "l"]]


# --- cookies ---


def test_model_of_the_cookies(lib):
    class Cookies(BaseModel):
        session_id: str
        visits: int = 0

    app = serving(lib, Cookies, "Cookie")

    assert ask(lib, app, headers={"cookie": "session_id=a; visits=3"}) == {"session_id": "a", "visits": 3}
    found = errors(lib, app, headers={"cookie": "visits=x"})
    assert [error["loc"] for error in found] == [["cookie", "session_id"], ["cookie", "visits"]]


def test_extra_cookies(lib):
    assert ask(lib, serving(lib, Open, "Cookie"), headers={"cookie": "a=1; limit=2"}) == {
        "limit": 2,
        "a": "1",
    }
    found = errors(lib, serving(lib, Strict, "Cookie"), headers={"cookie": "a=1; limit=2"})
    assert [(error["loc"], error["input"]) for error in found] == [(["cookie", "a"], "1")]


# --- what a model may contain ---


def test_optional_field(lib):
    class Model(BaseModel):
        a: int | None = None
        tags: list[int] | None = None

    assert ask(lib, serving(lib, Model)) == {"a": None, "tags": None}
    assert ask(lib, serving(lib, Model), "/ws?a=1&tags=1") == {"a": 1, "tags": [1]}


def test_required_list_in_a_model(lib):
    class Model(BaseModel):
        tags: list[int]

    assert [error["type"] for error in errors(lib, serving(lib, Model))] == ["missing"]
    assert [error["loc"] for error in errors(lib, serving(lib, Model), "/ws?tags=1&tags=x")] == [
        ["query", "tags", 1]
    ]


def test_tuple_and_set_in_a_model(lib):
    class Model(BaseModel):
        pair: tuple[int, int] = (0, 0)
        some: frozenset[int] = frozenset()

    app = serving(lib, Model)
    assert errors(lib, app, "/ws?pair=1")[0]["loc"] == ["query", "pair", 1]


def test_json_in_a_model(lib):
    class Model(BaseModel):
        a: Json[list[int]] = []

    assert ask(lib, serving(lib, Model), params={"a": "[1]"}) == {"a": [1]}


def test_default_factory_in_a_model(lib):
    class Model(BaseModel):
        tags: list[str] = Field(default_factory=lambda: ["made"])

    assert ask(lib, serving(lib, Model)) == {"tags": ["made"]}


def test_nested_model_reads_no_query(lib):
    class Inner(BaseModel):
        a: int = 1

    class Model(BaseModel):
        inner: Inner = Inner()

    assert ask(lib, serving(lib, Model)) == {"inner": {"a": 1}}
    assert errors(lib, serving(lib, Model), "/ws?inner=1")[0]["loc"] == ["query", "inner"]


def test_validators_of_a_model(lib):
    class Model(BaseModel):
        a: Annotated[int, BeforeValidator(lambda value: int(value) * 2)] = 0
        b: int = 0

        @model_validator(mode="after")
        def check(self):
            if self.a > self.b:
                raise ValueError("too large")
            return self

    assert ask(lib, serving(lib, Model), "/ws?a=1&b=2") == {"a": 2, "b": 2}
    [error] = errors(lib, serving(lib, Model), "/ws?a=2&b=2")
    assert (error["type"], error["loc"], error["msg"]) == ("value_error", ["query"], "Value error, too large")


def test_inherited_fields(lib):
    class Paged(Filter):
        page: int = 1

    assert ask(lib, serving(lib, Paged), "/ws?page=2&tags=a") == {
        "limit": 100,
        "order": "up",
        "tags": ["a"],
        "page": 2,
    }


def test_frozen_and_strict_models(lib):
    class Model(BaseModel):
        model_config = ConfigDict(frozen=True, strict=True)
        a: str = ""
        b: int = 0

    assert ask(lib, serving(lib, Model), "/ws?a=x") == {"a": "x", "b": 0}
    assert [error["type"] for error in errors(lib, serving(lib, Model), "/ws?b=1")] == ["int_type"]


def test_stripping_model(lib):
    class Model(BaseModel):
        model_config = ConfigDict(str_strip_whitespace=True)
        a: str

    assert ask(lib, serving(lib, Model), "/ws?a=%20x%20") == {"a": "x"}


def test_root_model_gets_a_mapping(lib):
    class Model(RootModel[dict[str, Any]]):
        pass

    def outcome():
        try:
            return ask(lib, serving(lib, Model), "/ws?a=1&a=2&b=3")
        except lib.WebSocketDisconnect as exc:
            return [error["type"] for error in exc.reason]

    assert outcome() == {"a": ["1", "2"], "b": "3"}


def test_generic_model(lib):
    from typing import Generic, TypeVar

    T = TypeVar("T")

    class Page(BaseModel, Generic[T]):
        item: T

    assert ask(lib, serving(lib, Page[int]), "/ws?item=3") == {"item": 3}


def test_dataclass_is_no_parameter_model(lib):
    @dataclass
    class Data:
        a: int = 1

    with pytest.raises(AssertionError, match=r"^Query parameter 'value' must be one of the supported types$"):
        serving(lib, Data)


@pytest.mark.parametrize("source", ["Header", "Cookie"])
def test_dataclass_from_another_source(lib, source):
    @dataclass
    class Data:
        a: int = 1

    assert [error["loc"] for error in errors(lib, serving(lib, Data, source))] == [[source.lower(), "value"]]


def test_alias_of_the_model_parameter_means_nothing(lib):
    assert ask(lib, serving(lib, Filter, alias="other"), "/ws?limit=5")["limit"] == 5
