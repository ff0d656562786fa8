"""The messages of all routes, each once, with its schema and an example."""

from __future__ import annotations

import dataclasses
import inspect
import json
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from pydantic import TypeAdapter
from pydantic_core import CoreSchema

from fastws_compat.dependencies.annotations import is_subclass
from fastws_compat.messages.contract import DEFAULT_TAG, Contract, members_of_reply
from fastws_compat.messages.frames import ERROR, Call, ErrorFrame, Reply
from fastws_compat.messages.incoming import PING, PONG
from fastws_compat.messages.inputs import as_input
from fastws_compat.messages.members import adapter_of, name_of_type
from fastws_compat.messages.names import base_of
from fastws_compat.schema.definitions import REF, Schema, correct_error_frame, generate, with_tag
from fastws_compat.schema.examples import Maker, NoExample

Mode = Literal["validation", "serialization"]
RECEIVED: Mode = "validation"
SENT: Mode = "serialization"
NOT_IN_KEYS = re.compile(r"[^A-Za-z0-9_]+")
TEXT, BINARY = "text/plain", "application/octet-stream"
Tags = Mapping[int, str]


@dataclass(frozen=True, eq=False)
class Message:
    """A message as it is published: one name, one schema."""

    # In `components.messages`, and unique there.
    key: str
    # The value of its tag; its key without one.
    name: str
    title: str
    summary: str
    payload: Schema
    examples: tuple[Any, ...] = ()
    content_type: str | None = None
    # Whether it has the `id` of a call or a reply.
    has_id: bool = False
    # Whether it is a ping or a pong.
    is_beat: bool = False


@dataclass(frozen=True)
class Spoken:
    """What one route's client and server send."""

    received: tuple[Message, ...] = ()
    sent: tuple[Message, ...] = ()
    # By the key of a call, the messages that may answer it; the last may be an error frame.
    replies: Mapping[str, tuple[Message, ...]] = dataclasses.field(default_factory=dict)


class Vocabulary:
    """The messages of many routes. Parameters take part, so that types have one name in both."""

    def __init__(self, contracts: Iterable[Contract], parameters: Mapping[Any, CoreSchema]) -> None:
        self._contracts = list(contracts)  # kept, because types are told apart by their identity
        self._adapters = dict(_adapters(self._contracts))
        inputs: list[Any] = [(key, mode, found.core_schema) for (key, mode), found in self._adapters.items()]
        inputs += [(key, RECEIVED, schema) for key, schema in parameters.items()]
        self._found, self.schemas, self.short_names = generate(inputs)
        self.messages: dict[str, Message] = {}
        self._by_member: dict[Any, Message] = {}
        for kind in _error_classes(self._contracts):
            correct_error_frame(self.schemas, self._found[id(kind), SENT])

    def parameter(self, key: Any) -> Schema:
        """The schema of a parameter."""
        return self._found[key, RECEIVED]

    def classes(self) -> dict[str, list[Any]]:
        """By the name of a schema, the classes of messages that have it; several if they are alike."""
        found: dict[str, dict[int, Any]] = {}
        for contract in self._contracts:
            for kind, mode in _members(contract):
                base = base_of(kind)
                found.setdefault(_name(self._found[id(kind), mode]), {})[id(base)] = base
        return {name: list(classes.values()) for name, classes in found.items() if name}

    def spoken(self, contract: Contract) -> Spoken:
        """The messages of a route."""
        received_tags, sent_tags = _tags(contract.received_by_tag), _tags(contract.sent_by_tag)
        received = self._all(contract.receives, RECEIVED, received_tags)
        sent = self._all(contract.sends, SENT, sent_tags)
        errors = self._errors(contract)
        sent += errors
        replies = {
            self._message(call, RECEIVED, received_tags).key: (
                *self._all(members_of_reply(call), SENT, sent_tags),
                *errors,
            )
            for call in contract.replies
        }
        if contract.heartbeat:
            received.append(self._beat(PING, contract.tag))
            sent.append(self._beat(PONG, contract.tag))
        return Spoken(tuple(dict.fromkeys(received)), tuple(dict.fromkeys(sent)), replies)

    def _all(self, kinds: Iterable[Any], mode: Mode, tags: Tags) -> list[Message]:
        return [self._message(kind, mode, tags) for kind in kinds]

    def _errors(self, contract: Contract) -> list[Message]:
        """The error frame of a route; nothing for a route whose types only document."""
        kind = _error_class(contract)
        if kind is None:
            return []
        if kind is not ErrorFrame or contract.tag == DEFAULT_TAG:
            return [self._message(kind, SENT, {})]
        schema = with_tag(self.schemas[_name(self._found[id(kind), SENT])], contract.tag)
        return [self._made("ErrorFrame", contract.tag, ERROR, schema)]

    def _beat(self, name: str, tag: str) -> Message:
        constant = {"const": name, "type": "string"}
        description = "Is the connection alive?" if name == PING else "The connection is alive."
        schema: Schema = {"description": description, "type": "object", "required": [tag]}
        schema["properties"] = {tag: constant}
        return self._made(f"Heartbeat{name.title()}", tag, name, schema)

    def _made(self, stem: str, tag: str, name: str, schema: Schema) -> Message:
        """A message without a class of its own, because the field of its tag depends on the route."""
        key = stem if tag == DEFAULT_TAG else stem + NOT_IN_KEYS.sub("", tag.title())
        if (made := ("made", key, tag)) not in self._by_member:
            key = self._free_key(key)
            self.schemas[key] = schema
            payload = {"$ref": REF + key}
            summary = schema.get("description", "").partition("\n\n")[0]
            example = Maker(self.schemas).make(payload)
            is_beat = name in (PING, PONG)
            self._add(made, Message(key, name, key, summary, payload, (example,), is_beat=is_beat))
        return self._by_member[made]

    def _message(self, kind: Any, mode: Mode, tags: Tags) -> Message:
        member = (id(kind), mode)
        if member not in self._by_member:
            self._add(member, self._new(kind, mode, tags.get(id(kind))))
        return self._by_member[member]

    def _add(self, member: Any, message: Message) -> None:
        """Two classes with one name and one schema are one message, unless something else differs."""
        known = self.messages.setdefault(message.key, message)
        if dataclasses.asdict(known) != dataclasses.asdict(message):
            known = dataclasses.replace(message, key=self._free_key(message.key))
            self.messages[known.key] = known
        self._by_member[member] = known

    def _new(self, kind: Any, mode: Mode, tag: str | None) -> Message:
        payload, base = self._found[id(kind), mode], base_of(kind)
        if base is bytes:
            payload = {"type": "string", "format": "binary"}
            return Message("bytes", "bytes", "Bytes", "A binary frame.", payload, (), BINARY)
        key = _name(payload) or self._inline_key(name_of_type(base), payload)
        if base is str:
            return Message(key, key, "Text", "Text that is not JSON.", payload, (), TEXT)
        examples = tuple(self._examples(kind, mode, payload))
        is_call = is_subclass(base, (Call, Reply))
        tag = ERROR if is_subclass(base, ErrorFrame) else tag
        title = name_of_type(base)
        return Message(key, tag or key, title, summary_of(base), payload, examples, has_id=is_call)

    def _inline_key(self, name: str, payload: Schema) -> str:
        """A key for a type that has no named schema, such as `list[int]`."""
        key = NOT_IN_KEYS.sub("_", name).strip("_") or "message"
        known = self.messages.get(key)
        return key if known is not None and known.payload == payload else self._free_key(key)

    def _free_key(self, stem: str) -> str:
        key, number = stem, 1
        while key in self.messages or key in self.schemas:
            number += 1
            key = f"{stem}{number}"
        return key

    def _examples(self, kind: Any, mode: Mode, payload: Schema) -> Iterator[Any]:
        """The examples of the model itself, or a made one that the server would take or send."""
        schema = self.schemas.get(_name(payload), payload)
        if schema.get("examples"):
            yield from schema["examples"]
            return
        try:
            example = Maker(self.schemas).make(payload)
            taken = example if mode == RECEIVED else as_input(base_of(kind), example)
            by_name = True if mode == SENT else None
            self._adapters[id(kind), mode].validate_json(json.dumps(taken), by_name=by_name)
        except (NoExample, ValueError, TypeError, RecursionError):
            return
        yield example


def summary_of(kind: Any) -> str:
    """The first paragraph of a class's own docstring."""
    text = inspect.cleandoc(getattr(kind, "__dict__", {}).get("__doc__") or "")
    if getattr(kind, "__module__", "builtins") == "builtins" or text.startswith(f"{kind.__name__}("):
        return ""  # what Python and dataclasses write themselves
    return " ".join(text.partition("\n\n")[0].split())


def _error_class(contract: Contract) -> type[ErrorFrame] | None:
    return contract.error_frame if contract.enforced else None


def _error_classes(contracts: Iterable[Contract]) -> set[type[ErrorFrame]]:
    return set(filter(None, map(_error_class, contracts)))


def _adapters(contracts: Iterable[Contract]) -> Iterator[tuple[tuple[int, Mode], TypeAdapter[Any]]]:
    for contract in contracts:
        for kind, mode in _members(contract):
            yield (id(kind), mode), adapter_of(kind, "A route")


def _members(contract: Contract) -> Iterator[tuple[Any, Mode]]:
    for kind in contract.receives:
        yield kind, RECEIVED
    for kind in (*contract.sends, *filter(None, [_error_class(contract)])):
        yield kind, SENT


def _tags(members: Mapping[Any, Any]) -> Tags:
    return {
        id(kind): value if isinstance(value, str) else json.dumps(value) for value, kind in members.items()
    }


def _name(schema: Schema) -> str:
    """The name of the schema that a schema refers to; empty for any other schema."""
    return str(schema.get("$ref", "")).removeprefix(REF)
