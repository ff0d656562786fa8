"""Generated examples of messages: the same on every run, for people to read and to send."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from operator import itemgetter
from typing import Any, TypeVar

from fastws_compat.schema.definitions import REF, Schema

T = TypeVar("T")

MOMENT = "2026-01-31T12:00:00Z"
FORMATS = {
    "date-time": MOMENT,
    "date": MOMENT[:10],
    "time": "12:00:00Z",
    "duration": "PT1M",
    "uuid": "00000000-0000-4000-8000-000000000000",
    "uuid1": "00000000-0000-1000-8000-000000000000",
    "uuid3": "00000000-0000-3000-8000-000000000000",
    "uuid4": "00000000-0000-4000-8000-000000000000",
    "uuid5": "00000000-0000-5000-8000-000000000000",
    "email": "user@example.com",
    "idn-email": "user@example.com",
    "name-email": "User <user@example.com>",
    "uri": "https://example.com/",
    "multi-host-uri": "https://example.com/",
    "ipv4": "192.0.2.1",
    "ipv6": "2001:db8::1",
    "ipvanyaddress": "192.0.2.1",
    "ipv4network": "192.0.2.0/24",
    "ipv6network": "2001:db8::/32",
    "ipvanynetwork": "192.0.2.0/24",
    "ipv4interface": "192.0.2.1/24",
    "ipv6interface": "2001:db8::1/32",
    "ipvanyinterface": "192.0.2.1/24",
    "decimal": "1",
    "json-string": "{}",
    "byte": "",
    "base64url": "",
}
# Texts that are tried against a pattern.
TEXTS = ("text", "1", "a", "A", "1.5", "abc", "ABC", "a1", "A1", "abc-123", "#aabbcc", "12:00", MOMENT[:10])
BOUNDS = ("minimum", "exclusiveMinimum", "maximum", "exclusiveMaximum")


class NoExample(Exception):
    """No value could be made for a schema."""


class Maker:
    """Makes values for schemas, which may refer to named ones."""

    def __init__(self, schemas: dict[str, Schema]) -> None:
        self._schemas = schemas
        # The named schemas around the one for which a value is being made.
        self._around: list[str] = []
        # By keyword, what makes a value of what it says; the first keyword of a schema decides.
        self._makers: dict[str, Callable[[Any], Any]] = {
            "examples": itemgetter(0),
            "enum": itemgetter(0),
            "const": _itself,
            "$ref": self._referred,
            "allOf": self._of_all,
            "anyOf": self._first,
            "oneOf": self._first,
        }
        self._of_type: dict[Any, Callable[[Schema], Any]] = {
            "object": self._object,
            "array": self._array,
            "string": _text,
            "integer": _number,
            "number": _number,
            "boolean": lambda schema: True,
            "null": lambda schema: None,
        }

    def make(self, schema: Any) -> Any:
        """A value; NoExample if none is found."""
        if not isinstance(schema, dict):
            return {}
        for keyword, make in self._makers.items():
            if keyword in schema:
                return make(schema[keyword])
        return self._of_type.get(schema.get("type"), _nothing)(schema)

    def _of_all(self, schemas: list[Schema]) -> Any:
        return self.make(schemas[0])

    def _referred(self, reference: str) -> Any:
        name = reference.removeprefix(REF)
        if name in self._around or name not in self._schemas:
            raise NoExample(name)
        self._around.append(name)
        try:
            return self.make(self._schemas[name])
        finally:
            self._around.pop()

    def _first(self, choices: list[Schema]) -> Any:
        """The first choice for which a value is found; null is the last."""
        for choice in sorted(choices, key=lambda choice: choice.get("type") == "null"):
            try:
                return self.make(choice)
            except NoExample:
                continue
        raise NoExample

    def _object(self, schema: Schema) -> dict[str, Any]:
        """The required fields, and those that have an example or a default of their own."""
        required = schema.get("required", ())
        fields = schema.get("properties", {}).items()
        made = {name: self.make(field) for name, field in fields if name in required or "examples" in field}
        defaults = {name: field["default"] for name, field in fields if field.get("default") is not None}
        found = defaults | made
        return {name: found[name] for name in schema.get("properties", {}) if name in found}

    def _array(self, schema: Schema) -> list[Any]:
        items, least = schema.get("items", {}), schema.get("minItems", 0)
        if isinstance(items, list):
            return list(map(self.make, items))
        count: int = min(max(least, 1), schema.get("maxItems", 10))
        return self._one(items, least) * count

    def _one(self, items: Schema, least: int) -> list[Any]:
        """One item; none if it would contain itself and need not be there."""
        try:
            return [self.make(items)]
        except NoExample:
            if least:
                raise
            return []


def _itself(value: Any) -> Any:
    return value


def _nothing(schema: Schema) -> Schema:
    return {}


def _text(schema: Schema) -> str:
    if schema.get("format") in FORMATS:
        return FORMATS[str(schema["format"])]
    least, most = int(schema.get("minLength", 0)), int(schema.get("maxLength", 80))
    plain = ("text" * math.ceil(max(least, 4) / 4))[: max(least, min(most, 4))]
    texts = (plain, *TEXTS)
    return _first_that(
        lambda text: least <= len(text) <= most and _fits(schema.get("pattern", ""), text), texts
    )


def _fits(pattern: str, text: str) -> bool:
    try:
        return re.search(pattern, text) is not None
    except re.error:
        return False


def _number(schema: Schema) -> int | float:
    """A number that fits, near one of the bounds."""
    number: Any = _first_that(partial(_is_within, schema), _near(schema))
    return int(number) if schema["type"] == "integer" else number


def _near(schema: Schema) -> Iterator[Any]:
    step = schema.get("multipleOf", 1)
    yield step
    bounds = [schema[name] for name in BOUNDS if name in schema]
    for bound in bounds:
        nearest = round(bound / step) * step
        yield from (nearest, nearest + step, nearest - step)
    if schema["type"] == "number":
        yield from (sum(bounds) / max(len(bounds), 1), *bounds)


def _is_within(schema: Schema, value: Any) -> bool:
    least, most = schema.get("minimum", -math.inf), schema.get("maximum", math.inf)
    above, below = schema.get("exclusiveMinimum", -math.inf), schema.get("exclusiveMaximum", math.inf)
    return bool(least <= value <= most and above < value < below)


def _first_that(fits: Callable[[T], bool], values: Iterable[T]) -> T:
    """The first value that fits; NoExample without one."""
    for value in filter(fits, values):
        return value
    raise NoExample
