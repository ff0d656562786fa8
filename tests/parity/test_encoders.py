"""The results of `jsonable_encoder`, in both libraries."""

from __future__ import annotations

import dataclasses
import datetime
import inspect
import ipaddress
import re
import uuid
from collections import OrderedDict, UserDict, deque, namedtuple
from collections.abc import Iterator
from decimal import Decimal
from enum import Enum, IntEnum
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any

import fastapi.encoders
import pydantic
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import BaseModel, ConfigDict, Field, RootModel, TypeAdapter
from pydantic_core import PydanticUndefined, Url

from fastws_compat import encoders as ours
from tests.parity.asking import without_address

UTC = datetime.UTC


class Color(Enum):
    RED = "red"
    PAIR = (1, 2)


class Level(IntEnum):
    LOW = 1


class Word(str, Enum):  # noqa: UP042, the older form is not the same
    YES = "yes"


class Inner(BaseModel):
    when: datetime.datetime | None = None
    tags: set[str] = set()


class Item(BaseModel):
    model_config = ConfigDict(populate_by_name=True)
    name: str = Field("x", alias="itemName")
    price: Decimal = Decimal("1.50")
    note: str | None = None
    inner: Inner = Inner()
    extra: dict[str, Any] = {}


class Prices(RootModel[list[Decimal]]):
    pass


@dataclasses.dataclass
class Point:
    x: int
    y: Decimal = Decimal("1")
    more: Any = None


class Text(str):
    pass


class Plain:
    def __init__(self) -> None:
        self.a = 1
        self._sa_state = object()
        self.when = datetime.date(2020, 1, 2)


class Slotted:
    __slots__ = ("a",)


class Pairs:
    def __iter__(self) -> Iterator[tuple[str, Any]]:
        return iter([("a", Decimal("1")), ("b", None)])


Named = namedtuple("Named", "a b")


def counted(numbers: list[int]) -> Iterator[int]:
    yield from numbers


CASES: list[tuple[Any, Any]] = [
    (None, None),
    (True, True),
    (1, 1),
    (1.5, 1.5),
    ("a", "a"),
    (Text("a"), "a"),
    (b"abc", "abc"),
    (PydanticUndefined, None),
    (Color.RED, "red"),
    (Color.PAIR, (1, 2)),
    (Level.LOW, 1),
    (Word.YES, "yes"),
    (Decimal("1"), 1),
    (Decimal("1.0"), 1.0),
    (Decimal("1E+2"), 100),
    (Decimal("0.1"), 0.1),
    (Decimal("-Infinity"), float("-inf")),
    (datetime.date(2020, 1, 2), "2020-01-02"),
    (datetime.datetime(2020, 1, 2, 3, 4, 5, 6), "2020-01-02T03:04:05.000006"),
    (datetime.datetime(2020, 1, 2, tzinfo=UTC), "2020-01-02T00:00:00+00:00"),
    (datetime.time(3, 4), "03:04:00"),
    (datetime.timedelta(minutes=1, milliseconds=5), 60.005),
    (uuid.UUID(int=1), "00000000-0000-0000-0000-000000000001"),
    (Path("/a/b"), "/a/b"),
    (PurePosixPath("a"), "a"),
    (PureWindowsPath("a/b"), "a\\b"),
    (re.compile("a+"), "a+"),
    (ipaddress.ip_address("10.0.0.1"), "10.0.0.1"),
    (ipaddress.ip_network("10.0.0.0/8"), "10.0.0.0/8"),
    (ipaddress.ip_interface("::1/64"), "::1/64"),
    (pydantic.SecretStr("s"), "**********"),
    (pydantic.SecretBytes(b"s"), "b'**********'"),
    (Url("http://a"), "http://a/"),
    (TypeAdapter(pydantic.AnyUrl).validate_python("ws://a/b"), "ws://a/b"),
    (TypeAdapter(pydantic.AnyHttpUrl).validate_python("http://a"), "http://a/"),
    ([1, (2, Decimal("3"))], [1, [2, 3]]),
    ({3}, [3]),
    (frozenset({b"a"}), ["a"]),
    (deque([1, None]), [1, None]),
    (Named(1, Color.RED), [1, "red"]),
    ({"a": {"b": {1}}}, {"a": {"b": [1]}}),
    ({1: 2, None: 3, Color.RED: 4, uuid.UUID(int=1): 5}, {1: 2, None: 3, "red": 4, f"{uuid.UUID(int=1)}": 5}),
    (OrderedDict(a=1), {"a": 1}),
    (UserDict(a=Decimal("1")), {"a": 1}),
    ({"_sa_x": 1, "a_sa": 2}, {"a_sa": 2}),
    (Point(1), {"x": 1, "y": 1, "more": None}),
    (Point(1, more=Point(2)), {"x": 1, "y": 1, "more": {"x": 2, "y": 1, "more": None}}),
    (Plain(), {"a": 1, "when": "2020-01-02"}),
    (Pairs(), {"a": 1, "b": None}),
    (
        Item(),
        {"itemName": "x", "price": "1.50", "note": None, "inner": {"when": None, "tags": []}, "extra": {}},
    ),
    (Inner(when=datetime.datetime(2020, 1, 2, tzinfo=UTC)), {"when": "2020-01-02T00:00:00Z", "tags": []}),
    (Item(extra={"_sa": 1, "d": Decimal("1")}).extra, {"d": 1}),
    (Prices([Decimal("1.5")]), ["1.5"]),
    ([Inner()], [{"when": None, "tags": []}]),
    ({"k": Inner(tags={"t"})}, {"k": {"when": None, "tags": ["t"]}}),
    (Point(1, more=Inner()), {"x": 1, "y": 1, "more": {"when": None, "tags": []}}),
]


@pytest.mark.parametrize(("value", "expected"), CASES, ids=without_address)
def test_value(lib: Any, value: Any, expected: Any) -> None:
    found = lib.jsonable_encoder(value)
    assert found == expected
    assert type(found) is type(expected) or isinstance(value, Text)


def test_generator(lib: Any) -> None:
    assert lib.jsonable_encoder(counted([1, 2])) == [1, 2]


def test_not_a_number(lib: Any) -> None:
    assert repr(lib.jsonable_encoder(Decimal("NaN"))) == "nan"


FILLED = Item(name="n", note="x", extra={"a": None, "_sa": 1, "b": 2})
OPTIONS: list[tuple[Any, dict[str, Any], Any]] = [
    (FILLED, {"include": {"name"}}, {"itemName": "n"}),
    (FILLED, {"include": ["name", "note"]}, {"itemName": "n", "note": "x"}),
    (FILLED, {"include": {"inner": {"tags"}}}, {"inner": {"tags": []}}),
    (FILLED, {"include": ["note"], "by_alias": False}, {"note": "x"}),
    (FILLED, {"exclude": {"price", "inner", "extra"}}, {"itemName": "n", "note": "x"}),
    (
        FILLED,
        {"exclude": {"inner": True, "extra": True, "price": True}, "by_alias": False},
        {"name": "n", "note": "x"},
    ),
    (FILLED, {"include": {"extra"}}, {"extra": {"a": None, "b": 2}}),
    (FILLED, {"include": {"extra"}, "exclude_none": True}, {"extra": {"b": 2}}),
    (FILLED, {"include": {"extra"}, "sqlalchemy_safe": False}, {"extra": {"a": None, "_sa": 1, "b": 2}}),
    (Item(), {"exclude_unset": True}, {}),
    (Item(note=None), {"exclude_unset": True}, {"note": None}),
    (Item(note=None, name="n"), {"exclude_defaults": True}, {"itemName": "n"}),
    (Inner(), {"exclude_none": True}, {"tags": []}),
    ({"a": 1, "b": None}, {"exclude_none": True}, {"a": 1}),
    ({"a": [None, {"b": None}]}, {"exclude_none": True}, {"a": [None, {}]}),
    ({"a": 1, "b": {"a": 2}}, {"include": {"b"}}, {"b": {"a": 2}}),
    ({"a": 1, "b": 2}, {"include": {"a": True}}, {"a": 1}),
    ({"a": 1, "b": {"a": 2}}, {"exclude": ["a"]}, {"b": {"a": 2}}),
    ({"a": 1}, {"include": set()}, {}),
    ({"a": 1, "b": 2}, {"include": {"a", "b"}, "exclude": {"b"}}, {"a": 1}),
    ([{"a": 1, "b": 2}], {"include": {"a"}}, [{"a": 1}]),
    ([Item(), Inner()], {"include": {"tags", "note"}}, [{"note": None}, {"tags": []}]),
    (Point(1), {"include": {"x"}}, {"x": 1}),
    (Point(1), {"exclude_none": True}, {"x": 1, "y": 1}),
    (Plain(), {"exclude": {"a"}}, {"when": "2020-01-02"}),
    ({"i": Item()}, {"exclude_unset": True}, {"i": {}}),
    ({"i": Item(name="n")}, {"by_alias": False, "exclude_unset": True}, {"i": {"name": "n"}}),
    (Decimal("1"), {"custom_encoder": {Decimal: str}}, "1"),
    ({Decimal("1"): [Decimal("2")]}, {"custom_encoder": {Decimal: str}}, {"1": ["2"]}),
    (Point(1), {"custom_encoder": {Decimal: str, Point: lambda point: "point"}}, "point"),
    (Point(1), {"custom_encoder": {Decimal: str}}, {"x": 1, "y": "1", "more": None}),
    (Point(1), {"custom_encoder": {dict: len}}, 3),
    (Text("a"), {"custom_encoder": {str: str.upper}}, "A"),
    (Word.YES, {"custom_encoder": {str: lambda text: "str", Word: lambda word: "word"}}, "word"),
    (Word.YES, {"custom_encoder": {str: lambda text: "str", Enum: lambda word: "enum"}}, "str"),
    (Item(), {"custom_encoder": {str: str.upper}, "include": {"name"}}, {"itemName": "x"}),
    (Item(), {"custom_encoder": {BaseModel: lambda model: "model"}}, "model"),
    (None, {"custom_encoder": {type(None): lambda none: "none"}}, "none"),
    (1, {"custom_encoder": {}}, 1),
]


@pytest.mark.parametrize(("value", "options", "expected"), OPTIONS)
def test_option(lib: Any, value: Any, options: dict[str, Any], expected: Any) -> None:
    assert lib.jsonable_encoder(value, **options) == expected


def test_options_by_position(lib: Any) -> None:
    names = "obj include exclude by_alias exclude_unset exclude_defaults exclude_none "
    names += "custom_encoder sqlalchemy_safe"
    parameters = inspect.signature(lib.jsonable_encoder).parameters
    assert list(parameters) == names.split()
    assert [parameters[name].default for name in parameters][1:] == [
        None,
        None,
        True,
        False,
        False,
        False,
        None,
        True,
    ]


def test_object_that_is_neither_mapping_nor_has_attributes(lib: Any) -> None:
    with pytest.raises(ValueError) as caught:
        lib.jsonable_encoder(Slotted())
    first, second = caught.value.args[0]
    assert str(first) == "'Slotted' object is not iterable"
    assert str(second) == "vars() argument must have __dict__ attribute"
    assert caught.value.__cause__ is second


def test_dataclass_itself(lib: Any) -> None:
    with pytest.raises(AssertionError):
        lib.jsonable_encoder(Point)


def test_bytes_that_are_not_text(lib: Any) -> None:
    with pytest.raises(UnicodeDecodeError):
        lib.jsonable_encoder({"a": b"\xff"})


def test_model_of_pydantic_v1(lib: Any) -> None:
    from pydantic import v1

    class Old(v1.BaseModel):
        a: int = 1

    message = "pydantic.v1 models are no longer supported by FastAPI. Please update the model Old(a=1)."
    with pytest.raises(lib.module("fastapi.exceptions").PydanticV1NotSupportedError) as caught:
        lib.jsonable_encoder([Old()])
    assert str(caught.value) == message


def test_type_that_the_user_added(lib: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    class ObjectId:
        def __str__(self) -> str:
            return "id"

    monkeypatch.setitem(lib.module("fastapi.encoders").ENCODERS_BY_TYPE, ObjectId, str)
    assert lib.jsonable_encoder({"a": ObjectId()}) == {"a": "id"}


def test_color(lib: Any) -> None:
    with pytest.warns(DeprecationWarning, match="Color"):
        color = pydantic.color.Color("red")  # type: ignore[attr-defined]
    assert lib.jsonable_encoder(color) == "red"


leaves = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.text(max_size=4),
    st.binary(max_size=3),
    st.decimals(),
    st.datetimes(),
    st.dates(),
    st.timedeltas(),
    st.uuids(),
    st.ip_addresses(),
    st.sampled_from([Color.RED, Level.LOW, Word.YES, Path("a"), PydanticUndefined, Text("_sa"), Slotted()]),
    st.builds(Inner, tags=st.sets(st.text(max_size=1), max_size=1)),
)
keys = st.one_of(st.sampled_from(["a", "b", "_sa"]), st.integers(), st.uuids())
values = st.recursive(
    leaves,
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.lists(inner, max_size=3).map(tuple),
        st.lists(inner, max_size=3).map(deque),
        st.dictionaries(keys, inner, max_size=3),
        st.builds(Point, x=st.integers(), more=inner),
        st.builds(Item, extra=st.dictionaries(st.sampled_from(["a", "_sa"]), inner, max_size=2)),
    ),
    max_leaves=8,
)


@settings(max_examples=100, deadline=None)
@given(
    value=values,
    options=st.fixed_dictionaries(
        {},
        optional={
            "include": st.sampled_from([None, {"a", "x"}, ["a"], {"more": True}]),
            "exclude": st.sampled_from([None, {"a"}, ["b", "extra"]]),
            "by_alias": st.booleans(),
            "exclude_unset": st.booleans(),
            "exclude_defaults": st.booleans(),
            "exclude_none": st.booleans(),
            "custom_encoder": st.sampled_from(
                [None, {}, {Decimal: str}, {str: len}, {dict: len}, {Enum: repr}]
            ),
            "sqlalchemy_safe": st.booleans(),
        },
    ),
)
def test_any_value_is_encoded_the_same(value: Any, options: dict[str, Any]) -> None:
    def encoded(library: Any) -> str:
        try:
            return repr(library.jsonable_encoder(value, **options))
        except Exception as exc:
            return repr(type(exc))

    assert encoded(ours) == encoded(fastapi.encoders)
