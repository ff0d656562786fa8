"""Convertors: what `{name:convertor}` in a path matches, and its conversion from and to text."""

from __future__ import annotations

import math
import uuid
from typing import Any, ClassVar, Generic, TypeVar

from fastws_compat.porting import foreign

T = TypeVar("T")


class Convertor(Generic[T]):
    """One kind of path parameter. A subclass sets `regex`, which it matches, and writes both methods."""

    #: The regular expression of what the parameter matches.
    regex: ClassVar[str] = ""

    def convert(self, value: str) -> T:
        """Return the value of a part of a path."""
        raise NotImplementedError

    def to_string(self, value: T) -> str:
        """Return the part of a path for a value."""
        raise NotImplementedError


class StringConvertor(Convertor[str]):
    """`{name}` and `{name:str}`: one segment of the path."""

    regex = "[^/]+"

    def convert(self, value: str) -> str:
        return value

    def to_string(self, value: str) -> str:
        text = str(value)
        if "/" in text:
            raise AssertionError("May not contain path separators")
        if not text:
            raise AssertionError("Must not be empty")
        return text


class PathConvertor(Convertor[str]):
    """`{name:path}`: the rest of the path, including slashes; it may be empty."""

    regex = ".*"

    def convert(self, value: str) -> str:
        return str(value)

    def to_string(self, value: str) -> str:
        return str(value)


class IntegerConvertor(Convertor[int]):
    """`{name:int}`: digits."""

    regex = "[0-9]+"

    def convert(self, value: str) -> int:
        return int(value)

    def to_string(self, value: int) -> str:
        number = int(value)
        if number < 0:
            raise AssertionError("Negative integers are not supported")
        return str(number)


class FloatConvertor(Convertor[float]):
    """`{name:float}`: digits with or without decimal places, but no sign or exponent."""

    regex = r"[0-9]+(\.[0-9]+)?"

    def convert(self, value: str) -> float:
        return float(value)

    def to_string(self, value: float) -> str:
        number = float(value)
        if math.isnan(number):
            raise AssertionError("NaN values are not supported")
        if math.isinf(number):
            raise AssertionError("Infinite values are not supported")
        if number < 0:
            raise AssertionError("Negative floats are not supported")
        return f"{number:.20f}".rstrip("0").rstrip(".")


class UUIDConvertor(Convertor[uuid.UUID]):
    """`{name:uuid}`: a UUID in upper or lower case, with or without dashes."""

    regex = "-?".join(f"[0-9a-fA-F]{{{digits}}}" for digits in (8, 4, 4, 4, 12))

    def convert(self, value: str) -> uuid.UUID:
        return uuid.UUID(value)

    def to_string(self, value: uuid.UUID) -> str:
        return str(value)


CONVERTOR_TYPES: dict[str, Convertor[Any]] = {
    "str": StringConvertor(),
    "path": PathConvertor(),
    "int": IntegerConvertor(),
    "float": FloatConvertor(),
    "uuid": UUIDConvertor(),
}


def register_url_convertor(key: str, convertor: Convertor[Any]) -> None:
    """Make `{name:key}` available in paths that are declared from now on."""
    foreign.refuse(convertor, f"Convertor {key!r}")
    CONVERTOR_TYPES[key] = convertor
