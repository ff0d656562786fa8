"""Reads the types of messages: the members of a union, and the field that tells them apart."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator, Mapping
from enum import Enum
from typing import (
    Annotated,
    Any,
    ForwardRef,
    Literal,
    NamedTuple,
    get_args,
    get_origin,
    get_type_hints,
    is_typeddict,
)

from pydantic import AliasChoices, AliasPath, BaseModel, Discriminator, Field, TypeAdapter
from pydantic.errors import PydanticSchemaGenerationError, PydanticUndefinedAnnotation, PydanticUserError
from pydantic.fields import FieldInfo
from pydantic_core import core_schema

from fastws_compat.dependencies.annotations import is_union, unwrap_alias
from fastws_compat.exceptions import DeclarationError

Side = Literal["receives", "sends"]


class MissingTypeError(DeclarationError):
    """A type of a message is not defined yet."""

    def __init__(self, name: str) -> None:
        super().__init__(f"{name!r} is not defined")
        self.name = name


class Members(NamedTuple):
    """What one side may send: the types of its JSON messages, and whether raw text and bytes may come."""

    types: tuple[Any, ...]
    json: tuple[Any, ...]
    text: Any
    binary: Any
    # The field that tells JSON messages apart, by its name in Python and by its name on the wire.
    tag_field: str | None
    tag: str | None
    # By value of the tag, the member.
    tagged: Mapping[Any, Any]
    # The JSON messages as one type; None if there are none.
    form: Any


def members_of(form: Any, side: Side, where: str, namespace: Mapping[str, Any]) -> Members:
    """The members of a type as it stands in `TypedWebSocket[In, Out]`; None stands for no message at all."""
    if form is None or form is type(None):
        return Members((), (), None, None, None, None, {}, None)
    types = tuple(_flat(form, namespace))
    text = next((member for member in types if _base(member) is str), None)
    binary = next((member for member in types if _base(member) is bytes), None)
    json = tuple(member for member in types if _base(member) not in (str, bytes))
    if text is not None and json:
        names = ", ".join(map(name_of_type, json))
        raise DeclarationError(
            f"{where} has 'str' beside {names}: a text frame could be either. Put the text into a model, or "
            "let 'str' stand alone."
        )
    tag_field = _declared_tag(form) or _common_tag(json)
    literals = [(_literal(member, tag_field), member) for member in json] if tag_field else []
    tagged = {_wire_value(value): member for value, member in literals if value is not None}
    tag = _wire_name(json[0], tag_field, side) if tag_field else None
    return Members(types, json, text, binary, tag_field, tag, tagged, _json_form(form, json, tag_field, tag))


def adapter_of(form: Any, where: str) -> TypeAdapter[Any]:
    """pydantic's adapter for a type; MissingTypeError if a class that it names is not defined yet."""
    try:
        adapter: TypeAdapter[Any] = TypeAdapter(form)
        if not adapter.pydantic_complete:
            adapter.rebuild(raise_errors=True)
    except PydanticUndefinedAnnotation as exc:
        raise MissingTypeError(exc.name or str(form)) from None
    except PydanticSchemaGenerationError as exc:
        raise DeclarationError(f"{where} has a type that pydantic cannot validate: {form!r}.") from exc
    except (PydanticUserError, TypeError) as exc:
        raise DeclarationError(f"{where} has messages that pydantic refuses: {exc}") from exc
    return adapter


def name_of_type(form: Any) -> str:
    """What to call a type in a sentence."""
    return getattr(form, "__name__", None) or str(form)


def _flat(form: Any, namespace: Mapping[str, Any]) -> Iterator[Any]:
    """The members of a union, of unions in it, and of aliases and annotated unions."""
    form = _resolved(form, namespace)
    bare = unwrap_alias(form)
    if get_origin(bare) is Annotated and is_union(unwrap_alias(get_args(bare)[0])):
        bare = unwrap_alias(get_args(bare)[0])
    if not is_union(bare):
        yield bare
        return
    for member in get_args(bare):
        yield from _flat(member, namespace)


def _resolved(form: Any, namespace: Mapping[str, Any]) -> Any:
    """The type that a name in quotes stands for."""
    if not isinstance(form, str | ForwardRef):
        return form
    source = form if isinstance(form, str) else form.__forward_arg__
    try:
        return eval(source, dict(namespace))
    except NameError as exc:
        raise MissingTypeError(exc.name or source) from None


def _base(member: Any) -> Any:
    """The class behind `Annotated[...]`."""
    return get_args(member)[0] if get_origin(member) is Annotated else member


# Tags


class _TaggedAlone:
    """Makes a single message need its tag, as one of several does."""

    def __init__(self, tag: str, value: Any) -> None:
        self._tag = tag
        self._value = value

    def __get_pydantic_core_schema__(self, source: Any, handler: Any) -> core_schema.CoreSchema:
        return core_schema.tagged_union_schema({self._value: handler(source)}, discriminator=self._tag)


def _json_form(form: Any, json: tuple[Any, ...], tag_field: str | None, tag: str | None) -> Any:
    if not json:
        return None
    if tag_field is None and all(map(_is_json, _args_of(form))):
        return form  # as it was written, perhaps with a way of its own to tell its messages apart
    if len(json) == 1:
        value = _literal(json[0], tag_field) if tag_field else None
        return json[0] if value is None else Annotated[json[0], _TaggedAlone(tag or "", _wire_value(value))]
    union: Any = json[0]
    for member in json[1:]:
        union = union | member
    if (own := _discriminator(form)) is not None:
        return Annotated[union, own]
    return union if tag_field is None else Annotated[union, Field(discriminator=tag_field)]


def _args_of(form: Any) -> tuple[Any, ...]:
    bare = unwrap_alias(form)
    return get_args(bare) if is_union(bare) else (bare,)


def _is_json(member: Any) -> bool:
    return not isinstance(member, str | ForwardRef) and _base(member) not in (str, bytes)


def _discriminator(form: Any) -> Any:
    """The `Field(discriminator=...)` or `Discriminator(...)` that somebody wrote beside the whole union."""
    bare = unwrap_alias(form)
    for item in get_args(bare)[1:] if get_origin(bare) is Annotated else ():
        if isinstance(item, Discriminator) or (isinstance(item, FieldInfo) and item.discriminator):
            return item
    return None


def _declared_tag(form: Any) -> str | None:
    own = _discriminator(form)
    found = getattr(own, "discriminator", None)
    return found if isinstance(found, str) else getattr(found, "discriminator", None)


def _common_tag(json: tuple[Any, ...]) -> str | None:
    """The field that is a `Literal` of one value in every message, and of a different one in each."""
    if not json:
        return None
    candidates = [name for name in _fields(json[0]) if _tells_apart(name, json)]
    return "type" if "type" in candidates else next(iter(candidates), None)


def _tells_apart(name: str, json: tuple[Any, ...]) -> bool:
    values = [_literal(member, name) for member in json]
    return None not in values and len(set(map(_wire_value, values))) == len(values)


def _literal(member: Any, name: str) -> Any:
    """The value of a field whose type is a `Literal` of one value; else None."""
    annotation = unwrap_alias(_fields(member).get(name))
    values = get_args(annotation) if get_origin(annotation) is Literal else ()
    return values[0] if len(values) == 1 and isinstance(values[0], str | int) else None


def _wire_value(value: Any) -> Any:
    return value.value if isinstance(value, Enum) else value


def _fields(member: Any) -> dict[str, Any]:
    """The fields of a model, dataclass or TypedDict, with their types."""
    kind = _base(member)
    if isinstance(kind, type) and issubclass(kind, BaseModel):
        return {name: info.annotation for name, info in kind.model_fields.items()}
    kind = get_origin(kind) or kind
    if is_typeddict(kind) or dataclasses.is_dataclass(kind):
        return {name: _base(hint) for name, hint in _hints(kind).items()}
    return {}


def _hints(kind: Any) -> dict[str, Any]:
    try:
        return get_type_hints(kind)
    except NameError:
        return {}


def _wire_name(member: Any, field: str, side: Side) -> str:
    """What a field is called in a frame."""
    kind = _base(member)
    info = kind.model_fields.get(field) if hasattr(kind, "model_fields") else None
    if info is None:
        return field
    aliases = (
        (info.validation_alias, info.alias) if side == "receives" else (info.serialization_alias, info.alias)
    )
    return next((name for name in _names(aliases)), field)


def _names(aliases: Iterable[Any]) -> Iterator[str]:
    for alias in aliases:
        if isinstance(alias, AliasChoices):
            yield from _names(alias.choices)
        elif isinstance(alias, AliasPath):
            yield from _names(alias.path[:1])
        elif isinstance(alias, str):
            yield alias
