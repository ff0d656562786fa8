"""What a message was serialized to, as it is validated: in tests, subscriptions and examples."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, get_args, get_origin

from fastws_compat.dependencies.annotations import is_union, unwrap_alias
from fastws_compat.messages.members import constant_of
from fastws_compat.messages.names import (
    NO_CONFIG,
    Config,
    base_of,
    config_of,
    fields_of,
    infos_of,
    is_root,
    read_name,
    sent_name,
)

ARRAYS = (list, tuple, set, frozenset, Sequence)

# The key for a field, of which it gets the class, the name and the configuration.
Naming = Callable[[Any, str, Config], str]


def as_input(kind: Any, value: Any) -> Any:
    """JSON of a type with the names of fields instead of their aliases, and without computed fields."""
    return _renamed(kind, value, NO_CONFIG, lambda kind, name, config: name)


def as_sent(kind: Any, value: Any) -> Any:
    """JSON of a type with the aliases that validation reads, and without computed fields."""
    return _renamed(kind, value, NO_CONFIG, _read_name)


def _renamed(kind: Any, value: Any, config: Config, naming: Naming) -> Any:
    """The value with other keys.

    `config` is that of the model around it, which also holds for a TypedDict or dataclass without its own.
    """
    kind = _member(_plain(kind), value, config)
    if isinstance(value, list):
        return [_renamed(*each, config, naming) for each in _items(kind, value)]
    if not isinstance(value, dict):
        return value
    config, fields = config_of(kind, config), fields_of(kind)
    if not fields:
        return {key: _renamed(_item_type(kind), item, config, naming) for key, item in value.items()}
    return {
        naming(kind, name, config): _renamed(fields.get(name), value[key], config, naming)
        for key, name in _names(kind, value, config)
    }


def _plain(kind: Any) -> Any:
    """The type behind aliases, `Annotated[...]` and root models."""
    kind = unwrap_alias(base_of(unwrap_alias(kind)))
    return _plain(kind.model_fields["root"].annotation) if is_root(kind) else kind


def _member(kind: Any, value: Any, config: Config) -> Any:
    """The member of a union that has been serialized; None if that cannot be told."""
    if not is_union(kind):
        return kind
    members = [_member(_plain(member), value, config) for member in get_args(kind)]
    return next((member for member in members if _is_of(member, value, config)), None)


def _is_of(kind: Any, value: Any, config: Config) -> bool:
    if isinstance(value, list):
        return get_origin(kind) in ARRAYS
    return isinstance(value, dict) and bool(fields_of(kind)) and _has_fields(kind, value, config)


def _has_fields(kind: Any, value: dict[str, Any], config: Config) -> bool:
    """Whether an object has only keys of a class, and its constants."""
    fields = fields_of(kind)
    return all(
        name in fields and constant_of(kind, name) in (None, value[key])
        for key, name in _names(kind, value, config_of(kind, config))
    )


def _items(kind: Any, values: list[Any]) -> Iterator[tuple[Any, Any]]:
    """Each item of an array with its type."""
    arguments = get_args(kind)
    is_fixed = get_origin(kind) is tuple and ... not in arguments and len(arguments) == len(values)
    kinds = arguments if is_fixed else [*arguments[:1], None][:1] * len(values)
    yield from zip(kinds, values, strict=True)


def _item_type(kind: Any) -> Any:
    """The type of the values of a dict."""
    return get_args(kind)[-1] if get_args(kind) else None


def _names(kind: Any, value: dict[str, Any], config: Config) -> Iterator[tuple[str, str]]:
    """The keys of an object that are not computed, with the names of their fields."""
    aliases = {sent_name(name, info, config): name for name, info in infos_of(kind).items()}
    computed = {info.alias or name for name, info in getattr(kind, "model_computed_fields", {}).items()}
    yield from ((key, aliases.get(key, key)) for key in value if key not in computed)


def _read_name(kind: Any, name: str, config: Config) -> str:
    """What a field is called when it is validated; the first of several names."""
    info = infos_of(kind).get(name)
    return name if info is None else read_name(name, info, config)
