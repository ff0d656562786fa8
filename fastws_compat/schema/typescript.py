"""TypeScript of a project's routes: interfaces of the messages, a table of the routes, and a client."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence, Set
from hashlib import sha256
from itertools import starmap
from pathlib import Path
from typing import Any

from fastws_compat.exceptions import DeclarationError
from fastws_compat.messages.frames import ERROR
from fastws_compat.schema import runtime
from fastws_compat.schema.definitions import REF, Schema, reachable, recursive, references
from fastws_compat.schema.description import Channel, Site
from fastws_compat.schema.parameters import Parameter
from fastws_compat.schema.vocabulary import BINARY, TEXT, Message

IDENTIFIER = re.compile(r"[A-Za-z_$][A-Za-z0-9_$]*")
HERE = Path(__file__).parent
STATIC = HERE.parent / "static" / "fastws"
# The names that the client's own half of a file defines, and those of JavaScript that it uses: a model
# must not hide them.
CLIENT = """
    Live CallError Routes connect Connect Connection ConnectOptions Runtime Tags Requests ReplyTo
    Down Up Tag TagOf Tagged Answered WithoutId Given Asked AskedFor live
    Record Extract Promise AsyncIterable AsyncGenerator Omit Exclude ArrayBuffer ArrayBufferView Array
"""
OWN_NAMES = frozenset(CLIENT.split())
# The words of TypeScript that no interface can be called, as far as a class can.
WORDS = """
    any bigint boolean never number object string symbol undefined unknown void
    case catch const debugger default delete do enum export extends function implements instanceof
    interface let new null package private protected public static super switch this throw typeof var
"""
RESERVED = frozenset(WORDS.split())
TEXT_SCHEMA: Schema = {"type": "string"}
# JavaScript knows every integer up to this one.
EXACT = 2**53
BOUNDS = ("maximum", "minimum", "exclusiveMaximum", "exclusiveMinimum")
SCALARS = {"string": "string", "integer": "number", "number": "number", "boolean": "boolean", "null": "null"}


class Types:
    """TypeScript's types for schemas."""

    def __init__(self, names: Mapping[str, str], recursive: Set[str] = frozenset()) -> None:
        self._names = names
        # The schemas that contain themselves.
        self._recursive = recursive
        # By keyword, what a schema with it is; the first keyword decides.
        self._writers: dict[str, Callable[[Any], str]] = {
            "$ref": lambda reference: names[reference.removeprefix(REF)],
            "const": _literal,
            "enum": lambda values: _union(map(_literal, values)),
            "anyOf": lambda schemas: _union(map(self.type_of, schemas)),
            "oneOf": lambda schemas: _union(map(self.type_of, schemas)),
            "allOf": self._all_of,
        }

    def type_of(self, schema: Any) -> str:
        """The type of a schema, on one line."""
        if not isinstance(schema, dict):
            return "unknown"
        for keyword, write in self._writers.items():
            if keyword in schema:
                return write(schema[keyword])
        kind = schema.get("type")
        writers = {"array": self._array, "object": self._object}
        return writers[kind](schema) if kind in writers else SCALARS.get(str(kind), "unknown")

    def _all_of(self, schemas: list[Schema]) -> str:
        return self.type_of(*schemas) if len(schemas) == 1 else " & ".join(map(self._operand, schemas))

    def _operand(self, schema: Schema) -> str:
        written = self.type_of(schema)
        return f"({written})" if " | " in written else written

    def _array(self, schema: Schema) -> str:
        items = schema.get("items", {})
        if not isinstance(items, list):
            return f"Array<{self.type_of(items)}>"
        more = schema.get("additionalItems", False)
        rest = [f"...Array<{self.type_of(more)}>"] if more is not False else []
        required = schema.get("minItems", 0 if "maxItems" in schema else len(items))
        optional = map(self._optional, items[required:])
        return f"[{', '.join([*map(self.type_of, items[:required]), *optional, *rest])}]"

    def _optional(self, item: Schema) -> str:
        """The type of an item that may be left out at the end of an array."""
        return f"{self._operand(item)}?"

    def _object(self, schema: Schema) -> str:
        if "properties" not in schema:
            return self._record(schema)
        members = [f"{name}: {written}" for name, written, _ in self.members(schema)]
        return f"{{ {'; '.join(members)} }}" if members else "{}"

    def _record(self, schema: Schema) -> str:
        values = self._values(schema)
        # TypeScript refuses a type that is a Record of itself.
        is_recursive = not self._recursive.isdisjoint(references(schema))
        return f"{{ [key: string]: {values} }}" if is_recursive else f"Record<string, {values}>"

    def _values(self, schema: Schema) -> str:
        """The type of the values of an object with any keys, or with keys of some patterns."""
        schemas = schema.get("patternProperties", {}).values()
        return (
            _union(map(self.type_of, schemas))
            if schemas
            else self.type_of(schema.get("additionalProperties"))
        )

    def members(self, schema: Schema) -> Iterator[tuple[str, str, Schema]]:
        """The fields of an object: what stands before the colon, the type, and the schema."""
        required = schema.get("required", ())
        for name, field in schema.get("properties", {}).items():
            yield _key(name) + ("" if name in required else "?"), self.type_of(field), field
        more = schema.get("additionalProperties", False)
        if more is not False:
            yield "[key: string]", "unknown", {}

    def declaration(self, name: str, schema: Schema) -> str:
        """A named schema as an interface, or as a type if it is no object."""
        head = _comment(schema, "")
        if schema.get("type") != "object" or "properties" not in schema:
            return f"{head}export type {self._names[name]} = {self.type_of(schema)};\n"
        lines = "".join(starmap(_member, self.members(schema)))
        return f"{head}export interface {self._names[name]} {{\n{lines}}}\n"


def _member(key: str, written: str, field: Schema) -> str:
    return f"{_comment(field, '  ')}  {key}: {written};\n"


def _literal(value: Any) -> str:
    """The type of one value; `number` for an integer that JavaScript would round."""
    return "number" if isinstance(value, int) and abs(value) > EXACT else json.dumps(value)


def _union(written: Iterable[str]) -> str:
    found = dict.fromkeys(written)
    return "unknown" if "unknown" in found else " | ".join(found) or "never"


def _key(name: str) -> str:
    return name if IDENTIFIER.fullmatch(name) else json.dumps(name)


def _comment(schema: Schema, indent: str) -> str:
    """JSDoc of a description, a format, and whether a number may be too large for JavaScript."""
    form = f"Format: {schema['format']}." if "format" in schema else ""
    large = "JavaScript is exact only up to 2^53." if _is_large(schema) else ""
    text = "\n".join(filter(None, [schema.get("description"), form, large]))
    return _jsdoc(text.replace("*/", "*\\/").splitlines(), indent)


def _jsdoc(lines: list[str], indent: str) -> str:
    if len(lines) < 2:
        return "".join(f"{indent}/** {line} */\n" for line in lines)
    return "\n".join([f"{indent}/**", *(f"{indent} * {line}".rstrip() for line in lines), f"{indent} */\n"])


def _is_large(schema: Schema) -> bool:
    return any(abs(schema.get(name, 0)) > EXACT for name in BOUNDS)


# Names


def names_of(schemas: Iterable[str]) -> dict[str, str]:
    """The TypeScript name of each schema; DeclarationError if two are the same."""
    found: dict[str, str] = {}
    taken = {name: f"the {name} of the generated file" for name in OWN_NAMES}
    taken |= {name: f"the word {name}" for name in RESERVED}
    for schema in schemas:
        name = re.sub(r"[^A-Za-z0-9_$]", "", schema)
        if name in taken:
            raise DeclarationError(f"{taken[name]} and {schema} are both {name} in TypeScript: rename one.")
        taken[name], found[schema] = schema, name
    return found


def refuse_two_of_one_name(schemas: Iterable[str], short_names: Mapping[str, str]) -> None:
    """Raise DeclarationError for two classes with one name, which pydantic tells apart by their modules."""
    full: dict[str, str] = {}
    for schema in schemas:
        stem = re.sub(r"-(In|Out)put(__\d+)?$", "", schema)
        other = full.setdefault(short_names.get(schema, schema), stem)
        if other != stem:
            first, second = (found.replace("__", ".") for found in (other, stem))
            raise DeclarationError(f"{first} and {second} have one name: rename one.")


def refuse_two_of_one_schema(classes: Mapping[str, Sequence[Any]]) -> None:
    """Raise DeclarationError for two classes with one name that pydantic does not tell apart."""
    for first, second in (found[:2] for found in classes.values() if len(found) > 1):
        names = " and ".join(f"{one.__module__}.{one.__qualname__}" for one in (first, second))
        raise DeclarationError(f"{names} have one name: rename one.")


# The file


class Client:
    """The generated client of a project, or of one route by its name."""

    def __init__(self, site: Site, only: str | None = None) -> None:
        self._site = site
        self.channels = [channel for channel in site.channels if only in (None, channel.key, channel.title)]
        if only is not None and not self.channels:
            known = ", ".join(channel.key for channel in site.channels)
            raise DeclarationError(f"There is no route {only!r}: the names are {known}.")
        self._schemas = site.vocabulary.schemas
        used = reachable(references(list(self._payloads())), self._schemas)
        refuse_two_of_one_name(sorted(used), site.vocabulary.short_names)
        classes = site.vocabulary.classes()
        refuse_two_of_one_schema({name: classes[name] for name in sorted(used & classes.keys())})
        self._types = Types(names_of(sorted(used)), recursive(used, self._schemas))
        self._used = sorted(used)

    def _payloads(self) -> Iterator[Any]:
        for channel in self.channels:
            yield from map(self._site.schema, channel.parameters)
            yield from (message.payload for message in _said(channel))

    def declarations(self) -> str:
        """The types of the messages and the table of the routes."""
        written = [self._types.declaration(name, self._schemas[name]) for name in self._used]
        routes = [f"  {json.dumps(path)}: {self._route(channel)};\n" for path, channel in self._paths()]
        table = f"/** The routes by their paths. */\nexport interface Routes {{\n{''.join(routes)}}}\n"
        return "\n".join([*written, table])

    def _paths(self) -> Iterator[tuple[str, Channel]]:
        """The routes by path, with the host where it matters; of two with one path the first."""
        found: dict[str, Channel] = {}
        for channel in self.channels:
            found.setdefault(_path(channel), channel)
        return iter(sorted(found.items()))

    def _route(self, channel: Channel) -> str:
        members = {
            "params": self._params(channel),
            "query": self._parameters(channel.of("query")),
            "up": self._union(_messages(channel.spoken.received), channel, UP),
            "down": self._union(_messages(channel.spoken.sent), channel, DOWN),
            "replies": self._replies(channel),
            "tag": json.dumps(channel.tag),
        }
        lines = [f"    {name}: {written};\n" for name, written in members.items()]
        return f"{{\n{''.join(lines)}  }}"

    def _params(self, channel: Channel) -> str:
        names = dict.fromkeys((*channel.host_names, *channel.path_names), TEXT_SCHEMA)
        declared = {one.name: self._site.schema(one) for one in channel.of("path") if one.name in names}
        return self._written({**names, **declared}, list(names))

    def _parameters(self, parameters: list[Parameter]) -> str:
        required = [parameter.name for parameter in parameters if parameter.required]
        return self._written({one.name: self._site.schema(one) for one in parameters}, required)

    def _written(self, properties: Schema, required: list[str]) -> str:
        return self._types.type_of({"type": "object", "properties": properties, "required": required})

    def _union(self, messages: Sequence[Message], channel: Channel, raw: Mapping[Any, str]) -> str:
        if channel.contract is None:
            return "unknown"
        return _union(raw.get(message.content_type) or self._type(message) for message in messages)

    def _type(self, message: Message) -> str:
        return self._types.type_of(message.payload)

    def _replies(self, channel: Channel) -> str:
        names = {message.key: message.name for message in channel.spoken.received}
        replies = [
            f"{_key(names[key])}: {self._union([one for one in found if one.name != ERROR], channel, DOWN)}"
            for key, found in channel.spoken.replies.items()
        ]
        return f"{{ {'; '.join(replies)} }}" if replies else "{}"

    def table(self) -> str:
        """What the client must know about the routes while it runs."""
        routes = {path: found for path, channel in self._paths() if (found := channel.client_options)}
        return f"const ROUTES = {json.dumps(routes, indent=2)};\n"


UP = {BINARY: "ArrayBuffer | ArrayBufferView", TEXT: "string"}
DOWN = {BINARY: "ArrayBuffer", TEXT: "string"}


def _said(channel: Channel) -> tuple[Message, ...]:
    return (*_messages(channel.spoken.received), *_messages(channel.spoken.sent))


def _messages(messages: Iterable[Message]) -> tuple[Message, ...]:
    """Without pings and pongs, which the client sends and reads by itself."""
    return tuple(message for message in messages if not message.is_beat)


def _path(channel: Channel) -> str:
    return channel.address if channel.host is None else f"//{channel.host}{channel.address}"


def files(client: Client, suffix: str) -> dict[str, str]:
    """What is written for a file that ends in `.ts` or `.js`, by suffix; "" is the file itself."""
    return {".ts": _typescript, ".js": _javascript}[suffix](client)


def _typescript(client: Client) -> dict[str, str]:
    """One file with the types and the runtime."""
    code = _indented(runtime.in_typescript(_code(client).replace("export ", "")))
    parts = [_head(client), client.declarations(), _types(), CONNECT, f"{FACE}{code}{RETURN}"]
    return {"": "\n".join(parts)}


def _javascript(client: Client) -> dict[str, str]:
    """An ES module, and its types beside it."""
    types = "\n".join([_head(client), client.declarations(), _types(), CONNECT, DECLARED])
    return {"": f"{_head(client)}\n{runtime.in_javascript(_code(client))}", ".d.ts": types}


def _code(client: Client) -> str:
    live, connect = (STATIC / "live.js").read_text("utf-8"), (HERE / "connect.js").read_text("utf-8")
    return f"{live}\n{client.table()}\n{connect}"


def _types() -> str:
    live = (STATIC / "live.d.ts").read_text("utf-8")
    return f"declare namespace live {{\n{_indented(live)}}}\n{(HERE / 'connect.d.ts').read_text('utf-8')}"


def _indented(text: str) -> str:
    return "".join(f"  {line}".rstrip() + "\n" for line in text.splitlines())


CONNECT = """type Connect = <P extends keyof Routes>(
  path: P,
  ...options: {} extends ConnectOptions<P> ? [options?: ConnectOptions<P>] : [options: ConnectOptions<P>]
) => Connection<P>;
export type Live<Down = any> = live.Live<Down>;
export type CallError = live.CallError;
"""
FACE = """interface Runtime {
  Live: typeof live.Live;
  CallError: typeof live.CallError;
  /** Connect to a route. */
  connect: Connect;
}
export const { Live, CallError, connect }: Runtime = ((): any => {
"""
RETURN = """  return { Live, CallError, connect };
})();
"""
DECLARED = """export declare const Live: typeof live.Live;
export declare const CallError: typeof live.CallError;
/** Connect to a route. */
export declare const connect: Connect;

export {};
"""


def _head(client: Client) -> str:
    """A first line with a hash, by which a file tells whether it is up to date; linters skip the file."""
    digest = sha256(client.declarations().encode()).hexdigest()[:16]
    return f"// Written by `manage.py ws_types`; do not change it. Schemas: {digest}\n/* eslint-disable */"
