"""What a message to a group may hold, and its JSON text.

JSON's own types, sets, pydantic models, dataclasses, enums, dates and times, UUIDs, Decimals and lazy text.
Anything else is refused by name: what an unknown object would be written as is not for everybody to read.
Values are judged by their type alone, since a lazy object claims the class of what it stands for and would
be evaluated by `isinstance`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from enum import Enum
from typing import Any
from uuid import UUID

from django.utils.functional import LazyObject, Promise
from pydantic import BaseModel
from pydantic_core import PydanticSerializationError

from fastws_compat.connections.jsontext import dumper
from fastws_compat.encoders import decimal_encoder, isoformat

# The JSON type of a value, which may hold values of these types again.
ENCODERS: dict[type, Callable[[Any], Any]] = {
    datetime: isoformat,
    date: isoformat,
    time: isoformat,
    timedelta: timedelta.total_seconds,
    Decimal: decimal_encoder,
    UUID: str,
    set: list,
    frozenset: list,
}

# How pydantic reports what its fallback raises while it writes JSON text.
REFUSED = "Error serializing to JSON: TypeError: "


def dump(message: Any) -> str:
    """The JSON text of a dict or list; TypeError for a value that a group does not send."""
    try:
        text = _dumps(message)
    except TypeError:
        text = _dumps(_plain(message))  # JSON has more values here than the encoder takes as keys
    text.encode()
    return text


def dump_model(model: Any) -> str:
    """The JSON text of a pydantic model or a dataclass; TypeError as for `dump`."""
    if not issubclass(type(model), BaseModel):
        return dump(_encodable(model))
    try:
        return str(model.model_dump_json(by_alias=True, fallback=_encodable))
    except PydanticSerializationError as exc:
        if str(exc).startswith(REFUSED):
            raise TypeError(str(exc).removeprefix(REFUSED)) from None
        raise


def is_model(kind: type) -> bool:
    """Whether instances of the class are pydantic models or dataclasses, whose fields were chosen."""
    return issubclass(kind, BaseModel) or dataclasses.is_dataclass(kind)


def text_of(value: Any) -> str | None:
    """A `str`, or lazy text in the language that is active, as plain `str`; None for anything else."""
    kind = type(value)
    if kind is str:
        return str(value)
    if issubclass(kind, str):
        return str.__str__(value)
    if issubclass(kind, Promise):
        text = str(value)
        return str.__str__(text) if value == text else None  # `lazy` may stand for anything
    return None


def way_out(kind: type) -> str:
    """The end of a sentence that refuses an instance of the class."""
    if issubclass(kind, LazyObject) or hasattr(kind, "_meta"):
        return ": send a pydantic model or a dict of the fields that every member may see"
    if hasattr(kind, "iterator") or hasattr(kind, "__next__"):
        return ": send a list of pydantic models or dicts"
    return ": send a pydantic model or a dict"


def _encodable(value: Any) -> Any:
    """What the encoder does not know itself, one level nearer to JSON; TypeError if it is not to be sent."""
    kind = type(value)
    encoder = ENCODERS.get(kind)
    if encoder is None:
        encoder = _encoder_of(kind)
    if encoder is not None:
        return encoder(value)
    text = text_of(value)
    if text is None:
        raise TypeError(f"A message to a group cannot hold {kind.__name__}{way_out(kind)}.")
    return text


def _encoder_of(kind: type) -> Callable[[Any], Any] | None:
    if issubclass(kind, BaseModel):
        return _fields_of_model
    if dataclasses.is_dataclass(kind):
        return _fields_of_checked if hasattr(kind, "__pydantic_serializer__") else _fields_of_dataclass
    if issubclass(kind, Enum):
        return _value_of
    return next((encoder for base, encoder in ENCODERS.items() if issubclass(kind, base)), None)


def _fields_of_model(model: BaseModel) -> Any:
    return model.model_dump(mode="json", by_alias=True, fallback=_encodable)


def _fields_of_checked(instance: Any) -> Any:
    serializer = type(instance).__pydantic_serializer__
    return serializer.to_python(instance, mode="json", by_alias=True, fallback=_encodable)


def _fields_of_dataclass(instance: Any) -> dict[str, Any]:
    return {field.name: getattr(instance, field.name) for field in dataclasses.fields(instance)}


def _value_of(member: Enum) -> Any:
    return member.value


def _plain(value: Any) -> Any:
    """`value` with the keys of its dicts as text, however deep."""
    kind = type(value)
    if issubclass(kind, dict):
        return {_key(key): _plain(item) for key, item in value.items()}
    if issubclass(kind, (list, tuple)):
        return [_plain(item) for item in value]
    if value is None or issubclass(kind, (str, int, float)):
        return value
    return _plain(_encodable(value))


def _key(value: Any) -> Any:
    """A key that JSON has: the text of a value that may be sent, and that is not a container."""
    if value is None or issubclass(type(value), (str, int, float)):
        return value
    key = _encodable(value)
    if issubclass(type(key), (dict, list)):
        raise TypeError(f"A message to a group cannot have a {type(value).__name__} as a key: use a str.")
    return _key(key)


_dumps = dumper(_encodable, allow_nan=False)
