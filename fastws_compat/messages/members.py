"""Reads the types of messages: the members of a union, and the field that tells them apart."""

from __future__ import annotations

import builtins
from collections.abc import Callable, Iterable, Iterator, Mapping
from enum import Enum
from typing import Annotated, Any, ForwardRef, Literal, NamedTuple, Union, get_args, get_origin

from pydantic import Discriminator, Field, Tag, TypeAdapter, ValidationError
from pydantic.errors import PydanticSchemaGenerationError, PydanticUndefinedAnnotation, PydanticUserError
from pydantic.fields import FieldInfo
from pydantic_core import SchemaValidator, core_schema, to_json

from fastws_compat.dependencies.annotations import is_union, unquoted, unwrap_alias
from fastws_compat.exceptions import DeclarationError
from fastws_compat.messages.names import Side, base_of, config_of, fields_of, infos_of, read_places, wire_name

NOTHING = (None, type(None))
# The members that are not JSON: the whole of a text frame, and of a binary frame.
RAW = (str, bytes)
# What says itself how pydantic validates and serializes it has this, as every model and validator does.
OWN_SCHEMA = "__get_pydantic_core_schema__"


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
    untagged = rebuilt(form, _json_alone, namespace) if json else None
    found = Members(types, json, raw.get(str), raw.get(bytes), untagged)
    _refuse_text_beside_json(found, where)
    field = _declared_tag(form) or _common_tag(json)
    if field is None:
        return found
    if side == "receives" and len(json) > 1:
        _refuse_tags_that_never_fit(json, field, where)
    return _tagged(found, form, field, side)


def types_of(form: Any, namespace: Mapping[str, Any] = {}) -> tuple[Any, ...]:
    """The members of a union, or a type alone; nothing for None."""
    return () if form in NOTHING else tuple(_flat(form, namespace))


def _tagged(members: Members, form: Any, field: str, side: Side) -> Members:
    json = members.json
    values = [constant_of(member, field) for member in json]
    # A tag of several values, which a discriminator may have, stands for no member here.
    known = {value: member for value, member in zip(values, json, strict=True) if value is not None}
    tag = wire_name(json[0], field, side)
    is_told_inside = len(known) + values.count(None) < len(json) or _has_function(form)
    if is_told_inside:  # as it is written, with a union inside of another
        unique = {value: member for value, member in known.items() if values.count(value) == 1}
        return members._replace(tag=tag, tagged=unique)
    return members._replace(form=_tagged_form(members, field, side), tag=tag, tagged=known)


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


class Classes:
    """Classes by the types that they were made for.

    `A | B` equals `B | A`, but of messages that a frame fits equally the first one counts: order matters.
    """

    def __init__(self) -> None:
        self._by_types: dict[Any, list[tuple[Any, type[Any]]]] = {}
        # Those annotated with something that is not hashable.
        self._others: list[tuple[Any, type[Any]]] = []

    def get(self, types: Any, make: Callable[[], type[Any]]) -> Any:
        """The class for these types, which `make` returns when it is asked for first."""
        try:
            found = self._by_types.setdefault(types, [])
        except TypeError:
            found = self._others
        for known, cls in found:
            if _are_same(known, types):
                return cls
        found.append((types, cls := make()))
        return cls


def _are_same(one: Any, other: Any) -> bool:
    """Whether types are equal, and their unions in the same order."""
    if one is other:
        return True
    if isinstance(one, tuple):
        return all(map(_are_same, one, other))
    return bool(one == other) and all(map(_are_same, get_args(one), get_args(other)))


def name_of_type(form: Any) -> str:
    """What to call a type in a sentence."""
    return getattr(base_of(form), "__name__", None) or str(form)


def _flat(form: Any, namespace: Mapping[str, Any], around: tuple[Any, ...] = ()) -> Iterator[Any]:
    """The members of a union, of unions in it, and of aliases and annotated unions.

    The validators `around` a union stay with its JSON messages as it is written; raw members get them here.
    """
    form, inside = _unwrapped(form, namespace)
    if not is_union(inside):
        yield Annotated[(form, *around)] if around and base_of(form) in RAW else form
        return
    for member in get_args(inside):
        yield from _flat(member, namespace, (*validators_of(form), *around))


def _unwrapped(form: Any, namespace: Mapping[str, Any]) -> tuple[Any, Any]:
    """A type without aliases and quotes, and what is inside its `Annotated[...]`."""
    form = unwrap_alias(_resolved(form, namespace))
    return form, unwrap_alias(base_of(form))


def _resolved(form: Any, namespace: Mapping[str, Any]) -> Any:
    """The type that a name in quotes stands for."""
    if not isinstance(form, str | ForwardRef):
        return form
    source, own_names = unquoted(form)
    try:
        return eval(source, {**namespace, **own_names})
    except NameError as exc:
        raise MissingTypeError(exc.name or source) from None


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


def _refuse_tags_that_never_fit(json: tuple[Any, ...], field: str, where: str) -> None:
    """Raise DeclarationError for a tag that is a member of an Enum, unless pydantic finds it by its value."""
    for member in json:
        value = _literal_of(member, field)
        if isinstance(value, Enum) and not _is_read_by_value(value):
            kind = type(value).__name__
            raise DeclarationError(
                f"{where} takes {name_of_type(member)}, whose {field!r} is {value}, which pydantic finds in "
                f"no frame: let {kind} inherit from StrEnum or IntEnum, or write Literal[{value.value!r}]."
            )


def _is_read_by_value(member: Enum) -> bool:
    try:
        SchemaValidator(core_schema.literal_schema([member])).validate_json(to_json(member.value))
    except ValidationError:
        return False
    return True


# One type for all JSON messages


class _TaggedAlone:
    """Makes a single message need its tag, as one of several does."""

    def __init__(self, places: list[list[str | int]], value: Any) -> None:
        self._places = places
        self._value = value

    def __get_pydantic_core_schema__(self, source: Any, handler: Any) -> core_schema.CoreSchema:
        return core_schema.tagged_union_schema({self._value: handler(source)}, discriminator=self._places)


def _tagged_form(members: Members, field: str, side: Side) -> Any:
    """The JSON messages as they are written, with the field that tells them apart."""
    form, [first, *others] = members.form, members.json
    if not others:
        return Annotated[form, _TaggedAlone(_places_of(first, field, side), constant_of(first, field))]
    if _discriminator(form) is not None:
        return form
    return Annotated[(base_of(form), Field(discriminator=field), *marks_of(form))]


def marks_of(form: Any) -> tuple[Any, ...]:
    """What stands beside the type in `Annotated[...]`."""
    return get_args(form)[1:] if get_origin(form) is Annotated else ()


def validators_of(form: Any) -> list[Any]:
    """What beside a type changes or checks its values, or how they are sent."""
    return [
        mark
        for mark in marks_of(form)
        if hasattr(mark, OWN_SCHEMA) and not isinstance(mark, Discriminator | Tag)
    ]


def rebuilt(form: Any, member: Callable[[Any], Any], namespace: Mapping[str, Any] = {}) -> Any:
    """A union, and the unions in it, with what `member` returns for each of their members.

    A member for which it returns None is left out; None if no member is left.
    """
    form, inside = _unwrapped(form, namespace)
    if not is_union(inside):
        return member(form)
    found = tuple(rebuilt(one, member, namespace) for one in get_args(inside))
    union = _union(tuple(one for one in found if one is not None))
    metadata = marks_of(form)
    return Annotated[(union, *metadata)] if metadata and union is not None else union


def _json_alone(member: Any) -> Any:
    return None if base_of(member) in RAW else member


def _places_of(member: Any, field: str, side: Side) -> list[list[str | int]]:
    """Where validation looks for a field of a message: in what is sent, also under its name in Python."""
    kind = base_of(member)
    info = infos_of(kind).get(field)
    places = [] if info is None else read_places(field, info, config_of(kind))
    return places if side == "receives" and places else [*places, [field]]


def _union(members: tuple[Any, ...]) -> Any:
    """One type for all; None for none."""
    return Union[members] if members else None  # noqa: UP007 - as many as there are


# Tags


def is_told_apart(members: Members) -> bool:
    """Whether a tag, or a discriminator of the project, says which message a frame is."""
    return members.tag is not None or _discriminator(members.form) is not None


def _discriminator(form: Any) -> Any:
    """The `Field(discriminator=...)` or `Discriminator(...)` that somebody wrote beside the whole union."""
    marks = marks_of(unwrap_alias(form))
    return next((mark for mark in marks if _tag_of(mark) is not None), None)


def _has_function(form: Any) -> bool:
    """Whether a function of the project tells apart the messages of a union inside another."""
    _, inside = _unwrapped(form, {})
    members = get_args(inside) if is_union(inside) else ()
    return any(_calls_function(member) or _has_function(member) for member in members)


def _calls_function(form: Any) -> bool:
    mark = _discriminator(form)
    return callable(getattr(_tag_of(mark), "discriminator", None)) if mark is not None else False


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
    """The text or number that a `Literal` of one value always is in a frame; None for any other field."""
    value = _literal_of(member, name)
    value = value.value if isinstance(value, Enum) else value
    return value if isinstance(value, str | int) else None


def _literal_of(member: Any, name: str) -> Any:
    """The value of a field whose type is a `Literal` of one value; else None."""
    annotation = unwrap_alias(fields_of(member).get(name))
    values = get_args(annotation) if get_origin(annotation) is Literal else ()
    return values[0] if len(values) == 1 else None
