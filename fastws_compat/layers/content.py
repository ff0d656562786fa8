"""The values that a group message may contain, and their JSON text.

They are JSON's own types, sets, pydantic models, dataclasses, enums, dates and times, UUIDs, Decimals and
lazy text. Any other value raises TypeError: its text form might expose what the members must not read.
Only the type of a value decides. `isinstance` would evaluate a lazy object, which pretends to be an instance
of the class that it stands for.
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

# By type, the function that converts a value one step towards JSON.
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

# How pydantic's error begins if `fallback` raises a TypeError.
FALLBACK_ERROR = "Error serializing to JSON: TypeError: "


def dump(message: Any) -> str:
    """The JSON text of a dict or list; raises TypeError for a value that a group does not send."""
    try:
        text = _dumps(message)
    except TypeError:
        text = _dumps(_with_text_keys(message))  # the encoder accepts fewer types as keys than as values
    text.encode()
    return text


def dump_model(model: Any) -> str:
    """The JSON text of a pydantic model or a dataclass; raises TypeError as `dump` does."""
    if not issubclass(type(model), BaseModel):
        return dump(_encodable(model))
    try:
        return str(model.model_dump_json(by_alias=True, fallback=_encodable))
    except PydanticSerializationError as exc:
        if str(exc).startswith(FALLBACK_ERROR):
            raise TypeError(str(exc).removeprefix(FALLBACK_ERROR)) from None
        raise


def is_model(kind: type) -> bool:
    """Whether the class is a pydantic model or a dataclass: its fields were declared on purpose."""
    return issubclass(kind, BaseModel) or dataclasses.is_dataclass(kind)


def text_of(value: Any) -> str | None:
    """A `str`, or lazy text in the active language, as a plain `str`; None for anything else."""
    kind = type(value)
    if kind is str:
        return str(value)
    if issubclass(kind, str):
        return str.__str__(value)
    if issubclass(kind, Promise):
        text = str(value)
        return str.__str__(text) if value == text else None  # `lazy` may also wrap other types
    return None


def advice(kind: type) -> str:
    """What to send instead of an instance of the class, as the end of an error message."""
    if issubclass(kind, LazyObject) or hasattr(kind, "_meta"):
        return ": send a pydantic model or a dict of the fields that every member may see"
    if hasattr(kind, "iterator") or hasattr(kind, "__next__"):
        return ": send a list of pydantic models or dicts"
    return ": send a pydantic model or a dict"


def _encodable(value: Any) -> Any:
    """A value unknown to the encoder, one step closer to JSON; raises TypeError if it must not be sent."""
    kind = type(value)
    encoder = ENCODERS.get(kind)
    if encoder is None:
        encoder = _encoder_of(kind)
    if encoder is not None:
        return encoder(value)
    text = text_of(value)
    if text is None:
        raise TypeError(f"A group message cannot contain {kind.__name__}{advice(kind)}.")
    return text


def _encoder_of(kind: type) -> Callable[[Any], Any] | None:
    if issubclass(kind, BaseModel):
        return _fields_of_model
    if dataclasses.is_dataclass(kind):
        return (
            _fields_of_pydantic_dataclass
            if hasattr(kind, "__pydantic_serializer__")
            else _fields_of_dataclass
        )
    if issubclass(kind, Enum):
        return _value_of
    return next((encoder for base, encoder in ENCODERS.items() if issubclass(kind, base)), None)


def _fields_of_model(model: BaseModel) -> Any:
    return model.model_dump(mode="json", by_alias=True, fallback=_encodable)


def _fields_of_pydantic_dataclass(instance: Any) -> Any:
    serializer = type(instance).__pydantic_serializer__
    return serializer.to_python(instance, mode="json", by_alias=True, fallback=_encodable)


def _fields_of_dataclass(instance: Any) -> dict[str, Any]:
    return {field.name: getattr(instance, field.name) for field in dataclasses.fields(instance)}


def _value_of(member: Enum) -> Any:
    return member.value


def _with_text_keys(value: Any) -> Any:
    """A copy of `value` with text keys in all dicts, at every depth."""
    kind = type(value)
    if issubclass(kind, dict):
        return {_key(key): _with_text_keys(item) for key, item in value.items()}
    if issubclass(kind, (list, tuple)):
        return [_with_text_keys(item) for item in value]
    if value is None or issubclass(kind, (str, int, float)):
        return value
    return _with_text_keys(_encodable(value))


def _key(value: Any) -> Any:
    """A key that the encoder accepts, from any value that a group sends and that is not a container."""
    if value is None or issubclass(type(value), (str, int, float)):
        return value
    key = _encodable(value)
    if issubclass(type(key), (dict, list)):
        raise TypeError(f"A group message cannot have a {type(value).__name__} as a key: use a str.")
    return _key(key)


_dumps = dumper(_encodable, allow_nan=False)
