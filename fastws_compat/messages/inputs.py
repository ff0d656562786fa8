"""What a message was serialized to, as it is validated again: in tests, subscriptions and examples."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, get_args, get_origin

from pydantic import BaseModel

from fastws_compat.dependencies.annotations import is_subclass, is_union, unwrap_alias
from fastws_compat.messages.members import base_of, constant_of, fields_of

ARRAYS = (list, tuple, set, frozenset, Sequence)


def as_input(kind: Any, value: Any) -> Any:
    """JSON of a type with the names of fields instead of their aliases, and without computed fields."""
    kind = _member(_plain(kind), value)
    if isinstance(value, list):
        return [as_input(*each) for each in _items(kind, value)]
    if not isinstance(value, dict):
        return value
    fields = fields_of(kind)
    if not fields:
        return {key: as_input(_item_type(kind), item) for key, item in value.items()}
    return {name: as_input(fields.get(name), value[key]) for key, name in _names(kind, value)}


def _plain(kind: Any) -> Any:
    """The type behind aliases, `Annotated[...]` and root models."""
    kind = unwrap_alias(base_of(unwrap_alias(kind)))
    is_root = is_subclass(kind, BaseModel) and kind.__pydantic_root_model__
    return _plain(kind.model_fields["root"].annotation) if is_root else kind


def _member(kind: Any, value: Any) -> Any:
    """The member of a union that has been serialized; None if that cannot be told."""
    if not is_union(kind):
        return kind
    members = [_member(_plain(member), value) for member in get_args(kind)]
    return next((member for member in members if _is_of(member, value)), None)


def _is_of(kind: Any, value: Any) -> bool:
    if isinstance(value, list):
        return get_origin(kind) in ARRAYS
    return isinstance(value, dict) and bool(fields_of(kind)) and _has_fields(kind, value)


def _has_fields(kind: Any, value: dict[str, Any]) -> bool:
    """Whether an object has only keys of a class, and its constants."""
    fields = fields_of(kind)
    return all(
        name in fields and constant_of(kind, name) in (None, value[key]) for key, name in _names(kind, value)
    )


def _items(kind: Any, values: list[Any]) -> Iterator[tuple[Any, Any]]:
    """Each item of an array with its type."""
    arguments = get_args(kind)
    is_fixed = get_origin(kind) is tuple and len(arguments) == len(values)
    kinds = arguments if is_fixed else [*arguments[:1], None][:1] * len(values)
    yield from zip(kinds, values, strict=True)


def _item_type(kind: Any) -> Any:
    """The type of the values of a dict."""
    return get_args(kind)[-1] if get_args(kind) else None


def _names(kind: Any, value: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """The keys of an object that are not computed, with the names of their fields."""
    models = getattr(kind, "model_fields", {})
    aliases = {info.serialization_alias: name for name, info in models.items()}
    computed = {info.alias or name for name, info in getattr(kind, "model_computed_fields", {}).items()}
    for key in value.keys() - computed:
        yield key, aliases.get(key, key)
