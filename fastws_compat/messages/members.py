"""Reads the types of messages: the members of a union, and the field that tells them apart."""

from __future__ import annotations

import builtins
import dataclasses
from collections.abc import Iterable, Iterator, Mapping
from enum import Enum
from functools import reduce
from operator import or_
from typing import Annotated, Any, ForwardRef, Literal, NamedTuple, get_args, get_origin, get_type_hints

from pydantic import AliasChoices, AliasPath, BaseModel, Discriminator, Field, TypeAdapter
from pydantic.errors import PydanticSchemaGenerationError, PydanticUndefinedAnnotation, PydanticUserError
from pydantic.fields import FieldInfo
from pydantic_core import core_schema
from typing_extensions import is_typeddict

from fastws_compat.dependencies.annotations import is_subclass, is_union, unquoted, unwrap_alias
from fastws_compat.exceptions import DeclarationError

NOTHING = (None, type(None))
# The members that are not JSON: the whole of a text frame, and of a binary frame.
RAW = (str, bytes)
Side = Literal["receives", "sends"]


class MissingTypeError(DeclarationError):
    """A type of a message is not defined yet."""

    def __init__(self, name: str) -> None:
        super().__init__(f"{name!r} is not defined")
        self.name = name


class Members(NamedTuple):
    """What one side may send: the types of its JSON messages, and whether raw text and bytes are accepted."""

    types: tuple[Any, ...] = ()
    json: tuple[Any, ...] = ()
    text: Any = None
    binary: Any = None
    # The JSON messages as one type; None if there are none.
    form: Any = None
    # The field that tells JSON messages apart, as it is called in a frame; None if no field does.
    tag: str | None = None
    # By value of the tag, the member.
    tagged: Mapping[Any, Any] = {}


def members_of(form: Any, side: Side, where: str, namespace: Mapping[str, Any]) -> Members:
    """The members of a type as it stands in `TypedWebSocket[In, Out]`; None stands for no message at all."""
    types = types_of(form, namespace)
    raw = {base_of(member): member for member in types if base_of(member) in RAW}
    json = tuple(member for member in types if base_of(member) not in RAW)
    found = Members(types, json, raw.get(str), raw.get(bytes), _untagged_form(form, json))
    _refuse_text_beside_json(found, where)
    field = _declared_tag(form) or _common_tag(json)
    return found if field is None else _tagged(found, form, field, side)


def types_of(form: Any, namespace: Mapping[str, Any] = {}) -> tuple[Any, ...]:
    """The members of a union, or a type alone; nothing for None."""
    return () if form in NOTHING else tuple(_flat(form, namespace))


def _tagged(members: Members, form: Any, field: str, side: Side) -> Members:
    json = members.json
    values = [constant_of(member, field) for member in json]
    # A tag of several values, which a discriminator may have, stands for no member here.
    known = {value: member for value, member in zip(values, json, strict=True) if value is not None}
    tag = _wire_name(json[0], field, side)
    if len(known) + values.count(None) < len(json):  # as it is written, with a union inside of another
        unique = {value: member for value, member in known.items() if values.count(value) == 1}
        return members._replace(tag=tag, tagged=unique)
    return members._replace(form=_tagged_form(form, json, field), tag=tag, tagged=known)


class _Later(dict[str, Any]):
    """Names as an annotation sees them; one that is not defined yet stands for itself."""

    def __missing__(self, name: str) -> Any:
        return getattr(builtins, name) if hasattr(builtins, name) else ForwardRef(name)


def evaluate(annotation: str | ForwardRef, names: Mapping[str, Any]) -> Any:
    """What an annotation in quotes means, with names that are not defined yet as forward references."""
    try:
        source, own_names = unquoted(annotation)
        return eval(source, {}, _Later({**names, **own_names}))
    except Exception:
        return annotation


def adapter_of(form: Any, where: str) -> TypeAdapter[Any]:
    """pydantic's adapter for a type; MissingTypeError if a class that it names is not defined yet."""
    try:
        return _complete_adapter(form)
    except PydanticUndefinedAnnotation as exc:
        raise MissingTypeError(exc.name or str(form)) from None
    except PydanticSchemaGenerationError as exc:
        raise DeclarationError(f"{where} has a type that pydantic cannot validate: {form!r}.") from exc
    except (PydanticUserError, TypeError) as exc:
        raise DeclarationError(f"{where} has messages that pydantic refuses: {_reason(exc)}") from exc


def _reason(exc: Exception) -> str:
    """pydantic's message, without the URL of its documentation."""
    return str(getattr(exc, "message", exc))


def _complete_adapter(form: Any) -> TypeAdapter[Any]:
    adapter: TypeAdapter[Any] = TypeAdapter(form)
    if not adapter.pydantic_complete:
        adapter.rebuild(raise_errors=True)
    return adapter


def raw_adapter(member: Any, where: str) -> TypeAdapter[Any] | None:
    """The adapter of an annotated `str` or `bytes`; None for a plain one, which needs no validation."""
    return None if member in (None, str, bytes) else adapter_of(member, where)


def name_of_type(form: Any) -> str:
    """What to call a type in a sentence."""
    return getattr(form, "__name__", None) or str(form)


def _flat(form: Any, namespace: Mapping[str, Any]) -> Iterator[Any]:
    """The members of a union, of unions in it, and of aliases and annotated unions."""
    form = unwrap_alias(_resolved(form, namespace))
    inside = unwrap_alias(base_of(form))
    if not is_union(inside):
        yield form
        return
    for member in get_args(inside):
        yield from _flat(member, namespace)


def _resolved(form: Any, namespace: Mapping[str, Any]) -> Any:
    """The type that a name in quotes stands for."""
    if not isinstance(form, str | ForwardRef):
        return form
    source, own_names = unquoted(form)
    try:
        return eval(source, {**namespace, **own_names})
    except NameError as exc:
        raise MissingTypeError(exc.name or source) from None


def base_of(member: Any) -> Any:
    """The class behind `Annotated[...]`."""
    return get_args(member)[0] if get_origin(member) is Annotated else member


def bases_of(members: Iterable[Any]) -> set[Any]:
    """The classes of members, without the metadata of `Annotated[...]`."""
    return set(map(base_of, members))


def _refuse_text_beside_json(members: Members, where: str) -> None:
    if members.text is not None and members.json:
        names = ", ".join(map(name_of_type, members.json))
        raise DeclarationError(
            f"{where} has 'str' beside {names}: a text frame could be either. Put the text into a model, or "
            "let 'str' stand alone."
        )


# One type for all JSON messages


class _TaggedAlone:
    """Makes a single message need its tag, as one of several does."""

    def __init__(self, places: list[list[str | int]], value: Any) -> None:
        self._places = places
        self._value = value

    def __get_pydantic_core_schema__(self, source: Any, handler: Any) -> core_schema.CoreSchema:
        return core_schema.tagged_union_schema({self._value: handler(source)}, discriminator=self._places)


def _tagged_form(form: Any, json: tuple[Any, ...], field: str) -> Any:
    if len(json) == 1:
        return Annotated[json[0], _TaggedAlone(_places(json[0], field), constant_of(json[0], field))]
    own = _discriminator(form)
    return Annotated[_union(json), Field(discriminator=field) if own is None else own]


def _untagged_form(form: Any, json: tuple[Any, ...]) -> Any:
    """The union as it was written, which may have a way of its own to tell its messages apart."""
    written = unwrap_alias(form)
    arguments = get_args(written) if is_union(written) else (written,)
    return form if json and all(map(_is_json, arguments)) else _union(json)


def _is_json(member: Any) -> bool:
    return not isinstance(member, str | ForwardRef) and base_of(member) not in RAW


def _union(members: tuple[Any, ...]) -> Any:
    """One type for all; None for none."""
    return reduce(or_, members) if members else None


# Tags


def is_told_apart(members: Members) -> bool:
    """Whether a tag, or a discriminator of the project, says which message a frame is."""
    return members.tag is not None or _discriminator(members.form) is not None


def _discriminator(form: Any) -> Any:
    """The `Field(discriminator=...)` or `Discriminator(...)` that somebody wrote beside the whole union."""
    written = unwrap_alias(form)
    marks = get_args(written)[1:] if get_origin(written) is Annotated else ()
    return next((mark for mark in marks if _tag_of(mark) is not None), None)


def _tag_of(mark: Any) -> Any:
    if isinstance(mark, FieldInfo):
        return mark.discriminator
    return mark if isinstance(mark, Discriminator) else None


def _declared_tag(form: Any) -> str | None:
    found = _tag_of(_discriminator(form))
    found = getattr(found, "discriminator", found)
    return found if isinstance(found, str) else None


def _common_tag(json: tuple[Any, ...]) -> str | None:
    """The field that is a `Literal` of one value in every message, and of a different one in each."""
    candidates = [name for name in fields_of(json[0]) if _tells_apart(name, json)] if json else []
    return "type" if "type" in candidates else next(iter(candidates), None)


def _tells_apart(name: str, json: tuple[Any, ...]) -> bool:
    values = {constant_of(member, name) for member in json}
    return None not in values and len(values) == len(json)


def constant_of(member: Any, name: str) -> Any:
    """The value of a field whose type is a `Literal` of one value, as it is in a frame; else None."""
    annotation = unwrap_alias(fields_of(member).get(name))
    values = get_args(annotation) if get_origin(annotation) is Literal else ()
    if len(values) != 1:
        return None
    return values[0].value if isinstance(values[0], Enum) else values[0]


def fields_of(member: Any) -> dict[str, Any]:
    """The fields of a model, dataclass or TypedDict, with their types."""
    kind = base_of(member)
    if is_subclass(kind, BaseModel):
        return {name: info.annotation for name, info in kind.model_fields.items()}
    kind = get_origin(kind) or kind
    return _hints(kind) if _has_hints(kind) else {}


def _has_hints(kind: Any) -> bool:
    return is_typeddict(kind) or dataclasses.is_dataclass(kind)


def _hints(kind: Any) -> dict[str, Any]:
    try:
        return get_type_hints(kind)
    except NameError:
        return {}


def _wire_name(member: Any, field: str, side: Side) -> str:
    """What a field is called in a frame."""
    info = getattr(base_of(member), "model_fields", {}).get(field)
    return field if info is None else _alias_of(info, side) or field


def _places(member: Any, field: str) -> list[list[str | int]]:
    """Where validation looks for a field of a message."""
    kind = base_of(member)
    alias = getattr(getattr(kind, "model_fields", {}).get(field), "validation_alias", None)
    places: list[list[str | int]]
    if isinstance(alias, AliasChoices):
        places = alias.convert_to_aliases()
    else:
        places = [alias.convert_to_aliases() if isinstance(alias, AliasPath) else [alias or field]]
    return [*places, [field]] if _reads_names(kind) and [field] not in places else places


def _reads_names(kind: Any) -> bool:
    """Whether a model with aliases also takes the names of its fields."""
    config = getattr(kind, "model_config", {})
    return bool(config.get("populate_by_name") or config.get("validate_by_name"))


def _alias_of(info: FieldInfo, side: Side) -> str | None:
    own = info.validation_alias if side == "receives" else info.serialization_alias
    return own if isinstance(own, str) else info.alias  # pydantic accepts no other alias of a tag
