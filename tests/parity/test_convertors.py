"""What a path parameter matches, and its conversion to a value and back, in both libraries."""

from __future__ import annotations

import re
import uuid
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from starlette import convertors as theirs

from fastws_compat import convertors as ours

bounded = settings(max_examples=100, deadline=None)
ID = "6f2f1b1a-3f0e-4e0c-9b5e-0a1b2c3d4e5f"


@pytest.mark.parametrize(
    ("kind", "text", "value"),
    [
        ("str", "abc", "abc"),
        ("str", "a b", "a b"),
        ("str", "a/b", None),
        ("str", "", None),
        ("path", "a/b/", "a/b/"),
        ("path", "", ""),
        ("path", "a\nb", None),
        ("int", "007", 7),
        ("int", "-1", None),
        ("int", "1.0", None),
        ("int", "١", None),
        ("float", "1", 1.0),
        ("float", "1.50", 1.5),
        ("float", "1.", None),
        ("float", ".5", None),
        ("float", "1e3", None),
        ("uuid", ID, uuid.UUID(ID)),
        ("uuid", ID.upper().replace("-", ""), uuid.UUID(ID)),
        ("uuid", ID[:-1], None),
        ("uuid", "{" + ID + "}", None),
    ],
)
def test_path_text_to_value(lib: Any, kind: str, text: str, value: Any) -> None:
    convertor = lib.CONVERTOR_TYPES[kind]
    match = re.fullmatch(convertor.regex, text)
    converted = None if match is None else convertor.convert(text)
    assert converted == value
    assert type(converted) is type(value)


@pytest.mark.parametrize(
    ("kind", "value", "text"),
    [
        ("str", "abc", "abc"),
        ("str", 12, "12"),
        ("path", "a/b", "a/b"),
        ("path", "", ""),
        ("int", 7, "7"),
        ("int", "7", "7"),
        ("int", 7.9, "7"),
        ("float", 1, "1"),
        ("float", 100.0, "100"),
        ("float", 0.5, "0.5"),
        ("float", 1e-5, "0.00001"),
        ("float", 1e22, "10000000000000000000000"),
        ("float", 0.1, "0.10000000000000000555"),
        ("float", -0.0, "-0"),
        ("uuid", uuid.UUID(ID), ID),
        ("uuid", "anything", "anything"),
    ],
)
def test_value_to_path_text(lib: Any, kind: str, value: Any, text: str) -> None:
    assert lib.CONVERTOR_TYPES[kind].to_string(value) == text


@pytest.mark.parametrize(
    ("kind", "value", "message"),
    [
        ("str", "a/b", "May not contain path separators"),
        ("str", "", "Must not be empty"),
        ("int", -1, "Negative integers are not supported"),
        ("float", float("nan"), "NaN values are not supported"),
        ("float", float("inf"), "Infinite values are not supported"),
        ("float", -0.5, "Negative floats are not supported"),
    ],
)
def test_value_that_no_path_can_hold(lib: Any, kind: str, value: Any, message: str) -> None:
    with pytest.raises(AssertionError) as caught:
        lib.CONVERTOR_TYPES[kind].to_string(value)
    assert str(caught.value).startswith(message)


def test_registered_convertor(lib: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    class Hex(lib.Convertor[int]):  # type: ignore[misc]
        regex = "[0-9a-f]+"

        def convert(self, value: str) -> int:
            return int(value, 16)

        def to_string(self, value: int) -> str:
            return f"{value:x}"

    monkeypatch.setattr(lib.module("starlette.convertors"), "CONVERTOR_TYPES", {})
    lib.register_url_convertor("hex", Hex())
    made = lib.module("starlette.convertors").CONVERTOR_TYPES["hex"]
    assert made.convert("ff") == 255
    assert made.to_string(255) == "ff"


def test_the_same_kinds_exist() -> None:
    assert {name: kind.regex for name, kind in ours.CONVERTOR_TYPES.items()} == {
        name: kind.regex for name, kind in theirs.CONVERTOR_TYPES.items()
    }


@bounded
@given(
    kind=st.sampled_from(["str", "path", "int", "float", "uuid"]),
    value=st.one_of(st.text(max_size=8), st.integers(), st.floats(), st.uuids(), st.none()),
)
def test_any_value_converts_the_same(kind: str, value: Any) -> None:
    def results(convertors: Any) -> list[Any]:
        convertor = convertors.CONVERTOR_TYPES[kind]
        found: list[Any] = []
        for call in (convertor.convert, convertor.to_string):
            try:
                found.append(repr(call(value)))
            except Exception as exc:
                found.append(type(exc))
        return found

    assert results(ours) == results(theirs)
