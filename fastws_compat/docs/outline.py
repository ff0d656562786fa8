"""Schemas in readable form: the fields of each object, with their types and limits."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from fastws_compat.schema.asyncapi import as_text
from fastws_compat.schema.definitions import REF, Schema, references
from fastws_compat.schema.typescript import Types

# The keywords that are shown, and their texts.
FACTS = {
    "format": "{}",
    "minimum": "≥ {}",
    "exclusiveMinimum": "> {}",
    "maximum": "≤ {}",
    "exclusiveMaximum": "< {}",
    "multipleOf": "multiple of {}",
    "minLength": "length ≥ {}",
    "maxLength": "length ≤ {}",
    "minItems": "items ≥ {}",
    "maxItems": "items ≤ {}",
    "pattern": "matches {}",
    "default": "default {}",
    "deprecated": "deprecated",
}
TRUTHS = ["true", "false"]


class Outline:
    """The schemas of a project."""

    def __init__(self, schemas: dict[str, Schema]) -> None:
        self._schemas = schemas
        self._types = _Types(_Names(self))

    def fields(self) -> dict[str, list[dict[str, Any]]]:
        """The fields of each named object."""
        objects = {name: found for name, found in self._schemas.items() if "properties" in found}
        return {name: list(self._fields(found)) for name, found in objects.items()}

    def _fields(self, schema: Schema) -> Iterator[dict[str, Any]]:
        for name, field in schema["properties"].items():
            required = name in schema.get("required", ())
            yield {"name": name, "required": required, "about": self.about(field), **self.entry(field)}

    def entry(self, schema: Schema) -> dict[str, Any]:
        """The type, and the names of the objects that are inside."""
        return {"type": self.type_of(schema), "inside": list(dict.fromkeys(self._objects(schema, set())))}

    def type_of(self, schema: Schema) -> str:
        """The type in TypeScript's notation, with objects by their names."""
        return self._types.type_of(schema)

    def about(self, schema: Schema) -> str:
        """The limits, the default and the description."""
        parts = [*schema.get("anyOf", ()), schema]
        facts = [fact for part in parts for fact in _facts(part)]
        return " · ".join([*facts, *filter(None, [schema.get("description")])])

    def name_of(self, name: str) -> str:
        """The name of an object; the type of any other named schema."""
        schema = self._schemas.get(name, {})
        if "properties" in schema:
            return _plain(name)
        return self.type_of(schema)

    def _objects(self, schema: Schema, seen: set[str]) -> Iterator[str]:
        for name in sorted(references(schema) - seen):
            seen.add(name)
            found = self._schemas.get(name, {})
            yield from [name] if "properties" in found else self._objects(found, seen)

    def control(self, schema: Schema) -> dict[str, Any]:
        """The form control for a parameter."""
        forms = [self._behind(part) for part in schema.get("anyOf", [schema]) if part.get("type") != "null"]
        form = forms[0] if len(forms) == 1 else {}
        return {
            "choices": list(map(as_text, _choices(form))),
            "isMany": any(one.get("type") == "array" for one in forms),
            "default": "" if schema.get("default") is None else as_text(schema["default"]),
            "example": as_text(*schema.get("examples", [""])[:1]),
        }

    def _behind(self, schema: Schema) -> Schema:
        """The schema that a parameter's schema refers to, or the schema itself."""
        inner = schema.get("allOf", [schema])[0]
        return self._schemas.get(str(inner.get("$ref", "")).removeprefix(REF), schema)


class _Types(Types):
    """TypeScript's types, and integers, which TypeScript does not distinguish from other numbers."""

    def type_of(self, schema: Any) -> str:
        written = super().type_of(schema)
        return "integer" if written == "number" and schema.get("type") == "integer" else written


class _Names(dict[str, str]):
    """The text for each named schema, made when it is first needed."""

    def __init__(self, outline: Outline) -> None:
        self._outline = outline

    def __missing__(self, name: str) -> str:
        self[name] = _plain(name)  # for a schema that refers to itself
        self[name] = self._outline.name_of(name)
        return self[name]


def _plain(name: str) -> str:
    """The name of a class, without the side that its schema is for."""
    return name.removesuffix("-Input").removesuffix("-Output")


def _choices(schema: Schema) -> list[Any]:
    if schema.get("type") == "boolean":
        return TRUTHS
    return [schema["const"]] if "const" in schema else schema.get("enum", [])


def _facts(schema: Schema) -> Iterator[str]:
    for name, text in FACTS.items():
        if name in schema:
            yield text.format(json.dumps(schema[name]) if name == "default" else schema[name])
