"""JSON schemas of types as AsyncAPI and TypeScript need them: draft-07, with what is always sent required."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable
from enum import Flag
from typing import Any, NamedTuple

from pydantic.json_schema import GenerateJsonSchema
from pydantic_core import CoreSchema, to_jsonable_python

Schema = dict[str, Any]
# What a schema is generated for: any key, "validation" or "serialization", and pydantic's core schema.
Input = tuple[Any, Any, CoreSchema]

REF = "#/components/schemas/"
# Syntax that only the regular expressions of Python and Rust have; JavaScript rejects such a pattern.
FOREIGN_PATTERN = re.compile(
    r"\(\?(?![:=!]|<[=!a-zA-Z])|\\[AzZGQEaei]|\[\[:|\\x\{|\\[_ #'\"%&~@,;:!<>`-]|[*+?}]\+"
)
# The core schemas around the type of a field that change nothing about its value in JSON.
AROUND = ("default", "nullable", "definitions")


class Generator(GenerateJsonSchema):
    """pydantic's generator, for messages: every field that the server sends is required, and so is a tag."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        # By each name that pydantic may give to a schema, the shortest one: without the module.
        self.short_names: dict[str, str] = {}

    def get_defs_ref(self, core_mode_ref: Any) -> Any:
        found = super().get_defs_ref(core_mode_ref)
        choices = self._prioritized_defsref_choices[found]
        self.short_names.update(dict.fromkeys(choices, choices[0]))
        return found

    def emit_warning(self, kind: Any, detail: str) -> None:
        """Emit no warning: what JSON schema cannot express is left out."""

    def field_title_should_be_set(self, schema: Any) -> bool:
        return False

    def field_is_required(self, field: Any, total: bool) -> bool:
        if field["type"] == "typed-dict-field":
            return bool(field.get("required", total))
        if self.mode == "serialization":
            return field.get("serialization_exclude_if") is None and not _may_be_missing(field["schema"])
        return _is_constant(field["schema"]) or super().field_is_required(field, total)

    def default_schema(self, schema: Any) -> Schema:
        found = super().default_schema(schema)
        if self.mode == "serialization" or "const" in found:
            return {name: value for name, value in found.items() if name != "default"}
        return found

    def enum_schema(self, schema: Any) -> Schema:
        found = super().enum_schema(schema)
        if issubclass(schema["cls"], Flag):
            del found["enum"]  # its members may be combined
        return found

    def named_tuple_schema(self, schema: Any) -> Schema:
        found = super().named_tuple_schema(schema)
        if self.mode == "serialization":
            found["minItems"] = found["maxItems"]  # it is sent with its defaults
        return found

    def decimal_schema(self, schema: Any) -> Schema:
        found = super().decimal_schema(schema)
        found.get("anyOf", [found])[-1]["format"] = "decimal"
        return found

    def handle_invalid_for_json_schema(self, schema: Any, error_info: str) -> Schema:
        return {}  # JSON does not say more about it


class Definitions(NamedTuple):
    """Generated schemas."""

    # By key and mode.
    found: dict[Any, Schema]
    # Those that they refer to, by name.
    named: dict[str, Schema]
    # By the name of a schema, that of its class, which another class may have too.
    short_names: dict[str, str]


def generate(inputs: Iterable[Input]) -> Definitions:
    """The schema of each key and mode, and the named schemas that they refer to."""
    generator = Generator(ref_template=REF + "{model}")
    found, named = generator.generate_definitions(list(inputs))
    schemas = {str(name): _named(name, _as_json(schema)) for name, schema in sorted(named.items())}
    converted = {key: as_draft_07(_as_json(schema)) for key, schema in found.items()}
    return Definitions(converted, schemas, generator.short_names)


def _as_json(schema: Any) -> Any:
    """A schema whose values are JSON's: a model's own examples may contain dates."""
    return to_jsonable_python(schema, fallback=str)


ID: Schema = {"anyOf": [{"type": "string"}, {"type": "integer"}]}
DETAIL: Schema = {
    "anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "object"}}, {}],
    "examples": ["This is not possible now."],
}


def correct_error_frame(schemas: dict[str, Schema], reference: Schema) -> None:
    """Make the schema of an error frame say what is sent: a frame without an id does not have the key."""
    schema = schemas[reference["$ref"].removeprefix(REF)]
    properties = schema["properties"]
    schemas.setdefault("Id", ID)
    properties["id"] = {"$ref": f"{REF}Id"}
    properties["status"].setdefault("examples", [409])
    if not properties["detail"].keys() - {"description"}:  # otherwise a subclass declares more
        properties["detail"] |= DETAIL
    schema["required"] = [name for name in schema["required"] if name != "id"]


def with_tag(schema: Schema, tag: str) -> Schema:
    """The schema of an error frame whose tag is another field than `type`."""
    names = {"type": tag}
    properties = {names.get(name, name): field for name, field in schema["properties"].items()}
    return {
        **schema,
        "properties": properties,
        "required": [names.get(name, name) for name in schema["required"]],
    }


def as_draft_07(schema: Any) -> Any:
    """A schema without the keywords that draft-07 lacks or reads differently."""
    if isinstance(schema, list):
        return list(map(as_draft_07, schema))
    if not isinstance(schema, dict):
        return schema
    said = {name: value for name, value in schema.items() if name in INSIDE or _is_json(value)}
    found = {name: INSIDE.get(name, _itself)(value) for name, value in said.items()}
    found.pop("discriminator", None)
    if FOREIGN_PATTERN.search(str(found.get("pattern", ""))):
        del found["pattern"]
    return _beside_reference(_as_tuple(found))


def _is_json(value: Any) -> bool:
    """Whether JSON can say the value of a keyword: a default or a limit may be infinite."""
    try:
        json.dumps(value, allow_nan=False)
    except ValueError:
        return False
    return True


def _as_tuple(schema: Schema) -> Schema:
    if "prefixItems" in schema:
        schema["additionalItems"] = schema.pop("items", False)
        schema["items"] = schema.pop("prefixItems")
    return schema


def _beside_reference(schema: Schema) -> Schema:
    """In draft-07, keys beside a reference are ignored."""
    if "$ref" in schema and len(schema) > 1:
        schema["allOf"] = [{"$ref": schema.pop("$ref")}]
    return schema


def _each(schemas: Schema) -> Schema:
    return {name: as_draft_07(schema) for name, schema in schemas.items()}


def _itself(value: Any) -> Any:
    return value


# By keyword, how the schemas inside it are converted.
IN_MAPPINGS = dict.fromkeys(("properties", "patternProperties"), _each)
ELSEWHERE = ("items", "additionalProperties", "contains", "propertyNames", "not")
INSIDE: dict[str, Callable[[Any], Any]] = {
    **IN_MAPPINGS,
    **dict.fromkeys((*ELSEWHERE, "anyOf", "oneOf", "allOf", "prefixItems"), as_draft_07),
}


def _named(name: str, schema: Schema) -> Schema:
    """A named schema in a fixed order, without a title that only repeats its name."""
    schema = as_draft_07(schema)
    if schema.get("title") in (name, name.removesuffix("-Input"), name.removesuffix("-Output")):
        del schema["title"]
    return schema


def _is_constant(schema: Any) -> bool:
    """Whether a field is a `Literal` of one value."""
    schema = _inside(schema)
    return schema["type"] == "literal" and len(schema["expected"]) == 1


def _may_be_missing(schema: Any) -> bool:
    """Whether a field may be `MISSING`, which is not sent."""
    schema = _inside(schema)
    # Before pydantic 2.14, it is a member of a union.
    choices = schema["choices"] if schema["type"] == "union" else [schema]
    return any(choice["type"] == "missing-sentinel" for choice in choices if isinstance(choice, dict))


def _inside(schema: Any) -> Any:
    """The type of a field, without what is around it."""
    while schema["type"] in AROUND:
        schema = schema["schema"]
    return schema


def references(schema: Any) -> set[str]:
    """The names that a schema refers to."""
    if isinstance(schema, list):
        return set().union(*map(references, schema))
    if not isinstance(schema, dict):
        return set()
    own = schema.get("$ref")
    found = {own.removeprefix(REF)} if isinstance(own, str) and own.startswith(REF) else set()
    return found.union(*map(references, schema.values()))


def reachable(names: Iterable[str], schemas: dict[str, Schema]) -> set[str]:
    """The names, and all that their schemas refer to."""
    todo, found = list(names), set[str]()
    while todo:
        name = todo.pop()
        if name in schemas and name not in found:
            found.add(name)
            todo += references(schemas[name])
    return found


def recursive(names: Iterable[str], schemas: dict[str, Schema]) -> set[str]:
    """The names whose schemas refer to themselves, also by way of others."""
    return {name for name in names if name in reachable(references(schemas[name]), schemas)}
