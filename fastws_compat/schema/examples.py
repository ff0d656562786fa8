"""Made examples of messages: the same on every run, for people to read and to send."""

from __future__ import annotations

import math
import re
from typing import Any

from fastws_compat.schema.definitions import REF, Schema

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

    def make(self, schema: Any) -> Any:
        """A value; NoExample if none is found."""
        if not isinstance(schema, dict):
            return {}
        for name in ("examples", "enum"):
            if schema.get(name):
                return schema[name][0]
        if "const" in schema:
            return schema["const"]
        if "$ref" in schema:
            return self._referred(schema["$ref"].removeprefix(REF))
        if "allOf" in schema:
            return self.make(schema["allOf"][0])
        for name in ("anyOf", "oneOf"):
            if name in schema:
                return self._first(schema[name])
        return self._of_type(schema)

    def _referred(self, name: str) -> Any:
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

    def _of_type(self, schema: Schema) -> Any:
        match schema.get("type"):
            case "object":
                return self._object(schema)
            case "array":
                return self._array(schema)
            case "string":
                return _text(schema)
            case "integer" | "number":
                return _number(schema)
            case "boolean":
                return True
            case "null":
                return None
            case _:
                return {}

    def _object(self, schema: Schema) -> dict[str, Any]:
        required = schema.get("required", ())
        found: dict[str, Any] = {}
        for name, field in schema.get("properties", {}).items():
            if name in required or field.get("examples"):
                found[name] = self.make(field)
            elif field.get("default") is not None:
                found[name] = field["default"]
        return found

    def _array(self, schema: Schema) -> list[Any]:
        items, least = schema.get("items", {}), schema.get("minItems", 0)
        if isinstance(items, list):
            return [self.make(item) for item in items]
        try:
            item = self.make(items)
        except NoExample:
            if least:
                raise
            return []
        return [item] * min(max(least, 1), schema.get("maxItems", 10))


def _text(schema: Schema) -> str:
    if schema.get("format") in FORMATS:
        return FORMATS[str(schema["format"])]
    least, most = int(schema.get("minLength", 0)), int(schema.get("maxLength", 80))
    pattern = schema.get("pattern")
    if pattern is None:
        return ("text" * math.ceil(max(least, 4) / 4))[: max(least, min(most, 4))]
    for text in TEXTS:
        if least <= len(text) <= most and _fits(pattern, text):
            return text
    raise NoExample(pattern)


def _fits(pattern: str, text: str) -> bool:
    try:
        return re.search(pattern, text) is not None
    except re.error:
        return False


def _number(schema: Schema) -> int | float:
    """The first number that fits, near the lower bound or the upper one; NoExample if none is found."""
    step = schema.get("multipleOf", 1)
    bounds = [schema[name] for name in BOUNDS if name in schema]
    near = [round(bound / step) * step for bound in bounds]
    between = [sum(bounds) / 2] if len(bounds) == 2 and schema["type"] == "number" else []
    for value in (step, *(at + offset * step for at in near for offset in (0, 1, -1)), *between, *bounds):
        if _is_within(schema, value):
            return int(value) if schema["type"] == "integer" else value
    raise NoExample


def _is_within(schema: Schema, value: Any) -> bool:
    return bool(
        schema.get("minimum", -math.inf) <= value <= schema.get("maximum", math.inf)
        and schema.get("exclusiveMinimum", -math.inf) < value < schema.get("exclusiveMaximum", math.inf)
    )
