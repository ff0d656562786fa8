"""Parameters from the path, the query, headers and cookies, with all their options."""

import datetime
import decimal
import enum
import uuid
import warnings
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal, Optional, Union

import pytest
from pydantic import AfterValidator, AliasChoices, AliasPath, BaseModel, BeforeValidator, Field, Json

from tests.parity.asking import ask, echo, errors, raw_ask


class Color(str, enum.Enum):  # noqa: UP042
    red = "red"
    blue = "blue"


class Number(enum.IntEnum):
    one = 1
    two = 2


class Model(BaseModel):
    a: int


GOOD = [
    (int, "3", "3"),
    (int, "%2B3", "3"),
    (int, "-3", "-3"),
    (int, "1_000", "1000"),
    (int, "3.0", "3"),
    (float, "1e3", "1000.0"),
    (float, "nan", "nan"),
    (float, "-inf", "-inf"),
    (bool, "true", "True"),
    (bool, "off", "False"),
    (bool, "1", "True"),
    (bool, "N", "False"),
    (str, "a%20b", "'a b'"),
    (str, "%C3%BC%E2%82%AC", "'ü€'"),
    (bytes, "a%20b", "b'a b'"),
    (uuid.UUID, "12345678123456781234567812345678", "UUID('12345678-1234-5678-1234-567812345678')"),
    (datetime.date, "2026-01-02", "datetime.date(2026, 1, 2)"),
    (datetime.datetime, "2026-01-02T03:04:05", "datetime.datetime(2026, 1, 2, 3, 4, 5)"),
    (datetime.time, "03:04", "datetime.time(3, 4)"),
    (datetime.timedelta, "PT1H", "datetime.timedelta(seconds=3600)"),
    (decimal.Decimal, "1.50", "Decimal('1.50')"),
    (Color, "red", "<Color.red: 'red'>"),
    (Number, "2", "<Number.two: 2>"),
    (Literal["a", "b"], "b", "'b'"),
    (Optional[int], "3", "3"),  # noqa: UP045
    (int | None, "3", "3"),
    (Union[int, str], "3", "'3'"),  # noqa: UP007
    (int | str, "x", "'x'"),
    (Union[int, float], "3", "3"),  # noqa: UP007
    (Any, "3", "'3'"),
    (object, "3", "'3'"),
    (Annotated[int, Field(gt=1)], "3", "3"),
    (Annotated[str, AfterValidator(str.upper)], "x", "'X'"),
    (Annotated[int, BeforeValidator(len)], "abc", "3"),
]

BAD = [
    (int, "x", "int_parsing"),
    (int, "", "int_parsing"),
    (int, "3.5", "int_parsing"),
    (float, "x", "float_parsing"),
    (bool, "2", "bool_parsing"),
    (bool, "", "bool_parsing"),
    (uuid.UUID, "x", "uuid_parsing"),
    (datetime.date, "2026-02-30", "date_from_datetime_parsing"),
    (datetime.datetime, "x", "datetime_from_date_parsing"),
    (decimal.Decimal, "x", "decimal_parsing"),
    (Color, "green", "enum"),
    (Literal["a", "b"], "c", "literal_error"),
    (Literal[1], "1", "literal_error"),
    (int | None, "x", "int_parsing"),
    (int | None, "", "int_parsing"),
    (Annotated[int, Field(gt=3)], "3", "greater_than"),
    (Annotated[str, Field(max_length=2)], "abc", "string_too_long"),
]


def name_of(value):
    return value if isinstance(value, str) else getattr(value, "__name__", None)


@pytest.mark.parametrize(("annotation", "sent", "expected"), GOOD, ids=name_of)
def test_type_in_the_query(lib, annotation, sent, expected):
    assert ask(lib, echo(lib, annotation), f"/ws?value={sent}") == expected


@pytest.mark.parametrize(("annotation", "sent", "expected"), GOOD, ids=name_of)
def test_type_in_the_path(lib, annotation, sent, expected):
    assert ask(lib, echo(lib, annotation, path="/ws/{value}"), f"/ws/{sent}") == expected


@pytest.mark.parametrize(("annotation", "sent", "kind"), BAD, ids=name_of)
def test_invalid_value_in_the_query(lib, annotation, sent, kind):
    [error] = errors(lib, echo(lib, annotation), f"/ws?value={sent}")

    assert (error["type"], error["loc"], error["input"]) == (kind, ["query", "value"], sent)
    assert "url" not in error


@pytest.mark.parametrize(("annotation", "sent", "kind"), [case for case in BAD if case[1]], ids=name_of)
def test_invalid_value_in_the_path(lib, annotation, sent, kind):
    [error] = errors(lib, echo(lib, annotation, path="/ws/{value}"), f"/ws/{sent}")

    assert (error["type"], error["loc"], error["input"]) == (kind, ["path", "value"], sent)


@pytest.mark.parametrize("source", ["query", "header", "cookie"])
def test_missing_value(lib, source):
    marker = getattr(lib, source.title())()
    found = errors(lib, echo(lib, Annotated[int, marker]))

    assert found == [{"type": "missing", "loc": [source, "value"], "msg": "Field required", "input": None}]


@pytest.mark.parametrize("source", ["query", "header", "cookie"])
@pytest.mark.parametrize("default", [None, 7, "text", [], ...], ids=repr)
def test_marker_as_default_value(lib, source, default):
    marker = getattr(lib, source.title())(default)
    app = echo(lib, Any, marker)

    if default is ...:
        assert [error["type"] for error in errors(lib, app)] == ["missing"]
    else:
        assert ask(lib, app) == repr(default)


@pytest.mark.parametrize(
    ("source", "options"),
    [
        ("query", {"url": "/ws?value=3"}),
        ("header", {"headers": {"value": "3"}}),
        ("cookie", {"headers": {"cookie": "value=3"}}),
    ],
)
def test_value_is_found_in_its_source_only(lib, source, options):
    app = echo(lib, Annotated[int, getattr(lib, source.title())()], 0)

    assert ask(lib, app, **options) == "3"
    others = {"query": "/ws?value=3", "header": "/ws"}
    assert ask(lib, app, others["header" if source == "query" else "query"]) == "0"


def test_parameter_without_annotation(lib):
    app = lib.FastAPI()

    @app.websocket("/ws")
    async def endpoint(websocket: lib.WebSocket, a, b=3, c=None):
        await websocket.accept()
        await websocket.send_json([a, b, c])

    assert ask(lib, app, "/ws?a=1&b=2") == ["1", "2", None]
    assert [error["loc"] for error in errors(lib, app)] == [["query", "a"]]


def test_none_as_default_without_optional_annotation(lib):
    assert ask(lib, echo(lib, int, None)) == "None"


def test_last_of_repeated_values_counts(lib):
    assert ask(lib, echo(lib, int), "/ws?value=1&value=2") == "2"


@pytest.mark.parametrize("url", ["/ws?value", "/ws?value="])
def test_empty_value_is_a_value(lib, url):
    assert ask(lib, echo(lib, str, "default"), url) == "''"


# --- lists ---


@pytest.mark.parametrize(
    ("annotation", "expected"),
    [
        (list[int], "[1, 2]"),
        (list, "['1', '2']"),
        (set[int], "{1, 2}"),
        (frozenset[int], "frozenset({1, 2})"),
        (tuple[int, ...], "(1, 2)"),
        (tuple[int, str], "(1, '2')"),
        (Sequence[int], "[1, 2]"),
        (deque[int], "deque([1, 2])"),
        (list[int] | None, "[1, 2]"),
        (Optional[list[str]], "['1', '2']"),  # noqa: UP045
        (Union[list[int], int], "[1, 2]"),  # noqa: UP007
        (list[Number], "[<Number.one: 1>, <Number.two: 2>]"),
        (list[int | str], "['1', '2']"),
        (Annotated[list[int], Field(min_length=2)], "[1, 2]"),
    ],
    ids=str,
)
def test_repeated_query_as_sequence(lib, annotation, expected):
    assert ask(lib, echo(lib, Annotated[annotation, lib.Query()]), "/ws?value=1&value=2") == expected


@pytest.mark.parametrize(
    ("annotation", "default", "expected"),
    [
        (list[int], [], "[]"),
        (list[int], [7], "[7]"),
        (list[int] | None, None, "None"),
        (set[int], {1}, "{1}"),
    ],
    ids=str,
)
def test_default_of_a_sequence(lib, annotation, default, expected):
    assert ask(lib, echo(lib, Annotated[annotation, lib.Query()], default)) == expected


def test_missing_sequence(lib):
    [error] = errors(lib, echo(lib, Annotated[list[int], lib.Query()]))

    assert (error["type"], error["loc"], error["input"]) == ("missing", ["query", "value"], None)


def test_error_in_a_sequence_names_the_index(lib):
    found = errors(lib, echo(lib, Annotated[list[int], lib.Query()]), "/ws?value=1&value=x&value=y")

    assert [error["loc"] for error in found] == [["query", "value", 1], ["query", "value", 2]]


def test_sequence_of_empty_values(lib):
    assert ask(lib, echo(lib, Annotated[list[str], lib.Query()]), "/ws?value=&value") == "['', '']"


def test_list_without_marker_belongs_to_the_body(lib):
    assert ask(lib, echo(lib, list[int], [5]), "/ws?value=1") == "[5]"


@pytest.mark.parametrize("annotation", [list[dict[str, int]], dict[str, int], list[list[int]]], ids=str)
def test_query_of_an_unsupported_type(lib, annotation):
    with pytest.raises(AssertionError, match=r"^Query parameter 'value' must be one of the supported types$"):
        echo(lib, Annotated[annotation, lib.Query()])


def test_list_of_headers(lib):
    app = echo(lib, Annotated[list[str] | None, lib.Header(alias="x-tag")], None)

    assert raw_ask(app, [(b"x-tag", b"a"), (b"x-tag", b"b")]) == "['a', 'b']"
    assert raw_ask(app, [(b"x-tag", b"a, b")]) == "['a, b']"
    assert raw_ask(app, []) == "None"


def test_list_of_cookies_is_one_value(lib):
    app = echo(lib, Annotated[list[str], lib.Cookie()])

    [error] = errors(lib, app, headers={"cookie": "value=a"})
    assert (error["type"], error["loc"], error["input"]) == ("list_type", ["cookie", "value"], "a")


# --- path ---


def test_path_marker(lib):
    app = echo(lib, Annotated[int, lib.Path(ge=3)], path="/ws/{value}")

    assert ask(lib, app, "/ws/3") == "3"
    assert errors(lib, app, "/ws/2") == [
        {
            "type": "greater_than_equal",
            "loc": ["path", "value"],
            "msg": "Input should be greater than or equal to 3",
            "input": "2",
            "ctx": {"ge": 3},
        }
    ]


def test_path_marker_as_default_value(lib):
    assert ask(lib, echo(lib, int, lib.Path(), path="/ws/{value}"), "/ws/3") == "3"


def test_path_parameter_with_a_default_is_required_all_the_same(lib):
    assert ask(lib, echo(lib, int, 7, path="/ws/{value}"), "/ws/3") == "3"


@pytest.mark.parametrize(
    ("path", "url", "annotation", "expected"),
    [
        ("/ws/{value:int}", "/ws/3", int, "3"),
        ("/ws/{value:int}", "/ws/3", Any, "3"),
        ("/ws/{value:float}", "/ws/3.5", Any, "3.5"),
        ("/ws/{value:path}", "/ws/a/b", str, "'a/b'"),
        ("/ws/{value:path}", "/ws/", str, "''"),
        ("/ws/{value:str}", "/ws/3", Any, "'3'"),
        (
            "/ws/{value:uuid}",
            "/ws/12345678-1234-5678-1234-567812345678",
            Any,
            "UUID('12345678-1234-5678-1234-567812345678')",
        ),
        ("/ws-{value}-x", "/ws-3-x", int, "3"),
    ],
)
def test_convertor_before_validation(lib, path, url, annotation, expected):
    assert ask(lib, echo(lib, annotation, path=path), url) == expected


def test_convertor_and_annotation_that_do_not_fit(lib):
    [error] = errors(lib, echo(lib, str, path="/ws/{value:int}"), "/ws/3")

    assert (error["type"], error["input"]) == ("string_type", 3)


def test_path_alias(lib):
    app = echo(lib, Annotated[int, lib.Path(alias="number")], path="/ws/{number}")

    assert ask(lib, app, "/ws/3") == "3"
    assert [error["loc"] for error in errors(lib, app, "/ws/x")] == [["path", "number"]]


def test_path_alias_choices_take_the_name_of_the_path(lib):
    marker = lib.Path(validation_alias=AliasChoices("first", "second"))
    app = lib.FastAPI()
    endpoint = echo(lib, Annotated[int, marker], path="/{first}").routes[-1].endpoint
    app.websocket("/a/{first}")(endpoint)
    app.websocket("/b/{second}")(endpoint)

    assert ask(lib, app, "/a/1") == "1"
    assert ask(lib, app, "/b/2") == "2"


@pytest.mark.parametrize("annotation", [list[int], dict[str, int], set[str]], ids=str)
def test_path_of_an_unsupported_type(lib, annotation):
    with pytest.raises(AssertionError, match=r"^Path params must be of one of the supported types$"):
        echo(lib, annotation, path="/ws/{value}")


def test_path_of_a_model(lib):
    with pytest.raises(AssertionError, match=r"^Path params must be of one of the supported types$"):
        echo(lib, Model, path="/ws/{value}")


@pytest.mark.parametrize("source", ["Query", "Header", "Cookie", "Body"])
def test_other_marker_for_a_path_parameter(lib, source):
    with pytest.raises(AssertionError, match=f"^Cannot use `{source}` for path param 'value'$"):
        echo(lib, Annotated[str, getattr(lib, source)()], path="/ws/{value}")


# --- headers ---


@pytest.mark.parametrize(
    ("name", "options", "header", "found"),
    [
        ("x_token", {}, "x-token", True),
        ("x_token", {}, "X-Token", True),
        ("x_token", {}, "x_token", False),
        ("x_token", {"convert_underscores": False}, "x_token", True),
        ("x_token", {"convert_underscores": False}, "x-token", False),
        ("x_token", {"alias": "X-Other"}, "x-other", True),
        ("x_token", {"alias": "x_other"}, "x_other", True),
        ("x_token", {"alias": "x_other"}, "x-other", False),
        ("x_token", {"validation_alias": "x_valid"}, "x_valid", True),
        ("x_token", {"validation_alias": AliasChoices("x-one", "x-two")}, "x-two", True),
        ("x_token", {"validation_alias": AliasChoices("x-one", "x-two")}, "x-token", False),
        ("user_agent", {}, "user-agent", True),
    ],
    ids=str,
)
def test_name_of_a_header(lib, name, options, header, found):
    app = lib.FastAPI()

    async def endpoint(websocket, **values):
        await websocket.accept()
        await websocket.send_json(values[name])

    make_signature(lib, endpoint, name, str, lib.Header("default", **options))
    app.websocket("/ws")(endpoint)

    default = "testclient" if name == "user_agent" and not found else "default"
    assert ask(lib, app, headers={header: "sent"}) == ("sent" if found else default)


def make_signature(lib, endpoint, name, annotation, default):
    import inspect

    keyword = inspect.Parameter.KEYWORD_ONLY
    endpoint.__signature__ = inspect.Signature(
        [
            inspect.Parameter("websocket", keyword, annotation=lib.WebSocket),
            inspect.Parameter(name, keyword, annotation=annotation, default=default),
        ]
    )


def test_missing_header_is_named_as_it_is_sent(lib):
    app = lib.FastAPI()

    @app.websocket("/ws")
    async def endpoint(websocket: lib.WebSocket, x_token: Annotated[str, lib.Header()]):
        pass

    assert [error["loc"] for error in errors(lib, app)] == [["header", "x-token"]]


def test_header_of_a_type(lib):
    app = lib.FastAPI()

    @app.websocket("/ws")
    async def endpoint(websocket: lib.WebSocket, x_count: Annotated[int, lib.Header(le=3)]):
        await websocket.accept()
        await websocket.send_json(x_count)

    assert ask(lib, app, headers={"X-Count": "3"}) == 3
    assert [error["type"] for error in errors(lib, app, headers={"X-Count": "4"})] == ["less_than_equal"]


def test_first_of_repeated_headers_counts(lib):
    app = echo(lib, Annotated[str, lib.Header()])

    assert raw_ask(app, [(b"value", b"a"), (b"value", b"b")]) == "'a'"


def test_header_is_latin_1(lib):
    assert raw_ask(echo(lib, Annotated[str, lib.Header()]), [(b"value", b"\xfc")]) == "'ü'"


# --- cookies ---


@pytest.mark.parametrize(
    ("cookie", "expected"),
    [
        ("value=a", "'a'"),
        ("other=1; value=a", "'a'"),
        ("value=a; value=b", "'b'"),
        ('value="a b"', "'a b'"),
        ("value=", "''"),
        ("value=a=b", "'a=b'"),
        ("other=1", "'default'"),
        ("value", "'default'"),
    ],
)
def test_cookie(lib, cookie, expected):
    assert (
        ask(lib, echo(lib, Annotated[str, lib.Cookie()], "default"), headers={"cookie": cookie}) == expected
    )


def test_cookie_of_the_client(lib):
    with lib.TestClient(echo(lib, Annotated[int, lib.Cookie(alias="sid")]), cookies={"sid": "3"}) as client:
        with client.websocket_connect("/ws") as websocket:
            assert websocket.receive_json() == "3"


def test_cookie_keeps_underscores(lib):
    app = lib.FastAPI()

    @app.websocket("/ws")
    async def endpoint(websocket: lib.WebSocket, session_id: Annotated[str, lib.Cookie()]):
        await websocket.accept()
        await websocket.send_json(session_id)

    assert ask(lib, app, headers={"cookie": "session_id=a"}) == "a"
    assert [error["loc"] for error in errors(lib, app)] == [["cookie", "session_id"]]


def test_invalid_cookie(lib):
    [error] = errors(lib, echo(lib, Annotated[int, lib.Cookie()]), headers={"cookie": "value=x"})

    assert (error["loc"], error["type"], error["input"]) == (["cookie", "value"], "int_parsing", "x")


# --- aliases ---


@pytest.mark.parametrize(
    ("options", "name", "found"),
    [
        ({"alias": "other"}, "other", True),
        ({"alias": "other"}, "value", False),
        ({"alias": "item-query"}, "item-query", True),
        ({"validation_alias": "valid"}, "valid", True),
        ({"validation_alias": "valid"}, "value", False),
        ({"alias": "other", "validation_alias": "valid"}, "valid", True),
        ({"alias": "other", "validation_alias": "valid"}, "other", False),
        ({"validation_alias": AliasChoices("one", "two")}, "one", True),
        ({"validation_alias": AliasChoices("one", "two")}, "two", True),
        ({"validation_alias": AliasChoices("one", "two")}, "value", False),
        ({"serialization_alias": "out"}, "value", True),
        ({"serialization_alias": "out"}, "out", False),
        ({"validation_alias": AliasPath("one", 0)}, "one", False),
        ({"validation_alias": AliasPath("one", 0)}, "value", True),
        ({"validation_alias": AliasChoices("one", AliasPath("two", 0))}, "one", False),
        ({"validation_alias": AliasChoices("one", AliasPath("two", 0))}, "value", True),
    ],
    ids=str,
)
@pytest.mark.parametrize("source", ["query", "cookie"])
def test_alias(lib, source, options, name, found):
    app = echo(lib, Annotated[str, getattr(lib, source.title())(**options)], "default")
    sent = {"url": f"/ws?{name}=sent"} if source == "query" else {"headers": {"cookie": f"{name}=sent"}}

    assert ask(lib, app, **sent) == ("'sent'" if found else "'default'")


@pytest.mark.parametrize(
    ("options", "loc"),
    [
        ({"alias": "other"}, "other"),
        ({"validation_alias": "valid"}, "valid"),
        ({"alias": "other", "validation_alias": "valid"}, "valid"),
        ({"validation_alias": AliasChoices("one", "two")}, "one"),
        ({"validation_alias": AliasPath("one", 0)}, "value"),
    ],
    ids=str,
)
def test_missing_value_is_named_by_its_alias(lib, options, loc):
    assert [error["loc"] for error in errors(lib, echo(lib, Annotated[str, lib.Query(**options)]))] == [
        ["query", loc]
    ]


def test_first_of_the_alias_choices_wins(lib):
    app = echo(lib, Annotated[int, lib.Query(validation_alias=AliasChoices("one", "two"))])

    assert ask(lib, app, "/ws?two=2&one=1") == "1"
    assert [error["loc"] for error in errors(lib, app, "/ws?two=x")] == [["query", "two"]]


def test_alias_of_a_list(lib):
    app = echo(lib, Annotated[list[int], lib.Query(validation_alias=AliasChoices("one", "two"))])

    assert ask(lib, app, "/ws?two=1&two=2") == "[1, 2]"


def test_alias_in_a_pydantic_field(lib):
    app = echo(lib, Annotated[int, Field(alias="other"), lib.Query()])

    assert ask(lib, app, "/ws?other=1") == "1"


# --- constraints ---


@pytest.mark.parametrize(
    ("annotation", "options", "good", "bad", "kind"),
    [
        (int, {"gt": 3}, "4", "3", "greater_than"),
        (int, {"ge": 3}, "3", "2", "greater_than_equal"),
        (float, {"lt": 3}, "2.9", "3", "less_than"),
        (float, {"le": 3}, "3.0", "3.1", "less_than_equal"),
        (int, {"gt": 1, "lt": 3}, "2", "3", "less_than"),
        (int, {"multiple_of": 3}, "6", "7", "multiple_of"),
        (float, {"allow_inf_nan": False}, "1.0", "nan", "finite_number"),
        (decimal.Decimal, {"max_digits": 3}, "Decimal('1.23')", "12.34", "decimal_max_digits"),
        (decimal.Decimal, {"decimal_places": 1}, "Decimal('1.2')", "1.23", "decimal_max_places"),
        (str, {"min_length": 2}, "'ab'", "a", "string_too_short"),
        (str, {"max_length": 2}, "'ab'", "abc", "string_too_long"),
        (str, {"pattern": "^a+$"}, "'aa'", "b", "string_pattern_mismatch"),
        (str | None, {"pattern": "^a+$"}, "'aa'", "b", "string_pattern_mismatch"),
        (int | None, {"gt": 3}, "4", "3", "greater_than"),
        (str, {"strict": True}, "'a'", None, None),
        (int, {"strict": True}, None, "3", "int_type"),
        (bool, {"strict": True}, None, "true", "bool_type"),
        (Color, {"strict": True}, None, "red", "is_instance_of"),
        (int | str, {"union_mode": "left_to_right"}, "3", None, None),
    ],
    ids=str,
)
@pytest.mark.parametrize("place", ["Annotated", "default"])
def test_constraint(lib, place, annotation, options, good, bad, kind):
    if place == "Annotated":
        app = echo(lib, Annotated[annotation, lib.Query(**options)])
    else:
        app = echo(lib, annotation, lib.Query(**options))

    if good is not None:
        sent = good.removeprefix("Decimal").strip("()'")
        assert ask(lib, app, f"/ws?value={sent}") == good
    if bad is not None:
        assert [error["type"] for error in errors(lib, app, f"/ws?value={bad}")] == [kind]


def test_union_mode_left_to_right(lib):
    assert (
        ask(lib, echo(lib, Annotated[int | str, lib.Query(union_mode="left_to_right")]), "/ws?value=3") == "3"
    )
    assert ask(lib, echo(lib, Annotated[int | str, lib.Query()]), "/ws?value=3") == "'3'"


def test_fail_fast_stops_at_the_first_error_of_a_list(lib):
    app = echo(lib, Annotated[list[int], lib.Query(fail_fast=True)])

    assert [error["loc"] for error in errors(lib, app, "/ws?value=x&value=y")] == [["query", "value", 0]]


def test_length_of_a_list(lib):
    app = echo(lib, Annotated[list[str], lib.Query(max_length=1)])

    [error] = errors(lib, app, "/ws?value=a&value=b")
    assert (error["type"], error["input"]) == ("too_long", ["a", "b"])


def test_constraints_of_several_annotations_add_up(lib):
    app = echo(lib, Annotated[int, Field(gt=1), lib.Query(lt=9), Field(multiple_of=2)])

    assert ask(lib, app, "/ws?value=4") == "4"
    kinds = [errors(lib, app, f"/ws?value={value}")[0]["type"] for value in (0, 10, 3)]
    assert kinds == ["greater_than", "less_than", "multiple_of"]


def test_validators_run_in_the_order_of_annotations(lib):
    app = echo(
        lib,
        Annotated[
            str,
            AfterValidator(lambda value: value + "1"),
            lib.Query(max_length=2),
            AfterValidator(lambda value: value + "2"),
        ],
    )

    assert ask(lib, app, "/ws?value=a") == "'a12'"
    assert [error["type"] for error in errors(lib, app, "/ws?value=aa")] == ["too_long"]


def test_value_error_of_a_validator(lib):
    def refuse(value):
        raise ValueError("never")

    with pytest.raises(Exception) as caught:
        ask(lib, echo(lib, Annotated[str, AfterValidator(refuse)]), "/ws?value=a")
    assert caught.value.reason == [
        {
            "type": "value_error",
            "loc": ["query", "value"],
            "msg": "Value error, never",
            "input": "a",
            "ctx": {"error": {}},
        }
    ]


@pytest.mark.parametrize(
    ("option", "value"),
    [("title", "t"), ("description", "d"), ("deprecated", True), ("include_in_schema", False)],
)
def test_option_of_the_schema_changes_nothing(lib, option, value):
    assert ask(lib, echo(lib, Annotated[int, lib.Query(**{option: value})]), "/ws?value=3") == "3"


def test_regex_and_example_warn_and_work(lib):
    with pytest.warns(lib.FastAPIDeprecationWarning):
        app = echo(lib, Annotated[str, lib.Query(regex="^a$", example="a")])

    with warnings.catch_warnings():
        assert ask(lib, app, "/ws?value=a") == "'a'"
    assert [error["type"] for error in errors(lib, app, "/ws?value=b")] == ["string_pattern_mismatch"]


# --- defaults ---


@pytest.mark.parametrize("source", ["Query", "Header", "Cookie"])
def test_default_is_copied_for_each_connection(lib, source):
    app = lib.FastAPI()

    @app.websocket("/ws")
    async def endpoint(
        websocket: lib.WebSocket, values: Annotated[list[str], getattr(lib, source)()] = ["default"]
    ):
        values.append("changed")
        await websocket.accept()
        await websocket.send_json(values)

    assert ask(lib, app) == ["default", "changed"]
    assert ask(lib, app) == ["default", "changed"]


def test_nested_default_is_copied_deeply(lib):
    app = lib.FastAPI()

    @app.websocket("/ws")
    async def endpoint(websocket: lib.WebSocket, value: dict[str, list[int]] = {"a": [1]}):
        value["a"].append(2)
        await websocket.accept()
        await websocket.send_json(value)

    assert ask(lib, app) == {"a": [1, 2]}
    assert ask(lib, app) == {"a": [1, 2]}


def test_default_factory_is_called_for_each_connection(lib):
    made = []

    def factory():
        made.append(None)
        return len(made)

    app = echo(lib, Annotated[int, lib.Query(default_factory=factory)])
    made.clear()

    first, second = int(ask(lib, app)), int(ask(lib, app))
    assert second > first
    assert ask(lib, app, "/ws?value=-1") == "-1"


def test_default_factory_as_default_value(lib):
    assert ask(lib, echo(lib, list[int], lib.Query(default_factory=lambda: [1]))) == "[1]"


def test_default_is_not_validated(lib):
    assert ask(lib, echo(lib, Annotated[int, lib.Query(gt=3)], 1)) == "1"
    assert ask(lib, echo(lib, int, "no number")) == "'no number'"


def test_default_is_validated_on_request(lib):
    app = echo(lib, Annotated[int, lib.Query(gt=3, validate_default=True)], 1)

    [error] = errors(lib, app)
    assert (error["type"], error["loc"], error["input"]) == ("greater_than", ["query", "value"], 1)


def test_validated_default_is_converted(lib):
    assert ask(lib, echo(lib, Annotated[int, lib.Query(validate_default=True)], "3")) == "3"


def test_default_in_annotated_marker_is_refused(lib):
    with pytest.raises(AssertionError) as caught:
        echo(lib, Annotated[int, lib.Query(3)])
    assert str(caught.value) == (
        "`Query` default value cannot be set in `Annotated` for 'value'. "
        "Set the default value with `=` instead."
    )


def test_default_in_a_pydantic_field_beside_a_marker(lib):
    with pytest.raises(AssertionError, match="default value cannot be set in `Annotated` for 'value'"):
        echo(lib, Annotated[int, Field(default=3), lib.Query()])


def test_default_in_a_pydantic_field_without_marker(lib):
    app = echo(lib, Annotated[int, Field(default=3)])

    assert [error["type"] for error in errors(lib, app)] == ["missing"]


def test_default_factory_that_wants_the_other_values_has_none(lib):
    """Parameters are validated one by one, so a default factory gets no validated data, unlike in a model."""
    app = echo(lib, Annotated[int, lib.Query(default_factory=lambda data: len(data))])
    with pytest.raises(ValueError, match="validated_data"):
        ask(lib, app)


def test_default_factory_in_a_pydantic_field(lib):
    assert ask(lib, echo(lib, Annotated[int, Field(default_factory=lambda: 3)])) == "3"


def test_default_factory_in_a_pydantic_field_of_a_path_parameter(lib):
    app = echo(lib, Annotated[int, Field(default_factory=lambda: 3)], path="/ws/{value}")

    assert ask(lib, app, "/ws/5") == "5"


# --- Json ---


@pytest.mark.parametrize(
    ("annotation", "sent", "expected"),
    [
        (Json[list[int]], "[1,2]", "[1, 2]"),
        (Json[int], "3", "3"),
        (Json, "null", "None"),
    ],
    ids=str,
)
def test_json_in_the_query(lib, annotation, sent, expected):
    app = echo(lib, Annotated[annotation, lib.Query()])

    assert ask(lib, app, "/ws", params={"value": sent}) == expected


@pytest.mark.parametrize("source", ["Header", "Cookie"])
def test_json_elsewhere(lib, source):
    app = echo(lib, Annotated[Json[list[int]], getattr(lib, source)()])
    headers = {"value": "[1]"} if source == "Header" else {"cookie": "value=[1]"}

    assert ask(lib, app, headers=headers) == "[1]"


def test_json_of_a_model(lib):
    app = echo(lib, Annotated[Json[Model], lib.Query()])

    assert ask(lib, app, params={"value": '{"a": 3}'}) == "Model(a=3)"
    assert [error["loc"] for error in errors(lib, app, params={"value": "{}"})] == [["query", "value", "a"]]


def test_json_of_a_mapping_in_the_query(lib):
    with pytest.raises(AssertionError, match=r"^Query parameter 'value' must be one of the supported types$"):
        echo(lib, Annotated[Json[dict[str, int]], lib.Query()])


def test_optional_json_is_no_json_parameter(lib):
    app = echo(lib, Annotated[Json[list[int]] | None, lib.Query()], None)

    assert ask(lib, app) == "None"
    assert [error["type"] for error in errors(lib, app, params={"value": "[1]"})] == ["json_type"]


def test_invalid_json(lib):
    [error] = errors(lib, echo(lib, Annotated[Json[list[int]], lib.Query()]), params={"value": "["})

    assert (error["type"], error["loc"]) == ("json_invalid", ["query", "value"])


# --- the body, which a handshake does not have ---


@pytest.fixture
def _forms(monkeypatch):
    """FastAPI requires python-multipart for forms. A handshake has no form to parse."""
    monkeypatch.setattr("fastapi.dependencies.utils.ensure_multipart_is_installed", lambda: None)


@pytest.mark.usefixtures("_forms")
@pytest.mark.parametrize("source", ["Body", "Form", "File"])
def test_body_with_default(lib, source):
    assert ask(lib, echo(lib, Annotated[str | None, getattr(lib, source)()], None), "/ws?value=x") == "None"
    assert ask(lib, echo(lib, Any, getattr(lib, source)("default"))) == "'default'"


@pytest.mark.usefixtures("_forms")
@pytest.mark.parametrize(
    ("make", "loc"),
    [
        (lambda lib: Annotated[int, lib.Body()], ["body"]),
        (lambda lib: Annotated[int, lib.Body(embed=True)], ["body", "value"]),
        (lambda lib: Annotated[int, lib.Body(embed=True, alias="other")], ["body", "other"]),
        (lambda lib: Annotated[int, lib.Body(embed=True, validation_alias="other")], ["body", "other"]),
        (
            lambda lib: Annotated[int, lib.Body(embed=True, validation_alias=AliasChoices("a", "b"))],
            ["body", "a"],
        ),
        (lambda lib: Annotated[int, lib.Body(alias="other")], ["body"]),
        (lambda lib: Annotated[int, lib.Form()], ["body", "value"]),
        (lambda lib: Annotated[Model, lib.Form()], ["body", "value"]),
        (lambda lib: Annotated[Model, lib.Body()], ["body"]),
        (lambda lib: Annotated[list[int], lib.Body()], ["body"]),
        (lambda lib: Annotated[bytes, lib.File()], ["body", "value"]),
        (lambda lib: lib.UploadFile, ["body", "value"]),
        (lambda lib: list[lib.UploadFile], ["body", "value"]),
        (lambda lib: dict, ["body"]),
    ],
    ids=lambda value: "/".join(value) if isinstance(value, list) else "",
)
def test_loc_of_a_body_whose_default_does_not_fit(lib, make, loc):
    annotation = Annotated[make(lib), Field(validate_default=True)]
    assert [error["loc"] for error in errors(lib, echo(lib, annotation, 1.5))] == [loc]


def test_two_body_parameters_are_embedded(lib):
    app = lib.FastAPI()

    @app.websocket("/ws")
    async def endpoint(
        websocket: lib.WebSocket,
        a: Annotated[int, Field(validate_default=True), lib.Body()] = "x",
        b: Annotated[int, Field(validate_default=True), lib.Body()] = "x",
    ):
        pass

    assert [error["loc"] for error in errors(lib, app)] == [["body", "a"], ["body", "b"]]


def test_model_and_dataclass_without_marker_belong_to_the_body(lib):
    @dataclass
    class Data:
        a: int = 1

    assert ask(lib, echo(lib, Model | None, None), "/ws?value=1&a=1") == "None"
    assert ask(lib, echo(lib, Data | None, None), "/ws?value=1&a=1") == "None"


def test_body_parameters_of_dependencies_count_together(lib):
    def first(a: Annotated[int, Field(validate_default=True), lib.Body()] = "x"):
        pass

    def second(b: Annotated[int, Field(validate_default=True), lib.Body()] = "x"):
        pass

    app = lib.FastAPI()

    @app.websocket("/ws", dependencies=[lib.Depends(first), lib.Depends(second)])
    async def endpoint(websocket: lib.WebSocket):
        pass

    assert [error["loc"] for error in errors(lib, app)] == [["body", "a"], ["body", "b"]]


# --- many at once ---


def test_errors_are_ordered_by_source(lib):
    app = lib.FastAPI()

    @app.websocket("/ws/{p}")
    async def endpoint(
        websocket: lib.WebSocket,
        c: Annotated[int, lib.Cookie()],
        h: Annotated[int, lib.Header()],
        q: int,
        p: int,
        q2: int,
        body: Annotated[int, Field(validate_default=True), lib.Body()] = "x",
    ):
        pass

    assert [error["loc"] for error in errors(lib, app, "/ws/x")] == [
        ["path", "p"],
        ["query", "q"],
        ["query", "q2"],
        ["header", "h"],
        ["cookie", "c"],
        ["body"],
    ]


def test_special_parameters_have_no_source(lib):
    app = lib.FastAPI()

    @app.websocket("/ws")
    async def endpoint(
        socket: lib.WebSocket,
        connection: lib.HTTPConnection,
        response: lib.Response,
        tasks: lib.BackgroundTasks,
        scopes: lib.SecurityScopes,
    ):
        await socket.accept()
        await socket.send_json(
            [type(connection).__name__, type(response).__name__, type(tasks).__name__, scopes.scopes]
        )

    assert ask(lib, app) == ["WebSocket", "Response", "BackgroundTasks", []]


def test_names_that_need_escaping(lib):
    app = echo(lib, Annotated[str, lib.Query(alias="ü &=")])

    assert ask(lib, app, params={"ü &=": "a+b &="}) == "'a+b &='"


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("value=a+b", "'a b'"),
        ("value=a%2Bb", "'a+b'"),
        ("value=a;b", "'a;b'"),
        ("value=a&amp;b=c", "'a'"),
        ("value=%FF", "'\ufffd'"),
        ("value=%zz", "'%zz'"),
        ("value=a=b", "'a=b'"),
        ("other=1&&value=a", "'a'"),
        ("=1&value=a", "'a'"),
        ("%76alue=a", "'a'"),
        ("Value=a", "'default'"),
    ],
)
def test_forms_of_a_query_string(lib, query, expected):
    assert raw_ask(echo(lib, str, "default"), [], query.encode()) == expected


# --- parameters of mounts and routers around the application ---


def test_path_parameter_of_the_prefix_of_a_router(lib):
    router, app = lib.APIRouter(prefix="/rooms/{room}"), lib.FastAPI()

    @router.websocket("/ws/{number:int}")
    async def endpoint(websocket: lib.WebSocket, number: int, room: str, q: int = 0):
        await websocket.accept()
        await websocket.send_json([room, number, q])

    app.include_router(router, prefix="/{version}")
    assert ask(lib, app, "/v1/rooms/a/ws/3?q=4&room=b") == ["a", 3, 4]


def test_path_parameter_of_an_include_is_a_query_parameter_elsewhere(lib):
    router, app = lib.APIRouter(), lib.FastAPI()

    @router.websocket("/ws")
    async def endpoint(websocket: lib.WebSocket, room: str = "default"):
        await websocket.accept()
        await websocket.send_json(room)

    app.include_router(router, prefix="/rooms/{room}")
    app.include_router(router)
    assert ask(lib, app, "/rooms/a/ws?room=b") == "a"
    assert ask(lib, app, "/ws?room=b") == "b"
    assert ask(lib, app, "/ws") == "default"


@pytest.mark.filterwarnings("ignore")
@pytest.mark.skipif("sys.version_info >= (3, 14)", reason="pydantic.v1 is for Python up to 3.13")
@pytest.mark.parametrize("form", ["alone", "optional", "list"])
def test_pydantic_v1_model(lib, form):
    from pydantic import v1

    class Old(v1.BaseModel):
        a: int

    annotation = {"alone": Old, "optional": Old | None, "list": list[Old]}[form]
    with pytest.raises(lib.PydanticV1NotSupportedError):
        echo(lib, annotation)


def test_float_and_integer_constraints_in_the_context(lib):
    [error] = errors(lib, echo(lib, Annotated[float, lib.Query(gt=1.5)]), "/ws?value=1")

    assert error["ctx"] == {"gt": 1.5}


def test_enum_error_lists_the_choices(lib):
    [error] = errors(lib, echo(lib, Color), "/ws?value=green")

    assert (error["msg"], error["ctx"]) == (
        "Input should be 'red' or 'blue'",
        {"expected": "'red' or 'blue'"},
    )


def test_parameters_may_be_called_anything(lib):
    async def solution(values: int, arguments: str = "a", websocket_: int = 0):
        return [values, arguments, websocket_]

    app = lib.FastAPI()

    @app.websocket("/ws/{path}/{query}")
    async def endpoint(
        self: lib.WebSocket,
        path: int,
        query: str,
        values: int,
        errors: Annotated[list[int], lib.Query()],
        solution: Annotated[list, lib.Depends(solution)],
        header: Annotated[str, lib.Header()],
        cookie: Annotated[str, lib.Cookie()],
        load_0: str = "load",
        FAILED: bool = True,
        größe: int = 5,
    ):
        await self.accept()
        await self.send_json([path, query, values, errors, solution, header, cookie, load_0, FAILED, größe])

    with lib.TestClient(app).websocket_connect(
        "/ws/1/q?values=2&errors=3&errors=4&load_0=l&gr%C3%B6%C3%9Fe=6",
        headers={"header": "h", "cookie": "cookie=c"},
    ) as websocket:
        assert websocket.receive_json() == [1, "q", 2, [3, 4], [2, "a", 0], "h", "c", "l", True, 6]
