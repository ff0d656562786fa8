"""JSON text: exactly the results and errors of the standard library."""

from __future__ import annotations

import enum
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastws_compat.connections import jsontext

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda children: st.lists(children) | st.dictionaries(st.text(), children),
)


def outcome(function: Any, *args: Any, **kwargs: Any) -> Any:
    try:
        return repr(function(*args, **kwargs))
    except Exception as exc:
        return type(exc), str(exc)


def standard(value: Any) -> str:
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False)


@given(VALUES)
def test_any_value_is_written_and_read_as_json_does(value: Any) -> None:
    text = jsontext.dumps(value)
    assert text == standard(value)
    assert repr(jsontext.loads(text)) == repr(json.loads(text))
    assert repr(jsontext.loads(json.dumps(value))) == repr(json.loads(json.dumps(value)))


@given(st.text(alphabet='{}[]",:\\u0123456789eE+-.truefalsnNaIity \t\n\r\ufeff\ud800'))
def test_any_text_is_read_as_json_does(text: str) -> None:
    assert outcome(jsontext.loads, text) == outcome(json.loads, text)


@pytest.mark.parametrize(
    "text",
    [
        *(
            "1e999",
            "-1e999",
            "NaN",
            "-Infinity",
            "-NaN",
            "-0",
            "-0.0",
            "1E+5",
            "5e-324",
            "1.79769313486232e309",
        ),
        *("9" * 30, "1" * 4300, "1" * 4301, "0.1" + "0" * 400, "01", "+1", ".5", "5.", "1_0", "0x1"),
        *('"\\ud800"', '"\\ud83d\\ude00"', '"\ud800"', '"a\nb"', '"\x7f\u2028"', '"\\x"', "'a'"),
        *("", " ", "\ufeff1", "\xa01", "1\x00", "1 2", "[1,]", '{"a":1,"b":2,"a":3}', '{"k": NaN}', "nul"),
        *("[" * 199 + "]" * 199, "[" * 201 + "]" * 201),
    ],
)
def test_corners_of_reading(text: str) -> None:
    assert outcome(jsontext.loads, text) == outcome(json.loads, text)


def test_no_text_at_all() -> None:
    assert outcome(jsontext.loads, None) == outcome(json.loads, None)


class Level(enum.IntEnum):
    HIGH = 3


class Name(str):
    pass


@pytest.mark.parametrize(
    "value",
    [
        {1: "a", None: "b", False: "c", 1.5: "d"},
        {(1, 2): 3},
        *((1, 2), {1, 2}, b"bytes", object(), Level.HIGH, Name("x")),
        *(float("nan"), float("inf"), 1e16, 1e-7, 10**400),
        *("\ud800", '\x00\x1f\x7f\u2028"\\/'),
    ],
    ids=lambda value: type(value).__name__,
)
def test_corners_of_writing(value: Any) -> None:
    assert outcome(jsontext.dumps, value) == outcome(standard, value)


def test_a_circular_reference_is_distinguished_from_deep_nesting() -> None:
    circle: list[Any] = []
    circle.append(circle)
    assert outcome(jsontext.dumps, circle) == (ValueError, "Circular reference detected")


def test_without_the_compiled_encoder(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jsontext, "c_make_encoder", None)
    assert jsontext.dumper()({"a": [1, "é"]}) == '{"a":[1,"é"]}'
