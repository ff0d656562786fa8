"""What a route or a group sends: values of Out become the text or the bytes of a frame."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Mapping
from typing import Any

from pydantic import TypeAdapter, ValidationError
from pydantic_core import PydanticSerializationError

from fastws_compat.exceptions import DeclarationError, ResponseValidationError
from fastws_compat.messages.errors import MAX_FRAME, MISFIT, NOT_JSON
from fastws_compat.messages.frames import ERROR, ErrorFrame
from fastws_compat.messages.inputs import as_input
from fastws_compat.messages.members import OWN_SCHEMA, Members, adapter_of, members_of, name_of_type
from fastws_compat.messages.names import base_of
from fastws_compat.messages.serializers import Serializer, quick_serializer

# Bytes of an error frame that its tag, status, detail and id may need.
ROOM = 512
BYTES = (bytes, bytearray, memoryview)


class Outgoing:
    """The messages of one side, with a serializer for each class."""

    __slots__ = ("_serialize_any", "adapter", "error_frame", "members", "serializers")

    def __init__(self, form: Any, where: str, namespace: Mapping[str, Any]) -> None:
        self.members = members = members_of(form, "sends", where, namespace)
        self.adapter = None if members.form is None else adapter_of(members.form, where)
        # Of what has been validated; there is none without an adapter.
        self._serialize_any: Any = self.adapter and _serializer_of(self.adapter)
        self.serializers: dict[type[Any], Serializer] = {
            base_of(kind): _serializer(kind, where) for kind in filter(_has_serializer, members.json)
        }
        self.error_frame = _error_frame(members, where)

    def encode(self, value: Any) -> str | bytes:
        """The text or the bytes of a frame; ResponseValidationError for a value that is not in Out."""
        serialize = self.serializers.get(type(value))
        if serialize is not None:
            return self.serialized(serialize, value)
        kind = type(value)
        if self.members.text is not None and issubclass(kind, str):
            return str.__str__(_validated(self.members.text, value))
        if self.members.binary is not None and issubclass(kind, BYTES):
            return bytes(_validated(self.members.binary, bytes(value)))
        return self._validated_json(value)

    def serialized(self, serialize: Serializer, value: Any) -> str:
        """The text of a value; ResponseValidationError if it is not what its class says."""
        try:
            return serialize(value).decode()
        except (PydanticSerializationError, UnicodeError) as exc:
            raise refused(value, exc) from None

    def _validated_json(self, value: Any) -> str:
        if self.adapter is None:
            raise _error(value, "message_type", f"Input should be {self._names()}")
        try:
            valid = self.adapter.validator.validate_python(value, by_alias=True, by_name=True)
        except ValidationError as exc:
            raise _misfit(value, exc) from None
        for kind in type(valid).__mro__:  # of a subclass, only the fields of the member are sent
            if (serialize := self.serializers.get(kind)) is not None:
                return self.serialized(serialize, valid)
        return self.serialized(self._serialize_any, valid)

    def decode(self, frame: str | bytes) -> Any:
        """The message in a frame that `encode` made; ValidationError for any other frame."""
        if isinstance(frame, bytes) or self.members.text is not None:
            return frame
        value = json.loads(frame)
        kind = self._kind_of(value)
        adapter = self.adapter if kind is None else TypeAdapter(kind)
        if adapter is None:
            raise _error(value, "message_type", f"Input should be {self._names()}")
        found = as_input(kind or self.members.form, value)
        return adapter.validate_json(json.dumps(found), by_alias=True, by_name=True)

    def _kind_of(self, value: Any) -> Any:
        """The member that the tag of a value selects; None where the tag does not decide."""
        if len(self.members.json) == 1:
            return self.members.json[0]
        tag = value.get(self.members.tag) if isinstance(value, dict) else None
        return self.members.tagged.get(tag) if isinstance(tag, str | int) else None

    def _names(self) -> str:
        return " or ".join(map(name_of_type, self.members.types)) or "no message: the route sends none"


def refused(value: Any, exc: Exception) -> ResponseValidationError:
    """The exception for a value of a class in Out that is not valid for its class."""
    return _error(value, "serialization_error", str(exc))


def _error(value: Any, kind: str, message: str) -> ResponseValidationError:
    error = {"type": kind, "loc": ("message",), "msg": message, "input": value}
    return ResponseValidationError([error], body=value)


def _validated(member: Any, value: Any) -> Any:
    """A raw text or raw bytes; only an annotated type has something to check."""
    if member in (str, bytes):
        return value
    try:
        return TypeAdapter(member).validate_python(value)
    except ValidationError as exc:
        raise _misfit(value, exc) from None


def _misfit(value: Any, exc: ValidationError) -> ResponseValidationError:
    errors = [{**error, "loc": ("message", *error["loc"])} for error in exc.errors(include_url=False)]
    return ResponseValidationError(errors, body=value)


def _has_serializer(kind: Any) -> bool:
    """Whether values of a type are instances of exactly one class, which has a serializer of its own."""
    kind = base_of(kind)
    return isinstance(kind, type) and (dataclasses.is_dataclass(kind) or hasattr(kind, OWN_SCHEMA))


def _serializer(kind: Any, where: str) -> Serializer:
    adapter = adapter_of(kind, where)
    if _is_error(kind):
        to_json = adapter.serializer.to_json
        return lambda frame: to_json(
            frame, by_alias=True, warnings="error", exclude={"id"} if frame.id is None else None
        )
    return _serializer_of(adapter, tuple(getattr(base_of(kind), "model_fields", ())))


def _serializer_of(adapter: TypeAdapter[Any], fields: tuple[str, ...] = ()) -> Serializer:
    to_json = adapter.serializer.to_json
    return quick_serializer(to_json, _exact_serializer(to_json, fields), len(fields))


def _exact_serializer(to_json: Callable[..., bytes], fields: tuple[str, ...]) -> Serializer:
    """As `to_json`, which does not notice a field that `model_construct` has left out."""

    def serialize(message: Any) -> bytes:
        missing = [name for name in fields if name not in message.__dict__]
        if missing:
            raise PydanticSerializationError(f"The field {missing[0]!r} is missing.")
        return to_json(message, by_alias=True, warnings="error")

    return serialize


def _error_frame(members: Members, where: str) -> type[ErrorFrame]:
    """The member that stands for errors, else ErrorFrame itself."""
    kind = members.tagged.get(ERROR) or next(filter(_is_error, members.types), None)
    if kind is None:
        return ErrorFrame
    if not _is_error(kind):
        raise DeclarationError(
            f"{where} sends {name_of_type(kind)} with the tag 'error', which the library uses itself: let "
            "the class inherit from ErrorFrame, or give it another tag."
        )
    _check_error_frame(kind, where)
    return kind  # type: ignore[no-any-return]


def _check_error_frame(kind: type[ErrorFrame], where: str) -> None:
    """DeclarationError for a class that cannot hold every error of the library."""
    try:
        frames = [
            kind(status=NOT_JSON, detail="", id=""),
            kind(status=MISFIT, detail=[{"type": "", "loc": ["message", 0], "msg": ""}], id=0),
        ]
    except ValidationError as exc:
        field = exc.errors()[0]["loc"][0]
        raise DeclarationError(
            f"{where} sends errors as {kind.__name__}, but the library fills in status, detail (a text or a "
            f"list) and id (a text or a number), and nothing else: let {field!r} fit every error."
        ) from exc
    if len(frames[0].model_dump_json().encode()) > MAX_FRAME - ROOM:
        raise DeclarationError(
            f"{where} sends errors as {kind.__name__}, which are longer than {MAX_FRAME} bytes with a "
            "detail: shorten their other fields."
        )


def _is_error(kind: Any) -> bool:
    return isinstance(kind, type) and issubclass(kind, ErrorFrame)
